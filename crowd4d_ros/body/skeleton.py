"""SMPL's 24 joints: their names, and what a mirror does to a pose."""

from __future__ import annotations

import torch
from torch import Tensor

JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand",
    "right_hand",
)  # fmt: skip


def mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each name, the index of its other side's; its own if it has no side."""
    swap = {"left": "right", "right": "left"}
    split = [name.split("_") for name in names]
    return tuple(names.index("_".join([swap.get(side, side), *rest])) for side, *rest in split)


JOINT_MIRROR = mirrored(JOINTS)


def mirror_pose(pose: Tensor) -> Tensor:
    """The pose seen in a mirror that swaps left and right: body_pose (…, 23, 3) or a full pose (…, 24, 3)."""
    root = len(JOINTS) - pose.shape[-2]
    order = torch.tensor([joint - root for joint in JOINT_MIRROR[root:]], device=pose.device)
    return pose[..., order, :] * torch.tensor([1.0, -1.0, -1.0], dtype=pose.dtype, device=pose.device)
