"""A request becomes a truth, observations and files: reproducible, consistent, and good for the optimizer."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation
from test_cli import refusal

from crowd4d_ros import cli
from crowd4d_ros.axes import to_z_up
from crowd4d_ros.body.keypoints import keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import VisualizationConfig, nested, updated
from crowd4d_ros.io.camera import read_camera_info
from crowd4d_ros.io.results import read_results
from crowd4d_ros.synthetic.answer import only, perfect_answer
from crowd4d_ros.synthetic.config import SynthesisConfig
from crowd4d_ros.synthetic.files import (
    TRUTH,
    ObservationsError,
    TruthError,
    read_observations,
    read_truth,
    write_observations,
    write_truth,
)
from crowd4d_ros.synthetic.folder import tracks_of
from crowd4d_ros.synthetic.preview import preview, scaled
from crowd4d_ros.synthetic.synthesize import Request, SynthesisError, synthesize
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdWindow

QUICK = {"camera.surveillance_image": [640, 360], "camera.surveillance_distance": [8, 13], "paths.places": 6}
"""An image a quarter of the default's, of people about as large in it, and fewer places to find ways to."""
REQUEST = Request("hill", "surveillance", people=6, frames=8, seed=3, config=updated(SynthesisConfig(), QUICK))
FILES = {"truth.npz", "observations.npz", "camera_info.yaml", "plan.png", "preview.png", "report.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of REQUEST."""
    out = tmp_path_factory.mktemp("crowd")
    assert cli.main(arguments(out)) == 0
    return out


@pytest.fixture(scope="module")
def crowd() -> tuple[Truth, CrowdWindow]:
    return synthesize(REQUEST)


@pytest.fixture(scope="module")
def truth(crowd: tuple[Truth, CrowdWindow]) -> Truth:
    return crowd[0]


def arguments(out: Path, **changed: Any) -> list[str]:
    given = {"scene": "hill", "camera": "surveillance", "people": 6, "frames": 8, "seed": 3, "out": out, **changed}
    options = [(f"--{name}", str(value)) for name, value in given.items()]
    options += [("--set", f"{name}={value}") for name, value in QUICK.items()]
    return ["synthesize", *(word for option in options for word in option)]


def assert_same(a: Any, b: Any, tolerance: float = 0.0, name: str = "") -> None:
    """Two nested dataclasses of arrays are equal, but for ``tolerance``, relative to a metre or a pixel."""
    if is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), tolerance, f"{name}.{field.name}")
    elif isinstance(a, np.ndarray) and a.dtype.kind == "f":
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True, err_msg=name)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=name)
    elif isinstance(a, tuple):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other, tolerance, name)
    else:
        assert a == b, name


# --- the crowd ----------------------------------------------------------------------------------------------


def test_the_world_begins_at_the_first_camera_and_looks_ahead(truth: Truth) -> None:
    np.testing.assert_allclose(truth.cameras.centers[0], 0, atol=1e-9)
    ahead = truth.cameras.R[0][2]
    assert ahead[0] == pytest.approx(0, abs=1e-9)
    assert ahead[2] < -0.3


def test_joints_and_lowest_points_are_those_of_the_motion(truth: Truth) -> None:
    body = BodyModel.load(dtype=torch.float64)
    m = truth.motion
    parameters = [torch.as_tensor(a) for a in (m.betas[:, None], m.body_pose, m.global_orient, m.transl)]
    np.testing.assert_allclose(truth.joints, body.joints(*parameters), atol=1e-9)
    np.testing.assert_allclose(truth.lowest, body.lowest_vertex(*parameters)[1], atol=1e-9)


def test_keypoints_project_where_the_truth_says(truth: Truth) -> None:
    m = truth.motion
    parameters = [torch.as_tensor(a) for a in (m.betas[:, None], m.body_pose, m.global_orient, m.transl)]
    points = keypoints(BodyModel.load(dtype=torch.float64), *parameters).numpy()
    in_camera = points @ truth.cameras.R.swapaxes(-1, -2) + truth.cameras.t[:, None]
    pixels = in_camera @ truth.intrinsics.K_rectified.T
    ahead = in_camera[..., 2] > 0.1
    np.testing.assert_allclose((pixels[..., :2] / pixels[..., 2:])[ahead], truth.keypoints_2d[ahead], atol=1e-6)
    assert not truth.keypoints_visible[~ahead].any()


def test_people_stand_on_the_ground(truth: Truth) -> None:
    height, on_mesh = truth.terrain.height(truth.support_point[..., [0, 2]])
    assert on_mesh[truth.valid].all()
    np.testing.assert_allclose(truth.support_point[..., 1], height)
    np.testing.assert_allclose(truth.support_point[..., [0, 2]], truth.joints[..., 0, [0, 2]])
    below, _ = truth.terrain.height(truth.lowest[..., [0, 2]])
    above = (truth.lowest[..., 1] - below)[truth.valid]
    assert np.abs(np.median(above)) < 0.05


def test_who_is_seen_has_a_box_and_visible_points_inside_it(truth: Truth) -> None:
    seen = truth.visibility > 0
    assert seen.any()
    assert not seen[~truth.valid].any()
    assert (truth.boxes[seen][:, 2:] > 0).all()
    corner = truth.boxes[:, :, None, :2] - 1
    end = corner + truth.boxes[:, :, None, 2:] + 2
    inside = (truth.keypoints_2d >= corner) & (truth.keypoints_2d <= end)
    assert inside.all(-1)[truth.keypoints_visible].all()


def test_observations_are_of_the_same_frames_and_people(crowd: tuple[Truth, CrowdWindow]) -> None:
    truth, window = crowd
    np.testing.assert_array_equal(window.stamps, truth.stamps)
    assert window.is_new.all()
    assert window.observed.any()
    assert (window.valid | ~window.observed).all()
    middle = window.boxes[..., :2] + window.boxes[..., 2:] / 2
    true = truth.boxes[..., :2] + truth.boxes[..., 2:] / 2
    distance = np.linalg.norm(middle[:, None] - true, axis=-1).min(1)  # to whoever is nearest
    assert np.median(distance[window.observed]) < 0.1 * np.median(truth.boxes[truth.visibility > 0][:, 3])


def test_another_seed_makes_another_crowd(truth: Truth) -> None:
    other, _ = synthesize(replace(REQUEST, seed=4, frames=1))
    assert np.abs(other.joints[:, 0] - truth.joints[:, 0]).max() > 0.1
    assert not np.array_equal(other.cameras.R[0], truth.cameras.R[0])


def test_a_step_that_changes_leaves_the_other_steps_alone(truth: Truth) -> None:
    config = updated(REQUEST.config, {"bodies.statures": [1.7, 1.8]})
    shorter, _ = synthesize(replace(REQUEST, config=config))
    assert not np.array_equal(shorter.motion.betas, truth.motion.betas)
    assert_same(shorter.terrain, truth.terrain)
    assert_same(shorter.cameras, truth.cameras)
    np.testing.assert_array_equal(shorter.activity, truth.activity)
    assert np.abs(shorter.support_point - truth.support_point)[truth.valid].max() < 0.3, "the same ways"


def test_impossible_requests_are_refused() -> None:
    for changed, message in (({"people": 0}, "people is 0"), ({"frames": 0}, "frames is 0"), ({"seed": -1}, "seed")):
        with pytest.raises(SynthesisError, match=message):
            replace(REQUEST, **changed)
    for fps in (0.0, np.nan, np.inf):
        with pytest.raises(SynthesisError, match="fps"):
            replace(REQUEST, config=SynthesisConfig(fps=fps))
    with pytest.raises(SynthesisError, match="sit_reach"):
        replace(REQUEST, config=updated(SynthesisConfig(), {"bodies.sit_reach": 0.5}))


# --- its files ----------------------------------------------------------------------------------------------


def test_the_truth_comes_back_from_its_file(truth: Truth, tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.npz", truth)
    again = read_truth(tmp_path / "truth.npz")
    turns = [Rotation.from_rotvec(t.motion.global_orient.reshape(-1, 3)).as_matrix() for t in (truth, again)]
    np.testing.assert_allclose(*turns, atol=1e-6)
    same_turns = replace(again, motion=replace(again.motion, global_orient=truth.motion.global_orient))
    assert_same(same_turns, truth, tolerance=2e-6)
    for name in ("cameras", "terrain", "structures", "intrinsics", "stamps", "valid", "keypoints_visible", "fps"):
        assert_same(getattr(again, name), getattr(truth, name))


def test_the_file_is_z_up_and_says_what_it_holds(truth: Truth, tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.npz", truth)
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert set(arrays) == set(TRUTH)
    sizes = {"N": truth.num_people, "T": truth.num_frames}
    for key, (dtype, shape, _) in TRUTH.items():
        assert arrays[key].dtype.str.startswith(dtype), key
        wanted = [sizes.get(size, int(size) if size.isdigit() else None) for size in shape.split()]
        assert len(wanted) == arrays[key].ndim, key
        assert all(size in (None, found) for size, found in zip(wanted, arrays[key].shape, strict=True)), key
    assert "z up" in str(arrays["axes"])
    np.testing.assert_allclose(arrays["joints"], to_z_up(truth.joints), rtol=1e-5, atol=1e-5)
    pelvis = arrays["rest_pelvis"][:, None] + arrays["transl"]
    np.testing.assert_allclose(pelvis, arrays["joints"][:, :, 0], atol=1e-4)
    corner, spacing = arrays["terrain_corner"], arrays["terrain_spacing"]
    i, j = np.indices(arrays["terrain_heights"].shape)
    nodes = np.stack([corner[0] - spacing * j, corner[1] - spacing * i, arrays["terrain_heights"]], -1)
    np.testing.assert_allclose(nodes.reshape(-1, 3), to_z_up(truth.terrain.mesh().vertices), atol=1e-9)
    a, b, c = arrays["terrain_plane"]
    far = np.array([[500.0, 30.0, 700.0]])
    assert to_z_up(far)[0] @ [a, b, 0] + c == pytest.approx(truth.terrain.plane_height(far[:, [0, 2]])[0])


def test_observations_come_back_from_their_file(crowd: tuple[Truth, CrowdWindow], tmp_path: Path) -> None:
    write_observations(tmp_path / "o.npz", crowd[1])
    assert_same(read_observations(tmp_path / "o.npz"), crowd[1])
    with np.load(tmp_path / "o.npz", allow_pickle=False) as file:
        assert "y up" in str(file["axes"])


def test_other_files_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    text, cut, damaged, foreign = (tmp_path / f"{name}.npz" for name in ("words", "cut", "damaged", "foreign"))
    text.write_text("words")
    whole = (folder / "truth.npz").read_bytes()
    cut.write_bytes(whole[:5000])
    middle = len(whole) // 2
    damaged.write_bytes(whole[:middle] + bytes(100) + whole[middle + 100 :])
    np.savez(foreign, count=np.array(3))
    for path in (text, cut, damaged, foreign, tmp_path / "none.npz", tmp_path, folder / "observations.npz"):
        with pytest.raises(TruthError, match=path.name):
            read_truth(path)
    for path in (text, cut, damaged, foreign, folder / "truth.npz"):
        with pytest.raises(ObservationsError, match=path.name):
            read_observations(path)
    with np.load(folder / "truth.npz") as file:
        np.savez(tmp_path / "part.npz", **{key: file[key] for key in file.files if key != "joints"})
    with pytest.raises(TruthError, match="joints"):
        read_truth(tmp_path / "part.npz")


# --- answers, pictures and tracks ------------------------------------------------------------------------------


def test_the_truth_as_an_answer_is_the_truth(truth: Truth) -> None:
    answer = perfect_answer(truth)
    np.testing.assert_array_equal(answer.joints, truth.joints)
    assert (answer.valid | ~answer.observed).all()
    moved = truth.joints[:, 2:, 0] - truth.joints[:, :-2, 0]
    expected = moved / (2 / truth.fps)
    throughout = truth.valid.all(-1)
    np.testing.assert_allclose(answer.velocity[throughout, 1:-1], expected[throughout], atol=1e-9)
    one = only(answer, np.array([2]))
    assert one.track_ids.tolist() == [truth.track_ids[2]]
    np.testing.assert_array_equal(one.motion.transl[0], truth.motion.transl[2])


def test_tracks_are_rows_of_who_is_there(truth: Truth) -> None:
    rows = tracks_of(truth)
    assert len(rows) == truth.valid.sum()
    row = rows[0]
    person, frame = int(row["track_id"]) - 1, int(row["frame"])
    np.testing.assert_allclose([row["x"], row["y"], row["z"]], to_z_up(truth.joints[person, frame, 0]))


def test_the_preview_shows_people_where_they_are(truth: Truth) -> None:
    person, frame = np.argwhere(truth.visibility == truth.visibility.max())[0]
    half = replace(truth, intrinsics=scaled(truth.intrinsics, 0.5))
    nobody = replace(half, visibility=np.zeros_like(truth.visibility))
    body, config = BodyModel.load(), VisualizationConfig()
    drawn, empty = (preview(each, int(frame), body, config).astype(int) for each in (half, nobody))
    left, top, width, height = np.rint(0.5 * truth.boxes[person, frame]).astype(int)
    changed = np.abs(drawn - empty).sum(-1) > 0
    assert changed[top : top + height, left : left + width].mean() > 0.15
    assert changed.mean() < 0.5


# --- the command line ---------------------------------------------------------------------------------------


def test_the_command_writes_every_file(folder: Path, truth: Truth) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert read_truth(folder / "truth.npz").num_people == 6
    assert_same(read_camera_info(folder / "camera_info.yaml").K, truth.intrinsics.K, 1e-9)
    report = json.loads((folder / "report.json").read_text())
    assert report["request"]["scene"] == "hill"
    assert report["config"]["fps"] == 10.0
    assert len(report["people"]["seen"]) == 8
    assert {"paths", "bodies", "visibility", "observation"} <= set(report["seconds"])


def test_the_same_request_makes_the_same_bytes(folder: Path, crowd: tuple[Truth, CrowdWindow], tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.npz", crowd[0])
    write_observations(tmp_path / "observations.npz", crowd[1])
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_recordings_are_made_where_they_are_asked_for(
    crowd: tuple[Truth, CrowdWindow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def record(truth: Truth, body: BodyModel, out: Path, config: Any, rng: Any, **which: bool) -> None:
        asked.append({"people": truth.num_people, "out": out, "draw": rng.random(), **which})

    monkeypatch.setattr("crowd4d_ros.synthetic.folder.synthesize", lambda request, timed: crowd)
    monkeypatch.setattr("crowd4d_ros.synthetic.recording.write_recording", record)
    assert cli.main([*arguments(tmp_path), "--video"]) == cli.main([*arguments(tmp_path), "--bag"]) == 0
    assert [(each["video"], each["bag"], each["out"]) for each in asked] == [
        (True, False, tmp_path),
        (False, True, tmp_path),
    ]
    assert asked[0]["draw"] == asked[1]["draw"], "the same clothes in both"


def test_observations_are_optimized_into_results(folder: Path, tmp_path: Path) -> None:
    few = ["--set", "optimization.stage1_iterations=3", "--set", "optimization.stage2_iterations=2"]
    few += ["--set", "optimization.stage3_iterations=2"]
    few += ["--set", "window.length=6", "--set", "window.overlap=3", "--set", "window.pending=1"]
    assert cli.main(["optimize", str(folder), "--out", str(tmp_path / "out"), *few]) == 0
    results = read_results(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tracks.csv", "cameras.json", "crowd.npz", "surface.ply", "plan.png", "report.json",
    }  # fmt: skip
    window = read_observations(folder / "observations.npz")
    assert results.crowd["frames"].tolist() == list(range(8))
    assert set(results.crowd["track_ids"]) == set(window.track_ids)
    assert len(results.report["windows"]) == 2
    assert results.report["timings"]["optimization"]["seconds"] > 0


def test_mistakes_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert "'moon'" in refusal(arguments(out, scene="moon"), capsys)
    assert "'selfie'" in refusal(arguments(out, camera="selfie"), capsys)
    assert "people is 0" in refusal(arguments(out, people=0), capsys)
    assert "frames is -1" in refusal(arguments(out, frames=-1), capsys)
    assert "fps" in refusal(arguments(out, fps=0), capsys)
    assert "none.npz" in refusal(arguments(out, mocap="none.npz"), capsys)
    assert "no_such" in refusal([*arguments(out), "--set", "no_such=1"], capsys)
    assert "window" in refusal([*arguments(out), "--set", "window.length=60"], capsys)
    assert "body" in refusal(arguments(out, body="none.npz"), capsys)
    assert "--out" in refusal(arguments(folder / "truth.npz"), capsys)
    assert "none.npz" in refusal(["optimize", "none.npz", "--out", out], capsys)
    assert "observations.npz" in refusal(["optimize", tmp_path, "--out", out], capsys)
    assert "crowd4d truth" in refusal(["optimize", folder / "truth.npz", "--out", out], capsys)
    assert "window.overlap" in refusal(["optimize", folder, "--out", out, "--set", "window.overlap=60"], capsys)


def test_the_synthetic_settings_are_printed_and_can_be_given_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["config", "--synthetic", "--set", "fps=7"]) == 0
    printed = capsys.readouterr().out
    assert updated(SynthesisConfig(), nested(yaml.safe_load(printed))) == SynthesisConfig(fps=7.0)
    (tmp_path / "synthetic.yaml").write_text(printed)
    assert cli.main(["config", "--synthetic", "--config", str(tmp_path / "synthetic.yaml")]) == 0
    assert capsys.readouterr().out == printed
