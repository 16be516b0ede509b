"""HSIP at close range (Sec. 3.2.2): where bodies hide what they stand on, from the scene's depth at the bodies."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.point_cloud import reliable, without_people
from crowd4d_ros.interaction.proxy import CLOSE_RANGE, Proxy, smoothed
from crowd4d_ros.interaction.scene_depth import NEAR, between_keyframes, lifted, of_their_frame, seen
from crowd4d_ros.window import CrowdWindow, FloatArray, ScenePoints


def hidden_share(window: CrowdWindow, lowest: FloatArray, config: InteractionConfig) -> float:
    """The share of the people at keyframes who hide their own support; 0 without any. Ours: the paper leaves it open.

    Somebody's support is seen if the lowest vertex, lowest: (N, T, 3) metres, is inside the image, and
    ``config.close_points`` reliable scene points that are nobody's own look ``config.close_support`` from it or less,
    at about its depth.
    """
    usable = reliable(window.scene, config)
    own = usable & of_their_frame(window)
    usable = own if own.any() else usable  # a fixed camera's only keyframe shows what later frames see, too
    scene = ScenePoints(window.scene.points[usable], window.scene.confidence[usable], window.scene.keyframe[usable])
    frames = np.unique(scene.keyframe)
    scene = without_people(scene, lowest, window.valid, window.cameras, config)
    hidden = [_hides(window, scene, lowest[window.observed[:, frame], frame], int(frame), config) for frame in frames]
    return float(np.mean(np.concatenate(hidden))) if hidden and sum(map(len, hidden)) else 0.0


def close_range_proxies(
    window: CrowdWindow, joints: FloatArray, lowest: FloatArray, config: InteractionConfig
) -> Proxy:
    """The point of a's ray that is horizontally nearest to where the scene's depth has the body.

    window: scaled by α0; joints: (N, T, 24, 3), lowest: (N, T, 3) metres, of the initial bodies. The target is the
    root at the median depth of the scene at its joints' pixels, smoothed over time (Eq. 13). The range is fixed.
    """
    camera = np.broadcast_to(window.cameras.centers, lowest.shape)
    ahead = camera - np.array([0.0, 0.0, 1.0])
    pelvis, feet = (np.where(window.valid[..., None], a, ahead) for a in (joints[..., 0, :], lowest))
    anchor = np.stack([pelvis[..., 0], feet[..., 1], pelvis[..., 2]], -1)
    distance = np.linalg.norm(pelvis - camera, axis=-1)
    mu, known = between_keyframes(*lifted(window, joints, config, config.close_skin), window.seconds, config)
    metres, near = smoothed(mu * distance, known & window.valid, window.seconds, config)
    depth = np.where(near, metres / distance, 1.0)
    target = camera + depth[..., None] * (pelvis - camera)

    ray = anchor - camera
    flat, wanted = ray[..., [0, 2]], (target - camera)[..., [0, 2]]
    share = (flat * wanted).sum(-1) / np.maximum((flat**2).sum(-1), NEAR**2)
    point = camera + share[..., None] * ray
    nowhere = np.zeros(window.valid.shape, bool)
    reach = np.full(window.valid.shape, config.close_range)
    return Proxy(
        anchor, anchor, point, nowhere, point, nowhere, depth, target, point, reach, window.valid & known, CLOSE_RANGE
    )


def _hides(
    window: CrowdWindow, scene: ScenePoints, feet: FloatArray, frame: int, config: InteractionConfig
) -> FloatArray:
    """(n,) 1 for each of the feet (n, 3) metres whose surroundings are not seen in this keyframe."""
    if not len(feet):
        return np.zeros(0)
    at, depth = seen(feet, np.full(len(feet), frame), window)
    size = window.intrinsics.width, window.intrinsics.height
    inside = (depth > NEAR) & (at >= 0).all(-1) & (at < size).all(-1)
    points = scene.points[scene.keyframe == frame]
    pixels, distance = seen(points, np.full(len(points), frame), window)
    in_front = distance > NEAR
    pixels, distance = pixels[in_front], distance[in_front]
    radius = config.close_support * window.intrinsics.K_rectified[0, 0] / np.maximum(depth, NEAR)
    around = cKDTree(pixels).query_ball_point(at, radius) if len(pixels) else [[] for _ in feet]
    body = np.repeat(np.arange(len(feet)), [len(each) for each in around])
    point = np.concatenate([np.zeros(0, int), *around]).astype(int)
    at_depth = np.abs(distance[point] / np.maximum(depth[body], NEAR) - 1) < config.close_depth
    count = np.bincount(body[at_depth], minlength=len(feet))
    return 1.0 - (inside & (count >= config.close_points))
