"""Everything the graph publishes into a folder: the result files, and a bag that RViz can play."""

from __future__ import annotations

import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, ConfigError, value
from crowd4d_ros.io.output import OutputError, prepare_folder, replacing_folder
from crowd4d_ros.io.results import ResultWriter
from crowd4d_ros.messages import bag_types, read_states, read_surface, stamp_of
from crowd4d_ros.msg import CrowdState, SurfaceMesh
from crowd4d_ros.nodes.common import RESULT_DEPTH, CrowdNode, EndOfStream, Worker, ros_types, run
from crowd4d_ros.visualization.overlay import OverlayPainter, write_overlay
from crowd4d_ros.visualization.plan import write_plan_of
from crowd4d_ros.window import CrowdMotion, Frame
from crowd4d_ros.window import SurfaceMesh as Surface

RECORDED: dict[str, tuple[str, bool]] = {
    "crowd/windows": ("crowd4d_ros/msg/CrowdWindow", False),
    "crowd/state": ("crowd4d_ros/msg/CrowdState", False),
    "crowd/surface": ("crowd4d_ros/msg/SurfaceMesh", True),
    "crowd/sipc": ("sensor_msgs/msg/PointCloud2", True),
    "crowd/terrain": ("nav_msgs/msg/OccupancyGrid", True),
    "crowd/bodies": ("visualization_msgs/msg/Marker", False),
    "crowd/markers": ("visualization_msgs/msg/MarkerArray", False),
    "crowd/surface_marker": ("visualization_msgs/msg/Marker", True),
    "crowd/overlay": ("sensor_msgs/msg/Image", False),
    "/tf": ("tf2_msgs/msg/TFMessage", False),
    "/tf_static": ("tf2_msgs/msg/TFMessage", True),
}
"""Topic → type, and whether it is latched."""
LISTS = {"visualization_msgs/msg/MarkerArray", "tf2_msgs/msg/TFMessage"}
"""Types that begin with a sequence of stamped messages instead of a header."""
_STAMP = struct.Struct("<iI")
EXPECTED_BYTES = 200_000_000
"""free space asked for before the start; a demo takes less."""
VISUALIZER_PATIENCE_S = 20.0
"""seconds that the last overlays may take after the last state."""


@dataclass(frozen=True)
class RecorderParameters:
    """What is written."""

    out: str = value("", "path", "the results' folder; made if need be")
    bag: bool = value(True, "", "true: also record the graph's topics into out/bag")
    storage: str = value("mcap", "mcap|sqlite3", "mcap is ROS 2 Jazzy's own")
    jpeg_quality: int = value(90, "of 100", "of the overlays in the bag")


class Recorder(CrowdNode):
    """Stops by itself at the end of the stream; a signal before that keeps what has come so far."""

    def __init__(self, stop: threading.Event, **options: Any) -> None:
        super().__init__("recorder", stop, **options)
        self.parameters = p = self.declare(RecorderParameters())
        config = self.declare(Config())
        if not p.out:
            raise ConfigError("the recorder needs out:=FOLDER")
        if p.storage not in ("mcap", "sqlite3"):
            raise ConfigError(f"'storage' is 'mcap' or 'sqlite3', not '{p.storage}'")
        self._out = Path(p.out)
        prepare_folder(self._out, EXPECTED_BYTES)
        self._config = config
        self._results = ResultWriter(self._out, config, BodyModel.load(config.body))
        self._bag = _Bag(self._out / "bag", StoragePlugin[p.storage.upper()]) if p.bag else None
        self._overlays = _Overlays(self._out)
        self._bridge = CvBridge()
        self._pending: list[CrowdState] = []
        self._motions: list[CrowdMotion] = []
        self._surface: Surface | None = None
        self._nodes: dict[str, dict[str, str]] = {}
        self._warnings: dict[str, str] = {}
        self._states_ended_at: float | None = None
        # one worker: what the graph sent in some order is written in that order
        self._worker: Worker[tuple[str, bytes]] = Worker(self, self._handle, RESULT_DEPTH, drop=False)
        for topic, (name, latched) in RECORDED.items():
            durability = QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE
            self._record(topic, name, QoSProfile(depth=RESULT_DEPTH, durability=durability))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._states_end = EndOfStream(self, "optimizer", self._worker.wake)
        self._overlay_end = EndOfStream(self, "visualizer", self._worker.wake)
        self.create_timer(1.0, self._worker.wake)
        self.get_logger().info(f"recording to {self._out}")

    def _record(self, topic: str, name: str, qos: QoSProfile) -> None:
        def put(data: bytes) -> None:
            self._worker.put((topic, data))

        self.create_subscription(ros_types(name), topic, put, qos, raw=True)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == "crowd4d_ros":
                self._nodes[status.name] = {entry.key: entry.value for entry in status.values}
                if status.level != DiagnosticStatus.OK:
                    self._warnings[status.name] = status.message

    def _handle(self, item: tuple[str, bytes] | None) -> None:
        try:
            if item is not None:
                self._write(*item)
            self._look_for_the_end()
        except OSError as error:  # a full disk: what was written before is kept
            self.status = 1
            self.stop.set()
            raise OutputError(f"recording to {self._out} stops: {error.strerror or error}") from error

    def _write(self, topic: str, data: bytes) -> None:
        name, latched = RECORDED[topic]
        stamp = _stamp(data, name)
        if topic == "crowd/state":
            self._states_end.handled(stamp)
            self._on_state(deserialize_message(data, CrowdState))
        elif topic == "crowd/surface":
            self._surface = read_surface(deserialize_message(data, SurfaceMesh))
        elif topic == "crowd/overlay":
            self._overlay_end.handled(stamp)
            topic, name = f"{topic}/compressed", "sensor_msgs/msg/CompressedImage"
            data = self._compress(deserialize_message(data, Image), stamp)
        if self._bag is not None:
            self._bag.write(self.resolve_topic_name(topic), name, latched, stamp, data)

    def _on_state(self, state: CrowdState) -> None:
        read_states([state])  # refused here, or its whole window would be
        self._overlays.frames[stamp_of(state.header)] = state.frame
        if self._pending and self._pending[-1].window_id != state.window_id:
            self._flush()
        self._pending.append(state)
        self.count("frames")

    def _flush(self) -> None:
        """A window is added when the next one begins: its surface may come after its states."""
        if self._pending:
            states, self._pending = self._pending, []
            motion = read_states(states, surface=self._surface)
            self._results.add(motion)
            self._motions.append(motion)

    def _compress(self, message: Image, stamp: int) -> bytes:
        image = self._bridge.imgmsg_to_cv2(message, "bgr8")
        encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.parameters.jpeg_quality])
        if not encoded:
            raise OutputError("an overlay could not be compressed")
        self._overlays.add(stamp, data.tobytes())
        compressed = CompressedImage(header=message.header, format="bgr8; jpeg compressed bgr8")
        compressed.data.frombytes(data.tobytes())
        return bytes(serialize_message(compressed))

    def _look_for_the_end(self) -> None:
        if not self._states_end.reached or len(self._worker):
            return
        self._states_ended_at = self._states_ended_at or time.monotonic()
        waited = time.monotonic() - self._states_ended_at
        if self._overlay_end.reached or waited > VISUALIZER_PATIENCE_S:
            self.stop.set()

    def close(self) -> None:
        """Write the result files; the bag is complete first, since it alone cannot be made again."""
        self._worker.join()
        if self._bag is not None:
            self._bag.close()
        self._flush()
        warnings = [f"{node}: {message}" for node, message in self._warnings.items()]
        self._results.close({"nodes": self._nodes, "parameters": {"out": str(self._out)}, "warnings": warnings})
        self._overlays.write(self._out, self._motions)
        write_plan_of(self._out, self._config.visualization)
        self.get_logger().info(f"{self.counters.get('frames', 0)} frames are in {self._out}")


def _stamp(data: bytes, name: str) -> int:
    """The first stamp in a serialised message; 0 in an empty list."""
    seconds, nanoseconds = _STAMP.unpack_from(data, 8 if name in LISTS and len(data) > 16 else 4)
    return int(seconds) * 10**9 + int(nanoseconds)


class _Bag:
    """A rosbag2 folder whose times are the images', so that playing it moves at the pace of the camera."""

    def __init__(self, folder: Path, storage: StoragePlugin) -> None:
        self._replacing = replacing_folder(folder)
        self._store = get_typestore(Stores.ROS2_JAZZY)
        bag_types(self._store)
        self._writer = Writer(self._replacing.__enter__(), version=9, storage_plugin=storage)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, name: str, latched: bool, stamp: int, data: bytes) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, name, typestore=self._store, offered_qos_profiles=[_qos(latched)]
            )
        self._writer.write(self._connections[topic], stamp, data)

    def close(self) -> None:
        self._writer.close()
        self._replacing.__exit__(None, None, None)


def _qos(latched: bool) -> Qos:
    zero = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else RESULT_DEPTH,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        zero,
        zero,
        QosLiveliness.AUTOMATIC,
        zero,
        False,
    )


class _Overlays:
    """The overlays as they came, on disk, until the video can be made: its rate is known at the end."""

    def __init__(self, folder: Path) -> None:
        self.frames: dict[int, int] = {}
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the recording)
        self._sizes: list[tuple[int, int]] = []
        """Stamp and bytes of each, in the order of the file; a stream that is played again repeats stamps."""

    def add(self, stamp: int, jpeg: bytes) -> None:
        self._sizes.append((stamp, len(jpeg)))
        self._spool.write(jpeg)

    def write(self, folder: Path, motions: list[CrowdMotion]) -> None:
        """overlay.mp4 and overlay.png."""
        stamps = [stamp for stamp, _ in self._sizes]
        if not stamps:
            return
        fps = 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0
        for _ in write_overlay(folder, self._read(), motions, _AlreadyDrawn(), fps):
            pass

    def _read(self) -> Iterator[Frame]:
        self._spool.seek(0)
        for stamp, size in self._sizes:
            image = cv2.imdecode(np.frombuffer(self._spool.read(size), np.uint8), cv2.IMREAD_COLOR)
            yield Frame(np.asarray(image, np.uint8), stamp, self.frames.get(stamp, -1))


class _AlreadyDrawn(OverlayPainter):
    def __init__(self) -> None:
        pass

    def draw(self, image: Any, motion: CrowdMotion, t: int) -> Any:
        return image


def main() -> int:
    """Console script."""
    return run(Recorder)
