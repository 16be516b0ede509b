"""A small Truth without scenes, paths or mocap: the walkers of synthetic_crowd on a plane, level or sloping."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch
from synthetic_crowd import FPS, camera, walkers

from crowd4d_ros.body.keypoints import keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.truth import Activity, Structures, Truth
from crowd4d_ros.window import BoolArray, Cameras, FloatArray, Intrinsics

EXTENT = 60.0
"""metres of ground in front of the camera and to either side."""
SPACING = 0.5
TRUNK = 0.3
"""of a box's width: who stands behind it is hidden."""


@functools.cache
def exact_body() -> BodyModel:
    """The embedded body in double precision."""
    return BodyModel.load(dtype=torch.float64)


def flat_truth(
    people: int,
    frames: int,
    seed: int = 0,
    *,
    slope: tuple[float, float] = (0.0, 0.0),
    camera_velocity: tuple[float, float, float] = (0.0, 0.0, 0.0),
    focal: float = 900.0,
) -> Truth:
    """Straight walks 12–25 m in front of a camera 5 m above the ground, at 10 frames/s.

    slope: rise of the ground in m/m along x and z. camera_velocity: m/s. Who is hidden is known roughly: whoever
    walks nearer hides the keypoints behind the middle of its box; visibility is the share of keypoints seen.
    """
    body = exact_body()
    crowd = walkers(people, frames, seed=seed, body=body)
    terrain = sloping_ground(-crowd.camera_height, slope)
    m = crowd.motion
    _, lowest = body.lowest_vertex(*_tensors(m.betas[:, None], m.body_pose, m.global_orient, m.transl))
    rise, _ = terrain.height(lowest.numpy()[..., [0, 2]])
    motion = replace(m, transl=m.transl + (rise - lowest.numpy()[..., 1])[..., None] * [0.0, 1.0, 0.0])

    parameters = _tensors(motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
    joints = body.joints(*parameters).numpy()
    _, lowest = body.lowest_vertex(*parameters)
    support = joints[..., 0, :].copy()
    support[..., 1], _ = terrain.height(support[..., [0, 2]])

    center = np.arange(frames)[:, None] / FPS * np.array(camera_velocity)
    R = np.tile(crowd.R, (frames, 1, 1))
    cameras = Cameras(R, -np.einsum("tij,tj->ti", R, center), "truth")
    intrinsics = camera(focal=focal)
    pixels, depth = _projected(keypoints(body, *parameters).numpy(), cameras, intrinsics)
    boxes = _boxes(pixels, intrinsics)
    visible = _visible(pixels, depth, boxes, intrinsics)
    return Truth(
        scene="plane",
        camera="static" if not any(camera_velocity) else "drone",
        motions="walkers",
        seed=seed,
        fps=FPS,
        stamps=(np.arange(frames) * round(1e9 / FPS)).astype(np.int64),
        intrinsics=intrinsics,
        cameras=cameras,
        terrain=terrain,
        structures=no_structures(),
        track_ids=np.arange(people) + 1,
        group=np.arange(people),
        activity=np.full((people, frames), Activity.WALK, np.int8),
        valid=np.ones((people, frames), bool),
        motion=motion,
        joints=joints,
        lowest=lowest.numpy(),
        support_point=support,
        keypoints_2d=pixels,
        keypoints_visible=visible,
        visibility=visible.mean(-1),
        boxes=boxes,
    )


def sloping_ground(height: float, slope: tuple[float, float] = (0.0, 0.0)) -> Surface:
    """The plane y = height + slope · (x, z), with a mesh in front of the camera and around it."""
    nodes = np.arange(round(2 * EXTENT / SPACING) + 1) * SPACING - EXTENT
    x, z = np.meshgrid(nodes, nodes, indexing="ij")
    heights = height + slope[0] * x + slope[1] * z
    kept = np.ones((len(nodes) - 1, len(nodes) - 1, 2), bool)
    return Surface(heights, np.array([-EXTENT, -EXTENT]), SPACING, kept, np.array([*slope, height]))


def no_structures() -> Structures:
    """Nothing stands anywhere."""
    none = np.zeros((0, 3))
    return Structures(none, none, np.zeros(0), none, np.zeros(0), np.zeros(0))


def _tensors(*arrays: FloatArray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.as_tensor(array, dtype=torch.float64) for array in arrays)


def _projected(points: FloatArray, cameras: Cameras, intrinsics: Intrinsics) -> tuple[FloatArray, FloatArray]:
    """Pixels (N, T, 23, 2), NaN behind the camera, and depths (N, T, 23)."""
    in_camera = np.einsum("tij,ntkj->ntki", cameras.R, points) + cameras.t[None, :, None]
    depth = in_camera[..., 2]
    image = in_camera @ intrinsics.K_rectified.T
    ahead = depth > 0.1
    return np.where(ahead[..., None], image[..., :2] / np.where(ahead, depth, 1.0)[..., None], np.nan), depth


def _boxes(pixels: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """Around the keypoints, a little taller since these leave out crown and soles, cut at the image's border."""
    size = np.array([intrinsics.width, intrinsics.height])
    low, high = pixels.min(-2), pixels.max(-2)
    margin = 0.04 * (high - low)[..., 1:]
    low, high = np.clip(low - margin, 0, size), np.clip(high + margin, 0, size)
    empty = ~((high > low).all(-1, keepdims=True))
    return np.where(empty, 0.0, np.concatenate([low, high - low], -1))


def _visible(pixels: FloatArray, depth: FloatArray, boxes: FloatArray, intrinsics: Intrinsics) -> BoolArray:
    """(N, T, 23) inside the image, and behind nobody's trunk."""
    inside = ((pixels >= 0) & (pixels <= [intrinsics.width, intrinsics.height])).all(-1)
    middle, half = boxes[..., 0] + boxes[..., 2] / 2, TRUNK * boxes[..., 2]
    hidden = np.zeros_like(inside)
    for other in range(len(pixels)):
        nearer = depth[other].mean(-1)[None, :, None] < depth.mean(-1)[..., None]
        across = np.abs(pixels[..., 0] - middle[other][None, :, None]) < half[other][None, :, None]
        top, bottom = boxes[other, :, 1], boxes[other, :, 1] + boxes[other, :, 3]
        along = (pixels[..., 1] > top[None, :, None]) & (pixels[..., 1] < bottom[None, :, None])
        hidden |= nearer & across & along
    return inside & ~hidden
