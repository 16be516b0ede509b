"""Run-length masks of an image: column-major runs, the first of zeros (COCO's uncompressed layout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.window import BoolArray, FloatArray, IntArray

RunLengths = NDArray[np.uint32]


def encode(mask: BoolArray, corner: tuple[int, int] = (0, 0), shape: tuple[int, int] | None = None) -> RunLengths:
    """Run lengths of an image: zeros, ones, zeros, … down the columns.

    mask: (h, w), all of the image, or the window of it whose left and top are ``corner``; shape: (H, W) of
    the image, by default the mask's. The cost is the window's, not the image's.
    """
    height, width = shape or mask.shape
    left, top = corner
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    column, row = np.nonzero(edges)
    place = (left + column) * height + top + row
    begins, ends = place[edges[column, row] > 0], place[edges[column, row] < 0]
    # a run that ends at the foot of a column goes on at the head of the next
    apart = begins[1:] != ends[:-1]
    begins, ends = begins[np.r_[True, apart][: len(begins)]], ends[np.r_[apart, True][: len(ends)]]
    runs = np.diff(np.r_[0, np.stack([begins, ends], -1).ravel(), height * width])
    return (runs if runs[-1] or len(runs) == 1 else runs[:-1]).astype(np.uint32)


def decode(runs: IntArray, height: int, width: int) -> BoolArray:
    """The mask (H, W). No runs at all are an empty mask. Raises ValueError if they are of another image."""
    if len(runs) == 0:
        return np.zeros((height, width), bool)
    if int(np.sum(runs)) != height * width:
        raise ValueError(f"a mask of {int(np.sum(runs))} pixels does not fit an image of {width}x{height}")
    return window(runs, np.zeros(2, int), np.array([width, height]), height)


def window(runs: IntArray, low: IntArray, high: IntArray, height: int) -> BoolArray:
    """A mask from ``low`` to ``high``, (2,) column and row, of an image so high: (h, w). The cost is its own.

    No runs at all are an empty mask.
    """
    columns = int(high[0] - low[0])
    if len(runs) == 0:
        return np.zeros((int(high[1] - low[1]), columns), bool)
    ends = np.clip(np.cumsum(runs, dtype=np.int64) - low[0] * height, 0, columns * height)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, np.diff(ends, prepend=0))
    return flat.reshape((height, columns), order="F")[low[1] : high[1]]


def bounds(runs: IntArray, height: int) -> FloatArray:
    """(4,) left, top, width and height of what is inside, pixels of an image so high; NaN where nothing is."""
    ends = np.cumsum(runs, dtype=np.int64)
    begins, ends = ends[:-1:2], ends[1::2] - 1
    if not len(ends):
        return np.full(4, np.nan)
    (left, top), (right, bottom) = np.divmod(begins, height), np.divmod(ends, height)
    across = right > left  # on from the foot of a column to the head of the next
    first, last = np.where(across, 0, top).min(), np.where(across, height - 1, bottom).max()
    return np.array([left[0], first, right[-1] + 1 - left[0], last + 1 - first], float)


def area(runs: IntArray) -> int:
    """Pixels inside."""
    return int(np.sum(runs[1::2]))
