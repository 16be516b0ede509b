"""Squared angles between rotations (Eq. 24), with their gradients as torques.

V bodies side by side as the last axis (body/tangent.py), in the order of person and time. The angle of RₐᵀR_b is read
off quaternions, exact at every angle up to π; the torque of its square is 2 log(RₐᵀR_b) on R_b, and minus that on Rₐ,
both in their own frames: a rotation leaves its axis alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crowd4d_ros.body.rotations import angle_per_sine
from crowd4d_ros.body.tangent import cross, dot, gradient


def quaternions(rotations: Tensor) -> Tensor:
    """(3, 3, …) → (4, …) unit, w first: ``matrix_to_quaternion`` with the components first, and without a gradient."""
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = rotations.detach()
    x, y, z = m21 - m12, m02 - m20, m10 - m01
    even, odd = 1 + m00, m11 + m22
    w2, x2 = even + odd, even - odd
    even, odd = 1 - m00, m11 - m22
    y2, z2 = even + odd, even - odd
    row = torch.stack([w2, x, y, z])
    # a multiple of q by its own component: from the first that is not short, a quarter of 4 q·q = 4 at least
    turns = w2 < 1
    by_x = turns & (x2 >= y2) & (x2 >= z2)
    by_y = turns & (y2 > x2) & (y2 >= z2)
    by_z = turns & (z2 > x2) & (z2 > y2)
    xy, xz, yz = m01 + m10, m02 + m20, m12 + m21
    for chosen, other in ((by_x, (x, x2, xy, xz)), (by_y, (y, xy, y2, yz)), (by_z, (z, xz, yz, z2))):
        for component, value in zip(row, other, strict=True):
            torch.where(chosen, value, component, out=component)
    return row.mul_((row * row).sum(0).rsqrt_())


def relative_log(a: Tensor, b: Tensor) -> Tensor:
    """log(RₐᵀR_b): quaternions (4, …) → (3, …) radians, of length at most π."""
    wa, va, wb, vb = a[0], a[1:], b[0], b[1:]
    cosine = (wa * wb).add_(dot(va, vb))
    vector = (wa * vb).addcmul_(wb, va, value=-1).sub_(cross(va, vb))
    # q and −q are one rotation: of the two, the turn of at most π
    return vector.mul_(angle_per_sine(dot(vector, vector), cosine.abs()).copysign_(cosine))


def steps(rotations: Tensor, quaternion: Tensor, lasting: Tensor) -> Tensor:
    """Squared angles from each body to the next, (J) rad², each times ``lasting`` (V − 1), 0 where there is no next.

    rotations: (3, 3, J, V) and their quaternions (4, J, V).
    """
    value: Tensor = _Steps.apply(rotations, quaternion, lasting)  # type: ignore[no-untyped-call]
    return value


def distances(rotations: Tensor, quaternion: Tensor, reference: Tensor) -> Tensor:
    """Squared angles (J), rad², to the quaternions of the reference (4, J, V), over all bodies."""
    value: Tensor = _Distances.apply(rotations, quaternion, reference)  # type: ignore[no-untyped-call]
    return value


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rotations: Tensor, quaternion: Tensor, lasting: Tensor) -> Tensor:
        log = relative_log(quaternion[..., :-1], quaternion[..., 1:])
        held = log * lasting
        torques = rotations.new_zeros(rotations.shape[1:])
        torques[..., 1:] = held
        torques[..., :-1] -= held
        ctx.save_for_backward(rotations, torques)
        return (log * held).sum((0, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rotations, torques = ctx.saved_tensors
        return gradient(rotations, 2 * gradients[0][:, None] * torques), None, None


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rotations: Tensor, quaternion: Tensor, reference: Tensor) -> Tensor:
        log = relative_log(reference, quaternion)
        ctx.save_for_backward(rotations, log)
        return (log * log).sum((0, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rotations, log = ctx.saved_tensors
        return gradient(rotations, 2 * gradients[0][:, None] * log), None, None
