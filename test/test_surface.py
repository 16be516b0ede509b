"""SIPC and SIS: the lowest reliable points, and the surface through them."""

import numpy as np
import pytest
import trimesh

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.point_cloud import lowest_per_cell, scene_interaction_points
from crowd4d_ros.interaction.surface import SurfaceError, build_surface, reference_plane
from crowd4d_ros.window import ScenePoints

CONFIG = InteractionConfig()
NOBODY = np.zeros((0, 3))


def cloud(height, extent=15.0, count=6000, seed=0):
    """SIPC of the terrain y = height(x, z) on a square about the origin."""
    xz = np.random.default_rng(seed).uniform(-extent, extent, (count, 2))
    return lowest_per_cell(np.stack([xz[:, 0], height(xz[:, 0], xz[:, 1]), xz[:, 1]], -1), CONFIG.cell)


def hills(x, z):
    return 0.05 * x - 3 + 0.4 * np.sin(x / 3) * np.cos(z / 4)


def test_each_cell_keeps_its_lowest_point():
    rng = np.random.default_rng(1)
    points = rng.uniform(-3, 3, (500, 3))
    kept = lowest_per_cell(points, 1.0)
    cells = {}
    for point in points:
        key = tuple(np.floor(point[[0, 2]]))
        cells[key] = min(cells.get(key, np.inf), point[1])
    assert {tuple(np.floor(p[[0, 2]])): p[1] for p in kept} == cells
    assert len(kept) == len(cells)


def test_unreliable_and_broken_points_are_left_out():
    points = np.array([[0.1, -5, 0.1], [0.1, -1, 0.1], [0.2, -2, 0.2], [0.1, np.nan, 0.1]])
    scene = ScenePoints(points, np.array([CONFIG.confidence - 0.01, 1, CONFIG.confidence, 1]), np.zeros(4, int))
    np.testing.assert_array_equal(scene_interaction_points(scene, CONFIG), points[2:3])


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


def test_the_terrain_grows_from_window_to_window():
    """A second window adds its cells; where both have seen the ground, the lower point stays."""
    config = CONFIG
    first = ScenePoints(np.array([[0.1, 0.0, 0.1], [3.1, 0.5, 0.1]]), np.ones(2), np.zeros(2, int))
    second = ScenePoints(np.array([[0.2, 1.0, 0.2], [9.1, 0.2, 0.1]]), np.ones(2), np.zeros(2, int))
    sipc = scene_interaction_points(second, config, scene_interaction_points(first, config))
    assert sorted(sipc[:, 1]) == [0.0, 0.2, 0.5]
    assert scene_interaction_points(second, config, sipc).tolist() == sipc.tolist()
