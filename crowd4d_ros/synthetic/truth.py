"""What a synthetic world is made of: its place, its people's ways, and the truth about all of it.

All in the core's axes: metres, x right, y up, z backward, the first camera's centre at the origin, and its optical
axis horizontally along −z (scenes are designed to be looked at that way).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.window import BodyMotion, BoolArray, Cameras, FloatArray, IntArray, Intrinsics


class Activity(IntEnum):
    """What somebody does in a frame."""

    WALK = 0
    STAND = 1
    SIT = 2


@dataclass(frozen=True)
class Structures:
    """What stands on the terrain: it hides people, and they walk around it.

    box_base: (B, 3) metres, the middle of the underside; box_size: (B, 3) metres, full extents along the box's own
    x, y (up) and z; box_yaw: (B,) radians about y.
    cylinder_base: (C, 3) metres, the middle of the underside; cylinder_radius, cylinder_height: (C,) metres.
    """

    box_base: FloatArray
    box_size: FloatArray
    box_yaw: FloatArray
    cylinder_base: FloatArray
    cylinder_radius: FloatArray
    cylinder_height: FloatArray

    def moved(self, offset: FloatArray) -> Structures:
        """Shifted by ``offset`` (3,) metres."""
        return replace(self, box_base=self.box_base + offset, cylinder_base=self.cylinder_base + offset)


@dataclass(frozen=True)
class Scene:
    """A place. terrain: the ground, exact: its triangles are what people stand on.

    walkable: (X, Z) bool, the terrain's nodes where the middle of a body may be.
    gates: (E, 2) metres, x and z where people come from and go to.
    seats: (S, 3) metres, x, y and z of the middle of a seat's surface; seat_heading: (S,) radians, where who sits
    there faces, as in ``Paths.heading``.
    way: (K, 2) metres, x and z of the middle of the way of a procession; empty: people go where they like.
    """

    name: str
    terrain: Surface
    structures: Structures
    walkable: BoolArray
    gates: FloatArray
    seats: FloatArray
    seat_heading: FloatArray
    way: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))

    def moved(self, offset: FloatArray) -> Scene:
        """Shifted by ``offset`` (3,) metres."""
        a, b, c = self.terrain.plane
        terrain = replace(
            self.terrain,
            heights=self.terrain.heights + offset[1],
            corner=self.terrain.corner + offset[[0, 2]],
            plane=np.array([a, b, c + offset[1] - a * offset[0] - b * offset[2]]),
        )
        return replace(
            self,
            terrain=terrain,
            structures=self.structures.moved(offset),
            gates=self.gates + offset[[0, 2]],
            seats=self.seats + offset,
            way=self.way + offset[[0, 2]],
        )


@dataclass(frozen=True)
class Paths:
    """Where everybody goes. N people, T frames.

    position: (N, T, 2) metres, x and z of the pelvis. heading: (N, T) radians about y, unwrapped: the body faces
    (sin heading, cos heading) in (x, z), so that 0 is the rest pose of SMPL, facing +z.
    activity: (N, T) int8, ``Activity``. seat: (N, T) metres, the height of the seat's surface while sitting, else NaN.
    present: (N, T) bool, in the scene at all; a person's present frames are consecutive. group: (N,) equal numbers walk
    together. Where not present, entries are finite and carry no meaning.
    """

    position: FloatArray
    heading: FloatArray
    activity: IntArray
    seat: FloatArray
    present: BoolArray
    group: IntArray


@dataclass(frozen=True)
class Truth:
    """A crowd of N people over T frames, exactly.

    scene, camera, motions: what was asked for: "hill", "drone", "gait" or "mocap:test", …; seed, fps.
    stamps: (T,) int64 nanoseconds. terrain: the ground. structures: what hides people.
    track_ids: (N,) from 1. group: (N,). activity: (N, T). valid: (N, T) in the scene, seen or not.
    motion: exact SMPL parameters. joints: (N, T, 24, 3). lowest: (N, T, 3) the lowest vertex.
    support_point: (N, T, 3) the terrain under the pelvis.
    keypoints_2d: (N, T, 23, 2) rectified pixels, exact projections, NaN behind the camera.
    keypoints_visible: (N, T, 23) inside the image and hidden by nobody else and nothing; a body never hides itself.
    visibility: (N, T) in [0, 1], the share of the body's surface points facing anywhere that is inside the image and
    hidden by nobody else and nothing. boxes: (N, T, 4) left, top, width, height in pixels of the whole body, cut at
    the image's border; zeros where it is outside.
    """

    scene: str
    camera: str
    motions: str
    seed: int
    fps: float
    stamps: IntArray
    intrinsics: Intrinsics
    cameras: Cameras
    terrain: Surface
    structures: Structures
    track_ids: IntArray
    group: IntArray
    activity: IntArray
    valid: BoolArray
    motion: BodyMotion
    joints: FloatArray
    lowest: FloatArray
    support_point: FloatArray
    keypoints_2d: FloatArray
    keypoints_visible: BoolArray
    visibility: FloatArray
    boxes: FloatArray

    @property
    def num_people(self) -> int:
        return len(self.track_ids)

    @property
    def num_frames(self) -> int:
        return len(self.stamps)
