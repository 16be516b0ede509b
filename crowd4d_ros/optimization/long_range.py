"""What Stage 3 adds: the motion as codes of the motion prior, and its terms (Sec. 3.3, App. A, Eq. 27–30)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.optimization.groups import References, poses, references, reliability
from crowd4d_ros.optimization.segments import SegmentedMotion, split
from crowd4d_ros.priors.motion import MotionPrior, Segment
from crowd4d_ros.window import CrowdWindow

logger = logging.getLogger(__name__)

ANY = [0]
"""A vertex, for a rig of which only the joints are wanted."""


@dataclass(frozen=True)
class LongRange:
    """What is fixed when Stage 3 begins.

    motion: Stage 2's, in segments. rig: the body's joints. followed: whom the unreliable follow (Eq. 30). lasting:
    (N, T − 1) the pairs of frames over which a foot on the ground stays where it is (Eq. 28).
    """

    motion: SegmentedMotion
    rig: Rig
    followed: References
    lasting: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        window: CrowdWindow,
        body: BodyModel,
        prior: MotionPrior,
        config: OptimizationConfig,
        pelvis: Tensor,
        rotations: Tensor,
    ) -> LongRange:
        """From Stage 2's pelvis (N, T, 3) and rotations (N, T, 24, 6)."""
        ticks, lengths = (prior.frames, prior.rate), (config.segment_overlap, config.segment_least)
        segments = split(window.valid, window.seconds, *ticks, *lengths, like=pelvis)
        motion = SegmentedMotion(prior, segments, pelvis, rotations)
        valid = tensor_like(window.valid, pelvis, torch.bool)
        reliable = tensor_like(reliability(window, config.amc_full_confidence), pelvis)
        seconds = tensor_like(window.seconds, pelvis)
        followed = references(motion, valid, reliable, seconds, config)
        logger.info(
            "stage-3: %d segments, %d of them follow a reference; %d of %d person-frames are in runs too short for "
            "one and keep Stage 2's motion",
            len(segments.person),
            len(followed.segment),
            int((valid & ~segments.covered).sum()),
            int(valid.sum()),
        )
        rig = Rig.of(body, torch.tensor(ANY, device=pelvis.device))
        return cls(motion, rig, followed, energies.adjacent(valid) & (seconds.diff() <= config.contact_gap))

    def terms(
        self, latent: Tensor, moved: Segment, betas: Tensor, joints: Tensor, gamma: float
    ) -> dict[str, Callable[[], Tensor]]:
        """Eq. 27–30 unweighted, by name. latent: (M, L + 5), what it stands for, and the joints (N, T, 24, 3)."""
        motion, followed = self.motion, self.followed
        touching = joints[..., motion.prior.contact_joints, :]
        return {
            "contact": lambda: energies.contact_stationarity(
                touching, motion.segments.at_frames(moved.contact.detach()), self.lasting
            ),
            "motion_prior": lambda: energies.motion_prior(latent),
            "connect": lambda: energies.connection(motion.ends(moved, self.rig, betas)),
            "amc": lambda: energies.motion_consistency(
                poses(moved.rotations.mT.index_select(0, followed.segment).mT), followed.pose, followed.weight, gamma
            ),
        }
