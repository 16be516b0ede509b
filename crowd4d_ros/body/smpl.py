"""SMPL's forward pass: shape and pose to joints and vertices, in batches.

All methods take any leading dimensions, and these broadcast: betas (N, 1, 10) with poses (N, T, …) computes
each person's shape once. Lengths are metres, rotations axis-angle in radians, and ``transl`` is smplx's: the
pelvis is at ``pelvis(betas) + transl``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.files import BodyArrays, read_body
from crowd4d_ros.body.rotations import axis_angle_to_matrix
from crowd4d_ros.window import FloatArray

UP = 1
"""The core world's vertical axis: y."""
CHUNK = 256
"""Bodies whose every vertex is held at once: some 30 MB in single precision, and larger is not faster."""


@dataclass(frozen=True)
class PosedBody:
    """The kinematics of bodies (…), from which joints are read and vertices skinned.

    joints: (…, 24, 3) metres, world. transforms: (…, 24, 3, 4) from the rest pose to the world.
    betas: (…, 10). pose_features: (…, 207), or None where the model has no pose blend shapes.
    """

    joints: Tensor
    transforms: Tensor
    betas: Tensor
    pose_features: Tensor | None


class BodyModel:
    """A body in the SMPL layout.

    v_template: (6890, 3); shapedirs: (6890, 3, 10); posedirs: (6890, 3, 207), None if all are zero;
    J_regressor: (24, 6890); weights: (6890, 24); faces: (13776, 3) int64; parents: 24 ints, −1 for the root.
    joint_template: (24, 3) and joint_shapedirs: (24, 3, 10), the joints straight from the shape.
    name, sha256: which file it came from.
    """

    def __init__(
        self, arrays: BodyArrays, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        def tensor(array: object) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device)

        self.v_template = tensor(arrays.v_template)
        self.shapedirs = tensor(arrays.shapedirs)
        self.posedirs = None if arrays.posedirs is None else tensor(arrays.posedirs)
        self.J_regressor = tensor(arrays.J_regressor)
        self.weights = tensor(arrays.weights)
        self.faces = torch.as_tensor(arrays.faces, device=device)
        self.parents: tuple[int, ...] = tuple(arrays.parents.tolist())
        self.name, self.sha256 = arrays.name, arrays.sha256
        self.joint_template = tensor(arrays.J_regressor @ arrays.v_template)
        self.joint_shapedirs = tensor(np.tensordot(arrays.J_regressor, arrays.shapedirs, 1))
        self._tree = _Tree.build(self.parents, self.joint_template, self.joint_shapedirs)

    @classmethod
    def load(
        cls, path: str | Path = "", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> BodyModel:
        """A user's SMPL file, or the embedded body if ``path`` is empty. Raises BodyFileError."""
        return cls(read_body(path), device, dtype)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints of the rest pose: (…, 10) → (…, 24, 3)."""
        return self.joint_template + _blend(self.joint_shapedirs, betas)

    def pelvis(self, betas: Tensor) -> Tensor:
        """J0(β): (…, 10) → (…, 3). The paper's root τ is this plus transl."""
        return self.joint_template[0] + _blend(self.joint_shapedirs[0], betas)

    @torch.no_grad()
    def rest_pelvis(self, betas: FloatArray) -> FloatArray:
        """``pelvis`` of an array (…, 10), as messages carry it."""
        return np.asarray(self.pelvis(torch.as_tensor(betas).to(self.v_template)).double().cpu().numpy())

    def height(self, betas: Tensor) -> Tensor:
        """Crown to sole of the rest pose: (…, 10) → (…)."""
        y = self.v_template[:, UP] + _blend(self.shapedirs[:, UP], betas)
        return y.amax(-1) - y.amin(-1)

    def pose(self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor) -> PosedBody:
        """``pose_rotations`` of axis-angle body_pose (…, 23, 3) and global_orient (…, 3)."""
        lead = (global_orient + body_pose[..., 0, :]).shape[:-1]
        angles = [global_orient[..., None, :].expand(*lead, -1, -1), body_pose.expand(*lead, -1, -1)]
        return self.pose_rotations(betas, axis_angle_to_matrix(torch.cat(angles, -2)), transl)

    def pose_rotations(self, betas: Tensor, rotations: Tensor, transl: Tensor) -> PosedBody:
        """Forward kinematics, level by level of the tree.

        betas: (…, 10); rotations: (…, 24, 3, 3), the root's and each joint's relative to its parent; transl: (…, 3).
        """
        tree = self._tree
        offsets = tree.offset_template + _blend(tree.offset_shapedirs, betas)
        lead = (offsets[..., 0, :] + transl + rotations[..., 0, 0, :]).shape[:-1]
        rotations = rotations.expand(*lead, -1, -1, -1)
        local = torch.cat([rotations[..., tree.order, :, :], offsets.expand(*lead, -1, -1)[..., None]], -1)
        root, *levels = torch.split(local, list(tree.sizes), -3)
        frames = [root + _translation(transl)[..., None, :, :]]
        for parents, level in zip(tree.parents, levels, strict=True):
            frames.append(_chain(frames[-1][..., parents, :, :], level))
        placed = torch.cat(frames, -3)[..., tree.inverse, :, :]
        turned, joints = placed[..., :3], placed[..., 3]
        origin = joints - (turned * self.rest_joints(betas)[..., None, :]).sum(-1)
        features = None
        if self.posedirs is not None:
            identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            features = (rotations[..., 1:, :, :] - identity).flatten(-3)
        return PosedBody(joints, torch.cat([turned, origin[..., None]], -1), betas, features)

    def skin(self, body: PosedBody, index: Tensor | None = None) -> Tensor:
        """Vertices (…, K, 3) of posed bodies. index: (K,) shared, (…, K) each body its own, None for all."""
        v_template, shapedirs, posedirs = self.v_template, self.shapedirs, self.posedirs
        weights = self.weights
        if index is not None:
            v_template, shapedirs, weights = v_template[index], shapedirs[index], weights[index]
            posedirs = None if posedirs is None else posedirs[index]
        rest = v_template + _blend(shapedirs, body.betas)
        if posedirs is not None and body.pose_features is not None:
            rest = rest + _blend(posedirs, body.pose_features)
        transforms: Tensor = weights @ body.transforms.flatten(-2)
        transforms = transforms.reshape(*transforms.shape[:-1], 3, 4)
        return (transforms[..., :3] * rest[..., None, :]).sum(-1) + transforms[..., 3]

    def joints(self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor) -> Tensor:
        """(…, 24, 3) metres, world."""
        return self.pose(betas, body_pose, global_orient, transl).joints

    def vertices(
        self,
        betas: Tensor,
        body_pose: Tensor,
        global_orient: Tensor,
        transl: Tensor,
        index: Tensor | None = None,
    ) -> Tensor:
        """(…, 6890, 3) metres, world; only the vertices of ``index`` if given, see ``skin``."""
        return self.skin(self.pose(betas, body_pose, global_orient, transl), index)

    def lowest_vertex(
        self,
        betas: Tensor,
        body_pose: Tensor,
        global_orient: Tensor,
        transl: Tensor,
        up: int = UP,
    ) -> tuple[Tensor, Tensor]:
        """The vertex with the smallest coordinate along axis ``up``, over all of the mesh.

        Returns its index (…) int64 and its position (…, 3) metres, world, which carries the gradient.
        """
        body = self.pose(betas, body_pose, global_orient, transl)
        index = self.lowest_index(body, up)
        return index, self.skin(body, index[..., None]).squeeze(-2)

    @torch.no_grad()
    def lowest_index(self, body: PosedBody, up: int = UP) -> Tensor:
        """Index (…) int64 of the lowest vertex of posed bodies. Memory is bounded, as in ``heights``."""
        index = [heights.argmin(-1).flatten() for heights in self.heights(body, up)]
        flat = torch.cat(index) if index else torch.zeros(0, dtype=torch.int64, device=body.joints.device)
        return flat.reshape(body.joints.shape[:-2])

    def heights(self, body: PosedBody, up: int = UP, among: Tensor | None = None) -> Iterator[Tensor]:
        """Coordinates (A, B, C) of vertices along axis ``up``, some CHUNK posed bodies A·B at a time, in their order.

        among: the vertices (C,) to look at, None for all. A vertex's coordinate Σ_j w_j (r_j·x + t_j) is linear in the
        joints' rows (r_j, t_j): where poses share a shape, (…, 1, 10), and nothing else bends it, one matrix takes all
        of them to their vertices.
        """
        v_template, shapedirs, posedirs, weights = self.v_template, self.shapedirs, self.posedirs, self.weights
        turns = body.transforms[..., up, :]
        if among is not None:
            joints = weights[among].any(0).nonzero()[:, 0]
            v_template, shapedirs, weights = v_template[among], shapedirs[among], weights[among][:, joints]
            posedirs = None if posedirs is None else posedirs[among]
            turns = turns.index_select(-2, joints)
        lead, features = body.joints.shape[:-2], body.pose_features
        betas = body.betas.expand(*lead, -1)
        shared = len(lead) > 0 and betas.stride(-2) == 0 and features is None
        poses = lead[-1] if shared else 1
        shapes = lead.numel() // max(poses, 1)
        rows = turns.reshape(shapes, poses, *turns.shape[-2:])
        betas = betas.reshape(shapes, poses, betas.shape[-1])[:, 0]
        step = max(1, CHUNK // max(poses, 1))
        for part in (slice(start, start + step) for start in range(0, shapes, step)):
            rest = v_template + _blend(shapedirs, betas[part])
            if posedirs is not None and features is not None:
                rest = rest + _blend(posedirs, features.reshape(shapes, -1)[part])
            rest = torch.nn.functional.pad(rest, (0, 1), value=1.0)
            if shared:
                to_vertices = (weights[..., None] * rest[..., None, :]).flatten(-2)
                yield rows[part].flatten(-2) @ to_vertices.mT
            else:
                yield ((weights @ rows[part, 0]) * rest).sum(-1)[:, None]


def _blend(directions: Tensor, coefficients: Tensor) -> Tensor:
    """Σ_b directions[…, b] coefficients[…, b]. directions: shared, (K, 3, B) or less, or (…, K, 3, B)."""
    if directions.ndim > 3:
        return (directions @ coefficients[..., None, :, None]).squeeze(-1)
    flat = coefficients @ directions.reshape(-1, directions.shape[-1]).mT
    return flat.reshape(*coefficients.shape[:-1], *directions.shape[:-1])


@dataclass(frozen=True)
class _Tree:
    """The kinematic tree by depth: what a level needs lies side by side.

    order: (24,) SMPL's joints, level after level; inverse: back again; sizes: of the levels, root first.
    parents: for each level below the root, the rows of its joints' parents in the level above.
    offset_template: (24, 3), offset_shapedirs: (24, 3, 10): from each joint's parent to it, in that order.
    """

    order: Tensor
    inverse: Tensor
    sizes: tuple[int, ...]
    parents: tuple[Tensor, ...]
    offset_template: Tensor
    offset_shapedirs: Tensor

    @classmethod
    def build(cls, parents: tuple[int, ...], joint_template: Tensor, joint_shapedirs: Tensor) -> _Tree:
        levels = [[0]]
        while below := [joint for joint, parent in enumerate(parents) if joint and parent in levels[-1]]:
            levels.append(below)
        device = joint_template.device
        order = torch.tensor([joint for level in levels for joint in level], device=device)
        rows = [[above.index(parents[joint]) for joint in level] for above, level in pairwise(levels)]
        template, shapedirs = joint_template.clone(), joint_shapedirs.clone()
        template[1:] -= joint_template[list(parents[1:])]
        shapedirs[1:] -= joint_shapedirs[list(parents[1:])]
        return cls(
            order=order,
            inverse=order.argsort(),
            sizes=tuple(len(level) for level in levels),
            parents=tuple(torch.tensor(level, device=device) for level in rows),
            offset_template=template[order],
            offset_shapedirs=shapedirs[order],
        )


def _translation(vector: Tensor) -> Tensor:
    """(…, 3) as the last column of (…, 3, 4)."""
    return torch.nn.functional.pad(vector[..., None], (3, 0))


def _chain(parent: Tensor, local: Tensor) -> Tensor:
    """The product of rigid transforms (…, 3, 4). On a CPU, faster than broadcast-multiply."""
    return parent[..., :3] @ local + _translation(parent[..., 3])
