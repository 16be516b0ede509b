"""A crowd of random numbers, cut into windows as the initializer does: for what only moves data."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from crowd4d_ros.window import (
    BodyMotion,
    Cameras,
    CrowdMotion,
    CrowdWindow,
    FloatArray,
    Intrinsics,
    ScenePoints,
    SurfaceMesh,
)

LENGTH, OVERLAP, PEOPLE = 8, 3, 4
K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
K_RECTIFIED = np.array([[490.0, 0, 321], [0, 491, 239], [0, 0, 1]])
INTRINSICS = Intrinsics(640, 480, K, np.array([0.1, -0.2, 0, 0, 0.01]), "plumb_bob", K_RECTIFIED)


def rotations(rng: np.random.Generator, *shape: int) -> FloatArray:
    return Rotation.random(int(np.prod(shape)), random_state=rng.integers(1 << 30)).as_matrix().reshape(*shape, 3, 3)


class Stream:
    """Windows of one long random recording, cut as the initializer cuts them."""

    def __init__(self, frames: int = 18, people: int = PEOPLE, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shape = (people, frames)
        self.stamps = 10**18 + np.arange(frames, dtype=np.int64) * 142857143
        self.valid = rng.random(shape) < 0.9
        self.observed = self.valid & (rng.random(shape) < 0.8)
        self.boxes = rng.uniform(0, 640, (*shape, 4)).astype(np.float32)
        self.box_confidence = rng.random(shape).astype(np.float32)
        self.keypoints_2d = rng.uniform(-20, 660, (*shape, 23, 2)).astype(np.float32)
        self.keypoints_confidence = rng.random((*shape, 23)).astype(np.float32)
        self.landmarks_3d = rng.normal(0, 0.4, (*shape, 23, 3)).astype(np.float32)
        self.masks = [rng.integers(1, 90000, rng.integers(0, 5)).astype(np.uint32) for _ in range(people * frames)]
        self.betas = rng.normal(size=(people, 10))
        self.body_pose = rng.normal(0, 0.5, (*shape, 23, 3))
        self.global_orient = rng.normal(0, 1, (*shape, 3))
        self.transl = rng.normal(0, 10, (*shape, 3))
        self.rest_pelvis = rng.normal((0, -0.22, 0.03), 0.01, (people, 3))
        self.R, self.t = rotations(rng, frames), rng.normal(0, 1, (frames, 3))
        self.track_ids = np.sort(rng.choice(1000, people, replace=False))

    def window(self, number: int) -> CrowdWindow:
        start = number * (LENGTH - OVERLAP)
        part = slice(start, start + LENGTH)
        time = np.arange(len(self.stamps))[part]
        length = len(self.stamps)
        return CrowdWindow(
            window_id=number,
            segment_id=0,
            stamps=self.stamps[part],
            frames=time,
            is_new=time >= (start + OVERLAP if number else 0),
            intrinsics=INTRINSICS,
            cameras=Cameras(self.R[part], self.t[part], "people"),
            gravity=np.array([0.0, 0.8, 0.6]),
            gravity_covariance=np.diag([1e-4, 2e-4, 3e-4]),
            scale_source="people",
            scene=ScenePoints(np.arange(12.0).reshape(4, 3), np.linspace(0, 1, 4), np.array([0, 0, 3, 6])),
            track_ids=self.track_ids,
            observed=self.observed[:, part],
            valid=self.valid[:, part],
            boxes=self.boxes[:, part],
            box_confidence=self.box_confidence[:, part],
            keypoints_2d=self.keypoints_2d[:, part],
            keypoints_confidence=self.keypoints_confidence[:, part],
            landmarks_3d=self.landmarks_3d[:, part],
            masks=tuple(self.masks[person * length + t] for person in range(len(self.track_ids)) for t in time),
            motion=BodyMotion(self.betas, self.body_pose[:, part], self.global_orient[:, part], self.transl[:, part]),
            models={"keypoints full.tflite": "ab" * 32},
        )

    def motion(self, number: int) -> CrowdMotion:
        window = self.window(number)
        rng = np.random.default_rng(number)
        shape = window.valid.shape
        return CrowdMotion(
            window_id=window.window_id,
            segment_id=2,
            stamps=window.stamps,
            frames=window.frames,
            is_new=window.is_new,
            intrinsics=INTRINSICS,
            cameras=window.cameras,
            scale=1.25,
            scale_source="people",
            hsip_mode="close",
            track_ids=window.track_ids,
            observed=window.observed,
            valid=window.valid,
            boxes=window.boxes,
            motion=window.motion,
            joints=rng.normal(size=(*shape, 24, 3)),
            support_point=rng.normal(size=(*shape, 3)),
            velocity=rng.normal(size=(*shape, 3)),
            confidence=rng.random(shape),
            sipc=rng.normal(size=(5, 3)),
            surface=SurfaceMesh(rng.normal(size=(4, 3)), np.array([[0, 1, 2], [1, 3, 2]], np.int32)),
            energies={"E_2D": [3.0, 1.5], "E_SIS": [0.5]},
            warnings=("few people",),
            models=window.models,
        )
