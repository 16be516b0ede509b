"""Stage 3 along the axes in which the energy is about equally stiff."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_solver import Clock, prepare, sliced
from test_stage3 import CONFIG, body, motion_prior, prepared, prior, solve, staged  # noqa: F401

from crowd4d_ros.interaction.anchors import COUPLINGS
from crowd4d_ros.optimization.adam import RATE, Adam, AdamAlongAxes
from crowd4d_ros.optimization.code_axes import axes_of_codes
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.stages import factors, stages

LM = replace(CONFIG, solver="lm", enough=0.0)


def begun(prepared, body, prior, motion_prior):  # noqa: F811
    """A problem at the beginning of its Stage 3, and that."""
    arguments = prepared.window, prepared.proxy, body, prior, LM, COUPLINGS["hsip"], True, None, motion_prior
    problem, third = Problem(*arguments), stages(LM)[2]
    problem.has_settled = problem.pose_is_free = True
    problem.begin(third)
    problem.refresh_support()
    return problem, third


def test_a_first_step_goes_down_every_axis_by_its_length():
    generator = torch.Generator().manual_seed(0)
    axes, slope = torch.randn(5, 5, generator=generator), torch.randn(3, 5, generator=generator)
    codes, betas = torch.zeros(3, 5, requires_grad=True), torch.zeros(2, requires_grad=True)
    steps = AdamAlongAxes({"betas": betas, "motion_latent": codes}, 0.02, axes)
    steps.advance((codes * slope).sum() - betas.sum())
    torch.testing.assert_close(codes.detach(), -RATE * torch.sign(slope @ axes) @ axes.mT)
    torch.testing.assert_close(betas.detach(), torch.full((2,), 0.02))


def test_a_long_valley_across_the_entries_is_short_along_its_axes():
    """Of a quadratic energy whose stiffness is known, Adam in its axes leaves a hundredth of what Adam leaves."""
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    stiffness = torch.logspace(0, 4, 8)
    axes = turn * stiffness.pow(-0.25)
    left = []
    for make in (lambda moving: Adam(moving, 0.1, 25), lambda moving: AdamAlongAxes(moving, 0.1, axes)):
        codes = torch.ones(1, 8, requires_grad=True)
        steps = make({"motion_latent": codes})
        for _ in range(100):
            steps.advance(((codes @ turn).square() * stiffness).sum())
        left.append(float(((codes.detach() @ turn).square() * stiffness).sum()))
    assert left[1] < 0.01 * left[0]


def test_a_step_along_any_axis_costs_more_nearly_the_same_than_one_of_any_entry(prepared, body, prior, motion_prior):  # noqa: F811
    problem, third = begun(prepared, body, prior, motion_prior)
    axes = axes_of_codes(problem, factors(LM, third))
    codes, factor, step = problem.variables["motion_latent"], factors(LM, third), 0.02

    @torch.no_grad()
    def energy(direction):
        start = codes.clone()
        codes.add_(direction)
        values = problem.energies(third.terms)
        codes.copy_(start)
        return sum(factor[name] * float(value) for name, value in values.items())

    def spread(directions):
        middle = energy(torch.zeros(len(axes)))
        bends = [energy(step * d) + energy(-step * d) - 2 * middle for d in directions]
        return np.std(np.log(np.maximum(bends, 1e-3)))

    entries, columns = torch.eye(len(axes))[::6], axes.mT[::6]
    assert spread(columns / columns.norm(dim=-1, keepdim=True)) > spread(columns)
    assert spread(entries) > spread(columns)


def test_lm_is_where_adam_ends_in_a_third_of_its_iterations(prepared, body, prior, motion_prior):  # noqa: F811
    adam, lm = (
        solve(prepared, body, prior, motion_prior, replace(LM, solver=solver, stage3_iterations=iterations))
        for solver, iterations in (("adam", 90), ("lm", 30))
    )
    assert lm.course["stage-3"][-1] < adam.course["stage-3"][-1]


def test_stage_3_of_lm_ends_once_its_energy_hardly_falls_and_never_early_when_told_so(
    prepared,  # noqa: F811
    body,  # noqa: F811
    prior,  # noqa: F811
    motion_prior,  # noqa: F811
):
    brief = replace(LM, stage1_iterations=2, stage2_iterations=2, stage3_iterations=40, support_refresh=10)
    whole, ended = (
        solve(prepared, body, prior, motion_prior, replace(brief, enough=enough)).course["stage-3"]
        for enough in (0.0, 0.2)
    )
    assert len(whole) == 41
    assert 5 < len(ended) - 1 < 40
    np.testing.assert_array_equal(ended, whole[: len(ended)])


def test_where_there_is_no_segment_there_are_no_axes_to_look_for(prepared, body, prior, motion_prior):  # noqa: F811
    brief = prepare(body, sliced(prepared.window, slice(0, 3), np.ones(3, bool)), alpha0=1.0)
    solution = solve(brief, body, prior, motion_prior, replace(LM, stage3_iterations=3))
    assert not solution.warnings
    assert len(solution.course["stage-3"]) == 4


def test_at_the_deadline_stage_3_of_lm_has_gone_down(prepared, body, prior, motion_prior):  # noqa: F811
    config = replace(LM, stage1_iterations=0, stage2_iterations=0, stage3_iterations=300, deadline=60.0)
    solution = solve(prepared, body, prior, motion_prior, config, clock=Clock())
    assert any("stage-3 ended at iteration" in warning for warning in solution.warnings)
    assert solution.course["stage-3"][-1] < 0.8 * solution.course["stage-3"][0]
    assert np.isfinite(solution.joints).all()


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_the_same_window_has_the_same_answer(prepared, body, prior, motion_prior, solver):  # noqa: F811
    config = replace(LM, solver=solver, stage1_iterations=2, stage2_iterations=2, stage3_iterations=4)
    once, again = (solve(prepared, body, prior, motion_prior, config) for _ in range(2))
    np.testing.assert_array_equal(once.joints, again.joints)
