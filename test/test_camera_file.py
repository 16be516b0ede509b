"""camera_info files: what is read, what is refused, and where points land in the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from crowd4d_ros.io.camera import (
    CameraInfoError,
    check_size,
    default_intrinsics,
    intrinsics_from,
    read_camera_info,
    write_camera_info,
)
from crowd4d_ros.lens import project, undistort
from crowd4d_ros.window import Intrinsics

K = [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
PLUMB_BOB = [-0.2, 0.05, 0.001, -0.002, 0.0]
VTEST = Path(__file__).parents[2] / "shared" / "data" / "vtest_camera_info.yaml"


def camera(D: list[float] = PLUMB_BOB, model: str = "plumb_bob") -> Intrinsics:
    return intrinsics_from(640, 480, K, D, model)


@pytest.mark.skipif(not VTEST.exists(), reason="../shared/data is not here")
def test_the_demo_camera_is_read() -> None:
    intrinsics = read_camera_info(VTEST)
    assert (intrinsics.width, intrinsics.height, intrinsics.distortion_model) == (768, 576, "plumb_bob")
    assert intrinsics.K[0, 0] == pytest.approx(1185.0013)
    np.testing.assert_allclose(intrinsics.K_rectified, intrinsics.K)
    assert intrinsics.source == "camera_info"


@pytest.mark.parametrize(
    ("model", "D"), [("plumb_bob", PLUMB_BOB), ("equidistant", [0.1, -0.02, 0.0, 0.001]), ("plumb_bob", [])]
)
def test_written_files_are_read_back(tmp_path: Path, model: str, D: list[float]) -> None:
    intrinsics = replace(camera(D, model), K_rectified=np.array([[550.0, 0, 310], [0, 560, 250], [0, 0, 1]]))
    write_camera_info(tmp_path / "camera.yaml", intrinsics)
    again = read_camera_info(tmp_path / "camera.yaml")
    for name in ("K", "distortion", "K_rectified"):
        np.testing.assert_allclose(getattr(again, name), getattr(intrinsics, name))
    assert again.distortion_model == model


def test_an_echoed_camera_info_message_is_read(tmp_path: Path) -> None:
    file = tmp_path / "echo.yaml"
    message = {
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": PLUMB_BOB,
        "k": K,
        "p": [0.0] * 12,
    }
    file.write_text(yaml.safe_dump(message))
    np.testing.assert_allclose(read_camera_info(file).K.ravel(), K)


def test_the_rectified_matrix_is_P_only_where_P_makes_sense() -> None:
    P = [500.0, 0, 300, 0, 0, 500, 200, 0, 0, 0, 1, 0]
    assert intrinsics_from(640, 480, K, [], "plumb_bob", P).K_rectified[0, 0] == 500
    for nonsense in ([0.0] * 12, [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], [np.nan] * 12):
        np.testing.assert_allclose(intrinsics_from(640, 480, K, [], "plumb_bob", nonsense).K_rectified.ravel(), K)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"K": [0.0] * 9}, "not calibrated"),
        ({"K": K[:8]}, "9 numbers"),
        ({"K": [-600.0, *K[1:]]}, "not a camera matrix"),
        ({"model": "thin_prism_fisheye"}, "not supported"),
        ({"model": "equidistant"}, "coefficients"),
        ({"width": 0}, "image size"),
        ({"P": [1.0, 2.0]}, "P 12"),
        ({"width": float("inf")}, "width and height one each"),
    ],
)
def test_useless_calibrations_are_refused_with_a_reason(change: dict[str, object], says: str) -> None:
    arguments = {"width": 640, "height": 480, "K": K, "D": PLUMB_BOB, "model": "plumb_bob", **change}
    with pytest.raises(CameraInfoError, match=says):
        intrinsics_from(**arguments)  # type: ignore[arg-type]


def test_a_calibration_that_names_no_model_is_of_the_usual_one() -> None:
    assert intrinsics_from(640, 480, K, PLUMB_BOB, None).distortion_model == "plumb_bob"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "not YAML"),
        ("just words", "not a camera info file"),
        ("image_width: 640", "image_height"),
        ("", "not a"),
    ],
)
def test_useless_files_are_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(text)
    with pytest.raises(CameraInfoError, match=says) as refusal:
        read_camera_info(file)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraInfoError, match=r"no such camera info file.*none\.yaml"):
        read_camera_info(tmp_path / "none.yaml")


def test_another_image_size_is_refused() -> None:
    check_size(camera(), 640, 480)
    with pytest.raises(CameraInfoError, match=r"640x480.*1280x960"):
        check_size(camera(), 1280, 960)


def test_without_a_calibration_the_guess_says_so() -> None:
    guess = default_intrinsics(1920, 1080)
    assert guess.source == "estimated"
    assert guess.K[0, 2] == 960
    assert 0.7 * 1920 < guess.K[0, 0] < 2 * 1920


@pytest.mark.parametrize(
    ("model", "D"),
    [
        ("plumb_bob", PLUMB_BOB),
        ("rational_polynomial", [0.1, 0.02, 0.0, 0.0, 0.01, 0.15, 0.01, 0.0]),
        ("equidistant", [0.05, -0.01, 0.0, 0.0]),
        ("equidistant", []),
        ("plumb_bob", []),
    ],
)
def test_projecting_inverts_undistorting(model: str, D: list[float]) -> None:
    intrinsics = camera(D, model)
    pixels = np.stack(np.meshgrid(np.linspace(5, 635, 9), np.linspace(5, 475, 7)), -1)
    rays = np.concatenate([undistort(intrinsics, pixels), np.ones((7, 9, 1))], -1)
    np.testing.assert_allclose(project(intrinsics, rays * 7.0), pixels, atol=0.05)


def test_without_distortion_the_projection_is_the_pinhole() -> None:
    points = np.array([[[0.5, -0.3, 4.0]], [[-1.0, 0.2, 9.0]]])
    image = points @ np.reshape(K, (3, 3)).T
    np.testing.assert_allclose(project(camera([]), points), image[..., :2] / image[..., 2:])


def test_points_that_the_camera_cannot_see_have_no_pixels() -> None:
    behind, beside = [0.0, 0.0, -2.0], [40.0, 0.0, 2.0]
    pixels = project(camera(), np.array([behind, beside, [0.0, 0.0, 2.0]]))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [320, 240])


def test_distorted_pixels_agree_with_opencv() -> None:
    intrinsics = camera()
    points = np.array([[0.4, 0.2, 2.0]])
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), intrinsics.K, np.array(PLUMB_BOB))
    np.testing.assert_allclose(project(intrinsics, points), expected.reshape(1, 2))
