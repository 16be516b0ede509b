"""Keypoints: crops that map back exactly, and landmarks in the image's and the camera's own axes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crowd4d_ros.config import KeypointsConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.keypoints import CROP, SMALL_TOES, BlazePose, Crops, Poses
from crowd4d_ros.window import FloatArray

PEOPLE = np.array([[643.0, 240, 42, 83], [500, 158, 29, 75], [253, 220, 31, 88]])
NOSE, HIPS, ANKLES, BIG_TOES, HEELS = 0, [11, 12], [15, 16], [17, 20], [19, 22]


def around(boxes: FloatArray) -> Crops:
    return Crops.around(boxes, KeypointsConfig().margin)


@pytest.fixture(scope="module")
def estimator() -> BlazePose:
    return BlazePose(KeypointsConfig(), "cpu")


@pytest.fixture(scope="module")
def poses(estimator: BlazePose, street: FloatArray) -> Poses:
    return estimator.estimate(street, around(PEOPLE))


def test_the_crop_of_a_box_is_the_square_around_it() -> None:
    crops = Crops.around(np.array([[10.0, 20, 30, 80]]), margin=1.25)
    corner = crops.to_image[0] @ [-0.5, -0.5, 1]
    opposite = crops.to_image[0] @ [CROP - 0.5, CROP - 0.5, 1]
    np.testing.assert_allclose((corner + opposite) / 2, [25, 60])
    np.testing.assert_allclose(opposite - corner, [100, 100])


def test_a_turned_crop_shows_turned_people_upright() -> None:
    angle = 0.3
    crops = Crops(np.array([[50.0, 60]]), np.array([64.0]), np.array([angle]))
    up_in_image = crops.to_image[0, :, :2] @ [0, -1]
    np.testing.assert_allclose(up_in_image / np.linalg.norm(up_in_image), [np.sin(angle), -np.cos(angle)])


def test_pixels_of_a_crop_are_the_images_red_first_and_black_beyond_it() -> None:
    image = np.zeros((CROP, CROP, 3), np.uint8)
    image[..., 2] = 255
    half_outside = Crops(np.array([[0.0, (CROP - 1) / 2]]), np.array([float(CROP)]), np.zeros(1))
    pixels = half_outside.pixels(image)[0]
    assert pixels[:, : CROP // 2 - 1].max() == 0
    assert (pixels[:, CROP // 2 + 1 :] == [1, 0, 0]).all()


def test_nobody_to_look_at(estimator: BlazePose) -> None:
    nobody = estimator.estimate(np.zeros((40, 50, 3), np.uint8), around(np.zeros((0, 4))))
    assert nobody.keypoints_2d.shape == (0, 23, 2)
    assert nobody.landmarks_3d.shape == (0, 23, 3)
    assert nobody.masks == ()


def test_nobody_is_seen_in_an_empty_box(estimator: BlazePose) -> None:
    boxes = np.array([[40.0, 20, 30, 80], [-20, 100, 30, 80]])
    empty = estimator.estimate(np.full((120, 160, 3), 110, np.uint8), around(boxes))
    assert (empty.presence < 0.3).all()
    assert (empty.confidence < 0.3).all()


def test_keypoints_are_where_people_are(poses: Poses) -> None:
    assert (poses.presence > 0.9).all()
    low, high = PEOPLE[:, None, :2], PEOPLE[:, None, :2] + PEOPLE[:, None, 2:]
    margin = 5
    assert ((poses.keypoints_2d > low - margin) & (poses.keypoints_2d < high + margin)).all()
    assert (poses.keypoints_2d[:, NOSE, 1] < poses.keypoints_2d[:, HIPS, 1].mean(1)).all()
    assert (poses.keypoints_2d[:, HIPS, 1].mean(1) < poses.keypoints_2d[:, ANKLES, 1].mean(1)).all()
    assert (poses.confidence[:, SMALL_TOES] == 0).all()


def test_landmarks_are_metres_in_camera_axes_about_the_hips(poses: Poses) -> None:
    """x right and y down: they are the 2D keypoints but for a scale, a shift and the perspective."""
    np.testing.assert_allclose(poses.landmarks_3d[:, HIPS].mean(1), 0, atol=0.02)
    seen = np.delete(np.arange(23), SMALL_TOES)
    flat, image = poses.landmarks_3d[:, seen, :2], poses.keypoints_2d[:, seen]
    flat, image = flat - flat.mean(1, keepdims=True), image - image.mean(1, keepdims=True)
    scale = (flat * image).sum((1, 2)) / (flat**2).sum((1, 2))
    error = np.sqrt(((image - scale[:, None, None] * flat) ** 2).sum(-1).mean(-1))
    assert (error < 0.06 * PEOPLE[:, 3]).all()
    stature = PEOPLE[:, 3] / scale
    assert ((stature > 1.3) & (stature < 2.1)).all()


def test_z_is_forward(poses: Poses) -> None:
    """Toes that are lower in the image than their heels point to the camera."""
    for toe, heel in zip(BIG_TOES, HEELS, strict=True):
        lower = poses.keypoints_2d[:, toe, 1] - poses.keypoints_2d[:, heel, 1]
        nearer = poses.landmarks_3d[:, heel, 2] - poses.landmarks_3d[:, toe, 2]
        clear = np.abs(lower) > 3
        assert (np.sign(lower[clear]) == np.sign(nearer[clear])).all()


def test_landmarks_turn_with_the_camera(estimator: BlazePose, street: FloatArray, poses: Poses) -> None:
    angle, person = np.deg2rad(12), 2
    center = PEOPLE[person, :2] + PEOPLE[person, 2:] / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.column_stack([turn, center - turn @ center])
    turned = cv2.warpAffine(street, affine, (street.shape[1], street.shape[0]), flags=cv2.INTER_LINEAR)
    found = estimator.estimate(turned, around(PEOPLE[[person]]))
    expected = poses.keypoints_2d[person] @ turn.T + affine[:, 2]
    seen = poses.confidence[person] > 0.5
    pixels = np.linalg.norm(found.keypoints_2d[0] - expected, axis=-1)[seen]
    metres = found.landmarks_3d[0, seen, :2] - poses.landmarks_3d[person, seen, :2] @ turn.T
    unturned = found.landmarks_3d[0, seen, :2] - poses.landmarks_3d[person, seen, :2]
    assert np.median(pixels) < 2
    assert np.linalg.norm(metres, axis=-1).mean() < 0.5 * np.linalg.norm(unturned, axis=-1).mean()


def test_people_do_not_influence_each_other(estimator: BlazePose, street: FloatArray, poses: Poses) -> None:
    batched = BlazePose(KeypointsConfig(cpu_batch=8), "cpu").estimate(street, around(PEOPLE[::-1]))
    np.testing.assert_allclose(batched.keypoints_2d[::-1], poses.keypoints_2d, atol=0.01)
    np.testing.assert_allclose(batched.landmarks_3d[::-1], poses.landmarks_3d, atol=1e-3)


def test_whom_the_last_look_has_told_the_place_of_needs_one_pass(street: FloatArray, poses: Poses) -> None:
    once = BlazePose(KeypointsConfig(passes=1), "cpu").estimate(street, poses.aims)
    assert (poses.aims.apart(once.aims) < KeypointsConfig().settled).all()
    seen = poses.confidence > 0.5
    assert np.median(np.linalg.norm(once.keypoints_2d - poses.keypoints_2d, axis=-1)[seen]) < 1


def test_crops_are_apart_by_what_their_sides_are_moved() -> None:
    crops = Crops(np.zeros((3, 2)), np.full(3, 100.0), np.zeros(3))
    moved = Crops(np.array([[30.0, 40], [0, 0], [0, 0]]), np.array([100.0, 120, 100]), np.array([0, 0, 0.2]))
    np.testing.assert_allclose(crops.apart(moved), [0.5, np.log(1.2) / 2, 0.1])


def test_masks_cover_the_person_and_little_else(poses: Poses, street: FloatArray) -> None:
    for box, runs in zip(PEOPLE, poses.masks, strict=True):
        mask = masks.decode(runs, *street.shape[:2])
        rows, columns = np.nonzero(mask)
        assert 0.25 * box[2] * box[3] < len(rows) < box[2] * box[3]
        inside = (columns >= box[0] - 4) & (columns <= box[0] + box[2] + 4)
        inside &= (rows >= box[1] - 4) & (rows <= box[1] + box[3] + 4)
        assert inside.mean() > 0.97
