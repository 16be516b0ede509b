"""Answers from memory and from files against the truth, the frames and people that count, and what is printed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from synthetic_motion import body_model, windows
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros.cli import USER_ERROR, main
from crowd4d_ros.config import Config
from crowd4d_ros.evaluation.comparison import TRACKINGS, EvaluationConfig, EvaluationError, Tracking
from crowd4d_ros.evaluation.crowds import (
    Crowd,
    CrowdError,
    GroundTruth,
    crowd_of_motions,
    ground_truth,
)
from crowd4d_ros.evaluation.evaluate import evaluate
from crowd4d_ros.evaluation.ground import height_above
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.evaluation.metrics import PROFILES, Profile
from crowd4d_ros.evaluation.reading import read_crowd, read_ground_truth
from crowd4d_ros.evaluation.report import document, people_table, table
from crowd4d_ros.evaluation.virtual_crowd import COCO_OF_54, SCHEMA
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.io.results import ResultWriter
from crowd4d_ros.synthetic.answer import perfect_answer
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.files import write_observations, write_truth
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import BodyMotion, CrowdMotion, SurfaceMesh

PEOPLE, FRAMES = 5, 24
MM, NOTHING = 0.1, 1e-4
"""What single precision and files leave of errors in mm, of others."""


@pytest.fixture(scope="module")
def made() -> Truth:
    """Seen by a camera that moves, on a slope."""
    return flat_truth(PEOPLE, FRAMES, seed=2, slope=(0.02, -0.05), camera_velocity=(0.4, 0.1, -0.3))


@pytest.fixture(scope="module")
def truth(made: Truth) -> GroundTruth:
    return ground_truth(made, exact_body())


@pytest.fixture(scope="module")
def folder(made: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """truth.npz, observations.npz without errors, and the same as the answer of three windows, in answer/."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_truth(folder / "truth.npz", made)
    window = observe(made, exact_body(), ObservationConfig().scaled(0), np.random.default_rng(0))
    write_observations(folder / "observations.npz", window)
    writer = ResultWriter(folder / "answer", Config(), body_model())
    writer.folder.mkdir()
    for motion in windows(answer(made), length=12, overlap=4):
        writer.add(motion)
    writer.close({"windows": writer._windows})
    return folder


def answer(truth: Truth) -> CrowdMotion:
    """The truth as one window's answer, in the single precision of answers."""
    names = ("betas", "body_pose", "global_orient", "transl")
    single = BodyMotion(*(np.asarray(getattr(truth.motion, name), np.float32) for name in names))
    return replace(perfect_answer(truth), motion=single, observed=truth.valid)


def assert_perfect(values: dict[str, float], *, but: Sequence[str] = ()) -> None:
    ones = {name for name, meaning in MEANING.items() if meaning.better == "up"}
    of_one_side_alone = {"seam_jump", "seam_jump_elsewhere", "hidden_share"}
    for name, value in values.items():
        if name not in of_one_side_alone and name not in but and not np.isnan(value):
            tolerance = MM if "mpjpe" in name or name == "accel" else NOTHING
            assert value == pytest.approx(1.0 if name in ones else 0.0, abs=tolerance), name


def changed(truth: GroundTruth, **arrays: NDArray[Any]) -> GroundTruth:
    return replace(truth, crowd=replace(truth.crowd, **arrays))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_truth_in_files_is_perfect(profile: Profile, folder: Path) -> None:
    """z up and back, single precision, windows pieced together, a moving camera, a slope."""
    truth = read_ground_truth(folder, body_model())
    for prediction in (".", "truth.npz", "answer"):
        assert_perfect(evaluate(read_crowd(folder / prediction, body_model()), truth, profile, "ids").values)


def test_observations_without_errors_are_nearly_perfect(folder: Path) -> None:
    values = evaluate(
        read_crowd(folder / "observations.npz", body_model()), read_ground_truth(folder, body_model())
    ).values
    assert values["mpjpe"] - 150.0 * (1 - values["recall"]) < 5.0
    assert values["world_error"] < 0.02


def test_windows_are_pieced_together(made: Truth, truth: GroundTruth) -> None:
    whole = crowd_of_motions([answer(made)], body_model())
    pieces = crowd_of_motions(windows(answer(made), length=12, overlap=4), body_model())
    np.testing.assert_array_equal(pieces.joints, whole.joints)
    np.testing.assert_array_equal(pieces.boxes, whole.boxes)
    assert np.flatnonzero(pieces.is_border).tolist() == [12, 20]
    assert not whole.is_border.any()
    assert_perfect(evaluate(pieces, truth).values)


def test_results_know_where_windows_begin(folder: Path) -> None:
    assert np.flatnonzero(read_crowd(folder / "answer", body_model()).is_border).tolist() == [12, 20]


def test_people_not_found_in_a_window_are_missing_there(made: Truth, truth: GroundTruth) -> None:
    first, *rest = windows(answer(made), length=12, overlap=4)
    valid = first.valid.copy()
    valid[1] = False
    crowd = crowd_of_motions([replace(first, valid=valid), *rest], body_model())
    assert np.isnan(crowd.joints[1, :12]).all()
    evaluation = evaluate(crowd, truth, tracking="ids")
    assert evaluation.people["recall"][1] == pytest.approx((FRAMES - 12) / FRAMES)
    assert evaluation.frames["recall"].tolist() == [1 - 1 / PEOPLE] * 12 + [1.0] * (FRAMES - 12)


def test_the_authors_look_at_the_first_frames_only(truth: GroundTruth) -> None:
    config = EvaluationConfig(author_frames=10)
    assert evaluate(truth.crowd, truth, "author_native", config=config).num_frames == 10
    assert evaluate(truth.crowd, truth, "standard", config=config).num_frames == FRAMES


def test_frames_are_paired_by_their_time(truth: GroundTruth, caplog: pytest.LogCaptureFixture) -> None:
    later = truth.crowd.take(np.arange(6, FRAMES))
    evaluation = evaluate(later, truth, "standard")
    assert evaluation.num_frames == FRAMES - 6
    assert f"{FRAMES - 6} of {FRAMES} frames" in caplog.text
    assert_perfect(evaluation.values)
    with pytest.raises(EvaluationError, match="not of the same times, from frame 0 on"):
        evaluate(later, truth, "author_native")
    with pytest.raises(EvaluationError, match="not of the same times"):
        evaluate(replace(truth.crowd, stamps=truth.crowd.stamps + 10**12), truth, "standard")
    with pytest.raises(EvaluationError, match="no frames"):
        evaluate(truth.crowd.take(np.arange(0)), truth)


def test_whoever_cannot_be_seen_need_not_be_found(truth: GroundTruth) -> None:
    visibility, boxes = truth.visibility.copy(), truth.crowd.boxes.copy()
    visibility[0] = 0.05  # hidden all the time
    boxes[1, :10] = 0.0  # outside the image
    seen = replace(changed(truth, boxes=boxes), visibility=visibility)
    evaluation = evaluate(replace(truth.crowd, valid=truth.crowd.valid & (np.arange(PEOPLE) > 0)[:, None]), seen)
    assert evaluation.num_people == PEOPLE - 1
    assert evaluation.values["recall"] == 1.0
    assert len(evaluation.samples["frame"]) == (PEOPLE - 1) * FRAMES - 10


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("tracking", TRACKINGS)
def test_whoever_cannot_be_seen_may_be_found(profile: Profile, tracking: Tracking, truth: GroundTruth) -> None:
    """The truth is perfect however much of it is out of sight."""
    visibility, boxes = truth.visibility.copy(), truth.crowd.boxes.copy()
    visibility[0] = 0.05
    boxes[1, :10] = 0.0
    seen = replace(changed(truth, boxes=boxes), visibility=visibility)
    assert_perfect(evaluate(seen.crowd, seen, profile, tracking).values)


def test_the_occluded_are_evaluated_apart(truth: GroundTruth) -> None:
    visibility = np.ones_like(truth.visibility)
    visibility[3, 5:15] = 0.3
    valid = truth.crowd.valid.copy()
    valid[3, 5:10] = False
    values = evaluate(replace(truth.crowd, valid=valid), replace(truth, visibility=visibility)).values
    assert values["occluded_recall"] == pytest.approx(0.5)
    assert values["occluded_mpjpe"] == pytest.approx(75.0)


def test_the_found_are_also_evaluated_alone(truth: GroundTruth) -> None:
    """Nobody's error changes with who is missed: the authors' scores do, by the share found and 150 mm each."""
    bent = truth.crowd.joints + 0.02 * np.random.default_rng(0).standard_normal(truth.crowd.joints.shape)
    valid = truth.crowd.valid.copy()
    valid[4] = False
    whole = replace(truth, crowd=truth.crowd.take(np.arange(1)), visibility=truth.visibility[:, :1])
    crowd = replace(truth.crowd, joints=bent, valid=valid).take(np.arange(1))
    values = evaluate(crowd, whole).values
    r = values["recall"]
    assert r == 1 - 1 / PEOPLE
    assert values["ppds_found"] == pytest.approx(values["ppds"] / r)
    assert values["pcod_found"] == pytest.approx(values["pcod"] / r)
    assert values["mpjpe_found"] == pytest.approx((values["mpjpe"] - 150.0 * (1 - r)) / r)
    valid[1:] = False
    alone = evaluate(replace(truth.crowd, valid=valid), truth).values
    assert np.isnan(alone["ppds_found"])
    assert alone["mpjpe_found"] == pytest.approx(0.0, abs=MM)


def test_the_hidden_are_those_half_seen_and_those_bridged(truth: GroundTruth) -> None:
    """Their errors are their own: a miss costs nothing there."""
    visibility, observed = np.ones_like(truth.visibility), np.ones_like(truth.crowd.valid)
    visibility[3, 5:15] = 0.3
    observed[1, :6] = False
    joints = truth.crowd.joints.copy()
    joints[3, 5:15] += [0.8, 0.0, 0.0]
    values = evaluate(
        replace(truth.crowd, joints=joints, observed=observed), replace(truth, visibility=visibility), tracking="ids"
    ).values
    assert values["hidden_share"] == pytest.approx(16 / (PEOPLE * FRAMES))
    assert values["hidden_root_error"] == pytest.approx(0.8 * 10 / 16)
    assert values["hidden_mpjpe"] == pytest.approx(0.0, abs=MM)


def test_drift_is_what_a_gap_adds_to_the_error_at_its_ends(truth: GroundTruth) -> None:
    """A distance that is wrong all the time is none, nor is it of whom nobody sees again."""
    joints, observed = truth.crowd.joints.copy(), truth.crowd.valid.copy()
    observed[1, 5:10] = observed[2, 20:] = False
    aside = np.array([0.3, 0.0, 0.0]) @ truth.crowd.cameras.R  # of each camera
    joints[1] += np.arange(FRAMES)[:, None, None] * aside[:, None]
    joints[1, 6:8] += aside[6:8, None]
    joints[2, 20:] += aside[20:, None]
    values = evaluate(replace(truth.crowd, joints=joints, observed=observed), truth, tracking="ids").values
    assert values["bridged_drift"] == pytest.approx(0.3 * 2 / 5)


def test_feet_are_measured_from_the_terrain_as_the_camera_sees_it_and_from_the_own_surface(
    made: Truth, truth: GroundTruth
) -> None:
    """Neither gravity nor the world's axes count, and a surface that errs as the people do is no excuse."""
    up = np.array([0.0, 0.07, 0.0])
    raised = replace(answer(made), motion=replace(made.motion, transl=made.motion.transl + up))
    turn = Rotation.from_euler("xyz", [0.5, 40, -0.5], degrees=True).as_matrix()
    for motion in (raised, in_another_world(raised, turn)):
        values = evaluate(crowd_of_motions([motion], body_model()), truth, tracking="ids").values
        assert values["feet_terrain"] == pytest.approx(0.07, abs=1e-3)
        assert values["feet_terrain_mean"] == pytest.approx(0.07, abs=3e-3)  # other vertices become the lowest
    both = replace(raised, surface=replace(raised.surface, vertices=raised.surface.vertices + up))
    values = evaluate(crowd_of_motions([both], body_model()), truth, tracking="ids").values
    assert values["feet_terrain"] == pytest.approx(0.07, abs=1e-3)
    assert values["feet_surface"] == pytest.approx(0.0, abs=1e-3)


def test_feet_from_the_terrain_with_size_aside_are_those_of_the_true_size(made: Truth, truth: GroundTruth) -> None:
    """All a tenth too large about the first camera, 5 m up, puts feet half a metre too low; who is sunk stays sunk."""
    centre = truth.crowd.cameras.centers[0]

    def measured(down: float, astray: float = 1.0) -> dict[str, float]:
        lowest = centre + 1.1 * (truth.crowd.lowest - [0.0, down, 0.0] - centre)
        lowest[0] = centre + astray * (lowest[0] - centre)
        return evaluate(replace(truth.crowd, lowest=lowest), truth, tracking="ids").values

    assert measured(0.0)["feet_terrain"] == pytest.approx(0.5, abs=1e-3)
    assert measured(0.0)["feet_terrain_resized"] == pytest.approx(0.0, abs=1e-3)
    assert measured(0.0, astray=2.0)["feet_terrain_resized"] == pytest.approx(0.0, abs=1e-3), "one is not all"
    assert 0.02 < measured(0.05)["feet_terrain_resized"] < 0.05, "to be lower is in part to be farther off"


def in_another_world(motion: CrowdMotion, turn: NDArray[Any]) -> CrowdMotion:
    """The same bodies before the same cameras, all of it turned."""
    smpl, J0 = motion.motion, motion.joints[..., 0, :] - motion.motion.transl
    orient = (Rotation.from_matrix(turn) * Rotation.from_rotvec(smpl.global_orient.reshape(-1, 3))).as_rotvec()
    turned = replace(
        smpl, global_orient=orient.reshape(smpl.global_orient.shape), transl=(smpl.transl + J0) @ turn.T - J0
    )
    return replace(motion, motion=turned, cameras=replace(motion.cameras, R=motion.cameras.R @ turn.T))


def test_a_height_field_is_met_where_its_triangles_are() -> None:
    rng = np.random.default_rng(5)
    heights, kept = rng.normal(size=(30, 40)).cumsum(0), rng.uniform(size=(29, 39, 2)) > 0.1
    surface = Surface(heights, np.array([-3.0, -9.0]), 0.4, kept, np.zeros(3))
    points = rng.uniform([-5, -3, -11], [11, 3, 9], (2000, 3))
    expected, there = surface.height(points[:, [0, 2]])
    above = height_above(surface.mesh(), points)
    np.testing.assert_array_equal(np.isfinite(above), there)
    np.testing.assert_allclose(above[there], (points[:, 1] - expected)[there], atol=1e-9)
    assert np.isnan(height_above(SurfaceMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), points)).all()


def test_a_short_mismatch_in_the_image_does_not_move_the_authors_tracks(truth: GroundTruth) -> None:
    """A track belongs, from its first to its last match, to whom it matched most often."""
    keypoints = truth.crowd.keypoints.copy()
    keypoints[[0, 1], 10] = keypoints[[1, 0], 10]
    values = evaluate(replace(truth.crowd, keypoints=keypoints), truth, "author_native", "detected").values
    assert values["mpjpe"] > 0.1
    assert values["wa_mpjpe"] == pytest.approx(0.0, abs=1e-6)


def test_failures_are_named(truth: GroundTruth) -> None:
    joints = truth.crowd.joints.copy()
    joints[2] += [5.0, 0.0, 0.0]
    evaluation = evaluate(replace(truth.crowd, joints=joints), truth, tracking="ids")
    assert evaluation.people["failed"].tolist() == [0, 0, 1, 0, 0]
    assert evaluation.people["root_error"][2] == pytest.approx(5.0)
    assert evaluation.values["failed_people"] == pytest.approx(1 / PEOPLE)


def test_unknown_identities_are_refused(truth: GroundTruth) -> None:
    with pytest.raises(EvaluationError, match="--tracking detected"):
        evaluate(replace(truth.crowd, track_ids=truth.crowd.track_ids + 100), truth, tracking="ids")


def test_an_empty_answer_scores_nothing(truth: GroundTruth) -> None:
    nobody = replace(truth.crowd, valid=np.zeros_like(truth.crowd.valid))
    for profile in PROFILES:
        values = evaluate(nobody, truth, profile).values
        assert values["recall"] == values["ppds"] == values["idf1"] == 0.0
        assert values["failed_people"] == 1.0
    assert evaluate(nobody, truth, "author_native").values["wa_mpjpe"] == 150.0


def test_virtual_crowds_labels(tmp_path: Path) -> None:
    crowd = ground_truth(flat_truth(3, 10), exact_body()).crowd
    path = tmp_path / "scene1_view2.json"
    path.write_text(json.dumps(labels(crowd)))
    labelled = read_ground_truth(path, body_model())
    np.testing.assert_allclose(labelled.crowd.intrinsics.K, crowd.intrinsics.K_rectified, rtol=1e-6)
    np.testing.assert_allclose(labelled.crowd.pixels(), crowd.pixels(), atol=1e-3)
    for profile in PROFILES:
        values = evaluate(replace(crowd, stamps=labelled.crowd.stamps), labelled, profile).values
        assert_perfect(values, but=["world_error"])  # the labels do not say where down is


def labels(crowd: Crowd) -> dict[str, Any]:
    """As publicly described: joints in the camera's axes."""
    joints, pixels = crowd.in_camera(crowd.joints), crowd.pixels()
    keypoints = crowd.in_camera(crowd.keypoints)
    K = crowd.intrinsics.K_rectified
    frames = []
    for t in range(crowd.num_frames):
        instances = []
        for n in np.flatnonzero(crowd.valid[:, t]):
            left, top, width, height = crowd.boxes[n, t]
            body = np.ones((54, 3)) * joints[n, t, 0]
            body[:24] = joints[n, t]
            body[list(COCO_OF_54)] = keypoints[n, t]
            image = body @ K.T
            flat = np.concatenate([image[:, :2] / image[:, 2:], np.ones((54, 1))], -1)
            np.testing.assert_allclose(flat[list(COCO_OF_54), :2], pixels[n, t])
            instances.append(
                {
                    "track_id": int(crowd.track_ids[n]),
                    "bbox_xyxy": [left, top, left + width, top + height],
                    "joints_2d_smpl54": flat.tolist(),
                    "joints_3d_smpl54": body.tolist(),
                }
            )
        frames.append({"frame_id": t, "instances": instances})
    return {"schema_version": SCHEMA, "frames": frames}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read the labels"),
        ('{"schema_version": "2"}', "schema_version is '2'"),
        (json.dumps({"schema_version": SCHEMA, "frames": [[{"track_id": 1}]]}), "joints_3d_smpl54"),
        (json.dumps({"schema_version": SCHEMA, "frames": []}), "no instance"),
    ],
)
def test_labels_of_another_layout_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "scene1.json").write_text(text)
    with pytest.raises(CrowdError, match=message):
        read_ground_truth(tmp_path / "scene1.json", body_model())


def test_another_body_is_noticed(made: Truth) -> None:
    with pytest.raises(CrowdError, match="another body model"):
        ground_truth(replace(made, joints=made.joints * 1.1), exact_body())


def test_the_table_names_its_profile_data_and_tracking(truth: GroundTruth) -> None:
    evaluation = evaluate(truth.crowd, truth, "standard", "ids")
    text = table(evaluation)
    assert "profile standard, tracking ids" in text
    assert f"plane, drone camera, walkers, {PEOPLE} people, seed 2" in text
    assert all(meaning.label in text for meaning in MEANING.values())
    assert len(people_table(evaluation).splitlines()) == 1 + PEOPLE
    assert json.loads(json.dumps(document(evaluation), allow_nan=False))["metrics"]["ppds"]["value"] == 100.0


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(folder / "answer"), str(folder), "--profile", "author_native", "--out", str(tmp_path)]
    assert main([*arguments, "--per-person"]) == 0
    printed = capsys.readouterr().out
    assert "profile author_native" in printed
    assert "MPJPE mm" in printed
    with (tmp_path / "metrics.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(MEANING)
    assert float(rows["ppds"]["value"]) == pytest.approx(100.0, abs=0.01)
    assert rows["accel"]["unit"] == "mm/frame²"
    assert sum(1 for _ in (tmp_path / "frames.csv").open()) == 1 + FRAMES
    assert sum(1 for _ in (tmp_path / "people.csv").open()) == 1 + PEOPLE
    assert (tmp_path / "errors.png").stat().st_size > 10_000

    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "evaluation.json").read_text())


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ("nothing", ".", "there is no"),
        ("..", ".", "is not a results folder"),
        ("answer", "answer", "there is no .*truth.npz"),
        ("answer/crowd.npz", ".", "neither a results folder nor"),
        ("answer/tracks.csv", ".", "neither a results folder nor"),
        ("answer", "answer/crowd.npz", "is not a truth.npz"),
        ("answer", "nothing.json", "cannot read the labels"),
    ],
)
def test_bad_paths_give_one_clear_line(
    prediction: str, truth: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder / prediction), str(folder / truth)]) == USER_ERROR
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_damaged_results_give_one_clear_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("crowd.npz", "cameras.json", "report.json", "tracks.csv", "surface.ply"):
        (tmp_path / name).write_bytes((folder / "answer" / name).read_bytes())
    for name, content in (("crowd.npz", b"PK damaged"), ("cameras.json", b"{}"), ("report.json", b"[")):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        assert main(["evaluate", str(tmp_path), str(folder)]) == USER_ERROR
        assert "reconstruct again" in capsys.readouterr().err
        (tmp_path / name).write_bytes(whole)
