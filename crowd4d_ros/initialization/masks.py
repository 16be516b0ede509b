"""Run-length masks of an image: column-major runs, the first of zeros (COCO's uncompressed layout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.window import BoolArray, IntArray

RunLengths = NDArray[np.uint32]


def encode(mask: BoolArray) -> RunLengths:
    """Run lengths of a mask (H, W): zeros, ones, zeros, … down the columns."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if flat.size and flat[0]:
        runs = np.concatenate([[0], runs])
    return runs.astype(np.uint32)


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
