"""The HSIP on surfaces where every point can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.proxy import anchor_proxies, smoothed
from crowd4d_ros.interaction.surface import build_surface

CONFIG = replace(InteractionConfig(), probe_offset=0.1, own_depth=100.0, surprise=100.0)
"""Bodies know nothing of their depth: all of it is the surface's, as in the paper."""
HIPS = np.array([0.0, 0.9, 0.0])


def surface_of(height):
    x, z = np.meshgrid(np.arange(-12, 12, 0.5) + 0.25, np.arange(-45, 1, 0.5) + 0.25, indexing="ij")
    return build_surface(np.stack([x, height(x, z), z], -1).reshape(-1, 3), np.zeros((0, 3)), CONFIG)


def proxies(surface, feet, valid=None, config=CONFIG, centers=None):
    feet = np.asarray(feet, float)
    valid = np.ones(feet.shape[:-1], bool) if valid is None else valid
    seconds = np.arange(feet.shape[1]) / 10
    centers = np.zeros((feet.shape[1], 3)) if centers is None else centers
    return anchor_proxies(feet + HIPS, feet + np.array([0.1, 0, 0.05]), valid, centers, seconds, surface, config)


def level(x, z):
    return 0 * x - 5.0


def test_on_a_plane_at_the_right_depth_people_stay_where_they_are():
    feet = np.array([[[1.0, -5, -20]] * 3])
    config = replace(CONFIG, probe_offset=1e-9)
    proxy = proxies(surface_of(level), feet, config=config)
    np.testing.assert_allclose(proxy.anchor, feet, atol=1e-12)
    np.testing.assert_allclose(proxy.reference, feet + HIPS, atol=1e-6)
    np.testing.assert_allclose(proxy.point, feet, atol=1e-6)
    np.testing.assert_allclose(proxy.range, 0, atol=1e-6)
    assert proxy.valid.all()


def test_on_a_plane_by_hand():
    # feet float at y = -4 over ground at -5: a's ray meets it at 5/4 of the way, a' (0.1 lower) at 5/4.1
    proxy = proxies(surface_of(level), [[[1.0, -4, -20]] * 5])
    np.testing.assert_allclose(proxy.hit[0, 2], np.array([1, -4, -20]) * 5 / 4, atol=1e-6)
    np.testing.assert_allclose(proxy.probe_hit[0, 2], np.array([1, -4.1, -20]) * 5 / 4.1, atol=1e-6)
    np.testing.assert_allclose(proxy.depth[0, 2], 5 / 4.1, atol=1e-6)
    np.testing.assert_allclose(proxy.reference[0, 2], np.array([1, -3.1, -20]) * 5 / 4.1, atol=1e-5)
    np.testing.assert_allclose(proxy.point[0, 2], [5 / 4.1, -5, -20 * 5 / 4.1], atol=1e-5)
    apart = np.linalg.norm(np.array([1, -20]) * (5 / 4 - 5 / 4.1))
    np.testing.assert_allclose(proxy.range[0, 2], apart, atol=1e-5)


def test_on_a_ramp_by_hand():
    # ground y = -8 - z/4 · 1/2; the ray through (0, -4, -20) meets y = -8 - z/8 where -4μ = -8 + 2.5μ
    proxy = proxies(surface_of(lambda x, z: -8 - z / 8), [[[0.0, -3.9, -20]] * 5])
    mu = 8 / 6.5
    np.testing.assert_allclose(proxy.probe_hit[0, 2], np.array([0, -4, -20]) * mu, atol=1e-6)
    np.testing.assert_allclose(proxy.point[0, 2], [0, -8 + 20 * mu / 8, -20 * mu], atol=1e-5)


def test_on_a_step_the_first_level_met_counts():
    # a terrace at -3 in front of z = -15, the floor at -5 behind it
    surface = surface_of(lambda x, z: np.where(z > -15, -3.0, -5.0))
    proxy = proxies(surface, [[[0.0, -2.9, -10]] * 3, [[0.0, -4.9, -25]] * 3])
    np.testing.assert_allclose(proxy.point[:, 1], [[0, -3, -10], [0, -5, -25]], atol=1e-5)


def test_the_reference_lies_on_the_root_ray_and_over_the_probes_hit():
    surface = surface_of(lambda x, z: -5 + 0.3 * np.sin(z / 2) + 0.1 * x)
    rng = np.random.default_rng(0)
    feet = rng.uniform([-5, -6, -30], [5, -4, -10], (6, 1, 3))
    centers = np.array([[0.5, 1.0, -0.2]])
    proxy = proxies(surface, feet, centers=centers)
    ray = feet + HIPS - centers
    along = proxy.reference - centers
    np.testing.assert_allclose(np.cross(along, ray), 0, atol=1e-9)
    met = proxy.probe_met
    assert met.any()
    np.testing.assert_allclose(proxy.reference[met][:, [0, 2]], proxy.probe_hit[met][:, [0, 2]], atol=1e-9)
    np.testing.assert_allclose(proxy.point[..., 1], surface.height(proxy.reference[..., [0, 2]])[0])


def test_jitter_along_the_rays_does_not_reach_the_proxy():
    rng = np.random.default_rng(1)
    walk = np.array([0.0, -5, -20]) + np.arange(30)[:, None] * [0.1, 0, -0.05]
    jittered = (walk + HIPS) * (1 + 0.05 * rng.standard_normal((30, 1))) - HIPS
    proxy = proxies(surface_of(level), jittered[None], config=replace(CONFIG, probe_offset=1e-6))
    error = proxy.reference[0] - walk - HIPS
    before = jittered - walk
    assert np.linalg.norm(np.diff(error, 2, axis=0)) < 0.2 * np.linalg.norm(np.diff(before, 2, axis=0))


def test_padding_is_never_read():
    surface = surface_of(level)
    feet = np.tile(np.array([[1.0, -4.5, -20]]), (2, 6, 1))
    valid = np.ones((2, 6), bool)
    valid[0, 2:4] = valid[1] = False
    padded = np.where(valid[..., None], feet, np.nan)
    proxy, full = (
        proxies(surface, padded, valid),
        proxies(surface, np.where(valid[..., None], feet, 1e3), valid),
    )
    for name in ("anchor", "probe", "hit", "probe_hit", "depth", "reference", "point", "range"):
        values = getattr(proxy, name)
        assert np.isfinite(values).all(), name
        np.testing.assert_array_equal(values, getattr(full, name))
    assert (proxy.valid == valid).all()


@pytest.mark.parametrize("feet", [[0.0, 4, -20], [0, -0.05, -20], [0, -5, 4], [0, -400, -20], [0, -5, -1e-3]], ids=str)
def test_people_above_below_behind_and_beside_have_defined_proxies(feet):
    proxy = proxies(surface_of(level), [[feet] * 3])
    for name in ("hit", "probe_hit", "depth", "reference", "point", "range"):
        assert np.isfinite(getattr(proxy, name)).all(), name
    unmet = ~proxy.met & ~proxy.probe_met
    assert (proxy.range[unmet] == CONFIG.lone_range).all()
    assert (proxy.range <= CONFIG.max_range).all()


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    seconds = np.arange(80) / 10
    known = np.ones((1, 80), bool)
    known[0, 20:30] = known[0, 35:] = False
    values = np.where(known, 20 + 1.4 * seconds, np.nan)
    filtered, seen = smoothed(values, known, seconds, CONFIG)
    np.testing.assert_allclose(filtered[0, :35], 20 + 1.4 * seconds[:35], atol=0.1)
    np.testing.assert_allclose(filtered[0, 35:40], 20 + 1.4 * seconds[35:40], atol=0.25)
    assert seen[0, :54].all()
    assert not seen[0, 56:].any()


def test_outliers_do_not_move_the_filter():
    rng = np.random.default_rng(2)
    seconds = np.arange(60) / 10
    truth = 20 + np.sin(seconds)
    values = np.tile(truth, (3, 1)) + 0.02 * rng.standard_normal((3, 60))
    wrong = rng.choice(60, 6, replace=False)
    values[:, wrong] += 8
    filtered, _ = smoothed(values, np.ones((3, 60), bool), seconds, CONFIG)
    np.testing.assert_allclose(filtered, np.tile(truth, (3, 1)), atol=0.15)


def test_the_filter_follows_a_walk_exactly():
    seconds = np.array([0.0, 0.1, 0.25, 0.3, 0.9, 1.0, 1.05, 1.4])
    line = 15 - 1.3 * seconds
    filtered, _ = smoothed(line[None], np.ones((1, 8), bool), seconds, CONFIG)
    np.testing.assert_allclose(filtered[0], line, atol=0.02)
