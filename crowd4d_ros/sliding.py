"""One long window of observations, cut into the sliding windows in which a stream would have brought it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.config import WindowConfig
from crowd4d_ros.window import BodyMotion, BoolArray, Cameras, CrowdWindow, FloatArray, ScenePoints


@dataclass(frozen=True)
class Span:
    """Frames ``start`` to ``end`` of the stream; of these, ``settled`` to ``ready`` are answered here."""

    start: int
    end: int
    settled: int
    ready: int


def spans(frames: int, config: WindowConfig) -> Iterator[Span]:
    """The windows that ``initialization.initializer`` makes of a stream of so many frames."""
    settled = 0
    while (start := max(settled - (config.overlap - config.pending), 0)) + config.length <= frames:
        end = start + config.length
        yield Span(start, end, settled, end - config.pending)
        settled = end - config.pending
    if settled < frames:
        yield Span(max(0, frames - config.length), frames, settled, frames)


def windows(whole: CrowdWindow, config: WindowConfig) -> Iterator[CrowdWindow]:
    """``whole``, over all frames of a stream, as the method's windows.

    A window knows what a stream would have shown it: who is observed in its frames, bridged between two observations
    of its own, and scene points of keyframes up to its end.
    """
    for number, span in enumerate(spans(whole.num_frames, config)):
        yield replace(_cut(whole, span), window_id=whole.window_id + number)


def _cut(whole: CrowdWindow, span: Span) -> CrowdWindow:
    part = slice(span.start, span.end)
    observed = whole.observed[:, part]
    people = np.flatnonzero(observed.any(-1))
    observed = observed[people]
    valid = whole.valid[people, part] & _between(observed)
    time = np.arange(span.start, span.end)
    motion = whole.motion
    return replace(
        whole,
        stamps=whole.stamps[part],
        frames=whole.frames[part],
        is_new=whole.is_new[part] & (time >= span.settled) & (time < span.ready),
        cameras=Cameras(whole.cameras.R[part], whole.cameras.t[part], whole.cameras.source),
        scene=_seen_until(whole.scene, span),
        track_ids=whole.track_ids[people],
        observed=observed,
        valid=valid,
        boxes=whole.boxes[people, part],
        box_confidence=whole.box_confidence[people, part],
        keypoints_2d=whole.keypoints_2d[people, part],
        keypoints_confidence=whole.keypoints_confidence[people, part],
        landmarks_3d=whole.landmarks_3d[people, part],
        masks=tuple(whole.masks[person * whole.num_frames + t] for person in people for t in time),
        motion=BodyMotion(
            betas=motion.betas[people],
            body_pose=_zero_unless(valid, motion.body_pose[people, part]),
            global_orient=_zero_unless(valid, motion.global_orient[people, part]),
            transl=_zero_unless(valid, motion.transl[people, part]),
        ),
    )


def _between(observed: BoolArray) -> BoolArray:
    """(N, T) from the first to the last observation of each person: what comes after, only the next window knows."""
    begun = np.logical_or.accumulate(observed, axis=-1)
    goes_on = np.logical_or.accumulate(observed[:, ::-1], axis=-1)[:, ::-1]
    return np.asarray(begun & goes_on)


def _seen_until(scene: ScenePoints, span: Span) -> ScenePoints:
    """The points of keyframes before the span's end; earlier keyframes count as its first frame, as on the wire."""
    seen = scene.keyframe < span.end
    keyframe = np.maximum(scene.keyframe[seen] - span.start, 0)
    return ScenePoints(scene.points[seen], scene.confidence[seen], keyframe)


def _zero_unless(valid: BoolArray, values: FloatArray) -> FloatArray:
    return np.where(valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim)), values, 0.0)
