"""The lens: pixels as it made them, as a pinhole would have, and rays. The only place that knows distortion models."""

from __future__ import annotations

import cv2
import numpy as np

from crowd4d_ros.window import FloatArray, Intrinsics

VISIBLE_MARGIN = 1.5
"""Rays this many times further out than the image's border are not projected: polynomials fold back there."""
MIN_DEPTH = 0.05
"""metres; nearer points have no usable projection."""


def project(intrinsics: Intrinsics, points: FloatArray) -> FloatArray:
    """Pixels (…, 2) of the input image, distortion included, of points (…, 3) in camera axes, metres.

    NaN for points behind the camera or so far outside the image that the distortion model means nothing.
    """
    flat = points.reshape(-1, 3).astype(np.float64)
    depth = flat[:, 2]
    ahead = depth > MIN_DEPTH
    rays = flat[:, :2] / np.where(ahead, depth, 1.0)[:, None]
    ahead &= np.linalg.norm(rays, axis=-1) < VISIBLE_MARGIN * _border_radius(intrinsics)
    pixels = np.full((len(flat), 2), np.nan)
    if ahead.any():
        directions = np.concatenate([rays[ahead], np.ones((int(ahead.sum()), 1))], axis=1)[:, None]
        still, coefficients = np.zeros(3), _coefficients(intrinsics)
        if intrinsics.distortion_model == "equidistant":
            projected, _ = cv2.fisheye.projectPoints(directions, still, still, intrinsics.K, coefficients)
        else:
            projected, _ = cv2.projectPoints(directions, still, still, intrinsics.K, coefficients)
        pixels[ahead] = projected.reshape(-1, 2)
    return pixels.reshape(*points.shape[:-1], 2)


def undistort(intrinsics: Intrinsics, pixels: FloatArray) -> FloatArray:
    """Rays (…, 2), x/z and y/z in camera axes, of pixels (…, 2) of the input image."""
    flat = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
    if not len(flat):
        return np.zeros(pixels.shape)
    inverse = cv2.fisheye.undistortPoints if intrinsics.distortion_model == "equidistant" else cv2.undistortPoints
    rays = inverse(flat, intrinsics.K, _coefficients(intrinsics))
    return np.asarray(rays, np.float64).reshape(pixels.shape)


def rectify(intrinsics: Intrinsics, pixels: FloatArray) -> FloatArray:
    """Undistorted pixels (…, 2), of K_rectified, for pixels (…, 2) of the input image."""
    K = intrinsics.K_rectified
    return np.asarray(undistort(intrinsics, pixels) @ K[:2, :2].T + K[:2, 2])


def _coefficients(intrinsics: Intrinsics) -> FloatArray:
    """What OpenCV takes: an equidistant lens without coefficients is still no pinhole."""
    return np.asarray(intrinsics.distortion, np.float64) if len(intrinsics.distortion) else np.zeros(4)


def _border_radius(intrinsics: Intrinsics) -> float:
    width, height = intrinsics.width, intrinsics.height
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    middles = np.array([[width / 2, 0], [width / 2, height], [0, height / 2], [width, height / 2]], np.float64)
    return float(np.linalg.norm(undistort(intrinsics, np.concatenate([corners, middles])), axis=-1).max())
