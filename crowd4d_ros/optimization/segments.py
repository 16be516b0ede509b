"""A window's motion as overlapping segments of the motion prior, the variables of Stage 3 (Sec. 3.3, Eq. 27).

A run is a person's unbroken stretch of valid frames. Segments of the prior's length, with at least the overlap asked
for, are spread evenly from a run's first frame to its last. A run shorter than a segment gets one around its middle,
whose ticks before and after hold the run's end poses; one shorter than ``least`` gets none, and keeps Stage 2's
motion. All segments of all people are rows of one batch. Back to frames, what segments say is averaged with Hann
weights that sum to one: a segment comes in and goes out smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import (
    axis_angle_to_matrix,
    matrix_to_6d,
    matrix_to_axis_angle,
    rotation_6d_to_matrix,
)
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.motion import MotionPrior, Placement, Segment, interpolation
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

ROTATIONS = 6 * len(JOINTS)
"""Entries of a tick that are rotations; the pelvis follows."""
SLACK = 1e-6
"""seconds: a run that fills its segments exactly needs no further one through rounding."""


@dataclass(frozen=True)
class Segments:
    """M segments of F ticks on N people and T frames; A is the most frames that one of them has.

    person: (M,) in order, and a run's segments in the order of time. start: (M,) s of the first tick.
    inside: (M, T) the frames a segment speaks for. covered: (N, T) frames of some segment.
    to_ticks: (M, F, T) its person's frames → its ticks. cell: (M, A) index into N·T, and to_frames: (M, A, F) from
    its ticks to its part of these frames; zero where it has fewer.
    joined: (J,) segments that the next row continues; to_joint: (2, J, 2, F) from the ticks of both to the two times
    of Eq. 29: the last tick of the first and the first tick of the second.
    """

    person: Tensor
    start: Tensor
    inside: Tensor
    covered: Tensor
    to_ticks: Tensor
    cell: Tensor
    to_frames: Tensor
    joined: Tensor
    to_joint: Tensor

    def at_ticks(self, values: Tensor, person: Tensor | None = None) -> Tensor:
        """Values (N, T, K) of the segments' people, or of others (M,), at their ticks: (M, F, K)."""
        return self.to_ticks @ values[self.person if person is None else person]

    def at_frames(self, values: Tensor) -> Tensor:
        """Values (M, F, K) averaged at the frames: (N, T, K), zero where not covered."""
        parts = (self.to_frames @ values).flatten(0, 1)
        people, frames = self.covered.shape
        total = parts.new_zeros(people * frames, parts.shape[-1]).index_add(0, self.cell.flatten(), parts)
        return total.reshape(people, frames, parts.shape[-1])


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
    number = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    along = np.where(count[run] > 1, number / np.maximum(count[run] - 1, 1), 0.5)
    begin, end = first[run, None], last[run, None]
    start = seconds[begin] + (spare[run] * along)[:, None]
    frame = np.arange(len(seconds))
    inside = (frame >= begin) & (frame <= end)
    inside &= (seconds >= start - SLACK) & (seconds <= start + duration + SLACK)

    def tensor(array: FloatArray | IntArray | BoolArray) -> Tensor:
        return torch.as_tensor(array, device=like.device).to(like.dtype if array.dtype.kind == "f" else None)

    times, ticks = tensor(seconds), tensor(start + np.arange(frames) / rate)
    within = ticks.clamp(tensor(seconds[begin]), tensor(seconds[end]))
    # Hann windows, half a tick longer than the segment: nowhere zero inside it
    window = np.where(inside, np.sin(np.pi * ((seconds - start) * rate + 0.5) / frames) ** 2, 0.0)
    person = runner[run]
    total = np.zeros(valid.shape)
    np.add.at(total, person, window)
    window /= np.where(inside, total[person], 1.0)

    slot = inside.argmax(-1)[:, None] + np.arange(inside.sum(-1).max(initial=0))
    slot = np.minimum(slot, len(seconds) - 1)
    part = np.where(np.diff(slot, axis=-1, prepend=-1) > 0, np.take_along_axis(window, slot, -1), 0.0)
    joined = np.nonzero(run[:-1] == run[1:])[0]
    meeting = np.stack([start[joined, 0] + duration, start[joined + 1, 0]], -1)
    return Segments(
        person=tensor(person),
        start=tensor(start[:, 0]),
        inside=tensor(inside),
        covered=tensor(total > 0),
        to_ticks=interpolation(times.expand(len(run), -1), within),
        cell=tensor(person[:, None] * len(seconds) + slot),
        to_frames=tensor(part)[..., None] * interpolation(ticks, times[tensor(slot)]),
        joined=tensor(joined),
        to_joint=torch.stack([interpolation(ticks[joined + i], tensor(meeting)) for i in (0, 1)]),
    )


class SegmentedMotion:
    """Stage 3's motion: what the codes of all segments say, and Stage 2's motion where there is no segment.

    orient: (N, T, 3), body_pose: (N, T, 23, 3), pelvis: (N, T, 3): Stage 2's. ``initial`` (M, L + 5): its codes.
    """

    def __init__(
        self, prior: MotionPrior, segments: Segments, pelvis: Tensor, orient: Tensor, body_pose: Tensor
    ) -> None:
        self.prior, self.segments = prior, segments
        self.pelvis, self.angles = pelvis, torch.cat([orient[..., None, :], body_pose], -2)
        self.rotations = matrix_to_6d(axis_angle_to_matrix(self.angles))
        self.initial, self.placement = self.encode(segments.person)

    def encode(self, person: Tensor) -> tuple[Tensor, Placement]:
        """Codes (M, L + 5) and placements of what the people (M,) do during the segments, in Stage 2's motion."""
        rotations = self.segments.at_ticks(self.rotations.flatten(-2), person)
        pelvis = self.segments.at_ticks(self.pelvis, person)
        contact = pelvis.new_zeros(*pelvis.shape[:-1], len(self.prior.contact_joints))
        return self.prior.initial(Segment(_joints(rotations), pelvis, contact))

    def moved(self, latent: Tensor) -> Segment:
        """What codes (M, L + 5) stand for, in the world."""
        return self.prior.motion(latent, self.placement)

    def at_frames(self, moved: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """pelvis (N, T, 3), global_orient (N, T, 3), body_pose (N, T, 23, 3)."""
        covered = self.segments.covered[..., None]
        values = self.segments.at_frames(torch.cat([moved.rotations.flatten(-2), moved.pelvis], -1))
        rotations = torch.where(covered, values[..., :ROTATIONS], self.rotations.flatten(-2))
        angles = matrix_to_axis_angle(rotation_6d_to_matrix(_joints(rotations)))
        angles = torch.where(covered[..., None], angles, self.angles)
        pelvis = torch.where(covered, values[..., ROTATIONS:], self.pelvis)
        return pelvis, angles[..., 0, :], angles[..., 1:, :]

    def ends(self, moved: Segment, body: BodyModel, betas: Tensor) -> Tensor:
        """Joints (2, J, 2, 24, 3) of each segment and of its successor, at the two times of ``to_joint``."""
        joined = self.segments.joined
        rows = torch.stack([joined, joined + 1])
        values = torch.cat([moved.rotations.flatten(-2), moved.pelvis], -1)[rows]
        values = self.segments.to_joint @ values
        angles = matrix_to_axis_angle(rotation_6d_to_matrix(_joints(values[..., :ROTATIONS])))
        shapes = betas[self.segments.person[joined]][:, None]
        transl = values[..., ROTATIONS:] - body.pelvis(shapes)
        return body.joints(shapes, angles[..., 1:, :], angles[..., 0, :], transl)


def _joints(rotations: Tensor) -> Tensor:
    """(…, 144) → (…, 24, 6)."""
    return rotations.reshape(*rotations.shape[:-1], len(JOINTS), 6)
