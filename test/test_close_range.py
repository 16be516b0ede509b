"""Close range (Sec. 3.2.2): chosen where bodies hide what they stand on, and then by hand."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from synthetic_crowd import looking_down
from synthetic_window import staged_crowd

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.anchors import hsip
from crowd4d_ros.interaction.close_range import close_range_proxies, hidden_share
from crowd4d_ros.interaction.proxy import CLOSE_RANGE, OPEN_RANGE
from crowd4d_ros.interaction.surface import build_surface
from crowd4d_ros.window import Cameras, ScenePoints

CONFIG = InteractionConfig()
PEOPLE, FRAMES = 3, 9
EYES = -1.6
"""metres: the ground, seen from eye height by a level camera whose image ends 18 degrees below the horizon."""


@pytest.fixture(scope="module")
def staged():
    return staged_crowd(BodyModel.load(), PEOPLE, FRAMES, flight=0.0).window


def ground_points(near, far=30.0):
    x, z = np.meshgrid(np.arange(-8, 8, 0.25), -np.arange(near, far, 0.25), indexing="ij")
    return np.stack([x, np.full_like(x, EYES), z], -1).reshape(-1, 3)


def seen_at(staged, depth, ratio=1.0):
    """People ``depth`` metres away, initially ``ratio`` times as far; the scene shows their skin, ground and a wall."""
    place = np.stack([np.linspace(-1, 1, PEOPLE), np.full(PEOPLE, EYES), np.full(PEOPLE, -depth)], -1)
    place = np.repeat(place[:, None], FRAMES, 1)
    up = np.linspace(0.7, 1.5, 24)
    true = place[:, :, None] + np.stack([0.1 * np.sin(np.arange(24)), up, np.zeros(24)], -1)
    pelvis = true[:, :, :1]
    joints = true + pelvis * (ratio - 1)  # as large as before, but farther along the root's ray
    lowest = joints[:, :, 0] - [0.0, 0.7, 0.0]
    # all in view, from the row in which the image ends
    ground = ground_points(near=abs(EYES) / np.tan(np.radians(17.7)))
    keyframes = np.array([0, 4, 8])
    across, height = (a.ravel() for a in np.meshgrid(np.linspace(-0.25, 0.25, 12), np.linspace(0.3, 1.8, 40)))
    skin = np.concatenate([p + np.stack([across, height, 0 * height], -1) for p in place[:, 0]])
    skin = skin * (1 - CONFIG.close_skin / depth)
    behind = np.abs(ground[:, :1] / -ground[:, 2:] - place[:, 0, 0] / depth).min(-1) < 0.3 / depth
    points = np.tile(np.concatenate([skin, ground[~behind | (ground[:, 2] > -depth - 0.5)]]), (3, 1))
    scene = ScenePoints(points, np.ones(len(points)), np.repeat(keyframes, len(points) // 3))
    cameras = Cameras(np.stack([looking_down(0.0)] * FRAMES), np.zeros((FRAMES, 3)), "model")
    size = 900 / depth * np.array([0.5, 1.7])
    boxes = np.broadcast_to(np.concatenate([[0, 0], size]), (PEOPLE, FRAMES, 4))
    there = np.ones((PEOPLE, FRAMES), bool)
    window = replace(staged, scene=scene, cameras=cameras, boxes=boxes, observed=there, valid=there)
    return window, joints, lowest, true


def flat(window, joints):
    return build_surface(ground_points(near=1.0), joints[:, :, 0], CONFIG)


def test_where_feet_leave_the_image_it_is_close_range_and_said(staged, caplog):
    window, joints, lowest, _ = seen_at(staged, 3.0)
    assert hidden_share(window, lowest, CONFIG) == 1.0
    with caplog.at_level(logging.INFO, logger="crowd4d_ros"):
        proxy = hsip(window, joints, lowest, flat(window, joints), CONFIG)
    assert proxy.mode == CLOSE_RANGE
    assert "close range: 100%" in caplog.text


def test_where_ground_is_seen_it_is_not(staged):
    window, joints, lowest, _ = seen_at(staged, 12.0)
    assert hidden_share(window, lowest, CONFIG) == 0.0
    assert hsip(window, joints, lowest, flat(window, joints), CONFIG).mode == OPEN_RANGE


def test_bodies_that_stand_before_each_other_hide_the_ground(staged):
    window, _, lowest, _ = seen_at(staged, 12.0)
    ground = np.abs(window.scene.points[:, 1] - EYES) < 1e-9
    around = ground & (np.abs(window.scene.points[:, 2] + 12.0) < 4.0)  # shows somebody's back instead
    scene = window.scene
    scene = ScenePoints(scene.points[~around], scene.confidence[~around], scene.keyframe[~around])
    assert hidden_share(replace(window, scene=scene), lowest, CONFIG) == 1.0


@pytest.mark.parametrize(("is_later", "share"), [(False, 2 / 3), (True, 1.0)])
def test_earlier_keyframes_of_a_later_window_do_not_show_what_bodies_hide_now(staged, is_later, share):
    window, _, lowest, _ = seen_at(staged, 12.0)
    around = (np.abs(window.scene.points[:, 1] - EYES) < 1e-9) & (np.abs(window.scene.points[:, 2] + 12.0) < 4.0)
    kept = ~around | (window.scene.keyframe == 0)  # the first keyframe alone shows the ground
    scene = ScenePoints(window.scene.points[kept], window.scene.confidence[kept], window.scene.keyframe[kept])
    window = replace(window, scene=scene, is_new=np.arange(FRAMES) >= 3 * is_later)
    assert hidden_share(window, lowest, CONFIG) == pytest.approx(share)


def test_without_keyframes_nobody_is_known_to_hide_anything(staged):
    window, _, lowest, _ = seen_at(staged, 3.0)
    nothing = ScenePoints(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
    assert hidden_share(replace(window, scene=nothing), lowest, CONFIG) == 0.0


@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.2])
def test_the_point_is_on_the_anchors_ray_where_the_scene_has_the_body(staged, ratio):
    window, joints, lowest, true = seen_at(staged, 3.0, ratio)
    proxy = close_range_proxies(window, joints, lowest, CONFIG)
    np.testing.assert_allclose(np.cross(proxy.point, proxy.anchor), 0, atol=1e-9)  # the camera is at the origin
    np.testing.assert_allclose(proxy.point[..., 2], true[:, :, 0, 2], rtol=0.03)
    np.testing.assert_allclose(proxy.reference, true[:, :, 0], atol=0.1)
    assert (proxy.range == CONFIG.close_range).all()
    assert proxy.valid.all()
    assert not proxy.met.any()


def test_far_from_any_keyframe_there_is_no_proxy_and_padding_is_never_read(staged):
    window, joints, lowest, _ = seen_at(staged, 3.0)
    valid = window.valid.copy()
    valid[0, 5:] = False
    first = window.scene.keyframe == 0
    scene = ScenePoints(window.scene.points[first], window.scene.confidence[first], window.scene.keyframe[first])
    window = replace(window, scene=scene, stamps=window.stamps[0] + np.arange(FRAMES) * 10**9, valid=valid)
    joints, lowest = (np.where(valid.reshape(*valid.shape, *[1] * (a.ndim - 2)), a, np.nan) for a in (joints, lowest))
    proxy = close_range_proxies(window, joints, lowest, CONFIG)
    assert np.isfinite(proxy.point).all()
    seconds = np.arange(FRAMES)
    np.testing.assert_array_equal(proxy.valid, valid & (seconds <= CONFIG.bridge))
