"""Who is who over time: detections in, stable identities out, online.

A compact tracker of our own. Of the maintained libraries, ``trackers`` needs NumPy 2 and pulls a second
OpenCV that links libGL, ``supervision`` dropped its tracker, ``norfair`` is bound to NumPy 1, and ``motpy``
is unmaintained; none of them uses stamps, so a dropped frame looks to them like a jump of everybody.

It joins what is known to work: a constant-velocity Kalman filter on the box (SORT), boxes of low confidence
continue a track but never begin one (ByteTrack), and clothing colours tell apart what motion cannot. Errors
of boxes have heavy tails, since an occluder cuts a box in half: residuals are Student's, not Gaussian. A
track that is seen by weak boxes only, most of the time, is a lamp or a sign and ends. Replaying the filter
over a gap once its end is seen (OC-SORT) changed nothing on vtest and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from crowd4d_ros.config import TrackingConfig
from crowd4d_ros.initialization.detection import Detections
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

UNCONFIRMED = -1
NANOSECONDS = 1e-9


class Tracker(Protocol):
    """Gives each detection an identity. Stateful: frames come in the order of their stamps."""

    def update(
        self,
        detections: Detections,
        stamp: int,
        appearance: FloatArray | None = None,
        own: BoolArray | None = None,
    ) -> IntArray:
        """Track id of each detection, (n,) int64, −1 while unconfirmed.

        stamp: nanoseconds. appearance: (n, d) one histogram a person, rows summing to one, or to zero where
        nothing could be seen. own: (n,) who is seen to be somebody of their own; the others begin no track.
        """
        ...

    def useful(self, detections: Detections, stamp: int) -> BoolArray:
        """(n,) which detections an update at ``stamp`` could use, whatever they look like; others need no look."""
        ...

    def drift(self, stamp: int) -> tuple[IntArray, FloatArray]:
        """Ids (m,) of the confirmed, and how much centre x, centre y and height (m, 3) will change until ``stamp``."""
        ...

    def reset(self) -> None:
        """Forget every track. Identities already given are never given again."""
        ...

    def state(self) -> dict[str, FloatArray | IntArray]:
        """Everything that the next update depends on, as arrays."""
        ...

    def restore(self, state: dict[str, FloatArray | IntArray]) -> None:
        """Go on from a ``state``."""
        ...


@dataclass(frozen=True)
class _Tracks:
    """All tracks, one row each.

    mean: (m, 3, 2) value and rate of box centre x, centre y and height, pixels and pixels/s;
    covariance: (m, 3, 2, 2); unseen: (m,) seconds since the last detection; hits: (m,) strong detections;
    trust: (m,) seconds, grows while detections are strong and shrinks while they are weak;
    appearance: (m, d) running mean of histograms.
    """

    mean: FloatArray
    covariance: FloatArray
    unseen: FloatArray
    hits: IntArray
    trust: FloatArray
    ids: IntArray
    appearance: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: BoolArray | IntArray) -> _Tracks:
        columns: dict[str, Any] = {entry.name: getattr(self, entry.name)[which] for entry in fields(self)}
        return _Tracks(**columns)

    def joined(self, other: _Tracks) -> _Tracks:
        names = [entry.name for entry in fields(self)]
        columns: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return _Tracks(**columns)


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

    def state(self) -> dict[str, FloatArray | IntArray]:
        state: dict[str, FloatArray | IntArray] = {"next_id": np.array(self._next_id)}
        if self._tracks is not None and self._stamp is not None:
            state["stamp"] = np.array(self._stamp)
            state.update({entry.name: getattr(self._tracks, entry.name) for entry in fields(_Tracks)})
        return state

    def restore(self, state: dict[str, FloatArray | IntArray]) -> None:
        self.reset()
        self._next_id = int(state["next_id"])
        if "stamp" in state:
            self._stamp = int(state["stamp"])
            columns: dict[str, Any] = {entry.name: state[entry.name] for entry in fields(_Tracks)}
            self._tracks = _Tracks(**columns)

    def update(
        self,
        detections: Detections,
        stamp: int,
        appearance: FloatArray | None = None,
        own: BoolArray | None = None,
    ) -> IntArray:
        config, count = self._config, len(detections.boxes)
        if self._stamp is not None and stamp <= self._stamp:
            raise ValueError(f"stamp {stamp} does not follow {self._stamp}; call reset() when time goes back")
        dt = self._elapsed(stamp)
        self._stamp = stamp
        measured = _measurement(detections.boxes)
        looks = np.zeros((count, 1)) if appearance is None else appearance
        strong = detections.confidence >= config.begin_confidence
        beginning = strong if own is None else strong & own
        if self._tracks is None:
            self._tracks = self._begin(measured[:0], looks[:0])
        tracks = self._predicted(self._tracks, dt)

        track_of = np.full(count, -1)
        confirmed = tracks.ids != UNCONFIRMED
        recent = tracks.unseen <= config.recent_s
        for candidates, boxes in ((confirmed, strong), (confirmed & recent, ~strong), (~confirmed, beginning)):
            self._assign(tracks, measured, looks, candidates, boxes & (track_of < 0), track_of)

        found = np.flatnonzero(track_of >= 0)
        clear = strong & ~_shared(detections.boxes, track_of, tracks)
        tracks = self._corrected(
            tracks, track_of[found], measured[found], looks[found], strong[found], clear[found], dt
        )
        born = np.flatnonzero((track_of < 0) & beginning)
        track_of[born] = len(tracks) + np.arange(len(born))
        tracks = self._named(tracks.joined(self._begin(measured[born], looks[born])))

        ids = np.full(count, UNCONFIRMED, np.int64)
        alive = self._alive(tracks)
        reported = (track_of >= 0) & alive[track_of] if len(tracks) else np.zeros(count, bool)
        ids[reported] = tracks.ids[track_of[reported]]
        self._tracks = tracks.take(alive)
        return ids

    def useful(self, detections: Detections, stamp: int) -> BoolArray:
        strong = detections.confidence >= self._config.begin_confidence
        if self._tracks is None:
            return strong
        tracks = self._predicted(self._tracks, self._elapsed(stamp))
        waiting = tracks.take((tracks.ids != UNCONFIRMED) & (tracks.unseen <= self._config.recent_s))
        cost = self._motion_cost(waiting.mean, waiting.covariance, _measurement(detections.boxes))
        return strong | (cost <= self._config.gate).any(0)

    def drift(self, stamp: int) -> tuple[IntArray, FloatArray]:
        if self._tracks is None:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        known = self._tracks.take(self._tracks.ids != UNCONFIRMED)
        return known.ids, known.mean[..., 1] * self._elapsed(stamp)

    def _elapsed(self, stamp: int) -> float:
        """Seconds since the last update."""
        return 0.0 if self._stamp is None else (stamp - self._stamp) * NANOSECONDS

    def _begin(self, measured: FloatArray, looks: FloatArray) -> _Tracks:
        count, height = len(measured), measured[:, 2:]
        mean = np.stack([measured, np.zeros_like(measured)], axis=-1)
        covariance = np.zeros((count, 3, 2, 2))
        covariance[:, :, 0, 0] = (self._config.measurement_noise * height) ** 2
        covariance[:, :, 1, 1] = (self._config.speed * height * self._rates) ** 2
        return _Tracks(
            mean=mean,
            covariance=covariance,
            unseen=np.zeros(count),
            hits=np.ones(count, np.int64),
            trust=np.zeros(count),
            ids=np.full(count, UNCONFIRMED, np.int64),
            appearance=looks,
        )

    @property
    def _rates(self) -> FloatArray:
        """How fast each coordinate changes, relative to the centre."""
        return np.array([1.0, 1.0, self._config.height_rate])

    def _step(self, mean: FloatArray, covariance: FloatArray, dt: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Constant velocity with white acceleration over dt: (m,) seconds."""
        F = np.zeros((len(dt), 1, 2, 2))
        F[:, 0, 0, 0] = F[:, 0, 1, 1] = 1.0
        F[:, 0, 0, 1] = dt
        Q = np.stack([dt**3 / 3, dt**2 / 2, dt**2 / 2, dt], axis=-1).reshape(-1, 1, 2, 2)
        deviation = self._config.acceleration * np.maximum(mean[:, 2:, 0], 1.0) * self._rates
        noise = Q * (deviation**2)[..., None, None]
        return (F @ mean[..., None])[..., 0], F @ covariance @ F.swapaxes(-1, -2) + noise

    def _predicted(self, tracks: _Tracks, dt: float) -> _Tracks:
        mean, covariance = self._step(tracks.mean, tracks.covariance, np.full(len(tracks), dt))
        return replace(tracks, mean=mean, covariance=covariance, unseen=tracks.unseen + dt)

    def _noise(self, mean: FloatArray) -> FloatArray:
        """(m, 1) variance of measured coordinates, pixels²."""
        return np.asarray((self._config.measurement_noise * np.maximum(mean[:, 2:, 0], 1.0)) ** 2)

    def _assign(
        self,
        tracks: _Tracks,
        measured: FloatArray,
        looks: FloatArray,
        candidates: BoolArray,
        boxes: BoolArray,
        track_of: IntArray,
    ) -> None:
        """Give ``boxes`` to those ``candidates`` that have none: least negative log-likelihood in total."""
        config = self._config
        free = candidates.copy()
        free[track_of[track_of >= 0]] = False
        rows, columns = np.flatnonzero(free), np.flatnonzero(boxes)
        if not len(rows) or not len(columns):
            return
        unlike = _bhattacharyya(tracks.appearance[rows][:, None], looks[None, columns])
        motion = self._motion_cost(tracks.mean[rows], tracks.covariance[rows], measured[columns])
        cost = motion + config.appearance_weight * unlike**2
        lost = tracks.unseen[rows, None] > config.recent_s
        allowed = np.where(lost, config.appearance_gate_lost, config.appearance_gate)
        refused = (cost > config.gate) | (unlike > allowed)
        # refused pairs cost the gate, not infinity: a good pair is not broken up to make two poor ones
        row, column = linear_sum_assignment(np.where(refused, config.gate, cost))
        kept = ~refused[row, column]
        track_of[columns[column[kept]]] = rows[row[kept]]

    def _motion_cost(self, mean: FloatArray, covariance: FloatArray, measured: FloatArray) -> FloatArray:
        """(m, n) twice the negative log-likelihood of boxes (n, 3) at the tracks' places, up to a constant."""
        variance = (covariance[:, :, 0, 0] + self._noise(mean))[:, None]
        difference = measured[None] - mean[:, None, :, 0]
        dof = np.array(self._config.degrees_of_freedom)
        distance = ((dof + 1) * np.log1p(difference**2 / (dof * variance))).sum(-1)
        spread = np.log(variance / np.maximum(mean[:, None, 2:, 0], 1.0) ** 2).sum(-1)
        return np.asarray(distance + spread)

    def _corrected(
        self,
        tracks: _Tracks,
        rows: IntArray,
        measured: FloatArray,
        looks: FloatArray,
        strong: BoolArray,
        clear: BoolArray,
        dt: float,
    ) -> _Tracks:
        """``rows`` after their detections. clear: which boxes show the clothes of one person only."""
        config = self._config
        mean, covariance = self._measured(tracks.mean[rows], tracks.covariance[rows], measured)
        old = tracks.appearance[rows]
        blended = config.appearance_memory * old + (1 - config.appearance_memory) * looks
        visible = clear & (looks.sum(-1) > 0)
        first = visible & (old.sum(-1) == 0)
        appearance = np.where(first[:, None], looks, np.where(visible[:, None], blended, old))
        trust = tracks.trust[rows] + dt * np.where(strong, 1.0, 1.0 - 1.0 / config.weak_share)

        def put(values: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            result = values.copy()
            result[rows] = new
            return result

        return replace(
            tracks,
            mean=put(tracks.mean, mean),
            covariance=put(tracks.covariance, covariance),
            unseen=put(tracks.unseen, np.zeros(len(rows))),
            hits=put(tracks.hits, tracks.hits[rows] + strong),
            trust=put(tracks.trust, np.minimum(trust, config.max_trust_s)),
            appearance=put(tracks.appearance, appearance),
        )

    def _measured(
        self, mean: FloatArray, covariance: FloatArray, measured: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Kalman update under Student's noise: an outlier's variance grows with its own residual."""
        innovation = measured - mean[..., 0]
        predicted = covariance[..., 0, 0]
        noise = np.broadcast_to(self._noise(mean), predicted.shape)
        dof = np.array(self._config.degrees_of_freedom)
        noise = noise * np.maximum(1.0, (dof + innovation**2 / (predicted + noise)) / (dof + 1))
        gain = covariance[..., 0] / (predicted + noise)[..., None]
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
        alive: BoolArray = (tracks.unseen <= memory) & (inside | (tracks.unseen == 0)) & (tracks.trust >= 0)
        return alive


def _measurement(boxes: FloatArray) -> FloatArray:
    """(n, 3) centre x, centre y, height of boxes (n, 4)."""
    return np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 3]], axis=-1)


def _shared(boxes: FloatArray, track_of: IntArray, tracks: _Tracks) -> BoolArray:
    """(n,) whether the centre of another track, seen or hidden, is expected within the box."""
    offset = tracks.mean[None, :, :2, 0] - boxes[:, None, :2]
    within = ((offset > 0) & (offset < boxes[:, None, 2:])).all(-1) & (tracks.ids != UNCONFIRMED)
    within &= np.arange(len(tracks)) != track_of[:, None]
    shared: BoolArray = within.any(-1)
    return shared


def _bhattacharyya(a: FloatArray, b: FloatArray) -> FloatArray:
    """Distance in [0, 1] of histograms (…, d); 0 where either is unknown, so that it decides nothing."""
    known = (a.sum(-1) > 0) & (b.sum(-1) > 0)
    distance: FloatArray = np.sqrt(np.clip(1.0 - np.sqrt(a * b).sum(-1), 0.0, 1.0))
    return np.where(known, distance, 0.0)
