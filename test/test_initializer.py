"""Frames in, overlapping windows out: nothing lost, nobody twice, and clocks that misbehave are survived."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import synthetic_crowd as synthetic

from crowd4d_ros.config import Config, updated
from crowd4d_ros.initialization.initializer import Initializer, StreamError, stack, untangled
from crowd4d_ros.window import Frame

CONFIG = updated(Config(), {"window.length": 12, "window.overlap": 4, "window.pending": 2, "calibration.frames": 12})


@pytest.fixture(scope="module")
def observations():
    truth = synthetic.walkers(4, 31)
    return synthetic.observe(truth, synthetic.camera())


@pytest.fixture(scope="module")
def windows(observations):
    initializer = Initializer(CONFIG, synthetic.camera())
    return [window for frame in observations for window in initializer.add(frame)] + initializer.finish()


def test_stacking_keeps_every_observation_in_its_place(observations):
    tracks = stack(observations)
    assert tracks.observed.sum() == sum(len(frame.track_ids) for frame in observations)
    frame = observations[7]
    rows = [tracks.track_ids.tolist().index(track) for track in frame.track_ids]
    np.testing.assert_allclose(tracks.keypoints_2d[rows, 7], frame.keypoints_2d, rtol=1e-6)


def test_exchanging_left_and_right_twice_changes_nothing(observations):
    tracks = stack(observations)
    exchanged = np.zeros(tracks.observed.shape, bool)
    exchanged[0, ::2] = True
    once = untangled(tracks, exchanged)
    assert (once.keypoints_2d[0, 0, 5] == tracks.keypoints_2d[0, 0, 6]).all()
    assert (once.landmarks_3d[0, 0, 5] == tracks.landmarks_3d[0, 0, 6] * [1, 1, -1]).all()
    np.testing.assert_array_equal(once.keypoints_2d[0, 1], tracks.keypoints_2d[0, 1])
    np.testing.assert_array_equal(untangled(once, exchanged).landmarks_3d, tracks.landmarks_3d)


def test_every_frame_is_new_exactly_once_and_in_order(windows):
    new = np.concatenate([window.frames[window.is_new] for window in windows])
    assert new.tolist() == list(range(31))


def test_windows_overlap_as_configured(windows):
    assert all(window.num_frames == 12 for window in windows)
    shared = [len(set(a.frames) & set(b.frames)) for a, b in pairwise(windows)]
    assert min(shared) >= 4


def test_people_keep_their_shape_from_window_to_window(windows):
    first, second = windows[:2]
    both, one, two = np.intersect1d(first.track_ids, second.track_ids, return_indices=True)
    assert len(both)
    np.testing.assert_allclose(first.motion.betas[one], second.motion.betas[two], atol=1e-5)


def test_windows_that_waited_for_the_calibration_are_made_when_asked_for(observations):
    initializer = Initializer(updated(CONFIG, {"calibration.frames": 31}), synthetic.camera())
    assert not [window for frame in observations[:-1] for window in initializer.add(frame)]
    waiting = initializer.adding(observations[-1])
    made = [next(waiting).window_id]
    assert initializer.window_id == 1
    assert made + [window.window_id for window in waiting] == [0, 1, 2]


def test_a_stream_shorter_than_a_window_is_one_window(observations):
    initializer = Initializer(CONFIG, synthetic.camera())
    assert all(initializer.add(frame) == [] for frame in observations[:5])
    (window,) = initializer.finish()
    assert window.num_frames == 5
    assert window.is_new.all()


def test_nobody_at_all_is_a_window_without_people(observations):
    empty = [
        replace(
            frame,
            track_ids=frame.track_ids[:0],
            boxes=frame.boxes[:0],
            box_confidence=frame.box_confidence[:0],
            keypoints_2d=frame.keypoints_2d[:0],
            keypoints_confidence=frame.keypoints_confidence[:0],
            landmarks_3d=frame.landmarks_3d[:0],
            masks=(),
        )
        for frame in observations[:12]
    ]
    initializer = Initializer(CONFIG, synthetic.camera())
    (window,) = [w for frame in empty for w in initializer.add(frame)]
    assert window.num_people == 0
    assert np.isfinite(window.gravity).all()


def test_a_repeated_stamp_is_refused_and_the_stream_goes_on(observations):
    initializer = Initializer(CONFIG, synthetic.camera())
    initializer.add(observations[0])
    with pytest.raises(StreamError, match="repeats"):
        initializer.add(observations[0])
    initializer.add(observations[1])
    (window,) = initializer.finish()
    assert window.frames.tolist() == [0, 1]


def test_stamps_that_go_back_begin_a_new_segment(observations):
    initializer = Initializer(CONFIG, synthetic.camera())
    for frame in observations[20:25]:
        initializer.add(frame)
    (before,) = initializer.add(observations[0])
    (after,) = initializer.finish()
    assert before.frames.tolist() == [20, 21, 22, 23, 24]
    assert after.frames.tolist() == [0]
    assert after.segment_id == before.segment_id + 1


def test_an_image_of_another_size_is_refused_by_size():
    initializer = Initializer(CONFIG, synthetic.camera(640, 480))
    with pytest.raises(StreamError, match=r"320x240.*640x480"):
        initializer.observe(Frame(np.zeros((240, 320, 3), np.uint8), 0, 0))
