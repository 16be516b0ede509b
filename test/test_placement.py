"""What an initial motion has wrong all the time is corrected by 2D keypoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from synthetic_window import Staged, staged_crowd
from test_solver import sliced

from crowd4d_ros.body.keypoints import keypoints, longer_legs
from crowd4d_ros.body.smpl import BodyModel, read_body
from crowd4d_ros.camera import project
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization.placement import placed_by_keypoints, seen_legs
from crowd4d_ros.window import BodyMotion, CrowdWindow, FloatArray

CONFIG = OptimizationConfig()
PEOPLE, FRAMES = 6, 20


@pytest.fixture(scope="module")
def body():
    return BodyModel.load()


def tensors(*arrays: FloatArray) -> list[torch.Tensor]:
    return [torch.as_tensor(a, dtype=torch.float32) for a in arrays]


def rest(body: BodyModel, motion: BodyMotion) -> FloatArray:
    return body.pelvis(*tensors(motion.betas)).double().numpy()[:, None]


@pytest.fixture(scope="module")
def staged(body) -> Staged:
    """The truth, and keypoints as networks mark them."""
    staged = staged_crowd(body, PEOPLE, FRAMES, stature_noise=0.0, jitter=0.0)
    m, window = staged.motion, staged.window
    points = longer_legs(
        keypoints(body, *tensors(m.betas[:, None], m.body_pose, m.global_orient, m.transl)), CONFIG.leg_change
    )
    pixels = project(points, *tensors(window.intrinsics.K_rectified, window.cameras.R, window.cameras.t))[0]
    noise = np.random.default_rng(0).normal(0, 1.0, pixels.shape)
    return replace(staged, window=replace(window, keypoints_2d=pixels.double().numpy() + noise))


def disturbed(staged: Staged, body: BodyModel, depth: float = 1.0, lean: float = 0.0, turn: float = 0.0) -> CrowdWindow:
    """Everybody's depth times ``depth``; they lean away from the camera and turn, radians."""
    m, centers = staged.motion, staged.centers
    wrong = Rotation.from_euler("yx", [turn, -lean]) * Rotation.from_rotvec(m.global_orient.reshape(-1, 3))
    pelvis = centers + depth * (staged.pelvis - centers)
    motion = replace(m, global_orient=wrong.as_rotvec().reshape(m.global_orient.shape), transl=pelvis - rest(body, m))
    return replace(staged.window, motion=motion)


def distances(window: CrowdWindow, body: BodyModel, centers: FloatArray) -> FloatArray:
    return np.linalg.norm(window.motion.transl + rest(body, window.motion) - centers, axis=-1)


def angles(window: CrowdWindow, staged: Staged) -> FloatArray:
    """(N, T) degrees from the true orientation."""
    found, true = (Rotation.from_rotvec(m.global_orient.reshape(-1, 3)) for m in (window.motion, staged.motion))
    return np.degrees((found.inv() * true).magnitude())


def test_what_is_right_stays(staged, body):
    placed = placed_by_keypoints(disturbed(staged, body), body, CONFIG)
    ratio = distances(placed, body, staged.centers) / distances(disturbed(staged, body), body, staged.centers)
    np.testing.assert_allclose(ratio, 1, atol=0.01)
    assert np.median(angles(placed, staged)) < 3


def test_people_put_too_far_away_come_nearer(staged, body):
    window = disturbed(staged, body, depth=1.1)
    placed = placed_by_keypoints(window, body, CONFIG)
    ratio = distances(placed, body, staged.centers) / np.linalg.norm(staged.pelvis - staged.centers, axis=-1)
    assert abs(np.median(ratio) - 1) < 0.01
    np.testing.assert_allclose(ratio, 1, atol=0.02)


def test_bodies_that_lean_and_turn_are_righted(staged, body):
    window = disturbed(staged, body, lean=np.radians(15), turn=np.radians(20))
    placed = placed_by_keypoints(window, body, CONFIG)
    assert np.median(angles(window, staged)) > 20
    assert np.median(angles(placed, staged)) < 5


def test_one_network_that_sees_other_legs_would_misplace_everybody(staged, body):
    placed = placed_by_keypoints(disturbed(staged, body), body, replace(CONFIG, leg_change=0.0))
    ratio = distances(placed, body, staged.centers) / np.linalg.norm(staged.pelvis - staged.centers, axis=-1)
    assert np.median(ratio) > 1.02


def test_a_network_in_doubt_sees_legs_shorter_in_proportion_and_one_that_guesses_does_not(staged):
    def legs(seen: float, guessed: float) -> float:
        confidence = np.full_like(staged.window.keypoints_confidence, seen)
        confidence[..., 13:] = guessed
        return seen_legs(replace(staged.window, keypoints_confidence=confidence), CONFIG) / CONFIG.leg_change

    assert legs(1.0, 0.4) == 1
    assert legs(1 - CONFIG.leg_doubt, 0.4) == pytest.approx(1)
    assert legs(1 - 1.5 * CONFIG.leg_doubt, 0.4) == pytest.approx(1.5)
    assert legs(0.3, 0.4) == 1, "nothing is seen"


def test_people_are_placed_by_the_legs_that_a_network_in_doubt_sees(staged, body):
    doubt = np.full_like(staged.window.keypoints_confidence, 1 - 1.5 * CONFIG.leg_doubt)
    window = replace(disturbed(staged, body), keypoints_confidence=doubt)
    longer = replace(CONFIG, leg_change=1.5 * CONFIG.leg_change, leg_doubt=1.0)
    found, expected = (placed_by_keypoints(window, body, config).motion.transl for config in (CONFIG, longer))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_outliers_and_guesses_do_not_move_anybody(staged, body):
    rng = np.random.default_rng(1)
    window = disturbed(staged, body, depth=1.06)
    size = np.sqrt(window.boxes[..., 2:].prod(-1))[..., None, None]
    pixels, confidence = window.keypoints_2d.copy(), window.keypoints_confidence.copy()
    outlier = rng.uniform(size=confidence.shape) < 0.1
    pixels += np.where(outlier[..., None], 0.5 * size * rng.standard_normal(pixels.shape), 0)
    pixels[..., 13:, :] += 0.3 * size  # legs that are hidden, guessed elsewhere
    confidence[..., 13:] = 0.45
    placed = placed_by_keypoints(replace(window, keypoints_2d=pixels, keypoints_confidence=confidence), body, CONFIG)
    ratio = distances(placed, body, staged.centers) / np.linalg.norm(staged.pelvis - staged.centers, axis=-1)
    assert abs(np.median(ratio) - 1) < 0.02


def test_padding_is_never_read_and_people_do_not_depend_on_their_order(staged, body):
    window = disturbed(staged, body, depth=1.05)
    valid = np.ones((PEOPLE, FRAMES), bool)
    valid[0, 12:] = valid[3] = False
    m = window.motion

    def filled(fill: float, order: list[int]) -> BodyMotion:
        def fill_in(array: FloatArray) -> FloatArray:
            return np.where(valid.reshape(valid.shape + (1,) * (array.ndim - 2)), array, fill)[order]

        betas = np.where(valid.any(-1, keepdims=True), m.betas, fill)[order]
        given = replace(
            window,
            valid=valid[order],
            boxes=fill_in(window.boxes),
            keypoints_2d=fill_in(window.keypoints_2d),
            keypoints_confidence=fill_in(window.keypoints_confidence),
            motion=BodyMotion(betas, *(fill_in(a) for a in (m.body_pose, m.global_orient, m.transl))),
        )
        return placed_by_keypoints(given, body, CONFIG).motion

    order = [4, 2, 0, 1, 5, 3]
    straight, mixed = filled(np.nan, list(range(PEOPLE))), filled(7.0, order)
    there = valid[order]
    for name in ("global_orient", "transl"):
        np.testing.assert_allclose(getattr(straight, name)[order][there], getattr(mixed, name)[there], atol=2e-3)


def test_nobody_is_no_error(staged, body):
    window = replace(staged.window, valid=np.zeros((PEOPLE, FRAMES), bool))
    assert np.isfinite(placed_by_keypoints(window, body, CONFIG).motion.transl).all()


@pytest.mark.parametrize("lack", ["no confidence at all", "one person unseen", "behind the camera", "one frame"])
def test_people_without_evidence_stay_in_finite_places(staged, body, lack):
    window = disturbed(staged, body)
    if lack == "no confidence at all":
        window = replace(window, keypoints_confidence=np.zeros_like(window.keypoints_confidence))
    elif lack == "one person unseen":
        confidence = window.keypoints_confidence.copy()
        confidence[1] = 0
        window = replace(window, keypoints_confidence=confidence)
    elif lack == "behind the camera":
        window = replace(window, motion=replace(window.motion, transl=window.motion.transl + np.array([0, 0, 60.0])))
    else:
        window = sliced(window, slice(0, 1), np.ones(1, bool))
    placed = placed_by_keypoints(window, body, CONFIG)
    assert np.isfinite(placed.motion.transl).all()
    assert np.isfinite(placed.motion.global_orient).all()
    if lack in ("no confidence at all", "behind the camera"):
        np.testing.assert_allclose(placed.motion.transl, window.motion.transl, atol=0.2)


def test_numbers_that_are_not_finite_leave_the_window_as_it_was_and_say_so(staged, body, caplog):
    window = disturbed(staged, body)
    pixels = window.keypoints_2d.copy()
    pixels[0, 3, 5] = np.nan
    assert placed_by_keypoints(replace(window, keypoints_2d=pixels), body, CONFIG).motion is window.motion
    assert "not finite" in caplog.text


def test_a_body_of_ones_own_with_pose_blend_shapes_in_double_precision(staged, body):
    arrays = replace(read_body(""), posedirs=np.full((6890, 3, 207), 1e-4))
    placed = placed_by_keypoints(disturbed(staged, body, depth=1.05), BodyModel(arrays, dtype=torch.float64), CONFIG)
    ratio = distances(placed, body, staged.centers) / np.linalg.norm(staged.pelvis - staged.centers, axis=-1)
    assert abs(np.median(ratio) - 1) < 0.02


def test_limbs_that_point_elsewhere_put_nobody_farther_off(staged, body):
    """A body whose limbs are wrong has its best size smaller in the image: squares take that for distance."""
    turns = np.random.default_rng(1).normal(0, 0.3, (PEOPLE, 1, *staged.motion.body_pose.shape[2:]))
    window = disturbed(staged, body)
    window = replace(window, motion=replace(window.motion, body_pose=window.motion.body_pose + turns))
    true = np.linalg.norm(staged.pelvis - staged.centers, axis=-1)

    def bias(width: float) -> float:
        placed = placed_by_keypoints(window, body, replace(CONFIG, placement_width=width))
        return float(np.log(distances(placed, body, staged.centers) / true).mean())

    assert bias(CONFIG.placement_width) < bias(10.0) - 0.003


def test_shapes_are_believed_in_part(staged, body):
    window = disturbed(staged, body)
    betas = np.random.default_rng(2).normal(0, 1, window.motion.betas.shape)
    window = replace(window, motion=replace(window.motion, betas=betas))
    placed = placed_by_keypoints(window, body, CONFIG)
    np.testing.assert_allclose(placed.motion.betas, CONFIG.placement_shape * betas, atol=1e-6)
