"""rosbag2 folders, sqlite3 or mcap, in and out. Read and written by ``rosbags``; no ROS needed."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from crowd4d_ros import messages
from crowd4d_ros.axes import to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.io.camera import CameraInfoError, UncalibratedError, intrinsics_from
from crowd4d_ros.io.images import ImageError, decode_message
from crowd4d_ros.io.output import OutputError
from crowd4d_ros.window import CrowdMotion, FloatArray, Frame, Intrinsics

log = logging.getLogger(__name__)

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
# Their definitions are the same in every ROS 2, so those in the bag, which may be missing, are not needed.
TYPES = get_typestore(Stores.ROS2_JAZZY)

WORLD_FRAME, CAMERA_FRAME = "world", "camera_optical_frame"
"""TF's names in a bag, which has no launch file to rename them."""
RESULT_TOPICS = {
    "/tf": ("tf2_msgs/msg/TFMessage", False),
    "/crowd/state": ("crowd4d_ros/msg/CrowdState", False),
    "/crowd/surface": ("crowd4d_ros/msg/SurfaceMesh", True),
    "/crowd/sipc": ("sensor_msgs/msg/PointCloud2", True),
}
"""Topic → message type, and whether late subscribers get the last one (transient local)."""


class BagError(ValueError):
    """A bag that cannot be used; the message says why and what to do."""


@dataclass
class ImageBag:
    """One image topic of a bag: iterate it, as often as needed, for its frames. Made by ``open_bag``.

    intrinsics: of the camera_info topic beside it, None where there is none or its K is zero. warnings: what was met
    while iterating.
    """

    path: Path
    topic: str
    width: int
    height: int
    count: int | None
    start: int
    stop: int | None
    fps: float | None
    intrinsics: Intrinsics | None
    warnings: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        with opened(self.path) as reader:
            images = _messages(reader, self.topic)
            index = -1
            while True:
                try:
                    index, (recorded, message) = next(images)
                except StopIteration:
                    return
                except Exception as error:  # whatever a damaged file makes the storage libraries raise
                    self._warn(f"{self.path} is damaged after image {index} ({error}): what came before is used")
                    return
                if index < self.start:
                    continue
                if self.stop is not None and index >= self.stop:
                    return
                try:
                    image = decode_message(message)
                except ImageError as error:
                    self._warn(f"image {index} of {self.topic} is left out: {error}")
                    continue
                yield Frame(image, self._stamp(message, recorded, index), index)

    def _stamp(self, message: Any, recorded: int, index: int) -> int:
        if self.fps is not None:
            return round(index * 1e9 / self.fps)
        stamp = messages.stamp_of(message.header)
        if stamp == 0:
            self._warn(f"the images of {self.topic} have no stamps: the times of recording are used")
        return stamp or recorded

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning(message)


def open_bag(
    path: str | Path, start: int = 0, frames: int | None = None, fps: float | None = None, topic: str = ""
) -> ImageBag:
    """The images of ``topic`` (the only image topic when empty), from number ``start``, at most ``frames``.

    fps: stamps are round(index · 1e9 / fps) ns instead of the messages'. Raises BagError, or CameraInfoError
    when the bag's own calibration cannot be used.
    """
    path = Path(path)
    if start < 0 or (frames is not None and frames <= 0) or (fps is not None and not 0 < fps < math.inf):
        raise BagError(f"--start must not be negative, --frames and --fps positive, not {start}, {frames} and {fps}")
    if not (path / "metadata.yaml").is_file():
        raise BagError(f"{path} is not a rosbag2 folder: it has no metadata.yaml (`ros2 bag reindex` makes one)")
    with opened(path) as reader:
        chosen = _image_topic(reader, path, topic)
        total = sum(connection.msgcount for connection in reader.connections if connection.topic == chosen)
        if start >= total:
            raise BagError(f"{path} has {total} images on {chosen}, --start {start} is after their end")
        try:
            _, (_, message) = next(_messages(reader, chosen))
            height, width = decode_message(message).shape[:2]
        except ImageError as error:
            raise BagError(f"{chosen} in {path}: {error}") from None
        except Exception as error:  # whatever a damaged file makes the storage libraries raise
            raise BagError(f"{path} cannot be read, try `ros2 bag reindex`: {error}") from error
        intrinsics = _intrinsics(reader, chosen)
    stop = None if frames is None else start + frames
    count = total - start if frames is None else min(total - start, frames)
    return ImageBag(path, chosen, width, height, count, start, stop, fps, intrinsics)


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """A reader of the bag. Raises BagError."""
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # as above: missing files, bad YAML, unknown storage, broken indices
        raise BagError(f"{path} is not a bag that can be read, try `ros2 bag reindex`: {error}") from error
    try:
        yield reader
    finally:
        reader.close()


def _image_topic(reader: Reader, path: Path, wanted: str) -> str:
    topics = {
        connection.topic: connection.msgtype
        for connection in reader.connections
        if connection.msgtype in (IMAGE, COMPRESSED) and connection.msgcount
    }
    listed = ", ".join(sorted(topics)) or "none"
    if wanted:
        if wanted not in topics:
            raise BagError(f"{path} has no images on {wanted}; topics with images: {listed}")
        return wanted
    if len(topics) != 1:
        advice = "choose one with --topic" if topics else "record sensor_msgs/Image or CompressedImage"
        raise BagError(f"{path} has {len(topics)} topics with images ({listed}): {advice}")
    return str(next(iter(topics)))


def _messages(reader: Reader, topic: str) -> Iterator[tuple[int, tuple[int, Any]]]:
    connections = [connection for connection in reader.connections if connection.topic == topic]
    return enumerate(
        (recorded, TYPES.deserialize_cdr(data, connection.msgtype))
        for connection, recorded, data in reader.messages(connections)
    )


def _intrinsics(reader: Reader, image_topic: str) -> Intrinsics | None:
    infos = {c.topic for c in reader.connections if c.msgtype == CAMERA_INFO and c.msgcount}
    # /camera/image_raw and /camera/image_raw/compressed both go with /camera/camera_info.
    beside = [f"{parent}/camera_info" for parent in _parents(image_topic)]
    found = next((topic for topic in beside if topic in infos), None)
    if found is None:
        if infos:
            log.warning("no camera_info beside %s, only %s: not used", image_topic, ", ".join(sorted(infos)))
        return None
    _, (_, info) = next(_messages(reader, found))
    try:
        return intrinsics_from(info.width, info.height, info.k, info.d, info.distortion_model, info.p)
    except UncalibratedError:
        log.warning("%s says that the camera is not calibrated: its K is zero", found)
        return None
    except CameraInfoError as error:
        raise CameraInfoError(f"{found} in the bag: {error}; --camera-info overrides it") from None


def _parents(topic: str) -> Iterator[str]:
    while "/" in topic:
        topic = topic.rpartition("/")[0]
        yield topic


class ResultBag:
    """A bag of the reconstruction, on the topics of the live graph, mcap. Raises OutputError.

    folder: must not exist. Call ``add`` with each window in order, then ``close``.
    """

    def __init__(self, folder: Path, body: BodyModel) -> None:
        self._body, self._folder = body, folder
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._types = messages.bag_types(self._store)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        with self._writing():
            self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, name, typestore=self._store, offered_qos_profiles=[_qos(keeps)])
            for topic, (name, keeps) in RESULT_TOPICS.items()
        }

    def add(self, motion: CrowdMotion) -> None:
        """The new frames of one window, and the terrain under them."""
        pelvis = self._body.rest_pelvis(motion.motion.betas)
        with self._writing():
            for state in messages.states(motion, pelvis, self._types, WORLD_FRAME, CAMERA_FRAME):
                stamp = messages.stamp_of(state.header)
                self._write("/tf", self._transforms(state), stamp)
                self._write("/crowd/state", state, stamp)
            if motion.is_new.any():
                end = messages.settled_stamp(motion)
                self._write("/crowd/surface", messages.make_surface(self._types, motion, WORLD_FRAME), end)
                self._write("/crowd/sipc", self._cloud(motion), end)

    def close(self) -> None:
        """The bag is complete."""
        with self._writing():
            self._writer.close()

    def _write(self, topic: str, message: Any, stamp: int) -> None:
        connection = self._connections[topic]
        self._writer.write(connection, stamp, self._store.serialize_cdr(message, connection.msgtype))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write the bag {self._folder}: {error.strerror or error}") from error

    def _transforms(self, state: Any) -> Any:
        bodies, places = messages.person_poses(state)
        camera, center = messages.camera_pose(state)
        R, t = np.concatenate([camera[None], bodies]), np.concatenate([center[None], places])
        names = [CAMERA_FRAME, *(f"person_{track_id}" for track_id in state.track_ids)]
        return messages.make(
            self._types,
            "tf2_msgs/msg/TFMessage",
            transforms=[
                self._transform(state.header, name, *pose)
                for name, *pose in zip(names, Rotation.from_matrix(R).as_quat().tolist(), t.tolist(), strict=True)
            ],
        )

    def _transform(self, header: Any, child: str, quaternion: list[float], place: list[float]) -> Any:
        make, types = messages.make, self._types
        return make(
            types,
            "geometry_msgs/msg/TransformStamped",
            header=header,
            child_frame_id=child,
            transform=make(
                types,
                "geometry_msgs/msg/Transform",
                translation=make(types, "geometry_msgs/msg/Vector3", **dict(zip("xyz", place, strict=True))),
                rotation=make(types, "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", quaternion, strict=True))),
            ),
        )

    def _cloud(self, motion: CrowdMotion) -> Any:
        points: FloatArray = to_z_up(motion.sipc).astype(np.float32)
        step = points.itemsize * 3
        make, types = messages.make, self._types
        float32 = types("sensor_msgs/msg/PointField").FLOAT32
        return make(
            types,
            "sensor_msgs/msg/PointCloud2",
            header=messages.make_header(types, messages.settled_stamp(motion), WORLD_FRAME),
            height=1,
            width=len(points),
            fields=[
                make(
                    types,
                    "sensor_msgs/msg/PointField",
                    name=axis,
                    offset=4 * place,
                    datatype=float32,
                    count=1,
                )
                for place, axis in enumerate("xyz")
            ],
            is_bigendian=False,
            point_step=step,
            row_step=step * len(points),
            data=np.frombuffer(points.tobytes(), np.uint8),
            is_dense=True,
        )


def _qos(keeps: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if keeps else QosDurability.VOLATILE,
        deadline=QosTime(0, 0),
        lifespan=QosTime(0, 0),
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=QosTime(0, 0),
        avoid_ros_namespace_conventions=False,
    )
