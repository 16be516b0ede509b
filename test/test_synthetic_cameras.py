"""Cameras look along −z first, see people at the promised size, and drones fly smoothly."""

from __future__ import annotations

import numpy as np
import pytest

from crowd4d_ros.synthetic.cameras import KINDS, CameraError, place_camera, visible_ground
from crowd4d_ros.synthetic.config import CameraConfig
from crowd4d_ros.synthetic.scenes import SCENES, make_scene
from crowd4d_ros.synthetic.structures import ray_hits
from crowd4d_ros.synthetic.truth import Scene
from crowd4d_ros.window import Cameras, FloatArray, Intrinsics

CONFIG = CameraConfig(candidates=4)
FPS = 10.0
EVERY = [(scene, kind) for scene in SCENES for kind in KINDS]


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {name: make_scene(name, np.random.default_rng(1)) for name in SCENES}


@pytest.fixture(scope="module")
def views(scenes: dict[str, Scene]) -> dict[tuple[str, str], tuple[Intrinsics, Cameras]]:
    return {
        (name, kind): place_camera(kind, scenes[name], 300, FPS, CONFIG, np.random.default_rng(2))
        for name, kind in EVERY
    }


def standing(scene: Scene, xz: FloatArray) -> FloatArray:
    """(P, 2, 3): feet and head of people at xz (P, 2)."""
    feet = np.stack([xz[:, 0], scene.terrain.height(xz)[0], xz[:, 1]], -1)
    return np.stack([feet, feet + np.array([0.0, CONFIG.person, 0.0])], 1)


def projected(
    points: FloatArray, intrinsics: Intrinsics, cameras: Cameras, frame: int
) -> tuple[FloatArray, FloatArray]:
    """Pixels (…, 2) and depths (…)."""
    x = points @ cameras.R[frame].T + cameras.t[frame]
    return (x @ intrinsics.K.T)[..., :2] / x[..., 2:], x[..., 2]


def test_an_unknown_camera_is_refused_with_the_names_of_those_there_are(scenes: dict[str, Scene]) -> None:
    with pytest.raises(CameraError, match=r"'phone'.*surveillance, gigapixel, drone"):
        place_camera("phone", scenes["hill"], 10, FPS, CONFIG, np.random.default_rng(0))
    with pytest.raises(CameraError, match="at least one frame"):
        place_camera("drone", scenes["hill"], 0, FPS, CONFIG, np.random.default_rng(0))
    with pytest.raises(CameraError, match="candidates is 0"):
        place_camera("drone", scenes["hill"], 1, FPS, CameraConfig(candidates=0), np.random.default_rng(0))


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_the_first_camera_looks_horizontally_along_minus_z(
    name: str, kind: str, views: dict[tuple[str, str], tuple[Intrinsics, Cameras]]
) -> None:
    _, cameras = views[name, kind]
    right, down, forward = cameras.R[0]
    assert forward[0] == 0
    assert forward[2] < 0
    assert down[1] < 0
    assert abs(np.rad2deg(np.arcsin(right[1]))) <= CONFIG.roll
    np.testing.assert_allclose(
        cameras.R @ cameras.R.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (300, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(cameras.R), 1)
    assert cameras.source == "synthetic"


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_the_first_image_shows_whole_people_in_the_middle_of_the_scene(
    name: str, kind: str, scenes: dict[str, Scene], views: dict[tuple[str, str], tuple[Intrinsics, Cameras]]
) -> None:
    intrinsics, cameras = views[name, kind]
    image = getattr(CONFIG, f"{'surveillance' if kind == 'low' else kind}_image")
    assert (intrinsics.width, intrinsics.height) == image
    pixels, depth = projected(standing(scenes[name], np.zeros((1, 2))), intrinsics, cameras, 0)
    assert (depth > 0).all()
    assert ((pixels > 0) & (pixels < [intrinsics.width, intrinsics.height])).all()
    size = pixels[0, 0, 1] - pixels[0, 1, 1]
    low, high = {"surveillance": (40, 200), "gigapixel": (60, 300), "drone": (36, 130), "low": (50, 250)}[kind]
    assert low < size < high


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_cameras_are_above_ground_and_clear_of_structures(
    name: str, kind: str, scenes: dict[str, Scene], views: dict[tuple[str, str], tuple[Intrinsics, Cameras]]
) -> None:
    _, cameras = views[name, kind]
    centers = cameras.centers[::10]
    ground, on_terrain = scenes[name].terrain.height(centers[:, [0, 2]])
    assert (centers[on_terrain, 1] - ground[on_terrain] > {"drone": 10, "low": 2.9}.get(kind, 4)).all()
    assert np.isinf(ray_hits(scenes[name].structures, centers, np.array([0.0, 1.0, 0.0]))).all()


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_visible_ground_is_room_for_a_crowd_in_view(
    name: str, kind: str, scenes: dict[str, Scene], views: dict[tuple[str, str], tuple[Intrinsics, Cameras]]
) -> None:
    scene, (intrinsics, cameras) = scenes[name], views[name, kind]
    region = visible_ground(scene, intrinsics, cameras, CONFIG)
    assert region.shape == scene.walkable.shape
    assert not (region & ~scene.walkable).any()
    room = 400 if kind == "low" else 500  # people at one a square metre
    assert region.sum() * scene.terrain.spacing**2 > room
    if kind == "drone":
        return
    people = standing(scene, scene.terrain.corner + scene.terrain.spacing * np.argwhere(region)[::23])
    pixels, _ = projected(people, intrinsics, cameras, 0)
    size = np.linalg.norm(pixels[:, 0] - pixels[:, 1], axis=-1)
    assert size.min() > 0.93 * CONFIG.smallest  # a coarse node answers for its surroundings
    inside = ((pixels > 0) & (pixels < [intrinsics.width, intrinsics.height])).all((1, 2))
    assert inside.mean() > 0.95
    if kind == "gigapixel":
        assert size.min() >= 40


def test_nobody_is_in_view_behind_a_hill(scenes: dict[str, Scene]) -> None:
    """From low before it, the ground just behind the summit is hidden; from above it is not."""
    scene = scenes["hill"]
    terrain = scene.terrain
    top = terrain.corner + terrain.spacing * np.array(np.unravel_index(terrain.heights.argmax(), terrain.heights.shape))
    R = np.diag([1.0, -1.0, -1.0])[None]
    K = np.array([[800.0, 0, 640], [0, 800, 360], [0, 0, 1]])
    intrinsics = Intrinsics(1280, 720, K, np.zeros(0), "plumb_bob", K)
    behind = np.round((top - terrain.corner - np.array([0.0, 20.0])) / terrain.spacing).astype(int)
    around = tuple(slice(k - 4, k + 5) for k in behind)
    config = CameraConfig(smallest=5.0)
    seen = []
    for eye in (3.0, 30.0):
        centre = np.array([top[0], eye, top[1] + 60.0])
        seen.append(visible_ground(scene, intrinsics, Cameras(R, -(R @ centre), "synthetic"), config)[around].mean())
    assert seen[0] == 0
    assert seen[1] > 0.5


def test_a_camera_that_sees_no_ground_is_refused(scenes: dict[str, Scene]) -> None:
    K = np.array([[800.0, 0, 640], [0, 800, 360], [0, 0, 1]])
    upward = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])[None]
    with pytest.raises(CameraError, match="sees no walkable ground"):
        visible_ground(
            scenes["plaza"],
            Intrinsics(1280, 720, K, np.zeros(0), "plumb_bob", K),
            Cameras(upward, np.zeros((1, 3)), "s"),
        )


@pytest.mark.parametrize("kind", ["surveillance", "gigapixel"])
def test_static_cameras_stand_still(kind: str, views: dict[tuple[str, str], tuple[Intrinsics, Cameras]]) -> None:
    _, cameras = views["plaza", kind]
    assert (cameras.R - cameras.R[:1] == 0).all()
    assert (cameras.t == cameras.t[0]).all()
    assert len(cameras.t) == 300


@pytest.mark.parametrize("seed", range(4))
def test_a_drone_flies_climbs_and_yaws_within_what_it_can(seed: int, scenes: dict[str, Scene]) -> None:
    _, cameras = place_camera("drone", scenes["plaza"], 3000, 100.0, CONFIG, np.random.default_rng(seed))
    velocity = np.diff(cameras.centers, axis=0) * 100.0
    limit = np.array(CONFIG.drone_speed)
    assert (np.abs(velocity) <= limit + 1e-6).all()
    assert (np.abs(velocity).max(0) > 0.7 * limit).all()
    acceleration = np.diff(velocity, axis=0) * 100.0
    assert (np.abs(acceleration) <= limit * 2 * np.pi / CONFIG.drone_period[0] + 1e-4).all()
    assert cameras.centers[100, 1] > cameras.centers[0, 1] + 0.3  # climbs at first
    yaw = np.unwrap(np.arctan2(-cameras.R[:, 2, 0], -cameras.R[:, 2, 2]))
    assert np.ptp(yaw) > np.deg2rad(8)
    rate = np.diff(yaw) * 100.0
    assert np.abs(rate).max() < np.deg2rad(20)
    assert 0.002 < np.std(np.diff(rate) * 100.0) < 1.0  # it shakes, a little
    assert cameras.centers[:, 1].min() > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_drone_keeps_the_middle_of_the_scene_in_view(seed: int, scenes: dict[str, Scene]) -> None:
    for name in ("hill", "amphitheatre"):
        intrinsics, cameras = place_camera("drone", scenes[name], 300, FPS, CONFIG, np.random.default_rng(seed))
        person = standing(scenes[name], np.zeros((1, 2)))[0]
        for frame in range(0, 300, 5):
            pixels, _ = projected(person, intrinsics, cameras, frame)
            assert ((pixels > 0) & (pixels < [intrinsics.width, intrinsics.height])).all()


def test_a_flight_does_not_depend_on_the_frame_rate(scenes: dict[str, Scene]) -> None:
    def flight(frames: int, fps: float) -> Cameras:
        return place_camera("drone", scenes["hill"], frames, fps, CONFIG, np.random.default_rng(7))[1]

    slow, fast = flight(50, 5.0), flight(250, 25.0)
    np.testing.assert_allclose(slow.t, fast.t[::5], atol=1e-9)
    np.testing.assert_allclose(slow.R, fast.R[::5], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_camera(kind: str, scenes: dict[str, Scene]) -> None:
    first, again, other = (
        place_camera(kind, scenes["stairs"], 20, FPS, CONFIG, np.random.default_rng(seed))[1] for seed in (5, 5, 6)
    )
    assert first.t.tobytes() == again.t.tobytes()
    assert first.R.tobytes() == again.R.tobytes()
    assert first.t.tobytes() != other.t.tobytes()
