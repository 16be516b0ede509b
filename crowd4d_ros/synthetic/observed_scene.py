"""Scene points as a pixel-aligned model such as π³ gives them: a depth per pixel of every keyframe, and its errors."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.estimate import Estimate
from crowd4d_ros.synthetic.structures import ray_hits
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import BoolArray, FloatArray, IntArray, ScenePoints

WAVES = 3
"""Half waves of the smooth distortion across the image, and down it: 0, 1 and 2."""
PATCH = 4.0
"""grid cells, one sigma of the filter that makes patches without points."""
EVERY_VERTEX = 4
"""One in so many vertices stands for the skin: 4 cm apart, nearer than a grid's pixels from 5 m on."""
NEAR = 0.1
"""metres: nothing nearer is in the picture."""


def observe_scene(
    truth: Truth, body: BodyModel, estimate: Estimate, config: ObservationConfig, rng: np.random.Generator
) -> ScenePoints:
    """Points of terrain, structures and people, in the window's units, with confidences that follow their errors."""
    keyframes = np.arange(0, truth.num_frames, max(1, round(config.keyframe_interval * truth.fps)))
    rays, shape = _pixel_rays(truth, config.grid)
    static = _static_depths(truth, keyframes, rays).reshape(len(keyframes), *shape)
    people = _people_depths(truth, body, keyframes, shape, config.grid)
    is_person = people < static
    depth: FloatArray = np.minimum(static, people)

    noise_rng, holes_rng, confidence_rng = rng.spawn(3)
    error = _log_errors(depth, config, noise_rng)
    kept = np.isfinite(depth) & ~_holes(depth.shape, config, holes_rng)
    kept &= ~is_person | (holes_rng.uniform(size=depth.shape) < config.own_points)
    doubt = config.point_doubt * confidence_rng.exponential(size=depth.shape) + config.point_doubt_error * np.abs(error)

    keyframe, row, column = np.nonzero(kept)
    in_camera = rays.reshape(*shape, 3)[row, column] * (depth * np.exp(error))[kept][:, None]
    points = estimate.placed(in_camera, keyframes[keyframe]) / estimate.scale
    return ScenePoints(points, np.clip(1 - doubt[kept], 0, 1), keyframes[keyframe])


def _pixel_rays(truth: Truth, grid: float) -> tuple[FloatArray, tuple[int, int]]:
    """(V·U, 3) directions of depth 1 through the middles of square cells, camera axes, and (V, U)."""
    width, height = truth.intrinsics.width, truth.intrinsics.height
    u, v = (np.arange(max(1, int(side // grid))) * grid + grid / 2 for side in (width, height))
    pixels = np.stack([*np.broadcast_arrays(u, v[:, None]), np.ones((len(v), len(u)))], -1)
    return pixels.reshape(-1, 3) @ np.linalg.inv(truth.intrinsics.K_rectified).T, (len(v), len(u))


def _static_depths(truth: Truth, keyframes: IntArray, rays: FloatArray) -> FloatArray:
    """(F, V·U) metres along the optical axis to terrain or structures, inf where there is nothing.

    A camera that stays where it is sees the same in all keyframes.
    """
    R, centers = truth.cameras.R[keyframes], truth.cameras.centers[keyframes]
    if np.ptp(R, axis=0).max() == 0 and np.ptp(centers, axis=0).max() == 0:
        R, centers = R[:1], centers[:1]
    origins = np.broadcast_to(centers[:, None], (len(R), len(rays), 3))
    directions = rays @ R
    ground, hit = truth.terrain.intersect(origins, directions)
    depth = np.where(hit, ground, np.inf)
    standing = ray_hits(truth.structures, origins.reshape(-1, 3), directions.reshape(-1, 3)).reshape(depth.shape)
    return np.broadcast_to(np.minimum(depth, standing), (len(keyframes), len(rays)))


@torch.no_grad()
def _people_depths(
    truth: Truth, body: BodyModel, keyframes: IntArray, shape: tuple[int, int], grid: float
) -> FloatArray:
    """(F, V, U) metres to the nearest skin in each cell, inf where nobody is."""
    motion, index = truth.motion, torch.arange(0, len(body.v_template), EVERY_VERTEX)
    depth = np.full((len(keyframes), *shape), np.inf)
    for row, frame in enumerate(keyframes):
        there = truth.valid[:, frame] & (truth.visibility[:, frame] > 0)
        parameters = (motion.betas, motion.body_pose[:, frame], motion.global_orient[:, frame], motion.transl[:, frame])
        betas, pose, orient, transl = (torch.as_tensor(a[there], dtype=body.v_template.dtype) for a in parameters)
        skin = body.vertices(betas, pose, orient, transl, index).double().numpy().reshape(-1, 3)
        skin = skin @ truth.cameras.R[frame].T + truth.cameras.t[frame]
        skin = skin[skin[:, 2] > NEAR]
        image = skin @ truth.intrinsics.K_rectified.T
        column, line = np.floor(image[:, :2] / image[:, 2:] / grid).astype(np.int64).T
        inside = (column >= 0) & (column < shape[1]) & (line >= 0) & (line < shape[0])
        np.minimum.at(depth[row], (line[inside], column[inside]), skin[inside, 2])
    return depth


def _log_errors(depth: FloatArray, config: ObservationConfig, rng: np.random.Generator) -> FloatArray:
    """(F, V, U) errors of the logarithm of depths (F, V, U)."""
    known = np.where(np.isfinite(depth), depth, 1.0)
    error = config.point_distortion * _distortion(depth.shape, config.point_distortion_shared, rng)
    error = error + config.point_noise * np.sqrt(known / config.point_distance) * rng.standard_normal(depth.shape)
    step = _steepest_step(depth)
    flies = (np.abs(step) > config.flying_edge) & (rng.uniform(size=depth.shape) < config.flying)
    error = error + np.where(flies, step * rng.uniform(size=depth.shape), 0.0)
    ghosts = rng.uniform(size=depth.shape) < config.ghost
    return np.asarray(error + np.where(ghosts, config.ghost_depth * rng.exponential(size=depth.shape), 0.0))


def _distortion(shape: tuple[int, ...], shared: float, rng: np.random.Generator) -> FloatArray:
    """(F, V, U) unit variance, a few waves across the image, no mean: that would be another scale."""
    coefficients = np.sqrt(shared) * rng.standard_normal((1, WAVES, WAVES))
    coefficients = coefficients + np.sqrt(1 - shared) * rng.standard_normal((shape[0], WAVES, WAVES))
    coefficients[:, 0, 0] = 0.0
    wave = np.arange(WAVES)
    down, across = (np.cos(np.pi * wave * (np.arange(n)[:, None] + 0.5) / n) for n in shape[1:])
    variance = np.where(wave == 0, 1.0, 0.5)
    total = np.outer(variance, variance).sum() - 1
    return np.asarray(down @ coefficients @ across.T / np.sqrt(total))


def _steepest_step(depth: FloatArray) -> FloatArray:
    """(F, V, U) the largest log step from each cell to one of its four neighbours, 0 towards or from nothing."""
    log_depth = np.log(depth)
    padded = np.pad(log_depth, ((0, 0), (1, 1), (1, 1)), constant_values=np.inf)
    neighbours = np.stack([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]])
    step = np.where(np.isfinite(neighbours), neighbours, 0.0) - np.where(np.isfinite(log_depth), log_depth, 0.0)
    step = np.where(np.isfinite(neighbours) & np.isfinite(log_depth), step, 0.0)
    return np.asarray(np.take_along_axis(step, np.abs(step).argmax(0)[None], 0)[0])


def _holes(shape: tuple[int, ...], config: ObservationConfig, rng: np.random.Generator) -> BoolArray:
    """(F, V, U) where there is no point, in patches."""
    noise = gaussian_filter(rng.standard_normal(shape), (0, PATCH, PATCH), mode="wrap")
    return np.asarray(noise < ndtri(config.holes) * noise.std())
