"""Whether the reference is as fast as what everybody uses: ``smplx``'s ``lbs``, where it is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from crowd4d_ros.benchmark.measure import Times, seconds
from crowd4d_ros.benchmark.mesh import Mesh
from crowd4d_ros.body.rotations import axis_angle_to_matrix

log = logging.getLogger(__name__)

MOST = 1000
"""bodies: more do not change the ratio."""


@dataclass(frozen=True)
class Smplx:
    """Seconds of forward and backward on the same bodies, by smplx's ``lbs`` and by the reference's mesh."""

    bodies: int
    lbs: Times
    mesh: Times

    @property
    def ratio(self) -> float:
        """Of the mesh to lbs: at most 1.2, or the reference would be made to look slow."""
        return self.mesh.wall / self.lbs.wall


def against_smplx(mesh: Mesh, bodies: int, repeat: int) -> Smplx | None:
    """Both in turn, from axis-angle to vertices and back. None where smplx is not installed, which is logged."""
    try:
        from smplx.lbs import lbs
    except ImportError:
        log.warning("smplx is not installed: whether the reference is as fast cannot be told (pip install smplx)")
        return None
    like, bodies = mesh.v_template, min(bodies, MOST)
    random = torch.Generator().manual_seed(0)
    betas, pose = (torch.randn(bodies, *shape, generator=random).to(like) for shape in ((10,), (24, 3)))
    parents = torch.tensor(mesh.parents, device=like.device)

    def theirs(shape: Tensor, angles: Tensor) -> Tensor:
        arrays = mesh.v_template[None], mesh.shapedirs, mesh.posedirs, mesh.J_regressor, parents, mesh.weights
        vertices: Tensor = lbs(shape, angles.flatten(1), *arrays)[0]
        return vertices

    def ours(shape: Tensor, angles: Tensor) -> Tensor:
        return mesh(shape, axis_angle_to_matrix(angles), shape.new_zeros(bodies, 3))[0]

    def both_ways(side: Callable[[Tensor, Tensor], Tensor]) -> None:
        shape, angles = (a.clone().requires_grad_() for a in (betas, 0.3 * pose))
        torch.autograd.grad(side(shape, angles).square().sum(), (shape, angles))

    taken: tuple[list[tuple[float, float]], list[tuple[float, float]]] = [], []
    for _ in range(repeat):  # in turn: what else the machine does falls on both
        for side, times in zip((theirs, ours), taken, strict=True):
            times += seconds(partial(both_ways, side), like.device, 1)
    return Smplx(bodies, *(Times.median(times) for times in taken))
