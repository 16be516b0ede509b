"""The Scene Interaction Point Cloud (SIPC): the terrain's lowest reliable height in each cell."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.terrain import terrain_heights
from crowd4d_ros.window import BoolArray, Cameras, FloatArray, ScenePoints

FAR_OFF = (0.01, 0.99)
"""Quantiles of the points' x and z; what lies farther off than the whole spread between them is the sky's."""


def scene_interaction_points(
    scene: ScenePoints, config: InteractionConfig, seen: FloatArray | None = None
) -> FloatArray:
    """Eq. 3–5: (M, 3) metres, world, one for each cell that shows the terrain, in the order of cells.

    scene: already metric, best without its people (``without_people``). Eq. 5's lowest point is the lowest height that
    points agree on (``terrain.terrain_heights``), over the mean x and z of the cell's points that lie there.
    seen: (L, 3) metres, what earlier windows gave: where both have seen the ground it is the mean of both, and what
    lies ``config.memory`` beyond this window's points is forgotten.
    """
    points = _within_reach(scene.points[reliable(scene, config)].astype(np.float64))
    points = points[:: -(-len(points) // config.max_points) or 1]
    if not len(points):
        return np.zeros((0, 3)) if seen is None else seen
    height, is_terrain = terrain_heights(points, config)
    found = mean_per_cell(np.stack([points[:, 0], height, points[:, 2]], -1)[is_terrain], config.cell)
    return found if seen is None else _remembered(found, seen, config)


def reliable(scene: ScenePoints, config: InteractionConfig) -> BoolArray:
    """Eq. 4: (P,) the points to be trusted."""
    return np.asarray((scene.confidence >= config.confidence) & np.isfinite(scene.points).all(-1))


def without_people(
    scene: ScenePoints, lowest: FloatArray, valid: BoolArray, cameras: Cameras, config: InteractionConfig
) -> ScenePoints:
    """The scene less the points on people: those that in their keyframe look as if on a body and are at its depth.

    A scene model shows people too, and who stands still would be terrain. lowest: (N, T, 3) lowest vertices and
    valid: (N, T), of the initial bodies; all in the same, metric frame. A body is an upright axis with a width. Who
    was not detected is met where terrain is told from what stands on it. Points that are not finite are left out, too.
    """
    kept = np.asarray(np.isfinite(scene.points).all(-1))
    for frame in np.unique(scene.keyframe):
        there = np.flatnonzero(kept & (scene.keyframe == frame))
        points, feet = scene.points[there] - cameras.centers[frame], lowest[valid[:, frame], frame]
        kept[there[_on_bodies(points, feet - cameras.centers[frame], config)]] = False
    return ScenePoints(scene.points[kept], scene.confidence[kept], scene.keyframe[kept])


def mean_per_cell(points: FloatArray, cell: float) -> FloatArray:
    """The mean of the points (P, 3) in each square of side ``cell`` of the horizontal plane: (M, 3)."""
    column = np.floor(points[:, [0, 2]] / cell).astype(np.int64)
    order = np.lexsort((column[:, 1], column[:, 0]))
    first = np.flatnonzero(np.concatenate([[True], (np.diff(column[order], axis=0) != 0).any(-1)]))
    return np.asarray(np.add.reduceat(points[order], first) / np.diff(first, append=len(points))[:, None])


def _within_reach(points: FloatArray) -> FloatArray:
    if not len(points):
        return points
    low, high = np.quantile(points[:, [0, 2]], FAR_OFF, axis=0)
    outside = np.maximum(low - points[:, [0, 2]], points[:, [0, 2]] - high)
    return np.asarray(points[(outside <= high - low).all(-1)])


def _remembered(found: FloatArray, seen: FloatArray, config: InteractionConfig) -> FloatArray:
    near = ((seen >= found.min(0) - config.memory) & (seen <= found.max(0) + config.memory))[:, [0, 2]].all(-1)
    return mean_per_cell(np.concatenate([found, mean_per_cell(seen[near], config.cell)]), config.cell)


def _on_bodies(points: FloatArray, feet: FloatArray, config: InteractionConfig) -> FloatArray:
    """Indices of the points (P, 3) on bodies over feet (N, 3), both relative to the camera.

    Only points in a cone around a body are looked at: people are many and small.
    """
    distance = np.linalg.norm(points, axis=-1)
    middle = feet + np.array([0.0, 0.5 * config.person_height, 0.0])
    away = np.linalg.norm(middle, axis=-1)
    cone = 2 * np.sin(0.5 * np.arctan2(np.hypot(0.5 * config.person_height, config.person_width), away))
    directions = points / np.maximum(distance, 1e-9)[:, None]
    near = cKDTree(directions).query_ball_point(middle / np.maximum(away, 1e-9)[:, None], cone)
    body = np.repeat(np.arange(len(feet)), [len(each) for each in near])
    point = np.concatenate([np.zeros(0, int), *near]).astype(int)
    ray, foot = directions[point], feet[body]
    # where ray and upright axis come nearest: how far along the ray, and how high above the feet
    level = np.maximum(1 - ray[:, 1] ** 2, 1e-6)
    along = (ray[:, 0] * foot[:, 0] + ray[:, 2] * foot[:, 2]) / level
    aside = np.hypot(ray[:, 0] * along - foot[:, 0], ray[:, 2] * along - foot[:, 2])
    above = ray[:, 1] * along - foot[:, 1]
    at_depth = np.abs(distance[point] - along) < config.person_depth * along + config.person_width
    on_body = (aside < config.person_width) & (above > config.person_feet) & (above < config.person_height)
    return np.asarray(np.unique(point[on_body & at_depth]))
