"""In which axes to look at the codes of Stage 3, so that the energy is about equally stiff along each.

A unit of one entry of a code moves a body by millimetres, of another by decimetres, and many move it alike: down such a
valley Adam, which scales every entry by itself, goes slowly. As in Shampoo (Gupta et al. 2018) and SOAP (Vyas et al.
2024) it shall work along eigenvectors instead, in units of λ^(−1/4): half of what would make all equally stiff, the
other half is what Adam does. They take their matrix from past gradients; here it is Gauss–Newton's, JᵀWJ of the terms
that hold bodies most (Eq. 18, 22, 27 and 29), of a mean of some of the window's segments, in each one's own axes. One
such matrix for all of them does as well as one for each, and costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP
from crowd4d_ros.body.tangent import orthonormal
from crowd4d_ros.optimization.metric import ACROSS, RIDGE, STEP, ImageStiffness, curvature
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.segments import BEND_SIGMA, bends
from crowd4d_ros.priors.motion import PLACEMENT_DIM, MotionPrior, Placement

SAMPLES = 16
"""segments at whose codes J is taken, evenly from all; at the zero code alone two windows of three take far longer."""
POWER = 0.25
"""of the stiffness, by which steps shrink: with .15 and .33 the benchmark's energy after 100 is 1 and 3 % higher."""


@torch.no_grad()
def axes_of_codes(problem: Problem, weights: dict[str, float]) -> Tensor:
    """(K, K): a column for each axis, as long as a step along it shall be. weights: λ of Stage 3's terms, by name.

    The problem has begun Stage 3, and J is taken where it begins. The identity where there is no segment.
    """
    codes = problem.variables["motion_latent"].detach()
    if not len(codes):
        return torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)
    stiffness, directions = torch.linalg.eigh(_stiffness(problem, partial(curvature, weights)))
    axes: Tensor = directions * stiffness.pow(-POWER)
    return axes


def _stiffness(problem: Problem, weight: Callable[..., float]) -> Tensor:
    """(K, K): the Gauss–Newton matrix of a mean segment."""
    assert problem.long_range is not None
    motion, codes = problem.long_range.motion, problem.variables["motion_latent"].detach()
    prior, feet = motion.prior, list(motion.prior.contact_joints)
    chosen = codes[torch.linspace(0, len(codes) - 1, min(SAMPLES, len(codes)), device=codes.device).long()]
    one = torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)
    joints = _joints(prior, problem.long_range.rig, torch.cat([chosen[:, None], chosen[:, None] + STEP * one], 1))
    slopes = ((joints[:, 1:] - joints[:, :1]) / STEP).movedim(1, 0)

    def squares(values: Tensor) -> Tensor:
        flat = values.flatten(1)
        return flat @ flat.mT / len(chosen)

    image = ImageStiffness.of(problem, weight("proj"))
    seen = image.stiffness.sum() / image.frames.sum()
    of_tick = motion.segments.span.diff().sum() / (len(codes) * prior.frames)
    return (
        (weight("motion_prior") + RIDGE) * one
        + weight("connect") * squares(slopes[:, :, [0, -1]])
        + weight("hsip_y") * of_tick * squares(slopes[..., feet, UP]) / len(feet)
        + ACROSS * seen * of_tick * squares(slopes) / slopes.shape[3]
    )


def _joints(prior: MotionPrior, rig: Rig, codes: Tensor) -> Tensor:
    """(S, C, F, 24, 3) metres, of a mean body, in the axes of the segments (S) that codes (S, C, K) stand for."""
    code, bend = codes.tensor_split([prior.latent_dim + PLACEMENT_DIM], -1)
    here = Placement(codes.new_zeros(3), codes.new_zeros(()), codes.new_zeros(()))
    segment = prior.motion(code, here)
    paths = bends(prior.frames, codes)
    pelvis = segment.pelvis + BEND_SIGMA * (bend @ paths.flatten(1)).reshape(segment.pelvis.shape)
    rotations = orthonormal(segment.rotations.flatten(0, 2).permute(2, 1, 0).reshape(2, 3, len(JOINTS), -1))
    betas = codes.new_zeros(rig.offsets.shape[-1] - 1, rotations.shape[-1])
    joints, _, _ = rig.pose(betas, rotations, pelvis.flatten(0, 2).mT)
    return joints.permute(2, 1, 0).reshape(*pelvis.shape[:-1], len(JOINTS), 3)
