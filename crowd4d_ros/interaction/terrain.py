"""The lowest elevation that scene points agree on: Eq. 5 for points that are noisy.

The minimum of n noisy points lies some sqrt(2 ln n) deviations too low, the lower the more keyframes there are, and a
ghost below the ground wins outright. Ours instead is the lowest *mode*: the lowest height around which at least
``config.support`` of a block's points gather within their noise. Poles, people and cars above it, and single ghosts
below it, have no say, and more points make it surer, not lower.

A cell of half a metre rarely has the points to tell. So heights are found from coarse blocks to fine ones, each level
correcting the one before by what its own points say, less what their noise alone would: ground is averaged over
metres where it is even, and steps and kerbs stay where enough points show them.

Where the foot of a wall, a pillar or a tree is hidden, the lowest points that are seen are metres up, and the ground
before it would become a ramp that rays at people meet too early. What stands so high and is narrow is no ground, at no
level: a morphological opening of the blocks' heights tells. It costs the top of a crest both of whose flanks fall by
``wall_height`` within ``wall_width``, too; the surface goes straight across it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.surface import reference_plane
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

STARTS = (0.03, 0.15, 0.4)
"""Quantiles of a block's heights where the search for a mode begins, the lowest first."""
ROUNDS = 5
"""Reweightings per start; modes settle in three or four."""
BIWEIGHT_VARIANCE = 1.35
"""What Tukey's weights at ``config.terrain_width`` take from a Gaussian's variance, given back."""
QUARTILE_GAP = 0.4506
"""The lower quartile of |a − b| of two draws from a Gaussian, in its deviations."""
PRIOR_POINTS = 4.0
"""How many points the noise of the level above counts for."""
FEWEST_PAIRS = 20
"""Pairs of points in one cell from which their noise is read; with fewer it is ``NOISE``."""
NOISE = 0.1
"""metres: a per cent of ten metres of camera height."""
LEAST_NOISE = 0.01
"""metres: exact points have rounding and slopes."""
GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, put points in an order that is mixed and always the same."""


@dataclass(frozen=True)
class _Blocks:
    """The blocks of one level. side: metres; shape: (2,); at: (P, 2) points in sides; index: (P,) each one's block."""

    side: float
    shape: IntArray
    at: FloatArray
    index: IntArray

    def sums(self, weight: FloatArray | None = None) -> FloatArray:
        """(B,) of each block's weights (P,), or how many points it has."""
        return np.bincount(self.index, weight, minlength=int(self.shape.prod())).astype(np.float64)

    def of(self, points: IntArray) -> _Blocks:
        """The same blocks, with some of the points alone: indices (Q,)."""
        return _Blocks(self.side, self.shape, self.at[points], self.index[points])


def terrain_heights(points: FloatArray, config: InteractionConfig) -> tuple[FloatArray, BoolArray]:
    """Heights (P,) metres of the terrain at the x and z of points (P, 3), and which points lie on it (P,)."""
    xz, height = points[:, [0, 2]], points[:, 1]
    finest = max(config.cell, float(np.sqrt(np.prod(np.ptp(xz, axis=0)) / config.terrain_nodes)))
    sides = finest * 2.0 ** np.arange(config.terrain_levels - 1, -1, -1)
    corner = np.floor(xz.min(0) / sides[0]) * sides[0]
    coarsest = np.floor((xz.max(0) - corner) / sides[0]).astype(np.int64) + 1
    sigma = point_noise(points, config.cell)
    noise: FloatArray = np.full(len(points), sigma)
    levels = [_blocks(xz - corner, side, coarsest * 2**level) for level, side in enumerate(sides)]
    plane = _low_plane(points, levels[0], config)
    terrain: FloatArray = xz @ plane[:2] + plane[2]
    for blocks in levels:
        step, noise = _corrections(blocks, height - terrain, noise, config.terrain_noise * sigma, config)
        step = step - _walls(blocks, terrain + step[blocks.index], xz @ plane[:2], config)
        terrain = terrain + _between(step.reshape(blocks.shape), blocks.at)
    return terrain, np.abs(height - terrain) < config.terrain_width * noise


def point_noise(points: FloatArray, cell: float) -> float:
    """One deviation, metres, of heights of the surface that most of the points (P, 3) show.

    From differences within cells: their lower quartile, since walls and what stands on the ground give large ones.
    """
    column = np.floor(points[:, [0, 2]] / cell).astype(np.int64)
    mixed = np.modf(np.arange(len(points)) * GOLDEN)[0]  # neighbours in an image share a wall's row
    order = np.lexsort((mixed, column[:, 1], column[:, 0]))
    together = (np.diff(column[order], axis=0) == 0).all(-1)
    gap = np.abs(np.diff(points[order, 1]))[together]
    if len(gap) < FEWEST_PAIRS:
        return NOISE
    return max(float(np.quantile(gap, 0.25)) / QUARTILE_GAP, LEAST_NOISE)


def _blocks(offset: FloatArray, side: float, shape: IntArray) -> _Blocks:
    """Square blocks of that side, metres, and which of them have points at offsets (P, 2) metres from their corner."""
    at = offset / side
    cell = np.minimum(at.astype(np.int64), shape - 1)
    return _Blocks(side, shape, at, cell[:, 0] * shape[1] + cell[:, 1])


def _low_plane(points: FloatArray, blocks: _Blocks, config: InteractionConfig) -> FloatArray:
    """The reference plane (3,) of blocks' low quantiles: from where the first corrections are."""
    count = blocks.sums()
    used = count > 0
    middle = np.stack([blocks.sums(axis)[used] for axis in points.T], -1) / count[used, None]
    middle[:, 1] = _quantile(points[:, 1], blocks, STARTS[1])[used]
    return reference_plane(middle, config)


def _walls(blocks: _Blocks, terrain: FloatArray, plane: FloatArray, config: InteractionConfig) -> FloatArray:
    """(B,) metres by which blocks are above ground that stand ``config.wall_height`` above it, and are narrow; else 0.

    terrain, plane: (P,) heights at the points. Opened are the blocks' heights, and those above the plane, by a square
    of ``config.wall_width`` to each side: the ones spare levels, the others slopes.
    """
    count = blocks.sums()
    heights, slopes = (np.where(count > 0, blocks.sums(a), np.nan) / np.maximum(count, 1) for a in (terrain, plane))
    size = 2 * int(config.wall_width / blocks.side) + 1
    risen = np.fmin(*(h - _opened(h.reshape(blocks.shape), size).ravel() for h in (heights, heights - slopes)))
    return np.where(risen > config.wall_height, risen, 0.0)


def _opened(heights: FloatArray, size: int) -> FloatArray:
    """Morphological opening of heights (X, Z), NaN where unknown, by a square of ``size``, its middle where known."""
    is_known = ~np.isnan(heights)
    eroded = minimum_filter(np.where(is_known, heights, np.inf), size, mode="constant", cval=np.inf)
    return np.asarray(maximum_filter(np.where(is_known, eroded, -np.inf), size, mode="constant", cval=-np.inf))


def _quantile(values: FloatArray, blocks: _Blocks, share: float) -> FloatArray:
    """(B,) of each block's values (P,), zero where it has none."""
    count = blocks.sums().astype(np.int64)
    order = np.lexsort((values, blocks.index))
    rank = np.cumsum(count) - count + np.floor(share * np.maximum(count - 1, 0)).astype(np.int64)
    return np.where(count > 0, values[order][np.minimum(rank, len(values) - 1)], 0.0)


def _corrections(
    blocks: _Blocks, residual: FloatArray, noise: FloatArray, most_noise: float, config: InteractionConfig
) -> tuple[FloatArray, FloatArray]:
    """(B,) metres to add in each block to the level above, and (P,) the points' noise there."""
    count = blocks.sums()
    believed = np.where(count > 0, blocks.sums(noise) / np.maximum(count, 1), 0.0)
    mode, sigma, support = np.zeros_like(count), believed.copy(), np.zeros_like(count)
    enough = np.maximum(config.support_points, config.support * count)
    open_points = np.arange(len(residual))
    for share in STARTS:
        part = blocks.of(open_points)
        found, spread, gathered = _gather(part, residual[open_points], believed, most_noise, share, config)
        settles = (support == 0) & (gathered >= enough)
        mode[settles], sigma[settles], support[settles] = found[settles], spread[settles], gathered[settles]
        open_points = open_points[(support == 0)[part.index]]
        if not len(open_points):
            break
    chance = config.terrain_doubt * sigma / np.sqrt(np.maximum(support, 1.0))
    share_kept = np.clip(1 - (chance / np.where(mode == 0, 1.0, mode)) ** 2, 0, None)
    return np.where(support > 0, share_kept * mode, 0.0), sigma[blocks.index]


def _gather(
    blocks: _Blocks, residual: FloatArray, believed: FloatArray, most: float, share: float, config: InteractionConfig
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Each block's mode above its quantile ``share``, the deviation around it and how many points gather there (B,)."""
    mode, sigma = _quantile(residual, blocks, share), np.maximum(believed, LEAST_NOISE)
    weight_sum = np.zeros_like(mode)
    for _ in range(ROUNDS):
        error = residual - mode[blocks.index]
        weight = np.clip(1 - (error / (config.terrain_width * sigma)[blocks.index]) ** 2, 0, None) ** 2
        weight_sum = blocks.sums(weight)
        mean = blocks.sums(weight * error) / np.maximum(weight_sum, 1e-9)
        square = blocks.sums(weight * error**2) - weight_sum * mean**2
        mode = mode + mean
        variance = (BIWEIGHT_VARIANCE * square + PRIOR_POINTS * believed**2) / (weight_sum + PRIOR_POINTS)
        sigma = np.clip(np.sqrt(np.maximum(variance, 0)), LEAST_NOISE, max(most, LEAST_NOISE))
    return mode, sigma, weight_sum


def _between(values: FloatArray, at: FloatArray) -> FloatArray:
    """Values (X, Z) at the middles of blocks, between them at (P, 2) block sides: linear in either direction."""
    last = np.array(values.shape) - 1
    grid = np.clip(at - 0.5, 0, last)
    near = np.minimum(grid.astype(np.int64), np.maximum(last - 1, 0))
    far = np.minimum(near + 1, last)
    u, v = (grid - near).T
    (i, j), (k, m) = near.T, far.T
    low, high = values[i, j] * (1 - u) + values[k, j] * u, values[i, m] * (1 - u) + values[k, m] * u
    return np.asarray(low * (1 - v) + high * v)
