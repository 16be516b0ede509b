"""Synthetic observations: exact without errors, and each error where its knob says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros.body.keypoints import MIRROR, keypoints
from crowd4d_ros.config import ConfigError, MotionConfig
from crowd4d_ros.initialization.lifting import towards_ray
from crowd4d_ros.interaction.scale import scaled
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.noise import biased_noise, happens, smooth_noise
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.tracks import form_tracks
from crowd4d_ros.synthetic.truth import Structures, Truth
from crowd4d_ros.window import CrowdWindow, FloatArray

DEFAULT = ObservationConfig()
EXACT = DEFAULT.scaled(0)
SLOPE = (0.1, -0.05)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return flat_truth(8, 40, seed=1)


@pytest.fixture(scope="module")
def moving() -> Truth:
    return flat_truth(8, 40, seed=1, slope=SLOPE, camera_velocity=(1.5, 0.3, -0.5))


def seen(truth: Truth, config: ObservationConfig, seed: int = 0) -> CrowdWindow:
    return observe(truth, exact_body(), config, np.random.default_rng(seed))


def arrays(window: CrowdWindow) -> dict[str, FloatArray]:
    """Every array of a window that an error can be in."""
    names = [f.name for f in fields(window) if isinstance(getattr(window, f.name), np.ndarray)]
    parts = {"cameras": window.cameras, "scene": window.scene, "motion": window.motion}
    found = {name: getattr(window, name) for name in names}
    for group, part in parts.items():
        found |= {
            f"{group}.{f.name}": getattr(part, f.name)
            for f in fields(part)
            if isinstance(getattr(part, f.name), np.ndarray)
        }
    return found


def projected(window: CrowdWindow) -> FloatArray:
    """(N, T, 23, 2) pixels of the motions' keypoints."""
    m = window.motion
    points = keypoints(
        exact_body(), *(torch.as_tensor(a) for a in (m.betas[:, None], m.body_pose, m.global_orient, m.transl))
    ).numpy()
    in_camera = points @ window.cameras.R.swapaxes(-1, -2) + window.cameras.t[:, None]
    image = in_camera @ window.intrinsics.K_rectified.T
    return image[..., :2] / image[..., 2:]


@pytest.mark.parametrize("place", ["truth", "moving"])
def test_without_errors_everything_is_as_it_is(place: str, request: pytest.FixtureRequest) -> None:
    exact: Truth = request.getfixturevalue(place)
    window = seen(exact, EXACT)
    where = window.observed
    assert np.array_equal(where, exact.visibility > 0)
    assert np.allclose(window.boxes[where], exact.boxes[where])
    assert np.allclose(window.keypoints_2d[where], exact.keypoints_2d[where])
    assert np.array_equal(window.keypoints_confidence[where], exact.keypoints_visible[where])
    for name in ("body_pose", "global_orient", "transl"):
        found, true = getattr(window.motion, name), getattr(exact.motion, name)
        assert np.allclose(found[window.observed], true[window.observed], atol=1e-9), name
    assert np.allclose(window.motion.betas, exact.motion.betas)
    assert np.allclose(window.cameras.R, exact.cameras.R)
    assert np.allclose(window.cameras.t, exact.cameras.t)
    assert window.scale_source == "odometry"
    height, _ = exact.terrain.height(window.scene.points[:, [0, 2]])
    assert np.allclose(window.scene.points[:, 1], height, atol=1e-9)
    assert (window.scene.confidence == 1).all()


def test_bodies_project_onto_their_keypoints_however_the_world_is_estimated(moving: Truth) -> None:
    # tilt, focal length, drift and scale change the world, not what the pictures show of it
    config = replace(EXACT, gravity=3.0, camera_turn=1.0, camera_drift=0.05, scale_range=1.0)
    window = scaled(seen(moving, config), hidden_scale(moving, config))
    assert np.allclose(projected(window)[window.observed], moving.keypoints_2d[window.observed], atol=1e-6)


def test_a_wrong_focal_length_makes_everything_deeper(truth: Truth) -> None:
    window = seen(truth, replace(EXACT, focal=0.2))
    ratio = window.intrinsics.K_rectified[0, 0] / truth.intrinsics.K_rectified[0, 0]
    assert abs(np.log(ratio)) > 0.01
    pelvis = exact_body().pelvis(torch.as_tensor(window.motion.betas)).numpy()[:, None] + window.motion.transl
    depth, true = pelvis @ window.cameras.R[0, 2], truth.joints[:, :, 0] @ truth.cameras.R[0, 2]
    assert np.allclose((depth / true)[window.observed], ratio)
    points = window.scene.points @ window.cameras.R[0].T / [1, 1, ratio] @ truth.cameras.R[0]
    assert np.allclose(points[:, 1], truth.terrain.height(points[:, [0, 2]])[0])


def hidden_scale(truth: Truth, config: ObservationConfig) -> float:
    """Metres per unit, from the camera's way or, where it stays, from the scene's points."""
    window, metric = seen(truth, config), seen(truth, replace(config, scale_range=0.0))
    return float(
        np.linalg.norm(metric.scene.points, axis=-1).sum() / np.linalg.norm(window.scene.points, axis=-1).sum()
    )


def test_an_unknown_scale_shrinks_scene_and_cameras_and_keeps_bodies_where_they_are_seen(moving: Truth) -> None:
    config = replace(EXACT, scale_range=1.0)
    window = seen(moving, config)
    scale = hidden_scale(moving, config)
    assert window.scale_source == "model"
    assert abs(np.log(scale)) > 0.05
    metric = scaled(window, scale)
    height, _ = moving.terrain.height(metric.scene.points[:, [0, 2]])
    assert np.allclose(metric.scene.points[:, 1], height, atol=1e-6)
    assert np.allclose(metric.cameras.centers, moving.cameras.centers, atol=1e-6)
    assert np.allclose(metric.motion.transl[window.observed], moving.motion.transl[window.observed], atol=1e-6)


def test_landmarks_are_read_from_a_crop_that_is_looked_at_straight(truth: Truth) -> None:
    window = seen(truth, EXACT)
    m = truth.motion
    points = keypoints(
        exact_body(), *(torch.as_tensor(a) for a in (m.betas[:, None], m.body_pose, m.global_orient, m.transl))
    ).numpy()
    in_camera = points @ truth.cameras.R.swapaxes(-1, -2)
    relative = in_camera - in_camera[..., 11:13, :].mean(-2, keepdims=True)
    turn = towards_ray(window.boxes[..., :2] + window.boxes[..., 2:] / 2, truth.intrinsics.K_rectified)
    back = window.landmarks_3d @ turn.swapaxes(-1, -2)
    assert np.allclose(back[window.observed], relative[window.observed])


def test_the_same_seed_gives_the_same_bytes(moving: Truth) -> None:
    first, again, other = (arrays(seen(moving, DEFAULT, seed)) for seed in (3, 3, 4))
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert first["keypoints_2d"].tobytes() != other["keypoints_2d"].tobytes()


MOVES = {
    "keypoint_noise": {"keypoints_2d"},
    "keypoint_pixels": {"keypoints_2d"},
    "keypoint_outlier": set(),  # an outlier of size 0, until it has a size
    "doubt": {"keypoints_confidence"},
    "box_noise": {"boxes", "landmarks_3d"},  # whose axes are the box's ray
    "box_doubt": {"box_confidence"},
    "landmark_noise": {"landmarks_3d"},
    "landmark_shin": {"landmarks_3d"},
    "depth_person": {"motion.transl"},
    "lateral": {"motion.transl"},
    "betas_noise": {"motion.betas", "motion.transl"},  # a wrong stature is wrong depth, and moves the pelvis
    "segment_errors": {"motion.body_pose", "landmarks_3d"},
    "body_turn": {"motion.global_orient", "landmarks_3d"},
    "keypoint_legs": {"keypoints_2d"},
    "point_noise": {"scene.points"},
    "point_distortion": {"scene.points"},
    "point_doubt": {"scene.confidence"},
    "gravity": {
        "gravity", "gravity_covariance", "cameras.R", "scene.points", "motion.transl", "motion.global_orient",
    },
    "scale_range": {"scene.points"},
}  # fmt: skip


@pytest.mark.parametrize("knob", MOVES)
def test_a_knob_moves_what_it_names_and_nothing_else(truth: Truth, knob: str) -> None:
    config = replace(EXACT, **{knob: getattr(DEFAULT, knob)})
    before, after = arrays(seen(truth, EXACT)), arrays(seen(truth, config))
    moved = {
        name for name in before if before[name].shape != after[name].shape or not np.allclose(before[name], after[name])
    }
    assert moved == MOVES[knob]


def test_points_end_where_structures_stand_and_people_leave_theirs(truth: Truth) -> None:
    column = np.array([[0.0, -5.0, -15.0]])
    none = np.zeros((0, 3))
    structures = Structures(none, none, np.zeros(0), column, np.array([0.5]), np.array([4.0]))
    points = seen(replace(truth, structures=structures), EXACT).scene.points
    above = points[:, 1] > -4.9
    assert above.sum() > 20
    assert (np.linalg.norm(points[above][:, [0, 2]] - column[:, [0, 2]], axis=-1) < 0.51).all()

    own = seen(truth, replace(EXACT, own_points=1.0)).scene
    without = seen(truth, EXACT).scene
    assert 50 < len(own.points) - len(without.points) < 0.2 * len(own.points)
    raised = own.points[own.points[:, 1] > -4.7]
    people = truth.joints[:, own.keyframe[own.points[:, 1] > -4.7]][:, :, 0].swapaxes(0, 1)
    nearest = np.linalg.norm((people - raised[:, None])[..., [0, 2]], axis=-1).min(-1)
    assert (nearest < 1.0).all()


def test_surfaces_sample_as_often_as_keyframes_say(truth: Truth) -> None:
    window = seen(truth, replace(EXACT, keyframe_interval=1.0))
    assert np.unique(window.scene.keyframe).tolist() == [0, 10, 20, 30]


def test_exchanged_sides_look_the_same_and_face_the_other_way(truth: Truth) -> None:
    window = seen(truth, replace(EXACT, exchange=1.0))
    where = window.observed
    assert np.allclose(window.keypoints_2d[where], truth.keypoints_2d[:, :, MIRROR][where])
    # the mirrored body is exact where perspective is weak: 20 cm of depth at 15 m
    off = np.linalg.norm(projected(window) - truth.keypoints_2d[:, :, MIRROR], axis=-1)[where]
    assert np.median(off) < 2.0


def test_small_and_hidden_people_are_missed_in_runs() -> None:
    far = flat_truth(30, 60, focal=300.0)
    limits = {"miss_height": 20.0, "miss_height_width": 0.25, "miss_base": 0.0, "miss_bias": 0.0, "miss_time": 0.5}
    config = replace(EXACT, misses=1.0, min_hits=1, **limits)
    window = seen(far, config)
    height = far.boxes[..., 3]
    clear = far.visibility > 0.9
    tiny, tall = clear & (height > 0) & (height < 20), clear & (height > 40)
    matched = np.zeros(far.visibility.shape, bool)
    for track in range(window.num_people):  # keypoints are exact: they tell who it is
        for t in np.flatnonzero(window.observed[track]):
            same = np.abs(far.keypoints_2d[:, t] - window.keypoints_2d[track, t]).max((-1, -2)) < 1e-6
            matched[:, t] |= same
    assert matched[tall].mean() > 0.95
    assert matched[tiny].mean() < 0.5
    flips = (matched[:, 1:] != matched[:, :-1]) & tiny[:, 1:] & tiny[:, :-1]
    assert flips.sum() < 0.5 * 2 * matched[tiny].mean() * (~matched[tiny]).mean() * tiny.sum()


def test_gaps_are_bridged_as_the_initializer_does(truth: Truth) -> None:
    hidden = truth.visibility.copy()
    hidden[0, 10:20] = 0.0  # 1 s
    hidden[1, 5:35] = 0.0  # 3 s, beyond max_gap
    window = seen(replace(truth, visibility=hidden), replace(EXACT, split=1.0))
    first = window.valid[0] & ~window.observed[0]
    assert np.flatnonzero(first).tolist() == list(range(10, 20))
    straight = truth.motion.transl[0, 9] + 0.5 * (truth.motion.transl[0, 20] - truth.motion.transl[0, 9])
    between = 0.5 * (window.motion.transl[0, 14] + window.motion.transl[0, 15])
    assert np.allclose(between, straight)
    assert (window.keypoints_confidence[0, first] == 0).all()
    assert window.num_people == 9  # the second has two tracks
    assert seen(replace(truth, visibility=hidden), EXACT).num_people == 8
    assert DEFAULT.max_gap == MotionConfig().max_gap


def test_people_who_pass_exchange_identities() -> None:
    frames = 21
    boxes = np.zeros((2, frames, 4))
    boxes[..., 2:] = [20.0, 50.0]
    boxes[0, :, 0], boxes[1, :, 0] = np.arange(frames) * 5.0, 100 - np.arange(frames) * 5.0
    all_seen, seconds = np.ones((2, frames), bool), np.arange(frames) / 10
    rng = np.random.default_rng(0)
    always = form_tracks(all_seen, boxes, seconds, replace(EXACT, switch=1.0), rng)
    assert always[:, 0].tolist() == [0, 1]
    assert always[:, -1].tolist() == [1, 0]
    assert (np.abs(np.diff(always[0])) == 1).sum() == 1
    never = form_tracks(all_seen, boxes, seconds, EXACT, rng)
    assert (never == np.arange(2)[:, None]).all()


def test_false_people_come_at_their_rate_and_stand_still(truth: Truth) -> None:
    config = replace(EXACT, false_rate=0.5, false_duration=1.0, min_hits=1)
    windows = [seen(truth, config, seed) for seed in range(20)]
    excess = [(w.observed.sum(0) - (truth.visibility > 0).sum(0)).mean() for w in windows]
    assert np.mean(excess) == pytest.approx(0.5, rel=0.4)
    sign = next(w for w in windows if w.num_people > 8)
    row = sign.num_people - 1
    path = sign.motion.transl[row, sign.observed[row]]
    assert np.ptp(path, axis=0).max() < 1e-6


def test_noise_has_the_variance_and_the_correlation_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    for frames in (0.0, 3.0, 10.0):
        noise = smooth_noise(rng, (400, 200), frames)
        assert noise.std() == pytest.approx(1, abs=0.03)
        assert noise[:, 0].std() == pytest.approx(1, abs=0.1)  # stationary from the first frame on
        if frames:
            lag = int(frames)
            assert np.mean(noise[:, lag:] * noise[:, :-lag]) == pytest.approx(np.exp(-1), abs=0.06)
    biased = biased_noise(rng, (400, 200), 3.0, 0.4)
    assert biased.mean(1).var() == pytest.approx(0.4, abs=0.08)
    events = happens(rng, np.full((400, 200), 0.1), 5.0)
    assert events.mean() == pytest.approx(0.1, abs=0.01)


def test_errors_scale_together() -> None:
    assert DEFAULT.scaled(1) == DEFAULT
    half_more = DEFAULT.scaled(1.5)
    assert half_more.keypoint_noise == pytest.approx(1.5 * DEFAULT.keypoint_noise)
    assert half_more.segment_errors[0] == pytest.approx(1.5 * DEFAULT.segment_errors[0])
    assert half_more.keypoint_time == DEFAULT.keypoint_time
    assert half_more.no_small_toes == 1.0
    assert (half_more.misses, half_more.miss_visibility) == (1.5, DEFAULT.miss_visibility)
    with pytest.raises(ConfigError, match="0 for none"):
        DEFAULT.scaled(-1)


def test_nobody_is_observed_where_nobody_is(truth: Truth) -> None:
    window = seen(replace(truth, visibility=np.zeros_like(truth.visibility)), replace(DEFAULT, false_rate=0.0))
    assert window.num_people == 0
    assert window.motion.transl.shape == (0, 40, 3)
    assert len(window.scene.points) > 1000
