"""Body files: the embedded licence-free body, and a user's own SMPL, read without running its contents."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.body import asset

NUM_VERTICES, NUM_FACES, NUM_JOINTS, NUM_BETAS = 6890, 13776, 24, 10
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)
EMBEDDED = "embedded"
"""The name of the body that ships with the package."""
_WHERE = (
    "SMPL is downloaded after registration from https://smpl.is.tue.mpg.de (SMPL_NEUTRAL, SMPL_MALE or "
    "SMPL_FEMALE, .pkl or .npz); its licence allows non-commercial use only. An empty path selects the "
    "embedded licence-free body."
)


class BodyFileError(ValueError):
    """A body file that cannot be used; the message names the file, what is wrong and where to get one."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"body file '{path}': {problem}. {_WHERE}")


@dataclass(frozen=True)
class BodyArrays:
    """What an SMPL file holds, in metres.

    v_template: (6890, 3); shapedirs: (6890, 3, 10); posedirs: (6890, 3, 207), or None if they are all zero;
    J_regressor: (24, 6890); weights: (6890, 24); parents: (24,), −1 for the root; faces: (13776, 3).
    name: the file's name, or "embedded"; sha256: of the file's bytes.
    """

    v_template: NDArray[np.float64]
    shapedirs: NDArray[np.float64]
    posedirs: NDArray[np.float64] | None
    J_regressor: NDArray[np.float64]
    weights: NDArray[np.float64]
    parents: NDArray[np.int64]
    faces: NDArray[np.int64]
    name: str
    sha256: str


def read_body(path: str | Path = "") -> BodyArrays:
    """The body in a user's SMPL .pkl or .npz; the embedded one if ``path`` is empty. Raises BodyFileError."""
    if not path:
        content = (resources.files("crowd4d_ros") / "assets" / "body.npz").read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as packed:
            return _checked(Path("body.npz"), asset.unpack(dict(packed)), EMBEDDED, content)
    path = Path(path).expanduser()
    readers = {".npz": _read_npz, ".pkl": _read_pickle}
    if path.suffix not in readers:
        raise BodyFileError(path, "neither .pkl nor .npz")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyFileError(path, f"cannot be read ({error.strerror})") from error
    return _checked(path, readers[path.suffix](path, io.BytesIO(content)), path.name, content)


def _read_npz(path: Path, file: BinaryIO) -> dict[str, Any]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in _SHAPES if name in archive}
    except Exception as error:  # NumPy, zipfile and zlib each raise their own on a damaged file
        raise BodyFileError(path, f"not a readable .npz ({type(error).__name__}: {error})") from error


class _InertArray:
    """Stands in for chumpy.Ch: keeps the state it was pickled with, computes nothing."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _SparseMatrix(_InertArray):
    """Stands in for scipy.sparse's csc_matrix: its compressed columns, without scipy."""


def _reconstructor(kind: type, base: type, state: None) -> Any:
    """What Python 2's oldest protocols call to make an object; here only a stand-in."""
    if not issubclass(kind, _InertArray):
        raise TypeError(f"{kind.__name__} is not an array")
    return kind()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in Python 2's protocols."""
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # found by what they do: their modules' names differ between NumPy 1 and 2
    ("multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
    ("multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    ("copyreg", "_reconstructor"): _reconstructor,
    ("builtins", "object"): object,
    ("builtins", "set"): set,
    ("_codecs", "encode"): _encode,
}
_RENAMED = {"numpy.core.": "", "numpy._core.": "", "copy_reg": "copyreg", "__builtin__": "builtins"}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays and nothing else. Every other global of the pickle is refused, not imported."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # the official files were written by Python 2
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _InertArray
        if module.startswith("scipy.sparse.") and name in ("csc_matrix", "csc_array"):
            return _SparseMatrix
        plain = module
        for old, new in _RENAMED.items():
            if plain.startswith(old):
                plain = new + plain.removeprefix(old)
        if (plain, name) not in _ALLOWED:
            raise BodyFileError(self.path, f"refused, its pickle asks for '{module}.{name}', which is no data")
        return _ALLOWED[plain, name]

    def persistent_load(self, pid: Any) -> Any:
        raise BodyFileError(self.path, f"refused, its pickle asks for an outside object ({pid!r})")


def _read_pickle(path: Path, file: BinaryIO) -> dict[str, Any]:
    try:
        content = _ArrayUnpickler(path, file).load()
        if not isinstance(content, dict):
            raise BodyFileError(path, f"its pickle holds a {type(content).__name__}, not SMPL's dictionary")
        return {name: _dense(path, name, content[name]) for name in _SHAPES if name in content}
    except BodyFileError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise BodyFileError(path, f"not a readable pickle ({type(error).__name__}: {error})") from error


def _dense(path: Path, name: str, stored: Any) -> Any:
    """A plain array of whatever the pickle used for one."""
    if isinstance(stored, _SparseMatrix):
        state = stored.state
        dense = np.zeros(state["_shape"])
        columns = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
        dense[state["indices"], columns] = state["data"]
        return dense
    if isinstance(stored, _InertArray):
        state = stored.state
        if "x" in state:
            return _dense(path, name, state["x"])
        if "a" in state:  # chumpy.reordering.Select: some indices of another array, then a shape
            flat = np.asarray(_dense(path, name, state["a"])).ravel()[np.asarray(state["idxs"])]
            return flat.reshape(state["preferred_shape"]) if "preferred_shape" in state else flat
        raise BodyFileError(path, f"'{name}' is a chumpy expression that holds no array")
    return stored


_SHAPES: dict[str, tuple[int | None, ...]] = {
    "v_template": (NUM_VERTICES, 3),
    "shapedirs": (NUM_VERTICES, 3, None),
    "posedirs": (NUM_VERTICES, 3, NUM_POSE_FEATURES),
    "J_regressor": (NUM_JOINTS, NUM_VERTICES),
    "weights": (NUM_VERTICES, NUM_JOINTS),
    "kintree_table": (2, NUM_JOINTS),
    "f": (NUM_FACES, 3),
}


def _checked(path: Path, content: dict[str, Any], name: str, raw: bytes) -> BodyArrays:
    arrays = {key: _shaped(path, key, content, shape) for key, shape in _SHAPES.items()}
    posedirs = arrays["posedirs"]
    parents = arrays["kintree_table"][0].astype(np.int64)
    parents[0] = -1  # stored as 2³² − 1
    if not ((parents[1:] >= 0) & (parents[1:] < np.arange(1, NUM_JOINTS))).all():
        raise BodyFileError(path, "'kintree_table' is not a tree with parents before children")
    if arrays["f"].min() < 0 or arrays["f"].max() >= NUM_VERTICES:
        raise BodyFileError(path, f"'f' names vertices beyond {NUM_VERTICES - 1}")
    return BodyArrays(
        v_template=arrays["v_template"],
        shapedirs=arrays["shapedirs"][..., :NUM_BETAS],
        posedirs=posedirs if posedirs.any() else None,
        J_regressor=arrays["J_regressor"],
        weights=arrays["weights"],
        parents=parents,
        faces=arrays["f"].astype(np.int64),
        name=name,
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _shaped(path: Path, key: str, content: dict[str, Any], shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    if key not in content:
        raise BodyFileError(path, f"'{key}' is missing, this is not an SMPL file")
    try:
        array = np.asarray(content[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BodyFileError(path, f"'{key}' is not an array of numbers") from error
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or (key == "shapedirs" and array.shape[-1] < NUM_BETAS):
        want = "x".join("10 or more" if size is None else str(size) for size in shape)
        raise BodyFileError(path, f"'{key}' has shape {'x'.join(map(str, array.shape))}, SMPL's is {want}")
    if not np.isfinite(array).all():
        raise BodyFileError(path, f"'{key}' has values that are not finite")
    return array
