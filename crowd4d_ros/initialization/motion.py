"""Sec. 3.1, individual motion: tracked keypoints and landmarks become initial SMPL motions in the world.

Three steps: untangle and lift the 3D landmarks to poses (lifting), place the bodies by linear least squares
(trajectory), and refine both together against pixels, bone directions, the pose prior and time (refinement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import MIRROR, longer_legs
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import MotionConfig
from crowd4d_ros.gaps import neighbours, surrounding
from crowd4d_ros.initialization.lifting import lift, mirrored, seen_along, slerp, towards_path, untangle, untwisted
from crowd4d_ros.initialization.refinement import FEET, LIMBS, Evidence, body_keypoints, refine
from crowd4d_ros.initialization.trajectory import Ground, Rays, solve_path
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.window import BodyMotion, BoolArray, Cameras, FloatArray, IntArray

NANOSECOND = 1e-9
EARS, TORSO, FIRST_FOOT = [3, 4], [5, 6, 11, 12], 17


@dataclass(frozen=True)
class TrackState:
    """What a person brings into the next window.

    betas: (10,). stamps: (S,) ns of the frames fitted last; body_pose: (S, 23, 3), global_orient: (S, 3) and
    transl: (S, 3) there, as in BodyMotion.
    """

    betas: FloatArray
    stamps: IntArray
    body_pose: FloatArray
    global_orient: FloatArray
    transl: FloatArray

    def until(self, stamp: int) -> TrackState:
        """The state without the frames after ``stamp``."""
        kept = self.stamps <= stamp
        return TrackState(
            self.betas, self.stamps[kept], self.body_pose[kept], self.global_orient[kept], self.transl[kept]
        )


@dataclass(frozen=True)
class MotionFit:
    """valid: (N, T) observed, or bridged between observations; elsewhere the motion is zero.

    exchanged: (N, T) where left and right of the observations were found exchanged. states: track id → what
    the next window wants to know, also of people who are not in this one.
    """

    motion: BodyMotion
    valid: BoolArray
    exchanged: BoolArray
    states: dict[int, TrackState]


@dataclass(frozen=True)
class Tracked:
    """The observations of one window. Shapes and frames as in CrowdWindow, but boxes in rectified pixels.

    K: (3, 3) of the rectified pixels. heights: track id → stature and its sigma, metres, of those who have
    one. ground: None where it is not known.
    """

    track_ids: IntArray
    observed: BoolArray
    keypoints_2d: FloatArray
    keypoints_confidence: FloatArray
    landmarks_3d: FloatArray
    boxes: FloatArray
    stamps: IntArray
    K: FloatArray
    cameras: Cameras
    heights: Mapping[int, tuple[float, float]]
    ground: Ground | None = None

    @property
    def seconds(self) -> FloatArray:
        """(T,) since the first frame."""
        return np.asarray((self.stamps - self.stamps[0]) * NANOSECOND)

    @property
    def pixel_scale(self) -> FloatArray:
        """(N, T) pixels: sqrt(w h) of the box, the A of Eq. 22; 1 where there is none."""
        scale = np.sqrt(self.boxes[..., 2] * self.boxes[..., 3])
        return np.where(self.observed, np.maximum(scale, 1.0), 1.0)

    @property
    def up(self) -> FloatArray:
        """(3,) the ground's normal, or the world's vertical."""
        return np.array([0.0, 1.0, 0.0]) if self.ground is None else self.ground.normal


def fit_motion(
    seen: Tracked,
    body: BodyModel,
    prior: GaussianPosePrior,
    config: MotionConfig,
    previous: Mapping[int, TrackState] | None = None,
) -> MotionFit:
    """SMPL motions of one window's tracks.

    previous: the states after the window before. Shapes are taken from it; poses are cross-faded from it
    where the windows share frames, so that nobody jumps at a seam.
    """
    previous = previous or {}
    people, frames = seen.observed.shape
    if people == 0:
        points = np.zeros((0, frames, 3))
        nobody = BodyMotion(np.zeros((0, 10)), np.zeros((0, frames, 23, 3)), points, points)
        return MotionFit(nobody, seen.observed.copy(), seen.observed.copy(), dict(previous))
    seen = _cleared(seen, config)
    valid = bridged(seen.observed, seen.seconds, config.max_gap)
    betas, size_sigma = _shapes(seen, body, config, previous)
    rest = _Rest.of(body, betas)

    seen, landmarks, exchanged = _untangled(seen, rest, valid, size_sigma, config)
    pose, orient = _lifted(seen, landmarks, rest, prior, config)
    evidence = _evidence(seen, landmarks, rest, valid, config)
    root: FloatArray = np.zeros((people, frames, 3))
    for _ in range(config.passes):
        offsets = body_keypoints(body, betas, pose, orient).numpy().astype(np.float64)
        marked = _as_marked(offsets, config.keypoint_legs)
        root = _placed(seen, offsets, marked, rest, valid, size_sigma, config)
        start = torch.as_tensor(root, dtype=torch.float32)
        pose, orient, refined = refine(evidence, body, prior, betas, pose, orient, start, config)
        root = refined.numpy().astype(np.float64)

    motion = BodyMotion(
        betas=betas.numpy().astype(np.float64),
        body_pose=_where(valid, pose.numpy().astype(np.float64)),
        global_orient=_where(valid, orient.numpy().astype(np.float64)),
        transl=_where(valid, root - body.pelvis(betas).numpy()[:, None]),
    )
    motion = _cross_faded(motion, seen, valid, previous)
    states = {int(i): _state(motion, seen, valid, n) for n, i in enumerate(seen.track_ids)}
    return MotionFit(motion, valid, exchanged, {**previous, **states})


def bridged(observed: BoolArray, seconds: FloatArray, max_gap: float) -> BoolArray:
    """(N, T): observed, or between two observations at most ``max_gap`` seconds apart."""
    before, after = neighbours(observed)
    inside = (before >= 0) & (after < len(seconds))
    gap = seconds[np.minimum(after, len(seconds) - 1)] - seconds[np.maximum(before, 0)]
    return np.asarray(observed | (inside & (gap <= max_gap)))


@dataclass(frozen=True)
class _Rest:
    """The standing body of each person. keypoints: (N, 23, 3) metres from the root; crown: (N,) metres above
    the ears; sole: (N, 2, 2) metres of the keypoints of FEET above the ground.
    """

    keypoints: FloatArray
    crown: FloatArray
    sole: FloatArray

    @staticmethod
    def of(body: BodyModel, betas: Tensor) -> _Rest:
        still = betas.new_zeros(len(betas), 1, 23, 3)
        points = body_keypoints(body, betas, still, still[:, :, 0])[:, 0].numpy().astype(np.float64)
        height = body.height(betas).numpy()
        vertices = body.vertices(betas, still[:, 0], still[:, 0, 0], -body.pelvis(betas)).numpy()
        lowest = vertices[..., 1].min(-1)
        return _Rest(
            keypoints=points,
            crown=lowest + height - points[:, EARS, 1].mean(-1),
            sole=points[:, FEET, 1] - lowest[:, None, None],
        )

    def contact(self, offsets: FloatArray, up: FloatArray) -> FloatArray:
        """(N, T, 3) from the root to the lowest sole. offsets: (N, T, 23, 3) of the posed body."""
        feet = offsets[..., FEET, :] - self.sole[:, None, ..., None] * up
        feet = feet.reshape(*offsets.shape[:2], -1, 3)
        lowest = (feet @ up).argmin(-1)
        return np.asarray(np.take_along_axis(feet, lowest[..., None, None], axis=2)[:, :, 0])


def _cleared(seen: Tracked, config: MotionConfig) -> Tracked:
    """Padding as zeros, no confidence in what is not a number, and little in feet."""
    finite = np.isfinite(seen.keypoints_2d).all(-1) & np.isfinite(seen.landmarks_3d).all(-1)
    confidence = np.where(seen.observed[..., None] & finite, seen.keypoints_confidence, 0.0)
    confidence[..., FIRST_FOOT:] *= config.foot_trust
    known = (seen.observed[..., None] & finite)[..., None]
    return replace(
        seen,
        keypoints_confidence=np.nan_to_num(confidence),
        keypoints_2d=np.where(known, seen.keypoints_2d, 0.0),
        landmarks_3d=np.where(known, seen.landmarks_3d, 0.0),
        boxes=np.where(seen.observed[..., None], seen.boxes, 0.0),
    )


def _shapes(
    seen: Tracked, body: BodyModel, config: MotionConfig, previous: Mapping[int, TrackState]
) -> tuple[Tensor, FloatArray]:
    """The smallest betas (N, 10) that give the wanted statures, and the sizes' relative sigma (N,)."""
    unknown = (config.default_stature, config.default_stature_sigma)
    stature, sigma = np.array([seen.heights.get(int(i), unknown) for i in seen.track_ids]).T
    wanted = torch.as_tensor(stature, dtype=torch.float32)
    betas = wanted.new_zeros(len(wanted), 10)
    for _ in range(config.shape_rounds):
        betas.requires_grad_()
        height = body.height(betas)
        (slope,) = torch.autograd.grad(height.sum(), betas)
        step = ((wanted - height) / slope.square().sum(-1)).detach()
        betas = betas.detach() + step[:, None] * slope
    known = [previous.get(int(i)) for i in seen.track_ids]
    for row, state in enumerate(known):
        if state is not None:
            betas[row] = torch.as_tensor(state.betas, dtype=torch.float32)
    return betas, np.hypot(sigma / stature, config.body_size_sigma)


def _untangled(
    seen: Tracked, rest: _Rest, valid: BoolArray, size_sigma: FloatArray, config: MotionConfig
) -> tuple[Tracked, FloatArray, BoolArray]:
    """The observations with left and right as they must be, their landmarks (N, T, 23, 3) in world axes and
    metres, and where (N, T) they were exchanged.
    """
    centre = seen.boxes[..., :2] + seen.boxes[..., 2:] / 2
    centre = np.where(seen.observed[..., None], centre, seen.K[:2, 2])
    vertical = seen.cameras.R @ np.array([0.0, 1.0, 0.0])
    to_world = seen.cameras.R.swapaxes(-1, -2) @ seen_along(centre, seen.K, vertical, config.landmark_lean)
    candidates = np.stack([seen.landmarks_3d, mirrored(seen.landmarks_3d)]) @ to_world.swapaxes(-1, -2)
    candidates *= _metric(candidates[0], seen, rest, config)[:, None, None, None]
    path = _placed(seen, candidates[0], candidates[0], rest, valid, size_sigma, config)
    velocity = np.gradient(path, seen.seconds, axis=1) if len(seen.seconds) > 1 else np.zeros_like(path)
    exchanged = untangle(candidates, seen.keypoints_confidence, seen.observed, velocity, seen.up, seen.seconds, config)
    swap = exchanged[..., None]
    seen = replace(
        seen,
        keypoints_2d=np.where(swap[..., None], seen.keypoints_2d[:, :, MIRROR], seen.keypoints_2d),
        keypoints_confidence=np.where(swap, seen.keypoints_confidence[..., MIRROR], seen.keypoints_confidence),
    )
    landmarks = untwisted(np.where(swap[..., None], candidates[1], candidates[0]), config.hip_trust)
    return seen, towards_path(landmarks, seen.observed, velocity, seen.up, seen.seconds, config), exchanged


def _as_marked(keypoints: FloatArray, legs: float) -> FloatArray:
    """The body's keypoints (…, 23, 3) where a network marks them."""
    return longer_legs(torch.as_tensor(keypoints), legs).numpy()


def _metric(landmarks: FloatArray, seen: Tracked, rest: _Rest, config: MotionConfig) -> FloatArray:
    """(N,) what makes each person's landmarks as large as the body: the median over frames of all bones."""
    start, end = np.array(LIMBS).T
    weight = np.minimum(seen.keypoints_confidence[..., start], seen.keypoints_confidence[..., end])
    lengths = np.linalg.norm(landmarks[..., end, :] - landmarks[..., start, :], axis=-1)
    marked = _as_marked(rest.keypoints, config.landmark_legs)
    wanted = np.linalg.norm(marked[:, end] - marked[:, start], axis=-1)[:, None]
    total = (weight * lengths).sum(-1)
    known = total > 0
    ratio = np.where(known, (weight * wanted).sum(-1) / np.where(known, total, 1.0), np.nan)
    ratio[~known.any(1)] = 1.0
    return np.asarray(np.nanmedian(ratio, axis=1))


def _placed(
    seen: Tracked,
    offsets: FloatArray,
    marked: FloatArray,
    rest: _Rest,
    valid: BoolArray,
    size_sigma: FloatArray,
    config: MotionConfig,
) -> FloatArray:
    """The roots (N, T, 3), metres, world, of bodies with keypoints at ``offsets`` (N, T, 23, 3) from them,
    which a network marks at ``marked``.

    The box's top and bottom are seen points too: hardly of any weight, but all there is without keypoints.
    """
    contact = rest.contact(offsets, seen.up)
    crown = offsets[..., EARS, :].mean(-2) + rest.crown[:, None, None] * seen.up
    left, top, width, height = np.moveaxis(seen.boxes, -1, 0)
    middle = left + width / 2
    ends = np.stack([np.stack([middle, top], -1), np.stack([middle, top + height], -1)], -2)
    variance = seen.pixel_scale[..., None] ** 2
    weights = np.concatenate(
        [
            seen.keypoints_confidence / (config.keypoint_sigma**2 * variance),
            np.repeat(seen.observed[..., None] / (config.box_sigma**2 * variance), 2, -1),
        ],
        -1,
    )
    rays = Rays(
        pixels=np.concatenate([seen.keypoints_2d, ends], 2),
        weights=weights,
        offsets=np.concatenate([marked, crown[:, :, None], contact[:, :, None]], 2),
        K=seen.K,
        R=seen.cameras.R,
        t=seen.cameras.t,
    )
    return solve_path(rays, seen.seconds, valid, contact, seen.ground, size_sigma, config)


def _lifted(
    seen: Tracked, landmarks: FloatArray, rest: _Rest, prior: GaussianPosePrior, config: MotionConfig
) -> tuple[Tensor, Tensor]:
    """body_pose (N, T, 23, 3) and global_orient (N, T, 3) everywhere: from landmarks where they can be
    trusted, between or beside such frames by interpolation, and the prior's mean, facing the camera, without.
    """
    trusted = seen.keypoints_confidence[..., TORSO].mean(-1) >= config.min_confidence
    anyone = trusted.any(-1)
    standing = rest.keypoints[:, None] * np.ones((1, len(seen.seconds), 1, 1))
    usable = np.where(trusted[..., None, None], landmarks, standing)
    still = torch.as_tensor(rest.keypoints[:, None], dtype=torch.float32)
    pose, orient = lift(torch.as_tensor(usable, dtype=torch.float32), still)
    code = config.start_share * prior.encode(pose)
    code[~torch.as_tensor(anyone)] = 0.0

    start, end, share = surrounding(trusted, seen.seconds)
    mix = torch.as_tensor(share, dtype=torch.float32)
    row, first, second = torch.arange(len(trusted))[:, None], torch.as_tensor(start), torch.as_tensor(end)
    orient = slerp(orient[row, first], orient[row, second], mix)
    code = torch.lerp(code[row, first], code[row, second], mix[..., None])
    return prior.decode(code), orient


def _evidence(seen: Tracked, landmarks: FloatArray, rest: _Rest, valid: BoolArray, config: MotionConfig) -> Evidence:
    def tensor(array: FloatArray | float) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float32)

    ground = seen.ground
    return Evidence(
        pixels=tensor(seen.keypoints_2d),
        confidence=tensor(seen.keypoints_confidence),
        pixel_sigma=tensor(config.keypoint_sigma * seen.pixel_scale),
        landmarks=tensor(landmarks),
        valid=torch.as_tensor(valid),
        seconds=tensor(seen.seconds),
        K=tensor(seen.K),
        R=tensor(seen.cameras.R),
        t=tensor(seen.cameras.t),
        ground=None if ground is None else (tensor(ground.normal), tensor(ground.offset)),
        sole=tensor(rest.sole[:, None]),
    )


def _cross_faded(motion: BodyMotion, seen: Tracked, valid: BoolArray, previous: Mapping[int, TrackState]) -> BodyMotion:
    """The motion, starting as in the window before and becoming its own by the end of the shared frames."""
    pose, orient, transl = motion.body_pose.copy(), motion.global_orient.copy(), motion.transl.copy()
    for row, track_id in enumerate(seen.track_ids):
        state = previous.get(int(track_id))
        if state is None:
            continue
        _, here, there = np.intersect1d(seen.stamps, state.stamps, return_indices=True)
        there, here = there[valid[row, here]], here[valid[row, here]]
        share = np.arange(len(here)) / max(len(here), 1)
        mix = torch.as_tensor(share)
        for mine, theirs in ((pose[row], state.body_pose), (orient[row], state.global_orient)):
            weight = mix[:, None] if mine.ndim == 3 else mix
            old, new = torch.as_tensor(theirs[there]), torch.as_tensor(mine[here])
            mine[here] = slerp(old, new, weight.expand(new.shape[:-1])).numpy()
        transl[row, here] = (1 - share)[:, None] * state.transl[there] + share[:, None] * transl[row, here]
    return replace(motion, body_pose=pose, global_orient=orient, transl=transl)


def _state(motion: BodyMotion, seen: Tracked, valid: BoolArray, row: int) -> TrackState:
    frames = valid[row]
    return TrackState(
        betas=motion.betas[row],
        stamps=seen.stamps[frames],
        body_pose=motion.body_pose[row, frames],
        global_orient=motion.global_orient[row, frames],
        transl=motion.transl[row, frames],
    )


def _where(valid: BoolArray, values: FloatArray) -> FloatArray:
    return np.asarray(np.where(valid.reshape(*valid.shape, *[1] * (values.ndim - 2)), values, 0.0))
