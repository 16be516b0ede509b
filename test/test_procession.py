"""A procession: one way, one pace, nobody in anybody's way; half of it behind pillars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.paths import PathsError, crowd_paths
from crowd4d_ros.synthetic.scenes import make_scene
from crowd4d_ros.synthetic.truth import Paths, Scene
from crowd4d_ros.window import FloatArray

FPS = 10.0
PEOPLE, FRAMES = 24, 60


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene("colonnade", np.random.default_rng(0))


def march(scene: Scene, seed: int, people: int = PEOPLE, **settings: float) -> Paths:
    rng = np.random.default_rng(seed)
    return crowd_paths(scene, people, FRAMES, FPS, replace(PathsConfig(), **settings), rng, scene.walkable)


def speeds(paths: Paths) -> FloatArray:
    """(N, T − 1) m/s."""
    return np.asarray(np.linalg.norm(np.diff(paths.position, axis=1), axis=-1) * FPS)


def test_the_same_seed_walks_the_same_way_and_another_seed_another(scene: Scene) -> None:
    assert march(scene, 1).position.tobytes() == march(scene, 1).position.tobytes()
    assert march(scene, 1).position.tobytes() != march(scene, 2).position.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_nobody_touches_anybody_or_leaves_what_is_walkable(scene: Scene, seed: int) -> None:
    position = march(scene, seed).position
    apart = np.linalg.norm(position[:, None] - position, axis=-1) + 10 * np.eye(PEOPLE)[..., None]
    assert apart.min() > 0.35
    node = np.rint((position - scene.terrain.corner) / scene.terrain.spacing).astype(int)
    assert scene.walkable[tuple(np.moveaxis(node, -1, 0))].all()


@pytest.mark.parametrize("seed", range(4))
def test_all_slow_down_and_go_on_together(scene: Scene, seed: int) -> None:
    """So neighbours tell what a straight line does not: where somebody is who walks behind a pillar for two seconds."""
    paths = march(scene, seed, procession_wander=0.0)
    speed = speeds(paths)
    assert speed.min() < 0.5 * speed.mean()
    assert speed.max() > 1.5 * speed.mean()
    assert np.corrcoef(speed).min() > 0.5
    assert np.median(np.corrcoef(speed)) > 0.9
    gap = 20
    middle = paths.position[:, gap // 2 : -gap // 2]
    line = 0.5 * (paths.position[:, :-gap] + paths.position[:, gap:])
    moved = middle - line
    beside = moved - moved[[4, 5, 6, 7, *range(PEOPLE - 4)]]  # those a rank before or behind
    assert np.linalg.norm(moved, axis=-1).max() > 0.25
    assert np.sqrt((beside**2).mean()) < 0.5 * np.sqrt((moved**2).mean())


def test_bodies_face_where_they_walk(scene: Scene) -> None:
    paths = march(scene, 3, procession_wander=0.0)
    step = np.diff(paths.position, axis=1)
    facing = np.stack([np.sin(paths.heading), np.cos(paths.heading)], -1)[:, 1:]
    along = (step * facing).sum(-1) / np.maximum(np.linalg.norm(step, axis=-1), 1e-9)
    assert along.min() > 0.99


def test_who_does_not_fit_or_cannot_be_seen_is_refused(scene: Scene) -> None:
    with pytest.raises(PathsError, match="500 people are longer than the way through the scene 'colonnade'"):
        march(scene, 0, people=500)
    nowhere = np.zeros_like(scene.walkable)
    with pytest.raises(PathsError, match="sees nothing of the way"):
        crowd_paths(scene, 5, 10, FPS, PathsConfig(), np.random.default_rng(0), nowhere)
