"""What stands on the terrain: where rays end on it, how far from it people keep, and its mesh."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.truth import Structures
from crowd4d_ros.window import BoolArray, FloatArray, IntArray, SurfaceMesh

PAIRS_AT_ONCE = 200_000
"""Pairs of a ray or point and a primitive held in memory at once: small enough for a processor's cache."""
HEADROOM = 2.0
"""metres: whoever walks under a tree's crown does not walk around it."""
SIDES = 24
"""of a cylinder's mesh: its area is then within 1.2 % of the round one's."""
SLIM = 0.3
"""metres: a cylinder up to this radius is a pole or a trunk, a box up to this width a wall or a board."""
TALL = 3.5
"""metres: boxes higher than that are buildings."""

NO_STRUCTURES = Structures(
    box_base=np.zeros((0, 3)),
    box_size=np.zeros((0, 3)),
    box_yaw=np.zeros(0),
    cylinder_base=np.zeros((0, 3)),
    cylinder_radius=np.zeros(0),
    cylinder_height=np.zeros(0),
)
"""Open ground."""


class Kind(IntEnum):
    """What a primitive looks like, judged by its shape."""

    BUILDING = 0
    FURNITURE = 1
    POLE = 2
    TRUNK = 3
    LEAVES = 4


def ray_hits(structures: Structures, origins: FloatArray, directions: FloatArray) -> FloatArray:
    """mu (…) of the first meeting of the rays origin + mu·direction, mu > 0, with a structure; infinite if none.

    origins, directions: (…, 3), broadcast against each other, directions of any length but zero. Primitives are
    convex: a ray is inside one between the latest entry into and the earliest exit from its slabs and its round. A
    ray that starts inside meets the exit.
    """
    lead = np.broadcast_shapes(origins.shape, directions.shape)[:-1]
    origin = np.broadcast_to(origins, (*lead, 3)).reshape(-1, 3)
    direction = np.broadcast_to(directions, (*lead, 3)).reshape(-1, 3)
    nearest = np.full(len(origin), np.inf)
    boxes = len(structures.box_yaw)
    for rays in _chunks(len(origin), boxes + len(structures.cylinder_radius)):
        row, primitive = _near(structures, origin[rays], direction[rays])
        row = row + rays.start
        for through, chosen, first in (
            (_through_boxes, primitive < boxes, 0),
            (_through_cylinders, primitive >= boxes, boxes),
        ):
            ray = row[chosen]
            enter, leave = through(structures, primitive[chosen] - first, origin[ray], direction[ray])
            met = (enter <= leave) & (leave > 0)
            np.minimum.at(nearest, ray[met], np.where(enter > 0, enter, leave)[met])
    return nearest.reshape(lead)


def footprint_distance(structures: Structures, xz: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far (…) metres xz (…, 2) is from the nearest footprint, negative inside, and the way out of it (…, 2), unit.

    What hangs above head height over the foot of something else, as a crown over its trunk, has no footprint. Without
    structures the distance is infinite and the way out (1, 0).
    """
    points = xz.reshape(-1, 2)
    distance, outward = np.full(len(points), np.inf), np.tile([1.0, 0.0], (len(points), 1))
    barring = np.flatnonzero(~_hangs(structures))
    for rows in _chunks(len(points), len(barring)):
        each, out = _footprints(structures, points[rows])
        if len(barring):
            nearest = barring[each[:, barring].argmin(-1)]
            row = np.arange(len(nearest))
            distance[rows], outward[rows] = each[row, nearest], out[row, nearest]
    return distance.reshape(xz.shape[:-1]), outward.reshape(xz.shape)


def barred(structures: Structures, terrain: Surface, radius: float) -> BoolArray:
    """(X, Z) bool: the terrain's nodes less than ``radius`` metres from a footprint.

    Primitive by primitive, each in its own neighbourhood: a place has hundreds of them and half a million nodes.
    """
    result = np.zeros(terrain.heights.shape, bool)
    boxes = len(structures.box_yaw)
    for k in np.flatnonzero(~_hangs(structures)):
        alone = _only(structures, int(k))
        middle = np.concatenate([alone.box_base, alone.cylinder_base])[0, [0, 2]]
        size = np.linalg.norm(alone.box_size[:, [0, 2]]) / 2 if k < boxes else alone.cylinder_radius[0]
        window = (middle - terrain.corner + np.array([[-1.0], [1.0]]) * (size + radius)) / terrain.spacing
        low, high = np.clip([np.floor(window[0]), np.ceil(window[1]) + 1], 0, result.shape).astype(int)
        nodes = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij"), -1)
        distance, _ = footprint_distance(alone, terrain.corner + terrain.spacing * nodes)
        result[low[0] : high[0], low[1] : high[1]] |= distance < radius
    return result


def mesh(structures: Structures) -> SurfaceMesh:
    """A closed mesh per primitive, boxes first, 16 faces each, then cylinders, 4·SIDES each; normals point outward."""
    sides = 2 * np.pi * np.arange(SIDES) / SIDES
    ring = np.stack([np.cos(sides), np.sin(sides)], -1)
    round_shape = np.concatenate([_storey(ring, 0.0), _storey(ring, 1.0), [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    corner = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    box_shape = np.concatenate([_storey(corner, 0.0), _storey(corner, 1.0), [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    boxes = box_shape * structures.box_size[:, None]
    x, z = _turned(boxes[..., 0], boxes[..., 2], structures.box_yaw[:, None])
    boxes = np.stack([x, boxes[..., 1], z], -1) + structures.box_base[:, None]
    radius, height = structures.cylinder_radius, structures.cylinder_height
    cylinders = round_shape * np.stack([radius, height, radius], -1)[:, None] + structures.cylinder_base[:, None]
    faces = np.concatenate(
        [
            _repeated(_prism_faces(len(corner)), len(boxes), boxes.shape[1]),
            _repeated(_prism_faces(SIDES), len(cylinders), cylinders.shape[1]) + boxes.shape[0] * boxes.shape[1],
        ]
    )
    vertices = np.concatenate([boxes.reshape(-1, 3), cylinders.reshape(-1, 3)])
    return SurfaceMesh(vertices, faces.astype(np.int32))


def face_kinds(structures: Structures) -> IntArray:
    """(F,) ``Kind`` of the faces of ``mesh(structures)``, by the shapes alone."""
    hangs = _hangs(structures)
    size = structures.box_size
    building = (size[:, 1] > TALL) & (size[:, [0, 2]].min(-1) > SLIM)
    boxes = np.where(building, Kind.BUILDING, Kind.FURNITURE)
    trunks = _distances_between(structures.cylinder_base, structures.cylinder_base[hangs[len(size) :]]) < SLIM
    cylinders = np.select(
        [hangs[len(size) :], trunks.any(-1), structures.cylinder_radius <= SLIM],
        [Kind.LEAVES, Kind.TRUNK, Kind.POLE],
        Kind.FURNITURE,
    )
    return np.concatenate([np.repeat(boxes, len(_prism_faces(4))), np.repeat(cylinders, len(_prism_faces(SIDES)))])


def _near(structures: Structures, origin: FloatArray, direction: FloatArray) -> tuple[IntArray, IntArray]:
    """Which rays (R, 3) pass the spheres around which primitives, boxes first: pairs (M,), (M,).

    Few pairs do, and the squared distance |c − o|² − ((c − o)·d)² of centres c from rays takes two products of
    matrices.
    """
    height = np.concatenate([structures.box_size[:, 1], structures.cylinder_height])
    centre = np.concatenate([structures.box_base, structures.cylinder_base])
    centre = centre + 0.5 * height[:, None] * [0.0, 1.0, 0.0]
    across = np.concatenate([np.hypot(*structures.box_size[:, [0, 2]].T), 2 * structures.cylinder_radius])
    middle = origin.mean(0)  # differences of large squares would not be exact far from the world's origin
    centre, origin = centre - middle, origin - middle
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    along = unit @ centre.T - (unit * origin).sum(-1)[:, None]
    apart2 = (centre**2).sum(-1) - 2 * origin @ centre.T + (origin**2).sum(-1)[:, None]
    slack = 1e-9 * (1 + apart2)
    row, primitive = np.nonzero(apart2 - along**2 <= (across**2 + height**2) / 4 + slack)
    return row, primitive


def _through_boxes(
    structures: Structures, box: IntArray, origin: FloatArray, direction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """mu of entry and exit (M,) of rays (M, 3), each through its box (M,); an exit before its entry is a miss."""
    relative = origin - structures.box_base[box]
    half = structures.box_size[box] / 2
    yaw = -structures.box_yaw[box]
    x, z = _turned(relative[:, 0], relative[:, 2], yaw)
    rate_x, rate_z = _turned(direction[:, 0], direction[:, 2], yaw)
    place = np.stack([x, relative[:, 1] - half[:, 1], z], -1)
    enter, leave = _slab(place, np.stack([rate_x, direction[:, 1], rate_z], -1), half)
    return enter.max(-1), leave.min(-1)


def _through_cylinders(
    structures: Structures, cylinder: IntArray, origin: FloatArray, direction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The same of cylinders: the roots of |xz(mu)|² = r², and the slab between the lids."""
    relative = origin - structures.cylinder_base[cylinder]
    x, z = relative[:, 0], relative[:, 2]
    a = (direction[:, [0, 2]] ** 2).sum(-1)
    b = x * direction[:, 0] + z * direction[:, 2]
    c = x**2 + z**2 - structures.cylinder_radius[cylinder] ** 2
    upright = a == 0
    root = b**2 - a * c
    scale = np.where(upright, 1.0, a)
    middle, reach = -b / scale, np.sqrt(np.maximum(root, 0)) / scale
    missed = np.where(upright, c > 0, root < 0)
    enter = np.where(missed, np.inf, np.where(upright, -np.inf, middle - reach))
    leave = np.where(missed, -np.inf, np.where(upright, np.inf, middle + reach))
    half = structures.cylinder_height[cylinder] / 2
    low, high = _slab(relative[:, 1] - half, direction[:, 1], half)
    return np.maximum(enter, low), np.minimum(leave, high)


def _slab(position: FloatArray, rate: FloatArray, half: FloatArray) -> tuple[FloatArray, FloatArray]:
    """mu between which |position + mu·rate| ≤ half."""
    still = rate == 0
    inverse = 1.0 / np.where(still, 1.0, rate)
    middle, reach = -position * inverse, half * np.abs(inverse)
    never = still & (np.abs(position) > half)
    enter = np.where(still, -np.inf, middle - reach)
    leave = np.where(still, np.inf, middle + reach)
    return np.where(never, np.inf, enter), np.where(never, -np.inf, leave)


def _footprints(structures: Structures, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Signed distances (P, B + C) from points (P, 2) to every footprint, and the ways out (P, B + C, 2)."""
    relative = points[:, None] - structures.box_base[:, [0, 2]]
    x, z = _turned(relative[..., 0], relative[..., 1], -structures.box_yaw)
    beyond = np.abs(np.stack([x, z], -1)) - structures.box_size[:, [0, 2]] / 2
    outside = np.maximum(beyond, 0)
    away = np.linalg.norm(outside, axis=-1)
    box = np.where(away > 0, away, beyond.max(-1))
    nearest_side = beyond == beyond.max(-1, keepdims=True)
    out = np.where(away[..., None] > 0, outside, nearest_side) * np.where(np.stack([x, z], -1) < 0, -1.0, 1.0)
    box_out = np.stack(_turned(out[..., 0], out[..., 1], structures.box_yaw), -1)
    round_out = points[:, None] - structures.cylinder_base[:, [0, 2]]
    from_axis = np.linalg.norm(round_out, axis=-1)
    round_out = np.where(from_axis[..., None] > 0, round_out, [1.0, 0.0])
    way = np.concatenate([box_out, round_out], 1)
    return (
        np.concatenate([box, from_axis - structures.cylinder_radius], 1),
        way / np.linalg.norm(way, axis=-1, keepdims=True),
    )


def _hangs(structures: Structures) -> BoolArray:
    """(B + C,) held up by something under its middle, with headroom below."""
    middle = np.concatenate([structures.box_base, structures.cylinder_base])
    if not len(middle):
        return np.zeros(0, bool)
    over, _ = _footprints(structures, middle[:, [0, 2]])
    clearance = middle[:, None, 1] - middle[:, 1]
    return np.asarray(((over < 0) & (clearance > HEADROOM)).any(-1))


def _only(structures: Structures, k: int) -> Structures:
    """The ``k``-th primitive alone, boxes first."""
    box = slice(k, k + 1)
    begin = k - len(structures.box_yaw)
    cylinder = slice(begin, begin + 1) if begin >= 0 else slice(0, 0)
    return Structures(
        structures.box_base[box],
        structures.box_size[box],
        structures.box_yaw[box],
        structures.cylinder_base[cylinder],
        structures.cylinder_radius[cylinder],
        structures.cylinder_height[cylinder],
    )


def _distances_between(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(first[:, None, [0, 2]] - second[None][..., [0, 2]], axis=-1))


def _turned(x: FloatArray, z: FloatArray, yaw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """x and z turned by ``yaw`` about y: (0, 1) becomes (sin yaw, cos yaw), as headings do."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return cosine * x + sine * z, cosine * z - sine * x


def _storey(outline: FloatArray, height: float) -> FloatArray:
    return np.stack([outline[:, 0], np.full(len(outline), height), outline[:, 1]], -1)


def _prism_faces(sides: int) -> IntArray:
    """Faces of an upright prism: the lower outline's vertices, the upper's, the two middles. Outlines turn x to z."""
    low = np.arange(sides)
    following = np.roll(low, -1)
    high, high_following = low + sides, following + sides
    bottom, top = np.full(sides, 2 * sides), np.full(sides, 2 * sides + 1)
    return np.concatenate(
        [
            np.stack([low, high, following], -1),
            np.stack([following, high, high_following], -1),
            np.stack([bottom, low, following], -1),
            np.stack([top, high_following, high], -1),
        ]
    )


def _repeated(faces: IntArray, copies: int, vertices: int) -> IntArray:
    return np.asarray((faces + vertices * np.arange(copies)[:, None, None]).reshape(-1, 3))


def _chunks(rows: int, columns: int) -> list[slice]:
    size = max(PAIRS_AT_ONCE // max(columns, 1), 1)
    return [slice(begin, begin + size) for begin in range(0, rows, size)]
