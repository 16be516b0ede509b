"""Both sides on one window: seconds, operators, memory, misses of the support set, and whether the answer is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from crowd4d_ros.benchmark.agreement import Agreement, Misses, gradients, misses
from crowd4d_ros.benchmark.measure import Cost, Stopwatch, Times, cost, seconds
from crowd4d_ros.benchmark.reference import MeshProblem, equalise
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.solver import Descent
from crowd4d_ros.optimization.stages import Stage

CHECK_EVERY = 50
"""iterations between two comparisons of energies and gradients."""


class BenchmarkError(RuntimeError):
    """There is nothing to measure; the message says why."""


Tell = Callable[[str], None]


@dataclass
class Observed:
    """What was seen of one stage. reference: seconds an iteration, at the stage's start.

    exact: ours against the reference, both in double precision. rounded, reference_rounded: as they run, in single,
    against the reference in double: what rounding alone does, most where a stage has converged and its gradient is a
    small difference of large ones, or two vertices are equally low.
    """

    stage: Stage
    reference: Times = field(default_factory=Times)
    costs: dict[str, Cost] = field(default_factory=dict)
    exact: list[Agreement] = field(default_factory=list)
    rounded: list[Agreement] = field(default_factory=list)
    reference_rounded: list[Agreement] = field(default_factory=list)
    misses: Misses = field(default_factory=Misses)
    refreshes: int = 0


@dataclass
class Observer:
    """What looks on. repeat: iterations of the reference that are timed; threads: of torch, that it gets."""

    reference: MeshProblem
    double: Problem
    double_reference: MeshProblem
    repeat: int
    threads: int
    stages: list[Observed] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where both compute."""
        return self.reference.valid.device

    def before_refresh(self, problem: Problem) -> None:
        """The support set is checked; the first one is still to be made."""
        seen = self.stages[-1]
        if seen.refreshes or len(self.stages) > 1:
            seen.misses += misses(problem)

    def after_refresh(self, problem: Problem) -> None:
        """The reference is asked."""
        seen = self.stages[-1]
        iteration = seen.refreshes * problem.config.support_refresh
        seen.refreshes += 1
        if iteration % CHECK_EVERY:
            return
        self.reference.follow(problem)
        self._follow_in_double(problem, begins=not iteration)
        truth = gradients(self.double_reference, seen.stage)
        for side, agreements in (
            (self.double, seen.exact),
            (problem, seen.rounded),
            (self.reference, seen.reference_rounded),
        ):
            agreements.append(Agreement.of(gradients(side, seen.stage), truth, iteration))
        if not iteration:
            for name, side in (("ours", problem), ("reference", self.reference)):
                seen.costs[name] = cost(partial(gradients, side, seen.stage), self.device)
            seen.reference = self._time_reference(seen.stage)

    def _follow_in_double(self, problem: Problem, begins: bool) -> None:
        double, stage = self.double, self.stages[-1].stage
        if begins:
            for name in double.variables:
                double.variables[name] = problem.variables[name].detach().to(double.variables[name])
            double.pose_is_free = len(self.stages) > 2  # Stage 3 begins with the pose that Stage 2 freed
            double.begin(stage)
        equalise(double, problem)
        double.refresh_support()
        self.double_reference.follow(double)
        self.double_reference.refresh_support()

    def _time_reference(self, stage: Stage) -> Times:
        variables = self.reference.variables
        moving = [variables[name] for name in stage.variables if variables[name].requires_grad]
        optimizer = torch.optim.Adam(moving, lr=stage.learning_rate)

        def iterate() -> None:
            _, slopes = gradients(self.reference, stage)
            for name, slope in slopes.items():
                variables[name].grad = slope
            optimizer.step()

        with used(self.threads):
            return Times.median(seconds(iterate, self.device, self.repeat))


class ObservedProblem(Problem):
    """A problem with an observer: the solver stops for it whenever the support set is refreshed."""

    observer: Observer

    def begin(self, stage: Stage) -> dict[str, Tensor]:
        self.observer.stages.append(Observed(stage))
        return super().begin(stage)

    def refresh_support(self) -> None:
        self.observer.before_refresh(self)
        super().refresh_support()
        self.observer.after_refresh(self)


@contextmanager
def used(threads: int) -> Iterator[None]:
    """That many threads of torch's inside; 0: as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def observed(task: Task, repeat: int, threads: int) -> list[Observed]:
    """Every stage of the paper's descent, with the reference beside it."""
    task = task.as_in_paper()
    problem, double = task.made(ObservedProblem), task.double()
    sides = task.reference(), double.ours(), double.reference()
    problem.observer = Observer(*sides, repeat, threads)
    descend(problem, task.stages)
    return problem.observer.stages


def timed(task: Task, repeat: int) -> dict[str, Times]:
    """Seconds of each stage of the paper's descent, refreshes of the support set and all, undisturbed."""
    task = task.as_in_paper()
    runs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeat):
        for name, times in descend(task.ours(), task.stages).items():
            runs.setdefault(name, []).append(times)
    return {name: Times.median(times) for name, times in runs.items()}


def descend(
    problem: Problem, stages: tuple[Stage, ...], after: Callable[[Stage, Descent], None] = lambda stage, steps: None
) -> dict[str, tuple[float, float]]:
    """Runs the stages, and ``after`` each; the seconds, of the wall and the CPU, of each stage."""
    steps, times = Descent(problem), {}
    for stage in stages:
        watch = Stopwatch(problem.valid.device)
        if not steps.run(stage):
            raise BenchmarkError(f"the window cannot be optimised: {'; '.join(steps.warnings)}")
        times[stage.name] = watch.read()
        after(stage, steps)
    return times
