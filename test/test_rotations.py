"""Rotations: group axioms, closed forms, and gradients where naive formulas divide by zero."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from crowd4d_ros.body import rotations

AWKWARD = [0.0, 1e-9, 1e-4, 1e-2 - 1e-9, 1e-2, 0.3, 1.5, 3.0, math.pi - 1e-3, math.pi - 1e-6]
"""Angles, with those where formulas lose digits or change branch."""


def directions(count: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    return torch.nn.functional.normalize(torch.cat([axes, random]), dim=-1)


@pytest.fixture(params=AWKWARD)
def axis_angle(request: pytest.FixtureRequest) -> Tensor:
    return directions() * request.param


def test_exponential_is_the_matrix_exponential(axis_angle: Tensor) -> None:
    expected = torch.linalg.matrix_exp(rotations.skew(axis_angle))
    torch.testing.assert_close(rotations.axis_angle_to_matrix(axis_angle), expected, atol=1e-12, rtol=0)


def test_log_inverts_exp_at_every_angle_below_pi(axis_angle: Tensor) -> None:
    matrix = rotations.axis_angle_to_matrix(axis_angle)
    torch.testing.assert_close(rotations.matrix_to_axis_angle(matrix), axis_angle, atol=1e-9, rtol=0)


def test_log_in_single_precision(axis_angle: Tensor) -> None:
    matrix = rotations.axis_angle_to_matrix(axis_angle.float())
    back = rotations.axis_angle_to_matrix(rotations.matrix_to_axis_angle(matrix))
    torch.testing.assert_close(back, matrix, atol=2e-6, rtol=0)


def test_log_at_pi_is_a_half_turn_about_the_axis() -> None:
    matrix = rotations.axis_angle_to_matrix(directions() * math.pi)
    log = rotations.matrix_to_axis_angle(matrix)
    torch.testing.assert_close(log.norm(dim=-1), torch.full((len(log),), math.pi).double())
    torch.testing.assert_close(rotations.axis_angle_to_matrix(log), matrix, atol=1e-12, rtol=0)


def test_quaternions_are_unit_and_agree_with_matrices(axis_angle: Tensor) -> None:
    quaternion = rotations.axis_angle_to_quaternion(axis_angle)
    torch.testing.assert_close(quaternion.norm(dim=-1), torch.ones(len(quaternion)).double())
    from_matrix = rotations.matrix_to_quaternion(rotations.axis_angle_to_matrix(axis_angle))
    torch.testing.assert_close((quaternion * from_matrix).sum(-1).abs(), torch.ones(len(quaternion)).double())


def test_composition_is_the_product_and_is_associative() -> None:
    a, b, c = (directions().roll(k, 0) * angle for k, angle in ((0, 2.5), (1, 1.2), (2, 3.1)))
    to_matrix = rotations.axis_angle_to_matrix
    torch.testing.assert_close(to_matrix(rotations.compose(a, b)), to_matrix(a) @ to_matrix(b))
    left, right = rotations.compose(rotations.compose(a, b), c), rotations.compose(a, rotations.compose(b, c))
    torch.testing.assert_close(to_matrix(left), to_matrix(right))


def test_relative_log_is_equation_24() -> None:
    a, b = directions() * 2.0, directions().roll(1, 0) * 1.1
    product = rotations.axis_angle_to_matrix(a).mT @ rotations.axis_angle_to_matrix(b)
    torch.testing.assert_close(rotations.relative_log(a, b), rotations.matrix_to_axis_angle(product))


def test_relative_log_does_not_see_full_turns() -> None:
    axis = directions()
    log = rotations.relative_log(axis * 0.1, axis * (0.3 + 2 * math.pi))
    torch.testing.assert_close(log, axis * 0.2)


def test_leading_dimensions_broadcast() -> None:
    a, b = torch.randn(5, 1, 3), torch.randn(2, 1, 4, 3)
    assert rotations.relative_log(a, b).shape == (2, 5, 4, 3)
    assert rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(b)).shape == b.shape


def test_skew_is_the_cross_product() -> None:
    a, b = directions(), directions().roll(1, 0)
    product = (rotations.skew(a) @ b[..., None]).squeeze(-1)
    torch.testing.assert_close(product, torch.linalg.cross(a, b))


@pytest.mark.parametrize("angle", [0.0, 1e-5, 9e-3, 1.1e-2, 1.0, 3.1])
def test_gradients(angle: float) -> None:
    start = (directions(3) * angle).requires_grad_()
    other = (directions(3).roll(1, 0) * 0.7).requires_grad_()
    assert gradcheck(rotations.axis_angle_to_matrix, start)
    assert gradcheck(rotations.axis_angle_to_quaternion, start)
    assert gradcheck(rotations.relative_log, (start, other))
    assert gradcheck(lambda x: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(x)), start)


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_gradients_are_finite_at_the_singular_angles(angle: float) -> None:
    start = (directions() * angle).float().requires_grad_()
    rotations.relative_log(start, torch.zeros_like(start)).square().sum().backward()
    assert start.grad is not None
    assert start.grad.isfinite().all()
    matrix = rotations.axis_angle_to_matrix(start.detach()).requires_grad_()
    rotations.matrix_to_axis_angle(matrix).sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()
