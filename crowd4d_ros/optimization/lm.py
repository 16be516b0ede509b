"""The solver ``lm`` in Stages 1 and 2: L-BFGS from an approximate Gauss–Newton matrix (metric.py), with a line search.

It has the place of Levenberg's and Marquardt's algorithm, and its name in the settings, but is not it: they damp the
matrix where a step does not go down, here a backtracking line search shortens the step. What the matrix lacks L-BFGS
(Nocedal and Wright, Alg. 7.4) learns from the gradients. An iteration costs one energy and, where that is accepted, its
gradient, as one of Adam's does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from crowd4d_ros.optimization.metric import Metric

MEMORY = 10
"""pairs of steps and changes of the gradient."""
DECREASE = 1e-4
"""Armijo's share of the decrease that the gradient promises (Nocedal and Wright, Sec. 3.1)."""
LEAST, MOST = 0.1, 0.5
"""of a step that went too far, what the next one may be."""
SPAN = 5
"""accepted states over which ``optimization.enough`` is judged: they do what 25 of Adam's do."""
SHORTEST = 1e-6
"""of a step: shorter ones are rounding."""
CURVATURE = 1e-8
"""cosine of a step and the gradient's change, below which they say nothing about a minimum."""


class GaussNewton:
    """Steps of L-BFGS from the metric, each no longer than the energy falls (solver.Steps).

    pairs: (step, change of the gradient), flat as all states and gradients here. base: None before the first state and
    where nothing is known of the energy any more. length: of the base's direction, the share that was gone.
    """

    needs_energy = True
    span = SPAN

    def __init__(self, moving: dict[str, Tensor], metric: Metric) -> None:
        self.moving, self.metric = moving, metric
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.base: _Base | None = None
        self.length = 1.0

    def accepts(self, energy: float) -> bool:
        if self.base is None:
            return math.isfinite(energy)
        return energy <= self.base.energy + DECREASE * self.length * self.base.slope

    def retreat(self, energy: float) -> bool:
        base = self.base
        if base is None or self.length < SHORTEST:
            return False
        # where a parabola through what is known of the line has its minimum
        rise = energy - base.energy - self.length * base.slope
        best = -0.5 * self.length * base.slope / rise if math.isfinite(energy) else 0.0
        self.length *= min(max(best, LEAST), MOST)
        self._place(base.state + self.length * base.direction)
        return True

    def advance(self, energy: Tensor) -> None:
        gradients = torch.autograd.grad(energy, list(self.moving.values()), allow_unused=True, materialize_grads=True)
        gradient, state = _flat(gradients), _flat(self.moving.values())
        if self.base is not None:
            self._learn(state - self.base.state, gradient - self.base.gradient)
        direction = self._direction(gradient)
        if not float(gradient @ direction) < 0:
            self.pairs.clear()
            direction = self._direction(gradient)
        self.base = _Base(state, gradient, float(energy.detach()), direction, float(gradient @ direction))
        self.length = 1.0
        self._place(state + direction)

    def forget(self, name: str) -> None:
        self.pairs.clear()
        self.base = None

    def look_again(self) -> None:
        if self.base is not None:
            self._place(self.base.state)
            self.base = None

    def _learn(self, step: Tensor, change: Tensor) -> None:
        if step @ change > CURVATURE * step.norm() * change.norm():
            self.pairs = [*self.pairs, (step, change)][-MEMORY:]

    def _direction(self, gradient: Tensor) -> Tensor:
        """Nocedal and Wright, Alg. 7.4."""
        rest, shares = gradient.clone(), []
        for step, change in reversed(self.pairs):
            share = (step @ rest) / (step @ change)
            shares.append(share)
            rest -= share * change
        rest = self._solve(rest)
        if self.pairs:
            step, change = self.pairs[-1]
            rest *= (step @ change) / (change @ self._solve(change))
        for (step, change), share in zip(self.pairs, reversed(shares), strict=True):
            rest += (share - (change @ rest) / (step @ change)) * step
        return -rest

    def _solve(self, values: Tensor) -> Tensor:
        return _flat(self.metric.solve(self._parts(values)).values())

    @torch.no_grad()
    def _place(self, state: Tensor) -> None:
        for name, values in self._parts(state).items():
            self.moving[name].copy_(values)

    def _parts(self, values: Tensor) -> dict[str, Tensor]:
        parts = torch.split(values, [tensor.numel() for tensor in self.moving.values()])
        return {name: part.view_as(self.moving[name]) for name, part in zip(self.moving, parts, strict=True)}


@dataclass(frozen=True)
class _Base:
    """The last accepted state, and the line on which the next one is sought."""

    state: Tensor
    gradient: Tensor
    energy: float
    direction: Tensor
    slope: float


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
