"""Each energy of Eq. 17–26: closed forms, gradients, invariances, and padding that is never read."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from crowd4d_ros.body.packing import Packing
from crowd4d_ros.body.tangent import exponential
from crowd4d_ros.camera import project
from crowd4d_ros.optimization import energies, turning

PEOPLE, FRAMES, JOINTS, STRIDE = 4, 7, 5, 2


pytestmark = pytest.mark.usefixtures("seeded_doubles")


def tensors():
    """One consistent set of arguments."""
    pelvis = torch.randn(PEOPLE, FRAMES, 3) * 2
    point = pelvis + torch.randn(PEOPLE, FRAMES, 3)
    return {
        "pelvis": pelvis,
        "point": point,
        "reach": torch.rand(PEOPLE, FRAMES),
        "alpha": torch.tensor(1.1),
        "lowest_y": pelvis[..., 1] - 0.9,
        "pixels": torch.randn(PEOPLE, FRAMES, JOINTS, 2) * 50,
        "reference": torch.randn(PEOPLE, FRAMES, JOINTS, 2) * 50,
        "confidence": torch.rand(PEOPLE, FRAMES, JOINTS),
        "in_front": torch.ones(PEOPLE, FRAMES, JOINTS, dtype=torch.bool),
        "size": 20 + 30 * torch.rand(PEOPLE, FRAMES),
        "orient": torch.randn(PEOPLE, FRAMES, 3),
        "pose": torch.randn(PEOPLE, FRAMES, JOINTS, 3),
        "betas": torch.randn(PEOPLE, 10),
        "latent": torch.randn(PEOPLE, FRAMES, 6),
    }


def graph_of(point, valid):
    return energies.neighbours(point.numpy(), valid.numpy(), STRIDE, count=3, radius=30.0, width=5.0)


def crowd_term(pelvis, graph):
    return energies.crowd(pelvis, graph.pairs(STRIDE, pelvis), 0.5, 0.05, 0.1)


def crowd(x, valid):
    # the graph is fixed by the initial proxies; NaN padding must not reach it through them
    return crowd_term(x["pelvis"], graph_of(x["point"].nan_to_num(), valid))


def side_by_side(valid, *rotations):
    """Axis-angle (N, T, 3) or (N, T, J, 3) as the energies have them: (3, 3, J, V), without the padding."""
    pack = Packing.of(valid, rotations[0])
    joints = (a if a.ndim == 4 else a[:, :, None] for a in rotations)
    return pack, *(exponential(pack.packed(a).transpose(0, 1)) for a in joints)


def smoothness(rotations, valid):
    pack, matrices = side_by_side(valid, rotations)
    return turning.steps(matrices, turning.quaternions(matrices), pack.lasting).mean()


def distance_of(rotations, reference, valid):
    _, *both = side_by_side(valid, rotations, reference)
    return turning.distances(both[0], *(turning.quaternions(a) for a in both)).mean()


TERMS = {
    "hsip_xz": (
        lambda x, v: energies.hsip_xz(x["pelvis"], x["point"], x["reach"], x["alpha"], v),
        ("pelvis", "alpha"),
    ),
    "hsip_y": (
        lambda x, v: energies.hsip_y(x["lowest_y"], x["point"][..., 1], x["alpha"], v),
        ("lowest_y", "alpha"),
    ),
    "hsip_proj": (
        lambda x, v: energies.hsip_projection(x["pixels"][..., 0, :], x["reference"][..., 0, :], x["size"], v),
        ("pixels",),
    ),
    "crowd": (crowd, ("pelvis",)),
    "proj": (
        lambda x, v: energies.reprojection(x["pixels"], x["in_front"], x["reference"], x["confidence"], x["size"], v),
        ("pixels",),
    ),
    "tau": (lambda x, v: energies.translation_smoothness(x["pelvis"], v), ("pelvis",)),
    "gamma": (lambda x, v: smoothness(x["orient"], v), ("orient",)),
    "theta": (lambda x, v: smoothness(x["pose"], v), ("pose",)),
    "beta": (lambda x, v: energies.shape_prior(x["betas"], v), ("betas",)),
    "prior_theta": (lambda x, v: energies.pose_prior(x["latent"], v), ("latent",)),
}
everybody = torch.ones(PEOPLE, FRAMES, dtype=torch.bool)


def some():
    valid = everybody.clone()
    valid[0, 2:4] = valid[1, 5:] = valid[3] = False
    return valid


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_right(name):
    term, free = TERMS[name]
    x = tensors()
    leaves = [x[key].clone().requires_grad_() for key in free]
    assert gradcheck(lambda *values: term({**x, **dict(zip(free, values, strict=True))}, some()), leaves)


@pytest.mark.parametrize("name", TERMS)
def test_padding_is_never_read(name):
    term, free = TERMS[name]
    valid, x = some(), tensors()
    expected = term(x, valid)
    for tensor in x.values():
        if tensor.shape[:2] == valid.shape and tensor.is_floating_point():
            tensor[~valid] = math.nan
    x["betas"][3] = math.nan
    leaves = [x[key].requires_grad_() for key in free]
    value = term(x, valid)
    torch.testing.assert_close(value, expected)
    for leaf, gradient in zip(leaves, torch.autograd.grad(value, leaves), strict=True):
        assert gradient.isfinite().all()
        if leaf.shape[:2] == valid.shape:
            assert (gradient[~valid] == 0).all()


@pytest.mark.parametrize("name", TERMS)
def test_the_order_of_people_does_not_matter(name):
    term, _ = TERMS[name]
    order = torch.tensor([2, 0, 3, 1])
    x, valid = tensors(), some()
    permuted = {key: tensor[order] if tensor.ndim else tensor for key, tensor in x.items()}
    torch.testing.assert_close(term(permuted, valid[order]), term(x, valid))


@pytest.mark.parametrize("name", ["hsip_xz", "hsip_y", "crowd", "tau"])
def test_a_turn_about_the_vertical_changes_nothing(name):
    term, _ = TERMS[name]
    x = tensors()
    turn = torch.as_tensor(Rotation.from_rotvec([0, 0.7, 0]).as_matrix())
    turned = {**x, "pelvis": x["pelvis"] @ turn.T, "point": x["point"] @ turn.T}
    torch.testing.assert_close(term(turned, everybody), term(x, everybody))


@pytest.mark.parametrize("name", ["crowd", "tau"])
def test_a_shift_of_the_world_changes_nothing(name):
    term, _ = TERMS[name]
    x, shift = tensors(), torch.tensor([3.0, -1, 2])
    moved = {**x, "pelvis": x["pelvis"] + shift, "point": x["point"] + shift}
    torch.testing.assert_close(term(moved, everybody), term(x, everybody))


def test_eq_17_is_a_hinge_at_the_scaled_range():
    point, reach, alpha = torch.tensor([[[2.0, 0, 0]]]), torch.tensor([[0.5]]), torch.tensor(2.0)
    pelvis = torch.tensor([[[4.0, 9.0, 1.0]]])  # one metre from α s*, on the rim of α r; height is free
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert energies.hsip_xz(pelvis, point, reach, alpha, valid) == 0
    out = pelvis + torch.tensor([0.0, 0, 0.3])
    torch.testing.assert_close(energies.hsip_xz(out, point, reach, alpha, valid), torch.tensor(0.09))
    at_centre = (2 * point).requires_grad_()
    energies.hsip_xz(at_centre, point, 0 * reach, alpha, valid).backward()
    assert at_centre.grad.isfinite().all()


def test_eq_18_compares_heights():
    value = energies.hsip_y(torch.tensor([[-2.0]]), torch.tensor([[-2.0]]), torch.tensor(1.1), everybody[:1, :1])
    torch.testing.assert_close(value, torch.tensor(0.04))


def test_eq_19_and_20_are_zero_where_the_anchor_is_seen_at_the_probe():
    anchor = energies.plane_anchor(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[-5.0]]))
    assert anchor.tolist() == [[[1.0, -5.0, 3.0]]]
    one = torch.ones(1, 1, dtype=torch.bool)
    size = torch.tensor([[50.0]])
    at = torch.tensor([[[10.0, 20.0]]])
    assert energies.hsip_projection(at, at, size, one) == 0
    torch.testing.assert_close(energies.hsip_projection(at, at + 5, size, one), torch.tensor(2 * 0.1**2))


def test_eq_21_sees_no_motion_of_a_group_as_one():
    together = torch.randn(PEOPLE, 1, 3) + torch.randn(1, FRAMES, 3)
    graph = graph_of(together, everybody)
    assert len(graph.person) == PEOPLE * 3 * (FRAMES - STRIDE)
    value = crowd_term(together, graph)
    torch.testing.assert_close(value, torch.tensor(0.0), atol=1e-9, rtol=0)


def test_eq_21_by_hand():
    # two people, three frames, stride 2: one pair each way; the displacement (2, 0, 0) becomes (2, 0, 1)
    pelvis = torch.zeros(2, 3, 3)
    pelvis[0, :, 0], pelvis[0, 2, 2] = 2.0, 1.0
    graph = graph_of(pelvis, everybody[:2, :3])
    assert sorted(zip(graph.person, graph.neighbour, graph.frame, strict=True)) == [(0, 1, 2), (1, 0, 2)]
    np.testing.assert_allclose(graph.weight, 1)
    rho = lambda x, c: math.sqrt(x * x + c * c) - c  # noqa: E731
    expected = 2 * (rho(1.0, 0.05) + 0.5 * rho(1 - 2 / math.sqrt(5), 0.1))
    torch.testing.assert_close(crowd_term(pelvis, graph), torch.tensor(expected))


def test_eq_21_of_two_people_in_one_place_has_a_gradient():
    pelvis = torch.zeros(2, 3, 3, requires_grad=True)
    crowd_term(pelvis, graph_of(pelvis.detach(), everybody[:2, :3])).backward()
    assert pelvis.grad.isfinite().all()


def test_neighbours_are_near_in_the_plane_and_valid_at_both_times():
    point = np.zeros((5, 4, 3))
    point[:, :, 0] = np.array([0.0, 1, 2, 3, 50])[:, None]
    point[1, :, 1] = 100  # height plays no part
    valid = np.ones((5, 4), bool)
    valid[2, 0] = False
    graph = energies.neighbours(point, valid, stride=2, count=2, radius=5.0, width=2.0)
    edges = set(zip(graph.person.tolist(), graph.neighbour.tolist(), graph.frame.tolist(), strict=True))
    assert {e for e in edges if e[2] == 2} == {(a, b, 2) for a, b in [(0, 1), (0, 3), (1, 0), (1, 3), (3, 1), (3, 0)]}
    assert {b for a, b, t in edges if (a, t) == (0, 3)} == {1, 2}
    assert not any(4 in e[:2] for e in edges)
    assert min(graph.frame) == 2
    row = graph.person * 4 + graph.frame
    np.testing.assert_allclose(np.bincount(row, graph.weight)[np.unique(row)], 1)


def test_who_is_seen_is_not_held_by_neighbours_but_holds_them():
    point, valid = np.random.default_rng(0).normal(size=(5, 6, 3)), np.ones((5, 6), bool)
    seen = valid.copy()
    seen[1, 3:5] = False
    graph = energies.neighbours(point, valid, 2, 3, 5.0, 2.0)
    held = energies.neighbours(point, valid, 2, 3, 5.0, 2.0, seen)
    hidden = (graph.person == 1) & (graph.frame >= 3)  # at the time or two frames before it
    for name in ("person", "neighbour", "frame", "weight"):
        np.testing.assert_array_equal(getattr(held, name), getattr(graph, name)[hidden])
    assert set(held.frame) == {3, 4, 5}
    assert len(energies.neighbours(point, valid, 2, 3, 5.0, 2.0, valid).person) == 0


@pytest.mark.parametrize("people", [0, 1])
def test_a_lonely_person_has_no_neighbours(people):
    graph = energies.neighbours(np.zeros((people, 5, 3)), np.ones((people, 5), bool), 2, 3, 5.0, 2.0)
    assert len(graph.person) == 0
    assert crowd_term(torch.zeros(people, 5, 3), graph) == 0


def test_eq_22_weights_by_confidence_and_leaves_out_what_is_behind():
    x = tensors()
    x["in_front"][1, 2, 3] = False
    x["confidence"][0, 0, 0] = 0
    squared = ((x["pixels"] - x["reference"]) / x["size"][..., None, None]).square().sum(-1)
    expected = (squared * x["confidence"] * x["in_front"]).sum()
    torch.testing.assert_close(TERMS["proj"][0](x, everybody), expected)
    assert TERMS["proj"][0]({**x, "pixels": x["reference"]}, everybody) == 0


def test_eq_23_is_the_sum_of_squared_steps():
    line = torch.arange(5.0)[None, :, None] * torch.tensor([3.0, 0, 4])
    torch.testing.assert_close(energies.translation_smoothness(line, everybody[:1, :5]), torch.tensor(4 * 25.0))


def test_eq_24_is_the_squared_angle_whatever_turns_are_added():
    axis = torch.tensor([0.6, 0.0, 0.8])
    angles = torch.tensor([0.1, 0.4, 0.4 + 2 * math.pi, 0.3])
    rotations = (angles[:, None] * axis)[None]
    expected = torch.tensor(0.3**2 + 0 + 0.1**2)
    torch.testing.assert_close(smoothness(rotations, everybody[:1, :4]), expected)
    two_joints = torch.stack([rotations, torch.zeros_like(rotations)], 2)
    torch.testing.assert_close(smoothness(two_joints, everybody[:1, :4]), expected / 2)


def test_eq_24_does_not_depend_on_the_world():
    x = tensors()
    turn = Rotation.from_rotvec([0.3, 0.7, -0.2])
    turned = torch.as_tensor((turn * Rotation.from_rotvec(x["orient"].reshape(-1, 3).numpy())).as_rotvec())
    turned = turned.reshape(x["orient"].shape)
    expected = smoothness(x["orient"], everybody)
    torch.testing.assert_close(smoothness(turned, everybody), expected)


def test_eq_25_and_26_are_squared_norms_over_valid_frames():
    x, valid = tensors(), some()
    expected = sum(x["betas"][n].square().sum() for n, _ in valid.nonzero())
    torch.testing.assert_close(energies.shape_prior(x["betas"], valid), expected)
    torch.testing.assert_close(energies.pose_prior(x["latent"], valid), x["latent"][valid].square().sum())


def test_the_shape_stays_with_the_last_windows_only_where_there_was_one():
    betas, known = torch.randn(2, 10), torch.tensor([True, False])
    value = energies.shape_seam(betas, torch.zeros(2, 10), known, everybody[:2])
    torch.testing.assert_close(value, FRAMES * betas[0].square().sum())


def test_projection_is_the_pinhole_and_finite_behind_it():
    K = torch.tensor([[500.0, 2, 320], [0, 510, 240], [0, 0, 1]])
    R = torch.as_tensor(Rotation.from_rotvec([[0.1, 0.2, 0.3], [0, 0, 0]]).as_matrix())
    t = torch.tensor([[0.1, 0.2, 5], [0, 0, 0]])
    points = torch.randn(3, 2, 4, 3, requires_grad=True)
    pixels, in_front = project(points, K, R, t)
    in_camera = torch.einsum("tij,ntkj->ntki", R, points) + t[:, None]
    image = in_camera @ K.T
    assert (in_front == (in_camera[..., 2] > 0.1)).all()
    torch.testing.assert_close(pixels[in_front], (image[..., :2] / image[..., 2:])[in_front])
    pixels.square().sum().backward()
    assert pixels.isfinite().all()
    assert points.grad.isfinite().all()
