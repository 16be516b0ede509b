"""What is measured is what was put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros.evaluation.observation_errors import observation_errors, observation_statistics, stitched
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdWindow

DEFAULT = ObservationConfig()
EXACT = DEFAULT.scaled(0)
ERRORS = (
    "box_edge_heights", "keypoint_sizes", "exchanged", "landmark_across_m", "gravity_deg", "scene_noise_log",
    "depth_person_log", "depth_within_log", "lateral_px", "orient_deg", "mpjpe_mm", "stature_sd_log",
    "false_per_frame", "switches_per_1000", "camera_turn_deg", "camera_drift", "root_accel_error_m_s2",
)  # fmt: skip


@pytest.fixture(scope="module")
def truth() -> Truth:
    return flat_truth(24, 40, seed=2)


def seen(truth: Truth, seed: int = 0, **knobs: object) -> CrowdWindow:
    return observe(truth, exact_body(), replace(EXACT, **knobs), np.random.default_rng(seed))


def measured(truth: Truth, seed: int = 0, **knobs: object) -> dict[str, float]:
    return observation_errors(seen(truth, seed, **knobs), truth, exact_body())


def test_exact_observations_have_no_errors() -> None:
    moving = flat_truth(8, 30, seed=1, slope=(0.1, -0.05), camera_velocity=(1.5, 0.3, -0.5))
    errors = measured(moving)
    for name in ERRORS:
        assert errors[name] == pytest.approx(0, abs=1e-5), name
    assert errors["confidence_visible"] == 1
    assert errors["scene_scale_log"] == pytest.approx(0, abs=1e-9)


KNOBS: dict[str, tuple[dict[str, object], float]] = {
    "box_edge_heights": ({"box_noise": 0.02}, 0.02),
    "box_cut_share": ({"box_cut": 0.5}, 0.5),
    "keypoint_sizes": ({"keypoint_noise": 0.02, "keypoint_groups": (1.0,) * 8}, 0.02),
    "keypoint_height_90_180_px": ({"keypoint_pixels": 1.5, "keypoint_groups": (1.0,) * 8}, 1.5),
    "keypoint_legs": ({"keypoint_legs": -0.1}, -0.1),
    "keypoint_hidden_sizes": ({"keypoint_hidden": 0.15, "hidden_confidence": 0.3}, 0.15),
    "exchanged": ({"exchange": 0.1}, 0.1),
    "landmark_across_m": ({"landmark_noise": 0.03}, 0.03),
    "landmark_depth_m": ({"landmark_depth": 0.06}, 0.06),
    "landmark_shin": ({"landmark_shin": -0.09}, -0.09),
    "miss_height_45_90": (
        {"misses": 1.0, "miss_base": 0.1, "miss_bias": 0.0, "miss_visibility": 0.0, "miss_height": 0.0},
        0.1,
    ),
    "depth_person_log": ({"depth_person": 0.03}, 0.03),
    "depth_within_log": ({"depth_slow": 0.02, "depth_time": 0.2}, 0.02),
    "depth_per_stature": ({"betas_noise": 0.5, "depth_stature": 0.7}, 0.7),
    "lateral_px": ({"lateral": 2.0}, 2.0),
    "lateral_time_s": ({"lateral": 2.0, "lateral_bias": 0.0, "lateral_time": 0.6}, 0.6),
    "thighs_deg": ({"segment_errors": (0.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0)}, 12.0),
    "turn_deg": ({"body_turn": 15.0}, 15.0),
    "tilt_deg": ({"body_tilt": 6.0}, 6.0),
    "lean_deg": ({"body_lean": 12.0, "body_lean_angle": 1.0}, 12.0),
    "pose_bias_share": ({"segment_errors": DEFAULT.segment_errors, "segment_bias": 0.5, "segment_time": 0.3}, 0.5),
    "pose_along_ray": ({"segment_errors": DEFAULT.segment_errors, "segment_along_ray": 0.5}, 0.5),
    "beta0_slope": ({"betas_shrunk": 0.4}, 0.6),
    "beta0_residual": ({"betas_noise": 0.4}, 0.4),
    "scene_noise_log": ({"point_noise": 0.03, "point_distance": 15.0}, 0.03),
}


@pytest.mark.parametrize("statistic", KNOBS)
def test_a_statistic_recovers_its_knob(truth: Truth, statistic: str) -> None:
    knobs, expected = KNOBS[statistic]
    found = np.mean([measured(truth, seed, **knobs)[statistic] for seed in range(3)])
    assert found == pytest.approx(expected, rel=0.25)


OTHERS = {
    "keypoint_noise": {"keypoint_sizes"},
    "depth_person": {"depth_person_log"},
    "lateral": {"lateral_px", "root_accel_error_m_s2"},
    "box_noise": {"box_edge_heights"},
    "landmark_noise": {"landmark_across_m"},
    "segment_errors": {"mpjpe_mm", "landmark_across_m"},
    "body_turn": {"orient_deg", "mpjpe_mm", "landmark_across_m"},
    "gravity": {"gravity_deg"},
    "point_noise": {"scene_noise_log"},
    "betas_noise": {"stature_sd_log", "depth_person_log", "mpjpe_mm"},  # other proportions are other joints
}


@pytest.fixture(scope="module")
def usual(truth: Truth) -> dict[str, float]:
    """What all errors together make of the statistics."""
    return observation_errors(observe(truth, exact_body(), DEFAULT, np.random.default_rng(0)), truth, exact_body())


@pytest.mark.parametrize("knob", OTHERS)
def test_a_knob_moves_its_own_statistics(truth: Truth, usual: dict[str, float], knob: str) -> None:
    errors = measured(truth, **{knob: getattr(DEFAULT, knob)})
    moved = {name for name in ERRORS if abs(errors[name]) > 0.1 * abs(usual[name]) + 1e-5}
    assert moved == OTHERS[knob]


def test_statistics_grow_with_the_errors(truth: Truth) -> None:
    one, twice = (
        observation_errors(observe(truth, exact_body(), DEFAULT.scaled(f), np.random.default_rng(0)), truth)
        for f in (0.5, 1.0)
    )
    for name in ("box_edge_heights", "keypoint_sizes", "lateral_px", "thighs_deg", "landmark_depth_m"):
        assert twice[name] == pytest.approx(2 * one[name], rel=0.2), name


def test_a_switch_and_a_new_number_are_told_apart(truth: Truth) -> None:
    window = seen(truth)
    halves = []
    for rows, part in (([0, 1], slice(0, 20)), ([1, 0], slice(20, 40))):
        new = np.zeros(40, bool)
        new[part] = True
        order = np.r_[rows, 2 : window.num_people]
        halves.append(replace(taken(window, order), is_new=new, track_ids=window.track_ids))
    errors = observation_errors(halves, truth, exact_body())
    both = truth.visibility > 0
    assert errors["switches_per_1000"] == pytest.approx(2000 / both.sum())
    assert errors["fragments_per_1000"] == 0


def taken(window: CrowdWindow, order: np.ndarray) -> CrowdWindow:
    """The window with its people in another order."""
    people = {
        name: getattr(window, name)[order]
        for name in (
            "observed", "valid", "boxes", "box_confidence", "keypoints_2d", "keypoints_confidence", "landmarks_3d",
        )
    }  # fmt: skip
    motion = window.motion
    moved = replace(
        motion,
        betas=motion.betas[order],
        body_pose=motion.body_pose[order],
        global_orient=motion.global_orient[order],
        transl=motion.transl[order],
    )
    return replace(window, motion=moved, **people)


def test_windows_of_a_stream_measure_as_one(truth: Truth) -> None:
    window = observe(truth, exact_body(), DEFAULT, np.random.default_rng(0))
    halves = [replace(window, is_new=np.arange(40) < 20), replace(window, is_new=np.arange(40) >= 20)]
    whole, parts = observation_errors(window, truth), observation_errors(halves, truth)
    same = [name for name in whole if not name.startswith("scene")]
    assert np.allclose([whole[n] for n in same], [parts[n] for n in same], equal_nan=True)
    with pytest.raises(ValueError, match="one segment"):
        stitched([halves[0], replace(halves[1], segment_id=1)])


def test_statistics_need_no_truth(truth: Truth) -> None:
    calm, noisy = (
        observation_statistics(seen(truth, keypoint_pixels=p, keypoint_smooth=0.0, keypoint_groups=(1.0,) * 8))
        for p in (0.0, 2.0)
    )
    assert calm["people"] == pytest.approx((truth.visibility > 0).sum(0).mean())
    added = np.sqrt(noisy["head_jitter_sizes"] ** 2 - calm["head_jitter_sizes"] ** 2)
    size = np.sqrt(truth.boxes[..., 2] * truth.boxes[..., 3])
    assert added == pytest.approx(np.median(2.0 / size[truth.visibility > 0]), rel=0.2)
