"""Segments of motion capture for the motion prior: drawn, varied, and disturbed as an initializer would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_6d, rotation_6d_to_matrix
from crowd4d_ros.body.skeleton import JOINT_MIRROR, JOINTS
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.priors.config import MotionTrainingConfig
from crowd4d_ros.priors.mocap import FPS, Clip, MocapError
from crowd4d_ros.priors.motion import PARENTS, Placement, canonical, clock, global_rotations

CONTACTS = tuple(JOINTS.index(f"{side}_{joint}") for joint in ("ankle", "foot") for side in ("left", "right"))
HIPS, KNEES = (tuple(JOINTS.index(f"{side}_{joint}") for side in ("left", "right")) for joint in ("hip", "knee"))
LEGS = ("pelvis", "hip", "knee", "ankle", "foot")
"""Parts of the names of joints whose turning moves the feet."""
MIRROR = (-1.0, 1.0, 1.0)
END = 0.05
"""metres: what turns with a joint that has no bones behind it, a hand, a foot, the head."""


@dataclass(frozen=True)
class Motion:
    """Segments (B, F): turns (…, 24, 3, 3) in common axes, not the parents'; pelvis (…, 3) metres; contact (…, C)."""

    turns: Tensor
    pelvis: Tensor
    contact: Tensor


class Skeleton:
    """The mean shape's bones. above: (24, 24) which joints' turns move a joint, itself included."""

    def __init__(self) -> None:
        rest = BodyModel.load().joint_template
        self.bones = rest[1:] - rest[list(PARENTS[1:])]
        self.above = torch.eye(len(JOINTS))
        for joint in range(1, len(JOINTS)):
            self.above[joint] += self.above[PARENTS[joint]]

    def joints(self, turns: Tensor, pelvis: Tensor) -> Tensor:
        """(…, 24, 3, 3) in common axes and (…, 3) → (…, 24, 3) metres."""
        bones = (turns[..., PARENTS[1:], :, :] * self.bones[:, None, :]).sum(-1)
        return self.above[:, 1:] @ bones + pelvis[..., None, :]

    def reach(self) -> Tensor:
        """(24,) metres: the bones that turn with a joint, root sum square. In metres all errors are alike."""
        squared = torch.full((len(JOINTS),), END**2)
        squared.index_add_(0, torch.tensor(PARENTS[1:]), self.bones.square().sum(-1))
        return squared.sqrt()


@dataclass(frozen=True)
class Recording:
    """Clips one after the other, R frames at FPS, and their S stretches in which all poses are sound.

    turns: (R, 24, 6) 6D in common axes; pelvis: (R, 3); contact: (R, C). first, last: (S,) frames; clip: (S,) whose.
    """

    names: tuple[str, ...]
    turns: Tensor
    pelvis: Tensor
    contact: Tensor
    first: Tensor
    last: Tensor
    clip: Tensor


def record(clips: Sequence[Clip], skeleton: Skeleton, config: MotionTrainingConfig) -> Recording:
    """Raises MocapError where no stretch is long enough for a segment."""
    turns, pelvis, contact, stretches = [], [], [], []
    shortest = _ticks(config)[-1] * config.slowest
    begin = 0
    for index, clip in enumerate(clips):
        turn = global_rotations(axis_angle_to_matrix(torch.as_tensor(clip.pose, dtype=torch.float32)))
        path = torch.as_tensor(clip.pelvis, dtype=torch.float32)
        turns.append(matrix_to_6d(turn))
        pelvis.append(path)
        contact.append(standing(skeleton.joints(turn, path)[:, CONTACTS], config))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], clip.sound, [False]]).astype(int)))
        ends = edges.reshape(-1, 2) - [0, 1]
        stretches += [(begin + first, begin + last, index) for first, last in ends if last - first >= shortest]
        begin += len(clip.pose)
    if not stretches:
        raise MocapError(f"the clips are all shorter than {shortest / FPS:.1f} s: too short for the motion prior")
    first, last, clip_of = torch.tensor(stretches).unbind(-1)
    names = tuple(clip.name for clip in clips)
    return Recording(names, torch.cat(turns), torch.cat(pelvis), torch.cat(contact), first, last, clip_of)


def standing(points: Tensor, config: MotionTrainingConfig) -> Tensor:
    """Which points (R, C, 3) at FPS stand: slow, and as low as the point gets around that time. (R, C), 0 or 1."""
    speed = torch.gradient(points, dim=0)[0].norm(dim=-1) * FPS
    around = round(config.contact_window * FPS)
    padded = torch.nn.functional.pad(-points[..., UP].mT, (around, around), value=-torch.inf)
    lowest = -torch.nn.functional.max_pool1d(padded[:, None], 2 * around + 1, 1)[:, 0].mT
    stands: Tensor = (speed < config.contact_speed) & (points[..., UP] - lowest < config.contact_height)
    return stands.float()


def drawn(recording: Recording, count: int, config: MotionTrainingConfig, rng: torch.Generator) -> Motion:
    """Segments in their own axes, each clip's as often as another's, at another pace, size and handedness each time.

    A clip's stretches get their shares by length. Some segments are slowed to nearly nothing, where both feet stand.
    """
    length = (recording.last - recording.first).float()
    of_clip = torch.zeros(len(recording.names)).index_add(0, recording.clip, length)[recording.clip]
    stretch = torch.multinomial(length / of_clip, count, replacement=True, generator=rng)
    ticks, room = _ticks(config), length[stretch, None]
    fastest = (room / ticks[-1]).clamp(max=config.fastest)
    pace = config.slowest * (fastest / config.slowest) ** torch.rand(count, 1, generator=rng)
    start = recording.first[stretch, None] + (room - pace * ticks[-1]) * torch.rand(count, 1, generator=rng)
    rows = _slowed(recording, start + pace * ticks, config, rng)
    motion = mirrored(_at(recording, rows), torch.rand(count, generator=rng) < 0.5)
    motion, _ = centred(motion, config.ticks_per_s)
    size = 1 + config.stature * torch.randn(count, 1, 1, generator=rng)
    return replace(motion, pelvis=motion.pelvis * size)


def _slowed(recording: Recording, rows: Tensor, config: MotionTrainingConfig, rng: torch.Generator) -> Tensor:
    """Frames (B, F) of some segments drawn together around their middle, if both feet stand at the new ends."""
    middle = rows[:, rows.shape[1] // 2, None]
    slow = middle + (rows - middle) * config.still_pace * torch.rand(len(rows), 1, generator=rng)
    stands = recording.contact[slow[:, [0, -1]].round().long()].amin((1, 2)) > 0
    chosen = stands & (torch.rand(len(rows), generator=rng) < config.still)
    return torch.where(chosen[:, None], slow, rows)


def every(recording: Recording, config: MotionTrainingConfig) -> tuple[Motion, Tensor]:
    """Segments in their own axes, in regular steps, as recorded; slower only if else none fits. And clips, (B,)."""
    ticks, rows, clips = _ticks(config), [], []
    for first, last, clip in zip(recording.first, recording.last, recording.clip, strict=True):
        pace = min(1.0, float((last - first) / ticks[-1]))
        free = float(last - first - pace * ticks[-1])
        start = first + torch.linspace(0, free, 1 + round(free / FPS / config.report_step))
        rows.append(start[:, None] + pace * ticks)
        clips.append(clip.expand(len(start)))
    motion, _ = centred(_at(recording, torch.cat(rows)), config.ticks_per_s)
    return motion, torch.cat(clips)


def _ticks(config: MotionTrainingConfig) -> Tensor:
    return torch.arange(config.frames) * (FPS / config.ticks_per_s)


def _at(recording: Recording, rows: Tensor) -> Motion:
    """At frames (B, F), fractions between them."""
    below = rows.floor().long().clamp(max=len(recording.pelvis) - 2)
    share = (rows - below)[..., None]
    turns, pelvis, contact = (
        torch.lerp(known.flatten(1)[below], known.flatten(1)[below + 1], share)
        for known in (recording.turns, recording.pelvis, recording.contact)
    )
    return Motion(rotation_6d_to_matrix(turns.reshape(*rows.shape, len(JOINTS), 6)), pelvis, contact)


def centred(motion: Motion, rate: float) -> tuple[Motion, Placement]:
    """Segments in their own axes, and where these were."""
    placement, _, pelvis = canonical(motion.turns[..., 0, :, :], motion.pelvis, rate)
    return replace(motion, turns=turned(-placement.heading, motion.turns), pelvis=pelvis), placement


def turned(angle: Tensor, turns: Tensor) -> Tensor:
    """(B, F, 24, 3, 3) turned about the vertical by (B,) rad: by rows, several times faster than products."""
    c, s = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    x, y, z = turns.unbind(-2)
    return torch.stack([c * x + s * z, y, c * z - s * x], -2)


def mirrored(motion: Motion, which: Tensor) -> Motion:
    """Left for right where ``which`` (B,), in a mirror through y and z."""
    mirror = torch.tensor(MIRROR)
    sides = [CONTACTS.index(JOINT_MIRROR[joint]) for joint in CONTACTS]
    turns = motion.turns[:, :, list(JOINT_MIRROR)] * mirror[:, None] * mirror
    return Motion(
        torch.where(which[:, None, None, None, None], turns, motion.turns),
        torch.where(which[:, None, None], motion.pelvis * mirror, motion.pelvis),
        torch.where(which[:, None, None], motion.contact[..., sides], motion.contact),
    )


def borne(motion: Motion, skeleton: Skeleton, config: MotionTrainingConfig, rng: torch.Generator) -> Motion:
    """In other people's bearing: knees straighter or more bent, and all joints turned against their parents by the same
    small angles at all ticks.
    """
    motion = stretched(motion, config, rng)
    legs = torch.tensor([any(part in joint for part in LEGS) for joint in JOINTS])
    sigma = torch.where(legs, config.posture_legs, config.posture_body).deg2rad()
    angle = sigma[:, None] * torch.randn(len(motion.pelvis), 1, len(JOINTS), 3, generator=rng)
    return replace(motion, turns=axis_angle_to_matrix(skeleton.above @ angle) @ motion.turns)


def stretched(motion: Motion, config: MotionTrainingConfig, rng: torch.Generator) -> Motion:
    """With knees whose bend, where it is small, is multiplied, by a number for each leg and segment.

    Thigh and shank, about as long, turn by half of it against each other: the foot stays under the hip, and as it was.
    """
    low, high = config.straightest, config.most_bent
    factor = low + (high - low) * torch.rand(len(motion.pelvis), 1, len(KNEES), generator=rng)
    thighs, shanks = (motion.turns[:, :, list(joints)] for joints in (HIPS, KNEES))
    y, z = (thighs[..., axis] for axis in (1, 2))
    bend = torch.atan2((z * shanks[..., 1]).sum(-1), (y * shanks[..., 1]).sum(-1))
    more = (factor - 1) * bend * torch.exp(-((bend / math.radians(config.bend_fade)) ** 2))
    turns = motion.turns.clone()
    turns[:, :, list(HIPS)] = thighs @ _about_own_x(-more / 2)
    turns[:, :, list(KNEES)] = shanks @ _about_own_x(more / 2)
    return replace(motion, turns=turns)


def _about_own_x(angle: Tensor) -> Tensor:
    return axis_angle_to_matrix(torch.stack([angle, torch.zeros_like(angle), torch.zeros_like(angle)], -1))


def disturbed(
    motion: Motion, strength: Tensor, skeleton: Skeleton, config: MotionTrainingConfig, rng: torch.Generator
) -> Motion:
    """As an initializer might see segments, errors times ``strength`` (B,). They leave their own axes by it."""
    batch, frames = motion.pelvis.shape[:2]
    time = clock(frames, config.ticks_per_s, motion.pelvis)
    correlated = torch.linalg.cholesky(torch.exp(-(time[:, None] - time).abs() / config.wander_time))

    def wandering(*size: int) -> Tensor:
        white = torch.randn(batch, frames, *size, generator=rng)
        wander: Tensor = correlated @ white.flatten(2)
        return wander.reshape(white.shape)

    sigma = torch.full((len(JOINTS), 3), config.joint_error)
    sigma[0] = torch.tensor([config.tilt_error, config.turn_error, config.tilt_error])
    steady = sigma * torch.randn(batch, 1, *sigma.shape, generator=rng)
    angle = (steady + config.joint_wander * wandering(*sigma.shape)).deg2rad() * strength[:, None, None, None]
    adrift = config.pelvis_wander * wandering(3)
    adrift = adrift + config.pelvis_error * torch.randn(batch, frames, 3, generator=rng)
    return Motion(
        axis_angle_to_matrix(skeleton.above @ angle) @ motion.turns,
        motion.pelvis + strength[:, None, None] * adrift,
        motion.contact,
    )
