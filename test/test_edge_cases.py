"""Whatever perception reports, every frame comes out of the pipeline once, and in finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import synthetic_crowd as synthetic

from crowd4d_ros.config import Config, updated
from crowd4d_ros.initialization.initializer import Initializer
from crowd4d_ros.io.camera import default_intrinsics
from crowd4d_ros.lens import project as to_pixels
from crowd4d_ros.lens import rectify
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.window import CrowdMotion, CrowdWindow, FrameObservations, Intrinsics
from crowd4d_ros.world import World

FRAMES = 20
FEW_STEPS = {
    "device": "cpu",
    "window.length": 12,
    "window.overlap": 4,
    "window.pending": 2,
    "calibration.frames": 12,
    "calibration.rounds": 4,
    "calibration.max_observations": 48,
    "motion.iterations": 2,
    "motion.passes": 1,
    "optimization.stage1_iterations": 12,
    "optimization.stage2_iterations": 2,
    "optimization.stage3_iterations": 2,
}
CONFIG = updated(Config(), FEW_STEPS)
CAMERA = synthetic.camera()
ARRAYS = ("boxes", "box_confidence", "keypoints_2d", "keypoints_confidence", "landmarks_3d")
Frames = list[FrameObservations]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(CONFIG)


@pytest.fixture(scope="module")
def crowd() -> Frames:
    """Four people, all of them in all frames."""
    return synthetic.observe(synthetic.walkers(4, FRAMES), CAMERA)


def windows_of(frames: Frames, intrinsics: Intrinsics = CAMERA, config: Config = CONFIG) -> list[CrowdWindow]:
    initializer = Initializer(config, intrinsics)
    return [window for frame in frames for window in initializer.add(frame)] + initializer.finish()


def motions_of(windows: list[CrowdWindow], pipeline: Pipeline) -> list[CrowdMotion]:
    world, motions = World(), []
    for window in windows:
        motion, world = pipeline.step(window, world)
        motions.append(motion)
    return motions


def people(motions: list[CrowdMotion]) -> list[int]:
    """How many there are in each window."""
    return [int(motion.valid.any(-1).sum()) for motion in motions]


def assert_sound(motions: list[CrowdMotion], frames: Frames) -> None:
    new = np.concatenate([motion.frames[motion.is_new] for motion in motions])
    assert sorted(new.tolist()) == sorted(frame.index for frame in frames)
    for motion in motions:
        smpl, valid = motion.motion, motion.valid
        for values in (motion.joints, motion.support_point, motion.velocity, motion.confidence):
            assert np.isfinite(values[valid]).all()
        for values in (smpl.body_pose, smpl.global_orient, smpl.transl):
            assert np.isfinite(values[valid]).all()
        for values in (smpl.betas, motion.cameras.R, motion.cameras.t, motion.sipc, motion.surface.vertices):
            assert np.isfinite(values).all()
        assert not any("not finite" in warning for warning in motion.warnings)


def nobody(frames: Frames) -> Frames:
    return [frame.take(np.zeros(0, int)) for frame in frames]


def alone(frames: Frames, person: int = 0) -> Frames:
    return [frame.take(np.array([person])) for frame in frames]


def spoiled(frames: Frames, change: Callable[[dict[str, np.ndarray]], None], when: range = range(FRAMES)) -> Frames:
    """The second person's observations changed in the frames ``when``."""
    result = list(frames)
    for t in when:
        arrays = {name: getattr(frames[t], name).copy() for name in ARRAYS}
        change({name: array[1:2] for name, array in arrays.items()})
        result[t] = replace(frames[t], **arrays)
    return result


def moved(right: float, down: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(person: dict[str, np.ndarray]) -> None:
        person["boxes"][:, :2] += [right, down]
        person["keypoints_2d"] += [right, down]

    return change


def collapsed(person: dict[str, np.ndarray]) -> None:
    person["keypoints_2d"][:] = person["keypoints_2d"].mean(1, keepdims=True)
    person["landmarks_3d"][:] = 0
    person["boxes"][:, 2:] = 0


def upside_down(person: dict[str, np.ndarray]) -> None:
    """What no person in front of the camera and below its horizon looks like."""
    person["keypoints_2d"][:] = 2 * person["keypoints_2d"].mean(1, keepdims=True) - person["keypoints_2d"]
    person["landmarks_3d"] *= [-1, -1, 1]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda crowd: crowd[:1], [4]),
        (lambda crowd: crowd[:2], [4]),
        (nobody, [0, 0, 0]),
        (alone, [1, 1, 1]),
        (lambda crowd: nobody(crowd[:5]) + alone(crowd[5:6]) + nobody(crowd[6:]), [1, 0, 0]),
        (lambda crowd: alone(crowd[:-1]) + crowd[-1:], [1, 4, 4]),
        (lambda crowd: nobody(crowd[:-1]) + crowd[-1:], [0, 4, 4]),
        (lambda crowd: crowd[:6] + nobody(crowd[6:12]) + crowd[12:], [4, 4, 4]),
    ],
    ids=["one frame", "two frames", "nobody", "one person", "once", "late", "only in the last frame", "gap of all"],
)
def test_whoever_comes_and_goes(
    pipeline: Pipeline, crowd: Frames, make: Callable[[Frames], Frames], expected: list[int]
) -> None:
    frames = make(crowd)
    motions = motions_of(windows_of(frames), pipeline)
    assert_sound(motions, frames)
    assert people(motions)[-1] == expected[-1]
    assert max(people(motions)) == max(expected)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_not_a_number_spoils_nobody(pipeline: Pipeline, crowd: Frames, number: float) -> None:
    frames = crowd[:12]
    for t, name in enumerate(ARRAYS):
        frames = spoiled(frames, lambda person, name=name: person[name].fill(number), range(2 * t, 2 * t + 1))
    motions = motions_of(windows_of(frames), pipeline)
    assert_sound(motions, frames)
    assert people(motions) == [4, 4]


@pytest.fixture(scope="module")
def first_alone(pipeline: Pipeline, crowd: Frames) -> CrowdMotion:
    """The first person, as seen without the others."""
    return motions_of(windows_of(alone(crowd[:12])), pipeline)[0]


@pytest.mark.parametrize(
    "change",
    [moved(-8000, 0), moved(0, 3000), moved(0, -600), collapsed, upside_down],
    ids=["far left", "far below", "above the horizon", "one point", "upside down"],
)
def test_a_person_who_cannot_be_leaves_the_others_in_place(
    pipeline: Pipeline, crowd: Frames, first_alone: CrowdMotion, change: Callable[[dict[str, np.ndarray]], None]
) -> None:
    frames = spoiled(crowd, change, range(12))[:12]
    motions = motions_of(windows_of(frames), pipeline)
    assert_sound(motions, frames)
    apart = np.linalg.norm(motions[0].joints[0, :, 0] - first_alone.joints[0, :, 0], axis=-1)
    assert np.median(apart) < 0.2 * np.linalg.norm(first_alone.joints[0, 0, 0])


def test_a_pause_and_a_clock_that_goes_back_lose_no_frame(pipeline: Pipeline, crowd: Frames) -> None:
    paused = [frame if t < 10 else replace(frame, stamp=frame.stamp + 60 * 10**9) for t, frame in enumerate(crowd)]
    motions = motions_of(windows_of(paused), pipeline)
    assert_sound(motions, paused)
    assert max(np.linalg.norm(m.velocity[m.valid], axis=-1).max() for m in motions) < 10

    back = crowd[10:] + crowd[:10]
    motions = motions_of(windows_of(back), pipeline)
    assert_sound(motions, back)
    assert [motion.segment_id for motion in motions] == [0, 1]


def test_whom_nobody_sees_clearly_is_left_out_and_whom_somebody_sees_now_and_then_is_not(crowd: Frames) -> None:
    def faint(person: dict[str, np.ndarray]) -> None:
        person["keypoints_confidence"][:] = 0.2

    sign = windows_of(spoiled(crowd, faint))
    assert all(2 not in window.track_ids for window in sign)
    seen_at_first = windows_of(spoiled(crowd, faint, range(3, FRAMES)))
    assert all(2 in window.track_ids for window in seen_at_first)
    seen_later = windows_of(spoiled(crowd, faint, range(0, 9)))
    assert 2 in seen_later[0].track_ids
    assert seen_later[0].observed[seen_later[0].track_ids == 2].all()


def test_the_camera_is_calibrated_by_the_first_who_come(crowd: Frames) -> None:
    """An empty street at first does not leave the camera at its prior for good."""
    empty = nobody(synthetic.observe(synthetic.walkers(1, 30), CAMERA))
    late = [replace(frame, stamp=frame.stamp + 3 * 10**9, index=frame.index + 30) for frame in crowd]
    windows = windows_of(empty + late)
    new = np.concatenate([window.frames[window.is_new] for window in windows])
    assert new.tolist() == list(range(50))
    assert windows[0].scale_source == "none"
    assert {window.scale_source for window in windows if window.num_people} == {"people"}


def test_an_estimated_focal_length_is_the_same_everywhere(pipeline: Pipeline) -> None:
    """Calibration, cameras, keypoints and bodies agree on one K: bodies project to where keypoints are."""
    truth = synthetic.walkers(8, 24, pitch=0.4, seed=2)
    frames = synthetic.observe(truth, CAMERA)
    estimated = default_intrinsics(CAMERA.width, CAMERA.height)
    windows = windows_of(frames, estimated, updated(CONFIG, {"motion.iterations": 10}))
    (K,) = {window.intrinsics.K_rectified.tobytes() for window in windows}
    assert estimated.K_rectified.tobytes() != K
    motions = motions_of(windows, pipeline)
    assert_sound(motions, frames)
    window, motion = windows[0], motions[0]
    assert window.intrinsics.source == motion.intrinsics.source == "estimated"
    shoulders = motion.joints[:, :, [16, 17]] @ motion.cameras.R[0].T + motion.cameras.t[0]
    apart = to_pixels(motion.intrinsics, shoulders) - window.keypoints_2d[:, :, [5, 6]]
    assert np.median(np.linalg.norm(apart, axis=-1)[motion.observed]) < 5


LENSES = {
    "plumb_bob": [-0.25, 0.08, 0.001, -0.001, 0.0],
    "rational_polynomial": [-0.25, 0.08, 0.001, -0.001, 0.0, 0.02, 0.01, 0.0],
    "equidistant": [-0.02, 0.005, 0.0, 0.0],
}


@pytest.mark.parametrize("model", LENSES)
def test_pixels_are_straightened_for_every_lens(model: str) -> None:
    K = CAMERA.K
    wider = K * [[0.8, 1, 1], [1, 0.8, 1], [1, 1, 1]]
    intrinsics = Intrinsics(CAMERA.width, CAMERA.height, K, np.array(LENSES[model]), model, wider)
    points = np.random.default_rng(0).uniform([-3, -2, 9], [3, 2, 12], (50, 3))
    straight = points @ wider.T
    found = rectify(intrinsics, to_pixels(intrinsics, points))
    np.testing.assert_allclose(found, straight[:, :2] / straight[:, 2:], atol=0.02)
