"""A long window cut into the method's own: the same spans as a stream's, nothing lost, no knowledge of the future."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from random_crowd import Stream
from synthetic_crowd import camera
from test_initializer import CONFIG

from crowd4d_ros.config import ConfigError, WindowConfig
from crowd4d_ros.initialization.initializer import Initializer
from crowd4d_ros.sliding import spans, windows
from crowd4d_ros.window import CrowdWindow, FrameObservations, ScenePoints

SHORT = WindowConfig(length=12, overlap=4, pending=2)


@pytest.fixture(scope="module")
def whole() -> CrowdWindow:
    """40 frames of four people in one window; what is seen and bridged is random."""
    stream = Stream(frames=40)
    first = stream.window(0)
    everything = {
        name: getattr(stream, name)
        for name in (
            "stamps", "valid", "observed", "boxes", "box_confidence", "keypoints_2d", "keypoints_confidence",
            "landmarks_3d",
        )
    }  # fmt: skip
    motion = replace(first.motion, body_pose=stream.body_pose, global_orient=stream.global_orient, transl=stream.transl)
    return replace(
        first,
        **everything,
        frames=np.arange(40) + 100,
        is_new=np.ones(40, bool),
        cameras=replace(first.cameras, R=stream.R, t=stream.t),
        scene=ScenePoints(np.arange(120.0).reshape(40, 3), np.ones(40), np.arange(40)),
        masks=tuple(stream.masks),
        motion=motion,
    )


def empty_frame(index: int) -> FrameObservations:
    """A frame without people: the spans of windows do not depend on them, and it costs nothing to fit nobody."""
    shapes = {"boxes": (0, 4), "keypoints_2d": (0, 23, 2), "keypoints_confidence": (0, 23), "landmarks_3d": (0, 23, 3)}
    return FrameObservations(
        stamp=index * 10**8,
        index=index,
        track_ids=np.zeros(0, np.int64),
        box_confidence=np.zeros(0),
        masks=(),
        **{name: np.zeros(shape) for name, shape in shapes.items()},
    )


@pytest.mark.parametrize("frames", [1, 5, 12, 13, 22, 31, 32])
def test_the_windows_are_those_of_a_stream(frames: int) -> None:
    initializer = Initializer(CONFIG, camera())
    streamed = [window for t in range(frames) for window in initializer.add(empty_frame(t))] + initializer.finish()
    cut = list(spans(frames, CONFIG.window))
    assert [(w.frames[0], w.frames[-1] + 1) for w in streamed] == [(span.start, span.end) for span in cut]
    for window, span in zip(streamed, cut, strict=True):
        assert window.frames[window.is_new].tolist() == list(range(span.settled, span.ready))


def test_the_windows_of_the_default_configuration_settle_every_frame_once() -> None:
    cut = list(spans(1000, WindowConfig()))
    assert [frame for span in cut for frame in range(span.settled, span.ready)] == list(range(1000))
    assert {span.end - span.start for span in cut} == {WindowConfig().length}


def test_overlaps_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"window\.pending < window\.overlap"):
        WindowConfig(length=8, overlap=8)


def test_every_frame_and_person_keeps_its_numbers(whole: CrowdWindow) -> None:
    for window, span in zip(windows(whole, SHORT), spans(40, SHORT), strict=True):
        people = np.searchsorted(whole.track_ids, window.track_ids)
        for entry in fields(CrowdWindow):
            kept, given = getattr(window, entry.name), getattr(whole, entry.name)
            if isinstance(given, np.ndarray) and given.shape[:2] == whole.valid.shape and entry.name != "valid":
                np.testing.assert_array_equal(kept, given[people, span.start : span.end], err_msg=entry.name)
        np.testing.assert_array_equal(window.frames, whole.frames[span.start : span.end])
        np.testing.assert_array_equal(window.cameras.t, whole.cameras.t[span.start : span.end])
        valid = window.valid
        np.testing.assert_array_equal(
            window.motion.transl[valid], whole.motion.transl[people, span.start : span.end][valid]
        )
        for row, person in enumerate(people):
            for t in range(span.end - span.start):
                expected = whole.masks[person * 40 + span.start + t]
                np.testing.assert_array_equal(window.masks[row * (span.end - span.start) + t], expected)


def test_nobody_is_in_a_window_before_or_after_what_it_saw_of_them(whole: CrowdWindow) -> None:
    observed = np.zeros_like(whole.observed)
    observed[0, [3, 20]] = observed[1, :] = True
    bridged = replace(whole, observed=observed, valid=np.ones_like(observed))
    first, second, *_ = windows(bridged, SHORT)
    assert first.track_ids.tolist() == whole.track_ids[:2].tolist()
    assert np.flatnonzero(first.valid[0]).tolist() == [3], "frame 20, to which it was bridged, has not come yet"
    assert second.frames[-1] < 100 + 20
    assert second.track_ids.tolist() == whole.track_ids[1:2].tolist()


def test_scene_points_come_with_their_keyframes(whole: CrowdWindow) -> None:
    for window, span in zip(windows(whole, SHORT), spans(40, SHORT), strict=True):
        assert len(window.scene.points) == span.end, "all that has been seen"
        assert window.scene.keyframe.tolist() == [0] * span.start + list(range(span.end - span.start))


def test_a_window_that_is_short_enough_stays_whole(whole: CrowdWindow) -> None:
    (window,) = windows(whole, WindowConfig())
    assert window.is_new.all()
    np.testing.assert_array_equal(window.observed, whole.observed)
