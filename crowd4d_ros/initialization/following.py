"""People between two detections: where they were last looked at says where to look next.

BlazePose was made for this: its landmarks tell the crop of the next frame, so that one pass does for somebody who is
followed. The box goes with their middle, and its sides with the mask's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from crowd4d_ros.config import KeypointsConfig
from crowd4d_ros.initialization.detection import Detections, box_iou
from crowd4d_ros.initialization.keypoints import Crops, Poses
from crowd4d_ros.initialization.masks import RunLengths, bounds
from crowd4d_ros.window import NUM_COCO, NUM_KEYPOINTS, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Followed:
    """The m people of one frame who have a track. Pixels of the image.

    boxes: (m, 4) left, top, width, height; confidence: (m,) of the detections they come from; visible: (m,) whether
    a pose was seen; keypoints: (m, 23, 2) of it; center, size, angle: of the crops in which to look for them;
    track_ids: (m,), negative while unconfirmed.
    """

    boxes: FloatArray
    confidence: FloatArray
    visible: BoolArray
    keypoints: FloatArray
    center: FloatArray
    size: FloatArray
    angle: FloatArray
    track_ids: IntArray

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def nobody(cls) -> Followed:
        none = np.zeros(0)
        return cls(
            boxes=np.zeros((0, 4)),
            confidence=none,
            visible=none.astype(bool),
            keypoints=np.zeros((0, NUM_KEYPOINTS, 2)),
            center=np.zeros((0, 2)),
            size=none,
            angle=none,
            track_ids=none.astype(np.int64),
        )

    @classmethod
    def of(cls, found: Detections, visible: BoolArray, poses: Poses, margin: float, track_ids: IntArray) -> Followed:
        """People as they were just seen; who was not ``visible`` is looked for around the box, ``margin`` wide."""
        rows = np.flatnonzero(visible)
        crops = Crops.around(found.boxes, margin).put(rows, poses.aims.take(rows))
        return cls(found.boxes, found.confidence, visible, poses.keypoints_2d, *crops, track_ids)

    def arrays(self) -> dict[str, Any]:
        """Field by field; ``Followed(**arrays)`` is the same people."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def take(self, rows: IntArray) -> Followed:
        """The people in ``rows`` (k,), indices in that order."""
        return Followed(**{name: array[rows] for name, array in self.arrays().items()})

    @property
    def crops(self) -> Crops:
        return Crops(self.center, self.size, self.angle)

    def moved(self, track_ids: IntArray, change: FloatArray) -> Followed:
        """Where they are once the tracks have moved by ``change`` (k, 3): centre x, centre y, height."""
        by = np.zeros((len(self), 3))
        mine, theirs = np.nonzero(self.track_ids[:, None] == track_ids)
        by[mine] = change[theirs]
        growth = np.exp(by[:, 2:] / np.maximum(self.boxes[:, 3:], 1.0))
        old = self.boxes[:, :2] + self.boxes[:, 2:] / 2
        new = old + by[:, :2]
        size = self.boxes[:, 2:] * growth
        return replace(
            self,
            boxes=np.concatenate([new - size / 2, size], -1),
            keypoints=new[:, None] + (self.keypoints - old[:, None]) * growth[:, None],
            center=new + (self.center - old) * growth,
            size=self.size * growth[:, 0],
        )

    def steps_to(self, poses: Poses) -> FloatArray:
        """(m, 2) how far the poses now seen in the crops are from where they were expected; zero if not ``visible``."""
        step = np.median((poses.keypoints_2d - self.keypoints)[:, :NUM_COCO], axis=1)
        return np.where(self.visible[:, None], step, 0.0)

    def found_in(self, boxes: FloatArray, overlap: float) -> tuple[IntArray, IntArray]:
        """Which of ``boxes`` (n, 4) are somebody's who is visible, and whose: indices of boxes and of people."""
        seen = np.flatnonzero(self.visible)
        shared = box_iou(boxes, self.boxes[seen])
        rows, columns = linear_sum_assignment(-shared)
        same = shared[rows, columns] >= overlap
        return rows[same], seen[columns[same]]


def towards_masks(boxes: FloatArray, masks: Sequence[RunLengths], height: int, config: KeypointsConfig) -> FloatArray:
    """``boxes`` (n, 4) whose sides are drawn to those of their people's masks, in an image so high.

    A detector's box and a mask are wrong in different ways, and a mask shows a stride that landmarks do not. Masks leak
    into the background, so no side goes further than ``mask_reach``, and into people beside: their boxes stay, as do
    those of empty masks.
    """
    if not len(boxes):
        return boxes
    shown = np.stack([bounds(mask, height) for mask in masks])
    reach = config.mask_reach * boxes[:, 3:]
    alone = (box_iou(boxes, boxes) - np.eye(len(boxes))).max(-1, keepdims=True) < config.mask_alone
    share = np.where(alone, config.mask_share, 0.0)
    step = share * np.clip(np.nan_to_num(_sides(shown) - _sides(boxes)), -reach, reach)
    low, high = np.split(_sides(boxes) + step, 2, -1)
    return np.concatenate([low, high - low], -1)


def _sides(boxes: FloatArray) -> FloatArray:
    """(n, 4) left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], -1)
