"""The Scene Interaction Point Cloud (SIPC): the terrain's lowest reliable point in each cell."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.window import BoolArray, FloatArray, ScenePoints


def scene_interaction_points(
    scene: ScenePoints, config: InteractionConfig, seen: FloatArray | None = None
) -> FloatArray:
    """Eq. 3–5: (M, 3) metres, world, in the order of their cells. ``scene`` is already metric.

    seen: (L, 3) metres, what earlier windows gave: the terrain only grows.

    Eq. 5 takes the lowest point as it is. Of n noisy points it lies some sqrt(2 ln n) deviations too low,
    all over the scene alike, and a ghost below the ground wins its cell outright: single ghosts are met where
    the surface is built (``surface.without_spikes``), against their neighbours, not here.
    """
    points = scene.points[reliable(scene, config)]
    if seen is not None:
        points = np.concatenate([seen, points])
    return lowest_per_cell(points, config.cell)


def reliable(scene: ScenePoints, config: InteractionConfig) -> BoolArray:
    """Eq. 4: (P,) the points to be trusted."""
    return np.asarray((scene.confidence >= config.confidence) & np.isfinite(scene.points).all(-1))


def lowest_per_cell(points: FloatArray, cell: float) -> FloatArray:
    """The lowest of the points (P, 3) in each square of side ``cell`` of the horizontal plane: (M, 3)."""
    column = np.floor(points[:, [0, 2]] / cell).astype(np.int64)
    order = np.lexsort((points[:, 1], column[:, 1], column[:, 0]))
    is_first = np.ones(len(points), bool)
    is_first[1:] = (np.diff(column[order], axis=0) != 0).any(-1)
    return np.asarray(points[order[is_first]])
