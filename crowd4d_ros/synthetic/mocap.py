"""Motion capture as a source of motion: recorded strides indexed by the phase of walking, and recorded standing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.signal import find_peaks
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, compose, relative_log
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.mocap import FPS, Clip, MocapError, read_clips
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import Beat
from crowd4d_ros.synthetic.gait import Poses, ProceduralGait
from crowd4d_ros.synthetic.headings import forward, leftward
from crowd4d_ros.synthetic.planting import about, axis_angle, rotation_matrix
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

NO_PASSERS_BY = (
    "directing_traffic_1", "jumping", "soccer", "amc/01", "amc/03", "amc/02_04", "amc/02_05", "amc/02_06", "amc/02_07",
    "amc/02_08", "amc/02_09",
)  # fmt: skip
"""Parts of names: a clip with corrupt root tilts; sports, climbing, walking over obstacles, punches, swords."""

CYCLE = 32
"""samples a stride is resampled to: at 30 frames/s it had as many."""
SHORTEST_STEP_S = 0.3
"""seconds between one foot in front and the other."""
LONGEST_STEP_S = 1.0


def passers_by(path: str | Path, split: str) -> list[Clip]:
    """The clips of one split in which people do what passers-by do. Raises MocapError."""
    return [clip for clip in read_clips(path, split) if not any(part in clip.name for part in NO_PASSERS_BY)]


@dataclass(frozen=True)
class MocapMotion:
    """Recorded upper bodies on planted feet.

    strides: (C, CYCLE, 24, 3) axis-angle over one stride, from right foot in front to right foot in front, the root
    against the heading; speed: (C,) m/s. standing: (F, 24, 3), stretches one after the other, first, length: (D,).
    stride_clip, standing_clip: (C,), (D,) names of the clips they are from.
    """

    split: str
    strides: FloatArray
    speed: FloatArray
    stride_clip: tuple[str, ...]
    standing: FloatArray
    first: IntArray
    length: IntArray
    standing_clip: tuple[str, ...]
    fallback: ProceduralGait

    @classmethod
    def load(cls, path: str | Path, split: str, config: BodiesConfig) -> MocapMotion:
        """What walks and what stands in one split of a motion capture file. Raises MocapError."""
        clips = passers_by(path, split)
        body = BodyModel.load(dtype=torch.float64)
        strides = [(stride, clip.name) for clip in clips for stride in _strides(clip, body, config)]
        stands = [(stand, clip.name) for clip in clips for stand in _stands(clip, config)]
        if not strides or not stands:
            raise MocapError(f"the {split} clips of '{path}' neither walk nor stand: leave --mocap out for the gait")
        length = np.array([len(stand) for stand, _ in stands])
        logger.info("%s: %d strides, %d stretches of standing (%s)", path, len(strides), len(stands), split)
        logger.warning("the motion capture has nobody who sits: sitting is procedural")
        return cls(
            split=split,
            strides=np.stack([stride.pose for stride, _ in strides]),
            speed=np.array([stride.speed for stride, _ in strides]),
            stride_clip=tuple(name for _, name in strides),
            standing=np.concatenate([stand for stand, _ in stands]),
            first=np.cumsum(length) - length,
            length=length,
            standing_clip=tuple(name for _, name in stands),
            fallback=ProceduralGait(config),
        )

    @property
    def name(self) -> str:
        return f"mocap:{self.split}"

    def poses(self, beat: Beat, rng: np.random.Generator) -> Poses:
        """Each person keeps one stride, of about their speed, and one stretch of standing, some of them mirrored."""
        config, people = self.fallback.config, len(beat.phase)
        own = self.fallback.poses(beat, rng)
        still = torch.from_numpy(np.concatenate([own.pelvis[:, :, None], own.body_pose], 2))

        pace = (beat.speed * beat.walking).sum(1) / np.maximum(beat.walking.sum(1), 1e-6)
        nearest = np.abs(np.log(np.maximum(pace, config.mocap_speeds[0]))[:, None] - np.log(self.speed)).argsort(1)
        drawn = rng.integers(0, min(config.mocap_choices, len(self.speed)), people)
        stride = nearest[np.arange(people), drawn]
        walk = _mirrored(self._walking(beat, stride, swapped := rng.random(people) < 0.5), swapped)

        stretch = rng.integers(0, len(self.length), people)
        stand = _mirrored(self._standing(beat, stretch, rng), rng.random(people) < 0.5)
        records = (rng.random((people, 1)) < config.mocap_stands) * (1 - beat.seated)
        moves = beat.walking * np.clip(2 * beat.speed / self.speed[stride][:, None], 0, 1)
        pose = _blend(_blend(still, stand, records), walk, moves * (1 - beat.seated)).numpy()
        return Poses(pose[:, :, 1:], pose[:, :, 0], own.sway)

    def _walking(self, beat: Beat, stride: IntArray, swapped: BoolArray) -> Tensor:
        """(N, S, 24, 3): strides at the phase; those to be mirrored a step later."""
        at = (beat.phase + swapped[:, None]) % 2 / 2 * CYCLE
        below = np.floor(at).astype(np.int64)
        share = (at - below)[..., None, None]
        cycle = self.strides[stride]
        row = np.arange(len(stride))[:, None]
        return torch.from_numpy((1 - share) * cycle[row, below % CYCLE] + share * cycle[row, (below + 1) % CYCLE])

    def _standing(self, beat: Beat, stretch: IntArray, rng: np.random.Generator) -> Tensor:
        """(N, S, 24, 3): stretches from a random moment on, forth and back."""
        last = (self.length[stretch] - 1)[:, None]
        at = rng.random((len(stretch), 1)) * last + FPS / beat.rate * np.arange(beat.phase.shape[1])
        at = last - np.abs(at % (2 * last) - last)
        below = np.minimum(np.floor(at).astype(np.int64), last - 1)
        share = (at - below)[..., None, None]
        row = self.first[stretch][:, None] + below
        return torch.from_numpy((1 - share) * self.standing[row] + share * self.standing[row + 1])


def _mirrored(pose: Tensor, swapped: BoolArray) -> Tensor:
    return torch.where(torch.from_numpy(swapped)[:, None, None, None], mirror_pose(pose), pose)


def _blend(a: Tensor, b: Tensor, share: FloatArray) -> Tensor:
    """From poses a to b (N, S, 24, 3), a share (N, S) or (N, 1) of the way, along the shortest rotations."""
    return compose(a, torch.from_numpy(share)[..., None, None] * relative_log(a, b))


@dataclass(frozen=True)
class _Stride:
    pose: FloatArray
    speed: float


def _strides(clip: Clip, body: BodyModel, config: BodiesConfig) -> list[_Stride]:
    """The strides of a clip that go straight ahead: from the right foot in front to the right foot in front."""
    facing = _facing(clip.pose[:, 0])
    ahead = forward(facing)
    zero = torch.zeros(3, dtype=torch.float64)
    pose = torch.from_numpy(clip.pose)
    joints = body.joints(torch.zeros(10, dtype=torch.float64), pose[:, 1:], pose[:, 0], zero).numpy()
    apart = joints[:, JOINTS.index("left_ankle")] - joints[:, JOINTS.index("right_ankle")]
    lead = gaussian_filter1d((apart[:, [0, 2]] * ahead).sum(-1), 0.05 * FPS)
    apart_s = int(SHORTEST_STEP_S * FPS)
    left, right = (find_peaks(sign * lead, height=0.0, distance=apart_s)[0] for sign in (1, -1))
    found = []
    for start, end in pairwise(right):
        between = left[(left > start) & (left < end)]
        if len(between) != 1 or (end - start) / FPS > 2 * LONGEST_STEP_S or not clip.sound[start : end + 1].all():
            continue
        heading = np.linspace(facing[start], facing[end], end - start + 1)
        way = (clip.pelvis[end] - clip.pelvis[start])[[0, 2]]
        speed = float(np.linalg.norm(way)) * FPS / (end - start)
        middle = heading.mean()
        sideways = np.arctan2(way @ leftward(middle), way @ forward(middle))
        turned = max(abs(facing[end] - facing[start]), abs(sideways))
        slow, fast = config.mocap_speeds
        if slow < speed < fast and np.degrees(turned) < config.mocap_straight:
            found.append(_Stride(_closed(clip.pose[start : end + 1], heading, int(between[0] - start)), speed))
    return found


def _facing(root: FloatArray) -> FloatArray:
    """(F,) headings, unwrapped, of root rotations (F, 3)."""
    forward = rotation_matrix(root)[..., 2]
    return np.asarray(np.unwrap(np.arctan2(forward[:, 0], forward[:, 2])))


def _closed(pose: FloatArray, heading: FloatArray, middle: int) -> FloatArray:
    """(CYCLE, 24, 3): a stride (F, 24, 3) against its heading (F,), its two steps equally long, its end its beginning.

    middle: the frame with the left foot in front.
    """
    pose = pose.copy()
    pose[:, 0] = axis_angle(about(1, -heading) @ rotation_matrix(pose[:, 0]))
    frames = len(pose) - 1
    at = np.interp(np.arange(CYCLE) / CYCLE, [0, 0.5, 1], [0, middle, frames])
    below = np.minimum(np.floor(at).astype(np.int64), frames - 1)
    share = (at - below)[:, None, None]
    first, second = torch.from_numpy(pose[below]), torch.from_numpy(pose[below + 1])
    stride = compose(first, torch.from_numpy(share) * relative_log(first, second))
    jump = relative_log(torch.from_numpy(pose[-1]), torch.from_numpy(pose[0]))
    return compose(stride, torch.from_numpy(np.arange(CYCLE) / CYCLE - 0.5)[:, None, None] * jump).numpy()


def _stands(clip: Clip, config: BodiesConfig) -> list[FloatArray]:
    """The stretches (F, 24, 3) of a clip in which somebody stands upright, the root against where it faces."""
    half = int(FPS / 4)
    if len(clip.pose) < 4 * half:
        return []
    path = uniform_filter1d(clip.pelvis[:, [0, 2]], half, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(path, axis=0), axis=-1) * FPS
    still = uniform_filter1d(speed, 2 * half, mode="nearest") < config.mocap_still
    turns = axis_angle_to_matrix(torch.from_numpy(clip.pose)).numpy()
    trunk = turns[:, 0]
    upright = _tilt(trunk)
    for joint in ("spine1", "spine2", "spine3"):
        trunk = trunk @ turns[:, JOINTS.index(joint)]
        upright = np.maximum(upright, _tilt(trunk))
    good = still & clip.sound & (np.degrees(upright) < config.mocap_upright)
    edge = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    found = []
    for start, end in edge.reshape(-1, 2):
        if end - start >= config.mocap_shortest_s * FPS:
            pose = clip.pose[start:end].copy()
            facing = gaussian_filter1d(_facing(pose[:, 0]), FPS, mode="nearest")
            pose[:, 0] = axis_angle(about(1, -facing) @ rotation_matrix(pose[:, 0]))
            found.append(pose)
    return found


def _tilt(rotation: FloatArray) -> FloatArray:
    """(F,) radians between the body's up and the world's."""
    return np.asarray(np.arccos(np.clip(rotation[:, 1, 1], -1, 1)))
