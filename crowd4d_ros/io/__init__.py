"""Files in, files out: videos, bags, camera files, results. Nothing here needs ROS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from crowd4d_ros.io.video import VideoError, open_video
from crowd4d_ros.window import Frame, Intrinsics


class FrameSource(Protocol):
    """A recording: iterate it, as often as needed, for its frames.

    width, height: pixels of its first frame. count: frames to come where known. intrinsics: where it
    carries them. warnings: what was met while iterating.
    """

    width: int
    height: int
    count: int | None
    intrinsics: Intrinsics | None
    warnings: list[str]

    def __iter__(self) -> Iterator[Frame]: ...


def open_input(
    path: str | Path, start: int = 0, frames: int | None = None, fps: float | None = None, topic: str = ""
) -> FrameSource:
    """A video file or a rosbag2 folder. Arguments and errors as in ``open_video`` and ``open_bag``."""
    path = Path(path)
    if path.is_dir():
        from crowd4d_ros.io.bags import open_bag

        return open_bag(path, start, frames, fps, topic)
    if path.suffix in (".mcap", ".db3") and path.is_file():
        raise VideoError(f"{path} is one file of a bag: give its folder, {path.parent}")
    if topic:
        raise VideoError(f"{path} is not a rosbag2 folder, so --topic {topic} has no meaning")
    return open_video(path, start, frames, fps)
