"""Images in, CrowdWindows out (Sec. 3.1): one of these per camera, next to it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CameraInfo

from crowd4d_ros.config import Config, value
from crowd4d_ros.initialization.initializer import Initializer, StreamError
from crowd4d_ros.io.camera import (
    CameraInfoError,
    check_size,
    default_intrinsics,
    intrinsics_from,
    read_camera_info,
)
from crowd4d_ros.io.images import ImageError, decode_message
from crowd4d_ros.messages import MessageError, WindowEncoder, settled_stamp, stamp_of
from crowd4d_ros.msg import CrowdWindow as CrowdWindowMessage
from crowd4d_ros.msg import Progress
from crowd4d_ros.nodes.common import (
    LATCHED,
    SLOW_S,
    WINDOW_DEPTH,
    AnyImage,
    CrowdNode,
    EndOfStream,
    ImageSubscription,
    Worker,
    ros_types,
    run,
    stream_qos,
    to_nanoseconds,
)
from crowd4d_ros.window import CrowdWindow, Frame, Intrinsics

LATE_S = 2.0
"""seconds after a stream's announced end in which a last image may still come; then it was lost."""
SAY_AGAIN_S = 10.0
"""seconds between repetitions of a message about the input."""


@dataclass(frozen=True)
class InitializerParameters:
    """How images are taken, and what is done without a calibration."""

    reliable: bool = value(False, "", "true: nothing is dropped, the source waits; false: live, the newest count")
    transport: str = value("auto", "auto|raw|compressed", "auto: whichever topic the first image comes on")
    image_queue: int = value(
        60, "frames", "live: a window is fitted while 2 s of images at 30 Hz wait; then oldest drop"
    )
    camera_info: str = value("", "path", "a camera_info YAML file that is used instead of the topic")
    camera_info_timeout: float = value(
        5.0, "s", "wait this long for a usable CameraInfo, then estimate the focal length"
    )
    estimate_focal: bool = value(True, "", "false: without a usable CameraInfo wait for one for ever")
    first_frame: int = value(0, "frames", "number of the first image in the input, where a player skips some")
    windows_in_flight: int = value(2, "windows", "reliable: k+1 is observed while k is optimised")
    wait_for: int = value(0, "subscribers", "of the windows, before the first is sent")
    world_frame: str = value("world", "frame", "frame_id of everything that is published")


class InitializerNode(CrowdNode):
    """Subscribes image, image/compressed, camera_info; publishes crowd/windows, progress, diagnostics."""

    def __init__(
        self,
        stop: threading.Event,
        make_initializer: Callable[[Config, Intrinsics], Initializer] = Initializer,
        **options: Any,
    ) -> None:
        super().__init__("initializer", stop, **options)
        self._make_initializer = make_initializer
        self.parameters = p = self.declare(InitializerParameters())
        self.config = self.declare(Config())
        self._intrinsics = read_camera_info(p.camera_info) if p.camera_info else None
        self._initializer: Initializer | None = None
        self._encoder = WindowEncoder(ros_types, p.world_frame)
        self._frame = p.first_frame
        self._last_image = 0.0
        self._camera_frame = ""
        self._in_flight: deque[int] = deque()
        self._optimized: float = math.inf
        self._windows = self.create_publisher(CrowdWindowMessage, "crowd/windows", WINDOW_DEPTH)
        self._worker: Worker[tuple[int, AnyImage]] = Worker(self, self._handle, p.image_queue, drop=not p.reliable)
        self._end = EndOfStream(self, "player", self._worker.wake)
        qos = stream_qos(p.reliable, p.image_queue)
        self._images = ImageSubscription(self, p.transport, self._on_image, qos)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos)
        self.create_subscription(Progress, "optimizer/progress", self._on_optimized, LATCHED)
        self.create_timer(1.0, self._every_second)

    def _on_image(self, message: AnyImage) -> None:
        self._worker.put((self._frame, message))
        self._frame += 1

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._initializer is not None or self.parameters.camera_info:
            return
        try:
            self._intrinsics = intrinsics_from(
                message.width, message.height, message.k, message.d, message.distortion_model, message.p
            )
        except CameraInfoError as error:
            self.get_logger().error(f"CameraInfo refused: {error}", throttle_duration_sec=SAY_AGAIN_S)

    def _on_optimized(self, progress: Progress) -> None:
        self._optimized = math.inf if progress.end else to_nanoseconds(progress.input)

    def _every_second(self) -> None:
        self.counters["queued"] = len(self._worker)
        self.diagnose("images")
        if self._end.announced and time.monotonic() - self._last_image > LATE_S:
            self._worker.wake()

    def _handle(self, item: tuple[int, AnyImage] | None) -> None:
        if item is not None:
            index, message = item
            stamp = stamp_of(message.header)
            try:
                self._observe(index, stamp, message)
            except (StreamError, ImageError, CameraInfoError) as error:
                self.count("refused")
                self.get_logger().warning(f"image left out: {error}", throttle_duration_sec=SAY_AGAIN_S)
            finally:  # whatever came of it: the source waits for this
                self._last_image = time.monotonic()
                self._end.handled(stamp)
                self.report(input=stamp)
        late = self._end.announced and time.monotonic() - self._last_image > LATE_S
        if (self._end.reached or late) and not len(self._worker):
            self._finish()

    def _observe(self, index: int, stamp: int, message: AnyImage) -> None:
        image = decode_message(message)
        height, width = image.shape[:2]
        intrinsics = self._calibration(width, height)
        if intrinsics is None:
            return
        if self._initializer is None:
            self._initializer = self._make_initializer(self.config, intrinsics)
        self._camera_frame = message.header.frame_id
        began = time.monotonic()
        windows = self._initializer.push(Frame(image, stamp, index))
        self.count("frames")
        self.counters["ms of the last frame"] = round(1e3 * (time.monotonic() - began), 1)
        self.counters.update(self._initializer.perception.counts)
        self._publish(windows)

    def _calibration(self, width: int, height: int) -> Intrinsics | None:
        p = self.parameters
        if self._initializer is not None or self._intrinsics is not None:
            assert self._intrinsics is not None
            if self._initializer is None:
                check_size(self._intrinsics, width, height)
            return self._intrinsics
        began = time.monotonic()

        def ready() -> bool:
            waited = time.monotonic() - began
            return self._intrinsics is not None or (p.estimate_focal and waited > p.camera_info_timeout)

        if not self.wait_until(ready, f"a CameraInfo on {self.resolve_topic_name('camera_info')}"):
            return None
        if self._intrinsics is None:
            self._intrinsics = default_intrinsics(width, height)
            self.get_logger().warning("no usable CameraInfo: the focal length is estimated from the people")
        check_size(self._intrinsics, width, height)
        return self._intrinsics

    def _publish(self, windows: list[CrowdWindow]) -> None:
        p = self.parameters
        for window in windows:
            assert self._initializer is not None
            rest_pelvis = self._initializer.body.rest_pelvis(window.motion.betas)
            try:
                message = self._encoder.encode(window, rest_pelvis, self._camera_frame)
            except MessageError as error:
                self.count("failed")
                self.get_logger().error(f"window {window.window_id} is not sent: {error}")
                continue
            if not self.wait_for_subscribers(self._windows, p.wait_for):
                return
            if p.reliable and not self.wait_until(self._may_send, "the optimizer", SLOW_S):
                return
            self._windows.publish(message)
            stamp = settled_stamp(window)
            self._in_flight.append(stamp)
            self.count("windows")
            self.counters["people in the last window"] = window.num_people
            self.report(output=stamp)

    def _may_send(self) -> bool:
        while self._in_flight and self._in_flight[0] <= self._optimized:
            self._in_flight.popleft()
        return len(self._in_flight) < self.parameters.windows_in_flight

    def _finish(self) -> None:
        self._end.restart()
        try:
            if self._initializer is not None:
                self._publish(self._initializer.finish())
        finally:  # whatever came of it: the others wait for the end
            if self._initializer is not None:
                self._initializer.reset()
            self._frame = self.parameters.first_frame
            self._every_second()  # the last counters, for whoever stops at the end
            self.report(end=True)

    def close(self) -> None:
        self._worker.join()


def main() -> int:
    """Console script."""
    return run(InitializerNode)
