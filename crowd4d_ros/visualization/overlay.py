"""The camera's image with the reconstructed bodies over the people, where the camera would see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import VisualizationConfig
from crowd4d_ros.io.output import OutputError, replacing
from crowd4d_ros.io.results import posed_vertices
from crowd4d_ros.lens import project
from crowd4d_ros.visualization import track_color
from crowd4d_ros.visualization.raster import decimate, paint, shade
from crowd4d_ros.window import CrowdMotion, FloatArray, Frame, IntArray

Image = NDArray[np.uint8]

RING_POINTS = 24
"""corners of the circle on the ground: round at every size in which it is seen."""
HEAD_JOINT, ABOVE_HEAD = 15, 0.3
"""SMPL's head joint is at the neck's top; a label goes this many metres above it."""
FONT, FONT_HEIGHT = cv2.FONT_HERSHEY_SIMPLEX, 22.0
"""OpenCV's font is 22 pixels high at scale 1."""


@dataclass(frozen=True)
class Level:
    """A body mesh of one coarseness. index: (K,) into the 6890 vertices; faces: (F, 3) of those K."""

    cell: float
    index: IntArray
    faces: IntArray


class OverlayPainter:
    """Draws crowds over images; holds the decimated meshes of ``body``."""

    def __init__(self, body: BodyModel, config: VisualizationConfig) -> None:
        self.body, self.config = body, config
        vertices, faces = body.v_template.cpu().numpy(), body.faces.cpu().numpy()
        self._levels = [Level(cell, *decimate(vertices, faces, cell)) for cell in config.mesh_cells]

    def draw(self, image: Image, motion: CrowdMotion, t: int) -> Image:
        """(H, W, 3) BGR: ``image``, as it came from the camera, with frame ``t`` of ``motion`` over it."""
        people = np.flatnonzero(motion.valid[:, t])
        if not len(people):
            return image.copy()
        colors = np.stack([255 * track_color(int(track_id))[::-1] for track_id in motion.track_ids[people]])
        drawn = self._draw_ground(image.copy(), motion, people, t, colors)
        drawn = self._draw_bodies(drawn, motion, people, t, colors)
        return self._draw_labels(drawn, motion, people, t, colors) if self.config.text_height else drawn

    def _draw_bodies(self, image: Image, motion: CrowdMotion, people: IntArray, t: int, colors: FloatArray) -> Image:
        R, translation = motion.cameras.R[t], motion.cameras.t[t]
        distance = motion.joints[people, t, 0] @ R[2] + translation[2]
        focal = motion.intrinsics.K[0, 0]
        corners, depths, paints = [], [], []
        level_of = self._choose_levels(focal / np.maximum(distance, 1e-3))
        for number, level in enumerate(self._levels):
            chosen = np.flatnonzero(level_of == number)
            if not len(chosen):
                continue
            vertices = posed_vertices(self.body, motion, people[chosen], t, level.index) @ R.T + translation
            triangles = vertices[:, level.faces]
            brightness = shade(triangles)[..., None]
            opacity = np.where(motion.observed[people[chosen], t], self.config.opacity, self.config.bridged_opacity)[
                :, None, None
            ]
            lit = colors[chosen][:, None] * brightness
            paints.append(np.concatenate([lit, np.broadcast_to(opacity, brightness.shape)], axis=-1).reshape(-1, 4))
            corners.append(project(motion.intrinsics, vertices)[:, level.faces].reshape(-1, 3, 2))
            depths.append(triangles[..., 2].mean(axis=-1).ravel())
        return paint(
            image,
            np.concatenate(corners),
            np.concatenate(depths),
            np.concatenate(paints),
            self.config.supersampling,
        )

    def _choose_levels(self, pixels_per_metre: FloatArray) -> IntArray:
        sizes = np.array([level.cell for level in self._levels]) * pixels_per_metre[:, None]
        fine_enough = sizes <= self.config.triangle_size
        fine_enough[:, -1] = True
        return np.asarray(np.argmax(fine_enough, axis=-1))

    def _draw_ground(self, image: Image, motion: CrowdMotion, people: IntArray, t: int, colors: FloatArray) -> Image:
        angle = np.linspace(0, 2 * np.pi, RING_POINTS, endpoint=False)
        circle = self.config.foot_radius * np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=-1)
        rings = self._project(motion, motion.support_point[people, t][:, None] + circle, t)
        recent = motion.stamps[: t + 1] >= motion.stamps[t] - self.config.trail * 1e9
        first = int(np.argmax(recent))
        trails = self._project(motion, motion.support_point[people, first : t + 1], t)
        trails[~motion.valid[people, first : t + 1]] = np.nan
        for ring, trail, color in zip(rings, trails, colors.tolist(), strict=True):
            _draw_line(image, ring, color, closed=True)
            _draw_line(image, trail, color, closed=False)
        return image

    def _draw_labels(self, image: Image, motion: CrowdMotion, people: IntArray, t: int, colors: FloatArray) -> Image:
        places = self._project(motion, motion.joints[people, t, HEAD_JOINT] + [0, ABOVE_HEAD, 0], t)
        scale = self.config.text_height * image.shape[0] / FONT_HEIGHT
        for place, track_id, color in zip(places, motion.track_ids[people], colors, strict=True):
            if not np.isfinite(place).all():
                continue
            text = str(track_id)
            (width, _), _ = cv2.getTextSize(text, FONT, scale, 1)
            origin = (int(place[0] - width / 2), int(place[1]))
            bright = (0.4 * color + 0.6 * 255).tolist()
            cv2.putText(image, text, origin, FONT, scale, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(image, text, origin, FONT, scale, bright, 1, cv2.LINE_AA)
        return image

    @staticmethod
    def _project(motion: CrowdMotion, points: FloatArray, t: int) -> FloatArray:
        return project(motion.intrinsics, points @ motion.cameras.R[t].T + motion.cameras.t[t])


def write_overlay(
    folder: Path, frames: Iterable[Frame], motions: Iterable[CrowdMotion], painter: OverlayPainter, fps: float
) -> Iterator[int]:
    """overlay.mp4 of all ``frames``, overlay.png of the one with most people; yields after each frame.

    motions: the windows in order; of each the new frames are drawn. Raises OutputError.
    """
    placed = _by_frame(motions)
    following = next(placed, None)
    most, writer = -1, None
    with replacing(folder / "overlay.mp4") as video, replacing(folder / "overlay.png") as picture:
        try:
            for frame in frames:
                image, people = frame.image, 0
                while following is not None and following[0] < frame.index:
                    following = next(placed, None)
                if following is not None and following[0] == frame.index:
                    _, motion, t = following
                    image, people = painter.draw(image, motion, t), int(motion.observed[:, t].sum())
                if writer is None:
                    size = image.shape[1], image.shape[0]
                    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                    if not writer.isOpened():
                        raise OutputError(f"cannot write {folder / 'overlay.mp4'}: OpenCV has no MPEG-4 encoder here")
                if image.shape[1::-1] != size:
                    image = np.asarray(cv2.resize(image, size), np.uint8)
                writer.write(image)
                if people > most:
                    most = people
                    picture.write_bytes(cv2.imencode(".png", image)[1].tobytes())
                yield frame.index
        finally:
            if writer is not None:
                writer.release()
        if writer is not None and not _is_video(video):
            raise OutputError(f"{folder / 'overlay.mp4'} was not written whole: free some space and run again")


def _is_video(path: Path) -> bool:
    """Whether it can be opened. OpenCV's writer tells nobody of a full disk, but what makes it a video comes last."""
    capture = cv2.VideoCapture(str(path))
    try:
        return bool(capture.isOpened())
    finally:
        capture.release()


def _by_frame(motions: Iterable[CrowdMotion]) -> Iterator[tuple[int, CrowdMotion, int]]:
    for motion in motions:
        for t in np.flatnonzero(motion.is_new):
            yield int(motion.frames[t]), motion, int(t)


def _draw_line(image: Image, pixels: FloatArray, color: list[float], closed: bool) -> None:
    seen = pixels[np.isfinite(pixels).all(axis=-1)]
    if len(seen) > 1:
        near = np.clip(seen, -image.shape[1], 2 * image.shape[1])
        cv2.polylines(image, [np.rint(near * 16).astype(np.int32)], closed, color, 1, cv2.LINE_AA, 4)
