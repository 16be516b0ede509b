"""A cheap picture of a synthetic crowd: the ground and the structures by rays, the bodies over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import VisualizationConfig
from crowd4d_ros.io.output import replacing
from crowd4d_ros.lens import undistort
from crowd4d_ros.synthetic.answer import only, perfect_answer
from crowd4d_ros.synthetic.structures import ray_hits
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.visualization.overlay import OverlayPainter
from crowd4d_ros.visualization.raster import AMBIENT
from crowd4d_ros.window import FloatArray, Intrinsics

Image = NDArray[np.uint8]

WIDTH = 1600
"""pixels of the preview at most."""
RAY_STRIDE = 4
"""pixels between the backdrop's rays: coarse, but a ray costs as much as a body's triangle."""
SKY, GROUND, WALL = (np.array(color, np.float64) for color in ((240, 225, 205), (170, 200, 200), (165, 175, 195)))
"""(3,) BGR, 0–255."""
SUN: FloatArray = np.array([-0.5, 0.75, 0.45])
"""(3,) towards the light, world: from behind the camera's left shoulder."""
CONTOUR, CONTOUR_WIDTH, CONTOUR_SHADE = 0.5, 0.06, 0.85
"""metres of height between lines on the ground, their share of it, and how much darker they are."""
HAZE = 400.0
"""metres over which two thirds of a colour fade into the sky's: tells near from far."""
FOOTING = 2.0
"""metres: the ground hides who is farther behind it than this; the coarse rays must not cut off feet."""


def write_preview(path: Path, truth: Truth, body: BodyModel, config: VisualizationConfig) -> None:
    """preview.png: the frame in which most people are seen. Raises OutputError."""
    frame = int((truth.visibility > 0).sum(0).argmax())
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", preview(truth, frame, body, config))[1].tobytes())


def preview(truth: Truth, frame: int, body: BodyModel, config: VisualizationConfig) -> Image:
    """(H, W, 3) BGR of one frame, at most ``WIDTH`` wide."""
    answer = perfect_answer(truth)
    small = scaled(truth.intrinsics, min(1.0, WIDTH / truth.intrinsics.width))
    answer = replace(answer, intrinsics=small)
    image, depth = backdrop(truth, small, frame)
    painter = OverlayPainter(body, replace(config, opacity=1.0, text_height=0.0))
    seen = np.flatnonzero(truth.visibility[:, frame] > 0)
    away = np.linalg.norm(truth.joints[seen, frame, 0] - truth.cameras.centers[frame], axis=-1)
    # One by one, far ones first, so that what is nearer than a person stays in front of it.
    for person in seen[np.argsort(-away, kind="stable")]:
        drawn = painter.draw(image, only(answer, np.array([person])), frame)
        mine = np.linalg.norm(truth.joints[person, frame, 0] - truth.cameras.centers[frame])
        image = np.where((depth < mine)[..., None], image, drawn)
    return image


def backdrop(truth: Truth, intrinsics: Intrinsics, frame: int) -> tuple[Image, FloatArray]:
    """(H, W, 3) BGR without people, and (H, W) metres along each pixel's ray beyond which people are hidden."""
    u, v = np.meshgrid(*(np.arange(0, n + RAY_STRIDE, RAY_STRIDE) for n in (intrinsics.width, intrinsics.height)))
    rays = undistort(intrinsics, np.stack([u, v], -1).astype(np.float64))
    ray = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], -1) @ truth.cameras.R[frame]
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    center = truth.cameras.centers[frame]
    ground, on_mesh = truth.terrain.intersect(center, ray)
    ground = np.where(ground > 0, ground, np.inf)
    wall = ray_hits(truth.structures, np.broadcast_to(center, ray.shape), ray)
    nearest = np.minimum(ground, wall)
    reached = np.isfinite(nearest)
    place = center + np.where(reached, nearest, 0.0)[..., None] * ray
    clear = np.exp(-np.where(reached, nearest, np.inf) / HAZE)[..., None]
    color = np.where(
        (wall < ground)[..., None], WALL, GROUND * np.where(on_mesh, _lines(place[..., 1]), 1.0)[..., None]
    )
    paint = color * _lit(place, center)[..., None]
    image = (clear * paint + (1 - clear) * SKY).astype(np.float32)
    size = intrinsics.width, intrinsics.height
    hides = np.minimum(wall, ground + FOOTING).astype(np.float32)
    smooth = _enlarged(image, size, cv2.INTER_LINEAR)
    return np.rint(smooth).astype(np.uint8), _enlarged(hides, size, cv2.INTER_NEAREST)


def _lit(place: FloatArray, center: FloatArray) -> FloatArray:
    """(H, W) brightness by Lambert's law of a picture's places (H, W, 3); their neighbours give the normals."""
    normal = np.cross(np.gradient(place, axis=1), np.gradient(place, axis=0))
    normal *= np.sign(((center - place) * normal).sum(-1, keepdims=True))
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(AMBIENT + (1 - AMBIENT) * np.clip(normal @ (SUN / np.linalg.norm(SUN)), 0, 1))


def _lines(height: FloatArray) -> FloatArray:
    """(…) how bright ground of that height (…) is drawn: darker along contour lines."""
    line = np.abs((height / CONTOUR) % 1.0 - 0.5) > 0.5 - CONTOUR_WIDTH / 2
    return np.where(line, CONTOUR_SHADE, 1.0)


def _enlarged(coarse: FloatArray, size: tuple[int, int], how: int) -> FloatArray:
    """``coarse``, whose samples are ``RAY_STRIDE`` pixels apart from pixel 0 on, at every pixel of ``size``."""
    u, v = np.meshgrid(*(np.arange(n, dtype=np.float32) / RAY_STRIDE for n in size))
    return np.asarray(cv2.remap(coarse, u, v, how))


def scaled(intrinsics: Intrinsics, scale: float) -> Intrinsics:
    """The camera of images ``scale`` times as large."""
    zoom = np.diag([scale, scale, 1.0])
    width, height = (round(scale * n) for n in (intrinsics.width, intrinsics.height))
    return replace(
        intrinsics, width=width, height=height, K=zoom @ intrinsics.K, K_rectified=zoom @ intrinsics.K_rectified
    )
