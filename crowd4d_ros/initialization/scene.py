"""Sec. 3.1: camera trajectory and scene points S̄, in the gravity-aligned world of the first camera.

A scene model turns a window of observations into both. The default needs no weights: a fixed camera, and
the ground that its people walk on where the image shows it. π³ or odometry come as further classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.config import SceneConfig
from crowd4d_ros.initialization.gravity import Calibration, camera_rotation
from crowd4d_ros.window import BoolArray, Cameras, FloatArray, FrameObservations, Intrinsics, ScenePoints

ANKLES = [15, 16]


class SceneModel(Protocol):
    """Where the camera was in every frame, and what stands still around it."""

    def reconstruct(
        self, observations: Sequence[FrameObservations], intrinsics: Intrinsics, calibration: Calibration
    ) -> tuple[Cameras, ScenePoints]:
        """One camera per frame, and points with confidence, each of the keyframe that saw it.

        World: metres, x right, y up, z backward, the first camera at the origin. A model that has its own
        scale and gravity may leave the calibration aside.
        """
        ...


class PeopleScene:
    """A fixed camera above the plane that its people walk on."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config

    def reconstruct(
        self, observations: Sequence[FrameObservations], intrinsics: Intrinsics, calibration: Calibration
    ) -> tuple[Cameras, ScenePoints]:
        """Cameras (T,) all alike, at the origin; visible ground, surest where people walked in this window.

        The camera does not move, so that one keyframe, the first, shows all there is.
        """
        R = camera_rotation(calibration.gravity)
        frames = len(observations)
        cameras = Cameras(np.tile(R, (frames, 1, 1)), np.zeros((frames, 3)), calibration.source)
        walked = self._walked(observations, intrinsics, calibration) @ R
        ground = self._visible_ground(walked, intrinsics, calibration)
        confidence = self._confidence(ground, walked, calibration)
        kept = confidence >= self.config.min_confidence
        return cameras, ScenePoints(
            points=ground[kept].astype(np.float32),
            confidence=confidence[kept].astype(np.float32),
            keyframe=np.zeros(int(kept.sum()), np.int64),
        )

    def _walked(
        self, observations: Sequence[FrameObservations], intrinsics: Intrinsics, calibration: Calibration
    ) -> FloatArray:
        """(W, 3) camera axes: ground at everybody's ankles; without anybody, where the image ends."""
        ankles = [np.zeros((0, 2))] + [_ankles(frame) for frame in observations]
        points, ahead = intersect_ground(np.concatenate(ankles), intrinsics.K_rectified, calibration)
        ahead &= np.linalg.norm(points, axis=-1) < self.config.farthest
        if ahead.any():
            return points[ahead]
        below = np.array([[intrinsics.width / 2, intrinsics.height - 1.0]])
        points, ahead = intersect_ground(below, intrinsics.K_rectified, calibration)
        return points[ahead]

    def _visible_ground(self, walked: FloatArray, intrinsics: Intrinsics, calibration: Calibration) -> FloatArray:
        """(P, 3) world: visible ground around ``walked``, on a grid that stays from window to window."""
        if len(walked) == 0:
            return np.zeros((0, 3))
        reach = self.config.reach * np.sqrt(-2.0 * np.log(self.config.min_confidence))
        low, high = walked[:, [0, 2]].min(0) - reach, walked[:, [0, 2]].max(0) + reach
        spacing = self.config.spacing
        while np.prod((high - low) / spacing + 1) > self.config.max_nodes:
            spacing *= 2
        axes = [
            np.arange(np.ceil(a / spacing), np.floor(b / spacing) + 1) * spacing for a, b in zip(low, high, strict=True)
        ]
        x, z = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        R = camera_rotation(calibration.gravity)
        normal = R.T @ calibration.ground_normal
        y = -(calibration.ground_distance + normal[0] * x + normal[2] * z) / normal[1]
        ground = np.stack([x, y, z], -1)
        return ground[_in_image(ground @ R.T, intrinsics)]

    def _confidence(self, ground: FloatArray, walked: FloatArray, calibration: Calibration) -> FloatArray:
        """(P,) near 1 on the paths of well-measured people, falling with the distance to any path."""
        if len(ground) == 0 or len(walked) == 0:
            return np.zeros(len(ground))
        distance, _ = cKDTree(walked[:, [0, 2]]).query(ground[:, [0, 2]])
        known = 1.0 / (1.0 + calibration.camera_height_sigma / calibration.camera_height)
        return np.asarray(known * np.exp(-0.5 * (distance / self.config.reach) ** 2))


def intersect_ground(pixels: FloatArray, K: FloatArray, calibration: Calibration) -> tuple[FloatArray, BoolArray]:
    """(n, 3) metres, camera axes: where rays through rectified pixels (n, 2) meet the ground; (n,) if so.

    Points of rays that do not, above the horizon, are zero.
    """
    rays = np.concatenate([(pixels - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(pixels), 1))], -1)
    falling = -rays @ calibration.ground_normal
    ahead = np.isfinite(falling) & (falling > HORIZON * np.linalg.norm(rays, axis=-1))
    depth = np.where(ahead, calibration.ground_distance / np.where(ahead, falling, 1.0), 0.0)
    return np.asarray(np.where(ahead[:, None], rays, 0.0) * depth[:, None]), ahead


HORIZON = 0.02
"""Sine of the least angle below the horizon: at fifty camera heights, a pixel is metres of ground."""


def _ankles(frame: FrameObservations) -> FloatArray:
    """(m, 2) rectified pixels between the ankles of those whose ankles are known."""
    known = (frame.keypoints_confidence[:, ANKLES] > 0).all(-1)
    return np.asarray(frame.keypoints_2d[known][:, ANKLES].mean(1))


def _in_image(points: FloatArray, intrinsics: Intrinsics) -> BoolArray:
    ahead = points[:, 2] > 1e-3
    pixels = points @ intrinsics.K_rectified.T
    pixels = pixels[:, :2] / np.where(ahead, pixels[:, 2], 1.0)[:, None]
    inside = (pixels >= 0).all(-1) & (pixels <= [intrinsics.width - 1, intrinsics.height - 1]).all(-1)
    return np.asarray(ahead & inside)
