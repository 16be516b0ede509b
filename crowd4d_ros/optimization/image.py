"""Eq. 20 and 22 as one function with its gradient: where points are in the image against where they should be.

V bodies side by side as the last axis, components first (body/tangent.py). With r the residual in sizes of the person,
E = Σ w ρ(|r|²), ρ(s) = s/(1 + s/c²), and dE/dr = 2 w r/(1 + s/c²)²; the rest is the projection's chain rule. It is a
scalar, so its gradient is made along with it, and backward only multiplies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crowd4d_ros.body.tangent import turned, turned_back
from crowd4d_ros.camera import NEAR


@dataclass(frozen=True)
class View:
    """Each body's camera, and its size there.

    K: (2, 3), of the rectified pixels; R: (3, 3, V), t: (3, V), x_cam = R x + t. size: (V) pixels, A of Eq. 22.
    """

    K: Tensor
    R: Tensor
    t: Tensor
    size: Tensor

    def energy(
        self,
        points: Tensor,
        alpha: Tensor,
        reference: Tensor,
        weight: Tensor,
        width: float = math.inf,
        seen_only: bool = True,
    ) -> Tensor:
        """Eq. 22 of points (3, K, V), metres, world, in squares of the size.

        alpha: () scales the cameras' t; reference: (2, K, V) pixels, finite; weight: (K, V). width: c, sizes, beyond
        which residuals pull no more (Geman–McClure). seen_only: points behind the camera are left out; else they
        are projected as if they were just in front of it.
        """
        value: Tensor = _Image.apply(points, alpha, self, reference, weight, width, seen_only)  # type: ignore[no-untyped-call]
        return value


class _Image(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        alpha: Tensor,
        view: View,
        reference: Tensor,
        weight: Tensor,
        width: float,
        seen_only: bool,
    ) -> Tensor:
        R = view.R[:, :, None]
        in_camera = turned(R, points).add_((alpha * view.t)[:, None])
        in_front = in_camera[2] > NEAR
        nearness = in_camera[2].clamp(min=NEAR).reciprocal_()
        rays = in_camera[:2] * nearness
        per_size = view.size.reciprocal()
        (fx, skew, cx), (sy, fy, cy) = view.K
        u = (rays[0] * fx).addcmul_(rays[1], skew).add_(cx).sub_(reference[0]).mul_(per_size)
        v = (rays[0] * sy).addcmul_(rays[1], fy).add_(cy).sub_(reference[1]).mul_(per_size)
        squared = (u * u).addcmul_(v, v)
        kernel = (1 + squared / width**2).reciprocal_()
        if seen_only:
            weight = weight * in_front
        weighted = weight * kernel
        energy = torch.dot(weighted.flatten(), squared.flatten())

        slope = weighted.mul_(kernel).mul_(2 * per_size)
        u, v = u.mul_(slope), v.mul_(slope)
        pull = torch.empty_like(in_camera)
        torch.mul(u, fx, out=pull[0]).addcmul_(v, sy)
        torch.mul(u, skew, out=pull[1]).addcmul_(v, fy)
        pull[:2] *= nearness
        depth = torch.mul(pull[0], rays[0], out=pull[2]).addcmul_(pull[1], rays[1])
        depth.neg_().mul_(in_front)
        along = torch.dot(pull.sum(1).flatten(), view.t.flatten())
        ctx.save_for_backward(turned_back(R, pull), along)
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        points, alpha = ctx.saved_tensors
        return gradients[0] * points, gradients[0] * alpha, None, None, None, None, None
