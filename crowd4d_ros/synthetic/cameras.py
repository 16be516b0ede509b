"""Cameras over scenes: surveillance cameras on high and low poles, a gigapixel camera far off, a drone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.config import CameraConfig
from crowd4d_ros.synthetic.structures import ray_hits
from crowd4d_ros.synthetic.truth import Scene
from crowd4d_ros.window import BoolArray, Cameras, FloatArray, Intrinsics

SAMPLED_FRAMES = 7
"""of a moving camera in which the ground is looked for: people spawned there are seen sooner or later."""
GROUND_SAMPLING = 1.0
"""metres between the nodes looked for: a step more or less of visible ground matters to nobody."""
EYE = 1.2
"""metres above the ground: somebody is hidden by a hill or a wall when the chest is."""
MIDDLE = 3.0
"""metres by which the middle of the view varies."""

DEFAULTS = CameraConfig()


class CameraError(ValueError):
    """There is no such camera, or nothing for it to see; the message says what to do."""


@dataclass(frozen=True)
class _View:
    """A first camera that looks along −z. centre: (3,); target: (3,) what is in the middle; focal: image widths."""

    image: tuple[int, int]
    focal: float
    centre: FloatArray
    target: FloatArray


def place_camera(
    kind: str, scene: Scene, frames: int, fps: float, config: CameraConfig, rng: np.random.Generator
) -> tuple[Intrinsics, Cameras]:
    """A camera of ``kind``, one of ``KINDS``, over ``scene``, in the scene's axes; x_cam = R x + t.

    The first camera's optical axis is horizontally along −z exactly. Of several views drawn, the one is taken from
    which structures hide the least. Raises CameraError.
    """
    if kind not in KINDS:
        raise CameraError(f"there is no camera '{kind}'; there are {', '.join(KINDS)}")
    if frames < 1 or not fps > 0:
        raise CameraError(f"{frames} frames at {fps} frames/s: at least one frame and a positive rate are needed")
    if config.candidates < 1:
        raise CameraError(f"camera.candidates is {config.candidates}: at least one view must be drawn")
    draw, flies = KINDS[kind]
    views = [draw(scene, config, rng) for _ in range(config.candidates)]
    view = max(views, key=lambda v: _worth(scene, v, config))
    roll = np.deg2rad(config.roll) * rng.uniform(-1, 1)
    still = _static(view, roll)
    if not flies:
        return _intrinsics(view), Cameras(np.repeat(still.R, frames, 0), np.repeat(still.t, frames, 0), still.source)
    return _intrinsics(view), _flight(view, roll, np.arange(frames) / fps, config, rng)


def visible_ground(
    scene: Scene, intrinsics: Intrinsics, cameras: Cameras, config: CameraConfig = DEFAULTS
) -> BoolArray:
    """(X, Z) bool: walkable nodes of the terrain where a person is whole in the image, no smaller than
    ``config.smallest`` pixels and not behind terrain, in at least one of a few frames. Structures hide nothing here:
    people disappear behind them, and come back. Raises CameraError where nothing is left.
    """
    step = max(round(GROUND_SAMPLING / scene.terrain.spacing), 1)
    sampled = np.unique(np.linspace(0, len(cameras.t) - 1, SAMPLED_FRAMES).astype(int))
    coarse = _coarse(scene.terrain, step)
    feet = coarse.mesh().vertices
    seen = np.zeros(len(feet), bool)
    for frame in sampled:
        rows = np.flatnonzero(~seen)
        seen[rows] = _seen(feet[rows], coarse, intrinsics, cameras, int(frame), config)
    # a coarse node answers for the block of nodes around it
    i, j = (np.minimum((np.arange(n) + step // 2) // step, (n - 1) // step) for n in scene.walkable.shape)
    region = seen.reshape(coarse.heights.shape)[i[:, None], j] & scene.walkable
    if not region.any():
        raise CameraError(f"the camera sees no walkable ground of the scene '{scene.name}': place it elsewhere")
    return np.asarray(region)


def _surveillance(scene: Scene, config: CameraConfig, rng: np.random.Generator) -> _View:
    middle = _middle(scene, rng)
    height, distance = rng.uniform(*config.surveillance_height), rng.uniform(*config.surveillance_distance)
    target = _ground(scene, middle[0], middle[2] - rng.uniform(*config.surveillance_beyond))
    focal = rng.uniform(*config.surveillance_focal)
    return _View(config.surveillance_image, focal, _above(scene, middle, distance, height), target)


def _low(scene: Scene, config: CameraConfig, rng: np.random.Generator) -> _View:
    low = replace(config, surveillance_height=config.low_height, surveillance_distance=config.low_distance)
    return _surveillance(scene, low, rng)


def _gigapixel(scene: Scene, config: CameraConfig, rng: np.random.Generator) -> _View:
    target = _middle(scene, rng)
    height, distance = rng.uniform(*config.gigapixel_height), rng.uniform(*config.gigapixel_distance)
    across = np.flatnonzero(scene.walkable.any(1))
    width = (across[-1] - across[0]) * scene.terrain.spacing
    focal = float(np.clip(config.gigapixel_fill * distance / width, *config.gigapixel_focal))
    return _View(config.gigapixel_image, focal, _above(scene, target, distance, height), target)


def _drone(scene: Scene, config: CameraConfig, rng: np.random.Generator) -> _View:
    target = _middle(scene, rng)
    height, pitch = rng.uniform(*config.drone_height), np.deg2rad(rng.uniform(*config.drone_pitch))
    focal = rng.uniform(*config.drone_focal)
    centre = target + np.array([0.0, height, height / np.tan(pitch)])
    return _View(config.drone_image, focal, centre, target)


KINDS: dict[str, tuple[Callable[[Scene, CameraConfig, np.random.Generator], _View], bool]] = {
    "surveillance": (_surveillance, False),
    "gigapixel": (_gigapixel, False),
    "drone": (_drone, True),
    "low": (_low, False),
}
"""Name → how a view of the kind is drawn, and whether it flies."""


def _middle(scene: Scene, rng: np.random.Generator) -> FloatArray:
    """(3,) on the ground near the middle of the scene."""
    return _ground(scene, *rng.uniform(-MIDDLE, MIDDLE, 2))


def _ground(scene: Scene, x: float, z: float) -> FloatArray:
    return np.array([x, float(scene.terrain.height(np.array([x, z]))[0]), z])


def _above(scene: Scene, target: FloatArray, distance: float, height: float) -> FloatArray:
    """(3,) straight before the target in z, ``height`` above the ground there and, if higher, on the target."""
    place = target + np.array([0.0, 0.0, distance])
    below, on_terrain = scene.terrain.height(place[[0, 2]])
    place[1] = height + (max(target[1], float(below)) if on_terrain else target[1])
    return np.asarray(place)


def _intrinsics(view: _View) -> Intrinsics:
    width, height = view.image
    focal = view.focal * width
    K = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Intrinsics(width, height, K, np.zeros(0), "plumb_bob", K.copy())


def _static(view: _View, roll: float = 0.0) -> Cameras:
    yaw, pitch = _towards(view.target - view.centre)
    R = _rotations(yaw[None], pitch[None], np.array([roll]))
    return Cameras(R, -(R @ view.centre), "synthetic")


def _flight(view: _View, roll: float, time: FloatArray, config: CameraConfig, rng: np.random.Generator) -> Cameras:
    """To and fro along each axis, first upwards, turned to the target as it goes and a little away from it."""
    speed = np.array(config.drone_speed) * [rng.choice([-1.0, 1.0]), 1.0, rng.choice([-1.0, 1.0])]
    centre = view.centre + np.stack([_wander(time, v, rng.uniform(*config.drone_period), rng) for v in speed], -1)
    yaw, pitch = _towards(view.target - centre)
    turn, nod = np.deg2rad([config.drone_turn, config.drone_nod]) * rng.choice([-1.0, 1.0], 2)
    shake = np.stack([_shake(time, config, rng) for _ in range(3)], -1)
    R = _rotations(
        yaw + _wander(time, turn, rng.uniform(*config.drone_period), rng) + shake[:, 0],
        pitch + _wander(time, nod, rng.uniform(*config.drone_period), rng) + shake[:, 1],
        roll + shake[:, 2],
    )
    return Cameras(R, -np.einsum("tij,tj->ti", R, centre), "synthetic")


def _wander(time: FloatArray, speed: float, period: float, rng: np.random.Generator) -> FloatArray:
    """(T,) a sine from 0 at time 0, never faster than |speed| and at first at least half as fast, in its sense."""
    frequency = 2 * np.pi / period
    phase = rng.uniform(-np.pi / 3, np.pi / 3)
    return np.asarray(speed / frequency * (np.sin(frequency * time + phase) - np.sin(phase)))


def _shake(time: FloatArray, config: CameraConfig, rng: np.random.Generator) -> FloatArray:
    period = rng.uniform(*config.shake_period)
    return _wander(time, np.deg2rad(config.shake) * 2 * np.pi / period, period, rng)


def _towards(direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Yaw about y from −z, to the left, and pitch, downwards, radians (…), of directions (…, 3)."""
    yaw = np.arctan2(-direction[..., 0], -direction[..., 2])
    return yaw, np.arctan2(-direction[..., 1], np.hypot(direction[..., 0], direction[..., 2]))


def _rotations(yaw: FloatArray, pitch: FloatArray, roll: FloatArray) -> FloatArray:
    """(T, 3, 3) world → optical axes, whose rows are the camera's right, down and forward in the world."""
    zero = np.zeros_like(yaw)
    forward = np.stack([-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], -1)
    level = np.stack([np.cos(yaw), zero, -np.sin(yaw)], -1)
    down = np.cross(forward, level)
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cosine * level + sine * down, cosine * down - sine * level, forward], 1)


def _coarse(terrain: Surface, step: int) -> Surface:
    heights = terrain.heights[::step, ::step]
    kept = np.ones((heights.shape[0] - 1, heights.shape[1] - 1, 2), bool)
    return Surface(heights, terrain.corner, step * terrain.spacing, kept, terrain.plane)


def _seen(
    feet: FloatArray, terrain: Surface, intrinsics: Intrinsics, cameras: Cameras, frame: int, config: CameraConfig
) -> BoolArray:
    """(P,) whether who stands at ``feet`` (P, 3) is whole in the image, large enough, and not behind the terrain."""
    person = feet[:, None] + np.array([[0.0, 0.0, 0.0], [0.0, config.person, 0.0]])
    in_camera = person @ cameras.R[frame].T + cameras.t[frame]
    depth = in_camera[..., 2]
    pixels = (in_camera @ intrinsics.K_rectified.T)[..., :2] / np.where(depth > 0, depth, np.inf)[..., None]
    whole = ((pixels >= 0) & (pixels <= [intrinsics.width, intrinsics.height])).all((1, 2)) & (depth > 0).all(-1)
    seen = np.asarray(whole & (np.linalg.norm(pixels[:, 1] - pixels[:, 0], axis=-1) >= config.smallest))
    eye = feet[seen] + [0.0, EYE, 0.0]
    mu, _ = terrain.intersect(eye, cameras.centers[frame] - eye)
    seen[seen] = (mu <= 0) | (mu >= 1)
    return seen


def _worth(scene: Scene, view: _View, config: CameraConfig) -> float:
    """Share of the walkable ground in view that structures leave visible, less where there is little ground in view."""
    intrinsics, camera = _intrinsics(view), _static(view)
    step = max(round(2 * GROUND_SAMPLING / scene.terrain.spacing), 1)
    coarse = _coarse(scene.terrain, step)
    feet = coarse.mesh().vertices[scene.walkable[::step, ::step].ravel()]
    feet = feet[_seen(feet, coarse, intrinsics, camera, 0, config)]
    if not len(feet):
        return 0.0
    eye = feet + np.array([0.0, EYE, 0.0])
    free = ray_hits(scene.structures, eye, camera.centers[0] - eye) >= 1
    return float(free.mean()) * min(len(feet) * coarse.spacing**2 / config.room, 1.0)
