"""Rows that are weighted sums of a few other rows: a constant sparse matrix, and its transpose for gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from crowd4d_ros.window import FloatArray, IntArray

Rows = tuple[Tensor, Tensor, Tensor]
"""The columns and weights of a sparse matrix, row after row, and where each row begins and the last one ends."""


@dataclass(frozen=True)
class Mixing:
    """(R, C), as its rows and as its columns."""

    rows: Rows
    columns: Rows

    @classmethod
    def of(cls, row: IntArray, column: IntArray, weight: FloatArray, shape: tuple[int, int], like: Tensor) -> Mixing:
        """The entries (E,) of a matrix; those of one place add up."""
        return cls(_rows(row, column, weight, shape[0], like), _rows(column, row, weight, shape[1], like))

    def __call__(self, values: Tensor) -> Tensor:
        """Of values (C, K): (R, K)."""
        mixed: Tensor = _Mixed.apply(values, self)  # type: ignore[no-untyped-call]
        return mixed


def _rows(row: IntArray, column: IntArray, weight: FloatArray, count: int, like: Tensor) -> Rows:
    order = np.argsort(row, kind="stable")
    begin = np.searchsorted(row[order], np.arange(count + 1))
    index, offsets = (torch.as_tensor(a, dtype=torch.int64, device=like.device) for a in (column[order], begin))
    return index, torch.as_tensor(weight[order], dtype=like.dtype, device=like.device), offsets


def _sums(values: Tensor, rows: Rows) -> Tensor:
    index, weight, offsets = rows
    return embedding_bag(
        index, values.contiguous(), offsets, mode="sum", per_sample_weights=weight, include_last_offset=True
    )


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, mixing: Mixing) -> Tensor:
        ctx.mixing = mixing
        return _sums(values, mixing.rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sums(gradients[0], ctx.mixing.columns), None
