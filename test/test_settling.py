"""Feet are set on the ground at the end of Stage 3, as slowly as asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crowd4d_ros.optimization.settling import rises

FRAMES, STEP = 40, 0.1
SECONDS = STEP * torch.arange(FRAMES, dtype=torch.float64)
ALL = torch.ones(1, FRAMES, dtype=torch.bool)
NONE = ~ALL


def risen(
    clearance: Tensor, known: Tensor = ALL, held: Tensor = NONE, adjacent: Tensor = ALL[:, 1:], slowness: float = 0.1
) -> Tensor:
    return rises(clearance[None].double(), known, held, adjacent, SECONDS, slowness, 0.02)[0]


def test_who_floats_all_the_time_is_set_down_and_who_sinks_is_lifted():
    for height in (0.005, -0.005):
        torch.testing.assert_close(risen(torch.full((FRAMES,), height)), torch.full((FRAMES,), -height).double())


def test_a_wave_is_taken_off_as_its_length_allows():
    """The least of (s + c)² + τ² ṡ² for c = cos ωt is −c / (1 + τ² (2 − 2 cos ωΔt)/Δt²)."""
    omega = 2 * torch.pi / (10 * STEP)
    wave = 1e-4 * torch.cos(omega * SECONDS)
    share = 1 / (1 + 0.2**2 * (2 - 2 * torch.cos(torch.tensor(omega * STEP))) / STEP**2)
    torch.testing.assert_close(risen(wave, slowness=0.2)[10:-10], (-share * wave)[10:-10], atol=2e-7, rtol=0.01)


def test_who_is_far_off_the_ground_is_left_there():
    jump = torch.zeros(FRAMES)
    jump[15:25] = 0.5
    assert risen(jump).abs().max() < 0.002


def test_frames_that_are_held_stay_and_the_next_ones_join_them():
    held = NONE.clone()
    held[:, :20] = True
    found = risen(torch.full((FRAMES,), 0.01), held=held)
    assert not found[:20].any()
    assert (found[20:].diff() <= 0).all()
    assert -0.007 < float(found[20]) < -0.003
    assert float(found[-1]) == pytest.approx(-0.01, abs=1e-4)


def test_unknown_frames_follow_their_neighbours_and_others_do_not():
    known = ALL.clone()
    known[:, 20:] = False
    clearance = torch.full((FRAMES,), 0.01)
    clearance[20:] = torch.nan
    torch.testing.assert_close(risen(clearance, known), torch.full((FRAMES,), -0.01).double(), atol=1e-5, rtol=0)
    apart = ALL[:, 1:].clone()
    apart[:, 19] = False
    assert not risen(clearance, known, adjacent=apart)[20:].any()
