"""Crowd paths: people keep apart and off structures, groups stay together, bodies face their way, seats are met."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.navigation import Ground, Routes
from crowd4d_ros.synthetic.paths import PathsError, crowd_paths
from crowd4d_ros.synthetic.structures import NO_STRUCTURES
from crowd4d_ros.synthetic.truth import Activity, Paths, Scene
from crowd4d_ros.window import BoolArray, FloatArray

CONFIG = PathsConfig()
FPS = 10.0
SPACING = 0.25
SEAT_HEIGHT = 0.45


def open_ground(size: float = 40.0, grade: float = 0.0) -> Scene:
    """A square that rises by ``grade`` along x; its middle is the origin."""
    nodes = int(size / SPACING) + 1
    x = SPACING * np.arange(nodes) - size / 2
    heights = np.repeat(grade * x[:, None], nodes, 1)
    plane = np.array([grade, 0.0, 0.0])
    terrain = Surface(heights, x[[0, 0]], SPACING, np.ones((nodes - 1, nodes - 1, 2), bool), plane)
    walkable = np.ones((nodes, nodes), bool)
    return Scene("test", terrain, NO_STRUCTURES, walkable, np.zeros((0, 2)), np.zeros((0, 3)), np.zeros(0))


def grid(scene: Scene) -> tuple[FloatArray, FloatArray]:
    x, z = np.indices(scene.walkable.shape) * SPACING + scene.terrain.corner[:, None, None]
    return x, z


def square() -> Scene:
    """A fountain and a wall on open ground, with gates at two sides and two benches that face each other."""
    scene = open_ground()
    x, z = grid(scene)
    bench = (np.abs(x) < 1.5) & ((np.abs(z - 8) < 0.5) | (np.abs(z - 12) < 0.5))
    walkable = (np.hypot(x - 8, z + 6) > 4) & ~((np.abs(x + 8) < 0.6) & (np.abs(z) < 8)) & ~bench
    seats = np.array([[along, SEAT_HEIGHT, z] for z in (8.0, 12.0) for along in (-1.0, -0.4, 0.4, 1.0)])
    heading = np.repeat([0.0, np.pi], 4)
    gates = np.array([[-19.0, 0.0], [19.0, 2.0]])
    return replace(scene, walkable=walkable, gates=gates, seats=seats, seat_heading=heading)


def walk(scene: Scene, people: int, frames: int = 100, seed: int = 0, **settings: float | tuple[float, ...]) -> Paths:
    return crowd_paths(scene, people, frames, FPS, replace(CONFIG, **settings), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def crowd() -> Paths:
    return walk(square(), 100)


@pytest.fixture(scope="module")
def sitters() -> Paths:
    """Nearly everybody wants to sit, though not for long."""
    return walk(square(), 25, 300, seed=3, sit_share=0.9, sit_time=(4.0, 3.0), stop_share=0.0, standing_share=0.0)


def steps(paths: Paths) -> tuple[FloatArray, BoolArray]:
    """Velocities (N, T − 1, 2) between frames, and where both are there."""
    return np.diff(paths.position, axis=1) * FPS, paths.present[:, 1:] & paths.present[:, :-1]


def facing(paths: Paths) -> FloatArray:
    return np.stack([np.sin(paths.heading), np.cos(paths.heading)], -1)


def walking_speed(paths: Paths) -> float:
    velocity, there = steps(paths)
    return float(np.median(np.linalg.norm(velocity, axis=-1)[there & (paths.activity[:, 1:] == Activity.WALK)]))


def walkable_at(scene: Scene, xz: FloatArray) -> BoolArray:
    node = np.rint((xz - scene.terrain.corner) / SPACING).astype(int)
    return scene.walkable[node[..., 0], node[..., 1]]


def test_nobody_is_inside_another(crowd: Paths) -> None:
    for position, present in zip(np.swapaxes(crowd.position, 0, 1), crowd.present.T, strict=True):
        here = position[present]
        apart = np.linalg.norm(here[:, None] - here, axis=-1) + np.eye(len(here))
        assert apart.min() > 0.35


def test_nobody_is_inside_a_structure_but_those_about_to_sit(crowd: Paths) -> None:
    scene = square()
    to_seat = np.linalg.norm(crowd.position[:, :, None] - scene.seats[:, [0, 2]], axis=-1).min(-1)
    assert (walkable_at(scene, crowd.position) | ~crowd.present | (to_seat < 1)).all()


def test_a_crowd_walks_stands_and_sits_and_people_come_and_leave(crowd: Paths) -> None:
    share = np.bincount(crowd.activity[crowd.present], minlength=3) / crowd.present.sum()
    assert share[Activity.WALK] > 0.5
    assert share[Activity.STAND] > 0.05
    assert share[Activity.SIT] > 0.01
    assert (~crowd.present[:, 0] & crowd.present[:, -1]).any()
    assert (crowd.present[:, 0] & ~crowd.present[:, -1]).any()


def test_present_frames_are_consecutive(crowd: Paths) -> None:
    assert (np.abs(np.diff(crowd.present.astype(int), prepend=0, append=0, axis=1)).sum(1) == 2).all()


def test_who_comes_or_leaves_does_so_at_a_gate(crowd: Paths) -> None:
    gates = square().gates
    comes = np.argwhere(~crowd.present[:, :-1] & crowd.present[:, 1:])
    leaves = np.argwhere(crowd.present[:, :-1] & ~crowd.present[:, 1:])
    for person, frame in [*(comes + np.array([0, 1])), *leaves]:
        assert np.linalg.norm(crowd.position[person, frame] - gates, axis=-1).min() < 2.5


def test_groups_of_two_to_four_are_about_half_of_the_people_and_stay_together(crowd: Paths) -> None:
    size = np.bincount(crowd.group)[crowd.group]
    assert size.max() <= 4
    assert 0.3 <= np.mean(size > 1) <= 0.5
    apart = []
    for group in np.unique(crowd.group[size > 1]):
        rows = np.flatnonzero(crowd.group == group)
        together = (crowd.present[rows] & (crowd.activity[rows] == Activity.WALK)).all(0)
        way = crowd.position[rows][:, together]
        apart.append(np.linalg.norm(way - way.mean(0), axis=-1).ravel())
    assert np.median(np.concatenate(apart)) < 0.8
    assert np.percentile(np.concatenate(apart), 95) < 2.0


def test_a_pair_walks_abreast() -> None:
    walks = {"standing_share": 0.0, "stop_share": 0.0, "stop_rate": 0.0}
    paths = walk(open_ground(), 2, seed=1, group_share=1.0, group_sizes=(1.0, 0.0, 0.0), **walks)
    way = facing(paths).mean(0)
    apart = paths.position[1] - paths.position[0]
    across = np.abs(apart[:, 0] * way[:, 1] - apart[:, 1] * way[:, 0])
    assert np.median(across) == pytest.approx(CONFIG.abreast, abs=0.15)
    assert np.median(np.abs((apart * way).sum(-1))) < 0.3


def test_people_walk_as_fast_as_weidmann_says_on_the_level_and_more_slowly_on_a_stair() -> None:
    level, stair = (walking_speed(walk(open_ground(grade=grade), 60, 50)) for grade in (0.0, 0.5))
    assert level == pytest.approx(1.3, abs=0.15)
    assert stair < 0.8 * level


def test_bodies_face_where_they_walk_and_turn_gradually(crowd: Paths) -> None:
    velocity, there = steps(crowd)
    speed = np.linalg.norm(velocity, axis=-1)
    walks = there & (speed > 0.5) & (crowd.activity[:, 1:] == Activity.WALK)
    cosine = (velocity * facing(crowd)[:, 1:]).sum(-1)[walks] / speed[walks]
    assert np.percentile(cosine, 5) > np.cos(np.radians(20))
    assert (np.abs(np.diff(crowd.heading, axis=1)) * FPS < np.radians(180)).all()


def test_nobody_jerks(crowd: Paths) -> None:
    velocity, there = steps(crowd)
    acceleration = np.linalg.norm(np.diff(velocity, axis=1) * FPS, axis=-1)[there[:, 1:] & there[:, :-1]]
    assert np.percentile(acceleration, 99.5) < 3.0


def test_people_who_talk_stand_in_a_circle_and_face_its_middle() -> None:
    paths = walk(open_ground(), 3, group_share=1.0, group_sizes=(0.0, 1.0, 0.0), standing_share=1.0, stand_time=(60, 1))
    assert (paths.activity == Activity.STAND).all()
    to_middle = paths.position.mean(0) - paths.position
    radius = np.linalg.norm(to_middle, axis=-1)
    np.testing.assert_allclose(radius, radius[0, 0], atol=0.1)
    assert ((to_middle * facing(paths)).sum(-1) / radius > 0.95).all()


def test_somebody_who_stands_alone_looks_around() -> None:
    settings = {"group_share": 0.0, "standing_share": 1.0, "stop_rate": 0.0, "look_rate": 0.5}
    paths = walk(open_ground(), 5, seed=2, stand_time=(60, 1), **settings)
    np.testing.assert_allclose(paths.position, paths.position[:, :1].repeat(100, 1), atol=1e-9)
    assert (np.ptp(paths.heading, axis=1) > np.radians(20)).mean() > 0.5


def runs(sits: BoolArray) -> list[tuple[int, int]]:
    """First frame of each run, and the first after it."""
    change = np.flatnonzero(np.diff(sits.astype(int), prepend=0, append=0))
    return [(int(first), int(end)) for first, end in change.reshape(-1, 2)]


def test_who_sits_rests_exactly_on_a_seat_and_faces_as_it_does(sitters: Paths) -> None:
    scene, second = square(), round(FPS * CONFIG.sit_down)
    whole = 0
    for person, sits in enumerate(sitters.activity == Activity.SIT):
        for first, end in runs(sits):
            begins, ends = first > 0, end < len(sits)
            whole += begins and ends
            rest = slice(first + second * begins + 1, end - second * ends - 1)
            if rest.stop <= rest.start:  # sat down just before the last frame
                continue
            gap = np.linalg.norm(scene.seats[:, [0, 2]] - sitters.position[person, rest][0], axis=-1)
            seat = gap.argmin()
            np.testing.assert_allclose(sitters.position[person, rest] - scene.seats[seat, [0, 2]], 0.0, atol=1e-3)
            np.testing.assert_allclose(facing(sitters)[person, rest] @ facing_of(scene)[seat], 1.0, atol=1e-3)
            assert (sitters.seat[person, first:end] == SEAT_HEIGHT).all()
            # who sits down or rises within the frames moves straight between the seat and before it
            for frame in [first] * begins + [end - 1] * ends:
                before = (sitters.position[person, frame] - scene.seats[seat, [0, 2]]) @ facing_of(scene)[seat]
                assert before == pytest.approx(CONFIG.sit_reach, abs=0.02)
    assert whole >= 2
    assert np.isnan(sitters.seat[sitters.activity != Activity.SIT]).all()


def facing_of(scene: Scene) -> FloatArray:
    return np.stack([np.sin(scene.seat_heading), np.cos(scene.seat_heading)], -1)


def test_nobody_shares_a_seat(sitters: Paths) -> None:
    for position, sits in zip(np.swapaxes(sitters.position, 0, 1), (sitters.activity == Activity.SIT).T, strict=True):
        apart = np.linalg.norm(position[sits][:, None] - position[sits], axis=-1) + np.eye(sits.sum())
        assert apart.min(initial=1.0) > 0.45


def test_ways_lead_around_a_wall() -> None:
    scene = square()
    ground = Ground.of(scene, CONFIG)
    routes = Routes(ground, scene.walkable, CONFIG)
    start, goal = np.array([[-12.0, 0.0]]), np.array([[-4.0, 0.0]])
    target = routes.add(goal)
    assert 16 < routes.distance[0, routes.node_of(start)[0]] < 30  # straight, it would be 8 m through the wall
    here = start
    for _ in range(400):
        ahead = routes.waypoint(here, target, goal) - here
        here = here + 0.1 * ahead / max(np.linalg.norm(ahead), 0.1)
        assert ground.at(here)[0, 0] > -SPACING  # sights may graze a corner; walkers are kept off it
    np.testing.assert_allclose(here, goal, atol=0.05)


def test_most_of_the_crowd_is_in_the_region() -> None:
    scene = open_ground(60.0)
    x, z = grid(scene)
    region = (np.abs(x - 10) < 12) & (np.abs(z) < 12)
    paths = crowd_paths(scene, 40, 60, FPS, CONFIG, np.random.default_rng(0), region)
    inside = (np.abs(paths.position - [10, 0]) < 12).all(-1)
    assert inside[paths.present].mean() > 0.9


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, again, other = (walk(square(), 20, 20, seed=seed, warm_up=2.0) for seed in (5, 5, 6))
    for field in fields(Paths):
        assert getattr(one, field.name).tobytes() == getattr(again, field.name).tobytes()
    assert one.position.tobytes() != other.position.tobytes()


@pytest.mark.parametrize(("people", "frames"), [(1, 30), (1, 1), (7, 2)])
def test_few_people_and_frames_on_open_ground(people: int, frames: int) -> None:
    paths = walk(open_ground(10.0), people, frames)
    assert paths.position.shape == (people, frames, 2)
    assert paths.present.all()
    assert np.isfinite(paths.position).all()
    assert np.isfinite(paths.heading).all()


def test_what_cannot_be_is_said() -> None:
    scene = open_ground(10.0)
    nowhere = np.zeros_like(scene.walkable)
    with pytest.raises(PathsError, match="fit"):
        walk(scene, 2000)
    with pytest.raises(PathsError, match="walkable"):
        walk(replace(scene, walkable=nowhere), 2)
    with pytest.raises(PathsError, match="region"):
        crowd_paths(scene, 2, 5, FPS, CONFIG, np.random.default_rng(0), nowhere)
    with pytest.raises(PathsError, match="grid"):
        crowd_paths(scene, 2, 5, FPS, CONFIG, np.random.default_rng(0), nowhere[1:])
    with pytest.raises(PathsError, match="positive"):
        walk(scene, 0)
