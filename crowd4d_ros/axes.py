"""The core's world (y up) and the outside's (REP-103, z up): one change of axes, called at the borders only."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from crowd4d_ros.window import FloatArray

Z_UP_FROM_Y_UP: FloatArray = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""(3, 3). Core: x right, y up, z backward. REP-103: x forward, y left, z up."""


def to_z_up(vectors: FloatArray) -> FloatArray:
    """Core world vectors or points (…, 3) in REP-103 axes."""
    return np.asarray(vectors @ Z_UP_FROM_Y_UP.T.astype(vectors.dtype))


def to_y_up(vectors: FloatArray) -> FloatArray:
    """REP-103 vectors or points (…, 3) in the core's axes."""
    return np.asarray(vectors @ Z_UP_FROM_Y_UP.astype(vectors.dtype))


def rotation_to_z_up(R: FloatArray) -> FloatArray:
    """Camera rotations (…, 3, 3) of x_cam = R x_world + t, for a z-up world; t stays as it is."""
    return np.asarray(R @ Z_UP_FROM_Y_UP.T.astype(R.dtype))


def rotation_to_y_up(R: FloatArray) -> FloatArray:
    """The inverse of ``rotation_to_z_up``."""
    return np.asarray(R @ Z_UP_FROM_Y_UP.astype(R.dtype))


def transl_to_z_up(transl: FloatArray, pelvis: FloatArray) -> FloatArray:
    """smplx translations (N, T, 3) for a z-up world: transl' = A (transl + J0) − J0.

    pelvis: (N, 3) metres, J0(betas), the rest pelvis, which both rotations of the body leave where it is.
    """
    offset = pelvis[:, None]
    return to_z_up(transl + offset) - offset


def transl_to_y_up(transl: FloatArray, pelvis: FloatArray) -> FloatArray:
    """The inverse of ``transl_to_z_up``."""
    offset = pelvis[:, None]
    return to_y_up(transl + offset) - offset


def orient_to_z_up(global_orient: FloatArray) -> FloatArray:
    """SMPL's root orientations (…, 3), axis-angle, for a z-up world: A R(γ)."""
    return _rotated(Z_UP_FROM_Y_UP, global_orient)


def orient_to_y_up(global_orient: FloatArray) -> FloatArray:
    """The inverse of ``orient_to_z_up``."""
    return _rotated(Z_UP_FROM_Y_UP.T, global_orient)


def _rotated(A: FloatArray, axis_angle: FloatArray) -> FloatArray:
    if axis_angle.size == 0:  # which scipy refuses before 1.12
        return axis_angle
    rotation = Rotation.from_matrix(A) * Rotation.from_rotvec(axis_angle.reshape(-1, 3))
    return np.asarray(rotation.as_rotvec()).reshape(axis_angle.shape)
