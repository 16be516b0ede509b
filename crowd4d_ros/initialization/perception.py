"""One frame after another: detect, find keypoints, tell people apart."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from crowd4d_ros.config import Config, KeypointsConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.detection import Detections, Detector, Image, NanoDet
from crowd4d_ros.initialization.keypoints import BlazePose, KeypointEstimator, Poses
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


class Perception:
    """The models that look at images, and the tracker behind them. Causal: a frame is answered when it comes.

    A person is reported once ``tracking.confirm_hits`` detections confirm it, and not in the frames before.
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

    @property
    def models(self) -> dict[str, str]:
        """File name → SHA-256 of every weight file in use."""
        return {**self._detector.models, **self._estimator.models}

    def reset(self) -> None:
        """Forget who was there: the next frame may have any stamp."""
        self._tracker.reset()

    def state(self) -> dict[str, FloatArray | IntArray]:
        """What it remembers of the frames before, as arrays: who was where."""
        return self._tracker.state()

    def restore(self, state: dict[str, FloatArray | IntArray]) -> None:
        """Go on from a ``state``."""
        self._tracker.restore(state)

    def observe(self, frame: Frame) -> FrameObservations:
        """The people of one frame. Stamps must rise between resets."""
        keypoints = self._config.keypoints
        detections = self._detector.detect(frame.image)
        poses = self._estimator.estimate(frame.image, detections.boxes)
        kept = distinct(detections, poses, keypoints)
        boxes, confidence = detections.boxes[kept], detections.confidence[kept]
        doubtful = poses.presence[kept] <= keypoints.min_presence
        # a box without a visible pose is seldom a person: it may continue a track, never begin one
        strength = np.where(doubtful, np.minimum(confidence, keypoints.doubtful_confidence), confidence)
        looks = appearance(frame.image, poses, kept)
        ids = self._tracker.update(Detections(boxes, strength), frame.stamp, looks)
        named = ids != UNCONFIRMED
        chosen = kept[named]
        return FrameObservations(
            stamp=frame.stamp,
            index=frame.index,
            track_ids=ids[named],
            boxes=boxes[named],
            box_confidence=confidence[named],
            keypoints_2d=rectify(self._intrinsics, poses.keypoints_2d[chosen]),
            keypoints_confidence=poses.confidence[chosen],
            landmarks_3d=poses.landmarks_3d[chosen],
            masks=tuple(poses.masks[index] for index in chosen),
        )


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


def appearance(image: Image, poses: Poses, chosen: IntArray) -> FloatArray:
    """(n, bins) colours of each one's upper and lower clothes, summing to one; zeros where nothing shows."""
    shape = (COLOR_BINS,) * 3
    counts = np.zeros((len(chosen), len(LEVELS) - 1, *shape))
    height, width = image.shape[:2]
    for row, index in enumerate(chosen):
        keypoints = poses.keypoints_2d[index]
        low = np.clip(np.floor(keypoints.min(0)), 0, [width, height]).astype(int)
        high = np.clip(np.ceil(keypoints.max(0)) + 1, 0, [width, height]).astype(int)
        if (high <= low).any():
            continue
        window = slice(low[1], high[1]), slice(low[0], high[0])
        colors = cv2.cvtColor(image[window], cv2.COLOR_BGR2Lab)
        inside = masks.decode(poses.masks[index], height, width)[window].astype(np.uint8)
        heights = [keypoints[joints, 1].mean() - low[1] for joints in LEVELS]
        levels = np.clip(heights, 0, len(inside)).astype(int)
        for part, (top, bottom) in enumerate(pairwise(levels)):
            if bottom > top:
                counts[row, part] = cv2.calcHist(
                    [colors[top:bottom]], [0, 1, 2], inside[top:bottom], list(shape), COLOR_RANGE
                )
    counts = gaussian_filter(counts, (0, 0, *(COLOR_BLUR,) * 3), mode="constant")
    shares = counts / np.maximum(counts.sum((-1, -2, -3), keepdims=True), 1e-9)
    histograms = shares.reshape(len(chosen), (len(LEVELS) - 1) * COLOR_BINS**3)
    return np.asarray(histograms / np.maximum(histograms.sum(-1, keepdims=True), 1.0))
