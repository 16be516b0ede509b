"""Errors over time: WA-MPJPE, W-MPJPE and ACCEL, of tracks as each profile makes them; see ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crowd4d_ros.evaluation import metrics
from crowd4d_ros.evaluation.comparison import Comparison
from crowd4d_ros.window import IntArray

MIN_TRACK = 3
"""samples, author_native: shorter tracks have no temporal metrics."""
METRICS: dict[str, Callable[..., float]] = {
    "wa_mpjpe": metrics.wa_mpjpe,
    "w_mpjpe": metrics.w_mpjpe,
    "accel": metrics.accel,
}


def over_time(compared: Comparison) -> dict[str, float]:
    """``METRICS`` of the whole crowd; NaN where undefined."""
    return _author_native(compared) if compared.profile == "author_native" else _standard(compared)


def _author_native(compared: Comparison) -> dict[str, float]:
    """Tracks of the answer, each of one true person; frames that none of them covers are misses."""
    mine, theirs, frame = _author_tracks(compared)
    rows: list[tuple[float, ...]] = []
    lengths: list[int] = []
    covered = np.zeros_like(compared.there)
    pose = compared.pose_of(compared.pred.in_camera(compared.pred.joints))
    for track in np.unique(mine):
        samples = np.flatnonzero(mine == track)
        person, t = theirs[samples], frame[samples]
        covered[person, t] = True
        if len(samples) < MIN_TRACK:
            continue
        pair = (pose[track, t], compared.true_pose[person, t])
        rows.append(tuple(metric(*pair, profile="author_native", pelvis=None) for metric in METRICS.values()))
        lengths.append(len(samples))
    missing, total = int((compared.there & ~covered).sum()), sum(lengths)
    table, nothing = np.array(rows).reshape(-1, len(METRICS)), metrics.MISS_MM if missing else np.nan
    values = (np.array(lengths) @ table + metrics.MISS_MM * missing) / (total + missing) if total else [nothing] * 3
    mean_accel = table[:, -1].mean() if rows else np.nan
    return {"wa_mpjpe": float(values[0]), "w_mpjpe": float(values[1]), "accel": float(mean_accel)}


def _author_tracks(compared: Comparison) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of the answer, of the truth, and frames (S,) of all samples of tracks, in order of time."""
    person, frame = np.nonzero(compared.found)
    track = compared.match[person, frame]
    if compared.tracking == "ids":
        order = np.lexsort([frame, track])
        return track[order], person[order], frame[order]
    none = np.zeros(0, np.int64)
    tracks, people, times = [none], [none], [none]
    for mine in np.unique(track):
        who, when = person[track == mine], frame[track == mine]
        counts = np.bincount(who)
        if counts.max() > 1:
            whose = int(counts.argmax())
            ends = when[who == whose]
            when = np.arange(ends.min(), ends.max() + 1)
            when = when[compared.pred.valid[mine, when] & compared.there[whose, when]]
            who = np.full(len(when), whose)
        order = np.argsort(when, kind="stable")
        tracks.append(np.full(len(when), mine))
        people.append(who[order])
        times.append(when[order])
    return np.concatenate(tracks), np.concatenate(people), np.concatenate(times)


def _standard(compared: Comparison) -> dict[str, float]:
    """Tracks of true people; errors weighted by the frames in which they are found, as if these were one list."""
    rows: list[tuple[float, float, float]] = []
    weights: list[float] = []
    for n in np.flatnonzero((compared.there & compared.found).any(1)):
        t = compared.track(n)
        world = (compared.joints[n, t], np.nan_to_num(compared.true_joints[n, t]))
        seen_from = (compared.in_camera[n, t], np.nan_to_num(compared.true_in_camera[n, t]))
        rows.append(
            (
                metrics.wa_mpjpe(*world, profile="standard"),
                metrics.w_mpjpe(*world, profile="standard"),
                metrics.accel(*seen_from, profile="standard", fps=compared.fps),
            )
        )
        weights.append(float(compared.found[n].sum()))
    table, weight = np.array(rows).reshape(-1, 3), np.array(weights)[:, None]
    known = ~np.isnan(table)
    total = (known * weight).sum(0)
    mean = np.where(total > 0, (np.where(known, table, 0.0) * weight).sum(0) / np.maximum(total, 1.0), np.nan)
    return dict(zip(METRICS, mean.tolist(), strict=True))
