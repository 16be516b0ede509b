"""Rendered frames: exactly the truth's people, where its cameras see them, as detectors know people."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from synthetic_truth import flat_truth

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.initialization.detection import NanoDet
from crowd4d_ros.synthetic.appearance import ground_tile, wardrobe
from crowd4d_ros.synthetic.config import RenderConfig
from crowd4d_ros.synthetic.render import Image, frames
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import BoolArray, FloatArray

CHEAP = RenderConfig(samples=4, background_samples=4, noise=0.0, blur=0.0)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def rendered(truth: Truth, body: BodyModel, config: RenderConfig = CHEAP, seed: int = 0) -> list[Image]:
    pytest.importorskip("mitsuba", reason="the extra 'render' is not installed")
    return list(frames(truth, body, config, np.random.default_rng(seed)))


def small(truth: Truth, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> Truth:
    """The same seen by a camera of ``scale`` times the pixels, its principal point off the middle by ``shift``."""
    camera = truth.intrinsics
    K = np.diag([scale, scale, 1.0]) @ camera.K_rectified
    K[:2, 2] += shift
    width, height = round(camera.width * scale), round(camera.height * scale)
    return replace(truth, intrinsics=replace(camera, width=width, height=height, K=K, K_rectified=K))


def silhouette(truth: Truth, body: BodyModel, t: int) -> BoolArray:
    """(H, W) the pixels of everybody's bare mesh, by a rasteriser that shares nothing with the renderer."""
    m, camera = truth.motion, truth.intrinsics
    arrays = (m.betas, m.body_pose[:, t], m.global_orient[:, t], m.transl[:, t])
    with torch.no_grad():
        vertices = body.vertices(*(torch.as_tensor(a, dtype=torch.float32) for a in arrays)).numpy()
    image = (vertices @ truth.cameras.R[t].T + truth.cameras.t[t]) @ camera.K_rectified.T
    pixels: FloatArray = image[..., :2] / image[..., 2:]
    mask = np.zeros((camera.height, camera.width), np.uint8)
    for triangle in np.rint(16 * pixels[:, body.faces.numpy()].reshape(-1, 3, 2)).astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 1, shift=4)
    return mask > 0


def test_people_are_where_the_camera_sees_them_to_a_pixel(body: BodyModel) -> None:
    truth = small(flat_truth(4, 1, seed=3), 0.5, shift=(-40.0, 25.0))
    nobody = replace(truth, valid=np.zeros_like(truth.valid))
    no_shadow = replace(CHEAP, sunlight=0.0)
    (people,), (empty,) = rendered(truth, body, no_shadow), rendered(nobody, body, no_shadow)
    changed = np.abs(people.astype(int) - empty).max(-1) > 12
    bare = silhouette(truth, body, 0)
    around = cv2.dilate(bare.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # clothes, shade and a pixel of doubt
    within = cv2.erode(bare.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert bare.sum() > 1000
    assert changed[within].mean() > 0.9
    assert changed[~around].mean() < 0.005
    across = [np.nonzero(mask & around)[1].mean() for mask in (changed, bare)]
    assert across[0] == pytest.approx(across[1], abs=0.3)  # the centre of a pixel is a whole number


def test_a_fixed_camera_sees_the_same_background_in_every_frame(body: BodyModel) -> None:
    truth = small(flat_truth(3, 2, seed=1), 0.5)
    first, second = rendered(truth, body)
    same = (first == second).all(-1)
    assert 0.7 < same.mean() < 1.0


def test_a_moving_camera_sees_another_background(body: BodyModel) -> None:
    truth = small(flat_truth(2, 2, seed=1, camera_velocity=(5.0, 0.0, 0.0)), 0.25)
    first, second = rendered(truth, body)
    assert (first == second).all(-1).mean() < 0.5


def test_the_same_seed_gives_the_same_pixels(body: BodyModel) -> None:
    truth = small(flat_truth(2, 1), 0.25)
    noisy = replace(CHEAP, noise=2.0)
    (first,), (again,), (other,) = (rendered(truth, body, noisy, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_embedded_detector_finds_the_people(body: BodyModel) -> None:
    truth = flat_truth(8, 1, seed=2)
    (image,) = rendered(truth, body, replace(CHEAP, samples=6, noise=RenderConfig().noise, blur=RenderConfig().blur))
    found = NanoDet(Config().detection, "cpu").detect(image).boxes
    inside = truth.keypoints_visible[:, 0].mean(-1) > 0.95
    clear = truth.boxes[inside, 0]
    assert len(clear) >= 3
    assert (overlap(clear, found).max(-1, initial=0.0) > 0.5).mean() >= 0.8


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """(A, B) IoU of boxes left, top, width, height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    both = np.clip(high - low, 0, None).prod(-1)
    return np.asarray(both / (a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - both))


def test_people_are_dressed_differently_and_wear_their_own_skin(body: BodyModel) -> None:
    clothes = wardrobe(50, body, np.random.default_rng(0))
    assert len(np.unique(clothes.colors.mean(1).round(3), axis=0)) > 45
    assert ((clothes.colors >= 0) & (clothes.colors <= 1)).all()
    assert ((clothes.thickness >= 0) & (clothes.thickness < 0.05)).all()
    nose = clothes.thickness[:, 332]
    assert not nose.any()


def test_a_ground_tile_continues_over_its_edges() -> None:
    tile = ground_tile("plaza", 256, np.random.default_rng(0)).mean(-1)
    smooth = cv2.GaussianBlur(np.tile(tile, (2, 2)), (0, 0), 3)[128:384, 128:384]
    steps = np.abs(np.diff(smooth, axis=0)).max(-1)
    assert steps[127] < 2 * np.median(steps)  # the seam is between rows 127 and 128
