"""A camera made of a file: a video's or a bag's images on camera topics, with back-pressure.

Or an initializer made of a bag: its recorded CrowdWindows, to be optimised again without any image.
"""

from __future__ import annotations

import struct
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from cv_bridge import CvBridge
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from crowd4d_ros.config import ConfigError, value
from crowd4d_ros.io.bags import COMPRESSED, open_bag, opened
from crowd4d_ros.io.camera import read_camera_info
from crowd4d_ros.io.video import open_video
from crowd4d_ros.msg import CrowdWindow, Progress
from crowd4d_ros.nodes.common import (
    LATCHED,
    SLOW_S,
    WINDOW_DEPTH,
    CrowdNode,
    run,
    stream_qos,
    to_nanoseconds,
    to_time,
)
from crowd4d_ros.window import Intrinsics

WINDOW = "crowd4d_ros/msg/CrowdWindow"
_CDR_STAMP = struct.Struct("<4xiI")
"""A serialised message that begins with a Header: encapsulation, then its stamp."""


@dataclass(frozen=True)
class PlayerParameters:
    """What is played, and how."""

    video: str = value("", "path", "a video file; either this, bag or windows")
    bag: str = value("", "path", "a rosbag2 folder, sqlite3 or mcap, with images")
    windows: str = value("", "path", "a rosbag2 folder with recorded CrowdWindows, to be optimised again")
    bag_topic: str = value("", "topic", "the bag's images to play; empty: the only image topic")
    camera_info: str = value("", "path", "a camera_info YAML file; empty: the bag's own, or none is published")
    fps: float = value(0.0, "frames/s", "overrides a container's wrong rate; 0: the video's own")
    start: int = value(0, "frames", "skip this many at the beginning")
    frames: int = value(0, "frames", "play this many; 0: to the end")
    rate: float = value(1.0, "factor", "of real time; 0: as fast as the graph takes them")
    restamp: bool = value(True, "", "true: the first image is stamped now; false: stamps stay as the input has them")
    reliable: bool = value(True, "", "true: wait for the initializer, nothing is dropped; false: like a live camera")
    in_flight: int = value(8, "frames", "reliable: sent ahead of the initializer; hides the transport, bounds memory")
    wait_for: int = value(1, "subscribers", "of the images, before the first is sent")
    follow: str = value("initializer", "node", "reliable: whose progress is waited for; the optimizer, for windows")
    frame_id: str = value("camera_optical_frame", "frame", "of images without one; REP-103's suffix")


@dataclass(frozen=True)
class Item:
    """One image, ready to be published. stamp: nanoseconds."""

    stamp: int
    message: Image | CompressedImage | bytes
    publisher: Publisher


class Player(CrowdNode):
    """Publishes image, image/compressed and camera_info, and its progress."""

    def __init__(self, stop: threading.Event, **options: Any) -> None:
        super().__init__("player", stop, **options)
        self.parameters = p = self.declare(PlayerParameters())
        if sum(map(bool, (p.video, p.bag, p.windows))) != 1:
            raise ConfigError("the player plays one of video:=FILE, bag:=FOLDER and windows:=FOLDER")
        qos = stream_qos(p.reliable, max(p.in_flight, 1))
        self._raw = self.create_publisher(Image, "image", qos)
        self._compressed = self.create_publisher(CompressedImage, "image/compressed", qos)
        self._windows = self.create_publisher(CrowdWindow, "crowd/windows", WINDOW_DEPTH)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._taken = 0
        self._pending: deque[int] = deque()
        self.create_subscription(Progress, f"{p.follow}/progress", self._on_progress, LATCHED)
        self._intrinsics = read_camera_info(p.camera_info) if p.camera_info else None
        items = self._open_video() if p.video else self._open_bag() if p.bag else self._open_windows()
        self._thread = threading.Thread(target=self._play, args=(items,), name="player", daemon=True)
        self._thread.start()

    def _open_video(self) -> Iterator[Item]:
        p = self.parameters
        video = open_video(p.video, p.start, p.frames or None, p.fps or None)
        bridge = CvBridge()

        def items() -> Iterator[Item]:
            for frame in video:
                message = bridge.cv2_to_imgmsg(frame.image, "bgr8")
                message.header.frame_id = p.frame_id
                yield Item(frame.stamp, message, self._raw)

        return items()

    def _open_bag(self) -> Iterator[Item]:
        p = self.parameters
        bag = open_bag(p.bag, p.start, p.frames or None, p.fps or None, p.bag_topic)
        if self._intrinsics is None:
            self._intrinsics = bag.intrinsics
        stop = p.start + p.frames if p.frames else None

        def items() -> Iterator[Item]:
            # as recorded, byte for byte: no decoding, no loss
            for index, (name, stamp, data) in enumerate(islice(_recorded(p.bag, bag.topic), stop)):
                if index >= p.start:
                    publisher = self._compressed if name == COMPRESSED else self._raw
                    yield Item(round(index * 1e9 / p.fps) if p.fps else stamp, data, publisher)

        return items()

    def _open_windows(self) -> Iterator[Item]:
        with opened(Path(self.parameters.windows)) as reader:
            topics = [c.topic for c in reader.connections if c.msgtype == WINDOW]
        if len(topics) != 1:
            raise ConfigError(f"{self.parameters.windows} has {len(topics)} topics of CrowdWindows, not one")
        # their stamps are those of all that they hold
        self.parameters = replace(self.parameters, restamp=False)
        return (Item(stamp, data, self._windows) for _, stamp, data in _recorded(self.parameters.windows, topics[0]))

    def _play(self, items: Iterator[Item]) -> None:
        try:
            self._play_all(items)
        except Exception as error:  # a damaged file ends the stream; what was read is reconstructed
            self.get_logger().error(f"the input ends early: {error}")
        finally:
            self.report(end=True)

    def _play_all(self, items: Iterator[Item]) -> None:
        p = self.parameters
        first: int | None = None
        for item in items:
            if first is None:
                if not self.wait_for_subscribers(item.publisher, p.wait_for):
                    return
                first, began, now = item.stamp, time.monotonic(), self.get_clock().now().nanoseconds
                offset = now - first if p.restamp else 0
            if p.rate > 0 and self.stop.wait(max(0.0, began + (item.stamp - first) / 1e9 / p.rate - time.monotonic())):
                return
            stamp = item.stamp + offset
            if p.reliable and not self.wait_until(self._may_send, f"the {p.follow}", SLOW_S):
                return
            self._send(item, stamp)
            self._pending.append(stamp)
            self.count("images")
            self.report(output=stamp)

    def _send(self, item: Item, stamp: int) -> None:
        message = item.message
        if isinstance(message, bytes):
            end = _CDR_STAMP.size
            message = message[:4] + _CDR_STAMP.pack(stamp // 10**9, stamp % 10**9)[4:] + message[end:]
        else:
            message.header.stamp = to_time(stamp)
        if self._intrinsics is not None:
            self._info.publish(
                camera_info(self._intrinsics, Header(stamp=to_time(stamp), frame_id=self.parameters.frame_id))
            )
        item.publisher.publish(message)

    def _on_progress(self, progress: Progress) -> None:
        # an earlier stream's end says nothing about this one
        self._taken = 0 if progress.end else to_nanoseconds(progress.input)

    def _may_send(self) -> bool:
        while self._pending and self._pending[0] <= self._taken:
            self._pending.popleft()
        return len(self._pending) < self.parameters.in_flight

    def close(self) -> None:
        self._thread.join()


def _recorded(folder: str, topic: str) -> Iterator[tuple[str, int, bytes]]:
    """A topic's messages: type, the header's stamp or else the recording's in nanoseconds, CDR bytes."""
    with opened(Path(folder)) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        for connection, recorded, data in reader.messages(connections):
            seconds, nanoseconds = _CDR_STAMP.unpack_from(data)
            yield connection.msgtype, seconds * 10**9 + nanoseconds or recorded, bytes(data)


def camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """sensor_msgs/CameraInfo of a calibration."""
    P = np.concatenate([intrinsics.K_rectified, np.zeros((3, 1))], axis=1)
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model=intrinsics.distortion_model,
        d=array("d", intrinsics.distortion.tobytes()),
        k=intrinsics.K.ravel(),
        r=np.eye(3).ravel(),
        p=P.ravel(),
    )


def main() -> int:
    """Console script."""
    return run(Player)
