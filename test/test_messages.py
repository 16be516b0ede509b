"""Windows and motions survive the wire, in either message library, and shared frames are sent once."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from random_crowd import INTRINSICS, LENGTH, OVERLAP, Stream
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from crowd4d_ros import axes, messages
from crowd4d_ros.window import BodyMotion, CrowdWindow, FloatArray

MILLIMETRE = 1e-3
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


def ros_types(name: str) -> Any:
    package, _, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), message)


class BagLibrary:
    """rosbags' classes, through CDR bytes."""

    types = staticmethod(messages.bag_types(TYPESTORE))

    def over_the_wire(self, message: Any) -> Any:
        return TYPESTORE.deserialize_cdr(self.to_bytes(message), message.__msgtype__)

    def to_bytes(self, message: Any) -> bytes:
        return bytes(TYPESTORE.serialize_cdr(message, message.__msgtype__))


class Ros:
    """rclpy's classes, through CDR bytes."""

    types = staticmethod(ros_types)

    def over_the_wire(self, message: Any) -> Any:
        from rclpy.serialization import deserialize_message

        return deserialize_message(self.to_bytes(message), type(message))

    def to_bytes(self, message: Any) -> bytes:
        from rclpy.serialization import serialize_message

        return bytes(serialize_message(message))


@pytest.fixture(params=[BagLibrary, Ros])
def library(request: pytest.FixtureRequest) -> Any:
    if request.param is Ros:
        pytest.importorskip("rclpy", reason="no ROS 2 is sourced")
        pytest.importorskip("crowd4d_ros.msg", reason="the workspace is not built or not sourced")
    return request.param()


def assert_same_rotations(a: FloatArray, b: FloatArray, at_most: float) -> None:
    difference = Rotation.from_rotvec(a.reshape(-1, 3)).inv() * Rotation.from_rotvec(b.reshape(-1, 3))
    assert difference.magnitude().max(initial=0.0) < at_most


def assert_same_window(got: CrowdWindow, sent: CrowdWindow) -> None:
    """Equal where anyone may read: to a tenth of a millimetre, a hundredth of a degree."""
    for name in ("window_id", "segment_id", "scale_source", "models"):
        assert getattr(got, name) == getattr(sent, name)
    for name in (
        "stamps",
        "frames",
        "is_new",
        "track_ids",
        "observed",
        "valid",
        "gravity",
        "gravity_covariance",
    ):
        assert_array_equal(getattr(got, name), getattr(sent, name), err_msg=name)
    assert got.intrinsics.distortion_model == "plumb_bob"
    assert_array_equal(got.intrinsics.K_rectified, INTRINSICS.K_rectified)
    assert_array_equal(got.intrinsics.distortion, INTRINSICS.distortion)
    assert_allclose(got.cameras.R, sent.cameras.R, atol=1e-15)
    assert_allclose(got.cameras.t, sent.cameras.t, atol=1e-15)
    assert_allclose(got.scene.points, sent.scene.points, rtol=1e-6)
    assert_array_equal(got.scene.keyframe, sent.scene.keyframe)
    seen, valid = sent.observed, sent.valid
    for name, tolerance in {
        "boxes": 0.0, "box_confidence": 0.0, "keypoints_2d": 0.0, "keypoints_confidence": 1e-5,
        "landmarks_3d": MILLIMETRE / 10,
    }.items():  # fmt: skip
        assert_allclose(getattr(got, name)[seen], getattr(sent, name)[seen], atol=tolerance, err_msg=name)
    assert not got.keypoints_confidence[~seen].any()
    for got_mask, mask, there in zip(got.masks, sent.masks, seen.ravel(), strict=True):
        assert_array_equal(got_mask, mask if there else [])
    assert_allclose(got.motion.betas, sent.motion.betas, rtol=1e-6)
    assert_allclose(got.motion.transl[valid], sent.motion.transl[valid], atol=MILLIMETRE / 50)
    assert_allclose(got.motion.body_pose[valid], sent.motion.body_pose[valid], atol=2e-4)
    assert_same_rotations(got.motion.global_orient[valid], sent.motion.global_orient[valid], 2e-4)


def test_windows_arrive_as_they_were_sent(library: Any) -> None:
    stream = Stream()
    encoder, decoder = messages.WindowEncoder(library.types, "world"), messages.WindowDecoder()
    for number in range(3):
        sent = stream.window(number)
        message = encoder.encode(sent, stream.rest_pelvis, "camera_optical")
        assert_same_window(decoder.decode(library.over_the_wire(message)), sent)


def test_windows_that_end_with_the_same_frame_have_stamps_of_their_own() -> None:
    window = Stream().window(0)
    settled = np.arange(LENGTH) < LENGTH - 2  # the rest is settled by a window over the same frames
    first, last = (replace(window, is_new=new) for new in (settled, ~settled))
    assert messages.settled_stamp(first) == window.stamps[-3]
    assert messages.settled_stamp(last) == window.stamps[-1]


def test_windows_without_people_arrive(library: Any) -> None:
    somebody, nobody = Stream(), Stream(people=0)
    encoder, decoder = messages.WindowEncoder(library.types, "world"), messages.WindowDecoder()
    for number, stream in enumerate((nobody, nobody, somebody, nobody)):
        sent = replace(stream.window(0), window_id=number)
        message = encoder.encode(sent, stream.rest_pelvis, "camera")
        assert_same_window(decoder.decode(library.over_the_wire(message)), sent)


def test_a_frame_crosses_the_wire_once(library: Any) -> None:
    stream = Stream(people=30)
    encoder = messages.WindowEncoder(library.types, "world")
    first, second = (encoder.encode(stream.window(n), stream.rest_pelvis, "camera") for n in range(2))
    new = stream.window(1).is_new
    assert len(first.box_confidence) == stream.window(0).observed.sum()
    assert len(second.box_confidence) == stream.window(1).observed[:, new].sum()
    assert len(second.transl) == 3 * stream.window(1).valid[:, new].sum()


def test_a_row_that_changed_is_sent_again() -> None:
    stream, library = Stream(), BagLibrary()
    encoder, decoder = messages.WindowEncoder(library.types, "world"), messages.WindowDecoder()
    decoder.decode(encoder.encode(stream.window(0), stream.rest_pelvis, "camera"))
    stream.transl = stream.transl + 0.01  # the initial motion of shared frames was fitted anew
    stream.observed[:, LENGTH - 1] = stream.valid[:, LENGTH - 1] = True  # and late tracks reach back into them
    sent = stream.window(1)
    assert_same_window(decoder.decode(encoder.encode(sent, stream.rest_pelvis, "camera")), sent)


def test_quantisation_moves_joints_by_less_than_a_millimetre() -> None:
    torch = pytest.importorskip("torch")
    from crowd4d_ros.body.smpl import BodyModel

    stream, library, body = Stream(), BagLibrary(), BodyModel.load()
    stream.rest_pelvis = body.pelvis(torch.as_tensor(stream.betas, dtype=torch.float32)).numpy()
    sent = stream.window(0)
    message = messages.WindowEncoder(library.types, "world").encode(sent, stream.rest_pelvis, "camera")
    got = messages.WindowDecoder().decode(library.over_the_wire(message))

    def joints(motion: BodyMotion) -> FloatArray:
        parts = (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
        return np.asarray(body.joints(*(torch.as_tensor(part, dtype=torch.float32) for part in parts)))

    assert_allclose(joints(got.motion)[sent.valid], joints(sent.motion)[sent.valid], atol=MILLIMETRE / 2)


def test_after_a_lost_window_the_new_frames_are_there() -> None:
    stream, library = Stream(), BagLibrary()
    encoder, decoder = messages.WindowEncoder(library.types, "world"), messages.WindowDecoder()
    encoded = [encoder.encode(stream.window(n), stream.rest_pelvis, "camera") for n in range(3)]
    decoder.decode(encoded[0])
    got, sent = decoder.decode(encoded[2]), stream.window(2)
    assert_array_equal(got.frames, sent.frames[sent.is_new])
    assert got.is_new.all()
    new = sent.observed[:, sent.is_new].any(1) | sent.valid[:, sent.is_new].any(1)
    assert_array_equal(got.keypoints_2d[got.observed], sent.keypoints_2d[:, sent.is_new][new][got.observed])


def test_a_window_that_is_not_finite_is_refused() -> None:
    stream = Stream()
    stream.landmarks_3d[stream.observed] = np.nan
    with pytest.raises(messages.MessageError, match="landmarks_3d"):
        messages.WindowEncoder(BagLibrary.types, "world").encode(stream.window(0), stream.rest_pelvis, "camera")


def test_a_message_whose_arrays_do_not_fit_names_the_window() -> None:
    stream, library = Stream(), BagLibrary()
    message = messages.WindowEncoder(library.types, "world").encode(stream.window(0), stream.rest_pelvis, "camera")
    broken = replace(message, content=message.content[:-1])
    with pytest.raises(messages.MessageError, match="window 0 of segment 0"):
        messages.WindowDecoder().decode(broken)


def test_a_window_whose_time_goes_back_is_refused() -> None:
    stream, library = Stream(), BagLibrary()
    message = messages.WindowEncoder(library.types, "world").encode(stream.window(0), stream.rest_pelvis, "camera")
    with pytest.raises(messages.MessageError, match="stamps do not increase"):
        messages.WindowDecoder().decode(replace(message, stamps=message.stamps[::-1]))


def test_the_crowd_arrives_frame_by_frame(library: Any) -> None:
    stream = Stream()
    sent = stream.motion(1)
    states = [
        library.over_the_wire(state)
        for state in messages.states(sent, stream.rest_pelvis, library.types, "world", "camera")
    ]
    assert [state.window_frame for state in states] == list(range(LENGTH - OVERLAP))
    got = messages.read_states(states, sent.sipc, sent.surface)
    new = sent.is_new
    there = sent.valid[:, new].any(1)
    valid = sent.valid[there][:, new]
    for name in ("stamps", "frames"):
        assert_array_equal(getattr(got, name), getattr(sent, name)[new])
    assert_array_equal(got.track_ids, sent.track_ids[there])
    assert_array_equal(got.valid, valid)
    assert_array_equal(got.observed, sent.observed[there][:, new])
    for name in ("boxes", "joints", "support_point", "velocity", "confidence"):
        assert_allclose(getattr(got, name)[valid], getattr(sent, name)[there][:, new][valid], rtol=1e-5, atol=1e-6)
    assert_allclose(got.motion.transl[valid], sent.motion.transl[there][:, new][valid], atol=MILLIMETRE / 50)
    assert_allclose(got.motion.body_pose[valid], sent.motion.body_pose[there][:, new][valid], rtol=1e-6)
    assert_same_rotations(got.motion.global_orient[valid], sent.motion.global_orient[there][:, new][valid], 1e-5)
    assert_allclose(got.cameras.R, sent.cameras.R[new], atol=1e-15)
    assert (got.scale, got.scale_source, got.hsip_mode, got.segment_id) == (1.25, "people", "close", 2)
    assert got.energies == sent.energies
    assert got.warnings == sent.warnings
    assert got.models == sent.models
    assert got.intrinsics.width == 640


def test_the_camera_and_people_of_a_state_stand_in_the_z_up_world() -> None:
    stream, library = Stream(), BagLibrary()
    motion = stream.motion(0)
    upright = np.zeros_like(motion.motion.global_orient)  # SMPL's rest: upright, looking along +z, which is backward
    motion = replace(motion, motion=replace(motion.motion, global_orient=upright))
    state = next(messages.states(motion, stream.rest_pelvis, library.types, "world", "camera"))
    rotation, centre = messages.camera_pose(state)
    assert_allclose(centre, axes.to_z_up(motion.cameras.centers[0]), atol=1e-9)
    optical_axis = motion.cameras.R[0].T @ [0, 0, 1]
    assert_allclose(rotation @ [0, 0, 1], axes.to_z_up(optical_axis), atol=1e-9)
    turns, places = messages.person_poses(state)
    here = motion.valid[:, 0]
    assert_allclose(places, axes.to_z_up(motion.joints[here, 0, 0]), atol=1e-6)
    assert_allclose(turns, np.broadcast_to(np.diag([-1.0, -1.0, 1.0]), turns.shape), atol=1e-6)


def test_the_surface_comes_back(library: Any) -> None:
    motion = Stream().motion(0)
    got = messages.read_surface(library.over_the_wire(messages.make_surface(library.types, motion, "world")))
    assert_allclose(got.vertices, motion.surface.vertices, atol=1e-6)
    assert_array_equal(got.faces, motion.surface.faces)


@pytest.mark.parametrize(("vertices", "faces"), [(4, [0, 1, 2]), (3, [0, 1, 2]), (9, [0, 1, 3]), (9, [0, 1])])
def test_a_surface_whose_parts_do_not_fit_together_is_refused(vertices: int, faces: list[int]) -> None:
    parts = {"vertices": np.zeros(vertices, np.float32), "faces": np.array(faces, np.uint32)}
    message = BagLibrary.types("crowd4d_ros/msg/SurfaceMesh")(header=None, window_id=7, segment_id=0, **parts)
    with pytest.raises(messages.MessageError, match="window 7"):
        messages.read_surface(message)


def test_terrain_is_walkable_where_level_and_an_obstacle_where_steep() -> None:
    # two metres of level ground along x, then a wall of 45 degrees for two more; y is 1 m wide
    x, z = np.array([0.0, 2, 4]), np.array([0.0, 0, 2])
    vertices = np.stack([np.repeat(x, 2), np.tile([0.0, 1], 3), np.repeat(z, 2)], 1)
    faces = np.array([[0, 2, 1], [1, 2, 3], [2, 4, 3], [3, 4, 5]], np.int32)
    surface = BagLibrary.types("crowd4d_ros/msg/SurfaceMesh")
    fields = {"header": None, "window_id": 0, "segment_id": 0}
    message = surface(**fields, vertices=vertices.astype(np.float32).ravel(), faces=faces.astype(np.uint32).ravel())
    grid, origin, height = messages.terrain_grid(message, cell=1.0, steepest=np.radians(30))
    assert_allclose(origin, [0, 0])
    assert height == pytest.approx(2 / 3)
    assert_array_equal(grid, [[0, 0, 100, 100]])
    finer, _, _ = messages.terrain_grid(message, cell=0.25, steepest=np.radians(50))
    assert_array_equal(finer, np.zeros((4, 16)))  # no gaps, and 45 degrees are walkable now


def test_ros_and_the_bag_library_write_the_same_message() -> None:
    """Their bytes differ in alignment gaps at most, where ROS leaves what it finds: both read back as the same."""
    pytest.importorskip("rclpy", reason="no ROS 2 is sourced")
    pytest.importorskip("crowd4d_ros.msg", reason="the workspace is not built or not sourced")
    stream = Stream()
    ours, theirs = (
        library.to_bytes(
            messages.WindowEncoder(library.types, "world").encode(stream.window(0), stream.rest_pelvis, "c")
        )
        for library in (BagLibrary(), Ros())
    )
    kind = "crowd4d_ros/msg/CrowdWindow"
    assert len(theirs) == len(ours)
    assert bytes(TYPESTORE.serialize_cdr(TYPESTORE.deserialize_cdr(theirs, kind), kind)) == ours
