"""Questions to a triangulated height field, for all points and rays at once, on any device (Eq. 10, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CROSSINGS_AT_ONCE = 300_000
"""Crossings of rays with grid lines held in memory at once: some 100 MB."""
X, Y, Z = 0, 1, 2
"""World axes: the field is a height y over the plane of x and z."""


@dataclass(frozen=True)
class HeightField:
    """``surface.Surface`` on a device; its words hold here: heights, corner, spacing, kept, plane, support."""

    heights: Tensor
    corner: Tensor
    spacing: float
    kept: Tensor
    plane: Tensor
    support: Tensor | None

    def plane_height(self, xz: Tensor) -> Tensor:
        """The reference plane's height (…) metres at xz (…, 2)."""
        return xz @ self.plane[:2] + self.plane[2]

    def height(self, xz: Tensor) -> tuple[Tensor, Tensor]:
        """Vertical projection (Eq. 15): heights (…) metres at xz (…, 2), and whether the mesh is there.

        Over a dropped triangle the height is still that triangle's; beyond the grid it is the plane's.
        """
        grid = self._grid(xz)
        inside = self._inside(grid)
        on_grid = torch.where(inside[..., None], grid, 0.0)
        height = torch.where(inside, self._interpolated(on_grid), self.plane_height(xz))
        return height, inside & self._on_mesh(on_grid)

    def observed(self, xz: Tensor) -> Tensor:
        """How far (…) in [0, 1] the height at xz (…, 2) was observed; 0 beyond the grid."""
        grid = self._grid(xz)
        inside = self._inside(grid)
        if self.support is None:
            return inside.to(xz.dtype)
        node = torch.where(inside[..., None], grid, 0.0).round().long()
        return torch.where(inside, self.support[node[..., 0], node[..., 1]], 0.0)

    def slope(self, xz: Tensor) -> Tensor:
        """Metres of height per metre (…) at xz (…, 2), the steepest way, over a cell to either side."""
        steps = self.spacing * torch.eye(2, dtype=xz.dtype, device=xz.device)
        rises = [self.height(xz + step)[0] - self.height(xz - step)[0] for step in steps]
        return torch.hypot(*rises) / (2 * self.spacing)

    def meetings(
        self, origins: Tensor, directions: Tensor, near: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """mu (…) where rays origin + mu·direction, (…, 3), first meet the field, and hit (…): whether its mesh is met.

        near: only the mesh's meetings from above with mu in it, and of these the one nearest to 1. Where the mesh is
        not met, mu is the reference plane's beyond the grid, or 0.

        Along a ray the clearance over a triangulated height field is linear between crossings of grid lines
        and diagonals: the first sign change between sorted crossings is the exact answer, without a tree.
        """
        lead = (origins + directions).shape[:-1]
        origin, direction = (rays.expand(*lead, 3).reshape(-1, 3) for rays in (origins, directions))
        start, end = self._interval(origin, direction)
        if near is not None:
            start, end = start.clamp(min=near[0]), end.clamp(max=near[1])
        first, count = self._crossings(origin, direction, start, end)
        mu, hit = origin.new_zeros(len(origin)), origin.new_zeros(len(origin), dtype=torch.bool)
        for rays in _chunks(torch.nonzero(start < end)[:, 0], count.sum(-1)):
            mu[rays], hit[rays] = self._hits(
                origin[rays], direction[rays], start[rays], end[rays], first[rays], count[rays], near is not None
            )
        beyond = self._plane_beyond(origin, direction)
        return torch.where(hit, mu, beyond).reshape(lead), hit.reshape(lead)

    @cached_property
    def _last(self) -> Tensor:
        return torch.tensor(self.heights.shape, dtype=self.heights.dtype, device=self.heights.device) - 1

    @cached_property
    def _residual_range(self) -> tuple[Tensor, Tensor]:
        axes = [torch.arange(n, dtype=self.heights.dtype, device=self.heights.device) for n in self.heights.shape]
        node = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        residual = self.heights - self.plane_height(node * self.spacing + self.corner)
        slack = 1e-6 * self.spacing
        return residual.min() - slack, residual.max() + slack

    def _grid(self, xz: Tensor) -> Tensor:
        return (xz - self.corner) / self.spacing

    def _inside(self, grid: Tensor) -> Tensor:
        return ((grid >= 0) & (grid <= self._last)).all(-1)

    def _on_grid(self, grid: Tensor) -> Tensor:
        return grid.clamp(min=0).minimum(self._last)

    def _cell(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Index, fraction and triangle (0 or 1) of grid coordinates (…, 2) inside the grid."""
        index = grid.floor().clamp(min=0).minimum(self._last - 1)
        fraction = grid - index
        return index.long(), fraction, (fraction[..., 1] > fraction[..., 0]).long()

    def _interpolated(self, grid: Tensor) -> Tensor:
        """Heights (…) metres at grid coordinates (…, 2) inside the grid."""
        index, fraction, triangle = self._cell(grid)
        heights, row = self.heights.flatten(), self.heights.shape[1]
        node = index[..., 0] * row + index[..., 1]
        near, far = heights[node], heights[node + row + 1]
        side = heights[node + torch.where(triangle == 0, row, 1)]
        return near + fraction.amax(-1) * (side - near) + fraction.amin(-1) * (far - side)

    def _on_mesh(self, grid: Tensor) -> Tensor:
        """Whether the mesh has the triangle (…) at grid coordinates (…, 2) inside the grid."""
        index, _, triangle = self._cell(grid)
        return self.kept[index[..., 0], index[..., 1], triangle]

    def _clearance(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Of rays (R, 3) over the reference plane: metres at their origins, and metres per mu."""
        clearance = origin[:, Y] - self.plane_height(origin[:, [X, Z]])
        return clearance, direction[:, Y] - direction[:, [X, Z]] @ self.plane[:2]

    def _interval(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """The part of each ray over the grid and between the residuals' extremes, where a hit can be."""
        low, high = self._residual_range
        clearance, descent = self._clearance(origin, direction)
        position = torch.cat([self._grid(origin[:, [X, Z]]), clearance[:, None]], -1)
        rate = torch.cat([direction[:, [X, Z]] / self.spacing, descent[:, None]], -1)
        lower = torch.cat([torch.zeros_like(self._last), low[None]])
        upper = torch.cat([self._last, high[None]])
        near, far = (lower - position) / rate, (upper - position) / rate
        never = (rate == 0) & ((position < lower) | (position > upper))
        enter = torch.where(rate == 0, -torch.inf, torch.minimum(near, far))
        leave = torch.where(rate == 0, torch.inf, torch.maximum(near, far))
        start, end = enter.amax(-1).clamp(min=0), leave.amin(-1)
        return start, torch.where(never.any(-1) | ~end.isfinite(), -torch.inf, end)

    def _families(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates, whole on the mesh's lines, in x, z and along the diagonal, and their rates (R, 3)."""
        position, rate = self._grid(origin[:, [X, Z]]), direction[:, [X, Z]] / self.spacing
        return (
            torch.cat([position, position[:, :1] - position[:, 1:]], -1),
            torch.cat([rate, rate[:, :1] - rate[:, 1:]], -1),
        )

    def _crossings(self, origin: Tensor, direction: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """First line crossed in each family and how many (R, 3)."""
        position, rate = self._families(origin, direction)
        met = (start < end)[:, None]
        ends = position[..., None] + rate[..., None] * torch.where(met, torch.stack([start, end], -1), 0.0)[:, None]
        first, last = ends.amin(-1).ceil(), ends.amax(-1).floor()
        return first, torch.where(met & (rate != 0), (last - first + 1).clamp(min=0), 0.0).long()

    def _hits(
        self,
        origin: Tensor,
        direction: Tensor,
        start: Tensor,
        end: Tensor,
        first: Tensor,
        count: Tensor,
        is_nearest: bool,
    ) -> tuple[Tensor, Tensor]:
        """mu and whether the mesh is met (R,): of rays cut at all their crossings, which are padded with their end."""
        position, rate = self._families(origin, direction)
        crossings = [start[:, None], end[:, None]]
        for family in range(3):
            line = torch.arange(int(count[:, family].max()), device=count.device)
            met = line < count[:, family, None]
            safe_rate = torch.where(rate[:, family] == 0, 1.0, rate[:, family])[:, None]
            at = (first[:, family, None] + line - position[:, family, None]) / safe_rate
            crossings.append(torch.where(met, at.maximum(start[:, None]).minimum(end[:, None]), end[:, None]))
        at = torch.cat(crossings, -1).sort(-1).values
        points = origin[:, None] + at[..., None] * direction[:, None]
        clearance = points[..., Y] - self._interpolated(self._on_grid(self._grid(points[..., [X, Z]])))
        middle = 0.5 * (points[:, 1:] + points[:, :-1])[..., [X, Z]]
        above, below = clearance[:, :-1], clearance[:, 1:]
        meets = (above.sign() * below.sign() <= 0) & self._on_mesh(self._on_grid(self._grid(middle)))
        difference = above - below
        touches = difference == 0
        mu = at[:, :-1] + torch.where(touches, 0.0, above / torch.where(touches, 1.0, difference)) * at.diff(dim=-1)
        if is_nearest:
            meets &= above >= 0
            segment = torch.where(meets, (mu - 1).abs(), torch.inf).argmin(-1, keepdim=True)
        else:
            segment = meets.byte().argmax(-1, keepdim=True)
        return mu.gather(-1, segment)[:, 0], meets.gather(-1, segment)[:, 0]

    def _plane_beyond(self, origin: Tensor, direction: Tensor) -> Tensor:
        """mu (R,) at which the rays meet the reference plane beyond the grid, else 0."""
        clearance, descent = self._clearance(origin, direction)
        mu = torch.where(descent == 0, 0.0, -clearance / torch.where(descent == 0, 1.0, descent))
        mu = torch.where(mu.isfinite(), mu, 0.0)
        inside = self._inside(self._grid((origin + mu[:, None] * direction)[:, [X, Z]]))
        return torch.where((mu > 0) & ~inside, mu, 0.0)


def _chunks(rays: Tensor, crossings: Tensor) -> list[Tensor]:
    """Rays (M,), ordered by their number of crossings (R,), in runs whose padded table stays within bounds."""
    ordered, order = (crossings[rays] + 2).sort(stable=True)
    rays, widths = rays[order], ordered.cpu()
    pieces, begin = [], 0
    while begin < len(rays):
        # widths only grow: the largest run whose last, widest ray still fits the table
        room = torch.arange(1, len(rays) - begin + 1) * widths[begin:] <= CROSSINGS_AT_ONCE
        size = max(int(room.count_nonzero()), 1)
        pieces.append(rays[begin : begin + size])
        begin += size
    return pieces
