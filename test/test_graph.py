"""The real nodes on a small stream: every image becomes a state, all ends in order, nothing bad stops it.

The initializer and the pipeline behind the nodes are small stand-ins: what is tested here is the graph.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from random_crowd import INTRINSICS, LENGTH, OVERLAP, PEOPLE, Stream
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.initialization.initializer import StreamError
from crowd4d_ros.io.camera import write_camera_info
from crowd4d_ros.io.results import read_results
from crowd4d_ros.messages import states
from crowd4d_ros.window import CrowdMotion, CrowdWindow, Frame, Intrinsics
from crowd4d_ros.world import World

rclpy = pytest.importorskip("rclpy", reason="no ROS 2 is sourced")
pytest.importorskip("crowd4d_ros.msg", reason="the workspace is not built or not sourced")

from crowd4d_ros.msg import CrowdState, SurfaceMesh  # noqa: E402
from crowd4d_ros.msg import CrowdWindow as CrowdWindowMessage  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from crowd4d_ros.nodes.common import LATCHED, CrowdNode, EndOfStream, Worker, ros_types, to_time  # noqa: E402
from crowd4d_ros.nodes.initializer import InitializerNode  # noqa: E402
from crowd4d_ros.nodes.optimizer import OptimizerNode  # noqa: E402
from crowd4d_ros.nodes.player import Player, camera_info  # noqa: E402
from crowd4d_ros.nodes.recorder import Recorder  # noqa: E402
from crowd4d_ros.nodes.visualizer import Visualizer  # noqa: E402

FRAMES = LENGTH + 2 * (LENGTH - OVERLAP)
TIMEOUT_S = 40.0


class RandomInitializer:
    """Turns frames into the windows of a random recording; remembers what it was given."""

    def __init__(self, config: Config, intrinsics: Intrinsics) -> None:
        self.body = BodyModel.load()
        self.intrinsics = intrinsics
        self.frames: list[Frame] = []
        self.resets = 0
        self._stream = Stream(FRAMES)
        self._windows = 0
        self.perception = self

    @property
    def counts(self) -> dict[str, int]:
        return {"frames observed": len(self.frames)}

    def push(self, frame: Frame) -> list[CrowdWindow]:
        self.frames.append(frame)
        complete = LENGTH + self._windows * (LENGTH - OVERLAP)
        if len(self.frames) < complete:
            return []
        return [self._next()]

    def _next(self) -> CrowdWindow:
        self._stream.stamps[: len(self.frames)] = [frame.stamp for frame in self.frames]
        window = self._stream.window(self._windows)
        self._windows += 1
        return window

    def finish(self) -> list[CrowdWindow]:
        return []

    def reset(self) -> None:
        self.resets += 1


class InitialPipeline:
    """The initial motion as the answer."""

    def __init__(self, config: Config) -> None:
        self.body = BodyModel.load(config.body)

    def step(self, window: CrowdWindow, world: World) -> tuple[CrowdMotion, World]:
        motion = Stream(FRAMES).motion(window.window_id)
        return replace(motion, stamps=window.stamps, segment_id=window.segment_id, motion=window.motion), world


class Graph:
    """Nodes of one process, each spinning in a thread of its own."""

    def __init__(self) -> None:
        self._running: list[tuple[CrowdNode, SingleThreadedExecutor, threading.Thread]] = []

    def start(self, make: Callable[..., Any], *arguments: Any, **parameters: Any) -> Any:
        """A running node with these parameters; it has an end of its own."""
        overrides = [Parameter(name, value=content) for name, content in parameters.items()]
        node = make(threading.Event(), *arguments, parameter_overrides=overrides)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self._running.append((node, executor, thread))
        return node

    def is_alive(self) -> bool:
        """Whether no message has ended a node."""
        return all(thread.is_alive() for _, _, thread in self._running)

    def close(self) -> None:
        """End all nodes, as a signal does."""
        for node, executor, thread in self._running:
            node.stop.set()
            executor.shutdown()
            thread.join()
            node.close()
            node.destroy_node()
        self._running = []


@pytest.fixture
def graph(ros_domain: int) -> Iterator[Graph]:
    rclpy.init(domain_id=ros_domain)
    graph = Graph()
    yield graph
    graph.close()
    rclpy.shutdown()


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {TIMEOUT_S:.0f} s"
        time.sleep(0.02)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (INTRINSICS.width, INTRINSICS.height))
    for index in range(FRAMES):
        writer.write(np.full((INTRINSICS.height, INTRINSICS.width, 3), 10 * index, np.uint8))
    writer.release()
    return path


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    write_camera_info(tmp_path / "camera.yaml", INTRINSICS)
    return tmp_path / "camera.yaml"


def test_a_video_becomes_results_and_a_bag_with_nothing_lost(
    graph: Graph, video: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    recorder = graph.start(Recorder, out=str(out))
    graph.start(Visualizer, reliable=True)
    graph.start(OptimizerNode, InitialPipeline, reliable=True, wait_for=2)
    initializer = graph.start(InitializerNode, RandomInitializer, reliable=True, wait_for=2)
    graph.start(Player, video=str(video), camera_info=str(calibration), rate=0.0, wait_for=2)
    wait_until(recorder.stop.is_set, "the end of the recording")
    graph.close()

    taken = initializer._initializer
    assert [frame.index for frame in taken.frames] == list(range(FRAMES))
    assert [round(float(frame.image.mean()) / 10) for frame in taken.frames] == list(range(FRAMES))
    assert_array_equal(taken.intrinsics.K, INTRINSICS.K)
    assert taken.resets == 1
    assert initializer.counters["frames observed"] == FRAMES

    results = read_results(out)
    assert_array_equal(results.crowd["frames"], np.arange(FRAMES))
    assert_array_equal(np.round(np.diff(results.crowd["stamps"]) / 1e6), 100)
    assert results.crowd["joints"].shape == (PEOPLE, FRAMES, 24, 3)
    assert (out / "overlay.mp4").stat().st_size > 0
    assert (out / "plan.png").stat().st_size > 0

    with AnyReader([out / "bag"], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as bag:
        counts = {topic: info.msgcount for topic, info in bag.topics.items()}
        markers = [connection for connection in bag.connections if connection.topic == "/crowd/bodies"]
        bodies = [bag.deserialize(data, kind.msgtype) for kind, _, data in bag.messages(markers)]
        stamps = [stamp for _, stamp, _ in bag.messages([c for c in bag.connections if c.topic == "/crowd/state"])]
    for topic in ("/crowd/state", "/crowd/bodies", "/crowd/markers", "/crowd/overlay/compressed", "/tf"):
        assert counts[topic] == FRAMES, topic
    assert counts["/crowd/windows"] == 3
    people = results.crowd["valid"].sum(0)
    corners = np.array([len(marker.points) for marker in bodies])
    assert_array_equal(corners, [len(marker.colors) for marker in bodies])
    assert_array_equal(corners, people * corners.sum() // people.sum())
    assert_array_equal(stamps, results.crowd["stamps"])  # played back, it moves at the camera's pace


def test_recorded_windows_can_be_optimised_again(graph: Graph, video: Path, calibration: Path, tmp_path: Path) -> None:
    first = graph.start(Recorder, out=str(tmp_path / "first"))
    graph.start(OptimizerNode, InitialPipeline, reliable=True, wait_for=1)
    graph.start(InitializerNode, RandomInitializer, reliable=True, wait_for=2)
    graph.start(Player, video=str(video), camera_info=str(calibration), rate=0.0)
    wait_until(lambda: first.counters.get("frames") == FRAMES, "the last state")
    graph.close()

    again = graph.start(Recorder, out=str(tmp_path / "again"), bag=False)
    graph.start(OptimizerNode, InitialPipeline, reliable=True, wait_for=1, source="player")
    graph.start(Player, windows=str(tmp_path / "first" / "bag"), rate=0.0, follow="optimizer", wait_for=2)
    wait_until(lambda: again.counters.get("frames") == FRAMES, "the last state of the replay")
    graph.close()
    truth, got = (read_results(tmp_path / folder).crowd for folder in ("first", "again"))
    for name in ("stamps", "track_ids", "valid", "transl", "body_pose", "global_orient", "joints"):
        assert_array_equal(got[name], truth[name], err_msg=name)


def test_a_bag_is_played_as_it_was_recorded(graph: Graph, tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"]
    compressed = store.types["sensor_msgs/msg/CompressedImage"]
    size = INTRINSICS.height, INTRINSICS.width
    with Writer(tmp_path / "bag", version=9) as writer:
        connection = writer.add_connection("/cam/image/compressed", compressed.__msgtype__, typestore=store)
        for index in range(5):
            stamp = store.types["builtin_interfaces/msg/Time"](sec=7, nanosec=index)
            png = cv2.imencode(".png", np.full((*size, 3), 40 * index, np.uint8))[1]
            message = compressed(header=header(stamp=stamp, frame_id="cam"), format="png", data=png.ravel())
            writer.write(connection, index, store.serialize_cdr(message, compressed.__msgtype__))
    node = graph.start(InitializerNode, RandomInitializer, reliable=True, camera_info_timeout=0.0)
    graph.start(Player, bag=str(tmp_path / "bag"), rate=0.0, restamp=False)
    wait_until(lambda: node._initializer is not None and node._initializer.resets, "the end of the bag")
    frames = node._initializer.frames
    assert [frame.stamp for frame in frames] == [7_000_000_000 + index for index in range(5)]
    assert [int(frame.image.mean()) for frame in frames] == [0, 40, 80, 120, 160]


def image_message(stamp: int, encoding: str = "mono8", width: int = INTRINSICS.width) -> Image:
    height = INTRINSICS.height
    data = array("B", bytes(height * width))
    return Image(
        header=Header(stamp=to_time(stamp), frame_id="camera"),
        height=height, width=width, encoding=encoding, step=width, data=data,
    )  # fmt: skip


class Camera(CrowdNode):
    """Publishes what a test hands it."""

    def __init__(self, stop: threading.Event, **options: Any) -> None:
        super().__init__("camera", stop, **options)
        self.images = self.create_publisher(Image, "image", 100)
        self.info = self.create_publisher(CameraInfo, "camera_info", 100)

    def calibrate(self, intrinsics: Intrinsics) -> None:
        self.info.publish(camera_info(intrinsics, Header(frame_id="camera")))


def test_bad_images_are_left_out_and_the_stream_goes_on(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    node = graph.start(InitializerNode, RandomInitializer, reliable=True, camera_info_timeout=600.0)
    camera = graph.start(Camera)
    wait_until(lambda: camera.images.get_subscription_count(), "the subscription of images")
    wait_until(lambda: camera.info.get_subscription_count(), "the subscription of CameraInfo")

    camera.calibrate(replace(INTRINSICS, K=np.zeros((3, 3))))
    camera.images.publish(image_message(1))
    time.sleep(0.3)
    assert node._initializer is None  # a camera that is not calibrated is waited for

    camera.calibrate(INTRINSICS)
    wait_until(lambda: node._initializer is not None, "the calibration")
    camera.images.publish(image_message(2, encoding="no such encoding"))
    camera.images.publish(image_message(3, encoding="rgb8"))  # too few bytes
    camera.images.publish(image_message(4))
    wait_until(lambda: len(node._initializer.frames) == 2, "the good images")
    assert [(frame.index, frame.stamp) for frame in node._initializer.frames] == [(0, 1), (3, 4)]
    assert node.counters["refused"] == 2
    said = capfd.readouterr().err
    assert "K is zero" in said
    assert "no such encoding" in said


def test_a_calibration_comes_through_while_images_queue_up(graph: Graph) -> None:
    node = graph.start(InitializerNode, RandomInitializer, reliable=True, camera_info_timeout=600.0, image_queue=2)
    camera = graph.start(Camera)
    wait_until(lambda: camera.images.get_subscription_count(), "the subscription of images")
    wait_until(lambda: camera.info.get_subscription_count(), "the subscription of CameraInfo")
    for stamp in range(1, 7):  # more than the queue holds, and none can be handled yet
        camera.images.publish(image_message(stamp))
        time.sleep(0.1)
    assert len(node._worker) == 2
    camera.calibrate(INTRINSICS)
    wait_until(lambda: node._initializer is not None and len(node._initializer.frames) >= 3, "the images")
    assert node.counters["dropped"] == 3


def test_waking_a_full_worker_neither_waits_nor_drops(graph: Graph) -> None:
    may_go_on, handled = threading.Event(), []

    def handle(item: str | None) -> None:
        handled.append(item)
        may_go_on.wait(TIMEOUT_S)

    worker = Worker(graph.start(Camera), handle, size=1, drop=False)
    worker.put("first")
    wait_until(lambda: handled, "the first item")
    worker.put("second")
    worker.wake()
    worker.wake()
    assert len(worker) == 1
    may_go_on.set()
    wait_until(lambda: len(handled) == 3, "all of it")
    assert handled == ["first", "second", None]


def test_while_nobody_listens_a_reliable_worker_makes_its_source_wait(graph: Graph) -> None:
    node = graph.start(Camera)
    handled = []

    def handle(item: str | None) -> None:
        node.wait_for_subscribers(node.images, 1)
        handled.append(item)

    worker = Worker(node, handle, size=1, drop=False)
    source = threading.Thread(target=lambda: [worker.put(item) for item in "abc"])
    source.start()
    time.sleep(0.5)
    assert source.is_alive()
    graph.start(InitializerNode, RandomInitializer)
    wait_until(lambda: handled == ["a", "b", "c"], "all of it")


def test_a_stream_whose_every_image_fails_still_ends(graph: Graph, video: Path, calibration: Path) -> None:
    class Broken(RandomInitializer):
        def push(self, frame: Frame) -> list[CrowdWindow]:
            raise KeyError("a bug")

        def finish(self) -> list[CrowdWindow]:
            raise KeyError("another bug")

    node = graph.start(InitializerNode, Broken, reliable=True)
    graph.start(Player, video=str(video), camera_info=str(calibration), rate=0.0, in_flight=2)
    wait_until(lambda: node._initializer is not None and node._initializer.resets, "the end of the stream")
    wait_until(lambda: node.counters["failed"] == FRAMES + 1, "every image and the end")


def test_an_empty_stream_after_another_is_over_as_well(graph: Graph) -> None:
    sender, listener = graph.start(Camera), graph.start(Crowd)
    said = []
    end = EndOfStream(listener, "camera", lambda: said.append("the end"))
    sender.report(output=5)
    sender.report(end=True)
    wait_until(lambda: len(said) == 1, "the end of the first")
    end.handled(5)
    assert end.reached
    end.restart()
    sender.report(end=True)
    wait_until(lambda: len(said) == 2, "the end of the second")
    assert end.reached


def test_messages_that_do_not_fit_together_are_left_out(graph: Graph, tmp_path: Path) -> None:
    visualizer = graph.start(Visualizer, reliable=True)
    recorder = graph.start(Recorder, out=str(tmp_path / "out"))
    optimizer = graph.start(OptimizerNode, InitialPipeline, reliable=True)
    crowd = graph.start(Crowd)
    publishers = crowd.surfaces, crowd.states, crowd.windows
    wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the subscriptions")

    four = array("f", [1.0, 2.0, 3.0, 4.0])
    crowd.surfaces.publish(SurfaceMesh(vertices=four, faces=array("I", [0, 1, 2])))
    crowd.surfaces.publish(SurfaceMesh(vertices=four[:3], faces=array("I", [0, 1, 2])))
    crowd.states.publish(CrowdState(window_id=1, track_ids=array("i", [5]), joints=four))
    motion = Stream(FRAMES).motion(2)
    crowd.states.publish(next(states(motion, np.zeros((len(motion.track_ids), 3)), ros_types, "world", "camera")))
    crowd.windows.publish(CrowdWindowMessage(stamps=array("q", [1, 2]), track_ids=array("i", [5])))
    wait_until(lambda: recorder.counters.get("frames") == 1, "the good state")
    wait_until(lambda: recorder.counters.get("failed") == 3, "both surfaces and the bad state")
    wait_until(lambda: visualizer.counters.get("failed") == 1, "the bad state at the visualizer")
    wait_until(lambda: optimizer.counters.get("failed") == 1, "the bad window")
    assert graph.is_alive()
    graph.close()
    assert read_results(tmp_path / "out").crowd["stamps"].shape == (1,)


class Crowd(CrowdNode):
    """Publishes what a test hands it."""

    def __init__(self, stop: threading.Event, **options: Any) -> None:
        super().__init__("crowd", stop, **options)
        self.surfaces = self.create_publisher(SurfaceMesh, "crowd/surface", LATCHED)
        self.states = self.create_publisher(CrowdState, "crowd/state", 100)
        self.windows = self.create_publisher(CrowdWindowMessage, "crowd/windows", 100)


def test_when_stamps_go_back_the_frame_is_taken_and_equal_ones_are_left_out(graph: Graph) -> None:
    class Strict(RandomInitializer):
        def push(self, frame: Frame) -> list[CrowdWindow]:
            if self.frames and frame.stamp == self.frames[-1].stamp:
                raise StreamError("the stamp repeats")
            self.frames.append(frame)
            return []

    node = graph.start(InitializerNode, Strict, reliable=True, camera_info_timeout=0.0)
    camera = graph.start(Camera)
    wait_until(lambda: camera.images.get_subscription_count(), "the subscription")
    for stamp in (10, 20, 20, 5, 6):
        camera.images.publish(image_message(stamp))
    wait_until(lambda: node._initializer is not None and len(node._initializer.frames) == 4, "the good images")
    assert [frame.stamp for frame in node._initializer.frames] == [10, 20, 5, 6]
    assert node.counters["refused"] == 1


def test_live_the_oldest_images_are_dropped_and_counted(graph: Graph) -> None:
    busy = threading.Event()

    class Slow(RandomInitializer):
        def push(self, frame: Frame) -> list[CrowdWindow]:
            self.frames.append(frame)
            busy.wait(TIMEOUT_S)
            return []

    node = graph.start(InitializerNode, Slow, camera_info_timeout=0.0, image_queue=3)
    camera = graph.start(Camera)
    wait_until(lambda: camera.images.get_subscription_count(), "the subscription")
    camera.images.publish(image_message(1))
    wait_until(lambda: node._initializer is not None and node._initializer.frames, "the first image")
    for stamp in range(2, 9):
        camera.images.publish(image_message(stamp))
        wait_until(lambda last=stamp: node._frame == last, "the image's arrival")
    busy.set()
    wait_until(lambda: len(node._initializer.frames) == 4, "the images that waited")
    assert [frame.stamp for frame in node._initializer.frames] == [1, 6, 7, 8]
    assert [frame.index for frame in node._initializer.frames] == [0, 5, 6, 7]  # numbers in the input
    assert node.counters["dropped"] == 4


def test_without_calibration_the_focal_length_is_estimated(graph: Graph) -> None:
    node = graph.start(InitializerNode, RandomInitializer, camera_info_timeout=0.0)
    camera = graph.start(Camera)
    wait_until(lambda: camera.images.get_subscription_count(), "the subscription")
    camera.images.publish(image_message(1))
    wait_until(lambda: node._initializer is not None, "the first frame")
    assert node._initializer.intrinsics.source == "estimated"


def test_a_calibration_of_another_size_is_refused(graph: Graph) -> None:
    node = graph.start(InitializerNode, RandomInitializer, reliable=True)
    camera = graph.start(Camera)
    wait_until(
        lambda: camera.images.get_subscription_count() and camera.info.get_subscription_count(),
        "subscriptions",
    )
    camera.calibrate(replace(INTRINSICS, width=INTRINSICS.width // 2))
    wait_until(lambda: node._intrinsics is not None, "the wrong calibration")
    camera.images.publish(image_message(1))
    wait_until(lambda: node.counters.get("refused") == 1, "the refusal")
    camera.calibrate(INTRINSICS)
    wait_until(lambda: node._intrinsics.width == INTRINSICS.width, "the right calibration")
    camera.images.publish(image_message(2))
    wait_until(lambda: node._initializer is not None and node._initializer.frames, "the first frame")


def test_a_second_interrupt_does_not_stop_a_recorder_from_closing(ros_domain: int, tmp_path: Path) -> None:
    command = "import sys; from crowd4d_ros.nodes.recorder import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "--ros-args", "-p", f"out:={tmp_path / 'out'}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "recording to" in line:
            break
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 0, said
    assert (tmp_path / "out" / "report.json").exists()
    assert (tmp_path / "out" / "bag" / "metadata.yaml").exists()


def test_a_wrong_parameter_is_one_clear_line(ros_domain: int) -> None:
    command = "import sys; from crowd4d_ros.nodes.player import main; sys.exit(main())"
    arguments = ["--ros-args", "-p", "video:=no_such_file.avi"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1
    assert "no such file: no_such_file.avi" in done.stderr
    assert "Traceback" not in done.stderr
