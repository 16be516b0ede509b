"""Feet on the ground: legs that reach, soles that touch, holds that carry, swings that clear, steps that alternate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import FIRST_STEP, Beat, footprints, resampled, walking_beat
from crowd4d_ros.synthetic.planting import (
    Foot,
    Legs,
    Soles,
    about,
    clearance,
    ground,
    lowered,
    moving_feet,
    planted,
    rotation_matrix,
)
from crowd4d_ros.synthetic.truth import Activity, Paths
from crowd4d_ros.window import FloatArray, IntArray

CONFIG = BodiesConfig()
FPS = 30.0
LEFT: IntArray = np.array([0])


def surface(height, spacing: float = 0.1, extent: float = 12.0) -> Surface:  # type: ignore[no-untyped-def]
    """Terrain y = height(x, z) around the origin."""
    at = np.arange(-extent, extent + spacing / 2, spacing)
    x, z = np.meshgrid(at, at, indexing="ij")
    cells = len(at) - 1
    return Surface(height(x, z) + 0.0 * x, np.full(2, -extent), spacing, np.ones((cells, cells, 2), bool), np.zeros(3))


FLAT = surface(lambda x, z: 0 * x)
HILL = surface(lambda x, z: 1.2 * np.sin(x / 3) * np.cos(z / 4))
STAIRS = surface(lambda x, z: 0.16 * np.floor((z + 1e-6) / 0.4))
KERB = surface(lambda x, z: 0.14 * (z > 1.0))


def paths(position: FloatArray, heading: FloatArray, activity: int = Activity.WALK) -> Paths:
    people, frames = heading.shape
    return Paths(
        position,
        heading,
        np.full((people, frames), activity, np.int8),
        np.full((people, frames), np.nan),
        np.ones((people, frames), bool),
        np.arange(people),
    )


def straight(speed: float, frames: int = 120, people: int = 2) -> Paths:
    """Side by side along +z, from z = −2 m."""
    at = np.zeros((people, frames, 2))
    at[..., 0] = 2.0 * np.arange(people)[:, None]
    at[..., 1] = speed * np.arange(frames) / FPS - 2.0
    return paths(at, np.zeros((people, frames)), Activity.WALK if speed else Activity.STAND)


def beat_of(walk: Paths, seed: int = 0) -> tuple[Beat, FloatArray, FloatArray]:
    """The rhythm, where the feet's middle would be, and headings, at FPS."""
    rng = np.random.default_rng(seed)
    route = resampled(walk, FPS, CONFIG, rng)
    grade = np.zeros(route.heading.shape)
    beat = walking_beat(route, route.position, grade, np.full(len(grade), 1.7), CONFIG, rng)
    return beat, route.position, route.heading


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


@pytest.fixture(scope="module")
def soles(body: BodyModel) -> Soles:
    return Soles.of(body, np.zeros((2, 10)))


@pytest.fixture(scope="module")
def legs(body: BodyModel) -> Legs:
    return Legs.of(body.rest_joints(torch.zeros(1, 10, dtype=torch.float64)).numpy())


def ankle_of(legs: Legs, hip: FloatArray, knee: FloatArray) -> FloatArray:
    """Forward kinematics of a leg: from hip to ankle."""
    shank = (about(0, knee) @ legs.shank[:, None, :, :, None])[..., 0]
    return (hip @ (legs.thigh[:, None] + shank)[..., None])[..., 0]


def test_the_ankle_is_where_it_should_be_within_reach(legs: Legs) -> None:
    random = np.random.default_rng(0)
    direction = random.normal(size=(1, 500, 2, 3))
    direction[..., 1] = -np.abs(direction[..., 1])
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    target = direction * random.uniform(0.4, 1.0, (1, 500, 2, 1)) * legs.longest.min()
    hip, knee = legs.reach(target, np.array([1.0, 0.0, 0.0]), CONFIG)
    np.testing.assert_allclose(ankle_of(legs, hip, knee), target, atol=1e-9)
    np.testing.assert_allclose(hip @ np.swapaxes(hip, -1, -2), np.broadcast_to(np.eye(3), hip.shape), atol=1e-9)


def test_out_of_reach_the_leg_points_there(legs: Legs) -> None:
    for length in (1.5, 0.05):
        target = np.array([0.1, -1.0, 0.3])
        target = np.broadcast_to(length * target / np.linalg.norm(target), (1, 1, 2, 3))
        reached = ankle_of(legs, *legs.reach(target, np.array([1.0, 0.0, 0.0]), CONFIG))
        cosine = (reached * target).sum(-1) / np.linalg.norm(reached, axis=-1) / length
        np.testing.assert_allclose(cosine, 1.0, atol=1e-9)
        if length > 1:
            np.testing.assert_allclose(np.linalg.norm(reached, axis=-1)[0, 0], legs.longest[0], atol=1e-6)


def test_knees_bend_forward_and_mirrored_feet_have_mirrored_legs(legs: Legs) -> None:
    random = np.random.default_rng(1)
    target = random.uniform([-0.1, -0.75, -0.3], [0.1, -0.6, 0.3], (1, 200, 2, 3))
    target[:, :, 1] = target[:, :, 0] * [-1, 1, 1]
    hip, knee = legs.reach(target, np.array([1.0, 0.0, 0.0]), CONFIG)
    at_knee = (hip @ legs.thigh[:, None, :, :, None])[..., 0]
    on_line = target * ((at_knee * target).sum(-1) / (target**2).sum(-1))[..., None]
    assert ((at_knee - on_line)[..., 2] > 0.05).all(), "in front of the line from hip to ankle"
    assert (knee > 0).all()
    np.testing.assert_allclose(knee[:, :, 0], knee[:, :, 1], atol=1e-3)  # the embedded body's own asymmetry
    np.testing.assert_allclose(at_knee[:, :, 0], at_knee[:, :, 1] * [-1, 1, 1], atol=1e-3)


def test_lowered_feet_touch_with_one_point(soles: Soles) -> None:
    random = np.random.default_rng(2)
    count = 300
    rotation = rotation_matrix(random.normal(0, 0.4, (count, 3)))
    foot = Foot(random.uniform(-5, 5, (count, 3)), rotation, rotation)
    person, side = np.zeros(count, np.int64), random.integers(0, 2, count)
    touching = lowered(foot, person, side, soles, HILL)
    np.testing.assert_allclose(clearance(touching, person, side, soles, HILL), 0, atol=1e-12)
    np.testing.assert_array_equal(touching.ankle[:, [0, 2]], foot.ankle[:, [0, 2]])


def test_no_vertex_of_the_foot_is_below_its_sole(body: BodyModel) -> None:
    """The few points that ``Soles`` keeps are the lowest of the whole mesh, at any tilt of the foot."""
    betas = np.random.default_rng(3).normal(size=(1, 10))
    soles = Soles.of(body, betas)
    pose = torch.zeros(40, 23, 3, dtype=torch.float64)
    pose[:, 6] = torch.as_tensor(np.random.default_rng(4).normal(0, 0.3, (40, 3)))  # the left ankle
    pose[:, 7, 0] = 2.0  # the right foot is out of the way
    pose[:, 4, 0] = 2.0
    zero = torch.zeros(3, dtype=torch.float64)
    shape = torch.as_tensor(betas)
    posed = body.pose(shape, pose, zero, zero)
    foot = Foot(
        posed.joints[:, 7].numpy(), posed.transforms[:, 7, :, :3].numpy(), posed.transforms[:, 10, :, :3].numpy()
    )
    left = np.zeros(40, np.int64)
    lowest = soles.placed(left, left, foot)[..., 1].min(-1)
    np.testing.assert_allclose(body.skin(posed)[..., 1].amin(-1).numpy(), lowest, atol=1e-3)


@pytest.mark.parametrize("slope", [0.1, 0.3, 0.8])
def test_feet_lie_on_slopes_as_far_as_ankles_tilt(soles: Soles, slope: float) -> None:
    beat, home, heading = beat_of(straight(1.2))
    ramp = surface(lambda x, z: slope * z)
    steps = footprints(beat, home, heading, np.full(heading.shape, 0.06), np.zeros((2, 2)), CONFIG)
    tilt = planted(steps, soles, ramp, CONFIG).tilt
    up = np.degrees(np.arccos(tilt[..., 1, 1]))
    np.testing.assert_allclose(up, min(np.degrees(np.arctan(slope)), CONFIG.ankle_limit), atol=0.5)
    assert (tilt[..., 2, 1] < 0).all(), "the sole's normal leans away from what rises along +z"


def test_on_stairs_feet_are_set_on_one_tread(soles: Soles) -> None:
    beat, home, heading = beat_of(straight(0.6))
    steps = footprints(beat, home, heading, np.full(heading.shape, 0.06), np.zeros((2, 2)), CONFIG)
    holds = planted(steps, soles, STAIRS, CONFIG)
    person, step = (array.ravel() for array in np.indices(steps.yaw.shape))
    flat = Foot(*(array.reshape(-1, *array.shape[2:]) for array in holds.foot.__dict__.values()))
    points = soles.placed(person, (step + FIRST_STEP) % 2, flat)
    gap = points[..., 1] - ground(STAIRS, points[..., [0, 2]])
    assert gap.min() > -1e-9
    assert np.mean(np.median(gap, -1) < 0.01) > 0.95, "most of each sole on the tread"
    assert np.degrees(np.arccos(holds.tilt[..., 1, 1])).mean() < 3, "and level"


@pytest.mark.parametrize("terrain", [FLAT, HILL, STAIRS, KERB], ids=["flat", "hill", "stairs", "kerb"])
def test_feet_stand_still_or_swing_clear(soles: Soles, terrain: Surface) -> None:
    beat, home, heading = beat_of(straight(1.0))
    steps = footprints(beat, home, heading, np.full(heading.shape, 0.06), np.zeros((2, 2)), CONFIG)
    feet = moving_feet(beat, steps, planted(steps, soles, terrain, CONFIG), soles, terrain, CONFIG)
    shape = feet.swing.shape
    person, _, side = (array.ravel() for array in np.indices(shape))
    flat = Foot(*(array.reshape(-1, *array.shape[3:]) for array in feet.foot.__dict__.values()))
    free = clearance(flat, person, side, soles, terrain).reshape(shape)
    swings = (feet.swing > 0) & (feet.swing < 1)
    np.testing.assert_allclose(free[~swings], 0, atol=1e-9)
    assert free[swings].min() > -1e-9
    assert np.median(free[swings & (np.abs(feet.swing - 0.5) < 0.1)]) > 0.015

    # Flat on the ground, the foot does not move at all; its ankle is continuous through all of the stride.
    level = np.linalg.norm(feet.foot.rotation - feet.foot.toes, axis=(-1, -2)) < 1e-12
    pitch = np.arcsin(np.clip(-feet.foot.rotation[..., 1, 2], -1, 1))
    still = ~swings & level & (np.abs(np.gradient(pitch, axis=1)) < 1e-9)
    step = np.linalg.norm(np.diff(feet.foot.ankle, axis=1), axis=-1)
    both = still[:, 1:] & still[:, :-1]
    assert both.mean() > 0.1
    assert step[both].max() < 1e-6
    assert step.max() * FPS < 6.0


def test_walks_have_whole_steps_of_alternating_feet() -> None:
    """Standing, walking, standing: the phase stands still at whole numbers, and each foot is set down in turn."""
    frames = 240
    time = np.arange(frames) / FPS
    along = np.interp(time, [0, 2, 5, 8], [0, 0, 3.6, 3.6])
    at = np.stack([np.zeros(frames), along], -1)[None]
    beat, home, heading = beat_of(paths(at, np.zeros((1, frames))))
    stands = beat.walking[0] == 0
    assert stands.any()
    np.testing.assert_allclose(beat.phase[0, stands] % 1, 0, atol=1e-9)
    taken = beat.phase[0, -1] - beat.phase[0, 0]
    assert 5 <= taken <= 9, "3.6 m in 3 s"
    steps = footprints(beat, home, heading, np.full(heading.shape, 0.08), np.zeros((1, 2)), CONFIG)
    left = (np.arange(steps.xz.shape[1]) + FIRST_STEP) % 2 == 0
    np.testing.assert_allclose(steps.xz[0, left, 0], 0.08, atol=1e-9)
    np.testing.assert_allclose(steps.xz[0, ~left, 0], -0.08, atol=1e-9)
    assert (np.diff(steps.xz[0, :, 1]) > -1e-6).all(), "none goes back"
    last = int(beat.phase[0, -1]) - FIRST_STEP
    np.testing.assert_allclose(steps.xz[0, last - 2 : last, 1], 3.6, atol=0.02)


def test_faster_walkers_take_more_and_longer_steps() -> None:
    """Grieve and Gear: cadence grows with speed to the power 0.57, so step length with the rest of it."""
    cadence = []
    for speed in (0.8, 1.6):
        beat, *_ = beat_of(straight(speed, frames=300, people=1))
        cadence.append((beat.phase[0, 300] - beat.phase[0, 100]) / (200 / FPS))
    assert cadence[1] / cadence[0] == pytest.approx(2**CONFIG.cadence_exponent, rel=0.02)
    assert 1.7 < cadence[1] < 2.4


def test_who_stands_does_not_step() -> None:
    beat, *_ = beat_of(straight(0.0))
    assert (np.diff(beat.phase, axis=1) == 0).all()
    assert (beat.walking == 0).all()
