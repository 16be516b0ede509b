"""Who is unreliable, whom they follow, and how poses are compared (AMC, Eq. 30)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from motion_priors import LAYOUT, random_motion_prior
from random_crowd import Stream

from crowd4d_ros.body.rotations import axis_angle_to_matrix, compose, matrix_to_6d
from crowd4d_ros.config import OptimizationConfig
from crowd4d_ros.optimization import groups
from crowd4d_ros.optimization.groups import poses, references, reliability
from crowd4d_ros.optimization.segments import SegmentedMotion, split

CONFIG = OptimizationConfig(amc_reliable=0.7, amc_radius=5.0, amc_speed=0.3, amc_heading=0.5, amc_standing=0.3)
FRAMES = 17
SECONDS = torch.arange(FRAMES, dtype=torch.float64) / LAYOUT.rate
NEAR = [1.0, 0, 0]


pytestmark = pytest.mark.usefixtures("seeded_doubles")


def crowd(velocities, places, valid=None, turn=0.0, shift=0.0):
    """People on straight paths, each with poses of their own, in two segments each."""
    people = len(velocities)
    valid = torch.ones(people, FRAMES, dtype=torch.bool) if valid is None else valid
    about = torch.tensor([0.0, turn, 0])
    path = torch.tensor(places)[:, None] + SECONDS[:, None] * torch.tensor(velocities)[:, None]
    path = path @ axis_angle_to_matrix(about).T + shift
    orient = compose(about, torch.zeros(people, FRAMES, 3))
    torch.manual_seed(1)
    pose = 0.3 * torch.randn(people, 1, 23, 3) + 0.05 * torch.randn(people, FRAMES, 23, 3)
    segments = split(valid.numpy(), SECONDS.numpy(), LAYOUT.frames, LAYOUT.rate, 0.0, 0.2, SECONDS)
    rotations = matrix_to_6d(axis_angle_to_matrix(torch.cat([orient[:, :, None], pose], 2)))
    return SegmentedMotion(random_motion_prior(), segments, path, rotations), valid


def follow(velocities, places, reliable, valid=None, config=CONFIG, **world):
    """reliable: a number for every person, or (N, T)."""
    motion, valid = crowd(velocities, places, valid, **world)
    seen = torch.as_tensor(reliable, dtype=torch.float64)
    seen = seen[:, None].expand(-1, FRAMES) if seen.ndim == 1 else seen
    return motion, references(motion, valid, seen, SECONDS, config)


WALK, SAME, OPPOSITE, SLOW, STANDING = [1.2, 0, 0], [1.1, 0, 0.1], [-1.2, 0, 0], [0.6, 0, 0], [0.0, 0, 0]


def test_who_is_seen_follows_nobody():
    _, found = follow([WALK, SAME], [[0.0, 0, 0], NEAR], [0.8, 0.71])
    assert len(found.segment) == 0


def test_who_is_hidden_follows_who_walks_along():
    motion, found = follow([WALK, SAME], [[0.0, 0, 0], NEAR], [0.1, 0.9])
    assert motion.segments.person[found.segment].tolist() == [0, 0]
    assert found.person.tolist() == [1, 1]
    torch.testing.assert_close(found.weight, torch.tensor([0.9, 0.9]))
    code = motion.initial[motion.segments.person == 1][:, : LAYOUT.latent_dim]
    torch.testing.assert_close(found.pose, poses(motion.prior.decode(code).rotations))


def test_the_most_reliable_member_leads():
    _, found = follow([WALK, SAME, WALK], [[0.0, 0, 0], NEAR, [2.0, 0, 1]], [0.1, 0.8, 0.9])
    assert found.person.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("velocity", "place"),
    [(OPPOSITE, NEAR), (SLOW, NEAR), (WALK, [6.0, 0, 0]), (STANDING, NEAR)],
    ids=["headed elsewhere", "slower", "far away", "standing"],
)
def test_others_are_not_of_the_group(velocity, place):
    """Somebody else leads who would lose to them otherwise."""
    _, found = follow([WALK, velocity, SAME], [[0.0, 0, 0], place, [0.0, 0, 1]], [0.1, 1.0, 0.8])
    assert found.person.tolist() == [2, 2]


def test_those_who_stand_together_may_look_anywhere():
    _, found = follow([STANDING, [0.0, 0, -0.2]], [[0.0, 0, 0], NEAR], [0.1, 0.9])
    assert found.person.tolist() == [1, 1]


def test_who_is_not_there_all_the_time_leads_nobody():
    valid = torch.ones(3, FRAMES, dtype=torch.bool)
    valid[1, 2] = False
    _, found = follow([WALK, SAME, SAME], [[0.0, 0, 0], NEAR, NEAR], [0.1, 1.0, 0.8], valid)
    assert found.person[0] == 2


def test_without_a_group_the_own_motion_of_another_time_is_the_template():
    """Seen in the first half only, and alone; a runner is there, but at another speed."""
    seen = torch.ones(2, FRAMES)
    seen[0, FRAMES // 2 + 1 :] = 0
    motion, found = follow([WALK, [3.0, 0, 0]], [[0.0, 0, 0], [50.0, 0, 0]], seen)
    assert found.segment.tolist() == [1]
    assert found.person.tolist() == [0]
    own = motion.prior.decode(motion.initial[:1, : LAYOUT.latent_dim])
    torch.testing.assert_close(found.pose, poses(own.rotations))


def test_without_anybody_at_that_speed_nobody_is_followed():
    _, found = follow([WALK, OPPOSITE], [[0.0, 0, 0], NEAR], [0.1, 0.2])
    assert len(found.segment) == 0
    _, found = follow([WALK, [3.0, 0, 0]], [[0.0, 0, 0], NEAR], [0.1, 1.0])
    assert len(found.segment) == 0


def test_nobody_at_all_is_no_trouble():
    _, found = follow([WALK], [[0.0, 0, 0]], [0.1], torch.zeros(1, FRAMES, dtype=torch.bool))
    assert found.pose.shape == (0, LAYOUT.frames, 138)


def test_the_order_of_people_and_where_the_world_is_do_not_matter():
    velocities, places = [WALK, SAME, OPPOSITE, WALK], [[0.0, 0, 0], NEAR, [1.0, 0, 1], [9.0, 0, 0]]
    reliable = [0.1, 0.9, 0.2, 0.3]
    motion, found = follow(velocities, places, reliable)
    order = [2, 0, 3, 1]
    other, permuted = follow(*([a[i] for i in order] for a in (velocities, places, reliable)))
    leader = dict(zip(motion.segments.person[found.segment].tolist(), found.person.tolist(), strict=True))
    again = dict(zip(other.segments.person[permuted.segment].tolist(), permuted.person.tolist(), strict=True))
    assert {order[n]: order[m] for n, m in again.items()} == leader
    _, turned = follow(velocities, places, reliable, turn=0.7, shift=20.0)
    torch.testing.assert_close(turned.person, found.person)
    torch.testing.assert_close(turned.pose, found.pose)


def test_few_at_a_time_are_as_all_at_once(monkeypatch):
    velocities, places = 4 * [WALK, SAME, OPPOSITE, WALK], [[0.7 * n, 0, 0] for n in range(16)]
    reliable = torch.linspace(0, 1, 16)[torch.randperm(16)]
    _, found = follow(velocities, places, reliable)
    monkeypatch.setattr(groups, "PAIRS", 20)
    _, again = follow(velocities, places, reliable)
    assert len(found.segment) > 10
    for one, other in zip(vars(found).values(), vars(again).values(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_template_is_the_nearest_in_speed():
    known, wanted = torch.randn(50), torch.randn(20)
    apart, index = groups._nearest(known, wanted)
    expected, first = (wanted[:, None] - known).abs().min(-1)
    torch.testing.assert_close(apart, expected)
    assert index.tolist() == first.tolist()


def test_reliability_is_confidence_while_observed():
    window = Stream().window(0)
    found = reliability(window, 0.6)
    mean = window.keypoints_confidence[..., :17].mean(-1)
    np.testing.assert_allclose(found[window.observed], np.minimum(mean / 0.6, 1)[window.observed], rtol=1e-6)
    assert (found[~window.observed] == 0).all()
    unseen = window.keypoints_confidence.copy()
    unseen[~window.observed] = np.nan
    np.testing.assert_array_equal(reliability(replace(window, keypoints_confidence=unseen), 0.6), found)


def test_poses_differ_by_the_mean_square_of_their_angles_and_not_by_the_root():
    rotations = matrix_to_6d(torch.eye(3)).expand(1, 24, 6).clone()
    turned, rooted = rotations.clone(), rotations.clone()
    turned[0, 5] = matrix_to_6d(axis_angle_to_matrix(torch.tensor([0.0, 0.2, 0])))
    rooted[0, 0] = matrix_to_6d(axis_angle_to_matrix(torch.tensor([0.0, 1.0, 0])))
    apart = (poses(turned) - poses(rotations)).square().sum().item()
    assert apart == pytest.approx((2 * np.sin(0.1)) ** 2 / (4 / 3) / 23)
    torch.testing.assert_close(poses(rooted), poses(rotations))
    axes = torch.nn.functional.normalize(torch.randn(4000, 1, 1, 3), dim=-1)
    many = matrix_to_6d(axis_angle_to_matrix(0.2 * axes)).expand(-1, 1, 24, 6)
    mean = (poses(many) - poses(rotations)).square().sum(-1).mean().item()
    assert mean == pytest.approx(0.2**2, rel=0.02)
