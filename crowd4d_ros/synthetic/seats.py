"""Seats, and how people get onto them and off again."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.headings import forward, smoothstep
from crowd4d_ros.synthetic.navigation import Ground, Routes
from crowd4d_ros.synthetic.truth import Scene
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

BACKING = 1.0
"""s: backing up to a seat takes as long at least, however near it is."""


@dataclass(frozen=True)
class Seats:
    """at: (S, 2) metres, x and z of the middle; height: (S,) metres; facing: (S, 2) unit; heading: (S,) radians.

    approach: (S, 2) metres, the nearest spot in front where somebody can stand. front: (S, 2) where the pelvis is
    before sitting down. usable: (S,) whether it can be reached, in the region.
    """

    at: FloatArray
    height: FloatArray
    facing: FloatArray
    heading: FloatArray
    approach: FloatArray
    front: FloatArray
    usable: BoolArray

    @classmethod
    def of(cls, scene: Scene, ground: Ground, routes: Routes, config: PathsConfig) -> Seats:
        """The seats of a scene."""
        at = scene.seats.reshape(-1, 3)[:, [0, 2]]
        facing = forward(scene.seat_heading)
        out = np.arange(config.sit_reach, config.sit_approach, 0.5 * ground.spacing)
        spots = at[:, None] + out[:, None] * facing[:, None]
        is_open = ground.at(spots)[..., 0] > ground.edge
        approach = spots[np.arange(len(at)), is_open.argmax(-1)]
        node = routes.node_of(approach)
        near = np.linalg.norm(routes.nodes[node] - approach, axis=-1) < 2 * routes.cell
        seen = ground.is_open(approach, routes.nodes[node], ground.spacing)
        usable = is_open.any(-1) & near & seen & routes.wanted[node]
        if len(at) and not usable.any():
            logger.info("no seat can be reached in the region")
        front = at + config.sit_reach * facing
        return cls(at, scene.seats.reshape(-1, 3)[:, 1], facing, scene.seat_heading, approach, front, usable)

    def free(self, taken: IntArray, config: PathsConfig) -> BoolArray:
        """Seats (S,) that can be reached with nobody on them or too near."""
        gaps = np.linalg.norm(self.at[:, None] - self.at[taken], axis=-1)
        return np.asarray(self.usable & (gaps >= config.sit_spacing).all(-1))

    def together(self, first: int, count: int, taken: IntArray, config: PathsConfig) -> IntArray | None:
        """``count`` free seats, the nearest to ``first`` that are not too near each other; None if there are none."""
        chosen: list[int] = []
        distance = np.linalg.norm(self.at - self.at[first], axis=-1)
        while len(chosen) < count:
            free = self.free(np.append(taken, chosen).astype(np.int64), config) & (distance < config.sit_together)
            if not free.any():
                return None
            chosen.append(int(np.where(free, distance, np.inf).argmin()))
        return np.array(chosen)

    def backing(self, seat: IntArray, start: FloatArray, config: PathsConfig) -> FloatArray:
        """Seconds (P,) from where somebody turned (P, 2) to the front of a seat (P,)."""
        way = np.linalg.norm(self.front[seat] - start, axis=-1)
        return np.asarray(np.maximum(way / config.backing_speed, BACKING))

    def position(self, seat: IntArray, start: FloatArray, clock: FloatArray, config: PathsConfig) -> FloatArray:
        """(P, 2) metres, clock (P,) seconds after somebody began to back up to a seat (P,) from start (P, 2).

        Back to its front, onto it, to its front again, and to where it began; who stays seated stops the clock.
        """
        backing, down = self.backing(seat, start, config), config.sit_down
        seated = smoothstep((clock - backing) / down) - smoothstep((clock - backing - down) / down)
        at_front = smoothstep(clock / backing) - smoothstep((clock - backing - 2 * down) / backing)
        front = self.front[seat]
        onto = seated[:, None] * (self.at[seat] - front)
        return np.asarray(start + at_front[:, None] * (front - start) + onto)
