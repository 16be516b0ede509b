"""The 23 keypoints of window.py on the body: COCO's 17, then big toe, small toe and heel of each foot.

Limbs are SMPL's joints, head and feet are vertices of the surface, by the indices that smplx fixes for the
layout; the embedded body has the same landmarks at the same indices.

Detectors do not mark hips and shoulders exactly where SMPL has its joints. No offset is applied: against the
3D landmarks of BlazePose in 184 views of pedestrians, at equal stature, the embedded body is as wide at the
hips (1.00) and 1.4 cm wider at each shoulder, which is less than those landmarks scatter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crowd4d_ros.body.skeleton import JOINTS, mirrored
from crowd4d_ros.body.smpl import BodyModel, PosedBody

VERTICES = {
    "nose": 332,
    "left_eye": 2800,
    "right_eye": 6260,
    "left_ear": 583,
    "right_ear": 4071,
    "left_big_toe": 3216,
    "left_small_toe": 3226,
    "left_heel": 3387,
    "right_big_toe": 6617,
    "right_small_toe": 6624,
    "right_heel": 6787,
}
"""Keypoint name → its vertex."""

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
    "right_small_toe", "right_heel",
)  # fmt: skip

INDEX = {name: index for index, name in enumerate(KEYPOINTS)}
"""Keypoint name → its row."""

SOLES = tuple(row for name, row in INDEX.items() if name.endswith(("toe", "heel")))
"""Rows of the keypoints under a foot."""

MIRROR = mirrored(KEYPOINTS)
"""For each keypoint, the row of its other side's."""

_BONES = (
    "left_ankle left_knee", "left_knee left_hip", "right_ankle right_knee", "right_knee right_hip",
    "left_hip right_hip", "left_shoulder left_hip", "right_shoulder right_hip",
    "left_shoulder right_shoulder", "left_shoulder left_elbow", "left_elbow left_wrist",
    "right_shoulder right_elbow", "right_elbow right_wrist", "left_eye right_eye", "nose left_eye",
    "nose right_eye", "left_eye left_ear", "right_eye right_ear", "left_ear left_shoulder",
    "right_ear right_shoulder", "left_ankle left_heel", "left_heel left_big_toe",
    "left_big_toe left_small_toe", "right_ankle right_heel", "right_heel right_big_toe",
    "right_big_toe right_small_toe",
)  # fmt: skip

LIMBS: tuple[tuple[int, int], ...] = tuple((INDEX[a], INDEX[b]) for a, b in (bone.split() for bone in _BONES))
"""Pairs of rows to draw lines between."""

_SOURCES = (*JOINTS, *VERTICES)
_ROWS = tuple(_SOURCES.index(name) for name in KEYPOINTS)


def keypoints(model: BodyModel, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor) -> Tensor:
    """(…, 23, 3) metres, world, with the gradient; shapes and units as in ``BodyModel.pose``."""
    return posed_keypoints(model, model.pose(betas, body_pose, global_orient, transl))


def posed_keypoints(model: BodyModel, body: PosedBody) -> Tensor:
    """``keypoints`` of bodies whose kinematics are already there."""
    device = body.joints.device
    surface = model.skin(body, torch.tensor(list(VERTICES.values()), device=device))
    return torch.cat([body.joints, surface], -2)[..., torch.tensor(_ROWS, device=device), :]


def sources_to_keypoints(like: Tensor, leg_change: float = 0.0) -> Tensor:
    """(23, 24 + 11): keypoints, with ``longer_legs``, from SMPL's joints and then the vertices of ``VERTICES``."""
    chosen = torch.eye(len(_SOURCES), dtype=like.dtype, device=like.device)[list(_ROWS)]
    return longer_legs(chosen, leg_change)


def longer_legs(points: Tensor, change: float) -> Tensor:
    """Keypoints (…, 23, D) whose thighs and shins are longer by the share ``change``, the feet moved along with them.

    A network marks knees and ankles where its annotators did, not where SMPL has its joints.
    """
    matrix = torch.eye(len(KEYPOINTS), dtype=points.dtype, device=points.device)
    for side in ("left", "right"):
        hip, knee, ankle = (INDEX[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle"))
        below = [INDEX[f"{side}_{name}"] for name in ("ankle", "big_toe", "small_toe", "heel")]
        for start, end, moved in ((hip, knee, [knee, *below]), (knee, ankle, below)):
            matrix[moved, end] += change
            matrix[moved, start] -= change
    return (points.mT @ matrix.mT).mT
