"""What of the observations can be used: numbers that are numbers, and tracks that are people."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from crowd4d_ros.config import WindowConfig
from crowd4d_ros.window import NUM_COCO, BoolArray, FloatArray, FrameObservations, IntArray


def cleaned(frame: FrameObservations) -> FrameObservations:
    """The frame with finite numbers only: boxes that are not finite are nobody, keypoints have no confidence.

    Confidences are brought into [0, 1], and are 0 where they are not numbers.
    """
    known = _finite(frame.keypoints_2d) & _finite(frame.landmarks_3d)
    confidence = np.where(known, np.nan_to_num(frame.keypoints_confidence, posinf=0.0), 0.0)
    whole = replace(
        frame,
        box_confidence=np.nan_to_num(frame.box_confidence, posinf=0.0).clip(0.0, 1.0),
        keypoints_2d=np.where(known[..., None], frame.keypoints_2d, 0.0),
        keypoints_confidence=confidence.clip(0.0, 1.0),
        landmarks_3d=np.where(known[..., None], frame.landmarks_3d, 0.0),
    )
    placed = np.flatnonzero(_finite(frame.boxes))
    return whole if len(placed) == len(frame.boxes) else whole.take(placed)


def doubtful_tracks(observations: Sequence[FrameObservations], config: WindowConfig) -> IntArray:
    """Ids of the tracks that may be a sign or a shadow: no good keypoints even in their best frames.

    The mean confidence of COCO's 17 keypoints, averaged over a track's best frames, a tenth of them but at
    least three: who is hidden most of the time, but seen well now and then, is a person.
    """
    ids = np.concatenate([np.zeros(0, np.int64), *(frame.track_ids for frame in observations)])
    means = [frame.keypoints_confidence[:, :NUM_COCO].mean(-1) for frame in observations]
    confidence = np.concatenate([np.zeros(0), *means])
    tracks, person, count = np.unique(ids, return_inverse=True, return_counts=True)
    best_first = np.lexsort((-confidence, person))
    person, confidence = person[best_first], confidence[best_first]
    rank = np.arange(len(person)) - (np.cumsum(count) - count)[person]
    best = rank < np.maximum(config.best_frames, config.best_share * count)[person]
    total = np.bincount(person[best], confidence[best], len(tracks))
    return np.asarray(tracks[total < config.min_confidence * np.bincount(person[best], minlength=len(tracks))])


def without(observations: Sequence[FrameObservations], tracks: Collection[int]) -> list[FrameObservations]:
    """The observations less those of ``tracks``."""
    excluded = np.array(sorted(tracks), np.int64)
    return [frame.take(np.flatnonzero(~np.isin(frame.track_ids, excluded))) for frame in observations]


def _finite(values: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(values).all(-1))
