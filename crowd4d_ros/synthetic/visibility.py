"""Who is seen: what other people, structures and the ground leave of everybody in the image.

A body hides as the capsules around its bones do, which a picture of the mesh confirms to a few per cent
(test_visibility.py). Everything happens on the plane z = 1 of the camera, where a lens has no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.lens import MIN_DEPTH, project
from crowd4d_ros.synthetic.posed import PosedCrowd
from crowd4d_ros.synthetic.structures import ray_hits
from crowd4d_ros.synthetic.truth import Structures
from crowd4d_ros.window import BoolArray, Cameras, FloatArray, IntArray, Intrinsics

SLACK = 0.03
"""metres: what hides a point is this much nearer. Soles and backs touch ground and benches to a centimetre or two."""
LEVEL = 1e-6
"""metres: ground that deviates less from a plane hides nobody who stands on it."""
HALVINGS = 6
"""of a body's height, to find where the ground begins to hide it: 3 cm."""
BODY_REACH = 1.3
"""metres from the pelvis to the farthest finger or toe, at most."""
BODIES_AT_ONCE = 2000
"""of all frames, looked at in memory at once: some 200 MB."""
PAIRS_AT_ONCE = 256
"""Pairs of bodies whose points and capsules are compared in memory at once: some 3 MB an array, a cache's worth."""


@dataclass(frozen=True)
class Sight:
    """What the camera has of N people in T frames; fields as in ``Truth``."""

    keypoints_2d: FloatArray
    keypoints_visible: BoolArray
    visibility: FloatArray
    boxes: FloatArray


def sight(
    crowd: PosedCrowd,
    valid: BoolArray,
    intrinsics: Intrinsics,
    cameras: Cameras,
    terrain: Surface,
    structures: Structures,
) -> Sight:
    """Everybody's visibility. valid: (N, T) who is there; nobody else is seen or hides."""
    people, frames = valid.shape
    step = max(1, BODIES_AT_ONCE // max(people, 1))
    parts = [
        _sight(
            crowd.frames(part),
            valid[:, part],
            intrinsics,
            Cameras(cameras.R[part], cameras.t[part], cameras.source),
            terrain,
            structures,
        )
        for part in (slice(start, start + step) for start in range(0, frames, step))
    ]
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Sight(*(np.concatenate(column, 1) for column in columns))


def _sight(
    crowd: PosedCrowd,
    valid: BoolArray,
    intrinsics: Intrinsics,
    cameras: Cameras,
    terrain: Surface,
    structures: Structures,
) -> Sight:
    num_keypoints = crowd.keypoints.shape[2]
    points = np.concatenate([crowd.keypoints, crowd.surface], 2)
    in_camera = cameras.in_camera(points)
    pixels = project(intrinsics, in_camera)
    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels < [intrinsics.width, intrinsics.height])).all(-1)
    seen: BoolArray = inside & valid[..., None]
    seen &= ~hidden_by_people(in_camera, crowd, valid, cameras)
    at = np.nonzero(seen.any(-1))
    centers = cameras.centers[at[1]]
    seen[at] &= ~hidden_by_terrain(points[at], crowd.lowest[at], centers, terrain)
    seen[at] &= ~hidden_by_structures(points[at], crowd.joints[at][:, 0], centers, structures)
    return Sight(
        keypoints_2d=_rectified(in_camera[:, :, :num_keypoints], intrinsics),
        keypoints_visible=seen[..., :num_keypoints],
        visibility=seen[..., num_keypoints:].mean(-1),
        boxes=np.where((inside.any(-1) & valid)[..., None], _boxes(pixels, intrinsics), 0.0),
    )


def hidden_by_people(in_camera: FloatArray, crowd: PosedCrowd, valid: BoolArray, cameras: Cameras) -> BoolArray:
    """(N, T, P): points (N, T, P, 3), camera axes, behind a capsule of somebody else."""
    people, frames, count = in_camera.shape[:3]
    start, end = (cameras.in_camera(ends) for ends in crowd.bones)
    low, high, near, far = _extent(start, end, crowd.radii, valid)
    behind, before, frame = _overlapping(low, high, near, far)
    hidden: BoolArray = np.zeros((people * frames, count), bool)
    for first in range(0, len(frame), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        i, j, t = behind[part], before[part], frame[part]
        covered = _covered(in_camera[i, t], start[j, t], end[j, t], crowd.radii[j])
        body = i * frames + t
        runs = np.flatnonzero(np.diff(body, prepend=-1))
        hidden[body[runs]] |= np.logical_or.reduceat(covered, runs)
    return hidden.reshape(people, frames, count)


def hidden_by_terrain(points: FloatArray, lowest: FloatArray, center: FloatArray, terrain: Surface) -> BoolArray:
    """(M, P): points (M, P, 3) of M bodies behind the ground. lowest: (M, 3) their lowest; center: (M, 3) the cameras'.

    The ground hides a body up to some height and nothing above it: that height is sought by halving.
    """
    hidden = np.zeros(points.shape[:2], bool)
    if _is_plane(terrain):
        return hidden
    up = np.array([0.0, 1.0, 0.0])
    row = np.flatnonzero(_behind(terrain, center, lowest + SLACK * up))
    feet, center, mine = lowest[row] + SLACK * up, center[row], points[row]
    above: FloatArray = mine[..., 1].max(-1) - feet[:, 1]
    below: FloatArray = np.zeros_like(above)
    # Of who is hidden wholly, the head's height is left: all of the body is below it.
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        is_hidden = _behind(terrain, center, feet + middle[:, None] * up)
        below, above = np.where(is_hidden, middle, below), np.where(is_hidden, above, middle)
    edge = _steepness(feet + above[:, None] * up, center)
    hidden[row] = _steepness(mine, center[:, None]) <= edge[:, None]
    return hidden


def hidden_by_structures(
    points: FloatArray, pelvis: FloatArray, center: FloatArray, structures: Structures
) -> BoolArray:
    """(M, P): points (M, P, 3) of M bodies behind a box or a cylinder. pelvis: (M, 3); center: (M, 3) the cameras'."""
    hidden = np.zeros(points.shape[:2], bool)
    row = np.flatnonzero(_may_be_hidden(center, pelvis, structures))
    ray = points[row] - center[row, None]
    mu = ray_hits(structures, center[row, None], ray)
    hidden[row] = mu < 1 - SLACK / np.linalg.norm(ray, axis=-1)
    return hidden


def _extent(
    start: FloatArray, end: FloatArray, radii: FloatArray, valid: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Bounds of bodies on the plane z = 1, (N, T, 2) low and high, and their nearest and farthest depth (N, T).

    Bodies that are not there, and those within arm's reach of the camera's plane, which no lens sees whole, are empty.
    """
    ends = np.stack([start, end], -2)
    depth = ends[..., 2]
    ahead = valid & (depth.min((-2, -1)) > MIN_DEPTH)
    safe = np.where(ahead[..., None, None], depth, 1.0)
    flat, reach = ends[..., :2] / safe[..., None], radii[:, None, :, None, None] / safe[..., None]
    none = ~ahead[..., None]
    low = np.where(none, np.inf, (flat - reach).min((-3, -2)))
    high = np.where(none, -np.inf, (flat + reach).max((-3, -2)))
    return low, high, depth.min((-2, -1)), depth.max((-2, -1))


def _overlapping(
    low: FloatArray, high: FloatArray, near: FloatArray, far: FloatArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Who may be hidden by whom, and in which frame, (Q,) each: bounds overlap, and some of the other is nearer.

    All with the same body hidden are neighbours.
    """
    found = []
    for person in range(len(low)):
        overlaps = (low[person] < high).all(-1) & (low < high[person]).all(-1) & (far[person] > near)
        overlaps[person] = False
        frame, before = np.nonzero(overlaps.T)
        found.append((np.full(len(frame), person), before, frame))
    behind, before, frame = (np.concatenate(column) for column in zip(*found, strict=True))
    return behind, before, frame


def _covered(points: FloatArray, start: FloatArray, end: FloatArray, radii: FloatArray) -> BoolArray:
    """(B, P): points (B, P, 3) behind any capsule, axes from start to end (B, C, 3), radii (B, C); camera axes.

    On the plane z = 1 a capsule is, but for a sliver, the hull of two discs of radii r/z; along its axis 1/z and so
    its radius change linearly.
    """
    depth = points[..., 2:]
    ahead = depth > MIN_DEPTH
    safe = np.where(ahead, depth, 1.0)
    flat, first, last = points[..., :2] / safe, start[..., :2] / start[..., 2:], end[..., :2] / end[..., 2:]
    middle = first.mean(-2, keepdims=True)  # single precision is plenty around a body, not across a long lens's image
    p, a, axis = (each.astype(np.float32) for each in (flat - middle, first - middle, last - first))
    inverse = np.where(ahead, 1 / safe, np.inf).astype(np.float32)
    near_end = (1 / start[..., 2]).astype(np.float32)[:, None]
    far_end = (1 / end[..., 2]).astype(np.float32)[:, None]
    from_start = (p**2).sum(-1)[..., None] + (a**2).sum(-1)[:, None] - 2 * (p @ a.swapaxes(-1, -2))
    square = np.maximum((axis**2).sum(-1), np.finfo(np.float32).tiny)[:, None]
    along = p @ axis.swapaxes(-1, -2) - (a * axis).sum(-1)[:, None]
    share = np.clip(along / square, 0, 1)
    distance = from_start - share * (2 * along - share * square)
    inverse_axis = near_end + share * (far_end - near_end)
    radius = radii.astype(np.float32)[:, None] * inverse_axis
    return np.asarray(((distance < radius**2) & (inverse < inverse_axis)).any(-1))


def _is_plane(terrain: Surface) -> bool:
    x, z = (terrain.corner[axis] + terrain.spacing * np.arange(terrain.heights.shape[axis]) for axis in (0, 1))
    plane = terrain.plane_height(np.stack(np.meshgrid(x, z, indexing="ij"), -1))
    return bool(np.abs(terrain.heights - plane).max() < LEVEL)


def _behind(terrain: Surface, center: FloatArray, points: FloatArray) -> BoolArray:
    """(M,): points (M, 3) that the ground hides from the centers (M, 3)."""
    ray = points - center
    mu, hit = terrain.intersect(center, ray)
    return np.asarray(hit & (mu < 1 - SLACK / np.linalg.norm(ray, axis=-1)))


def _steepness(points: FloatArray, center: FloatArray) -> FloatArray:
    """Rise over horizontal distance of the rays from the centers to the points."""
    ray = points - center
    return np.asarray(ray[..., 1] / np.maximum(np.linalg.norm(ray[..., [0, 2]], axis=-1), MIN_DEPTH))


def _may_be_hidden(center: FloatArray, pelvis: FloatArray, structures: Structures) -> BoolArray:
    """(M,): bodies whose line of sight comes near enough to a structure's bounding sphere."""
    half = structures.box_size / 2
    up = np.array([0.0, 1.0, 0.0])
    middle = np.concatenate(
        [
            structures.box_base + half[:, 1:2] * up,
            structures.cylinder_base + structures.cylinder_height[:, None] / 2 * up,
        ]
    )
    reach = np.concatenate(
        [np.linalg.norm(half, axis=-1), np.hypot(structures.cylinder_radius, structures.cylinder_height / 2)]
    )
    ray = pelvis - center
    to_middle = middle - center[:, None]
    share = np.clip((to_middle @ ray[..., None])[..., 0] / (ray**2).sum(-1)[:, None], 0, 1)
    distance = np.linalg.norm(to_middle - share[..., None] * ray[:, None], axis=-1)
    return np.asarray((distance < reach + BODY_REACH).any(-1))


def _rectified(in_camera: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """Rectified pixels (…, 2) of points (…, 3) in camera axes; NaN behind the camera."""
    depth = in_camera[..., 2:]
    rays = in_camera / np.where(depth > MIN_DEPTH, depth, np.nan)
    return np.asarray(rays @ intrinsics.K_rectified[:2].T)


def _boxes(pixels: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """(…, 4) left, top, width, height of pixels (…, P, 2), NaN left out, cut at the image's border."""
    known = np.isfinite(pixels).all(-1, keepdims=True)
    size = [intrinsics.width, intrinsics.height]
    low = np.clip(np.where(known, pixels, np.inf).min(-2), 0, size)
    high = np.clip(np.where(known, pixels, -np.inf).max(-2), 0, size)
    return np.concatenate([low, high - low], -1)
