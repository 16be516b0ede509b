"""Bodies on paths: on the ground in every frame, where and as the path says, human, and the same again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_planting import FLAT, HILL, STAIRS, paths, surface

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import ConfigError
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.priors.pose import GaussianPosePrior, energy
from crowd4d_ros.synthetic import bodies
from crowd4d_ros.synthetic.bodies import adult_shapes, crowd_bodies, stature
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import resampled
from crowd4d_ros.synthetic.gait import ProceduralGait
from crowd4d_ros.synthetic.planting import ground, rotation_matrix
from crowd4d_ros.synthetic.scenes import SEAT_BACK
from crowd4d_ros.synthetic.truth import Activity, Paths
from crowd4d_ros.window import BodyMotion, FloatArray

CONFIG = BodiesConfig()
FPS = 10.0
FRAMES = 40
RAMP = surface(lambda x, z: 0.15 * z + 0.05 * x)
TERRAINS = {"flat": FLAT, "ramp": RAMP, "hill": HILL, "stairs": STAIRS}
SEAT = 0.45


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


def move(walk: Paths, terrain: Surface, body: BodyModel, seed: int = 0) -> BodyMotion:
    return crowd_bodies(walk, terrain, body, ProceduralGait(CONFIG), CONFIG, np.random.default_rng(seed), FPS)


def tensors(motion: BodyMotion) -> tuple[torch.Tensor, ...]:
    fields = (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
    return tuple(torch.from_numpy(np.ascontiguousarray(field)) for field in fields)


def joints(motion: BodyMotion, body: BodyModel) -> FloatArray:
    return np.asarray(body.joints(*tensors(motion)).numpy())


def walkers(people: int = 4, frames: int = FRAMES) -> Paths:
    """Along +z, between 0.7 and 1.5 m/s."""
    speed = np.linspace(0.7, 1.5, people)[:, None]
    at = np.zeros((people, frames, 2))
    at[..., 0] = 1.5 * np.arange(people)[:, None] - 3
    at[..., 1] = speed * np.arange(frames) / FPS - 3
    return paths(at, np.zeros((people, frames)))


def circle(frames: int = FRAMES) -> Paths:
    """Around (1, 0.5), a radius of 2 m, counter-clockwise seen from above."""
    angle = 1.2 / 2 * np.arange(frames)[None] / FPS
    at = np.stack([1 + 2 * np.cos(angle), 0.5 - 2 * np.sin(angle)], -1)
    return paths(at, angle + np.pi)


def sitter() -> Paths:
    """Stands, sits down onto what is behind, stands up."""
    time = np.arange(90) / FPS
    back = np.interp(time, [1, 2, 6, 7], [0, 0.38, 0.38, 0])
    walk = paths(np.stack([0 * time, -back], -1)[None], np.zeros((1, 90)), Activity.STAND)
    sits = (time >= 1) & (time <= 7)
    return replace(walk, activity=np.where(sits, 2, 1)[None].astype(np.int8), seat=np.where(sits, SEAT, np.nan)[None])


@pytest.mark.parametrize("terrain", TERRAINS)
def test_somebody_walking_is_on_the_ground_in_every_frame(body: BodyModel, terrain: str) -> None:
    motion = move(walkers(), TERRAINS[terrain], body)
    vertices = body.vertices(*tensors(motion)).numpy()
    clearance = (vertices[..., 1] - ground(TERRAINS[terrain], vertices[..., [0, 2]])).min(-1)
    assert np.abs(clearance).max() < 0.003
    if terrain == "flat":
        assert np.abs(vertices[..., 1].min(-1)).max() < 0.003


@pytest.mark.parametrize("terrain", TERRAINS)
def test_toes_on_the_ground_do_not_skate(body: BodyModel, terrain: str) -> None:
    motion = move(walkers(), TERRAINS[terrain], body)
    for toes in ("left_foot", "right_foot"):
        low = body.v_template[:, 1] < body.v_template[:, 1].min() + 0.003
        own = torch.nonzero(low & (body.weights[:, JOINTS.index(toes)] > 0.95))[:, 0]
        points = body.vertices(*tensors(motion), own).numpy()
        gap = (points[..., 1] - ground(TERRAINS[terrain], points[..., [0, 2]])).max(-1)
        down = (gap[:, 1:] < 0.004) & (gap[:, :-1] < 0.004)
        skate = np.linalg.norm(np.diff(points, axis=1)[..., [0, 2]], axis=-1).mean(-1)[down] * FPS
        assert len(skate) > 20
        assert np.median(skate) < 1e-3
        assert np.percentile(skate, 95) < 0.01


@pytest.mark.parametrize("walk", [walkers(), circle()], ids=["straight", "circle"])
def test_the_pelvis_follows_the_path_and_faces_along_it(body: BodyModel, walk: Paths) -> None:
    motion = move(walk, FLAT, body)
    off = np.linalg.norm(joints(motion, body)[:, :, 0][..., [0, 2]] - walk.position, axis=-1)
    assert off.max() < 0.03
    facing = rotation_matrix(motion.global_orient)[..., 2]
    wanted = np.stack([np.sin(walk.heading), np.cos(walk.heading)], -1)
    turned = np.degrees(np.arccos(np.clip((facing[..., [0, 2]] * wanted).sum(-1), -1, 1)))
    assert turned.max() < 20
    assert turned.mean() < 8


def test_people_are_human(body: BodyModel) -> None:
    """Near what people were recorded doing, knees and elbows bent the right way, feet under the knees."""
    prior = GaussianPosePrior.load(dtype=torch.float64)
    stand = paths(np.stack([np.arange(20.0), np.zeros(20)], -1)[:, None].repeat(10, 1), np.zeros((20, 10)), 1)
    for walk in (walkers(), stand):
        motion = move(walk, FLAT, body)
        distance = energy(prior.encode(torch.from_numpy(motion.body_pose))).sqrt().numpy()
        assert 4 < distance.mean() < 9, "a sample of the prior is at 8.3"
        assert distance.max() < 15
        knees = np.degrees(motion.body_pose[:, :, [3, 4], 0])
        assert knees.min() > -8, "SMPL's knees rest bent by 6"
        assert knees.max() < 90
        assert (motion.body_pose[:, :, 17, 1] < 0).all(), "left elbow"
        assert (motion.body_pose[:, :, 18, 1] > 0).all(), "right elbow"


def test_the_body_moves_as_smoothly_as_people_do(body: BodyModel) -> None:
    at = joints(move(walkers(), FLAT, body), body)
    acceleration = np.linalg.norm(np.diff(at[:, :, 0], 2, axis=1), axis=-1) * FPS**2
    assert acceleration.max() < 8
    assert np.linalg.norm(np.diff(at, axis=1), axis=-1).max() * FPS < 6


def test_arms_swing_against_the_legs(body: BodyModel) -> None:
    at = joints(move(walkers(), FLAT, body), body)[..., 2]

    def ahead(name: str) -> FloatArray:
        return np.asarray(at[..., JOINTS.index(f"left_{name}")] - at[..., JOINTS.index(f"right_{name}")])

    correlation = [np.corrcoef(arm, leg)[0, 1] for arm, leg in zip(ahead("wrist"), ahead("ankle"), strict=True)]
    assert np.median(correlation) < -0.8


def test_sitting_is_on_the_seat_with_the_feet_on_the_ground(body: BodyModel) -> None:
    motion = move(sitter(), FLAT, body)
    vertices = body.vertices(*tensors(motion)).numpy()[0]
    seated = slice(25, 55)
    rests = (body.weights[:, [0, 1, 2]].sum(-1) > 0.9).numpy()
    rests &= (body.v_template - body.joint_template[0]).norm(dim=-1).numpy() < bodies.SEAT_RADIUS
    assert np.abs(vertices[seated, rests, 1].min(-1) - SEAT).max() < 0.01
    assert np.abs(vertices[..., 1].min(-1)).max() < 0.005
    at = joints(motion, body)[0]
    thigh = at[seated, 4] - at[seated, 1]
    assert np.degrees(np.arcsin(np.abs(thigh[:, 1]) / np.linalg.norm(thigh, axis=-1))).max() < 25
    assert np.linalg.norm(np.diff(at[seated][:, [7, 8]], axis=0), axis=-1).max() < 1e-6


@pytest.mark.parametrize("fps", [1.0, 2.0, 10.0])
def test_at_any_frame_rate_and_place_who_rests_on_a_seat_is_sat_down(fps: float) -> None:
    time = np.arange(9 * fps) / fps
    at = np.stack([0 * time, -100 - np.interp(time, [1, 2, 6, 7], [0, 0.38, 0.38, 0])], -1)[None]
    sits = ((time >= 1) & (time <= 7))[None]
    turns = np.clip(time - 7, 0, 1)[None]  # away, as soon as it stands
    walk = replace(paths(at, turns), activity=np.where(sits, 2, 1).astype(np.int8), seat=np.where(sits, SEAT, np.nan))
    route = resampled(walk, fps, CONFIG, np.random.default_rng(0))
    seated = route.seated[0, route.frames]
    np.testing.assert_allclose(seated[(time >= 2) & (time <= 6)], 1.0, atol=1e-9)
    assert (seated[~sits[0]] == 0).all()


def test_thighs_of_who_sits_on_a_step_do_not_cut_into_its_edge(body: BodyModel) -> None:
    """As the rows of an amphitheatre have it: the edge runs between the pelvis and the knees."""
    step = surface(lambda x, z: SEAT * (z < 0.05))  # the last node at the height of the seat is at z = 0
    at = np.stack([np.arange(8.0), np.full(8, -SEAT_BACK)], -1)[:, None]
    sits = replace(paths(at, np.zeros((8, 1)), Activity.SIT), seat=np.full((8, 1), SEAT))
    vertices = body.vertices(*tensors(move(sits, step, body))).numpy()[:, 0]
    clearance = (vertices[..., 1] - ground(step, vertices[..., [0, 2]])).min(-1)
    assert np.abs(clearance).max() < 0.008


def test_who_turns_on_the_spot_steps_around(body: BodyModel) -> None:
    frames, fps = 120, 30.0
    turn = np.radians(120) * np.clip((np.arange(frames) / fps - 1) / 1.5, 0, 1)[None]
    walk = paths(np.zeros((1, frames, 2)), turn, Activity.STAND)
    motion = crowd_bodies(walk, FLAT, body, ProceduralGait(CONFIG), CONFIG, np.random.default_rng(0), fps)
    ankles = joints(motion, body)[0][:, [7, 8]]
    across = ankles[[0, -1], 0] - ankles[[0, -1], 1]
    yaw = np.arctan2(-across[:, 2], across[:, 0])
    assert np.degrees(yaw[1] - yaw[0]) == pytest.approx(120, abs=8)
    moves = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) > 0.005
    assert moves.any(0).all()
    assert not moves.all(-1).any(), "one foot at a time"


def test_the_same_seed_gives_the_same_bytes_and_another_other_people(body: BodyModel) -> None:
    first, again, other = (move(walkers(), HILL, body, seed) for seed in (1, 1, 2))
    for name in ("betas", "body_pose", "global_orient", "transl"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert np.abs(first.betas - other.betas).max() > 0.1


def test_adults_of_all_statures(body: BodyModel) -> None:
    betas = adult_shapes(body, 400, CONFIG, np.random.default_rng(0))
    height = stature(body, betas)
    assert height.min() > CONFIG.statures[0]
    assert height.max() < CONFIG.statures[1]
    assert np.ptp(height) > 0.3
    assert np.abs(betas).max() < CONFIG.furthest_shape
    assert betas[:, 1:].std() == pytest.approx(1, abs=0.05)


def test_statures_that_nobody_has_are_refused(body: BodyModel) -> None:
    with pytest.raises(ConfigError, match=r"2\.4 to 2\.5 m tall"):
        adult_shapes(body, 3, replace(CONFIG, statures=(2.4, 2.5)), np.random.default_rng(0))


def test_large_crowds_are_made_in_parts(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "CHUNK", 3)
    motion = move(walkers(people=7), FLAT, body)
    assert motion.body_pose.shape == (7, FRAMES, 23, 3)
    off = joints(motion, body)[:, :, 0][..., [0, 2]] - walkers(people=7).position
    assert np.linalg.norm(off, axis=-1).max() < 0.03


def test_absent_people_and_nobody(body: BodyModel) -> None:
    walk = walkers()
    present = walk.present.copy()
    present[0, :10] = present[1, 25:] = present[2] = False
    motion = move(replace(walk, present=present), FLAT, body)
    assert all(np.isfinite(values).all() for values in motion.__dict__.values())
    shown = joints(motion, body)[:, :, 0][..., [0, 2]] - walk.position
    assert np.linalg.norm(shown, axis=-1)[present].max() < 0.03
    nobody = Paths(**{name: values[:0] for name, values in walk.__dict__.items()})
    assert move(nobody, FLAT, body).transl.shape == (0, FRAMES, 3)
