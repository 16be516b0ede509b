"""How long until the energy is what the reference's descent ends with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.benchmark.compare import descend
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.config import updated
from crowd4d_ros.optimization.solver import Descent


@dataclass(frozen=True)
class Reached:
    """One stage. energy: what Adam ends with after the whole schedule; our own course stands for the reference's, as
    both take the same steps. seconds, iterations: the configured solver's until it was there, None where it ended
    above, at ``ended``; total: its seconds in all."""

    stage: str
    energy: float
    seconds: float | None
    iterations: int | None
    ended: float
    total: float


def reached(task: Task) -> tuple[Reached, ...]:
    """Of every stage, each begun where the solver itself had ended the one before. No stage is ended early."""
    whole = updated(task.config, {"optimization.enough": 0.0, "optimization.deadline": 0.0})
    paper, ours = _solved(task.as_in_paper()), _solved(replace(task, config=whole))
    return tuple(_reached(stage.name, paper, ours) for stage in task.stages)


def _solved(task: Task) -> Descent:
    """After all stages. Raises BenchmarkError."""
    begun: list[Descent] = []
    descend(task.ours(), task.stages, lambda stage, steps: begun.append(steps))
    return begun[-1]


def _reached(name: str, paper: Descent, ours: Descent) -> Reached:
    energy = float(paper.course[name][-1])
    course, seconds = ours.course[name], ours.seconds[name]
    low = np.nonzero(course <= energy)[0]
    first = int(low[0]) if len(low) else None
    return Reached(
        name,
        energy,
        None if first is None else float(seconds[first]),
        first,
        float(course[-1]),
        float(seconds[-1]),
    )
