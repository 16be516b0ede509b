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

from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization.segments import SegmentedMotion, Segments
from crowd4d_ros.window import NUM_COCO, CrowdWindow, FloatArray

XZ = [0, 2]
SHORT = 1e-9
"""s²: a segment of one frame has no speed, rather than none that can be computed."""
ALWAYS = 1e-6
"""The share of a segment's frames that rounding may leave out."""
PAIRS = 1 << 20
"""Segments times people that are compared at once: some 100 MB."""


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
    """P of Eq. 30 from orthonormal 6D (…, F, 24, 6): the body's 23 joint rotations without the root, (…, F, 138).

    The first two columns of each matrix, over sqrt(4/3 · 23): a distance squared is then the mean squared chord of a
    rotation, 4/3 of (2 sin θ/2)² being what a random axis moves two columns by: rad² for small ones. It has no seam
    at π as angles do, and is quadratic, as sDTW's costs are to be. The root stays out: members of a group are
    elsewhere, and turned.
    """
    return rotations[..., 1:, :].flatten(-2) / float(np.sqrt(4 / 3 * (rotations.shape[-2] - 1)))


def reliability(window: CrowdWindow, full_confidence: float) -> FloatArray:
    """(N, T) in [0, 1]: mean confidence of the paper's 17 keypoints, 1 from ``full_confidence`` on; 0 unobserved."""
    mean = np.where(window.observed[..., None], window.keypoints_confidence[..., :NUM_COCO], 0.0).mean(-1)
    return np.asarray(np.clip(mean / full_confidence, 0.0, 1.0))


def references(
    motion: SegmentedMotion, valid: Tensor, reliable: Tensor, seconds: Tensor, config: OptimizationConfig
) -> References:
    """What every unreliable segment follows. valid, reliable: (N, T), see ``reliability``; seconds: (T,)."""
    segments = motion.segments
    sums = _Sums.of(motion.pelvis[..., XZ], valid, reliable, seconds)
    own = sums.over(segments.span, segments.person)
    is_reliable = own.score >= config.amc_reliable
    (unreliable,), (known,) = (torch.nonzero(rows, as_tuple=True) for rows in (~is_reliable, is_reliable))

    best, member = _leaders(sums, segments, unreliable, own, config)
    speed = own.velocity.norm(dim=-1)
    apart, template = _nearest(speed[known], speed[unreliable])

    has_member = best >= 0
    follows = has_member | (apart <= config.amc_speed)
    has_member, segment = has_member[follows], unreliable[follows]
    template = known[template[follows]] if len(known) else segment
    code, _ = motion.encode(member[follows], segment)
    code = torch.where(has_member[:, None], code, motion.initial[template])
    return References(
        segment=segment,
        weight=(1 - own.score[segment]).to(motion.pelvis),
        pose=poses(motion.prior.decode(code[:, : motion.prior.latent_dim]).rotations),
        person=torch.where(has_member, member[follows], segments.person[template]),
    )


@dataclass(frozen=True)
class _Means:
    """Over the frames of segments (…): score, how much of them somebody is there, place (…, 2) and velocity (…, 2)."""

    score: Tensor
    present: Tensor
    place: Tensor
    velocity: Tensor


@dataclass(frozen=True)
class _Sums:
    """Sums up to each frame, of people (N, T + 1, 6) and of the times and their squares (T + 1, 2).

    With them a mean over the frames from one to another takes two looks, however many there are. In double precision:
    it is a difference.
    """

    people: Tensor
    times: Tensor

    @classmethod
    def of(cls, ground: Tensor, valid: Tensor, reliable: Tensor, seconds: Tensor) -> _Sums:
        """Of places (N, T, 2) and velocities; nobody is looked at where not valid."""
        time = seconds.double()
        place = torch.where(valid[..., None], ground.double(), 0.0)
        people = [reliable.double()[..., None], valid.double()[..., None], place, place * time[:, None]]
        both = torch.cat(people, -1).cumsum(1), torch.stack([time, time.square()], -1).cumsum(0)
        pad = torch.nn.functional.pad
        return cls(*(pad(sums, (0, 0, 1, 0)) for sums in both))

    def over(self, span: Tensor, person: Tensor | None = None) -> _Means:
        """spans (M, 2): of a person each (M,), or of everybody, (M, N)."""
        first, past = span.unbind(-1)
        count = (past - first).clamp(min=1)
        if person is None:
            people = (self.people[:, past] - self.people[:, first]).movedim(0, 1)
            count = count[:, None]
            times = (self.times[past] - self.times[first])[:, None]
        else:
            people = self.people[person, past] - self.people[person, first]
            times = self.times[past] - self.times[first]
        people, (time, squared) = people / count[..., None], (times / count[..., None]).unbind(-1)
        place = people[..., 2:4]
        late = people[..., 4:] - time[..., None] * place
        spread = (squared - time.square()).clamp(min=SHORT)
        return _Means(people[..., 0], people[..., 1], place, late / spread[..., None])


def _leaders(
    sums: _Sums, segments: Segments, rows: Tensor, own: _Means, config: OptimizationConfig
) -> tuple[Tensor, Tensor]:
    """The score and the index of the most reliable member of the groups of some segments: (U,), −1 without any."""
    best, member = [own.score[:0]], [rows[:0]]
    for part in torch.split(rows, max(1, PAIRS // max(len(sums.people), 1))):
        others = sums.over(segments.span[part])
        leads = (others.score >= config.amc_reliable) & (others.present > 1 - ALWAYS)
        leads &= _group(others, own.place[part, None], own.velocity[part, None], config)
        leads.scatter_(1, segments.person[part, None], False)
        score, index = torch.where(leads, others.score, -1.0).max(-1)
        best.append(score)
        member.append(index)
    return torch.cat(best), torch.cat(member)


def _group(others: _Means, here: Tensor, moves: Tensor, config: OptimizationConfig) -> Tensor:
    """(M, N): who is near and moves alike. here, moves: (M, 1, 2) place and velocity."""
    speed, pace = others.velocity.norm(dim=-1), moves.norm(dim=-1)
    near = (others.place - here).norm(dim=-1) <= config.amc_radius
    as_fast = (speed - pace).abs() <= config.amc_speed
    same_way = (others.velocity * moves).sum(-1) >= np.cos(config.amc_heading) * speed * pace
    stands = torch.minimum(speed, pace) < config.amc_standing
    found: Tensor = near & as_fast & (same_way | stands)
    return found


def _nearest(known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How far the nearest of the known numbers (K,) is from each wanted (U,), and its index; ∞ without any."""
    if not len(known):
        return torch.full_like(wanted, torch.inf), torch.zeros_like(wanted, dtype=torch.int64)
    ascending, order = known.sort(stable=True)
    above = torch.searchsorted(ascending, wanted).clamp(max=len(known) - 1)
    both = torch.stack([(above - 1).clamp(min=0), above])
    apart, side = (ascending[both] - wanted).abs().min(0)
    return apart, order[both.gather(0, side[None])[0]]
