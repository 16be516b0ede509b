"""Many rotations side by side, and gradients with respect to them.

Components come first, (3, 3, …) is row, column and then whatever is many, so that every product runs over long
contiguous arrays: on a CPU many times faster than small matrices innermost. Vectors are (3, …) likewise.

A smooth function of a rotation R changes by g·ω as R turns to R exp([ω]×): the three numbers g, here called its
torque, say all there is to say. What autograd hands on is the matrix ½ R [g]×, whose torque is g. It differs from the
gradient in nine free numbers by what no rotation can follow, and it needs no more than R and g. There is no second
derivative: who asks for one gets an error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crowd4d_ros.body.rotations import SERIES_BELOW, rodrigues, sinc, versine

CYCLES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
"""Axes in right-handed order."""
SHORTEST = 1e-12
"""Columns shorter than this are not made unit: finite, where a rotation is undefined."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(3, …) · (3, …) → (…)."""
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


def cross(a: Tensor, b: Tensor) -> Tensor:
    """(3, …) × (3, …) → (3, …)."""
    return torch.stack([(a[j] * b[k]).addcmul_(a[k], b[j], value=-1) for _, j, k in CYCLES])


def turned(rotation: Tensor, vector: Tensor) -> Tensor:
    """R v: (3, 3, …), (3, …) → (3, …)."""
    return (rotation[:, 0] * vector[0]).addcmul_(rotation[:, 1], vector[1]).addcmul_(rotation[:, 2], vector[2])


def turned_back(rotation: Tensor, vector: Tensor) -> Tensor:
    """Rᵀ v: (3, 3, …), (3, …) → (3, …)."""
    return (rotation[0] * vector[0]).addcmul_(rotation[1], vector[1]).addcmul_(rotation[2], vector[2])


def torque(rotation: Tensor, gradient: Tensor) -> Tensor:
    """g (3, …) of any gradient (3, 3, …): dR = R [ω]× turns column j by ω_i towards column k, and k away from j."""
    return torch.stack(
        [dot(rotation[:, k], gradient[:, j]).sub_(dot(rotation[:, j], gradient[:, k])) for _, j, k in CYCLES]
    )


def gradient(rotation: Tensor, torque: Tensor) -> Tensor:
    """½ R [g]×: (3, 3, …) of g (3, …)."""
    half = 0.5 * torque
    result = torch.empty_like(rotation)
    for i, j, k in CYCLES:
        torch.mul(rotation[:, j], half[k], out=result[:, i]).addcmul_(rotation[:, k], half[j], value=-1)
    return result


def orthonormal(columns: Tensor) -> Tensor:
    """``rotation_6d_to_matrix`` of columns (2, 3, …), neither unit nor orthogonal: (3, 3, …)."""
    rotation: Tensor = _Orthonormal.apply(columns)  # type: ignore[no-untyped-call]
    return rotation


def exponential(axis_angle: Tensor) -> Tensor:
    """``axis_angle_to_matrix``: (3, …) radians → (3, 3, …)."""
    rotation: Tensor = _Exponential.apply(axis_angle)  # type: ignore[no-untyped-call]
    return rotation


class _Orthonormal(torch.autograd.Function):
    """Gram–Schmidt: x = a/|a|, y = p/|p| with p = b − (x·b) x, z = x × y.

    As a and b move, the frame turns about its own axes by ω_z = y·da/|a|, ω_y = −z·da/|a| and
    ω_x = (z·db − (x·b) z·da/|a|)/|p|. So the torque g pulls at b with g_x z/|p|, and at a with
    (g_z y − (g_y + g_x (x·b)/|p|) z)/|a|.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor) -> Tensor:
        a, b = columns
        per_a = dot(a, a).sqrt_().clamp_(min=SHORTEST).reciprocal_()
        rotation = columns.new_empty(3, *a.shape)
        x, y, z = rotation.unbind(1)
        torch.mul(a, per_a, out=x)
        along = dot(x, b)
        torch.addcmul(b, x, along, value=-1, out=y)
        per_p = dot(y, y).sqrt_().clamp_(min=SHORTEST).reciprocal_()
        y.mul_(per_p)
        for i, j, k in CYCLES:
            torch.mul(x[j], y[k], out=z[i]).addcmul_(x[k], y[j], value=-1)
        ctx.save_for_backward(rotation, per_a, per_p, along)
        return rotation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rotation, per_a, per_p, along = ctx.saved_tensors
        _, y, z = rotation.unbind(1)
        gx, gy, gz = torque(rotation, gradients[0])
        gx *= per_p
        pull = torch.stack([y * (gz * per_a), z * gx])
        pull[0].addcmul_(z, (gy + gx * along) * per_a, value=-1)
        return pull


class _Exponential(torch.autograd.Function):
    """exp([a + δ]×) = exp([a]×) exp([J δ]×), J = I − B [a]× + C [a]×², B = (1 − cos θ)/θ² and C = (θ − sin θ)/θ³.

    So the gradient in a is Jᵀ g = g + a × (B g + C a × g).
    """

    @staticmethod
    def forward(ctx: Any, axis_angle: Tensor) -> Tensor:
        entries = rodrigues(dot(axis_angle, axis_angle), *axis_angle)
        rotation = torch.stack(entries).reshape(3, *axis_angle.shape)
        ctx.save_for_backward(axis_angle, rotation)
        return rotation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        a, rotation = ctx.saved_tensors
        g, squared = torque(rotation, gradients[0]), dot(a, a)
        small = squared < SERIES_BELOW
        rest = torch.where(small, 1 / 6 - squared / 120, (1 - sinc(squared)) / torch.where(small, 1.0, squared))
        return g + cross(a, versine(squared) * g + rest * cross(a, g))
