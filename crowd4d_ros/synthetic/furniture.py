"""What makes a place of a terrain: buildings, trees, lamps, benches, kiosks and cars, set on the ground."""

from __future__ import annotations

import numpy as np

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.truth import Structures
from crowd4d_ros.window import FloatArray

SEAT_HEIGHT = 0.45
"""metres: benches and steps made for sitting."""
SEAT_WIDTH = 0.6
"""metres of a bench for each who sits there."""
BENCH_DEPTH = 0.45
"""metres."""
TRIES = 200
"""for a free spot: a place that is full stays as it is."""


class Site:
    """A terrain on which things are put, one after the other; the middle of each at (x, z), its yaw as headings are.

    Undersides reach below the lowest ground they cover, so that nothing floats over a slope.
    """

    def __init__(self, terrain: Surface, rng: np.random.Generator) -> None:
        self.terrain = terrain
        self.rng = rng
        self._boxes: list[list[float]] = []
        self._cylinders: list[list[float]] = []
        self._seats: list[list[float]] = []
        self._taken: list[list[float]] = []

    def height(self, x: float, z: float) -> float:
        """The ground's, metres."""
        return float(self._heights(np.array([x, z])))

    def _heights(self, xz: FloatArray) -> FloatArray:
        """Beyond the terrain, its edge goes on level."""
        extent = self.terrain.spacing * (np.array(self.terrain.heights.shape) - 1)
        return self.terrain.height(np.clip(xz, self.terrain.corner, self.terrain.corner + extent))[0]

    def box(self, x: float, z: float, size: tuple[float, float, float], yaw: float = 0.0, lift: float = 0.0) -> None:
        """A box of ``size`` metres along its own x, up and its own z; ``lift`` metres above the ground."""
        width, height, depth = size
        middle = self.height(x, z)
        along, across = np.array([np.cos(yaw), -np.sin(yaw)]), np.array([np.sin(yaw), np.cos(yaw)])
        corners = [[x, z] + i * width / 2 * along + j * depth / 2 * across for i in (-1, 1) for j in (-1, 1)]
        underside = middle + lift if lift else min(middle, float(self._heights(np.array(corners)).min()))
        top = middle + lift + height
        self._boxes.append([x, underside, z, width, top - underside, depth, yaw])
        self._taken.append([x, z, float(np.hypot(width, depth)) / 2])

    def cylinder(self, x: float, z: float, radius: float, height: float, lift: float = 0.0) -> None:
        """An upright cylinder, ``lift`` metres above the ground."""
        middle = self.height(x, z)
        rim = np.array([[x - radius, z], [x + radius, z], [x, z - radius], [x, z + radius]])
        underside = middle + lift if lift else min(middle, float(self._heights(rim).min()))
        self._cylinders.append([x, underside, z, radius, middle + lift + height - underside])
        self._taken.append([x, z, radius if not lift else 0.0])

    def tree(self, x: float, z: float) -> None:
        """A trunk and a crown that people walk under."""
        trunk, crown, widest = self.rng.uniform([2.3, 2.2, 1.2], [3.0, 3.6, 2.2])
        self.cylinder(x, z, self.rng.uniform(0.12, 0.22), trunk)
        self.cylinder(x, z, widest, 0.6 * crown, lift=trunk)
        self.cylinder(x, z, 0.6 * widest, 0.4 * crown, lift=trunk + 0.6 * crown)

    def lamp(self, x: float, z: float) -> None:
        """A lamp post."""
        self.cylinder(x, z, 0.08, 5.0)

    def bench(self, x: float, z: float, yaw: float, places: int = 3) -> None:
        """A bench without a back; who sits there faces ``yaw``."""
        width = places * SEAT_WIDTH
        self.box(x, z, (width, SEAT_HEIGHT, BENCH_DEPTH), yaw)
        along = (np.arange(places) - (places - 1) / 2) * SEAT_WIDTH
        seat = np.stack([x + along * np.cos(yaw), z - along * np.sin(yaw)], -1)
        self.seats(seat, np.full(places, self.height(x, z) + SEAT_HEIGHT), np.full(places, yaw))

    def kiosk(self, x: float, z: float, yaw: float) -> None:
        """A hut with a roof that juts out."""
        width, depth = self.rng.uniform(2.5, 4.0), self.rng.uniform(2.2, 3.0)
        self.box(x, z, (width, 2.5, depth), yaw)
        self.box(x, z, (width + 0.8, 0.2, depth + 0.8), yaw, lift=2.5)

    def car(self, x: float, z: float, yaw: float) -> None:
        """A parked car: its body, and its cabin on top."""
        length = self.rng.uniform(3.9, 4.7)
        self.box(x, z, (1.75, 0.85, length), yaw)
        self.box(x, z, (1.5, 0.6, 0.5 * length), yaw, lift=0.85)

    def seats(self, xz: FloatArray, height: FloatArray, heading: FloatArray) -> None:
        """Places to sit: xz (S, 2), height (S,) of their surface, heading (S,) of who sits there."""
        self._seats.extend(np.stack([xz[:, 0], height, xz[:, 1], heading], -1).tolist())

    def keep_free(self, x: float, z: float, radius: float) -> None:
        """Nothing is put there by chance."""
        self._taken.append([x, z, radius])

    def spots(self, count: int, room: float, low: tuple[float, float], high: tuple[float, float]) -> FloatArray:
        """Up to ``count`` spots (n, 2) between ``low`` and ``high`` ``room`` metres from all that stands."""
        found: list[FloatArray] = []
        for candidate in self.rng.uniform(low, high, (TRIES, 2)):
            standing = np.array([*self._taken, *([*spot, 0.0] for spot in found)]).reshape(-1, 3)
            distance = np.linalg.norm(standing[:, :2] - candidate, axis=-1) - standing[:, 2]
            if len(found) < count and (distance > room).all():
                found.append(candidate)
        return np.array(found).reshape(-1, 2)

    def built(self) -> tuple[Structures, FloatArray, FloatArray]:
        """Everything that stands, the seats (S, 3) and their headings (S,)."""
        boxes = np.array(self._boxes).reshape(-1, 7)
        cylinders = np.array(self._cylinders).reshape(-1, 5)
        seats = np.array(self._seats).reshape(-1, 4)
        structures = Structures(
            boxes[:, :3], boxes[:, 3:6], boxes[:, 6], cylinders[:, :3], cylinders[:, 3], cylinders[:, 4]
        )
        return structures, seats[:, :3], seats[:, 3]
