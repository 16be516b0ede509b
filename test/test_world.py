"""The world between windows survives a save, and never leaks into another segment."""

import numpy as np
import pytest

from crowd4d_ros.window import BodyMotion
from crowd4d_ros.world import LastWindow, World

rng = np.random.default_rng(0)


def a_world() -> World:
    motion = BodyMotion(
        rng.normal(size=(2, 10)), rng.normal(size=(2, 3, 23, 3)), rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 3))
    )
    last = LastWindow(np.arange(3) * 10**8, np.array([4, 9]), np.array([[True, True, False]] * 2), motion)
    return World(segment_id=1, scale=1.25, scale_is_stable=True, sipc=rng.normal(size=(5, 3)), last=last)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    world = a_world()
    world.save(tmp_path / "world.npz")
    again = World.load(tmp_path / "world.npz")
    assert (again.segment_id, again.scale, again.scale_is_stable) == (1, 1.25, True)
    np.testing.assert_array_equal(again.sipc, world.sipc)
    np.testing.assert_array_equal(again.last.track_ids, world.last.track_ids)
    np.testing.assert_array_equal(again.last.motion.body_pose, world.last.motion.body_pose)


def test_an_empty_world_too(tmp_path):
    World().save(tmp_path / "world.npz")
    assert World.load(tmp_path / "world.npz") == World()


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match="not a saved world"):
        World.load(tmp_path / "other.npz")


def test_another_segment_starts_empty():
    world = a_world()
    assert world.entering(1) is world
    assert world.entering(2) == World(segment_id=2)
