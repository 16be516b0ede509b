"""Markers hold the bodies that the message describes, and are as if filled point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from random_crowd import Stream
from rosbags.typesys import Stores, get_typestore

from crowd4d_ros import messages
from crowd4d_ros.axes import to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.visualization import markers, track_color
from crowd4d_ros.window import CrowdMotion

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = messages.bag_types(STORE)
MARKER = "visualization_msgs/msg/Marker"


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def state_of(motion: CrowdMotion, stream: Stream) -> Any:
    return next(messages.states(motion, stream.rest_pelvis, TYPES, "world", "camera"))


def vector(name: str, values: Any) -> Any:
    return TYPES(f"geometry_msgs/msg/{name}")(*(float(number) for number in values))


def marker(points: Any, colors: Any, frame: str, text: str) -> Any:
    """A Marker, filled point by point."""
    color = TYPES("std_msgs/msg/ColorRGBA")
    header = messages.make_header(TYPES, 1_500_000_001, frame)
    nothing = np.zeros(0, np.uint8)
    return TYPES(MARKER)(
        header=header, ns="bodies", id=3, type=11, action=0,
        pose=TYPES("geometry_msgs/msg/Pose")(vector("Point", (0, 0, 0)), vector("Quaternion", (0, 0, 0, 1))),
        scale=vector("Vector3", (1, 1, 1)), color=color(1.0, 1.0, 1.0, 1.0),
        lifetime=TYPES("builtin_interfaces/msg/Duration")(0, 0), frame_locked=False,
        points=[vector("Point", point) for point in points], colors=[color(*map(float, c)) for c in colors],
        texture_resource="", texture=TYPES("sensor_msgs/msg/CompressedImage")(header, "", nothing),
        uv_coordinates=[], text=text, mesh_resource="",
        mesh_file=TYPES("visualization_msgs/msg/MeshFile")("", nothing), mesh_use_embedded_materials=False,
    )  # fmt: skip


@pytest.mark.parametrize("frame", ["world", "map", "a_rather_long_frame"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_points_and_colours_land_where_the_serialiser_puts_them(frame: str, count: int) -> None:
    rng = np.random.default_rng(count)
    points, colors = rng.normal(size=(count, 3)), rng.random((count, 4)).astype(np.float32)

    def serialised(points: Any, colors: Any) -> bytes:
        return bytes(STORE.serialize_cdr(marker(points, colors, frame, "text"), MARKER))

    assert markers.filled(serialised([], []), frame, "bodies", points, colors) == serialised(points, colors)


@pytest.mark.parametrize("frame", ["w", "wo", "wor", "worl", "world"])
def test_ros_reads_back_what_was_filled_in(frame: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="no ROS 2 is sourced")
    from std_msgs.msg import Header
    from visualization_msgs.msg import Marker

    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(7, 3)), rng.random((7, 4)).astype(np.float32)
    empty = Marker(header=Header(frame_id=frame), ns="bodies", text="text", mesh_resource="none")
    filled = markers.filled(serialization.serialize_message(empty), frame, "bodies", points, colors)
    got = serialization.deserialize_message(filled, Marker)
    assert_array_equal([[point.x, point.y, point.z] for point in got.points], points)
    assert_array_equal([[c.r, c.g, c.b, c.a] for c in got.colors], colors)
    assert (got.text, got.mesh_resource) == ("text", "none")


def test_the_full_mesh_is_the_body_in_the_z_up_world(body: BodyModel) -> None:
    torch = pytest.importorskip("torch")
    stream = Stream()
    stream.rest_pelvis = body.pelvis(torch.as_tensor(stream.betas, dtype=torch.float32)).numpy()
    motion = stream.motion(0)
    here, m = motion.valid[:, 0], motion.motion
    parts = (m.betas[here], m.body_pose[here, 0], m.global_orient[here, 0], m.transl[here, 0])
    vertices = body.vertices(*(torch.as_tensor(part, dtype=torch.float32) for part in parts)).numpy()
    expected = to_z_up(vertices[:, body.faces.numpy().ravel()])
    got = markers.BodyMesh(body, 0.0).triangles(state_of(motion, stream))
    assert_allclose(got, expected, atol=1e-4)


def test_light_bodies_stay_within_the_full_ones(body: BodyModel) -> None:
    stream = Stream()
    state = state_of(stream.motion(0), stream)
    light, full = markers.BodyMesh(body, 0.12), markers.BodyMesh(body, 0.0)
    assert light.corners < full.corners / 30
    few, all_of_them = light.triangles(state), full.triangles(state)
    assert (few.min(1) >= all_of_them.min(1) - 1e-5).all()
    assert (few.max(1) <= all_of_them.max(1) + 1e-5).all()
    assert (np.ptp(few, 1) > 0.8 * np.ptp(all_of_them, 1)).all()


def test_nobody_is_no_triangle(body: BodyModel) -> None:
    stream = Stream(people=0)
    assert markers.BodyMesh(body, 0.12).triangles(state_of(stream.motion(0), stream)).size == 0
    assert markers.colors(np.zeros(0, int), 3, np.zeros(0)).shape == (0, 4)


def test_bones_go_from_parent_to_child(body: BodyModel) -> None:
    joints = np.random.default_rng(0).normal(size=(2, 24, 3))
    ends = markers.bones(joints, body.parents).reshape(2, 23, 2, 3)
    for joint in range(1, 24):
        assert_array_equal(ends[:, joint - 1, 0], joints[:, body.parents[joint]])
        assert_array_equal(ends[:, joint - 1, 1], joints[:, joint])


def test_a_trail_is_joined_segments() -> None:
    path = np.arange(12.0).reshape(4, 3)
    ends = markers.segments(path).reshape(3, 2, 3)
    assert_array_equal(ends[:, 0], path[:-1])
    assert_array_equal(ends[:, 1], path[1:])
    assert markers.segments(path[:1]).shape == (0, 3)


def test_everybody_keeps_a_colour(body: BodyModel) -> None:
    got = markers.colors(np.array([7, 9]), 2, np.array([1.0, 0.4])).reshape(2, 2, 4)
    assert_allclose(got[0], [[*track_color(7), 1.0]] * 2, rtol=1e-6)
    assert_allclose(got[1], [[*track_color(9), 0.4]] * 2, rtol=1e-6)
