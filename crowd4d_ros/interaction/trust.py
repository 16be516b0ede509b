"""How much a camera tells of what people stand on, and the median that listens to it. Ours."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.window import FloatArray

LEAST_DROP = 0.01
"""metres: who is looked up at still has a say, where nobody else has."""


def known_from_above(ray: FloatArray, config: InteractionConfig) -> FloatArray:
    """(…) in (0, 1): how well rays (…, 3) metres, from cameras to feet, find the ground under these.

    What people stand on is level, treads of stairs and tops of terraces too. A ray that is h off in height meets it
    h / drop of its length too near or far, if feet are a drop below the camera. From a camera no higher than feet
    the ground is not seen at all: what is met is the face before it, always too near. The share is that of two
    variances, this one and that of a body's own depth.
    """
    share = config.ray_height / (config.own_depth * np.maximum(-ray[..., 1], LEAST_DROP))
    return np.asarray(1 / (1 + share**2))


def weighted_median(values: FloatArray, weights: FloatArray) -> float:
    """The least of values (M,) up to which half of the weights (M,) lie; not all of them are 0."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, 0.5 * below[-1])])
