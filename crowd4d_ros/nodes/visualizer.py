"""The crowd as RViz draws it. Whatever is heavy is made only while somebody looks."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge
from geometry_msgs.msg import Point, Vector3
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from crowd4d_ros.axes import to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, ConfigError, value
from crowd4d_ros.io.images import ImageError, decode_compressed, decode_message
from crowd4d_ros.messages import MessageError, read_states, read_surface, stamp_of
from crowd4d_ros.msg import CrowdState, SurfaceMesh
from crowd4d_ros.nodes.common import (
    LATCHED,
    RESULT_DEPTH,
    AnyImage,
    CrowdNode,
    EndOfStream,
    ImageSubscription,
    Worker,
    run,
    stream_qos,
)
from crowd4d_ros.visualization import track_color
from crowd4d_ros.visualization.markers import BodyMesh, bones, colors, filled, segments
from crowd4d_ros.visualization.overlay import OverlayPainter
from crowd4d_ros.window import FloatArray

HEAD = 15
"""SMPL's joint under the skull."""
IMAGE_DEPTH = 60
"""images: two seconds at 30 Hz, while something is drawn."""


@dataclass(frozen=True)
class VisualizerParameters:
    """How bodies are drawn, and how long images wait for them."""

    reliable: bool = value(False, "", "true: an overlay for every image; false: live")
    bodies: str = value("light", "light|full|none", "full: 1 MB a person and frame")
    light_cell: float = value(0.12, "metres", "light: one vertex per cube of this side: 300 triangles a person")
    bridged_alpha: float = value(0.4, "[0, 1]", "a person who is not seen in this frame is paler")
    bone_width: float = value(0.04, "metres", "lines of the skeletons")
    trail_s: float = value(5.0, "s", "how far back the trails reach")
    trail_width: float = value(0.03, "metres", "lines of the trails")
    text_height: float = value(0.25, "metres", "track ids over the heads")
    surface_alpha: float = value(0.6, "[0, 1]", "the terrain, so that feet below it would be seen")
    playback: float = value(0.0, "factor", "of real time between frames; 0: when they come, a window at once")
    image_buffer: int = value(
        400, "frames", "kept as JPEG until their state comes: three windows in flight and a queue"
    )
    jpeg_quality: int = value(92, "of 100", "of the kept images: no visible loss, 0.1 MB at 768x576")
    transport: str = value("auto", "auto|raw|compressed", "auto: whichever topic the first image comes on")


class Visualizer(CrowdNode):
    """Subscribes crowd/{state,surface} and images; makes crowd/{bodies,markers,surface_marker,overlay}."""

    def __init__(self, stop: threading.Event, **options: Any) -> None:
        super().__init__("visualizer", stop, **options)
        self.parameters = p = self.declare(VisualizerParameters())
        config = self.declare(Config())
        if p.bodies not in ("light", "full", "none"):
            raise ConfigError(f"'bodies' is 'light', 'full' or 'none', not '{p.bodies}'")
        self._body = BodyModel.load(config.body)
        self._mesh = None if p.bodies == "none" else BodyMesh(self._body, p.light_cell if p.bodies == "light" else 0.0)
        self._painter = OverlayPainter(self._body, config.visualization)
        self._overlay_trail = round(config.visualization.trail * 1e9)
        self._bridge = CvBridge()
        self._images: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._images_lock = threading.Lock()
        self._history: deque[CrowdState] = deque()
        self._named: set[int] = set()
        self._shown: tuple[int, float] | None = None
        self._bodies = self.create_publisher(Marker, "crowd/bodies", RESULT_DEPTH)
        self._markers = self.create_publisher(MarkerArray, "crowd/markers", RESULT_DEPTH)
        self._surface = self.create_publisher(Marker, "crowd/surface_marker", LATCHED)
        self._overlay = self.create_publisher(Image, "crowd/overlay", stream_qos(True, p.image_buffer))
        self._worker: Worker[CrowdState] = Worker(self, self._handle, RESULT_DEPTH, drop=not p.reliable)
        self._end = EndOfStream(self, "optimizer", self._worker.wake)
        self._source = ImageSubscription(self, p.transport, self._on_image, stream_qos(p.reliable, IMAGE_DEPTH))
        self.create_subscription(SurfaceMesh, "crowd/surface", self._on_surface, LATCHED)
        self.create_subscription(CrowdState, "crowd/state", self._worker.put, RESULT_DEPTH)
        self.create_timer(1.0, lambda: self.diagnose("frames"))

    def _on_image(self, message: AnyImage) -> None:
        if not (self.parameters.reliable or self._overlay.get_subscription_count()):
            return
        if isinstance(message, CompressedImage):
            kept = message.format, bytes(message.data)
        else:
            try:
                image = decode_message(message)
            except ImageError:  # the initializer has said so
                return
            quality = [cv2.IMWRITE_JPEG_QUALITY, self.parameters.jpeg_quality]
            kept = "jpeg", cv2.imencode(".jpg", image, quality)[1].tobytes()
        with self._images_lock:
            self._images[stamp_of(message.header)] = kept
            while len(self._images) > self.parameters.image_buffer:
                self._images.popitem(last=False)
                self.count("images without a state in time")

    def _handle(self, state: CrowdState | None) -> None:
        try:
            if state is not None:
                self._show(state, stamp_of(state.header))
        finally:  # whatever came of it: the recorder waits for this
            if state is not None:
                self._end.handled(stamp_of(state.header))
                self.report(input=stamp_of(state.header))
            self._look_for_the_end()

    def _show(self, state: CrowdState, stamp: int) -> None:
        read_states([state])  # refused here, or it would be refused with every state that is drawn after it
        self._pace(stamp)
        self._remember(state, stamp)
        self._draw(state, stamp)

    def _look_for_the_end(self) -> None:
        if self._end.reached and not len(self._worker):
            self._end.restart()
            self.report(end=True)

    def _pace(self, stamp: int) -> None:
        """Wait as long as the images were apart; a window's frames come all at once."""
        rate = self.parameters.playback
        if rate > 0 and self._shown is not None:
            before, at = self._shown
            self.stop.wait(max(0.0, min((stamp - before) / 1e9, 1.0) / rate - (time.monotonic() - at)))
        self._shown = stamp, time.monotonic()

    def _remember(self, state: CrowdState, stamp: int) -> None:
        last = self._history[-1] if self._history else None
        if last is not None and (last.segment_id != state.segment_id or stamp_of(last.header) >= stamp):
            self._history.clear()
        self._history.append(state)
        oldest = stamp - max(round(self.parameters.trail_s * 1e9), self._overlay_trail)
        while stamp_of(self._history[0].header) < oldest:
            self._history.popleft()

    def _draw(self, state: CrowdState, stamp: int) -> None:
        if self._mesh is not None and self._bodies.get_subscription_count():
            self._bodies.publish(self._body_marker(state, self._mesh))
        if self._markers.get_subscription_count():
            self._markers.publish(self._marker_array(state, stamp))
        with self._images_lock:
            while self._images and next(iter(self._images)) < stamp:
                self._images.popitem(last=False)
            image = self._images.pop(stamp, None)
        if image is not None and self._overlay.get_subscription_count():
            recent = [past for past in self._history if stamp_of(past.header) >= stamp - self._overlay_trail]
            drawn = self._painter.draw(decode_compressed(*image), read_states(recent), len(recent) - 1)
            message = self._bridge.cv2_to_imgmsg(
                drawn, "bgr8", Header(stamp=state.header.stamp, frame_id=state.camera_frame_id)
            )
            self._overlay.publish(message)
            self.report(output=stamp)

    def _alpha(self, state: CrowdState) -> FloatArray:
        return np.where(np.array(state.observed) > 0, 1.0, self.parameters.bridged_alpha)

    def _body_marker(self, state: CrowdState, mesh: BodyMesh) -> bytes:
        marker = _marker(state.header, "bodies", Marker.TRIANGLE_LIST)
        if not state.track_ids:
            marker.action = Marker.DELETE
        points = mesh.triangles(state).reshape(-1, 3)
        return _serialized(marker, points, colors(state.track_ids, mesh.corners, self._alpha(state)))

    def _marker_array(self, state: CrowdState, stamp: int) -> MarkerArray:
        p = self.parameters
        ids = np.array(state.track_ids, int)
        joints = np.array(state.joints, float).reshape(-1, 24, 3)
        lines = bones(joints, self._body.parents)
        skeletons = _marker(state.header, "skeletons", Marker.LINE_LIST, p.bone_width)
        _fill(skeletons, lines.reshape(-1, 3), colors(ids, lines.shape[1], self._alpha(state)))
        trails = _marker(state.header, "trails", Marker.LINE_LIST, p.trail_width)
        _fill(trails, *self._trails(stamp))
        texts = []
        for track_id, head in zip(ids.tolist(), joints[:, HEAD], strict=True):
            text = _marker(state.header, "ids", Marker.TEXT_VIEW_FACING, number=track_id, text=str(track_id))
            text.scale.z = p.text_height
            text.pose.position = Point(x=head[0], y=head[1], z=head[2] + 2 * p.text_height)
            r, g, b = track_color(track_id)
            text.color = _color(r, g, b, 1.0)
            texts.append(text)
        gone = [
            _marker(state.header, "ids", Marker.TEXT_VIEW_FACING, number=old) for old in self._named - set(ids.tolist())
        ]
        for marker in gone:
            marker.action = Marker.DELETE
        self._named = set(ids.tolist())
        return MarkerArray(markers=[skeletons, trails, *texts, *gone])

    def _trails(self, stamp: int) -> tuple[FloatArray, FloatArray]:
        since = stamp - round(self.parameters.trail_s * 1e9)
        recent = [past for past in self._history if stamp_of(past.header) >= since]
        ids = np.concatenate([np.array(past.track_ids, int) for past in recent])
        ground = np.concatenate([np.array(past.support_point, float).reshape(-1, 3) for past in recent])
        paths = {track_id: segments(ground[ids == track_id]) for track_id in np.unique(ids)}
        paint = [colors(np.array([track_id]), len(path), np.ones(1)) for track_id, path in paths.items()]
        return np.concatenate([np.zeros((0, 3)), *paths.values()]), np.concatenate([np.zeros((0, 4)), *paint])

    def _on_surface(self, surface: SurfaceMesh) -> None:
        try:
            mesh = read_surface(surface)
        except MessageError as error:
            self.get_logger().warning(f"a surface is left out: {error}")
            return
        marker = _marker(surface.header, "surface", Marker.TRIANGLE_LIST)
        marker.color = _color(0.55, 0.6, 0.5, self.parameters.surface_alpha)
        corners = to_z_up(mesh.vertices)[mesh.faces].reshape(-1, 3)
        self._surface.publish(_serialized(marker, corners, np.zeros((0, 4))))

    def close(self) -> None:
        self._worker.join()


def _color(r: float, g: float, b: float, a: float) -> ColorRGBA:
    return ColorRGBA(r=float(r), g=float(g), b=float(b), a=float(a))


def _marker(header: Header, ns: str, kind: int, width: float = 1.0, number: int = 0, text: str = "") -> Marker:
    marker = Marker(header=header, ns=ns, id=number, type=kind, text=text, color=_color(1, 1, 1, 1))
    marker.scale = Vector3(x=width, y=width if width == 1.0 else 0.0, z=width if width == 1.0 else 0.0)
    return marker


def _fill(marker: Marker, points: FloatArray, paint: FloatArray) -> None:
    if not len(points):
        marker.action = Marker.DELETE
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in paint.tolist()]


def _serialized(marker: Marker, points: FloatArray, paint: FloatArray) -> bytes:
    return filled(serialize_message(marker), marker.header.frame_id, marker.ns, points, paint)


def main() -> int:
    """Console script."""
    return run(Visualizer)
