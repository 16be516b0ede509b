"""What is known in some frames only: what lies before and after the others."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.window import BoolArray, FloatArray, IntArray


def neighbours(known: BoolArray) -> tuple[IntArray, IntArray]:
    """(N, T) the last known frame up to each one, −1 for none, and the next one from each, T for none."""
    frames = known.shape[1]
    index = np.arange(frames)
    before = np.maximum.accumulate(np.where(known, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, index, frames)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def surrounding(known: BoolArray, seconds: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """(N, T) the known frames around each one, and how far it is from the first to the second, in [0, 1].

    seconds: (T,). Before the first and after the last both are this one; where nothing is known, the frame itself.
    """
    before, after = neighbours(known)
    frames = len(seconds)
    start = np.where(before >= 0, before, np.where(after < frames, after, np.arange(frames)))
    end = np.where(after < frames, after, start)
    span = seconds[end] - seconds[start]
    return start, end, np.where(span > 0, (seconds - seconds[start]) / np.where(span > 0, span, 1.0), 0.0)
