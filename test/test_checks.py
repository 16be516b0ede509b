"""`crowd4d check`: each number on made-up people of whom it is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_crowd import camera, looking_down

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.cli import main
from crowd4d_ros.evaluation.checks import CHECKS, checks, detected, table
from crowd4d_ros.evaluation.crowds import Crowd
from crowd4d_ros.window import NUM_COCO, Cameras, FloatArray, FrameObservations

FRAMES, FPS = 12, 10.0
SIDES = np.array([0.2, 0.0, 0.0])
JOINT = {name: row for row, name in enumerate(JOINTS)}
NOWHERE = np.full((1, FRAMES, NUM_COCO, 2), np.nan)
UNSEEN = np.zeros((1, FRAMES, NUM_COCO))


def somebody(
    way: FloatArray | None = None,
    knee: tuple[float, float] = (0.0, 0.0),
    lean: float = 0.0,
    turned: float = 0.0,
    clearance: float = 0.0,
    ankles: FloatArray | None = None,
) -> Crowd:
    """One person, upright, 10 m before a level camera, who faces it (+z) unless ``turned``, degrees about y.

    way: (T, 3) where the pelvis goes; knee: degrees each is bent by; lean: of the trunk, degrees away from the camera;
    ankles: (T, 3) where the left, lower one is instead.
    """
    way = np.zeros((FRAMES, 3)) if way is None else way
    cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    side = np.array([cos, 0, -sin])  # the left, for +z ahead
    joints = np.zeros((FRAMES, len(JOINTS), 3))
    keypoints = np.zeros((FRAMES, NUM_COCO, 3))
    trunk = 0.5 * np.array([0, math.cos(math.radians(lean)), -math.sin(math.radians(lean))])
    for at, sign in ((0, 1), (1, -1)):
        hip = 0.1 * sign * side
        shin = 0.4 * np.array([0, -math.cos(math.radians(knee[at])), math.sin(math.radians(knee[at]))])
        name = ("left", "right")[at]
        joints[:, JOINT[f"{name}_hip"]] = hip
        joints[:, JOINT[f"{name}_knee"]] = hip - [0, 0.4, 0]
        joints[:, JOINT[f"{name}_ankle"]] = hip - [0, 0.4, 0] + shin - [0, 0.01 * (1 - at), 0]
        keypoints[:, [11 + at, 5 + at]] = hip, hip + trunk
        keypoints[:, [7 + at, 9 + at]] = hip + trunk / 2, hip
    keypoints[:, :5] = 1.5 * trunk
    place = way + np.array([0, 0, -10.0])
    joints, keypoints = joints + place[:, None], keypoints + place[:, None]
    if ankles is not None:
        joints[:, JOINT["left_ankle"]] = ankles
    one = np.ones((1, FRAMES), bool)
    return Crowd(
        name="made up",
        stamps=np.round(np.arange(FRAMES) / FPS * 1e9).astype(np.int64),
        track_ids=np.array([7]),
        valid=one,
        joints=joints[None],
        keypoints=keypoints[None],
        lowest=np.zeros((1, FRAMES, 3)),
        boxes=np.tile([300.0, 100, 40, 90], (1, FRAMES, 1)),  # a size of 60 pixels
        clearance=np.full((1, FRAMES), clearance),
        observed=one,
        intrinsics=camera(),
        cameras=Cameras(np.stack([looking_down(0.0)] * FRAMES), np.zeros((FRAMES, 3)), "made up"),
        is_border=np.zeros(FRAMES, bool),
    )


def of(crowd: Crowd, keypoints: FloatArray = NOWHERE, confidence: FloatArray = UNSEEN) -> dict[str, float]:
    return checks(crowd, keypoints, confidence)


def walk(speed: float) -> FloatArray:
    return np.outer(np.arange(FRAMES) / FPS * speed, [0, 0, 1.0])


def test_knees_lean_and_ground():
    found = of(somebody(knee=(40, 10), lean=7, clearance=-0.03))
    assert found["straighter_knee"] == pytest.approx(10, abs=0.5)
    assert found["knee"] == pytest.approx(25, abs=0.5)
    assert found["lean"] == pytest.approx(7)
    assert (found["lowest"], found["off_ground"]) == pytest.approx((-0.03, 0.03))


@pytest.mark.parametrize("turned", [0, 30, -160])
def test_facing_is_against_the_way_walked(turned: float):
    found = of(somebody(walk(1.2), turned=turned))
    assert found["facing"] == pytest.approx(abs(turned))
    assert found["speed"] == pytest.approx(1.2)


def test_who_stands_has_no_facing():
    found = of(somebody(walk(0.1), turned=30))
    assert math.isnan(found["facing"])
    assert math.isnan(found["speed"])


def test_the_standing_ankle_is_the_lower_one():
    still = np.tile([0.1, -1.0, -10], (FRAMES, 1))
    assert of(somebody(walk(1.2), ankles=still))["standing_ankle"] == pytest.approx(0)
    assert of(somebody(walk(1.2)))["standing_ankle"] == pytest.approx(1.2)


def test_accelerations():
    time = np.arange(FRAMES) / FPS
    found = of(somebody(np.outer(time**2, [1.5, 0, 0])))
    assert found["root_acceleration"] == pytest.approx(3)
    assert found["joint_acceleration"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("exchanged", [False, True])
def test_the_image_counts_in_body_sizes_whichever_side_is_which(exchanged: bool):
    crowd = somebody()
    mirror = [0, *(row + 1 if row % 2 else row - 1 for row in range(1, NUM_COCO))]
    seen = crowd.pixels()[:, :, mirror] if exchanged else crowd.pixels()
    assert of(crowd, seen + np.array([3.0, 0]), np.ones(seen.shape[:-1]))["image"] == pytest.approx(3 / 60)


def test_what_lasts_in_the_image_is_told_from_what_jitters():
    crowd = somebody()
    jitter = 6.0 * (-1.0) ** np.arange(FRAMES)[:, None, None] * [0, 1]
    found = of(crowd, crowd.pixels() + np.array([3.0, 0]) + jitter, np.ones((1, FRAMES, NUM_COCO)))
    assert found["image_lasting"] == pytest.approx(3 / 60, rel=0.05)
    assert found["image_jitter"] == pytest.approx(6 / 60, rel=0.15)


def test_what_is_seen_too_seldom_neither_lasts_nor_jitters():
    crowd = somebody()
    confidence = np.ones((1, FRAMES, NUM_COCO)) * (np.arange(FRAMES) % 2 == 0)[:, None]
    found = of(crowd, crowd.pixels() + np.array([3.0, 0]), confidence)
    assert found["image"] == pytest.approx(3 / 60)
    assert math.isnan(found["image_lasting"])
    assert math.isnan(found["image_jitter"])


def test_speeds_are_by_when_frames_seem_to_have_been_taken(monkeypatch: pytest.MonkeyPatch):
    crowd = somebody(walk(2.0))
    assert of(crowd)["speed"] == pytest.approx(2.0)
    monkeypatch.setattr("crowd4d_ros.evaluation.checks.taken_at", lambda seconds, *_: 2 * seconds)
    assert of(crowd)["speed"] == pytest.approx(1.0)


def test_guessed_keypoints_and_bridged_frames_say_nothing_of_the_image():
    crowd = somebody()
    assert math.isnan(of(crowd, crowd.pixels() + 9, np.full((1, FRAMES, NUM_COCO), 0.4))["image"])
    assert math.isnan(of(crowd)["image"])


def test_detections_are_found_by_frame_and_box():
    crowd = somebody()
    boxes = np.array([[10.0, 10, 40, 90], crowd.boxes[0, 0]])
    points = np.arange(2 * 23 * 2.0).reshape(2, 23, 2)
    sure, nothing = np.full((2, 23), 0.7), np.zeros((2, 23, 3))
    frame = FrameObservations(int(crowd.stamps[4]), 4, np.array([1, 2]), boxes, np.ones(2), points, sure, nothing, ())
    keypoints, confidence = detected(crowd, [frame])
    np.testing.assert_array_equal(keypoints[0, 4], points[1, :NUM_COCO])
    np.testing.assert_array_equal(np.isfinite(keypoints[0, :, 0, 0]), np.arange(FRAMES) == 4)
    np.testing.assert_array_equal(confidence[0].any(-1), np.arange(FRAMES) == 4)


def test_a_column_for_each_folder_and_a_dash_for_what_is_not_known():
    lines = table(["before", "now"], [of(somebody(knee=(10, 10))), of(somebody(knee=(20, 20)))]).splitlines()
    assert len(lines) == 1 + len(CHECKS)
    image, knee = (next(line for line in lines if line.startswith(CHECKS[key].label)) for key in ("image", "knee"))
    assert image.split().count("-") == 2
    assert [round(float(number)) for number in knee.split()[2:4]] == [10, 20]


def test_the_command_refuses_other_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_command_reads_what_reconstruct_and_optimize_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made, out = tmp_path / "made", tmp_path / "out"
    size = ["--people", "2", "--frames", "12"]
    assert main(["synthesize", "--scene", "plaza", "--camera", "surveillance", *size, "--out", str(made)]) == 0
    assert main(["optimize", str(made), "--out", str(out), "--set", "optimization.stages=0"]) == 0
    capsys.readouterr()
    assert main(["check", "--json", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)[str(out)]
    assert list(found) == list(CHECKS)
    assert found["image"] is None
    assert 0 < found["straighter_knee"] <= found["knee"] < 90
