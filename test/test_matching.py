"""Who is taken for whom: the authors' rule, the optimal assignment, and known identities."""

from __future__ import annotations

import numpy as np
import pytest

from crowd4d_ros.evaluation.matching import COCO_SIGMAS, NOBODY, iou, nearest, oks, one_to_one, same_identity

BODY = np.random.default_rng(0).uniform(0, 100, (17, 2))


def test_the_same_keypoints_are_the_most_similar() -> None:
    people = np.stack([BODY, BODY + 50.0])
    similarity = oks(people, people, np.array([4000.0, 4000.0]))
    np.testing.assert_allclose(np.diag(similarity), 1.0)
    assert similarity[0, 1] == pytest.approx(similarity[1, 0])
    assert similarity[0, 1] < 0.5


def test_oks_in_closed_form() -> None:
    area, distance = 2500.0, 7.0
    expected = np.exp(-(distance**2) / (2 * area * (2 * COCO_SIGMAS) ** 2)).mean()
    assert oks(BODY[None] + [distance, 0.0], BODY[None], np.array([area])) == pytest.approx(expected)


def test_keypoints_behind_the_camera_are_nowhere() -> None:
    half = BODY.copy()
    half[:8] = np.nan
    assert oks(half[None], BODY[None], np.array([900.0])) == pytest.approx(9 / 17)
    assert oks(BODY[None], half[None], np.array([0.0])) == pytest.approx(9 / 17)
    assert oks(np.full((1, 17, 2), np.nan), BODY[None], np.array([900.0])) == 0.0


def test_iou_in_closed_form() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 1, 1], [np.nan] * 4, [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(boxes, boxes[:1]), [[1.0, 1 / 3, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(iou(boxes[:1], boxes)[:, 0], [1.0, 1 / 3, 0.0, 0.0, 0.0])


def test_the_authors_drop_the_later_of_two_who_want_the_same() -> None:
    similarity = np.array([[0.6, 0.0], [0.9, 0.8], [0.0, 1e-7]])
    # The second true person is surer of the first prediction; the first is not offered another, nor is the third's
    # similarity enough.
    assert nearest(similarity, 1e-6).tolist() == [NOBODY, 0, NOBODY]


def test_one_to_one_finds_everybody_it_can() -> None:
    similarity = np.array([[0.6, 0.0], [0.9, 0.8], [0.0, 1e-7]])
    assert one_to_one(similarity, 0.1).tolist() == [0, 1, NOBODY]
    assert one_to_one(similarity, 0.7).tolist() == [NOBODY, 0, NOBODY]


def test_without_anybody() -> None:
    for people, predictions in ((0, 3), (2, 0), (0, 0)):
        similarity = np.zeros((people, predictions))
        assert nearest(similarity, 1e-6).tolist() == one_to_one(similarity, 0.1).tolist() == [NOBODY] * people
        ids = same_identity(np.arange(predictions), np.arange(people))
        assert ids.tolist() == [NOBODY] * people if not predictions else len(ids) == people


def test_known_identities() -> None:
    assert same_identity(np.array([7, 3, 9]), np.array([9, 4, 7])).tolist() == [2, NOBODY, 0]
