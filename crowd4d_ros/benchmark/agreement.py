"""Whether two problems of one window are one: energies, gradients, and the lowest vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.smpl import UP
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.stages import Stage, factors

MISSED = 1e-5
"""metres: lower than the support set's lowest vertex by less is a matter of rounding."""


Gradients = tuple[dict[str, Tensor], dict[str, Tensor]]
"""The terms of a stage, unweighted, and the gradients of their weighted sum, by variable."""


@dataclass(frozen=True)
class Agreement:
    """At equal variables, before an iteration of a stage: the errors of the energies, by term, and of the gradients of
    their weighted sum, by variable, relative to the truth's (absolute where that is zero)."""

    iteration: int
    energies: dict[str, float]
    gradients: dict[str, float]

    @classmethod
    def of(cls, found: Gradients, truth: Gradients, iteration: int) -> Agreement:
        """Of two sides with equal variables."""
        energies, slopes = (
            {name: _apart(value, true[name]) for name, value in have.items()}
            for have, true in zip(found, truth, strict=True)
        )
        return cls(iteration, energies, slopes)


@dataclass(frozen=True)
class Misses:
    """Bodies whose lowest vertex was not in the support set when it was refreshed. bodies: how many were looked at;
    worst: metres between the set's lowest vertex and the true one."""

    bodies: int = 0
    missed: int = 0
    worst: float = 0.0

    def __add__(self, other: Misses) -> Misses:
        return Misses(self.bodies + other.bodies, self.missed + other.missed, max(self.worst, other.worst))


def gradients(problem: Problem, stage: Stage) -> Gradients:
    """Of a stage that has begun."""
    factor = factors(problem.config, stage)
    values = problem.energies(stage.terms)
    total = torch.stack([factor[name] * value for name, value in values.items()]).sum()
    moving = {name: v for name, v in problem.variables.items() if name in stage.variables and v.requires_grad}
    given = torch.autograd.grad(total, list(moving.values()), allow_unused=True)
    found = zip(moving.items(), given, strict=True)
    slopes = {name: torch.zeros_like(v) if g is None else g for (name, v), g in found}
    return {name: value.detach() for name, value in values.items()}, slopes


@torch.no_grad()
def misses(problem: Problem) -> Misses:
    """Of the support set as it is."""
    body, valid = problem.body, problem.valid.cpu().numpy()
    motion, _, lowest = problem.answer()
    arrays = motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl
    posed = body.pose(*(tensor_like(a, body.v_template) for a in arrays))
    in_set = body.skin(posed, problem.support)[..., UP].amin(-1).cpu().numpy()
    gap = (in_set - lowest[..., UP])[valid]
    return Misses(len(gap), int((gap > MISSED).sum()), float(np.maximum(gap, 0).max(initial=0)))


def _apart(value: Tensor, truth: Tensor) -> float:
    error, size = (float(torch.linalg.vector_norm(a)) for a in (value.double() - truth.double(), truth.double()))
    return error / size if size else error
