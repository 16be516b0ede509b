"""The files of a reconstruction: what goes in comes out, metres, z up; what is interrupted continues."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_crowd import camera, observe, walkers
from synthetic_motion import (
    CAMERA_HEIGHT,
    body_model,
    crowd_motion,
    nobody,
    people_of,
    windows,
    world_vertices,
)

from crowd4d_ros.axes import to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, updated
from crowd4d_ros.initialization.detection import Detections
from crowd4d_ros.initialization.tracking import KalmanTracker
from crowd4d_ros.io.arrays import load_list, load_state, save_list
from crowd4d_ros.io.camera import intrinsics_from
from crowd4d_ros.io.output import OutputError, prepare_folder, replacing
from crowd4d_ros.io.results import COLUMNS, CROWD, Results, ResultWriter, read_results
from crowd4d_ros.io.resume import WorkFolder, key_of
from crowd4d_ros.window import CrowdMotion, FrameObservations
from crowd4d_ros.world import World


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return body_model()


def written(folder: Path, *motions: CrowdMotion) -> Results:
    writer = ResultWriter(folder, Config(), body_model())
    for motion in motions:
        writer.add(motion)
    writer.close({"timings": {"perception": 1.0}})
    return read_results(folder)


def test_the_table_has_the_columns_that_people_script_against(tmp_path: Path) -> None:
    written(tmp_path, crowd_motion())
    header = (tmp_path / "tracks.csv").read_text().splitlines()[0]
    assert header == ("frame,stamp,track_id,left,top,width,height,x,y,z,foot_x,foot_y,foot_z,confidence")


def test_the_table_has_everybody_in_every_frame_once(tmp_path: Path) -> None:
    motion = crowd_motion(people=3, frames=30)
    tracks = written(tmp_path, *windows(motion, length=12, overlap=4)).tracks
    assert [(row["frame"], row["track_id"]) for row in tracks] == [(t, n) for t in range(30) for n in (1, 2, 3)]
    pelvis, foot = to_z_up(motion.joints[:, :, 0]), to_z_up(motion.support_point)
    second = tracks[tracks["track_id"] == 2]
    np.testing.assert_allclose(np.stack([second[c] for c in "xyz"], -1), pelvis[1], atol=1e-4)
    np.testing.assert_allclose(np.stack([second[f"foot_{c}"] for c in "xyz"], -1), foot[1], atol=1e-4)
    np.testing.assert_allclose(second["foot_z"], -CAMERA_HEIGHT, atol=1e-4)
    boxes = np.stack([second[name] for name in ("left", "top", "width", "height")], -1)
    np.testing.assert_allclose(boxes, motion.boxes[1], atol=0.01)
    np.testing.assert_array_equal(second["stamp"], motion.stamps)


def test_a_bridged_person_gets_the_box_of_its_body(tmp_path: Path) -> None:
    motion = crowd_motion(people=1, frames=6)
    observed, boxes = motion.observed.copy(), motion.boxes.copy()
    observed[0, 3], boxes[0, 3] = False, 0.0
    tracks = written(tmp_path, replace(motion, observed=observed, boxes=boxes)).tracks
    box = [tracks[name][3] for name in ("left", "top", "width", "height")]
    np.testing.assert_allclose(box, motion.boxes[0, 3], atol=1.0)


def test_a_bridged_person_out_of_the_picture_has_no_row_but_keeps_its_motion(tmp_path: Path) -> None:
    motion = crowd_motion(people=1, frames=4)
    aside = motion.motion.transl.copy()
    aside[0, 2, 0] += 60.0
    observed = motion.observed.copy()
    observed[0, 2] = False
    results = written(tmp_path, replace(motion, motion=replace(motion.motion, transl=aside), observed=observed))
    assert results.tracks["frame"].tolist() == [0, 1, 3]
    assert results.crowd["valid"][0].tolist() == [True] * 4


def test_the_stored_parameters_rebuild_the_same_bodies_z_up(tmp_path: Path, body: BodyModel) -> None:
    motion = crowd_motion(people=2, frames=3)
    crowd = written(tmp_path, motion).crowd
    with torch.no_grad():
        vertices = body.vertices(
            *(torch.as_tensor(crowd[name]) for name in ("betas", "body_pose", "global_orient", "transl"))
        ).numpy()
    np.testing.assert_allclose(vertices, to_z_up(world_vertices(body, motion.motion)), atol=1e-4)
    np.testing.assert_allclose(crowd["joints"], to_z_up(motion.joints), atol=1e-5)


def test_the_arrays_have_their_documented_shapes(tmp_path: Path) -> None:
    motion = crowd_motion(people=2, frames=9)
    crowd = written(tmp_path, *windows(motion, length=5, overlap=2)).crowd
    assert set(crowd) == {*CROWD, "stamps", "frames", "segment_ids", "scale", "track_ids"}
    for name, (dtype, shape, _) in CROWD.items():
        assert (crowd[name].dtype, crowd[name].shape) == (np.dtype(dtype), (2, 9, *shape)), name
    np.testing.assert_array_equal(crowd["stamps"], motion.stamps)
    np.testing.assert_array_equal(crowd["track_ids"], [1, 2])


def test_people_who_come_and_go_are_padded_with_zeros(tmp_path: Path) -> None:
    motion = crowd_motion(people=3, frames=10)
    first, second = windows(motion, length=5, overlap=0)
    results = written(tmp_path, people_of(first, np.array([0, 1])), people_of(second, np.array([2, 1])))
    np.testing.assert_array_equal(results.crowd["track_ids"], [1, 2, 3])
    valid = results.crowd["valid"]
    assert valid.sum(axis=1).tolist() == [5, 10, 5]
    assert not results.crowd["joints"][~valid].any()
    np.testing.assert_allclose(results.crowd["joints"][1], to_z_up(motion.joints[1]), atol=1e-5)


def test_the_cameras_see_the_written_points_in_their_boxes(tmp_path: Path) -> None:
    results = written(tmp_path, crowd_motion(people=4, frames=3))
    c = results.cameras
    intrinsics = intrinsics_from(c["width"], c["height"], c["K"], c["distortion"], c["distortion_model"])
    R, t = np.array(c["frames"][0]["R"]), np.array(c["frames"][0]["t"])
    now = results.tracks[results.tracks["frame"] == 0]
    seen = np.stack([now[name] for name in "xyz"], -1) @ R.T + t
    pixels = seen @ intrinsics.K.T
    x, y = (pixels[:, :2] / pixels[:, 2:]).T
    assert ((now["left"] < x) & (x < now["left"] + now["width"])).all()
    assert ((now["top"] < y) & (y < now["top"] + now["height"])).all()
    assert c["frames"][0]["source"] == "people"
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)


def test_the_surface_is_z_up(tmp_path: Path) -> None:
    motion = crowd_motion()
    surface = written(tmp_path, motion).surface
    np.testing.assert_allclose(surface.vertices, to_z_up(motion.surface.vertices), atol=1e-5)
    np.testing.assert_array_equal(surface.faces, motion.surface.faces)


def test_the_report_says_when_there_is_nobody_and_when_there_is_nothing(tmp_path: Path) -> None:
    assert written(tmp_path).report["warnings"] == ["no window could be reconstructed"]
    nobody = people_of(crowd_motion(people=1, frames=3), np.zeros(0, int))
    assert "no people were found" in written(tmp_path, nobody).report["warnings"]


def test_the_report_tells_who_was_there(tmp_path: Path) -> None:
    motion = crowd_motion(people=2, frames=20)
    report = written(tmp_path, *windows(motion, length=10, overlap=4)).report
    walked = np.linalg.norm(np.diff(motion.joints[0, :, 0], axis=0), axis=-1).sum()
    first = report["people"][0]
    assert (first["track_id"], first["frames"], first["first_frame"], first["last_frame"]) == (1, 20, 0, 19)
    assert first["path_length"] == pytest.approx(walked, rel=0.02)
    assert first["mean_speed"] == pytest.approx(walked / 1.9, rel=0.02)
    assert 1.4 < first["height"] < 2.0
    assert [window["new_frames"] for window in report["windows"]] == [10, 6, 4]
    assert report["models"]["body"] == body_model().sha256
    assert report["warnings"] == ["synthetic"]
    assert report["solver"] == "adam"
    assert report["camera"]["height_m"] == pytest.approx(CAMERA_HEIGHT, abs=0.05)
    assert {"crowd4d_ros", "numpy", "torch"} <= set(report["versions"])


@pytest.mark.parametrize("motions", [[], [nobody()]])
def test_without_people_every_file_is_there_and_empty(tmp_path: Path, motions: list[CrowdMotion]) -> None:
    results = written(tmp_path, *motions)
    assert len(results.tracks) == 0
    assert results.tracks.dtype.names == tuple(COLUMNS)
    assert results.crowd["betas"].shape == (0, 5 * len(motions), 10)
    assert len(results.cameras["frames"]) == 5 * len(motions)
    assert results.surface.faces.shape == (0, 3)


def test_a_person_for_one_frame_is_written(tmp_path: Path) -> None:
    motion = crowd_motion(people=1, frames=5)
    valid = np.zeros_like(motion.valid)
    valid[0, 2] = True
    results = written(tmp_path, replace(motion, valid=valid, observed=valid))
    assert results.tracks["frame"].tolist() == [2]
    assert results.report["people"][0]["mean_speed"] == 0.0


# --- what cannot be written ---------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--out"):
        prepare_folder(tmp_path / "file" / "out", 1)


def test_too_small_a_disk_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"MB free.*--out"):
        prepare_folder(tmp_path, 1 << 60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    def fill() -> None:
        with replacing(tmp_path / "file"), open("/dev/full", "w") as file:
            file.write("x")

    with pytest.raises(OutputError, match="disk is full"):
        fill()


# --- resuming -----------------------------------------------------------------------------------------------


def assert_same(a: Any, b: Any) -> None:
    if is_dataclass(a):
        for entry in fields(a):
            assert_same(getattr(a, entry.name), getattr(b, entry.name))
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


def observations(frames: int = 45) -> list[FrameObservations]:
    seen = observe(walkers(3, frames), camera(), body=None)
    masks = [tuple(np.arange(t % 4 + n, dtype=np.uint32) for n in range(len(o.track_ids))) for t, o in enumerate(seen)]
    return [replace(o, masks=m) for o, m in zip(seen, masks, strict=True)]


@pytest.mark.parametrize("motion", [crowd_motion(), nobody()])
def test_windows_survive_the_disk_bit_by_bit(tmp_path: Path, motion: CrowdMotion) -> None:
    save_list(tmp_path / "window.npz", [motion])
    (again,) = load_list(tmp_path / "window.npz", CrowdMotion)
    assert_same(motion, again)


def test_an_interrupted_run_finds_what_it_finished(tmp_path: Path) -> None:
    seen = observations()
    pieces = windows(crowd_motion(frames=20), length=8, overlap=2)
    work = WorkFolder(tmp_path, "key")
    for each in seen:
        work.add_observations(each, {"next_id": np.array(each.index)})
    world = World()
    for piece in pieces[:2]:
        world = world.after(piece, scale_is_stable=True)
        work.finish_window(piece, world)
    work.flush()
    again = WorkFolder(tmp_path, "key")
    assert again.num_windows == 2
    for before, after in zip(seen, again.observations(), strict=True):
        assert_same(before, after)
    for before, after in zip(pieces[:2], again.motions(), strict=True):
        assert_same(before, after)
    assert_same(again.world().last, world.last)
    assert again.state() == {"next_id": len(seen) - 1}
    again.add_observations(seen[0], {})
    again.flush()
    assert len(list(again.observations())) == len(seen) + 1


def test_a_tracker_goes_on_from_the_disk_as_if_nothing_had_happened(tmp_path: Path) -> None:
    seen = [Detections(o.boxes, o.box_confidence) for o in observations(30)]
    stamps = [t * 10**8 for t in range(30)]
    tracker, config = KalmanTracker(Config().tracking, (768, 576)), Config().tracking
    whole = [tracker.update(*each) for each in zip(seen, stamps, strict=True)]
    first = KalmanTracker(config, (768, 576))
    for each in zip(seen[:15], stamps[:15], strict=True):
        first.update(*each)
    save_list(tmp_path / "state.npz", [], first.state())
    second = KalmanTracker(config, (768, 576))
    second.restore(load_state(tmp_path / "state.npz"))
    rest = [second.update(*each) for each in zip(seen[15:], stamps[15:], strict=True)]
    assert_same(tuple(whole[15:]), tuple(rest))
    assert max(ids.max(initial=0) for ids in rest) > 0


def test_other_arguments_start_over(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path, "key")
    work.finish_window(crowd_motion(), World())
    assert WorkFolder(tmp_path, "other").num_windows == 0


def test_the_key_is_made_of_input_options_settings_and_the_files_they_name(tmp_path: Path) -> None:
    video, model = tmp_path / "video.avi", tmp_path / "body.npz"
    video.write_bytes(b"1" * 3_000_000)
    model.write_bytes(b"a")
    config = updated(Config(), {"body": str(model)})
    keys = [
        key_of(video, {"start": 0}, config),
        key_of(video, {"start": 1}, config),
        key_of(video, {"start": 0}, Config()),
    ]
    model.write_bytes(b"b")
    keys.append(key_of(video, {"start": 0}, config))
    video.write_bytes(b"1" * 2_999_999 + b"2")
    keys.append(key_of(video, {"start": 0}, config))
    assert len(set(keys)) == 5
    assert keys[-1] == key_of(video, {"start": 0}, config)
