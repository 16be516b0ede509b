"""The default scene model: a fixed camera over the ground its people walk on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowd4d_ros.config import CalibrationConfig, SceneConfig
from crowd4d_ros.initialization.gravity import (
    Calibration,
    calibrate,
    camera_rotation,
    gravity_from_pitch_roll,
)
from crowd4d_ros.initialization.scene import PeopleScene, intersect_ground
from crowd4d_ros.window import FrameObservations, Intrinsics

WIDTH, HEIGHT = 768, 576
K = np.array([[900.0, 0.0, 384.0], [0.0, 900.0, 288.0], [0.0, 0.0, 1.0]])
CAMERA = Intrinsics(WIDTH, HEIGHT, K, np.zeros(0), "plumb_bob", K)
CONFIG = SceneConfig()


@pytest.fixture
def calibration() -> Calibration:
    """A camera 5 m above level ground, 20 degrees down, 4 degrees rolled."""
    down = gravity_from_pitch_roll(20, 4)
    prior = calibrate([], CAMERA, CalibrationConfig())
    five = {"ground_distance": 5.0, "camera_height": 5.0, "camera_height_sigma": 0.1}
    return replace(prior, gravity=down, ground_normal=-down, source="people", **five)


def feet_at(pixels: np.ndarray, stamp: int = 0) -> FrameObservations:
    """A frame of people with their ankles at pixels (n, 2)."""
    count = len(pixels)
    return FrameObservations(
        stamp=stamp,
        index=stamp,
        track_ids=np.arange(count),
        boxes=np.zeros((count, 4), np.float32),
        box_confidence=np.ones(count, np.float32),
        keypoints_2d=np.tile(pixels[:, None], (1, 23, 1)).astype(np.float32),
        keypoints_confidence=np.ones((count, 23), np.float32),
        landmarks_3d=np.zeros((count, 23, 3), np.float32),
        masks=(),
    )


WALK = [feet_at(np.array([[200.0 + 40 * t, 400.0], [500.0, 300.0 + 10 * t]]), t) for t in range(8)]


def test_fixed_camera_looks_ahead_and_down(calibration: Calibration) -> None:
    cameras, _ = PeopleScene(CONFIG).reconstruct(WALK, CAMERA, calibration)
    assert cameras.R.shape == (8, 3, 3)
    assert cameras.source == "people"
    np.testing.assert_array_equal(cameras.centers, 0)
    np.testing.assert_allclose(cameras.R[5].T @ calibration.gravity, [0, -1, 0], atol=1e-12)
    axis = cameras.R[0].T @ [0, 0, 1]
    np.testing.assert_allclose(axis, [0, -np.sin(np.radians(20)), -np.cos(np.radians(20))], atol=1e-12)


def test_points_are_visible_level_ground(calibration: Calibration) -> None:
    cameras, scene = PeopleScene(CONFIG).reconstruct(WALK, CAMERA, calibration)
    assert len(scene.points) == len(scene.confidence) == len(scene.keyframe) > 100
    np.testing.assert_allclose(scene.points[:, 1], -5.0, atol=1e-4)
    pixels = scene.points @ cameras.R[0].T @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    assert (pixels > -0.01).all()
    assert (pixels < [WIDTH, HEIGHT]).all()
    assert ((scene.confidence > 0) & (scene.confidence <= 1)).all()


def test_sloping_ground_slopes(calibration: Calibration) -> None:
    R = camera_rotation(calibration.gravity)
    normal = np.array([0.0, np.cos(0.1), np.sin(0.1)])
    sloping = replace(calibration, ground_normal=R @ normal)
    _, scene = PeopleScene(CONFIG).reconstruct(WALK, CAMERA, sloping)
    np.testing.assert_allclose(scene.points @ normal, -5.0, atol=1e-4)
    assert np.ptp(scene.points[:, 1]) > 0.5


def test_confidence_falls_away_from_paths(calibration: Calibration) -> None:
    _, scene = PeopleScene(CONFIG).reconstruct(WALK, CAMERA, calibration)
    ankles = np.concatenate([frame.keypoints_2d[:, 15] for frame in WALK]).astype(float)
    walked, _ = intersect_ground(ankles, K, calibration)
    walked = walked @ camera_rotation(calibration.gravity)
    distance = np.linalg.norm(scene.points[:, None, [0, 2]] - walked[None][..., [0, 2]], axis=-1).min(1)
    near, far = scene.confidence[distance < 1], scene.confidence[distance > 8]
    assert near.min() > 0.5
    assert far.max() < 0.2


def test_grid_stays_in_place_between_windows(calibration: Calibration) -> None:
    _, first = PeopleScene(CONFIG).reconstruct(WALK[:4], CAMERA, calibration)
    _, second = PeopleScene(CONFIG).reconstruct(WALK[4:], CAMERA, calibration)
    common = {tuple(p) for p in first.points.round(3)} & {tuple(p) for p in second.points.round(3)}
    assert len(common) > 50


def test_nodes_are_bounded(calibration: Calibration) -> None:
    coarse = replace(CONFIG, max_nodes=400)
    _, scene = PeopleScene(coarse).reconstruct(WALK, CAMERA, calibration)
    assert 0 < len(scene.points) <= 400


NOBODY, IN_THE_SKY = feet_at(np.zeros((0, 2))), feet_at(np.array([[300.0, -300.0]]))


@pytest.mark.parametrize("frames", [[], [NOBODY], [IN_THE_SKY]])
def test_nobody_on_the_ground(calibration: Calibration, frames: list[FrameObservations]) -> None:
    """Nobody, or somebody above the horizon: ground near the camera, so that there always is one."""
    cameras, scene = PeopleScene(CONFIG).reconstruct(frames, CAMERA, calibration)
    assert len(cameras.R) == len(frames)
    assert len(scene.points) > 0
    assert np.isfinite(scene.points).all()


def test_camera_at_the_horizon_has_no_ground(calibration: Calibration) -> None:
    up = gravity_from_pitch_roll(-60, 0)
    skyward = replace(calibration, gravity=up, ground_normal=-up)
    _, scene = PeopleScene(CONFIG).reconstruct(WALK, CAMERA, skyward)
    assert len(scene.points) == 0


def test_rays_meet_the_ground_where_points_project(calibration: Calibration) -> None:
    pixels = np.array([[100.0, 500.0], [384.0, 288.0], [700.0, 350.0], [384.0, -300.0]])
    points, ahead = intersect_ground(pixels, K, calibration)
    assert ahead.tolist() == [True, True, True, False]
    np.testing.assert_allclose(points[:3] @ calibration.ground_normal, -5.0)
    back = points[:3] @ K.T
    np.testing.assert_allclose(back[:, :2] / back[:, 2:], pixels[:3])
