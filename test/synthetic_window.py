"""A CrowdWindow with exact truth: walkers on terrain, a camera that flies past, and a wrong scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from synthetic_crowd import FPS, camera, gait, looking_down

from crowd4d_ros.body.keypoints import keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.camera import project
from crowd4d_ros.window import BodyMotion, Cameras, CrowdWindow, FloatArray, ScenePoints


@dataclass(frozen=True)
class Staged:
    """The window as observed; the truth in metres: pelvis (N, T, 3), motion, centers (T, 3), height(x, z)."""

    window: CrowdWindow
    pelvis: FloatArray
    motion: BodyMotion
    centers: FloatArray
    height: Callable[[FloatArray, FloatArray], FloatArray]


def ramp(x: FloatArray, z: FloatArray) -> FloatArray:
    return -6 + 0.08 * (z + 20) * -1 + 0.03 * x


def staged_crowd(
    body: BodyModel,
    people: int = 8,
    frames: int = 30,
    *,
    scale: float = 1.0,
    stature_noise: float = 0.05,
    jitter: float = 0.02,
    pixel_noise: float = 1.0,
    scene_noise: float = 0.02,
    flight: float = 3.0,
    height: Callable[[FloatArray, FloatArray], FloatArray] = ramp,
    seed: int = 0,
) -> Staged:
    """People 12–28 m away; scene and camera path come out ``scale`` times too small.

    Bodies of the wrong stature (relative ``stature_noise``) are put at the depth where they look right, which
    is wrong by as much; ``jitter`` (relative) moves them along their rays in each frame.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / FPS
    heading, speed = rng.uniform(-np.pi, np.pi, people), rng.uniform(0.8, 1.6, people)
    middle = np.stack([rng.uniform(-6, 6, people), -rng.uniform(12, 28, people)], -1)
    step = np.stack([np.sin(heading), np.cos(heading)], -1) * speed[:, None]
    ground = middle[:, None] + step[:, None] * (time - time.mean())[None, :, None]
    pose = gait(2 * np.pi * (rng.uniform(size=people)[:, None] + time * speed[:, None] / 1.4))
    orient = np.zeros((people, frames, 3))
    orient[..., 1] = heading[:, None]
    betas = np.zeros((people, 10))

    def tensors(*arrays: FloatArray) -> list[torch.Tensor]:
        return [torch.as_tensor(a).to(body.v_template) for a in arrays]

    rest = body.pelvis(*tensors(betas)).double().numpy()[:, None]
    still = body.lowest_vertex(*tensors(betas[:, None], pose, orient, np.zeros((people, frames, 3))))[1]
    above = rest[..., 1] - still[..., 1].double().numpy()
    pelvis = np.stack([ground[..., 0], height(*np.moveaxis(ground, -1, 0)) + above, ground[..., 1]], -1)

    R = np.stack([looking_down(0.3)] * frames)
    centers = np.zeros((frames, 3))
    centers[:, 0] = flight * time / max(time[-1], 1e-9)
    t = -np.einsum("tij,tj->ti", R, centers)
    intrinsics = camera()
    points = keypoints(body, *tensors(betas[:, None], pose, orient, pelvis - rest))
    pixels = project(points, *tensors(intrinsics.K_rectified, R, t))[0].double().numpy()
    pixels += rng.normal(0, pixel_noise, pixels.shape)
    low, high = pixels.min(-2), pixels.max(-2)

    depth = 1 + stature_noise * rng.standard_normal((people, 1))
    depth = depth * (1 + jitter * rng.standard_normal((people, frames)))
    seen = depth[..., None] * (pelvis - centers) + centers / scale
    scene_xz = rng.uniform([-40, -60], [40, 5], (20000, 2))
    scene = np.stack([scene_xz[:, 0], height(*scene_xz.T), scene_xz[:, 1]], -1)
    scene[:, 1] += rng.normal(0, scene_noise, len(scene))
    everywhere = np.ones((people, frames), bool)
    window = CrowdWindow(
        window_id=0,
        segment_id=0,
        stamps=np.round(time * 1e9).astype(np.int64),
        frames=np.arange(frames),
        is_new=np.ones(frames, bool),
        intrinsics=intrinsics,
        cameras=Cameras(R, t / scale, "model"),
        gravity=R[0] @ [0.0, -1.0, 0.0],
        gravity_covariance=np.zeros((3, 3)),
        scale_source="none",
        scene=ScenePoints(scene / scale, np.ones(len(scene)), np.zeros(len(scene), int)),
        track_ids=np.arange(people) + 1,
        observed=everywhere,
        valid=everywhere,
        boxes=np.concatenate([low, high - low], -1),
        box_confidence=np.ones((people, frames)),
        keypoints_2d=pixels,
        keypoints_confidence=np.full(pixels.shape[:-1], 0.9),
        landmarks_3d=np.zeros((*pixels.shape[:-1], 3)),
        masks=tuple(np.zeros(0, np.uint32) for _ in range(people * frames)),
        motion=BodyMotion(betas, pose, orient, seen - rest),
    )
    return Staged(window, pelvis, BodyMotion(betas, pose, orient, pelvis - rest), centers, height)
