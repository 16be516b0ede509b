"""A procession: people who walk one way together, and slow down and go on together, past what hides them.

A social-force crowd gets out of everybody's way; here neighbours tell where somebody is whom nobody sees.
"""

from __future__ import annotations

import numpy as np

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.navigation import PathsError
from crowd4d_ros.synthetic.noise import smooth_noise
from crowd4d_ros.synthetic.truth import Activity, Paths, Scene
from crowd4d_ros.window import BoolArray, FloatArray

FINEST = 0.01
"""s between the samples of the pace: a millimetre of way is lost."""


def procession_paths(
    scene: Scene, people: int, frames: int, fps: float, config: PathsConfig, rng: np.random.Generator, region: BoolArray
) -> Paths:
    """``people`` in files along ``scene.way``, either way, halfway through the ``region`` (X, Z) in the middle frame.

    All have one pace, each a little late, and wander a little about their place in the file. Raises PathsError where
    they do not fit on the way.
    """
    way = scene.way[:: rng.choice([-1, 1])]
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=-1))])
    seconds = np.arange(frames) / fps
    walked = _walked(seconds, config.procession_lag * rng.standard_normal((people, 1)), config, rng)

    rank, file = np.divmod(np.arange(people), config.procession_files)
    along = -config.procession_along * (rank + 0.5 * (file % 2))
    across = config.procession_across * (file - (config.procession_files - 1) / 2)
    wander = config.procession_wander * smooth_noise(rng, (people, frames, 2), config.procession_wander_time * fps)
    node = np.rint((way - scene.terrain.corner) / scene.terrain.spacing).astype(int)
    in_region = region[tuple(np.clip(node, 0, np.array(region.shape) - 1).T)]
    if not in_region.any():
        raise PathsError(f"the camera sees nothing of the way through the scene '{scene.name}': turn it")
    middle = 0.5 * (length[in_region][0] + length[in_region][-1])
    place = along[:, None] + walked + wander[..., 0]
    place += middle - 0.5 * (place[:, frames // 2].min() + place[:, frames // 2].max())
    if place.min() < 0 or place.max() > length[-1]:
        raise PathsError(f"{people} people are longer than the way through the scene '{scene.name}': ask for fewer")

    tangent = np.gradient(way, length, axis=0)
    position, ahead = (
        np.stack([np.interp(place, length, points[:, axis]) for axis in (0, 1)], -1) for points in (way, tangent)
    )
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    aside = np.stack([ahead[..., 1], -ahead[..., 0]], -1)
    position = position + (across[:, None] + wander[..., 1])[..., None] * aside
    heading = np.unwrap(np.arctan2(ahead[..., 0], ahead[..., 1]), axis=-1)
    shape = (people, frames)
    return Paths(
        position,
        heading,
        np.full(shape, int(Activity.WALK), np.int8),
        np.full(shape, np.nan),
        np.ones(shape, bool),
        np.zeros(people, np.int64),
    )


def _walked(seconds: FloatArray, late: FloatArray, config: PathsConfig, rng: np.random.Generator) -> FloatArray:
    """(N, T) metres since the first frame, of people ``late`` (N, 1) seconds, at a pace that comes and goes."""
    slowing, period = rng.uniform(*config.procession_slowing), rng.uniform(*config.procession_period)
    phase = rng.uniform(0, 2 * np.pi)
    begin, end = seconds[0] - late.max(), seconds[-1] - late.min()
    time = np.linspace(begin, end, 2 + int((end - begin) / FINEST))
    pace = config.procession_speed * (1 - slowing * 0.5 * (1 + np.cos(2 * np.pi * time / period + phase)))
    way = np.concatenate([[0.0], np.cumsum(0.5 * (pace[1:] + pace[:-1]) * np.diff(time))])
    return np.asarray(np.interp(seconds - late, time, way) - np.interp(seconds[0], time, way))
