"""Soft-DTW: an independent enumeration of all alignments, a reference library's values, and exact gradients."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from crowd4d_ros.optimization.soft_dtw import divergence, soft_dtw, squared_distances

REFERENCE = {0.01: 18.22188494213715, 0.1: 18.22135965658014, 1.0: 15.4523236986688}
"""γ → tslearn 0.10.0's soft_dtw(wave(6, 0), wave(9, 0.4)). The library brings numba, scikit-learn, pandas and
statsmodels along: too much for a test, so its values are kept here."""
REFERENCE_ITSELF = -2.1216359892558443
"""The same of soft_dtw(wave(6, 0), wave(6, 0)) at γ = 1."""
REFERENCE_COLUMNS = (
    *(1.53694753, 1.35992185, 1.39171013, 1.3025923, 1.10932664),
    *(1.01718489, 1.00238799, 1.00015509, 1.00165256),
)
"""Sums over the rows of its expected alignment, the gradient in the costs, at γ = 1."""
REFERENCE_FIRST = (-0.85248904, -0.87026233, -0.86501669)
"""Its gradient in the first tick of wave(6, 0), at γ = 1."""


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def wave(length, phase):
    """(1, length, 3)."""
    time = torch.arange(length, dtype=torch.float64)[:, None]
    return torch.sin(0.5 * time * torch.arange(1, 4) + phase)[None]


def costs(batch=3, rows=4, columns=5):
    return torch.rand(batch, rows, columns, dtype=torch.float64)


def alignments(rows, columns):
    """All monotone paths from the first cell to the last, as lists of cells."""
    if rows == columns == 1:
        return [[(0, 0)]]
    before = [(rows - 1, columns), (rows, columns - 1), (rows - 1, columns - 1)]
    paths = itertools.chain.from_iterable(alignments(r, c) for r, c in before if r and c)
    return [[*path, (rows - 1, columns - 1)] for path in paths]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (4, 1), (3, 3), (4, 5), (6, 4)])
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_it_is_the_soft_minimum_over_all_alignments(rows, columns, gamma):
    cost = costs(2, rows, columns)
    paths = torch.stack([torch.stack([cost[:, i, j] for i, j in path]).sum(0) for path in alignments(rows, columns)])
    torch.testing.assert_close(soft_dtw(cost, gamma), -gamma * torch.logsumexp(-paths / gamma, 0))


@pytest.mark.parametrize("gamma", REFERENCE)
def test_it_agrees_with_a_reference_library(gamma):
    value = soft_dtw(squared_distances(wave(6, 0.0), wave(9, 0.4)), gamma)
    assert value.item() == pytest.approx(REFERENCE[gamma], rel=1e-12)


def test_its_gradient_agrees_with_a_reference_library():
    first = wave(6, 0.0).requires_grad_()
    cost = squared_distances(first, wave(9, 0.4))
    value = soft_dtw(cost, 1.0)
    expected_alignment, gradient = torch.autograd.grad(value.sum(), (cost, first))
    torch.testing.assert_close(
        expected_alignment[0].sum(0), torch.tensor(REFERENCE_COLUMNS).double(), atol=1e-7, rtol=0
    )
    torch.testing.assert_close(gradient[0, 0], torch.tensor(REFERENCE_FIRST).double(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_gradients_are_exact(gamma):
    assert gradcheck(lambda c: soft_dtw(c, gamma), costs().requires_grad_())
    a, b = torch.rand(2, 2, 4, 3, dtype=torch.float64).unbind(0)
    assert gradcheck(lambda x: divergence(x, b, gamma), a.requires_grad_())


def test_with_little_softness_it_is_dtw():
    """One cell of every row at no cost, the rest dear: the path through them is free."""
    cost = torch.full((1, 4, 7), 9.0)
    for row, columns in enumerate([(0, 1), (1, 2, 3), (3, 4), (5, 6)]):
        cost[0, row, list(columns)] = 0.0
    assert soft_dtw(cost, 1e-3).item() == pytest.approx(0, abs=1e-2)


def test_a_batch_is_as_one_by_one():
    cost = costs().requires_grad_()
    value = soft_dtw(cost, 0.5)
    value.sum().backward()
    for index in range(len(cost)):
        alone = cost[index : index + 1].detach().requires_grad_()
        expected = soft_dtw(alone, 0.5)
        expected.backward()
        torch.testing.assert_close(value[index : index + 1], expected)
        torch.testing.assert_close(cost.grad[index : index + 1], alone.grad)


def test_time_may_be_swapped_and_reversed():
    cost = costs()
    torch.testing.assert_close(soft_dtw(cost.mT, 0.3), soft_dtw(cost, 0.3))
    torch.testing.assert_close(soft_dtw(cost.flip(1, 2), 0.3), soft_dtw(cost, 0.3))


def test_single_precision_stays_finite():
    cost = (100 * costs(2, 25, 25)).float().requires_grad_()
    value = soft_dtw(cost, 1e-3)
    value.sum().backward()
    assert value.isfinite().all()
    torch.testing.assert_close(cost.grad.sum((1, 2)) >= 25, torch.ones(2, dtype=torch.bool))


def test_nobody_is_no_trouble():
    assert soft_dtw(torch.zeros(0, 25, 25), 0.1).shape == (0,)


def test_the_plain_value_of_equal_sequences_is_negative_and_their_divergence_zero():
    same = wave(6, 0.0)
    assert soft_dtw(squared_distances(same, same), 1.0).item() == pytest.approx(REFERENCE_ITSELF, rel=1e-12)
    moving = same.clone().requires_grad_()
    value = divergence(moving, same, 1.0)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value.sum(), moving)[0].abs().max() < 1e-12
    assert (divergence(same, same + 0.1 * torch.randn_like(same), 1.0) > 0).all()


def test_a_delay_costs_less_than_another_motion():
    longer = wave(27, 0.0)
    gait, late, other = longer[:, 2:], longer[:, :-2], -longer[:, 2:]
    assert divergence(gait, late, 0.1) < 0.2 * (gait - late).square().sum()
    assert divergence(gait, late, 0.1) < 0.2 * divergence(gait, other, 0.1)
