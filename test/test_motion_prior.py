"""The motion prior: where segments are, what codes stand for, times between frames and ticks, files, and training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_6d, rotation_6d_to_matrix
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.config import MotionTrainingConfig
from crowd4d_ros.priors.mocap import FPS, MocapError, read_clips
from crowd4d_ros.priors.motion import (
    PARENTS,
    PLACEMENT_DIM,
    RESIDUAL_SIGMA,
    MotionPrior,
    Placement,
    about_up,
    canonical,
    global_rotations,
    placed,
    save,
)
from crowd4d_ros.priors.motion_data import (
    CONTACTS,
    HIPS,
    KNEES,
    Motion,
    Skeleton,
    disturbed,
    drawn,
    every,
    mirrored,
    record,
    standing,
    stretched,
    turned,
)
from crowd4d_ros.priors.motion_report import answered, errors
from crowd4d_ros.priors.train_motion import train_motion_prior
from crowd4d_ros.priors.weights import WeightsError

MOCAP = Path(__file__).resolve().parents[2] / "shared" / "data" / "mocap" / "cmu_mocap.npz"
RATE = 15.0


@pytest.fixture(scope="module")
def prior() -> MotionPrior:
    return MotionPrior.load()


@pytest.fixture(scope="module")
def mocap() -> Path:
    if not MOCAP.exists():
        pytest.skip("the shared motion capture is not there")
    return MOCAP


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rotations(rng: torch.Generator, *size: int, angle: float = 1.0) -> Tensor:
    return axis_angle_to_matrix(angle * torch.randn(*size, 3, dtype=torch.float64, generator=rng))


def world_motion(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Roots (4, 25, 3, 3) around some facing, upright and lying, and their paths (4, 25, 3)."""
    lying = axis_angle_to_matrix(torch.tensor([[0.0, 0, 0], [-1.5, 0, 0], [0, 0, 1.5], [1.2, 0, 0.9]]).double())
    facing = about_up(torch.tensor([0.3, -2.0, 3.1, 1.0]).double())
    roots = (facing @ lying)[:, None] @ rotations(rng, 4, 25, angle=0.2)
    return roots, torch.randn(4, 25, 3, dtype=torch.float64, generator=rng).cumsum(1)


# ---- placement ----


def test_placed_undoes_canonical(rng: torch.Generator) -> None:
    roots, pelvis = world_motion(rng)
    back = placed(*canonical(roots, pelvis, RATE), RATE)
    torch.testing.assert_close(back[0], roots)
    torch.testing.assert_close(back[1], pelvis)


def test_segments_do_not_depend_on_where_they_are_on_their_heading_or_on_the_slope(rng: torch.Generator) -> None:
    roots, pelvis = world_motion(rng)
    turn, shift, climb = 2.5, torch.tensor([10.0, -3.0, 7.0]).double(), 0.6
    spun = about_up(torch.tensor(turn).double())
    time = torch.arange(25).double() / RATE
    moved = pelvis @ spun.mT + shift + torch.stack([0 * time, climb * time, 0 * time], -1)
    first, roots_a, path_a = canonical(roots, pelvis, RATE)
    second, roots_b, path_b = canonical(spun @ roots, moved, RATE)
    torch.testing.assert_close(roots_a, roots_b)
    torch.testing.assert_close(path_a, path_b)
    torch.testing.assert_close(second.climb, first.climb + climb)
    around = torch.remainder(second.heading - first.heading - turn + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(around, torch.zeros(4).double(), atol=1e-9, rtol=0)


def test_the_heading_is_where_an_upright_body_faces() -> None:
    heading = torch.tensor([0.0, 1.0, -3.0]).double()
    lean = axis_angle_to_matrix(torch.tensor([0.4, 0.0, 0.0]).double())
    roots = (about_up(heading) @ lean)[:, None].expand(-1, 25, -1, -1)
    placement, _, _ = canonical(roots, torch.zeros(3, 25, 3).double(), RATE)
    torch.testing.assert_close(placement.heading, heading)


def test_a_residual_moves_a_placement_along_its_own_axes() -> None:
    placement = Placement(torch.zeros(3), torch.tensor(math.pi / 2), torch.tensor(0.0))
    moved = placement.moved(torch.tensor([0.0, 0.0, 1.0, -2.0, 3.0]))
    torch.testing.assert_close(moved.origin, torch.tensor([RESIDUAL_SIGMA[2], 0.0, 0.0]))  # ahead is +x now
    torch.testing.assert_close(moved.heading, torch.tensor(math.pi / 2 - 2 * RESIDUAL_SIGMA[3]))
    torch.testing.assert_close(moved.climb, torch.tensor(3 * RESIDUAL_SIGMA[4]))


# ---- rotations ----


def local_rotations(turns: Tensor) -> Tensor:
    """Each joint's rotation against its parent's, of rotations in common axes (…, 24, 3, 3)."""
    below = turns[..., PARENTS[1:], :, :].mT @ turns[..., 1:, :, :]
    return torch.cat([turns[..., :1, :, :], below], -3)


def test_the_tree_is_smpls() -> None:
    assert PARENTS[1:] == BodyModel.load().parents[1:]


def test_orientations_in_common_axes_and_against_parents_are_inverse(rng: torch.Generator) -> None:
    local = rotations(rng, 2, 3, len(JOINTS))
    torch.testing.assert_close(local_rotations(global_rotations(local)), local)


def test_6d_keeps_rotations_and_makes_them(rng: torch.Generator) -> None:
    matrix = rotations(rng, 50)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_6d(matrix)), matrix)
    made = rotation_6d_to_matrix(torch.randn(50, 6, dtype=torch.float64, generator=rng))
    torch.testing.assert_close(made @ made.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(made), torch.ones(50).double())
    at = torch.randn(3, 6, dtype=torch.float64, generator=rng, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_6d_to_matrix, (at,))


# ---- the prior ----


def test_codes_decode_to_bodies_with_any_leading_dimensions(prior: MotionPrior, rng: torch.Generator) -> None:
    code = torch.randn(2, 3, prior.latent_dim, generator=rng)
    segment = prior.decode(code)
    assert segment.rotations.shape == (2, 3, prior.frames, 24, 6)
    assert segment.pelvis.shape == (2, 3, prior.frames, 3)
    assert segment.contact.shape == (2, 3, prior.frames, len(prior.contact_joints))
    torch.testing.assert_close(prior.decode(code[1, 2]).pelvis, segment.pelvis[1, 2], atol=1e-5, rtol=1e-4)
    assert ((segment.contact >= 0) & (segment.contact <= 1)).all()
    assert prior.encode(segment).shape == code.shape


def test_decoded_rotations_are_against_parents(prior: MotionPrior, rng: torch.Generator) -> None:
    code = torch.randn(5, prior.latent_dim, generator=rng)
    turns, pelvis, logits = prior.decode_global(code)
    segment = prior.decode(code)
    torch.testing.assert_close(segment.rotations, matrix_to_6d(local_rotations(turns)), atol=1e-5, rtol=0)
    torch.testing.assert_close(segment.pelvis, pelvis)
    torch.testing.assert_close(segment.contact, logits.sigmoid())


def test_a_placed_code_is_its_segment_placed(prior: MotionPrior, rng: torch.Generator) -> None:
    code, residual = torch.randn(prior.latent_dim, generator=rng), torch.randn(PLACEMENT_DIM, generator=rng)
    somewhere = Placement(torch.tensor([4.0, 1.0, -9.0]), torch.tensor(2.0), torch.tensor(0.4))
    segment, moved = prior.decode(code), prior.motion(torch.cat([code, residual]), somewhere)
    root, pelvis = placed(somewhere.moved(residual), segment.matrices()[:, 0], segment.pelvis, prior.rate)
    torch.testing.assert_close(moved.matrices()[:, 0], root, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.pelvis, pelvis)
    torch.testing.assert_close(moved.rotations[:, 1:], segment.rotations[:, 1:])


def test_what_a_code_stands_for_is_differentiable(prior: MotionPrior, rng: torch.Generator) -> None:
    small = MotionPrior(prior.layout, {name: tensor.double() for name, tensor in prior.tensors.items()})
    latent = torch.randn(prior.latent_dim + PLACEMENT_DIM, dtype=torch.float64, generator=rng, requires_grad=True)
    nowhere = Placement(torch.zeros(3).double(), torch.tensor(0.5).double(), torch.tensor(0.1).double())

    def few(z: Tensor) -> Tensor:
        moved = small.motion(z, nowhere)
        return torch.cat([moved.rotations[3, 5], moved.pelvis[-1], moved.contact[2]])

    assert torch.autograd.gradcheck(few, (latent,), atol=1e-4, fast_mode=True)


def test_initial_codes_know_no_place_heading_or_slope(prior: MotionPrior, rng: torch.Generator) -> None:
    segment = prior.decode(torch.randn(prior.latent_dim, generator=rng))
    somewhere = Placement(torch.tensor([4.0, 1.0, -9.0]), torch.tensor(2.0), torch.tensor(0.4))
    here = Placement(torch.zeros(3), torch.tensor(0.0), torch.tensor(0.0))
    still = torch.zeros(PLACEMENT_DIM)
    codes = []
    for placement in (here, somewhere):
        moved = prior.motion(torch.cat([prior.encode(segment), still]), placement)
        codes.append(prior.initial(moved)[0])
    torch.testing.assert_close(codes[0], codes[1], atol=2e-3, rtol=1e-3)


def test_samples_walk_where_they_face(prior: MotionPrior, rng: torch.Generator) -> None:
    """Of samples that go somewhere, most go ahead: z is ahead in a segment's axes."""
    segment = prior.decode(torch.randn(400, prior.latent_dim, generator=rng))
    way = segment.pelvis[:, -1] - segment.pelvis[:, 0]
    going = way.norm(dim=-1) > 0.8
    angle = torch.atan2(way[going, 0], way[going, 2]).abs().rad2deg()
    assert going.sum() > 50
    assert angle.median() < 20


# ---- motion capture ----


def test_walking_feet_stand_in_turns(mocap: Path) -> None:
    skeleton, config = Skeleton(), MotionTrainingConfig()
    clip = next(clip for clip in read_clips(mocap, "test") if clip.name.endswith("walking_5"))
    recording = record([clip], skeleton, config)
    left, right = recording.contact[:, 2] > 0.5, recording.contact[:, 3] > 0.5
    assert 0.3 < left.float().mean() < 0.75
    assert (left | right).float().mean() > 0.7
    assert ((left & right).float().mean()) < 0.4


def test_a_point_stands_where_it_is_slow_and_low() -> None:
    config = MotionTrainingConfig()
    time = torch.arange(90) / FPS
    slow, fast = config.contact_speed / 2, config.contact_speed * 2
    low = torch.stack([slow * time, 0 * time, 0 * time], -1)
    sliding = torch.stack([fast * time, 0 * time, 0 * time], -1)
    lifted = low.clone()
    lifted[45:60, 1] = 3 * config.contact_height
    stands = standing(torch.stack([low, sliding, lifted], 1), config)
    assert stands[:, 0].all()
    assert not stands[:, 1].any()
    assert not stands[46:59, 2].any()


def test_a_mirror_changes_sides_and_nothing_else(rng: torch.Generator) -> None:
    skeleton = Skeleton()
    motion = Motion(
        rotations(rng, 2, 5, 24).float(), torch.randn(2, 5, 3, generator=rng), torch.rand(2, 5, 4, generator=rng)
    )
    seen = mirrored(motion, torch.tensor([True, False]))
    torch.testing.assert_close(seen.turns[1], motion.turns[1])
    again = mirrored(seen, torch.tensor([True, False]))
    torch.testing.assert_close(again.turns, motion.turns)
    torch.testing.assert_close(seen.contact[0], motion.contact[0][:, [1, 0, 3, 2]])
    wrist = [JOINTS.index(f"{side}_wrist") for side in ("left", "right")]
    before, after = (skeleton.joints(each.turns[0], each.pelvis[0]) for each in (motion, seen))
    # the rest pose's two sides differ by some millimetres
    flipped = before[:, wrist[0]] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(after[:, wrist[1]], flipped, atol=0.05, rtol=0)


def bent_knees(bend: Tensor) -> Motion:
    """Upright, standing on both feet, both knees bent by angles (B, F), thighs and shanks alike."""
    turns = torch.eye(3).repeat(*bend.shape, 24, 1, 1)
    forward = torch.stack([bend / 2, torch.zeros_like(bend), torch.zeros_like(bend)], -1)[:, :, None]
    turns[:, :, list(HIPS)] = axis_angle_to_matrix(-forward)
    turns[:, :, list(KNEES)] = axis_angle_to_matrix(forward)
    return Motion(turns, torch.zeros(*bend.shape, 3), torch.ones(*bend.shape, 4))


def test_straighter_and_more_bent_knees_keep_feet_under_hips(rng: torch.Generator) -> None:
    skeleton, config = Skeleton(), MotionTrainingConfig()
    bend = torch.tensor([5.0, 20.0, 100.0]).deg2rad().expand(200, 3)
    motion = bent_knees(bend)
    made = stretched(motion, config, rng)
    thigh, shank = (made.turns[:, :, list(joints)] for joints in (HIPS, KNEES))
    cosine = (thigh[..., 1] * shank[..., 1]).sum(-1).clamp(max=1)
    ratio = cosine.acos() / bend[..., None]
    assert (ratio[:, 0] < 0.5).any()
    assert (ratio[:, 0] > 1.2).any()
    assert (ratio[:, 0] > 0.9 * config.straightest).all()
    assert (ratio[:, 0] < config.most_bent).all()
    torch.testing.assert_close(ratio[:, 2], torch.ones(200, 2), atol=0.01, rtol=0)  # a swinging leg's stays
    before, after = (skeleton.joints(each.turns, each.pelvis)[:, :2, CONTACTS] for each in (motion, made))
    aside = (after - before)[..., [0, 2]].norm(dim=-1)
    assert aside.max() < 0.02
    others = [joint for joint in range(24) if joint not in (*HIPS, *KNEES)]
    torch.testing.assert_close(made.turns[:, :, others], motion.turns[:, :, others])


def test_only_segments_on_both_feet_are_slowed_to_nearly_nothing(tmp_path: Path, rng: torch.Generator) -> None:
    config = dataclasses.replace(TINY, still=1.0)
    recording = record(read_clips(synthetic_mocap(tmp_path / "mocap.npz"), "train"), Skeleton(), config)
    paces = {}
    for share in (0.0, 1.0):
        everywhere = dataclasses.replace(recording, contact=torch.full_like(recording.contact, share))
        pelvis = drawn(everywhere, 100, config, rng).pelvis
        paces[share] = (pelvis[:, 1:] - pelvis[:, :-1]).norm(dim=-1).mean()
    assert paces[1.0] < 0.2 * paces[0.0]


def test_the_skeletons_joints_are_the_bodys(rng: torch.Generator) -> None:
    angles, path = torch.randn(3, 24, 3, generator=rng) * 0.5, torch.randn(3, 3, generator=rng)
    body, skeleton = BodyModel.load(), Skeleton()
    zero = torch.zeros(10)
    expected = body.joints(zero, angles[:, 1:], angles[:, 0], path - body.pelvis(zero))
    torch.testing.assert_close(skeleton.joints(global_rotations(axis_angle_to_matrix(angles)), path), expected)


def test_turning_by_rows_is_turning(rng: torch.Generator) -> None:
    turns, angle = rotations(rng, 3, 2, 24), torch.tensor([0.3, -1.0, 2.0]).double()
    torch.testing.assert_close(turned(angle, turns), about_up(angle)[:, None, None] @ turns)


# ---- what it has learned ----


def test_unseen_walks_come_back_cleaner(prior: MotionPrior, mocap: Path) -> None:
    """Docs: docs/priors.md has the numbers, of all test clips; here of some, with room."""
    skeleton = Skeleton()
    config = dataclasses.replace(MotionTrainingConfig(), frames=prior.frames, ticks_per_s=prior.rate)
    clips = [clip for clip in read_clips(mocap, "test") if "walking_4" in clip.name]
    truth, _ = every(record(clips, skeleton, config), config)
    count = len(truth.pelvis)
    seen = disturbed(truth, torch.ones(count), skeleton, config, torch.Generator().manual_seed(1))
    alike = torch.ones(count)
    before = errors(seen, truth, skeleton, prior.rate).mean(alike)
    answer, latent = answered(prior, seen)
    after = errors(answer, truth, skeleton, prior.rate).mean(alike)
    rebuilt = errors(answered(prior, truth)[0], truth, skeleton, prior.rate).mean(alike)
    assert rebuilt.joints < 60
    assert after.pose < 0.55 * before.pose
    assert after.acceleration < 0.4 * before.acceleration
    assert after.heading < 0.8 * before.heading
    assert 0.3 < latent[:, : prior.latent_dim].square().mean() < 3


# ---- files and training ----


def test_a_file_comes_back(prior: MotionPrior, tmp_path: Path, rng: torch.Generator) -> None:
    save(prior, tmp_path / "a.safetensors", {"seed": "0"})
    again = MotionPrior.load(tmp_path / "a.safetensors")
    assert again.layout == prior.layout
    code = torch.randn(prior.latent_dim, generator=rng)
    torch.testing.assert_close(again.decode(code).pelvis, prior.decode(code).pelvis)


def test_other_files_are_refused(prior: MotionPrior, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read weights"):
        MotionPrior.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(WeightsError, match="cannot read weights"):
        MotionPrior.load(tmp_path / "text.safetensors")
    smaller = MotionPrior(dataclasses.replace(prior.layout, latent_dim=prior.latent_dim - 1), prior.tensors)
    save(smaller, tmp_path / "wrong.safetensors", {})
    with pytest.raises(WeightsError, match="another layout"):
        MotionPrior.load(tmp_path / "wrong.safetensors")


def synthetic_mocap(path: Path, frames: int = 70) -> Path:
    """Fourteen people who swing arms and legs at a pace of their own, of whom the last two are for testing."""
    time = np.arange(frames) / FPS
    poses, paths = [], []
    for person in range(14):
        swing = np.sin(2 * np.pi * (0.8 + 0.03 * person) * time)
        pose = np.zeros((frames, 24, 3))
        for side, sign in (("left", 1.0), ("right", -1.0)):
            pose[:, JOINTS.index(f"{side}_hip"), 0] = 0.4 * sign * swing
            pose[:, JOINTS.index(f"{side}_shoulder"), 0] = -0.3 * sign * swing
        poses.append(pose)
        paths.append(np.stack([0 * time, 0.9 + 0.02 * swing**2, 1.3 * time], -1))
    np.savez(
        path,
        names=np.array([f"walking_{person}" for person in range(14)]),
        lens=np.full(14, frames),
        split=np.array(["train"] * 12 + ["test"] * 2),
        poses=np.concatenate(poses).astype(np.float16),
        trans=np.concatenate(paths).astype(np.float32),
    )
    return path


TINY = MotionTrainingConfig(
    frames=5, ticks_per_s=4.0, latent_dim=6, components=12, hidden=16, axes_from=60, batch=16, steps=12, check_every=6
)


def test_training_repeats_its_bytes_and_learns(tmp_path: Path) -> None:
    mocap = synthetic_mocap(tmp_path / "mocap.npz")
    told: list[str] = []
    made = [train_motion_prior(mocap, tmp_path / f"{run}.safetensors", TINY, 3, told.append) for run in "ab"]
    assert made[0].sha256 == made[1].sha256
    assert "walking, denoised" in str(made[0])
    assert any("step 12" in line for line in told)
    other = train_motion_prior(mocap, tmp_path / "c.safetensors", TINY, 4, told.append)
    assert other.sha256 != made[0].sha256
    trained = MotionPrior.load(tmp_path / "a.safetensors")
    assert (trained.frames, trained.rate, trained.contact_joints) == (5, 4.0, CONTACTS)


def test_too_little_to_train_on_is_an_error(tmp_path: Path) -> None:
    mocap = synthetic_mocap(tmp_path / "short.npz", frames=20)
    with pytest.raises(MocapError, match="shorter than"):
        train_motion_prior(mocap, tmp_path / "a.safetensors", TINY, 0, lambda line: None)
