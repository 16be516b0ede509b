"""Bodies as points and capsules: what visibility, observations and pictures ask of a crowd's posed bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import INDEX, posed_keypoints
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.window import BodyMotion, FloatArray, IntArray

SURFACE_POINTS = 96
"""Vertices that stand for the skin: 11 cm apart, and the outermost ones are always among them."""
INSIDE = 0.42
"""of the skin is within its capsule: the share with which capsules hide as much as meshes do, on three small crowds."""
STRIDE = 2
"""Every second vertex tells how thick a limb is: left and right agree to 3 mm."""

_BONES = (
    "pelvis spine2", "spine2 neck", "left_hip left_collar", "right_hip right_collar", "left_hip right_hip",
    "left_collar left_shoulder", "right_collar right_shoulder", "neck head", "head left_ear", "head right_ear",
    "left_hip left_knee", "left_knee left_ankle", "left_ankle left_big_toe", "left_ankle left_heel",
    "right_hip right_knee", "right_knee right_ankle", "right_ankle right_big_toe", "right_ankle right_heel",
    "left_shoulder left_elbow", "left_elbow left_wrist", "left_wrist left_hand",
    "right_shoulder right_elbow", "right_elbow right_wrist", "right_wrist right_hand",
)  # fmt: skip

_ANCHORS = {**{name: len(JOINTS) + row for name, row in INDEX.items()}, **{n: row for row, n in enumerate(JOINTS)}}
BONES: IntArray = np.array([[_ANCHORS[end] for end in bone.split()] for bone in _BONES])
"""(C, 2) rows of the joints followed by the keypoints: the axes of the capsules that fill a body."""


@dataclass(frozen=True)
class PosedCrowd:
    """N people over T frames, metres, world.

    joints: (N, T, 24, 3). keypoints: (N, T, 23, 3). surface: (N, T, SURFACE_POINTS, 3) vertices evenly over the skin.
    lowest: (N, T, 3) the lowest vertex. radii: (N, C) metres of the capsules around ``BONES``.
    """

    joints: FloatArray
    keypoints: FloatArray
    surface: FloatArray
    lowest: FloatArray
    radii: FloatArray

    def frames(self, part: slice) -> PosedCrowd:
        """The same crowd in some of the frames."""
        return PosedCrowd(
            self.joints[:, part], self.keypoints[:, part], self.surface[:, part], self.lowest[:, part], self.radii
        )

    @property
    def bones(self) -> tuple[FloatArray, FloatArray]:
        """Both ends of the capsules' axes, (N, T, C, 3) each."""
        anchors = np.concatenate([self.joints, self.keypoints], -2)
        return anchors[..., BONES[:, 0], :], anchors[..., BONES[:, 1], :]


@torch.no_grad()
def pose_crowd(body: BodyModel, motion: BodyMotion) -> PosedCrowd:
    """The points of ``motion``, as exact as ``body``'s dtype."""
    betas, pose, orient, transl = (
        torch.as_tensor(array, dtype=body.v_template.dtype, device=body.v_template.device)
        for array in (motion.betas, motion.body_pose, motion.global_orient, motion.transl)
    )
    posed = body.pose(betas[:, None], pose, orient, transl)
    lowest = body.skin(posed, body.lowest_index(posed, UP)[..., None]).squeeze(-2)
    surface = body.skin(posed, torch.as_tensor(surface_vertices(body), device=betas.device))
    return PosedCrowd(
        joints=_array(posed.joints),
        keypoints=_array(posed_keypoints(body, posed)),
        surface=_array(surface),
        lowest=_array(lowest),
        radii=capsule_radii(body, betas),
    )


def surface_vertices(body: BodyModel, count: int = SURFACE_POINTS) -> IntArray:
    """(count,) vertices far from each other, by farthest-point sampling of the rest pose from the crown on."""
    vertices = _array(body.v_template)
    chosen = [int(vertices[:, UP].argmax())]
    distance = np.full(len(vertices), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(vertices - vertices[chosen[-1]], axis=-1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


@torch.no_grad()
def capsule_radii(body: BodyModel, betas: Tensor) -> FloatArray:
    """(N, C) metres: around each of ``BONES``, so that ``INSIDE`` of the skin nearest to it is within.

    Which vertices these are is settled on the mean body; the radii are those of each shape (N, 10).
    """
    vertices, anchors = _rest(body, betas.new_zeros(betas.shape[-1]))
    owner = _distance(vertices[:, None], *anchors[BONES.T]).argmin(-1)
    vertices, anchors = _rest(body, betas)
    own = _distance(vertices, *np.moveaxis(anchors[:, BONES[owner].T], 1, 0))
    return np.stack([np.quantile(own[:, owner == bone], INSIDE, axis=-1) for bone in range(len(BONES))], -1)


def _rest(body: BodyModel, betas: Tensor) -> tuple[FloatArray, FloatArray]:
    """Every ``STRIDE``-th vertex (…, V, 3) and the joints and keypoints (…, 47, 3) of the rest pose, metres."""
    still = betas.new_zeros(*betas.shape[:-1], len(JOINTS) - 1, 3)
    posed = body.pose(betas, still, still[..., 0, :], still[..., 0, :])
    vertices = body.skin(posed, torch.arange(0, len(body.v_template), STRIDE, device=betas.device))
    return _array(vertices), _array(torch.cat([posed.joints, posed_keypoints(body, posed)], -2))


def _distance(points: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    """(…) metres from points (…, 3) to the segments from start to end (…, 3)."""
    axis, from_start = end - start, points - start
    along = np.clip((from_start * axis).sum(-1) / (axis**2).sum(-1), 0, 1)
    return np.asarray(np.linalg.norm(from_start - along[..., None] * axis, axis=-1))


def _array(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.cpu().numpy(), np.float64)
