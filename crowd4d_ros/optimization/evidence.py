"""A window on the device: the initial bodies, the cameras, and the 2D keypoints that both are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.gaps import neighbours
from crowd4d_ros.window import BoolArray, CrowdWindow, FloatArray, IntArray


@dataclass(frozen=True)
class Evidence:
    """N people, T frames, K keypoints; metres and radians, world. Only where ``valid`` (N, T) does anything mean much.

    K: (3, 3) of the rectified pixels; R: (T, 3, 3), t: (T, 3), x_cam = R x + t.
    pixels: (N, T, K, 2); weight: (N, T, K) of Eq. 22, the confidences to ``confidence_power``; size: (N, T) pixels, A
    of Eq. 22. betas: (N, 10), body_pose: (N, T, 23, 3), global_orient, transl: (N, T, 3), smplx's, finite everywhere.
    """

    valid: Tensor
    K: Tensor
    R: Tensor
    t: Tensor
    pixels: Tensor
    weight: Tensor
    size: Tensor
    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    transl: Tensor

    @classmethod
    def of(cls, window: CrowdWindow, config: OptimizationConfig, like: Tensor) -> Evidence:
        """What ``window`` holds, on the device and of the dtype of ``like``."""

        def tensor(array: FloatArray) -> Tensor:
            return tensor_like(array, like)

        betas, body_pose, global_orient, transl = (tensor(a) for a in filled(window))
        confidence = tensor(window.keypoints_confidence)[..., : config.keypoints]
        return cls(
            valid=tensor_like(window.valid, like, torch.bool),
            K=tensor(window.intrinsics.K_rectified),
            R=tensor(window.cameras.R),
            t=tensor(window.cameras.t),
            pixels=tensor(window.keypoints_2d)[..., : config.keypoints, :],
            weight=confidence**config.confidence_power,
            size=tensor(person_size(window, config)),
            betas=betas,
            body_pose=body_pose,
            global_orient=global_orient,
            transl=transl,
        )


def tensor_like(array: FloatArray | BoolArray | IntArray, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The array on the device of ``like``, and of its dtype unless another is asked for."""
    return torch.as_tensor(array, dtype=dtype or like.dtype, device=like.device)


def person_size(window: CrowdWindow, config: OptimizationConfig) -> FloatArray:
    """A of Eq. 22: (N, T) pixels."""
    area = np.where(window.valid, window.boxes[..., 2] * window.boxes[..., 3], 0.0)
    return np.asarray(np.maximum(np.sqrt(np.maximum(area, 0.0)), config.min_size))


def filled(window: CrowdWindow) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """betas, body_pose, global_orient and transl with every padded entry copied from a valid one.

    Padding may hold NaN, and even at weight zero a NaN spoils a gradient.
    """
    motion = window.motion
    betas = np.where(window.valid.any(-1, keepdims=True), motion.betas, 0.0)
    given = motion.body_pose, motion.global_orient, motion.transl
    if not window.valid.any():
        pose, orient, transl = (np.zeros_like(a) for a in given)
    else:
        source = nearest_valid(window.valid)
        pose, orient, transl = (a.reshape(-1, *a.shape[2:])[source] for a in given)
    return betas, pose, orient, transl


def nearest_valid(valid: BoolArray) -> IntArray:
    """(N, T) index into N·T of the same person's nearest valid frame, or of the first valid entry of all.

    Somebody must be valid somewhere.
    """
    people, frames = valid.shape
    before, after = neighbours(valid)
    follows = 2 * np.arange(frames) <= before + after
    nearest = np.where((before >= 0) & (follows | (after == frames)), before, after)
    own = np.arange(people)[:, None] * frames + nearest
    return np.where(valid.any(-1, keepdims=True), own, valid.argmax())
