"""SMPL as it is commonly computed: linear blend skinning of all vertices of every body, differentiated by autograd.

Loper et al., SIGGRAPH Asia 2015, Eq. 2–9: shape blend shapes, joints regressed from the shaped mesh, pose blend shapes,
the kinematic chain, skinning. Independent of ``BodyModel``, which has to agree with it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from crowd4d_ros.body.files import NUM_JOINTS, NUM_POSE_FEATURES, NUM_VERTICES, BodyArrays


class Mesh:
    """A body in the SMPL layout, as tensors.

    A file without pose blend shapes gets SMPL's in size, all zero: the work is SMPL's, and the vertices stay.
    """

    def __init__(self, arrays: BodyArrays, like: Tensor) -> None:
        posedirs = arrays.posedirs
        self.v_template, self.shapedirs, self.J_regressor, self.weights = (
            torch.as_tensor(a).to(like)
            for a in (arrays.v_template, arrays.shapedirs, arrays.J_regressor, arrays.weights)
        )
        empty = like.new_zeros(NUM_VERTICES, 3, NUM_POSE_FEATURES)
        self.posedirs = (
            (empty if posedirs is None else torch.as_tensor(posedirs).to(like)).flatten(0, 1).mT.contiguous()
        )
        self.parents = arrays.parents.tolist()

    def __call__(self, betas: Tensor, rotations: Tensor, pelvis: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B, 6890, 3) and joints (B, 24, 3) of betas (B, 10), rotations (B, 24, 3, 3) of the joints against
        their parents, and the places (B, 3) of the pelvis."""
        shaped = self.v_template + (betas @ self.shapedirs.flatten(0, 1).mT).reshape(len(betas), -1, 3)
        rest = self.J_regressor @ shaped
        bent = (rotations[:, 1:] - torch.eye(3).to(rotations)).flatten(1) @ self.posedirs
        vertices = shaped + bent.reshape(shaped.shape)
        placed = self._chain(rotations, rest, pelvis)
        joints = placed[..., 3]
        away = joints - (placed[..., :3] @ rest[..., None])[..., 0]
        transforms = torch.cat([placed[..., :3], away[..., None]], -1)
        blended: Tensor = self.weights @ transforms.flatten(-2)
        skinned = blended.reshape(*vertices.shape, 4) @ pad(vertices, (0, 1), value=1.0)[..., None]
        return skinned[..., 0], joints

    def _chain(self, rotations: Tensor, rest: Tensor, pelvis: Tensor) -> Tensor:
        """(B, 24, 3, 4), joint after joint from its parent."""
        frames = [torch.cat([rotations[:, 0], pelvis[..., None]], -1)]
        for joint in range(1, NUM_JOINTS):
            above = frames[self.parents[joint]]
            offset = rest[:, joint] - rest[:, self.parents[joint]]
            turned = above[..., :3] @ torch.cat([rotations[:, joint], offset[..., None]], -1)
            frames.append(turned + pad(above[..., 3:], (3, 0)))
        return torch.stack(frames, 1)
