"""Bodies side by side, and the energies' own gradients, against the plain way through autograd."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from crowd4d_ros.body.files import BodyArrays, read_body
from crowd4d_ros.body.lowest import Reach
from crowd4d_ros.body.packing import Packing
from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_quaternion, rotation_6d_to_matrix
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.body.tangent import exponential, gradient, orthonormal, torque
from crowd4d_ros.camera import project
from crowd4d_ros.optimization import energies, turning
from crowd4d_ros.optimization.image import View
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.priors.vposer import Vposer

BODIES, LANDMARKS = 4, torch.tensor([332, 3216, 6787])
pytestmark = pytest.mark.usefixtures("seeded_doubles")


@pytest.fixture(scope="module")
def arrays() -> BodyArrays:
    return read_body()


@pytest.fixture(params=[False, True], ids=["embedded", "with pose blend shapes"])
def body(request, arrays):
    model = BodyModel(arrays, dtype=torch.float64)
    if request.param:
        model.posedirs = 0.005 * torch.randn(6890, 3, 207)
    return model


def bodies(count=BODIES):
    """betas (10, V), axis-angle (3, 24, V) and pelvis (3, V)."""
    leaves = torch.randn(10, count), 0.7 * torch.randn(3, 24, count), torch.randn(3, count)
    return [leaf.requires_grad_() for leaf in leaves]


def plain(body, betas, angles, pelvis, support):
    """What ``Rig.pose`` gives, by ``BodyModel``."""
    pose = angles.permute(2, 1, 0)
    posed = body.pose(betas.mT, pose[:, 1:], pose[:, 0], pelvis.mT - body.pelvis(betas.mT))
    points = body.skin(posed, torch.cat([LANDMARKS, support]))
    surface, lowest = points.split([len(LANDMARKS), len(support)], 1)
    return posed.joints.permute(2, 1, 0), surface.permute(2, 1, 0), lowest[..., UP].amin(-1)


# bodies


def test_joints_landmarks_and_lowest_are_the_body_models_and_so_are_their_gradients(body):
    support = torch.randperm(6890)[:40]
    rig = Rig.of(body, LANDMARKS).supported(body, support)
    betas, angles, pelvis = leaves = bodies()
    found = rig.pose(betas, exponential(angles), pelvis)
    expected = plain(body, betas, angles, pelvis, support)
    pull = [torch.randn_like(a) for a in expected]
    slopes = zip(*(torch.autograd.grad(a, leaves, pull) for a in (found, expected)), strict=True)
    for ours, theirs in (*zip(found, expected, strict=True), *slopes):
        torch.testing.assert_close(ours, theirs)


def test_any_tree_with_parents_before_children_will_do(arrays):
    parents = np.array([-1, 0, 1, 2, 0, 4, 4, 1, 7, 8, *range(9, 23)])
    body = BodyModel(BodyArrays(**{**vars(arrays), "parents": parents}), dtype=torch.float64)
    betas, angles, pelvis = bodies()
    found = Rig.of(body, LANDMARKS).pose(betas, exponential(angles), pelvis)
    torch.testing.assert_close(found[0], plain(body, betas, angles, pelvis, LANDMARKS)[0])


def test_nobody_has_a_pose_too(body):
    joints, landmarks, lowest = Rig.of(body, LANDMARKS).pose(
        torch.zeros(10, 0), torch.zeros(3, 3, 24, 0), torch.zeros(3, 0)
    )
    assert joints.shape == (3, 24, 0)
    assert landmarks.shape == (3, 3, 0)
    assert lowest.shape == (0,)


# the lowest vertex


@pytest.mark.parametrize("lying", [False, True])
def test_no_vertex_that_is_left_out_can_be_the_lowest(body, lying):
    people, frames = 3, 5
    betas = 2 * torch.randn(people, 10)
    pose = 0.5 * torch.randn(people, frames, 23, 3)
    orient = torch.tensor([0.0 if not lying else math.pi / 2, 0, 0]).expand(people, frames, 3)
    posed = body.pose(betas[:, None], pose, orient, torch.randn(people, frames, 3))
    expected = body.lowest_index(posed)
    known = body.skin(posed, torch.tensor([3387, 6787, 3216]))[..., UP].amin(-1)
    clearance = (posed.joints[..., UP] - known[..., None]).amin((0, 1))
    reach = Reach(body)
    among = reach.candidates(betas, clearance)
    valid = torch.rand(people, frames) < 0.7
    index, support = reach.lowest(posed, valid, among, 0.002)
    assert (index == expected).all()
    assert torch.isin(expected[valid], support).all()
    heights = body.skin(posed)[..., UP]
    near = ((heights <= heights.amin(-1, keepdim=True) + 0.002) & valid[..., None]).any(1).any(0)
    assert (near.nonzero()[:, 0] == support).all()


def test_of_somebody_who_stands_most_of_the_body_need_not_be_looked_at(arrays):
    body = BodyModel(arrays)
    still = torch.zeros(1, 1, 23, 3, dtype=torch.float32)
    posed = body.pose(torch.zeros(1, 1, 10).float(), still, still[:, :, 0], still[:, :, 0])
    clearance = (posed.joints[..., UP] - body.skin(posed)[..., UP].amin()).amin((0, 1))
    assert len(Reach(body).candidates(torch.zeros(1, 10).float(), clearance)) < 6890 / 4


# rotations


def test_torques_are_what_rotations_see_of_a_gradient():
    rotation, g = exponential(torch.randn(3, 5)), torch.randn(3, 5)
    torch.testing.assert_close(torque(rotation, gradient(rotation, g)), g)


@pytest.mark.parametrize("length", [0.0, 1e-6, 1e-3, 1.0, math.pi, 6.0])
def test_the_exponential_and_its_gradient(length):
    axis = torch.randn(4, 3)
    angles = (length * axis / axis.norm(dim=-1, keepdim=True)).requires_grad_()
    found, expected = exponential(angles.mT), axis_angle_to_matrix(angles).permute(1, 2, 0)
    pull = torch.randn_like(found)
    torch.testing.assert_close(found, expected)
    slopes = (torch.autograd.grad(a, angles, pull)[0] for a in (found, expected))
    torch.testing.assert_close(*slopes, atol=1e-7, rtol=1e-7)


def test_orthonormal_columns_and_their_gradient():
    columns = torch.randn(2, 3, 4, 5, requires_grad=True)
    found = orthonormal(columns)
    expected = rotation_6d_to_matrix(columns.permute(2, 3, 0, 1).flatten(-2)).permute(2, 3, 0, 1)
    pull = torch.randn_like(found)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(a, columns, pull)[0] for a in (found, expected)))


def test_quaternions_whichever_component_is_large():
    angles = torch.cat([3.1 * torch.eye(3), 0.1 * torch.eye(3), torch.randn(50, 3) * 2])
    matrices = axis_angle_to_matrix(angles)
    found, expected = turning.quaternions(matrices.permute(1, 2, 0)), matrix_to_quaternion(matrices).mT
    torch.testing.assert_close(found * (found * expected).sum(0).sign(), expected)


@pytest.mark.parametrize("count", [0, 1])
def test_one_body_or_none_has_no_step(count):
    rotations = exponential(torch.randn(3, 24, count)).requires_grad_()
    value = turning.steps(rotations, turning.quaternions(rotations), torch.zeros(max(count - 1, 0)))
    assert value.tolist() == 24 * [0.0]
    assert torch.autograd.grad(value.sum(), rotations)[0].abs().sum() == 0


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, math.pi - 1e-9, math.pi + 1e-9, 2 * math.pi - 1e-3])
def test_the_turn_between_two_bodies_is_the_shorter_one(angle):
    """At every angle, and its gradient is the axis, twice as long."""
    axis = torch.nn.functional.normalize(torch.randn(3), dim=0)
    first = torch.randn(3)
    both = torch.stack([axis_angle_to_matrix(first), axis_angle_to_matrix(first) @ axis_angle_to_matrix(angle * axis)])
    rotations = both.permute(1, 2, 0)[:, :, None].clone().requires_grad_()
    value = turning.steps(rotations, turning.quaternions(rotations), torch.ones(1))
    shorter = angle if angle < math.pi else angle - 2 * math.pi
    torch.testing.assert_close(value, torch.tensor([shorter**2]), atol=1e-12, rtol=1e-7)
    slope = torque(rotations.detach(), torch.autograd.grad(value.sum(), rotations)[0])[:, 0]
    torch.testing.assert_close(slope, 2 * shorter * torch.stack([-axis, axis], -1), atol=1e-7, rtol=1e-7)


def test_second_derivatives_are_refused_rather_than_wrong():
    angles = torch.randn(3, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(exponential(angles).square()[0].sum(), angles, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("prior", [Vposer, GaussianPosePrior])
def test_a_priors_rotations_are_its_decoded_pose(prior):
    prior = prior.load(dtype=torch.float64)
    latent = torch.randn(6, prior.latent_dim)
    expected = axis_angle_to_matrix(prior.decode(latent)).permute(2, 3, 1, 0)
    torch.testing.assert_close(prior.rotations(latent), expected)


# the image


@pytest.mark.parametrize("width", [0.3, math.inf])
def test_eq_20_and_22_with_their_gradients(width):
    people, frames, count = 2, 3, 4
    points = torch.randn(people, frames, count, 3) + torch.tensor([0.0, 0, 4])
    points[1, :, 1, 2] = -5.0
    points.requires_grad_()
    alpha = torch.tensor(1.1, requires_grad=True)
    K = torch.tensor([[500.0, 3, 320], [0, 510, 240], [0, 0, 1]])
    R, t = axis_angle_to_matrix(0.2 * torch.randn(frames, 3)), torch.randn(frames, 3)
    reference, weight = torch.randn(people, frames, count, 2) * 300, torch.rand(people, frames, count)
    size = 20 + 30 * torch.rand(people, frames)
    valid = torch.ones(people, frames, dtype=torch.bool)
    valid[0, 1] = False
    weight[1, 0, 0] = 0
    pack = Packing.of(valid, points)

    def packed(values):
        return pack.packed(values).transpose(0, 1)

    view = View(K[:2], pack.of_frames(R), pack.of_frames(t), pack.packed(size))
    pixels, in_front = project(points, K, R, alpha * t)
    assert not in_front[valid].all()
    given = packed(points), alpha, packed(reference)
    pairs = (
        (
            view.energy(*given, pack.packed(weight), width),
            energies.reprojection(pixels, in_front, reference, weight, size, valid, width),
        ),
        (
            view.energy(*given, torch.ones(count, len(pack.rows)), seen_only=False),
            energies.hsip_projection(pixels.flatten(2), reference.flatten(2), size, valid),
        ),
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)
        slopes = (torch.autograd.grad(a, (points, alpha), retain_graph=True) for a in (found, expected))
        for ours, theirs in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert gradcheck(
        lambda x: view.energy(x, *given[1:], pack.packed(weight), width), given[0].detach().requires_grad_()
    )


# side by side


def test_packed_and_padded_again():
    valid = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    pack = Packing.of(valid, torch.zeros(()))
    values, others = torch.randn(3, 3, 2), torch.randn(3, 3, 2)
    assert pack.packed(values).shape == (2, 4)
    assert pack.lasting.tolist() == [1, 0, 0]
    torch.testing.assert_close(pack.padded(pack.packed(values)), torch.where(valid[..., None], values, 0.0))
    torch.testing.assert_close(pack.padded(pack.packed(values), others), torch.where(valid[..., None], values, others))
    assert pack.of_people(torch.arange(3)).tolist() == [0, 0, 2, 2]
    assert pack.of_frames(torch.arange(3)).tolist() == [0, 1, 0, 2]
