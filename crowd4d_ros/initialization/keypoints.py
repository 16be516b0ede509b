"""Keypoints, metric landmarks and a mask for each box."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from crowd4d_ros.config import KeypointsConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.detection import Image
from crowd4d_ros.initialization.masks import RunLengths
from crowd4d_ros.initialization.weights import Model
from crowd4d_ros.window import NUM_KEYPOINTS, FloatArray, IntArray

CROP = 256
"""pixels: BlazePose's input."""
NUM_LANDMARKS = 39
HIP_CENTER, CIRCLE = 33, 34
"""BlazePose's own anchors: the middle of the hips, and the top of the circle around the person."""
FROM_BLAZEPOSE = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 31, 31, 29, 32, 32, 30]
"""Which of BlazePose's 33 each of the 23 is; its foot index is the big toe."""
OUTSIDE = -10.0
"""logits: nobody is where the crop does not reach."""
SMALL_TOES = [18, 21]
"""BlazePose has none: their place is the big toe's, their confidence zero."""


@dataclass(frozen=True)
class Poses:
    """n people. keypoints_2d: (n, 23, 2) pixels of the image; confidence: (n, 23) in [0, 1].

    landmarks_3d: (n, 23, 3) metres, camera axes, relative to the middle of the hips.
    presence: (n,) in [0, 1] that there is a person at all, the least of all passes.
    masks: n run-length masks of the image.
    aims: the n crops that show these people best, for who looks at them again.
    """

    keypoints_2d: FloatArray
    confidence: FloatArray
    landmarks_3d: FloatArray
    presence: FloatArray
    masks: tuple[RunLengths, ...]
    aims: Crops

    def take(self, rows: IntArray) -> Poses:
        """The people in ``rows`` (m,), indices in that order."""
        return Poses(
            self.keypoints_2d[rows],
            self.confidence[rows],
            self.landmarks_3d[rows],
            self.presence[rows],
            tuple(self.masks[row] for row in rows),
            self.aims.take(rows),
        )

    def joined(self, other: Poses) -> Poses:
        """These and the other's, in this order."""
        return Poses(
            np.concatenate([self.keypoints_2d, other.keypoints_2d]),
            np.concatenate([self.confidence, other.confidence]),
            np.concatenate([self.landmarks_3d, other.landmarks_3d]),
            np.concatenate([self.presence, other.presence]),
            self.masks + other.masks,
            Crops(*map(np.concatenate, zip(self.aims, other.aims, strict=True))),
        )


class KeypointEstimator(Protocol):
    """Finds the keypoints of the people in given boxes."""

    @property
    def models(self) -> dict[str, str]:
        """File name → SHA-256 of the weights."""
        ...

    def estimate(self, image: Image, crops: Crops) -> Poses:
        """image: (H, W, 3) BGR; crops: n squares with somebody in the middle of each."""
        ...


class Crops(NamedTuple):
    """Squares of the image. center: (n, 2) and size: (n,) pixels; angle: (n,) rad, clockwise on the image."""

    center: FloatArray
    size: FloatArray
    angle: FloatArray

    @staticmethod
    def around(boxes: FloatArray, margin: float) -> Crops:
        """Upright squares, ``margin`` times the longer side of their boxes (n, 4)."""
        return Crops(boxes[:, :2] + boxes[:, 2:] / 2, margin * boxes[:, 2:].max(-1), np.zeros(len(boxes)))

    def take(self, rows: IntArray) -> Crops:
        return Crops(self.center[rows], self.size[rows], self.angle[rows])

    def put(self, rows: IntArray, new: Crops) -> Crops:
        """With ``new`` in place of ``rows``."""
        return Crops(*map(_put, self, repeat(rows), new))

    def apart(self, other: Crops) -> FloatArray:
        """(n,) how far the middles of the sides are from the other's, about, in sides."""
        shift = np.linalg.norm(other.center - self.center, axis=-1) / self.size
        growth = np.abs(np.log(np.maximum(other.size, 1.0) / self.size))
        return np.asarray(np.maximum(shift, np.maximum(growth, np.abs(other.angle - self.angle)) / 2))

    @property
    def rotation(self) -> FloatArray:
        """(n, 2, 2) from the crop's axes to the image's."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)

    @property
    def to_image(self) -> FloatArray:
        """(n, 2, 3) affine from crop pixels to image pixels."""
        turn = self.rotation * (self.size / CROP)[:, None, None]
        middle = np.full(2, (CROP - 1) / 2)
        return np.concatenate([turn, (self.center - turn @ middle)[..., None]], -1)

    def pixels(self, image: Image) -> FloatArray:
        """(n, 256, 256, 3) RGB in [0, 1]; black beyond the image's border."""
        result = np.empty((len(self.size), CROP, CROP, 3), np.float32)
        for crop, affine in zip(result, self.to_image, strict=True):
            sampling = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            pixels = cv2.warpAffine(image, affine, (CROP, CROP), flags=sampling)
            np.divide(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.float32(255), out=crop)
        return result


class _Output(NamedTuple):
    """landmarks: (n, 39, 5) crop pixels x, y, z and logits of visibility and presence; presence: (n,).

    mask: (n, 256, 256) logits; world: (n, 39, 3) metres in the crop's axes, about the middle of the hips.
    """

    landmarks: FloatArray
    presence: FloatArray
    mask: FloatArray
    world: FloatArray


class BlazePose:
    """BlazePose full. What it finds in a crop says which crop it should have been given.

    Where that is another one, and somebody is there, a further pass looks at it: two for a new box, one for a person
    whom the last frame has told the place of.
    """

    def __init__(self, config: KeypointsConfig, device: str = "auto") -> None:
        self._config = config
        # one thread a crop, crops side by side: 11.4 ms of CPU a crop on two busy cores, with two threads a crop 11.9
        self._model = Model("blazepose.onnx", device, config.model, threads=1)
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "crops")

    @property
    def models(self) -> dict[str, str]:
        return {self._model.name: self._model.sha256}

    def estimate(self, image: Image, crops: Crops) -> Poses:
        if not len(crops.size):
            return Poses(
                np.zeros((0, NUM_KEYPOINTS, 2)),
                np.zeros((0, NUM_KEYPOINTS)),
                np.zeros((0, NUM_KEYPOINTS, 3)),
                np.zeros(0),
                (),
                crops,
            )
        found = self._run(image, crops)
        aims = self._aimed(crops, found.landmarks)
        for _ in range(self._config.passes - 1):
            seen = found.presence > self._config.min_presence
            rows = np.flatnonzero(seen & (crops.apart(aims) > self._config.settled))
            if not len(rows):
                break
            crops = crops.put(rows, aims.take(rows))
            again = self._run(image, crops.take(rows))
            again = again._replace(presence=np.minimum(again.presence, found.presence[rows]))
            aims = aims.put(rows, self._aimed(crops.take(rows), again.landmarks))
            found = _Output(*map(_put, found, repeat(rows), again))
        landmarks = found.landmarks[:, FROM_BLAZEPOSE]
        confidence = _sigmoid(landmarks[..., 3]) * found.presence[:, None]
        confidence[:, SMALL_TOES] = 0.0
        landmarks_3d = found.world[:, FROM_BLAZEPOSE].copy()
        landmarks_3d[..., :2] = landmarks_3d[..., :2] @ crops.rotation.swapaxes(-1, -2)
        return Poses(
            _transformed(crops.to_image, landmarks[..., :2]),
            confidence,
            landmarks_3d,
            found.presence,
            tuple(self._pool.map(partial(_mask, image.shape), found.mask, crops.to_image)),
            aims,
        )

    def _aimed(self, crops: Crops, landmarks: FloatArray) -> Crops:
        """Crops centred on the hips and turned upright, from the landmarks found in the crops before."""
        anchors = _transformed(crops.to_image, landmarks[:, [HIP_CENTER, CIRCLE], :2])
        center, up = anchors[:, 0], anchors[:, 1] - anchors[:, 0]
        size = self._config.margin * 2 * np.linalg.norm(up, axis=-1)
        return Crops(center, size, np.arctan2(up[:, 0], -up[:, 1]))

    def _run(self, image: Image, crops: Crops) -> _Output:
        people = len(crops.size)
        batch = people if self._model.on_gpu else self._config.cpu_batch

        def run(start: int) -> list[FloatArray]:
            pixels = crops.take(np.arange(start, min(start + batch, people))).pixels(image)
            return list(self._model.session.run(None, {self._model.input_name: pixels}))

        parts = list(self._pool.map(run, range(0, people, batch)))
        landmarks, presence, mask, world = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _Output(
            landmarks.reshape(people, NUM_LANDMARKS, 5).astype(np.float64),
            presence.reshape(people).astype(np.float64),
            mask.reshape(people, CROP, CROP),
            world.reshape(people, NUM_LANDMARKS, 3).astype(np.float64),
        )


def _put(values: FloatArray, rows: IntArray, new: FloatArray) -> FloatArray:
    result = values.copy()
    result[rows] = new
    return result


def _transformed(affine: FloatArray, points: FloatArray) -> FloatArray:
    """Points (n, p, 2) through affine maps (n, 2, 3)."""
    return np.asarray(points @ affine[:, :, :2].swapaxes(-1, -2) + affine[:, None, :, 2])


def _mask(image_shape: tuple[int, ...], logits: FloatArray, affine: FloatArray) -> RunLengths:
    """Logits (256, 256) of a crop as a mask of the image."""
    shape = (image_shape[0], image_shape[1])
    corners = affine[:, :2] @ [[0, CROP, 0, CROP], [0, 0, CROP, CROP]] + affine[:, 2:]
    limit = [shape[1], shape[0]]
    low = np.clip(np.floor(corners.min(1)), 0, limit).astype(int)
    size = np.clip(np.ceil(corners.max(1)) + 1, 0, limit).astype(int) - low
    if (size <= 0).any():
        return masks.encode(np.zeros((0, 0), bool), (0, 0), shape)
    moved = np.column_stack([affine[:, :2], affine[:, 2] - low])
    window = cv2.warpAffine(logits, moved, size.tolist(), flags=cv2.INTER_LINEAR, borderValue=OUTSIDE)
    return masks.encode(window > 0, (int(low[0]), int(low[1])), shape)


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))
