"""Where feet are: above a published surface, and in the truth's world."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.window import Cameras, FloatArray, SurfaceMesh

CANDIDATES = 12
"""triangles whose middles are nearest: in a grid's mesh a triangle is among the 8 nearest of each of its points."""
ON_EDGE = 1e-9
"""of a triangle: who stands on its edge stands on it."""


def height_above(mesh: SurfaceMesh, points: FloatArray) -> FloatArray:
    """(n,) metres of points (n, 3) above the mesh of a grid, y up; NaN where no triangle is above or below them."""
    if not len(mesh.faces) or not len(points):
        return np.full(len(points), np.nan)
    corners = mesh.vertices[mesh.faces]
    plan, at = corners[..., [0, 2]], points[:, [0, 2]]
    _, near = cKDTree(plan.mean(1)).query(at, min(CANDIDATES, len(mesh.faces)))
    near = near.reshape(len(points), -1)
    first, second = plan[near, 1] - plan[near, 0], plan[near, 2] - plan[near, 0]
    offset = at[:, None] - plan[near, 0]
    area = _cross(first, second)
    shares = np.stack([_cross(offset, second), _cross(first, offset)], -1) / area[..., None]
    inside = (shares >= -ON_EDGE).all(-1) & (shares.sum(-1) <= 1 + ON_EDGE)
    heights = corners[near, :, 1]
    surface = heights[..., 0] + ((heights[..., 1:] - heights[..., :1]) * shares).sum(-1)
    row = np.arange(len(points))
    return np.where(inside.any(-1), points[:, 1] - surface[row, inside.argmax(-1)], np.nan)


def laid_over(points: FloatArray, cameras: Cameras, true_cameras: Cameras) -> FloatArray:
    """Points (…, 3) of one world in another, so that both worlds' first cameras are the same."""
    seen = points @ cameras.R[0].T + cameras.t[0]
    return np.asarray((seen - true_cameras.t[0]) @ true_cameras.R[0])


def off_terrain(points: FloatArray, terrain: Surface) -> FloatArray:
    """(S,) metres, up or down, from points (S, 3) to the terrain."""
    return np.abs(points[:, 1] - terrain.height(points[:, [0, 2]])[0])


def resized(points: FloatArray, true_points: FloatArray, cameras: Cameras, true_cameras: Cameras) -> FloatArray:
    """Points (S, 3), of another size about their first camera: as far from it as the true ones from theirs, in the
    median of ratios. How far somebody is off against everybody else stays.
    """
    if not len(points):
        return points
    center, true_center = cameras.centers[0], true_cameras.centers[0]
    distance, true_distance = (np.linalg.norm(a, axis=-1) for a in (points - center, true_points - true_center))
    return np.asarray(center + np.median(true_distance / distance) * (points - center))


def _cross(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
