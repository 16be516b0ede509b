"""How wrong observations are: the initializer's, or synthetic ones, against the truth, by the same measure.

People are compared in each frame's camera, where neither the scale nor the tilt of the estimated world matters; these
are measured on their own. Spreads are robust: 1.4826 times the median of absolute values, per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from crowd4d_ros.body.keypoints import INDEX, KEYPOINTS, MIRROR, posed_keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.initialization.detection import box_iou
from crowd4d_ros.initialization.lifting import towards_ray
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import NUM_COCO, BodyMotion, BoolArray, Cameras, CrowdWindow, FloatArray, IntArray, ScenePoints

MIN_IOU = 0.3
"""of boxes of the same person: half hidden, a box has half its area."""
MIN_SAMPLES = 5
"""values below which a statistic says nothing and is NaN."""
ROBUST = 1.4826
E = float(np.exp(-1))
HEIGHTS = (0.0, 25.0, 45.0, 90.0, 180.0, np.inf)
"""px, the bins of people's height in the image."""
VISIBILITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLEARLY = 0.5
"""Confidence of keypoints whose jitter is measured."""
CLEAR, LARGE = 0.75, 45.0
"""Visibility and height from which somebody should be easy to see: one is binned where the other is good."""
CONFIDENCES = (0.0, 0.3, 0.6, 0.9, 1.0)
LAGS = 5
"""frames of the printed correlations."""
LONGEST = 3.0
"""seconds over which correlation times are looked for."""
TELLING = 0.1
"""sizes, between a person's keypoints and their mirror image: exchanges cannot be told below."""
CLEARLY_NEARER = 0.7
"""of the distance to the keypoints: that to their mirror image, where left and right are exchanged."""
FLIPPED = 100.0
"""degrees of error of the pelvis from which a body is taken to face the wrong way: its pose is not measured."""
TINY = 1e-9
"""Spreads below are rounding errors: nothing is an outlier of them, and they have no correlation."""
OUTLIER = 4.0
"""robust sigmas."""
SCENE_CONFIDENCE = 0.5
"""of scene points that the pipeline uses."""
HEAD = ("nose", "eye", "ear")
GROUPS = {
    "head": HEAD, "shoulders": ("shoulder",), "elbows": ("elbow",), "wrists": ("wrist",), "hips": ("hip",),
    "knees": ("knee",), "ankles": ("ankle",), "feet": ("toe", "heel"),
}  # fmt: skip
"""Names of keypoints that are measured together, by their endings."""
SEEN_FROM_ABOVE = 5.0
"""degrees below the horizon: from there on bodies are seen from above, and taken to lean because of it."""
PARTS = {
    "chest": (9,), "head": (15,), "upper_arms": (16, 17), "forearms": (18, 19), "thighs": (1, 2),
    "shins": (4, 5), "feet": (7, 8),
}  # fmt: skip
"""Rigid parts of a body, as ``ObservationConfig.segment_errors`` lists them, and SMPL's joints that turn with each."""
BONES = {"upper_arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "shin": ("knee", "ankle")}
LEGS = (("hip", "knee"), ("knee", "ankle"))
HIPS = [INDEX["left_hip"], INDEX["right_hip"]]
MILLI = 1e3


@torch.no_grad()
def observation_errors(
    windows: CrowdWindow | Sequence[CrowdWindow], truth: Truth, body: BodyModel | None = None
) -> dict[str, float]:
    """Errors of ``windows`` of one segment, whose frames are numbered as the truth's. NaN where there are too few.

    Units end the names: px; sizes, the square root of a person's box area; s, deg, m, mm; log, of depth, range or
    scale; without a unit, shares, probabilities and correlations. body: what the windows were made with, the embedded
    one if none is given.

    Detection: ``miss_height_A_B`` and ``miss_visibility_A_B``, the share of people missed in a bin;
    ``miss_run_s``; ``false_per_frame``; ``switches_per_1000`` and ``fragments_per_1000`` person-frames: the number of
    somebody's track becomes one that somebody else had, or a new one.
    Boxes: ``box_edge_heights``; ``box_cut_share``, how far boxes follow what is visible of the half hidden;
    ``box_confidence``.
    Keypoints: ``keypoint_height_A_B_px`` and ``…_sizes``; ``keypoint_GROUP_sizes`` about their mean, and
    ``keypoint_hidden_sizes``, of keypoints that are not visible; ``keypoint_legs``, relative lengths;
    ``keypoint_lag_K``; ``keypoint_outliers``;
    ``exchanged`` and ``exchanged_run_s``; ``confidence_visible``, ``confidence_hidden``, ``confidence_rank``,
    Spearman's correlation with the error; ``keypoint_confidence_A_B_sizes``.
    Landmarks: ``landmark_across_m`` and ``landmark_depth_m``, ``landmark_time_s``, ``landmark_BONE``, relative lengths.
    World: ``gravity_deg``, ``focal_log``, ``camera_turn_deg`` and ``camera_drift`` (m/m) at the end;
    ``scene_scale_log`` (metres over window units), ``scene_noise_log`` about it, ``scene_outliers``.
    Root: ``depth_common_log``, ``depth_person_log`` and ``depth_within_log``, spreads between people and of each,
    ``depth_time_s``; ``depth_per_stature``; ``lateral_px``, ``lateral_time_s``; ``root_m``; ``root_accel_error_m_s2``.
    Pose: ``orient_deg``; of the whole body, ``lean_deg``, away from the camera, of those well below the
    horizon, ``tilt_deg`` besides, ``turn_deg`` about the vertical, ``turn_bias_share`` and ``turn_time_s``; of parts
    against the pelvis, ``PART_deg``, per axis across the ray; ``pose_along_ray``, the ratio along it;
    ``pose_bias_share``, ``pose_time_s``; ``joint_angle_deg``; ``flipped``; ``mpjpe_mm``, ``pa_mpjpe_mm``,
    ``joint_accel_error_m_s2``; ``orient_height_A_B_deg``, ``shins_…`` and ``mpjpe_height_A_B_mm`` by height.
    Shape: ``stature_bias_log``, ``stature_sd_log``, ``beta0_slope``, ``beta0_residual``.
    """
    window = windows if isinstance(windows, CrowdWindow) else stitched(windows)
    body = body if body is not None else BodyModel.load(dtype=torch.float64)
    pairs = _match(window, truth)
    size = np.sqrt(np.maximum(truth.boxes[..., 2] * truth.boxes[..., 3], 1.0))
    exact, fitted = _Posed.of(truth.motion, truth.cameras, body), _fitted(window, pairs, truth, body)
    exchanged, errors = _keypoint_errors(pairs.of(window.keypoints_2d), size, pairs.known, truth)
    return {
        **_detection(window, pairs, truth),
        **_boxes(window, pairs, truth),
        **_keypoints(errors, exchanged, size, pairs, window, truth),
        **_landmarks(exact, exchanged[0], pairs, window, truth),
        **_world(window, truth),
        **_root(exact, fitted, pairs, window, truth, body),
        **_pose(exact, fitted, pairs, truth),
        **_shape(pairs, window, truth, body),
    }


@torch.no_grad()
def observation_statistics(window: CrowdWindow, body: BodyModel | None = None) -> dict[str, float]:
    """What can be said of observations without a truth, to compare those of real videos with synthetic ones.

    ``people``, per frame; ``bridged``, of valid frames; ``gap_s``, mean length of gaps; ``head_jitter_sizes``,
    ``torso_…`` and ``limbs_…``, ``box_jitter_heights``: spreads of second differences over sqrt(6), white
    noise's sigma, to which real accelerations add; ``confidence_qQQ`` quantiles of keypoints' confidences, and
    ``person_confidence_qQQ`` of their means over COCO's; ``root_accel_m_s2`` and ``joint_accel_m_s2``, mean
    accelerations of the motions.
    """
    body = body if body is not None else BodyModel.load(dtype=torch.float64)
    fps = 1e9 / float(np.median(np.diff(window.stamps))) if window.num_frames > 1 else np.nan
    observed = window.observed
    size = np.sqrt(np.maximum(window.boxes[..., 2] * window.boxes[..., 3], 1.0))
    given = observed[..., None] & (window.keypoints_confidence > CLEARLY)
    confidence = window.keypoints_confidence[observed]
    torso = _named("shoulder", "hip")
    head = _named(*HEAD)
    posed = _Posed.of(window.motion, window.cameras, body)
    pelvis = posed.joints[:, :, :1]
    three = window.valid[:, 2:] & window.valid[:, 1:-1] & window.valid[:, :-2]

    def jitter(values: FloatArray, known: BoolArray, unit: FloatArray) -> float:
        both = known[:, 2:] & known[:, 1:-1] & known[:, :-2]
        second = (values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]) / np.sqrt(6)
        return _spread((second / np.expand_dims(unit[:, 1:-1], tuple(range(2, values.ndim))))[both])

    def acceleration(points: FloatArray) -> float:
        second = points[:, 2:] - 2 * points[:, 1:-1] + points[:, :-2]
        return _mean(np.linalg.norm(second, axis=-1)[three]) * fps**2

    quantiles = {
        f"{name}_q{int(100 * q)}": float(np.quantile(values, q)) if values.size else np.nan
        for name, values in (("confidence", confidence), ("person_confidence", confidence[:, :NUM_COCO].mean(-1)))
        for q in (0.1, 0.25, 0.5, 0.75)
    }
    keypoints = window.keypoints_2d
    return {
        "people": _mean(observed.sum(0)),
        "bridged": _mean(~observed[window.valid]),
        "gap_s": _run_length(window.valid & ~observed) / fps,
        "head_jitter_sizes": jitter(keypoints[:, :, head], given[:, :, head], size),
        "torso_jitter_sizes": jitter(keypoints[:, :, torso], given[:, :, torso], size),
        "limbs_jitter_sizes": jitter(keypoints[:, :, ~(head | torso)], given[:, :, ~(head | torso)], size),
        "box_jitter_heights": jitter(window.boxes, observed, window.boxes[..., 3].clip(1.0)),
        **quantiles,
        "root_accel_m_s2": acceleration(pelvis),
        "joint_accel_m_s2": acceleration(posed.joints - pelvis),
    }


def stitched(windows: Sequence[CrowdWindow]) -> CrowdWindow:
    """One window of the frames that each of ``windows`` settled, people by their track ids.

    Raises ValueError where they are of several segments, which do not share a world, or there is none.
    """
    if len({window.segment_id for window in windows}) != 1:
        raise ValueError("measure the windows of one segment at a time: segments do not share a world")
    track_ids = np.unique(np.concatenate([window.track_ids for window in windows]))
    rows = [np.searchsorted(track_ids, window.track_ids) for window in windows]
    count = sum(int(window.is_new.sum()) for window in windows)

    def joined(name: str) -> Any:
        parts = [_attribute(window, name) for window in windows]
        result = np.zeros((len(track_ids), count, *parts[0].shape[2:]), parts[0].dtype)
        at = 0
        for window, part, row in zip(windows, parts, rows, strict=True):
            new = int(window.is_new.sum())
            result[row, at : at + new] = part[:, window.is_new]
            at += new
        return result

    def along(name: str) -> Any:
        return np.concatenate([_attribute(window, name)[window.is_new] for window in windows])

    betas = np.zeros((len(track_ids), windows[0].motion.betas.shape[-1]))
    for window, row in zip(windows, rows, strict=True):
        betas[row] = window.motion.betas
    frames = along("frames")
    keyframes = np.concatenate([w.frames[w.scene.keyframe] for w in windows])
    settled = np.isin(keyframes, frames)
    scene = ScenePoints(
        np.concatenate([w.scene.points for w in windows])[settled],
        np.concatenate([w.scene.confidence for w in windows])[settled],
        np.searchsorted(frames, keyframes[settled]),
    )
    return replace(
        windows[0],
        stamps=along("stamps"),
        frames=frames,
        is_new=np.ones(count, bool),
        cameras=Cameras(along("cameras.R"), along("cameras.t"), windows[0].cameras.source),
        scene=scene,
        track_ids=track_ids,
        masks=tuple(np.zeros(0, np.uint32) for _ in range(len(track_ids) * count)),
        motion=BodyMotion(betas, *(joined(f"motion.{n}") for n in ("body_pose", "global_orient", "transl"))),
        observed=joined("observed"),
        valid=joined("valid"),
        boxes=joined("boxes"),
        box_confidence=joined("box_confidence"),
        keypoints_2d=joined("keypoints_2d"),
        keypoints_confidence=joined("keypoints_confidence"),
        landmarks_3d=joined("landmarks_3d"),
    )


def _attribute(window: CrowdWindow, name: str) -> Any:
    return attrgetter(name)(window)


@dataclass(frozen=True)
class _Pairs:
    """Whom each person of the truth was seen as. track: (N, T) row of the window, −1 where missed or not there.

    frame: (T,) of the window for each of the truth's, −1 where it has none. unmatched: (T,) people seen who are nobody.
    """

    track: IntArray
    frame: IntArray
    unmatched: IntArray

    @property
    def known(self) -> BoolArray:
        """(N, T) seen."""
        return np.asarray(self.track >= 0)

    def of(self, values: FloatArray) -> FloatArray:
        """The window's values (K, T', …) of each of the truth's people: (N, T, …), zero where unseen."""
        values = np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)])
        found = values[self.track, np.maximum(self.frame, 0)]
        return np.where(self.known.reshape(*self.known.shape, *[1] * (values.ndim - 2)), found, 0)


def _match(window: CrowdWindow, truth: Truth) -> _Pairs:
    """Frame by frame the assignment of boxes with the largest overlap in all."""
    track = np.full((truth.num_people, truth.num_frames), -1)
    frame_of = np.full(truth.num_frames, -1)
    unmatched = np.zeros(truth.num_frames, np.int64)
    there = _shown(truth)
    for column, frame in enumerate(window.frames):
        if frame >= truth.num_frames:
            continue
        frame_of[frame] = column
        people, seen = np.flatnonzero(there[:, frame]), np.flatnonzero(window.observed[:, column])
        iou = box_iou(truth.boxes[people, frame], window.boxes[seen, column])
        row, match = linear_sum_assignment(-iou)
        good = iou[row, match] >= MIN_IOU
        track[people[row[good]], frame] = seen[match[good]]
        unmatched[frame] = len(seen) - int(good.sum())
    return _Pairs(track, frame_of, unmatched)


def _shown(truth: Truth) -> BoolArray:
    return np.asarray(truth.valid & (truth.visibility > 0) & (truth.boxes[..., 2:] > 0).all(-1))


def _detection(window: CrowdWindow, pairs: _Pairs, truth: Truth) -> dict[str, float]:
    frames = pairs.frame >= 0
    shown, height = _shown(truth) & frames, truth.boxes[..., 3]
    missed = shown & ~pairs.known
    result = {}
    for low, high in pairwise(HEIGHTS):
        bin_ = shown & (truth.visibility >= CLEAR) & (height >= low) & (height < high)
        result[f"miss_height_{_bin(low, high)}"] = _mean(missed[bin_])
    for low, high in pairwise(VISIBILITIES):
        bin_ = shown & (height >= LARGE) & (truth.visibility > low) & (truth.visibility <= high)
        result[f"miss_visibility_{_bin(low, high)}"] = _mean(missed[bin_])
    clear = missed & (truth.visibility >= CLEAR) & (height >= LARGE)
    switches, fragments = _number_changes(pairs)
    seen = max(int(pairs.known.sum()), 1)
    return {
        **result,
        "miss_run_s": _run_length(clear) / truth.fps,
        "false_per_frame": _mean(pairs.unmatched[frames]),
        "switches_per_1000": MILLI * switches / seen,
        "fragments_per_1000": MILLI * fragments / seen,
    }


def _number_changes(pairs: _Pairs) -> tuple[int, int]:
    """How often somebody's track becomes one that was another's before, and one that was nobody's."""
    switches = fragments = 0
    owner: dict[int, int] = {}
    current: dict[int, int] = {}
    person, frame = np.nonzero(pairs.known)
    for n, t in sorted(zip(person.tolist(), frame.tolist(), strict=True), key=lambda pair: pair[1]):
        track = int(pairs.track[n, t])
        if current.get(n, track) != track:
            if owner.get(track, n) == n and track not in owner:
                fragments += 1
            elif owner.get(track, n) != n:
                switches += 1
        owner[track], current[n] = n, track
    return switches, fragments


def _boxes(window: CrowdWindow, pairs: _Pairs, truth: Truth) -> dict[str, float]:
    boxes, known = pairs.of(window.boxes), pairs.known
    clear = known & (truth.visibility >= CLEAR)
    edges = np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)
    exact = np.concatenate([truth.boxes[..., :2], truth.boxes[..., :2] + truth.boxes[..., 2:]], -1)
    height = np.maximum(truth.boxes[..., 3], 1.0)
    error = (edges - exact) / height[..., None]
    y = truth.keypoints_2d[..., 1]
    seen = np.where(truth.keypoints_visible, y, np.nan)
    hidden = known & (truth.visibility < CLEAR) & truth.keypoints_visible.any(-1)
    with np.errstate(invalid="ignore"):
        whole = np.ptp(y[hidden], axis=-1)
        cut = whole - (np.nanmax(seen[hidden], -1) - np.nanmin(seen[hidden], -1)) if hidden.any() else whole
    lost = height[hidden] - boxes[..., 3][hidden]
    usable = cut > 0.1 * whole
    return {
        "box_edge_heights": _spread(error[clear] - _median(error[clear], 0)),
        "box_bottom_bias_heights": _median(error[clear][:, 3]),
        "box_top_bias_heights": _median(error[clear][:, 1]),
        "box_cut_share": _median(lost[usable] / cut[usable]),
        "box_confidence": _mean(pairs.of(window.box_confidence)[known]),
    }


def _keypoint_errors(
    pixels: FloatArray, size: FloatArray, known: BoolArray, truth: Truth
) -> tuple[tuple[BoolArray, BoolArray], FloatArray]:
    """Where (N, T) left and right are exchanged and where that can be told, and errors (N, T, 23, 2) px."""
    error = pixels - truth.keypoints_2d
    mirrored = pixels[:, :, MIRROR] - truth.keypoints_2d
    sided = np.array([name.split("_")[0] in ("left", "right") for name in KEYPOINTS]) & ~_named("toe", "heel", "eye")
    weight = truth.keypoints_visible & sided & known[..., None]
    apart = truth.keypoints_2d[:, :, MIRROR] - truth.keypoints_2d

    def mean_length(vectors: FloatArray) -> FloatArray:
        lengths = np.nan_to_num(np.linalg.norm(vectors, axis=-1)) * weight
        return np.asarray(lengths.sum(-1) / np.maximum(weight.sum(-1), 1) / size)

    telling = known & (mean_length(apart) > TELLING)
    return (telling & (mean_length(mirrored) < CLEARLY_NEARER * mean_length(error)), telling), error


def _keypoints(
    error: FloatArray,
    exchanged: tuple[BoolArray, BoolArray],
    size: FloatArray,
    pairs: _Pairs,
    window: CrowdWindow,
    truth: Truth,
) -> dict[str, float]:
    confidence = pairs.of(window.keypoints_confidence)
    given = (confidence > 0) & np.isfinite(error).all(-1) & (pairs.known & ~exchanged[0])[..., None]
    visible, hidden = given & truth.keypoints_visible, given & ~truth.keypoints_visible
    relative = error / size[..., None, None]
    length = np.linalg.norm(np.nan_to_num(relative), axis=-1)
    result = {}
    height = truth.boxes[..., 3]
    for low, high in pairwise(HEIGHTS):
        bin_ = visible & ((height >= low) & (height < high))[..., None]
        result[f"keypoint_height_{_bin(low, high)}_px"] = _spread(error[bin_])
        result[f"keypoint_height_{_bin(low, high)}_sizes"] = _spread(relative[bin_])
    for group, endings in GROUPS.items():
        result[f"keypoint_{group}_sizes"] = _spread(relative[visible & _named(*endings)])
    sigma = _spread(relative[visible])
    standard = _standard(relative, visible)
    for lag in range(1, LAGS + 1):
        result[f"keypoint_lag_{lag}"] = _correlation(standard, visible, lag)
    for low, high in pairwise(CONFIDENCES):
        bin_ = given & (confidence > low) & (confidence <= high)
        result[f"keypoint_confidence_{_bin(low, high)}_sizes"] = _spread(relative[bin_])
    varies = visible.sum() > MIN_SAMPLES and np.ptp(confidence[visible]) > 0 and np.ptp(length[visible]) > 0
    legs = [(INDEX[f"{side}_{a}"], INDEX[f"{side}_{b}"]) for side in ("left", "right") for a, b in LEGS]
    start, end = np.array(legs).T
    both = visible[..., start] & visible[..., end]
    bone = truth.keypoints_2d[..., end, :] - truth.keypoints_2d[..., start, :]
    change = ((error[..., end, :] - error[..., start, :]) * bone).sum(-1) / np.maximum((bone**2).sum(-1), 1.0)
    rank = spearmanr(confidence[visible], length[visible]).statistic if varies else np.nan
    return {
        **result,
        "keypoint_sizes": sigma,
        "keypoint_legs": _median(change[both]),
        "keypoint_hidden_sizes": _spread(relative[hidden]),
        "keypoint_outliers": _mean((np.abs(relative[visible]) > OUTLIER * sigma + TINY).any(-1)),
        "exchanged": _mean(exchanged[0][exchanged[1]]),
        "exchanged_run_s": _run_length(exchanged[0]) / truth.fps,
        "confidence_visible": _mean(confidence[visible]),
        "confidence_hidden": _mean(confidence[hidden]),
        "confidence_rank": float(rank),
    }


def _landmarks(
    exact: _Posed, exchanged: BoolArray, pairs: _Pairs, window: CrowdWindow, truth: Truth
) -> dict[str, float]:
    landmarks, boxes = pairs.of(window.landmarks_3d), pairs.of(window.boxes)
    turn = towards_ray(boxes[..., :2] + boxes[..., 2:] / 2, window.intrinsics.K_rectified)
    wanted = (exact.keypoints - exact.keypoints[..., HIPS, :].mean(-2, keepdims=True)) @ turn
    usable = (
        (pairs.of(window.keypoints_confidence) > 0) & truth.keypoints_visible & (pairs.known & ~exchanged)[..., None]
    )
    error = landmarks - wanted
    lengths = {}
    for bone, (start, end) in BONES.items():
        rows = np.array([[INDEX[f"{side}_{joint}"] for side in ("left", "right")] for joint in (start, end)])
        both = usable[..., rows[0]] & usable[..., rows[1]]
        seen, true = (np.linalg.norm(p[..., rows[1], :] - p[..., rows[0], :], axis=-1) for p in (landmarks, wanted))
        lengths[f"landmark_{bone}"] = _median(seen[both] / true[both]) - 1
    across = np.where(usable[..., None], error[..., :2], 0.0)
    return {
        "landmark_across_m": _spread(error[..., :2][usable]),
        "landmark_depth_m": _spread(error[..., 2][usable]),
        "landmark_time_s": _correlation_time(_standard(across, usable), usable, truth.fps),
        **lengths,
    }


def _world(window: CrowdWindow, truth: Truth) -> dict[str, float]:
    down = truth.cameras.R[window.frames[0]] @ [0.0, -1.0, 0.0]
    frames = window.frames < truth.num_frames
    R, c = window.cameras.R[frames], window.cameras.centers[frames]
    true_R, true_c = (a[window.frames[frames]] for a in (truth.cameras.R, truth.cameras.centers))
    drift = (R[-1] @ R[0].T) @ (true_R[-1] @ true_R[0].T).T
    flown = np.linalg.norm(np.diff(true_c, axis=0), axis=-1).sum()
    scale, noise, outliers = _scene(window, truth)
    # the windows' world in the truth's axes, by their first cameras
    moved = (c[-1] - c[0]) @ R[0].T @ true_R[0] * np.exp(scale)
    return {
        "gravity_deg": _angle(window.gravity, down),
        "focal_log": float(np.log(window.intrinsics.K_rectified[0, 0] / truth.intrinsics.K_rectified[0, 0])),
        "camera_turn_deg": float(np.degrees(np.linalg.norm(Rotation.from_matrix(drift).as_rotvec()))),
        "camera_drift": float(np.linalg.norm(moved - (true_c[-1] - true_c[0])) / flown) if flown > 0 else 0.0,
        "scene_scale_log": scale,
        "scene_noise_log": noise,
        "scene_outliers": outliers,
    }


def _scene(window: CrowdWindow, truth: Truth) -> tuple[float, float, float]:
    """Log of metres per unit of the scene, spread of depths about it, and the share of outliers."""
    frame = window.frames[window.scene.keyframe]
    used = (window.scene.confidence >= SCENE_CONFIDENCE) & (frame < truth.num_frames)
    points, keyframe, frame = window.scene.points[used], window.scene.keyframe[used], frame[used]
    if len(points) < MIN_SAMPLES:
        return np.nan, np.nan, np.nan
    in_camera = (window.cameras.R[keyframe] @ points[..., None])[..., 0] + window.cameras.t[keyframe]
    pixels = in_camera @ window.intrinsics.K_rectified.T
    rays = pixels / pixels[:, 2:] @ np.linalg.inv(truth.intrinsics.K_rectified).T
    depth, hit = truth.terrain.intersect(truth.cameras.centers[frame], (rays[:, None] @ truth.cameras.R[frame])[:, 0])
    ratio = np.log(depth[hit] / in_camera[hit, 2])
    scale = _median(ratio)
    noise = _spread(ratio - scale)
    return scale, noise, _mean(np.abs(ratio - scale) > OUTLIER * noise + TINY)


@dataclass(frozen=True)
class _Posed:
    """Bodies in each frame's camera: joints (N, T, 24, 3), keypoints (N, T, 23, 3) m, rotations (N, T, 24, 3, 3)."""

    joints: FloatArray
    keypoints: FloatArray
    rotations: FloatArray

    @staticmethod
    def of(motion: BodyMotion, cameras: Cameras, body: BodyModel) -> _Posed:
        parts = (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
        posed = body.pose(*(torch.as_tensor(part, dtype=body.v_template.dtype) for part in parts))
        R, t = cameras.R.swapaxes(-1, -2), cameras.t[:, None]
        joints, points = (a.double().numpy() @ R + t for a in (posed.joints, posed_keypoints(body, posed)))
        return _Posed(joints, points, cameras.R[:, None] @ posed.transforms[..., :3].double().numpy())


def _fitted(window: CrowdWindow, pairs: _Pairs, truth: Truth, body: BodyModel) -> _Posed:
    """The window's bodies, (N, T, …) as the truth's."""
    posed = _Posed.of(window.motion, window.cameras, body)
    return _Posed(pairs.of(posed.joints), pairs.of(posed.keypoints), pairs.of(posed.rotations))


def _root(
    exact: _Posed, fitted: _Posed, pairs: _Pairs, window: CrowdWindow, truth: Truth, body: BodyModel
) -> dict[str, float]:
    known = pairs.known
    true, found = exact.joints[..., 0, :], fitted.joints[..., 0, :]
    ranges = (np.linalg.norm(a, axis=-1) for a in (found, true))
    log_depth = np.log(np.where(known, next(ranges), 1.0)) - np.log(np.where(known, next(ranges), 1.0))
    person, enough = _person_medians(log_depth, known)
    within = np.where(known, log_depth - person[:, None], 0.0)
    common = _median(person[enough])
    stature = _log_stature(pairs, window, truth, body)
    both = enough & np.isfinite(stature)
    K = truth.intrinsics.K_rectified
    ahead = known & (found[..., 2] > 0) & (true[..., 2] > 0)
    pixels = [p[..., :2] / np.where(ahead, p[..., 2], 1.0)[..., None] * K[[0, 1], [0, 1]] for p in (found, true)]
    lateral = np.where(ahead[..., None], pixels[0] - pixels[1], 0.0)
    horizontal = np.linalg.norm((found - true) - _along_gravity(found - true, truth), axis=-1)
    return {
        "depth_common_log": common,
        "depth_person_log": _spread(person[enough] - common),
        "depth_within_log": _spread(within[known]),
        "depth_time_s": _correlation_time(_standard(within[..., None], known), known, truth.fps),
        "depth_per_stature": _line(stature[both], person[both])[0],
        "lateral_px": _spread(lateral[ahead]),
        "lateral_time_s": _correlation_time(_standard(lateral, ahead), ahead, truth.fps),
        "root_m": _mean(horizontal[known]),
        "root_accel_error_m_s2": _acceleration((found - true)[:, :, None], known, truth.fps),
    }


def _along_gravity(vectors: FloatArray, truth: Truth) -> FloatArray:
    """The vertical parts of vectors (N, T, 3), camera axes."""
    up = truth.cameras.R @ np.array([0.0, 1.0, 0.0])
    return np.asarray((vectors * up).sum(-1, keepdims=True) * up)


def _pose(exact: _Posed, fitted: _Posed, pairs: _Pairs, truth: Truth) -> dict[str, float]:
    known = pairs.known
    turn = fitted.rotations @ exact.rotations.swapaxes(-1, -2)
    stance = _rotation_vectors(turn[:, :, 0], known)
    flipped = known & (np.linalg.norm(stance, axis=-1) > FLIPPED)
    usable = known & ~flipped
    ray = exact.joints[..., :1, :] / np.linalg.norm(exact.joints[..., :1, :], axis=-1, keepdims=True)
    # two axes across the ray: any pair will do for a spread
    first = np.cross(ray, [0.0, 1.0, 0.0])
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    # each part against the pelvis
    vectors = _rotation_vectors(turn @ turn[:, :, :1].swapaxes(-1, -2), usable)
    along = (vectors * ray).sum(-1)
    across = np.stack([(vectors * first).sum(-1), (vectors * np.cross(ray, first)).sum(-1)], -1)
    parts = {f"{part}_deg": _spread(across[usable][:, list(joints)]) for part, joints in PARTS.items()}
    rows = [joint for joints in PARTS.values() for joint in joints]
    bias_share, time = _bias(across[:, :, rows].reshape(*known.shape, -1), usable, truth.fps)
    local = exact.rotations[:, :, list(PARENTS)].swapaxes(-1, -2) @ exact.rotations[:, :, 1:]
    found = fitted.rotations[:, :, list(PARENTS)].swapaxes(-1, -2) @ fitted.rotations[:, :, 1:]
    angles = Rotation.from_matrix((found.swapaxes(-1, -2) @ local)[usable].reshape(-1, 3, 3)).magnitude()
    relative = [p.joints - p.joints[..., :1, :] for p in (fitted, exact)]
    distance = np.linalg.norm(relative[0] - relative[1], axis=-1)
    height = truth.boxes[..., 3]
    by_height = {}
    for low, high in pairwise(HEIGHTS):
        bin_ = usable & (height >= low) & (height < high)
        by_height[f"orient_height_{_bin(low, high)}_deg"] = _median(np.linalg.norm(stance, axis=-1)[bin_])
        by_height[f"shins_height_{_bin(low, high)}_deg"] = _spread(across[bin_][:, list(PARTS["shins"])])
        by_height[f"mpjpe_height_{_bin(low, high)}_mm"] = MILLI * _mean(distance[bin_])
    return {
        **parts,
        **by_height,
        "pose_along_ray": _ratio(_spread(along[usable][:, rows]), _spread(across[usable][:, rows])),
        "pose_bias_share": bias_share,
        "pose_time_s": time,
        **_stance(stance, ray[:, :, 0], usable, truth),
        "orient_deg": _median(np.linalg.norm(stance, axis=-1)[usable]),
        "joint_angle_deg": float(np.degrees(_mean(angles))),
        "flipped": _mean(flipped[known]),
        "mpjpe_mm": MILLI * _mean(distance[known]),
        "pa_mpjpe_mm": MILLI * _mean(_procrustes_distance(relative[0][known], relative[1][known])),
        "joint_accel_error_m_s2": _acceleration(relative[0] - relative[1], usable, truth.fps),
    }


def _stance(stance: FloatArray, ray: FloatArray, usable: BoolArray, truth: Truth) -> dict[str, float]:
    """Whole bodies' turns (N, T, 3), degrees, camera axes: leaning away from the camera, tilting, facing elsewhere."""
    up = (truth.cameras.R @ np.array([0.0, 1.0, 0.0]))[None]
    away = ray - (ray * up).sum(-1, keepdims=True) * up
    away = away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), TINY)
    below = np.degrees(np.arcsin(np.clip(-(ray * up).sum(-1), -1, 1)))
    lean, sideways = (stance * np.cross(up, away)).sum(-1), (stance * away).sum(-1)
    turn = (stance * up).sum(-1)
    from_above = usable & (below > SEEN_FROM_ABOVE)
    common = _median(lean[from_above])
    residual = np.stack([np.where(usable, lean - common, 0.0), sideways], -1)
    bias_share, time = _bias(turn[..., None], usable, truth.fps)
    return {
        "lean_deg": common,
        "tilt_deg": _spread(residual[from_above]),
        "turn_deg": _spread(turn[usable]),
        "turn_bias_share": bias_share,
        "turn_time_s": time,
    }


def _bias(values: FloatArray, known: BoolArray, fps: float) -> tuple[float, float]:
    """Share of the variance of values (N, T, D) that lasts, and seconds over which the rest is correlated."""
    person, enough = _person_medians(values, known)
    known = known & enough[:, None]
    residual = np.where(known[..., None], values - person[:, None], 0.0)
    bias = _spread(person[enough]) ** 2
    share = _ratio(bias, bias + _spread(residual[known]) ** 2)
    return share, _correlation_time(_standard(residual, known), known, fps)


def _rotation_vectors(turns: FloatArray, known: BoolArray) -> FloatArray:
    """Degrees (N, T, …, 3) of rotations (N, T, …, 3, 3) where known (N, T), else zero."""
    vectors = np.zeros(turns.shape[:-1])
    vectors[known] = Rotation.from_matrix(turns[known].reshape(-1, 3, 3)).as_rotvec().reshape(vectors[known].shape)
    return np.degrees(vectors)


PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""SMPL's, of joints 1 to 23."""


def _shape(pairs: _Pairs, window: CrowdWindow, truth: Truth, body: BodyModel) -> dict[str, float]:
    stature = _log_stature(pairs, window, truth, body)
    seen = np.isfinite(stature)
    track = _main_track(pairs)
    found, true = window.motion.betas[track[seen]], truth.motion.betas[seen]
    slope, residual = _line(true[:, 0], found[:, 0])
    return {
        "stature_bias_log": _median(stature[seen]),
        "stature_sd_log": _spread(stature[seen] - _median(stature[seen])),
        "beta0_slope": slope,
        "beta0_residual": residual,
    }


def _main_track(pairs: _Pairs) -> IntArray:
    """(N,) the track that shows each person most, −1 for none."""
    count = np.zeros((len(pairs.track), int(pairs.track.max(initial=0)) + 1), np.int64)
    person, frame = np.nonzero(pairs.known)
    np.add.at(count, (person, pairs.track[person, frame]), 1)
    return np.where(count.any(-1), count.argmax(-1), -1)


def _log_stature(pairs: _Pairs, window: CrowdWindow, truth: Truth, body: BodyModel) -> FloatArray:
    """(N,) log of the fitted stature against the true one, NaN for who was not seen."""
    track = _main_track(pairs)

    def heights(betas: FloatArray) -> FloatArray:
        return np.asarray(body.height(torch.as_tensor(betas, dtype=body.v_template.dtype)).double().numpy())

    result = np.full(len(track), np.nan)
    seen = track >= 0
    result[seen] = np.log(heights(window.motion.betas[track[seen]]) / heights(truth.motion.betas[seen]))
    return result


def _procrustes_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """(B, J) between points (B, J, 3) after the best similarity of each set (Umeyama)."""
    if not len(a):
        return np.zeros((0, a.shape[1]))
    a, b = (p - p.mean(-2, keepdims=True) for p in (a, b))
    u, s, vt = np.linalg.svd(a.swapaxes(-1, -2) @ b)
    sign = np.ones(s.shape)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (s * sign).sum(-1) / (a**2).sum((-1, -2))
    aligned = scale[:, None, None] * (a @ (u * sign[:, None]) @ vt)
    return np.asarray(np.linalg.norm(aligned - b, axis=-1))


def _acceleration(error: FloatArray, known: BoolArray, fps: float) -> float:
    """Mean length of the second difference of errors (N, T, J, 3), m/s²."""
    three = known[:, 2:] & known[:, 1:-1] & known[:, :-2]
    second = (error[:, 2:] - 2 * error[:, 1:-1] + error[:, :-2])[three]
    return _mean(np.linalg.norm(second, axis=-1)) * fps**2


def _person_medians(values: FloatArray, known: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Medians over time (N, …) of values (N, T, …), zero for those with fewer than MIN_SAMPLES, and who has enough."""
    enough = known.sum(-1) >= MIN_SAMPLES
    medians = np.zeros((len(values), *values.shape[2:]))
    for person in np.flatnonzero(enough):
        medians[person] = np.median(values[person, known[person]], axis=0)
    return medians, enough


def _standard(values: FloatArray, known: BoolArray) -> FloatArray:
    """Values in robust sigmas, outliers clipped, zero where unknown."""
    sigma = _spread(values[known])
    if not sigma > TINY:
        return np.zeros_like(values)
    mask = known.reshape(*known.shape, *[1] * (values.ndim - known.ndim))
    return np.where(mask, np.clip(values / sigma, -OUTLIER, OUTLIER), 0.0)


def _correlation(values: FloatArray, known: BoolArray, lag: int) -> float:
    """Of values (N, T, …, D) and themselves ``lag`` frames later, where both are known (N, T, …)."""
    if lag >= values.shape[1]:
        return np.nan
    both = known[:, lag:] & known[:, :-lag]
    if both.sum() < MIN_SAMPLES:
        return np.nan
    a, b = values[:, lag:][both], values[:, :-lag][both]
    power = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / power) if power > 0 else np.nan


def _correlation_time(values: FloatArray, known: BoolArray, fps: float) -> float:
    """Seconds until the correlation has fallen to 1/e; the longest looked at if it does not fall that far."""
    before = 1.0
    for lag in range(1, min(int(LONGEST * fps), values.shape[1] - 1) + 1):
        now = _correlation(values, known, lag)
        if not now >= E:
            return np.nan if np.isnan(now) and lag == 1 else (lag - 1 + (before - E) / (before - now)) / fps
        before = now
    return LONGEST


def _run_length(flags: BoolArray) -> float:
    """Mean length of runs along the second axis, frames; NaN without any."""
    starts = flags.copy()
    starts[:, 1:] &= ~flags[:, :-1]
    return float(flags.sum() / starts.sum()) if starts.any() else np.nan


def _spread(values: FloatArray) -> float:
    values = np.asarray(values)
    return ROBUST * float(np.median(np.abs(values))) if values.size >= MIN_SAMPLES else np.nan


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope of the least-squares line through points x, y (B,), and the spread of y about it."""
    if len(x) < MIN_SAMPLES or np.ptp(x) == 0:
        return np.nan, np.nan
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(np.std(y - slope * x - offset))


def _ratio(a: float, b: float) -> float:
    return a / b if b > TINY**2 else np.nan


def _median(values: FloatArray, axis: int | None = None) -> float:
    values = np.asarray(values)
    return np.median(values, axis=axis) if len(values) else np.nan  # type: ignore[return-value]


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else np.nan


def _angle(a: FloatArray, b: FloatArray) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _named(*endings: str) -> BoolArray:
    """(23,) keypoints whose names end so."""
    return np.array([name.endswith(endings) for name in KEYPOINTS])


def _bin(low: float, high: float) -> str:
    return f"{low:g}_{high:g}"
