"""Pose, orientation and path of all people together, against everything that was observed of them.

A maximum a-posteriori estimate: every term is a squared error in units of its own expected size. Reprojection
and soles are robust, since single keypoints are often of somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import KEYPOINTS, VERTICES, keypoints, sources_to_keypoints
from crowd4d_ros.body.packing import Packing
from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import compose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.body.tangent import dot, exponential, turned
from crowd4d_ros.config import MotionConfig
from crowd4d_ros.priors.pose import GaussianPosePrior

CENTRE = [0, 1, 2, 3, 4, 5, 6, 11, 12]
"""Head, shoulders and hips: what hardly swings in a walk."""
LIMBS = [(5, 6), (11, 12), (5, 11), (6, 12), (5, 7), (6, 8), (7, 9), (8, 10), (11, 13), (12, 14), (13, 15)]
LIMBS += [(14, 16), (19, 17), (22, 20), (3, 4), (5, 3), (6, 4)]
"""Pairs of keypoints whose direction the 3D landmarks know."""
FEET = [[17, 19], [20, 22]]
"""Big toe and heel, left and right."""
SHORTEST_BONE = 1e-6
"""Metres, below which a bone has no direction."""


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
    """Better pose (N, T, 23, 3), orient (N, T, 3) and root (N, T, 3) of valid frames, with shape betas (N, 10)."""
    pack = Packing.of(evidence.valid, root)
    if not len(pack.rows):
        return pose, orient, root
    problem = _Problem(evidence, body, betas, root, pack, config)
    code = prior.encode(pose[evidence.valid]).detach().clone().requires_grad_()
    facing = exponential(pack.packed(orient))
    turn, shift = (torch.zeros_like(problem.root, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam(
        [
            {"params": [code], "lr": config.pose_rate},
            {"params": [turn], "lr": config.turn_rate},
            {"params": [shift], "lr": config.shift_rate},
        ],
        betas=(config.momentum, 0.99),
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations)
    for _ in range(config.iterations):
        energy = problem.energy(prior.rotations(code), turn, facing, shift)
        energy = energy + config.prior_weight * code.square().sum()
        optimizer.zero_grad()
        energy.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

    with torch.no_grad():
        refined = prior.decode(code).movedim(0, -1)
        turned_by = compose(turn.mT, orient[evidence.valid]).mT
        return pack.padded(refined, pose), pack.padded(turned_by, orient), pack.padded(problem.root + shift, root)


class _Problem:
    """Sums over V valid person-frames of squared errors in sigmas, side by side as ``pack`` has them. root: (3, V)."""

    def __init__(
        self, evidence: Evidence, body: BodyModel, betas: Tensor, root: Tensor, pack: Packing, config: MotionConfig
    ) -> None:
        self.config = config
        self.betas, self.root = pack.of_people(betas), pack.packed(root)
        self.rig = Rig.of(body, torch.tensor(list(VERTICES.values())))
        self.R, self.t, self.K = pack.of_frames(evidence.R), pack.of_frames(evidence.t), evidence.K
        self.pixels, self.pixel_sigma = pack.packed(evidence.pixels.mT), pack.packed(evidence.pixel_sigma)
        self.confidence = pack.packed(evidence.confidence)
        centre = evidence.R.mT @ evidence.t[..., None]
        self.ray = pack.packed(torch.nn.functional.normalize(root + centre[..., 0], dim=-1))
        self.ground = evidence.ground
        self.sole = pack.of_people(evidence.sole[:, 0])

        start, end = (torch.tensor(ends) for ends in zip(*LIMBS, strict=True))
        landmarks = pack.packed(evidence.landmarks.mT)
        direction = torch.nn.functional.normalize(landmarks[:, end] - landmarks[:, start], dim=0, eps=SHORTEST_BONE)
        self.bones = torch.minimum(self.confidence[end], self.confidence[start]) * direction
        marked = sources_to_keypoints(self.root, config.keypoint_legs)
        exact = sources_to_keypoints(self.root)
        feet = exact[[row for foot in FEET for row in foot]]
        self.wanted = [marked, exact[end] - exact[start], exact, feet]
        self.from_sources = torch.cat(self.wanted)

        self.pair = pack.lasting
        self.step = torch.where(self.pair > 0, pack.of_frames(evidence.seconds).diff(), 1.0)
        self.middle = (self.step[1:] + self.step[:-1]) / 2
        triple = self.pair[1:] * self.pair[:-1]
        sigma = root.new_full((len(KEYPOINTS), 1), config.limb_acceleration)
        sigma[CENTRE] = config.torso_acceleration
        density = root.new_tensor(config.acceleration_density)[:, None]
        self.smooth, self.path = triple.sqrt() / sigma, (triple * self.middle).sqrt() / density

    def energy(self, rotations: Tensor, turn: Tensor, facing: Tensor, shift: Tensor) -> Tensor:
        """() all but the prior's. rotations: (3, 3, 23, V) of the joints; facing: (3, 3, V), turned by turn (3, V) rad;
        shift: (3, V) m."""
        by = exponential(turn)
        orient = torch.stack([turned(by, column) for column in facing.unbind(1)], 1)
        rotations = torch.cat([orient[:, :, None], rotations], 2)
        joints, landmarks, _ = self.rig.pose(self.betas, rotations, torch.zeros_like(shift))
        points = self.from_sources @ torch.cat([joints, landmarks], 1)
        marked, bones, exact, feet = torch.split(points, [len(rows) for rows in self.wanted], 1)
        root = self.root + shift
        return (
            self.reprojection(marked + root[:, None])
            + self.directions(bones)
            + (self.accelerations(exact) * self.smooth).square().sum()
            + (self.accelerations(root) * self.path).square().sum()
            + self.soles(feet + root[:, None])
            + (dot(shift, self.ray) / self.config.depth_sigma).square().sum()
        )

    def reprojection(self, points: Tensor) -> Tensor:
        camera = turned(self.R[:, :, None], points) + self.t[:, None]
        nearness = camera[2].clamp_min(self.config.nearest).reciprocal()
        pixels = (self.K[:2] @ camera.flatten(1)).reshape(2, *points.shape[1:]) * nearness
        squared = ((pixels - self.pixels) / self.pixel_sigma).square().sum(0)
        return (self.confidence * self._robust(squared)).sum()

    def directions(self, bones: Tensor) -> Tensor:
        """Squared distances of unit vectors, less what does not change."""
        length = dot(bones, bones).clamp_min(SHORTEST_BONE**2).sqrt()
        return -2 / self.config.bone_sigma**2 * (dot(bones, self.bones) / length).sum()

    def soles(self, feet: Tensor) -> Tensor:
        """The lowest foot on the ground, and a foot that is down in two frames in the same place in both."""
        if self.ground is None:
            return feet.new_zeros(())
        normal, offset = self.ground
        feet = feet.reshape(3, *np.shape(FEET), -1)
        height = (torch.tensordot(normal, feet, 1) + offset - self.sole).amin(1)
        lowest = height.amin(0)
        standing = self._robust((lowest / self.config.ground_sigma).square()).sum()
        # nearly one for the lower foot, a half for one that is ``lifted``
        down = torch.sigmoid(2 - 2 * (height - lowest) / self.config.lifted).detach()
        speed = feet.mean(2).diff() / self.step
        slide = self._robust(dot(speed, speed) / self.config.slide_sigma**2)
        return standing + (slide * (down[:, 1:] * down[:, :-1] * self.pair)).sum()

    def accelerations(self, points: Tensor) -> Tensor:
        """(…, V − 2) of points (…, V), whatever the spacing of the frames."""
        return (points.diff() / self.step).diff() / self.middle

    def _robust(self, squared: Tensor) -> Tensor:
        """Geman-McClure: ``squared`` where small, levelling off at the square of robust_sigmas."""
        limit = self.config.robust_sigmas**2
        return limit * squared / (limit + squared)
