"""The Scene Interaction Surface (SIS): a triangulated height field that falls back to a plane (Eq. 6)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError, cKDTree
from torch import Tensor

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.height_field import HeightField
from crowd4d_ros.window import BoolArray, FloatArray, SurfaceMesh

logger = logging.getLogger(__name__)

TUKEY = 4.685
"""robust sigmas: the biweight's customary width, 95% efficient on Gaussian noise."""
ROBUST = 1.4826
"""The median of absolute Gaussian deviations times this is their sigma."""
PLANE_ROUNDS = 15
"""Reweightings of the reference plane toward the least absolute residual, and as many with the biweight."""
LEAST_SIGMA, LEAST_DISTANCE = 0.01, 0.1
"""metres, and sigmas: points that fit exactly must not weigh without bound."""
NOWHERE_TO_STAND = "the scene has no reliable point to stand on: check the scene model, or lower interaction.confidence"


class SurfaceError(ValueError):
    """The scene offers nothing to stand on; the message says what to do."""


@dataclass(frozen=True)
class Surface:
    """A height field over a regular grid of the horizontal plane, and a plane beyond it.

    heights: (X, Z) metres, of the nodes at corner + spacing·(i, j).
    corner: (2,) metres, x and z of node (0, 0). spacing: metres.
    kept: (X−1, Z−1, 2) whether each cell's two triangles belong to the mesh. A cell is cut from (0, 0) to
    (1, 1); its first triangle has the corner (1, 0), its second (0, 1).
    plane: (3,) a, b, c of the reference plane y = a x + b z + c.
    support: (X, Z) in [0, 1], of the nodes: 1 where heights were observed, 0 where they are the plane's; None: 1.
    """

    heights: FloatArray
    corner: FloatArray
    spacing: float
    kept: BoolArray
    plane: FloatArray
    support: FloatArray | None = None

    def scaled(self, alpha: float) -> Surface:
        """The surface of the scene scaled about the world's origin."""
        return replace(
            self,
            heights=self.heights * alpha,
            corner=self.corner * alpha,
            spacing=self.spacing * alpha,
            plane=self.plane * [1.0, 1.0, alpha],
        )

    def on(self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float64) -> HeightField:
        """The same surface, to be asked with tensors of this device and dtype."""

        def tensor(array: FloatArray) -> Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        support = None if self.support is None else tensor(self.support)
        kept = torch.tensor(self.kept, device=device)
        return HeightField(tensor(self.heights), tensor(self.corner), self.spacing, kept, tensor(self.plane), support)

    def plane_height(self, xz: FloatArray) -> FloatArray:
        """The reference plane's height (…) metres at xz (…, 2)."""
        return np.asarray(xz @ self.plane[:2] + self.plane[2])

    def height(self, xz: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Vertical projection (Eq. 15): heights (…) metres at xz (…, 2), and whether the mesh is there.

        Over a dropped triangle the height is still that triangle's; beyond the grid it is the plane's.
        """
        height, on_mesh = self._field.height(_tensor(xz))
        return height.numpy(), on_mesh.numpy()

    def side(self, points: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Inside or outside: (…) metres that points (…, 3) are above the surface, and whether the mesh is there.

        Negative is below. Vertically measured: a height field has no other inside.
        """
        height, on_mesh = self.height(points[..., [0, 2]])
        return np.asarray(points[..., 1] - height), on_mesh

    def observed(self, xz: FloatArray) -> FloatArray:
        """How far (…) in [0, 1] the height at xz (…, 2) was observed; 0 beyond the grid."""
        return np.asarray(self._field.observed(_tensor(xz)).numpy())

    def slope(self, xz: FloatArray) -> FloatArray:
        """Metres of height per metre (…) at xz (…, 2), the steepest way, over a cell to either side."""
        return np.asarray(self._field.slope(_tensor(xz)).numpy())

    def intersect(self, origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, BoolArray]:
        """First meeting of the rays origin + mu·direction, mu > 0, with the surface (Eq. 10).

        origins, directions: (…, 3), directions of any length but zero. Returns mu (…), and hit (…): it is the
        mesh that was met. Where the mesh is missed but the reference plane is met beyond the grid, mu is the
        plane's and hit is False; where neither is met, mu is 0.
        """
        mu, hit = self._field.meetings(_tensor(origins), _tensor(directions))
        return mu.numpy(), hit.numpy()

    def nearest(self, origins: FloatArray, directions: FloatArray, ratio: float) -> FloatArray:
        """mu (…) of that meeting of the rays (…, 3) with the surface from above that is nearest to 1; or 0.

        The mesh's, of which those with mu in (1/ratio, ratio) count; without one the reference plane's beyond the grid.
        """
        return np.asarray(self._field.meetings(_tensor(origins), _tensor(directions), (1 / ratio, ratio))[0].numpy())

    def mesh(self) -> SurfaceMesh:
        """Vertices in the order of ``heights.ravel()``; counter-clockwise seen from above."""
        x, z = (self.corner[a] + self.spacing * np.arange(self.heights.shape[a]) for a in (0, 1))
        grid_x, grid_z = np.meshgrid(x, z, indexing="ij")
        vertices = np.stack([grid_x, self.heights, grid_z], -1).reshape(-1, 3)
        node = np.arange(self.heights.size).reshape(self.heights.shape)
        a, b, c, d = node[:-1, :-1], node[1:, :-1], node[1:, 1:], node[:-1, 1:]
        faces = np.stack([np.stack([a, c, b], -1), np.stack([a, d, c], -1)], 2)
        return SurfaceMesh(vertices, faces[self.kept].astype(np.int32))

    @cached_property
    def _field(self) -> HeightField:
        return self.on()


def build_surface(sipc: FloatArray, people: FloatArray, config: InteractionConfig) -> Surface:
    """The SIS over the SIPC (M, 3) and the people (…, 3), metres. Raises SurfaceError without a point."""
    if not len(sipc):
        raise SurfaceError(NOWHERE_TO_STAND)
    plane = reference_plane(sipc, config)
    points = without_spikes(sipc, plane, config)
    covered = np.concatenate([sipc[:, [0, 2]], people.reshape(-1, 3)[:, [0, 2]]])
    corner, far = covered.min(0) - config.margin, covered.max(0) + config.margin
    wanted = config.cell
    spacing = max(wanted, float(np.sqrt(np.prod(far - corner) / config.max_nodes)))
    if spacing > wanted:
        logger.warning("the surface spans %.0f x %.0f m: cells of %.2f m", *(far - corner), spacing)
    nodes = np.ceil((far - corner) / spacing).astype(int) + 1
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in nodes), indexing="ij"), -1) * spacing + corner
    at_nodes = grid @ plane[:2] + plane[2]
    residual = points[:, 1] - (points[:, [0, 2]] @ plane[:2] + plane[2])
    heights, support = at_nodes, None
    if config.terrain != "plane":
        support = _support(points[:, [0, 2]], grid, config)
        seen = support > 0
        heights = at_nodes.copy()
        heights[seen] += support[seen] * _interpolated(points[:, [0, 2]], residual, grid[seen])
    return Surface(heights, corner, spacing, _kept(heights, spacing, config.long_edge), plane, support)


def reference_plane(points: FloatArray, config: InteractionConfig) -> FloatArray:
    """Robust plane y = a x + b z + c through points (M, 3): (a, b, c).

    Iteratively reweighted least squares, first toward the least absolute residual, which no start can
    mislead, then with Tukey's biweight. The gravity prior, a and b ~ N(0, plane_slope), decides only where
    the points do not: a single cell, or cells in a row, give a level plane.
    """
    centre = np.median(points, axis=0)
    moved = points - centre
    design = np.stack([moved[:, 0], moved[:, 2], np.ones(len(moved))], -1)
    solution = np.zeros(3)
    for biweight in [False] * PLANE_ROUNDS + [True] * PLANE_ROUNDS:
        residual = moved[:, 1] - design @ solution
        sigma = max(ROBUST * float(np.median(np.abs(residual))), LEAST_SIGMA)
        distance = np.abs(residual) / sigma
        weight = 1 / np.maximum(distance, LEAST_DISTANCE)
        if biweight:
            weight = np.clip(1 - (distance / TUKEY) ** 2, 0, None) ** 2
        prior = (sigma / config.plane_slope) ** 2 * np.diag([1.0, 1.0, 0.0])
        normal = (design * weight[:, None]).T @ design + prior
        solution = np.linalg.solve(normal, (design * weight[:, None]).T @ moved[:, 1])
    a, b, c = solution
    return np.array([a, b, c + centre[1] - a * centre[0] - b * centre[2]])


def without_spikes(points: FloatArray, plane: FloatArray, config: InteractionConfig) -> FloatArray:
    """Points (M, 3) less those ``config.spike`` off the median of their neighbours' residuals."""
    if len(points) <= config.spike_neighbours:
        return points
    residual = points[:, 1] - (points[:, [0, 2]] @ plane[:2] + plane[2])
    _, neighbours = cKDTree(points[:, [0, 2]]).query(points[:, [0, 2]], config.spike_neighbours + 1)
    is_spike = np.abs(residual - np.median(residual[neighbours[:, 1:]], -1)) > config.spike
    return points if is_spike.all() else np.asarray(points[~is_spike])


def _support(xz: FloatArray, grid: FloatArray, config: InteractionConfig) -> FloatArray:
    """(…) 1 near any of xz (M, 2), smoothly 0 far from all, on a grid (…, 2)."""
    distance, _ = cKDTree(xz).query(grid, distance_upper_bound=config.fade_end)
    ramp = np.clip((distance - config.fade_start) / (config.fade_end - config.fade_start), 0, 1)
    return np.asarray(1 - ramp**2 * (3 - 2 * ramp))


def _interpolated(xz: FloatArray, residual: FloatArray, at: FloatArray) -> FloatArray:
    """Residuals (M,) at xz (M, 2), at other places (Q, 2): linear between points, the nearest beyond."""
    try:
        found = np.asarray(LinearNDInterpolator(xz, residual)(at))
    except (QhullError, ValueError):  # fewer than three points, or all in one line, span no triangle
        found = np.full(len(at), np.nan)
    beyond = np.isnan(found)
    found[beyond] = residual[cKDTree(xz).query(at[beyond])[1]]
    return found


def _kept(heights: FloatArray, spacing: float, long_edge: float) -> BoolArray:
    """Triangles without a long edge: (X−1, Z−1, 2)."""
    a, b, c, d = heights[:-1, :-1], heights[1:, :-1], heights[1:, 1:], heights[:-1, 1:]
    longest = (long_edge * spacing) ** 2

    def edge(first: FloatArray, second: FloatArray, across: int) -> BoolArray:
        return np.asarray((first - second) ** 2 + across * spacing**2 <= longest)

    diagonal = edge(a, c, 2)
    return np.stack([diagonal & edge(a, b, 1) & edge(b, c, 1), diagonal & edge(a, d, 1) & edge(d, c, 1)], -1)


def _tensor(array: FloatArray) -> Tensor:
    return torch.tensor(array, dtype=torch.float64)
