"""What observations of a scene allow: perfect bodies, at their pixels, on the surface that was observed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.evaluation.ground import laid_over, off_terrain, resized
from crowd4d_ros.evaluation.metrics import scale_error
from crowd4d_ros.interaction.point_cloud import scene_interaction_points, without_people
from crowd4d_ros.interaction.scale import initial_scale, scaled
from crowd4d_ros.interaction.surface import build_surface
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdWindow, FloatArray


@dataclass(frozen=True)
class Attainable:
    """alpha: Eq. 2's scale, metres per unit of the scene.

    scale: the layout's size against the true one, less 1, as the metric's "scale error", the mean over frames.
    feet: (S,) metres, how far the feet are from the true terrain, vertically, as the metric's "feet: true terrain".
    feet_resized: (S,) the same, as the metric's "size aside".
    depth: (S,) by how much farther off feet are than in truth, relative. Samples are person-frames that are seen and
    whose rays meet the surface.
    """

    alpha: float
    scale: float
    feet: FloatArray
    feet_resized: FloatArray
    depth: FloatArray


def attainable(truth: Truth, window: CrowdWindow, config: InteractionConfig) -> Attainable:
    """The true lowest vertices, moved along their rays to the surface of ``window``'s scene.

    window: of all the truth's frames, unscaled. Its scale is Eq. 2's, from bodies whose shape, pose and distance are
    known exactly: what is left are the errors of scene and cameras. Raises ScaleError or SurfaceError.
    """
    seen = truth.valid & (truth.visibility > 0)
    in_camera = truth.cameras.in_camera(truth.lowest)
    offset = (in_camera[..., None, :] @ window.cameras.R)[..., 0, :]
    feet = np.where(seen[..., None], window.cameras.centers + offset, 0.0)
    alpha = initial_scale(feet, seen, window.cameras, window.scene, config).value
    metric = scaled(window, alpha)
    centers = metric.cameras.centers
    feet = np.where(seen[..., None], centers + offset, 0.0)
    static = without_people(metric.scene, feet, seen, metric.cameras, config)
    surface = build_surface(scene_interaction_points(static, config), feet[seen], config)
    origin = np.broadcast_to(centers, feet.shape)[seen]
    mu = surface.nearest(origin, offset[seen], config.max_depth_ratio)
    met, met_there = mu > 0, seen.copy()
    met_there[seen] = met
    placed = np.zeros_like(feet)
    placed[met_there] = origin[met] + mu[met, None] * offset[seen][met]
    cameras = metric.cameras, truth.cameras
    of_true_size = resized(placed[met_there], truth.lowest[met_there], *cameras)
    sizes = [
        scale_error(placed[there, frame], truth.lowest[there, frame])
        for frame, there in enumerate(met_there.T)
        if there.sum() > 1
    ]
    return Attainable(
        alpha,
        float(np.mean(sizes)) if sizes else float("nan"),
        off_terrain(laid_over(placed[met_there], *cameras), truth.terrain),
        off_terrain(laid_over(of_true_size, *cameras), truth.terrain),
        mu[met] - 1,
    )
