"""What RViz markers hold, as arrays: light bodies, skeletons, trails. World z up, as in the messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.visualization import track_color
from crowd4d_ros.visualization.raster import decimate
from crowd4d_ros.window import FloatArray, IntArray

_ENCAPSULATION = 4
"""bytes before a serialised message, not counted in its alignment."""


class BodyMesh:
    """Bodies as un-indexed triangles of one topology, which is what RViz draws.

    cell: metres, one vertex per cube of this side, 0 for the full mesh.
    """

    def __init__(self, body: BodyModel, cell: float) -> None:
        self._body = body
        index, self._faces = decimate(body.v_template.cpu().numpy(), body.faces.cpu().numpy(), cell)
        self._index = torch.as_tensor(index, device=body.v_template.device)

    @property
    def corners(self) -> int:
        """Corners of one body's triangles."""
        return int(self._faces.size)

    def triangles(self, state: Any) -> FloatArray:
        """(n, F·3, 3) metres: the corners of everybody's triangles in a CrowdState message."""
        like = self._body.v_template
        shapes = {"betas": (10,), "body_pose": (23, 3), "global_orient": (3,), "transl": (3,)}
        parameters = {
            name: torch.as_tensor(np.array(getattr(state, name))).to(like).reshape(-1, *shape)
            for name, shape in shapes.items()
        }
        with torch.no_grad():
            vertices = self._body.vertices(**parameters, index=self._index).cpu().numpy()
        return np.asarray(vertices[:, self._faces.ravel()])


def bones(joints: FloatArray, parents: Sequence[int]) -> FloatArray:
    """(n, 46, 3): the two ends of every bone, parent to child. joints: (n, 24, 3)."""
    pairs = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
    return joints[:, np.array(pairs).ravel()]


def colors(track_ids: IntArray, each: int, alpha: FloatArray) -> FloatArray:
    """(n·each, 4) RGBA: ``each`` corners in every person's colour. alpha: (n,)."""
    if not len(track_ids):
        return np.zeros((0, 4), np.float32)
    rgb = np.stack([track_color(int(track_id)) for track_id in track_ids])
    return np.repeat(np.concatenate([rgb, alpha[:, None]], 1), each, axis=0).astype(np.float32)


def segments(path: FloatArray) -> FloatArray:
    """(2 (T − 1), 3): a path (T, 3) as the ends of its segments."""
    return np.repeat(path, 2, axis=0)[1:-1]


def filled(empty: bytes, frame_id: str, ns: str, points: FloatArray, colors: FloatArray) -> bytes:
    """A serialised visualization_msgs/Marker with points (P, 3) and colors (P, 4) put into it.

    empty: the marker with this frame_id and ns, serialised without either. As message objects they would
    take 50 times as long, and a mesh has a thousand.
    """
    if not len(points):
        return empty
    at = _ENCAPSULATION + _points_offset(frame_id, ns)
    padding = -(at + 4 - _ENCAPSULATION) % 8
    return b"".join(
        (
            empty[:at],
            np.uint32(len(points)).tobytes(),
            bytes(padding),
            np.ascontiguousarray(points, "<f8").tobytes(),
            np.uint32(len(colors)).tobytes(),
            np.ascontiguousarray(colors, "<f4").tobytes(),
            empty[at + 8 :],  # nothing that follows the two lists is aligned to more than their 4 bytes
        )
    )


def _points_offset(frame_id: str, ns: str) -> int:
    """Where a Marker's points begin in CDR: numbers are aligned to their size, strings end in a zero."""
    at = 8  # stamp
    for text in (frame_id, ns):
        at += -at % 4 + 4 + len(text.encode()) + 1
    at += -at % 4 + 3 * 4  # id, type, action
    at += -at % 8 + (7 + 3) * 8  # pose, scale
    at += 4 * 4 + 2 * 4 + 1  # color, lifetime, frame_locked
    return at + -at % 4
