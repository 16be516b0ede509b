"""A motion prior of random weights, as small as one can be: for what must hold for any."""

from __future__ import annotations

import torch

from crowd4d_ros.priors.motion import Layout, MotionPrior

LAYOUT = Layout(frames=9, rate=10.0, contact_joints=(7, 8, 10, 11), latent_dim=4, components=6, hidden=5, slope=0.1)


def random_motion_prior(seed: int = 0, dtype: torch.dtype = torch.float64) -> MotionPrior:
    """Poses around the rest pose, and paths of some decimetres."""
    random = torch.Generator().manual_seed(seed)
    sizes = LAYOUT.shapes()
    tensors = {name: 0.2 * torch.randn(shape, generator=random, dtype=dtype) for name, shape in sizes.items()}
    upright = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=dtype).repeat(24)
    tick = torch.cat([upright, torch.zeros(3, dtype=dtype)])
    tensors["mean"] = tick.repeat(LAYOUT.frames)
    tensors["feature_weight"] = torch.ones_like(tensors["feature_weight"])
    for name in ("spread", "input_scale"):
        tensors[name] = torch.ones_like(tensors[name])
    return MotionPrior(LAYOUT, tensors)
