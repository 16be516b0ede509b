"""What is compared: a crowd as joints over time, from wherever it comes, and the truth about one.

Core axes: metres, y up, the world of each side's own first camera. Nothing is aligned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd4d_ros.body.keypoints import posed_keypoints
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.evaluation.ground import height_above
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import (
    NUM_COCO,
    BodyMotion,
    BoolArray,
    Cameras,
    CrowdMotion,
    CrowdWindow,
    FloatArray,
    IntArray,
    Intrinsics,
)

BODIES_AT_ONCE = 8192
"""posed together: some 100 MB."""
NEAREST = 0.05
"""metres: what is closer to the image plane, or behind it, is not projected."""
SAME_BODY = 0.01
"""metres between given joints and those of the body they are read with: single precision leaves 1e-5."""
POINTS = {"joints": (24, 3), "keypoints": (NUM_COCO, 3), "lowest": (3,), "boxes": (4,), "clearance": ()}
"""A crowd's arrays of numbers over people and frames, and their shapes."""


class CrowdError(ValueError):
    """A file that cannot be evaluated; the message says why and what to do."""


@dataclass(frozen=True)
class Crowd:
    """N people over T frames; entries where not ``valid`` are NaN.

    name: where it comes from. stamps: (T,) int64 nanoseconds. track_ids: (N,). valid: (N, T).
    joints: (N, T, 24, 3) SMPL's, keypoints: (N, T, 17, 3) COCO's, lowest: (N, T, 3) the lowest vertex: metres, world.
    boxes: (N, T, 4) left, top, width, height in pixels, of the projected keypoints where nothing else is known.
    clearance: (N, T) metres, how high the lowest vertex is above this side's own surface; NaN where there is none.
    observed: (N, T) detected in that frame; who is valid and not observed is bridged.
    intrinsics, cameras: as this side believes them. is_border: (T,) the first frame of a new window's answer.
    """

    name: str
    stamps: IntArray
    track_ids: IntArray
    valid: BoolArray
    joints: FloatArray
    keypoints: FloatArray
    lowest: FloatArray
    boxes: FloatArray
    clearance: FloatArray
    observed: BoolArray
    intrinsics: Intrinsics
    cameras: Cameras
    is_border: BoolArray

    @property
    def num_people(self) -> int:
        return len(self.track_ids)

    @property
    def num_frames(self) -> int:
        return len(self.stamps)

    def in_camera(self, points: FloatArray) -> FloatArray:
        """World points (N, T, 3) or (N, T, K, 3) in this side's cameras' axes."""
        return self.cameras.in_camera(points)

    def pixels(self) -> FloatArray:
        """(N, T, 17, 2) the keypoints, rectified pixels; NaN behind the camera."""
        return _projected(self.in_camera(self.keypoints), self.intrinsics)

    def in_image(self) -> BoolArray:
        """(N, T) whether a part of the box lies in the image."""
        left, top, width, height = np.moveaxis(self.boxes, -1, 0)
        across = (left < self.intrinsics.width) & (left + width > 0) & (width > 0)
        return np.asarray(across & (top < self.intrinsics.height) & (top + height > 0) & (height > 0))

    def take(self, frames: IntArray) -> Crowd:
        """The frames (K,), in that order; borders that fall on frames left out are forgotten."""
        cameras = replace(self.cameras, R=self.cameras.R[frames], t=self.cameras.t[frames])
        over_time = {name: getattr(self, name)[:, frames] for name in ("valid", "observed", *POINTS)}
        return replace(self, stamps=self.stamps[frames], is_border=self.is_border[frames], cameras=cameras, **over_time)


@dataclass(frozen=True)
class GroundTruth:
    """A true crowd. visibility: (N, T) share of each body that is seen; terrain: the ground, where it is known."""

    crowd: Crowd
    visibility: FloatArray
    terrain: Surface | None


def crowd_of_motions(motions: Sequence[CrowdMotion], body: BodyModel, name: str = "optimised") -> Crowd:
    """The answers of one or more windows, each for its new frames, as in the files. Raises CrowdError for none."""
    if not motions:
        raise CrowdError("there is no window to evaluate")
    fresh = [np.flatnonzero(motion.is_new) for motion in motions]
    start = np.cumsum([0, *(len(new) for new in fresh)])
    track_ids = np.unique(np.concatenate([motion.track_ids for motion in motions]))
    rows: list[IntArray] = []
    frames: list[IntArray] = []
    points: list[dict[str, FloatArray]] = []
    observed: list[BoolArray] = []
    for motion, new, first in zip(motions, fresh, start, strict=False):
        person, column = np.nonzero(motion.valid[:, new])
        rows.append(np.searchsorted(track_ids, motion.track_ids)[person])
        frames.append(first + column)
        seen = motion.observed[person, new[column]]
        boxes = np.where(seen[:, None], motion.boxes[person, new[column]], np.nan)
        bodies = posed(body, taken(motion.motion, person, new[column]))
        points.append({**bodies, "boxes": boxes, "clearance": height_above(motion.surface, bodies["lowest"])})
        observed.append(seen)
    border = np.zeros(start[-1], bool)
    border[start[1:-1][(start[1:-1] > 0) & (start[1:-1] < start[-1])]] = True
    return crowd_of_rows(
        name=name,
        stamps=np.concatenate([motion.stamps[new] for motion, new in zip(motions, fresh, strict=True)]),
        track_ids=track_ids,
        person=np.concatenate(rows),
        frame=np.concatenate(frames),
        points={key: np.concatenate([part[key] for part in points]) for key in POINTS},
        observed=np.concatenate(observed),
        intrinsics=motions[-1].intrinsics,
        cameras=Cameras(
            np.concatenate([motion.cameras.R[new] for motion, new in zip(motions, fresh, strict=True)]),
            np.concatenate([motion.cameras.t[new] for motion, new in zip(motions, fresh, strict=True)]),
            motions[-1].cameras.source,
        ),
        is_border=border,
    )


def crowd_of_window(window: CrowdWindow, body: BodyModel, name: str = "initial") -> Crowd:
    """The initial motion of a window, before any optimisation, in the window's own world and scale."""
    person, frame = np.nonzero(window.valid)
    seen = window.observed[person, frame]
    boxes = np.where(seen[:, None], window.boxes[person, frame], np.nan)
    return crowd_of_rows(
        name=name,
        stamps=window.stamps,
        track_ids=window.track_ids,
        person=person,
        frame=frame,
        points={**posed(body, taken(window.motion, person, frame)), "boxes": boxes},
        observed=seen,
        intrinsics=window.intrinsics,
        cameras=window.cameras,
        is_border=np.zeros(window.num_frames, bool),
    )


def ground_truth(truth: Truth, body: BodyModel) -> GroundTruth:
    """A synthetic crowd's truth. ``body``: the one it was made with; raises CrowdError for another."""
    person, frame = np.nonzero(truth.valid)
    points = posed(body, taken(truth.motion, person, frame), with_lowest=False)
    check_body(points["joints"], truth.joints[person, frame], f"the truth of {truth.scene}")
    exact = {key: getattr(truth, key)[person, frame] for key in ("joints", "lowest", "boxes")}
    crowd = crowd_of_rows(
        name=f"{truth.scene}, {truth.camera} camera, {truth.motions}, {truth.num_people} people, seed {truth.seed}",
        stamps=truth.stamps,
        track_ids=truth.track_ids,
        person=person,
        frame=frame,
        points={**points, **exact},
        intrinsics=truth.intrinsics,
        cameras=truth.cameras,
        is_border=np.zeros(truth.num_frames, bool),
    )
    return GroundTruth(crowd, truth.visibility, truth.terrain)


def crowd_of_rows(
    *,
    name: str,
    stamps: IntArray,
    track_ids: IntArray,
    person: IntArray,
    frame: IntArray,
    points: dict[str, FloatArray],
    intrinsics: Intrinsics,
    cameras: Cameras,
    is_border: BoolArray,
    observed: BoolArray | None = None,
) -> Crowd:
    """A crowd of n bodies: person, frame: (n,) where they belong; points: ``POINTS`` (n, …), NaN where not given.

    A box that is NaN becomes that of the projected keypoints. observed: (n,); None: all of them.
    """
    shape = (len(track_ids), len(stamps))
    arrays: dict[str, Any] = {key: np.full((*shape, *size), np.nan) for key, size in POINTS.items()}
    for key, values in points.items():
        arrays[key][person, frame] = values
    valid = np.zeros(shape, bool)
    valid[person, frame] = True
    seen = valid.copy()
    if observed is not None:
        seen[person, frame] = observed
    crowd = Crowd(
        name, stamps, track_ids, valid, **arrays, observed=seen, intrinsics=intrinsics, cameras=cameras,
        is_border=is_border,
    )  # fmt: skip
    pixels = crowd.pixels()
    low, high = pixels.min(-2), pixels.max(-2)
    missing = ~np.isfinite(crowd.boxes).all(-1, keepdims=True)
    return replace(crowd, boxes=np.where(missing, np.concatenate([low, high - low], -1), crowd.boxes))


def taken(motion: BodyMotion, person: IntArray, frame: IntArray) -> dict[str, FloatArray]:
    """SMPL parameters (n, …) of n bodies."""
    return {
        "betas": motion.betas[person],
        "body_pose": motion.body_pose[person, frame],
        "global_orient": motion.global_orient[person, frame],
        "transl": motion.transl[person, frame],
    }


@torch.no_grad()
def posed(
    body: BodyModel, smpl: dict[str, FloatArray], up: int = UP, with_lowest: bool = True
) -> dict[str, FloatArray]:
    """joints (n, 24, 3), keypoints (n, 17, 3) and lowest (n, 3) of n bodies, in the axes of their parameters.

    The lowest vertex takes most of the time.
    """
    keys = ("joints", "keypoints", "lowest") if with_lowest else ("joints", "keypoints")
    parts: dict[str, list[FloatArray]] = {key: [np.zeros((0, *POINTS[key]))] for key in keys}
    for start in range(0, len(smpl["transl"]), BODIES_AT_ONCE):
        bodies = body.pose(*(_tensor(values[start : start + BODIES_AT_ONCE], body) for values in smpl.values()))
        parts["joints"].append(_array(bodies.joints))
        parts["keypoints"].append(_array(posed_keypoints(body, bodies)[:, :NUM_COCO]))
        if with_lowest:
            parts["lowest"].append(_array(body.skin(bodies, body.lowest_index(bodies, up)[:, None])[:, 0]))
    return {key: np.concatenate(chunks) for key, chunks in parts.items()}


def check_body(joints: FloatArray, given: FloatArray, what: str) -> None:
    """That posed joints (n, 24, 3) are those that were given with the parameters. Raises CrowdError."""
    if len(joints) and np.abs(joints - given).max() > SAME_BODY:
        raise CrowdError(f"{what} was made with another body model: name its SMPL file with --body")


def _projected(points: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    depth = points[..., 2:]
    ahead = depth > NEAREST
    image = points @ np.asarray(intrinsics.K_rectified, np.float64).T
    return np.where(ahead, image[..., :2] / np.where(ahead, depth, 1.0), np.nan)


def _tensor(array: NDArray[Any], body: BodyModel) -> Tensor:
    return torch.as_tensor(array, dtype=body.v_template.dtype, device=body.v_template.device)


def _array(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.cpu().numpy(), np.float64)
