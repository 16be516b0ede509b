"""What ties people to the scene: the paper's HSIP, and what it is compared with (Tables 4 and 6).

Each coupling places everybody in the scene, a ``Proxy``, and names the energies that hold them there. All else, from
SIPC to the stages, is the same for all of them. ``interaction.coupling`` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.config import ConfigError, InteractionConfig
from crowd4d_ros.interaction.point_cloud import reliable
from crowd4d_ros.interaction.proxy import Proxy, anchor_proxies, meeting
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.window import BoolArray, CrowdWindow, FloatArray, IntArray

TERRAINS = ("sis", "plane")
NEAR = 0.1
"""metres: nothing nearer the camera is seen."""


class Anchoring(Protocol):
    """Places everybody.

    window: scaled by α0. joints: (N, T, 24, 3), lowest: (N, T, 3) metres, of the initial bodies.
    """

    def __call__(
        self, window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
    ) -> Proxy: ...


def hsip(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
) -> Proxy:
    """The paper's, Eq. 7–16."""
    pelvis = joints[..., 0, :]
    return anchor_proxies(pelvis, lowest, window.valid, window.cameras.centers, window.seconds, surface, config)


def own_places(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
) -> Proxy:
    """No joint processing: everybody where the initial body looks right. Eq. 21's neighbours are known by it."""
    ahead = window.cameras.centers - np.array([0.0, 0.0, 1.0])
    pelvis, lowest = (np.where(window.valid[..., None], a, ahead) for a in (joints[..., 0, :], lowest))
    anchor = np.stack([pelvis[..., 0], lowest[..., 1], pelvis[..., 2]], -1)
    zero = np.zeros(window.valid.shape)
    nowhere = np.zeros(window.valid.shape, bool)
    return Proxy(anchor, anchor, anchor, nowhere, anchor, nowhere, zero + 1.0, pelvis, anchor, zero, window.valid)


def near_scene_points(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
) -> Proxy:
    """Joint distance, as in JOSH: feet are drawn to the nearest scene points themselves, as noisy as they are.

    The paper says no more of it. Where the feet are, and which point is nearest, is known while optimising only
    (solver.py): here they get the reliable points (Eq. 4), neither thinned nor interpolated.
    """
    places = own_places(window, joints, lowest, surface, config)
    return replace(places, scene_points=window.scene.points[reliable(window.scene, config)])


def direct_anchors(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
) -> Proxy:
    """Direct projection, as Crowd3D's HVIP: the pixel of the ground below the root gives its point of the surface.

    Each frame for itself: s of Eq. 10 for the anchor, without the probe, Eq. 13 or a range. Over ``terrain: plane``
    it is the plane anchoring of Crowd3D and DyCrowd. Whose ray misses the surface has no proxy in that frame.
    """
    places, camera = own_places(window, joints, lowest, surface, config), window.cameras.centers
    mu, met = meeting(np.broadcast_to(camera, lowest.shape), places.anchor, window.valid, surface, config)
    on_ground = camera + mu[..., None] * (places.anchor - camera)
    root = camera + mu[..., None] * (places.reference - camera)
    return replace(
        places, hit=on_ground, met=met, probe_hit=on_ground, probe_met=met, depth=mu, reference=root, point=on_ground,
        valid=met,
    )  # fmt: skip


def aligned_depths(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
) -> Proxy:
    """Depth alignment, as in VideoMimic: roots at the depth that the scene has at the person's own pixels.

    VideoMimic lifts the joints' pixels by a depth map. Here scene points are the depth map: each joint takes the point
    of its keyframe that looks nearest to it, and the person the median of their μ. Between keyframes, where the scene
    has no depth, μ is interpolated. People and scale then give way to each other, as there, under the term ``depth``.
    """
    places, camera = own_places(window, joints, lowest, surface, config), window.cameras.centers
    mu, known = _between_keyframes(*_lifted(window, joints, config), window.seconds, config)
    root = camera + mu[..., None] * (places.reference - camera)
    below = camera + mu[..., None] * (places.anchor - camera)
    return replace(places, depth=mu, reference=root, point=below, valid=window.valid & known)


@dataclass(frozen=True)
class Coupling:
    """A row of Table 6.

    anchor: where everybody is. terms: the energies in the place of HSIP's, in each stage of Table 1. is_scaled: the
    people give the scene its scale, α0 of Eq. 2 and then α; else it stays as it came. is_rooted: once α has settled,
    roots go to the proxy's reference.
    """

    anchor: Anchoring
    terms: tuple[tuple[str, ...], ...]
    is_scaled: bool = True
    is_rooted: bool = True


HSIP_TERMS = (("hsip_proj", "hsip_xz", "hsip_y"), ("hsip_proj", "hsip_y"))
COUPLINGS: dict[str, Coupling] = {
    "hsip": Coupling(hsip, HSIP_TERMS),
    "none": Coupling(own_places, ((), ()), is_scaled=False, is_rooted=False),
    "joint_distance": Coupling(near_scene_points, (("joint_distance",), ("joint_distance",)), is_rooted=False),
    "direct_anchor": Coupling(direct_anchors, HSIP_TERMS),
    "depth_alignment": Coupling(aligned_depths, (("depth",), ("depth",))),
}


def coupling(config: InteractionConfig) -> Coupling:
    """The one chosen. Raises ConfigError for a name, of it or of the terrain, that does not exist."""
    for name, chosen, known in (
        ("coupling", config.coupling, tuple(COUPLINGS)),
        ("terrain", config.terrain, TERRAINS),
    ):
        if chosen not in known:
            raise ConfigError(f"interaction.{name} is one of {', '.join(known)}, not '{chosen}'")
    return COUPLINGS[config.coupling]


def _lifted(window: CrowdWindow, joints: FloatArray, config: InteractionConfig) -> tuple[FloatArray, BoolArray]:
    """(N, T) by how much the scene at a person's pixels is farther than the body, and where that is known."""
    mu, known = np.ones(window.valid.shape), np.zeros(window.valid.shape, bool)
    usable = reliable(window.scene, config)
    if not window.is_new[0]:
        usable &= window.scene.keyframe > 0  # where later windows keep the points of all earlier keyframes
    keyframe = window.scene.keyframe[usable]
    pixels, depth = _seen(window.scene.points[usable], keyframe, window)
    in_front = depth > NEAR
    pixels, depth, keyframe = pixels[in_front], depth[in_front], keyframe[in_front]
    person, frame = np.nonzero(window.valid & window.observed & np.isin(np.arange(window.num_frames), keyframe))
    if not len(person):
        return mu, known
    joint_pixels, own_depth = _seen(joints[person, frame], frame, window)
    reach = config.lift_radius * np.sqrt(window.boxes[person, frame, 2] * window.boxes[person, frame, 3])
    # keyframes are set apart farther than any reach: one tree answers for all of them
    apart = 2 * reach.max()
    layer = np.broadcast_to(apart * frame[:, None, None], (*own_depth.shape, 1))
    distance, nearest = cKDTree(np.concatenate([pixels, apart * keyframe[:, None]], -1)).query(
        np.concatenate([joint_pixels, layer], -1)
    )
    on_body = (distance < reach[:, None]) & (own_depth > NEAR)
    lifted = on_body.any(-1)
    ratio = np.where(on_body, depth[nearest] / np.where(on_body, own_depth, 1.0), np.nan)[lifted]
    mu[person[lifted], frame[lifted]] = np.nanmedian(ratio, -1)
    known[person[lifted], frame[lifted]] = True
    return mu, known


def _seen(points: FloatArray, frame: IntArray, window: CrowdWindow) -> tuple[FloatArray, FloatArray]:
    """Rectified pixels (M, …, 2) and depths (M, …) of points (M, …, 3), each in the camera of its frame (M,)."""
    lead = (len(frame),) + (1,) * (points.ndim - 2)
    R, t = window.cameras.R[frame], window.cameras.t[frame].reshape(*lead, 3)
    inside = np.einsum("mij,m...j->m...i", R, points) + t
    depth = inside[..., 2]
    rays = inside / np.where(depth > NEAR, depth, 1.0)[..., None]
    return (rays @ window.intrinsics.K_rectified.T)[..., :2], depth


def _between_keyframes(
    mu: FloatArray, known: BoolArray, seconds: FloatArray, config: InteractionConfig
) -> tuple[FloatArray, BoolArray]:
    """mu (N, T) interpolated over time where not known, and where that is believed: within ``bridge`` seconds."""
    frame = np.arange(len(seconds))
    before = np.maximum.accumulate(np.where(known, frame, -1), -1)
    after = np.minimum.accumulate(np.where(known, frame, len(frame))[:, ::-1], -1)[:, ::-1]
    first, last = before < 0, after == len(frame)
    before, after = np.where(first, np.where(last, frame, after), before), np.where(last, np.maximum(before, 0), after)
    span = seconds[after] - seconds[before]
    share = np.where(span > 0, (seconds - seconds[before]) / np.where(span > 0, span, 1.0), 0.0)
    at = [np.take_along_axis(mu, index, -1) for index in (before, after)]
    gap = np.minimum(np.abs(seconds - seconds[before]), np.abs(seconds[after] - seconds))
    return at[0] + share * (at[1] - at[0]), known.any(-1, keepdims=True) & (gap <= config.bridge)
