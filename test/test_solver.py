"""Stages 1 and 2 recover a crowd whose truth is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from synthetic_window import Staged, staged_crowd

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import ConfigError, InteractionConfig, OptimizationConfig
from crowd4d_ros.interaction.point_cloud import scene_interaction_points
from crowd4d_ros.interaction.proxy import Proxy, anchor_proxies
from crowd4d_ros.interaction.scale import initial_scale, scaled
from crowd4d_ros.interaction.surface import Surface, build_surface
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.evidence import nearest_valid
from crowd4d_ros.optimization.solver import Solution, optimize
from crowd4d_ros.optimization.stages import stages, weights
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.window import BodyMotion, CrowdWindow, FloatArray
from crowd4d_ros.world import LastWindow

INTERACTION = InteractionConfig()
CONFIG = OptimizationConfig(stages=2, leg_change=0.0)
"""The staged crowd's keypoints are the body's own."""
BRIEF = replace(CONFIG, stage1_iterations=8, stage2_iterations=4)


@pytest.fixture(scope="module")
def body():
    return BodyModel.load()


@pytest.fixture(scope="module")
def prior():
    return GaussianPosePrior.load()


@dataclass
class Prepared:
    window: CrowdWindow
    surface: Surface
    proxy: Proxy
    alpha0: float


def floats(*arrays: FloatArray) -> list[torch.Tensor]:
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


def lowest(body: BodyModel, m: BodyMotion) -> FloatArray:
    return body.lowest_vertex(*floats(m.betas[:, None], m.body_pose, m.global_orient, m.transl))[1].double().numpy()


def pelvis(body: BodyModel, m: BodyMotion) -> FloatArray:
    return m.transl + body.pelvis(*floats(m.betas)).double().numpy()[:, None]


def prepare(body: BodyModel, window: CrowdWindow, error: float = 1.0, alpha0: float | None = None) -> Prepared:
    """Sec. 3.2, with α0 off by the factor ``error``, or a world's known scale."""
    if alpha0 is None:
        feet = lowest(body, window.motion)
        alpha0 = error * initial_scale(feet, window.valid, window.cameras, window.scene, INTERACTION).value
    window = scaled(window, alpha0)
    root = pelvis(body, window.motion)
    surface = build_surface(scene_interaction_points(window.scene, INTERACTION), root[window.valid], INTERACTION)
    proxy = anchor_proxies(
        root,
        lowest(body, window.motion),
        window.valid,
        window.cameras.centers,
        window.stamps * 1e-9,
        surface,
        INTERACTION,
    )
    return Prepared(window, surface, proxy, alpha0)


def jitter(positions: FloatArray) -> float:
    return float(np.sqrt((np.diff(positions, 2, axis=1) ** 2).sum(-1).mean()))


def rms(offsets: FloatArray) -> float:
    return float(np.sqrt((offsets**2).sum(-1).mean()))


def test_eq_2_recovers_a_scale_30_percent_wrong(body):
    staged = staged_crowd(body, scale=1.3, people=12, frames=12, stature_noise=0.02)
    assert prepare(body, staged.window).alpha0 == pytest.approx(1.3, rel=0.02)


def test_scaling_a_window_keeps_what_the_camera_sees(body):
    staged = staged_crowd(body, people=2, frames=4, scale=1.3)
    after = scaled(staged.window, 1.3)
    np.testing.assert_allclose(after.cameras.centers, staged.centers, atol=1e-12)
    seen = staged.window.motion.transl - staged.window.cameras.centers
    np.testing.assert_allclose(after.motion.transl - after.cameras.centers, seen, atol=1e-12)


@pytest.fixture(scope="module", params=[1.0, 1 / 1.3], ids=["right", "30% small"])
def solved(request, body, prior) -> tuple[Staged, Prepared, Solution]:
    staged = staged_crowd(body, scale=1.3, people=6, frames=16, stature_noise=0.03, seed=1)
    prepared = prepare(body, staged.window, error=request.param)
    return staged, prepared, optimize(prepared.window, prepared.proxy, body, prior, CONFIG)


def test_the_residual_scale_is_recovered(solved):
    _, prepared, solution = solved
    assert solution.scale_is_stable
    assert prepared.alpha0 * solution.alpha == pytest.approx(1.3, rel=0.02)
    assert not solution.warnings


def test_feet_are_on_the_surface(solved):
    _, prepared, solution = solved
    ground, _ = prepared.surface.scaled(solution.alpha).height(solution.lowest[..., [0, 2]])
    assert np.sqrt(((solution.lowest[..., 1] - ground) ** 2).mean()) < 0.025


def test_feet_that_stand_aside_of_the_root_are_on_the_surface_where_they_are(body, prior):
    """On a slope of a quarter the ground under a foot is 5 cm off what it is under the root, 20 cm aside."""
    staged = staged_crowd(
        body, people=6, frames=12, stature_noise=0.0, height=lambda x, z: -6 - 0.25 * (z + 20), seed=2
    )
    prepared = prepare(body, staged.window)
    config = replace(CONFIG, stages=1)

    def clearance(proxy: Proxy) -> float:
        solution = optimize(prepared.window, proxy, body, prior, config)
        ground, _ = prepared.surface.scaled(solution.alpha).height(solution.lowest[..., [0, 2]])
        return float(np.median(np.abs(solution.lowest[..., 1] - ground)))

    assert clearance(prepared.proxy) < 0.02 < 0.028 < clearance(replace(prepared.proxy, ground=None))


def test_people_are_where_they_were(solved, body):
    staged, _, solution = solved
    found = pelvis(body, solution.motion)
    np.testing.assert_allclose(solution.joints[:, :, 0], found, atol=1e-5)
    assert rms(found - staged.pelvis) < 0.4 < rms(pelvis(body, staged.window.motion) - staged.pelvis)


def test_jitter_is_gone(solved, body):
    staged, prepared, solution = solved
    assert jitter(pelvis(body, prepared.window.motion)) > 1.0
    assert jitter(pelvis(body, solution.motion)) < 1.8 * jitter(staged.pelvis)


def test_every_term_of_every_stage_is_reported(solved):
    _, _, solution = solved
    for name in weights(CONFIG):
        assert len(solution.energies.get(name, [])) == sum(name in stage.terms for stage in stages(CONFIG))


def test_a_known_scale_is_not_touched_and_roots_go_to_their_proxies_at_once(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=6).window)
    still = replace(CONFIG, stage1_iterations=1, stage1_learning_rate=0.0, stage2_iterations=0)
    solution = optimize(prepared.window, prepared.proxy, body, prior, still, scale_is_stable=True)
    assert solution.alpha == 1
    assert solution.scale_is_stable
    np.testing.assert_allclose(pelvis(body, solution.motion), prepared.proxy.reference, atol=1e-4)


def test_a_scale_that_does_not_settle_is_said(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=4).window)
    solution = optimize(prepared.window, prepared.proxy, body, prior, replace(BRIEF, stage1_iterations=5))
    assert not solution.scale_is_stable
    assert any("did not settle" in warning for warning in solution.warnings)


def test_padding_is_never_read(body, prior):
    prepared = prepare(body, staged_crowd(body, people=3, frames=8).window)
    valid = np.ones((3, 8), bool)
    valid[0, 5:] = valid[1, :3] = valid[2] = False

    def padded(fill):
        def fill_in(array):
            return np.where(valid.reshape(valid.shape + (1,) * (array.ndim - 2)), array, fill)

        window, motion = prepared.window, prepared.window.motion
        window = replace(
            window,
            valid=valid,
            boxes=fill_in(window.boxes),
            keypoints_2d=fill_in(window.keypoints_2d),
            keypoints_confidence=fill_in(window.keypoints_confidence),
            motion=BodyMotion(
                np.where(valid.any(-1, keepdims=True), motion.betas, fill),
                *(fill_in(a) for a in (motion.body_pose, motion.global_orient, motion.transl)),
            ),
        )
        proxy = replace(prepared.proxy, valid=valid)
        return optimize(window, proxy, body, prior, BRIEF, scale_is_stable=True)

    with_nan, with_number = padded(np.nan), padded(7.0)
    for name in ("betas", "body_pose", "global_orient", "transl"):
        found = getattr(with_nan.motion, name)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, getattr(with_number.motion, name))


def test_nobody_is_no_error(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=4).window)
    window = replace(prepared.window, valid=np.zeros((2, 4), bool))
    solution = optimize(window, prepared.proxy, body, prior, CONFIG)
    assert solution.alpha == 1
    assert solution.energies == {}


@pytest.mark.parametrize("reference", ["initial", "detected"])
def test_one_person_for_one_frame(body, prior, reference):
    prepared = prepare(body, staged_crowd(body, people=1, frames=1, jitter=0.0).window)
    config = replace(BRIEF, reprojection_reference=reference)
    solution = optimize(prepared.window, prepared.proxy, body, prior, config, scale_is_stable=True)
    assert np.isfinite(solution.joints).all()


def test_an_unknown_reference_is_refused(body, prior):
    prepared = prepare(body, staged_crowd(body, people=1, frames=1).window)
    with pytest.raises(ConfigError, match="reprojection_reference"):
        optimize(prepared.window, prepared.proxy, body, prior, replace(CONFIG, reprojection_reference="best"))


@pytest.mark.parametrize("solver", ["adam", "lm"])
@pytest.mark.parametrize("sick", ["crowd", "prior_theta"])
def test_a_term_that_is_not_finite_ends_the_window_by_name(body, prior, monkeypatch, sick, solver):
    prepared = prepare(body, staged_crowd(body, people=2, frames=6).window)
    function = {"crowd": "crowd", "prior_theta": "pose_prior"}[sick]
    healthy, calls = getattr(energies, function), []

    def failing(*arguments):
        calls.append(1)
        return healthy(*arguments) * (np.nan if len(calls) > 3 else 1.0)

    monkeypatch.setattr(energies, function, failing)
    config = replace(BRIEF, solver=solver)
    solution = optimize(prepared.window, prepared.proxy, body, prior, config, scale_is_stable=True)
    assert any(sick in warning and "not finite" in warning for warning in solution.warnings)
    moved = np.abs(solution.motion.body_pose - prepared.window.motion.body_pose).max()
    assert (moved > 1e-4) == (sick == "prior_theta")  # what Stage 2 had reached is kept
    assert np.isfinite(solution.joints).all()


def sliced(window: CrowdWindow, frames: slice, is_new: np.ndarray) -> CrowdWindow:
    """Frames of a window as a window of their own."""
    names = "observed valid boxes box_confidence keypoints_2d keypoints_confidence landmarks_3d"
    m = window.motion
    return replace(
        window,
        stamps=window.stamps[frames],
        frames=window.frames[frames],
        is_new=is_new,
        cameras=replace(window.cameras, R=window.cameras.R[frames], t=window.cameras.t[frames]),
        motion=BodyMotion(m.betas, m.body_pose[:, frames], m.global_orient[:, frames], m.transl[:, frames]),
        **{name: getattr(window, name)[:, frames] for name in names.split()},
    )


def test_people_do_not_jump_at_a_seam(body, prior):
    staged = staged_crowd(body, people=4, frames=30)
    first = prepare(body, sliced(staged.window, slice(0, 20), np.ones(20, bool)))
    config = replace(CONFIG, stage1_iterations=30, stage2_iterations=10)
    before = optimize(first.window, first.proxy, body, prior, config, scale_is_stable=True)
    last = LastWindow(first.window.stamps, first.window.track_ids, first.window.valid, before.motion)
    # the next window lists people in another order, and one of them is new
    order = np.array([2, 0, 3, 1])
    window = sliced(staged.window, slice(12, 30), np.arange(12, 30) >= 20)
    window = replace(
        window,
        track_ids=np.array([3, 1, 99, 2]),
        motion=BodyMotion(*(array[order] for array in vars(window.motion).values())),
        boxes=window.boxes[order],
        keypoints_2d=window.keypoints_2d[order],
    )
    second = prepare(body, window, alpha0=first.alpha0)
    after = optimize(second.window, second.proxy, body, prior, config, scale_is_stable=True, previous=last)
    there, here = pelvis(body, before.motion)[[2, 0, 1]], pelvis(body, after.motion)[[0, 1, 3]]
    np.testing.assert_allclose(here[:, :8], there[:, 12:], atol=1e-5)
    np.testing.assert_allclose(
        after.motion.body_pose[[0, 1, 3], :8], before.motion.body_pose[[2, 0, 1], 12:], atol=1e-6
    )
    steps = np.linalg.norm(np.diff(here, axis=1), axis=-1)
    assert (steps[:, 7] < steps[:, 8:].max(-1) + 0.08).all()


def test_padding_is_filled_from_the_same_person():
    valid = np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    assert nearest_valid(valid).tolist() == [[1, 1, 1, 4, 4], [1, 1, 1, 1, 1], [10, 10, 10, 10, 10]]


def test_the_schedule_is_table_1():
    first, second = stages(CONFIG)
    assert (first.iterations, second.iterations) == (150, 150)
    assert (first.learning_rate, second.learning_rate) == (0.01, 0.01)
    assert set(first.variables) == {"betas", "pelvis", "global_orient", "log_alpha"}
    assert set(second.variables) == {"betas", "pelvis", "global_orient", "latent"}
    assert "hsip_xz" not in second.terms
    assert weights(CONFIG).keys() >= set(first.terms) | set(second.terms)


def test_a_stage_ends_once_its_energy_hardly_falls_and_never_early_when_told_so(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=4).window)
    patient = replace(CONFIG, stages=1, stage1_iterations=40, support_refresh=5, enough=0.0)
    lengths = []
    for enough in (0.0, 0.05, 0.99):
        config = replace(patient, enough=enough)
        solution = optimize(prepared.window, prepared.proxy, body, prior, config, scale_is_stable=True)
        lengths.append(len(solution.history["proj"][0]) - 1)
    assert lengths[0] == 40
    assert 5 < lengths[1] < 40
    assert lengths[2] == 5


def test_an_unknown_solver_is_refused(body, prior):
    prepared = prepare(body, staged_crowd(body, people=1, frames=1).window)
    with pytest.raises(ConfigError, match="'adam' or 'lm', not 'newton'"):
        optimize(prepared.window, prepared.proxy, body, prior, replace(CONFIG, solver="newton"))


def test_lm_goes_down_and_is_where_adam_ends_in_a_quarter_of_its_iterations(body, prior):
    prepared = prepare(body, staged_crowd(body, people=3, frames=10, stature_noise=0.03).window)
    patient = replace(CONFIG, enough=0.0, support_refresh=1000, stage1_iterations=80, stage2_iterations=80)

    def solved(solver, **changes):
        config = replace(patient, solver=solver, **changes)
        return optimize(prepared.window, prepared.proxy, body, prior, config, scale_is_stable=True)

    adam, lm = solved("adam"), solved("lm", stage1_iterations=20, stage2_iterations=20)
    for stage in ("stage-1", "stage-2"):
        assert lm.course[stage][-1] <= (1 + 1e-3) * adam.course[stage][-1]
        assert (np.diff(lm.course[stage]) <= 0).all()
        assert len(lm.seconds[stage]) == len(lm.course[stage]) <= 21
        assert (np.diff(lm.seconds[stage]) >= 0).all()


def test_lm_takes_the_scale_at_which_adam_settles_and_keeps_it(body, prior):
    prepared = prepare(body, staged_crowd(body, scale=1.3, people=4, frames=8, seed=1).window, error=1 / 1.1)
    stage1 = replace(CONFIG, stages=1, stable_change=0.02)
    adam, lm = (
        optimize(prepared.window, prepared.proxy, body, prior, replace(stage1, solver=solver, stage1_iterations=most))
        for solver, most in (("adam", 60), ("lm", 80))
    )
    assert lm.scale_is_stable
    settled = 1 + int(np.argmax(np.abs(np.diff(adam.course["stage-1"]) / adam.course["stage-1"][:-1])))
    np.testing.assert_allclose(lm.course["stage-1"][:settled], adam.course["stage-1"][:settled], rtol=1e-5)
    assert lm.alpha == pytest.approx(adam.alpha, rel=0.02)


class Clock:
    """A second passes whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_at_the_deadline_the_last_good_state_is_the_answer_and_the_rest_is_said(body, prior, solver):
    prepared = prepare(body, staged_crowd(body, people=2, frames=6).window)

    def solved(deadline, clock):
        config = replace(CONFIG, solver=solver, deadline=deadline, enough=0.0)
        return optimize(prepared.window, prepared.proxy, body, prior, config, scale_is_stable=True, clock=clock)

    hurried = solved(30.0, Clock())
    ended, left = hurried.warnings
    assert "stage-1 ended at iteration" in ended
    assert "of 150, at the deadline" in ended
    assert left == "stage-2 was not begun: the deadline of 30 s had passed"
    assert hurried.course["stage-1"][-1] < hurried.course["stage-1"][0]
    again = solved(30.0, Clock())
    np.testing.assert_array_equal(again.motion.transl, hurried.motion.transl)


def test_a_scale_that_the_deadline_cuts_off_is_said_too(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=6).window)
    config = replace(CONFIG, stages=1, deadline=5.0)
    solution = optimize(prepared.window, prepared.proxy, body, prior, config, clock=Clock())
    assert not solution.scale_is_stable
    ended, unsettled = solution.warnings
    assert "at the deadline" in ended
    assert "did not settle" in unsettled


def test_a_window_that_comes_too_late_keeps_its_initial_motion(body, prior):
    prepared = prepare(body, staged_crowd(body, people=2, frames=6).window)
    config = replace(BRIEF, deadline=5.0)
    window, proxy = prepared.window, prepared.proxy
    solution = optimize(window, proxy, body, prior, config, clock=lambda: 100.0, began=90.0)
    assert [warning.split(" was ")[0] for warning in solution.warnings] == ["stage-1", "stage-2"]
    np.testing.assert_allclose(solution.motion.body_pose, window.motion.body_pose, atol=1e-6)
