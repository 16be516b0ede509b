"""The benchmark's reference is full SMPL, agrees with the fast path, and the report says what was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from crowd4d_ros.benchmark.against_smplx import against_smplx
from crowd4d_ros.benchmark.agreement import Agreement, gradients, misses
from crowd4d_ros.benchmark.compare import BenchmarkError, used
from crowd4d_ros.benchmark.crowd import window_of
from crowd4d_ros.benchmark.equal_energy import reached
from crowd4d_ros.benchmark.measure import cost
from crowd4d_ros.benchmark.mesh import Mesh
from crowd4d_ros.benchmark.reference import HELD, MeshProblem
from crowd4d_ros.benchmark.scaling import curve
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.body.files import NUM_POSE_FEATURES, NUM_VERTICES, read_body
from crowd4d_ros.body.rotations import axis_angle_to_matrix
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.cli import main
from crowd4d_ros.config import Config, updated
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.stages import Stage

PEOPLE, FRAMES = 2, 8
BRIEF = {f"optimization.stage{number}_iterations": 2 for number in (1, 2, 3)}
BRIEF_ARGUMENTS = [word for name in BRIEF for word in ("--set", f"{name}=2")]


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.of(PEOPLE, FRAMES, updated(Config(), BRIEF)).as_in_paper().double()


def begun(task: Task, number: int) -> tuple[Problem, MeshProblem]:
    """Our problem and the reference as stage ``number`` begins, away from where the window began."""
    ours, reference = task.ours(), task.reference()
    random = torch.Generator().manual_seed(number)
    for stage in task.stages[:number]:
        ours.begin(stage)
        for name in stage.variables:
            moved = ours.variables[name].detach()
            noise = torch.randn(moved.shape, generator=random, dtype=moved.dtype)
            ours.variables[name] = (moved + 0.02 * noise).requires_grad_()
    ours.has_settled = True
    ours.refresh_support()
    reference.follow(ours)
    reference.refresh_support()
    return ours, reference


def agreement(ours: Problem, reference: MeshProblem, stage: Stage) -> Agreement:
    return Agreement.of(gradients(ours, stage), gradients(reference, stage), 0)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_at_equal_variables_energies_and_gradients_are_those_of_the_whole_mesh(task, number):
    stage = task.stages[number - 1]
    found = agreement(*begun(task, number), stage)
    assert set(found.energies) == set(stage.terms)
    assert max(found.energies.values()) < 1e-9
    assert max(found.gradients.values()) < 1e-7
    assert set(found.gradients) == set(stage.variables)


def test_a_wrong_energy_is_seen(task):
    ours, reference = begun(task, 1)
    with torch.no_grad():
        reference.variables["pelvis"][..., 1] += 1e-3
    found = agreement(ours, reference, task.stages[0])
    assert found.energies["hsip_y"] > 1e-4
    assert found.energies["tau"] < 1e-9


def test_meshes_in_parts_give_the_same(task, monkeypatch):
    ours, reference = begun(task, 2)
    monkeypatch.setitem(HELD, "cpu", 3)
    found = agreement(ours, reference, task.stages[1])
    assert max(found.energies.values()) < 1e-9
    assert max(found.gradients.values()) < 1e-7


@pytest.fixture(scope="module")
def posed() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, *shape, generator=random, dtype=torch.float64) for shape in ((10,), (24, 3)))


def test_the_mesh_is_that_of_smplx(posed):
    lbs = pytest.importorskip("smplx.lbs", reason="smplx is not installed").lbs
    arrays = read_body()
    rng = np.random.default_rng(0)
    bent = replace(arrays, posedirs=rng.normal(0, 0.01, (NUM_VERTICES, 3, NUM_POSE_FEATURES)))
    betas, pose = posed
    mesh = Mesh(bent, betas)
    vertices, joints = mesh(betas, axis_angle_to_matrix(pose), torch.zeros(3, 3, dtype=torch.float64))
    truth = lbs(
        betas,
        pose.flatten(1),
        mesh.v_template[None],
        mesh.shapedirs,
        mesh.posedirs,
        mesh.J_regressor,
        torch.tensor(mesh.parents),
        mesh.weights,
    )
    pelvis = truth[1][:, :1]
    torch.testing.assert_close(vertices, truth[0] - pelvis, atol=1e-7, rtol=0)  # smplx adds 1e-8 to every angle
    torch.testing.assert_close(joints, truth[1] - pelvis, atol=1e-7, rtol=0)


def test_the_mesh_is_that_of_our_body(posed):
    arrays = read_body()
    betas, pose = posed
    body = BodyModel(arrays, dtype=torch.float64)
    transl = -body.pelvis(betas)
    vertices, joints = Mesh(arrays, betas)(betas, axis_angle_to_matrix(pose), torch.zeros_like(transl))
    torch.testing.assert_close(vertices, body.vertices(betas, pose[:, 1:], pose[:, 0], transl), atol=1e-9, rtol=0)
    torch.testing.assert_close(joints, body.joints(betas, pose[:, 1:], pose[:, 0], transl), atol=1e-9, rtol=0)


def test_without_smplx_that_is_said(monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "smplx.lbs", None)
    assert against_smplx(Mesh(read_body(), torch.zeros(())), 1, 1) is None
    assert "smplx is not installed" in caplog.text


def test_a_vertex_that_is_not_in_the_set_is_missed(task):
    ours, _ = begun(task, 1)
    assert misses(ours).missed == 0
    ours.support = ours.support.new_tensor([411])  # the crown
    bodies = int(task.window.valid.sum())
    found = misses(ours)
    assert (found.bodies, found.missed) == (bodies, bodies)
    assert 0.3 < found.worst < 2.0


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def test_a_crowd_is_the_seed_s(body):
    first, again, other = (window_of(3, 5, body, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.keypoints_2d, again.keypoints_2d)
    assert not np.array_equal(first.keypoints_2d, other.keypoints_2d)


def test_a_crowd_stands_sits_kneels_and_lies_on_the_ground(body):
    window = window_of(60, 20, body)
    pelvis = window.motion.transl[..., 1]
    assert np.ptp(pelvis - pelvis.min()) > 1.0
    assert window.valid.any(-1).all()
    assert 0.8 < window.valid.mean() < 1.0
    assert (window.observed <= window.valid).all()
    assert not (window.keypoints_confidence[~window.observed] > 0).any()


def test_a_window_that_breaks_down_is_one_clear_error(task):
    task = replace(task, config=updated(task.config, {"optimization.weight_proj": float("inf")}))
    with pytest.raises(BenchmarkError, match="proj is not finite"):
        reached(task)


def test_threads_are_given_back_whatever_happens():
    before = torch.get_num_threads()
    inside = []

    def failing():
        with used(before + 1):
            inside.append(torch.get_num_threads())
            raise BenchmarkError

    with pytest.raises(BenchmarkError):
        failing()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_operators_bytes_and_memory_are_counted():
    values = torch.ones(1000)

    def work() -> None:
        (values[:500] * 2).exp()

    measured = cost(work, torch.device("cpu"))
    assert measured.operators == 2
    assert measured.touched >= 2 * 2 * 500 * 4
    assert 2 * 500 * 4 <= measured.peak < 3 * 500 * 4
    assert measured.kernels == 0


def test_a_curve_says_what_it_had_no_time_for():
    grown = curve(updated(Config(), {"optimization.stages": 1}), 0.0, 0, lambda step: None, [(2, 6), (3, 6)])
    assert [(point.people, point.frames) for point in grown.points] == [(2, 6)]
    assert grown.missing == [(3, 6)]
    assert grown.points[0].memory > 0


def test_the_command_measures_and_reports(tmp_path, capsys):
    sizes = ["--people", str(PEOPLE), "--frames", str(FRAMES), "--repeat", "1", "--threads", "1"]
    code = main(["benchmark", *sizes, "--full", "--json", "--out", str(tmp_path), "--device", "cpu", *BRIEF_ARGUMENTS])
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert printed == json.loads((tmp_path / "benchmark.json").read_text())
    assert [stage["stage"] for stage in printed["stages"]] == ["stage-1", "stage-2", "stage-3"]
    assert all(stage["ratio"] > 0 and stage["ours"]["operators"] > 0 for stage in printed["stages"])
    assert printed["schedule"]["ratio"] > 0
    assert [end["stage"] for end in printed["equal_answer"]] == ["stage-1", "stage-2", "stage-3"]
    assert all(end["energy"] < 1e-2 for end in printed["equal_answer"])
    assert len(printed["equal_energy"]) == 3
    assert "| schedule |" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--people", "0"], "1 or more people"),
        (["--stages", "4"], "--stages takes stages of 1 to 3"),
        (["--stages", "x"], "--stages takes whole numbers"),
        (["--repeat", "0"], "--repeat is 1 or more"),
        (["--set", "interaction.coupling=none"], "interaction.coupling 'hsip'"),
        (["--device", "tpu"], "'device' is 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_error(tmp_path, capsys, arguments, message):
    sizes = ["--people", str(PEOPLE), "--frames", str(FRAMES), "--repeat", "1", "--out", str(tmp_path)]
    assert main(["benchmark", *sizes, *BRIEF_ARGUMENTS, *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
