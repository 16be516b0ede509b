"""Who is seen: capsules against the mesh, the ground and structures against straight lines."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_crowd import camera, walkers

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.lens import project
from crowd4d_ros.synthetic.posed import BONES, PosedCrowd, capsule_radii, pose_crowd, surface_vertices
from crowd4d_ros.synthetic.structures import NO_STRUCTURES, ray_hits
from crowd4d_ros.synthetic.truth import Structures
from crowd4d_ros.synthetic.visibility import Sight, hidden_by_terrain, sight
from crowd4d_ros.visualization.raster import decimate
from crowd4d_ros.window import BodyMotion, BoolArray, Cameras, FloatArray

HEIGHT = 3.0
CENTER = np.zeros(3)
PEOPLE = 20


@functools.cache
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


def crowd_of(people: int, seed: int, frames: int = 1) -> tuple[BodyMotion, PosedCrowd, Cameras]:
    """Walkers 12–25 m in front of a low camera, who hide each other a lot."""
    truth = walkers(people, frames, pitch=0.15, camera_height=HEIGHT, seed=seed, body=body())
    cameras = Cameras(np.repeat(truth.R[None], frames, 0), np.zeros((frames, 3)), "known")
    return truth.motion, pose_crowd(body(), truth.motion), cameras


def plain(height: float = -HEIGHT) -> Surface:
    """Level ground."""
    return Surface(np.full((81, 81), height), np.array([-40.0, -60.0]), 1.0, np.ones((80, 80, 2), bool), np.zeros(3))


def seen(
    crowd: PosedCrowd, cameras: Cameras, terrain: Surface | None = None, structures: Structures = NO_STRUCTURES
) -> Sight:
    valid = np.ones(crowd.joints.shape[:2], bool)
    return sight(crowd, valid, camera(), cameras, terrain or plain(), structures)


def alone(crowd: PosedCrowd, person: int = 0) -> PosedCrowd:
    return PosedCrowd(**{name: values[person : person + 1] for name, values in vars(crowd).items()})


def behind_meshes(motion: BodyMotion, points: FloatArray) -> BoolArray:
    """(N, P): points (N, P, 3) of each person behind somebody else's triangles, seen from the origin.

    Möller and Trumbore's intersection with every triangle of a mesh of a third of the size, good to a centimetre.
    """
    rest = body().v_template.numpy()
    index, faces = decimate(rest, body().faces.numpy(), 0.03)
    parameters = (motion.betas, motion.body_pose[:, 0], motion.global_orient[:, 0], motion.transl[:, 0])
    meshes = body().vertices(*map(torch.as_tensor, parameters), index=torch.as_tensor(index)).numpy()[:, faces]
    hidden = np.zeros(points.shape[:2], bool)
    for other, (a, b, c) in enumerate(zip(*np.moveaxis(meshes, 2, 0), strict=True)):
        low, high = (bound(project(camera(), meshes[other] @ LOOKS.T), (0, 1)) for bound in (np.min, np.max))
        pixels = project(camera(), points @ LOOKS.T)
        near = ((pixels >= low) & (pixels <= high)).all(-1)
        near[other] = False
        ray = points[near]
        side, edge = b - a, c - a
        across = np.cross(ray[:, None], edge)
        scale = 1 / (side * across).sum(-1)
        u = (-a * across).sum(-1) * scale
        turned = np.cross(-a, side)
        v = (ray @ turned.T) * scale
        mu = (edge * turned).sum(-1) * scale
        hidden[near] |= ((u >= 0) & (v >= 0) & (u + v <= 1) & (mu > 0) & (mu < 1)).any(-1)
    return hidden


LOOKS = crowd_of(1, 0)[2].R[0]


def test_capsules_hide_what_meshes_hide() -> None:
    exact, found, keypoints = [], [], []
    for seed in (5, 6):
        motion, crowd, cameras = crowd_of(PEOPLE, seed)
        points = np.concatenate([crowd.keypoints, crowd.surface], 2)[:, 0]
        inside = project(camera(), points @ LOOKS.T)
        inside = ((inside >= 0) & (inside < [camera().width, camera().height])).all(-1)
        truly = inside & ~behind_meshes(motion, points)
        result = seen(crowd, cameras)
        exact.append(truly[:, 23:].mean(-1))
        found.append(result.visibility[:, 0])
        keypoints.append((truly[:, :23] == result.keypoints_visible[:, 0]).mean())
    difference = np.concatenate(found) - np.concatenate(exact)
    partly = (np.concatenate(exact) < 0.95) & (np.concatenate(exact) > 0.05)
    assert partly.sum() > 10, "the crowd is dense enough to mean something"
    assert np.abs(difference).mean() < 0.03
    assert np.abs(difference[partly].mean()) < 0.04, "neither too much nor too little is hidden"
    assert np.abs(difference).max() < 0.15
    assert np.mean(keypoints) > 0.95


def test_a_body_does_not_hide_itself() -> None:
    _, crowd, cameras = crowd_of(1, 3)
    result = seen(crowd, cameras)
    assert result.visibility[0, 0] == 1
    assert result.keypoints_visible.all()


def test_only_who_is_nearer_hides() -> None:
    motion, _, cameras = crowd_of(1, 3)
    toward = CENTER - (motion.transl[0, 0] + [0.0, -0.2, 0.0])
    twice = BodyMotion(*(np.repeat(getattr(motion, name), 2, 0) for name in vars(motion)))
    steps = 2.0 * toward / np.linalg.norm(toward)
    crowd = pose_crowd(body(), replace(twice, transl=twice.transl + np.array([[[0.0, 0.0, 0.0]], [steps]])))
    result = seen(crowd, cameras)
    assert result.visibility[0, 0] < 0.2
    assert result.visibility[1, 0] == 1


def test_who_is_not_there_neither_hides_nor_is_seen() -> None:
    _, crowd, cameras = crowd_of(PEOPLE, 5)
    valid = np.ones((PEOPLE, 1), bool)
    valid[3:] = False
    result = sight(crowd, valid, camera(), cameras, plain(), NO_STRUCTURES)
    assert (result.visibility[3:] == 0).all()
    assert not result.keypoints_visible[3:].any()
    assert (result.boxes[3:] == 0).all()
    assert result.visibility[:3].mean() > seen(crowd, cameras).visibility[:3].mean()


def test_long_crowds_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, crowd, cameras = crowd_of(8, 5, frames=5)
    whole = seen(crowd, cameras)
    monkeypatch.setattr("crowd4d_ros.synthetic.visibility.BODIES_AT_ONCE", 16)
    for name, values in vars(seen(crowd, cameras)).items():
        np.testing.assert_array_equal(values, getattr(whole, name), err_msg=name)


def test_keypoints_are_projected_and_those_behind_the_camera_are_not() -> None:
    _, crowd, cameras = crowd_of(4, 1, frames=2)
    result = seen(crowd, cameras)
    in_camera = crowd.keypoints @ LOOKS.T
    expected = in_camera @ camera().K_rectified.T
    np.testing.assert_allclose(result.keypoints_2d, expected[..., :2] / expected[..., 2:], atol=1e-9)
    turned = replace(cameras, R=np.diag([-1.0, 1.0, -1.0]) @ cameras.R)
    behind = seen(crowd, turned)
    assert np.isnan(behind.keypoints_2d).all()
    assert (behind.visibility == 0).all()
    assert (behind.boxes == 0).all()


def test_boxes_hold_the_whole_body_and_end_at_the_border() -> None:
    motion, crowd, cameras = crowd_of(PEOPLE, 2)
    boxes = seen(crowd, cameras).boxes[:, 0]
    parameters = (motion.betas, motion.body_pose[:, 0], motion.global_orient[:, 0], motion.transl[:, 0])
    pixels = project(camera(), body().vertices(*map(torch.as_tensor, parameters)).numpy() @ LOOKS.T)
    size = [camera().width, camera().height]
    low, high = np.clip(pixels.min(1), 0, size), np.clip(pixels.max(1), 0, size)
    tallest = (pixels.max(1) - pixels.min(1))[:, 1:]
    assert (np.abs(boxes[:, :2] - low) < 0.02 * tallest).all()
    assert (np.abs(boxes[:, :2] + boxes[:, 2:] - high) < 0.02 * tallest).all()


def wall(distance: float, top: float) -> Structures:
    """A wide wall across the view, from the ground up to ``top`` metres above the camera."""
    return replace(
        NO_STRUCTURES,
        box_base=np.array([[0.0, -HEIGHT, -distance]]),
        box_size=np.array([[60.0, HEIGHT + top, 0.1]]),
        box_yaw=np.zeros(1),
    )


def test_a_wall_hides_who_is_behind_it_up_to_the_line_of_sight() -> None:
    _, crowd, cameras = crowd_of(6, 4)
    assert (seen(crowd, cameras, structures=wall(8.0, 2.0)).visibility == 0).all()
    behind_them = seen(crowd, cameras, structures=wall(40.0, 2.0))
    np.testing.assert_array_equal(behind_them.visibility, seen(crowd, cameras).visibility)
    one = alone(crowd)
    low = seen(one, cameras, structures=wall(8.0, -1.2))
    height = one.keypoints[0, 0, :, 1] * 8.0 / -one.keypoints[0, 0, :, 2]  # where the rays pass the wall
    clear = np.abs(height + 1.2) > 0.02
    np.testing.assert_array_equal(low.keypoints_visible[0, 0][clear], height[clear] > -1.2)
    assert 0 < low.visibility[0, 0] < 1


def ridge(z: float, height: float) -> Surface:
    """Level ground with a ridge across the view, two metres wide."""
    terrain = plain()
    heights = terrain.heights.copy()
    heights[:, round(z + 60)] += height
    return replace(terrain, heights=heights)


def test_a_ridge_hides_as_straight_lines_say() -> None:
    _, crowd, cameras = crowd_of(12, 4)
    terrain = ridge(-9.0, 1.9)
    points = np.concatenate([crowd.keypoints, crowd.surface], 2)[:, 0]
    origin = np.zeros((12, 3))
    mu, hit = terrain.intersect(origin[:, None], points)
    truly = hit & (mu < 1 - 0.03 / np.linalg.norm(points, axis=-1))
    hidden = hidden_by_terrain(points, crowd.lowest[:, 0], origin, terrain)
    assert 0.1 < truly.mean() < 0.9
    assert (hidden == truly).mean() > 0.97
    assert seen(crowd, cameras, terrain).visibility.mean() < seen(crowd, cameras).visibility.mean()


def test_the_ground_under_the_feet_hides_nobody() -> None:
    _, crowd, cameras = crowd_of(1, 3)
    rough = plain()
    rough = replace(rough, heights=rough.heights + np.random.default_rng(0).uniform(0, 0.01, rough.heights.shape))
    assert seen(crowd, cameras, rough).visibility[0, 0] > 0.98


def test_a_structure_far_from_the_line_of_sight_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(structures: Structures, origins: FloatArray, directions: FloatArray) -> FloatArray:
        asked.append(directions.size)
        return ray_hits(structures, origins, directions)

    monkeypatch.setattr("crowd4d_ros.synthetic.visibility.ray_hits", counting)
    _, crowd, cameras = crowd_of(6, 4)
    seen(crowd, cameras, structures=wall(200.0, 0.0))
    assert sum(asked) == 0


def test_capsules_fit_the_body() -> None:
    shapes = torch.zeros(2, 10, dtype=torch.float64)
    shapes[1] = 1.0
    radii = capsule_radii(body(), shapes)
    assert radii.shape == (2, len(BONES))
    assert ((radii > 0.02) & (radii < 0.15)).all(), "thicker than a wrist, thinner than a trunk"
    assert np.abs(radii[0] - radii[1]).max() > 0.002, "each shape has its own"


def test_surface_points_are_spread_over_the_skin() -> None:
    chosen = body().v_template.numpy()[surface_vertices(body())]
    everywhere = body().v_template.numpy()
    reach = np.linalg.norm(everywhere[:, None] - chosen, axis=-1).min(-1)
    assert len(np.unique(chosen, axis=0)) == len(chosen)
    assert reach.max() < 0.12
