"""Who is whom: people of an answer and of the truth, in one frame.

Every function returns, for each of G true people, the row of the prediction that is taken for it, or ``NOBODY``.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from crowd4d_ros.initialization.detection import box_iou
from crowd4d_ros.window import FloatArray, IntArray

NOBODY = -1

COCO_SIGMAS: FloatArray = (
    np.array([0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89])
    / 10.0
)
"""(17,) of sqrt(area): COCO's spread of annotators, keypoint by keypoint."""
SMALLEST_AREA = float(np.spacing(1.0))
"""px², the published evaluator's: keeps OKS finite for somebody outside the image."""


def oks(pred: FloatArray, gt: FloatArray, areas: FloatArray) -> FloatArray:
    """Object keypoint similarity (G, P) of COCO's 17 keypoints, every one of them, seen or not.

    pred: (P, 17, 2) pixels; gt: (G, 17, 2); areas: (G,) px² of the true people's boxes. Keypoints that are NaN, such
    as those behind the camera, are infinitely far away.
    """
    squared = ((pred[None] - gt[:, None]) ** 2).sum(-1)
    spread = (2 * COCO_SIGMAS) ** 2 * np.maximum(areas, SMALLEST_AREA)[:, None, None] * 2
    return np.asarray(np.exp(-np.where(np.isnan(squared), np.inf, squared) / spread).mean(-1))


def iou(pred: FloatArray, gt: FloatArray) -> FloatArray:
    """Intersection over union (G, P) of boxes (…, 4): left, top, width, height. Boxes that are NaN meet nobody."""
    return box_iou(gt, pred)


def nearest(similarity: FloatArray, threshold: float) -> IntArray:
    """As the authors match: (G,) of similarities (G, P).

    Each true person takes its most similar prediction if it exceeds the threshold, the surest first; who finds its
    own taken goes without, and is not offered the second best.
    """
    matched = np.full(len(similarity), NOBODY)
    if not similarity.size:
        return matched
    choice, value = similarity.argmax(1), similarity.max(1)
    order = np.argsort(-value, kind="stable")
    _, first = np.unique(choice[order], return_index=True)
    winners = order[first]
    winners = winners[value[winners] > threshold]
    matched[winners] = choice[winners]
    return matched


def one_to_one(similarity: FloatArray, threshold: float) -> IntArray:
    """The assignment (G,) with the largest sum of those similarities (G, P) that reach the threshold."""
    matched = np.full(len(similarity), NOBODY)
    allowed = similarity >= threshold
    people, predictions = linear_sum_assignment(np.where(allowed, similarity, 0.0), maximize=True)
    kept = allowed[people, predictions]
    matched[people[kept]] = predictions[kept]
    return matched


def same_identity(pred_ids: IntArray, gt_ids: IntArray) -> IntArray:
    """Ground-truth tracking: (G,) by equal track ids (P,), (G,), each of which occurs once."""
    same = gt_ids[:, None] == pred_ids[None]
    return np.where(same.any(1), same.argmax(1), NOBODY) if same.size else np.full(len(gt_ids), NOBODY)
