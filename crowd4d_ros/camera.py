"""Projection of batches of world points into a camera trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 0.1
"""metres: nothing nearer the camera is seen, and no division comes near zero."""


def project(points: Tensor, K: Tensor, R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Π_t: world points (N, T, J, 3) to pixels (N, T, J, 2), and which lie in front of the camera (N, T, J).

    K: (3, 3) of the rectified pixels; R: (T, 3, 3), t: (T, 3) metres, x_cam = R x + t. The pixels of points
    behind the camera are finite, carry no meaning and no gradient along the optical axis.
    """
    # broadcast products: a batched matmul of 3x3 is all overhead
    x, y, z = ((points * R[:, None, row]).sum(-1) + t[:, None, row] for row in range(3))
    in_front = z > NEAR
    rays = torch.stack([x, y], -1) / torch.clamp(z, min=NEAR)[..., None]
    return (rays[..., None, :] * K[:2, :2]).sum(-1) + K[:2, 2], in_front
