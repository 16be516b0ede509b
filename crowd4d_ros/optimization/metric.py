"""How stiff the energies of Stages 1 and 2 are: an approximate Gauss–Newton matrix H, and its inverse.

The energies are sums of squares, robustified, so that JᵀWJ says how stiff they are. J of every residual would cost more
than all iterations do, but what matters is known beforehand: bodies are held where the image sees them, across its rays
(Eq. 22), by the ground (Eq. 17 and 18) and by priors (Eq. 25 and 26), and Eq. 23 and 24 tie neighbouring frames, by a
matrix that cosines over time make diagonal: that of second differences. So there is a block for each variable of each
person and cosine; what blocks have with each other, and what changes from frame to frame, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.priors.pose import NUM_BODY_JOINTS

ACROSS = 2 / 3
"""of a random displacement's square is across the ray."""
ALONG = 0.02
"""of the stiffness across a ray is what parallax makes of it along the ray, at least."""
RIDGE = 1e-3
"""per unit², to every block, and of the stiffness to the image's: where nothing else holds they stay invertible."""
ROOT_RIDGE = 1.0
"""per m², to the roots' blocks: little beside the image's thousands."""
NEAREST = 1.0
"""metres: the image holds nobody harder than at this depth, behind the camera too."""
STEP = 0.05
"""of a parameter, rad or deviations, for differences: this is far from rounding, and need not be exact."""


class Metric:
    """inverse: of the blocks, by variable: (N, T, K, K) over cosines, (N, K, K) of the betas.

    moving: what the stage moves. weights: λ of its terms, by name.
    """

    def __init__(self, problem: Problem, moving: dict[str, Tensor], weights: dict[str, float]) -> None:
        weight = partial(curvature, weights)
        body, image = problem.body, ImageStiffness.of(problem, weight("proj"))
        like = image.stiffness
        eye, zero = torch.eye(3, dtype=like.dtype, device=like.device), like.new_zeros
        up = eye[UP].diag()
        self.cosines, bend = _cosines(like.shape[1], like)

        def along_time(fixed: Tensor, smooth: Tensor) -> Tensor:
            """Inverses (N, T, K, K) from fixed (N, K, K) and smooth (K, K)."""
            ridge = RIDGE * torch.eye(len(smooth), dtype=smooth.dtype, device=smooth.device)
            inverse: Tensor = torch.linalg.inv(fixed[:, None] + bend[:, None, None] * smooth + ridge)
            return inverse

        self.inverse = {"betas": self._of_shapes(body, image, weight("beta", "seam"))}
        seen = image.mean(image.stiffness)[:, None, None]
        if "pelvis" in moving:
            ground = weight("hsip_y") * up + weight("hsip_xz") * (eye - up) + weight("joint_distance") * eye
            fixed = image.mean(image.across) + (ALONG * seen + ROOT_RIDGE) * eye + ground
            self.inverse["pelvis"] = along_time(fixed, weight("tau") * eye)
        if "global_orient" in moving:
            J = _levers(body, zero(3), lambda turn: (turn.new_zeros(len(turn), NUM_BODY_JOINTS, 3), turn))
            fixed = seen * (J + RIDGE * eye) + weight("upright") * (eye - up)
            self.inverse["global_orient"] = along_time(fixed, weight("gamma") * eye)
        if "latent" in moving:
            code = zero(moving["latent"].shape[-1])
            one = torch.eye(len(code), dtype=code.dtype, device=code.device)
            J = _levers(body, code, lambda latent: (problem.prior.decode(latent), latent.new_zeros(len(latent), 3)))
            D = _gram(problem.prior.decode, code)
            fixed = seen * (J + RIDGE * one) + weight("prior_theta") * one + weight("initial_pose") * D
            self.inverse["latent"] = along_time(fixed, weight("theta") * D)

    @staticmethod
    def _of_shapes(body: BodyModel, image: ImageStiffness, prior: float) -> Tensor:
        """(N, 10, 10): what keypoints say of the shape, whatever the pose, and the priors of every frame."""
        directions = (body.joint_shapedirs - body.joint_shapedirs[:1]).flatten(0, 1)
        seen = directions.mT @ directions * (ACROSS / len(body.joint_shapedirs))
        one = torch.eye(len(seen), dtype=seen.dtype, device=seen.device)
        blocks = image.mean(image.stiffness)[:, None, None] * seen + (prior + RIDGE) * one
        inverse: Tensor = torch.linalg.inv(image.frames[:, None, None] * blocks)
        return inverse

    def solve(self, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        """H⁻¹ g, variable by variable."""
        answer = {}
        for name, values in gradient.items():
            over_time = self.inverse[name].ndim == 4
            waves = self.cosines @ values if over_time else values
            waves = (self.inverse[name] @ waves[..., None])[..., 0]
            answer[name] = self.cosines.mT @ waves if over_time else waves
        return answer


def curvature(weights: dict[str, float], *names: str) -> float:
    """What JᵀJ of these terms, together, is multiplied by: λ r² has the second derivative 2 λ JᵀJ."""
    return 2 * sum(weights.get(name, 0.0) for name in names)


@dataclass(frozen=True)
class ImageStiffness:
    """What Eq. 22 holds. stiffness: (N, T) per m² across a ray, of all keypoints together; across: (N, T, 3, 3) the
    same, in the world's axes; both zero where not valid. frames: (N,) valid ones, at least 1."""

    stiffness: Tensor
    across: Tensor
    frames: Tensor

    @classmethod
    def of(cls, problem: Problem, weight: float) -> ImageStiffness:
        seen, pelvis = problem.seen, problem.variables["pelvis"].detach()
        alpha = problem.variables["log_alpha"].detach().exp()
        ray = (seen.R @ pelvis[..., None])[..., 0] + alpha * seen.t
        pixels = seen.K[0, 0] / (ray[..., 2].abs().clamp(min=NEAREST) * seen.size)
        stiffness = torch.where(problem.valid, weight * seen.weight.sum(-1) * pixels.square(), 0.0)
        ray = torch.nn.functional.normalize((seen.R.mT @ ray[..., None])[..., 0], dim=-1)
        eye = torch.eye(3, dtype=ray.dtype, device=ray.device)
        across = stiffness[..., None, None] * (eye - ray[..., None] * ray[..., None, :])
        return cls(stiffness, across, problem.valid.sum(-1).clamp(min=1).to(stiffness))

    def mean(self, values: Tensor) -> Tensor:
        """(N, T, …), zero where not valid, → (N, …)."""
        return values.sum(1) / self.frames.reshape(-1, *(1,) * (values.ndim - 2))


def _cosines(frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The orthonormal cosines (T, T), one a row (DCT-II), and what second differences multiply each by: (T,)."""
    number = torch.arange(frames, dtype=like.dtype, device=like.device)
    waves = torch.cos(math.pi * number[:, None] * (number + 0.5) / frames)
    return waves / waves.norm(dim=-1, keepdim=True), 2 - 2 * torch.cos(math.pi * number / frames)


def _levers(body: BodyModel, at: Tensor, pose: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """(K, K) m² per unit²: how far, across the ray, a mean body's joints move with parameters around ``at`` (K,)."""

    def joints(values: Tensor) -> Tensor:
        body_pose, orient = pose(values)
        still = values.new_zeros(len(values), 3)
        return body.joints(values.new_zeros(len(values), body.joint_shapedirs.shape[-1]), body_pose, orient, still)

    return _gram(joints, at) * ACROSS


@torch.no_grad()
def _gram(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """JᵀJ (K, K), the mean over the joints, of a function (B, K) → (B, J, 3) around (K,), by differences."""
    values = function(torch.cat([at[None], at + STEP * torch.eye(len(at), dtype=at.dtype, device=at.device)]))
    slopes = ((values[1:] - values[:1]) / STEP).flatten(1)
    return slopes @ slopes.mT / values.shape[1]
