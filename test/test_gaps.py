"""What is known in some frames lies around every other frame as a ruler says."""

import numpy as np

from crowd4d_ros.gaps import neighbours, surrounding

SECONDS = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 6.0])
KNOWN = np.array(
    [
        [False, True, False, False, True, False],
        [False, False, False, False, False, False],
        [True, True, True, True, True, True],
    ]
)


def test_neighbours_are_the_last_known_frame_and_the_next():
    before, after = neighbours(KNOWN)
    assert before.tolist() == [[-1, 1, 1, 1, 4, 4], [-1] * 6, [0, 1, 2, 3, 4, 5]]
    assert after.tolist() == [[1, 1, 4, 4, 4, 6], [6] * 6, [0, 1, 2, 3, 4, 5]]


def test_between_two_known_frames_the_share_is_of_the_time_and_beyond_them_nothing_goes_on():
    start, end, share = surrounding(KNOWN, SECONDS)
    assert start.tolist() == [[1, 1, 1, 1, 4, 4], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert end.tolist() == [[1, 1, 4, 4, 4, 4], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert share.tolist() == [[0, 0, 0.25, 0.75, 0, 0], [0] * 6, [0] * 6]


def test_nobody_has_nothing_known():
    start, end, share = surrounding(np.zeros((0, 6), bool), SECONDS)
    assert start.shape == end.shape == share.shape == (0, 6)
