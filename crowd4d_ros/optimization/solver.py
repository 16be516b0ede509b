"""The three stages: the descent on the crowd's motion and the residual scale of the scene (Sec. 3.3)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization.adam import Adam, AdamAlongAxes
from crowd4d_ros.optimization.code_axes import axes_of_codes
from crowd4d_ros.optimization.lm import GaussNewton
from crowd4d_ros.optimization.metric import Metric
from crowd4d_ros.optimization.problem import Problem, array
from crowd4d_ros.optimization.stages import Stage, factors, stages
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
    its weighted value at every state that the solver accepted. course: stage → the sum of its terms there; seconds:
    stage → s since it began, on the same states. warnings: what went wrong, and what a deadline left out.
    """

    motion: BodyMotion
    joints: FloatArray
    lowest: FloatArray
    alpha: float
    scale_is_stable: bool
    energies: dict[str, list[float]]
    warnings: tuple[str, ...]
    history: dict[str, list[FloatArray]] = field(default_factory=dict)
    course: dict[str, FloatArray] = field(default_factory=dict)
    seconds: dict[str, FloatArray] = field(default_factory=dict)


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
    clock: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Solution:
    """The stages of Table 1 on one window.

    window: already scaled by α0 (``interaction.scale.scaled``), as ``proxy``, which ``coupling`` made, is. body,
    prior: on the device and of the dtype to compute with. scale_is_stable: the world's scale is known, α stays 1.
    previous: the last window's answer; frames that both windows have keep it exactly, and the new frames start from it.
    motion_prior: Stage 3's, on the same device; without it there is no Stage 3. began: by ``clock``, s, when the
    window's ``config.deadline`` began to run; None: now.
    A term that is not finite ends the window with a warning that names it, in the last good state; so does a deadline.
    """
    if config.reprojection_reference not in ("initial", "detected"):
        raise ConfigError(
            f"optimization.reprojection_reference is 'initial' or 'detected', not '{config.reprojection_reference}'"
        )
    began = clock() if began is None else began
    problem = Problem(window, proxy, body, prior, config, coupling, scale_is_stable, previous, motion_prior)
    descent = Descent(problem, clock, began)
    if window.valid.any():
        for stage in stages(config, coupling):
            if not descent.run(stage) and not descent.is_late():
                break
    return descent.solution()


class Steps(Protocol):
    """How a solver goes from one state to the next, which the variables themselves are."""

    needs_energy: bool
    """Of every state, before it goes on."""
    span: int
    """Accepted states over which ``enough`` is judged."""

    def accepts(self, energy: float) -> bool:
        """Whether to go on from this state."""
        ...

    def retreat(self, energy: float) -> bool:
        """To another state, from one that is not accepted. False: there is none to try."""
        ...

    def advance(self, energy: Tensor) -> None:
        """To the next state, down the gradient of this one's energy."""
        ...

    def forget(self, name: str) -> None:
        """This variable has been put elsewhere."""
        ...

    def look_again(self) -> None:
        """The energy is about to be another function, if nearly the same."""
        ...


class Descent:
    """The stages, one after the other, on a problem. began: by ``clock``, s, when the deadline began to run."""

    def __init__(
        self, problem: Problem, clock: Callable[[], float] = time.monotonic, began: float | None = None
    ) -> None:
        self.problem, self.config = problem, problem.config
        self.clock, self.began = clock, clock() if began is None else began
        self.history: dict[str, list[FloatArray]] = {}
        self.course: dict[str, FloatArray] = {}
        self.seconds: dict[str, FloatArray] = {}
        self.warnings: list[str] = []

    def run(self, stage: Stage) -> bool:
        """One stage of Table 1. False if it had to stop, or was not begun; a warning says why."""
        if self.is_late():
            self._warn(f"{stage.name} was not begun: the deadline of {self.config.deadline:g} s had passed")
            return False
        record = _Record(stage, self.clock)
        failure = self._descend(stage, record)
        self._keep(record)
        if failure:
            self._warn(f"{stage.name} {failure}")
        if "log_alpha" in stage.variables and not self.problem.has_settled:
            self._warn(f"the scale did not settle in {stage.name}: people stay where their size puts them")
        return not failure

    def _descend(self, stage: Stage, record: _Record) -> str:
        """From state to state, until the stage is over or cannot go on; then says why. Leaves the last good state."""
        problem, refresh, factor = self.problem, self.config.support_refresh, factors(self.config, stage)
        moving = problem.begin(stage)
        steps, good = self._steps(stage, moving), _copies(moving)
        failure = ""
        for iteration in range(stage.iterations + 1):
            if iteration and self.is_late():
                failure = f"ended at iteration {iteration} of {stage.iterations}, at the deadline"
                break
            if iteration % refresh == 0:
                steps.look_again()
                problem.refresh_support()
            if "log_alpha" in stage.variables and not problem.has_settled:
                if problem.root_once_stable():
                    steps.forget("pelvis")  # its momentum belonged to the place it left
                if problem.has_settled and self.config.solver == "lm":
                    steps = self._steps(stage, moving)
                    record.begin_anew()
            values = problem.energies(stage.terms)
            weighted = torch.stack([factor[name] * value for name, value in values.items()])
            total = weighted.sum()
            # on a GPU to wait for a number costs more than to compute it; but without that the clock runs ahead of it
            must_look = steps.needs_energy or self.config.deadline > 0 or iteration == stage.iterations
            looks = must_look or not total.is_cuda or iteration % refresh == 0
            if looks:
                energy = float(total.detach())
                if not steps.accepts(energy):
                    if iteration < stage.iterations and steps.retreat(energy):
                        continue
                    if not math.isfinite(energy):
                        failure = record.broken(weighted)
                    break
                good = _copies(moving)
            record.add(weighted, looks)
            if self._is_done(record, steps):
                break
            if iteration < stage.iterations:
                steps.advance(total)
        problem.variables.update(good)
        return failure

    def _steps(self, stage: Stage, moving: dict[str, Tensor]) -> Steps:
        """``config.solver``'s. Those of ``lm`` are Adam's as long as the scale is sought: the energy's own minimum is 3
        to 6 % below where Adam settles, and no nearer the truth. And Adam's along axes in Stage 3, whose metric of all
        segments would cost as much as 50 iterations."""
        problem, config = self.problem, self.config
        is_sought = "log_alpha" in stage.variables and not problem.has_settled
        if config.solver == "adam" or is_sought:
            return Adam(moving, stage.learning_rate, config.support_refresh)
        if "motion_latent" in moving:
            axes = axes_of_codes(problem, factors(config, stage))
            return AdamAlongAxes(moving, stage.learning_rate, axes)
        free = {name: tensor for name, tensor in moving.items() if name != "log_alpha"}
        return GaussNewton(free, Metric(problem, free, factors(config, stage)))

    def _is_done(self, record: _Record, steps: Steps) -> bool:
        """The energy has fallen by less than ``config.enough`` over the last ``steps.span`` states. With 0 Adam goes on
        in any case, and a line search until refreshed supports only take it back up."""
        is_sought = "log_alpha" in record.stage.variables and not self.problem.has_settled
        if is_sought or not (self.config.enough or steps.needs_energy):
            return False
        fallen = record.fallen(steps.span)
        return fallen is not None and fallen < self.config.enough

    def is_late(self) -> bool:
        """The deadline has passed."""
        return 0 < self.config.deadline < self.clock() - self.began

    def _keep(self, record: _Record) -> None:
        """Keeps the weighted terms of each state."""
        if not record.rows:
            return
        stage, rows = record.stage, array(torch.stack(record.rows)).astype(float)
        for name, values in zip(stage.terms, rows.T, strict=True):
            self.history.setdefault(name, []).append(values)
        self.course[stage.name], self.seconds[stage.name] = rows.sum(-1), np.array(record.seconds)
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
            self.course,
            self.seconds,
        )

    def _warn(self, message: str) -> None:
        logger.warning(message)
        self.warnings.append(message)


class _Record:
    """What a stage's states were worth. rows: weighted terms; seconds: since the stage began."""

    def __init__(self, stage: Stage, clock: Callable[[], float]) -> None:
        self.stage, self.clock, self.began = stage, clock, clock()
        self.rows: list[Tensor] = []
        self.seconds: list[float] = []
        self.first = self.seen = 0

    def begin_anew(self) -> None:
        """Another solver, another pace: what has been is not compared with what comes."""
        self.first = len(self.rows)

    def add(self, weighted: Tensor, is_seen: bool) -> None:
        """The terms of an accepted state. is_seen: they are known to be finite, and those before."""
        self.rows.append(weighted.detach())
        self.seconds.append(self.clock() - self.began)
        self.seen = len(self.rows) if is_seen else self.seen

    def fallen(self, span: int) -> float | None:
        """Share of the energy by which it fell over the last ``span`` states; None but at every span's end."""
        since = len(self.rows) - 1 - self.first
        if since % span or since < span:
            return None
        before, now = (float(self.rows[index].sum()) for index in (-1 - span, -1))
        return (before - now) / abs(before) if before else 0.0

    def broken(self, weighted: Tensor) -> str:
        """Which terms were the first that are not finite, and when. Forgets the states that nobody had looked at."""
        rows = torch.stack([*self.rows[self.seen :], weighted.detach()])
        is_broken = ~torch.isfinite(rows)
        first = int(is_broken.any(-1).int().argmax())
        names = ", ".join(name for name, bad in zip(self.stage.terms, is_broken[first].tolist(), strict=True) if bad)
        state = self.seen + first
        del self.rows[self.seen :], self.seconds[self.seen :]
        return f"stopped at iteration {state}: {names} is not finite"


def _copies(moving: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in moving.items()}
