"""The command line on real pixels, models and all: the files agree with each other in the z-up world."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from crowd4d_ros import cli
from crowd4d_ros.io.camera import intrinsics_from
from crowd4d_ros.io.results import Results, read_results
from crowd4d_ros.lens import project

VIDEO = Path(__file__).resolve().parents[2] / "shared" / "data" / "vtest.avi"
CALIBRATION = Path(__file__).resolve().parents[1] / "config" / "vtest_camera_info.yaml"
FRAMES = 12
QUICK = {
    "optimization.stage1_iterations": 10,
    "optimization.stage2_iterations": 10,
    "optimization.stage3_iterations": 10,
    "window.length": FRAMES,  # the last window ends where the first did
    "window.overlap": 4,
    "window.pending": 2,
}


def crowd4d(video: Path, out: Path) -> int:
    settings = [word for name, number in QUICK.items() for word in ("--set", f"{name}={number}")]
    arguments = ["reconstruct", video, "--camera-info", CALIBRATION, "--out", out, "--frames", FRAMES, "--fps", 7]
    return cli.main([str(word) for word in arguments] + settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not VIDEO.is_file():
        pytest.skip(f"no {VIDEO.name} beside the repository, in shared/data")
    folder = tmp_path_factory.mktemp("vtest")
    assert crowd4d(VIDEO, folder) == 0
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)


def test_joints_fall_into_the_boxes(results: Results) -> None:
    cameras, crowd = results.cameras, results.crowd
    intrinsics = intrinsics_from(
        cameras["width"], cameras["height"], cameras["K"], cameras["distortion"], cameras["distortion_model"]
    )
    R = np.array([frame["R"] for frame in cameras["frames"]])
    t = np.array([frame["t"] for frame in cameras["frames"]])
    pixels = project(intrinsics, np.einsum("tij,ntkj->ntki", R, crowd["joints"]) + t[:, None])
    low, size = crowd["boxes"][:, :, None, :2], crowd["boxes"][:, :, None, 2:]
    inside = ((pixels > low - 0.15 * size) & (pixels < low + 1.15 * size)).all(-1)
    assert crowd["observed"].sum() > FRAMES
    assert inside[crowd["observed"]].mean() > 0.9


def test_the_table_repeats_the_arrays(results: Results) -> None:
    tracks, crowd = results.tracks, results.crowd
    person = np.searchsorted(crowd["track_ids"], tracks["track_id"])
    frame = np.searchsorted(crowd["frames"], tracks["frame"])
    pelvis, foot = (np.stack([tracks[f"{kind}{axis}"] for axis in "xyz"], -1) for kind in ("", "foot_"))
    np.testing.assert_allclose(pelvis, crowd["joints"][person, frame, 0], atol=1e-4)
    np.testing.assert_allclose(foot, crowd["support_point"][person, frame], atol=1e-4)
    np.testing.assert_array_equal(tracks["stamp"], crowd["stamps"][frame])


def test_people_stand_upright_on_the_surface_below_the_camera(results: Results, folder: Path) -> None:
    tracks, camera = results.tracks, results.report["camera"]
    np.testing.assert_allclose(tracks["z"] - tracks["foot_z"], 0.9, atol=0.2)
    np.testing.assert_allclose(tracks["foot_z"], -camera["height_m"], atol=0.5)
    assert camera["height_m"] == pytest.approx(results.report["calibration"]["camera_height_m"], rel=0.02)
    assert camera["pitch_deg"] == pytest.approx(results.report["calibration"]["pitch_deg"], abs=0.01)
    surface = trimesh.load(folder / "surface.ply", process=False)
    feet = np.stack([tracks["foot_x"], tracks["foot_y"]], -1)
    nearest = np.linalg.norm(surface.vertices[None, :, :2] - feet[:, None], axis=-1).argmin(1)
    np.testing.assert_allclose(surface.vertices[nearest, 2], tracks["foot_z"], atol=0.05)


def test_the_video_has_every_frame(folder: Path) -> None:
    video = cv2.VideoCapture(str(folder / "overlay.mp4"))
    frames = sum(iter(lambda: video.grab(), False))
    assert frames == FRAMES
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(7, abs=0.01)


def test_a_recording_of_nobody_is_every_file_and_a_warning(tmp_path: Path) -> None:
    video = tmp_path / "black.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 7.0, (768, 576))
    for _ in range(3):
        writer.write(np.zeros((576, 768, 3), np.uint8))
    writer.release()
    assert crowd4d(video, tmp_path / "out") == 0
    results = read_results(tmp_path / "out")
    assert len(results.tracks) == 0
    assert len(results.cameras["frames"]) == 3
    assert "no people were found" in results.report["warnings"]
