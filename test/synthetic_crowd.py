"""A small crowd with exact truth: people walk over a plane in front of a fixed camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from crowd4d_ros.body.keypoints import keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.window import BodyMotion, FloatArray, FrameObservations, Intrinsics

FPS = 10.0


@dataclass(frozen=True)
class Truth:
    """R: (3, 3) world → camera, camera at the origin, ground at y = −camera_height; pelvis: (N, T, 3)."""

    R: FloatArray
    camera_height: float
    motion: BodyMotion
    pelvis: FloatArray
    track_ids: FloatArray


def camera(width: int = 768, height: int = 576, focal: float = 900.0) -> Intrinsics:
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Intrinsics(width, height, K, np.zeros(5), "plumb_bob", K)


def looking_down(pitch: float, roll: float = 0.0) -> FloatArray:
    """(3, 3) world (y up, looking along −z) → optical axes, tilted down by ``pitch`` rad."""
    level = np.diag([1.0, -1.0, -1.0])
    return Rotation.from_euler("zx", [roll, pitch]).as_matrix() @ level


def gait(phase: FloatArray) -> FloatArray:
    """(…, 23, 3) axis-angle of a plain walk at ``phase`` rad."""
    pose = np.zeros((*phase.shape, 23, 3))
    swing = np.sin(phase)
    pose[..., 0, 0], pose[..., 1, 0] = -0.45 * swing, 0.45 * swing  # hips
    pose[..., 3, 0] = 0.15 + 0.55 * np.clip(np.cos(phase), 0, None)  # knees bend while their leg swings
    pose[..., 4, 0] = 0.15 + 0.55 * np.clip(-np.cos(phase), 0, None)
    pose[..., 15, 2], pose[..., 16, 2] = -1.25, 1.25  # arms hang
    pose[..., 15, 0], pose[..., 16, 0] = 0.3 * swing, -0.3 * swing
    return pose


def walkers(
    people: int,
    frames: int,
    *,
    pitch: float = 0.25,
    camera_height: float = 5.0,
    seed: int = 0,
    body: BodyModel | None = None,
) -> Truth:
    """Straight walks at 0.8–1.6 m/s, 12–25 m in front of the camera, bodies of varied stature."""
    rng = np.random.default_rng(seed)
    body = body if body is not None else BodyModel.load(dtype=torch.float64)
    time = np.arange(frames) / FPS
    heading, speed = rng.uniform(-np.pi, np.pi, people), rng.uniform(0.8, 1.6, people)
    middle = np.stack([rng.uniform(-4, 4, people), -rng.uniform(12, 25, people)], -1)
    step = np.stack([np.sin(heading), np.cos(heading)], -1) * speed[:, None]
    ground = middle[:, None] + step[:, None] * (time - time.mean())[None, :, None]
    phase = 2 * np.pi * (rng.uniform(size=people)[:, None] + time * speed[:, None] / 1.4)
    betas = np.zeros((people, 10))
    betas[:, 0] = rng.normal(0, 1, people)
    body_pose = gait(phase)
    global_orient = np.zeros((people, frames, 3))
    global_orient[..., 1] = heading[:, None]
    pelvis_rest = body.pelvis(torch.as_tensor(betas)).numpy()[:, None]
    _, lowest = body.lowest_vertex(
        *(torch.as_tensor(a) for a in (betas[:, None], body_pose, global_orient, np.zeros((people, frames, 3))))
    )
    pelvis = np.empty((people, frames, 3))
    pelvis[..., [0, 2]] = ground
    pelvis[..., 1] = -camera_height - (lowest[..., 1].numpy() - pelvis_rest[..., 1])
    motion = BodyMotion(betas, body_pose, global_orient, pelvis - pelvis_rest)
    return Truth(looking_down(pitch), camera_height, motion, pelvis, np.arange(people) + 1)


def observe(
    truth: Truth, intrinsics: Intrinsics, *, noise: float = 1.0, seed: int = 0, body: BodyModel | None = None
) -> list[FrameObservations]:
    """What perception would see: keypoints with ``noise`` pixels, landmarks with 2 cm, people inside the image."""
    rng = np.random.default_rng(seed)
    body = body if body is not None else BodyModel.load(dtype=torch.float64)
    m = truth.motion
    points = keypoints(
        body, *(torch.as_tensor(a) for a in (m.betas[:, None], m.body_pose, m.global_orient, m.transl))
    ).numpy()
    in_camera = points @ truth.R.T
    image = in_camera @ intrinsics.K_rectified.T
    pixels = image[..., :2] / image[..., 2:] + rng.normal(0, noise, (*image.shape[:-1], 2))
    hips = in_camera[..., 11:13, :].mean(-2, keepdims=True)
    landmarks = in_camera - hips + rng.normal(0, 0.02 if noise else 0, in_camera.shape)
    low, high = pixels.min(-2), pixels.max(-2)
    boxes = np.concatenate([low, high - low], -1)
    inside = (low > 0).all(-1) & (high < [intrinsics.width, intrinsics.height]).all(-1)
    result = []
    for t in range(pixels.shape[1]):
        seen = np.flatnonzero(inside[:, t])
        result.append(
            FrameObservations(
                stamp=round(t * 1e9 / FPS),
                index=t,
                track_ids=truth.track_ids[seen],
                boxes=boxes[seen, t],
                box_confidence=np.full(len(seen), 0.9),
                keypoints_2d=pixels[seen, t],
                keypoints_confidence=np.full((len(seen), points.shape[-2]), 0.9),
                landmarks_3d=landmarks[seen, t],
                masks=tuple(np.zeros(0, np.uint32) for _ in seen),
            )
        )
    return result
