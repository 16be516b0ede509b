"""The body: SMPL's forward pass against smplx and against geometry, its files, its landmarks."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from crowd4d_ros.axes import Z_UP_FROM_Y_UP, transl_to_z_up
from crowd4d_ros.body import keypoints as layout
from crowd4d_ros.body.files import BodyFileError, read_body
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowd4d_ros.body.skeleton import JOINT_MIRROR, JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.window import NUM_KEYPOINTS

FLIP = torch.tensor([-1.0, 1.0, 1.0])
Motion = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def smpl_arrays() -> dict[str, np.ndarray[Any, Any]]:
    """An SMPL file's content, with pose blend shapes, which the embedded body does without."""
    body = read_body()
    random = np.random.default_rng(1)
    return {
        "v_template": body.v_template,
        "shapedirs": np.concatenate([body.shapedirs, random.normal(size=(6890, 3, 6))], axis=2),
        "posedirs": random.normal(scale=0.005, size=(6890, 3, 207)),
        "J_regressor": body.J_regressor,
        "weights": body.weights,
        "kintree_table": np.stack([np.where(body.parents < 0, 2**32 - 1, body.parents), np.arange(24)]),
        "f": body.faces.astype(np.uint32),
    }


@pytest.fixture
def bending(smpl_arrays: dict[str, Any], tmp_path: Path) -> BodyModel:
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **smpl_arrays)
    return BodyModel.load(tmp_path / "SMPL_NEUTRAL.npz")


def crowd(people: int = 3, frames: int = 4, dtype: torch.dtype = torch.float32) -> Motion:
    """Random bodies, each with one shape over all its frames."""
    random = torch.Generator().manual_seed(people)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=dtype)

    return (
        normal(people, 1, 10),
        0.4 * normal(people, frames, 23, 3),
        normal(people, frames, 3),
        normal(people, frames, 3),
    )


def rest(dtype: torch.dtype = torch.float32) -> Motion:
    return (
        torch.zeros(10, dtype=dtype),
        torch.zeros(23, 3, dtype=dtype),
        torch.zeros(3, dtype=dtype),
        torch.zeros(3, dtype=dtype),
    )


# --- the forward pass ---


@pytest.mark.parametrize("bends", [False, True])
def test_equals_smplx(bends: bool, model: BodyModel, bending: BodyModel) -> None:
    smplx = pytest.importorskip("smplx", reason="smplx is the reference; `pip install smplx` to compare with it")
    from smplx.utils import Struct

    ours = bending if bends else model
    posedirs = torch.zeros(6890, 3, 207) if ours.posedirs is None else ours.posedirs
    content = Struct(
        v_template=ours.v_template.numpy(), shapedirs=ours.shapedirs.numpy(), posedirs=posedirs.numpy(),
        J_regressor=ours.J_regressor.numpy(), weights=ours.weights.numpy(), f=ours.faces.numpy(),
        kintree_table=np.stack([np.array(ours.parents), np.arange(24)]),
    )  # fmt: skip
    betas, body_pose, global_orient, transl = (x.flatten(0, 1) for x in crowd(people=6, frames=1))
    reference = smplx.SMPL("", data_struct=content, batch_size=6)
    with torch.no_grad():
        expected = reference(betas=betas, body_pose=body_pose.flatten(1), global_orient=global_orient, transl=transl)
    motion = (betas, body_pose, global_orient, transl)
    torch.testing.assert_close(ours.vertices(*motion), expected.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.joints(*motion), expected.joints[:, :24], atol=1e-5, rtol=0)
    landmarks = [
        "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe",
        "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ]  # fmt: skip
    found = layout.keypoints(ours, *motion)[:, [layout.INDEX[name] for name in landmarks]]
    torch.testing.assert_close(found, expected.joints[:, 24:35], atol=1e-5, rtol=0)


def test_zero_pose_is_the_template_moved(model: BodyModel) -> None:
    betas, body_pose, global_orient, _ = rest()
    transl = torch.tensor([1.0, 2.0, 3.0])
    vertices = model.vertices(betas, body_pose, global_orient, transl)
    torch.testing.assert_close(vertices, model.v_template + transl)
    torch.testing.assert_close(model.joints(betas, body_pose, global_orient, transl), model.joint_template + transl)


def test_one_shape_for_all_frames_is_that_shape_in_each(model: BodyModel, bending: BodyModel) -> None:
    betas, *pose = crowd()
    repeated = betas.expand(-1, 4, -1)
    for body in (model, bending):
        torch.testing.assert_close(body.vertices(betas, *pose), body.vertices(repeated, *pose))
        index, lowest = body.lowest_vertex(betas, *pose)
        index_repeated, lowest_repeated = body.lowest_vertex(repeated, *pose)
        assert (index == index_repeated).all()
        torch.testing.assert_close(lowest, lowest_repeated)


def test_bones_keep_their_length_in_every_pose(model: BodyModel) -> None:
    betas, *pose = crowd()

    def lengths(joints: Tensor) -> Tensor:
        return (joints[..., 1:, :] - joints[..., list(model.parents[1:]), :]).norm(dim=-1)

    posed, at_rest = lengths(model.joints(betas, *pose)), lengths(model.rest_joints(betas))
    torch.testing.assert_close(posed, at_rest.expand_as(posed))


def test_pelvis_stays_where_root_says_whatever_the_pose(model: BodyModel) -> None:
    betas, body_pose, global_orient, transl = crowd()
    root = model.joints(betas, body_pose, global_orient, transl)[..., 0, :]
    torch.testing.assert_close(root, model.pelvis(betas) + transl)


def test_changing_the_axes_turns_the_body_about_its_root(model: BodyModel) -> None:
    """transl' = A (transl + J0) − J0 and R' = A R move every vertex by A (axes.py)."""
    betas, body_pose, global_orient, transl = crowd()
    turn = torch.tensor(Z_UP_FROM_Y_UP).float()
    pelvis = model.pelvis(betas)[:, 0].numpy()
    moved = torch.tensor(transl_to_z_up(transl.numpy(), pelvis))
    turned = matrix_to_axis_angle(turn @ axis_angle_to_matrix(global_orient))
    expected = model.vertices(betas, body_pose, global_orient, transl) @ turn.mT
    found = model.vertices(betas, body_pose, turned, moved)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bends", [False, True])
def test_skinning_a_subset(bends: bool, model: BodyModel, bending: BodyModel) -> None:
    body = bending if bends else model
    motion = crowd()
    vertices = body.vertices(*motion)
    shared = torch.tensor([3216, 0, 6889])
    torch.testing.assert_close(body.vertices(*motion, index=shared), vertices[..., shared, :])
    each = torch.randint(6890, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    expected = vertices.take_along_dim(each[..., None], -2)
    torch.testing.assert_close(body.vertices(*motion, index=each), expected)


@pytest.mark.parametrize("up", [0, 1, 2])
@pytest.mark.parametrize("bends", [False, True])
def test_lowest_vertex_is_the_lowest_of_all(bends: bool, up: int, model: BodyModel, bending: BodyModel) -> None:
    body = bending if bends else model
    motion = crowd(people=20, frames=3)
    vertices = body.vertices(*motion)
    index, position = body.lowest_vertex(*motion, up=up)
    torch.testing.assert_close(position[..., up], vertices[..., up].amin(-1))
    torch.testing.assert_close(position, vertices.take_along_dim(index[..., None, None], -2).squeeze(-2))


def test_single_bodies_need_no_leading_dimension(model: BodyModel) -> None:
    assert model.joints(*rest()).shape == (24, 3)
    index, position = model.lowest_vertex(*rest())
    assert index.shape == ()
    torch.testing.assert_close(position[1], model.v_template[:, 1].min())


def test_nobody_is_a_crowd_too(model: BodyModel) -> None:
    index, position = model.lowest_vertex(*crowd(people=0))
    assert index.shape == (0, 4)
    assert position.shape == (0, 4, 3)
    assert layout.keypoints(model, *crowd(people=0)).shape == (0, 4, NUM_KEYPOINTS, 3)


def test_gradients() -> None:
    model = BodyModel.load(dtype=torch.float64)
    motion = tuple(x.requires_grad_() for x in crowd(people=1, frames=2, dtype=torch.float64))
    index = torch.tensor([3216, 411])
    assert gradcheck(model.joints, motion)
    assert gradcheck(lambda *args: model.vertices(*args, index=index), motion)
    assert gradcheck(lambda *args: model.lowest_vertex(*args)[1], motion)
    assert gradcheck(model.height, motion[:1])


def test_gradients_at_the_rest_pose_are_finite(model: BodyModel) -> None:
    motion = [x.requires_grad_() for x in rest()]
    layout.keypoints(model, *motion).square().sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in motion)


# --- the embedded body ---


def test_embedded_body_is_a_closed_surface(model: BodyModel) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.Trimesh(model.v_template.numpy(), model.faces.numpy(), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 2
    assert 0.05 < mesh.volume < 0.08, "cubic metres, and outward: a human's"


def test_embedded_body_is_its_own_mirror_image(model: BodyModel) -> None:
    position = {tuple(vertex): index for index, vertex in enumerate(model.v_template.tolist())}
    mirror = torch.tensor([position[-x, y, z] for x, y, z in model.v_template.tolist()])
    joints = list(JOINT_MIRROR)
    assert (mirror[mirror] == torch.arange(6890)).all()
    torch.testing.assert_close(model.shapedirs[mirror] * FLIP[:, None], model.shapedirs, rtol=0, atol=0)
    torch.testing.assert_close(model.weights[mirror][:, joints], model.weights, rtol=0, atol=0)
    torch.testing.assert_close(model.J_regressor[joints][:, mirror], model.J_regressor, rtol=0, atol=0)
    triangles = {tuple(sorted(face)) for face in model.faces.tolist()}
    assert {tuple(sorted(face)) for face in mirror[model.faces].tolist()} == triangles


def test_a_mirrored_pose_looks_mirrored(model: BodyModel) -> None:
    betas, body_pose, global_orient, transl = crowd()
    mirrored = (betas, mirror_pose(body_pose), global_orient * -FLIP, transl * FLIP)
    found = layout.keypoints(model, *mirrored)[..., list(layout.MIRROR), :] * FLIP
    expected = layout.keypoints(model, betas, body_pose, global_orient, transl)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_weights_and_regressor_average(model: BodyModel) -> None:
    for table in (model.weights, model.J_regressor):
        assert (table >= 0).all()
        torch.testing.assert_close(table.sum(1), torch.ones(len(table)))


def test_embedded_people_are_of_human_size(model: BodyModel) -> None:
    betas = torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
    height = model.height(betas)
    assert 1.6 < height.mean() < 1.75
    assert 0.07 < height.std() < 0.13
    assert model.height(torch.eye(10)[0]) > model.height(torch.zeros(10)), "the first beta is size"
    torch.testing.assert_close(model.pelvis(betas), torch.tensor([0.0, -0.22, 0.03]).expand(500, 3), atol=0.02, rtol=0)


def test_provenance(model: BodyModel, bending: BodyModel) -> None:
    assert model.name == "embedded"
    assert bending.name == "SMPL_NEUTRAL.npz"
    assert len({model.sha256, bending.sha256}) == 2
    assert len(model.sha256) == 64


# --- keypoints ---


def test_keypoints_are_on_the_right_places(model: BodyModel) -> None:
    points = layout.keypoints(model, *rest())
    assert points.shape == (NUM_KEYPOINTS, 3) == (len(layout.KEYPOINTS), 3)
    at = {name: points[index] for name, index in layout.INDEX.items()}
    for name, point in at.items():
        assert ("left" in name) == (point[0] > 0.01)
        assert ("right" in name) == (point[0] < -0.01)
    order = ["left_eye", "left_shoulder", "left_hip", "left_knee", "left_ankle", "left_heel"]
    heights = [at[name][1] for name in order]
    assert heights == sorted(heights, reverse=True)
    assert at["nose"][2] == points[:, 2].max(), "the nose is in front"
    assert at["left_big_toe"][2] > at["left_small_toe"][2] > at["left_heel"][2]
    for name in ("left_big_toe", "left_small_toe", "left_heel"):
        assert at[name][1] - model.v_template[:, 1].min() < 0.04, "at the sole"


def test_limbs_draw_a_symmetric_figure() -> None:
    limbs = {frozenset(limb) for limb in layout.LIMBS}
    assert {frozenset(layout.MIRROR[end] for end in limb) for limb in limbs} == limbs
    assert set().union(*limbs) == set(range(NUM_KEYPOINTS))


# --- files ---


class Chumpy:
    """A fake chumpy, importable while a pickle is written, gone when it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module = types.ModuleType("chumpy.ch")
        self.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
        self.module.Ch = self.Ch  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
        monkeypatch.setitem(sys.modules, "chumpy.ch", self.module)

    def array(self, **state: Any) -> Any:
        stand_in = self.Ch()
        stand_in.__dict__.update(state, _dirty_vars=set(), _itr=None)
        return stand_in


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes array data as Python 2 did: as its plain strings, and under NumPy's old module names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[types.FunctionType] = save_global
    dispatch[types.BuiltinFunctionType] = save_global
    dispatch[type] = save_global


def python2_pickle(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)


def python3_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles_of_every_age_are_read(protocol: int, smpl_arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "SMPL_MALE.pkl"
    small = {**smpl_arrays, "posedirs": smpl_arrays["posedirs"] * 0}
    path.write_bytes(pickle.dumps(small, protocol))
    body = read_body(path)
    np.testing.assert_array_equal(body.v_template, smpl_arrays["v_template"])
    assert body.posedirs is None, "all zero: no work to be done"


def test_official_pickle(smpl_arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 2, chumpy arrays, a chumpy selection, scipy's sparse regressor, more than ten shapes."""
    sparse = pytest.importorskip("scipy.sparse")
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    with monkeypatch.context() as patch:
        chumpy = Chumpy(patch)
        count = smpl_arrays["v_template"].size
        selected = chumpy.array(
            a=chumpy.array(x=smpl_arrays["v_template"][::-1].copy()),
            idxs=np.arange(count).reshape(-1, 3)[::-1].ravel(),
            preferred_shape=(6890, 3),
        )
        official = {
            **smpl_arrays,
            "v_template": selected,
            "shapedirs": chumpy.array(x=smpl_arrays["shapedirs"]),
            "J_regressor": sparse.csc_matrix(smpl_arrays["J_regressor"]),
            "bs_style": "lbs",
        }
        python2_pickle(path, official)
    assert b"numpy.core.multiarray" in path.read_bytes()
    body = read_body(path)
    np.testing.assert_array_equal(body.v_template, smpl_arrays["v_template"])
    np.testing.assert_array_equal(body.shapedirs, smpl_arrays["shapedirs"][..., :10])
    np.testing.assert_array_equal(body.J_regressor, smpl_arrays["J_regressor"])
    assert body.parents[0] == -1
    assert "chumpy" not in sys.modules


class Attack:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("write", [python2_pickle, python3_pickle])
def test_a_pickle_cannot_run_anything(write: Callable[[Path, Any], None], tmp_path: Path) -> None:
    path, trace = tmp_path / "SMPL_NEUTRAL.pkl", tmp_path / "executed"
    write(path, {"v_template": Attack(Path.touch, str(trace)), "f": Attack(exec, f"open({str(trace)!r}, 'w')")})
    with pytest.raises(BodyFileError, match=r"SMPL_NEUTRAL\.pkl.*refused.*(Path|touch|builtin|getattr)"):
        read_body(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.load", "numpy.core.multiarray.frombuffer"])
def test_globals_that_are_not_arrays_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    module, _, function = name.rpartition(".")
    path.write_bytes(f"c{module}\n{function}\n(S'x'\ntR.".encode())
    with pytest.raises(BodyFileError, match=rf"refused.*{function}"):
        read_body(path)


def broken(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"posedirs": None}, "'posedirs' is missing"),
        ({"v_template": np.zeros((10475, 3))}, "'v_template' has shape 10475x3, SMPL's is 6890x3"),
        (
            {"shapedirs": np.zeros((6890, 3, 4))},
            "'shapedirs' has shape 6890x3x4, SMPL's is 6890x3x10 or more",
        ),
        ({"weights": np.full((6890, 24), np.nan)}, "'weights' has values that are not finite"),
        ({"f": np.full((13776, 3), 6890)}, "'f' names vertices beyond 6889"),
        ({"kintree_table": np.full((2, 24), 23)}, "'kintree_table' is not a tree"),
    ],
)
def test_wrong_content(changes: Any, problem: str, smpl_arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "SMPL_FEMALE.npz"
    np.savez(path, **broken(smpl_arrays, **changes))
    with pytest.raises(BodyFileError) as caught:
        read_body(path)
    message = str(caught.value)
    assert problem in message
    assert all(hint in message for hint in (str(path), "smpl.is.tue.mpg.de", "non-commercial"))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("SMPL_NEUTRAL.npz", None, "No such file"),
        ("SMPL_NEUTRAL.obj", b"v 0 0 0", "neither .pkl nor .npz"),
        ("SMPL_NEUTRAL.npz", b"PK\x03\x04 cut off", "not a readable .npz"),
        ("SMPL_NEUTRAL.npz", b"", "not a readable .npz"),
        ("SMPL_NEUTRAL.pkl", b"", "not a readable pickle"),
        ("SMPL_NEUTRAL.pkl", b"version https://git-lfs.github.com/spec/v1", "not a readable pickle"),
        ("SMPL_NEUTRAL.pkl", pickle.dumps([1, 2]), "holds a list"),
        ("SMPL_NEUTRAL.pkl", pickle.dumps({"v_template": "text"}), "'v_template' is not an array"),
        ("SMPL_NEUTRAL.pkl", b"}S'f'\ncchumpy.ch\nCh\n)\x81s.", "not a readable pickle"),
    ],
)
def test_files_that_are_no_body(name: str, content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BodyFileError, match=problem):
        read_body(path)


def test_joint_names_and_mirrors_agree(model: BodyModel) -> None:
    assert len(JOINTS) == len(model.parents) == 24
    assert [JOINT_MIRROR[JOINT_MIRROR[joint]] for joint in range(24)] == list(range(24))
    torch.testing.assert_close(model.joint_template[list(JOINT_MIRROR)] * FLIP, model.joint_template)
