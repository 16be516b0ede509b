"""A window's motion as overlapping segments of the motion prior, the variables of Stage 3 (Sec. 3.3, Eq. 27).

A run is a person's unbroken stretch of valid frames. Segments of the prior's length, with at least the overlap asked
for, are spread evenly from a run's first frame to its last. A run shorter than a segment gets one around its middle,
whose ticks before and after hold the run's end poses; one shorter than ``least`` gets none, and keeps Stage 2's
motion. All segments of all people are rows of one batch. Back to frames, what segments say is averaged with Hann
weights that sum to one: a segment comes in and goes out smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_6d_to_matrix
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.tangent import orthonormal
from crowd4d_ros.optimization.mixing import Mixing
from crowd4d_ros.priors.motion import MotionPrior, Placement, Segment, about_up
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

BENDS, BEND_SIGMA = 3, 0.1
"""Slope, parabola and cubic, metres rms of each: as wide as the origin's residual; half of it changes nothing."""
SLACK = 1e-6
"""seconds: a run that fills its segments exactly needs no further one through rounding."""
LEGS = tuple(row for row, name in enumerate(JOINTS) if name.endswith(("hip", "knee", "ankle", "foot")))
"""Rows of the joints whose mean turns are kept."""
CHUNK = 1024
"""Segments that are encoded at once: some 200 MB."""


@dataclass(frozen=True)
class Segments:
    """M segments of F ticks on N people and T frames. What it holds grows with N·T, and with nothing faster.

    person: (M,) in order, and a run's segments in the order of time. start: (M,) s of the first tick.
    span: (M, 2) the first frame a segment speaks for, and the one after the last. covered: (N, T) frames of some
    segment.
    around: (2, M, F) the frames before and after a tick, and share: (M, F) how near it is to the one after.
    to_frames: (N·T, M·F) from the ticks to the frames.
    joined: (J,) segments that the next row continues; to_joint: (2·J·2, M·F) from the ticks of both to the two times
    of Eq. 29: the last tick of the first and the first tick of the second.
    """

    person: Tensor
    start: Tensor
    span: Tensor
    covered: Tensor
    around: Tensor
    share: Tensor
    to_frames: Mixing
    joined: Tensor
    to_joint: Mixing

    def at_ticks(self, values: Tensor, person: Tensor | None = None, segment: Tensor | None = None) -> Tensor:
        """Values (N, T, K) of the segments' people, or of others (M,), at their ticks: (M, F, K).

        segment: (M,), which segments; None: all.
        """
        chosen = slice(None) if segment is None else segment
        whose = (self.person[chosen] if person is None else person)[:, None]
        before, after = self.around[:, chosen]
        return torch.lerp(values[whose, before], values[whose, after], self.share[chosen, :, None])

    def at_frames(self, values: Tensor) -> Tensor:
        """Values (M, F, K) averaged at the frames: (N, T, K), zero where not covered."""
        return self.to_frames(values.flatten(0, 1)).reshape(*self.covered.shape, values.shape[-1])

    def at_joints(self, values: Tensor) -> Tensor:
        """Values (M, F, K) by each joined segment and by its successor at the two times: (2, J, 2, K)."""
        return self.to_joint(values.flatten(0, 1)).reshape(2, len(self.joined), 2, values.shape[-1])


def split(
    valid: BoolArray, seconds: FloatArray, frames: int, rate: float, overlap: float, least: float, like: Tensor
) -> Segments:
    """Segments of ``frames`` ticks at ``rate`` a second over the runs of valid (N, T), at seconds (T,), increasing.

    overlap: s, at least that much of a segment lies in the next, less than its duration. least: s, shorter runs get
    no segment. like: what device and dtype to use.
    """
    duration = (frames - 1) / rate
    edge = np.pad(valid, ((0, 0), (1, 1)))
    runner, first = np.nonzero(valid & ~edge[:, :-2])
    _, last = np.nonzero(valid & ~edge[:, 2:])
    long_enough = seconds[last] - seconds[first] >= least - SLACK
    runner, first, last = runner[long_enough], first[long_enough], last[long_enough]
    spare = seconds[last] - seconds[first] - duration
    count = 1 + np.ceil(np.maximum(spare - SLACK, 0) / (duration - overlap)).astype(np.int64)

    run = np.repeat(np.arange(len(runner)), count)
    along = np.where(count[run] > 1, _numbered(count) / np.maximum(count[run] - 1, 1), 0.5)
    begin, end, person = first[run], last[run], runner[run]
    start = seconds[begin] + spare[run] * along
    within = np.clip(start[:, None] + np.arange(frames) / rate, seconds[begin, None], seconds[end, None])
    before = np.clip(np.searchsorted(seconds, within, "right") - 1, begin[:, None], np.maximum(end - 1, begin)[:, None])
    after = np.minimum(before + 1, end[:, None])
    share = (within - seconds[before]) / np.maximum(seconds[after] - seconds[before], SLACK)

    low = np.maximum(begin, np.searchsorted(seconds, start - SLACK, "left"))
    high = np.minimum(end + 1, np.searchsorted(seconds, start + duration + SLACK, "right"))
    inside = high - low
    segment = np.repeat(np.arange(len(run)), inside)
    frame = low[segment] + _numbered(inside)
    tick = (seconds[frame] - start[segment]) * rate
    # Hann windows, half a tick longer than the segment: nowhere zero inside it
    window = np.sin(np.pi * (tick + 0.5) / frames) ** 2
    cell = person[segment] * len(seconds) + frame
    total = np.bincount(cell, window, valid.size)

    joined = np.nonzero(run[:-1] == run[1:])[0]
    meeting = np.stack([start[joined] + duration, start[joined + 1]], -1)
    pair = np.stack([joined, joined + 1])
    at_meeting = (meeting - start[pair][..., None]) * rate
    at_pair = np.broadcast_to(pair[..., None], at_meeting.shape)
    ticks = len(run) * frames

    def tensor(array: FloatArray | IntArray | BoolArray) -> Tensor:
        return torch.as_tensor(array, device=like.device).to(like.dtype if array.dtype.kind == "f" else None)

    def from_ticks(
        row: IntArray, segment: IntArray, tick: FloatArray, weight: FloatArray, shape: tuple[int, int]
    ) -> Mixing:
        """Each row, in part or whole, is what a segment says at a time given in ticks; the ends are held."""
        left = np.clip(np.floor(tick).astype(np.int64), 0, frames - 2)
        part = np.clip(tick - left, 0, 1)
        column = segment * frames + left
        both = np.concatenate([column, column + 1]), np.concatenate([weight * (1 - part), weight * part])
        return Mixing.of(np.tile(row, 2), *both, shape, like)

    return Segments(
        person=tensor(person),
        start=tensor(start),
        span=tensor(np.stack([low, high], -1)),
        covered=tensor(total > 0).reshape(valid.shape),
        around=tensor(np.stack([before, after])),
        share=tensor(share),
        to_frames=from_ticks(cell, segment, tick, window / total[cell], (valid.size, ticks)),
        joined=tensor(joined),
        to_joint=from_ticks(
            np.arange(at_meeting.size),
            at_pair.ravel(),
            at_meeting.ravel(),
            np.ones(at_meeting.size),
            (at_meeting.size, ticks),
        ),
    )


def _numbered(count: IntArray) -> IntArray:
    """0, 1, … count − 1 for each count, one after the other."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def bends(frames: int, like: Tensor) -> Tensor:
    """(B, F, 3) paths in a segment's axes: slope, parabola and cubic, orthogonal to each other and to rest, of rms 1.

    Without the slope to the side: the residual's heading turns a path together with who walks it. With it they face
    half a degree farther from where they walk, and are no nearer the image.
    """
    powers = np.polynomial.legendre.legvander(np.linspace(-1, 1, frames), BENDS)
    basis, _ = np.linalg.qr(powers)
    paths = np.einsum("fb,kl->bkfl", basis[:, 1:] * np.sqrt(frames), np.eye(3)).reshape(-1, frames, 3)
    return torch.tensor(paths[1:], dtype=like.dtype, device=like.device)


class SegmentedMotion:
    """Stage 3's motion: what the codes of all segments say, and Stage 2's motion where there is no segment.

    pelvis: (N, T, 3), rotations: (N, T, 24, 6): Stage 2's. ``initial`` (M, L + 5 + B): its codes. The last B, ours,
    bend a segment's path, in units of BEND_SIGMA: the prior knows few paths, and people who dodge, or whom frames
    of uneven times show, leave the image with it. turns: (N, 1, 1, 3, 3, 24), ours too, is what codes cannot say: how
    a person's legs are turned in Stage 2's motion against what its codes make of them, in the mean of the covered
    frames, ``kept`` times. It is no variable.
    """

    def __init__(
        self, prior: MotionPrior, segments: Segments, pelvis: Tensor, rotations: Tensor, kept: float = 0.0
    ) -> None:
        self.prior, self.segments = prior, segments
        self.pelvis, self.rotations = pelvis, rotations
        self._bends = bends(prior.frames, pelvis)
        elsewhere = ~segments.covered[..., None]
        self._still = [torch.where(elsewhere, values, 0.0) for values in (pelvis, _rows(rotations))]
        everyone = torch.arange(len(segments.person), device=pelvis.device)
        self.initial, self.placement = self.encode(segments.person, everyone)
        unturned = torch.eye(3, dtype=pelvis.dtype, device=pelvis.device)[:, :, None]
        self.turns = unturned.expand(len(pelvis), 1, 1, 3, 3, len(JOINTS))
        if kept:
            self.turns = self._turns(kept)

    def encode(self, person: Tensor, segment: Tensor) -> tuple[Tensor, Placement]:
        """Codes (M, L + 5 + B) and placements of what people (M,) do during segments (M,), in Stage 2's motion."""
        batches = zip(torch.split(person, CHUNK), torch.split(segment, CHUNK), strict=True)
        codes, places = zip(*(self._encode(*batch) for batch in batches), strict=True)
        placement = Placement(
            origin=torch.cat([place.origin for place in places]),
            heading=torch.cat([place.heading for place in places]),
            climb=torch.cat([place.climb for place in places]),
        )
        return torch.cat(codes), placement

    def _encode(self, person: Tensor, segment: Tensor) -> tuple[Tensor, Placement]:
        rotations = self.segments.at_ticks(_rows(self.rotations), person, segment)
        pelvis = self.segments.at_ticks(self.pelvis, person, segment)
        contact = pelvis.new_zeros(*pelvis.shape[:-1], len(self.prior.contact_joints))
        latent, placement = self.prior.initial(Segment(_rotations_6d(rotations), pelvis, contact))
        missing = (pelvis - self.prior.motion(latent, placement).pelvis) @ about_up(placement.heading)
        bend = missing.flatten(-2) @ self._bends.flatten(-2).mT / (BEND_SIGMA * self.prior.frames)
        return torch.cat([latent, bend], -1), placement

    def moved(self, latent: Tensor) -> Segment:
        """What codes (M, L + 5 + B) stand for, in the world."""
        code, bend = latent.tensor_split([-len(self._bends)], -1)
        straight = self.prior.motion(code, self.placement)
        across = BEND_SIGMA * (bend @ self._bends.flatten(-2)).reshape(straight.pelvis.shape)
        return replace(straight, pelvis=straight.pelvis + across @ about_up(self.placement.heading).mT)

    def at_frames(self, moved: Segment) -> tuple[Tensor, Tensor]:
        """pelvis (N, T, 3) and rotations (N, T, 24, 6), means of orthonormal columns that are not so themselves."""
        pelvis, rows = (self.segments.at_frames(values) for values in (moved.pelvis, _rows(moved.rotations)))
        columns = rows.reshape(*rows.shape[:-1], 2, 1, 3, len(JOINTS))
        turned = (self.turns * columns).sum(-2).flatten(-3)
        still_pelvis, still_rows = self._still
        return still_pelvis + pelvis, _rotations_6d(still_rows + turned)

    def _turns(self, kept: float) -> Tensor:
        covered = self.segments.covered[..., None, None]
        _, decoded = self.at_frames(self.moved(self.initial))
        own, coded = (rotation_6d_to_matrix(rotations[..., LEGS, :]) for rotations in (self.rotations, decoded))
        apart = torch.where(covered, matrix_to_axis_angle(own @ coded.mT), 0.0)
        mean = kept * apart.sum(1) / covered.sum(1).clamp(min=1)
        turns = self.turns.clone()
        turns[..., LEGS] = axis_angle_to_matrix(mean).permute(0, 2, 3, 1)[:, None, None]
        return turns

    def ends(self, moved: Segment, rig: Rig, betas: Tensor) -> Tensor:
        """Joints (2, J, 2, 24, 3) of each segment and of its successor, at the two times of ``to_joint``,
        as codes have them: without ``turns``."""
        segments = self.segments
        rotations, pelvis = (segments.at_joints(a) for a in (_rows(moved.rotations), moved.pelvis))
        shapes = betas.index_select(0, segments.person[segments.joined])[:, None].expand(*pelvis.shape[:-1], -1)
        columns = rotations.flatten(0, 2).mT.reshape(2, 3, len(JOINTS), -1)
        joints, _, _ = rig.pose(shapes.flatten(0, 2).mT, orthonormal(columns), pelvis.flatten(0, 2).mT)
        return joints.permute(2, 1, 0).reshape(*pelvis.shape[:-1], len(JOINTS), 3)


def _rows(rotations: Tensor) -> Tensor:
    """(…, 24, 6) → (…, 144), the first component of every joint first: what the prior decodes is so in memory."""
    return rotations.mT.flatten(-2)


def _rotations_6d(rows: Tensor) -> Tensor:
    """The inverse of ``_rows``."""
    return rows.reshape(*rows.shape[:-1], 6, len(JOINTS)).mT
