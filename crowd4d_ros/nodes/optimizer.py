"""CrowdWindows in, the 4D crowd out (Sec. 3.2–3.5): one per scene, where the GPU is."""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from tf2_ros import TransformBroadcaster
from tf_transformations import quaternion_from_matrix

from crowd4d_ros import messages
from crowd4d_ros.axes import to_z_up
from crowd4d_ros.config import Config, ConfigError, value
from crowd4d_ros.msg import CrowdState, SurfaceMesh
from crowd4d_ros.msg import CrowdWindow as CrowdWindowMessage
from crowd4d_ros.nodes.common import (
    LATCHED,
    RESULT_DEPTH,
    CrowdNode,
    EndOfStream,
    Worker,
    ros_types,
    run,
)
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.window import CrowdMotion, FloatArray
from crowd4d_ros.world import World

TF_DEPTH = 100
"""messages, as tf2 has it."""


@dataclass(frozen=True)
class OptimizerParameters:
    """What is published beside the crowd."""

    reliable: bool = value(False, "", "true: every window is optimised; false: live, windows that come too fast drop")
    window_queue: int = value(2, "windows", "live: waiting at most; an older one would only be late")
    wait_for: int = value(0, "subscribers", "of the state, before the first is sent")
    source: str = value("initializer", "node", "who sends the windows; the player, where it replays recorded ones")
    camera_tf: str = value(
        "auto", "auto|always|never", "auto: world to camera, unless somebody else publishes the camera"
    )
    person_tf: bool = value(True, "", "a frame person_<id> at every pelvis, x forward")
    grid_cell: float = value(0.25, "metres", "cells of the terrain for planners: half a shoulder width")
    grid_slope: float = value(30.0, "degrees", "steeper cells are obstacles: stairs are 30 to 35")


class OptimizerNode(CrowdNode):
    """Subscribes crowd/windows; publishes crowd/{state,surface,sipc,terrain}, TF, progress, diagnostics."""

    def __init__(
        self, stop: threading.Event, make_pipeline: Callable[[Config], Pipeline] = Pipeline, **options: Any
    ) -> None:
        super().__init__("optimizer", stop, **options)
        self.parameters = p = self.declare(OptimizerParameters())
        if p.camera_tf not in ("auto", "always", "never"):
            raise ConfigError(f"'camera_tf' is 'auto', 'always' or 'never', not '{p.camera_tf}'")
        config = self.declare(Config())
        self._pipeline = make_pipeline(config)
        self.counters["solver"] = config.optimization.solver
        self._world = World()
        self._decoder = messages.WindowDecoder()
        self._parents: dict[str, set[str]] = {}
        self._camera_link: tuple[str, str] | None = None
        self._states = self.create_publisher(CrowdState, "crowd/state", RESULT_DEPTH)
        self._surface = self.create_publisher(SurfaceMesh, "crowd/surface", LATCHED)
        self._sipc = self.create_publisher(PointCloud2, "crowd/sipc", LATCHED)
        self._terrain = self.create_publisher(OccupancyGrid, "crowd/terrain", LATCHED)
        self._broadcaster = TransformBroadcaster(self)
        self._worker: Worker[CrowdWindowMessage] = Worker(self, self._handle, p.window_queue, drop=not p.reliable)
        self._end = EndOfStream(self, p.source, self._worker.wake)
        if p.camera_tf == "auto":
            self.create_subscription(TFMessage, "/tf", self._on_tf, TF_DEPTH)
            self.create_subscription(TFMessage, "/tf_static", self._on_tf, LATCHED)
        self.create_subscription(CrowdWindowMessage, "crowd/windows", self._worker.put, RESULT_DEPTH)
        self.create_timer(1.0, self._every_second)

    def _on_tf(self, message: TFMessage) -> None:
        for transform in message.transforms:
            link = (transform.header.frame_id, transform.child_frame_id)
            if link != self._camera_link:
                self._parents.setdefault(link[1], set()).add(link[0])

    def _every_second(self) -> None:
        self.counters["queued"] = len(self._worker)
        self.diagnose("windows")

    def _handle(self, message: CrowdWindowMessage | None) -> None:
        try:
            if message is not None:
                self._optimize(message)
        finally:  # whatever came of it: the source waits for this
            if message is not None:
                stamp = messages.stamp_of(message.header)
                self._end.handled(stamp)
                self.report(input=stamp)
            self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self._end.reached and not len(self._worker):
            self._end.restart()
            self._every_second()  # the last counters, for whoever stops at the end
            self.report(end=True)

    def _optimize(self, message: CrowdWindowMessage) -> None:
        window = self._decoder.decode(message)
        began = time.monotonic()
        motion, self._world = self._pipeline.step(window, self._world)
        self.counters["s of the last window"] = round(time.monotonic() - began, 2)
        self.count("windows")
        self.count("frames", int(motion.is_new.sum()))
        self.counters["people in the last window"] = len(motion.track_ids)
        self.counters["scale"] = f"{motion.scale:.4f} from {motion.scale_source}"
        self.counters["HSIP mode"] = motion.hsip_mode
        for term, energies in motion.energies.items():
            self.counters[term] = ", ".join(f"{energy:.4g}" for energy in energies)
        self.counters["warnings of the last window"] = "; ".join(motion.warnings)
        for warning in motion.warnings:
            self.get_logger().warning(warning)
        self._publish(motion, message.header.frame_id, message.camera_frame_id)

    def _publish(self, motion: CrowdMotion, world_frame: str, camera_frame: str) -> None:
        if not motion.is_new.any() or not self.wait_for_subscribers(self._states, self.parameters.wait_for):
            return
        surface = messages.make_surface(ros_types, motion, world_frame)
        if len(surface.faces):
            self._surface.publish(surface)
            self._sipc.publish(create_cloud_xyz32(surface.header, to_z_up(motion.sipc).astype(np.float32)))
            self._terrain.publish(self._grid(surface))
        rest_pelvis = self._pipeline.body.rest_pelvis(motion.motion.betas)
        for state in messages.states(motion, rest_pelvis, ros_types, world_frame, camera_frame):
            self._broadcaster.sendTransform(list(self._transforms(state)))
            self._states.publish(state)
            self.report(output=messages.stamp_of(state.header))

    def _transforms(self, state: CrowdState) -> Iterator[TransformStamped]:
        if self._owns_camera(state.header.frame_id, state.camera_frame_id):
            yield _transform(state.header, state.camera_frame_id, *messages.camera_pose(state))
        if self.parameters.person_tf:
            for track_id, R, t in zip(state.track_ids, *messages.person_poses(state), strict=True):
                yield _transform(state.header, f"person_{track_id}", R, t)

    def _owns_camera(self, world: str, camera: str) -> bool:
        """Whether nobody else says where the camera is: a frame has one parent."""
        if self.parameters.camera_tf == "never" or not camera:
            return False
        others = self._parents.get(camera, set())
        if self.parameters.camera_tf == "auto" and others:
            self.get_logger().info(f"{camera} has the parent {', '.join(sorted(others))}: not published", once=True)
            return False
        self._camera_link = (world, camera)
        return True

    def _grid(self, surface: SurfaceMesh) -> OccupancyGrid:
        p = self.parameters
        data, origin, height = messages.terrain_grid(surface, p.grid_cell, math.radians(p.grid_slope))
        info = MapMetaData(
            resolution=p.grid_cell,
            width=data.shape[1],
            height=data.shape[0],
            map_load_time=surface.header.stamp,
            origin=Pose(position=Point(x=float(origin[0]), y=float(origin[1]), z=height)),
        )
        return OccupancyGrid(header=surface.header, info=info, data=array("b", data.tobytes()))

    def close(self) -> None:
        self._worker.join()


def _transform(header: Header, child: str, R: FloatArray, t: FloatArray) -> TransformStamped:
    matrix: Any = np.eye(4)
    matrix[:3, :3] = R
    x, y, z, w = (float(number) for number in quaternion_from_matrix(matrix))
    translation = Vector3(x=float(t[0]), y=float(t[1]), z=float(t[2]))
    return TransformStamped(
        header=header,
        child_frame_id=child,
        transform=Transform(translation=translation, rotation=Quaternion(x=x, y=y, z=z, w=w)),
    )


def main() -> int:
    """Console script."""
    return run(OptimizerNode)
