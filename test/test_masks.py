"""Run-length masks: what goes in comes out, the layout is COCO's, a window means what the image would."""

from __future__ import annotations

import numpy as np
import pytest

from crowd4d_ros.initialization.masks import area, bounds, decode, encode, window


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5), (31, 64)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_decode_undoes_encode(shape: tuple[int, int], share: float, rng: np.random.Generator) -> None:
    mask = rng.random(shape) < share
    runs = encode(mask)
    np.testing.assert_array_equal(decode(runs, *shape), mask)
    assert area(runs) == mask.sum()
    assert runs.sum() == mask.size


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert encode(mask).tolist() == [2, 3, 1]
    assert encode(~mask).tolist() == [0, 2, 3, 1]


def test_runs_alternate_without_gaps(rng: np.random.Generator) -> None:
    runs = encode(rng.random((20, 30)) < 0.5)
    assert (runs[1:] > 0).all()


@pytest.mark.parametrize(("corner", "size"), [((0, 0), (6, 4)), ((3, 0), (12, 2)), ((5, 7), (5, 3)), ((2, 2), (0, 0))])
def test_a_window_is_the_whole_image_with_zeros_around(
    corner: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> None:
    shape, (left, top), (height, width) = (12, 8), corner, size
    window = rng.random(size) < 0.6
    whole = np.zeros(shape, bool)
    whole[top : top + height, left : left + width] = window
    np.testing.assert_array_equal(encode(window, corner, shape), encode(whole))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_a_part_and_the_bounds_are_those_of_the_whole(share: float, rng: np.random.Generator) -> None:
    for shape in [(1, 1), (12, 8), (5, 31)]:
        mask = rng.random(shape) < share
        runs = encode(mask)
        low = rng.integers(0, shape)[::-1]
        high = np.array([rng.integers(low[0], shape[1] + 1), rng.integers(low[1], shape[0] + 1)])
        part = mask[low[1] : high[1], low[0] : high[0]]
        np.testing.assert_array_equal(window(runs, low, high, shape[0]), part)
        rows, columns = np.nonzero(mask)
        inside = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1] if mask.any() else [np.nan] * 4
        np.testing.assert_array_equal(bounds(runs, shape[0]), inside)


def test_no_runs_are_nobody_and_foreign_runs_are_refused() -> None:
    assert not decode(np.zeros(0, np.uint32), 3, 4).any()
    assert not window(np.zeros(0, np.uint32), np.array([1, 1]), np.array([4, 2]), 3).any()
    assert np.isnan(bounds(np.zeros(0, np.uint32), 3)).all()
    with pytest.raises(ValueError, match="does not fit an image of 4x3"):
        decode(np.array([5, 2]), 3, 4)
