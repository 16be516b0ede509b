"""One frame after another: detect, find keypoints, tell people apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from crowd4d_ros.config import Config, KeypointsConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.detection import Detections, Detector, Image, NanoDet
from crowd4d_ros.initialization.following import Followed, towards_masks
from crowd4d_ros.initialization.keypoints import BlazePose, Crops, KeypointEstimator, Poses
from crowd4d_ros.initialization.tracking import UNCONFIRMED, KalmanTracker, Tracker
from crowd4d_ros.lens import rectify
from crowd4d_ros.window import BoolArray, FloatArray, Frame, FrameObservations, IntArray, Intrinsics

LEVELS = ([5, 6], [11, 12], [15, 16])
"""Shoulders, hips and ankles: between them the upper and the lower clothes, which tell people apart."""
COLOR_BINS = 8
"""per axis of CIELAB."""
COLOR_RANGE = [0, 256, 88, 168, 88, 168]
"""of OpenCV's 8-bit CIELAB: all lightness, and the middle of a and b, where clothes and skin are."""
COLOR_BLUR = 0.7
"""bins: neighbouring colours are alike, and a person 60 px tall has few pixels."""
NEVER = -1
"""The stamp of a detection that has not been made."""
FOLLOWED, COUNTS = "followed_", "counts"
"""Names in a state."""


class Perception:
    """The models that look at images, and the tracker behind them. Causal: a frame is answered when it comes.

    People are detected every ``detection.interval_s``, and at once where somebody was lost from sight; between, those
    who have a track are followed by their landmarks. A person is reported once ``tracking.confirm_hits`` frames
    confirm it, and not in the frames before.

    frames, detected, lost: frames observed, those of them detected in, and those of these out of turn, since somebody
    was lost.
    """

    def __init__(
        self,
        config: Config,
        intrinsics: Intrinsics,
        detector: Detector | None = None,
        estimator: KeypointEstimator | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self._config, self._intrinsics = config, intrinsics
        size = (intrinsics.width, intrinsics.height)
        self._detector = detector or NanoDet(config.detection, config.device)
        self._estimator = estimator or BlazePose(config.keypoints, config.device)
        self._tracker = tracker or KalmanTracker(config.tracking, size)
        self.frames = self.detected = self.lost = 0
        self._forget()

    @property
    def models(self) -> dict[str, str]:
        """File name → SHA-256 of every weight file in use."""
        return {**self._detector.models, **self._estimator.models}

    @property
    def counts(self) -> dict[str, int]:
        """For diagnostics: how often people were detected, and not only followed."""
        return {
            "frames observed": self.frames,
            "frames detected in": self.detected,
            "frames detected in since somebody was lost": self.lost,
        }

    def reset(self) -> None:
        """Forget who was there: the next frame may have any stamp."""
        self._tracker.reset()
        self._forget()

    def _forget(self) -> None:
        self._followed, self._detected_at = Followed.nobody(), NEVER

    def state(self) -> dict[str, FloatArray | IntArray]:
        """What it remembers of the frames before, as arrays: who was where."""
        followed = {f"{FOLLOWED}{name}": array for name, array in self._followed.arrays().items()}
        counts = np.array([self._detected_at, self.frames, self.detected, self.lost])
        return {**self._tracker.state(), **followed, COUNTS: counts}

    def restore(self, state: dict[str, FloatArray | IntArray]) -> None:
        """Go on from a ``state``."""
        self._tracker.restore(state)
        arrays: dict[str, Any] = {
            name.removeprefix(FOLLOWED): array for name, array in state.items() if name.startswith(FOLLOWED)
        }
        self._followed = Followed(**arrays)
        self._detected_at, self.frames, self.detected, self.lost = (int(count) for count in state[COUNTS])

    def observe(self, frame: Frame) -> FrameObservations:
        """The people of one frame. Stamps must rise between resets."""
        expected = self._followed.moved(*self._tracker.drift(frame.stamp))
        self.frames += 1
        detections, poses = (
            self._detect(frame, expected) if self._is_due(frame.stamp) else self._follow(frame, expected)
        )
        config, height = self._config.keypoints, frame.image.shape[0]
        visible = poses.presence > config.min_presence
        boxes = towards_masks(detections.boxes, poses.masks, height, config)
        detections = Detections(np.where(visible[:, None], boxes, detections.boxes), detections.confidence)
        # a box without a visible pose is seldom a person: it may continue a track, never begin one
        doubtful = np.minimum(detections.confidence, config.doubtful_confidence)
        strength = np.where(visible, detections.confidence, doubtful)
        own = covered(poses, frame.image.shape) < config.covered
        looks = appearance(frame.image, poses)
        ids = self._tracker.update(Detections(detections.boxes, strength), frame.stamp, looks, own)
        named = np.flatnonzero(ids != UNCONFIRMED)
        begun = np.flatnonzero((ids != UNCONFIRMED) | own & (strength >= self._config.tracking.begin_confidence))
        self._followed = Followed.of(
            detections.take(begun), visible[begun], poses.take(begun), config.margin, ids[begun]
        )
        poses = poses.take(named)
        return FrameObservations(
            stamp=frame.stamp,
            index=frame.index,
            track_ids=ids[named],
            boxes=detections.boxes[named],
            box_confidence=detections.confidence[named],
            keypoints_2d=rectify(self._intrinsics, poses.keypoints_2d),
            keypoints_confidence=poses.confidence,
            landmarks_3d=poses.landmarks_3d,
            masks=poses.masks,
        )

    def _is_due(self, stamp: int) -> bool:
        return self._detected_at == NEVER or stamp - self._detected_at >= self._config.detection.interval_s * 1e9

    def _follow(self, frame: Frame, expected: Followed) -> tuple[Detections, Poses]:
        """Those whom the last frame told the place of; everybody, where one of them is not to be seen there."""
        config = self._config.keypoints
        poses = self._estimator.estimate(frame.image, expected.crops)
        step, reach = expected.steps_to(poses), config.leap * expected.boxes[:, 3]
        visible = (poses.presence > config.min_presence) & (np.linalg.norm(step, axis=-1) < reach)
        step[~visible] = 0.0
        boxes = np.concatenate([expected.boxes[:, :2] + step, expected.boxes[:, 2:]], -1)
        found = Detections(boxes, expected.confidence)
        kept = distinct(found, poses, config)
        if len(kept) < len(expected) or (expected.visible & ~visible).any():
            self.lost += 1
            held = replace(expected, boxes=boxes, visible=visible)
            return self._detect(frame, held.take(kept), poses.take(kept))
        return found.take(kept), poses.take(kept)

    def _detect(self, frame: Frame, expected: Followed, poses: Poses | None = None) -> tuple[Detections, Poses]:
        """Everybody whom the detector finds, less the weak boxes that continue no track.

        poses: of ``expected``, where they were already looked at in this frame.
        """
        config = self._config.keypoints
        self.detected += 1
        self._detected_at = frame.stamp
        found = self._detector.detect(frame.image)
        found = found.take(np.flatnonzero(self._tracker.useful(found, frame.stamp)))
        known, whose = expected.found_in(found.boxes, config.same_box)
        crops = Crops.around(found.boxes, config.margin).put(known, expected.crops.take(whose))
        if poses is None:
            poses = self._estimator.estimate(frame.image, crops)
        else:
            others = np.setdiff1d(np.arange(len(found.boxes)), known)
            poses = poses.take(whose).joined(self._estimator.estimate(frame.image, crops.take(others)))
            poses = poses.take(np.argsort(np.concatenate([known, others])))
        kept = distinct(found, poses, config)
        return found.take(kept), poses.take(kept)


def distinct(detections: Detections, poses: Poses, config: KeypointsConfig) -> IntArray:
    """Indices of the detections, best first, without those whose pose a better one has."""
    count = len(detections.boxes)
    order = np.argsort(-detections.confidence, kind="stable")
    apart = np.abs(poses.keypoints_2d[:, None] - poses.keypoints_2d[None]).mean((-1, -2))
    visible = poses.presence > config.min_presence
    same = (apart < config.same_pose * detections.boxes[:, 3]) & visible
    kept: BoolArray = np.zeros(count, bool)
    for index in order:
        kept[index] = not (same[index] & kept).any()
    return order[kept[order]]


def covered(poses: Poses, shape: tuple[int, ...]) -> FloatArray:
    """(n,) the share of each one's mask, within its keypoints' bounds, that lies in masks of those before it.

    A box between two people shows either of them, or a pose mixed of both. shape: (height, width, …) of the image.
    """
    low, high = _windows(poses, shape)
    shares = np.zeros(len(low))
    for row in range(1, len(low)):
        near = np.flatnonzero(((low[:row] < high[row]) & (high[:row] > low[row])).all(-1))
        own = masks.window(poses.masks[row], low[row], high[row], shape[0])
        others = [masks.window(poses.masks[other], low[row], high[row], shape[0]) for other in near]
        shares[row] = (own & np.any(others, 0)).sum() / max(own.sum(), 1) if others else 0.0
    return shares


def _windows(poses: Poses, shape: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """(n, 2) columns and rows within the image between which everyone's keypoints are."""
    limit = [shape[1], shape[0]]
    low = np.clip(np.floor(poses.keypoints_2d.min(1)), 0, limit).astype(int)
    return low, np.clip(np.ceil(poses.keypoints_2d.max(1)) + 1, 0, limit).astype(int)


def appearance(image: Image, poses: Poses) -> FloatArray:
    """(n, bins) colours of each one's upper and lower clothes, summing to one; zeros where nothing shows."""
    shape = (COLOR_BINS,) * 3
    people = len(poses.masks)
    counts = np.zeros((people, len(LEVELS) - 1, *shape))
    for row, (keypoints, low, high) in enumerate(zip(poses.keypoints_2d, *_windows(poses, image.shape), strict=True)):
        if (high <= low).any():
            continue
        window = slice(low[1], high[1]), slice(low[0], high[0])
        colors = cv2.cvtColor(image[window], cv2.COLOR_BGR2Lab)
        inside = masks.window(poses.masks[row], low, high, image.shape[0]).astype(np.uint8)
        heights = [keypoints[joints, 1].mean() - low[1] for joints in LEVELS]
        levels = np.clip(heights, 0, len(inside)).astype(int)
        for part, (top, bottom) in enumerate(pairwise(levels)):
            if bottom > top:
                counts[row, part] = cv2.calcHist(
                    [colors[top:bottom]], [0, 1, 2], inside[top:bottom], list(shape), COLOR_RANGE
                )
    counts = gaussian_filter(counts, (0, 0, *(COLOR_BLUR,) * 3), mode="constant")
    shares = counts / np.maximum(counts.sum((-1, -2, -3), keepdims=True), 1e-9)
    histograms = shares.reshape(people, (len(LEVELS) - 1) * COLOR_BINS**3)
    return np.asarray(histograms / np.maximum(histograms.sum(-1, keepdims=True), 1.0))
