"""Where a crowd walks, stands, sits and turns: people who want to go somewhere, in the social-force model.

Sitting: people walk to the nearest free spot in front of a seat, turn, and back up to ``sit_reach`` before it. There
SIT begins: in its first ``sit_down`` seconds the pelvis moves straight back onto the seat, in its last it moves to the
front again, and in between it rests exactly on the seat, facing as the seat does: so the feet can stay where they are.
No such second is cut by the first or the last frame: who has SIT in the first frame sits already, who has it in the
last frame remains seated.
"""

from __future__ import annotations

import logging

import numpy as np

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.crowd import STILL, Crowd
from crowd4d_ros.synthetic.navigation import Ground, PathsError, Routes
from crowd4d_ros.synthetic.procession import procession_paths
from crowd4d_ros.synthetic.truth import Activity, Paths, Scene
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

__all__ = ["PathsError", "crowd_paths"]

logger = logging.getLogger(__name__)

MOVING = 0.15
"""m/s: faster is walking, slower than STILL is standing; between the two, people go on with what they did."""


def crowd_paths(
    scene: Scene,
    people: int,
    frames: int,
    fps: float,
    config: PathsConfig,
    rng: np.random.Generator,
    region: BoolArray | None = None,
) -> Paths:
    """The ways of ``people`` for ``frames`` at ``fps``: a natural crowd from the first frame on.

    region: (X, Z) bool of the terrain's nodes, where most people start and go to: what the camera sees; all by default.
    Where the scene has a way, all walk it together (procession.py).
    Raises PathsError where they cannot walk there, or are too many.
    """
    if people < 1 or frames < 1 or not (np.isfinite(fps) and fps > 0):
        raise PathsError(f"{people} people for {frames} frames at {fps} frames/s: each must be positive")
    ground = Ground.of(scene, config)
    if region is not None and region.shape != scene.walkable.shape:
        raise PathsError(f"the region {region.shape} is not on the terrain's grid {scene.walkable.shape}")
    if len(scene.way):
        return procession_paths(
            scene, people, frames, fps, config, rng, scene.walkable if region is None else region & scene.walkable
        )
    routes = Routes(ground, scene.walkable if region is None else region & scene.walkable, config)
    if people > config.max_density * routes.area:
        raise PathsError(
            f"{people} people do not fit into {routes.area:.0f} m^2 at {config.max_density} people/m^2: ask for fewer, "
            "or show more of the scene"
        )
    crowd = Crowd(scene, ground, routes, people, (frames - 1) / fps, config, rng)
    crowd.simulate(config.warm_up)
    records = [crowd.record()]
    for _ in range(frames - 1):
        crowd.simulate(1 / fps)
        records.append(crowd.record())
    position, heading, seat, present = (np.stack(column, 1) for column in zip(*records, strict=True))
    missing = np.count_nonzero(~present.any(-1))
    if missing:
        logger.warning("%d people found no room to come in through a gate and are never there", missing)
    position = _held(position, present)
    heading = np.unwrap(_held(heading[..., None], present)[..., 0], axis=-1)
    activity = np.where(np.isfinite(seat), int(Activity.SIT), _walk_or_stand(position, fps)).astype(np.int8)
    return Paths(position, heading, activity, seat, present, crowd.group)


def _held(values: FloatArray, present: BoolArray) -> FloatArray:
    """Values (N, T, D), those of the nearest present frame where absent."""
    frame = np.arange(present.shape[1])
    first = present.argmax(-1)
    last = np.where(present.any(-1), frame[-1] - present[:, ::-1].argmax(-1), 0)
    nearest = np.clip(frame, first[:, None], last[:, None])
    return np.take_along_axis(values, nearest[..., None], 1)


def _walk_or_stand(position: FloatArray, fps: float) -> IntArray:
    """Activity (N, T) by speed, with hysteresis."""
    if position.shape[1] == 1:
        return np.full(position.shape[:2], int(Activity.STAND))
    speed = np.linalg.norm(np.gradient(position, 1 / fps, axis=1), axis=-1)
    decided = (speed > MOVING) | (speed < STILL)
    decided[:, 0] = True
    since = np.maximum.accumulate(np.where(decided, np.arange(speed.shape[1]), 0), 1)
    walks = np.take_along_axis(speed >= STILL, since, 1)
    return np.where(walks, int(Activity.WALK), int(Activity.STAND))
