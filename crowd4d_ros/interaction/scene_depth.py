"""Depths that the scene has at people's own pixels, and how they are carried between keyframes."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.gaps import surrounding
from crowd4d_ros.interaction.point_cloud import reliable
from crowd4d_ros.window import BoolArray, CrowdWindow, FloatArray, IntArray

NEAR = 0.1
"""metres: nothing nearer the camera is seen."""


def lifted(
    window: CrowdWindow, joints: FloatArray, config: InteractionConfig, skin: float = 0.0
) -> tuple[FloatArray, BoolArray]:
    """(N, T) by how much the scene at a person's pixels is farther than the body, and where that is known.

    joints: (N, T, 24, 3) metres; skin: metres that joints lie behind what is seen of them.
    """
    mu, known = np.ones(window.valid.shape), np.zeros(window.valid.shape, bool)
    usable = reliable(window.scene, config) & of_their_frame(window)
    keyframe = window.scene.keyframe[usable]
    pixels, depth = seen(window.scene.points[usable], keyframe, window)
    in_front = depth > NEAR
    pixels, depth, keyframe = pixels[in_front], depth[in_front], keyframe[in_front]
    person, frame = np.nonzero(window.valid & window.observed & np.isin(np.arange(window.num_frames), keyframe))
    if not len(person):
        return mu, known
    joint_pixels, own_depth = seen(joints[person, frame], frame, window)
    reach = config.lift_radius * np.sqrt(window.boxes[person, frame, 2] * window.boxes[person, frame, 3])
    # keyframes are set apart farther than any reach: one tree answers for all of them
    apart = 2 * reach.max()
    layer = np.broadcast_to(apart * frame[:, None, None], (*own_depth.shape, 1))
    distance, nearest = cKDTree(np.concatenate([pixels, apart * keyframe[:, None]], -1)).query(
        np.concatenate([joint_pixels, layer], -1)
    )
    on_body = (distance < reach[:, None]) & (own_depth > NEAR)
    lifted = on_body.any(-1)
    ratio = np.where(on_body, (depth[nearest] + skin) / np.where(on_body, own_depth, 1.0), np.nan)[lifted]
    mu[person[lifted], frame[lifted]] = np.nanmedian(ratio, -1)
    known[person[lifted], frame[lifted]] = True
    return mu, known


def of_their_frame(window: CrowdWindow) -> BoolArray:
    """(P,) scene points that their frame saw: a later window's first frame stands for all earlier keyframes."""
    return np.asarray((window.scene.keyframe > 0) | window.is_new[0])


def seen(points: FloatArray, frame: IntArray, window: CrowdWindow) -> tuple[FloatArray, FloatArray]:
    """Rectified pixels (M, …, 2) and depths (M, …) of points (M, …, 3), each in the camera of its frame (M,)."""
    lead = (len(frame),) + (1,) * (points.ndim - 2)
    R, t = window.cameras.R[frame], window.cameras.t[frame].reshape(*lead, 3)
    inside = np.einsum("mij,m...j->m...i", R, points) + t
    depth = inside[..., 2]
    rays = inside / np.where(depth > NEAR, depth, 1.0)[..., None]
    return (rays @ window.intrinsics.K_rectified.T)[..., :2], depth


def between_keyframes(
    mu: FloatArray, known: BoolArray, seconds: FloatArray, config: InteractionConfig
) -> tuple[FloatArray, BoolArray]:
    """mu (N, T) interpolated over time where not known, and where that is believed: within ``bridge`` seconds."""
    before, after, share = surrounding(known, seconds)
    at = [np.take_along_axis(mu, index, -1) for index in (before, after)]
    gap = np.minimum(np.abs(seconds - seconds[before]), np.abs(seconds[after] - seconds))
    return at[0] + share * (at[1] - at[0]), known.any(-1, keepdims=True) & (gap <= config.bridge)
