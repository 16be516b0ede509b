"""Bodies for paths: everybody's shape, and an SMPL motion that walks the path with its feet on the terrain."""

from __future__ import annotations

import numpy as np
import torch

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import ConfigError
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import Beat, Route, footprints, resampled, walking_beat
from crowd4d_ros.synthetic.gait import MotionSource
from crowd4d_ros.synthetic.headings import leftward
from crowd4d_ros.synthetic.planting import (
    ANKLES,
    HIPS,
    KNEES,
    TOES,
    Foot,
    Legs,
    Soles,
    about,
    axis_angle,
    ground,
    moving_feet,
    pelvis_height,
    planted,
    rotation_matrix,
)
from crowd4d_ros.synthetic.truth import Paths
from crowd4d_ros.window import BodyMotion, FloatArray

CHUNK = 64
"""People at once: some hundred MB for a hundred frames."""
SEAT_JOINTS = [JOINTS.index(name) for name in ("pelvis", "left_hip", "right_hip")]
"""The underside of who sits moves with these."""
SEAT_RADIUS = 0.25
"""metres from the pelvis, in the rest pose: what may rest on a seat."""
SHAPE_ROUNDS = 200
"""Draws of everybody's shape: of the defaults', 85% fit at once; settings that one in ten fits still find everybody."""
SEAT_ROUNDS = 4
"""Lowering the pelvis turns the thighs, which lowers it again, by less each time."""


def crowd_bodies(
    paths: Paths,
    terrain: Surface,
    body: BodyModel,
    source: MotionSource,
    config: BodiesConfig,
    rng: np.random.Generator,
    fps: float,
) -> BodyMotion:
    """SMPL motions of the N people of ``paths`` over its T frames, at ``fps`` frames/s, on ``terrain``.

    Where somebody is not present, the motion is finite and carries no meaning.
    """
    betas = adult_shapes(body, len(paths.group), config, rng)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(betas), CHUNK)]
    parts = [_motions(_people(paths, rows), betas[rows], terrain, body, source, config, rng, fps) for rows in chunks]
    if not parts:
        frames = paths.heading.shape[1]
        return BodyMotion(betas, np.zeros((0, frames, 23, 3)), np.zeros((0, frames, 3)), np.zeros((0, frames, 3)))
    body_pose, global_orient, transl = (np.concatenate(part) for part in zip(*parts, strict=True))
    return BodyMotion(betas, body_pose, global_orient, transl)


def adult_shapes(body: BodyModel, people: int, config: BodiesConfig, rng: np.random.Generator) -> FloatArray:
    """(people, 10) standard normal betas, drawn again while too far out or of no adult's stature.

    Raises ConfigError where hardly anybody is as ``config`` asks.
    """
    betas = np.zeros((people, body.shapedirs.shape[-1]))
    wanted = np.arange(people)
    for _ in range(SHAPE_ROUNDS):
        betas[wanted] = rng.standard_normal((len(wanted), betas.shape[1]))
        height = stature(body, betas[wanted])
        fits = (np.abs(betas[wanted]).max(-1) < config.furthest_shape) & (height > config.statures[0])
        wanted = wanted[~(fits & (height < config.statures[1]))]
        if not len(wanted):
            return betas
    low, high = config.statures
    raise ConfigError(
        f"hardly any body of this model is {low} to {high} m tall: widen bodies.statures or furthest_shape"
    )


def stature(body: BodyModel, betas: FloatArray) -> FloatArray:
    """(N,) metres."""
    return np.asarray(body.height(torch.as_tensor(betas, dtype=body.v_template.dtype)).double().numpy())


def _people(paths: Paths, rows: slice) -> Paths:
    return Paths(**{name: values[rows] for name, values in paths.__dict__.items()})


def _motions(
    paths: Paths,
    betas: FloatArray,
    terrain: Surface,
    body: BodyModel,
    source: MotionSource,
    config: BodiesConfig,
    rng: np.random.Generator,
    fps: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """body_pose, global_orient, transl."""
    people = len(betas)
    rest = body.rest_joints(torch.as_tensor(betas, dtype=body.v_template.dtype)).double().numpy()
    legs, soles = Legs.of(rest), Soles.of(body, betas)
    route = resampled(paths, fps, config, rng)
    home = _home(route, rest, config)
    beat = walking_beat(route, home, _grade(route, terrain, config), stature(body, betas), config, rng)
    width = _half_width(beat, config, rng)
    toe_out = np.radians(rng.normal(config.toe_out, config.toe_out_spread, (people, 2)))
    steps = footprints(beat, home, route.heading, width, toe_out, config)
    holds = planted(steps, soles, terrain, config)
    feet = moving_feet(beat, steps, holds, soles, terrain, config)
    poses = source.poses(beat, rng)
    turned = about(1, route.heading) @ rotation_matrix(poses.pelvis)
    aside = poses.sway[..., None] * leftward(route.heading)
    pelvis_xz = route.position + aside
    upright = pelvis_height(pelvis_xz, turned, feet, legs, beat, config)

    now = route.frames
    pelvis = np.insert(pelvis_xz[:, now], 1, upright[:, now], -1)
    turned, heading, seated = turned[:, now], route.heading[:, now], route.seated[:, now]
    feet_now = Foot(feet.foot.ankle[:, now], feet.foot.rotation[:, now], feet.foot.toes[:, now])
    body_pose = poses.body_pose[:, now].copy()
    _reach(body_pose, pelvis, turned, heading, feet_now, legs, config)
    sitters = np.flatnonzero(seated.any(-1))
    for _ in range(SEAT_ROUNDS if len(sitters) else 0):
        under = _underside(body, betas[sitters], body_pose[sitters], turned[sitters])
        share, sitting = seated[sitters], route.seat[sitters, now] - under
        pelvis[sitters, :, 1] = (1 - share) * upright[sitters, now] + share * sitting
        _reach(body_pose, pelvis, turned, heading, feet_now, legs, config)
    return body_pose, axis_angle(turned), pelvis - rest[:, None, 0]


def _home(route: Route, rest: FloatArray, config: BodiesConfig) -> FloatArray:
    """(N, S, 2) the middle between the ankles of who stands at ease; who sits down leaves the feet where they were."""
    ahead = (rest[:, ANKLES, 2].mean(1) - rest[:, 0, 2])[:, None] + route.seated * config.sit_reach
    return np.asarray(route.position + ahead[..., None] * route.forward)


def _grade(route: Route, terrain: Surface, config: BodiesConfig) -> FloatArray:
    """(N, S) rise over run of the ground ahead and behind, over ``config.grade_reach``."""
    step = config.grade_reach / 2 * route.forward
    rise = ground(terrain, route.position + step) - ground(terrain, route.position - step)
    return np.asarray(rise / config.grade_reach)


def _half_width(beat: Beat, config: BodiesConfig, rng: np.random.Generator) -> FloatArray:
    """(N, S) metres between the midline and each ankle."""
    own = rng.normal(0, config.width_spread, (len(beat.phase), 1))
    width = (1 - beat.walking) * config.standing_width + beat.walking * config.walking_width
    return np.asarray(own + width / 2)


def _reach(
    body_pose: FloatArray,
    pelvis: FloatArray,
    turned: FloatArray,
    heading: FloatArray,
    feet: Foot,
    legs: Legs,
    config: BodiesConfig,
) -> None:
    """Sets the legs' joints in ``body_pose`` (N, T, 23, 3) so that the ankles are where the feet are."""
    hip = pelvis[:, :, None] + (turned[:, :, None] @ legs.hip[:, None, :, :, None])[..., 0]
    # Knees point between where the body and where the foot faces.
    facing = about(1, heading)[:, :, None, :, 0]
    hinge = (1 - config.knee_follows_foot) * facing + config.knee_follows_foot * feet.rotation[..., 0]
    thigh, bend = legs.reach(feet.ankle - hip, hinge, config)
    shank = thigh @ about(0, bend)
    body_pose[:, :, [joint - 1 for joint in HIPS]] = axis_angle(np.swapaxes(turned[:, :, None], -1, -2) @ thigh)
    body_pose[:, :, [joint - 1 for joint in KNEES]] = axis_angle(about(0, bend))
    body_pose[:, :, [joint - 1 for joint in ANKLES]] = axis_angle(np.swapaxes(shank, -1, -2) @ feet.rotation)
    body_pose[:, :, [joint - 1 for joint in TOES]] = axis_angle(np.swapaxes(feet.rotation, -1, -2) @ feet.toes)


def _underside(body: BodyModel, betas: FloatArray, body_pose: FloatArray, turned: FloatArray) -> FloatArray:
    """(N, T) metres from the pelvis to the lowest point of what rests on a seat (negative)."""

    def tensor(array: FloatArray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=body.v_template.dtype)

    shapes = tensor(betas)[:, None]
    near = (body.v_template - body.joint_template[0]).norm(dim=-1) < SEAT_RADIUS
    own = torch.nonzero(near & (body.weights[:, SEAT_JOINTS].sum(-1) > 0.9))[:, 0]
    points = body.vertices(shapes, tensor(body_pose), tensor(axis_angle(turned)), -body.pelvis(shapes), own)
    return np.asarray(points[..., 1].amin(-1).double().numpy())
