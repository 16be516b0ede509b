"""Tracking: a person keeps one identity, nobody inherits another's, and signs are no people."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from crowd4d_ros.config import TrackingConfig
from crowd4d_ros.initialization.detection import Detections
from crowd4d_ros.initialization.tracking import UNCONFIRMED, KalmanTracker
from crowd4d_ros.window import FloatArray, IntArray

FPS, HEIGHT, WIDTH = 7.0, 80.0, 30.0
IMAGE = (800, 600)
STRONG, WEAK = 0.9, 0.35
RED, BLUE = np.eye(4)[:2]
CONFIRM = TrackingConfig().confirm_hits


def walk(x: float, y: float, speed: float, frames: int) -> FloatArray:
    """(frames, 2) centres of somebody who walks sideways, speed in pixels a frame."""
    return np.stack([x + speed * np.arange(frames), np.full(frames, y)], -1)


def track(
    tracker: KalmanTracker,
    centers: FloatArray,
    seen: FloatArray | None = None,
    confidence: FloatArray | float = STRONG,
    looks: FloatArray | None = None,
    stamps: FloatArray | None = None,
) -> IntArray:
    """(people, frames) identities of people with centres (people, frames, 2); −2 where not seen."""
    people, frames = centers.shape[:2]
    seen = np.ones((people, frames), bool) if seen is None else seen
    confidence = np.broadcast_to(confidence, (people, frames))
    stamps = np.arange(frames) / FPS if stamps is None else stamps
    looks = np.tile(RED, (people, 1)) if looks is None else looks
    rng = np.random.default_rng(0)
    ids = np.full((people, frames), -2)
    for frame in range(frames):
        here = np.flatnonzero(seen[:, frame])
        jitter = rng.normal(0, 0.01 * HEIGHT, (len(here), 2))
        corner = centers[here, frame] + jitter - [WIDTH / 2, HEIGHT / 2]
        boxes = np.concatenate([corner, np.tile([WIDTH, HEIGHT], (len(here), 1))], -1)
        ids[here, frame] = tracker.update(
            Detections(boxes, confidence[here, frame]), int(stamps[frame] * 1e9) + 1, looks[here]
        )
    return ids


@pytest.fixture
def tracker() -> KalmanTracker:
    return KalmanTracker(TrackingConfig(), IMAGE)


def test_each_walker_has_one_identity_once_confirmed(tracker: KalmanTracker) -> None:
    centers = np.stack([walk(100, 200, 8, 40), walk(700, 400, -8, 40), walk(300, 300, 0, 40)])
    ids = track(tracker, centers)
    assert (ids[:, : CONFIRM - 1] == UNCONFIRMED).all()
    assert (ids[:, CONFIRM - 1 :] == ids[:, -1:]).all()
    assert len(np.unique(ids[:, -1])) == 3
    assert (ids[:, -1] > 0).all()


def test_the_order_of_detections_does_not_matter() -> None:
    centers = np.stack([walk(100, 200, 8, 30), walk(700, 210, -8, 30), walk(300, 300, 2, 30)])
    for order in ([0, 1, 2], [2, 0, 1]):
        ids = track(KalmanTracker(TrackingConfig(), IMAGE), centers[order])
        assert (ids[:, CONFIRM - 1 :] == ids[:, -1:]).all()
        assert len(set(ids[:, -1])) == 3


@pytest.mark.parametrize("hidden", [3, 10, 18])
def test_a_walker_behind_a_post_comes_out_as_the_same(tracker: KalmanTracker, hidden: int) -> None:
    seen = np.ones((1, 60), bool)
    seen[:, 20 : 20 + hidden] = False
    ids = track(tracker, walk(100, 300, 6, 60)[None], seen)
    assert ids[0, 20 + hidden] == ids[0, 19] > 0
    assert ids[0, -1] == ids[0, 19]


def test_a_stranger_who_comes_out_instead_is_somebody_else(tracker: KalmanTracker) -> None:
    centers = np.stack([walk(100, 300, 6, 60)] * 2)
    seen = np.zeros((2, 60), bool)
    seen[0, :20] = seen[1, 30:] = True
    ids = track(tracker, centers, seen, looks=np.stack([RED, BLUE]))
    assert ids[1, -1] > 0
    assert ids[1, -1] != ids[0, 19]


def test_people_who_meet_and_turn_back_are_told_apart_by_their_clothes(tracker: KalmanTracker) -> None:
    towards, apart = walk(300, 300, 5, 20), walk(395, 300, -5, 20)
    left = np.concatenate([towards, apart])
    right = np.stack([790 - left[:, 0], left[:, 1]], -1)
    seen = np.ones((2, 40), bool)
    seen[:, 17:23] = False
    ids = track(tracker, np.stack([left, right]), seen, looks=np.stack([RED, BLUE]))
    assert ids[:, -1].tolist() == ids[:, 10].tolist()
    assert len(set(ids[:, -1])) == 2


def test_people_who_pass_in_like_clothes_are_told_apart_by_their_motion(tracker: KalmanTracker) -> None:
    ids = track(tracker, np.stack([walk(250, 300, 8, 40), walk(570, 304, -8, 40)]))
    assert ids[:, -1].tolist() == ids[:, 10].tolist()


def test_identities_are_not_passed_on_from_one_to_the_next(tracker: KalmanTracker) -> None:
    """One is hidden on the left when another comes out on the right: the one between them stays who he is."""
    frames = 30
    between, hidden, newcomer = (walk(x, 300, 0, frames) for x in (300, 279, 321))
    seen = np.ones((3, frames), bool)
    seen[1, 18:] = seen[2, :18] = False
    ids = track(tracker, np.stack([between, hidden, newcomer]), seen)
    assert (ids[0, CONFIRM - 1 :] == ids[0, -1]).all()


def test_a_box_cut_in_half_by_an_occluder_stays_the_persons(tracker: KalmanTracker) -> None:
    ids = []
    for frame in range(30):
        height = HEIGHT / 2 if frame in (15, 16, 17) else HEIGHT
        boxes = np.array([[100.0 + 6 * frame, 200, WIDTH, height]])
        ids.append(tracker.update(Detections(boxes, np.array([STRONG])), int(frame / FPS * 1e9)).item())
    assert len(set(ids[CONFIRM - 1 :])) == 1


def test_stamps_count_not_frames(tracker: KalmanTracker) -> None:
    """After dropped frames a follower is where the one in front was, and is still the follower."""
    speed, gap = 16, 4
    stamps = np.concatenate([np.arange(20), 19 + gap + np.arange(20)]) / FPS
    front = np.stack([50 + speed * stamps * FPS, np.full(40, 300.0)], -1)
    follower = front - np.array([speed * (gap - 1), 0])
    ids = track(tracker, np.stack([front, follower]), stamps=stamps)
    assert (ids[:, 19:] == ids[:, 19:20]).all()


def test_weak_boxes_continue_a_track_but_begin_none(tracker: KalmanTracker) -> None:
    confidence = np.full((2, 30), STRONG)
    confidence[0, 12:16] = WEAK
    confidence[1] = WEAK
    ids = track(tracker, np.stack([walk(100, 300, 5, 30), walk(600, 300, -5, 30)]), confidence=confidence)
    assert (ids[0, CONFIRM - 1 :] == ids[0, -1]).all()
    assert (ids[1] == UNCONFIRMED).all()


def test_who_is_nobody_of_their_own_continues_a_track_but_begins_none(tracker: KalmanTracker) -> None:
    boxes = Detections(np.array([[100.0, 200, WIDTH, HEIGHT], [500, 200, WIDTH, HEIGHT]]), np.full(2, STRONG))
    for frame in range(3 * CONFIRM):
        alone = np.array([frame < CONFIRM, False])
        ids = tracker.update(boxes, int(frame * 1e9 / FPS) + 1, own=alone)
    assert ids[0] != UNCONFIRMED
    assert ids[1] == UNCONFIRMED


def test_a_sign_that_seldom_looks_like_a_person_is_given_up(tracker: KalmanTracker) -> None:
    frames = 70
    confidence = np.full((1, frames), WEAK)
    confidence[0, :4] = confidence[0, 10::10] = STRONG
    ids = track(tracker, walk(400, 300, 0, frames)[None], confidence=confidence)
    assert ids[0, 4] > 0
    assert (ids[0, frames // 2 :] == UNCONFIRMED).all()


def test_a_flicker_is_nobody(tracker: KalmanTracker) -> None:
    seen = np.zeros((1, 30), bool)
    seen[0, 5 : 5 + CONFIRM - 1] = True
    seen[0, 20] = True
    ids = track(tracker, walk(400, 300, 0, 30)[None], seen)
    assert ids.max() == UNCONFIRMED


def test_whoever_enters_where_another_left_is_new(tracker: KalmanTracker) -> None:
    leaving, entering = walk(700, 300, 10, 40), walk(900, 300, -8, 40)
    centers = np.stack([leaving, entering])
    seen = (centers[..., 0] > 0) & (centers[..., 0] < IMAGE[0])
    ids = track(tracker, centers, seen)
    assert ids[0, 8] > 0
    assert ids[1, -1] > ids[0, 8]


def test_identities_are_never_given_twice(tracker: KalmanTracker) -> None:
    first = track(tracker, walk(100, 300, 5, 10)[None])[0, -1]
    tracker.reset()
    second = track(tracker, walk(100, 300, 5, 10)[None])[0, -1]
    assert second > first > 0


def test_time_that_goes_back_is_refused_until_reset(tracker: KalmanTracker) -> None:
    nobody = Detections(np.zeros((0, 4)), np.zeros(0))
    assert tracker.update(nobody, 10).shape == (0,)
    with pytest.raises(ValueError, match="reset"):
        tracker.update(nobody, 10)
    tracker.reset()
    tracker.update(nobody, 5)


def test_a_restored_tracker_goes_on_as_the_one_it_was(tracker: KalmanTracker) -> None:
    centers, stamps = np.stack([walk(100, 300, 6, 40), walk(700, 320, -6, 40)]), np.arange(40) / FPS
    whole = track(KalmanTracker(TrackingConfig(), IMAGE), centers)
    track(tracker, centers[:, :20], stamps=stamps[:20])
    restored = KalmanTracker(TrackingConfig(), IMAGE)
    restored.restore(tracker.state())
    resumed = track(restored, centers[:, 20:], stamps=stamps[20:])
    np.testing.assert_array_equal(resumed, whole[:, 20:])


def test_confirmation_takes_as_many_detections_as_are_asked_for() -> None:
    eager = KalmanTracker(dataclasses.replace(TrackingConfig(), confirm_hits=1), IMAGE)
    assert track(eager, walk(100, 300, 6, 3)[None])[0, 0] > 0
