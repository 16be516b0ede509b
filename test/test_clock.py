"""When frames were taken: from people who walk evenly, seen at other times than the stamps say."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_crowd import looking_down

from crowd4d_ros.optimization.clock import REACH, TRUNK, lateness, taken_at
from crowd4d_ros.window import Cameras, FloatArray

PEOPLE, FRAMES, FPS = 8, 60, 10.0
STAMPS = np.arange(FRAMES) / FPS
EVERYBODY = np.ones((PEOPLE, FRAMES), bool)
RNG = np.random.default_rng(0)
LATE = RNG.uniform(-0.03, 0.03, FRAMES)


def walks(taken: FloatArray, noise: float = 0.0) -> FloatArray:
    """(N, T, 2) pixels: everybody at 60 px/s in a direction of their own, each with noise of their own."""
    heading = np.linspace(0, 2 * np.pi, PEOPLE, endpoint=False)
    velocity = 60 * np.stack([np.cos(heading), np.sin(heading)], -1)
    return 300 + velocity[:, None] * taken[:, None] + RNG.normal(0, 1, (PEOPLE, FRAMES, 2)) * noise


def inner(values: FloatArray) -> FloatArray:
    """Without the ends, where an even path is not known."""
    return values[6:-6]


def error(found: FloatArray) -> float:
    """rms seconds, beside what lateness changes slowly, which nobody can tell from walking faster."""
    slowly = np.ones(9) / 9
    apart = inner(found - (LATE - np.convolve(LATE, slowly, "same")))
    return float(np.sqrt(np.mean(np.square(apart))))


def test_late_frames_are_told_by_all_who_walk():
    assert error(lateness(STAMPS, walks(STAMPS + LATE), EVERYBODY)) < 0.3 * LATE.std()
    assert error(lateness(STAMPS, walks(STAMPS + LATE, noise=0.5), EVERYBODY)) < 0.4 * LATE.std()


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_even_frames_stay_as_they_are_to_the_bit(noise: float):
    assert not lateness(STAMPS, walks(STAMPS, noise), EVERYBODY).any()


def test_one_person_may_be_unsteady():
    assert not lateness(STAMPS, walks(STAMPS + LATE)[:1], EVERYBODY[:1]).any()


def test_who_stands_or_is_not_seen_says_nothing():
    still = np.broadcast_to([5.0, 7.0], (PEOPLE, FRAMES, 2))
    assert not lateness(STAMPS, still, EVERYBODY).any()
    assert not lateness(STAMPS, walks(STAMPS + LATE), ~EVERYBODY).any()
    hidden = EVERYBODY.copy()
    hidden[0, 20:40] = False
    wrong = walks(STAMPS + LATE)
    without = lateness(STAMPS, wrong, hidden)
    wrong[0, 20:40] = 1e6
    np.testing.assert_array_equal(lateness(STAMPS, wrong, hidden), without)


@pytest.mark.parametrize("people", [2, 3, 4, 5])
def test_people_who_are_never_seen_at_once_tell_nothing(people: int):
    one_by_one = np.arange(FRAMES) * people // FRAMES == np.arange(people)[:, None]
    for _ in range(10):
        assert not lateness(STAMPS, walks(STAMPS, noise=1.0)[:people], one_by_one).any()


def of(path: FloatArray, cameras: Cameras, confidence: float = 1.0, stamps: FloatArray = STAMPS) -> FloatArray:
    keypoints = np.full((PEOPLE, FRAMES, 17, 2), np.nan)
    keypoints[:, :, TRUNK] = path[:, :, None]
    return taken_at(stamps, cameras, keypoints, np.full((PEOPLE, FRAMES, 17), confidence), EVERYBODY)


def standing_camera() -> Cameras:
    return Cameras(np.stack([looking_down(0.3)] * FRAMES), np.zeros((FRAMES, 3)), "made up")


def test_frames_were_taken_as_much_later_as_they_are_late():
    assert error(of(walks(STAMPS + LATE), standing_camera()) - STAMPS) < 0.3 * LATE.std()


def test_frames_keep_their_order_however_late():
    taken = of(walks(STAMPS + 5 * LATE), standing_camera())
    assert (np.diff(taken) > 0).all()
    assert np.abs(taken - STAMPS).max() == pytest.approx(REACH / FPS)


def test_a_moving_or_turning_camera_or_guessed_keypoints_leave_the_stamps():
    moving = Cameras(standing_camera().R, np.linspace(0, 1, 3 * FRAMES).reshape(FRAMES, 3), "made up")
    turning = Cameras(np.stack([looking_down(angle) for angle in 0.01 * STAMPS]), standing_camera().t, "made up")
    path = walks(STAMPS + LATE)
    assert (of(path, standing_camera()) != STAMPS).any()
    np.testing.assert_array_equal(of(path, moving), STAMPS)
    np.testing.assert_array_equal(of(path, turning), STAMPS)
    np.testing.assert_array_equal(of(path, standing_camera(), confidence=0.4), STAMPS)


def test_stamps_that_repeat_or_go_back_are_left():
    for border in (STAMPS[29], STAMPS[10]):
        stamps = np.append(STAMPS[:30], border + STAMPS[:30])
        np.testing.assert_array_equal(of(walks(STAMPS + LATE), standing_camera(), stamps=stamps), stamps)
