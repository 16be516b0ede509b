"""The metrics: the published evaluators' own numbers, and what follows from the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from crowd4d_ros.evaluation.metrics import (
    MISS_MM,
    PROFILES,
    MetricError,
    Profile,
    accel,
    chunks,
    floating,
    foot_skate,
    mpjpe,
    pa_mpjpe,
    pa_ppds,
    pcod,
    penetration,
    ppds,
    scale_error,
    seam_jump,
    similarity,
    step_changes,
    w_mpjpe,
    wa_mpjpe,
)

Array = NDArray[np.float64]
MM, RATIO = 1e-3, 1e-6
PAIR_METRICS = (ppds, pa_ppds, pcod)
JOINT_METRICS = (mpjpe, pa_mpjpe, wa_mpjpe, w_mpjpe)


def rotation(angle: float) -> Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


@pytest.fixture(scope="module")
def track() -> tuple[Array, Array]:
    """One person's joints, estimated and true: (250, 24, 3), in closed form."""
    t, j, c = np.arange(250.0)[:, None, None], np.arange(24)[:, None], np.arange(3)
    gt = 0.3 * np.sin(0.05 * t * (c + 1) + 0.7 * j) + 0.02 * t * [1, 0, 0.5] + [0, 0.9, 5]
    pred = 1.1 * gt @ rotation(0.2).T + [0.5, -0.2, 1] + 0.02 * np.cos(0.11 * t + 1.3 * j + c)
    return pred, gt


@pytest.fixture(scope="module")
def crowd() -> tuple[Array, Array]:
    """Six people's places, estimated and true: (6, 3)."""
    gt = np.array([(0, 0, 10), (2, 0, 11), (-3, 0, 14), (5, 0.2, 20), (-1, 0.1, 20.2), (4, 0, 11.1)])
    pred = gt * [1.1, 1, 0.95] + [0.2, 0, 0.4]
    pred[4] += (0.3, 0, -0.5)
    pred[5] += (0, 0, -0.35)
    return pred, gt


def test_golden_joint_errors(track: tuple[Array, Array]) -> None:
    assert w_mpjpe(*track, profile="standard") == pytest.approx(24.205756, abs=MM)
    assert wa_mpjpe(*track, profile="standard") == pytest.approx(22.217720, abs=MM)
    assert w_mpjpe(*track, profile="standard", tail="merge") == pytest.approx(24.336092, abs=MM)
    assert wa_mpjpe(*track, profile="standard", tail="merge") == pytest.approx(22.236268, abs=MM)
    for profile in PROFILES:
        assert mpjpe(*track, profile=profile) == pytest.approx(88.154573, abs=MM)
        assert pa_mpjpe(*track, profile=profile) == pytest.approx(22.090603, abs=MM)


def test_golden_accelerations(track: tuple[Array, Array]) -> None:
    assert accel(*track, profile="standard", fps=30.0) == pytest.approx(1.1718831, abs=RATIO)
    assert accel(*track, profile="standard", fps=30.0, trim=False) == pytest.approx(1.1711598, abs=RATIO)
    assert accel(*track, profile="author_native") == pytest.approx(3.4386026, abs=RATIO)


def test_golden_crowd_layout(crowd: tuple[Array, Array]) -> None:
    assert ppds(*crowd, profile="author_native") == pytest.approx(0.9400702047, abs=RATIO)
    assert pa_ppds(*crowd, profile="author_native") == pytest.approx(0.9369540687, abs=RATIO)
    assert pa_ppds(*crowd, profile="standard") == pytest.approx(0.9378539050, abs=RATIO)
    assert pcod(*crowd, profile="standard") == pytest.approx(0.9333333, abs=RATIO)
    assert pcod(*crowd, profile="author_native") == pytest.approx(0.8666667, abs=RATIO)


def test_the_pelvis_may_be_subtracted_before(track: tuple[Array, Array]) -> None:
    aligned = [joints - joints[:, 1:3].mean(1, keepdims=True) for joints in track]
    for profile in PROFILES:
        assert mpjpe(*aligned, profile=profile, pelvis=None) == pytest.approx(mpjpe(*track, profile=profile))
        assert accel(*aligned, profile=profile, pelvis=None) == pytest.approx(accel(*track, profile=profile))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_truth_is_perfect(profile: Profile, track: tuple[Array, Array], crowd: tuple[Array, Array]) -> None:
    for layout in PAIR_METRICS:
        assert layout(crowd[1], crowd[1], profile=profile) == pytest.approx(1.0)
    for error in (*JOINT_METRICS, accel):
        assert error(track[1], track[1], profile=profile) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_each_alignment_forgives(profile: Profile, track: tuple[Array, Array], crowd: tuple[Array, Array]) -> None:
    def moved(points: Array) -> Array:
        return 1.3 * points @ rotation(0.5).T + [3.0, -1.0, 2.0]

    places, joints = crowd[1], track[1]
    assert pa_ppds(moved(places), places, profile=profile) == pytest.approx(1.0)
    assert ppds(moved(places), places, profile=profile) == pytest.approx(0.7)  # 1 − |1.3 − 1|
    assert ppds(moved(places) / 1.3, places, profile=profile) == pytest.approx(1.0)
    for aligned in (pa_mpjpe, wa_mpjpe, w_mpjpe):
        assert aligned(moved(joints), joints, profile=profile) == pytest.approx(0.0, abs=1e-6)
    assert mpjpe(moved(joints), joints, profile=profile) > 50.0
    assert mpjpe(joints + np.array([5.0, 0, 0]), joints, profile=profile) == pytest.approx(0.0, abs=1e-6)


def test_a_mirror_image_is_not_forgiven() -> None:
    places, joints = (np.random.default_rng(0).normal(size=shape) for shape in ((8, 3), (5, 24, 3)))
    for profile in PROFILES:
        assert pa_mpjpe(joints * [-1, 1, 1], joints, profile=profile) > 100.0
        assert ppds(places * [-1, 1, 1], places, profile=profile) == pytest.approx(1.0)  # distances do not see it
    assert pa_ppds(places * [-1, 1, 1], places, profile="standard") < 0.95  # Umeyama's scale does


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_small_batches_are_aligned_person_by_person(count: int, track: tuple[Array, Array]) -> None:
    """Public code that tests the batch dimension for 3 transposes batches of 2 or 3 people."""
    alone = [pa_mpjpe(track[0][[t]], track[1][[t]]) for t in range(count)]
    assert pa_mpjpe(track[0][:count], track[1][:count]) == pytest.approx(np.mean(alone))


def test_the_lost_cost_what_the_authors_make_them_cost(track: tuple[Array, Array], crowd: tuple[Array, Array]) -> None:
    pred, gt = (joints[:50].copy() for joints in track)
    pred[10:20] = np.nan
    rest = np.r_[:10, 20:50]
    for error in JOINT_METRICS:
        found = error(pred[rest], gt[rest], profile="author_native")
        assert error(pred, gt, profile="author_native") == pytest.approx((found * 40 + MISS_MM * 10) / 50)
    assert mpjpe(pred, gt, profile="standard") == pytest.approx(mpjpe(pred[rest], gt[rest], profile="standard"))

    lost = crowd[0].copy()
    lost[2, 1] = np.nan  # one coordinate is enough
    others = [0, 1, 3, 4, 5]
    for layout in PAIR_METRICS:
        found = layout(crowd[0][others], crowd[1][others], profile="author_native")
        assert layout(lost, crowd[1], profile="author_native") == pytest.approx(5 / 6 * found)
    assert pcod(lost, crowd[1], profile="standard") == pytest.approx(
        pcod(crowd[0][others], crowd[1][others], profile="standard")
    )


def test_if_nobody_is_found(track: tuple[Array, Array], crowd: tuple[Array, Array]) -> None:
    nothing, nobody = np.full_like(track[1], np.nan), np.full_like(crowd[1], np.nan)
    for layout in PAIR_METRICS:
        assert layout(nobody, crowd[1], profile="author_native") == 0.0
    for error in JOINT_METRICS:
        assert error(nothing, track[1], profile="author_native") == MISS_MM
        assert math.isnan(error(nothing, track[1], profile="standard"))
    for profile in PROFILES:
        assert math.isnan(accel(nothing, track[1], profile=profile))
    assert math.isnan(pcod(nobody, crowd[1], profile="standard"))


@pytest.mark.parametrize("people", [0, 1])
def test_fewer_than_two_people_have_no_layout(people: int, crowd: tuple[Array, Array]) -> None:
    for layout in PAIR_METRICS:
        assert layout(crowd[0][:people], crowd[1][:people], profile="author_native") == 0.0
        assert math.isnan(layout(crowd[0][:people], crowd[1][:people], profile="standard"))
    assert ppds([], []) == 0.0


def test_people_in_one_place_have_no_relative_distance() -> None:
    gt = [[0, 0, 5], [0, 0, 5], [3, 0, 5]]
    assert ppds([[0, 0, 5], [1, 0, 5], [3, 0, 5]], gt) == pytest.approx((1 + 2 / 3) / 2)
    assert ppds(gt[:2], gt[:2], profile="author_native") == 0.0
    assert math.isnan(ppds(gt[:2], gt[:2], profile="standard"))


def test_a_crowd_reconstructed_in_one_point_scores_nothing() -> None:
    gt = np.array([[0, 0, 5], [2, 0, 5], [3, 0, 9.0]])
    assert pa_ppds(np.ones((3, 3)), gt) == ppds(np.ones((3, 3)), gt) == 0.0


def test_ties_in_depth() -> None:
    gt = np.array([[0, 0, 10.0], [1, 0, 10.1]])
    swapped = gt[::-1]
    assert pcod(swapped, gt, profile="standard") == 1.0
    assert pcod(swapped, gt, profile="author_native") == 0.0
    assert pcod([[0, 0, 7], [1, 0, 7]], gt, profile="author_native") == 0.0
    assert pcod([[0, 0, 10.4], [1, 0, 10]], gt, profile="standard") == 0.0


def test_chunks_as_published() -> None:
    def bounds(frames: int, tail: str) -> list[tuple[int, int]]:
        return [(piece.start, piece.stop) for piece in chunks(frames, tail=tail)]  # type: ignore[arg-type]

    assert bounds(250, "keep") == [(0, 100), (100, 200), (200, 250)]
    assert bounds(250, "merge") == [(0, 100), (100, 249)]
    assert bounds(300, "merge") == [(0, 100), (100, 200)]  # published so: the last hundred are lost
    assert bounds(60, "merge") == bounds(60, "keep") == [(0, 60)]
    assert bounds(0, "keep") == []


def test_acceleration_across_a_gap(track: tuple[Array, Array]) -> None:
    pred, gt = (joints[:60].copy() for joints in track)
    whole = accel(pred, gt, profile="standard", trim=False)
    pred[30] = np.nan
    assert accel(pred, gt, profile="standard", trim=False) == pytest.approx(whole, rel=0.1)
    assert accel(pred, gt) == pytest.approx(accel(np.delete(pred, 30, 0), np.delete(gt, 30, 0)))
    assert math.isnan(accel(pred[:2], gt[:2]))
    assert math.isnan(accel(pred[:4], gt[:4], profile="standard"))


def test_a_known_acceleration_error() -> None:
    t = np.arange(10)[:, None, None]
    gt = np.zeros((10, 4, 3))
    pred = 0.5 * 2e-3 * t**2 * np.array([1.0, 0, 0]) * np.ones((4, 1))  # 2 mm/frame²
    assert accel(pred, gt, profile="standard", fps=10.0, pelvis=None) == pytest.approx(0.2)
    assert accel(pred, gt, pelvis=None) == pytest.approx(2.0 * 2.0)  # the norm over four joints
    assert accel(pred, gt) == pytest.approx(0.0)


def test_precision_is_kept_far_from_the_origin(crowd: tuple[Array, Array]) -> None:
    far = np.asarray(crowd[1] + 4096.0, np.float32)
    assert ppds(far, far) == pytest.approx(1.0)
    assert pa_ppds((far - np.float32(4096)).tolist(), far) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ppds(np.zeros((3, 3)), np.zeros((4, 3))), r"\(3, 3\) and gt \(4, 3\)"),
        (lambda: ppds(np.zeros((3, 2)), np.zeros((3, 2))), r"\(people, 3\)"),
        (lambda: mpjpe(np.zeros((3, 3)), np.zeros((3, 3))), r"\(frames, joints, 3\)"),
        (lambda: mpjpe(np.zeros((3, 2, 3)), np.zeros((3, 2, 3))), "there are 2 joints"),
        (lambda: mpjpe(np.zeros((3, 0, 3)), np.zeros((3, 0, 3)), pelvis=None), "no joints"),
        (lambda: ppds(np.zeros((2, 3)), np.full((2, 3), np.nan)), "gt has entries that are not finite"),
        (lambda: ppds(np.full((2, 3), np.inf), np.zeros((2, 3))), "infinite"),
        (lambda: ppds([["a"]], [[1.0]]), "not an array of numbers"),
        (lambda: ppds(np.zeros((2, 3)), np.zeros((2, 3)), profile="coco"), "author_native, standard"),  # type: ignore[arg-type]
        (lambda: accel(np.zeros((5, 3, 3)), np.zeros((5, 3, 3)), fps=0.0), "fps must be positive"),
        (lambda: seam_jump(np.zeros((5, 3)), [True]), "is_border"),
        (lambda: penetration(np.zeros(3), np.zeros(4)), "one shape"),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(call: Callable[[], float], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        call()


def test_a_similarity_is_recovered() -> None:
    points = np.random.default_rng(0).normal(size=(4, 20, 3))
    scale, R, t = similarity(points, 1.7 * points @ rotation(0.4).T + [1.0, 2, 3])
    np.testing.assert_allclose(scale, 1.7)
    np.testing.assert_allclose(R, np.broadcast_to(rotation(0.4), (4, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(t, np.broadcast_to([1.0, 2, 3], (4, 3)), atol=1e-12)


def test_a_jump_at_a_seam_is_measured_in_metres() -> None:
    root = np.arange(20.0)[:, None] * [0.1, 0.0, 0.02] * np.ones((3, 1, 1))
    border = np.zeros(20, bool)
    border[12] = True
    assert seam_jump(root, border) == pytest.approx(0.0)
    root[1, 12:] += [0.0, 0.3, 0.4]
    assert seam_jump(root, border) == pytest.approx(0.5 / 3)
    assert np.nanmax(step_changes(root)[0]) == pytest.approx(0.0)
    root[1, 11] = np.nan
    assert seam_jump(root, border) == pytest.approx(0.0)
    assert math.isnan(seam_jump(root, np.zeros(20, bool)))


def test_feet_that_slide_while_they_stand() -> None:
    gt = np.zeros((21, 2, 3))
    gt[:, 1, 0] = np.arange(21) * 0.2  # the second foot swings at 2 m/s
    pred = gt + np.arange(21)[:, None, None] * [0.005, 0, 0]
    assert foot_skate(pred, gt, fps=10.0) == pytest.approx(0.05)
    assert foot_skate(gt, gt, fps=10.0) == 0.0
    assert math.isnan(foot_skate(pred[:, 1:], gt[:, 1:], fps=10.0))


def test_feet_in_and_above_the_ground() -> None:
    lowest, ground = [0.1, -0.2, np.nan, 0.0], [0.0, 0.0, 0.0, 0.0]
    assert penetration(lowest, ground) == pytest.approx(0.2 / 3)
    assert floating(lowest, ground) == pytest.approx(0.1 / 3)


def test_the_scale_of_a_crowd(crowd: tuple[Array, Array]) -> None:
    assert scale_error(1.1 * crowd[1] + [1, 2, 3], crowd[1]) == pytest.approx(0.1)
    assert math.isnan(scale_error(crowd[0][:1], crowd[1][:1]))
