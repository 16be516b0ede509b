"""The metric scale of the scene, from the bodies that stand on it (Eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.point_cloud import reliable, scene_interaction_points, without_people
from crowd4d_ros.interaction.surface import NOWHERE_TO_STAND, ROBUST, SurfaceError, build_surface
from crowd4d_ros.interaction.trust import known_from_above, weighted_median
from crowd4d_ros.window import BoolArray, Cameras, CrowdWindow, FloatArray, ScenePoints


class ScaleError(ValueError):
    """The people and the scene do not meet; the message says what to do."""


@dataclass(frozen=True)
class Scale:
    """α0, the relative spread (one robust sigma) of the depth ratios it averages, and how many were kept."""

    value: float
    spread: float
    pairs: int


def initial_scale(
    lowest: FloatArray, valid: BoolArray, cameras: Cameras, scene: ScenePoints, config: InteractionConfig
) -> Scale:
    """Eq. 2: the weighted average of d_smpl / d_scn over people and frames.

    lowest: (N, T, 3) lowest vertices, world, the bodies metric and placed from the unscaled camera centres;
    valid: (N, T). cameras and scene: unscaled. d_scn is where the ray of the lowest vertex meets the scene's
    surface. Its grid is metric, so it is built with the scale found so far, over a plane at first. Once that is near,
    the scene's points on people are left out, and of a ray's meetings the one nearest to the body counts: what hides
    feet is nearer.

    Weights ω = 1/d_smpl: a pixel of error at the feet counts in the ratio in proportion to d. Steeper weights
    would let one near person, whose stature is as uncertain as anybody's, decide for all. Ours besides: by how far
    the camera is above the feet (``known_from_above``). Ratios beyond ``scale_trim`` robust deviations of the
    median are left out: a sitter, a child or a wrong track must not scale the world.
    Raises ScaleError without people or a distance to the scene, or if no ray meets it; SurfaceError without a point.
    """
    person, frame = np.nonzero(valid)
    if not len(person):
        raise ScaleError("nobody is visible: the scale needs one person who stands on the scene")
    centers = cameras.centers[frame]
    ray = lowest[person, frame] - centers
    distance = np.linalg.norm(ray, axis=-1)
    known = known_from_above(ray, config)
    guess = float(np.median(distance)) / _typical_distance(cameras, scene, config)
    found = Scale(guess, np.inf, 0)
    for terrain, is_last in (("plane", False), (config.terrain, False), (config.terrain, True)):
        metric = replace(scene, points=scene.points * guess)
        if is_last:
            moved = lowest + cameras.centers * (guess - 1)
            metric = without_people(metric, moved, valid, replace(cameras, t=cameras.t * guess), config)
        surface = build_surface(
            scene_interaction_points(metric, config), centers * guess + ray, replace(config, terrain=terrain)
        )
        origin = centers * guess
        mu = surface.nearest(origin, ray, config.max_depth_ratio) if is_last else surface.intersect(origin, ray)[0]
        met = mu > 0
        if not met.any():
            raise ScaleError(
                "no viewing ray of anybody's feet meets the scene: gravity, the scene or the tracks are wrong"
            )
        found = robust_mean(guess / mu[met], 1 / distance[met], config, known[met])
        guess = found.value
    return found


def robust_mean(
    ratios: FloatArray, weights: FloatArray, config: InteractionConfig, known: FloatArray | None = None
) -> Scale:
    """Weighted mean of positive ratios (M,) within ``scale_trim`` deviations of their median.

    known: (M,) weights of the median and the deviation too; None: all alike. ``weights`` have no say in these: wrong
    tracks that seem near must not outvote the others.
    """
    share = np.ones_like(ratios) if known is None else known
    middle = weighted_median(ratios, share)
    deviation = ROBUST * weighted_median(np.abs(ratios - middle), share)
    kept = np.abs(ratios - middle) <= config.scale_trim * max(deviation, config.scale_spread_floor * middle)
    mean = float(np.average(ratios[kept], weights=(share * weights)[kept]))
    return Scale(mean, deviation / middle, int(np.count_nonzero(kept)))


def scaled(window: CrowdWindow, alpha: float) -> CrowdWindow:
    """The window with its scene and camera centres scaled about the world's origin.

    Bodies are metric already: they keep their place and size in each camera, and move along with its centre.
    """
    cameras = replace(window.cameras, t=window.cameras.t * alpha)
    shift = cameras.centers - window.cameras.centers
    return replace(
        window,
        cameras=cameras,
        scene=replace(window.scene, points=window.scene.points * alpha),
        motion=replace(window.motion, transl=window.motion.transl + shift),
    )


def _typical_distance(cameras: Cameras, scene: ScenePoints, config: InteractionConfig) -> float:
    usable = reliable(scene, config)
    if not usable.any():
        raise SurfaceError(NOWHERE_TO_STAND)
    offset = scene.points[usable] - cameras.centers[scene.keyframe[usable]]
    distance = float(np.median(np.linalg.norm(offset, axis=-1)))
    if distance == 0:
        raise ScaleError("most scene points lie in the cameras themselves: check the scene model")
    return distance
