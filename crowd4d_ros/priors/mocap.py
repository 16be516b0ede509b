"""Motion capture files: clips of SMPL poses, one after the other, with a split that is kept.

The file (.npz) holds names, lens and split ("train" or "test") of each clip, poses (F, 24, 3) axis-angle at 30
frames/s, and trans (F, 3) metres, the pelvis, y up. What a prior has been trained on is never what it is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import compose
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.window import BoolArray, FloatArray

FPS = 30.0
"""frames/s of the file."""
SPLITS = ("train", "test")

SPLAY = np.radians(20.0)
"""The CMU skeleton rests with each leg out by 20°, and its feet with them. The retargeting aligned the legs
with SMPL's but not the feet, which so stand on their edges (measured: 18°); they are turned back."""

ANKLE_LIMIT = np.radians(100.0)
"""No ankle turns that far, in three axes together; two clips have one that is broken by half a turn."""


class MocapError(ValueError):
    """A motion capture file that cannot be used; the message says why and what to do."""


def upright_feet(body_pose: Tensor) -> Tensor:
    """Poses (F, 23, 3) with the feet's splay undone: R_ankle A and, below it, Aᵀ R_toes A."""
    pose = body_pose.clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        ankle, toes = JOINTS.index(f"{side}_ankle") - 1, JOINTS.index(f"{side}_foot") - 1
        turn = torch.tensor([0.0, 0.0, sign * SPLAY], dtype=pose.dtype).expand(len(pose), 3)
        pose[:, ankle] = compose(pose[:, ankle], turn)
        pose[:, toes] = compose(compose(-turn, pose[:, toes]), turn)
    return pose


def unbroken(body_pose: Tensor) -> Tensor:
    """Which of the poses (F, 23, 3) a human body could have taken: (F,) bool."""
    ankles = [JOINTS.index("left_ankle") - 1, JOINTS.index("right_ankle") - 1]
    possible: Tensor = (body_pose[:, ankles].norm(dim=-1) < ANKLE_LIMIT).all(-1)
    return possible


@dataclass(frozen=True)
class Clip:
    """pose: (F, 24, 3) axis-angle, the root first; pelvis: (F, 3) metres, y up; sound: (F,) a human's pose."""

    name: str
    pose: FloatArray
    pelvis: FloatArray
    sound: BoolArray


def read_clips(path: str | Path, split: str) -> list[Clip]:
    """The clips of one split, their feet upright. Raises MocapError."""
    if split not in SPLITS:
        raise MocapError(f"the split of motion capture is 'train' or 'test', not '{split}'")
    try:
        with np.load(path, allow_pickle=False) as file:
            names, lens, splits, poses, trans = (file[key] for key in ("names", "lens", "split", "poses", "trans"))
    except Exception as error:  # NumPy, zipfile and zlib each raise their own on a damaged file
        raise MocapError(
            f"'{path}' is no motion capture file ({error}): it takes an .npz with names, lens, split, poses and trans"
        ) from error
    frames = int(lens.sum())
    fits = poses.shape == (frames, len(JOINTS), 3) and trans.shape == (frames, 3)
    if not (fits and names.shape == splits.shape == lens.shape):
        raise MocapError(f"'{path}' is damaged: poses {poses.shape} and trans {trans.shape} do not fit its clips' lens")
    pose = torch.as_tensor(poses.astype(np.float64))
    body_pose = upright_feet(pose[:, 1:])
    sound = unbroken(body_pose).numpy()
    full = torch.cat([pose[:, :1], body_pose], 1).numpy()
    ends = np.cumsum(lens)
    return [
        Clip(str(names[clip]), full[rows], trans[rows].astype(np.float64), sound[rows])
        for clip, rows in enumerate(slice(end - length, end) for end, length in zip(ends, lens, strict=True))
        if splits[clip] == split
    ]
