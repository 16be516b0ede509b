"""An answer against the truth: who was found, how well, where not, in one of the profiles of ``metrics``.

Nothing is aligned but by the metrics that say so. Recall, PPDS, PA-PPDS, PCOD, the joint errors, ACCEL, foot skate,
seam jump, scale error and identities do not depend on where each side has its world: layouts are compared by distances,
joints in camera axes, each side in its own, and by the standard profile's W- and WA-MPJPE after their similarity.
``root_error`` and ``depth_error`` are of pelvises in camera axes, unaligned: what gravity and yaw are does not matter.
``world_error``, ``penetration`` and ``floating`` compare world coordinates: both worlds begin at their first camera's
centre, gravity down, and any error of gravity, yaw or scale counts. ``feet_terrain`` lays the answer's first camera
over the true one, so that of these scale alone counts, and ``feet_terrain_resized`` takes that away, too.

Where the public descriptions of the profiles leave room:

- The 14 joints of author_native are H36M's ankles, knees, hips, wrists, elbows, shoulders, neck and head. The H36M
  regressor needs SMPL's own mesh, so these are SMPL's joints of these names, the pelvis the middle of the hips, where
  H36M has it. Their head is the skull's base, some 15 cm below the regressor's top of the head.
- PCOD compares torsos on both sides; the published evaluator the answer's with the truth's points on the ground.
- A frame with fewer than two people has no layout and is left out; the published evaluator gives it 0.
- A torso is the mean of both shoulders and both hips, of SMPL's joints.
- Who is there to be found: everybody of whom something lies in the image, and who is not hidden all the time. An
  answer that has the others nevertheless, or anybody outside the image, is neither rewarded nor blamed for them.
- Tracks. By ``ids``, equal track ids are the same person. ``detected``: author_native matches frames by OKS, and a
  predicted track belongs, from its first to its last match, to whom it matched most often; standard matches frames
  one to one, and a person's track is whatever it was matched with.
- author_native counts misses in WA- and W-MPJPE over the frames in which people are there. The published evaluator
  counts people who left the image, too; on scenes that nobody leaves it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowd4d_ros.evaluation import metrics
from crowd4d_ros.evaluation.comparison import (
    DEFAULTS,
    FEET,
    TORSO,
    TRACKINGS,
    Comparison,
    EvaluationConfig,
    EvaluationError,
    Tracking,
    paired,
)
from crowd4d_ros.evaluation.crowds import Crowd, GroundTruth
from crowd4d_ros.evaluation.ground import laid_over, off_terrain, resized
from crowd4d_ros.evaluation.identity import identities
from crowd4d_ros.evaluation.matching import iou
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.evaluation.metrics import PROFILES, Profile
from crowd4d_ros.evaluation.tracks import over_time
from crowd4d_ros.gaps import surrounding
from crowd4d_ros.window import FloatArray


@dataclass(frozen=True)
class Evaluation:
    """values: name → the metric over everything, ``MEANING`` says what; NaN where undefined.

    frames: name → (T,) by frame; people: name → (N,) by true person, with track_id; samples: name → (S,) by person and
    frame that was there to be found, found or not.
    """

    profile: Profile
    tracking: Tracking
    prediction: str
    data: str
    num_frames: int
    num_people: int
    values: dict[str, float]
    frames: dict[str, FloatArray]
    people: dict[str, FloatArray]
    samples: dict[str, FloatArray]


def evaluate(
    pred: Crowd,
    truth: GroundTruth,
    profile: Profile = "author_native",
    tracking: Tracking = "detected",
    config: EvaluationConfig = DEFAULTS,
) -> Evaluation:
    """Everything that can be said of ``pred``. Raises EvaluationError."""
    if profile not in PROFILES or tracking not in TRACKINGS:
        raise EvaluationError(
            f"profile is one of {PROFILES} and tracking of {TRACKINGS}, not {profile!r}, {tracking!r}"
        )
    pred, truth = paired(pred, truth, profile, config)
    compared = Comparison(pred, truth, profile, tracking, config)
    frames, people, samples = _frames(compared), _people(compared), _samples(compared)
    return Evaluation(
        profile,
        tracking,
        pred.name,
        truth.crowd.name,
        pred.num_frames,
        int(compared.there.any(1).sum()),
        _total(compared, frames, people),
        frames,
        people,
        samples,
    )


def _frames(compared: Comparison) -> dict[str, FloatArray]:
    """Rows of frames (T,)."""
    rows: dict[str, list[float]] = {}
    torso, true_torso = (joints[..., list(TORSO), :].mean(-2) for joints in (compared.joints, compared.true_joints))
    seen_from, true_seen_from = (
        joints[..., list(TORSO), :].mean(-2) for joints in (compared.in_camera, compared.true_in_camera)
    )
    hidden = compared.truth.visibility < compared.config.occluded
    profile = compared.profile
    for t in range(compared.gt.num_frames):
        who = np.flatnonzero(compared.there[:, t])
        occluded = np.flatnonzero(compared.there[:, t] & hidden[:, t])
        layout, pose = (torso[who, t], true_torso[who, t]), (compared.pose[who, t], compared.true_pose[who, t])
        behind = (compared.pose[occluded, t], compared.true_pose[occluded, t])
        found = who[compared.found[who, t]]
        row = {
            "recall": compared.found[who, t].mean() if len(who) else np.nan,
            "false_positives": len(np.setdiff1d(np.flatnonzero(compared.counted[:, t]), compared.match[:, t])),
            "ppds": metrics.ppds(*layout, profile=profile),
            "pa_ppds": metrics.pa_ppds(*layout, profile=profile),
            "pcod": metrics.pcod(seen_from[who, t], true_seen_from[who, t], profile=profile),
            "mpjpe": metrics.mpjpe(*pose, profile=profile, pelvis=None),
            "pa_mpjpe": metrics.pa_mpjpe(*pose, profile=profile),
            "occluded_recall": compared.found[occluded, t].mean() if len(occluded) else np.nan,
            "occluded_mpjpe": metrics.mpjpe(*behind, profile=profile, pelvis=None),
            "occluded_pa_mpjpe": metrics.pa_mpjpe(*behind, profile=profile),
            "ppds_found": metrics.ppds(torso[found, t], true_torso[found, t], profile=profile),
            "pa_ppds_found": metrics.pa_ppds(torso[found, t], true_torso[found, t], profile=profile),
            "pcod_found": metrics.pcod(seen_from[found, t], true_seen_from[found, t], profile=profile),
            "mpjpe_found": metrics.mpjpe(
                compared.pose[found, t], compared.true_pose[found, t], profile=profile, pelvis=None
            ),
            "scale_error": metrics.scale_error(*layout),
        }
        if len(who) < 2:
            row |= dict.fromkeys(("ppds", "pa_ppds", "pcod"), np.nan)
        if len(found) < 2:
            row |= dict.fromkeys(("ppds_found", "pa_ppds_found", "pcod_found"), np.nan)
        for name, number in row.items():
            rows.setdefault(name, []).append(float(number))
    return {name: np.array(numbers) for name, numbers in rows.items()}


def _samples(compared: Comparison) -> dict[str, FloatArray]:
    """Rows of true people in frames where they are there (S,)."""
    person, frame = np.nonzero(compared.there)
    root, true_root = compared.joints[person, frame, 0], compared.true_joints[person, frame, 0]
    offset = (compared.in_camera - compared.true_in_camera)[person, frame, 0]
    distance = compared.true_in_camera[person, frame, 0, 2]
    error = np.linalg.norm(compared.pose - compared.true_pose, axis=-1).mean(-1)[person, frame]
    return {
        "track_id": compared.gt.track_ids[person].astype(float),
        "frame": frame.astype(float),
        "found": compared.found[person, frame].astype(float),
        "visibility": compared.truth.visibility[person, frame],
        "x": true_root[:, 0],
        "z": true_root[:, 2],
        "distance": distance,
        "pred_x": root[:, 0],
        "pred_z": root[:, 2],
        "mpjpe": 1000.0 * error,
        "root_error": np.linalg.norm(offset, axis=-1),
        "depth_error": offset[:, 2] / distance,
    }


def _people(compared: Comparison) -> dict[str, FloatArray]:
    """Rows of true people who are there at all."""
    who = np.flatnonzero(compared.there.any(1))
    pose_error = 1000.0 * np.linalg.norm(compared.pose - compared.true_pose, axis=-1).mean(-1)
    offset = compared.in_camera[:, :, 0] - compared.true_in_camera[:, :, 0]
    world_offset = compared.joints[:, :, 0] - compared.true_joints[:, :, 0]
    depth = compared.true_in_camera[:, :, 0, 2]
    rows: dict[str, FloatArray] = {
        "track_id": compared.gt.track_ids[who].astype(float),
        "frames": compared.there[who].sum(1).astype(float),
        "recall": compared.found[who].sum(1) / compared.there[who].sum(1),
        "visibility": _mean_over(np.where(compared.there, compared.truth.visibility, np.nan)[who]),
        "distance": _mean_over(depth[who]),
        "mpjpe": _mean_over(pose_error[who]),
        "root_error": _mean_over(np.linalg.norm(offset[who], axis=-1)),
        "depth_error": _mean_over((offset[..., 2] / depth)[who]),
        "world_error": _mean_over(np.linalg.norm(world_offset[who], axis=-1)),
    }
    feet, true_feet = compared.joints[:, :, list(FEET)], np.nan_to_num(compared.true_joints[:, :, list(FEET)])
    rows["foot_skate"] = np.array(
        [metrics.foot_skate(feet[n, t], true_feet[n, t], fps=compared.fps) for n in who for t in [compared.track(n)]]
    )
    config = compared.config
    rows["failed"] = (
        ~(rows["recall"] >= config.lost_share)
        | ~(rows["mpjpe"] <= config.lost_joints)
        | ~(rows["root_error"] <= config.lost_root)
    ).astype(float)
    return rows


def _total(compared: Comparison, frames: dict[str, FloatArray], people: dict[str, FloatArray]) -> dict[str, float]:
    """The whole: unweighted means of the frames' rows, and what does not come from single frames."""
    values = {name: _mean(rows) for name, rows in frames.items()}
    values |= over_time(compared)
    values |= {name: _mean(people[name]) for name in ("root_error", "depth_error", "world_error", "foot_skate")}
    values["failed_people"] = _mean(people["failed"])
    values |= _hidden(compared) | _on_ground(compared) | _feet(compared) | _seams(compared) | _identities(compared)
    return {name: values[name] for name in MEANING}


def _on_ground(compared: Comparison) -> dict[str, float]:
    terrain = compared.truth.terrain
    if terrain is None:
        return {"penetration": np.nan, "floating": np.nan}
    lowest = compared.of(compared.pred.lowest)[compared.found]
    ground, _ = terrain.height(lowest[:, [0, 2]])
    return {
        "penetration": metrics.penetration(lowest[:, 1], ground),
        "floating": metrics.floating(lowest[:, 1], ground),
    }


def _hidden(compared: Comparison) -> dict[str, float]:
    """Means over the person-frames that are found although little of them is seen, or nothing."""
    hidden = compared.hidden
    pose_error = np.linalg.norm(compared.pose - compared.true_pose, axis=-1).mean(-1)[hidden]
    offset = compared.in_camera[:, :, 0] - compared.true_in_camera[:, :, 0]
    found = int(compared.found.sum())
    return {
        "hidden_share": hidden.sum() / found if found else np.nan,
        "hidden_mpjpe": 1000.0 * _mean(pose_error),
        "hidden_root_error": _mean(np.linalg.norm(offset[hidden], axis=-1)),
        "bridged_drift": _mean(_drift(compared, offset)),
    }


def _drift(compared: Comparison, offset: FloatArray) -> FloatArray:
    """(B,) metres, of those bridged: how far a root is off, less what it is off where the gap begins and ends.

    offset: (N, T, 3) of found roots. Whose distance is wrong has it wrong before and after the gap, too, which tells
    nothing of how it was bridged. Both ends must be of the same track.
    """
    observed = compared.observed
    before, after, share = surrounding(observed, np.arange(compared.gt.num_frames, dtype=float))
    first, last = (np.take_along_axis(compared.match, at, 1) for at in (before, after))
    inside = compared.found & ~observed & (share > 0) & (compared.match == first) & (compared.match == last)
    begin, end = (np.take_along_axis(offset, at[..., None], 1) for at in (before, after))
    drift = offset - begin - share[..., None] * (end - begin)
    return np.asarray(np.linalg.norm(drift[inside], axis=-1))


def _feet(compared: Comparison) -> dict[str, float]:
    """How far the lowest vertices of those found are from the true terrain, vertically, and from the own surface.

    The answer's world is laid over the true one by the first camera's pose: an error of gravity is none of the feet's.
    ``feet_terrain_resized``: after the size of all is made right about that camera, neither is one of scale.
    """
    found, terrain = compared.found, compared.truth.terrain
    lowest, true_lowest = compared.of(compared.pred.lowest)[found], compared.gt.lowest[found]
    own = np.abs(compared.of(compared.pred.clearance)[found])
    cameras = compared.pred.cameras, compared.gt.cameras
    true, of_true_size = np.full((2, len(lowest)), np.nan)
    if terrain is not None:
        true = off_terrain(laid_over(lowest, *cameras), terrain)
        of_true_size = off_terrain(laid_over(resized(lowest, true_lowest, *cameras), *cameras), terrain)
    return {
        "feet_terrain": _median(true),
        "feet_terrain_mean": _mean(true),
        "feet_terrain_resized": _median(of_true_size),
        "feet_surface": _median(own),
        "feet_surface_mean": _mean(own),
    }


def _seams(compared: Comparison) -> dict[str, float]:
    root = compared.pred.joints[:, :, 0]
    border = compared.pred.is_border
    return {
        "seam_jump": metrics.seam_jump(root, border),
        "seam_jump_elsewhere": metrics.seam_jump(root, ~border) if border.any() else np.nan,
    }


def _identities(compared: Comparison) -> dict[str, float]:
    pred, gt = compared.pred, compared.gt
    people = [
        (np.flatnonzero(compared.counted[:, t]), np.flatnonzero(compared.there[:, t])) for t in range(gt.num_frames)
    ]
    result = identities(
        [pred.track_ids[mine] for mine, _ in people],
        [gt.track_ids[theirs] for _, theirs in people],
        [iou(pred.boxes[mine, t], gt.boxes[theirs, t]) for t, (mine, theirs) in enumerate(people)],
    )
    return {"idf1": result.idf1, "mota": result.mota, "hota": result.hota, "id_switches": float(result.switches)}


def _mean_over(rows: FloatArray) -> FloatArray:
    """(N,) means of rows (N, T) over what is known, NaN where nothing is."""
    known = ~np.isnan(rows)
    total = np.where(known, rows, 0.0).sum(1)
    return np.asarray(np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan))


def _median(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
