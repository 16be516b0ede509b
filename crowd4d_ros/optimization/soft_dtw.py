"""Soft-DTW (Cuturi and Blondel, ICML 2017) of batches of sequences, with exact gradients.

The minimum over all monotone alignments A of the aligned cost ⟨A, C⟩ is softened to −γ log Σ_A exp(−⟨A, C⟩/γ),
which is smooth, and whose gradient in C is the expected alignment. The recursion runs over the anti-diagonals
of C, whose cells do not depend on each other: for all of the batch, 2F − 1 steps.

The soft minimum of many alignments is less than the best one's cost: even the value of two identical sequences is
negative, and their gradient is not zero, it pulls towards a blur in time. The divergence of Blondel, Mensch and
Vert (AISTATS 2021) subtracts what each sequence has with itself: it is zero for identical sequences, and least there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FAR = 1e30
"""In units of γ: out of reach of every alignment, and finite, so that the softmax of nothing but such is not NaN."""


def soft_dtw(cost: Tensor, gamma: float, lengths: Tensor | None = None) -> Tensor:
    """−γ log Σ_A exp(−⟨A, C⟩/γ) over the alignments that start at the first cell and end at the last.

    cost: (B, F, G), of any unit, which γ > 0 and the result (B,) have too. lengths: (B, 2) the rows and columns that
    count, at least 1 each; None: all. What lies beyond is never read and has no gradient.
    """
    batch, rows, columns = cost.shape
    if lengths is None:
        lengths = torch.tensor([rows, columns], device=cost.device).expand(batch, 2)
    inside = (torch.arange(rows, device=cost.device) < lengths[:, :1])[:, :, None]
    inside = inside & (torch.arange(columns, device=cost.device) < lengths[:, 1:])[:, None, :]
    value: Tensor = _SoftDTW.apply(torch.where(inside, cost, 0.0), gamma, lengths)  # type: ignore[no-untyped-call]
    return value


def divergence(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    """D(a, b) = sDTW(a, b) − ½ sDTW(a, a) − ½ sDTW(b, b) of squared distances: ≥ 0, and 0 where a = b.

    a, b: (B, F, K); γ in squares of their unit, as the result (B,) is.
    """
    pairs = soft_dtw(torch.cat([squared_distances(x, y) for x, y in ((a, b), (a, a), (b, b))]), gamma)
    between, within_a, within_b = pairs.chunk(3)
    return between - 0.5 * (within_a + within_b)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖²: (B, F, K) and (B, G, K) → (B, F, G)."""
    return a.square().sum(-1)[:, :, None] + b.square().sum(-1)[:, None, :] - 2 * a @ b.mT


class _SoftDTW(torch.autograd.Function):
    """The recursion on −R/γ, whose soft minimum is a log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, gamma: float, lengths: Tensor) -> Tensor:
        batch, rows, columns = cost.shape
        diagonals = rows + columns - 1
        scaled = _skewed(cost / -gamma, -FAR)
        # row i of diagonal d is at [d + 2, :, i + 1]; alignments start outside, at row −1 of diagonal −2
        reached = cost.new_full((diagonals + 2, batch, rows + 1), -FAR)
        reached[0, :, 0] = 0.0
        for d in range(diagonals):
            straight = torch.logaddexp(reached[d + 1, :, :-1], reached[d + 1, :, 1:])
            reached[d + 2, :, 1:] = scaled[d] + torch.logaddexp(straight, reached[d, :, :-1])
        last = (lengths.sum(-1), torch.arange(batch, device=cost.device), lengths[:, 0])
        ctx.save_for_backward(reached, *last)
        return -gamma * reached[last]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        reached, *last = ctx.saved_tensors
        shares = torch.stack([reached[1:-1, :, :-1], reached[1:-1, :, 1:], reached[:-2, :, :-1]]).softmax(0)
        expected = torch.zeros_like(reached)
        expected[tuple(last)] = gradients[0]
        for d in reversed(range(len(reached) - 2)):
            above, left, diagonal = shares[:, d] * expected[d + 2, :, 1:]
            expected[d + 1, :, :-1] += above
            expected[d + 1, :, 1:] += left
            expected[d, :, :-1] += diagonal
        return _straight(expected[2:, :, 1:]), None, None


def _skewed(cost: Tensor, fill: float) -> Tensor:
    """(B, F, G) → (F + G − 1, B, F): cell (i, j) at [i + j, :, i], and ``fill`` where there is none."""
    batch, rows, columns = cost.shape
    wide = torch.nn.functional.pad(cost, (0, rows), value=fill).flatten(1)
    return wide[:, : rows * (rows + columns - 1)].reshape(batch, rows, rows + columns - 1).permute(2, 0, 1)


def _straight(skewed: Tensor) -> Tensor:
    """The inverse of ``_skewed``."""
    diagonals, batch, rows = skewed.shape
    wide = torch.nn.functional.pad(skewed.permute(1, 2, 0).flatten(1), (0, rows))
    return wide.reshape(batch, rows, diagonals + 1)[:, :, : diagonals - rows + 1]
