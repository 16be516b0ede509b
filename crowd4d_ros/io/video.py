"""Video files as a stream of frames."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from crowd4d_ros.window import Frame, Intrinsics

# FFmpeg reports every damaged packet on stderr; what matters of it is said once, by us.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

log = logging.getLogger(__name__)

MAX_FPS = 1000.0
"""Containers without a rate report 0, NaN or a time base such as 90000."""


class VideoError(ValueError):
    """A video that cannot be read; the message says why and what to do."""


@dataclass
class Video:
    """An opened video: iterate it, as often as needed, for its frames. Made by ``open_video``.

    Iterating raises VideoError where a damaged file ends before ``start``.

    fps: frames/s, of the container or as given. count: frames to come as the container promises, None when
    it does not. intrinsics: videos carry none. warnings: what was met while iterating.
    """

    path: Path
    width: int
    height: int
    fps: float
    count: int | None
    start: int
    stop: int | None
    declared: int
    intrinsics: Intrinsics | None = None
    warnings: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            index = 0
            while (self.stop is None or index < self.stop) and capture.grab():
                if index >= self.start:
                    readable, image = capture.retrieve()
                    if not readable:
                        break
                    yield Frame(np.asarray(image, np.uint8), round(index * 1e9 / self.fps), index)
                index += 1
            if index <= self.start:
                raise VideoError(f"{self.path} is cut off or damaged: it ends after {index} frames, before --start")
            promised = self.declared if self.stop is None else min(self.stop, self.declared)
            if index < promised:
                self._warn(f"{self.path} ends after {index} of {self.declared} frames, it is cut off or damaged")
        finally:
            capture.release()

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning(message)


def open_video(path: str | Path, start: int = 0, frames: int | None = None, fps: float | None = None) -> Video:
    """The video's frames from number ``start`` on, at most ``frames`` of them.

    fps: overrides the container's rate. Stamps are round(index · 1e9 / fps) ns; index counts from 0 in the
    file.
    Raises VideoError for no file, no video, no rate, or a start after the end.
    """
    path = Path(path)
    if not path.exists():
        raise VideoError(f"no such file: {path}")
    if not path.is_file():
        raise VideoError(f"{path} is not a video file")
    capture = cv2.VideoCapture(str(path))
    try:
        readable, image = capture.read() if capture.isOpened() else (False, None)
        declared, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    if not readable or image is None:
        raise VideoError(f"{path} is not a video, or so damaged that not one frame can be read")
    if fps is None:
        if not 0 < rate < MAX_FPS:
            raise VideoError(f"{path} does not say its frame rate: give it with --fps")
        fps = rate
    elif not 0 < fps < math.inf:
        raise VideoError(f"the frame rate must be positive and finite, not {fps:g}: give another --fps")
    total = int(declared) if declared > 0 else 0
    if start < 0 or (frames is not None and frames <= 0):
        raise VideoError(f"--start must not be negative and --frames must be positive, not {start} and {frames}")
    if total and start >= total:
        raise VideoError(f"{path} has {total} frames, --start {start} is after its end")
    stop = None if frames is None else start + frames
    end = min([number for number in (stop, total or None) if number is not None], default=None)
    height, width = image.shape[:2]
    return Video(path, width, height, float(fps), None if end is None else end - start, start, stop, total)
