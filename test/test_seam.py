"""What a window inherits from the one before: the jump where they meet, and how it fades."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_window import staged_crowd
from test_solver import sliced

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_6d
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.optimization.seam import seam
from crowd4d_ros.window import BodyMotion
from crowd4d_ros.world import LastWindow

ROOTS, TURNS = 1.0, 0.3
"""seconds in which jumps of roots and of joints fade to 1/e."""
HELD, FRAMES = 4, 10
"""frames that both windows have, and that the later one has."""


@pytest.fixture(scope="module")
def body():
    return BodyModel.load(dtype=torch.float64)


@pytest.fixture(scope="module")
def met(body):
    """The later of two windows, the earlier one, and their seam: the third person is new, the second was lost early."""
    whole = staged_crowd(body, people=3, frames=6 + FRAMES).window
    published = BodyMotion(*(array + 0.3 for array in vars(whole.motion).values()))
    first = sliced(replace(whole, motion=published), slice(0, 6 + HELD), np.ones(6 + HELD, bool))
    valid = np.ones_like(first.valid)
    valid[1, -1] = False
    last = LastWindow(first.stamps, np.array([1, 2, 99]), valid, first.motion)
    window = sliced(whole, slice(6, 6 + FRAMES), np.arange(FRAMES) >= HELD)
    return window, last, seam(window, last, body, ROOTS, TURNS)


def test_held_is_what_both_windows_have_of_the_same_people(met):
    _, _, found = met
    expected = np.zeros((3, FRAMES), bool)
    expected[0, :HELD] = expected[1, : HELD - 1] = True
    np.testing.assert_array_equal(found.held, expected)
    assert found.known.tolist() == [True, True, False]
    assert found.last[:2].tolist() == [HELD - 1, HELD - 2]


def answers(last):
    """Joints (3, T, 24, 6) that the later window finds, and those (3, HELD, 24, 6) that were published."""
    angles = torch.randn(3, FRAMES, 24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    columns = matrix_to_6d(axis_angle_to_matrix(0.3 * angles))
    motion = last.motion
    published = np.concatenate([motion.global_orient[:, :, None], motion.body_pose], 2)[:, 6:]
    published = matrix_to_6d(axis_angle_to_matrix(torch.as_tensor(published)))
    return columns, published


def test_joints_go_on_from_the_last_answer_and_end_where_they_would_without_it(met):
    window, last, found = met
    columns, published = answers(last)
    added = found.turn(columns)
    for person, end in ((0, HELD - 1), (1, HELD - 2)):
        jump = published[person, end] - columns[person, end]
        since = torch.as_tensor((window.stamps - window.stamps[end])[end + 1 :] * 1e-9)
        torch.testing.assert_close(added[person, end + 1 :], torch.exp(-since / TURNS)[:, None, None] * jump)
        assert not added[person, : end + 1].any()
    assert not added[2].any()


def test_roots_do_so_by_their_own_time(met, body):
    window, last, found = met
    roots = torch.zeros(3, FRAMES, 3, dtype=torch.float64)
    rest = body.pelvis(torch.as_tensor(last.motion.betas))[:, None]
    added, published = found.shift(roots), (torch.as_tensor(last.motion.transl) + rest)[:, 6:]
    since = torch.as_tensor((window.stamps - window.stamps[HELD - 1])[HELD:] * 1e-9)
    torch.testing.assert_close(added[0, HELD:], torch.exp(-since / ROOTS)[:, None] * published[0, HELD - 1])
    assert not added[2].any()


@pytest.mark.parametrize("previous", [None, "nobody"])
def test_without_a_last_window_or_anybody_in_it_nothing_is_held_or_moved(met, body, previous):
    window, last, _ = met
    if previous:
        nobody = BodyMotion(*(array[:0] for array in vars(last.motion).values()))
        previous = LastWindow(last.stamps, last.track_ids[:0], last.valid[:0], nobody)
    found = seam(window, previous, body, ROOTS, TURNS)
    assert not found.held.any()
    assert not found.shift(torch.ones(3, FRAMES, 3, dtype=torch.float64)).any()
    assert not found.turn(torch.ones(3, FRAMES, 24, 6, dtype=torch.float64)).any()
