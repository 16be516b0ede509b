"""Run-length masks of an image: column-major runs, the first of zeros (COCO's uncompressed layout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.window import BoolArray, IntArray

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
    bounds = (left + column) * height + top + row
    begins, ends = bounds[edges[column, row] > 0], bounds[edges[column, row] < 0]
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
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def area(runs: IntArray) -> int:
    """Pixels inside."""
    return int(np.sum(runs[1::2]))
