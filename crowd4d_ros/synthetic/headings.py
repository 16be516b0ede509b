"""Headings as directions on the ground, and the smooth way from one state to another."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.window import FloatArray


def forward(heading: FloatArray) -> FloatArray:
    """(…, 2) unit x and z of a heading (…) radians about y."""
    return np.stack([np.sin(heading), np.cos(heading)], -1)


def leftward(heading: FloatArray) -> FloatArray:
    """(…, 2) unit x and z to the left of a heading (…) radians."""
    return np.stack([np.cos(heading), -np.sin(heading)], -1)


def smoothstep(x: FloatArray) -> FloatArray:
    """0 up to 0, 1 from 1 on, at rest at both ends."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
