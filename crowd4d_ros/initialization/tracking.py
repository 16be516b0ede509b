"""Who is who over time: detections in, stable identities out, online.

A compact tracker of our own. Of the maintained libraries, ``trackers`` needs NumPy 2 and pulls a second
OpenCV that links libGL, ``supervision`` dropped its tracker, ``norfair`` is bound to NumPy 1, and ``motpy``
is unmaintained; none of them uses stamps, so a dropped frame looks to them like a jump of everybody.

It joins what is known to work: a constant-velocity Kalman filter on the box (SORT), boxes of low confidence
continue a track but never begin one (ByteTrack), the filter is replayed over an occlusion once its end is
seen (OC-SORT), and clothing colours tell apart what motion cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from crowd4d_ros.config import TrackingConfig
from crowd4d_ros.initialization.detection import Detections
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

UNCONFIRMED = -1
NANOSECONDS = 1e-9
_FORBIDDEN = 1e6


class Tracker(Protocol):
    """Gives each detection an identity. Stateful: frames come in the order of their stamps."""

    def update(self, detections: Detections, stamp: int, appearance: FloatArray | None = None) -> IntArray:
        """Track id of each detection, (n,) int64, −1 while unconfirmed.

        stamp: nanoseconds. appearance: (n, d) one histogram a person, rows summing to one, or to zero where
        nothing could be seen.
        """
        ...

    def reset(self) -> None:
        """Forget every track. Identities already given are never given again."""
        ...


@dataclass(frozen=True)
class _Tracks:
    """All tracks, one row each.

    mean: (m, 3, 2) value and rate of box centre x, centre y and height, pixels and pixels/s;
    covariance: (m, 3, 2, 2); observed: (m, 3) last measured; seen: (m,) seconds since then;
    before: the filter as it was at that time.
    """

    mean: FloatArray
    covariance: FloatArray
    observed: FloatArray
    mean_before: FloatArray
    covariance_before: FloatArray
    seen: FloatArray
    hits: IntArray
    ids: IntArray
    appearance: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: BoolArray | IntArray) -> _Tracks:
        return replace(self, **{entry.name: getattr(self, entry.name)[which] for entry in fields(self)})

    def joined(self, other: _Tracks) -> _Tracks:
        return replace(self, **{
            entry.name: np.concatenate([getattr(self, entry.name), getattr(other, entry.name)])
            for entry in fields(self)
        })


class KalmanTracker:
    """The default Tracker.

    image_size: (width, height) pixels; a lost track that would have left the image is forgotten.
    """

    def __init__(self, config: TrackingConfig, image_size: tuple[int, int]) -> None:
        self._config = config
        self._image_size = np.array(image_size, dtype=float)
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        self._tracks: _Tracks | None = None
        self._stamp: int | None = None

    def update(self, detections: Detections, stamp: int, appearance: FloatArray | None = None) -> IntArray:
        config, count = self._config, len(detections.boxes)
        if self._stamp is not None and stamp <= self._stamp:
            raise ValueError(f"stamp {stamp} does not follow {self._stamp}; call reset() when time goes back")
        dt = 0.0 if self._stamp is None else (stamp - self._stamp) * NANOSECONDS
        self._stamp = stamp
        measured = _measurement(detections.boxes)
        looks = np.zeros((count, 1)) if appearance is None else appearance
        strong = detections.confidence >= config.begin_confidence
        if self._tracks is None:
            self._tracks = self._begin(measured[:0], looks[:0])
        tracks = self._predicted(self._tracks, dt)

        track_of = np.full(count, -1)
        confirmed = tracks.ids != UNCONFIRMED
        recent = tracks.seen <= config.recent_s
        for candidates, boxes in ((confirmed, strong), (confirmed & recent, ~strong), (~confirmed, strong)):
            self._assign(tracks, measured, looks, candidates, boxes & (track_of < 0), track_of)

        found = np.flatnonzero(track_of >= 0)
        tracks = self._corrected(tracks, track_of[found], measured[found], looks[found], strong[found])
        born = np.flatnonzero((track_of < 0) & strong)
        track_of[born] = len(tracks) + np.arange(len(born))
        tracks = tracks.joined(self._begin(measured[born], looks[born]))
        tracks = self._named(tracks)

        ids = np.where(track_of >= 0, tracks.ids[track_of] if len(tracks) else UNCONFIRMED, UNCONFIRMED)
        self._tracks = tracks.take(self._alive(tracks))
        return ids.astype(np.int64)

    def _begin(self, measured: FloatArray, looks: FloatArray) -> _Tracks:
        count, height = len(measured), measured[:, 2]
        mean = np.stack([measured, np.zeros_like(measured)], axis=-1)
        covariance = np.zeros((count, 3, 2, 2))
        covariance[:, :, 0, 0] = (self._config.measurement_noise * height[:, None]) ** 2
        covariance[:, :, 1, 1] = (self._config.speed * height[:, None] * self._rates) ** 2
        return _Tracks(
            mean, covariance, measured, mean, covariance, np.zeros(count), np.ones(count, np.int64),
            np.full(count, UNCONFIRMED), looks,
        )

    @property
    def _rates(self) -> FloatArray:
        """How much of the centre's motion each coordinate shows."""
        return np.array([1.0, 1.0, self._config.height_rate])

    def _step(self, mean: FloatArray, covariance: FloatArray, dt: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Constant velocity with white acceleration, dt: (m,) seconds."""
        F = np.zeros((len(dt), 1, 2, 2))
        F[:, 0, 0, 0] = F[:, 0, 1, 1] = 1.0
        F[:, 0, 0, 1] = dt
        Q = np.stack([dt**3 / 3, dt**2 / 2, dt**2 / 2, dt], axis=-1).reshape(-1, 1, 2, 2)
        deviation = self._config.acceleration * np.maximum(mean[:, 2:, 0], 1.0) * self._rates
        noise = Q * (deviation**2)[..., None, None]
        return (F @ mean[..., None])[..., 0], F @ covariance @ F.swapaxes(-1, -2) + noise

    def _predicted(self, tracks: _Tracks, dt: float) -> _Tracks:
        mean, covariance = self._step(tracks.mean, tracks.covariance, np.full(len(tracks), dt))
        return replace(tracks, mean=mean, covariance=covariance, seen=tracks.seen + dt)

    def _assign(
        self, tracks: _Tracks, measured: FloatArray, looks: FloatArray, candidates: BoolArray, boxes: BoolArray,
        track_of: IntArray,
    ) -> None:
        """Give the free ``boxes`` to the free ``candidates``: least negative log-likelihood in total."""
        config = self._config
        taken = np.zeros(len(tracks), bool)
        taken[track_of[track_of >= 0]] = True
        rows, columns = np.flatnonzero(candidates & ~taken), np.flatnonzero(boxes)
        if not len(rows) or not len(columns):
            return
        height = tracks.mean[rows, 2, 0]
        noise = (config.measurement_noise * height[:, None]) ** 2
        variance = (tracks.covariance[rows, :, 0, 0] + noise)[:, None]
        difference = measured[None, columns] - tracks.mean[rows, None, :, 0]
        distance = (difference**2 / variance).sum(-1)
        likeness = _bhattacharyya(tracks.appearance[rows][:, None], looks[None, columns])
        cost = distance + np.log(variance / height[:, None, None] ** 2).sum(-1)
        cost += config.appearance_weight * likeness**2
        lost = (tracks.seen[rows] > config.recent_s)[:, None]
        refused = (distance > config.gate) | (lost & (likeness > config.appearance_gate))
        row, column = linear_sum_assignment(np.where(refused, _FORBIDDEN, cost))
        kept = ~refused[row, column]
        track_of[columns[column[kept]]] = rows[row[kept]]

    def _corrected(
        self, tracks: _Tracks, rows: IntArray, measured: FloatArray, looks: FloatArray, strong: BoolArray
    ) -> _Tracks:
        """Kalman update of ``rows``; after a gap, first replayed along the line between its two ends."""
        config = self._config
        mean, covariance = tracks.mean[rows], tracks.covariance[rows]
        gap = tracks.seen[rows]
        lost = gap > config.recent_s
        if lost.any():
            steps = config.replay_steps
            start, dt = tracks.observed[rows][lost], gap[lost] / steps
            m, C = tracks.mean_before[rows][lost], tracks.covariance_before[rows][lost]
            for step in range(1, steps):
                m, C = self._step(m, C, dt)
                m, C = self._measured(m, C, start + (measured[lost] - start) * (step / steps), 1.0)
            mean[lost], covariance[lost] = self._step(m, C, dt)
        inflation = np.where(strong, 1.0, config.weak_noise)
        mean, covariance = self._measured(mean, covariance, measured, inflation[:, None])

        def put(old: FloatArray, new: FloatArray) -> FloatArray:
            result = old.copy()
            result[rows] = new
            return result

        blended = config.appearance_memory * tracks.appearance[rows] + (1 - config.appearance_memory) * looks
        visible = strong & (looks.sum(-1) > 0)
        fresh = tracks.appearance[rows].sum(-1) == 0
        appearance = np.where(fresh[:, None], looks, np.where(visible[:, None], blended, tracks.appearance[rows]))
        return replace(
            tracks, mean=put(tracks.mean, mean), covariance=put(tracks.covariance, covariance),
            observed=put(tracks.observed, measured), mean_before=put(tracks.mean_before, mean),
            covariance_before=put(tracks.covariance_before, covariance),
            seen=put(tracks.seen, np.zeros(len(rows))), hits=put(tracks.hits, tracks.hits[rows] + strong),
            appearance=put(tracks.appearance, appearance),
        )

    def _measured(
        self, mean: FloatArray, covariance: FloatArray, measured: FloatArray, inflation: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        noise = (self._config.measurement_noise * inflation * np.maximum(mean[:, 2:, 0], 1.0)) ** 2
        gain = covariance[..., 0] / (covariance[..., 0, 0] + noise)[..., None]
        innovation = measured - mean[..., 0]
        return mean + gain * innovation[..., None], covariance - gain[..., None] * covariance[..., :1, :]

    def _named(self, tracks: _Tracks) -> _Tracks:
        """Identities for the tracks that have just been confirmed."""
        new = (tracks.ids == UNCONFIRMED) & (tracks.hits >= self._config.confirm_hits)
        ids = tracks.ids.copy()
        ids[new] = self._next_id + np.arange(new.sum())
        self._next_id += int(new.sum())
        return replace(tracks, ids=ids)

    def _alive(self, tracks: _Tracks) -> BoolArray:
        confirmed = tracks.ids != UNCONFIRMED
        memory = np.where(confirmed, self._config.memory_s, self._config.recent_s)
        center = tracks.mean[:, :2, 0]
        inside = ((center >= 0) & (center <= self._image_size)).all(-1)
        alive: BoolArray = (tracks.seen <= memory) & (inside | (tracks.seen == 0))
        return alive


def _measurement(boxes: FloatArray) -> FloatArray:
    """(n, 3) centre x, centre y, height of boxes (n, 4)."""
    return np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 3]], axis=-1)


def _bhattacharyya(a: FloatArray, b: FloatArray) -> FloatArray:
    """Distance in [0, 1] of histograms (…, d); 0 where either is unknown, so that it decides nothing."""
    known = (a.sum(-1) > 0) & (b.sum(-1) > 0)
    distance: FloatArray = np.sqrt(np.clip(1.0 - np.sqrt(a * b).sum(-1), 0.0, 1.0))
    return np.where(known, distance, 0.0)
