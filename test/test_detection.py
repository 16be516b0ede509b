"""Detection: boxes that the network's numbers mean, wherever in whatever image people are."""

from __future__ import annotations

import numpy as np
import pytest

from crowd4d_ros.config import DetectionConfig
from crowd4d_ros.initialization.detection import BINS, STRIDES, NanoDet, decode, non_maximum_suppression
from crowd4d_ros.initialization.weights import Model, ModelError
from crowd4d_ros.window import FloatArray

CLASSES, CERTAIN = 80, 60.0


@pytest.fixture(scope="module")
def detector() -> NanoDet:
    return NanoDet(DetectionConfig(), "cpu")


def silent(width: int, height: int) -> list[FloatArray]:
    cells = [(width // stride) * (height // stride) for stride in STRIDES]
    return [np.zeros((1, n, CLASSES)) for n in cells] + [np.zeros((1, n, 4 * BINS)) for n in cells]


def test_a_cell_says_how_far_its_sides_are_in_strides() -> None:
    width, height, level, column, row, sides = 96, 64, 1, 3, 2, (1, 2, 3, 0)
    outputs, cell = silent(width, height), row * (width // STRIDES[level]) + column
    outputs[level][0, cell, 0] = 0.9
    for side, bin_ in enumerate(sides):
        outputs[3 + level][0, cell, side * BINS + bin_] = CERTAIN
    corners, scores = decode(outputs, width, 0.5)
    stride = STRIDES[level]
    x, y = (column + 0.5) * stride, (row + 0.5) * stride
    expected = [x - 1 * stride, y - 2 * stride, x + 3 * stride, y]
    np.testing.assert_allclose(corners, [expected], atol=1e-9)
    np.testing.assert_allclose(scores, [0.9])


def test_an_undecided_side_is_the_mean_of_its_bins() -> None:
    outputs = silent(32, 32)
    outputs[2][0, 0, 0] = 0.9
    corners, _ = decode(outputs, 32, 0.5)
    reach = (BINS - 1) / 2 * STRIDES[2]
    np.testing.assert_allclose(corners, [[16 - reach, 16 - reach, 16 + reach, 16 + reach]])


def test_other_classes_and_weak_people_are_left_out() -> None:
    outputs = silent(64, 64)
    outputs[0][0, 5, 1] = 1.0
    outputs[0][0, 6, 0] = 0.2
    corners, scores = decode(outputs, 64, 0.5)
    assert corners.shape == (0, 4)
    assert scores.shape == (0,)


def test_of_two_boxes_on_one_person_the_better_stays() -> None:
    boxes = np.array([[10.0, 10, 20, 60], [12, 11, 20, 60], [100, 10, 20, 60]])
    assert non_maximum_suppression(boxes, np.array([0.5, 0.8, 0.6]), 0.5).tolist() == [1, 2]
    assert len(non_maximum_suppression(boxes[:0], np.zeros(0), 0.5)) == 0


@pytest.mark.parametrize("size", [(1, 1), (31, 7), (101, 333), (240, 320)])
def test_an_image_of_any_size_without_people_has_no_boxes(detector: NanoDet, size: tuple[int, int]) -> None:
    found = detector.detect(np.full((*size, 3), 110, np.uint8))
    assert found.boxes.shape == (0, 4)
    assert found.confidence.shape == (0,)


def test_people_are_found_inside_the_image_best_first(detector: NanoDet, street: FloatArray) -> None:
    found = detector.detect(street)
    people = found.boxes[found.confidence > 0.7]
    expected = [[643, 240, 42, 83], [500, 158, 29, 75], [253, 220, 31, 88]]
    np.testing.assert_allclose(people, expected, atol=3)
    assert (np.diff(found.confidence) <= 0).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= [street.shape[1], street.shape[0]]).all()


def test_boxes_move_with_the_people(detector: NanoDet, street: FloatArray) -> None:
    shift = 128  # a multiple of the network's 32 at both scales: nothing else changes
    person = street[200:330, 590:740]
    boxes = []
    for left in (64, 64 + shift):
        canvas = np.full((256, 480, 3), 110, np.uint8)
        canvas[64 : 64 + person.shape[0], left : left + person.shape[1]] = person
        found = detector.detect(canvas)
        boxes.append(found.boxes[found.confidence > 0.6])
    assert len(boxes[0]) == 1
    np.testing.assert_allclose(boxes[1], boxes[0] + [shift, 0, 0, 0], atol=0.1)


def test_weights_are_known_by_their_hash_and_missing_ones_by_their_name(detector: NanoDet) -> None:
    assert [len(digest) for digest in detector.models.values()] == [64]
    with pytest.raises(ModelError, match="no_such_file"):
        Model("nanodet.onnx", "cpu", "no_such_file.onnx")
    with pytest.raises(ModelError, match="not a model"):
        Model("nanodet.onnx", "cpu", __file__)
