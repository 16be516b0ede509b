"""Initial motions: known bodies, seen by a known camera, come back where they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crowd4d_ros.body.keypoints import INDEX, MIRROR, longer_legs
from crowd4d_ros.body.rotations import axis_angle_to_matrix, compose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import MotionConfig
from crowd4d_ros.initialization.lifting import lift, mirrored, seen_along, slerp, towards_path, towards_ray, untwisted
from crowd4d_ros.initialization.motion import MotionFit, Tracked, bridged, fit_motion
from crowd4d_ros.initialization.refinement import body_keypoints
from crowd4d_ros.initialization.trajectory import Ground, Rays, solve_path
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.window import Cameras, FloatArray

CONFIG = MotionConfig()
FPS, PITCH, HEIGHT = 7.0, np.radians(15.0), 6.0
K = np.array([[1185.0, 0.0, 324.0], [0.0, 1185.0, 282.0], [0.0, 0.0, 1.0]])
R = np.array([[1.0, 0.0, 0.0], [0.0, -np.cos(PITCH), -np.sin(PITCH)], [0.0, np.sin(PITCH), -np.cos(PITCH)]])
GROUND = Ground(np.array([0.0, 1.0, 0.0]), HEIGHT)
MOCAP = Path(__file__).resolve().parents[2] / "shared" / "data" / "mocap" / "cmu_mocap.npz"


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def prior() -> GaussianPosePrior:
    return GaussianPosePrior.load()


def seen_from_camera(points: FloatArray) -> FloatArray:
    """World points (…, 3) in pixels (…, 2)."""
    homogeneous = points @ R.T @ K.T
    return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])


class Scene:
    """Walkers of the embedded body before a camera 6 m up, as perception sees them: shorter legs, and leaning away."""

    def __init__(
        self, body: BodyModel, pose: torch.Tensor, orient: torch.Tensor, root: FloatArray, noise: float = 0.0
    ) -> None:
        people, frames = root.shape[:2]
        betas = torch.zeros(people, 10)
        offsets = body_keypoints(body, betas, pose, orient).numpy().astype(float)
        vertices = body.vertices(betas[:, None], pose, orient, -body.pelvis(betas)[:, None]).numpy()
        self.root = root.copy()
        self.root[..., 1] = -HEIGHT - vertices[..., 1].min(-1)
        self.offsets, self.pose, self.orient = offsets, pose, orient
        marked = longer_legs(torch.as_tensor(offsets), CONFIG.keypoint_legs).numpy()
        pixels = seen_from_camera(self.root[:, :, None] + marked)
        silhouette = seen_from_camera(self.root[:, :, None] + vertices)
        low, high = silhouette.min(2), silhouette.max(2)
        boxes = np.concatenate([low, high - low], -1)
        rng = np.random.default_rng(0)
        scale = np.sqrt(boxes[..., 2] * boxes[..., 3])
        pixels = pixels + noise * scale[..., None, None] * rng.normal(size=pixels.shape)
        shorter = longer_legs(torch.as_tensor(offsets), CONFIG.landmark_legs).numpy()
        relative = (shorter - shorter[:, :, [11, 12]].mean(2, keepdims=True)) @ R.T
        crop = seen_along(low + boxes[..., 2:] / 2, K, R @ [0.0, 1.0, 0.0], CONFIG.landmark_lean)
        landmarks = 0.9 * relative @ crop
        landmarks = landmarks + 2 * noise * rng.normal(size=landmarks.shape)
        stature = float(body.height(betas)[0])
        self.seen = Tracked(
            track_ids=np.arange(people) + 10,
            observed=np.ones((people, frames), bool),
            keypoints_2d=pixels,
            keypoints_confidence=np.full(pixels.shape[:3], 0.9),
            landmarks_3d=landmarks,
            boxes=boxes,
            stamps=(np.arange(frames) * 1e9 / FPS).astype(np.int64) + 5,
            K=K,
            cameras=Cameras(np.repeat(R[None], frames, 0), np.zeros((frames, 3)), "people"),
            heights={10 + n: (stature, 0.02) for n in range(people)},
            ground=GROUND,
        )

    def errors(self, fit: MotionFit, body: BodyModel) -> tuple[FloatArray, FloatArray]:
        """Metres (N, T): of the root, and of the 17 joints relative to the root."""
        betas = torch.as_tensor(fit.motion.betas, dtype=torch.float32)
        pose = torch.as_tensor(fit.motion.body_pose, dtype=torch.float32)
        orient = torch.as_tensor(fit.motion.global_orient, dtype=torch.float32)
        offsets = body_keypoints(body, betas, pose, orient).numpy()
        root = fit.motion.transl + body.pelvis(betas).numpy()[:, None]
        joints = np.linalg.norm(offsets - self.offsets, axis=-1)[..., :17].mean(-1)
        return np.linalg.norm(root - self.root, axis=-1), joints


def walkers(body: BodyModel, people: int = 3, frames: int = 16, noise: float = 0.0) -> Scene:
    """People who swing arms and legs and walk straight on at 1.2 m/s, each in a direction of their own."""
    phase = 2 * np.pi * (np.arange(frames) / FPS + np.arange(people)[:, None] / 3)
    swing = torch.as_tensor(np.sin(phase), dtype=torch.float32)
    pose = torch.zeros(people, frames, 23, 3)
    pose[..., 0, 0], pose[..., 1, 0] = -0.45 * swing, 0.45 * swing
    pose[..., 3, 0], pose[..., 4, 0] = 0.3 - 0.25 * swing, 0.3 + 0.25 * swing
    pose[..., 15, 2], pose[..., 16, 2] = -1.2, 1.2
    pose[..., 17, 1], pose[..., 18, 1] = -0.3, 0.3
    heading = 0.4 + 2.1 * np.arange(people)
    orient = torch.zeros(people, frames, 3)
    orient[..., 1] = torch.as_tensor(heading, dtype=torch.float32)[:, None]
    start = np.stack([2.0 * np.arange(people) - 2.0, np.zeros(people), -18.0 - 4.0 * np.arange(people)], -1)
    forward = np.stack([np.sin(heading), np.zeros(people), np.cos(heading)], -1)
    seconds = np.arange(frames) / FPS
    return Scene(body, pose, orient, start[:, None] + 1.2 * seconds[:, None] * forward[:, None], noise)


def hidden(seen: Tracked, person: int, frames: slice) -> Tracked:
    """As when nobody detects that person there: whatever lies in the arrays must not matter."""
    observed, junk = seen.observed.copy(), seen.keypoints_2d.copy()
    observed[person, frames], junk[person, frames] = False, np.nan
    return replace(seen, observed=observed, keypoints_2d=junk)


def test_walkers_are_recovered_from_exact_observations(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    fit = fit_motion(scene.seen, body, prior, CONFIG)
    root, joints = scene.errors(fit, body)
    assert root.mean() < 0.12, "metres, 18 to 26 m away"
    assert joints.mean() < 0.05
    assert not fit.exchanged.any()
    assert fit.valid.all()


def test_walkers_are_recovered_from_noisy_observations(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body, noise=0.02)
    root, joints = scene.errors(fit_motion(scene.seen, body, prior, CONFIG), body)
    assert root.mean() < 0.25
    assert joints.mean() < 0.08


@pytest.mark.skipif(not MOCAP.exists(), reason="needs ../shared/data/mocap/cmu_mocap.npz")
def test_captured_walks_are_recovered(body: BodyModel, prior: GaussianPosePrior) -> None:
    with np.load(MOCAP) as mocap:
        starts = np.cumsum(mocap["lens"]) - mocap["lens"]
        names, split = mocap["names"], mocap["split"]
        walks = np.flatnonzero((split == "test") & (np.char.find(names, "walking") >= 0))[:4]
        frames = starts[walks][:, None] + np.arange(0, 60, 4)
        pose = torch.as_tensor(mocap["poses"][frames].astype(np.float32))
        root = mocap["trans"][frames].astype(float)
    root += [0.0, 0.0, -20.0] - root.mean(1, keepdims=True)
    scene = Scene(body, pose[:, :, 1:], pose[:, :, 0], root, noise=0.02)
    scene.seen = replace(scene.seen, stamps=(np.arange(frames.shape[1]) * 4e9 / 30).astype(np.int64))
    error, joints = scene.errors(fit_motion(scene.seen, body, prior, CONFIG), body)
    assert error.mean() < 0.3
    assert joints.mean() < 0.08


def test_a_gap_is_bridged_marked_and_smooth(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    gap = slice(6, 10)
    fit = fit_motion(hidden(scene.seen, 1, gap), body, prior, CONFIG)
    root, _ = scene.errors(fit, body)
    assert fit.valid.all()
    assert root[1, gap].max() < 0.3
    steps = np.linalg.norm(np.diff(fit.motion.transl[1], axis=0), axis=-1) * FPS
    assert np.abs(steps - 1.2).max() < 0.4, "walks on through the gap"


def test_longer_gaps_stay_open_and_ends_are_not_extrapolated() -> None:
    observed = np.array([[0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0]], bool)
    assert bridged(observed, np.arange(11.0), 3.0).astype(int).tolist() == [[0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0]]
    assert not bridged(np.zeros((2, 3), bool), np.arange(3.0), 9.0).any()


def test_padding_is_zero_and_does_not_matter(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    late = hidden(scene.seen, 0, slice(0, 5))
    fit = fit_motion(late, body, prior, CONFIG)
    assert not fit.valid[0, :5].any()
    assert not fit.motion.transl[0, :5].any()
    assert not fit.motion.body_pose[0, :5].any()
    others = replace(late, keypoints_2d=np.where(late.observed[..., None, None], late.keypoints_2d, 1e6))
    again = fit_motion(others, body, prior, CONFIG)
    np.testing.assert_array_equal(fit.motion.transl, again.motion.transl)


def test_order_of_people_and_who_else_is_there_do_not_matter(body: BodyModel, prior: GaussianPosePrior) -> None:
    seen = walkers(body, noise=0.02).seen
    order = [2, 0]
    names = ("track_ids", "observed", "keypoints_2d", "keypoints_confidence", "landmarks_3d", "boxes")
    some = replace(seen, **{name: getattr(seen, name)[order] for name in names})
    all_fit, some_fit = fit_motion(seen, body, prior, CONFIG), fit_motion(some, body, prior, CONFIG)
    np.testing.assert_allclose(some_fit.motion.transl, all_fit.motion.transl[order], atol=5e-3)
    np.testing.assert_allclose(some_fit.motion.body_pose, all_fit.motion.body_pose[order], atol=2e-2)


def test_one_person_in_one_frame(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body, people=1, frames=1)
    fit = fit_motion(scene.seen, body, prior, CONFIG)
    root, joints = scene.errors(fit, body)
    assert root.max() < 0.5
    assert joints.max() < 0.08


def test_nobody(body: BodyModel, prior: GaussianPosePrior) -> None:
    seen = walkers(body).seen
    names = ("track_ids", "observed", "keypoints_2d", "keypoints_confidence", "landmarks_3d", "boxes")
    fit = fit_motion(replace(seen, **{name: getattr(seen, name)[:0] for name in names}), body, prior, CONFIG)
    assert fit.valid.shape == (0, 16)
    assert fit.motion.body_pose.shape == (0, 16, 23, 3)


def test_boxes_alone_place_people(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    blind = replace(
        scene.seen,
        keypoints_confidence=np.zeros_like(scene.seen.keypoints_confidence),
        landmarks_3d=np.full_like(scene.seen.landmarks_3d, np.nan),
    )
    fit = fit_motion(blind, body, prior, CONFIG)
    root, _ = scene.errors(fit, body)
    assert np.isfinite(fit.motion.body_pose).all()
    assert root.mean() < 1.0


def test_without_a_ground_size_alone_gives_the_distance(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    root, _ = scene.errors(fit_motion(replace(scene.seen, ground=None), body, prior, CONFIG), body)
    assert root.mean() < 0.5


def test_shape_follows_stature_and_stays(body: BodyModel, prior: GaussianPosePrior) -> None:
    seen = walkers(body).seen
    first = fit_motion(replace(seen, heights={10: (1.55, 0.02), 11: (1.92, 0.02)}), body, prior, CONFIG)
    statures = body.height(torch.as_tensor(first.motion.betas, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(statures, [1.55, 1.92, CONFIG.default_stature], atol=2e-3)
    second = fit_motion(replace(seen, heights={10: (1.80, 0.02)}), body, prior, CONFIG, first.states)
    np.testing.assert_allclose(second.motion.betas, first.motion.betas, atol=1e-6)


def test_windows_join_without_a_jump(body: BodyModel, prior: GaussianPosePrior) -> None:
    seen = walkers(body, frames=16, noise=0.03).seen

    def part(start: int, stop: int) -> Tracked:
        names = ("observed", "keypoints_2d", "keypoints_confidence", "landmarks_3d", "boxes")
        cameras = Cameras(seen.cameras.R[start:stop], seen.cameras.t[start:stop], "people")
        cut = {name: getattr(seen, name)[:, start:stop] for name in names}
        return replace(seen, cameras=cameras, stamps=seen.stamps[start:stop], **cut)

    first = fit_motion(part(0, 10), body, prior, CONFIG)
    second = fit_motion(part(6, 16), body, prior, CONFIG, first.states)
    np.testing.assert_allclose(second.motion.transl[:, 0], first.motion.transl[:, 6], atol=1e-6)
    np.testing.assert_allclose(second.motion.body_pose[:, 0], first.motion.body_pose[:, 6], atol=1e-4)
    alone = fit_motion(part(6, 16), body, prior, CONFIG)
    np.testing.assert_allclose(second.motion.transl[:, 4:], alone.motion.transl[:, 4:], atol=2e-2)


def test_exchanged_sides_are_found(body: BodyModel, prior: GaussianPosePrior) -> None:
    scene = walkers(body)
    flipped = np.zeros((3, 16), bool)
    flipped[0, 5], flipped[2, 8:10] = True, True
    where = flipped[..., None, None]
    seen = replace(
        scene.seen,
        keypoints_2d=np.where(where, scene.seen.keypoints_2d[:, :, MIRROR], scene.seen.keypoints_2d),
        landmarks_3d=np.where(where, mirrored(scene.seen.landmarks_3d), scene.seen.landmarks_3d),
    )
    fit = fit_motion(seen, body, prior, CONFIG)
    np.testing.assert_array_equal(fit.exchanged, flipped)
    assert scene.errors(fit, body)[1].mean() < 0.05


def test_lifting_undoes_keypoints(body: BodyModel) -> None:
    scene = walkers(body)
    rest = body_keypoints(body, torch.zeros(3, 10), torch.zeros(3, 1, 23, 3), torch.zeros(3, 1, 3))
    points = torch.as_tensor(1.3 * scene.offsets, dtype=torch.float32)
    pose, orient = lift(points, rest)
    again = body_keypoints(body, torch.zeros(3, 10), pose, orient).numpy()
    assert np.linalg.norm(again - scene.offsets, axis=-1)[..., :17].max() < 0.02


def test_towards_ray_turns_the_axis_onto_the_ray() -> None:
    pixels = np.array([[100.0, 50.0], K[:2, 2]])
    rotation = towards_ray(pixels, K)
    ray = np.linalg.inv(K) @ [100.0, 50.0, 1.0]
    np.testing.assert_allclose(rotation[0] @ [0, 0, 1], ray / np.linalg.norm(ray), atol=1e-9)
    np.testing.assert_allclose(rotation[1], np.eye(3), atol=1e-9)


@pytest.mark.parametrize("lean", [0.0, 0.5, 1.0])
def test_people_seen_from_above_are_set_upright_by_a_share_of_the_angle(lean: float) -> None:
    up = R @ [0.0, 1.0, 0.0]
    pixel = np.array([324.0, 400.0])
    angle = np.arcsin(-up @ towards_ray(pixel, K) @ [0.0, 0.0, 1.0])
    head = seen_along(pixel, K, up, lean) @ [0.0, -1.0, 0.0]  # the crop's own up
    np.testing.assert_allclose(head @ up, np.cos((1 - lean) * angle), atol=1e-9)
    if lean == 0:
        np.testing.assert_allclose(seen_along(pixel, K, up, lean), towards_ray(pixel, K), atol=1e-9)


def heading_of(landmarks: FloatArray) -> FloatArray:
    """Degrees about the vertical that the shoulders' normal is turned from +z, as in ``walkers``."""
    across = landmarks[..., INDEX["left_shoulder"], :] - landmarks[..., INDEX["right_shoulder"], :]
    return np.asarray(np.degrees(np.arctan2(-across[..., 2], across[..., 0])))


def test_walkers_are_turned_to_where_they_go_and_others_are_not(body: BodyModel) -> None:
    scene = walkers(body)
    up, frames = np.array([0.0, 1.0, 0.0]), len(scene.seen.stamps)
    velocity = np.gradient(scene.root, scene.seen.seconds, axis=1)
    truth = heading_of(scene.offsets)
    off = axis_angle_to_matrix(torch.tensor([0.0, np.radians(20.0), 0.0], dtype=torch.float64)).numpy()
    seen = scene.offsets @ off.T

    def turn(velocity: FloatArray) -> FloatArray:
        corrected = towards_path(seen, scene.seen.observed, velocity, up, scene.seen.seconds, CONFIG)
        return np.asarray((heading_of(corrected) - truth + 180) % 360 - 180)

    walking = turn(velocity)
    assert walking.shape == (3, frames)
    assert np.abs(walking).max() < 6, "of 20 degrees"
    np.testing.assert_allclose(turn(0 * velocity), 20, atol=1e-6, err_msg="who stands")
    np.testing.assert_allclose(turn(-velocity), 20, atol=1e-6, err_msg="who goes backwards")


def test_hips_follow_the_shoulders_as_far_as_they_are_not_trusted(body: BodyModel) -> None:
    points = walkers(body).offsets
    hips = [INDEX["left_hip"], INDEX["right_hip"]]
    twisted = points.copy()
    twisted[..., hips, :] = points[..., hips, :] @ axis_angle_to_matrix(torch.tensor([0.0, 0.5, 0.0])).numpy().T

    def across(landmarks: FloatArray, joint: str) -> FloatArray:
        return np.asarray(landmarks[..., INDEX[f"left_{joint}"], :] - landmarks[..., INDEX[f"right_{joint}"], :])

    np.testing.assert_allclose(untwisted(twisted, 1.0), twisted, atol=1e-12)
    follow = untwisted(twisted, 0.0)
    np.testing.assert_allclose(np.cross(across(follow, "hip"), across(follow, "shoulder")), 0, atol=1e-9)
    half = untwisted(twisted, 0.5)
    np.testing.assert_allclose(half[..., hips, :].mean(-2), twisted[..., hips, :].mean(-2), atol=1e-12)
    width, as_seen = (np.linalg.norm(across(points, "hip"), axis=-1) for points in (half, twisted))
    np.testing.assert_allclose(width, as_seen, atol=1e-9)


def test_longer_legs_lengthen_thighs_and_shins_and_carry_the_feet(body: BodyModel) -> None:
    points = torch.as_tensor(walkers(body).offsets)
    longer = longer_legs(points, 0.25)

    def bone(keypoints: torch.Tensor, start: str, end: str) -> torch.Tensor:
        return keypoints[..., INDEX[end], :] - keypoints[..., INDEX[start], :]

    for side in ("left", "right"):
        for start, end in (("hip", "knee"), ("knee", "ankle")):
            bones = (bone(keypoints, f"{side}_{start}", f"{side}_{end}") for keypoints in (longer, points))
            torch.testing.assert_close(next(bones), 1.25 * next(bones))
        feet = (bone(keypoints, f"{side}_ankle", f"{side}_heel") for keypoints in (longer, points))
        torch.testing.assert_close(*feet)
    torch.testing.assert_close(longer[..., : INDEX["left_knee"], :], points[..., : INDEX["left_knee"], :])


def test_slerp_is_a_constant_turn() -> None:
    start, turn = torch.tensor([0.3, -0.2, 2.9]), torch.tensor([0.0, 1.0, 0.0])
    end = compose(start, turn)
    third = slerp(start, end, torch.tensor(1 / 3))
    expected = axis_angle_to_matrix(compose(start, turn / 3))
    torch.testing.assert_close(axis_angle_to_matrix(third), expected, atol=1e-5, rtol=0)


def test_a_path_of_points_is_solved_exactly() -> None:
    """Without noise the least-squares path of constant velocity is the true one, at any frame rate."""
    rng = np.random.default_rng(1)
    frames = 8
    seconds = np.cumsum(rng.uniform(0.02, 0.3, frames))
    root = np.array([1.0, -4.0, -15.0]) + seconds[:, None] * [1.0, 0.0, 0.5]
    offsets = rng.normal(size=(1, frames, 6, 3)) * 0.5
    rays = Rays(
        offsets=offsets,
        pixels=seen_from_camera(root[None, :, None] + offsets),
        weights=np.ones((1, frames, 6)),
        K=K,
        R=np.repeat(R[None], frames, 0),
        t=np.zeros((frames, 3)),
    )
    valid, sigma, free = np.ones((1, frames), bool), np.array([0.03]), replace(CONFIG, speed_density=1e3)
    path = solve_path(rays, seconds, valid, np.zeros((1, frames, 3)), None, sigma, free)
    np.testing.assert_allclose(path[0], root, atol=1e-3)
