"""What ties people to the scene: the paper's HSIP, and what it is compared with (Tables 4 and 6).

Each coupling places everybody in the scene, a ``Proxy``, and names the energies that hold them there. All else, from
SIPC to the stages, is the same for all of them. ``interaction.coupling`` chooses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from crowd4d_ros.config import ConfigError, InteractionConfig
from crowd4d_ros.interaction.close_range import close_range_proxies, hidden_share
from crowd4d_ros.interaction.point_cloud import reliable
from crowd4d_ros.interaction.proxy import NO_HSIP, Proxy, anchor_proxies, foothold_ground, meeting
from crowd4d_ros.interaction.scene_depth import between_keyframes, lifted
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.window import CrowdWindow, FloatArray

logger = logging.getLogger(__name__)

TERRAINS = ("sis", "plane")
FOOTHOLDS = ("feet", "hsip")


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
    """The paper's, Eq. 7–16; at close range, where bodies hide what they stand on, Sec. 3.2.2's without a surface."""
    hidden = hidden_share(window, lowest, config)
    if hidden > config.close_share:
        logger.info("close range: %.0f%% of the people hide or leave what they stand on", 100 * hidden)
        return close_range_proxies(window, joints, lowest, config)
    pelvis = joints[..., 0, :]
    return anchor_proxies(pelvis, lowest, window.valid, window.cameras.centers, window.seconds, surface, config)


def own_places(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface | None, config: InteractionConfig
) -> Proxy:
    """No joint processing: everybody where the initial body looks right. Eq. 21's neighbours are known by it."""
    ahead = window.cameras.centers - np.array([0.0, 0.0, 1.0])
    pelvis, lowest = (np.where(window.valid[..., None], a, ahead) for a in (joints[..., 0, :], lowest))
    anchor = np.stack([pelvis[..., 0], lowest[..., 1], pelvis[..., 2]], -1)
    zero = np.zeros(window.valid.shape)
    nowhere = np.zeros(window.valid.shape, bool)
    return Proxy(
        anchor, anchor, anchor, nowhere, anchor, nowhere, zero + 1.0, pelvis, anchor, zero, window.valid, NO_HSIP
    )


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
        valid=met, ground=foothold_ground(surface, config),
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
    mu, known = between_keyframes(*lifted(window, joints, config), window.seconds, config)
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


HSIP_TERMS = (("hsip_proj", "hsip_xz", "hsip_y"), ("hsip_proj", "hsip_y"), ("hsip_y",))
COUPLINGS: dict[str, Coupling] = {
    "hsip": Coupling(hsip, HSIP_TERMS),
    "none": Coupling(own_places, ((), (), ()), is_scaled=False, is_rooted=False),
    "joint_distance": Coupling(near_scene_points, (("joint_distance",),) * 3, is_rooted=False),
    "direct_anchor": Coupling(direct_anchors, HSIP_TERMS),
    "depth_alignment": Coupling(aligned_depths, (("depth",),) * 3),
}


def coupling(config: InteractionConfig) -> Coupling:
    """The one chosen. Raises ConfigError for a name, of it, of the terrain or of the foothold, that does not exist."""
    for name, chosen, known in (
        ("coupling", config.coupling, tuple(COUPLINGS)),
        ("terrain", config.terrain, TERRAINS),
        ("foothold", config.foothold, FOOTHOLDS),
    ):
        if chosen not in known:
            raise ConfigError(f"interaction.{name} is one of {', '.join(known)}, not '{chosen}'")
    return COUPLINGS[config.coupling]
