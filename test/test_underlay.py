"""The drop-ins for ROS packages. Where the real ones are installed, the same tests hold for those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("sensor_msgs", reason="ROS 2 is not sourced (make build)")
cv_bridge = pytest.importorskip("cv_bridge")
point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2")
tf2_ros = pytest.importorskip("tf2_ros")
tft = pytest.importorskip("tf_transformations")

from geometry_msgs.msg import TransformStamped  # noqa: E402
from sensor_msgs.msg import Image, PointField  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

BLUE_BGR = np.array([255, 0, 0], np.uint8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def image(pixels: np.ndarray[Any, Any], encoding: str, padding: int = 0) -> Image:
    """A message of (H, W[, C]) pixels, each row with some bytes behind it."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    return message


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype"),
    [
        ("bgr8", (4, 6, 3), np.uint8),
        ("rgba8", (4, 6, 4), np.uint8),
        ("mono8", (4, 6), np.uint8),
        ("mono16", (4, 6), np.uint16),
        ("32FC1", (4, 6), np.float32),
    ],
)
def test_images_go_there_and_back(
    rng: np.random.Generator, encoding: str, shape: tuple[int, ...], dtype: type[Any]
) -> None:
    pixels = (rng.random(shape) * 200).astype(dtype)
    bridge = cv_bridge.CvBridge()
    message = bridge.cv2_to_imgmsg(pixels, encoding, header=Header(frame_id="camera"))
    assert message.header.frame_id == "camera"
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message), pixels)


def test_rows_may_be_padded(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (4, 5, 3), np.uint8)
    decoded = cv_bridge.CvBridge().imgmsg_to_cv2(image(pixels, "bgr8", padding=9))
    np.testing.assert_array_equal(decoded, pixels)


def test_channels_change_places() -> None:
    blue = np.broadcast_to(BLUE_BGR, (4, 6, 3))
    bridge = cv_bridge.CvBridge()
    for encoding, pixels in {
        "rgb8": blue[..., ::-1],
        "bgra8": np.dstack([blue, np.full((4, 6), 9, np.uint8)]),
        "rgba8": np.dstack([blue[..., ::-1], np.full((4, 6), 9, np.uint8)]),
    }.items():
        np.testing.assert_array_equal(bridge.imgmsg_to_cv2(image(pixels, encoding), "bgr8"), blue)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    decoded = cv_bridge.CvBridge().imgmsg_to_cv2(image(np.full((4, 6), 65535, np.uint16), "mono16"), "bgr8")
    np.testing.assert_array_equal(decoded, np.full((4, 6, 3), 255, np.uint8))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_name_the_first_row_first(pattern: str) -> None:
    colours = np.array([{"r": 0, "g": 0, "b": 255}[letter] for letter in pattern], np.uint8).reshape(2, 2)
    decoded = cv_bridge.CvBridge().imgmsg_to_cv2(image(np.tile(colours, (8, 8)), f"bayer_{pattern}8"), "bgr8")
    np.testing.assert_array_equal(decoded[4:-4, 4:-4], np.broadcast_to(BLUE_BGR, (8, 8, 3)))


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")])
def test_yuv_in_both_orders(encoding: str, order: str) -> None:
    grey = {"u": 128, "v": 128, "y": 126}
    row = np.array([grey[letter] for letter in order], np.uint8).reshape(2, 2)
    decoded = cv_bridge.CvBridge().imgmsg_to_cv2(image(np.tile(row, (4, 3, 1)).reshape(4, 6, 2), encoding), "bgr8")
    np.testing.assert_allclose(decoded, 128, atol=2)


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_compressed_images(form: str) -> None:
    blue = np.ascontiguousarray(np.broadcast_to(BLUE_BGR, (16, 16, 3)))
    bridge = cv_bridge.CvBridge()
    decoded = bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(blue, form), "rgb8")
    np.testing.assert_allclose(decoded, blue[..., ::-1], atol=2)


def test_an_encoding_that_does_not_fit_is_refused() -> None:
    bridge = cv_bridge.CvBridge()
    with pytest.raises(cv_bridge.CvBridgeError):
        bridge.imgmsg_to_cv2(image(np.zeros((4, 6), np.float32), "32FC1"), "bgr8")
    with pytest.raises(cv_bridge.CvBridgeError):
        bridge.cv2_to_imgmsg(np.zeros((4, 6), np.uint8), "bgr8")


def test_clouds_go_there_and_back(rng: np.random.Generator) -> None:
    points = rng.normal(size=(5, 3)).astype(np.float32)
    cloud = point_cloud2.create_cloud_xyz32(Header(frame_id="world"), points)
    assert (cloud.width, cloud.height, cloud.header.frame_id) == (5, 1, "world")
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), points)
    np.testing.assert_array_equal(point_cloud2.read_points(cloud, ["y"])["y"], points[:, 1])


def test_clouds_drop_what_is_not_a_number(rng: np.random.Generator) -> None:
    points = rng.normal(size=(5, 3)).astype(np.float32)
    points[2, 1] = np.nan
    cloud = point_cloud2.create_cloud_xyz32(Header(), points)
    kept = point_cloud2.read_points_numpy(cloud, skip_nans=True)
    np.testing.assert_array_equal(kept, np.delete(points, 2, axis=0))


def test_clouds_with_fields_of_several_types() -> None:
    fields = [
        PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
        PointField(name="person", offset=4, datatype=PointField.UINT16, count=1),
    ]
    points = np.array([(0.5, 3), (1.5, 4)], dtype=[("x", np.float32), ("person", np.uint16)])
    read = point_cloud2.read_points(point_cloud2.create_cloud(Header(), fields, points))
    assert read["person"].tolist() == [3, 4]
    assert read["x"].tolist() == [0.5, 1.5]


def test_quaternions_are_those_of_scipy(rng: np.random.Generator) -> None:
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3))  # where formulas divide by small numbers
    for rotation in (*Rotation.random(20, random_state=1), *half_turns, Rotation.identity()):
        matrix = np.eye(4)
        matrix[:3, :3] = rotation.as_matrix()
        quaternion = tft.quaternion_from_matrix(matrix)
        np.testing.assert_allclose(tft.quaternion_matrix(quaternion), matrix, atol=1e-12)
        assert abs(np.dot(quaternion, rotation.as_quat())) == pytest.approx(1)


def test_euler_angles_are_about_fixed_axes(rng: np.random.Generator) -> None:
    for angles in rng.uniform(-1.5, 1.5, (20, 3)):
        quaternion = tft.quaternion_from_euler(*angles)
        expected = Rotation.from_euler("xyz", angles).as_quat()
        assert abs(np.dot(quaternion, expected)) == pytest.approx(1)
        np.testing.assert_allclose(tft.euler_from_quaternion(quaternion), angles, atol=1e-12)


def test_products_and_inverses_of_quaternions(rng: np.random.Generator) -> None:
    a, b = Rotation.random(2, random_state=2)
    product = tft.quaternion_multiply(a.as_quat(), b.as_quat())
    assert abs(np.dot(product, (a * b).as_quat())) == pytest.approx(1)
    np.testing.assert_allclose(
        tft.quaternion_multiply(a.as_quat(), tft.quaternion_inverse(a.as_quat())), [0, 0, 0, 1], atol=1e-12
    )
    np.testing.assert_allclose(abs(tft.quaternion_slerp(a.as_quat(), b.as_quat(), 0)), abs(a.as_quat()), atol=1e-12)


def transform(parent: str, child: str, move: tuple[float, float, float], yaw: float = 0.0) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    position, rotation = message.transform.translation, message.transform.rotation
    position.x, position.y, position.z = move
    rotation.z, rotation.w = np.sin(yaw / 2), np.cos(yaw / 2)
    return message


def test_the_buffer_follows_chains_up_and_down() -> None:
    rclpy_time = pytest.importorskip("rclpy.time")
    buffer = tf2_ros.Buffer()
    for link in (
        transform("map", "camera", (1.0, 0.0, 0.0), yaw=np.pi / 2),
        transform("camera", "lens", (0.0, 2.0, 0.0)),
        transform("map", "person", (0.0, 5.0, 0.0)),
    ):
        buffer.set_transform_static(link, "test")
    found = buffer.lookup_transform("map", "lens", rclpy_time.Time()).transform
    np.testing.assert_allclose([found.translation.x, found.translation.y], [-1, 0], atol=1e-12)
    assert found.rotation.z == pytest.approx(np.sqrt(0.5))
    found = buffer.lookup_transform("camera", "person", rclpy_time.Time()).transform
    np.testing.assert_allclose([found.translation.x, found.translation.y], [5, 1], atol=1e-12)
    with pytest.raises(tf2_ros.TransformException):
        buffer.lookup_transform("map", "nowhere", rclpy_time.Time())


def test_transforms_arrive(ros_domain: int) -> None:
    rclpy = pytest.importorskip("rclpy")
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init(domain_id=ros_domain)
    try:
        node = rclpy.create_node("test_transforms")
        buffer = tf2_ros.Buffer()
        listener = tf2_ros.TransformListener(buffer, node)
        tf2_ros.StaticTransformBroadcaster(node).sendTransform(transform("map", "camera", (1.0, 2.0, 3.0)))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        for _ in range(100):
            executor.spin_once(timeout_sec=0.1)
            if buffer.can_transform("map", "camera", rclpy.time.Time()):
                break
        else:
            pytest.fail("no transform arrived in 10 s")
        del listener
        node.destroy_node()
    finally:
        rclpy.shutdown()
