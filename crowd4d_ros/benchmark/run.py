"""`crowd4d benchmark`: everything that is measured of one size, and of all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from crowd4d_ros.benchmark.against_smplx import Smplx, against_smplx
from crowd4d_ros.benchmark.compare import Observed, Tell, observed, timed, used
from crowd4d_ros.benchmark.equal_answer import Ended, ended
from crowd4d_ros.benchmark.equal_energy import Reached, reached
from crowd4d_ros.benchmark.measure import Times, machine
from crowd4d_ros.benchmark.mesh import Mesh
from crowd4d_ros.benchmark.scaling import Curve, curve
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.config import Config, ConfigError, updated
from crowd4d_ros.device import limit_threads


@dataclass(frozen=True)
class Options:
    """people, frames: of the synthetic window that ``seed`` makes. stages: those reported, of 1 to 3. repeat: of every
    measurement, of which the median counts. threads: the reference's on a CPU, 0 for all cores; ours are the
    configuration's. is_full: both sides also run their whole schedules, the reference twice. curve_s: seconds for the
    scaling curve, 0 for none."""

    people: int = 20
    frames: int = 40
    stages: tuple[int, ...] = (1, 2, 3)
    repeat: int = 3
    threads: int = 0
    seed: int = 0
    is_full: bool = False
    curve_s: float = 0.0


@dataclass(frozen=True)
class StageResult:
    """One stage. ours: seconds an iteration over the whole stage, refreshes included; the reference's are at its
    start."""

    seen: Observed
    ours: Times


@dataclass(frozen=True)
class Result:
    """What was measured. bodies: of people who are there."""

    options: Options
    solver: str
    threads: int
    machine: dict[str, Any]
    bodies: int
    smplx: Smplx | None
    stages: tuple[StageResult, ...]
    reached: tuple[Reached, ...]
    ended: tuple[Ended, ...]
    curve: Curve | None

    @property
    def ours(self) -> Times:
        """Seconds an iteration, the mean over the schedule of the stages reported."""
        return self._mean([stage.ours for stage in self.stages])

    @property
    def reference(self) -> Times:
        """The same of the reference."""
        return self._mean([stage.seen.reference for stage in self.stages])

    def _mean(self, times: list[Times]) -> Times:
        counts = [stage.seen.stage.iterations for stage in self.stages]
        pairs = list(zip(counts, times, strict=True))
        return Times(*(sum(n * getattr(t, clock) for n, t in pairs) / sum(counts) for clock in ("wall", "cpu")))


def benchmark(options: Options, config: Config, tell: Tell) -> Result:
    """All of it. Raises ConfigError for what cannot be measured, BenchmarkError for what does not work."""
    if not options.stages or not set(options.stages) <= {1, 2, 3}:
        raise ConfigError(f"--stages takes stages of 1 to 3, as 1,2, not '{','.join(map(str, options.stages))}'")
    if options.repeat < 1:
        raise ConfigError(f"--repeat is 1 or more, not {options.repeat}")
    limit_threads(config.threads)
    threads = options.threads or os.cpu_count() or 1
    config = updated(config, {"optimization.stages": max(options.stages)})
    tell(f"a crowd of {options.people} people and {options.frames} frames")
    task = Task.of(options.people, options.frames, config, options.seed)
    bodies = int(task.window.valid.sum())
    where = machine(task.device)
    tell("smplx and the reference's mesh")
    with used(threads):
        smplx = against_smplx(Mesh(task.arrays, task.body.v_template), bodies, options.repeat)
    tell(f"{options.repeat} times the whole schedule")
    times = timed(task, options.repeat)
    tell("the reference beside it")
    seen = [stage for stage in observed(task, options.repeat, threads) if int(stage.stage.name[-1]) in options.stages]
    stages = tuple(StageResult(stage, times[stage.stage.name] / max(stage.stage.iterations, 1)) for stage in seen)
    tell(f"{config.optimization.solver} until it is where Adam ends")
    there = reached(task)
    if options.is_full:
        tell("the whole schedule of the reference, twice")
    answers = ended(task) if options.is_full else ()
    if options.curve_s:
        tell("windows of other sizes")
    grown = curve(config, options.curve_s, options.seed, tell) if options.curve_s else None
    return Result(options, config.optimization.solver, threads, where, bodies, smplx, stages, there, answers, grown)
