"""Section 3 end to end: what perception would see of a known crowd becomes that crowd again."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic_crowd as synthetic

from crowd4d_ros.config import Config, ConfigError, updated
from crowd4d_ros.device import choose_device
from crowd4d_ros.initialization.initializer import Initializer
from crowd4d_ros.pipeline import Pipeline, velocities
from crowd4d_ros.world import World

FRAMES = 36
SETTINGS = {
    "device": "cpu",
    "window.length": 20,
    "window.overlap": 6,
    "window.pending": 2,
    "calibration.frames": 0,
    "optimization.stage1_iterations": 100,
    "optimization.stage2_iterations": 30,
    "optimization.stage3_iterations": 40,
}
"""Half of the paper's iterations and less: where people stand is settled by then, and only that is looked at."""
CONFIG = updated(Config(), SETTINGS)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(CONFIG)


@pytest.fixture(scope="module")
def truth():
    return synthetic.walkers(6, FRAMES, seed=3)


@pytest.fixture(scope="module")
def windows(truth):
    initializer = Initializer(CONFIG, synthetic.camera())
    for frame in synthetic.observe(truth, synthetic.camera(), seed=3):
        initializer.add(frame)
    return initializer.finish()


@pytest.fixture(scope="module")
def motions(pipeline, windows):
    world, result = World(), []
    for window in windows:
        motion, world = pipeline.step(window, world)
        result.append(motion)
    return result


def rows(motion, truth):
    return [truth.track_ids.tolist().index(track) for track in motion.track_ids]


def test_people_stand_where_they_stood(motions, truth):
    """Horizontally, after the yaw and shift that a world of the first camera leaves open, but no scale."""
    found = np.concatenate([m.support_point[m.valid][:, [0, 2]] for m in motions])
    true = np.concatenate([truth.pelvis[rows(m, truth)][:, m.frames][m.valid][:, [0, 2]] for m in motions])
    found, true = found - found.mean(0), true - true.mean(0)
    u, _, vt = np.linalg.svd(found.T @ true)
    error = np.linalg.norm(found @ (u @ vt) - true, axis=-1)
    assert np.sqrt((error**2).mean()) < 0.4


def test_the_camera_hangs_at_its_height(motions, truth):
    below = np.concatenate([m.support_point[m.valid][:, 1] for m in motions])
    assert -np.median(below) == pytest.approx(truth.camera_height, rel=0.06)


def test_the_lowest_vertex_of_everybody_is_on_the_surface(pipeline, motions):
    for motion in motions:
        _, lowest = pipeline._posed(motion.motion)
        height = (lowest - motion.support_point)[motion.valid][:, 1]
        assert np.sqrt((height**2).mean()) < 0.04


def test_what_a_window_settled_stays(motions):
    first, second = motions[:2]
    _, one, two = np.intersect1d(first.track_ids, second.track_ids, return_indices=True)
    _, t1, t2 = np.intersect1d(first.frames, second.frames, return_indices=True)
    settled = first.frames[t1] <= first.frames[first.is_new].max()
    both = first.valid[one][:, t1] & second.valid[two][:, t2] & settled
    assert both.any()
    moved = first.joints[one][:, t1][both] - second.joints[two][:, t2][both]
    assert np.abs(moved).max() < 1e-3


def test_nobody_jumps_where_windows_meet(motions, truth):
    """Steps across the seam are those of a walk: at most half again the fastest true one."""
    fastest = np.linalg.norm(np.diff(truth.pelvis, axis=1), axis=-1).max()
    path = {}
    for motion in motions:
        for row, track in enumerate(motion.track_ids):
            for t in np.flatnonzero(motion.is_new & motion.valid[row]):
                path.setdefault(track, {})[int(motion.frames[t])] = motion.joints[row, t, 0]
    border = int(motions[0].frames[motions[0].is_new].max())
    steps = [p[border + 1] - p[border] for p in path.values() if border in p and border + 1 in p]
    assert len(steps) >= 2
    assert np.linalg.norm(steps, axis=-1).max() < 1.5 * fastest


def test_the_scale_of_a_metric_scene_is_kept(motions):
    assert {motion.scale for motion in motions} == {1.0}


def test_a_world_from_disk_goes_on_where_it_stopped(windows, tmp_path):
    few_steps = {f"optimization.stage{stage}_iterations": count for stage, count in ((1, 15), (2, 5), (3, 2))}
    pipeline = Pipeline(updated(CONFIG, few_steps))
    _, world = pipeline.step(windows[0], World())
    world.save(tmp_path / "world.npz")
    direct, _ = pipeline.step(windows[1], world)
    again, _ = pipeline.step(windows[1], World.load(tmp_path / "world.npz"))
    np.testing.assert_allclose(direct.joints[direct.valid], again.joints[again.valid], atol=1e-5)


def test_without_a_point_of_the_scene_people_move_by_what_images_show_and_it_is_said(pipeline, windows):
    scene = windows[0].scene
    empty = replace(scene, points=scene.points[:0], confidence=scene.confidence[:0], keyframe=scene.keyframe[:0])
    world = World()
    motion, after = pipeline.step(replace(windows[0], scene=empty), world)
    assert "without the scene" in motion.warnings[0]
    assert motion.hsip_mode == "none"
    assert "proj" in motion.energies
    assert not any(term.startswith("hsip") for term in motion.energies)
    assert after.scale is None


def test_velocity_is_the_slope_of_the_path_and_skips_gaps():
    seconds = np.array([0.0, 0.1, 0.3, 0.4])
    path = np.array([[1.0, 0.0, -2.0]]) * seconds[:, None]
    valid = np.array([[True, True, True, False], [False, True, False, True]])
    velocity = velocities(np.stack([path, path]), valid, seconds)
    np.testing.assert_allclose(velocity[0, :3], np.tile([1.0, 0.0, -2.0], (3, 1)))
    assert not velocity[1].any()


def test_only_devices_that_are_there():
    with pytest.raises(ConfigError, match="tpu"):
        choose_device("tpu")
