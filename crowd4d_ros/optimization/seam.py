"""What a window inherits from the one before, so that nobody jumps where they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_6d
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.window import BoolArray, CrowdWindow, FloatArray, IntArray
from crowd4d_ros.world import LastWindow


@dataclass(frozen=True)
class Seam:
    """The last window's answer where this window repeats it.

    held: (N, T) frames of people that both windows have: they keep their answer, which was published.
    known: (N,) people with such a frame. pelvis: (N, T, 3), global_orient: (N, T, 3), body_pose:
    (N, T, 23, 3), betas: (N, 10): the answer where held or known, zeros elsewhere.
    last: (N,) the last held frame, columns: (N, 24, 6) all rotations there. decay: (N, T) weight of the jump of the
    root at that frame on the frames after it; turn_decay: (N, T) of the joints'.
    """

    held: Tensor
    known: Tensor
    pelvis: Tensor
    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    last: Tensor
    columns: Tensor
    decay: Tensor
    turn_decay: Tensor

    def shift(self, pelvis: Tensor) -> Tensor:
        """(N, T, 3) metres that join roots (N, T, 3) to the last answer: the jump there, fading after it."""
        jump = self._at_last(self.pelvis - pelvis)
        return self.decay[..., None] * jump

    def turn(self, columns: Tensor) -> Tensor:
        """``shift`` for rotations (N, T, 24, 6): what joins them to the last answer, to be added before they are made
        orthonormal."""
        jump = self.columns[:, None] - self._at_last(columns)
        return self.turn_decay[..., None, None] * jump

    def _at_last(self, values: Tensor) -> Tensor:
        """(N, 1, …) of values (N, T, …) those at the last held frame."""
        return values[torch.arange(len(values), device=values.device), self.last][:, None]


def seam(
    window: CrowdWindow, previous: LastWindow | None, body: BodyModel, decay_seconds: float, turn_seconds: float
) -> Seam:
    """The seam of ``window`` with the ``previous`` one; nothing is held where there is none."""
    like = body.v_template
    people, frames = window.valid.shape
    held = np.zeros((people, frames), bool)
    pelvis, orient = np.zeros((people, frames, 3)), np.zeros((people, frames, 3))
    pose, betas = np.zeros((people, frames, 23, 3)), np.zeros((people, 10))
    if previous is not None and len(previous.track_ids):
        _, n, m = np.intersect1d(window.track_ids, previous.track_ids, return_indices=True)
        _, t, u = np.intersect1d(window.stamps, previous.stamps, return_indices=True)
        here, there = np.ix_(n, t), np.ix_(m, u)
        repeated = window.valid[here] & previous.valid[there] & ~window.is_new[t]
        rest = body.pelvis(tensor_like(previous.motion.betas, like)).cpu().numpy()[:, None]
        held[here] = repeated
        pelvis[here] = np.where(repeated[..., None], (previous.motion.transl + rest)[there], 0)
        orient[here] = np.where(repeated[..., None], previous.motion.global_orient[there], 0)
        pose[here] = np.where(repeated[..., None, None], previous.motion.body_pose[there], 0)
        betas[n] = np.where(repeated.any(-1, keepdims=True), previous.motion.betas[m], 0)
    last = np.where(held.any(-1), frames - 1 - held[:, ::-1].argmax(-1), 0)
    row = np.arange(people)
    angles = tensor_like(np.concatenate([orient[row, last][:, None], pose[row, last]], 1), like)
    return Seam(
        held=torch.as_tensor(held, device=like.device),
        known=torch.as_tensor(held.any(-1), device=like.device),
        pelvis=tensor_like(pelvis, like),
        global_orient=tensor_like(orient, like),
        body_pose=tensor_like(pose, like),
        betas=tensor_like(betas, like),
        last=torch.as_tensor(last, device=like.device),
        columns=matrix_to_6d(axis_angle_to_matrix(angles)),
        decay=tensor_like(_decay(window, held, last, decay_seconds), like),
        turn_decay=tensor_like(_decay(window, held, last, turn_seconds), like),
    )


def _decay(window: CrowdWindow, held: BoolArray, last: IntArray, decay_seconds: float) -> FloatArray:
    seconds = window.stamps * 1e-9
    since = seconds[None, :] - seconds[last][:, None]
    return np.where((since > 0) & held.any(-1, keepdims=True), np.exp(-np.abs(since) / decay_seconds), 0.0)
