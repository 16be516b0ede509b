"""What every node does the same way: start, parameters, logging, queues, back-pressure, stopping."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from crowd4d_ros.config import ConfigError, flatten, updated
from crowd4d_ros.errors import told
from crowd4d_ros.msg import Progress

AnyImage: TypeAlias = Image | CompressedImage
T = TypeVar("T")

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
"""For what is published seldom and wanted by whoever comes later: surface, point cloud, progress."""
RESULT_DEPTH = 1000
"""messages: a window's frames are published at once, and nobody who listens should lose one."""
WINDOW_DEPTH = 10
"""messages: more windows than are ever in flight."""
POLL_S = 0.1
"""seconds between looks at something that has no event: who subscribes, how far the next node is."""
LEFT_OUT = ("refused", "failed", "dropped")
"""Counters of what never came out: bad input, errors, and live more than the machine can take."""
PATIENCE_S = 3.0
"""seconds of waiting after which a node says what it waits for."""
GRACE_S = 3.0
"""seconds that work in hand may still take when a node is told to stop: launch kills after five."""
SLOW_S = 60.0
"""seconds: as much for the next node in the graph, which may well be slower than this one."""


def ros_types(name: str) -> Any:
    """rclpy's class of a message, "std_msgs/msg/Header"."""
    package, _, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), message)


def stream_qos(reliable: bool, depth: int) -> QoSProfile:
    """For images: best effort, as cameras have it, or reliable where nothing may be lost."""
    policy = QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=policy)


def to_time(stamp: int) -> Time:
    """Nanoseconds as a builtin_interfaces/Time."""
    return Time(sec=stamp // 10**9, nanosec=stamp % 10**9)


def to_nanoseconds(stamp: Time) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


class CrowdNode(Node):  # type: ignore[misc]
    """A node with parameters from dataclasses, progress, diagnostics, and an end.

    stop: set by a signal, or by the node when it is done. options: rclpy's, such as parameter_overrides.
    abandoned: work in hand did not end. awaits_message: the worker waits for what only a callback can bring.
    """

    def __init__(self, name: str, stop: threading.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.stop = stop
        self.status = 0
        self.abandoned = self.awaits_message = False
        self.counters: dict[str, Any] = {}
        self._progress = Progress()
        self._progress_publisher = self.create_publisher(Progress, "~/progress", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        logging.getLogger("crowd4d_ros").addHandler(_LogToRos(self))
        logging.getLogger("crowd4d_ros").setLevel(logging.INFO)

    def declare(self, defaults: T) -> T:
        """A configuration as parameters, read once. Raises ConfigError for a value of another type."""
        for name, (current, entry) in flatten(defaults).items():
            description = f"[{entry.metadata['unit']}] {entry.metadata['why']}"
            descriptor = ParameterDescriptor(description=description, read_only=True, dynamic_typing=True)
            self.declare_parameter(name, list(current) if isinstance(current, tuple) else current, descriptor)
        given = {name: self.get_parameter(name).value for name in flatten(defaults)}
        plain = {name: content if isinstance(content, (str, bool, int, float)) else list(content)
                 for name, content in given.items()}  # fmt: skip
        return updated(defaults, plain)

    def report(self, *, input: int | None = None, output: int | None = None, end: bool = False) -> None:
        """Publish progress. input, output: stamps in nanoseconds, as they were if None."""
        if input is not None:
            self._progress.input = to_time(input)
        if output is not None:
            self._progress.output = to_time(output)
        self._progress.end = end
        self._progress_publisher.publish(self._progress)
        if end:
            self._progress = Progress()  # nothing of this stream is the next one's, which may be empty

    def diagnose(self, what: str) -> None:
        """Publish the counters; a warning where some count ``what``, "images", that were left out."""
        left_out = [f"{self.counters[kind]} {kind}" for kind in LEFT_OUT if self.counters.get(kind)]
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if left_out else DiagnosticStatus.OK,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=f"{what} are left out: {', '.join(left_out)}" if left_out else "ok",
            hardware_id="crowd4d_ros",
            # of a copy: the worker may begin another counter meanwhile
            values=[KeyValue(key=key, value=str(counter)) for key, counter in self.counters.copy().items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter of the diagnostics."""
        self.counters[counter] = self.counters.get(counter, 0) + by

    def wait_until(
        self, ready: Callable[[], bool], what: str, patience: float = PATIENCE_S, by_message: bool = True
    ) -> bool:
        """Block (a worker, never a callback) until ``ready``, and say for what. False: the node stops.

        by_message: a callback makes it ready, so that none may wait for the worker meanwhile (``Worker.put``).
        """
        started = time.monotonic()
        said = False
        try:
            while not ready():
                self.awaits_message = by_message
                if self.stop.wait(POLL_S):
                    return False
                if not said and time.monotonic() - started > patience:
                    self.get_logger().info(f"waiting for {what}")
                    said = True
        finally:
            self.awaits_message = False
        return True

    def wait_for_subscribers(self, publisher: Publisher, count: int) -> bool:
        """Block until ``count`` nodes listen, so that the first message arrives. False: the node stops."""
        return self.wait_until(
            lambda: publisher.get_subscription_count() >= count,
            f"{count} subscribers of {publisher.topic_name}",
            by_message=False,
        )

    def close(self) -> None:
        """Called once, after the last callback, while the node still exists."""


class _LogToRos(logging.Handler):
    """The library's log records as the node's."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # rclpy keeps one severity per calling line
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


class Worker(Generic[T]):
    """A thread that handles items in order, so that callbacks return at once.

    Full, it drops the oldest item (live) or makes ``put`` wait (reliable); but while the node itself waits for a
    message, which could not come in meanwhile, the newest is dropped. An item that raises is reported and left out.
    """

    def __init__(self, node: CrowdNode, handle: Callable[[T | None], None], size: int, drop: bool) -> None:
        self._node, self._handle, self._size, self._drop = node, handle, size, drop
        self._items: deque[T] = deque()
        self._is_woken = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{node.get_name()} worker", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue an item."""
        with self._changed:
            if self._drop and len(self._items) >= self._size:
                self._items.popleft()
                self._node.count("dropped")
            while len(self._items) >= self._size and not self._node.stop.is_set():
                if self._node.awaits_message:
                    self._node.count("dropped")
                    return
                self._changed.wait(POLL_S)
            self._items.append(item)
            self._changed.notify_all()

    def wake(self) -> None:
        """Have None handled after what is queued: something may be due. It waits for no place, and takes none."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    def join(self) -> None:
        """Wait for the item being handled, but not for ever; call after ``stop`` was set."""
        self._thread.join(GRACE_S)
        if self._thread.is_alive():
            self._node.get_logger().warning("stopped in the middle of its work")
            self._node.abandoned = True

    def _run(self) -> None:
        while not self._node.stop.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: self._items or self._is_woken, POLL_S):
                    continue
                item = self._items.popleft() if self._items else None
                self._is_woken = self._is_woken and item is not None
                self._changed.notify_all()
            try:
                self._handle(item)
            except Exception as error:
                self._node.count("failed")
                self._node.get_logger().error(told(error))


class ImageSubscription:
    """A camera's images, raw or compressed: those of the topic on which the first one comes, unless told which.

    transport: "auto", "raw" or "compressed". Raises ConfigError.
    """

    def __init__(self, node: Node, transport: str, on_image: Callable[[AnyImage], None], qos: QoSProfile) -> None:
        topics = {"raw": (Image, "image"), "compressed": (CompressedImage, "image/compressed")}
        if transport not in ("auto", *topics):
            raise ConfigError(f"'transport' is 'auto', 'raw' or 'compressed', not '{transport}'")
        self._node, self._on_image = node, on_image
        self._subscriptions = {
            kind: node.create_subscription(kind, topic, self._take, qos)
            for name, (kind, topic) in topics.items()
            if transport in ("auto", name)
        }

    def _take(self, message: AnyImage) -> None:
        for kind in [kind for kind in self._subscriptions if not isinstance(message, kind)]:
            self._node.destroy_subscription(self._subscriptions.pop(kind))  # cameras publish both; one is enough
        self._on_image(message)


class EndOfStream:
    """Tells when a stream is over: its sender said so, and everything up to the last stamp was handled."""

    def __init__(self, node: Node, sender: str, changed: Callable[[], None]) -> None:
        self._last: int | None = None
        self._handled = 0
        self._changed = changed
        node.create_subscription(Progress, f"{sender}/progress", self._on_progress, LATCHED)

    def _on_progress(self, progress: Progress) -> None:
        self._last = to_nanoseconds(progress.output) if progress.end else None
        if progress.end:
            self._changed()

    def handled(self, stamp: int) -> None:
        """Note that the message of this stamp is done with."""
        self._handled = stamp

    @property
    def announced(self) -> bool:
        """Whether the sender has said that nothing follows, whatever may still be on its way."""
        return self._last is not None

    @property
    def reached(self) -> bool:
        """Whether the last message has been handled. Stamps may go back: ask only when nothing is queued."""
        return self._last is not None and self._handled == self._last

    def restart(self) -> None:
        """Expect another stream."""
        self._last, self._handled = None, 0


def run(make_node: Callable[[threading.Event], CrowdNode]) -> int:
    """A node's main: spin until a signal or the node sets ``stop``, close it, return the exit status.

    Signals only set an event that the main thread waits on: no exception ever hits half-done work,
    and a second Ctrl-C does not interrupt the closing.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node(stop)
    except Exception as error:
        rclpy.logging.get_logger("crowd4d").fatal(told(error))
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor, node), name="executor", daemon=True)
    spinning.start()
    stop.wait()
    executor.shutdown()
    spinning.join()
    try:
        node.close()
    except Exception as error:
        node.get_logger().fatal(told(error))
        node.status = 1
    if node.abandoned:
        os._exit(node.status)  # an orderly exit would wait for, or crash under, the thread that still works
    node.destroy_node()
    rclpy.try_shutdown()
    return node.status


def _spin(executor: SingleThreadedExecutor, node: CrowdNode) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception as error:
        if not node.stop.is_set():  # the wheels' wait set may complain about being shut down
            node.get_logger().fatal(told(error))
            node.status = 1
    finally:
        node.stop.set()
