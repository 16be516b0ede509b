"""Images in every encoding, bags in both storages, and the bag that a reconstruction leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from synthetic_motion import body_model, crowd_motion, windows

from crowd4d_ros import messages
from crowd4d_ros.io import open_input
from crowd4d_ros.io.bags import BagError, ResultBag, open_bag, opened
from crowd4d_ros.io.camera import CameraInfoError
from crowd4d_ros.io.images import ImageError, decode_compressed, decode_image

HEIGHT, WIDTH = 12, 16
Image = NDArray[np.uint8]
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES: Callable[[str], Any] = STORE.types.__getitem__


def halves() -> Image:
    """BGR: left half red, right half blue, so that exchanged channels show."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 2], image[:, WIDTH // 2 :] = (20, 40, 200), (210, 50, 30)
    return image


def bayer(image: Image, pattern: str) -> Image:
    """What a sensor with this colour filter sees."""
    channel = {"r": 2, "g": 1, "b": 0}
    raw = np.zeros(image.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        raw[rows, columns] = image[rows, columns, channel[color]]
    return raw


def yuv422(image: Image, order: str) -> Image:
    """BT.601, luma from 16 to 235, as cameras send it; two pixels share their chroma."""
    to_yuv = np.array([[24.966, 128.553, 65.481], [112.0, -74.203, -37.797], [-18.214, -93.786, 112.0]]) / 255
    yuv = image @ to_yuv.T + [16, 128, 128]
    luma = yuv[..., 0]
    shared = np.where(np.arange(image.shape[1]) % 2 == 0, yuv[..., 1], yuv[..., 2])
    pair = (shared, luma) if order == "uyvy" else (luma, shared)
    return np.stack(pair, -1).round().astype(np.uint8)


COLOR: dict[str, Callable[[Image], NDArray[Any]]] = {
    "bgr8": lambda image: image,
    "rgb8": lambda image: image[..., ::-1],
    "bgra8": lambda image: np.dstack([image, np.full(image.shape[:2], 9, np.uint8)]),
    "rgba8": lambda image: np.dstack([image[..., ::-1], np.full(image.shape[:2], 9, np.uint8)]),
    "rgb16": lambda image: image[..., ::-1].astype("<u2") * 257,
    "bayer_rggb8": lambda image: bayer(image, "rggb"),
    "bayer_bggr8": lambda image: bayer(image, "bggr"),
    "bayer_gbrg8": lambda image: bayer(image, "gbrg"),
    "bayer_grbg8": lambda image: bayer(image, "grbg"),
    "yuv422": lambda image: yuv422(image, "uyvy"),
    "yuv422_yuy2": lambda image: yuv422(image, "yuyv"),
}


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", COLOR)
def test_colors_survive_every_encoding_and_padded_rows(encoding: str, padding: int) -> None:
    wanted = halves()
    rows = np.ascontiguousarray(COLOR[encoding](wanted)).view(np.uint8).reshape(HEIGHT, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    image = decode_image(encoding, HEIGHT, WIDTH, data.shape[1], False, data.tobytes())
    assert (image.dtype, image.shape) == (np.uint8, wanted.shape)
    inner = np.s_[3:-3, [3, -4]]  # away from the borders, where a Bayer pattern is a guess
    np.testing.assert_allclose(image[inner].astype(int), wanted[inner].astype(int), atol=4)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_gray_becomes_three_equal_channels(encoding: str) -> None:
    gray = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    image = decode_image(encoding, HEIGHT, WIDTH, WIDTH, False, gray.tobytes())
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, -1))


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bits_fill_eight_whatever_the_sensor_has(bits: int, big: bool) -> None:
    ramp = np.linspace(0, 2**bits - 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    data = ramp.astype(">u2" if big else "<u2").tobytes()
    image = decode_image("mono16", HEIGHT, WIDTH, 2 * WIDTH, big, data)
    np.testing.assert_allclose(image[..., 0], ramp * 255 / (2**bits - 1), atol=1)


def test_a_thermal_image_gets_contrast() -> None:
    kelvin = np.linspace(29000, 31000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype("<u2")
    image = decode_image("16UC1", HEIGHT, WIDTH, 0, False, kelvin.tobytes())
    assert np.ptp(image) > 250


@pytest.mark.parametrize(
    ("encoding", "step", "size", "says"),
    [
        ("h264", 48, 576, "not supported"),
        ("bgr8", 48, 100, "needs 576 bytes"),
        ("bgr8", 10, 576, "10 bytes a row"),
    ],
)
def test_impossible_images_are_refused(encoding: str, step: int, size: int, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        decode_image(encoding, HEIGHT, WIDTH, step, False, bytes(size))


def test_an_odd_row_of_pixels_that_share_colours_is_refused() -> None:
    with pytest.raises(ImageError, match="cannot convert 3x2"):
        decode_image("yuyv", 2, 3, 6, False, bytes(12))


def test_a_compressed_image_of_floats_is_refused() -> None:
    with pytest.raises(ImageError, match="float32"):
        decode_compressed("tiff", cv2.imencode(".tiff", np.ones((4, 4), np.float32))[1].tobytes())


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="0x0 has no pixels"):
        decode_image("bgr8", 0, 0, 0, False, b"")


@pytest.mark.parametrize(("extension", "atol"), [(".png", 0), (".jpg", 40)])
def test_compressed_images_are_decoded(extension: str, atol: int) -> None:
    data = cv2.imencode(extension, halves())[1].tobytes()
    image = decode_compressed("bgr8; compressed", data)
    np.testing.assert_allclose(image[:, [3, -4]].astype(int), halves()[:, [3, -4]].astype(int), atol=atol)


def test_sixteen_bit_and_gray_png_are_decoded() -> None:
    gray = np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    image = decode_compressed("16UC1; png compressed", cv2.imencode(".png", gray)[1].tobytes())
    np.testing.assert_allclose(image[..., 1], gray / 4095 * 255, atol=1)


@pytest.mark.parametrize(("format", "data"), [("jpeg", b"broken"), ("jpeg", b""), ("16UC1; compressedDepth", b"x")])
def test_broken_compressed_images_are_refused(format: str, data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_compressed(format, data)


# --- bags ---------------------------------------------------------------------------------------------------


def image_message(number: int, stamp: int, encoding: str = "bgr8") -> Any:
    image = np.full((HEIGHT, WIDTH, 3), 10 * number % 256, np.uint8)
    return messages.make(
        TYPES,
        "sensor_msgs/msg/Image",
        header=messages.make_header(TYPES, stamp, "camera"),
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=0,
        step=3 * WIDTH,
        data=image.ravel(),
    )


def compressed_message(number: int, stamp: int) -> Any:
    data = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))[1]
    return messages.make(
        TYPES,
        "sensor_msgs/msg/CompressedImage",
        header=messages.make_header(TYPES, stamp, "camera"),
        format="png",
        data=data.ravel(),
    )


def info_message(focal: float) -> Any:
    roi = messages.make(
        TYPES, "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    K = np.array([focal, 0, 8, 0, focal, 6, 0, 0, 1 if focal else 0]) * (focal > 0)
    return messages.make(
        TYPES,
        "sensor_msgs/msg/CameraInfo",
        header=messages.make_header(TYPES, 1, "camera"),
        height=HEIGHT,
        width=WIDTH,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=K.astype(np.float64),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def write_bag(
    folder: Path, content: dict[str, list[tuple[int, Any]]], plugin: StoragePlugin = StoragePlugin.MCAP
) -> Path:
    """A bag of topic → (time of recording, message)."""
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        for topic, recorded in content.items():
            name = recorded[0][1].__msgtype__
            connection = writer.add_connection(topic, name, typestore=STORE)
            for time, message in recorded:
                writer.write(connection, time, STORE.serialize_cdr(message, name))
    return folder


def stream(make: Callable[..., Any] = image_message, count: int = 6) -> list[tuple[int, Any]]:
    """Messages at 10 Hz from second 100, recorded 5 ms later."""
    stamps = [100 * 10**9 + number * 10**8 for number in range(count)]
    return [(stamp + 5_000_000, make(number, stamp)) for number, stamp in enumerate(stamps)]


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("make", [image_message, compressed_message])
def test_frames_come_with_their_stamps(tmp_path: Path, plugin: StoragePlugin, make: Callable[..., Any]) -> None:
    source = open_input(write_bag(tmp_path / "bag", {"/camera/image": stream(make)}, plugin))
    frames = list(source)
    assert (source.width, source.height, source.count) == (WIDTH, HEIGHT, 6)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.stamp for frame in frames] == [100 * 10**9 + n * 10**8 for n in range(6)]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40, 50]


def test_a_part_of_a_bag_keeps_the_numbers(tmp_path: Path) -> None:
    part = open_bag(write_bag(tmp_path / "bag", {"/image": stream()}), start=2, frames=3)
    assert part.count == 3
    assert [frame.index for frame in part] == [2, 3, 4]


def test_images_without_stamps_take_the_time_of_recording(tmp_path: Path) -> None:
    unstamped = [(7 * 10**9 + n, image_message(n, 0)) for n in range(3)]
    bag = open_bag(write_bag(tmp_path / "bag", {"/image": unstamped}))
    assert [frame.stamp for frame in bag] == [7 * 10**9, 7 * 10**9 + 1, 7 * 10**9 + 2]
    assert "no stamps" in bag.warnings[0]


def test_the_camera_info_beside_the_images_is_used(tmp_path: Path) -> None:
    content = {
        "/a/image_raw/compressed": stream(compressed_message),
        "/a/camera_info": [(1, info_message(50.0))],
    }
    bag = open_bag(write_bag(tmp_path / "bag", content))
    assert bag.intrinsics is not None
    assert bag.intrinsics.K[0, 0] == 50


def test_a_camera_info_with_K_zero_is_no_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"/a/image_raw": stream(), "/a/camera_info": [(1, info_message(0.0))]}
    assert open_bag(write_bag(tmp_path / "bag", content)).intrinsics is None
    assert "/a/camera_info says that the camera is not calibrated" in caplog.text


def test_a_camera_info_that_is_wrong_is_refused(tmp_path: Path) -> None:
    content = {"/a/image_raw": stream(), "/a/camera_info": [(1, info_message(np.inf))]}
    with pytest.raises(CameraInfoError, match=r"/a/camera_info.*not a camera matrix.*--camera-info"):
        open_bag(write_bag(tmp_path / "bag", content))


def test_of_several_image_topics_one_must_be_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", {"/left": stream(), "/right": stream(compressed_message)})
    with pytest.raises(BagError, match=r"/left, /right.*--topic"):
        open_bag(bag)
    with pytest.raises(BagError, match="/left, /right"):
        open_bag(bag, topic="/middle")
    assert open_bag(bag, topic="/right").topic == "/right"


def test_one_broken_image_is_left_out(tmp_path: Path) -> None:
    recorded = stream(compressed_message)
    recorded[2][1].data[:] = 0
    bag = open_bag(write_bag(tmp_path / "bag", {"/image": recorded}))
    assert [frame.index for frame in bag] == [0, 1, 3, 4, 5]
    assert "image 2" in bag.warnings[0]


def test_unknown_encodings_are_named_at_once(tmp_path: Path) -> None:
    recorded = stream(lambda number, stamp: image_message(number, stamp, "h264"))
    with pytest.raises(BagError, match="h264"):
        open_bag(write_bag(tmp_path / "bag", {"/image": recorded}))


@pytest.mark.parametrize("metadata", [None, "not: [yaml", "rosbag2_bagfile_information: {}"])
def test_what_is_no_bag_is_named(tmp_path: Path, metadata: str | None) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    with pytest.raises(BagError, match="thing"):
        open_bag(folder)


def test_a_bag_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="thing"), opened(tmp_path / "thing"):
        pass


def test_an_infinite_frame_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="--fps"):
        open_bag(write_bag(tmp_path / "bag", {"/image": stream()}), fps=np.inf)


def test_a_bag_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="none"):
        open_bag(write_bag(tmp_path / "bag", {"/a/camera_info": [(1, info_message(50.0))]}))


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_truncated_bag_is_refused_with_the_tool_that_repairs_it(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = write_bag(tmp_path / "bag", {"/image": stream(count=200)}, plugin)
    file = next(path for path in folder.iterdir() if path.name != "metadata.yaml")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="reindex"):
        open_bag(folder)


# --- the results as a bag -----------------------------------------------------------------------------------


def test_the_result_bag_holds_every_new_frame_once(tmp_path: Path) -> None:
    motion = crowd_motion(people=2, frames=12)
    bag = ResultBag(tmp_path / "bag", body_model())
    for window in windows(motion, length=8, overlap=3):
        bag.add(window)
    bag.close()
    store = get_typestore(Stores.ROS2_JAZZY)
    messages.bag_types(store)
    found: dict[str, list[Any]] = {}
    with Reader(tmp_path / "bag") as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(store.deserialize_cdr(data, connection.msgtype))
    states = found["/crowd/state"]
    assert [state.frame for state in states] == list(range(12))
    assert len(found["/crowd/surface"]) == len(found["/crowd/sipc"]) == 2
    again = messages.read_states(states[:8])
    np.testing.assert_allclose(again.joints, motion.joints[:, :8], atol=1e-4)
    np.testing.assert_allclose(again.motion.transl, motion.motion.transl[:, :8], atol=1e-4)
    frames = {transform.child_frame_id: transform.transform for transform in found["/tf"][0].transforms}
    assert set(frames) == {"camera_optical_frame", "person_1", "person_2"}
    pelvis = motion.joints[0, 0, 0]
    place = frames["person_1"].translation
    np.testing.assert_allclose([place.x, place.y, place.z], [-pelvis[2], -pelvis[0], pelvis[1]], atol=1e-5)
    points = found["/crowd/sipc"][0]
    cloud = points.data.view(np.float32).reshape(-1, 3)
    np.testing.assert_allclose(cloud[:, 2], motion.sipc[:, 1], atol=1e-6)
