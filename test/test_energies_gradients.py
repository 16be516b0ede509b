"""What test_energies.py leaves of Eq. 17–26: people one by one, rotations at 0 and π, robust kernels, our own terms."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from test_energies import FRAMES, PEOPLE, TERMS, crowd_term, distance_of, everybody, graph_of, smoothness, some, tensors
from torch.autograd import gradcheck

from crowd4d_ros.body.rotations import axis_angle_to_matrix
from crowd4d_ros.camera import project
from crowd4d_ros.optimization import energies

pytestmark = pytest.mark.usefixtures("seeded_doubles")


@pytest.mark.parametrize("name", [name for name in TERMS if name != "crowd"])
def test_a_batch_is_the_sum_of_its_people(name):
    term, _ = TERMS[name]
    x, valid = tensors(), some()
    alone = [
        term({key: tensor[n : n + 1] if tensor.ndim else tensor for key, tensor in x.items()}, valid[n : n + 1])
        for n in range(PEOPLE)
    ]
    torch.testing.assert_close(sum(alone), term(x, valid))


def test_groups_out_of_each_others_reach_make_a_crowd_term_that_is_their_sum():
    near = torch.randn(PEOPLE, FRAMES, 3)
    far = torch.randn(PEOPLE, FRAMES, 3) + torch.tensor([1000.0, 0, 0])
    valid = some()

    def term(pelvis, valid):
        return crowd_term(pelvis, graph_of(pelvis, valid))

    together = term(torch.cat([near, far]), torch.cat([valid, valid]))
    torch.testing.assert_close(together, term(near, valid) + term(far, valid))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_eq_24_at_identity_and_near_pi(angle, start):
    axis = torch.tensor([2.0, -1, 2]) / 3
    first, second = (start * axis)[None, None], ((start + angle) * axis)[None, None]
    rotations = torch.cat([first, second], 1).requires_grad_()
    value = smoothness(rotations, everybody[:1, :2])
    torch.testing.assert_close(value, torch.tensor(angle**2), atol=1e-12, rtol=1e-9)
    value.backward()
    assert rotations.grad.isfinite().all()
    # the gradient of θ² is 2θ along the axis, also where θ = sqrt(θ²) has none; half a turn is one about −axis too
    found = rotations.grad[0, 1]
    way = -1.0 if angle == math.pi and found @ axis < 0 else 1.0
    torch.testing.assert_close(found, 2 * angle * axis * way, atol=1e-6, rtol=0)


def test_eq_24_and_its_reference_form_take_the_short_way_round():
    axis = torch.tensor([0.0, 0.6, 0.8])
    rotations = torch.stack([0.1 * axis, (2 * math.pi - 0.1) * axis])[None]
    torch.testing.assert_close(smoothness(rotations, everybody[:1, :2]), torch.tensor(0.04))
    distance = distance_of(rotations[:, :1, None], rotations[:, 1:, None], everybody[:1, :1])
    torch.testing.assert_close(distance, torch.tensor(0.04))


def test_the_distance_to_reference_rotations():
    x, valid = tensors(), some()
    reference = torch.randn_like(x["pose"])
    torch.testing.assert_close(distance_of(reference, reference, valid), torch.tensor(0.0))
    angles = (
        Rotation.from_rotvec(reference.reshape(-1, 3).numpy()).inv() * Rotation.from_rotvec(x["pose"].reshape(-1, 3))
    ).magnitude()
    expected = (torch.as_tensor(angles).reshape(x["pose"].shape[:-1]).square().mean(-1))[valid].sum()
    torch.testing.assert_close(distance_of(x["pose"], reference, valid), expected)
    free = x["pose"].requires_grad_()
    assert gradcheck(lambda pose: distance_of(pose, reference, valid), (free,))


def test_a_body_that_stands_upright_costs_nothing_wherever_it_faces():
    yaw = torch.randn(PEOPLE, FRAMES, 1) * torch.tensor([0.0, 1.0, 0.0])
    value = energies.upright(axis_angle_to_matrix(yaw)[..., 1, 1], everybody)
    torch.testing.assert_close(value, torch.tensor(0.0))


def test_a_body_that_leans_costs_the_square_of_its_angle():
    lean = torch.tensor([[0.05, 0.0, 0.0]]).expand(1, 1, 3).requires_grad_()
    one = everybody[:1, :1]
    torch.testing.assert_close(
        energies.upright(axis_angle_to_matrix(lean)[..., 1, 1], one), torch.tensor(0.05**2), rtol=1e-3, atol=0
    )
    assert gradcheck(lambda a: energies.upright(axis_angle_to_matrix(a)[..., 1, 1], one), (lean,))
    padded = torch.tensor([[math.nan, 1.0]], requires_grad=True)
    energies.upright(padded, torch.tensor([[False, True]])).backward()
    assert padded.grad.tolist() == [[0.0, -2.0]]


def test_the_kernel_of_eq_22_is_the_square_near_zero_and_lets_outliers_go():
    one, confidence, size = everybody[:1, :1], torch.ones(1, 1, 1), torch.full((1, 1), 10.0)
    ahead = torch.ones(1, 1, 1, dtype=torch.bool)

    def energy(residual, width):
        seen = torch.tensor([residual, 0.0]).reshape(1, 1, 1, 2)
        return energies.reprojection(seen, ahead, torch.zeros_like(seen), confidence, size, one, width).item()

    assert energy(0.01, 0.2) == pytest.approx(0.001**2, rel=1e-4)
    assert energy(2.0, 0.2) == pytest.approx(0.2**2 / 2)  # at its width, half of the square
    assert energy(2000.0, 0.2) == pytest.approx(0.2**2, rel=1e-5)  # and never more than this
    assert energy(2.0, math.inf) == pytest.approx(0.2**2)


def test_the_kernel_of_eq_22_has_the_right_gradient():
    x = tensors()
    free = x["pixels"].requires_grad_()
    assert gradcheck(
        lambda p: energies.reprojection(p, x["in_front"], x["reference"], x["confidence"], x["size"], some(), 0.5),
        (free,),
    )


def test_eq_22_of_somebody_behind_the_camera_pulls_nowhere():
    points = torch.tensor([[[[0.0, 0.0, -5.0], [0.3, 0.1, 5.0]]]]).requires_grad_()
    K = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    pixels, ahead = project(points, K, torch.eye(3)[None], torch.zeros(1, 3))
    one = everybody[:1, :1]
    energies.reprojection(
        pixels, ahead, torch.zeros_like(pixels), torch.ones(1, 1, 2), torch.full((1, 1), 50.0), one
    ).backward()
    assert (points.grad[..., 0, :] == 0).all()
    assert (points.grad[..., 1, :2] != 0).all()


@pytest.mark.parametrize("name", ["hsip_xz", "hsip_y"])
def test_hsip_costs_nothing_where_people_stand_on_their_point(name):
    term, _ = TERMS[name]
    x = tensors()
    on_point = {**x, "pelvis": x["alpha"] * x["point"], "lowest_y": x["alpha"] * x["point"][..., 1]}
    assert term(on_point, everybody) == 0


@pytest.mark.parametrize("name", ["tau", "gamma", "theta"])
def test_who_does_not_move_costs_nothing(name):
    term, (key,) = TERMS[name]
    x = tensors()
    still = {**x, key: x[key][:, :1].expand_as(x[key])}
    torch.testing.assert_close(term(still, everybody), torch.tensor(0.0), atol=1e-24, rtol=0)


def test_eq_18_is_the_square_near_the_ground_and_pulls_evenly_far_from_it():
    def force(height):
        lowest = torch.tensor([[height]], requires_grad=True)
        energies.hsip_y(lowest, torch.zeros(1, 1), torch.tensor(1.0), everybody[:1, :1], 0.05).backward()
        return lowest.grad.item()

    assert force(0.001) == pytest.approx(2 * 0.001, rel=1e-3)
    assert force(5.0) == pytest.approx(2 * 0.05, rel=1e-3)
    assert force(-5.0) == -force(5.0)
    assert force(0.0) == 0
