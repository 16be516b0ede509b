"""What a pose and a motion are likely to be: priors that the optimizer's latent codes decode through."""

from __future__ import annotations

import torch

from crowd4d_ros.priors.pose import GaussianPosePrior, PosePrior
from crowd4d_ros.priors.vposer import Vposer


def load_pose_prior(
    name_or_path: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PosePrior:
    """``vposer`` and ``gaussian`` are the embedded priors; anything else is a VPoser v2 file. Raises WeightsError."""
    if name_or_path == "gaussian":
        return GaussianPosePrior.load(device=device, dtype=dtype)
    return Vposer.load("" if name_or_path == "vposer" else name_or_path, device, dtype)
