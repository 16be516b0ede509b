"""Identity metrics: what a perfect tracker, a switch, a miss and a false alarm do to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from crowd4d_ros.evaluation.identity import Identities, identities

PEOPLE, FRAMES = 3, 10


def scored(pred_ids: list[list[int]], truth: list[list[int]] | None = None) -> Identities:
    """Everybody has the box of the true person of the same column."""
    truth = truth or [list(range(PEOPLE))] * FRAMES
    similarity: list[NDArray[np.float64]] = [
        np.eye(len(gt), len(mine)) for gt, mine in zip(truth, pred_ids, strict=True)
    ]
    return identities([np.array(ids) for ids in pred_ids], [np.array(ids) for ids in truth], similarity)


def test_a_perfect_tracker() -> None:
    assert scored([[5, 6, 7]] * FRAMES) == Identities(1.0, 1.0, 1.0, 0)


def test_two_people_who_swap_their_numbers_midway() -> None:
    """20 of 30 boxes keep the identity that fits best; CLEAR counts two switches; HOTA as TrackEval gives it."""
    result = scored([[0, 1, 2]] * 5 + [[1, 0, 2]] * 5)
    assert result.idf1 == pytest.approx(20 / 30)
    assert result.mota == pytest.approx(1 - 2 / 30)
    assert result.hota == pytest.approx(math.sqrt(5 / 9))
    assert result.switches == 2


def test_a_missed_person_and_a_false_alarm() -> None:
    missed = scored([[0, 1]] * FRAMES)
    assert missed.idf1 == pytest.approx(2 * 20 / (30 + 20))
    assert missed.mota == pytest.approx(20 / 30)
    false = scored([[0, 1, 2, 9]] * FRAMES)
    assert false.idf1 == pytest.approx(2 * 30 / (30 + 40))
    assert false.mota == pytest.approx(20 / 30)


def test_boxes_that_hardly_overlap_are_not_the_same_person() -> None:
    result = identities([np.array([1])], [np.array([1])], [np.array([[0.49]])])
    assert (result.idf1, result.mota) == (0.0, -1.0)


def test_without_anybody() -> None:
    nobody: list[list[int]] = [[]] * FRAMES
    assert scored(nobody).idf1 == 0.0
    assert math.isnan(scored([[1]] * FRAMES, nobody).mota)
