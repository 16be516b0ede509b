"""HSIP where Eq. 7–16 can be worked out by hand: plane, ramp, step and dome, and what no ray tells."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.proxy import OPEN_RANGE, anchor_proxies, averaged, surface_trust
from crowd4d_ros.interaction.surface import build_surface

DEFAULT = replace(InteractionConfig(), cell=0.25)
PAPER = replace(DEFAULT, own_depth=100.0, surprise=100.0, probe_offset=0.1)
"""Bodies know nothing of their depth: all of it is the surface's, as in the paper."""
HIPS, BESIDE = np.array([0.0, 0.9, 0.0]), np.array([0.1, 0.0, 0.05])
CAMERA = np.array([0.4, 1.5, 2.0])


def surface_of(height, config=PAPER, turn=0.0):
    """The surface through y = height(x, z), turned about the vertical by ``turn`` rad."""
    step = config.cell
    x, z = np.meshgrid(np.arange(-9, 9, step) + step / 2, np.arange(-38, 1, step) + step / 2, indexing="ij")
    points = np.stack([x, height(x, z), z], -1).reshape(-1, 3) @ about_gravity(turn).T
    return build_surface(points, np.zeros((0, 3)), config)


def about_gravity(turn):
    return Rotation.from_euler("y", turn).as_matrix()


def proxies(surface, feet, config=PAPER, valid=None, camera=CAMERA, seconds=None):
    """Feet (N, T, 3): lowest vertices lie a little beside them, roots 0.9 m above."""
    feet = np.asarray(feet, float)
    valid = np.ones(feet.shape[:-1], bool) if valid is None else valid
    seconds = np.arange(feet.shape[1]) / 10 if seconds is None else seconds
    centers = np.tile(camera, (feet.shape[1], 1))
    return anchor_proxies(feet + HIPS, feet + BESIDE, valid, centers, seconds, surface, config)


def check_against(proxy, feet, mu_of, height):
    """Eq. 7–16 with mu_of(target), the μ at which the ray CAMERA + μ (target − CAMERA) meets the ground."""
    feet = np.asarray(feet, float)
    probe = feet - [0, PAPER.probe_offset, 0]
    mu, probe_mu = mu_of(feet), mu_of(probe)
    hit, probe_hit = CAMERA + mu * (feet - CAMERA), CAMERA + probe_mu * (probe - CAMERA)
    reference = CAMERA + probe_mu * (feet + HIPS - CAMERA)
    point = np.array([reference[0], height(reference[0], reference[2]), reference[2]])
    tolerance = {"atol": 1e-5}
    np.testing.assert_allclose(proxy.anchor[0, 2], feet, **tolerance)  # 7
    np.testing.assert_allclose(proxy.probe[0, 2], probe, **tolerance)  # 8
    np.testing.assert_allclose(proxy.hit[0, 2], hit, **tolerance)  # 9, 10
    np.testing.assert_allclose(proxy.probe_hit[0, 2], probe_hit, **tolerance)
    np.testing.assert_allclose(proxy.depth[0, 2], probe_mu, **tolerance)  # 11–13: the root's ray, over s'
    np.testing.assert_allclose(proxy.reference[0, 2], reference, **tolerance)  # 14
    np.testing.assert_allclose(proxy.point[0, 2], point, **tolerance)  # 15
    reach = max(np.linalg.norm(point - hit), np.linalg.norm(point - probe_hit))
    np.testing.assert_allclose(proxy.range[0, 2], min(reach, PAPER.max_range), **tolerance)  # 16
    assert proxy.valid.all()
    assert proxy.mode == OPEN_RANGE


@pytest.mark.parametrize("feet", [[1.0, -4, -20], [-2.0, -5.2, -14]], ids=["floating", "sunk"])
def test_on_a_plane(feet):
    # c_y + μ (p_y − c_y) = −5
    mu = lambda p: (-5 - CAMERA[1]) / (p[1] - CAMERA[1])  # noqa: E731
    check_against(proxies(surface_of(lambda x, z: 0 * x - 5), [[feet] * 5]), feet, mu, lambda x, z: -5.0)


def test_on_a_ramp():
    # c_y + μ d_y = −8 − (c_z + μ d_z)/8
    ramp = lambda x, z: -8 - z / 8  # noqa: E731
    mu = lambda p: (-8 - CAMERA[2] / 8 - CAMERA[1]) / ((p - CAMERA)[1] + (p - CAMERA)[2] / 8)  # noqa: E731
    feet = [0.5, -5.0, -21.0]
    check_against(proxies(surface_of(ramp), [[feet] * 5]), feet, mu, ramp)


def test_on_a_step():
    # a terrace at −3 before z = −15, a floor at −5 behind it; each is met where a plane of its height would be
    step = lambda x, z: np.where(z > -15, -3.0, -5.0)  # noqa: E731
    surface = surface_of(step)
    for feet, level in (([0.0, -2.8, -10.0], -3.0), ([0.0, -4.7, -27.0], -5.0)):
        mu = lambda p, level=level: (level - CAMERA[1]) / (p[1] - CAMERA[1])  # noqa: E731
        check_against(proxies(surface, [[feet] * 5]), feet, mu, lambda x, z, level=level: level)


def test_on_a_dome():
    # |c + μ d − m|² = 5² about m: the smaller root; triangles of a quarter metre lie 3 mm below a dome of 5 m
    middle, radius = np.array([0.0, -9.0, -18.0]), 5.0

    def dome(x, z):
        return middle[1] + np.sqrt(np.maximum(radius**2 - (x - middle[0]) ** 2 - (z - middle[2]) ** 2, 4.0))

    feet = np.array([0.7, -4.2, -17.0])
    probe = feet - [0, PAPER.probe_offset, 0]
    d, o = probe - CAMERA, CAMERA - middle
    a, b, c = d @ d, d @ o, o @ o - radius**2
    mu = (-b - np.sqrt(b**2 - a * c)) / a
    reference = CAMERA + mu * (feet + HIPS - CAMERA)
    proxy = proxies(surface_of(dome), [[feet] * 5])
    np.testing.assert_allclose(proxy.probe_hit[0, 2], CAMERA + mu * d, atol=0.02)
    np.testing.assert_allclose(
        proxy.point[0, 2], [reference[0], dome(reference[0], reference[2]), reference[2]], atol=0.02
    )


def test_the_surface_and_the_body_share_the_depth_by_their_variances():
    # over a plane the clearance falls by c_y − a'_y for all of the ray; the body is own_depth, the ray ray_height off
    feet = np.array([1.0, -4.8, -20.0])
    others = np.array([1.0, -5 + DEFAULT.probe_offset, -20.0])  # who agree with the surface: no wrong scale
    proxy = proxies(surface_of(lambda x, z: 0 * x - 5, DEFAULT), [[feet] * 5, [others] * 5, [others] * 5], DEFAULT)
    probe = feet - [0, DEFAULT.probe_offset, 0]
    fall, distance = CAMERA[1] - probe[1], np.linalg.norm(probe - CAMERA)
    mu = (5 + CAMERA[1]) / fall
    gained = (DEFAULT.own_depth * fall) ** 2
    lost = DEFAULT.ray_height**2 + (DEFAULT.ray_angle * distance) ** 2
    trust = gained / (gained + lost) / (1 + ((mu - 1) / DEFAULT.surprise) ** 4)
    np.testing.assert_allclose(proxy.depth[0], 1 + trust * (mu - 1), rtol=1e-6)
    assert 0.8 < trust < 0.99


def test_the_lower_the_view_the_less_the_surface_tells():
    surface = surface_of(lambda x, z: 0 * x - 5, DEFAULT)
    feet = np.array([[[0.0, -5, -30]]])
    heights = np.array([10.0, 2.0, 0.5, 0.1]) - 5
    cameras = np.stack([np.array([0.0, h, 0.0]) for h in heights])[:, None, :]
    mu, met = np.ones((4, 1)), np.ones((4, 1), bool)
    trust = surface_trust(cameras, np.broadcast_to(feet[0], (4, 1, 3)), mu, met, surface, DEFAULT)[:, 0]
    assert (np.diff(trust) < 0).all()
    assert trust[0] > 0.9
    assert trust[-1] < 0.05


def trust_at(height, camera):
    """In the surface through y = height(x, z), of feet at (0, −5, −20) seen from so high above x = z = 0."""
    target = np.array([[[0.0, -5.0, -20.0]]])
    one, met = np.ones((1, 1)), np.ones((1, 1), bool)
    return surface_trust(np.array([[[0.0, camera, 0.0]]]), target, one, met, surface_of(height, DEFAULT), DEFAULT)


def test_a_slope_towards_the_camera_tells_no_more_than_level_ground_and_one_away_less():
    level, towards, away = (lambda x, z, rise=rise: -5 - rise * (z + 20) for rise in (0.0, 0.15, -0.15))
    np.testing.assert_allclose(trust_at(towards, 0.0), trust_at(level, 0.0), rtol=1e-6)
    assert trust_at(away, 0.0) < trust_at(level, 0.0)
    assert trust_at(towards, -6.0) == 0  # who looks up at feet does not see what is under them


def test_what_is_met_beside_the_horizon_does_not_say_what_all_surface_has_wrong():
    """Two well below the camera, alone and beside five nearly as high as it, whose rays end far too near."""
    surface = surface_of(lambda x, z: 0 * x - 5, DEFAULT)
    heights = np.array([-5.0, -5, -0.1, -0.1, -0.1, -0.1, -0.1])[:, None]
    target = np.stack([0 * heights, heights, 0 * heights - 20], -1)
    mu, met = np.where(heights < -1, 1.0, 0.7), np.ones((7, 1), bool)
    all_together = surface_trust(np.zeros((7, 1, 3)), target, mu, met, surface, DEFAULT)[:2]
    alone = surface_trust(np.zeros((2, 1, 3)), target[:2], mu[:2], met[:2], surface, DEFAULT)
    np.testing.assert_allclose(all_together, alone)
    assert alone.min() > 0.8


def test_what_stands_in_front_is_not_what_people_stand_on():
    wall = lambda x, z: np.where(np.abs(z + 12) < 0.6, -2.0, -5.0)  # noqa: E731
    feet = [[[0.0, -5.0, -14.0]] * 5]  # hidden by the wall, 1 m of which the ray to the feet passes through
    proxy = proxies(surface_of(wall), feet, replace(PAPER, probe_offset=0.001))
    np.testing.assert_allclose(proxy.point[0, 2], feet[0][2], atol=0.05)


def test_nobody_stands_on_a_face():
    # the camera looks up at a tier whose floor it cannot see: rays meet the riser
    tier = lambda x, z: np.where(z > -15, -2.0, 3.0)  # noqa: E731
    proxy = proxies(surface_of(tier, replace(DEFAULT, long_edge=50.0)), [[[0.0, 2.9, -16.0]] * 3], DEFAULT)
    np.testing.assert_allclose(proxy.depth, 1.0, atol=0.01)


def test_who_sits_on_an_edge_stands_where_the_feet_are():
    # feet 0.6 m before the root, on the floor at −5; under the root a terrace at −4.5
    seat = lambda x, z: np.where(z > -18.3, -5.0, -4.5)  # noqa: E731
    root, feet = np.array([0.0, -4.1, -18.6]), np.array([0.0, -5.0, -18.0])
    config = replace(PAPER, probe_offset=1e-6)
    centers = np.tile(CAMERA, (5, 1))
    there = np.ones((1, 5), bool)
    surface = surface_of(seat, config)
    bodies = (np.tile(p, (1, 5, 1)) for p in (root, feet))
    proxy = anchor_proxies(*bodies, there, centers, np.arange(5) / 10, surface, config)
    np.testing.assert_allclose(proxy.reference[0, 2], root, atol=1e-4)


def finite(proxy):
    return all(np.isfinite(getattr(proxy, f.name)).all() for f in fields(proxy) if f.name not in ("mode", "ground"))


@pytest.mark.parametrize(
    ("feet", "is_met"),
    [
        ([0.0, 4.0, -20.0], False),  # above the horizon: the ray climbs
        ([0.0, 1.45, -20.0], False),  # a grazing ray, 0.2 degrees
        ([0.0, -5.0, 9.0], False),  # behind the camera, where the reference plane is too far below
        ([0.0, 1.5, 2.0], False),  # in the camera
        ([0.0, -60.0, -20.0], False),  # far below: the surface is another one
        ([0.0, -5.0, -500.0], False),  # far beyond the surface
        ([0.0, -4.3, -20.0], True),  # above the surface
        ([0.0, -5.7, -20.0], True),  # below it
    ],
    ids=str,
)
@pytest.mark.parametrize("config", [PAPER, DEFAULT], ids=["surface only", "default"])
def test_what_no_ray_tells_is_defined(feet, is_met, config):
    proxy = proxies(surface_of(lambda x, z: 0 * x - 5, config), [[feet] * 3], config)
    assert finite(proxy)
    if is_met:
        assert proxy.met.all()
        assert proxy.valid.all()
    if not proxy.probe_met.any():
        np.testing.assert_allclose(proxy.reference, np.broadcast_to(np.array(feet) + HIPS, (1, 3, 3)), atol=1e-9)
        assert not proxy.valid.any()
    assert (proxy.range <= max(config.max_range, config.lone_range)).all()


def test_a_gap_is_bridged_by_the_depth_before_and_after():
    walk = np.stack([np.full(40, 0.5), np.full(40, -4.6), -20 - 0.1 * np.arange(40)], -1)
    lost = walk.copy()
    lost[15:22, 1] = 6.0  # looks over the horizon
    surface = surface_of(lambda x, z: 0 * x - 5)
    whole, gapped = proxies(surface, walk[None]), proxies(surface, lost[None])
    assert not gapped.probe_met[0, 15:22].any()
    assert gapped.valid.all()
    seen = np.r_[0:13, 24:40]
    np.testing.assert_allclose(gapped.reference[0, seen], whole.reference[0, seen], atol=0.02)
    known = np.zeros((1, 40), bool)
    assert (averaged(np.ones((1, 40)), known, np.arange(40.0), DEFAULT) == 0).all()


def hills(x, z):
    return -5 + 0.3 * np.sin(x / 2) + 0.4 * np.cos(z / 5)


def crowd(people=7, frames=12, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.uniform([-5, -5.2, -28], [5, -4.6, -10], (people, 1, 3))
    step = rng.uniform([-0.1, 0, -0.1], [0.1, 0, 0.1], (people, 1, 3))
    return start + step * np.arange(frames)[:, None], rng.uniform(size=(people, frames)) < 0.8


@pytest.mark.parametrize("config", [PAPER, DEFAULT], ids=["surface only", "default"])
def test_all_at_once_is_one_by_one_in_any_order(config):
    feet, valid = crowd()
    surface = surface_of(hills, config)
    together = proxies(surface, feet, config, valid)
    order = np.random.default_rng(1).permutation(len(feet))
    shuffled = proxies(surface, feet[order], config, valid[order])
    for field in fields(together):
        if field.name in ("mode", "scene_points", "ground"):
            continue
        value = getattr(together, field.name)
        np.testing.assert_allclose(getattr(shuffled, field.name), value[order], atol=1e-12, err_msg=field.name)
        if config is DEFAULT:
            continue  # there the crowd's median tells a wrong scale from a wrong surface
        alone = np.concatenate(
            [getattr(proxies(surface, f[None], config, v[None]), field.name) for f, v in zip(feet, valid, strict=True)]
        )
        np.testing.assert_allclose(alone, value, atol=1e-12, err_msg=field.name)


def test_turned_about_gravity_all_turns_along():
    feet, valid = crowd(seed=3)
    turn = 0.6
    R = about_gravity(turn)
    straight = proxies(surface_of(hills, DEFAULT), feet, DEFAULT, valid)
    hips, beside = feet + HIPS, feet + BESIDE
    centers = np.tile(CAMERA, (feet.shape[1], 1))
    turned = anchor_proxies(
        hips @ R.T, beside @ R.T, valid, centers @ R.T, np.arange(feet.shape[1]) / 10,
        surface_of(hills, DEFAULT, turn), DEFAULT,
    )  # fmt: skip
    for name in ("reference", "point"):
        difference = getattr(turned, name) - getattr(straight, name) @ R.T
        assert np.abs(difference[valid]).max() < 0.05, name  # two grids of a quarter metre through the same hills
    np.testing.assert_array_equal(turned.valid, straight.valid)
