"""One frame after another: detect, find keypoints, tell people apart."""

from __future__ import annotations

import cv2
import numpy as np

from crowd4d_ros.config import Config, KeypointsConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.detection import Detections, Detector, Image, NanoDet
from crowd4d_ros.initialization.keypoints import BlazePose, KeypointEstimator, Poses
from crowd4d_ros.initialization.rectification import rectify
from crowd4d_ros.initialization.tracking import UNCONFIRMED, KalmanTracker, Tracker
from crowd4d_ros.window import BoolArray, FloatArray, Frame, FrameObservations, IntArray, Intrinsics

TORSO = [5, 6, 12, 11]
"""Shoulders and hips, around the clothes that tell people apart."""
COLOR_BINS = (8, 4, 4)
"""of hue, saturation and value."""


class Perception:
    """The models that look at images, and the tracker behind them. Causal: a frame is answered when it comes.

    A person is reported once confirmed by ``tracking.confirm_hits`` detections; the frames before stay without.
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
            keypoints_2d=rectify(poses.keypoints_2d[chosen], self._intrinsics),
            keypoints_confidence=poses.confidence[chosen],
            landmarks_3d=poses.landmarks_3d[chosen],
            masks=tuple(poses.masks[index] for index in chosen),
        )


def distinct(detections: Detections, poses: Poses, config: KeypointsConfig) -> IntArray:
    """Indices of the detections, best first, without those whose pose a better one has already: boxes apart, one person."""
    count = len(detections.boxes)
    order = np.argsort(-detections.confidence, kind="stable")
    apart = np.abs(poses.keypoints_2d[:, None] - poses.keypoints_2d[None]).mean((-1, -2))
    visible = poses.presence > config.min_presence
    same = (apart < config.same_pose * detections.boxes[:, 3]) & visible[:, None] & visible[None]
    kept: BoolArray = np.zeros(count, bool)
    for index in order:
        kept[index] = not (same[index] & kept).any()
    return order[kept[order]]


def appearance(image: Image, poses: Poses, chosen: IntArray) -> FloatArray:
    """(n, bins) colour histogram of each person's torso within the mask, summing to one; zeros where nothing shows."""
    histograms = np.zeros((len(chosen), int(np.prod(COLOR_BINS))))
    height, width = image.shape[:2]
    for row, index in enumerate(chosen):
        corners = poses.keypoints_2d[index, TORSO]
        low = np.clip(np.floor(corners.min(0)), 0, [width, height]).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + 1, 0, [width, height]).astype(int)
        if (high <= low).any():
            continue
        patch = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_BGR2HSV)
        inside = masks.decode(poses.masks[index], height, width)[low[1] : high[1], low[0] : high[0]]
        counted = cv2.calcHist(
            [patch], [0, 1, 2], inside.astype(np.uint8), list(COLOR_BINS), [0, 180, 0, 256, 0, 256]
        )
        histograms[row] = counted.ravel() / max(counted.sum(), 1.0)
    return histograms
