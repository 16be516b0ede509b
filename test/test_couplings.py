"""The ways to tie people to the scene, where the answer is known by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_window import staged_crowd

from crowd4d_ros.body.keypoints import SOLES, keypoints
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, ConfigError, InteractionConfig, updated
from crowd4d_ros.interaction.anchors import COUPLINGS, coupling
from crowd4d_ros.interaction.scale import scaled
from crowd4d_ros.interaction.surface import build_surface
from crowd4d_ros.optimization import energies, turning
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.solver import optimize
from crowd4d_ros.optimization.stages import stages
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.window import BodyMotion, ScenePoints
from crowd4d_ros.world import World

PEOPLE, FRAMES = 4, 12
CONFIG = InteractionConfig()
HIPS = np.array([0.0, 0.9, 0.0])
SETTINGS = {
    "device": "cpu",
    "optimization.stages": 2,
    "optimization.stage1_iterations": 60,
    "optimization.stage2_iterations": 3,
    "optimization.leg_change": 0.0,
}


@pytest.fixture(scope="module")
def body():
    return BodyModel.load()


@pytest.fixture(scope="module")
def prior():
    return GaussianPosePrior.load()


def solved(window, **settings):
    chosen = {**SETTINGS, **{name.replace("__", "."): setting for name, setting in settings.items()}}
    return Pipeline(updated(Config(), chosen)).step(window, World())


def tensors(*arrays):
    return [torch.as_tensor(np.asarray(a), dtype=torch.float32) for a in arrays]


def posed(body, m):
    arguments = tensors(m.betas[:, None], m.body_pose, m.global_orient, m.transl)
    return body.joints(*arguments).double().numpy(), body.lowest_vertex(*arguments)[1].double().numpy()


def placed(window, joints, lowest, surface, name, **settings):
    config = replace(InteractionConfig(), coupling=name, **settings)
    return coupling(config).anchor(window, joints, lowest, surface, config)


# direct anchor: no body is needed, roots 0.9 m above the lowest vertex


def ground(height, config=CONFIG):
    x, z = np.meshgrid(np.arange(-12, 12, 0.5) + 0.25, np.arange(-45, 1, 0.5) + 0.25, indexing="ij")
    return build_surface(np.stack([x, height(x, z), z], -1).reshape(-1, 3), np.zeros((0, 3)), config)


def standing(feet):
    """A window whose people stand with their feet at ``feet`` (N, T, 3), seen from the origin."""
    feet = np.asarray(feet, float)
    window = staged_crowd(BodyModel.load(), *feet.shape[:2], flight=0.0).window
    joints = np.broadcast_to((feet + HIPS)[:, :, None], (*feet.shape[:2], 24, 3))
    return window, joints, feet + np.array([0.1, 0.0, 0.05])


def test_direct_projection_on_a_plane_by_hand():
    # feet float at y = -4 over ground at -5: their ray meets it at 5/4 of the way
    proxy = placed(*standing([[[1.0, -4, -20]] * 3]), ground(lambda x, z: 0 * x - 5), "direct_anchor")
    np.testing.assert_allclose(proxy.point[0, 1], np.array([1, -4, -20]) * 5 / 4, atol=1e-6)
    np.testing.assert_allclose(proxy.reference[0, 1], np.array([1, -3.1, -20]) * 5 / 4, atol=1e-6)
    np.testing.assert_array_equal(proxy.probe, proxy.anchor)
    assert not proxy.range.any()
    assert proxy.valid.all()


def test_direct_projection_on_a_ramp_by_hand():
    # the ray through (0, -4, -20) meets y = -8 - z/8 where -4μ = -8 + 2.5μ
    proxy = placed(*standing([[[0.0, -4, -20]] * 3]), ground(lambda x, z: -8 - z / 8), "direct_anchor")
    np.testing.assert_allclose(proxy.point[0], np.tile(np.array([0, -4, -20]) * 8 / 6.5, (3, 1)), atol=1e-6)


def test_direct_projection_knows_no_frame_but_its_own():
    feet = np.array([[[0.0, -5, -20]] * 9])
    feet[0, 4, 1] = -4.0
    proxy = placed(*standing(feet), ground(lambda x, z: 0 * x - 5), "direct_anchor")
    np.testing.assert_allclose(proxy.depth[0], [1, 1, 1, 1, 5 / 4, 1, 1, 1, 1], atol=1e-6)


def test_a_ray_into_the_sky_has_no_proxy_in_that_frame_alone():
    feet = np.array([[[0.0, -5, -20]] * 3])
    feet[0, 1, 1] = 3.0
    proxy = placed(*standing(feet), ground(lambda x, z: 0 * x - 5), "direct_anchor")
    assert proxy.valid.tolist() == [[True, False, True]]


def test_a_plane_is_what_is_left_of_a_terrain_without_its_steps():
    def step(x, z):
        return np.where(x > 4, -4.0, -5.0)

    config = replace(InteractionConfig(), terrain="plane")
    surface = ground(step, config)
    where = np.array([[5.0, -20.0], [-5.0, -20.0]])
    np.testing.assert_allclose(surface.height(where)[0], surface.plane_height(where), atol=1e-9)
    np.testing.assert_allclose(ground(step).height(where)[0], [-4, -5], atol=1e-6)


# depth alignment: scene points on the bodies themselves, as a depth map would see them


def with_own_points(body, staged, scale, keyframes):
    """The window with a scene of nothing but the people, ``scale`` times too small, seen in some frames."""
    joints, _ = posed(body, staged.motion)
    frame = np.repeat(keyframes, joints.shape[0] * joints.shape[2])
    points = joints[:, keyframes].swapaxes(0, 1).reshape(-1, 3) / scale
    scene = ScenePoints(points, np.ones(len(points)), frame)
    background = staged.window.scene
    return replace(
        staged.window,
        scene=ScenePoints(
            np.concatenate([background.points, scene.points]),
            np.concatenate([np.full(len(background.points), 0.6), scene.confidence]),
            np.concatenate([background.keyframe + FRAMES - 1, scene.keyframe]),  # ground, seen in the last frame
        ),
    )


def test_depth_alignment_puts_roots_where_the_scene_has_them(body):
    staged = staged_crowd(body, PEOPLE, FRAMES, stature_noise=0.1, jitter=0.0, seed=2)
    keyframes = np.array([0, 5, 10])
    window = with_own_points(body, staged, 1.0, keyframes)
    joints, lowest = posed(body, window.motion)
    surface = ground(staged.height)
    proxy = placed(window, joints, lowest, surface, "depth_alignment")
    distance = np.linalg.norm(staged.pelvis - staged.centers, axis=-1)
    error = np.linalg.norm(proxy.reference - staged.pelvis, axis=-1) / distance
    assert np.median(np.linalg.norm(joints[:, :, 0] - staged.pelvis, axis=-1) / distance) > 0.05
    assert error[:, keyframes].max() < 0.012  # who walks by hides joints
    assert error[:, :11].max() < 0.02  # and between keyframes


def test_depth_between_keyframes_is_a_line_and_ends_with_what_is_known(body):
    from crowd4d_ros.interaction.scene_depth import between_keyframes

    seconds = np.array([0.0, 0.1, 0.3, 0.4, 0.5, 5.0])
    known = np.array([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    mu, believed = between_keyframes(
        np.where(known, [[0, 1.0, 0, 1.3, 0, 0]], 1.0), known, seconds, InteractionConfig()
    )
    np.testing.assert_allclose(mu[0], [1, 1, 1.2, 1.3, 1.3, 1.3])
    assert believed.tolist() == [[True, True, True, True, True, False], [False] * 6]


def test_depth_alignment_finds_the_scale_between_people_and_scene(body, prior):
    staged = staged_crowd(body, PEOPLE, FRAMES, stature_noise=0.0, jitter=0.0, seed=2)
    window = with_own_points(body, staged, 1.1, np.arange(0, FRAMES - 1, 2))  # the camera stays: flight is tiny
    joints, lowest = posed(body, window.motion)
    proxy = placed(window, joints, lowest, ground(staged.height), "depth_alignment")
    config = replace(updated(Config(), SETTINGS).optimization, stage1_iterations=80)
    solution = optimize(window, proxy, body, prior, config, coupling=COUPLINGS["depth_alignment"])
    assert solution.alpha == pytest.approx(1.1, rel=0.02)


def test_the_depth_term_by_hand():
    pelvis = torch.tensor([[[3.0, 0.0, 4.0], [0.0, 0.0, -10.0], [0.0, 0.0, 0.0]]])
    reference = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, -9.0], [7.0, 7.0, float("nan")]]])
    valid = torch.tensor([[True, True, False]])
    value = energies.depth(pelvis, reference, torch.tensor(1.0), 1e-6, valid)
    assert float(value) == pytest.approx(5 + 1, abs=1e-4)


# joint distance


def test_joint_distance_by_hand():
    soles = torch.tensor([[[[0.0, 0.0, 0.0], [1.0, 0.02, 0.0], [0.0, 0.3, 0.0]]]])
    nearest = torch.tensor([[[[0.0, -0.1, 0.0], [1.0, 0.02, 0.4], [9.0, 9.0, 9.0]]]])  # the third foot is in the air
    one, valid, lowest = torch.tensor(1.0), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    value = energies.joint_distance(soles, lowest, nearest, one, 0.05, valid)
    assert float(value) == pytest.approx((0.1**2 + 0.4**2) / 2)
    assert float(energies.joint_distance(soles * float("nan"), lowest, nearest, one, 0.05, ~valid)) == 0


@pytest.mark.parametrize("truth", [1.0, 1.1])
def test_joint_distance_pulls_feet_to_the_points_and_the_scale_toward_the_truth(body, prior, truth):
    staged = staged_crowd(body, PEOPLE, FRAMES, scale=truth, stature_noise=0.0, jitter=0.0, scene_noise=0.0, seed=1)
    window = staged.window
    joints, lowest = posed(body, window.motion)
    proxy = placed(window, joints, lowest, None, "joint_distance")
    config = replace(updated(Config(), SETTINGS).optimization, stage1_iterations=150)
    solution = optimize(window, proxy, body, prior, config, coupling=COUPLINGS["joint_distance"])
    # a nearest point is near wherever one stands: the scale gets a quarter of the way, as people give way too
    assert abs(solution.alpha - truth) < 0.8 * abs(1 - truth) + 0.01
    before, after = (above_ground(body, staged, m, a / truth) for m, a in ((window.motion, 1.0), moved(solution)))
    assert after < 0.2
    assert truth == 1.0 or before > 0.3


def moved(solution):
    return solution.motion, solution.alpha


def above_ground(body, staged, m, scale):
    """RMS metres of everybody's lowest sole from the ground of a scene ``scale`` times its true size."""
    soles = keypoints(body, *tensors(m.betas[:, None], m.body_pose, m.global_orient, m.transl))[..., list(SOLES), :]
    x, y, z = np.moveaxis(soles.numpy(), -1, 0)
    above = (y - scale * staged.height(x / scale, z / scale)).min(0)
    return float(np.sqrt((above**2).mean()))


# none


def test_without_joint_processing_everybody_keeps_their_depth_and_the_scene_its_scale(body):
    staged = staged_crowd(body, PEOPLE, FRAMES, scale=1.3, flight=0.0)
    motion, world = solved(staged.window, interaction__coupling="none")
    assert motion.scale == world.scale == 1.0
    before, after = (np.linalg.norm(posed(body, m)[0][:, :, 0], axis=-1) for m in (staged.window.motion, motion.motion))
    np.testing.assert_allclose(after.mean(-1), before.mean(-1), rtol=0.03)  # jitter goes, the depth stays
    assert not any(name.startswith(("hsip", "joint", "depth")) for name in motion.energies)


def test_hsip_gives_a_scene_its_scale_where_none_does_not(body):
    staged = staged_crowd(body, PEOPLE, FRAMES, scale=1.3, stature_noise=0.02)
    assert solved(staged.window)[0].scale == pytest.approx(1.3, rel=0.03)


# every one of them


@pytest.mark.parametrize("name", COUPLINGS)
def test_every_coupling_runs_from_the_configuration_reports_its_terms_and_never_reads_padding(body, name):
    staged = staged_crowd(body, PEOPLE, FRAMES)
    valid = np.ones((PEOPLE, FRAMES), bool)
    valid[0, 7:] = valid[1, :3] = valid[2] = False

    def padded(fill):
        def fill_in(a):
            return np.where(valid.reshape(valid.shape + (1,) * (a.ndim - 2)), a, fill)

        w, m = staged.window, staged.window.motion
        lacking = np.where(valid.any(-1, keepdims=True), m.betas, fill)
        poses = BodyMotion(lacking, *(fill_in(a) for a in (m.body_pose, m.global_orient, m.transl)))
        w = replace(w, valid=valid, observed=valid, boxes=fill_in(w.boxes), motion=poses)
        return solved(w, interaction__coupling=name, optimization__stage1_iterations=5)[0]

    with_nan, with_number = padded(np.nan), padded(3.0)
    np.testing.assert_array_equal(with_nan.joints[valid], with_number.joints[valid])
    assert np.isfinite(with_nan.joints[valid]).all()
    assert with_nan.hsip_mode == ("open" if name == "hsip" else "none")
    for terms in COUPLINGS[name].terms:
        assert set(terms) <= set(with_nan.energies)


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        ("interaction.coupling", "glue"),
        ("interaction.terrain", "lava"),
        ("interaction.foothold", "moon"),
        ("optimization.stages", 4),
    ],
)
def test_what_does_not_exist_is_refused_by_name_before_any_work(setting, chosen):
    with pytest.raises(ConfigError, match=setting):
        Pipeline(updated(Config(), {setting: chosen}))


# stages and terms


def test_one_stage_leaves_the_poses_untouched_and_none_leaves_everything(body):
    window = staged_crowd(body, PEOPLE, FRAMES, flight=0.0).window
    first, _ = solved(window, optimization__stages=1, optimization__stage1_iterations=20)
    np.testing.assert_allclose(first.motion.body_pose, window.motion.body_pose, atol=1e-6)
    assert np.abs(first.motion.transl - window.motion.transl).max() > 0.1
    untouched, _ = solved(window, optimization__stages=0)
    np.testing.assert_allclose(untouched.motion.transl, window.motion.transl, atol=1e-5)
    assert untouched.energies == {}


@pytest.mark.parametrize("term", ["proj", "hsip_proj", "hsip_xz", "hsip_y", "beta", "tau", "gamma", "crowd"])
def test_a_term_of_no_weight_is_not_computed_at_all(body, prior, monkeypatch, term):
    where, function = {
        "proj": (Problem, "_keypoints"),
        "hsip_proj": (energies, "plane_anchor"),
        "beta": (energies, "shape_prior"),
        "tau": (energies, "translation_smoothness"),
        "gamma": (turning, "steps"),
    }.get(term, (energies, term))

    def never(*arguments):
        raise AssertionError(f"{term} was computed")

    config = replace(updated(Config(), SETTINGS).optimization, stages=1, stage1_iterations=2, **{f"weight_{term}": 0.0})
    assert term not in stages(config)[0].terms
    monkeypatch.setattr(where, function, never)
    window = scaled(staged_crowd(body, 2, 4).window, 1.0)
    joints, lowest = posed(body, window.motion)
    proxy = placed(window, joints, lowest, ground(lambda x, z: 0 * x - 5), "hsip")
    solution = optimize(window, proxy, body, prior, config)
    assert term not in solution.energies
    assert len(solution.energies) == len(stages(config)[0].terms)


def test_who_is_not_seen_is_not_held_to_the_straight_line_between(body, prior):
    """A bridged frame has no pixels: Eq. 17 and 20 hold the frames around it, and let neighbours say where it is."""
    window = scaled(staged_crowd(body, PEOPLE, FRAMES).window, 1.0)
    hidden = np.zeros(window.valid.shape, bool)
    hidden[0, 4:8] = True
    window = replace(window, observed=window.valid & ~hidden)
    joints, lowest = posed(body, window.motion)
    proxy = placed(window, joints, lowest, ground(lambda x, z: 0 * x - 5), "hsip")
    config = updated(Config(), SETTINGS).optimization
    problem = Problem(window, proxy, body, prior, config, COUPLINGS["hsip"], True, None, None)
    problem.begin(stages(config)[0])
    problem.refresh_support()
    for term in ("hsip_proj", "hsip_xz"):
        pull = torch.autograd.grad(problem.energies((term,))[term], problem.variables["pelvis"])[0][..., [0, 2]]
        assert not pull[torch.as_tensor(hidden)].any()
        assert pull[0, :4].abs().max() > 0


def test_nothing_to_optimise_for_is_an_error():
    weights = {f"optimization.{name}": 0.0 for name in vars(Config().optimization) if name.startswith("weight_")}
    with pytest.raises(ConfigError, match="every weight"):
        stages(updated(Config(), weights).optimization)
