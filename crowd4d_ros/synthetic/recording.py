"""A synthetic crowd as a camera would have recorded it: video.avi and camera_info.yaml, or a rosbag2 folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from crowd4d_ros import messages
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.io.bags import CAMERA_FRAME, CAMERA_INFO, COMPRESSED, TYPES
from crowd4d_ros.io.camera import write_camera_info
from crowd4d_ros.io.output import OutputError, replacing, replacing_folder
from crowd4d_ros.synthetic.config import RenderConfig
from crowd4d_ros.synthetic.render import frames
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import FloatArray, Intrinsics

Image = NDArray[np.uint8]

IMAGE_TOPIC, INFO_TOPIC = "/camera/image_raw/compressed", "/camera/camera_info"
CODEC = "MJPG"
"""OpenCV takes no quality for an mp4. Motion JPEG keeps 37 dB of our frames, MPEG-4 34 dB at a fifth of the size."""


class _Sink(Protocol):
    def write(self, image: Image, stamp: int) -> None: ...


def write_recording(
    truth: Truth,
    body: BodyModel,
    out: Path,
    config: RenderConfig,
    rng: np.random.Generator,
    *,
    video: bool = True,
    bag: bool = False,
) -> None:
    """out/video.avi with out/camera_info.yaml, and out/bag: the frames of ``truth`` as ``reconstruct`` reads them.

    The images show what K_rectified sees, so the calibrations say that, without distortion. body: the truth's; out: a
    folder that exists. Raises RenderError where the renderer is not installed, and OutputError.
    """
    pinhole = rectified(truth.intrinsics)
    with ExitStack() as stack:
        sinks: list[_Sink] = []
        if video:
            path = stack.enter_context(replacing(out / "video.avi"))
            sinks.append(stack.enter_context(_video(path, truth.fps, (pinhole.width, pinhole.height))))
        if bag:
            folder = stack.enter_context(replacing_folder(out / "bag"))
            sinks.append(stack.enter_context(_bag(folder, pinhole, config.jpeg_quality)))
        for image, stamp in zip(frames(truth, body, config, rng), truth.stamps.tolist(), strict=True):
            for sink in sinks:
                sink.write(image, stamp)
    if video:
        write_camera_info(out / "camera_info.yaml", pinhole)


def rectified(intrinsics: Intrinsics) -> Intrinsics:
    """The camera that the rendered images come from: K_rectified, without a lens."""
    K = intrinsics.K_rectified
    return Intrinsics(intrinsics.width, intrinsics.height, K, np.zeros(0), "plumb_bob", K)


@contextmanager
def _video(path: Path, fps: float, size: tuple[int, int]) -> Iterator[_Sink]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODEC), fps, size)
    if not writer.isOpened():
        raise OutputError(f"cannot write {path.parent / 'video.avi'}: OpenCV has no Motion JPEG encoder here")
    try:
        yield _Video(writer)
    finally:
        writer.release()


class _Video:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, image: Image, stamp: int) -> None:
        self._writer.write(image)


@contextmanager
def _bag(folder: Path, camera: Intrinsics, quality: int) -> Iterator[_Sink]:
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        yield _Bag(writer, camera, quality)


class _Bag:
    """Each frame as a compressed image, with the calibration beside it."""

    def __init__(self, writer: Writer, camera: Intrinsics, quality: int) -> None:
        self._writer, self._camera, self._quality = writer, camera, quality
        self._images = writer.add_connection(IMAGE_TOPIC, COMPRESSED, typestore=TYPES)
        self._infos = writer.add_connection(INFO_TOPIC, CAMERA_INFO, typestore=TYPES)

    def write(self, image: Image, stamp: int) -> None:
        header = messages.make_header(_types, stamp, CAMERA_FRAME)
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].ravel()
        picture = messages.make(_types, COMPRESSED, header=header, format="jpeg", data=data)
        self._writer.write(self._infos, stamp, TYPES.serialize_cdr(_camera_info(header, self._camera), CAMERA_INFO))
        self._writer.write(self._images, stamp, TYPES.serialize_cdr(picture, COMPRESSED))


def _types(name: str) -> Any:
    return TYPES.types[name]


def _camera_info(header: Any, camera: Intrinsics) -> Any:
    whole = messages.make(
        _types, "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    K: FloatArray = camera.K_rectified.astype(np.float64)
    return messages.make(
        _types,
        CAMERA_INFO,
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.zeros(5),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.concatenate([K, np.zeros((3, 1))], 1).ravel(),
        binning_x=0,
        binning_y=0,
        roi=whole,
    )
