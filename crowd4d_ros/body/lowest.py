"""Which vertices can be a body's lowest at all: the exact minimum over the mesh, without most of the mesh.

A skinned vertex is Σ_j w_j (G_j (x − r_j) + p_j) with weights that sum to one, so no lower than the lowest of its
joints' spheres: min_j (p_j − |x − r_j|). Where that is above some vertex that is known, it need not be looked at: of
people who stand and walk, the feet remain and little else; of somebody who lies, everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crowd4d_ros.body.smpl import BodyModel, PosedBody

SLACK = 1e-4
"""metres: rounding decides nothing."""
PEOPLE = 32
"""whose distances are held at once, some 200 kB each in single precision."""


class Reach:
    """How far each vertex of a body model is from its joints, for any shape."""

    def __init__(self, body: BodyModel) -> None:
        self.body = body
        self.bends = body.posedirs is not None
        self.vertices = torch.arange(len(body.weights), device=body.weights.device)
        self.vertex, self.joint = body.weights.nonzero(as_tuple=True)
        self.template = body.v_template[self.vertex] - body.joint_template[self.joint]
        self.shapedirs = body.shapedirs[self.vertex] - body.joint_shapedirs[self.joint]

    def candidates(self, betas: Tensor, clearance: Tensor) -> Tensor:
        """Vertices (C,) that may be the lowest of somebody.

        betas: (N, 10) of everybody. clearance: (24,) metres, the least height of a joint above a vertex of the same
        body, over all bodies. All vertices where pose blend shapes move them farther from their joints.
        """
        if self.bends or len(betas) == 0:
            return self.vertices
        squared = clearance.new_zeros(len(self.vertex))
        for start in range(0, len(betas), PEOPLE):
            part = betas[start : start + PEOPLE]
            lever = self.template + (part @ self.shapedirs.flatten(0, 1).mT).reshape(-1, *self.template.shape)
            squared = torch.maximum(squared, lever.square().sum(-1).amax(0))
        reaches = squared.sqrt() >= clearance[self.joint] - SLACK
        found: Tensor = torch.unique(self.vertex[reaches])
        return found

    def lowest(self, posed: PosedBody, valid: Tensor, among: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        """Each (N, T) posed body's lowest vertex of ``among`` (N, T), and all (S,) that lie within ``margin`` metres of
        the lowest of somebody valid (N, T)."""
        near, start = torch.zeros_like(among, dtype=torch.bool), 0
        index = torch.zeros_like(valid, dtype=torch.int64).flatten()
        for heights in self.body.heights(posed, among=among):
            least, lowest = heights.flatten(0, 1).min(-1, keepdim=True)
            part = slice(start, start + len(least))
            index[part] = lowest[:, 0]
            near |= ((heights.flatten(0, 1) <= least + margin) & valid.flatten()[part, None]).any(0)
            start += len(least)
        return among[index].reshape(valid.shape), among[near]
