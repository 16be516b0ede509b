"""Scenes have the heights they promise, and structures stop rays and people where their meshes are."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from crowd4d_ros.synthetic.scenes import (
    BODY_RADIUS,
    CAMBER,
    CROSSFALL,
    KERB,
    ROAD,
    ROW_DEPTH,
    SCENES,
    SceneError,
    make_scene,
    mounds,
)
from crowd4d_ros.synthetic.structures import (
    NO_STRUCTURES,
    Kind,
    face_kinds,
    footprint_distance,
    mesh,
    ray_hits,
)
from crowd4d_ros.synthetic.truth import Scene, Structures
from crowd4d_ros.window import FloatArray


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {name: make_scene(name, np.random.default_rng(3)) for name in SCENES}


def height(scene: Scene, x: FloatArray | float, z: FloatArray | float) -> FloatArray:
    heights, on_terrain = scene.terrain.height(np.stack(np.broadcast_arrays(x, z), -1).astype(float))
    assert on_terrain.all()
    return heights


def clutter(rng: np.random.Generator, boxes: int = 6, cylinders: int = 5) -> Structures:
    return Structures(
        box_base=rng.uniform([-10, -1, -10], [10, 1, 10], (boxes, 3)),
        box_size=rng.uniform(0.3, 4.0, (boxes, 3)),
        box_yaw=rng.uniform(-np.pi, np.pi, boxes),
        cylinder_base=rng.uniform([-10, -1, -10], [10, 1, 10], (cylinders, 3)),
        cylinder_radius=rng.uniform(0.1, 2.0, cylinders),
        cylinder_height=rng.uniform(0.5, 5.0, cylinders),
    )


def crossed(vertices: FloatArray, faces: FloatArray, origin: FloatArray, direction: FloatArray) -> float:
    """mu of the nearest triangle met, by Möller and Trumbore."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    p = np.cross(direction, c - a)
    det = ((b - a) * p).sum(-1)
    u = ((origin - a) * p).sum(-1) / det
    q = np.cross(origin - a, b - a)
    v, mu = (q @ direction) / det, (q * (c - a)).sum(-1) / det
    return float(mu[(u >= 0) & (v >= 0) & (u + v <= 1) & (mu > 0)].min(initial=np.inf))


def test_an_unknown_scene_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(SceneError, match=r"'moon'.*plaza, hill, stairs, terraces, street, amphitheatre"):
        make_scene("moon", np.random.default_rng(0))


@pytest.mark.parametrize("name", SCENES)
def test_the_same_seed_makes_the_same_scene_and_another_seed_another(name: str, scenes: dict[str, Scene]) -> None:
    again, other = make_scene(name, np.random.default_rng(3)), make_scene(name, np.random.default_rng(4))
    assert again.terrain.heights.tobytes() == scenes[name].terrain.heights.tobytes()
    assert again.structures.box_base.tobytes() == scenes[name].structures.box_base.tobytes()
    assert again.seats.tobytes() == scenes[name].seats.tobytes()
    assert other.structures.cylinder_base.tobytes() != again.structures.cylinder_base.tobytes()


@pytest.mark.parametrize("name", SCENES)
def test_people_have_room_gates_and_seats(name: str, scenes: dict[str, Scene]) -> None:
    scene = scenes[name]
    terrain = scene.terrain
    assert terrain.kept.all()
    assert terrain.heights.size < 1_500_000
    assert scene.walkable.sum() * terrain.spacing**2 > 2000  # 500 people with 4 m² each
    gates = np.round((scene.gates - terrain.corner) / terrain.spacing).astype(int)
    assert scene.walkable[tuple(gates.T)].all()
    assert len(scene.gates) >= 4
    assert len(scene.seats) == len(scene.seat_heading) >= 12
    seats = scene.seats[:, [0, 2]]
    apart = np.linalg.norm(seats[:, None] - seats, axis=-1) + np.eye(len(seats))
    assert apart.min() > 0.5, "no seat within another"
    # whoever sits has ground to put the feet on before the seat, a leg's length lower
    feet = scene.seats[:, [0, 2]] + 0.6 * np.stack([np.sin(scene.seat_heading), np.cos(scene.seat_heading)], -1)
    below = scene.seats[:, 1] - terrain.height(feet)[0]
    assert np.quantile(below, [0.05, 0.95]) == pytest.approx([0.45, 0.45], abs=0.25)


@pytest.mark.parametrize("name", SCENES)
def test_nobody_walks_into_structures_or_up_walls(name: str, scenes: dict[str, Scene]) -> None:
    scene = scenes[name]
    nodes = np.argwhere(scene.walkable)
    nodes = nodes[np.random.default_rng(0).permutation(len(nodes))[:4000]]
    distance, _ = footprint_distance(scene.structures, scene.terrain.corner + scene.terrain.spacing * nodes)
    assert distance.min() >= BODY_RADIUS
    both = scene.walkable[1:] & scene.walkable[:-1]
    assert np.abs(np.diff(scene.terrain.heights, axis=0))[both].max() <= 0.25


@pytest.mark.parametrize("name", SCENES)
def test_the_plane_is_the_least_squares_plane(name: str, scenes: dict[str, Scene]) -> None:
    terrain = scenes[name].terrain
    vertices = terrain.mesh().vertices
    design = np.column_stack([vertices[:, [0, 2]], np.ones(len(vertices))])
    fitted = np.linalg.lstsq(design, vertices[:, 1], rcond=None)[0]
    np.testing.assert_allclose(design @ terrain.plane, design @ fitted, atol=1e-6)


def test_the_plaza_is_flat_and_large(scenes: dict[str, Scene]) -> None:
    assert not scenes["plaza"].terrain.heights.any()
    nodes = np.argwhere(scenes["plaza"].walkable) * scenes["plaza"].terrain.spacing
    assert (np.ptp(nodes, axis=0) > [115, 245]).all()


def test_a_hill_is_the_sum_of_its_mounds(scenes: dict[str, Scene]) -> None:
    """Alone, a mound has its rise on top and e^-½ of it one width away; the scene's top is behind the middle."""
    middle, rise, width = np.array([[2.0, -5.0]]), np.array([3.0]), np.array([10.0])
    points = np.array([[2.0, -5.0], [12.0, -5.0], [2.0, 15.0]])
    np.testing.assert_allclose(mounds(points, middle, rise, width), 3.0 * np.exp([0.0, -0.5, -2.0]))
    terrain = scenes["hill"].terrain
    top = terrain.corner + terrain.spacing * np.array(np.unravel_index(terrain.heights.argmax(), terrain.heights.shape))
    assert terrain.heights.max() > 6
    assert -32 < top[1] < -12
    assert max(np.abs(np.gradient(terrain.heights, terrain.spacing, axis=a)).max() for a in (0, 1)) < 1 / 3


def test_stairs_rise_by_equal_steps(scenes: dict[str, Scene]) -> None:
    scene = scenes["stairs"]
    levels, nodes = np.unique(np.round(scene.terrain.heights[100], 6), return_counts=True)
    rises = np.diff(levels)
    np.testing.assert_allclose(rises, rises[0], atol=1e-5)
    assert 0.16 <= rises[0] <= 0.17
    assert np.count_nonzero(nodes == 3) >= 0.8 * (len(levels) - 2)  # treads of 0.3 m, but for landings
    assert (np.ptp(scene.terrain.heights, axis=0) == 0).all()  # all across


def test_terraces_are_level_and_one_can_walk_from_the_lowest_to_the_highest(scenes: dict[str, Scene]) -> None:
    scene = scenes["terraces"]
    levels, counts = np.unique(np.round(scene.terrain.heights, 4), return_counts=True)
    level = np.sort(levels[np.argsort(counts)[-6:]])
    np.testing.assert_allclose(np.diff(level), level[1], atol=1e-3)
    on_foot = scene.terrain.heights[scene.walkable]
    assert on_foot.min() == 0
    assert on_foot.max() == pytest.approx(level[-1], abs=1e-3)


def test_a_street_has_camber_kerbs_and_crossfall(scenes: dict[str, Scene]) -> None:
    z = np.linspace(-50, 50, 11)
    crown = height(scenes["street"], 0.0, z)
    for side in (-1, 1):
        gutter = height(scenes["street"], side * 4.0, z) - crown
        np.testing.assert_allclose(gutter, -CAMBER * (4.0 / ROAD) ** 2, atol=1e-3)
        top = height(scenes["street"], side * 4.1, z) - crown
        np.testing.assert_allclose(top, KERB - CAMBER, atol=2e-3)
        facade = height(scenes["street"], side * 9.0, z) - crown
        np.testing.assert_allclose(facade - top, CROSSFALL * 4.9, atol=1e-3)


def test_rows_of_an_amphitheatre_are_seats_one_above_the_other(scenes: dict[str, Scene]) -> None:
    scene = scenes["amphitheatre"]
    assert height(scene, 0.0, 13.0) == 0  # the orchestra
    radius = np.hypot(scene.seats[:, 0], scene.seats[:, 2] - 13.0)
    on_row = height(scene, scene.seats[:, 0], scene.seats[:, 2]) - scene.seats[:, 1]
    benches = scene.structures.box_base[:, 1].min()
    assert benches <= 0
    row = np.abs(on_row) < 1e-9
    assert row.mean() > 0.95
    first = radius[row].min()
    np.testing.assert_allclose(scene.seats[row, 1], 0.45 * (1 + np.round((radius[row] - first) / ROW_DEPTH)), atol=1e-9)
    away = np.stack([scene.seats[row, 0], scene.seats[row, 2] - 13.0], -1) / radius[row, None]
    facing = np.stack([np.sin(scene.seat_heading[row]), np.cos(scene.seat_heading[row])], -1)
    np.testing.assert_allclose(facing, -away, atol=1e-9)


def test_moving_a_scene_moves_all_of_it(scenes: dict[str, Scene]) -> None:
    offset = np.array([3.0, -2.0, 7.0])
    scene = scenes["street"]
    moved = scene.moved(offset)
    xz = scene.gates
    np.testing.assert_allclose(moved.terrain.height(xz + offset[[0, 2]])[0], scene.terrain.height(xz)[0] - 2.0)
    eye, ray = np.array([0.0, 5.0, 0.0]), np.array([[1.0, -0.1, 0.2], [-1.0, 0.0, 0.4]])
    np.testing.assert_allclose(ray_hits(moved.structures, eye + offset, ray), ray_hits(scene.structures, eye, ray))


def test_meshes_are_closed_and_their_normals_point_outward() -> None:
    structures = clutter(np.random.default_rng(0))
    surface = mesh(structures)
    solid = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    assert solid.is_watertight
    boxes = structures.box_size.prod(-1).sum()
    prism = 12 * np.sin(np.pi / 12)  # a 24-gon's area over its radius squared
    cylinders = (prism * structures.cylinder_radius**2 * structures.cylinder_height).sum()
    assert solid.volume == pytest.approx(boxes + cylinders)
    assert len(face_kinds(structures)) == len(surface.faces)


def test_rays_end_on_the_mesh() -> None:
    """Boxes exactly; cylinders within the sagitta of the mesh's sides, except at grazing rays."""
    rng = np.random.default_rng(1)
    structures = clutter(rng, boxes=9, cylinders=8)
    surface = mesh(structures)
    origins = rng.uniform([-15, -1, -15], [15, 4, 15], (500, 3))
    directions = rng.uniform([-10, -1, -10], [10, 3, 10], (500, 3)) - origins
    mu = ray_hits(structures, origins, directions)
    reference = [crossed(surface.vertices, surface.faces, o, d) for o, d in zip(origins, directions, strict=True)]
    assert 0.2 < np.isfinite(mu).mean() < 0.95
    close = np.isclose(mu, reference, atol=0.05) | (np.isinf(mu) & np.isinf(reference))
    assert close.mean() > 0.97
    boxes = Structures(
        structures.box_base,
        structures.box_size,
        structures.box_yaw,
        *(a[:0] for a in (structures.cylinder_base, structures.cylinder_radius, structures.cylinder_height)),
    )
    surface = mesh(boxes)
    reference = [crossed(surface.vertices, surface.faces, o, d) for o, d in zip(origins, directions, strict=True)]
    np.testing.assert_allclose(ray_hits(boxes, origins, directions), reference, rtol=1e-9)


def test_rays_into_and_past_a_cylinder() -> None:
    post = Structures(
        np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.array([[0.0, 1.0, 0.0]]), np.array([0.5]), np.array([2.0])
    )
    origin = np.array([[3.0, 2.0, 0.0], [3.0, 2.0, 0.6], [3.0, 0.9, 0.0], [0.1, 9.0, 0.2], [0.6, 9.0, 0.0], [0, 2, 0]])
    direction = np.array([[-2.0, 0, 0], [-2.0, 0, 0], [-1.0, 0, 0], [0, -2.0, 0], [0, -1.0, 0], [0, 0, 1.0]])
    expected = [1.25, np.inf, np.inf, 3.0, np.inf, 0.5]
    np.testing.assert_allclose(ray_hits(post, origin, direction), expected)
    np.testing.assert_allclose(ray_hits(post, origin[:, None], direction)[range(6), range(6)], expected)
    assert np.isinf(ray_hits(NO_STRUCTURES, origin, direction)).all()


def test_footprint_distance_is_the_distance_to_the_nearest_outline() -> None:
    rng = np.random.default_rng(2)
    structures = clutter(rng, boxes=1, cylinders=0)
    width, _, depth = structures.box_size[0]
    edge = np.linspace(-0.5, 0.5, 2001)
    outline = np.concatenate([np.stack([edge * width, np.full(2001, s * depth / 2)], -1) for s in (-1, 1)])
    outline = np.concatenate([outline, *(np.stack([np.full(2001, s * width / 2), edge * depth], -1) for s in (-1, 1))])
    yaw = structures.box_yaw[0]
    across, along = np.array([np.cos(yaw), -np.sin(yaw)]), np.array([np.sin(yaw), np.cos(yaw)])
    outline = structures.box_base[0, [0, 2]] + outline[:, :1] * across + outline[:, 1:] * along
    points = structures.box_base[0, [0, 2]] + rng.uniform(-4, 4, (300, 2))
    distance, outward = footprint_distance(structures, points)
    nearest = np.linalg.norm(points[:, None] - outline, axis=-1).min(-1)
    np.testing.assert_allclose(np.abs(distance), nearest, atol=2e-3)
    assert (distance < 0).any()
    on_outline, _ = footprint_distance(structures, points - distance[:, None] * outward)
    np.testing.assert_allclose(on_outline, 0, atol=1e-9)


def test_the_nearest_of_many_footprints_counts_and_the_way_out_leads_away_from_it() -> None:
    rng = np.random.default_rng(5)
    structures = clutter(rng)
    points = rng.uniform(-14, 14, (20, 25, 2))
    distance, outward = footprint_distance(structures, points)
    assert distance.shape == (20, 25)
    np.testing.assert_allclose(np.linalg.norm(outward, axis=-1), 1)
    outside = distance > 0.01
    # off every outline, the distance grows along the way out as fast as one goes, or another footprint is nearer
    further, _ = footprint_distance(structures, points + 1e-6 * outward)
    assert (np.abs(further - distance - 1e-6)[outside] < 1e-9).mean() > 0.99
    alone, _ = footprint_distance(NO_STRUCTURES, points)
    assert np.isinf(alone).all()


def test_one_walks_under_a_crown_but_not_through_its_trunk() -> None:
    tree = Structures(
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros(0),
        np.array([[0.0, 10.0, 0.0], [0.0, 12.5, 0.0]]),
        np.array([0.2, 2.0]),
        np.array([2.5, 3.0]),
    )
    distance, outward = footprint_distance(tree, np.array([[1.0, 0.0], [0.0, -0.1]]))
    np.testing.assert_allclose(distance, [0.8, -0.1])
    np.testing.assert_allclose(outward, [[1, 0], [0, -1]], atol=1e-12)
    assert np.isfinite(ray_hits(tree, np.array([5.0, 13.0, 0.0]), np.array([-1.0, 0.0, 0.0])))
    assert set(face_kinds(tree)) == {Kind.TRUNK, Kind.LEAVES}
