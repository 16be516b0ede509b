"""The social-force model: what pushes and pulls a walker, and what nobody's velocity may do.

Helbing and Molnár 1995, with the relative velocities of Johansson et al. 2007, and groups of Moussaïd et al. 2010.
All vectors are (x, z) in metres and seconds; P people, K pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

TINY = 1e-6
"""Metres and metres per second: a length below has no direction."""
ROUNDS = 4
"""Sweeps over all pairs that brake: braking for one neighbour may close in on the next."""
GAPS_PER_STEP = 4.0
"""A gap is closed by a quarter a step at most: then it is never overshot."""


@dataclass(frozen=True)
class Pairs:
    """Everybody near everybody: first and second (K,) rows, apart (K, 2) from the second to the first, metres."""

    first: IntArray
    second: IntArray
    apart: FloatArray
    distance: FloatArray

    @classmethod
    def near(cls, position: FloatArray, reach: float) -> Pairs:
        """Pairs among position (P, 2) within ``reach`` metres."""
        first, second = cKDTree(position).query_pairs(reach, output_type="ndarray").T
        apart = position[first] - position[second]
        return cls(first, second, apart, np.maximum(np.linalg.norm(apart, axis=-1), TINY))

    def take(self, rows: BoolArray) -> Pairs:
        """Some of the pairs, (K,) bool."""
        return Pairs(self.first[rows], self.second[rows], self.apart[rows], self.distance[rows])

    def gathered(self, on_first: FloatArray, on_second: FloatArray, people: int) -> FloatArray:
        """Sums (people, 2) of what acts on each pair's two (K, 2)."""
        row = np.concatenate([self.first, self.second])
        both = np.concatenate([on_first, on_second])
        # of no pairs, bincount makes integers
        return np.stack([np.bincount(row, both[:, axis], people) for axis in (0, 1)], -1).astype(np.float64)


def unit(vector: FloatArray) -> FloatArray:
    """Directions (…, 2); zero where there is none."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.maximum(length, TINY))


def bounded(vector: FloatArray, longest: float) -> FloatArray:
    """Vectors (…, 2) cut at a length."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector * np.minimum(1.0, longest / np.maximum(length, TINY)))


def repulsion(pairs: Pairs, velocity: FloatArray, facing: FloatArray, config: PathsConfig) -> FloatArray:
    """Accelerations (P, 2) away from where others will be: the elliptical potential A B exp(−b / B).

    2 b = sqrt((|r| + |r − y|)² − |y|²), with r towards oneself and y the other's way during ``foresight``, seen from
    oneself. What happens behind (facing: (P, 2) unit) counts less.
    """
    r = pairs.apart
    y = (velocity[pairs.second] - velocity[pairs.first]) * config.foresight
    ahead = r - y
    length = np.maximum(np.linalg.norm(ahead, axis=-1), TINY)
    both = pairs.distance + length
    b = 0.5 * np.sqrt(np.maximum(both**2 - (y**2).sum(-1), TINY))
    strength = config.repulsion * np.exp((0.5 * config.separation - b) / config.repulsion_range) * both / (4 * b)
    direction = r / pairs.distance[:, None]
    push = strength[:, None] * (direction + ahead / length[:, None])

    def attention(row: IntArray, towards: FloatArray) -> FloatArray:
        cosine = (facing[row] * towards).sum(-1, keepdims=True)
        return np.asarray(config.sideways + (1 - config.sideways) * 0.5 * (1 + cosine))

    on_first, on_second = push * attention(pairs.first, -direction), -push * attention(pairs.second, direction)
    return pairs.gathered(on_first, on_second, len(velocity))


def wall_repulsion(room: FloatArray, away: FloatArray, config: PathsConfig) -> FloatArray:
    """Accelerations (P, 2) away from structures: room (P,) metres to them, away (P, 2) its gradient."""
    return np.asarray(config.wall_repulsion * np.exp(-np.maximum(room, 0.0) / config.wall_range)[:, None] * away)


def group_forces(
    position: FloatArray, velocity: FloatArray, wanted: FloatArray, group: IntArray, config: PathsConfig
) -> FloatArray:
    """Accelerations (P, 2) of members of groups (P,): −β1 α V of the gaze, and β2 towards the middle (Moussaïd).

    wanted: (P, 2) unit, where they want to go. The middle is to be in the field of ``vision``; α is what the head has
    to turn for that. The pull sets in (n − 1) / 2 metres from the middle, smoothly.
    """
    count = np.bincount(group)[group]
    middle = np.stack([np.bincount(group, position[:, axis])[group] for axis in (0, 1)], -1) / count[:, None]
    to_middle = middle - position
    distance = np.linalg.norm(to_middle, axis=-1)
    direction = unit(to_middle)
    angle = np.arccos(np.clip((direction * wanted).sum(-1), -1.0, 1.0))
    turned = np.maximum(angle - np.radians(config.vision), 0.0)
    excess = np.maximum(distance - 0.5 * (count - 1), 0.0)
    pull = config.cohesion * np.tanh(excess)[:, None] * direction
    return np.asarray(np.where((count > 1)[:, None], pull - config.gaze * turned[:, None] * velocity, 0.0))


def spread(pairs: Pairs, people: int, config: PathsConfig) -> FloatArray:
    """Accelerations (P, 2) between members of a group nearer than abreast."""
    push = config.spreading * np.maximum(config.abreast - pairs.distance, 0.0) / pairs.distance
    return pairs.gathered(push[:, None] * pairs.apart, -push[:, None] * pairs.apart, people)


def _allowed(gap: FloatArray, braking: float, step: float) -> FloatArray:
    """Speeds (…) towards something a gap away from which one can still stop; negative where it was passed."""
    return np.asarray(np.minimum(np.sqrt(2 * braking * np.maximum(gap, 0.0)), gap / (GAPS_PER_STEP * step)))


def braked(pairs: Pairs, velocity: FloatArray, yields: BoolArray, step: float, config: PathsConfig) -> FloatArray:
    """Velocities (P, 2) at which all can still stop before they touch. yields: (P,) who may be braked at all."""
    share = yields[pairs.first] * 1.0
    total = share + yields[pairs.second]
    share = share / np.maximum(total, 1.0)
    rest = (total > 0) - share
    direction = pairs.apart / pairs.distance[:, None]
    allowed = _allowed(pairs.distance - config.separation, 2 * config.braking, step)
    for _ in range(ROUNDS):
        closing = -((velocity[pairs.first] - velocity[pairs.second]) * direction).sum(-1)
        excess = np.maximum(closing - allowed, 0.0)[:, None] * direction
        velocity = velocity + pairs.gathered(share[:, None] * excess, -rest[:, None] * excess, len(velocity))
    return velocity


def kept_off(room: FloatArray, away: FloatArray, velocity: FloatArray, step: float, config: PathsConfig) -> FloatArray:
    """Velocities (P, 2) at which everybody can still stop before a structure."""
    slope = np.linalg.norm(away, axis=-1)
    direction = unit(away)
    closing = -(velocity * direction).sum(-1)
    allowed = _allowed(room / np.maximum(slope, 0.5), 2 * config.braking, step)
    return np.asarray(velocity + np.maximum(closing - allowed, 0.0)[:, None] * direction)
