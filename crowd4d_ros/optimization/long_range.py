"""What Stage 3 adds: the motion as codes of the motion prior, and its terms (Sec. 3.3, App. A, Eq. 27–30)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.clock import taken_at
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.optimization.groups import References, poses, references, reliability
from crowd4d_ros.optimization.segments import SegmentedMotion, split
from crowd4d_ros.priors.motion import MotionPrior, Segment
from crowd4d_ros.window import CrowdWindow

logger = logging.getLogger(__name__)

ANY = [0]
"""A vertex, for a rig of which only the joints are wanted."""
REST_POWER = 6
"""Of the squared speed, by which ``calm`` fades: steeply, as who stands seems to turn little less than slow walkers."""


@dataclass(frozen=True)
class LongRange:
    """What is fixed when Stage 3 begins.

    motion: Stage 2's, in segments. rig: the body's joints. followed: whom the unreliable follow (Eq. 30). lasting:
    (N, T − 1) the pairs of frames over which a foot on the ground stays where it is (Eq. 28). calm: (N,) how much
    more the turns of who rests weigh in Eq. 24, ours: 1 + ``stage3_rest`` at rest, 1 for who walks.
    """

    motion: SegmentedMotion
    rig: Rig
    followed: References
    lasting: Tensor
    calm: Tensor

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
        clock = window.seconds
        if config.stage3_clock:
            seen = window.valid & window.observed
            clock = taken_at(clock, window.cameras, window.keypoints_2d, window.keypoints_confidence, seen)
        segments = split(window.valid, clock, *ticks, *lengths, like=pelvis)
        motion = SegmentedMotion(prior, segments, pelvis, rotations, config.stage3_legs_kept)
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
        adjacent = energies.adjacent(valid)
        turning = _turning(motion, adjacent, seconds)
        calm = 1 + config.stage3_rest / (1 + (turning / config.stage3_rest_speed) ** (2 * REST_POWER))
        return cls(motion, rig, followed, adjacent & (seconds.diff() <= config.contact_gap), calm)

    def terms(
        self, latent: Tensor, moved: Segment, betas: Tensor, joints: Tensor, gamma: float
    ) -> dict[str, Callable[[], Tensor]]:
        """Eq. 27–30 unweighted, by name. latent: (M, L + 5 + B), what it stands for, and the joints (N, T, 24, 3)."""
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


def _turning(motion: SegmentedMotion, adjacent: Tensor, seconds: Tensor) -> Tensor:
    """(N,) rad/s as Stage 3 begins, rms over the joints but the root and over adjacent frames (N, T − 1); 0 without."""
    _, columns = motion.at_frames(motion.moved(motion.initial))
    turns = rotation_6d_to_matrix(columns[..., 1:, :])
    squared = matrix_to_axis_angle(turns[:, :-1].mT @ turns[:, 1:]).square().sum(-1).mean(-1) / seconds.diff().square()
    return (torch.where(adjacent, squared, 0.0).sum(1) / adjacent.sum(1).clamp(min=1)).sqrt()
