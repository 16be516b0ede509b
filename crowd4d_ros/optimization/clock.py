"""When frames were taken, beside what their stamps say.

Ours. A recorder that drops frames, or a file that states one rate for all, leaves stamps that are off by a part of a
frame: those of the real video are, by .16 frames rms. Everybody who walks is then ahead of an even path in the same
frames and by the same time, which tells it from the noise of keypoints, each person's own.
"""

from __future__ import annotations

import logging

import numpy as np

from crowd4d_ros.body.keypoints import INDEX
from crowd4d_ros.window import BoolArray, Cameras, FloatArray

logger = logging.getLogger(__name__)

TRUNK = [INDEX[f"{side}_{joint}"] for side in ("left", "right") for joint in ("shoulder", "hip")]
"""What moves evenly, and is seen best."""
SURE = 0.5
"""confidence from which a keypoint was seen, not guessed."""
WIDTH = 0.5
"""seconds: deviation of the weights in an even path; half of a stride."""
BEYOND = 4.0
"""widths: frames farther off have no weight."""
LEAST_FRAMES = 0.5
"""least moment of what a parabola is fitted to: the end of a path, or a few frames, tell none."""
LEAST_NOISE = 0.1
"""pixels: no trunk is detected more precisely."""
BEYOND_CHANCE = 3.0
"""deviations of pure noise: windows of nine even recordings have 1.3 at most, those of the real video 5 to 22."""
REACH = 0.4
"""of a frame: by as much it is moved at most, which keeps frames in order."""


def taken_at(
    seconds: FloatArray, cameras: Cameras, keypoints: FloatArray, confidence: FloatArray, seen: BoolArray
) -> FloatArray:
    """Seconds (T,) at which frames were taken: the stamps', if nothing speaks against them, if they do not increase, or
    if the camera moves, as its own shaking looks the same.

    keypoints: (N, T, K, 2) pixels as detected; confidence: (N, T, K); seen: (N, T), elsewhere they may be anything.
    """
    step = np.diff(seconds)
    moves = np.ptp(cameras.R, axis=0).any() or np.ptp(cameras.t, axis=0).any()
    if not len(step) or (step <= 0).any() or moves:
        return seconds
    seen = seen & (confidence[..., TRUNK] > SURE).all(-1)
    path = np.where(seen[..., None], keypoints[..., TRUNK, :].mean(-2), 0.0)
    late = lateness(seconds, path, seen)
    most = REACH * np.minimum(np.append(step[:1], step), np.append(step, step[-1:]))
    late = np.clip(late, -most, most)
    if late.any():
        logger.info("frames were taken up to %.2f s before or after their stamps", np.abs(late).max())
    return np.asarray(seconds + late)


def lateness(seconds: FloatArray, path: FloatArray, seen: BoolArray) -> FloatArray:
    """(T,) seconds by which people were ahead together, on paths (N, T, 2) in pixels, where ``seen`` (N, T).

    With r from an even path to where person n was seen at frame t, and v its velocity, the frame seems late by
    r·v/v², with a variance of σ²/v²; σ² is the mean square of that person's r. Products of different people's r·v/σ²
    have a mean if and only if frames are late, and from it comes their variance q. The likeliest lateness is then the
    weighted mean of what people say, drawn towards zero by 1/q. All zeros, if the products are what chance makes.
    """
    even, velocity, known = _evenly(seconds, path, seen)
    apart = np.where(known[..., None], path - even, 0.0)
    noise = np.square(apart).sum((1, 2)) / (2 * np.maximum(known.sum(1), 1)) + LEAST_NOISE**2
    ahead = (apart * velocity).sum(-1) / noise[:, None]
    weight = np.square(velocity).sum(-1) / noise[:, None]
    products, weights = (np.square(each.sum(0)).sum() - np.square(each).sum() for each in (ahead, weight))
    # no two are ever seen at once: nothing but rounding is left of either
    if weights <= 0 or products <= BEYOND_CHANCE * np.sqrt(2 * weights):
        return np.zeros_like(seconds)
    return np.asarray(ahead.sum(0) / (weights / products + weight.sum(0)))


def _evenly(seconds: FloatArray, path: FloatArray, seen: BoolArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Parabolas through what was seen within about WIDTH of each frame: where they are then (N, T, 2), their
    velocities per second, and (N, T) where enough was seen. Zeros elsewhere."""
    fit = np.zeros((*seen.shape, 3, path.shape[-1]))
    known = np.zeros_like(seen)
    first, last = (np.searchsorted(seconds, seconds + sign * BEYOND * WIDTH) for sign in (-1, 1))
    for frame, (start, end) in enumerate(zip(first, last, strict=True)):
        since = (seconds[start:end] - seconds[frame]) / WIDTH
        powers = since[:, None] ** np.arange(3)
        weighted = seen[:, start:end, None] * (np.exp(-np.square(since) / 2)[:, None] * powers)
        across = weighted.swapaxes(-1, -2)
        moments = across @ powers
        enough = seen[:, frame] & (np.linalg.eigvalsh(moments)[:, 0] > LEAST_FRAMES)
        fit[enough, frame] = np.linalg.solve(moments[enough], across[enough] @ path[enough, start:end])
        known[:, frame] = enough
    return fit[..., 0, :], fit[..., 1, :] / WIDTH, known
