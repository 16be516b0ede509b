"""From rotations to what the energies look at: joints, a few surface points, and the height of the lowest.

The same bodies as smpl.py's, V of them side by side as the last axis (tangent.py), as one function whose gradient is
written down. ``BodyModel.pose`` and ``skin`` are the plain way, and what this is tested against.

Forward. G_j = G_parent L_j; p_j = p_parent + G_parent o_j, where the offsets o and rest joints r are linear in betas.
A point with the rest position x(betas) and weights w is Σ_j w_j (G_j (x − r_j) + p_j).

Backward. Forces F_i act at joints and points. A point's force on joint j is w_j F; it turns it, too, by the torque
Σ_c G_c × H_c about p_j, where H_j = Σ w_j F (x − r_j)ᵀ is the gradient in G_j. What turns joint j moves everything
below it, so with sums over its subtree, S_j of the forces and M_j of the torques about the pelvis, its torque in the
world is M_j − d_j × S_j, d_j = p_j − p_0: two small matrix products instead of a way back through the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.body.tangent import cross, dot, gradient, turned, turned_back


@dataclass(frozen=True)
class Rig:
    """A body model's tables for some points. A table (…, 1 + 10 + 207) is linear in [1, betas, pose features].

    levels: (start, end, parents) of joints whose parents come before them. above: (24, 24), 1 where the column's
    joint is the row's or above it. parents: (24,), the root its own. offsets, rest: (3, 24, 11). landmarks: tables
    (3, L, C) and weights (L, 24) of points that are wanted. support: the same of those that may be lowest, but their
    weights are (S, J), of the joints (J) that have any: the legs', mostly.
    """

    levels: tuple[tuple[int, int, Tensor], ...]
    above: Tensor
    parents: Tensor
    offsets: Tensor
    rest: Tensor
    landmarks: tuple[Tensor, Tensor]
    support: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, body: BodyModel, landmarks: Tensor) -> Rig:
        """``landmarks``: vertices (L,). None supports the body yet."""
        parents = (0, *body.parents[1:])
        like = body.v_template
        above = torch.eye(len(parents), dtype=like.dtype, device=like.device)
        levels: list[list[int]] = []
        for joint, parent in enumerate(parents[1:], 1):
            above[joint] += above[parent]
            if levels and parent < levels[-1][0]:
                levels[-1].append(joint)
            else:
                levels.append([joint])
        rest = torch.cat([body.joint_template[..., None], body.joint_shapedirs], -1).transpose(0, 1).contiguous()
        offsets = rest - rest[:, list(parents)]
        device = like.device
        return cls(
            levels=tuple(
                (level[0], level[-1] + 1, torch.tensor([parents[j] for j in level], device=device)) for level in levels
            ),
            above=above,
            parents=torch.tensor(parents, device=device),
            offsets=offsets,
            rest=rest,
            landmarks=_table(body, landmarks),
            support=_support(body, landmarks),
        )

    def supported(self, body: BodyModel, vertices: Tensor) -> Rig:
        """The same with the vertices (S,) among which the lowest is sought."""
        return replace(self, support=_support(body, vertices))

    def pose(self, betas: Tensor, rotations: Tensor, pelvis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joints (3, 24, V) and landmarks (3, L, V), metres, world, and the height (V) of the lowest support.

        betas: (10, V); rotations: (3, 3, 24, V), the root's and each joint's relative to its parent; pelvis: (3, V).
        """
        joints, landmarks, lowest = _Pose.apply(betas, rotations, pelvis, self)  # type: ignore[no-untyped-call]
        return joints, landmarks, lowest


def _table(body: BodyModel, vertices: Tensor) -> tuple[Tensor, Tensor]:
    parts = [body.v_template[vertices, :, None], body.shapedirs[vertices]]
    if body.posedirs is not None:
        parts.append(body.posedirs[vertices])
    return torch.cat(parts, -1).transpose(0, 1).contiguous(), body.weights[vertices]


def _support(body: BodyModel, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    table, weights = _table(body, vertices)
    joints = weights.any(0).nonzero()[:, 0]
    return table, weights[:, joints], joints


def _linear(table: Tensor, coefficients: Tensor) -> Tensor:
    """(3, P, C) of (C, V): (3, P, V)."""
    return (table.flatten(0, 1) @ coefficients).reshape(*table.shape[:2], -1)


def _pulled(table: Tensor, gradient: Tensor) -> Tensor:
    """The transpose of ``_linear``: (3, P, V) → (C, V)."""
    return table.flatten(0, 1).mT @ gradient.flatten(0, 1)


def _features(rotations: Tensor) -> Tensor:
    """(207, V): the body's rotations less the identity, joint by joint, row by row."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)[:, :, None, None]
    return (rotations[:, :, 1:] - identity).permute(2, 0, 1, 3).flatten(0, 2)


class _Pose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, betas: Tensor, rotations: Tensor, pelvis: Tensor, rig: Rig) -> tuple[Tensor, Tensor, Tensor]:
        shape = torch.cat([torch.ones_like(betas[:1]), betas])
        bends = rig.landmarks[0].shape[-1] > len(shape)
        coefficients = torch.cat([shape, _features(rotations)]) if bends else shape
        rest = _linear(rig.rest, shape)

        frames = torch.empty_like(rotations)
        frames[:, :, 0] = rotations[:, :, 0]
        for start, end, parents in rig.levels:
            parent, local = frames.index_select(2, parents), rotations[:, :, start:end]
            level = torch.mul(parent[:, :1], local[:1], out=frames[:, :, start:end])
            level.addcmul_(parent[:, 1:2], local[1:2]).addcmul_(parent[:, 2:], local[2:])
        steps = turned(frames.index_select(2, rig.parents), _linear(rig.offsets, shape))
        steps[:, 0] = 0
        from_pelvis = rig.above @ steps
        joints = from_pelvis + pelvis[:, None]
        origin = joints - turned(frames, rest)

        table, weights = rig.landmarks
        landmark_rest = _linear(table, coefficients)
        landmark_frames = weights @ frames
        landmarks = turned(landmark_frames, landmark_rest).add_(weights @ origin)

        table, weights, bones = rig.support
        support_rest, support_rows = _linear(table, coefficients), weights @ frames[UP].index_select(1, bones)
        heights = dot(support_rows, support_rest).add_(weights @ origin[UP].index_select(0, bones))
        lowest, index = heights.min(0)
        lowest_rest, lowest_row = (a.gather(1, index.expand(3, 1, -1)).squeeze(1) for a in (support_rest, support_rows))
        ctx.rig, ctx.bends = rig, bends
        ctx.save_for_backward(
            rotations, frames, from_pelvis, rest, landmark_rest, landmark_frames, index, lowest_rest, lowest_row
        )
        return joints, landmarks, lowest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *forces: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rig: Rig = ctx.rig
        rotations, frames, from_pelvis, rest, landmark_rest, landmark_frames, index, lowest_rest, lowest_row = (
            ctx.saved_tensors
        )
        on_joints, on_landmarks, on_lowest = forces
        table, weights = rig.landmarks
        support_table, support_weights, bones = rig.support

        lowest_share = torch.zeros_like(frames[UP, UP])
        lowest_share[bones] = support_weights.mT.index_select(1, index) * on_lowest
        on_frames = weights.mT @ on_landmarks
        on_frames[UP] += lowest_share
        lever = weights.mT @ (on_landmarks[:, None] * landmark_rest)
        lever[UP].addcmul_(lowest_share, lowest_rest[:, None])
        lever.addcmul_(on_frames[:, None], rest, value=-1)
        torques = cross(frames[:, 0], lever[:, 0])
        for column in (1, 2):
            torques += cross(frames[:, column], lever[:, column])

        force = on_joints + on_frames
        torques += cross(from_pelvis, force)
        below = rig.above.mT
        force, torques = below @ force, below @ torques
        torques -= cross(from_pelvis, force)
        pull = gradient(rotations, turned_back(frames, torques))

        on_landmark_rest = turned_back(landmark_frames, on_landmarks)
        on_support_rest = on_landmarks.new_zeros(3, *support_weights.shape[:1], *index.shape)
        on_support_rest.scatter_(1, index.expand(3, 1, -1), (lowest_row * on_lowest)[:, None])
        coefficients = _pulled(table, on_landmark_rest) + _pulled(support_table, on_support_rest)
        shape = _pulled(rig.rest, turned_back(frames, on_frames).neg_())
        offset = turned_back(frames.index_select(2, rig.parents), force)
        offset[:, 0] = 0
        shape += _pulled(rig.offsets, offset)
        shape += coefficients[: len(shape)]
        if ctx.bends:
            bend = coefficients[len(shape) :].reshape(-1, 3, 3, *index.shape).permute(1, 2, 0, 3)
            pull[:, :, 1:] += bend
        return shape[1:], pull, force[:, 0], None
