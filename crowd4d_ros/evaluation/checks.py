"""What can be checked of a reconstruction without truth: whether it keeps to image and ground, and how people move.

They say that an answer is consistent, not that it is right. In sizes of a body, in the mean of six rendered videos,
heads, trunks and arms are detected .044 from the true pixels; Stages 1 and 2 as first built, which kept to the initial
motion's pixels, were .023 from what is detected and .039 from the truth; all three stages are .032 and .034.
Speeds and accelerations are by when frames seem to have been taken (optimization/clock.py): stamps that are off by a
part of a frame shake whoever keeps to the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crowd4d_ros.body.keypoints import INDEX, MIRROR
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.evaluation.crowds import Crowd
from crowd4d_ros.evaluation.meaning import Meaning
from crowd4d_ros.evaluation.reading import read_result_crowd
from crowd4d_ros.io.resume import recorded
from crowd4d_ros.optimization.clock import SURE, taken_at
from crowd4d_ros.window import NUM_COCO, FloatArray, FrameObservations

CHECKS = {
    "image": Meaning("to the image", "% of a size", 100.0, "down", "head, trunk, arms to detected keypoints, median"),
    "image_lasting": Meaning("  lasting", "% of a size", 100.0, "down", "the same, of its means over a second"),
    "image_jitter": Meaning("  jitter", "% of a size", 100.0, "", "the same, from these means: noise not followed too"),
    "knee": Meaning("knees", "degrees", 1.0, "", "bent by, median"),
    "straighter_knee": Meaning("straighter knee", "degrees", 1.0, "", "of the two, median"),
    "lowest": Meaning("lowest vertex", "mm", 1000.0, "", "above the ground, median"),
    "off_ground": Meaning("off the ground", "mm", 1000.0, "down", "lowest vertex, above or below, median"),
    "standing_ankle": Meaning("standing ankle", "m/s", 1.0, "down", "of the lower ankle while it stays so, median"),
    "facing": Meaning("facing", "degrees", 1.0, "down", "against the way walked, median"),
    "joint_acceleration": Meaning("joints accelerate", "m/s^2", 1.0, "", "against the root, mean"),
    "root_acceleration": Meaning("root accelerates", "m/s^2", 1.0, "", "mean"),
    "lean": Meaning("lean", "degrees", 1.0, "", "trunks away from the camera, median; 0 in a mixed crowd"),
    "speed": Meaning("walking speed", "m/s", 1.0, "", "of those who walk, median: the scale of the speeds above"),
}
"""Every check, in the order of the table."""

WALKS = 0.7
"""m/s: who is faster faces where they go."""
LASTS = 1.0
"""seconds, about: the noise of keypoints does so, and what is off for longer is an error, theirs or ours."""
ROUNDED = 1e-6
"""seconds: stamps are whole nanoseconds."""
LEAST_KNOWN = 0.8
"""of the frames around one: with fewer, a mean over them is mostly noise."""
SAME_BOX = 0.1
"""pixels between a box and itself after single precision."""
UPPER = [row for name, row in INDEX.items() if row < NUM_COCO and not name.endswith(("hip", "knee", "ankle"))]
"""Head, trunk and arms. A network marks hips, knees and ankles elsewhere than SMPL has its joints."""


def check(folder: str | Path, body: BodyModel) -> dict[str, float]:
    """``CHECKS`` of a folder of ``crowd4d reconstruct``; ``image`` needs its --keep-work and is NaN without.

    Raises CrowdError for another folder.
    """
    crowd = read_result_crowd(folder, body)
    return checks(crowd, *detected(crowd, tuple(recorded(Path(folder)))))


def checks(crowd: Crowd, keypoints: FloatArray, confidence: FloatArray) -> dict[str, float]:
    """``CHECKS`` in SI units and degrees, NaN where nothing can be said.

    keypoints: (N, T, 17, 2) rectified pixels, as detected, NaN where not; confidence: (N, T, 17).
    """
    joint = {name: crowd.joints[:, :, row] for row, name in enumerate(JOINTS)}
    point = {name: crowd.keypoints[:, :, row] for name, row in INDEX.items() if row < NUM_COCO}
    clock = taken_at(crowd.stamps / 1e9, crowd.cameras, keypoints, confidence, crowd.observed)
    step = np.diff(clock)[:, None]
    velocity = np.diff(crowd.joints[:, :, 0], axis=1) / step
    pace = np.linalg.norm(_level(velocity), axis=-1)
    knees = np.stack([_bend(*(joint[f"{s}_{n}"] for n in ("hip", "knee", "ankle"))) for s in ("left", "right")], -1)
    middle = {name: (point[f"left_{name}"] + point[f"right_{name}"]) / 2 for name in ("shoulder", "hip")}
    across = sum(point[f"left_{name}"] - point[f"right_{name}"] for name in ("shoulder", "hip"))
    ahead = np.cross(_level(np.asarray(across)), np.eye(3)[UP])
    root = crowd.joints[:, :, :1]
    image = _to_image(crowd, keypoints, confidence)
    lasting = _lasting(image, crowd.stamps / 1e9)
    found = {
        "image": _median(np.linalg.norm(image, axis=-1)),
        "image_lasting": _median(np.linalg.norm(lasting, axis=-1)),
        "image_jitter": _median(np.linalg.norm(image - lasting, axis=-1)),
        "knee": _median(knees),
        "straighter_knee": _median(knees.min(-1)),
        "lowest": _median(crowd.clearance),
        "off_ground": _median(np.abs(crowd.clearance)),
        "standing_ankle": _median(_standing(np.stack([joint["left_ankle"], joint["right_ankle"]], 2), step)),
        "facing": _median(np.where(pace > WALKS, _angle(ahead[:, 1:], _level(velocity)), np.nan)),
        "joint_acceleration": _acceleration(crowd.joints - root, step),
        "root_acceleration": _acceleration(root, step),
        "lean": _median(_lean(middle["shoulder"] - middle["hip"], crowd)),
        "speed": _median(np.where(pace > WALKS, pace, np.nan)),
    }
    return {name: found[name] for name in CHECKS}


def detected(crowd: Crowd, observations: Sequence[FrameObservations]) -> tuple[FloatArray, FloatArray]:
    """The keypoints (N, T, 17, 2) and confidences (N, T, 17) of a crowd's people, found by frame and box."""
    keypoints = np.full((*crowd.valid.shape, NUM_COCO, 2), np.nan)
    confidence = np.zeros(keypoints.shape[:-1])
    by_stamp = {seen.stamp: seen for seen in observations if len(seen.boxes)}
    for frame, stamp in enumerate(crowd.stamps):
        if (seen := by_stamp.get(int(stamp))) is None:
            continue
        person = np.flatnonzero(crowd.observed[:, frame])
        apart = np.abs(crowd.boxes[person, frame][:, None] - seen.boxes).max(-1)
        same, row = np.nonzero(apart < SAME_BOX)
        keypoints[person[same], frame] = seen.keypoints_2d[row, :NUM_COCO]
        confidence[person[same], frame] = seen.keypoints_confidence[row, :NUM_COCO]
    return keypoints, confidence


def table(names: Sequence[str], columns: Sequence[Mapping[str, float]]) -> str:
    """A row for each check, a column for each folder."""
    width = max(12, *(len(name) + 2 for name in names))
    lines = [" " * 30 + "".join(f"{name:>{width}}" for name in names)]
    for key, meaning in CHECKS.items():
        shown = [f"{meaning.factor * found[key]:.2f}" if math.isfinite(found[key]) else "-" for found in columns]
        label = f"{meaning.label:18}{meaning.unit:12}"
        lines.append(label + "".join(f"{text:>{width}}" for text in shown) + f"   {meaning.what}")
    return "\n".join(lines)


def _to_image(crowd: Crowd, keypoints: FloatArray, confidence: FloatArray) -> FloatArray:
    """(N, T, K, 2) body sizes, from what was detected; NaN where that is not sure.

    Sides are taken as the body has them, or exchanged where a whole body is nearer so.
    """
    size = np.sqrt(crowd.boxes[..., 2:].prod(-1))[..., None, None]
    apart = np.stack(
        [
            np.where(confidence[..., rows, None] > SURE, crowd.pixels() - keypoints[..., rows, :], np.nan)
            for rows in (slice(None), list(MIRROR[:NUM_COCO]))
        ]
    )
    distance = np.linalg.norm(apart, axis=-1)
    total = np.where(np.isfinite(distance), distance, 0.0).sum(-1) / np.maximum(np.isfinite(distance).sum(-1), 1)
    nearer = np.where((total[0] <= total[1])[..., None, None], apart[0], apart[1])
    return np.asarray((nearer / size)[..., UPPER, :])


def _lasting(residual: FloatArray, seconds: FloatArray) -> FloatArray:
    """Means of (N, T, K, 2) over what is known within half of LASTS, NaN where that is too little, or nothing at t."""
    known = np.isfinite(residual)
    near = np.abs(seconds - seconds[:, None]) <= LASTS / 2 + ROUNDED
    total, count = (
        np.einsum("tu,nukd->ntkd", near.astype(float), values, optimize=True)
        for values in (np.where(known, residual, 0.0), known.astype(float))
    )
    enough = known & (count > LEAST_KNOWN * near.sum(1)[:, None, None])
    return np.asarray(np.where(enough, total / np.maximum(count, 1), np.nan))


def _standing(ankles: FloatArray, step: FloatArray) -> FloatArray:
    """(N, T − 1) horizontal m/s of the lower ankle of (N, T, 2, 3) where it is the lower one before and after."""
    height = np.nan_to_num(ankles[..., UP])
    lower = height.argmin(-1)
    speed = np.linalg.norm(_level(np.diff(ankles, axis=1)), axis=-1) / step
    own = np.take_along_axis(speed, lower[:, 1:, None], -1)[..., 0]
    return np.where(lower[:, 1:] == lower[:, :-1], own, np.nan)


def _acceleration(points: FloatArray, step: FloatArray) -> float:
    """Mean m/s² of points (N, T, K, 3)."""
    velocity = np.diff(points, axis=1) / step[..., None]
    between = (step[1:] + step[:-1]) / 2
    change = np.linalg.norm(np.diff(velocity, axis=1) / between[..., None], axis=-1)
    return float(change[np.isfinite(change)].mean()) if np.isfinite(change).any() else math.nan


def _lean(trunk: FloatArray, crowd: Crowd) -> FloatArray:
    """(N, T) degrees that trunks (N, T, 3) lean away from the camera."""
    away = _level(crowd.joints[:, :, 0] - crowd.cameras.centers)
    toward = (trunk * away).sum(-1) / np.linalg.norm(away, axis=-1)
    return np.asarray(np.degrees(np.arctan2(toward, trunk[..., UP])))


def _bend(hip: FloatArray, knee: FloatArray, ankle: FloatArray) -> FloatArray:
    return _angle(knee - hip, ankle - knee)


def _angle(a: FloatArray, b: FloatArray) -> FloatArray:
    """Degrees between vectors."""
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))))


def _level(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors * np.where(np.arange(3) == UP, 0.0, 1.0))


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
