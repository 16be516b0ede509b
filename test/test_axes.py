"""The change of axes is a rotation, and moves bodies and cameras without changing what they are."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crowd4d_ros import axes

rng = np.random.default_rng(0)


def test_up_becomes_z_and_the_view_direction_becomes_x():
    assert axes.to_z_up(np.array([0.0, 1.0, 0.0])).tolist() == [0, 0, 1]
    assert axes.to_z_up(np.array([0.0, 0.0, -1.0])).tolist() == [1, 0, 0]


def test_it_is_a_proper_rotation():
    A = axes.Z_UP_FROM_Y_UP
    assert np.allclose(A @ A.T, np.eye(3))
    assert np.linalg.det(A) == pytest.approx(1)


def test_there_and_back():
    points = rng.normal(size=(4, 5, 3))
    assert np.allclose(axes.to_y_up(axes.to_z_up(points)), points)
    R = Rotation.random(4, random_state=0).as_matrix()
    assert np.allclose(axes.rotation_to_y_up(axes.rotation_to_z_up(R)), R)


def test_a_point_projects_to_the_same_place_in_both_worlds():
    R, t = Rotation.random(random_state=1).as_matrix(), rng.normal(size=3)
    point = rng.normal(size=3)
    assert np.allclose(R @ point + t, axes.rotation_to_z_up(R) @ axes.to_z_up(point) + t)


def test_the_pelvis_of_a_body_moves_with_the_world():
    transl, pelvis = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3))
    moved = axes.transl_to_z_up(transl, pelvis)
    assert np.allclose(moved + pelvis[:, None], axes.to_z_up(transl + pelvis[:, None]))
    assert np.allclose(axes.transl_to_y_up(moved, pelvis), transl)


def test_a_body_turns_with_the_world():
    orient = rng.normal(size=(2, 3, 3))
    turned = Rotation.from_rotvec(axes.orient_to_z_up(orient).reshape(-1, 3)).apply([0.0, 1.0, 0.0])
    before = Rotation.from_rotvec(orient.reshape(-1, 3)).apply([0.0, 1.0, 0.0])
    assert np.allclose(turned, axes.to_z_up(before))
    assert np.allclose(axes.orient_to_y_up(axes.orient_to_z_up(orient)), orient)
    assert axes.orient_to_z_up(np.zeros((0, 3))).shape == (0, 3)
