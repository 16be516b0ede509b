"""Adam's steps: the paper's, and along axes, as the solver ``lm`` takes them in Stage 3."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATE = 0.2
"""of a step along an axis: .2 to .5 are alike in time, with .4 bodies jitter by a few per cent more."""
MEMORY = (0.75, 0.95)
"""Adam's betas along axes: with its own .9 and .999 it takes a fifth longer and bodies jitter more."""
HALVING = 100
"""steps in which the rates halve: with 30 two windows of four do not arrive, without the last ones are noise."""
SPAN = 5
"""states over which ``optimization.enough`` is judged: they do what 25 of the paper's do."""


class Adam:
    """The paper's steps, with each stage's rate (solver.Steps)."""

    needs_energy = False

    def __init__(self, moving: dict[str, Tensor], rate: float, span: int) -> None:
        self.moving, self.span = moving, span
        self.optimizer = torch.optim.Adam(moving.values(), lr=rate)

    def accepts(self, energy: float) -> bool:
        return math.isfinite(energy)

    def retreat(self, energy: float) -> bool:
        return False

    def advance(self, energy: Tensor) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(energy)
        self.optimizer.step()

    def forget(self, name: str) -> None:
        self.optimizer.state.pop(self.moving[name], None)

    def look_again(self) -> None:
        pass


class AdamAlongAxes(Adam):
    """Of the motion's codes (M, K) along ``axes`` (K, K), a column for each (code_axes.py), and ever shorter.

    Codes are start + along @ axesᵀ; what Adam moves is ``along``. rate: the other variables'. Where the axes are right
    less momentum is needed. As the rates only depend on the number of steps, it may be stopped at any time.
    """

    def __init__(self, moving: dict[str, Tensor], rate: float, axes: Tensor) -> None:
        super().__init__(moving, rate, SPAN)
        self.axes, self.codes = axes, moving["motion_latent"]
        self.start = self.codes.detach().clone()
        self.along = torch.zeros_like(self.start)
        others = [tensor for name, tensor in moving.items() if name != "motion_latent"]
        groups = [{"params": others, "lr": rate}, {"params": [self.along], "lr": RATE}]
        self.optimizer = torch.optim.Adam(groups, betas=MEMORY)
        self.decay = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.5 ** (1 / HALVING))

    def advance(self, energy: Tensor) -> None:
        self.codes.grad = None
        self.optimizer.zero_grad()
        torch.autograd.backward(energy)
        self.along.grad = None if self.codes.grad is None else self.codes.grad @ self.axes
        self.optimizer.step()
        self.decay.step()
        with torch.no_grad():
            self.codes.copy_(self.start + self.along @ self.axes.mT)
