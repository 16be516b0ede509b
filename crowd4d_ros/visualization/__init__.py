"""Pictures of a crowd: overlays on the camera's images, plan views, RViz markers."""

from __future__ import annotations

import colorsys

import numpy as np

from crowd4d_ros.window import FloatArray

GOLDEN_RATIO = 0.6180339887
"""Steps of this part of the colour circle never come close to an earlier hue."""


def track_color(track_id: int) -> FloatArray:
    """(3,) RGB in [0, 1]: one colour for a track in every picture, distinct from the other tracks'."""
    hue = (track_id * GOLDEN_RATIO) % 1.0
    lightness = (0.52, 0.62, 0.45)[track_id % 3]
    return np.array(colorsys.hls_to_rgb(hue, lightness, 0.85))
