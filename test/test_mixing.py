"""A constant sparse matrix: as the dense one, and with its gradients."""

import numpy as np
import pytest
import torch

from crowd4d_ros.optimization.mixing import Mixing

pytestmark = pytest.mark.usefixtures("seeded_doubles")
SHAPE = ROWS, COLUMNS = 5, 7


def entries(count=12):
    """Some of them in one place, and a row without any."""
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, ROWS - 1, count), rng.integers(0, COLUMNS, count)
    return np.append(row, row[0]), np.append(column, column[0]), rng.normal(size=count + 1)


def test_it_is_the_matrix_of_its_entries():
    row, column, weight = entries()
    dense = np.zeros(SHAPE)
    np.add.at(dense, (row, column), weight)
    values = torch.randn(COLUMNS, 3)
    mixing = Mixing.of(row, column, weight, SHAPE, values)
    torch.testing.assert_close(mixing(values), torch.as_tensor(dense) @ values)
    torch.testing.assert_close(mixing(values.mT.contiguous().mT), torch.as_tensor(dense) @ values)
    assert torch.autograd.gradcheck(mixing, values.requires_grad_())


def test_without_entries_all_rows_are_zero():
    nothing = np.zeros(0, np.int64)
    mixing = Mixing.of(nothing, nothing, np.zeros(0), (ROWS, 0), torch.zeros(()))
    torch.testing.assert_close(mixing(torch.zeros(0, 3)), torch.zeros(ROWS, 3))
