"""The metric scale from the bodies that stand on the scene (Eq. 2)."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.scale import ScaleError, initial_scale, robust_mean
from crowd4d_ros.window import Cameras, ScenePoints

CONFIG = InteractionConfig()
PEOPLE, FRAMES = 12, 10


def a_scene(scale, slope=0.05, seed=0):
    """Feet on a slope, seen by a moving camera; scene and camera path come ``scale`` times too small."""
    rng = np.random.default_rng(seed)
    xz = rng.uniform([-10, -40], [10, -8], (PEOPLE, 2))[:, None] + rng.normal(0, 0.5, (PEOPLE, FRAMES, 2))
    feet = np.stack([xz[..., 0], -4 + slope * xz[..., 0], xz[..., 1]], -1)
    centers = np.arange(FRAMES)[:, None] * np.array([0.3, 0.02, -0.1])
    R = Rotation.from_euler("y", 0.02 * np.arange(FRAMES)[:, None]).as_matrix()
    t = -np.einsum("tij,tj->ti", R, centers / scale)
    ground = rng.uniform([-30, -60], [30, 5], (20000, 2))
    points = np.stack([ground[:, 0], -4 + slope * ground[:, 0], ground[:, 1]], -1)
    scene = ScenePoints(points / scale, np.ones(len(points)), np.zeros(len(points), int))
    lowest = feet - centers + centers / scale
    return lowest, np.ones((PEOPLE, FRAMES), bool), Cameras(R, t, "model"), scene


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.0, 1.3, 25.0])
def test_the_scale_of_a_consistent_world_is_found(scale):
    found = initial_scale(*a_scene(scale), CONFIG)
    assert found.value == pytest.approx(scale, rel=5e-3)
    assert found.spread < 0.02
    assert found.pairs > 0.8 * PEOPLE * FRAMES


def test_wrong_tracks_do_not_scale_the_world():
    lowest, valid, cameras, scene = a_scene(1.3)
    centers = cameras.centers
    lowest[:4] = centers + (lowest[:4] - centers) * 0.55  # a third are children taken for adults
    assert initial_scale(lowest, valid, cameras, scene, CONFIG).value == pytest.approx(1.3, rel=0.02)


def test_the_near_decide():
    weights = 1 / np.array([10.0, 10, 10, 30]) ** 2
    expected = np.average([1.0, 1.01, 0.99, 1.02], weights=weights)
    found = robust_mean(np.array([1.0, 1.01, 0.99, 1.02]), weights, CONFIG)
    assert found.value == pytest.approx(expected)
    assert found.pairs == 4


def test_who_is_looked_up_at_does_not_scale_the_world():
    """Most stand on a plateau as high as the camera, whose top it does not see: their rays meet the slope before it."""
    lowest, valid, cameras, scene = a_scene(1.3, slope=0.0)
    rng = np.random.default_rng(1)
    slope = rng.uniform([-30, -56], [30, -50], (4000, 2))
    points = np.stack([slope[:, 0], -54 - slope[:, 1], slope[:, 1]], -1)
    ground = scene.points[scene.points[:, 2] > -50 / 1.3]
    points = np.concatenate([ground, points / 1.3])
    scene = ScenePoints(points, np.ones(len(points)), np.zeros(len(points), int))
    still = replace(cameras, R=np.broadcast_to(np.eye(3), cameras.R.shape), t=np.zeros_like(cameras.t))
    above = rng.uniform([-10, -70], [10, -62], (8, 2))[:, None] + np.zeros((8, FRAMES, 2))
    lowest = lowest + (1.3 - 1) * cameras.centers
    lowest[4:] = np.stack([above[..., 0], np.full((8, FRAMES), -0.1), above[..., 1]], -1)
    assert initial_scale(lowest, valid, still, scene, CONFIG).value == pytest.approx(1.3, rel=0.02)


def test_padding_is_never_read():
    lowest, valid, cameras, scene = a_scene(1.3)
    valid[3:, 4:] = False
    expected = initial_scale(lowest, valid, cameras, scene, CONFIG)
    assert initial_scale(np.where(valid[..., None], lowest, np.nan), valid, cameras, scene, CONFIG) == expected


def test_nobody_and_nothing_are_clear_errors():
    lowest, valid, cameras, scene = a_scene(1.0)
    with pytest.raises(ScaleError, match="nobody is visible"):
        initial_scale(lowest, np.zeros_like(valid), cameras, scene, CONFIG)
    with pytest.raises(ScaleError, match="gravity"):
        initial_scale(lowest * [1, -1, 1] + [0, 9, 0], valid, cameras, scene, CONFIG)
    at_cameras = replace(scene, points=cameras.centers[scene.keyframe])
    with pytest.raises(ScaleError, match="in the cameras"):
        initial_scale(lowest, valid, cameras, at_cameras, CONFIG)
    with pytest.raises(ValueError, match=r"interaction\.confidence"):
        initial_scale(lowest, valid, cameras, replace(scene, confidence=np.zeros(len(scene.points))), CONFIG)
