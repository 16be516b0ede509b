"""The Gaussian pose prior: a bijection whose standard normal samples are human poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import relative_log
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.pose import GaussianPosePrior, PosePrior, energy

MOCAP = Path(__file__).resolve().parents[2] / "shared" / "data" / "mocap" / "cmu_mocap.npz"
ZERO = torch.zeros(3)


@pytest.fixture(scope="module")
def prior() -> PosePrior:
    return GaussianPosePrior.load()


@pytest.fixture(scope="module")
def samples(prior: PosePrior) -> Tensor:
    return prior.decode(torch.randn(2000, prior.latent_dim, generator=torch.Generator().manual_seed(0)))


def joint(name: str) -> int:
    return JOINTS.index(name) - 1


def test_encode_inverts_decode(prior: PosePrior, samples: Tensor) -> None:
    torch.testing.assert_close(prior.decode(prior.encode(samples)), samples, atol=1e-5, rtol=0)
    latent = torch.randn(5, 7, prior.latent_dim)
    torch.testing.assert_close(prior.encode(prior.decode(latent)), latent, atol=1e-4, rtol=0)


def test_no_direction_is_rigid_or_free(prior: PosePrior) -> None:
    """A unit of latent is an angle one can see and a body can take, or the optimizer's steps mean nothing."""
    basis = prior.decode(torch.eye(prior.latent_dim)) - prior.decode(torch.zeros(prior.latent_dim))
    degrees = basis.flatten(1).norm(dim=1).rad2deg()
    assert degrees.min() > 2.0
    assert degrees.max() < 60.0
    assert (degrees.diff() <= 1e-3).all(), "the largest first"


def test_energy_is_least_at_the_mean_and_quadratic(prior: PosePrior) -> None:
    mean = prior.decode(torch.zeros(prior.latent_dim))
    assert energy(prior.encode(mean)) < 1e-8
    step = torch.randn(prior.latent_dim)
    torch.testing.assert_close(energy(2 * step), 4 * energy(step))


def test_fewer_dimensions_give_the_nearest_pose_of_their_axes(samples: Tensor) -> None:
    short = GaussianPosePrior.load(latent_dim=45)
    once = short.decode(short.encode(samples))
    torch.testing.assert_close(short.decode(short.encode(once)), once, atol=1e-5, rtol=0)
    full = GaussianPosePrior.load()
    torch.testing.assert_close(short.encode(samples), full.encode(samples)[:, :45], atol=1e-4, rtol=0)
    assert short.latent_dim == 45


@pytest.mark.parametrize("latent_dim", [0, 70])
def test_dimensions_it_does_not_have(latent_dim: int) -> None:
    with pytest.raises(ValueError, match="1 to 69"):
        GaussianPosePrior.load(latent_dim=latent_dim)


def test_left_and_right_are_alike(prior: PosePrior, samples: Tensor) -> None:
    torch.testing.assert_close(
        energy(prior.encode(mirror_pose(samples))), energy(prior.encode(samples)), atol=1e-2, rtol=1e-3
    )


def test_the_mean_is_a_person_in_mid_stride(prior: PosePrior) -> None:
    mean = prior.decode(torch.zeros(prior.latent_dim))
    joints = BodyModel.load().joints(torch.zeros(10), mean, ZERO, ZERO)
    arms = [JOINTS.index(name) for name in ("left_wrist", "right_wrist")]
    assert (joints[arms, 1] < joints[JOINTS.index("spine3"), 1]).all(), "arms down, not SMPL's T"
    assert joints[JOINTS.index("head"), 1] == joints[:, 1].max()
    torch.testing.assert_close(mirror_pose(mean), mean, atol=1e-5, rtol=0)


def test_knees_bend_backwards_only(samples: Tensor) -> None:
    bend = samples[:, [joint("left_knee"), joint("right_knee")], 0]
    assert (bend > -0.35).float().mean() > 0.95


def test_unlikely_poses_cost_more(prior: PosePrior) -> None:
    walking = prior.decode(torch.zeros(prior.latent_dim))
    bent, broken = walking.clone(), walking.clone()
    bent[joint("left_knee"), 0] += 1.0
    broken[joint("left_knee"), 0] -= 1.0
    t_pose = torch.zeros(23, 3)
    assert energy(prior.encode(walking)) < energy(prior.encode(bent)) < energy(prior.encode(t_pose))


def test_decoding_is_differentiable(prior: PosePrior) -> None:
    latent = torch.zeros(2, prior.latent_dim, requires_grad=True)
    prior.decode(latent).square().sum().backward()
    assert latent.grad is not None
    assert latent.grad.abs().sum() > 0


@pytest.mark.skipif(not MOCAP.exists(), reason="the mocap data is not here")
def test_unseen_walking_is_likely(prior: PosePrior) -> None:
    with np.load(MOCAP) as mocap:
        chosen = (mocap["split"] == "test") & np.array(["walking" in name for name in mocap["names"]])
        poses = torch.tensor(mocap["poses"][np.repeat(chosen, mocap["lens"])].astype(np.float32))[:, 1:]
    mean = prior.decode(torch.zeros(prior.latent_dim)).expand_as(poses)
    feet = [joint(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")]
    poses[:, feet] = mean[:, feet]  # the retargeting's feet stand on edge, see scripts/train_pose_prior.py
    per_dimension = energy(prior.encode(poses)) / prior.latent_dim
    assert 0.1 < per_dimension.median() < 1.0
    rebuilt = GaussianPosePrior.load(latent_dim=45)
    error = relative_log(poses, rebuilt.decode(rebuilt.encode(poses))).norm(dim=-1).rad2deg()
    assert error.mean() < 1.0
