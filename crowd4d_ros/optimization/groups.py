"""Who is hidden, who moves like them, and what they are to move like: AMC's data, once before Stage 3 (Eq. 30).

Everything is judged for each segment (segments.py) over the frames it has, on Stage 2's motion. A person's
reliability is how much of that time they were seen, and how well. Somebody unreliable follows the most reliable
member of their group: people near by, as fast, and headed the same way, at the same time. Without one they follow a
template, the canonical motion of this crowd: what somebody reliable, often they themselves, did in this window at the
speed nearest to theirs. (The motion prior's mean would be none: it glides, as the phases of all gaits average out.)
Who finds neither follows nobody. References are seen through the motion prior, which takes their jitter away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import matrix_to_6d, rotation_6d_to_matrix
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization.segments import SegmentedMotion, Segments
from crowd4d_ros.window import NUM_COCO, CrowdWindow, FloatArray

XZ = [0, 2]
SHORT = 1e-9
"""s²: a segment of one frame has no speed, rather than none that can be computed."""


@dataclass(frozen=True)
class References:
    """The unreliable segments 𝒰 and what they follow.

    segment: (U,) rows of the segments. weight: (U,) w in [0, 1], one minus the reliability. pose: (U, F, 138), see
    ``poses``. person: (U,) whose motion it is.
    """

    segment: Tensor
    weight: Tensor
    pose: Tensor
    person: Tensor


def poses(rotations: Tensor) -> Tensor:
    """P of Eq. 30 from rotations (…, F, 24, 6): the body's 23 joint rotations without the root, (…, F, 138).

    The first two columns of each matrix, over sqrt(4/3 · 23): a distance squared is then the mean squared chord of a
    rotation, 4/3 of (2 sin θ/2)² being what a random axis moves two columns by: rad² for small ones. It has no seam
    at π as angles do, and is quadratic, as sDTW's costs are to be. The root stays out: members of a group are
    elsewhere, and turned.
    """
    columns: Tensor = matrix_to_6d(rotation_6d_to_matrix(rotations[..., 1:, :])).flatten(-2)
    return columns / float(np.sqrt(4 / 3 * (rotations.shape[-2] - 1)))


def reliability(window: CrowdWindow, full_confidence: float) -> FloatArray:
    """(N, T) in [0, 1]: mean confidence of the paper's 17 keypoints, 1 from ``full_confidence`` on; 0 unobserved."""
    mean = np.where(window.observed[..., None], window.keypoints_confidence[..., :NUM_COCO], 0.0).mean(-1)
    return np.asarray(np.clip(mean / full_confidence, 0.0, 1.0))


def references(
    motion: SegmentedMotion, valid: Tensor, reliable: Tensor, seconds: Tensor, config: OptimizationConfig
) -> References:
    """What every unreliable segment follows. valid, reliable: (N, T), see ``reliability``; seconds: (T,)."""
    segments = motion.segments
    known = segments.inside.to(seconds.dtype)
    known = known / known.sum(-1, keepdim=True).clamp(min=1)
    late = known * (seconds - (known @ seconds)[:, None])
    late = late / (late @ seconds).clamp(min=SHORT)[:, None]
    ground = motion.pelvis[..., XZ]
    place, velocity = (torch.einsum("mt,ntk->mnk", average, ground) for average in (known, late))
    score = known @ reliable.mT
    seen = score >= config.amc_reliable

    throughout = known @ (~valid).to(known).mT == 0
    best, member = torch.where(seen & throughout & _group(segments, place, velocity, config), score, -1.0).max(-1)
    speed = _own(velocity, segments).norm(dim=-1)
    reliable_segment = _own(seen, segments)
    apart = torch.where(reliable_segment, (speed[:, None] - speed).abs(), torch.inf)
    least, template = apart.min(-1) if len(apart) else (speed, segments.person)

    has_member = best >= 0
    follows = ~reliable_segment & (has_member | (least <= config.amc_speed))
    code, _ = motion.encode(torch.where(has_member, member, segments.person))
    code = torch.where(has_member[:, None], code, motion.initial[template])[follows]
    person = torch.where(has_member, member, segments.person[template])
    return References(
        segment=torch.nonzero(follows)[:, 0],
        weight=1 - _own(score, segments)[follows],
        pose=poses(motion.prior.decode(code[:, : motion.prior.latent_dim]).rotations),
        person=person[follows],
    )


def _group(segments: Segments, place: Tensor, velocity: Tensor, config: OptimizationConfig) -> Tensor:
    """(M, N): who is near and moves like the person of a segment. place, velocity: (M, N, 2) over the segment."""
    here, moves = (_own(values, segments)[:, None] for values in (place, velocity))
    speed, pace = velocity.norm(dim=-1), moves.norm(dim=-1)
    near = (place - here).norm(dim=-1) <= config.amc_radius
    as_fast = (speed - pace).abs() <= config.amc_speed
    same_way = (velocity * moves).sum(-1) >= np.cos(config.amc_heading) * speed * pace
    stands = torch.minimum(speed, pace) < config.amc_standing
    other = torch.arange(place.shape[1], device=place.device) != segments.person[:, None]
    found: Tensor = near & as_fast & (same_way | stands) & other
    return found


def _own(values: Tensor, segments: Segments) -> Tensor:
    """(M, N, …) → (M, …), of each segment's own person."""
    return values[torch.arange(len(values), device=values.device), segments.person]
