"""Where both sides end after the whole schedule, against where the reference ends if it begins a hair beside itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from crowd4d_ros.benchmark.compare import descend
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.solver import Descent
from crowd4d_ros.optimization.stages import Stage
from crowd4d_ros.window import BoolArray, FloatArray

NOISE = 1e-6
"""metres, on the roots that the restarted reference begins with."""


@dataclass(frozen=True)
class Ended:
    """The end of a stage. energy: the relative error of ours. apart, itself: metres, the mean distance of the joints of
    ours, and of the restarted reference, from the reference's; farthest, itself_farthest: the largest."""

    stage: str
    energy: float
    apart: float
    farthest: float
    itself: float
    itself_farthest: float


def ended(task: Task) -> tuple[Ended, ...]:
    """Three descents over all stages, two of them with whole meshes: minutes for a small window, hours for a large."""
    task = task.as_in_paper()
    restarted = task.reference()
    random = torch.Generator().manual_seed(0)
    pelvis = restarted.variables["pelvis"]
    restarted.variables["pelvis"] = pelvis + NOISE * torch.randn(pelvis.shape, generator=random).to(pelvis)
    ours, reference, itself = (_course(task, problem) for problem in (task.ours(), task.reference(), restarted))
    return tuple(_ended(*ends, task.window.valid) for ends in zip(ours, reference, itself, strict=True))


@dataclass(frozen=True)
class _End:
    stage: str
    energy: float
    joints: FloatArray


def _course(task: Task, problem: Problem) -> list[_End]:
    ends: list[_End] = []

    def after(stage: Stage, steps: Descent) -> None:
        ends.append(_End(stage.name, float(steps.course[stage.name][-1]), problem.answer()[1]))

    descend(problem, task.stages, after)
    return ends


def _ended(ours: _End, reference: _End, restarted: _End, valid: BoolArray) -> Ended:
    apart, itself = (np.linalg.norm(side.joints - reference.joints, axis=-1)[valid] for side in (ours, restarted))
    return Ended(
        ours.stage,
        abs(ours.energy - reference.energy) / abs(reference.energy),
        float(apart.mean()),
        float(apart.max(initial=0)),
        float(itself.mean()),
        float(itself.max(initial=0)),
    )
