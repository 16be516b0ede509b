"""Pose, orientation and path of all people together, against everything that was observed of them.

A maximum a-posteriori estimate: every term is a squared error in units of its own expected size. Reprojection
and soles are robust, since single keypoints are often of somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import keypoints, longer_legs
from crowd4d_ros.body.rotations import compose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import MotionConfig
from crowd4d_ros.priors.pose import GaussianPosePrior

CENTRE = [0, 1, 2, 3, 4, 5, 6, 11, 12]
"""Head, shoulders and hips: what hardly swings in a walk."""
LIMBS = [(5, 6), (11, 12), (5, 11), (6, 12), (5, 7), (6, 8), (7, 9), (8, 10), (11, 13), (12, 14), (13, 15)]
LIMBS += [(14, 16), (19, 17), (22, 20), (3, 4), (5, 3), (6, 4)]
"""Pairs of keypoints whose direction the 3D landmarks know."""
FEET = [[17, 19], [20, 22]]
"""Big toe and heel, left and right."""


@dataclass(frozen=True)
class Evidence:
    """What is known about N people in T frames, as tensors. Confidences are 0 where nothing was observed.

    pixels: (N, T, 23, 2) rectified; confidence: (N, T, 23); pixel_sigma: (N, T) pixels; landmarks:
    (N, T, 23, 3) in world axes, any size; valid: (N, T); seconds: (T,). K: (3, 3), R: (T, 3, 3), t: (T, 3)
    the cameras. ground: normal (3,) and offset () of Ground, or None. sole: (N, 1, 2, 2) metres, how high the
    keypoints of FEET are above the ground of a standing body.
    """

    pixels: Tensor
    confidence: Tensor
    pixel_sigma: Tensor
    landmarks: Tensor
    valid: Tensor
    seconds: Tensor
    K: Tensor
    R: Tensor
    t: Tensor
    ground: tuple[Tensor, Tensor] | None
    sole: Tensor


def body_keypoints(body: BodyModel, betas: Tensor, pose: Tensor, orient: Tensor) -> Tensor:
    """(N, T, 23, 3) metres from the root, world axes. betas: (N, 10), pose and orient as in SMPL's motion."""
    shape = betas[:, None]
    return keypoints(body, shape, pose, orient, -body.pelvis(shape))


def refine(
    evidence: Evidence,
    body: BodyModel,
    prior: GaussianPosePrior,
    betas: Tensor,
    pose: Tensor,
    orient: Tensor,
    root: Tensor,
    config: MotionConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Better pose (N, T, 23, 3), orient (N, T, 3) and root (N, T, 3), all with shape betas (N, 10)."""
    code = prior.encode(pose).detach().clone().requires_grad_()
    turn, shift = torch.zeros_like(orient, requires_grad=True), torch.zeros_like(root, requires_grad=True)
    ray = torch.nn.functional.normalize(root + (evidence.R.mT @ evidence.t[..., None])[..., 0], dim=-1)
    optimizer = torch.optim.Adam(
        [
            {"params": [code], "lr": config.pose_rate},
            {"params": [turn], "lr": config.turn_rate},
            {"params": [shift], "lr": config.shift_rate},
        ],
        betas=(config.momentum, 0.99),
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations)
    energies = _Energies(evidence, config)
    for _ in range(config.iterations):
        offsets = body_keypoints(body, betas, prior.decode(code), compose(turn, orient))
        energy = (
            energies.reprojection(offsets, root + shift)
            + energies.bones(offsets)
            + energies.smoothness(offsets)
            + energies.path(root + shift)
            + energies.soles(offsets, root + shift)
            + energies.depth((shift * ray).sum(-1))
            + energies.prior(code)
        )
        optimizer.zero_grad()
        energy.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return prior.decode(code), compose(turn, orient), root + shift


class _Energies:
    """Sums over people and frames of squared errors in sigmas. offsets: (N, T, 23, 3), root: (N, T, 3)."""

    def __init__(self, evidence: Evidence, config: MotionConfig) -> None:
        self.evidence, self.config = evidence, config
        self.start, self.end = (torch.tensor(ends) for ends in zip(*LIMBS, strict=True))
        self.bone_weight = torch.minimum(*(evidence.confidence[..., end] for end in (self.start, self.end)))
        self.bone_direction = self._directions(evidence.landmarks)
        step = evidence.seconds.diff()
        self.step = step
        self.middle = (step[1:] + step[:-1]) / 2
        self.pair = evidence.valid[:, 1:] & evidence.valid[:, :-1]
        self.triple = self.pair[:, 1:] & self.pair[:, :-1]
        limb, torso = config.limb_acceleration, config.torso_acceleration
        self.acceleration_sigma = evidence.pixels.new_full((evidence.pixels.shape[2], 1), limb)
        self.acceleration_sigma[CENTRE] = torso

    def reprojection(self, offsets: Tensor, root: Tensor) -> Tensor:
        seen, config = self.evidence, self.config
        marked = root[..., None, :] + longer_legs(offsets, config.keypoint_legs)
        camera = marked @ seen.R.mT + seen.t[:, None]
        homogeneous = camera @ seen.K.T
        pixels = homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(config.nearest)
        squared = ((pixels - seen.pixels) / seen.pixel_sigma[..., None, None]).square().sum(-1)
        return (seen.confidence * self._robust(squared)).sum()

    def bones(self, offsets: Tensor) -> Tensor:
        error = self._directions(offsets) - self.bone_direction
        return (self.bone_weight[..., None] * error.square()).sum() / self.config.bone_sigma**2

    def smoothness(self, offsets: Tensor) -> Tensor:
        error = self._accelerations(offsets) / self.acceleration_sigma
        return (error.square().sum((-1, -2)) * self.triple).sum()

    def path(self, root: Tensor) -> Tensor:
        error = self._accelerations(root) / root.new_tensor(self.config.acceleration_density)
        return (error.square().sum(-1) * self.middle * self.triple).sum()

    def soles(self, offsets: Tensor, root: Tensor) -> Tensor:
        """The lowest foot on the ground, and a foot that is down in two frames in the same place in both."""
        if self.evidence.ground is None:
            return root.new_zeros(())
        normal, offset = self.evidence.ground
        feet = root[..., None, None, :] + offsets[..., FEET, :]
        height = ((feet @ normal) + offset - self.evidence.sole).amin(-1)
        gap = height.amin(-1) / self.config.ground_sigma
        standing = (self._robust(gap.square()) * self.evidence.valid).sum()
        lifted = (height - height.amin(-1, keepdim=True)) / self.config.lifted
        down = torch.sigmoid(2 - 2 * lifted)
        down = (down[:, 1:] * down[:, :-1]).detach()
        speed = feet.mean(-2).diff(dim=1) / self.step[:, None, None]
        slide = self._robust(speed.square().sum(-1) / self.config.slide_sigma**2)
        return standing + (slide * down * self.pair[..., None]).sum()

    def depth(self, pulled: Tensor) -> Tensor:
        return (pulled / self.config.depth_sigma).square().sum()

    def prior(self, code: Tensor) -> Tensor:
        return self.config.prior_weight * code.square().sum()

    def _directions(self, points: Tensor) -> Tensor:
        bones = points[..., self.end, :] - points[..., self.start, :]
        return torch.nn.functional.normalize(bones, dim=-1, eps=1e-6)

    def _accelerations(self, points: Tensor) -> Tensor:
        """(N, T − 2, …) of points (N, T, …), whatever the spacing of the frames."""
        lift = (...,) + (None,) * (points.dim() - 2)
        return (points.diff(dim=1) / self.step[lift]).diff(dim=1) / self.middle[lift]

    def _robust(self, squared: Tensor) -> Tensor:
        """Geman-McClure: ``squared`` where small, levelling off at the square of robust_sigmas."""
        limit = self.config.robust_sigmas**2
        return limit * squared / (limit + squared)
