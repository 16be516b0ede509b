"""What the initializer would have made of a synthetic crowd's video: the truth, with errors like the real ones.

Everything is observed in the camera's axes and then placed in the world through the estimated cameras, as from
pictures: an error of a camera, of gravity or of the focal length moves people and scene alike. Errors of people's
motions are independent of those of their keypoints, where in reality the former follow the latter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr

from crowd4d_ros.body.keypoints import INDEX, KEYPOINTS, MIRROR, posed_keypoints
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowd4d_ros.body.skeleton import JOINT_MIRROR
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.gaps import surrounding
from crowd4d_ros.initialization.lifting import mirrored, slerp, towards_ray
from crowd4d_ros.initialization.motion import bridged
from crowd4d_ros.synthetic.bodies import stature
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.estimate import Estimate, estimate_world
from crowd4d_ros.synthetic.noise import biased_noise, happens, lasting_noise, smooth_noise
from crowd4d_ros.synthetic.observed_scene import observe_scene
from crowd4d_ros.synthetic.tracks import form_tracks
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import BodyMotion, BoolArray, CrowdWindow, FloatArray, IntArray

HIPS = [INDEX["left_hip"], INDEX["right_hip"]]
SHOULDERS = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
ARMS = [row for row, name in enumerate(KEYPOINTS) if name.endswith(("elbow", "wrist"))]
LIMBS = [row for row, name in enumerate(KEYPOINTS) if name.endswith(("elbow", "wrist", "knee", "ankle", "toe", "heel"))]
SMALL_TOES = [INDEX["left_small_toe"], INDEX["right_small_toe"]]
BELOW_KNEE = ("ankle", "heel", "big_toe", "small_toe")
TRUNK_HALF_WIDTH, TRUNK_HALF_DEPTH = 0.2, 0.05
"""metres: arms nearer the spine than this across, and this far behind it, cannot be seen."""
HANGING_ARMS = {15: -1.25, 16: 1.25}
"""rad about z, rows of body_pose: what a sign looks like."""
NEAR_PATHS = 3.0
"""metres around people's paths where signs stand."""
KEYPOINT_MARGIN = 0.04
"""of a body's height in the image, above the eyes and below the ankles."""

NOTICED = 0.1
"""sizes; a larger error of a keypoint takes no more of its confidence: the network believes it."""

GROUPS = (
    ("nose", "eye", "ear"), ("shoulder",), ("elbow",), ("wrist",), ("hip",), ("knee",), ("ankle",), ("toe", "heel"),
)  # fmt: skip
"""Endings of the keypoints that ``ObservationConfig.keypoint_groups`` lists."""
_GROUP = np.array([next(i for i, ends in enumerate(GROUPS) if name.endswith(ends)) for name in KEYPOINTS])

_KIND = np.array([0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])
"""Of the 13 rigid parts: 0 the pelvis, then as ``ObservationConfig.segment_errors`` lists them, left before right."""
_PART_OF_JOINT = np.array([0, 7, 8, -1, 9, 10, -1, 11, 12, 1, 11, 12, -2, 1, 1, 2, 3, 4, 5, 6, 5, 6, 5, 6])
"""For each of SMPL's joints the part that turns with it; −1, −2: the spine and the neck, shared by two parts."""
_SHARED = {3: (0, 1, 1 / 3), 6: (0, 1, 2 / 3), 12: (1, 2, 1 / 2)}
"""Joint → the two parts it lies between, and how far towards the second."""


def observe(truth: Truth, body: BodyModel, config: ObservationConfig, rng: np.random.Generator) -> CrowdWindow:
    """All frames of ``truth`` in one window, with ``config``'s errors; exact with ``config.scaled(0)``.

    Landmarks are in the axes of the viewing ray through the middle of the box (``lifting.towards_ray``), as the crop
    they are read from. Errors come from generators spawned for each part, so that what one knob draws does not change
    what the others do.
    """
    rngs = iter(rng.spawn(9))
    estimate = estimate_world(truth, config, next(rngs))
    people = _everybody(truth, body, config, next(rngs))
    seen = _detected(people, truth, config, next(rngs))
    exchanged = happens(next(rngs), np.full(seen.shape, config.exchange), config.exchange_time * truth.fps)
    rotations = _wrong_rotations(people, truth, config, next(rngs))
    looks = _looks(people, rotations, exchanged, truth, body, estimate, config, next(rngs))
    fits = _fits(people, rotations, exchanged, truth, body, estimate, config, next(rngs))
    seconds = (truth.stamps - truth.stamps[0]) / 1e9
    source = form_tracks(seen, looks.boxes, seconds, config, next(rngs))
    scene = observe_scene(truth, body, estimate, config, next(rngs))
    observed = source >= 0
    valid = bridged(observed, seconds, config.max_gap)
    frames = np.arange(truth.num_frames)

    def of_tracks(values: FloatArray) -> FloatArray:
        mask = observed.reshape(*observed.shape, *[1] * (values.ndim - 2))
        return np.where(mask, values[np.where(observed, source, 0), frames], 0.0)

    return CrowdWindow(
        window_id=0,
        segment_id=0,
        stamps=truth.stamps,
        frames=frames,
        is_new=np.ones(len(frames), bool),
        intrinsics=estimate.intrinsics,
        cameras=estimate.cameras,
        gravity=estimate.gravity,
        gravity_covariance=estimate.gravity_covariance,
        scale_source=estimate.scale_source,
        scene=scene,
        track_ids=np.arange(len(source)) + 1,
        observed=observed,
        valid=valid,
        boxes=of_tracks(looks.boxes),
        box_confidence=of_tracks(looks.box_confidence),
        keypoints_2d=of_tracks(looks.keypoints_2d),
        keypoints_confidence=of_tracks(looks.keypoints_confidence),
        landmarks_3d=of_tracks(looks.landmarks_3d),
        masks=tuple(np.zeros(0, np.uint32) for _ in range(source.size)),
        motion=_motion(fits, source, valid, seconds, body, estimate),
        models={body.name: body.sha256},
    )


@dataclass(frozen=True)
class _People:
    """Whoever may be taken for a person: M rows, those of the truth first. Shapes as in Truth.

    rotations: (M, T, 24, 3, 3) of the joints, body to world. keypoints: (M, T, 23, 3) metres, world, of which
    keypoints_2d are the projections. is_false: (M,).
    """

    betas: FloatArray
    rotations: FloatArray
    pelvis: FloatArray
    keypoints: FloatArray
    keypoints_2d: FloatArray
    keypoints_visible: BoolArray
    visibility: FloatArray
    boxes: FloatArray
    is_false: BoolArray

    @property
    def size(self) -> FloatArray:
        """(M, T) px: the square root of the box's area, at least 1."""
        return np.asarray(np.sqrt(np.maximum(self.boxes[..., 2] * self.boxes[..., 3], 1.0)))


@dataclass(frozen=True)
class _Looks:
    """What perception says of M people in T frames, whether they are noticed or not. Shapes as in CrowdWindow."""

    boxes: FloatArray
    box_confidence: FloatArray
    keypoints_2d: FloatArray
    keypoints_confidence: FloatArray
    landmarks_3d: FloatArray


@dataclass(frozen=True)
class _Fits:
    """Bodies fitted to M people. betas: (M, 10); roots: (M, T, 3) metres and poses: (M, T, 24, 3), estimated world."""

    betas: FloatArray
    roots: FloatArray
    poses: FloatArray


def _everybody(truth: Truth, body: BodyModel, config: ObservationConfig, rng: np.random.Generator) -> _People:
    """The people of the truth, then signs and posts that are taken for people now and then."""
    shown = (truth.visibility > 0) & truth.valid & (truth.boxes[..., 2:] > 0).all(-1)
    rotations, _, keypoints = _posed(body, truth.motion)
    people = _People(
        betas=truth.motion.betas,
        rotations=rotations,
        pelvis=truth.joints[..., 0, :],
        keypoints=keypoints,
        keypoints_2d=np.nan_to_num(truth.keypoints_2d),
        keypoints_visible=truth.keypoints_visible & np.isfinite(truth.keypoints_2d).all(-1),
        visibility=np.where(shown, truth.visibility, 0.0),
        boxes=truth.boxes,
        is_false=np.zeros(truth.num_people, bool),
    )
    signs = _signs(truth, body, config, rng)
    return _People(*(np.concatenate([getattr(people, f), getattr(signs, f)]) for f in _People.__dataclass_fields__))


def _signs(truth: Truth, body: BodyModel, config: ObservationConfig, rng: np.random.Generator) -> _People:
    """False people: they stand near somebody's path for a while, upright, and of any size.

    A sign of r times a person's height is taken for a person at 1/r of its distance.
    """
    frames = truth.num_frames
    duration = max(config.false_duration * truth.fps, 1.0)
    # as many are there when the window begins as at any time, and exponential durations have no memory
    count = rng.poisson(config.false_rate * (1 + frames / duration)) if truth.num_people else 0
    at_start = rng.uniform(size=count) < duration / (duration + frames)
    begin = np.where(at_start, 0.0, rng.uniform(0, frames, count))
    length = rng.exponential(duration, count)
    time = np.arange(frames)
    there = (time >= begin[:, None]) & (time < (begin + length)[:, None])

    person, frame = rng.integers(max(truth.num_people, 1), size=count), rng.integers(frames, size=count)
    place = truth.support_point[person, frame] + rng.normal(0, NEAR_PATHS, (count, 3)) * [1, 0, 1]
    place[:, 1], _ = truth.terrain.height(place[:, [0, 2]])
    ratio = np.exp(config.false_size * rng.standard_normal(count))[:, None, None]
    pose, orient = np.zeros((count, frames, 23, 3)), np.zeros((count, frames, 3))
    for joint, angle in HANGING_ARMS.items():
        pose[:, :, joint, 2] = angle
    orient[..., UP] = rng.uniform(-np.pi, np.pi, (count, 1))
    motion = BodyMotion(np.zeros((count, 10)), pose, orient, np.zeros((count, frames, 3)))
    rotations, pelvis, keypoints = _posed(body, motion)
    root = place[:, None] + [0.0, 1.0, 0.0] * (pelvis - keypoints[..., INDEX["left_heel"], :])
    centers = truth.cameras.centers
    root = centers + (root - centers) / ratio
    keypoints = keypoints + (root - pelvis)[..., None, :]

    pixels, ahead = _projected(keypoints, truth)
    size = np.array([truth.intrinsics.width, truth.intrinsics.height])
    visible = ahead & ((pixels >= 0) & (pixels < size)).all(-1) & there[..., None]
    low, high = pixels.min(-2), pixels.max(-2)
    margin = KEYPOINT_MARGIN * (high - low)[..., 1:]
    low, high = np.clip(low - margin, 0, size), np.clip(high + margin, 0, size)
    whole = ahead.all(-1) & (high > low).all(-1) & there
    return _People(
        betas=motion.betas,
        rotations=rotations,
        pelvis=root,
        keypoints=keypoints,
        keypoints_2d=pixels,
        keypoints_visible=visible,
        visibility=np.where(whole, visible.mean(-1), 0.0),
        boxes=np.concatenate([low, high - low], -1) * whole[..., None],
        is_false=np.ones(count, bool),
    )


def _detected(people: _People, truth: Truth, config: ObservationConfig, rng: np.random.Generator) -> BoolArray:
    """(M, T) who is noticed: likely if large and in the open, never if hidden altogether."""
    height, visibility = people.boxes[..., 3], people.visibility
    probability = np.full(height.shape, 1 - config.miss_base)
    if config.miss_height > 0:
        distance = np.log(np.maximum(height, 1.0) / config.miss_height)
        probability *= ndtr(distance / config.miss_height_width)
    if config.miss_visibility > 0:
        probability *= ndtr((visibility - config.miss_visibility) / config.miss_visibility_width)
    probability = 1 - np.minimum(config.misses * (1 - probability), 1.0)
    return happens(rng, probability, config.miss_time * truth.fps, config.miss_bias) & (visibility > 0)


def _looks(
    people: _People,
    rotations: FloatArray,
    exchanged: BoolArray,
    truth: Truth,
    body: BodyModel,
    estimate: Estimate,
    config: ObservationConfig,
    rng: np.random.Generator,
) -> _Looks:
    """Boxes, keypoints and landmarks, with left and right exchanged where they are.

    rotations: (M, T, 24, 3, 3), world, of the bodies that the landmarks show, as wrong as the motions made from them.
    """
    boxes_rng, keypoints_rng, landmarks_rng, exchange_rng = rng.spawn(4)
    boxes, box_confidence = _boxes(people, truth, config, boxes_rng)
    in_camera = truth.cameras.in_camera(people.keypoints)
    pixels, confidence = _keypoints(people, in_camera, truth, config, keypoints_rng)
    bent = BodyMotion(people.betas, *_poses(rotations, body.parents), np.zeros_like(people.pelvis))
    _, _, points = _posed(body, bent)
    landmarks = _landmarks(_turned(points, truth), boxes, truth, estimate, config, landmarks_rng)
    chance = np.full(exchanged.shape, config.keypoint_exchange)
    swap = (exchanged | happens(exchange_rng, chance, config.exchange_time * truth.fps))[..., None]
    return _Looks(
        boxes=boxes,
        box_confidence=box_confidence,
        keypoints_2d=np.where(swap[..., None], pixels[:, :, MIRROR], pixels),
        keypoints_confidence=np.where(swap, confidence[..., MIRROR], confidence),
        landmarks_3d=np.where(exchanged[..., None, None], mirrored(landmarks), landmarks),
    )


def _boxes(
    people: _People, truth: Truth, config: ObservationConfig, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """(M, T, 4) boxes and (M, T) confidences: edges shake, and leave out some of what is hidden."""
    low, high = people.boxes[..., :2], people.boxes[..., :2] + people.boxes[..., 2:]
    visible = people.keypoints_visible[..., None]
    size = np.array([truth.intrinsics.width, truth.intrinsics.height])
    pixels = np.clip(people.keypoints_2d, 0, size)
    # what hiding takes off the box of the keypoints, it takes off the body's
    cut_low = np.where(visible, pixels, np.inf).min(-2) - pixels.min(-2)
    cut_high = pixels.max(-2) - np.where(visible, pixels, -np.inf).max(-2)
    any_visible = visible.any(-2)
    low = low + config.box_cut * np.where(any_visible, cut_low, 0.0)
    high = high - config.box_cut * np.where(any_visible, cut_high, 0.0)
    noise = smooth_noise(rng, (*people.visibility.shape, 2, 2), config.box_time * truth.fps)
    noise *= config.box_noise * people.boxes[..., 3, None, None]
    low, high = np.clip(low + noise[..., 0, :], 0, size), np.clip(high + noise[..., 1, :], 0, size)
    high = np.maximum(high, low)
    scatter = config.box_doubt_sigma * rng.standard_normal(people.visibility.shape)
    confidence = 1 - config.box_doubt * (2 - people.visibility) + scatter
    return np.concatenate([low, high - low], -1), np.clip(confidence, 0, 1)


def _keypoints(
    people: _People, in_camera: FloatArray, truth: Truth, config: ObservationConfig, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """(M, T, 23, 2) pixels and (M, T, 23) confidences."""
    shape = people.keypoints_visible.shape
    size = people.size[..., None]
    lasting = lasting_noise(rng, (*shape, 2), config.keypoint_time * truth.fps, config.keypoint_smooth)
    groups = np.asarray(config.keypoint_groups)[_GROUP]
    error = lasting * (groups * (config.keypoint_pixels + config.keypoint_noise * size))[..., None]
    is_outlier = rng.uniform(size=shape) < config.keypoint_outlier
    outliers = config.keypoint_outlier_size * size[..., None] * rng.standard_normal((*shape, 2))
    error = error + np.where(is_outlier[..., None], outliers, 0.0)
    guessed = ~people.keypoints_visible | _behind_trunk(in_camera) & (rng.uniform(size=shape) < config.self_hidden)
    guess = smooth_noise(rng, (*shape, 2), config.keypoint_time * truth.fps)
    error = error + np.where(guessed[..., None], config.keypoint_hidden * size[..., None] * guess, 0.0)

    per_keypoint = np.full(shape[-1], config.doubt)
    per_keypoint[LIMBS] += config.doubt_limbs
    person = np.square(smooth_noise(rng, shape[:2], config.keypoint_time * truth.fps))[..., None]
    # half a squared exponential: mostly nearly certain, now and then quite unsure, with mean 1
    clear = 1 - per_keypoint * rng.exponential(size=shape) ** 2 / 2 - config.doubt_person * person
    clear = clear - config.doubt_error * np.minimum(np.linalg.norm(error, axis=-1) / size, NOTICED)
    hidden = config.hidden_confidence * np.exp(0.5 * rng.standard_normal(shape))
    confidence = np.where(guessed, np.minimum(hidden, clear), clear)
    confidence = confidence - config.false_doubt * people.is_false[:, None, None]
    missing = rng.uniform(size=shape[-1]) < config.no_small_toes
    confidence[..., [row for row in SMALL_TOES if missing[row]]] = 0.0
    return _shorter_legs(people.keypoints_2d, config) + error, np.clip(confidence, 0, 1)


def _shorter_legs(pixels: FloatArray, config: ObservationConfig) -> FloatArray:
    """Keypoints (M, T, 23, 2) whose thighs and shins are by ``keypoint_legs`` longer, feet along with them."""
    pixels = pixels.copy()
    for side in ("left", "right"):
        for start, end, with_it in (("hip", "knee", ("knee", *BELOW_KNEE)), ("knee", "ankle", BELOW_KNEE)):
            bone = pixels[..., INDEX[f"{side}_{end}"], :] - pixels[..., INDEX[f"{side}_{start}"], :]
            change = config.keypoint_legs * bone
            pixels[..., [INDEX[f"{side}_{name}"] for name in with_it], :] += change[..., None, :]
    return pixels


def _behind_trunk(in_camera: FloatArray) -> BoolArray:
    """(M, T, 23) elbows and wrists that the own trunk hides. in_camera: (M, T, 23, 3)."""
    top, bottom = in_camera[..., SHOULDERS, :].mean(-2), in_camera[..., HIPS, :].mean(-2)
    arms = in_camera[..., ARMS, :]
    along = (arms[..., 1] - top[..., None, 1]) / np.where(bottom == top, 1.0, bottom - top)[..., None, 1]
    spine = top[..., None, :] + np.clip(along, 0, 1)[..., None] * (bottom - top)[..., None, :]
    hidden = np.zeros(in_camera.shape[:-1], bool)
    behind = arms[..., 2] > spine[..., 2] + TRUNK_HALF_DEPTH
    hidden[..., ARMS] = behind & (np.abs(arms[..., 0] - spine[..., 0]) < TRUNK_HALF_WIDTH)
    return hidden


def _landmarks(
    points: FloatArray,
    boxes: FloatArray,
    truth: Truth,
    estimate: Estimate,
    config: ObservationConfig,
    rng: np.random.Generator,
) -> FloatArray:
    """(M, T, 23, 3) metres from the middle of the hips, axes of the ray through the middle of the box.

    points: (M, T, 23, 3) metres, camera axes, from anywhere.
    """
    points = points.copy()
    for side in ("left", "right"):
        for start, end, with_it, change in (
            ("shoulder", "elbow", ("elbow", "wrist"), config.landmark_upper_arm),
            ("elbow", "wrist", ("wrist",), config.landmark_forearm),
            ("knee", "ankle", BELOW_KNEE, config.landmark_shin),
        ):
            bone = points[..., INDEX[f"{side}_{end}"], :] - points[..., INDEX[f"{side}_{start}"], :]
            points[..., [INDEX[f"{side}_{name}"] for name in with_it], :] += change * bone[..., None, :]
    points -= points[..., HIPS, :].mean(-2, keepdims=True)
    noise = smooth_noise(rng, points.shape, config.landmark_time * truth.fps)
    noise *= [config.landmark_noise, config.landmark_noise, config.landmark_depth]
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    return np.asarray(points @ towards_ray(centre, estimate.intrinsics.K_rectified) + noise)


def _fits(
    people: _People,
    rotations: FloatArray,
    exchanged: BoolArray,
    truth: Truth,
    body: BodyModel,
    estimate: Estimate,
    config: ObservationConfig,
    rng: np.random.Generator,
) -> _Fits:
    """Shapes, roots and poses, in the estimated world."""
    betas_rng, root_rng = rng.spawn(2)
    noise = config.betas_noise * betas_rng.standard_normal(people.betas.shape)
    betas = (1 - config.betas_shrunk) * people.betas + noise
    true_height, fitted_height = (stature(body, values) for values in (people.betas, betas))
    roots = _roots(people, np.log(fitted_height / true_height), truth, estimate, config, root_rng)
    rotations = estimate.turn[:, None] @ _mirrored_bodies(rotations, people, exchanged, truth)
    pose, orient = _poses(rotations, body.parents)
    return _Fits(betas, roots, np.concatenate([orient[:, :, None], pose], 2))


def _roots(
    people: _People,
    log_stature: FloatArray,
    truth: Truth,
    estimate: Estimate,
    config: ObservationConfig,
    rng: np.random.Generator,
) -> FloatArray:
    """(M, T, 3) metres, estimated world. log_stature: (M,) of fitted statures against the true ones."""
    shape = people.visibility.shape
    depth = config.depth_common * rng.standard_normal() + config.depth_stature * log_stature[:, None]
    depth = depth + config.depth_person * rng.standard_normal((len(log_stature), 1))
    depth = depth + config.depth_slow * smooth_noise(rng, shape, config.depth_time * truth.fps)
    depth = depth + config.depth_jitter * rng.standard_normal(shape)
    in_camera = truth.cameras.in_camera(people.pelvis) * np.exp(depth)[..., None]
    pixels = config.lateral * biased_noise(rng, (*shape, 2), config.lateral_time * truth.fps, config.lateral_bias)
    K = truth.intrinsics.K_rectified
    across = pixels / K[[0, 1], [0, 1]] * in_camera[..., 2:]
    in_camera = in_camera + np.concatenate([across, np.zeros_like(across[..., :1])], -1)
    return estimate.placed(in_camera, np.arange(shape[1]))


def _mirrored_bodies(rotations: FloatArray, people: _People, exchanged: BoolArray, truth: Truth) -> FloatArray:
    """Rotations (M, T, 24, 3, 3), world, but of the body that looks the same where left and right are exchanged.

    It is the mirror image in depth: reflected along the ray d, I − 2 d dᵀ, of a body whose own sides are exchanged.
    """
    ray = _rays(people.pelvis, truth)
    reflection = np.eye(3) - 2 * ray[..., :, None] * ray[..., None, :]
    swapped = reflection[:, :, None] @ rotations[:, :, JOINT_MIRROR] @ np.diag([-1.0, 1.0, 1.0])
    return np.where(exchanged[..., None, None, None], swapped, rotations)


def _wrong_rotations(people: _People, truth: Truth, config: ObservationConfig, rng: np.random.Generator) -> FloatArray:
    """(M, T, 24, 3, 3) rotations of the joints, body to world, with the errors of reading them off a picture.

    The whole body leans and turns; its rigid parts err besides, each on its own, as their directions are what pictures
    show. A part's turn about the line of sight moves the picture most, and so is known best.
    """
    whole_rng, parts_rng = rng.spawn(2)
    shape = people.visibility.shape
    sigma = np.radians((0.0, *config.segment_errors))[_KIND]
    turns = biased_noise(parts_rng, (*shape, len(_KIND), 3), config.segment_time * truth.fps, config.segment_bias)
    burst = smooth_noise(parts_rng, (*shape, len(_KIND), 1), config.segment_time * truth.fps)
    turns = turns * sigma[:, None] * np.exp(config.segment_tail * burst)
    ray = _rays(people.pelvis, truth)[:, :, None]
    turns = turns - (1 - config.segment_along_ray) * (turns * ray).sum(-1, keepdims=True) * ray
    of_joints = turns[:, :, np.maximum(_PART_OF_JOINT, 0)]
    for joint, (first, second, share) in _SHARED.items():
        of_joints[:, :, joint] = (1 - share) * turns[:, :, first] + share * turns[:, :, second]
    return _matrix(of_joints) @ _wrong_stance(people, truth, config, whole_rng)[:, :, None] @ people.rotations


def _wrong_stance(people: _People, truth: Truth, config: ObservationConfig, rng: np.random.Generator) -> FloatArray:
    """(M, T, 3, 3) rotations, world, of whole bodies: from above, they seem to lean away, as if seen from the side."""
    tilt_rng, turn_rng = rng.spawn(2)
    shape, frames = people.visibility.shape, config.body_time * truth.fps
    ray = _rays(people.pelvis, truth)
    away = ray * [1.0, 0.0, 1.0]
    away = away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-9)
    up = np.array([0.0, 1.0, 0.0])
    below = np.degrees(np.arcsin(np.clip(-ray[..., UP], -1, 1)))
    lean = np.radians(config.body_lean) * np.tanh(np.maximum(below, 0) / config.body_lean_angle)
    tilt = np.radians(config.body_tilt) * biased_noise(tilt_rng, (*shape, 3), frames, config.body_bias)
    turn = np.radians(config.body_turn) * biased_noise(turn_rng, shape, frames, config.body_bias)
    return _matrix(lean[..., None] * np.cross(up, away) + tilt * [1.0, 0.0, 1.0]) @ _matrix(turn[..., None] * up)


def _matrix(axis_angle: FloatArray) -> FloatArray:
    return np.asarray(axis_angle_to_matrix(torch.as_tensor(axis_angle)).numpy())


def _poses(rotations: FloatArray, parents: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """body_pose (…, 23, 3) and global_orient (…, 3) of joints whose rotations in the world are (…, 24, 3, 3)."""
    local = rotations.copy()
    local[..., 1:, :, :] = rotations[..., parents[1:], :, :].swapaxes(-1, -2) @ rotations[..., 1:, :, :]
    poses = matrix_to_axis_angle(torch.as_tensor(local)).numpy()
    return poses[..., 1:, :], poses[..., 0, :]


def _motion(
    fits: _Fits, source: IntArray, valid: BoolArray, seconds: FloatArray, body: BodyModel, estimate: Estimate
) -> BodyMotion:
    """The motions of tracks whose observation in a frame is of person ``source`` (K, T), or −1.

    Between observations roots go straight and joints turn evenly. A track has one shape: that of whom it mostly shows.
    """
    track, frame = np.nonzero(valid)
    observed = source >= 0
    before, after, share = (values[track, frame] for values in surrounding(observed, seconds))
    first, second = source[track, before], source[track, after]
    root = fits.roots[first, before] + share[:, None] * (fits.roots[second, after] - fits.roots[first, before])
    pose = fits.poses[first, before]
    between = share > 0
    start, end = (torch.as_tensor(a[between]) for a in (pose, fits.poses[second, after]))
    pose[between] = slerp(start, end, torch.as_tensor(share[between])[:, None]).numpy()

    shown = np.zeros((len(source), len(fits.betas) + 1))
    np.add.at(shown, (np.arange(len(source))[:, None], source), 1)
    betas = fits.betas[shown[:, :-1].argmax(-1)] if len(source) else np.zeros((0, fits.betas.shape[-1]))
    roots, poses = np.zeros((*source.shape, 3)), np.zeros((*source.shape, 24, 3))
    roots[track, frame], poses[track, frame] = root, pose
    transl = estimate.with_bodies(roots) - body.rest_pelvis(betas)[:, None]
    return BodyMotion(betas, poses[:, :, 1:], poses[:, :, 0], np.where(valid[..., None], transl, 0.0))


@torch.no_grad()
def _posed(body: BodyModel, motion: BodyMotion) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rotations (M, T, 24, 3, 3) of the joints, the pelvis (M, T, 3) and keypoints (M, T, 23, 3), world."""
    betas, pose, orient, transl = (
        torch.as_tensor(array, dtype=body.v_template.dtype)
        for array in (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
    )
    posed = body.pose(betas, pose, orient, transl)
    turned, joints, points = posed.transforms[..., :3], posed.joints, posed_keypoints(body, posed)
    rotations, pelvis, keypoints = (a.double().numpy() for a in (turned, joints[..., 0, :], points))
    return rotations, pelvis, keypoints


def _turned(vectors: FloatArray, truth: Truth) -> FloatArray:
    """World vectors (M, T, K, 3) in the axes of the true camera of their frame."""
    return np.asarray(vectors @ truth.cameras.R.swapaxes(-1, -2))


def _projected(points: FloatArray, truth: Truth) -> tuple[FloatArray, BoolArray]:
    """Rectified pixels (M, T, K, 2) of world points (M, T, K, 3), and which are in front of the camera."""
    in_camera = truth.cameras.in_camera(points)
    ahead = in_camera[..., 2] > 0.1
    image = in_camera @ truth.intrinsics.K_rectified.T
    return image[..., :2] / np.where(ahead, image[..., 2], 1.0)[..., None], ahead


def _rays(points: FloatArray, truth: Truth) -> FloatArray:
    """Unit directions (M, T, 3), world, from the cameras to points (M, T, 3)."""
    ray = points - truth.cameras.centers
    return np.asarray(ray / np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-9))
