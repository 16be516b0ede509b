"""Errors that last: Gaussian noise along time with a given correlation, and what is made of it."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from crowd4d_ros.window import BoolArray, FloatArray

TO_1_E = 2.146
"""x where (1 + x) exp(−x) = 1/e: the correlation time of two equal first-order filters in a row, in theirs."""


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], frames: float) -> FloatArray:
    """Stationary Gaussian noise of unit variance, shape (N, T, …), correlated over the second axis.

    frames: the lag at which the correlation has fallen to 1/e; 0 for white noise. The noise is white noise through two
    equal first-order filters, x_t = 2a x_{t−1} − a² x_{t−2} + e: without kinks, unlike AR(1), as errors of fits are.
    """
    white = rng.standard_normal(shape)
    if frames <= 0 or shape[1] == 0:
        return white
    a = float(np.exp(-TO_1_E / frames))
    variance, neighbour = (1 + a**2) / (1 - a**2) ** 3, 2 * a / (1 + a**2)
    before = rng.standard_normal((2, shape[0], *shape[2:]))
    last = before[0]
    second = neighbour * last + np.sqrt(1 - neighbour**2) * before[1]
    state = np.stack([2 * a * last - a**2 * second, -(a**2) * last], axis=1)
    noise, _ = lfilter([1.0], [1.0, -2 * a, a**2], white / np.sqrt(variance), axis=1, zi=state)
    return np.asarray(noise)


def lasting_noise(rng: np.random.Generator, shape: tuple[int, ...], frames: float, share: float) -> FloatArray:
    """Unit variance, shape (N, T, …): ``share`` of it correlated over ``frames``, the rest white."""
    smooth, white = smooth_noise(rng, shape, frames), rng.standard_normal(shape)
    return np.asarray(np.sqrt(share) * smooth + np.sqrt(1 - share) * white)


def biased_noise(rng: np.random.Generator, shape: tuple[int, ...], frames: float, share: float) -> FloatArray:
    """Unit variance, shape (N, T, …): ``share`` of it constant along T, the rest correlated over ``frames``."""
    constant = rng.standard_normal((shape[0], 1, *shape[2:]))
    return np.asarray(np.sqrt(share) * constant + np.sqrt(1 - share) * smooth_noise(rng, shape, frames))


def happens(rng: np.random.Generator, probability: FloatArray, frames: float, share: float = 0.0) -> BoolArray:
    """Events (N, T) of the given probabilities (N, T) that come in runs: ``biased_noise`` below their quantile."""
    return np.asarray(biased_noise(rng, probability.shape, frames, share) < ndtri(probability))
