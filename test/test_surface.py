"""SIPC and SIS: the lowest reliable points, and the surface through them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.point_cloud import mean_per_cell, scene_interaction_points, without_people
from crowd4d_ros.interaction.surface import SurfaceError, build_surface, reference_plane
from crowd4d_ros.window import Cameras, ScenePoints

CONFIG = InteractionConfig()
NOBODY = np.zeros((0, 3))


def cloud(height, extent=15.0, count=6000, seed=0):
    """The terrain y = height(x, z) at a place in every cell of a square about the origin."""
    xz = mean_per_cell(np.random.default_rng(seed).uniform(-extent, extent, (count, 3)), CONFIG.cell)[:, [0, 2]]
    return np.stack([xz[:, 0], height(xz[:, 0], xz[:, 1]), xz[:, 1]], -1)


def hills(x, z):
    return 0.05 * x - 3 + 0.4 * np.sin(x / 3) * np.cos(z / 4)


def ground_points(height, count=20000, noise=0.0, extent=15.0, seed=0):
    """Scene points of the terrain, with noise of their heights."""
    rng = np.random.default_rng(seed)
    xz = rng.uniform(-extent, extent, (count, 2))
    y = height(xz[:, 0], xz[:, 1]) + noise * rng.standard_normal(count)
    return np.stack([xz[:, 0], y, xz[:, 1]], -1)


def scene_of(*points):
    points = np.concatenate(points)
    return ScenePoints(points, np.ones(len(points)), np.zeros(len(points), int))


def box(middle, size, count, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 3)) * size + middle


def off(sipc, height):
    return sipc[:, 1] - height(sipc[:, 0], sipc[:, 2])


def test_each_cell_has_at_most_one_point_the_mean_of_its_own():
    rng = np.random.default_rng(1)
    points = rng.uniform(-3, 3, (500, 3))
    cells = {}
    for point in points:
        cells.setdefault(tuple(np.floor(point[[0, 2]])), []).append(point)
    found = mean_per_cell(points, 1.0)
    assert len(found) == len(cells)
    for mean in found:
        np.testing.assert_allclose(mean, np.mean(cells[tuple(np.floor(mean[[0, 2]]))], axis=0))


@pytest.mark.parametrize("count", [3000, 12000, 48000], ids=lambda n: f"{n} points")
def test_the_lowest_height_is_not_lower_the_more_points_there_are(count):
    """The minimum of ten, forty and 160 points per square metre would lie 10 to 35 cm too low."""
    error = off(scene_interaction_points(scene_of(ground_points(hills, count, noise=0.1)), CONFIG), hills)
    assert abs(np.median(error)) < 0.01
    assert np.median(np.abs(error)) < 0.04


def test_what_stands_on_the_ground_and_ghosts_below_it_do_not_count():
    level = lambda x, z: 0.05 * x - 3  # noqa: E731
    ground = ground_points(level, 20000, noise=0.05)
    people = [box((x, -2.1, z), (0.4, 1.8, 0.4), 40, seed=x * x) for x, z in ((-5, 3), (-3, 3), (2, -4), (9, 9))]
    ghosts = ground_points(level, 100, seed=5) - [0, 1.2, 0]
    facade = box((12, 0, 0), (0.1, 6, 20), 8000)
    sipc = scene_interaction_points(scene_of(ground, *people, ghosts, facade), CONFIG)
    inside = sipc[:, 0] < 11
    error = off(sipc[inside], level)
    assert np.abs(error).max() < 0.3
    assert np.percentile(np.abs(error), 95) < 0.06
    assert np.median(np.abs(off(sipc[sipc[:, 0] > 11], level))) < 0.1


def test_a_kerb_and_a_terrace_stay_where_they_are():
    step = lambda x, z: np.where(x > 0.0, 0.6, 0.0) - 4  # noqa: E731
    sipc = scene_interaction_points(scene_of(ground_points(step, 40000, noise=0.05)), CONFIG)
    error = off(sipc, step)
    assert np.abs(error[np.abs(sipc[:, 0]) > 0.5]).max() < 0.1


def test_points_on_people_are_no_ground():
    feet = np.array([[[0.0, -3, -12]], [[4.0, -3, -20]]])
    ground = ground_points(lambda x, z: 0 * x - 3, 4000, extent=25)
    ground = ground[ground[:, 2] < -2]
    skin = [box(f[0] + [0, 0.9, 0], (0.4, 1.4, 0.3), 60) for f in feet]
    cameras = Cameras(np.diag([1.0, -1, -1])[None], np.zeros((1, 3)), "model")
    scene = scene_of(ground, *skin)
    for valid, left in ((np.ones((2, 1), bool), 0), (np.array([[True], [False]]), 60)):
        kept = without_people(scene, feet, valid, cameras, CONFIG)
        on_people = kept.points[:, 1] > -2.9
        assert on_people.sum() == left
        assert (~on_people).sum() > 0.97 * len(ground)


@pytest.mark.parametrize("place", [np.nan, np.inf])
def test_points_that_are_nowhere_are_left_out_with_the_people(place):
    feet, there = np.array([[[0.0, -3, -12]]]), np.ones((1, 1), bool)
    cameras = Cameras(np.diag([1.0, -1, -1])[None], np.zeros((1, 3)), "model")
    ground = np.array([[5.0, -3, -12]])
    for good in (ground, np.zeros((0, 3))):
        kept = without_people(scene_of(good, np.full((3, 3), place)), feet, there, cameras, CONFIG)
        np.testing.assert_array_equal(kept.points, good)


def test_without_points_there_is_no_terrain_and_one_makes_a_level_one():
    assert scene_interaction_points(scene_of(np.zeros((0, 3))), CONFIG).shape == (0, 3)
    one = np.array([[0.1, -3.0, -12.1]])
    sipc = scene_interaction_points(scene_of(one), CONFIG)
    np.testing.assert_allclose(sipc, one)
    np.testing.assert_allclose(build_surface(sipc, NOBODY, CONFIG).heights, -3)


def test_unreliable_and_broken_points_are_left_out():
    points = np.array([[0.1, -5, 0.1], [0.1, -1, 0.1], [0.2, -2, 0.2], [0.1, np.nan, 0.1]])
    scene = ScenePoints(points, np.array([CONFIG.confidence - 0.01, 1, CONFIG.confidence, 1]), np.zeros(4, int))
    np.testing.assert_allclose(scene_interaction_points(scene, CONFIG), points[2:3])


def test_the_plane_ignores_a_third_of_walls_and_ghosts():
    points = cloud(lambda x, z: 0.08 * x - 0.03 * z - 4)
    rng = np.random.default_rng(2)
    wrong = rng.choice(len(points), len(points) // 3, replace=False)
    points[wrong, 1] += rng.uniform(1, 8, len(wrong))
    np.testing.assert_allclose(reference_plane(points, CONFIG), [0.08, -0.03, -4], atol=2e-3)


@pytest.mark.parametrize("points", [[[2, -3, 5]], [[0, -3, 0], [0, -3, 1], [0, -3, 2]]])
def test_points_that_span_no_plane_give_a_level_one(points):
    np.testing.assert_allclose(reference_plane(np.array(points, float), CONFIG), [0, 0, -3], atol=1e-9)


def test_terrain_is_followed_where_it_was_seen():
    surface = build_surface(cloud(hills), NOBODY, CONFIG)
    xz = np.random.default_rng(3).uniform(-14, 14, (400, 2))
    height, on_mesh = surface.height(xz)
    assert on_mesh.all()
    np.testing.assert_allclose(height, hills(xz[:, 0], xz[:, 1]), atol=0.08)


def test_unseen_terrain_is_the_reference_plane():
    seen = cloud(hills)
    hole = np.hypot(seen[:, 0], seen[:, 2]) > 9
    surface = build_surface(seen[hole], np.array([[40.0, 0, 0]]), CONFIG)
    far = np.array([[0.0, 0], [38, 0], [-1000, 20]])
    np.testing.assert_allclose(surface.height(far)[0], surface.plane_height(far), atol=1e-9)
    assert surface.height(far)[1].tolist() == [True, True, False]
    rim = surface.corner + np.array([[0.0, 0.0]])
    np.testing.assert_allclose(surface.height(rim)[0], surface.height(rim - 1e-6)[0], atol=1e-5)


def test_a_ghost_under_the_ground_digs_no_hole():
    points = cloud(lambda x, z: 0 * x - 2)
    points[len(points) // 2, 1] = -9
    surface = build_surface(points, NOBODY, CONFIG)
    assert surface.heights.min() > -2.01


def test_a_cliff_has_no_wall_but_both_levels():
    surface = build_surface(cloud(lambda x, z: np.where(x > 0, 3.0, 0.0)), NOBODY, CONFIG)
    height, on_mesh = surface.height(np.array([[-3.0, 0], [3.0, 0]]))
    np.testing.assert_allclose(height, [0, 3], atol=1e-6)
    assert on_mesh.all()
    assert not surface.kept.all()
    longest = np.linalg.norm(np.diff(surface.mesh().vertices[surface.mesh().faces], axis=1), axis=-1).max()
    assert longest <= CONFIG.long_edge * surface.spacing


def test_a_wall_whose_foot_is_hidden_makes_no_ramp_of_the_ground_before_it():
    """People hide the last two metres before a wall that is seen from 2 m up only."""
    slope = lambda x, z: 0.05 * x - 3  # noqa: E731
    ground = ground_points(slope, noise=0.05)
    wall = ground[(ground[:, 2] < -12) & (ground[:, 2] > -13)]
    wall = wall + np.random.default_rng(8).uniform(2, 5, (len(wall), 1)) * [0, 1, 0]
    scene = scene_of(ground[ground[:, 2] > -10], wall)
    hidden = np.stack([np.linspace(-10, 10, 41), np.full(41, -11.5)], -1)

    def off_ground(config):
        surface = build_surface(scene_interaction_points(scene, config), NOBODY, config)
        return surface.height(hidden)[0] - slope(*hidden.T)

    assert np.abs(off_ground(CONFIG)).max() < 0.1
    assert off_ground(replace(CONFIG, wall_height=np.inf)).min() > 0.3


@pytest.mark.parametrize(("width", "stays"), [(1.0, False), (6.0, False), (16.0, True)])
@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_what_stands_high_is_ground_where_it_is_wide_enough(width, stays, slope):
    on_top = lambda x: np.abs(x) < width / 2  # noqa: E731
    rise = lambda x, z: np.where(on_top(x), 2.0, 0.0) + slope * z  # noqa: E731
    sipc = scene_interaction_points(scene_of(ground_points(rise, 40000)), CONFIG)
    is_top = sipc[:, 1] - slope * sipc[:, 2] > 1.0
    inside = np.abs(np.abs(sipc[:, 0]) - width / 2) > 0.5
    np.testing.assert_array_equal(is_top[inside], on_top(sipc[inside, 0]) & stays)
    assert (np.histogram(sipc[~is_top, 0], [-15, -width / 2, width / 2, 15])[0][[0, 2]] > 100).all()


@pytest.mark.parametrize(
    "ground", [lambda x, z: 0.4 * z, lambda x, z: np.clip(0.8 * x, -5, 5)], ids=["a slope", "two levels"]
)
def test_slopes_and_levels_are_ground_up_to_the_edge_of_the_scene(ground):
    scene = scene_of(ground_points(ground, 40000))
    found, all_of_it = (scene_interaction_points(scene, replace(CONFIG, wall_height=h)) for h in (1.5, np.inf))
    np.testing.assert_array_equal(found, all_of_it)


def test_a_far_scene_has_a_bounded_mesh(caplog):
    surface = build_surface(np.array([[0.0, 0, 0], [5000, 0, 3000]]), NOBODY, CONFIG)
    assert surface.heights.size <= 1.02 * CONFIG.max_nodes
    assert "cells of" in caplog.text


def test_no_point_is_an_error_that_says_what_to_do():
    with pytest.raises(SurfaceError, match=r"interaction\.confidence"):
        build_surface(NOBODY, NOBODY, CONFIG)


@pytest.mark.parametrize("terrain", [hills, lambda x, z: np.where(x + 0.3 * z > 1, 2.5, 0.0) - 3])
def test_rays_meet_the_mesh_where_trimesh_says(terrain):
    pytest.importorskip("rtree", reason="trimesh's ray queries need rtree")
    surface = build_surface(cloud(terrain), NOBODY, CONFIG)
    mesh = surface.mesh()
    rng = np.random.default_rng(4)
    origin = np.stack([rng.uniform(-25, 25, 300), rng.uniform(-1, 12, 300), rng.uniform(-25, 25, 300)], -1)
    origin[::4, 1] -= 12  # some look up from under the ground
    direction = rng.uniform(-1, 1, (300, 3)) * [1, 0.4, 1]
    direction[::10] = [0, -2, 0]
    mu, hit = surface.intersect(origin, direction)
    reference = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, rays, _ = reference.ray.intersects_location(origin, direction, multiple_hits=True)
    expected = np.full(len(origin), np.inf)
    along = ((points - origin[rays]) * direction[rays]).sum(-1) / (direction[rays] ** 2).sum(-1)
    np.minimum.at(expected, rays, along)
    np.testing.assert_array_equal(hit, np.isfinite(expected))
    np.testing.assert_allclose(mu[hit], expected[hit], atol=1e-7)
    assert 50 < hit.sum() < 290


def test_what_is_above_and_below_is_so_for_trimesh_too():
    surface = build_surface(cloud(hills), NOBODY, CONFIG)
    rng = np.random.default_rng(6)
    points = np.stack([rng.uniform(-13, 13, 200), rng.uniform(-5, -1, 200), rng.uniform(-13, 13, 200)], -1)
    above, on_mesh = surface.side(points)
    mesh = surface.mesh()
    floor = mesh.vertices[:, 1].min() - 1.0
    solid = _closed(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), floor)
    assert solid.is_watertight
    assert on_mesh.all()
    np.testing.assert_array_equal(above < 0, solid.contains(points))
    nearest, _, _ = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).ray.intersects_location(
        points * [1, 0, 1] + [0, 100, 0], np.tile([0.0, -1, 0], (200, 1)), multiple_hits=False
    )
    order = np.lexsort(nearest[:, [0, 2]].T), np.lexsort(points[:, [0, 2]].T)
    np.testing.assert_allclose((points[:, 1] - above)[order[1]], nearest[order[0], 1], atol=1e-7)


def _closed(sheet, floor):
    """The sheet, a copy of it flattened to ``floor`` and walls between: what is below the surface is inside."""
    count = len(sheet.vertices)
    below = sheet.vertices * [1, 0, 1] + [0, floor, 0]
    edges = sheet.edges[trimesh.grouping.group_rows(sheet.edges_sorted, require_count=1)]
    a, b = edges.T
    walls = np.concatenate([np.stack([a, a + count, b], -1), np.stack([b, a + count, b + count], -1)])
    faces = np.concatenate([sheet.faces, sheet.faces[:, ::-1] + count, walls])
    return trimesh.Trimesh(np.concatenate([sheet.vertices, below]), faces, process=True)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_tensors_are_answered_on_their_device(device, dtype, near):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    surface = build_surface(cloud(hills), NOBODY, CONFIG)
    rng = np.random.default_rng(7)
    origin = np.array([3.0, 9.0, 20.0])
    direction = np.stack([rng.uniform(-12, 12, 300), np.full(300, -3.0), rng.uniform(-12, 12, 300)], -1) - origin
    tensor = {"dtype": dtype, "device": device}
    field = surface.on(device, dtype)
    mu, hit = field.meetings(torch.tensor(origin, **tensor), torch.tensor(direction, **tensor))
    height, on_mesh = field.height(torch.tensor(direction[:, [0, 2]], **tensor))
    assert {a.device.type for a in (mu, hit, height, on_mesh)} == {device}
    expected = surface.intersect(origin, direction)
    np.testing.assert_allclose(mu.cpu(), expected[0], atol=near)
    np.testing.assert_array_equal(hit.cpu(), expected[1])
    np.testing.assert_allclose(height.cpu(), surface.height(direction[:, [0, 2]])[0], atol=near)


def test_rays_beyond_the_grid_meet_the_reference_plane():
    surface = build_surface(cloud(lambda x, z: 0 * x - 2), NOBODY, CONFIG)
    mu, hit = surface.intersect(np.zeros(3), np.array([[0.0, -0.02, -1], [0, 0.1, -1], [0, -1, -1]]))
    np.testing.assert_allclose(mu, [100, 0, 2], atol=1e-9)
    assert hit.tolist() == [False, False, True]


def test_the_mesh_faces_up_and_scales_about_the_origin():
    surface = build_surface(cloud(hills), NOBODY, CONFIG)
    vertices = surface.mesh().vertices[surface.mesh().faces]
    assert (np.cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0])[:, 1] > 0).all()
    larger = surface.scaled(1.3)
    np.testing.assert_allclose(larger.mesh().vertices, 1.3 * surface.mesh().vertices)
    far = np.array([[3.0, 4], [900, 7]])
    np.testing.assert_allclose(larger.height(1.3 * far)[0], 1.3 * surface.height(far)[0])


def test_the_terrain_of_windows_is_their_mean_grows_and_is_forgotten_far_away():
    def window(x, height, seed):
        points = ground_points(lambda a, b: 0 * a + height, 4000, noise=0.02, extent=5, seed=seed)
        return scene_interaction_points(scene_of(points + np.array([x, 0, 0])), CONFIG, seen=window.seen)

    window.seen = None
    window.seen = first = window(0.0, 0.0, 1)
    window.seen = again = window(0.0, 0.1, 2)
    assert len(again) == len(first)
    np.testing.assert_allclose(again[:, 1], 0.05, atol=0.03)
    for step in range(1, 30):
        window.seen = window(5.0 * step, 0.0, step)
    assert window.seen[:, 0].min() >= 5 * 29 - 5 - CONFIG.memory - CONFIG.cell
    assert len(window.seen) < 8 * len(first)
