"""A window's motion as overlapping segments: who gets which, the way to ticks and back, and what stays of Stage 2's."""

import numpy as np
import pytest
import torch
from motion_priors import LAYOUT, random_motion_prior

from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import (
    axis_angle_to_matrix,
    matrix_to_6d,
    matrix_to_axis_angle,
    rotation_6d_to_matrix,
)
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.segments import LEGS, SegmentedMotion, bends, split
from crowd4d_ros.priors.motion import about_up

DURATION, OVERLAP, LEAST = (LAYOUT.frames - 1) / LAYOUT.rate, 0.3, 0.25
SHAPE = PEOPLE, FRAMES = 5, 23


pytestmark = pytest.mark.usefixtures("seeded_doubles")


def stamps(fps=10.0, uneven=0.0):
    times = np.arange(FRAMES) / fps
    return times + uneven / fps * np.random.default_rng(0).uniform(-0.4, 0.4, FRAMES)


def some():
    """One there all the time, one with a gap, one for half a second, one for a tenth, one never."""
    valid = np.zeros(SHAPE, bool)
    valid[0] = valid[1] = True
    valid[1, 10:12] = False
    valid[2, 4:10] = valid[3, 7:9] = True
    return valid


def segments_of(valid, seconds, overlap=OVERLAP):
    like = torch.zeros(1, dtype=torch.float64)
    return split(valid, seconds, LAYOUT.frames, LAYOUT.rate, overlap, LEAST, like)


def motions(people=PEOPLE):
    """pelvis, and rotations in 6D."""
    path = torch.tensor([0.1, 0.0, 0.05]) * torch.arange(FRAMES)[:, None] + torch.randn(people, 1, 3)
    noise = 0.02 * torch.randn(people, FRAMES, 3)
    spread = torch.tensor([0.3] + 23 * [0.2])[:, None]
    return path + noise, matrix_to_6d(axis_angle_to_matrix(spread * torch.randn(people, FRAMES, 24, 3)))


def segmented(valid=None, seconds=None, motion=None, kept=0.0):
    segments = segments_of(some() if valid is None else valid, stamps() if seconds is None else seconds)
    return SegmentedMotion(random_motion_prior(), segments, *(motions() if motion is None else motion), kept)


def test_segments_fill_runs_evenly_and_overlap_as_asked():
    segments = segments_of(some(), stamps())
    assert segments.person.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    whole = segments.start[segments.person == 0].numpy()
    np.testing.assert_allclose(whole, np.linspace(0, 2.2 - DURATION, 4))
    assert (np.diff(whole) <= DURATION - OVERLAP + 1e-9).all()
    assert segments.joined.tolist() == [0, 1, 2, 4, 6]
    assert segments.covered.numpy().tolist() == (some() & (np.arange(PEOPLE) < 3)[:, None]).tolist()


def test_a_run_of_exactly_one_segment_is_one_segment():
    valid = np.ones((1, LAYOUT.frames), bool)
    segments = segments_of(valid, np.arange(LAYOUT.frames) / LAYOUT.rate)
    assert segments.start.tolist() == [0]


def test_a_short_run_is_in_the_middle_of_its_segment_which_holds_its_ends():
    segments = segments_of(some(), stamps())
    assert segments.start[-1].item() == pytest.approx((0.4 + 0.9 - DURATION) / 2)
    ticks = segments.at_ticks(torch.as_tensor(stamps())[None, :, None].expand(PEOPLE, -1, 1))[-1, :, 0]
    expected = np.clip(segments.start[-1].item() + np.arange(LAYOUT.frames) / LAYOUT.rate, 0.4, 0.9)
    np.testing.assert_allclose(ticks.numpy(), expected)


@pytest.mark.parametrize(("fps", "uneven"), [(7.0, 0.0), (10.0, 1.0), (30.0, 0.0), (60.0, 1.0)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_shares_of_a_frame_sum_to_one(fps, uneven, overlap):
    segments = segments_of(some(), stamps(fps, uneven), overlap)
    ones = torch.ones(len(segments.person), LAYOUT.frames, 1)
    torch.testing.assert_close(segments.at_frames(ones)[..., 0], segments.covered.double())


@pytest.mark.parametrize("fps", [7.0, 10.0, 20.0])
def test_what_is_linear_in_time_comes_back_from_full_segments(fps):
    segments = segments_of(np.ones(SHAPE, bool), stamps(fps, 0.5))
    line = torch.as_tensor(stamps(fps, 0.5))[None, :, None] * torch.tensor([1.0, -2, 3]) + torch.randn(PEOPLE, 1, 3)
    torch.testing.assert_close(segments.at_frames(segments.at_ticks(line)), line)


def test_segments_come_in_and_go_out_smoothly():
    """A jump between two segments is spread over their overlap."""
    valid = np.ones((1, 100), bool)
    seconds = np.arange(100) / 100
    segments = segments_of(valid, seconds, overlap=0.5)
    number = torch.arange(len(segments.person)).double()[:, None, None].expand(-1, LAYOUT.frames, 1)
    steps = segments.at_frames(number)[0, :, 0].diff()
    assert (steps > -1e-12).all()
    assert steps.max() < 0.06


def test_one_frame_and_nobody_are_no_trouble():
    assert len(segments_of(np.ones((2, 1), bool), np.zeros(1)).person) == 0
    nobody = segments_of(np.zeros(SHAPE, bool), stamps())
    assert not nobody.covered.any()
    assert nobody.at_frames(torch.zeros(0, LAYOUT.frames, 2)).shape == (*SHAPE, 2)
    motion = SegmentedMotion(random_motion_prior(), nobody, *motions())
    pelvis, rotations = motion.at_frames(motion.moved(motion.initial))
    torch.testing.assert_close(pelvis, motion.pelvis)
    torch.testing.assert_close(rotations, motion.rotations)


def test_frames_of_no_segment_keep_stage_2s_motion_exactly():
    motion = segmented()
    pelvis, rotations = motion.at_frames(motion.moved(motion.initial + 1))
    uncovered = ~motion.segments.covered
    assert uncovered.any()
    assert (pelvis[uncovered] == motion.pelvis[uncovered]).all()
    assert (rotations[uncovered] == motion.rotations[uncovered]).all()


def test_paths_keep_the_slope_and_curvature_that_stage_2_gave_them():
    motion = segmented()
    rows = torch.arange(len(motion.segments.person))
    left = motion.segments.at_ticks(motion.pelvis, motion.segments.person, rows) - motion.moved(motion.initial).pelvis
    assert left.abs().max() > 0.01  # what is quicker is the prior's
    ahead = left @ about_up(motion.placement.heading)
    bent = torch.einsum("bfk,mfk->mb", bends(LAYOUT.frames, left), ahead)
    torch.testing.assert_close(bent, torch.zeros_like(bent), atol=1e-9, rtol=0)


def test_no_bend_turns_a_path_away_from_where_its_walker_faces():
    """A straight walk to the side, 1 m, is no sum of bends; one ahead is a single bend."""
    paths = bends(LAYOUT.frames, torch.zeros(1)).flatten(-2)
    line = torch.linspace(-0.5, 0.5, LAYOUT.frames)[:, None]
    aside, ahead = ((line * torch.tensor(axis)).flatten() for axis in ([1.0, 0, 0], [0.0, 0, 1]))
    torch.testing.assert_close(paths @ aside, torch.zeros(len(paths)), atol=1e-9, rtol=0)
    torch.testing.assert_close((paths @ ahead) @ paths / LAYOUT.frames, ahead)
    torch.testing.assert_close(paths @ paths.mT, LAYOUT.frames * torch.eye(len(paths)))


def test_what_nobody_saw_has_no_part_in_it():
    parts = motions()
    motion = segmented(motion=parts, kept=1.0)
    hidden = torch.as_tensor(~some())
    other = [torch.where(hidden.reshape(*SHAPE, *[1] * (a.ndim - 2)), torch.nan, a) for a in parts]
    again = segmented(motion=other, kept=1.0)
    torch.testing.assert_close(again.initial, motion.initial)
    torch.testing.assert_close(again.turns, motion.turns)


def test_people_one_by_one_are_as_all_together():
    parts = motions()
    together = segmented(motion=parts, kept=1.0)
    step = 0.1 * torch.randn_like(together.initial)
    all_at_once = together.at_frames(together.moved(together.initial + step))
    for person in range(PEOPLE):
        alone = segmented(some()[person : person + 1], motion=[a[person : person + 1] for a in parts], kept=1.0)
        rows = together.segments.person == person
        torch.testing.assert_close(alone.initial, together.initial[rows])
        for one, many in zip(alone.at_frames(alone.moved(alone.initial + step[rows])), all_at_once, strict=True):
            torch.testing.assert_close(one[0], many[person])


def test_moving_and_turning_the_world_moves_and_turns_the_answer_and_no_code():
    pelvis, rotations = motions()
    matrix = axis_angle_to_matrix(torch.tensor([0.0, 0.8, 0]))
    shift = torch.tensor([3.0, -1, 2])
    turned = torch.cat([matrix_to_6d(matrix @ rotation_6d_to_matrix(rotations[:, :, :1])), rotations[:, :, 1:]], 2)
    there = segmented(motion=(pelvis @ matrix.T + shift, turned), kept=1.0)
    here = segmented(motion=(pelvis, rotations), kept=1.0)
    torch.testing.assert_close(there.initial, here.initial)
    moved, found = there.at_frames(there.moved(there.initial + 0.3))
    expected, same = here.at_frames(here.moved(here.initial + 0.3))
    torch.testing.assert_close(moved, expected @ matrix.T + shift)
    torch.testing.assert_close(found[:, :, 1:], same[:, :, 1:])
    root = matrix @ rotation_6d_to_matrix(same[:, :, 0])
    torch.testing.assert_close(rotation_6d_to_matrix(found[:, :, 0]), root)


def test_gradients_reach_every_code_and_are_right():
    motion = segmented(some()[:1, :12], stamps()[:12], [a[:1, :12] for a in motions()], kept=1.0)
    weights = [torch.randn_like(a) for a in motion.at_frames(motion.moved(motion.initial))]

    def value(latent):
        parts = motion.at_frames(motion.moved(latent))
        return sum((a * w).sum() for a, w in zip(parts, weights, strict=True))

    latent = motion.initial.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, latent)
    (gradient,) = torch.autograd.grad(value(latent), latent)
    assert (gradient != 0).all()


def test_segments_that_agree_are_connected_at_no_cost():
    body = BodyModel.load(dtype=torch.float64)
    rig = Rig.of(body, torch.tensor([0]))
    pelvis, rotations = (a[:, :1].expand_as(a).clone() for a in motions())
    motion = segmented(motion=(pelvis, rotations))
    prior, betas = motion.prior, torch.zeros(PEOPLE, 10)
    standing = prior.decode(torch.zeros(len(motion.initial), LAYOUT.latent_dim))
    still = type(standing)(
        standing.rotations[:, :1].expand_as(standing.rotations),
        pelvis[motion.segments.person][:, :1].expand_as(standing.pelvis),
        standing.contact,
    )
    assert energies.connection(motion.ends(still, rig, betas)).item() == pytest.approx(0, abs=1e-20)
    pushed = still.pelvis.clone()
    pushed[0] += torch.tensor([0.1, 0, 0])
    apart = type(still)(still.rotations, pushed, still.contact)
    two_times_24_joints = 2 * 24 * 0.1**2
    found = energies.connection(motion.ends(apart, rig, betas)).item()
    assert found == pytest.approx(two_times_24_joints)


def apart(motion, latent):
    """Mean turn (N, 24, 3) of Stage 2's joints against the answer's, where segments are."""
    _, answer = motion.at_frames(motion.moved(latent))
    turns = matrix_to_axis_angle(rotation_6d_to_matrix(motion.rotations) @ rotation_6d_to_matrix(answer).mT)
    covered = motion.segments.covered[..., None, None]
    return torch.where(covered, turns, 0).sum(1) / covered.sum(1).clamp(min=1)


def test_legs_keep_the_mean_turn_that_no_code_has_and_other_joints_are_the_codes():
    """What is kept is the turn against the codes' motion, in the parent's axes, and the same in every frame."""
    parts = motions()
    without, whole, half = (segmented(motion=parts, kept=kept) for kept in (0.0, 1.0, 0.5))
    before = apart(without, without.initial)
    others = [joint for joint in range(24) if joint not in LEGS]
    assert (before.norm(dim=-1)[:3, LEGS] > 0.1).any()
    for motion, kept in ((whole, 1.0), (half, 0.5)):
        _, plain = without.at_frames(without.moved(without.initial + 0.1))
        _, answer = motion.at_frames(motion.moved(motion.initial + 0.1))
        plain, answer = rotation_6d_to_matrix(plain), rotation_6d_to_matrix(answer)
        expected = axis_angle_to_matrix(kept * before[:, None, LEGS]) @ plain[:, :, LEGS]
        covered = motion.segments.covered
        torch.testing.assert_close(answer[covered][:, LEGS], expected[covered])
        torch.testing.assert_close(answer[:, :, others], plain[:, :, others])
        torch.testing.assert_close(answer[~covered], plain[~covered])
