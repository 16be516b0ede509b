"""People in an image, as boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.config import DetectionConfig
from crowd4d_ros.initialization.weights import Model
from crowd4d_ros.window import FloatArray, IntArray

Image = NDArray[np.uint8]

STRIDES = (8, 16, 32)
BINS = 11
"""NanoDet's box sides are expectations over this many multiples of the stride."""
MEAN = np.array([103.53, 116.28, 123.675], np.float32)
DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
"""BGR statistics NanoDet was trained with."""


@dataclass(frozen=True)
class Detections:
    """boxes: (n, 4) left, top, width, height in pixels of the image; confidence: (n,) in [0, 1]."""

    boxes: FloatArray
    confidence: FloatArray

    def take(self, rows: IntArray) -> Detections:
        """The detections in ``rows`` (m,), indices in that order."""
        return Detections(self.boxes[rows], self.confidence[rows])


class Detector(Protocol):
    """Finds people."""

    @property
    def models(self) -> dict[str, str]:
        """File name → SHA-256 of the weights."""
        ...

    def detect(self, image: Image) -> Detections:
        """image: (H, W, 3) BGR. Boxes lie within the image, the most confident first."""
        ...


class NanoDet:
    """NanoDet-g at several scales of the image: small people are found in the larger copy."""

    def __init__(self, config: DetectionConfig, device: str = "auto") -> None:
        self._config = config
        self._model = Model("nanodet.onnx", device, config.model)

    @property
    def models(self) -> dict[str, str]:
        return {self._model.name: self._model.sha256}

    def detect(self, image: Image) -> Detections:
        config = self._config
        found = [self._at_scale(image, scale) for scale in config.scales]
        corners = np.concatenate([boxes for boxes, _ in found])
        confidence = np.concatenate([scores for _, scores in found])
        height, width = image.shape[:2]
        corners = corners.clip(0, [width, height, width, height])
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)
        large = (boxes[:, 2:] >= config.min_side).all(-1)
        boxes, confidence = boxes[large], confidence[large]
        kept = non_maximum_suppression(boxes, confidence, config.overlap)
        return Detections(boxes[kept], confidence[kept])

    def _at_scale(self, image: Image, scale: float) -> tuple[FloatArray, FloatArray]:
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)
        padded = np.zeros((1, 3, -(-size[1] // 32) * 32, -(-size[0] // 32) * 32), np.float32)
        for channel, plane in enumerate(padded[0, :, : size[1], : size[0]]):
            np.subtract(resized[..., channel], MEAN[channel], out=plane)
            plane /= DEVIATION[channel]
        outputs = self._model.session.run(None, {self._model.input_name: padded})
        corners, scores = decode(outputs, padded.shape[-1], self._config.min_confidence)
        return corners / np.tile([size[0] / width, size[1] / height], 2), scores


def decode(outputs: list[FloatArray], width: int, min_confidence: float) -> tuple[FloatArray, FloatArray]:
    """Corners (n, 4) left, top, right, bottom in pixels of the network's input, and confidence (n,).

    outputs: per stride (1, cells, 80) class scores, then per stride (1, cells, 44) logits of the distances of
    the four sides.
    width: of the input, a multiple of 32.
    """
    corners: list[FloatArray] = [np.zeros((0, 4))]
    scores: list[FloatArray] = [np.zeros(0)]
    for stride, classes, sides in zip(STRIDES, outputs[:3], outputs[3:], strict=True):
        person = classes[0, :, 0]
        cell = np.flatnonzero(person > min_confidence)
        logits = sides[0, cell].reshape(-1, 4, BINS).astype(np.float64)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        distance = (share @ np.arange(BINS)) / share.sum(-1) * stride
        columns = width // stride
        center = (np.stack([cell % columns, cell // columns], -1) + 0.5) * stride
        corners.append(np.concatenate([center - distance[:, :2], center + distance[:, 2:]], -1))
        scores.append(person[cell].astype(np.float64))
    return np.concatenate(corners), np.concatenate(scores)


def non_maximum_suppression(boxes: FloatArray, confidence: FloatArray, overlap: float) -> IntArray:
    """Indices of the boxes (n, 4) that no better box overlaps by more than ``overlap`` (IoU), best first."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), confidence.tolist(), 0.0, overlap)
    return np.asarray(kept, np.int64).ravel()


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4): left, top, width, height; none where one is NaN."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
