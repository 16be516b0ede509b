"""Pixels as the lens made them, and as a pinhole would have."""

from __future__ import annotations

import cv2
import numpy as np

from crowd4d_ros.window import FloatArray, Intrinsics


def rectify(pixels: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """Undistorted pixels (…, 2), of K_rectified, for pixels (…, 2) of the input image."""
    flat = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
    if not len(flat):
        return np.zeros(pixels.shape)
    undistort = cv2.fisheye.undistortPoints if intrinsics.distortion_model == "equidistant" else cv2.undistortPoints
    distortion = np.asarray(intrinsics.distortion, np.float64) if len(intrinsics.distortion) else np.zeros(4)
    straight = undistort(flat, intrinsics.K, distortion, R=None, P=intrinsics.K_rectified)
    return np.asarray(straight, np.float64).reshape(pixels.shape)
