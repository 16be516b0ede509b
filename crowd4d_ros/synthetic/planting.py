"""Feet on the ground: soles, where they are placed, how they swing, and the legs that carry the body over them.

A foot is its ankle's position and two rotations: of the foot, and of the toes, which stay on the ground while the heel
rises. Its clearance is exact: the least height of the sole's vertices above the terrain beneath each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import FIRST_STEP, Beat, Footprints, at_samples
from crowd4d_ros.synthetic.headings import forward, smoothstep
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

HIPS, KNEES, ANKLES, TOES = (
    [JOINTS.index(f"{side}_{name}") for side in ("left", "right")] for name in ("hip", "knee", "ankle", "foot")
)
SOLE_DIRECTIONS = 400
"""Downward directions in which a vertex of the sole is sought that lies farthest: all that can touch a terrain."""
SOLE_TILT = np.radians(75.0)
"""No foot tilts further against the ground."""
HEEL_ROUNDING = 0.02
"""metres from the hindmost point of the sole to where a raised foot rests on its heel."""


@dataclass(frozen=True)
class Soles:
    """The feet of N people in rest, all relative to the ankle. points: (N, 2, P, 3) metres; toe: (N, 2, 3) the toes'
    joint; toe_share: (2, P) how far the points follow it; heel: (N, 2, 3) where the foot rests on its heel."""

    points: FloatArray
    toe_share: FloatArray
    toe: FloatArray
    heel: FloatArray

    @classmethod
    def of(cls, body: BodyModel, betas: FloatArray) -> Soles:
        """The soles of bodies with shapes (N, 10)."""
        template, shapes = body.v_template.double().numpy(), body.shapedirs.double().numpy()
        weights = body.weights.double().numpy()
        joints = body.rest_joints(torch.as_tensor(betas, dtype=body.v_template.dtype)).double().numpy()
        feet = [_sole_vertices(template, weights[:, [ankle, toe]]) for ankle, toe in zip(ANKLES, TOES, strict=True)]
        count = max(len(index) for index in feet)
        index = np.stack([np.resize(vertices, count) for vertices in feet])
        share = np.stack([weights[index[side], TOES[side]] for side in (0, 1)])
        share /= share + np.stack([weights[index[side], ANKLES[side]] for side in (0, 1)])
        points = template[index] + np.einsum("fpxb,nb->nfpx", shapes[index], betas)
        points -= joints[:, ANKLES, None]
        behind = points[..., 2].argmin(-1)[..., None, None]
        heel = np.take_along_axis(points, behind, 2)[:, :, 0] + [0.0, 0.0, HEEL_ROUNDING]
        heel[..., 1] = points[..., 1].min(-1)
        return cls(points, share, joints[:, TOES] - joints[:, ANKLES], heel)

    def placed(self, person: IntArray, side: IntArray, foot: Foot) -> FloatArray:
        """(M, P, 3) the points of M feet, of people ``person`` (M,) and sides (M,)."""
        points, toe, share = self.points[person, side], self.toe[person, side], self.toe_share[side][..., None]
        rigid = points @ np.swapaxes(foot.rotation, -1, -2)
        joint = (foot.rotation @ toe[..., None])[..., 0][:, None]
        bent = joint + (points - toe[:, None]) @ np.swapaxes(foot.toes, -1, -2)
        return np.asarray(foot.ankle[:, None] + (1 - share) * rigid + share * bent)


@dataclass(frozen=True)
class Foot:
    """Feet (…). ankle: (…, 3) metres, world; rotation, toes: (…, 3, 3) from the rest pose to the world."""

    ankle: FloatArray
    rotation: FloatArray
    toes: FloatArray


def _sole_vertices(template: FloatArray, weights: FloatArray) -> IntArray:
    """Vertices that move with the foot alone and are lowest for some tilt of it."""
    own = np.flatnonzero(weights.sum(-1) > 0.99)
    golden = np.pi * (3 - np.sqrt(5)) * np.arange(SOLE_DIRECTIONS)
    down = 1 - (1 - np.cos(SOLE_TILT)) * (np.arange(SOLE_DIRECTIONS) + 0.5) / SOLE_DIRECTIONS
    across = np.sqrt(1 - down**2)
    directions = np.stack([across * np.cos(golden), -down, across * np.sin(golden)], -1)
    return np.asarray(own[np.unique((template[own] @ directions.T).argmax(0))])


def ground(terrain: Surface, xz: FloatArray) -> FloatArray:
    """Heights (…) metres at xz (…, 2); beyond the grid those of its border."""
    far = terrain.corner + terrain.spacing * (np.array(terrain.heights.shape) - 1)
    return terrain.height(np.clip(xz, terrain.corner, far))[0]


def about(axis: int, angle: FloatArray) -> FloatArray:
    """Rotations (…, 3, 3) by ``angle`` (…) about a coordinate axis."""
    axis_angle = np.zeros((*np.shape(angle), 3))
    axis_angle[..., axis] = angle
    return rotation_matrix(axis_angle)


def rotation_matrix(axis_angle: FloatArray) -> FloatArray:
    """(…, 3) → (…, 3, 3)."""
    return axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(axis_angle))).numpy()


def axis_angle(matrix: FloatArray) -> FloatArray:
    """(…, 3, 3) → (…, 3)."""
    return matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(matrix))).numpy()


def _tilted(slope: FloatArray) -> FloatArray:
    """The shortest rotations (…, 3, 3) from level to planes that rise by ``slope`` (…, 2) along x and z."""
    steep = np.linalg.norm(slope, axis=-1, keepdims=True)
    axis = np.stack([slope[..., 1], np.zeros_like(slope[..., 0]), -slope[..., 0]], -1)
    # A rise along +z lifts +z: a rotation about −x.
    turn = np.arctan(steep) / np.maximum(steep, 1e-12)
    return rotation_matrix(-axis * turn)


@dataclass(frozen=True)
class Holds:
    """Where steps are planted. foot: (N, K) feet, flat; yaw: (N, K) radians; tilt: (N, K, 3, 3) from level."""

    foot: Foot
    yaw: FloatArray
    tilt: FloatArray


def planted(steps: Footprints, soles: Soles, terrain: Surface, config: BodiesConfig) -> Holds:
    """Footprints on the terrain: moved along the foot to where it finds the most support, and tilted to lie on it."""
    people, count = steps.yaw.shape
    person, step = np.indices((people, count))
    side = (step + FIRST_STEP) % 2
    person, side = person.ravel(), side.ravel()
    yaw = steps.yaw.ravel()
    along = forward(yaw)
    shifts = np.arange(-config.hold_search, config.hold_search + 1e-9, config.hold_search_step)
    points = (soles.points[person, side] @ np.swapaxes(about(1, yaw), -1, -2))[..., [0, 2]]
    gaps, slopes = [], []
    for shift in shifts:
        xz = steps.xz.reshape(-1, 1, 2) + shift * along[:, None] + points
        slope, gap = _support(points, ground(terrain, xz), config)
        gaps.append(gap + config.hold_stiffness * shift**2)
        slopes.append(slope)
    best = np.argmin(gaps, 0)
    at = steps.xz.reshape(-1, 2) + shifts[best, None] * along
    tilt = _tilted(np.stack(slopes)[best, np.arange(len(best))])
    rotation = tilt @ about(1, yaw)
    foot = lowered(Foot(np.insert(at, 1, 0.0, -1), rotation, rotation), person, side, soles, terrain)
    shape = (people, count)
    return Holds(_reshaped(foot, shape), steps.yaw, tilt.reshape(*shape, 3, 3))


def _reshaped(foot: Foot, shape: tuple[int, ...]) -> Foot:
    return Foot(foot.ankle.reshape(*shape, 3), foot.rotation.reshape(*shape, 3, 3), foot.toes.reshape(*shape, 3, 3))


def _support(points: FloatArray, heights: FloatArray, config: BodiesConfig) -> tuple[FloatArray, FloatArray]:
    """The plane on which a sole with points at xz (M, P, 2) would rest over heights (M, P), as its slope (M, 2), and
    the mean gap (M,) metres beneath it. What rises above a plane carries, what falls below does not: least squares
    in which the latter hardly counts."""
    design = np.concatenate([points, np.ones_like(points[..., :1])], -1)
    weight = np.ones(heights.shape)
    limit = np.tan(np.radians(config.ankle_limit))
    for _ in range(config.support_iterations):
        normal = np.einsum("mpa,mp,mpb->mab", design, weight, design) + 1e-6 * np.eye(3)
        plane = np.linalg.solve(normal, np.einsum("mpa,mp,mp->ma", design, weight, heights)[..., None])[..., 0]
        residual = heights - np.einsum("mpa,ma->mp", design, plane)
        weight = np.where(residual < -config.support_tolerance, 0.02, 1.0)
    slope = plane[:, :2]
    slope = slope * np.minimum(1.0, limit / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-12))
    residual = heights - np.einsum("mpa,ma->mp", points, slope)
    return slope, (residual.max(-1, keepdims=True) - residual).mean(-1)


def clearance(foot: Foot, person: IntArray, side: IntArray, soles: Soles, terrain: Surface) -> FloatArray:
    """(M,) metres from the terrain to the sole, negative where it is beneath."""
    points = soles.placed(person, side, foot)
    return np.asarray((points[..., 1] - ground(terrain, points[..., [0, 2]])).min(-1))


def lowered(foot: Foot, person: IntArray, side: IntArray, soles: Soles, terrain: Surface) -> Foot:
    """Feet moved vertically until they touch."""
    ankle = foot.ankle.copy()
    ankle[:, 1] -= clearance(foot, person, side, soles, terrain)
    return Foot(ankle, foot.rotation, foot.toes)


@dataclass(frozen=True)
class Feet:
    """Both feet at every sample. foot: (N, S, 2). swing: (N, S, 2) in [0, 1], how far through the air, 0 and 1 on
    the ground."""

    foot: Foot
    swing: FloatArray


def moving_feet(
    beat: Beat, steps: Footprints, holds: Holds, soles: Soles, terrain: Surface, config: BodiesConfig
) -> Feet:
    """Feet that stand, roll from heel to toes, and swing from hold to hold, over whatever lies between."""
    people, samples = beat.phase.shape
    shape = (people, samples, 2)
    phase = beat.phase[..., None]
    sides = np.arange(2)
    step = 2 * np.floor((phase - sides) / 2).astype(np.int64) + sides
    both = config.double_support / 2
    through = (phase - step - both) / (1 - 2 * both)
    pitches = _pitches(beat, config)
    index = step - FIRST_STEP
    stands = np.where(through < 0, index - 2, index)
    progress = (phase - (stands + FIRST_STEP) - 1 + both) / (1 + 2 * both)
    rests = (stands + FIRST_STEP >= beat.rests[..., None] - 2) & (phase < beat.rests[..., None])
    person = np.broadcast_to(np.arange(people)[:, None, None], shape)
    side = np.broadcast_to(sides, shape)

    roll = _roll(np.clip(progress, 0, 1), pitches[:, :, None], rests, config)
    flat = (person.ravel(), side.ravel())
    stance = _rolled(holds, stands.ravel(), roll.ravel(), flat, soles)
    stance = lowered(stance, *flat, soles, terrain)

    swings = (through > 0) & (through < 1)
    who, when, which = np.nonzero(swings)
    at = through[swings]
    target = index[swings]
    flights = _Flights.between(pitches, steps, holds, soles, terrain, config)
    air = flights.foot(who, target, at, config)
    # Between the points at which the flight was planned, it may still graze an edge.
    air.ankle[:, 1] -= np.minimum(clearance(air, who, which, soles, terrain), 0)
    ankle, rotation, toes = stance.ankle, stance.rotation, stance.toes
    row = np.ravel_multi_index((who, when, which), shape)
    ankle[row], rotation[row], toes[row] = air.ankle, air.rotation, air.toes
    return Feet(_reshaped(Foot(ankle, rotation, toes), shape), np.clip(through, 0, 1))


def _pitches(beat: Beat, config: BodiesConfig) -> FloatArray:
    """(N, S, 2) radians: a foot's pitch where it would land now (negative, toes up), and where it would leave."""
    push = np.radians(config.push_pitch) * beat.walking * np.clip(beat.speed / config.brisk, 0, 1)
    strike = push * config.strike_pitch / config.push_pitch / (1 + config.flat_feet * np.abs(beat.grade))
    return np.stack([-strike, push], -1)


def _roll(progress: FloatArray, pitches: FloatArray, rests: BoolArray, config: BodiesConfig) -> FloatArray:
    """The pitch (…) radians of a foot ``progress`` (…) of the way through its stance, see ``_pitches`` (…, 2)."""
    strike = pitches[..., 0] * (1 - smoothstep(progress / config.strike_share))
    rise = (progress - config.heel_off) / (1 - config.heel_off)
    push = pitches[..., 1] * np.clip(rise, 0, 1) ** 2
    return np.asarray(np.where(rests, 0.0, push) + strike)


def _rolled(holds: Holds, index: IntArray, roll: FloatArray, feet: tuple[IntArray, IntArray], soles: Soles) -> Foot:
    """Holds ``index`` (M,) of feet, turned by ``roll`` (M,) about the heel, or about the toes, which stay."""
    person, side = feet
    flat, base = holds.foot.rotation[person, index], holds.foot.ankle[person, index]
    rotation = flat @ about(0, roll)
    pivot = np.where(roll[:, None] > 0, soles.toe[person, side], soles.heel[person, side])
    ankle = base + ((flat - rotation) @ pivot[..., None])[..., 0]
    return Foot(ankle, rotation, np.where(roll[:, None, None] > 0, flat, rotation))


@dataclass(frozen=True)
class _Flights:
    """Every step through the air, (N, K): from where and how the foot leaves to where and how it lands."""

    start: FloatArray
    end: FloatArray
    leave_pitch: FloatArray
    land_pitch: FloatArray
    leave_yaw: FloatArray
    turn: FloatArray
    leave_tilt: FloatArray
    tilt_change: FloatArray
    lift: FloatArray

    @classmethod
    def between(
        cls,
        pitches: FloatArray,
        steps: Footprints,
        holds: Holds,
        soles: Soles,
        terrain: Surface,
        config: BodiesConfig,
    ) -> _Flights:
        people, count = steps.yaw.shape
        person, step = (array.ravel() for array in np.indices((people, count)))
        side = (step + FIRST_STEP) % 2
        before = np.maximum(step - 2, 0)
        leave_pitch = at_samples(pitches[..., 1:], steps.lift).ravel()
        land_pitch = at_samples(pitches[..., :1], steps.land).ravel()
        feet = (person, side)
        start = lowered(_rolled(holds, before, leave_pitch, feet, soles), *feet, soles, terrain)
        end = lowered(_rolled(holds, step, land_pitch, feet, soles), *feet, soles, terrain)
        leave_tilt = holds.tilt[person, before]
        flights = cls(
            start=start.ankle,
            end=end.ankle,
            leave_pitch=leave_pitch,
            land_pitch=land_pitch,
            leave_yaw=holds.yaw[person, before],
            turn=holds.yaw[person, step] - holds.yaw[person, before],
            leave_tilt=leave_tilt,
            tilt_change=axis_angle(np.swapaxes(leave_tilt, -1, -2) @ holds.tilt[person, step]),
            lift=np.zeros(len(step)),
        )
        # As high as the worst point on the way asks for.
        need = np.full(len(step), config.least_lift)
        for at in np.linspace(0, 1, config.flight_samples + 2)[1:-1]:
            foot = flights._at(np.arange(len(step)), np.full(len(step), at), config)
            free = clearance(foot, person, side, soles, terrain)
            arch = _arch(np.array(at))
            need = np.maximum(need, (config.swing_clearance * arch - free) / arch)
        return cls(
            **{
                name: values.reshape(people, count, *values.shape[1:])
                for name, values in {**flights.__dict__, "lift": need}.items()
            }
        )

    def foot(self, person: IntArray, step: IntArray, at: FloatArray, config: BodiesConfig) -> Foot:
        """Feet of people (M,) in their steps (M,), ``at`` (M,) in [0, 1] of the way."""
        return self._at((person, step), at, config)

    def _at(self, index: IntArray | tuple[IntArray, IntArray], at: FloatArray, config: BodiesConfig) -> Foot:
        start, end = self.start[index], self.end[index]
        share = smoothstep(at)
        ankle = start + share[:, None] * (end - start)
        ankle[:, 1] += self.lift[index] * _arch(at)
        leaving, landing = (1 - at) ** config.unroll, smoothstep(2 * at - 1)
        pitch = self.leave_pitch[index] * leaving + self.land_pitch[index] * landing
        bend = np.maximum(self.leave_pitch[index], 0) * leaving**2
        tilt = self.leave_tilt[index] @ rotation_matrix(share[:, None] * self.tilt_change[index])
        level = tilt @ about(1, self.leave_yaw[index] + share * self.turn[index])
        return Foot(ankle, level @ about(0, pitch), level @ about(0, pitch - bend))


def _arch(at: FloatArray) -> FloatArray:
    """From 0 up to 1 and back, quickly off the ground: risers are met early."""
    return np.asarray(np.sin(np.pi * at))


@dataclass(frozen=True)
class Legs:
    """The rest pose of N people's legs, left and right. hip: (N, 2, 3) from the pelvis; thigh, shank: (N, 2, 3)."""

    hip: FloatArray
    thigh: FloatArray
    shank: FloatArray

    @classmethod
    def of(cls, rest: FloatArray) -> Legs:
        """From rest joints (N, 24, 3)."""
        hip, knee, ankle = rest[:, HIPS], rest[:, KNEES], rest[:, ANKLES]
        return cls(hip - rest[:, :1], knee - hip, ankle - knee)

    @property
    def _hinge(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """|thigh + R_x(θ) shank|² = constant + amplitude cos(θ − straight): those, and the length at its longest."""
        a, b = self.thigh, self.shank
        cosine, sine = a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2], a[..., 2] * b[..., 1] - a[..., 1] * b[..., 2]
        constant = (a**2).sum(-1) + (b**2).sum(-1) + 2 * a[..., 0] * b[..., 0]
        amplitude = 2 * np.hypot(cosine, sine)
        return constant, amplitude, np.arctan2(sine, cosine), np.sqrt(constant + amplitude)

    @property
    def longest(self) -> FloatArray:
        """(N, 2) metres from hip to ankle with a straight knee."""
        return self._hinge[3]

    def reach(self, to_ankle: FloatArray, hinge: FloatArray, config: BodiesConfig) -> tuple[FloatArray, FloatArray]:
        """World rotations of the hips (N, F, 2, 3, 3) and angles of the knees (N, F, 2) radians about their x.

        to_ankle: (N, F, 2, 3) metres from hip to ankle, world; hinge: (N, F, 2, 3) where the knee's x should point,
        made perpendicular to it. What is farther than the straight leg is pointed at, what is nearer than the knee
        can bend is met in direction only.
        """
        constant, amplitude, straight, _ = (values[:, None] for values in self._hinge)
        squared = (to_ankle**2).sum(-1)
        bend = np.arccos(np.clip((squared - constant) / amplitude, -1, 1))
        knee = np.minimum(straight + bend, np.radians(config.knee_limit))
        rest = self.thigh[:, None] + (about(0, knee) @ self.shank[:, None, :, :, None])[..., 0]
        return _frame(to_ankle, hinge) @ np.swapaxes(_frame(rest, np.array([1.0, 0.0, 0.0])), -1, -2), knee


def _frame(along: FloatArray, across: FloatArray) -> FloatArray:
    """Orthonormal (…, 3, 3): columns along, and across made perpendicular to it."""
    first = along / np.linalg.norm(along, axis=-1, keepdims=True)
    second = across - (across * first).sum(-1, keepdims=True) * first
    second /= np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-9)
    return np.stack([first, second, np.cross(first, second)], -1)


def pelvis_height(
    pelvis: FloatArray, turned: FloatArray, feet: Feet, legs: Legs, beat: Beat, config: BodiesConfig
) -> FloatArray:
    """(N, S) metres: as high as the legs reach from the ground, without haste.

    pelvis: (N, S, 2) metres, x and z; turned: (N, S, 3, 3) its rotation.
    """
    hip = (turned[:, :, None] @ legs.hip[:, None, :, :, None])[..., 0]
    flat = feet.foot.ankle[..., [0, 2]] - pelvis[:, :, None] - hip[..., [0, 2]]
    longest = config.straightest * legs.longest[:, None]
    rise = np.sqrt(np.maximum(longest**2 - (flat**2).sum(-1), (config.deepest_crouch * longest) ** 2))
    allowed = feet.foot.ankle[..., 1] + rise - hip[..., 1]
    allowed += config.swing_slack * np.sin(np.pi * feet.swing)
    quick, slow = (
        _smoothly_below(allowed.min(-1), seconds * beat.rate)
        for seconds in (config.pelvis_smoothing_s, config.pelvis_smoothing_steep_s)
    )
    steep = np.clip(np.abs(beat.grade) / config.steep, 0, 1)
    return np.asarray((1 - steep) * quick + steep * slow)


def _smoothly_below(limit: FloatArray, radius: float) -> FloatArray:
    """A smooth curve nowhere above ``limit`` (N, S): the least within ``radius`` samples, averaged over as many."""
    reach = max(1, round(radius))
    low = minimum_filter1d(limit, 2 * reach + 1, axis=1, mode="nearest")
    return np.asarray(gaussian_filter1d(low, reach / 2, axis=1, mode="nearest", truncate=2.0))
