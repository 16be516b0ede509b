"""Pictures: bodies where the people are, near before far, the bridged ones lighter, and a plan to scale."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_motion import body_model, crowd_motion, frames_of, nobody, people_of, windows

from crowd4d_ros.config import Config
from crowd4d_ros.io.camera import intrinsics_from
from crowd4d_ros.io.output import OutputError
from crowd4d_ros.io.results import ResultWriter, posed_vertices, read_results
from crowd4d_ros.lens import project
from crowd4d_ros.visualization import track_color
from crowd4d_ros.visualization.overlay import OverlayPainter, write_overlay
from crowd4d_ros.visualization.plan import plan_figure, write_plan
from crowd4d_ros.visualization.raster import decimate, paint, shade
from crowd4d_ros.window import Frame

CONFIG = Config().visualization
NO_LINES = replace(CONFIG, foot_radius=0.0, trail=0.0, text_height=0.0)
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def painter() -> OverlayPainter:
    return OverlayPainter(body_model(), NO_LINES)


def gray() -> Image:
    return np.full((576, 768, 3), 128, np.uint8)


def painted(before: Image, after: Image) -> NDArray[np.bool_]:
    return np.abs(before.astype(int) - after).max(-1) > 8


# --- triangles ----------------------------------------------------------------------------------------------

FRONT = np.array([[[10.0, 10.0], [10.0, 40.0], [40.0, 40.0]]])
"""counter-clockwise as seen, with y down."""


def paint_one(corners: NDArray[np.float64], color: tuple[float, ...], depth: float = 1.0) -> Image:
    return paint(np.zeros((64, 64, 3), np.uint8), corners, np.array([depth]), np.array([color]), 2)


def test_a_triangle_covers_its_area() -> None:
    image = paint_one(FRONT, (255, 255, 255, 1.0))
    assert image.sum() / (3 * 255) == pytest.approx(30 * 30 / 2, rel=0.08)
    assert image[35, 15].tolist() == [255, 255, 255]
    assert image[15, 35].tolist() == [0, 0, 0]


def test_backs_and_unprojectable_triangles_are_not_painted() -> None:
    assert not paint_one(FRONT[:, ::-1], (255, 255, 255, 1.0)).any()
    hidden = FRONT.copy()
    hidden[0, 0] = np.nan
    assert not paint_one(hidden, (255, 255, 255, 1.0)).any()


def test_opacity_mixes_with_the_image_below() -> None:
    below = np.full((64, 64, 3), 100, np.uint8)
    image = paint(below, FRONT, np.ones(1), np.array([[200.0, 0.0, 100.0, 0.25]]), 2)
    np.testing.assert_allclose(image[35, 15].astype(int), [125, 75, 100], atol=1)
    assert below.min() == 100


def test_the_near_triangle_hides_the_far_one() -> None:
    both = np.concatenate([FRONT, FRONT])
    colors = np.array([[255.0, 0, 0, 1.0], [0, 0, 255.0, 1.0]])
    for depth, seen in (([1.0, 2.0], [255, 0, 0]), ([2.0, 1.0], [0, 0, 255])):
        image = paint(np.zeros((64, 64, 3), np.uint8), both, np.array(depth), colors, 2)
        assert image[35, 15].tolist() == seen


def test_triangles_across_the_border_are_cut() -> None:
    image = paint_one(FRONT * 10 - 150, (255, 255, 255, 1.0))
    assert image[60, 3].all()


def test_light_comes_from_above_the_camera() -> None:
    def plate(normal: list[float]) -> NDArray[np.float64]:
        a = np.cross(normal, [0.3, 0.5, 0.81])
        return np.stack([np.zeros(3), a, np.cross(normal, a)])

    facing, turned = shade(np.stack([plate([0, -0.7, -0.7]), plate([0, 0.7, 0.7])]))
    assert facing > 0.9
    assert turned < 0.5


def test_a_decimated_body_is_smaller_and_has_the_same_extent() -> None:
    vertices, faces = body_model().v_template.numpy(), body_model().faces.numpy()
    index, coarse = decimate(vertices, faces, 0.06)
    assert len(coarse) < len(faces) / 8
    assert coarse.max() == len(index) - 1
    np.testing.assert_allclose(vertices[index].max(0), vertices.max(0), atol=0.06)
    corners = vertices[index][coarse]
    volume = (np.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum() / 6
    whole = vertices[faces]
    assert volume == pytest.approx((np.cross(whole[:, 0], whole[:, 1]) * whole[:, 2]).sum() / 6, rel=0.15)


def test_no_decimation_is_the_mesh_itself() -> None:
    vertices, faces = body_model().v_template.numpy(), body_model().faces.numpy()
    index, same = decimate(vertices, faces, 0.0)
    np.testing.assert_array_equal(index, np.arange(len(vertices)))
    np.testing.assert_array_equal(same, faces)


# --- overlays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distortion", [[], [-0.3, 0.1, 0.0, 0.0, 0.0]])
def test_bodies_are_where_the_camera_sees_the_people(painter: OverlayPainter, distortion: list[float]) -> None:
    motion = crowd_motion(people=1, frames=2)
    K = motion.intrinsics.K
    motion = replace(motion, intrinsics=intrinsics_from(768, 576, K, distortion, "plumb_bob"))
    changed = painted(gray(), painter.draw(gray(), motion, 0))
    vertices = posed_vertices(painter.body, motion, np.array([0]), 0, np.arange(6890))[0]
    pixels = project(motion.intrinsics, vertices @ motion.cameras.R[0].T + motion.cameras.t[0])
    rows, columns = np.nonzero(changed)
    np.testing.assert_allclose([columns.min(), rows.min()], pixels.min(0), atol=2.5)
    np.testing.assert_allclose([columns.max(), rows.max()], pixels.max(0), atol=2.5)


def test_bridged_people_are_lighter(painter: OverlayPainter) -> None:
    motion = crowd_motion(people=1, frames=2)
    bridged = replace(motion, observed=np.zeros_like(motion.observed))
    strength = [np.abs(painter.draw(gray(), each, 0).astype(int) - 128).sum() for each in (motion, bridged)]
    assert strength[1] < 0.7 * strength[0]


def test_who_is_not_valid_is_not_drawn(painter: OverlayPainter) -> None:
    motion = crowd_motion(people=2, frames=2)
    nobody_valid = replace(motion, valid=np.zeros_like(motion.valid))
    np.testing.assert_array_equal(painter.draw(gray(), nobody_valid, 0), gray())
    np.testing.assert_array_equal(OverlayPainter(body_model(), CONFIG).draw(gray(), nobody(), 0), gray())


def test_colors_belong_to_the_track_not_to_its_place(painter: OverlayPainter) -> None:
    motion = crowd_motion(people=3, frames=2)
    turned = people_of(motion, np.array([2, 0, 1]))
    np.testing.assert_array_equal(painter.draw(gray(), motion, 1), painter.draw(gray(), turned, 1))
    colors = np.stack([track_color(track_id) for track_id in range(1, 13)])
    apart = np.linalg.norm(colors[:, None] - colors, axis=-1) + 9 * np.eye(12)
    assert apart.min() > 0.1


def test_the_ground_is_marked_under_the_feet(painter: OverlayPainter) -> None:
    motion = crowd_motion(people=1, frames=12)
    with_lines = OverlayPainter(body_model(), replace(CONFIG, text_height=0.0)).draw(gray(), motion, 11)
    without = painter.draw(gray(), motion, 11)
    rows, columns = np.nonzero(painted(without, with_lines))
    foot = project(motion.intrinsics, motion.support_point[0, 11] @ motion.cameras.R[11].T)
    assert np.hypot(columns - foot[0], rows - foot[1]).min() < 25


def test_near_people_get_finer_meshes(painter: OverlayPainter) -> None:
    levels = painter._choose_levels(np.array([40.0, 150.0, 2000.0]))
    assert levels.tolist() == [0, 1, 2]


def test_the_video_has_every_frame_and_the_picture_the_most_people(tmp_path: Path, painter: OverlayPainter) -> None:
    motion = crowd_motion(people=3, frames=10)
    valid = motion.valid.copy()
    valid[1:, :6] = False
    motion = replace(motion, valid=valid, observed=valid)
    frames = [Frame(gray(), t * 10**8, t) for t in range(14)]
    drawn = list(write_overlay(tmp_path, frames, windows(motion, length=6, overlap=2), painter, 10.0))
    assert drawn == list(range(14)), "frames without a window are there too"
    video = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    count = 0
    while video.read()[0]:
        count += 1
    assert count == 14
    best = cv2.imread(str(tmp_path / "overlay.png"))
    np.testing.assert_array_equal(best, painter.draw(gray(), motion, 6))


def test_windows_that_begin_later_are_drawn_on_their_own_frames(tmp_path: Path, painter: OverlayPainter) -> None:
    late = frames_of(crowd_motion(people=1, frames=10), slice(5, 10))
    frames = [Frame(gray(), t * 10**8, t) for t in range(10)]
    list(write_overlay(tmp_path, frames, [late], painter, 10.0))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "overlay.png")), painter.draw(gray(), late, 0))


def test_a_video_that_the_disk_had_no_room_for_is_told_and_not_left(tmp_path: Path, painter: OverlayPainter) -> None:
    """OpenCV's writer does not tell."""
    noise = np.random.default_rng(0).integers(0, 255, gray().shape, np.uint8)
    frames = [Frame(image, t * 10**8, t) for t, image in enumerate([gray(), noise, noise])]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"overlay.mp4 was not written whole"):
            list(write_overlay(tmp_path, frames, [], painter, 10.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


# --- plans --------------------------------------------------------------------------------------------------


def test_the_plan_shows_every_path_in_metres(tmp_path: Path) -> None:
    motion = crowd_motion(people=4, frames=25)
    writer = ResultWriter(tmp_path, Config(), body_model())
    writer.add(motion)
    writer.close({})
    results = read_results(tmp_path)
    figure = plan_figure(results.tracks, results.cameras, results.surface, CONFIG)
    axes = figure.axes[0]
    paths = [line for line in axes.lines if str(line.get_label()).endswith("m/s")]
    assert len(paths) == 4
    y, x = np.array(paths[0].get_data(), float)
    track = results.tracks[results.tracks["track_id"] == int(str(paths[0].get_label()).split()[0])]
    np.testing.assert_allclose(x, track["foot_x"])
    np.testing.assert_allclose(y, track["foot_y"])
    left, right = axes.get_xlim()
    assert left > right, "y points to the left of the picture"
    assert axes.get_ylim()[0] < results.tracks["foot_x"].min() < results.tracks["foot_x"].max() < axes.get_ylim()[1]
    write_plan(tmp_path / "plan.png", results.tracks, results.cameras, results.surface, CONFIG)
    assert min(cv2.imread(str(tmp_path / "plan.png")).shape[:2]) > 300


def test_a_plan_of_nobody_is_a_plan(tmp_path: Path) -> None:
    writer = ResultWriter(tmp_path, Config(), body_model())
    writer.close({})
    results = read_results(tmp_path)
    write_plan(tmp_path / "plan.png", results.tracks, results.cameras, results.surface, CONFIG)
    assert (tmp_path / "plan.png").stat().st_size > 1000
