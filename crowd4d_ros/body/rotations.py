"""Rotations as torch tensors with any leading dimensions, differentiable everywhere they are defined.

Axis-angle: (…, 3) radians. Quaternions: (…, 4) unit, w first. Matrices: (…, 3, 3), acting on columns.
Close to a removable singularity the closed form is replaced by its Taylor series, *before* the division,
so that neither the value nor the gradient sees 0/0.
"""

from __future__ import annotations

import torch
from torch import Tensor

SERIES_BELOW = 1e-4
"""rad²: the first neglected term is then below 1e-13, beneath double precision's use."""


def sinc(squared: Tensor) -> Tensor:
    """sin(x)/x from x²."""
    small = squared < SERIES_BELOW
    x = torch.where(small, 1.0, squared).sqrt()
    return torch.where(small, 1 - squared / 6 * (1 - squared / 20), x.sin() / x)


def versine(squared: Tensor) -> Tensor:
    """(1 − cos x)/x² from x², without the cancellation."""
    return 0.5 * sinc(squared / 4).square()


def angle_per_sine(squared: Tensor, cosine: Tensor) -> Tensor:
    """θ/sin(θ/2) of unit quaternions: from sin²(θ/2), their vectors' squared lengths, and cos(θ/2) ≥ 0, at most π."""
    small = squared < SERIES_BELOW
    sine = torch.where(small, 1.0, squared).sqrt()
    series = 2 + squared * (1 / 3 + squared * 3 / 20)  # of 2 asin(s)/s
    return torch.where(small, series, 2 * torch.atan2(sine, cosine) / sine)


def skew(v: Tensor) -> Tensor:
    """The matrix (…, 3, 3) of the cross product: skew(v) @ u = v × u."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape, 3)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (…, 3) radians → (…, 3, 3)."""
    entries = rodrigues(axis_angle.square().sum(-1), *axis_angle.unbind(-1))
    return torch.stack(entries, -1).reshape(*axis_angle.shape, 3)


def rodrigues(squared: Tensor, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """The nine entries, row by row, of the matrix for an axis-angle x, y, z of that squared length, all of a shape."""
    sine, bend = sinc(squared), versine(squared)
    sx, sy, sz = sine * x, sine * y, sine * z
    vx, vy, vz = bend * x, bend * y, bend * z
    xx, yy, zz, xy, xz, yz = vx * x, vy * y, vz * z, vx * y, vx * z, vy * z
    return [1 - yy - zz, xy - sz, xz + sy, xy + sz, 1 - xx - zz, yz - sx, xz - sy, yz + sx, 1 - xx - yy]


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """(…, 3) radians → (…, 4)."""
    quarter = axis_angle.square().sum(-1, keepdim=True) / 4
    vector = 0.5 * sinc(quarter) * axis_angle
    # cos(θ/2) = 1 − 2 sin²(θ/4): smooth in θ², where cos(sqrt(θ²)/2) is not at 0
    return torch.cat([1 - 0.5 * quarter * sinc(quarter / 4).square(), vector], -1)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """(…, 4) → (…, 3) radians, of length at most π; at π either sign."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    cosine, vector = quaternion[..., :1], quaternion[..., 1:]
    return angle_per_sine(vector.square().sum(-1, keepdim=True), cosine) * vector


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:
    """The quaternion of R(a) R(b)."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    w = aw * bw - ax * bx - ay * by - az * bz
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    return torch.stack([w, x, y, z], -1)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """(…, 3, 3) → (…, 4), exact at every angle.

    The rows of the symmetric matrix 4 q qᵀ are multiples of q, and its entries are sums of entries of R; the
    row of the largest diagonal entry is never short.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    x, y, z = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m01 + m10, m02 + m20, m12 + m21
    w2, x2 = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22
    y2, z2 = 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    outer = torch.stack([w2, x, y, z, x, x2, xy, xz, y, xy, y2, yz, z, xz, yz, z2], -1)
    largest = torch.stack([w2, x2, y2, z2], -1).argmax(-1)[..., None, None]
    row: Tensor = outer.reshape(*w2.shape, 4, 4).take_along_dim(largest, -2).squeeze(-2)
    return row / row.square().sum(-1, keepdim=True).sqrt()


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """The rotation's logarithm: (…, 3, 3) → (…, 3) radians, of length at most π."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def compose(a: Tensor, b: Tensor) -> Tensor:
    """The axis-angle of R(a) R(b): first b, then a."""
    product = quaternion_multiply(axis_angle_to_quaternion(a), axis_angle_to_quaternion(b))
    return quaternion_to_axis_angle(product)


def relative_log(a: Tensor, b: Tensor) -> Tensor:
    """log(R(a)ᵀ R(b)), Eq. 24: the rotation from a to b, (…, 3) radians, blind to full turns of either."""
    return compose(-a, b)


def matrix_to_6d(matrix: Tensor) -> Tensor:
    """The first two columns, one after the other: (…, 3, 3) → (…, 6); Zhou et al., CVPR 2019."""
    return matrix[..., :2].mT.flatten(-2)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """The rotation of two columns that need be neither unit nor orthogonal (Gram–Schmidt): (…, 6) → (…, 3, 3).

    Undefined, but finite, where a column is zero or the two are parallel.
    """
    first, second = rotation_6d[..., :3], rotation_6d[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)
