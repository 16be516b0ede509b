"""The Scene Interaction Surface (SIS): a triangulated height field that falls back to a plane (Eq. 6)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError, cKDTree

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.window import BoolArray, FloatArray, IntArray, SurfaceMesh

logger = logging.getLogger(__name__)

TUKEY = 4.685
"""robust sigmas: the biweight's customary width, 95% efficient on Gaussian noise."""
ROBUST = 1.4826
"""The median of absolute Gaussian deviations times this is their sigma."""
PLANE_ROUNDS = 15
"""Reweightings of the reference plane toward the least absolute residual, and as many with the biweight."""
LEAST_SIGMA, LEAST_DISTANCE = 0.01, 0.1
"""metres, and sigmas: points that fit exactly must not weigh without bound."""
CROSSINGS_AT_ONCE = 300_000
"""Crossings of rays with grid lines held in memory at once: some 100 MB."""

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

    def plane_height(self, xz: FloatArray) -> FloatArray:
        """The reference plane's height (…) metres at xz (…, 2)."""
        return np.asarray(xz @ self.plane[:2] + self.plane[2])

    def height(self, xz: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Vertical projection (Eq. 15): heights (…) metres at xz (…, 2), and whether the mesh is there.

        Over a dropped triangle the height is still that triangle's; beyond the grid it is the plane's.
        """
        grid = self._grid(xz)
        inside = self._inside(grid)
        on_grid = np.where(inside[..., None], grid, 0.0)
        height = np.where(inside, self._interpolated(on_grid), self.plane_height(xz))
        return height, inside & self._on_mesh(on_grid)

    def side(self, points: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Inside or outside: (…) metres that points (…, 3) are above the surface, and whether the mesh is there.

        Negative is below. Vertically measured: a height field has no other inside.
        """
        height, on_mesh = self.height(points[..., [0, 2]])
        return np.asarray(points[..., 1] - height), on_mesh

    def observed(self, xz: FloatArray) -> FloatArray:
        """How far (…) in [0, 1] the height at xz (…, 2) was observed; 0 beyond the grid."""
        grid = self._grid(xz)
        inside = self._inside(grid)
        if self.support is None:
            return inside.astype(np.float64)
        node = np.rint(np.where(inside[..., None], grid, 0.0)).astype(np.int64)
        return np.where(inside, self.support[node[..., 0], node[..., 1]], 0.0)

    def slope(self, xz: FloatArray) -> FloatArray:
        """Metres of height per metre (…) at xz (…, 2), the steepest way, over a cell to either side."""
        step = self.spacing * np.eye(2)
        rises = [self.height(xz + axis)[0] - self.height(xz - axis)[0] for axis in step]
        return np.asarray(np.hypot(*rises) / (2 * self.spacing))

    def intersect(self, origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, BoolArray]:
        """First meeting of the rays origin + mu·direction, mu > 0, with the surface (Eq. 10).

        origins, directions: (…, 3), directions of any length but zero. Returns mu (…), and hit (…): it is the
        mesh that was met. Where the mesh is missed but the reference plane is met beyond the grid, mu is the
        plane's and hit is False; where neither is met, mu is 0.

        Along a ray the clearance over a triangulated height field is linear between crossings of grid lines
        and diagonals: the first sign change between sorted crossings is the exact answer, without a tree.
        """
        return self._meetings(origins, directions, None)

    def _meetings(
        self, origins: FloatArray, directions: FloatArray, near: tuple[float, float] | None
    ) -> tuple[FloatArray, BoolArray]:
        """The first meetings, or within ``near`` those nearest to mu = 1 from above."""
        lead = np.broadcast_shapes(origins.shape, directions.shape)[:-1]
        origin = np.broadcast_to(origins, (*lead, 3)).reshape(-1, 3).astype(np.float64)
        direction = np.broadcast_to(directions, (*lead, 3)).reshape(-1, 3).astype(np.float64)
        start, end = self._interval(origin, direction)
        if near is not None:
            start, end = np.maximum(start, near[0]), np.minimum(end, near[1])
        first, count = self._crossings(origin, direction, start, end)
        mu, hit = np.zeros(len(origin)), np.zeros(len(origin), bool)
        may_hit = np.flatnonzero(start < end)
        for rays in _chunks(may_hit[np.argsort(count.sum(-1)[may_hit], kind="stable")], count.sum(-1)):
            mu[rays], hit[rays] = self._hits(
                origin[rays], direction[rays], start[rays], end[rays], first[rays], count[rays], near is not None
            )
        beyond = self._plane_beyond(origin, direction)
        return np.where(hit, mu, beyond).reshape(lead), hit.reshape(lead)

    def nearest(self, origins: FloatArray, directions: FloatArray, ratio: float) -> FloatArray:
        """mu (…) of that meeting of the rays (…, 3) with the surface from above that is nearest to 1; or 0.

        The mesh's, of which those with mu in (1/ratio, ratio) count; without one the reference plane's beyond the grid.
        """
        return self._meetings(origins, directions, (1 / ratio, ratio))[0]

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
    def _last(self) -> FloatArray:
        return np.array(self.heights.shape) - 1.0

    @cached_property
    def _residual_range(self) -> tuple[float, float]:
        mesh_x, mesh_z = np.indices(self.heights.shape) * self.spacing
        xz = np.stack([mesh_x + self.corner[0], mesh_z + self.corner[1]], -1)
        residual = self.heights - self.plane_height(xz)
        slack = 1e-6 * self.spacing
        return float(residual.min()) - slack, float(residual.max()) + slack

    def _grid(self, xz: FloatArray) -> FloatArray:
        return np.asarray((xz - self.corner) / self.spacing)

    def _inside(self, grid: FloatArray) -> BoolArray:
        return np.asarray(((grid >= 0) & (grid <= self._last)).all(-1))

    def _cell(self, grid: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Index, fraction and triangle (0 or 1) of grid coordinates (…, 2) inside the grid."""
        index = np.clip(np.floor(grid), 0, self._last - 1).astype(np.int64)
        fraction = grid - index
        return index, fraction, (fraction[..., 1] > fraction[..., 0]).astype(np.int64)

    def _interpolated(self, grid: FloatArray) -> FloatArray:
        """Heights (…) metres at grid coordinates (…, 2) inside the grid."""
        index, fraction, triangle = self._cell(grid)
        heights, row = self.heights.ravel(), self.heights.shape[1]
        node = index[..., 0] * row + index[..., 1]
        near, far = heights[node], heights[node + row + 1]
        side = heights[node + np.where(triangle == 0, row, 1)]
        u, v = fraction[..., 0], fraction[..., 1]
        return np.asarray(near + np.maximum(u, v) * (side - near) + np.minimum(u, v) * (far - side))

    def _on_mesh(self, grid: FloatArray) -> BoolArray:
        """Whether the mesh has the triangle (…) at grid coordinates (…, 2) inside the grid."""
        index, _, triangle = self._cell(grid)
        return np.asarray(self.kept[index[..., 0], index[..., 1], triangle])

    def _interval(self, origin: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The part of each ray over the grid and between the residuals' extremes, where a hit can be."""
        low, high = self._residual_range
        clearance = origin[:, 1] - self.plane_height(origin[:, [0, 2]])
        descent = direction[:, 1] - direction[:, [0, 2]] @ self.plane[:2]
        position = np.concatenate([self._grid(origin[:, [0, 2]]), clearance[:, None]], -1)
        rate = np.concatenate([direction[:, [0, 2]] / self.spacing, descent[:, None]], -1)
        lower, upper = np.array([0.0, 0.0, low]), np.array([*self._last, high])
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (lower - position) / rate, (upper - position) / rate
        never = (rate == 0) & ((position < lower) | (position > upper))
        enter = np.where(rate == 0, -np.inf, np.minimum(near, far))
        leave = np.where(rate == 0, np.inf, np.maximum(near, far))
        start, end = np.maximum(enter.max(-1), 0.0), leave.min(-1)
        return start, np.where(never.any(-1) | ~np.isfinite(end), -np.inf, end)

    def _families(self, origin: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coordinates, whole on the mesh's lines, in x, z and along the diagonal, and their rates (R, 3)."""
        position, rate = self._grid(origin[:, [0, 2]]), direction[:, [0, 2]] / self.spacing
        return (
            np.concatenate([position, position[:, :1] - position[:, 1:]], -1),
            np.concatenate([rate, rate[:, :1] - rate[:, 1:]], -1),
        )

    def _crossings(
        self, origin: FloatArray, direction: FloatArray, start: FloatArray, end: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """First line crossed in each family and how many (R, 3)."""
        position, rate = self._families(origin, direction)
        met = (start < end)[:, None]
        ends = position[..., None] + rate[..., None] * np.where(met, np.stack([start, end], -1), 0.0)[:, None]
        first, last = np.ceil(ends.min(-1)), np.floor(ends.max(-1))
        return first, np.where(met & (rate != 0), np.maximum(last - first + 1, 0), 0).astype(np.int64)

    def _hits(
        self,
        origin: FloatArray,
        direction: FloatArray,
        start: FloatArray,
        end: FloatArray,
        first: FloatArray,
        count: IntArray,
        is_nearest: bool,
    ) -> tuple[FloatArray, BoolArray]:
        """mu and whether the mesh is met (R,): of rays cut at all their crossings, which are padded with their end."""
        position, rate = self._families(origin, direction)
        crossings = [start[:, None], end[:, None]]
        for family in range(3):
            line = np.arange(count[:, family].max(initial=0))
            met = line < count[:, family, None]
            safe_rate = np.where(rate[:, family] == 0, 1.0, rate[:, family])[:, None]
            at = (first[:, family, None] + line - position[:, family, None]) / safe_rate
            crossings.append(np.where(met, np.clip(at, start[:, None], end[:, None]), end[:, None]))
        at = np.sort(np.concatenate(crossings, -1), -1)
        points = origin[:, None] + at[..., None] * direction[:, None]
        clearance = points[..., 1] - self._interpolated(np.clip(self._grid(points[..., [0, 2]]), 0, self._last))
        middle = 0.5 * (points[:, 1:] + points[:, :-1])[..., [0, 2]]
        kept = self._on_mesh(np.clip(self._grid(middle), 0, self._last))
        above, below = clearance[:, :-1], clearance[:, 1:]
        meets = (np.sign(above) * np.sign(below) <= 0) & kept
        difference = above - below
        touches = difference == 0
        mu = at[:, :-1] + np.where(touches, 0.0, above / np.where(touches, 1.0, difference)) * np.diff(at)
        if is_nearest:
            meets &= above >= 0
            segment = np.where(meets, np.abs(mu - 1), np.inf).argmin(-1)
        else:
            segment = meets.argmax(-1)
        row = np.arange(len(at))
        return mu[row, segment], meets[row, segment]

    def _plane_beyond(self, origin: FloatArray, direction: FloatArray) -> FloatArray:
        """mu (R,) at which the rays meet the reference plane beyond the grid, else 0."""
        clearance = origin[:, 1] - self.plane_height(origin[:, [0, 2]])
        descent = direction[:, 1] - direction[:, [0, 2]] @ self.plane[:2]
        mu = np.where(descent == 0, 0.0, -clearance / np.where(descent == 0, 1.0, descent))
        mu = np.where(np.isfinite(mu), mu, 0.0)
        grid = self._grid((origin + mu[:, None] * direction)[:, [0, 2]])
        inside = self._inside(grid)
        return np.where((mu > 0) & ~inside, mu, 0.0)


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


def _chunks(rays: IntArray, crossings: IntArray) -> list[IntArray]:
    """Rays, sorted by their number of crossings, in runs whose padded table stays within bounds."""
    if not len(rays):
        return []
    widths = crossings[rays] + 2
    pieces, begin = [], 0
    while begin < len(rays):
        # widths only grow: the largest run whose last, widest ray still fits the table
        room = np.arange(1, len(rays) - begin + 1) * widths[begin:] <= CROSSINGS_AT_ONCE
        size = max(int(np.count_nonzero(room)), 1)
        pieces.append(rays[begin : begin + size])
        begin += size
    return pieces
