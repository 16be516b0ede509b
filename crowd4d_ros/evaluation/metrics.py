"""The published metrics, as the published evaluators compute them, and our own: arrays in, a number out.

Two profiles, never to be mixed in one table:

``author_native``  what the tables of Crowd4D and DyCrowd were computed with, as publicly described
``standard``       the field's: SMAP's PCOD; SLAHMR's and WHAM's W-, WA-MPJPE and ACCEL; Umeyama's Procrustes

Arrays are metres, a crowd's points (people, 3) or joints (samples, joints, 3), where samples are a person's frames or
a frame's people. A row of ``pred`` with a NaN is somebody who was not found; ``gt`` is complete. All sums are float64.
Errors are in millimetres, PPDS and PCOD ratios in [0, 1]. What is undefined is NaN, so that a mean over frames can
leave it out, such as an acceleration of fewer than three frames. Of fewer than two people found the layout scores 0
in ``author_native``, as published, even if no more are there; in ``standard`` that has no PCOD, and if no more are
there no PPDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from crowd4d_ros.window import BoolArray, FloatArray

Profile = Literal["author_native", "standard"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
Tail = Literal["keep", "merge"]

PELVIS = (1, 2)
"""SMPL-24's hips, whose middle the field calls the pelvis."""
MISS_MM = 150.0
"""mm, author_native: what a person who was not found costs."""
SAME_PLACE = float(np.spacing(1.0))
"""metres, the published evaluator's: a pair that is closer has no relative distance error."""
TIED_DEPTH = 0.3
"""metres, SMAP: two people at the same depth, whose order does not matter."""
CHUNK = 100
"""frames, SLAHMR's and WHAM's: longer tracks are aligned in pieces."""
FIT_FRAMES = 2
"""frames that W-MPJPE's alignment rests on."""
STANCE_SPEED = 0.3
"""m/s: WHAM's 1 cm a frame at 30 frames/s. A foot that truly moves less stands."""


class MetricError(ValueError):
    """Arrays that cannot be compared; the message says why."""


def ppds(pred: ArrayLike, gt: ArrayLike, *, profile: Profile = "author_native") -> float:
    """Pair-wise percentage distance similarity (Crowd3D) of points (people, 3), such as torsos: a ratio.

    r · mean over pairs of max(0, 1 − |d_pred − d_gt| / d_gt), r the share of people found. The same in both profiles.
    """
    return _ppds(*_crowd(pred, gt, profile), profile)


def pa_ppds(pred: ArrayLike, gt: ArrayLike, *, profile: Profile = "author_native") -> float:
    """``ppds`` after a similarity without reflection, of which its scale is all that distances see.

    It is RMS_gt / RMS_pred of the centred points in ``author_native`` (as in trimesh), Umeyama's in ``standard``.
    """
    found, true, people = _crowd(pred, gt, profile)
    if len(found) >= 2:
        size = _spread(found)
        rms_scale = np.sqrt(_spread(true) / size) if size > 0 else 0.0
        found = found * (rms_scale if profile == "author_native" else similarity(found, true)[0])
    return _ppds(found, true, people, profile)


def pcod(pred: ArrayLike, gt: ArrayLike, *, profile: Profile = "author_native") -> float:
    """Percentage of correct ordinal depth of points (people, 3), each side in its own camera, z ahead: a ratio.

    ``author_native``: r · share of pairs with Δz_pred · Δz_gt > 0; ties are wrong. ``standard`` (SMAP): among those
    found, pairs in the right order, or with both differences below 0.3 m.
    """
    found, true, people = _crowd(pred, gt, profile)
    if len(found) < 2:
        return 0.0 if profile == "author_native" else float("nan")
    one, other = np.triu_indices(len(found), 1)
    ahead_pred, ahead_gt = (points[one, 2] - points[other, 2] for points in (found, true))
    correct = ahead_pred * ahead_gt > 0
    if profile == "author_native":
        return float(len(found) / people * correct.mean())
    tied = (np.abs(ahead_pred) < TIED_DEPTH) & (np.abs(ahead_gt) < TIED_DEPTH)
    return float((correct | tied).mean())


def mpjpe(
    pred: ArrayLike, gt: ArrayLike, *, profile: Profile = "author_native", pelvis: Sequence[int] | None = PELVIS
) -> float:
    """Mean error of joints (samples, joints, 3) relative to the pelvis, mm.

    pelvis: the joints whose mean it is; None: they are relative to it already. Of M samples found among G,
    ``author_native`` gives (error · M + 150 · (G − M)) / G; ``standard`` the error, NaN where nobody was found.
    """
    found, true, samples = _joints(pred, gt, profile, pelvis)
    return _with_misses(_distance(found, true), samples, profile)


def pa_mpjpe(pred: ArrayLike, gt: ArrayLike, *, profile: Profile = "author_native") -> float:
    """``mpjpe`` after a similarity of its own for every sample (Umeyama)."""
    found, true, samples = _joints(pred, gt, profile, None)
    return _with_misses(_distance(_moved(found, *similarity(found, true)), true), samples, profile)


def wa_mpjpe(
    pred: ArrayLike,
    gt: ArrayLike,
    *,
    profile: Profile = "author_native",
    pelvis: Sequence[int] | None = PELVIS,
    chunk: int = CHUNK,
    tail: Tail = "keep",
) -> float:
    """Error of one person's joints (frames, joints, 3) after one similarity over all its frames, mm.

    ``author_native``: of joints relative to the pelvis, over the whole track; misses cost as in ``mpjpe``.
    ``standard``: of joints in the world, in chunks; tail: "keep" a shorter last one (SLAHMR, WHAM), or "merge" it as
    TRAM and VideoMimic do, see ``chunks``. pelvis is not used there, nor chunk and tail in ``author_native``.
    """
    return _aligned_error(pred, gt, profile, pelvis, chunk, tail, None)


def w_mpjpe(
    pred: ArrayLike,
    gt: ArrayLike,
    *,
    profile: Profile = "author_native",
    pelvis: Sequence[int] | None = PELVIS,
    chunk: int = CHUNK,
    tail: Tail = "keep",
) -> float:
    """``wa_mpjpe``, but the similarity is that of the first two frames found."""
    return _aligned_error(pred, gt, profile, pelvis, chunk, tail, FIT_FRAMES)


def accel(
    pred: ArrayLike,
    gt: ArrayLike,
    *,
    profile: Profile = "author_native",
    fps: float = 30.0,
    pelvis: Sequence[int] | None = PELVIS,
    trim: bool = True,
) -> float:
    """Acceleration error of one person's joints (frames, joints, 3) relative to the pelvis (None: as they are).

    ``author_native``: mm/frame², 1000 · mean_t ‖(‖a_gt‖ − ‖a_pred‖)_joints‖₂, a the second difference of the samples
    found, gaps closed; no frame rate. ``standard``: m/s², mean ‖a_pred − a_gt‖ · fps² over frames whose neighbours
    were found too; trim: without the first and the last acceleration (WHAM), else with them (GVHMR).
    NaN for fewer than three samples (trimmed: five).
    """
    if fps <= 0:
        raise MetricError(f"fps must be positive, not {fps}")
    pred, gt, found = _checked_joints(pred, gt, profile)
    pred, gt = (_relative(joints, pelvis) for joints in (pred, gt))
    if profile == "author_native":
        size_pred, size_gt = (np.linalg.norm(np.diff(joints[found], 2, axis=0), axis=-1) for joints in (pred, gt))
        return _mean(1000.0 * np.linalg.norm(size_gt - size_pred, axis=-1))
    error = np.linalg.norm(np.diff(pred - gt, 2, axis=0), axis=-1).mean(-1) * fps**2
    error = error[1:-1] if trim else error
    return _mean(error[np.isfinite(error)])


def seam_jump(root: ArrayLike, is_border: ArrayLike) -> float:
    """How far people jump where one window's answer follows another's, metres.

    root: (…, frames, 3), NaN where unknown; is_border: (frames,) the first frame of a new answer. At a border b it is
    the step from b − 1 to b less the mean of the steps before and after it; the mean over people and borders. It is 0
    for whoever walks straight on, and NaN without a border.
    """
    jumps = step_changes(root)
    border = np.asarray(is_border, bool)
    if border.shape != jumps.shape[-1:]:
        raise MetricError(f"is_border {border.shape} must have one entry for each of {jumps.shape[-1]} frames")
    return _mean(jumps[..., border])


def step_changes(root: ArrayLike) -> FloatArray:
    """(…, frames) metres: how much the step into each frame differs from the mean of the steps around it; else NaN."""
    points = _array(root, "root")
    if points.ndim < 2 or points.shape[-1] != 3:
        raise MetricError(f"root has shape {points.shape}; (…, frames, 3) is needed")
    steps = np.diff(points, axis=-2)
    change = np.full(points.shape[:-1], np.nan)
    around = 0.5 * (steps[..., :-2, :] + steps[..., 2:, :])
    change[..., 2:-1] = np.linalg.norm(steps[..., 1:-1, :] - around, axis=-1)
    return change


def foot_skate(pred: ArrayLike, gt: ArrayLike, *, fps: float = 30.0) -> float:
    """How much faster than the true ones feet (frames, feet, 3) move while these stand, m/s; NaN if they never do.

    A foot stands between two frames if the truth moves it by less than 0.3 m/s (WHAM's foot sliding, per second).
    """
    pred, gt, found = _checked_joints(pred, gt, "standard")
    speed, true_speed = (np.linalg.norm(np.diff(feet, axis=0), axis=-1) * fps for feet in (pred, gt))
    stands = (true_speed < STANCE_SPEED) & (found[1:] & found[:-1])[:, None]
    return _mean(np.maximum(speed - true_speed, 0.0)[stands])


def penetration(lowest: ArrayLike, ground: ArrayLike) -> float:
    """Mean depth of bodies' lowest points below the ground, metres: lowest, ground: (…) heights, NaN left out."""
    return _mean(np.maximum(-_clearance(lowest, ground), 0.0))


def floating(lowest: ArrayLike, ground: ArrayLike) -> float:
    """Mean height of bodies' lowest points above the ground, metres, as in ``penetration``."""
    return _mean(np.maximum(_clearance(lowest, ground), 0.0))


def scale_error(pred: ArrayLike, gt: ArrayLike) -> float:
    """RMS_pred / RMS_gt − 1 of the centred points (people, 3) of those found: 0.1 is a crowd 10 % too large."""
    found, true, _ = _crowd(pred, gt, "standard")
    spread = _spread(true) if len(found) >= 2 else 0.0
    return float(np.sqrt(_spread(found) / spread) - 1.0) if spread > 0 else float("nan")


def chunks(frames: int, chunk: int = CHUNK, tail: Tail = "keep") -> list[slice]:
    """The pieces of a track that the standard profile aligns one by one.

    "keep": range(0, frames, chunk), the last one shorter. "merge", as TRAM and VideoMimic publish it: starts in
    range(0, frames − chunk, chunk); the last takes the tail, less the track's last frame, if fewer than two chunks
    are left (and when exactly two are, the second is not evaluated). Tracks of one chunk or less, on which that code
    fails, are one piece.
    """
    if chunk < FIT_FRAMES or tail not in get_args(Tail):
        raise MetricError(
            f"chunk must be at least {FIT_FRAMES} and tail one of {get_args(Tail)}, not {chunk}, {tail!r}"
        )
    if tail == "keep" or frames <= chunk:
        return [slice(start, min(start + chunk, frames)) for start in range(0, frames, chunk)]
    starts = range(0, frames - chunk, chunk)
    return [slice(start, frames - 1 if start + 2 * chunk > frames else start + chunk) for start in starts]


def similarity(source: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scales (…), rotations (…, 3, 3) and translations (…, 3) that take points (…, n, 3) best to the target.

    Least squares without reflection (Umeyama, PAMI 1991); the scale is 0 where the source is a single point.
    """
    middle_source, middle_target = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    centred = source - middle_source
    U, S, Vt = np.linalg.svd(np.swapaxes(target - middle_target, -1, -2) @ centred)
    flip = np.sign(np.linalg.det(U) * np.linalg.det(Vt))
    S[..., -1] *= flip
    U[..., -1] *= flip[..., None]
    R = U @ Vt
    size = (centred**2).sum((-2, -1))
    scale = np.where(size > 0, S.sum(-1) / np.where(size > 0, size, 1.0), 0.0)
    t = middle_target - scale[..., None, None] * (middle_source @ np.swapaxes(R, -1, -2))
    return scale, R, t[..., 0, :]


def _moved(points: FloatArray, scale: FloatArray, R: FloatArray, t: FloatArray) -> FloatArray:
    return np.asarray(scale[..., None, None] * (points @ np.swapaxes(R, -1, -2)) + t[..., None, :])


def _ppds(found: FloatArray, true: FloatArray, people: int, profile: Profile) -> float:
    d_pred, d_gt = pdist(found), pdist(true)
    apart = d_gt > SAME_PLACE
    if not apart.any():
        lost = len(found) < 2 <= people
        return 0.0 if lost or profile == "author_native" else float("nan")
    d_pred, d_gt = d_pred[apart], d_gt[apart]
    return float(len(found) / people * np.maximum(0.0, 1.0 - np.abs(d_pred - d_gt) / d_gt).mean())


def _aligned_error(
    pred: ArrayLike,
    gt: ArrayLike,
    profile: Profile,
    pelvis: Sequence[int] | None,
    chunk: int,
    tail: Tail,
    fit_frames: int | None,
) -> float:
    if profile == "author_native":
        found, true, samples = _joints(pred, gt, profile, pelvis)
        return _with_misses(_after_fit(found, true, fit_frames), samples, profile)
    pred, gt, known = _checked_joints(pred, gt, profile)
    pieces = [(piece, known[piece]) for piece in chunks(len(gt), chunk, tail)]
    errors = [_after_fit(pred[piece][seen], gt[piece][seen], fit_frames) for piece, seen in pieces]
    return 1000.0 * _mean(np.concatenate([*errors, np.zeros(0)]))


def _after_fit(found: FloatArray, true: FloatArray, fit_frames: int | None) -> FloatArray:
    """(frames,) metres: the error after the similarity of the first ``fit_frames``, or of all."""
    if not len(found):
        return np.zeros(0)
    fit = similarity(found[:fit_frames].reshape(-1, 3), true[:fit_frames].reshape(-1, 3))
    return _distance(_moved(found.reshape(-1, 3), *fit).reshape(found.shape), true)


def _distance(found: FloatArray, true: FloatArray) -> FloatArray:
    """(samples,) metres, the mean over the joints."""
    return np.asarray(np.linalg.norm(found - true, axis=-1).mean(-1))


def _with_misses(errors: FloatArray, samples: int, profile: Profile) -> float:
    """mm: the mean of the errors (found,) in metres, and in author_native of what misses cost."""
    if profile == "standard":
        return 1000.0 * _mean(errors)
    return float((1000.0 * errors.sum() + MISS_MM * (samples - len(errors))) / samples) if samples else float("nan")


def _crowd(pred: ArrayLike, gt: ArrayLike, profile: Profile) -> tuple[FloatArray, FloatArray, int]:
    """Those found and their truth (M, 3), and how many people there are."""
    pred, gt, found = _checked(pred, gt, profile, 2, "(people, 3)")
    return pred[found], gt[found], len(gt)


def _joints(
    pred: ArrayLike, gt: ArrayLike, profile: Profile, pelvis: Sequence[int] | None
) -> tuple[FloatArray, FloatArray, int]:
    """Those found and their truth (M, joints, 3) relative to the pelvis, and how many samples there are."""
    pred, gt, found = _checked_joints(pred, gt, profile)
    return _relative(pred[found], pelvis), _relative(gt[found], pelvis), len(gt)


def _checked_joints(pred: ArrayLike, gt: ArrayLike, profile: Profile) -> tuple[FloatArray, FloatArray, BoolArray]:
    pred, gt, found = _checked(pred, gt, profile, 3, "(frames, joints, 3)")
    if gt.shape[1] == 0:
        raise MetricError("there are no joints to compare")
    return pred, gt, found


def _checked(
    pred: ArrayLike, gt: ArrayLike, profile: Profile, dimensions: int, shape: str
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """float64 arrays of the same shape, and which rows of pred are known; a row with any NaN is all NaN."""
    if profile not in PROFILES:
        raise MetricError(f"the profile is one of {', '.join(PROFILES)}, not {profile!r}")
    pred, gt = _array(pred, "pred"), _array(gt, "gt")
    if pred.shape == gt.shape == (0,):
        pred = gt = np.zeros((0, *[1] * (dimensions - 2), 3))
    if pred.shape != gt.shape or gt.ndim != dimensions or gt.shape[-1] != 3:
        raise MetricError(f"pred {pred.shape} and gt {gt.shape} must both have the shape {shape}")
    if not np.isfinite(gt).all():
        raise MetricError("gt has entries that are not finite: leave out people and frames without truth")
    if np.isinf(pred).any():
        raise MetricError("pred has infinite entries; who was not found is NaN")
    found = ~np.isnan(pred).any(tuple(range(1, dimensions)))
    pred = np.where(found.reshape(-1, *[1] * (dimensions - 1)), pred, np.nan)
    return pred, gt, np.asarray(found)


def _relative(joints: FloatArray, pelvis: Sequence[int] | None) -> FloatArray:
    if pelvis is None:
        return joints
    index = np.asarray(pelvis, int).reshape(-1)
    if not len(index) or index.min() < 0 or index.max() >= joints.shape[1]:
        raise MetricError(f"the pelvis is the mean of joints {pelvis}, but there are {joints.shape[1]} joints")
    return np.asarray(joints - joints[:, index].mean(1, keepdims=True))


def _clearance(lowest: ArrayLike, ground: ArrayLike) -> FloatArray:
    low, high = _array(lowest, "lowest"), _array(ground, "ground")
    if low.shape != high.shape:
        raise MetricError(f"lowest {low.shape} and ground {high.shape} must have one shape")
    return low - high


def _spread(points: FloatArray) -> float:
    return float(((points - points.mean(0)) ** 2).sum())


def _array(values: ArrayLike, name: str) -> FloatArray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"{name} is not an array of numbers: {error}") from None


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
