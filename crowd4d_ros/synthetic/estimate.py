"""The world as the initializer estimates it: tilted, drifting, and of a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import Cameras, FloatArray, IntArray, Intrinsics

DOWN = np.array([0.0, -1.0, 0.0])
STILL = 0.01
"""metres: a camera that moves less in all is taken for fixed, and so it has no drift."""


@dataclass(frozen=True)
class Estimate:
    """What is believed of the cameras. Everything seen is placed in the world through it.

    R: (T, 3, 3), t: (T, 3) metres: the estimated world, tilted but still metric, to camera axes. turn: (T, 3, 3) the
    true world's axes to those of the estimate. intrinsics: with the estimated focal length. stretch: how much deeper
    everything looks by that. scale: metres per unit of the window.
    """

    R: FloatArray
    t: FloatArray
    turn: FloatArray
    intrinsics: Intrinsics
    stretch: float
    scale: float
    gravity_covariance: FloatArray

    @property
    def cameras(self) -> Cameras:
        """(T,) in the units of the window."""
        return Cameras(self.R, self.t / self.scale, "model")

    @property
    def gravity(self) -> FloatArray:
        """(3,) down, in the first camera's axes."""
        return np.asarray(self.R[0] @ DOWN)

    @property
    def scale_source(self) -> str:
        """A scene in metres, as odometry makes it, or in the units of its model."""
        return "odometry" if self.scale == 1.0 else "model"

    def placed(self, in_camera: FloatArray, frame: IntArray) -> FloatArray:
        """Points (…, 3) metres, camera axes of ``frame`` (…), in the estimated world, metres."""
        moved = in_camera * [1.0, 1.0, self.stretch] - self.t[frame]
        return np.asarray((moved[..., None, :] @ self.R[frame])[..., 0, :])

    def with_bodies(self, roots: FloatArray) -> FloatArray:
        """Roots (N, T, 3) metres as they are placed in the window: metric, around camera centres that are not.

        ``interaction.scale.scaled`` by the true scale brings them back.
        """
        centers = -np.einsum("tji,tj->ti", self.R, self.t)
        return np.asarray(roots + centers * (1 / self.scale - 1))


def estimate_world(truth: Truth, config: ObservationConfig, rng: np.random.Generator) -> Estimate:
    """Gravity, focal length, scale and camera poses, each with its error."""
    frames = truth.num_frames
    tilt = np.radians(config.gravity) * rng.standard_normal(2)
    log_focal = config.focal * rng.standard_normal()
    scale = float(np.exp(config.scale_range * rng.uniform(-1, 1)))
    spins, shifts = rng.standard_normal((2, frames, 3))
    spins[0] = shifts[0] = 0.0

    seconds = np.diff(truth.stamps, prepend=truth.stamps[:1]) / 1e9
    centers = truth.cameras.centers
    flown = np.linalg.norm(np.diff(centers, axis=0, prepend=centers[:1]), axis=-1)
    is_fixed = float(flown.sum()) < STILL
    turned = np.zeros((frames, 3))
    if not is_fixed:
        turned = np.cumsum(np.radians(config.camera_turn) * np.sqrt(seconds)[:, None] * spins, axis=0)
        # steps grow with the share of the way flown, so that the end is camera_drift of all of it off
        step = config.camera_drift * np.sqrt(flown * flown.sum())
        centers = centers + np.cumsum(step[:, None] * shifts, axis=0)

    tilted = Rotation.from_rotvec([tilt[0], 0.0, tilt[1]]).as_matrix()
    R = Rotation.from_rotvec(turned).as_matrix() @ truth.cameras.R @ tilted.T
    across = np.eye(3) - np.outer(DOWN, DOWN)
    return Estimate(
        R=R,
        t=-np.einsum("tij,tj->ti", R, centers @ tilted.T),
        turn=R.swapaxes(-1, -2) @ truth.cameras.R,
        intrinsics=_refocused(truth.intrinsics, float(np.exp(log_focal))),
        stretch=float(np.exp(log_focal)),
        scale=scale,
        gravity_covariance=np.radians(config.gravity) ** 2 * R[0] @ across @ R[0].T,
    )


def _refocused(intrinsics: Intrinsics, ratio: float) -> Intrinsics:
    """The camera with another focal length; as given where that is known."""
    if ratio == 1.0:
        return intrinsics
    zoom = np.array([[ratio, 1, 1], [1, ratio, 1], [1, 1, 1]])
    return replace(intrinsics, K=intrinsics.K * zoom, K_rectified=intrinsics.K_rectified * zoom, source="estimated")
