"""Transform broadcasters, and a buffer of the latest transforms, with the names and arguments of tf2_ros.

The buffer has no history: lookups answer with the latest transform of every link, whatever the time.
"""

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from tf2_msgs.msg import TFMessage
from tf_transformations import quaternion_from_matrix, quaternion_matrix

DYNAMIC = QoSProfile(depth=100, durability=DurabilityPolicy.VOLATILE, history=HistoryPolicy.KEEP_LAST)
STATIC = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, history=HistoryPolicy.KEEP_LAST)


class TransformException(Exception):
    """A transform that cannot be given."""


class LookupException(TransformException):
    """A frame that nobody has published."""


class ConnectivityException(TransformException):
    """Two frames of different trees."""


class TransformBroadcaster:
    """Publishes transforms on /tf."""

    def __init__(self, node, qos=None):
        self.pub_tf = node.create_publisher(TFMessage, "/tf", qos or DYNAMIC)

    def sendTransform(self, transform):
        self.pub_tf.publish(TFMessage(transforms=_listed(transform)))


class StaticTransformBroadcaster:
    """Publishes transforms that stay on /tf_static, all of this broadcaster's in every message."""

    def __init__(self, node, qos=None):
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos or STATIC)
        self.transforms = {}

    def sendTransform(self, transform):
        self.transforms.update({t.child_frame_id: t for t in _listed(transform)})
        self.pub_tf.publish(TFMessage(transforms=list(self.transforms.values())))


def _listed(transform):
    return list(transform) if isinstance(transform, (list, tuple)) else [transform]


class Buffer:
    """The latest transform of every frame to its parent."""

    def __init__(self, cache_time=None, node=None):
        self.links = {}

    def set_transform(self, transform, authority):
        self.links[transform.child_frame_id] = transform

    set_transform_static = set_transform

    def clear(self):
        self.links.clear()

    def lookup_transform(self, target_frame, source_frame, time=None, timeout=None):
        """The transform that takes points of source_frame to target_frame."""
        target, source = self._to_root(target_frame), self._to_root(source_frame)
        if target[0] != source[0]:
            raise ConnectivityException(f"'{source_frame}' and '{target_frame}' are not of one tree")
        matrix = np.linalg.inv(target[1]) @ source[1]
        stamps = [s for s in (target[2], source[2]) if s is not None]
        result = TransformStamped(child_frame_id=source_frame)
        result.header.frame_id = target_frame
        if stamps:
            result.header.stamp = min(stamps, key=lambda s: (s.sec, s.nanosec))
        move, turn = result.transform.translation, result.transform.rotation
        move.x, move.y, move.z = (float(v) for v in matrix[:3, 3])
        turn.x, turn.y, turn.z, turn.w = (float(v) for v in quaternion_from_matrix(matrix))
        return result

    def can_transform(self, target_frame, source_frame, time=None, timeout=None, return_debug_tuple=False):
        try:
            self.lookup_transform(target_frame, source_frame)
        except TransformException as error:
            return (False, str(error)) if return_debug_tuple else False
        return (True, "") if return_debug_tuple else True

    def _to_root(self, frame):
        """The root of a frame's tree, (4, 4) from the frame to it, and the oldest stamp on the way."""
        if frame not in self.links and frame not in {link.header.frame_id for link in self.links.values()}:
            raise LookupException(f"nobody has published a frame '{frame}'")
        matrix, oldest, seen = np.eye(4), None, set()
        while frame in self.links:
            if frame in seen:
                raise ConnectivityException(f"the transforms above '{frame}' go in a circle")
            seen.add(frame)
            link = self.links[frame]
            rotation, translation = link.transform.rotation, link.transform.translation
            step = quaternion_matrix([rotation.x, rotation.y, rotation.z, rotation.w])
            step[:3, 3] = translation.x, translation.y, translation.z
            matrix = step @ matrix
            stamp = link.header.stamp
            if oldest is None or (stamp.sec, stamp.nanosec) < (oldest.sec, oldest.nanosec):
                oldest = stamp
            frame = link.header.frame_id
        return frame, matrix, oldest


class TransformListener:
    """Fills a buffer from /tf and /tf_static; the node must be spun."""

    def __init__(self, buffer, node, *, spin_thread=False, qos=None, static_qos=None):
        if spin_thread:
            raise NotImplementedError("this stand-in for tf2_ros has no thread of its own: spin the node")
        self.buffer = buffer
        self.subscriptions = [
            node.create_subscription(TFMessage, "/tf", self._heard, qos or DYNAMIC),
            node.create_subscription(TFMessage, "/tf_static", self._heard, static_qos or QoSProfile(
                depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL, history=HistoryPolicy.KEEP_LAST)),
        ]  # fmt: skip

    def _heard(self, message):
        for transform in message.transforms:
            self.buffer.set_transform(transform, "")
