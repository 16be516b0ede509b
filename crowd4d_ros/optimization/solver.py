"""The three stages: Adam on the crowd's motion and the residual scale of the scene (Sec. 3.3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization.problem import Problem, array
from crowd4d_ros.optimization.stages import Stage, stages, weights
from crowd4d_ros.priors.motion import MotionPrior
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import BodyMotion, CrowdWindow, FloatArray
from crowd4d_ros.world import LastWindow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Solution:
    """The optimised window. Entries that are not valid in the window are finite and carry no meaning.

    motion: transl is smplx's. joints: (N, T, 24, 3) metres, world. lowest: (N, T, 3) lowest vertices.
    alpha: the residual scale; cameras, SIPC and SIS are to be scaled by it. scale_is_stable: it had settled.
    energies: term → its weighted value where each stage that used it ended. history: term → for each of these stages,
    its weighted value at every iteration. warnings: what went wrong.
    """

    motion: BodyMotion
    joints: FloatArray
    lowest: FloatArray
    alpha: float
    scale_is_stable: bool
    energies: dict[str, list[float]]
    warnings: tuple[str, ...]
    history: dict[str, list[FloatArray]] = field(default_factory=dict)


def optimize(
    window: CrowdWindow,
    proxy: Proxy,
    body: BodyModel,
    prior: PosePrior,
    config: OptimizationConfig,
    *,
    coupling: Coupling = COUPLINGS["hsip"],
    scale_is_stable: bool = False,
    previous: LastWindow | None = None,
    motion_prior: MotionPrior | None = None,
) -> Solution:
    """The stages of Table 1 on one window.

    window: already scaled by α0 (``interaction.scale.scaled``), as ``proxy``, which ``coupling`` made, is. body,
    prior: on the device and of the dtype to compute with. scale_is_stable: the world's scale is known, α stays 1.
    previous: the last window's answer; frames that both windows have keep it exactly, and the new frames start from it.
    motion_prior: Stage 3's, on the same device; without it there is no Stage 3.
    A term that is not finite ends the window with a warning that names it, in the last good state.
    """
    if config.reprojection_reference not in ("initial", "detected"):
        raise ConfigError(
            f"optimization.reprojection_reference is 'initial' or 'detected', not '{config.reprojection_reference}'"
        )
    problem = Problem(window, proxy, body, prior, config, coupling, scale_is_stable, previous, motion_prior)
    descent = _Adam(problem)
    if window.valid.any():
        for stage in stages(config, coupling):
            if not descent.run(stage):
                break
    return descent.solution()


class _Adam:
    """The paper's: Adam with each stage's rate."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.config, self.weights = problem, problem.config, weights(problem.config)
        self.history: dict[str, list[FloatArray]] = {}
        self.warnings: list[str] = []

    def run(self, stage: Stage) -> bool:
        """One stage of Table 1. False if it had to stop."""
        problem = self.problem
        moving = problem.begin(stage)
        optimizer = torch.optim.Adam(moving.values(), lr=stage.learning_rate)
        good = {name: tensor.detach().clone() for name, tensor in moving.items()}
        course: list[Tensor] = []
        for iteration in range(stage.iterations + 1):
            if iteration % self.config.support_refresh == 0:
                problem.refresh_support()
            if "log_alpha" in stage.variables and problem.root_once_stable():
                optimizer.state.pop(moving["pelvis"], None)  # its momentum belonged to the place it left
            values = problem.energies(stage.terms)
            weighted = torch.stack([self.weights[name] * stage.factor(name) * value for name, value in values.items()])
            if not bool(torch.isfinite(weighted).all()):
                problem.variables.update(good)
                self._record(stage, course)
                self._warn(f"{stage.name} stopped at iteration {iteration}: {_broken(values)} is not finite")
                return False
            course.append(weighted.detach())
            if iteration == stage.iterations or self._is_done(stage, course):
                break
            good = {name: tensor.detach().clone() for name, tensor in moving.items()}
            optimizer.zero_grad()
            torch.autograd.backward(weighted.sum())
            optimizer.step()
        self._record(stage, course)
        if "log_alpha" in stage.variables and not problem.has_settled:
            self._warn(f"the scale did not settle in {stage.name}: people stay where their size puts them")
        return True

    def _is_done(self, stage: Stage, course: list[Tensor]) -> bool:
        """The energy has fallen by less than ``config.enough`` in the last ``support_refresh`` iterations."""
        span = self.config.support_refresh
        if (
            (len(course) - 1) % span
            or len(course) <= span
            or ("log_alpha" in stage.variables and not self.problem.has_settled)
        ):
            return False
        before, now = (float(course[index].sum()) for index in (-1 - span, -1))
        return before - now < self.config.enough * abs(before)

    def _record(self, stage: Stage, course: list[Tensor]) -> None:
        """Keeps the weighted terms of each iteration."""
        if not course:
            return
        rows = array(torch.stack(course)).astype(float)
        for name, values in zip(stage.terms, rows.T, strict=True):
            self.history.setdefault(name, []).append(values)
        for iteration, row in enumerate(rows):
            logger.debug("%s %d: %s", stage.name, iteration, dict(zip(stage.terms, row.round(4), strict=True)))

    def solution(self) -> Solution:
        problem = self.problem
        return Solution(
            *problem.answer(),
            float(problem.variables["log_alpha"].detach().exp()),
            problem.scale_is_stable,
            {name: [float(values[-1]) for values in courses] for name, courses in self.history.items()},
            tuple(self.warnings),
            self.history,
        )

    def _warn(self, message: str) -> None:
        logger.warning(message)
        self.warnings.append(message)


def _broken(values: dict[str, Tensor]) -> str:
    return ", ".join(name for name, value in values.items() if not bool(torch.isfinite(value)))
