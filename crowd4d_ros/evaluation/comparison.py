"""Who is whom: an answer and a truth brought to the same frames, and the answer's people to the true ones' rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.config import value
from crowd4d_ros.evaluation.crowds import Crowd, GroundTruth
from crowd4d_ros.evaluation.matching import NOBODY, nearest, oks, one_to_one, same_identity
from crowd4d_ros.evaluation.metrics import PELVIS, Profile
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)

Tracking = Literal["ids", "detected"]
TRACKINGS: tuple[Tracking, ...] = get_args(Tracking)

_H36M_14 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head",
)  # fmt: skip
H36M_14 = tuple(JOINTS.index(name) for name in _H36M_14)
"""SMPL's joints that stand for the first 14 of H36M-17, in the order of LSP."""
TORSO = tuple(JOINTS.index(name) for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"))
FEET = tuple(JOINTS.index(name) for name in ("left_foot", "right_foot"))


class EvaluationError(ValueError):
    """An answer and a truth that cannot be compared; the message says why and what to do."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What the public descriptions of the profiles leave open, and what we call a failure."""

    author_frames: int = value(200, "frames", "author_native: what the published evaluator looks at")
    author_oks: float = value(1e-6, "OKS", "author_native: any similarity is enough")
    min_oks: float = value(0.1, "OKS", "else: keypoints off by a quarter of the body's height")
    occluded: float = value(0.5, "visibility", "the paper's Table 3: less than half of the body is seen")
    ever_seen: float = value(0.1, "visibility", "who never shows more cannot be found")
    lost_joints: float = value(150.0, "mm", "a person's MPJPE from which the pose is wrong; what a miss costs")
    lost_root: float = value(2.0, "m", "a person's mean root error from which the place is wrong")
    lost_share: float = value(0.5, "1", "of a person's frames: who is found in fewer is lost")


DEFAULTS = EvaluationConfig()


def paired(
    pred: Crowd, truth: GroundTruth, profile: Profile, config: EvaluationConfig = DEFAULTS
) -> tuple[Crowd, GroundTruth]:
    """The frames that both have. author_native: the first 200, by position; standard: all, by their stamps.

    Stamps agree that differ by less than half a frame. Raises EvaluationError where they do not. Frames of the truth
    that the answer lacks are left out, with a warning.
    """
    stamps = truth.crowd.stamps
    if not len(stamps) or not pred.num_frames:
        raise EvaluationError(f"{(pred if len(stamps) else truth.crowd).name} has no frames")
    tolerance = float(np.diff(stamps).min()) / 2 if len(stamps) > 1 else np.inf
    mine: IntArray
    theirs: IntArray
    if profile == "author_native":
        theirs = mine = np.arange(min(len(stamps), pred.num_frames, config.author_frames))
    else:
        mine = np.abs(stamps[:, None] - pred.stamps[None]).argmin(1)
        theirs = np.flatnonzero(np.abs(stamps - pred.stamps[mine]) < tolerance)
        mine = mine[theirs]
    apart = np.abs(stamps[theirs] - pred.stamps[mine]) >= tolerance
    if not len(theirs) or apart.any():
        raise EvaluationError(
            f"the frames of {pred.name} and {truth.crowd.name} are not of the same times"
            + (f", from frame {int(apart.argmax())} on" if apart.any() else "")
            + ": evaluate an answer to this very sequence, from its first frame, at its frame rate (--fps)"
        )
    wanted = min(len(stamps), config.author_frames) if profile == "author_native" else len(stamps)
    if len(theirs) < wanted:
        log.warning("%s has %d of %d frames: the others are not evaluated", pred.name, len(theirs), wanted)
    return pred.take(mine), GroundTruth(truth.crowd.take(theirs), truth.visibility[:, theirs], truth.terrain)


class Comparison:
    """One answer and one truth over the same T frames. N true people; arrays of the answer are put in their rows.

    there: (N, T) people to be found. match: (N, T) their rows of the answer, or NOBODY. counted: (P, T) whom the answer
    claims to see: not those outside the image, nor those who look like true people that need not be found.
    joints: (N, T, 24, 3) metres in the world; in_camera: in the camera's axes; pose: the profile's joints of these,
    relative to the pelvis. These are NaN where nobody is found; true_joints, true_in_camera and true_pose where nobody
    is there.
    """

    def __init__(
        self, pred: Crowd, truth: GroundTruth, profile: Profile, tracking: Tracking, config: EvaluationConfig
    ) -> None:
        self.pred, self.gt, self.truth = pred, truth.crowd, truth
        self.profile, self.tracking, self.config = profile, tracking, config
        gt = self.gt
        inside = (gt.boxes[..., 2:] > 0).all(-1)
        seen = (truth.visibility * (gt.valid & inside)).max(1, initial=0.0) >= config.ever_seen
        self.there: BoolArray = gt.valid & inside & seen[:, None]
        self.pixels, self.true_pixels = pred.pixels(), gt.pixels()
        self.match, self.counted = self._matched(), self._counted()
        self.joints, self.true_joints = self.of(pred.joints), np.where(self.there[..., None, None], gt.joints, np.nan)
        self.in_camera = self.of(pred.in_camera(pred.joints))
        self.true_in_camera = np.where(self.there[..., None, None], gt.in_camera(gt.joints), np.nan)
        self.pose, self.true_pose = self.pose_of(self.in_camera), self.pose_of(self.true_in_camera)

    @property
    def found(self) -> BoolArray:
        return np.asarray(self.match != NOBODY)

    @property
    def hidden(self) -> BoolArray:
        """(N, T) found, but less than half seen, or not detected in that frame and bridged."""
        return np.asarray(self.found & ((self.truth.visibility < self.config.occluded) | ~self.observed))

    @property
    def observed(self) -> BoolArray:
        """(N, T) found, and detected in that frame: who is found and not observed is bridged."""
        return np.asarray(np.nan_to_num(self.of(self.pred.observed.astype(float))) > 0)

    @property
    def fps(self) -> float:
        steps = np.diff(self.gt.stamps)
        return 1e9 / float(np.median(steps)) if len(steps) else 1.0

    def track(self, person: int) -> IntArray:
        """Frames from the first to the last in which a true person is there; in between it may be gone."""
        present = np.flatnonzero(self.there[person])
        return np.arange(present[0], present[-1] + 1)

    def of(self, values: FloatArray) -> FloatArray:
        """The answer's (P, T, …) for each true person (N, T, …), NaN for whom there is none."""
        taken = np.full((*self.match.shape, *values.shape[2:]), np.nan)
        person, frame = np.nonzero(self.found)
        taken[person, frame] = values[self.match[person, frame], frame]
        return taken

    def pose_of(self, joints: FloatArray) -> FloatArray:
        """The profile's joints of (…, 24, 3), relative to the pelvis."""
        index = list(H36M_14) if self.profile == "author_native" else list(range(len(JOINTS)))
        return np.asarray((joints - joints[..., list(PELVIS), :].mean(-2, keepdims=True))[..., index, :])

    def _matched(self) -> IntArray:
        pred, gt = self.pred, self.gt
        if self.tracking == "ids" and not np.isin(pred.track_ids, gt.track_ids).any():
            raise EvaluationError(
                f"no track id of {pred.name} is one of the truth's: it was not made with ground-truth "
                "tracking; evaluate it with --tracking detected"
            )
        match = np.full(self.there.shape, NOBODY)
        for t in range(gt.num_frames):
            mine, theirs = np.flatnonzero(pred.valid[:, t]), np.flatnonzero(self.there[:, t])
            if self.tracking == "ids":
                row = same_identity(pred.track_ids[mine], gt.track_ids[theirs])
            elif self.profile == "author_native":
                row = nearest(self._oks(mine, theirs, t), self.config.author_oks)
            else:
                row = one_to_one(self._oks(mine, theirs, t), self.config.min_oks)
            match[theirs[row != NOBODY], t] = mine[row[row != NOBODY]]
        return match

    def _counted(self) -> BoolArray:
        counted = self.pred.valid & self.pred.in_image()
        for t in range(self.gt.num_frames):
            mine, theirs = np.flatnonzero(counted[:, t]), np.flatnonzero(self.gt.valid[:, t])
            if self.there[theirs, t].all():
                continue
            row = one_to_one(self._oks(mine, theirs, t), self.config.min_oks)
            counted[mine[row[(row != NOBODY) & ~self.there[theirs, t]]], t] = False
        return counted

    def _oks(self, mine: IntArray, theirs: IntArray, t: int) -> FloatArray:
        return oks(self.pixels[mine, t], self.true_pixels[theirs, t], self.gt.boxes[theirs, t, 2:].prod(-1))
