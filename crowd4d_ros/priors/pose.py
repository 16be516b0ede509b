"""Pose priors: a latent code in which a plausible pose is a standard normal sample."""

from __future__ import annotations

from importlib import resources
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.tangent import exponential

NUM_BODY_JOINTS = 23


class PosePrior(Protocol):
    """What Stage 2 optimises through: z_θ decodes to a body pose, and its energy is ‖z_θ‖² (Eq. 26)."""

    @property
    def latent_dim(self) -> int: ...

    def encode(self, body_pose: Tensor) -> Tensor:
        """(…, 23, 3) axis-angle → (…, latent_dim)."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """(…, latent_dim) → (…, 23, 3) axis-angle, differentiable."""
        ...

    def rotations(self, latent: Tensor) -> Tensor:
        """``decode`` of many codes (V, latent_dim) as matrices side by side (body/tangent.py): (3, 3, 23, V)."""
        ...


class GaussianPosePrior:
    """A Gaussian over body poses in axis-angle, its latent code whitened along principal axes.

    mean: (69,) radians; basis: (latent_dim, 69) radians a unit of latent, the largest axis first. With all
    69 dimensions ``encode`` and ``decode`` are inverses; with fewer, decode(encode(θ)) is the nearest pose in
    the leading axes.
    """

    def __init__(self, mean: Tensor, basis: Tensor) -> None:
        self.mean, self.basis = mean, basis
        self._inverse = basis / basis.square().sum(-1, keepdim=True)  # rows are orthogonal

    @classmethod
    def load(
        cls,
        latent_dim: int | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> GaussianPosePrior:
        """The embedded prior (scripts/train_pose_prior.py), with its first ``latent_dim`` axes or all."""
        with (resources.files("crowd4d_ros") / "assets" / "pose_prior.npz").open("rb") as file:
            stored = np.load(file)
            mean, basis = stored["mean"], stored["basis"]
        if latent_dim is not None and not 0 < latent_dim <= len(basis):
            raise ValueError(f"the pose prior has 1 to {len(basis)} latent dimensions, not {latent_dim}")
        return cls(
            torch.as_tensor(mean, dtype=dtype, device=device),
            torch.as_tensor(basis[:latent_dim], dtype=dtype, device=device),
        )

    @property
    def latent_dim(self) -> int:
        return len(self.basis)

    def encode(self, body_pose: Tensor) -> Tensor:
        """(…, 23, 3) axis-angle radians, each of length at most π → (…, latent_dim)."""
        return (body_pose.flatten(-2) - self.mean) @ self._inverse.mT

    def decode(self, latent: Tensor) -> Tensor:
        """(…, latent_dim) → (…, 23, 3) axis-angle radians."""
        pose = self.mean + latent @ self.basis
        return pose.reshape(*latent.shape[:-1], NUM_BODY_JOINTS, 3)

    def rotations(self, latent: Tensor) -> Tensor:
        """(V, latent_dim) → (3, 3, 23, V)."""
        return exponential(self.decode(latent).permute(2, 1, 0).contiguous())


def energy(latent: Tensor) -> Tensor:
    """‖z_θ‖², Eq. 26 before its weight and sum: (…, latent_dim) → (…)."""
    return latent.square().sum(-1)
