"""A small software rasteriser: triangles into a picture, far ones first, smooth outlines."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.window import FloatArray, IntArray

SUBPIXEL_BITS = 4
"""fixed-point fraction of OpenCV's polygon corners: 1/16 pixel."""
MAX_COORDINATE = 1 << 14
"""pixels; triangles further out than this cannot show and would overflow OpenCV's fixed point."""
AMBIENT = 0.45
"""brightness of what faces away from the light; the rest is Lambert's."""
LIGHT: FloatArray = np.array([-0.35, -0.75, -0.56])
"""(3,) towards the light, camera axes: above the camera, a little to its left."""


def decimate(vertices: FloatArray, faces: IntArray, cell: float) -> tuple[IntArray, IntArray]:
    """A coarser mesh on a subset of the vertices, moving with them: one vertex per cube of side ``cell``.

    vertices: (V, 3) metres; faces: (F, 3). Returns (K,) indices into the vertices, and (F', 3) faces of them.
    """
    if cell <= 0:
        return np.arange(len(vertices)), faces
    _, cluster = np.unique(np.floor(vertices / cell).astype(np.int64), axis=0, return_inverse=True)
    cluster = cluster.ravel()
    count = np.bincount(cluster)
    center = np.stack([np.bincount(cluster, axis) / count for axis in vertices.T], axis=-1)
    from_center = np.linalg.norm(vertices - center[cluster], axis=-1)
    order = np.lexsort([from_center, cluster])
    index = order[np.unique(cluster[order], return_index=True)[1]]
    coarse = cluster[faces]
    a, b, c = coarse.T
    coarse = coarse[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(coarse, axis=-1), axis=0, return_index=True)
    return index, coarse[np.sort(first)]


def shade(triangles: FloatArray) -> FloatArray:
    """(…,) brightness in [0, 1] of triangles (…, 3, 3), camera axes, counter-clockwise from outside."""
    normal = np.cross(triangles[..., 1, :] - triangles[..., 0, :], triangles[..., 2, :] - triangles[..., 0, :])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    return np.asarray(AMBIENT + (1 - AMBIENT) * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1))


def paint(
    image: NDArray[np.uint8], corners: FloatArray, depth: FloatArray, colors: FloatArray, supersampling: int
) -> NDArray[np.uint8]:
    """``image`` with triangles over it.

    image: (H, W, 3); corners: (M, 3, 2) pixels, clockwise on the screen is the back, and NaN is not drawn;
    depth: (M,), far ones are painted first; colors: (M, 4) in the image's channels, 0–255, then opacity, 0–1.
    """
    painted = image.copy()
    height, width = image.shape[:2]
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    with np.errstate(invalid="ignore"):
        shown = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0] < 0
        shown &= (np.abs(corners) < MAX_COORDINATE).all(axis=(1, 2))
        shown &= (corners.max(axis=1) > 0).all(axis=-1) & (corners.min(axis=1) < [width, height]).all(axis=-1)
    if not shown.any():
        return painted
    order = np.flatnonzero(shown)[np.argsort(-depth[shown], kind="stable")]
    corners, colors = corners[order], colors[order]
    left, top = np.maximum(np.floor(corners.min(axis=(0, 1))).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=(0, 1))).astype(int) + 1, [width, height])

    layer = np.zeros(((bottom - top) * supersampling, (right - left) * supersampling, 4), np.uint8)
    # A pixel's centre has whole coordinates in OpenCV; the layer's subpixels lie around it.
    fixed = ((corners - [left, top] + 0.5) * supersampling - 0.5) * (1 << SUBPIXEL_BITS)
    opacity = colors[:, 3:]
    premultiplied = np.concatenate([colors[:, :3] * opacity, 255 * opacity], axis=-1)
    for triangle, color in zip(np.rint(fixed).astype(np.int32), premultiplied.tolist(), strict=True):
        cv2.fillConvexPoly(layer, triangle, color, cv2.LINE_8, SUBPIXEL_BITS)
    layer = cv2.resize(layer, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    row, column = layer[..., 3].nonzero()  # people are a few per cent of what lies between them
    above = layer[row, column].astype(np.float32)
    below = painted[top + row, left + column]
    painted[top + row, left + column] = np.rint(below * (1 - above[:, 3:] / 255) + above[:, :3]).clip(0, 255)
    return painted
