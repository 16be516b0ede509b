"""Stage 3: its energies (Eq. 27–30), its row of Table 1, and what it does to a crowd."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from synthetic_window import staged_crowd
from test_solver import pelvis, prepare, sliced
from torch.autograd import gradcheck

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_6d
from crowd4d_ros.body.smpl import BodyModel, read_body
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS
from crowd4d_ros.optimization import energies, long_range
from crowd4d_ros.optimization.long_range import LongRange
from crowd4d_ros.optimization.placement import placed_by_keypoints
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.solver import optimize
from crowd4d_ros.optimization.stages import stages
from crowd4d_ros.priors.motion import MotionPrior
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.world import LastWindow

CONFIG = OptimizationConfig(stages=3, stage1_iterations=20, stage2_iterations=20, stage3_iterations=30)
BRIEF = replace(CONFIG, stage1_iterations=2, stage2_iterations=2, stage3_iterations=2)
OWN = {
    "contact": "weight_contact",
    "motion_prior": "weight_motion_prior",
    "connect": "weight_connect",
    "amc": "weight_amc",
}
PEOPLE, FRAMES, FEET = 3, 6, 4


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# --- Eq. 27–30 ---


def test_eq_27_is_the_square_of_every_code():
    codes = torch.tensor([[3.0, 4], [0, 1]])
    assert energies.motion_prior(codes) == 26
    assert energies.motion_prior(torch.zeros(0, 5)) == 0


def feet(step=0.0):
    """(PEOPLE, FRAMES, FEET, 3) at rest, but for the last foot of the first person between frames 2 and 3."""
    joints = doubles(PEOPLE, 1, FEET, 3).expand(-1, FRAMES, -1, -1).clone()
    joints[0, 3:, -1, 0] += step
    return joints


everywhere = torch.ones(PEOPLE, FRAMES - 1, dtype=torch.bool)


def test_eq_28_feet_that_stand_cost_nothing():
    assert energies.contact_stationarity(feet(), torch.ones(PEOPLE, FRAMES, FEET).double(), everywhere) == 0


def test_eq_28_a_foot_that_slides_pays_as_far_as_it_touches():
    confidence = torch.ones(PEOPLE, FRAMES, FEET).double()
    confidence[0, 2, -1], confidence[0, 3, -1] = 0.5, 0.8
    slid = energies.contact_stationarity(feet(step=0.1), confidence, everywhere)
    assert slid.item() == pytest.approx(0.5 * 0.8 * 0.1**2)
    confidence[0, 3, -1] = 0  # lifted: it may go wherever it likes
    assert energies.contact_stationarity(feet(step=0.1), confidence, everywhere) == 0


def test_eq_28_is_no_reason_to_fly():
    confidence = torch.ones(PEOPLE, FRAMES, FEET).double().requires_grad_()
    joints = feet(step=0.1).requires_grad_()
    energies.contact_stationarity(joints, confidence, everywhere).backward()
    assert confidence.grad is None
    assert joints.grad.abs().sum() > 0


def test_eq_28_has_right_gradients_and_reads_no_padding():
    confidence, joints, lasting = (
        doubles(PEOPLE, FRAMES, FEET).sigmoid(),
        doubles(PEOPLE, FRAMES, FEET, 3),
        everywhere.clone(),
    )
    lasting[0, 3:] = lasting[2] = False
    expected = energies.contact_stationarity(joints, confidence, lasting)
    assert gradcheck(lambda x: energies.contact_stationarity(x, confidence, lasting), joints.clone().requires_grad_())
    joints[0, 4:] = joints[2] = math.nan
    confidence[0, 4:] = confidence[2] = math.nan
    joints.requires_grad_()
    found = energies.contact_stationarity(joints, confidence, lasting)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found, joints)[0].isfinite().all()


def test_eq_28_does_not_depend_on_the_order_of_people_or_the_place_of_the_world():
    confidence, joints = doubles(PEOPLE, FRAMES, FEET).sigmoid(), doubles(PEOPLE, FRAMES, FEET, 3)
    expected = energies.contact_stationarity(joints, confidence, everywhere)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(energies.contact_stationarity(joints[order], confidence[order], everywhere), expected)
    turn = torch.as_tensor(Rotation.from_rotvec([0, 0.7, 0]).as_matrix())
    torch.testing.assert_close(energies.contact_stationarity(joints @ turn.T + 5, confidence, everywhere), expected)


def test_eq_29_is_the_square_of_every_joints_distance():
    joints = doubles(2, 3, 2, 24, 3)
    joints[1] = joints[0]
    assert energies.connection(joints) == 0
    joints[1, 1, 0] += torch.tensor([0.3, 0.4, 0])
    assert energies.connection(joints).item() == pytest.approx(24 * 0.25)
    assert energies.connection(joints.flip(0)).item() == pytest.approx(24 * 0.25)
    assert gradcheck(energies.connection, doubles(2, 2, 2, 3, 3).requires_grad_())


def test_eq_30_is_zero_for_who_moves_like_their_reference_and_counts_by_weight():
    same, other, weight = doubles(2, 5, 6), doubles(2, 5, 6).flip(0), torch.tensor([0.2, 0.9]).double()
    assert energies.motion_consistency(same, same, weight, 0.1).item() == pytest.approx(0, abs=1e-10)
    both = energies.motion_consistency(same, other, weight, 0.1)
    each = [energies.motion_consistency(same[i : i + 1], other[i : i + 1], weight[i : i + 1], 0.1) for i in (0, 1)]
    torch.testing.assert_close(both, each[0] + each[1])
    twice = energies.motion_consistency(same, other, 2 * weight, 0.1)
    torch.testing.assert_close(twice, 2 * both)
    assert gradcheck(lambda x: energies.motion_consistency(x, other, weight, 0.1), same.clone().requires_grad_())
    assert energies.motion_consistency(same[:0], other[:0], weight[:0], 0.1) == 0


# --- Table 1 ---


def test_the_schedule_is_the_third_row_of_table_1():
    stage = stages(OptimizationConfig(stages=3))[2]
    assert (stage.iterations, stage.learning_rate) == (300, 0.02)
    assert stage.variables == ("betas", "motion_latent")
    table = {"proj", "hsip_y", "contact", "motion_prior", "beta", "tau", "gamma", "theta", "connect", "amc"}
    ours = {"seam"}
    assert set(stage.terms) == table | ours


def test_its_narrower_eq_18_pulls_as_hard_at_a_surface_far_off():
    """By the force on a lowest vertex 1 m above the ground, and ten times as steep 1 mm above it as Stages 1 and 2."""
    config = OptimizationConfig(stages=3, hsip_height_width=0.1, stage3_height_width=0.01)
    *_, second, third = stages(config)
    height = torch.tensor([[1.0], [0.001]], dtype=torch.float64, requires_grad=True)
    force = []
    for stage, width in ((second, config.hsip_height_width), (third, config.stage3_height_width)):
        ground, one = torch.zeros(2, 1), torch.ones(())
        energy = stage.factor("hsip_y") * energies.hsip_y(height, ground, one, torch.ones(2, 1).bool(), width)
        force.append(torch.autograd.grad(energy, height)[0][:, 0])
    torch.testing.assert_close(force[1] / force[0], torch.tensor([1.0, 10.0]).double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", OWN)
def test_a_term_of_no_weight_is_off(name):
    stage = stages(OptimizationConfig(stages=3, **{OWN[name]: 0.0}))[2]
    assert name not in stage.terms


@pytest.mark.parametrize("name", COUPLINGS)
def test_every_coupling_has_a_third_stage(name):
    assert set(COUPLINGS[name].terms[2]) == set(COUPLINGS[name].terms[1]) - {"hsip_proj"}


# --- a crowd ---


@pytest.fixture(scope="module")
def body():
    return BodyModel.load()


@pytest.fixture(scope="module")
def prior():
    return GaussianPosePrior.load()


@pytest.fixture(scope="module")
def motion_prior():
    return MotionPrior.load()


@pytest.fixture(scope="module")
def staged(body):
    """Walkers whose initial poses jitter by 0.1 rad a joint."""
    clean = staged_crowd(body, people=4, frames=24, seed=2)
    motion = clean.window.motion
    noise = 0.1 * np.random.default_rng(0).normal(size=motion.body_pose.shape)
    return replace(clean, window=replace(clean.window, motion=replace(motion, body_pose=motion.body_pose + noise)))


@pytest.fixture(scope="module")
def prepared(staged, body):
    return prepare(body, staged.window)


def solve(prepared, body, prior, motion_prior, config, **more):
    return optimize(
        *(prepared.window, prepared.proxy, body, prior, config), motion_prior=motion_prior, scale_is_stable=True, **more
    )


def acceleration(joints, valid):
    relative = joints - joints[:, :, :1]
    return np.linalg.norm(np.diff(relative, 2, axis=1), axis=-1)[valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]].mean()


def test_it_halves_the_jitter_that_stage_2_left(staged, prepared, body, prior, motion_prior):
    before = solve(prepared, body, prior, None, replace(CONFIG, stages=2))
    after = solve(prepared, body, prior, motion_prior, CONFIG)
    assert not after.warnings
    assert set(OWN) <= set(after.energies)
    truth = (
        staged.motion.betas[:, None],
        *(getattr(staged.motion, n) for n in ("body_pose", "global_orient", "transl")),
    )
    true = acceleration(body.joints(*(torch.as_tensor(a).float() for a in truth)).numpy(), prepared.window.valid)
    left, leaves = (acceleration(s.joints, prepared.window.valid) for s in (before, after))
    assert leaves - true < 0.5 * (left - true)
    np.testing.assert_allclose(after.joints[:, :, 0], pelvis(body, after.motion), atol=1e-5)


def test_bodies_are_set_on_the_ground_at_the_end_once_the_scale_has_settled(staged, body, prior, motion_prior):
    prepared = prepare(body, staged.window, error=1.1)
    valid, ground = prepared.window.valid, prepared.proxy.ground
    settles = replace(BRIEF, stage1_iterations=12, stable_iterations=2, stable_change=1.0)
    settles_later = replace(settles, stable_iterations=100)

    def solved(config, settling):
        config = replace(config, stage3_settling=settling)
        return optimize(prepared.window, prepared.proxy, body, prior, config, motion_prior=motion_prior)

    def off_ground(solution):
        height, _ = ground.height(solution.lowest[..., [0, 2]] / solution.alpha)
        return np.median(np.abs(solution.lowest[..., 1] - solution.alpha * height)[valid])

    before, after = (solved(settles, settling) for settling in (0.0, 0.1))
    assert after.alpha == before.alpha < 0.99
    assert off_ground(after) < 0.5 * off_ground(before)
    rise = after.lowest - before.lowest
    np.testing.assert_array_equal(rise[..., [0, 2]], 0)
    np.testing.assert_allclose(after.motion.transl - before.motion.transl, rise, atol=1e-6)
    np.testing.assert_allclose(after.joints - before.joints, rise[:, :, None].repeat(24, 2), atol=1e-6)
    np.testing.assert_array_equal(after.motion.body_pose, before.motion.body_pose)
    np.testing.assert_array_equal(*(solved(settles_later, settling).lowest for settling in (0.0, 0.1)))


def test_segments_run_by_when_frames_were_taken(prepared, body, motion_prior, monkeypatch):
    everybody = np.ones((4, 1), bool)
    window = replace(prepared.window, valid=everybody & (np.arange(24) > 0), observed=everybody & (np.arange(24) != 5))
    asked = []

    def a_second_later(seconds, cameras, keypoints, confidence, seen):
        asked.append(seen)
        return seconds + 1

    monkeypatch.setattr(long_range, "taken_at", a_second_later)
    rest = torch.zeros(4, 24, 3), matrix_to_6d(torch.eye(3)).expand(4, 24, 24, 6)

    def start(is_told):
        config = replace(BRIEF, stage3_clock=is_told)
        return LongRange.of(window, body, motion_prior, config, *rest).motion.segments.start

    torch.testing.assert_close(start(True), start(False) + 1)
    (seen,) = asked
    np.testing.assert_array_equal(seen, everybody & ~np.isin(np.arange(24), [0, 5]))


def test_a_window_too_short_for_a_segment_keeps_stage_2s_motion_and_says_so(
    prepared, body, prior, motion_prior, caplog
):
    brief = replace(prepared, window=sliced(prepared.window, slice(0, 3), np.ones(3, bool)))
    brief = prepare(body, brief.window, alpha0=1.0)
    two = solve(brief, body, prior, None, replace(BRIEF, stages=2))
    with caplog.at_level("INFO", logger="crowd4d_ros"):
        three = solve(brief, body, prior, motion_prior, BRIEF)
    assert not three.warnings
    assert "0 segments" in caplog.text
    assert "12 of 12 person-frames" in caplog.text
    np.testing.assert_allclose(three.motion.body_pose, two.motion.body_pose, atol=1e-6)
    np.testing.assert_allclose(three.motion.global_orient, two.motion.global_orient, atol=1e-6)


def test_what_was_published_stays(staged, prepared, body, prior, motion_prior):
    first = prepare(body, sliced(staged.window, slice(0, 16), np.ones(16, bool)), alpha0=1.0)
    before = solve(first, body, prior, motion_prior, BRIEF)
    last = LastWindow(first.window.stamps, first.window.track_ids, first.window.valid, before.motion)
    window = sliced(staged.window, slice(8, 24), np.arange(8, 24) >= 16)
    second = prepare(body, window, alpha0=1.0)
    after = solve(second, body, prior, motion_prior, BRIEF, previous=last)
    np.testing.assert_allclose(after.motion.body_pose[:, :8], before.motion.body_pose[:, 8:], atol=1e-6)
    np.testing.assert_allclose(pelvis(body, after.motion)[:, :8], pelvis(body, before.motion)[:, 8:], atol=1e-5)
    assert np.abs(after.motion.body_pose[:, 8:]).max() > 0


def test_joints_do_not_jump_where_a_window_goes_on_from_the_last(prepared, body, prior, motion_prior):
    first = prepare(body, sliced(prepared.window, slice(0, 16), np.ones(16, bool)), alpha0=1.0)
    second = prepare(body, sliced(prepared.window, slice(8, 24), np.arange(8, 24) >= 16), alpha0=1.0)
    before = solve(first, body, prior, motion_prior, BRIEF)
    last = LastWindow(first.window.stamps, first.window.track_ids, first.window.valid, before.motion)

    def steps(turn_decay):
        config = replace(BRIEF, seam_turn_decay=turn_decay)
        joints = solve(second, body, prior, motion_prior, config, previous=last).joints
        return np.linalg.norm(np.diff(joints - joints[:, :, :1], axis=1), axis=-1).mean((0, 2))

    at_once, slowly = steps(1e-3), steps(0.3)
    assert slowly[7] < 0.9 * at_once[7]  # the jump is spread over the frames after it
    np.testing.assert_allclose(slowly[:7], at_once[:7], atol=1e-4)


def test_who_rests_weighs_1_and_stage3_rest_who_walks_1_and_who_is_between_half(prepared, body, motion_prior):
    """Of joints that turn evenly, in runs too short for a segment: codes change nothing."""
    window = sliced(prepared.window, slice(0, 3), np.ones(3, bool))
    window = replace(window, valid=np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1]], bool))
    speed = torch.tensor([0.0, 10.0, 1.0, 10.0]) * BRIEF.stage3_rest_speed
    angles = torch.zeros(4, 3, 24, 3)
    angles[:, :, 1:, 0] = (speed[:, None] * torch.as_tensor(window.seconds).float())[..., None]
    angles[:, :, 0, 1] = torch.as_tensor(window.seconds).float()  # the root's turn is none of the joints'
    columns = matrix_to_6d(axis_angle_to_matrix(angles))
    columns[3, 1] = math.nan
    calm = LongRange.of(window, body, motion_prior, BRIEF, torch.zeros(4, 3, 3), columns).calm
    rest = BRIEF.stage3_rest
    expected = torch.tensor([1 + rest, 1.0, 1 + rest / 2, 1 + rest])  # of the last no frame is next to another
    torch.testing.assert_close(calm, expected, atol=0, rtol=1e-3)


def test_eq_24_counts_everybody_by_their_calm(prepared, body, prior, motion_prior):
    config = replace(BRIEF, stage3_rest_speed=0.7)  # of these jittering walkers some are slower
    third = stages(config)[2]

    def turns(*calm):
        problem = Problem(
            prepared.window, prepared.proxy, body, prior, config, COUPLINGS["hsip"], True, None, motion_prior
        )
        problem.begin(third)
        if calm:
            problem.calmed = problem.pack.lasting * torch.tensor(calm)[problem.pack.person[:-1]]
        found = problem.energies(("gamma", "theta"))
        return torch.stack([found["gamma"], found["theta"]]).detach(), problem.long_range.calm

    each = [turns(*row)[0] for row in torch.eye(4).tolist()]
    together, calm = turns()
    assert calm.max() > 10 * calm.min()
    torch.testing.assert_close(together, sum(weight * value for weight, value in zip(calm, each, strict=True)))
    assert all((value > 0).all() for value in each)


@pytest.mark.parametrize("sick", ["contact_stationarity", "motion_consistency"])
def test_a_term_that_is_not_finite_ends_the_window_by_name(prepared, body, prior, motion_prior, monkeypatch, sick):
    healthy, calls = getattr(energies, sick), []

    def failing(*arguments):
        calls.append(1)
        return healthy(*arguments) * (math.nan if len(calls) > 1 else 1.0)

    monkeypatch.setattr(energies, sick, failing)
    solution = solve(prepared, body, prior, motion_prior, BRIEF)
    name = {"contact_stationarity": "contact", "motion_consistency": "amc"}[sick]
    assert any(f"stage-3 stopped at iteration 1: {name} is not finite" in warning for warning in solution.warnings)
    assert np.isfinite(solution.joints).all()


def test_without_a_motion_prior_stage_3_is_refused(prepared, body, prior):
    with pytest.raises(ConfigError, match="motion prior"):
        solve(prepared, body, prior, None, BRIEF)


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_or_one_person_for_one_frame_is_no_error(prepared, body, prior, motion_prior, people):
    window = sliced(prepared.window, slice(0, 1), np.ones(1, bool))
    window = replace(window, valid=(np.arange(4) < people)[:, None])
    solution = solve(prepare(body, window, alpha0=1.0), body, prior, motion_prior, BRIEF)
    assert np.isfinite(solution.joints[window.valid]).all()
    assert not solution.warnings


def test_a_body_of_ones_own_with_pose_blend_shapes_in_double_precision(prepared):
    body = BodyModel(replace(read_body(""), posedirs=np.full((6890, 3, 207), 1e-4)), dtype=torch.float64)
    priors = GaussianPosePrior.load(dtype=torch.float64), MotionPrior.load(dtype=torch.float64)
    solution = solve(prepared, body, *priors, BRIEF)
    assert not solution.warnings
    assert set(OWN) <= set(solution.energies)
    assert np.isfinite(solution.joints).all()


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_every_tensor_is_made_on_the_bodys_device(prepared, body, prior, motion_prior, solver):
    """A stand-in for CUDA: what names no device is made on "meta", and using it beside the body's raises."""
    brief = replace(BRIEF, solver=solver)
    first = prepare(body, sliced(prepared.window, slice(0, 16), np.ones(16, bool)), alpha0=1.0)
    second = prepare(body, sliced(prepared.window, slice(8, 24), np.arange(8, 24) >= 16), alpha0=1.0)
    with torch.device("meta"):
        before = solve(first, body, prior, motion_prior, brief)
        last = LastWindow(first.window.stamps, first.window.track_ids, first.window.valid, before.motion)
        placed = placed_by_keypoints(second.window, body, replace(brief, placement_iterations=2))
        after = solve(replace(second, window=placed), body, prior, motion_prior, brief, previous=last)
    assert set(OWN) <= set(after.energies)
