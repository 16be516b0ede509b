"""Gravity, camera height, ground and focal length from synthetic pedestrians whose camera is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowd4d_ros.config import CalibrationConfig
from crowd4d_ros.initialization.gravity import (
    Calibration,
    CalibrationError,
    calibrate,
    camera_rotation,
    gravity_from_pitch_roll,
    pitch_roll,
    statures,
)
from crowd4d_ros.window import FloatArray, FrameObservations, Intrinsics

WIDTH, HEIGHT, FOCAL, RATE = 768, 576, 1000.0, 7.0
CONFIG = CalibrationConfig()
HEIGHTS = {0: 0.915, 3: 0.924, 4: 0.924, 5: 0.81, 6: 0.81, 11: 0.525, 12: 0.525, 13: 0.285, 14: 0.285}
"""Keypoint → share of stature, standing. Feet are made apart."""


def camera(source: str = "camera_info", focal: float = FOCAL) -> Intrinsics:
    K = np.array([[focal, 0.0, WIDTH / 2], [0.0, focal, HEIGHT / 2], [0.0, 0.0, 1.0]])
    return Intrinsics(WIDTH, HEIGHT, K, np.zeros(0), "plumb_bob", K, source)


def pedestrians(
    pitch: float,
    roll: float,
    height: float,
    people: int = 12,
    frames: int = 100,
    slope: float = 0.0,
    noise: float = 1.5,
    focal: float = FOCAL,
    stature: FloatArray | None = None,
    near: float = 9.0,
    far: float = 30.0,
    seed: int = 0,
) -> list[FrameObservations]:
    """People who walk up and down in front of a camera, with swinging feet, a dipping head and noisy pixels.

    slope: degrees by which the ground rises away from the camera.
    """
    rng = np.random.default_rng(seed)
    stature = rng.normal(1.69, 0.09, people) if stature is None else stature
    R = camera_rotation(gravity_from_pitch_roll(pitch, roll))
    time = np.arange(frames) / RATE
    start = np.stack([rng.uniform(-0.3, 0.3, people), rng.uniform(near, far, people)], -1)
    start[:, 0] *= start[:, 1]
    course = rng.uniform(0, 2 * np.pi, people)
    heading = np.stack([np.cos(course), np.sin(course)], -1)
    leg = 8.0
    phase = (rng.uniform(0, 2 * leg, people)[:, None] + 1.3 * time) % (2 * leg)
    back = phase > leg
    along = np.where(back, 2 * leg - phase, phase) - leg / 2
    place = start[:, None] + along[..., None] * heading[:, None]
    facing = np.where(back, -1.0, 1.0)[..., None] * heading[:, None]

    stride = 2 * np.pi * 0.9 * time + rng.uniform(0, 6, people)[:, None]
    rise = np.tan(np.radians(slope)) * (place[..., 1] - near)
    ground = np.stack([place[..., 0], rise - height, -place[..., 1]], -1)
    forward = np.stack([facing[..., 0], 0 * rise, -facing[..., 1]], -1)
    s = stature[:, None, None]
    points = np.zeros((people, frames, 23, 3))
    for joint, share in HEIGHTS.items():
        lift = s * (share - 0.018) + 0.025 + 0.02 * np.cos(2 * stride)[..., None]
        points[:, :, joint] = ground + lift * [0, 1, 0] + (0.03 * s if joint < 5 else 0.0) * forward
    for side, joint in ((0.0, 15), (np.pi, 16)):
        swing = np.sin(stride + side)[..., None]
        lift = s * 0.042 + 0.025 + 0.14 * np.maximum(np.cos(stride + side)[..., None], 0)
        points[:, :, joint] = ground + lift * [0, 1, 0] + (0.17 * swing - 0.02) * s * forward
    sway = rng.normal(0, 0.015, points.shape) + rng.normal(0, 0.008, (people, 1, 23, 3))
    seen = (points + sway) @ R.T
    pixels = seen[..., :2] / np.maximum(seen[..., 2:], 0.1) * focal + [WIDTH / 2, HEIGHT / 2]
    pixels += rng.normal(0, noise, pixels.shape)
    used = [*HEIGHTS, 15, 16]
    low, high = pixels[:, :, used].min(2), pixels[:, :, used].max(2)
    boxes = np.concatenate([low - 3, high - low + 6], -1)
    visible = (low > 0).all(-1) & (high < [WIDTH, HEIGHT]).all(-1) & (seen[:, :, used, 2].min(-1) > 1)
    hips = seen[:, :, [11, 12]].mean(2, keepdims=True)
    frames_seen = []
    for t in range(frames):
        here = np.flatnonzero(visible[:, t])
        frames_seen.append(
            FrameObservations(
                stamp=int(time[t] * 1e9),
                index=t,
                track_ids=here + 1,
                boxes=boxes[here, t].astype(np.float32),
                box_confidence=np.ones(len(here), np.float32),
                keypoints_2d=pixels[here, t].astype(np.float32),
                keypoints_confidence=np.full((len(here), 23), 0.9, np.float32),
                landmarks_3d=(seen - hips)[here, t].astype(np.float32),
                masks=tuple(np.zeros(0, np.uint32) for _ in here),
            )
        )
    return frames_seen


def angle(a: FloatArray, b: FloatArray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def finite(result: Calibration) -> bool:
    numbers = [result.gravity, result.covariance, result.ground_normal, result.stature, result.stature_sigma]
    return all(np.isfinite(n).all() for n in numbers) and np.isfinite(result.camera_height_sigma)


@pytest.mark.parametrize(("pitch", "roll", "height"), [(8, 0, 2.5), (16, 3, 7), (28, -6, 9), (42, 10, 12)])
def test_camera_is_recovered(pitch: float, roll: float, height: float) -> None:
    walkers = pedestrians(pitch, roll, height, near=height, far=3.5 * height)
    result = calibrate(walkers, camera(), CONFIG)
    assert result.pitch == pytest.approx(pitch, abs=1.0)
    assert result.roll == pytest.approx(roll, abs=1.0)
    assert result.camera_height == pytest.approx(height, abs=2.5 * result.camera_height_sigma)
    assert result.source == "people"


def test_known_average_stature_gives_the_metre() -> None:
    result = calibrate(pedestrians(16, 0, 6, people=16, stature=np.full(16, 1.69)), camera(), CONFIG)
    assert result.camera_height == pytest.approx(6, rel=0.04)


def test_statures_keep_their_ratios() -> None:
    tall_and_short = np.array([1.55, 1.85] * 6)
    walkers = pedestrians(16, 0, 6, stature=tall_and_short)
    result = calibrate(walkers, camera(), CONFIG)
    truth = tall_and_short[result.track_ids - 1]
    ratio = result.stature / truth
    assert ratio.std() < 0.02
    again, sigma = statures(np.array([2, 1, 77]), walkers, result, CONFIG)
    assert again[:2] == pytest.approx(result.stature[[1, 0]], rel=0.01)
    assert again[2] == pytest.approx(CONFIG.stature, rel=0.03)
    assert sigma[0] < 0.05 < sigma[2]


def test_uncertainty_is_honest() -> None:
    """Over many crowds, errors of pitch, roll and height stay within what the result says of itself."""
    off = []
    for seed in range(6):
        result = calibrate(pedestrians(15, 2, 6, people=6, frames=40, seed=seed), camera(), CONFIG)
        error = angle(result.gravity, gravity_from_pitch_roll(15, 2)) / result.gravity_sigma
        off.append([error, (result.camera_height - 6) / result.camera_height_sigma])
    assert np.sqrt(np.mean(np.square(off), 0)).max() < 1.6


def test_more_people_know_better() -> None:
    few = calibrate(pedestrians(15, 0, 5, people=3, frames=30), camera(), CONFIG)
    many = calibrate(pedestrians(15, 0, 5, people=20, frames=100), camera(), CONFIG)
    assert many.camera_height_sigma < few.camera_height_sigma
    assert many.gravity_sigma < few.gravity_sigma


def test_outliers_do_not_matter() -> None:
    """A tenth of the people swaps feet and head, or is half a person behind a wall."""
    walkers = pedestrians(16, 3, 7)
    rng = np.random.default_rng(1)
    spoiled = []
    for frame in walkers:
        pixels = frame.keypoints_2d.copy()
        swapped = rng.random(len(pixels)) < 0.06
        pixels[swapped] = 2 * pixels[swapped].mean(1, keepdims=True) - pixels[swapped]
        cut = rng.random(len(pixels)) < 0.06
        pixels[cut, 13:, 1] = pixels[cut, 11:12, 1]
        spoiled.append(replace(frame, keypoints_2d=pixels))
    result = calibrate(spoiled, camera(), CONFIG)
    assert angle(result.gravity, gravity_from_pitch_roll(16, 3)) < 1.2
    assert result.camera_height == pytest.approx(7, rel=0.08)


def test_sitting_and_cut_people_are_left_out() -> None:
    walkers = pedestrians(16, 3, 7, frames=30)
    bent = []
    for frame in walkers:
        landmarks = frame.landmarks_3d.copy()
        landmarks[:, 13:] = landmarks[:, 11:12] + np.array([0.4, 0.0, 0.0], np.float32)
        bent.append(replace(frame, landmarks_3d=landmarks))
    assert calibrate(bent, camera(), CONFIG).num_people == 0
    at_the_edge = [replace(f, boxes=f.boxes * [0, 1, 1, 1]) for f in walkers]
    assert calibrate(at_the_edge, camera(), CONFIG).num_people == 0


def test_a_hill_is_not_taken_for_a_tilted_camera() -> None:
    hill = calibrate(pedestrians(20, 0, 6, people=20, slope=8, frames=80), camera(), CONFIG)
    assert hill.slope == pytest.approx(8, abs=2.0)
    assert hill.pitch == pytest.approx(20, abs=1.5)
    level = calibrate(pedestrians(20, 0, 6, people=20, frames=80), camera(), CONFIG)
    assert level.slope < 1.0


def test_focal_length_is_estimated_and_said_to_be() -> None:
    walkers = pedestrians(25, 0, 6, people=20, focal=700.0, near=6, far=20)
    result = calibrate(walkers, camera("estimated", focal=2000.0), CONFIG)
    assert result.focal_estimated
    assert any("focal length" in warning for warning in result.warnings)
    assert result.intrinsics.K_rectified[0, 0] == pytest.approx(700, abs=2.5 * result.focal_sigma)
    assert result.focal_sigma < 0.35 * WIDTH
    assert result.pitch == pytest.approx(25, abs=4)


def test_nobody_is_a_warning_and_the_prior() -> None:
    for nothing in ([], pedestrians(15, 0, 5, people=1, frames=3, near=900, far=901)):
        result = calibrate(nothing, camera(), CONFIG)
        assert result.source == "none"
        assert result.camera_height == pytest.approx(CONFIG.height)
        assert result.gravity_sigma > 10
        assert "no upright people" in result.warnings[0]
        assert finite(result)


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_one_person_is_enough_for_something(frames: int) -> None:
    result = calibrate(pedestrians(15, 0, 4, people=1, frames=frames, near=10, far=11), camera(), CONFIG)
    assert finite(result)
    assert result.num_people == 1
    assert "1 upright" in result.warnings[0]
    assert angle(result.gravity, gravity_from_pitch_roll(15, 0)) < 3 * result.gravity_sigma


def test_not_a_number_in_the_observations_is_ignored() -> None:
    walkers = pedestrians(15, 0, 5, frames=30)
    broken = walkers[3].keypoints_2d.copy()
    broken[0] = np.nan
    walkers[3] = replace(walkers[3], keypoints_2d=broken)
    assert finite(calibrate(walkers, camera(), CONFIG))


def test_camera_without_focal_length_is_refused() -> None:
    broken = replace(camera(), K_rectified=np.zeros((3, 3)))
    with pytest.raises(CalibrationError, match="CameraInfo"):
        calibrate([], broken, CONFIG)


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (15, 3), (-10, -20), (60, 170), (89, 0)])
def test_pitch_and_roll_go_there_and_back(pitch: float, roll: float) -> None:
    gravity = gravity_from_pitch_roll(pitch, roll)
    assert pitch_roll(gravity) == pytest.approx((pitch, roll))
    R = camera_rotation(gravity)
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(R.T @ gravity, [0, -1, 0], atol=1e-12)
    optical_axis = R.T @ [0, 0, 1]
    assert optical_axis[0] == pytest.approx(0, abs=1e-9)
    assert optical_axis[2] <= 0


def test_a_camera_that_looks_straight_down_has_a_world() -> None:
    R = camera_rotation(np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(R.T @ [0, -1, 0], [0, 0, -1], atol=1e-12)
