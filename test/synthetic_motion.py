"""Optimised crowds with exact truth: what the pipeline would answer for the walkers of synthetic_crowd."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch
from synthetic_crowd import FPS, Truth, camera, walkers

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.window import BodyMotion, Cameras, CrowdMotion, FloatArray, Intrinsics, SurfaceMesh

PITCH, CAMERA_HEIGHT = 0.25, 5.0


@functools.cache
def body_model() -> BodyModel:
    return BodyModel.load()


def ground(low: float = -15.0, high: float = 15.0, far: float = -35.0, cells: int = 8) -> SurfaceMesh:
    """The plane y = −CAMERA_HEIGHT from x = low to high, z = 0 to far, normals up."""
    x, z = np.meshgrid(np.linspace(low, high, cells), np.linspace(0, far, cells), indexing="ij")
    vertices = np.stack([x, np.full_like(x, -CAMERA_HEIGHT), z], -1).reshape(-1, 3)
    corner = (np.arange(cells - 1)[:, None] * cells + np.arange(cells - 1)).ravel()
    quads = np.stack([corner, corner + cells, corner + cells + 1, corner + 1], -1)
    return SurfaceMesh(vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32))


def crowd_motion(
    people: int = 3, frames: int = 12, *, seed: int = 0, intrinsics: Intrinsics | None = None
) -> CrowdMotion:
    """One window of ``people`` walking in front of a fixed camera, everybody observed in every frame."""
    body = body_model()
    truth: Truth = walkers(people, frames, pitch=PITCH, camera_height=CAMERA_HEIGHT, seed=seed)
    motion = BodyMotion(
        *(
            np.asarray(getattr(truth.motion, name), np.float32)
            for name in ("betas", "body_pose", "global_orient", "transl")
        )
    )
    intrinsics = intrinsics or camera()
    vertices = world_vertices(body, motion)
    in_camera = vertices @ truth.R.T
    image = in_camera @ intrinsics.K.T
    pixels = image[..., :2] / image[..., 2:]
    low, high = pixels.min(2), pixels.max(2)
    with torch.no_grad():
        joints = body.joints(*_parameters(motion)).numpy()
    support = truth.pelvis.copy()
    support[..., 1] = -CAMERA_HEIGHT
    return CrowdMotion(
        window_id=0,
        segment_id=0,
        stamps=np.round(np.arange(frames) * 1e9 / FPS).astype(np.int64),
        frames=np.arange(frames),
        is_new=np.ones(frames, bool),
        intrinsics=intrinsics,
        cameras=Cameras(np.repeat(truth.R[None], frames, 0), np.zeros((frames, 3)), "people"),
        scale=1.0,
        scale_source="people",
        track_ids=np.asarray(truth.track_ids, np.int64),
        observed=np.ones((people, frames), bool),
        valid=np.ones((people, frames), bool),
        boxes=np.concatenate([low, high - low], -1).astype(np.float32),
        motion=motion,
        joints=joints,
        support_point=support.astype(np.float32),
        velocity=np.gradient(truth.pelvis, 1 / FPS, axis=1).astype(np.float32) if people else np.zeros((0, frames, 3)),
        confidence=np.full((people, frames), 0.9, np.float32),
        sipc=support.reshape(-1, 3).astype(np.float32),
        surface=ground(),
        energies={"reprojection": [2.0, 1.0]},
        warnings=("synthetic",),
        models={"body": body.sha256},
    )


def nobody(frames: int = 5) -> CrowdMotion:
    """A window in which no one was found."""
    full = crowd_motion(1, frames)
    nothing = people_of(full, np.zeros(0, int))
    return replace(
        nothing,
        sipc=np.zeros((0, 3)),
        surface=SurfaceMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)),
        energies={},
    )


def windows(motion: CrowdMotion, length: int, overlap: int) -> list[CrowdMotion]:
    """``motion`` as the sliding window would have brought it: overlapping pieces, their new frames marked."""
    pieces, seen, start = [], 0, 0
    while seen < len(motion.stamps):
        stop = min(start + length, len(motion.stamps))
        piece = frames_of(motion, slice(start, stop))
        new = np.arange(start, stop) >= seen
        pieces.append(replace(piece, window_id=len(pieces), is_new=new))
        seen, start = stop, stop - overlap
    return pieces


def frames_of(motion: CrowdMotion, which: slice) -> CrowdMotion:
    body = motion.motion
    return replace(
        motion,
        **{name: getattr(motion, name)[which] for name in ("stamps", "frames", "is_new")},
        cameras=Cameras(motion.cameras.R[which], motion.cameras.t[which], motion.cameras.source),
        motion=BodyMotion(body.betas, body.body_pose[:, which], body.global_orient[:, which], body.transl[:, which]),
        **{
            name: getattr(motion, name)[:, which]
            for name in ("observed", "valid", "boxes", "joints", "support_point", "velocity", "confidence")
        },
    )


def people_of(motion: CrowdMotion, which: FloatArray) -> CrowdMotion:
    body = motion.motion
    return replace(
        motion,
        motion=BodyMotion(body.betas[which], body.body_pose[which], body.global_orient[which], body.transl[which]),
        **{
            name: getattr(motion, name)[which]
            for name in (
                "track_ids",
                "observed",
                "valid",
                "boxes",
                "joints",
                "support_point",
                "velocity",
                "confidence",
            )
        },
    )


def world_vertices(body: BodyModel, motion: BodyMotion) -> FloatArray:
    """(N, T, 6890, 3) metres, world."""
    with torch.no_grad():
        return np.asarray(body.vertices(*_parameters(motion)).numpy())


def _parameters(motion: BodyMotion) -> list[torch.Tensor]:
    arrays = (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
    return [torch.as_tensor(np.asarray(array, np.float32)) for array in arrays]
