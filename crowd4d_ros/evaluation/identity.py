"""Identities over time: IDF1, MOTA and HOTA, by motrics, whose results equal those of TrackEval.

Why motrics: MIT, maintained, a megabyte that needs nothing but NumPy (1.24 and newer), and takes arrays in memory.
TrackEval 1.3 and Roboflow's trackers need opencv-python, which overwrites the headless OpenCV that everything else
here uses, and NumPy 2.3 or 2.0; py-motmetrics 1.4 does not run on NumPy 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import motrics
import numpy as np

from crowd4d_ros.window import FloatArray, IntArray

MIN_SIMILARITY = 0.5
"""IoU, the field's: from here on MOTA and IDF1 take a box for the true one. HOTA averages over thresholds."""


@dataclass(frozen=True)
class Identities:
    """Ratios, 1 is perfect, NaN without a true person: idf1 (Ristani 2016), mota (Bernardin 2008), hota (Luiten 2021).

    switches: how often somebody's number changed. mota may be negative.
    """

    idf1: float
    mota: float
    hota: float
    switches: int


def identities(
    pred_ids: Sequence[IntArray], gt_ids: Sequence[IntArray], similarity: Sequence[FloatArray]
) -> Identities:
    """From T frames: pred_ids[t]: (P_t,) and gt_ids[t]: (G_t,) numbers, similarity[t]: (G_t, P_t) in [0, 1]."""
    if not any(len(ids) for ids in gt_ids):
        return Identities(float("nan"), float("nan"), float("nan"), 0)
    true, predicted = ([ids.tolist() for ids in side] for side in (gt_ids, pred_ids))
    scores = [np.asarray(matrix, np.float64).tolist() for matrix in similarity]
    clear = motrics.compute_clear_from_similarity(true, predicted, scores, MIN_SIMILARITY)
    identity = motrics.compute_identity_from_similarity(true, predicted, scores, MIN_SIMILARITY)
    hota = motrics.compute_hota_from_similarity(true, predicted, scores)
    return Identities(identity.idf1, clear.mota, hota.hota, clear.num_switches)
