"""Where people can walk and how they get there: room to structures, slope, and shortest ways around them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.truth import Scene
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

EDGE = 0.4
"""Cells: somebody nearer to the border of what is walkable may have an unwalkable nearest node at a corner."""
FAR = 1e6
"""Metres: farther than any scene, yet finite."""


class PathsError(ValueError):
    """A crowd that cannot walk there; the message says why and what to do."""


@dataclass(frozen=True)
class Ground:
    """What the feet feel of a scene, on the terrain's nodes.

    corner: (2,) metres; spacing: metres. room: (X, Z) metres to the border of what is walkable, negative beyond it.
    fields: (X, Z, 5): room, its gradient in x and z, and the terrain's in x and z.
    """

    corner: FloatArray
    spacing: float
    room: FloatArray
    fields: FloatArray

    @classmethod
    def of(cls, scene: Scene, config: PathsConfig) -> Ground:
        """The fields of a scene. Raises PathsError where the grids differ or nothing is walkable."""
        terrain = scene.terrain
        if scene.walkable.shape != terrain.heights.shape:
            raise PathsError(f"walkable {scene.walkable.shape} is not the terrain's grid {terrain.heights.shape}")
        if not scene.walkable.any():
            raise PathsError(f"nothing of the scene '{scene.name}' is walkable: mark nodes where people may be")
        spacing = terrain.spacing
        walkable = np.pad(scene.walkable, 1)  # nobody leaves the terrain
        # the border lies halfway between a walkable node and one that is not
        inside = distance_transform_edt(walkable)[1:-1, 1:-1]
        outside = distance_transform_edt(~walkable)[1:-1, 1:-1]
        room = spacing * np.where(scene.walkable, inside - 0.5, 0.5 - outside)
        felt = gaussian_filter(terrain.heights, config.tread / spacing, mode="nearest")
        fields = np.stack([room, *np.gradient(room, spacing), *np.gradient(felt, spacing)], -1)
        return cls(terrain.corner, spacing, room, fields)

    @property
    def edge(self) -> float:
        """Metres of room that keep the nearest node walkable."""
        return EDGE * self.spacing

    def at(self, xz: FloatArray) -> FloatArray:
        """``fields`` (…, 5) at xz (…, 2), bilinear, constant beyond the grid."""
        last = np.array(self.room.shape) - 1
        grid = np.clip((xz - self.corner) / self.spacing, 0, last)
        cell = np.minimum(grid.astype(np.int64), last - 1)
        (u, v), (i, j) = np.moveaxis(grid - cell, -1, 0)[..., None], np.moveaxis(cell, -1, 0)
        near = self.fields[i, j] * (1 - v) + self.fields[i, j + 1] * v
        far = self.fields[i + 1, j] * (1 - v) + self.fields[i + 1, j + 1] * v
        return np.asarray(near * (1 - u) + far * u)

    def node(self, xz: FloatArray) -> tuple[IntArray, ...]:
        """Indices of the nearest nodes to xz (…, 2), inside the grid."""
        grid = np.rint((xz - self.corner) / self.spacing).astype(np.int64)
        return tuple(np.clip(grid[..., axis], 0, self.room.shape[axis] - 1) for axis in (0, 1))

    def is_open(self, start: FloatArray, end: FloatArray, step: float) -> BoolArray:
        """Whether the straight ways start → end (…, 2) are walkable, looked at every ``step`` metres at most."""
        longest = float(np.linalg.norm(end - start, axis=-1).max(initial=0.0))
        share = np.linspace(0, 1, int(np.ceil(longest / step)) + 1)[:, None]
        return np.asarray((self.room[self.node(start[..., None, :] + share * (end - start)[..., None, :])] > 0).all(-1))


class Routes:
    """Shortest ways to any number of targets, over a graph of open places that all reach each other.

    nodes: (M, 2) metres. The graph has a node in every block of cells, where there is most room, so that
    passages narrower than a block stay open. Ways near structures and up and down slopes count as longer.
    """

    def __init__(self, ground: Ground, wanted: BoolArray, config: PathsConfig) -> None:
        """wanted: (X, Z), where people should be: of several separate places, the one with most of it is used."""
        self._ground, self._config = ground, config
        fewest = np.sqrt(np.count_nonzero(ground.room > 0) / config.max_nodes)
        self._stride = stride = max(1, int(np.ceil(fewest)), round(config.block / ground.spacing))
        room, wanted_in = _blocks(ground.room, stride, -FAR), _blocks(wanted, stride, False)
        usable = room.max(-1) > ground.edge
        if not usable.any():
            raise PathsError("the walkable part is too narrow for anybody: widen it")
        best = room[usable].argmax(-1)
        node = np.argwhere(usable) * stride + np.stack([best // stride, best % stride], -1)
        nodes = node * ground.spacing + ground.corner
        number = np.full(usable.shape, -1)
        number[usable] = np.arange(len(nodes))

        graph = self._graph(nodes, number)
        _, part = connected_components(graph, directed=False)
        votes = np.bincount(part, wanted_in[usable].any(-1))
        if not votes.any():
            raise PathsError("nothing of the region is walkable: turn the camera, or pass no region")
        kept = part == votes.argmax()
        logger.info("%.0f%% of what is walkable can be reached", 100 * kept.mean())
        self.nodes, self._costs = nodes[kept], graph[kept][:, kept]
        self.wanted: BoolArray = wanted_in[usable][kept].any(-1)
        self.area = float(np.count_nonzero(wanted_in[usable][kept])) * ground.spacing**2
        number[usable] = np.where(kept, np.cumsum(kept) - 1, -1)
        self._number = number[tuple(distance_transform_edt(number < 0, return_distances=False, return_indices=True))]
        self.distance = np.zeros((0, len(self.nodes)), np.float32)
        self._next = np.zeros((0, len(self.nodes)), np.int32)

    @property
    def cell(self) -> float:
        """Metres from a block to the next."""
        return self._stride * self._ground.spacing

    def _graph(self, nodes: FloatArray, number: IntArray) -> csr_matrix:
        """Costs, in metres of level and open ground, between neighbouring blocks in sight of each other.

        number: of each block's node, or −1.
        """
        ends = []
        for i, j in ((1, 0), (0, 1), (1, 1), (1, -1)):
            here = number[: len(number) - i, max(-j, 0) : number.shape[1] - max(j, 0)]
            there = number[i:, max(j, 0) : number.shape[1] + min(j, 0)]
            both = (here >= 0) & (there >= 0)
            ends.append(np.stack([here[both], there[both]]))
        start, end = np.concatenate(ends, -1)
        a, b = nodes[start], nodes[end]
        sees = self._ground.is_open(a, b, self._ground.spacing)
        a, b, start, end = a[sees], b[sees], start[sees], end[sees]
        length = np.linalg.norm(b - a, axis=-1)
        felt = self._ground.at(0.5 * (a + b))
        tightness = np.exp(-np.maximum(felt[:, 0], 0) / self._config.elbow_room)
        grade = np.abs(((b - a) * felt[:, 3:]).sum(-1)) / length
        cost = length * (1 + self._config.detour * tightness) / speed_on(grade, self._config)
        half = csr_matrix((cost, (start, end)), shape=(len(nodes), len(nodes)))
        return half + half.T

    def node_of(self, xz: FloatArray) -> IntArray:
        """The graph's node (…) nearest to xz (…, 2)."""
        block = [index // self._stride for index in self._ground.node(xz)]
        return np.asarray(self._number[tuple(block)])

    def add(self, targets: FloatArray) -> IntArray:
        """Ways to targets (K, 2); returns their numbers (K,), rows of ``distance`` (…, M) in metres."""
        first = len(self._next)
        roots = self.node_of(targets)
        distance, towards = dijkstra(self._costs, directed=False, indices=roots, return_predecessors=True)
        towards[np.arange(len(roots)), roots] = roots
        self.distance = np.concatenate([self.distance, distance.astype(np.float32)])
        self._next = np.concatenate([self._next, towards.astype(np.int32)])
        return first + np.arange(len(targets))

    def waypoint(self, xz: FloatArray, target: IntArray, goal: FloatArray) -> FloatArray:
        """Where to head now (P, 2): the farthest point in sight of the way from xz (P, 2) to target (P,).

        goal: (P, 2) the point meant near the target; it is taken as soon as it is in sight.
        """
        node = self.node_of(xz)
        way = []
        for step in range(2 * self._config.lookahead):
            node = self._next[target, node]
            if step % 2:
                way.append(self.nodes[node])
        candidates = np.stack([*way, goal], 1)
        reach = 2 * self._config.lookahead * self.cell * np.sqrt(2)
        near = np.linalg.norm(goal - xz, axis=-1) < reach
        candidates[~near, -1] = candidates[~near, -2]
        sees = self._ground.is_open(xz[:, None], candidates, self._config.glance)
        farthest = len(way) - sees[:, ::-1].argmax(-1)
        return np.asarray(candidates[np.arange(len(xz)), np.where(sees.any(-1), farthest, 0)])


def _blocks(values: FloatArray | BoolArray, stride: int, beyond: float | bool) -> NDArray[Any]:
    """(X, Z) cut into square blocks (X', Z', stride²), with ``beyond`` beyond the grid."""
    padded = np.pad(values, [(0, -size % stride) for size in values.shape], constant_values=beyond)
    rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
    return padded.reshape(rows, stride, columns, stride).swapaxes(1, 2).reshape(rows, columns, stride**2)


def speed_on(grade: FloatArray, config: PathsConfig) -> FloatArray:
    """Share of the level speed (…) at a grade (…), rise over run along the way, negative downwards."""
    return np.asarray(np.interp(grade, config.grades, config.grade_speeds))
