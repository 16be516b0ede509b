"""Tracks out of detections: who is lost and found again, and who is taken for whom."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.initialization.detection import box_iou
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

PAUSE = 1.0
"""seconds without overlap that end an encounter."""


def form_tracks(
    seen: BoolArray, boxes: FloatArray, seconds: FloatArray, config: ObservationConfig, rng: np.random.Generator
) -> IntArray:
    """(K, T) the row of the person whom track k shows in frame t, or −1; tracks in the order of their first frames.

    seen: (M, T) noticed; boxes: (M, T, 4); seconds: (T,).
    """
    split_rng, switch_rng = rng.spawn(2)
    label = _switched(seen, boxes, seconds, config, switch_rng)
    person, frame = np.nonzero(seen)
    source = np.full(seen.shape, -1)
    source[label[person, frame], frame] = person
    piece = _pieces(source >= 0, seconds, config, split_rng)
    label, frame = np.nonzero(source >= 0)
    keys, track, count = np.unique(
        label * (seen.shape[1] + 1) + piece[label, frame], return_inverse=True, return_counts=True
    )
    tracks = np.full((len(keys), seen.shape[1]), -1)
    tracks[track, frame] = source[label, frame]
    tracks = tracks[count >= config.min_hits]
    return np.asarray(tracks[np.argsort((tracks >= 0).argmax(-1), kind="stable")])


def _pieces(observed: BoolArray, seconds: FloatArray, config: ObservationConfig, rng: np.random.Generator) -> IntArray:
    """(M, T) how often each track was given up and begun anew."""
    frames = np.arange(len(seconds))
    last = np.maximum.accumulate(np.where(observed, frames, -1), axis=1)
    last = np.concatenate([np.full((len(observed), 1), -1), last[:, :-1]], 1)
    lost = observed & (last >= 0) & (seconds - seconds[last] > config.max_gap)
    return np.asarray(np.cumsum(lost & (rng.uniform(size=lost.shape) < config.split), axis=1))


def _switched(
    seen: BoolArray, boxes: FloatArray, seconds: FloatArray, config: ObservationConfig, rng: np.random.Generator
) -> IntArray:
    """(M, T) whose identity each person has: their own until they exchange it with somebody they pass."""
    label = np.tile(np.arange(len(seen))[:, None], (1, seen.shape[1]))
    for first, second, frame in _encounters(seen, boxes, seconds, config.switch_overlap):
        if rng.uniform() < config.switch:
            label[[first, second], frame:] = label[[second, first], frame:]
    return label


def _encounters(seen: BoolArray, boxes: FloatArray, seconds: FloatArray, overlap: float) -> IntArray:
    """(E, 3) rows of two people whose boxes overlap, and the frame where they do so for the last time, in its order."""
    pairs = []
    for frame in range(seen.shape[1]):
        rows = np.flatnonzero(seen[:, frame])
        first, second = np.nonzero(np.triu(box_iou(boxes[rows, frame], boxes[rows, frame]) > overlap, 1))
        pairs.append(np.stack([rows[first], rows[second], np.full(len(first), frame)], -1))
    met = np.concatenate([np.zeros((0, 3), np.int64), *pairs])
    met = met[np.lexsort((met[:, 2], met[:, 1], met[:, 0]))]
    parted = np.ones(len(met), bool)
    same = (met[1:, :2] == met[:-1, :2]).all(-1)
    parted[:-1] = ~same | (seconds[met[1:, 2]] - seconds[met[:-1, 2]] > PAUSE)
    met = met[parted]
    return np.asarray(met[np.argsort(met[:, 2], kind="stable")])
