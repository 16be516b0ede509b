"""Soft-DTW (Cuturi and Blondel, ICML 2017) of batches of sequences, with exact gradients.

The minimum over all monotone alignments A of the aligned cost ⟨A, C⟩ is softened to −γ log Σ_A exp(−⟨A, C⟩/γ),
which is smooth, and whose gradient in C is the expected alignment. The recursion runs over the anti-diagonals
of C, whose cells do not depend on each other: for all of the batch, 2F − 1 steps. It runs from both ends at once, as
two batches: α and β, the weight of all alignments from the first cell to a cell and from there to the last, say how
much of the total passes through that cell, which is the expected alignment. No second recursion goes back.

The soft minimum of many alignments is less than the best one's cost: even the value of two identical sequences is
negative, and their gradient is not zero, it pulls towards a blur in time. The divergence of Blondel, Mensch and
Vert (AISTATS 2021) subtracts what each sequence has with itself: it is zero for identical sequences, and least there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FAR = 1e30
"""In units of γ: out of reach of every alignment, and finite, so that sums of nothing but such are not NaN."""
CHUNK = 512
"""Pairs of sequences that are aligned at once: some 20 MB."""


def soft_dtw(cost: Tensor, gamma: float) -> Tensor:
    """−γ log Σ_A exp(−⟨A, C⟩/γ) over the alignments that start at the first cell and end at the last.

    cost: (B, F, G), of any unit, which γ > 0 and the result (B,) have too.
    """
    value: Tensor = _SoftDTW.apply(cost, gamma)  # type: ignore[no-untyped-call]
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
    """In double precision: what passes through a cell is the small difference of α + β and the total."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, gamma: float) -> Tensor:
        totals, expected = zip(*(_expected(part.double() / -gamma) for part in torch.split(cost, CHUNK)), strict=True)
        ctx.save_for_backward(torch.cat(expected).to(cost.dtype))
        return (-gamma * torch.cat(totals)).to(cost.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (expected,) = ctx.saved_tensors
        return expected * gradients[0][:, None, None], None


def _expected(weight: Tensor) -> tuple[Tensor, Tensor]:
    """log Σ exp of what all alignments of (B, F, G) gather: (B,), and its gradient."""
    alpha, beta = _log_sums(torch.cat([weight, weight.flip(1, 2)])).chunk(2)
    beta = beta.flip(1, 2)
    total = beta[:, :1, :1]
    return total[:, 0, 0], (alpha + beta - weight - total).exp_()


def _log_sums(weight: Tensor) -> Tensor:
    """log Σ exp of what the alignments from the first cell to each of the cells gather: (B, F, G) → (B, F, G)."""
    batch, rows, columns = weight.shape
    skewed = _skewed(weight)
    # row i of diagonal d is at [d + 2, i + 1]; alignments start outside, at row −1 of diagonal −2
    reached = weight.new_full((len(skewed) + 2, rows + 1, batch), -FAR)
    reached[0, 0] = 0.0
    for d, (before, last, here) in enumerate(zip(reached, reached[1:], reached[2:], strict=False)):
        first, count = max(0, d - columns + 1), min(d + 1, rows) - max(0, d - columns + 1)
        straight = torch.logaddexp(last.narrow(0, first, count), last.narrow(0, first + 1, count))
        torch.logaddexp(straight, before.narrow(0, first, count), out=straight)
        torch.add(straight, skewed[d].narrow(0, first, count), out=here.narrow(0, first + 1, count))
    return _straight(reached[2:, 1:])


def _skewed(cost: Tensor) -> Tensor:
    """(B, F, G) → (F + G − 1, F, B): cell (i, j) at [i + j, i]."""
    batch, rows, columns = cost.shape
    wide = torch.nn.functional.pad(cost, (0, rows)).flatten(1)
    return wide[:, : rows * (rows + columns - 1)].reshape(batch, rows, rows + columns - 1).permute(2, 1, 0).contiguous()


def _straight(skewed: Tensor) -> Tensor:
    """The inverse of ``_skewed``."""
    diagonals, rows, batch = skewed.shape
    wide = torch.nn.functional.pad(skewed.permute(2, 1, 0).flatten(1), (0, rows))
    return wide.reshape(batch, rows, diagonals + 1)[:, :, : diagonals - rows + 1]
