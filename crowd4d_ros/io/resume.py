"""What is finished stays finished: observations and windows of an unfinished reconstruction, on disk.

OUT/.work holds chunks of FrameObservations, one file per finished window with the world after it, and a key
made of everything that has a part in the result. The same arguments continue; others start over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import crowd4d_ros
from crowd4d_ros.config import Config, flatten
from crowd4d_ros.io.output import replacing
from crowd4d_ros.window import CrowdMotion, FrameObservations
from crowd4d_ros.world import World

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 20
"""frames of observations per file: a crash costs some seconds of perception."""
STATE = "state."
"""Prefix of a state's arrays beside those of the items, which begin with their number."""
SAMPLE = 1 << 20
"""bytes hashed at both ends of an input file: enough to tell recordings apart without reading them."""


class WorkFolder:
    """The finished part of a reconstruction into ``folder``. ``key``: see ``key_of``. Raises OutputError."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".work"
        self._pending: list[FrameObservations] = []
        self._state: dict[str, NDArray[Any]] = {}
        if (self.path / "key").is_file() and (self.path / "key").read_text() == key:
            log.info("continuing the reconstruction in %s", folder)
        else:
            if self.path.exists():
                log.warning("%s holds a reconstruction with other arguments: starting over", folder)
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            with replacing(self.path / "key") as temporary:
                temporary.write_text(key)
        self._chunks = len(self._files("observations"))
        self.num_windows = len(self._files("window"))

    def _files(self, kind: str) -> list[Path]:
        return sorted(self.path.glob(f"{kind}-*.npz"))

    def observations(self) -> Iterator[FrameObservations]:
        """Every recorded observation, in the order of the input."""
        for path in self._files("observations"):
            yield from load_list(path, FrameObservations)

    def add_observations(self, observations: FrameObservations, state: dict[str, NDArray[Any]]) -> None:
        """Record a frame, and perception's state after it; on disk after ``CHUNK`` frames, or ``flush``."""
        self._pending.append(observations)
        self._state = state
        if len(self._pending) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Bring every recorded observation to the disk."""
        if self._pending:
            save_list(self.path / f"observations-{self._chunks:06d}.npz", self._pending, self._state)
            self._chunks += 1
            self._pending = []

    def state(self) -> dict[str, NDArray[Any]]:
        """Perception's state after the last recorded observation; empty without any."""
        files = self._files("observations")
        return load_state(files[-1]) if files else {}

    def motions(self) -> Iterator[CrowdMotion]:
        """Every finished window, in order."""
        for path in self._files("window"):
            yield load_list(path, CrowdMotion)[0]

    def world(self) -> World:
        """The world after the last finished window."""
        return World.load(self.path / f"world-{self.num_windows - 1:06d}.npz") if self.num_windows else World()

    def finish_window(self, motion: CrowdMotion, world: World) -> None:
        """Record a finished window. The window's file comes last: where it exists, its world does."""
        with replacing(self.path / f"world-{self.num_windows:06d}.npz") as temporary:
            world.save(temporary)
        save_list(self.path / f"window-{self.num_windows:06d}.npz", [motion])
        (self.path / f"world-{self.num_windows - 1:06d}.npz").unlink(missing_ok=True)
        self.num_windows += 1

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value, such as the seconds already spent."""
        with replacing(self.path / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(value))

    def recall(self, name: str, default: Any) -> Any:
        """What ``remember`` kept, or ``default``."""
        path = self.path / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else default

    def remove(self) -> None:
        """The reconstruction is complete."""
        shutil.rmtree(self.path)


def key_of(input: Path, options: dict[str, Any], config: Config) -> str:
    """SHA-256 of the input, the options, the configuration with the files it names, and this version."""
    digest = hashlib.sha256()
    files = [input] if input.is_file() else sorted(path for path in input.rglob("*") if path.is_file())
    for path in files:
        digest.update(f"{path.resolve()} {path.stat().st_size}".encode())
        digest.update(_sample(path))
    settings = {name: current for name, (current, _) in flatten(config).items()}
    stated = {"version": crowd4d_ros.__version__, "options": options, "config": settings}
    digest.update(json.dumps(stated, sort_keys=True, default=str).encode())
    for name in settings.values():
        if isinstance(name, str) and name and Path(name).is_file():
            digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return digest.hexdigest()


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(0, path.stat().st_size - SAMPLE))
        return hashlib.sha256(head + file.read(SAMPLE)).digest()


def save_list(path: Path, items: list[Any], state: dict[str, NDArray[Any]] | None = None) -> None:
    """Frozen dataclasses of arrays (window.py's), and a ``state``, in one npz without pickles."""
    arrays = {f"{STATE}{name}": array for name, array in (state or {}).items()}
    for index, item in enumerate(items):
        _pack(item, f"{index}", arrays)
    named: dict[str, Any] = {"count": np.array(len(items)), **arrays}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def load_list(path: Path, kind: type[T]) -> list[T]:
    """What ``save_list`` wrote of items of type ``kind``."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return [_unpack(kind, f"{index}", arrays) for index in range(int(arrays["count"]))]


def load_state(path: Path) -> dict[str, NDArray[Any]]:
    """The state that ``save_list`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name.removeprefix(STATE): file[name] for name in file.files if name.startswith(STATE)}


def _pack(item: Any, name: str, arrays: dict[str, NDArray[Any]]) -> None:
    for entry in fields(item):
        value, key = getattr(item, entry.name), f"{name}.{entry.name}"
        if is_dataclass(value):
            _pack(value, key, arrays)
        elif isinstance(value, np.ndarray):
            arrays[key] = value
        elif isinstance(value, tuple) and all(isinstance(part, np.ndarray) for part in value):
            arrays[f"{key}#lengths"] = np.array([len(part) for part in value], np.int64)
            arrays[f"{key}#parts"] = np.concatenate(value) if value else np.zeros(0)
        else:
            arrays[f"{key}#json"] = np.frombuffer(json.dumps(value, default=_number).encode(), np.uint8)


def _number(value: Any) -> Any:
    return value.item()  # NumPy's scalars, the only other thing that window.py's types hold


def _unpack(kind: type[T], name: str, arrays: dict[str, NDArray[Any]]) -> T:
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        key = f"{name}.{entry.name}"
        if is_dataclass(types[entry.name]):
            values[entry.name] = _unpack(types[entry.name], key, arrays)
        elif key in arrays:
            values[entry.name] = arrays[key]
        elif f"{key}#lengths" in arrays:
            ends = np.cumsum(arrays[f"{key}#lengths"])[:-1]
            parts = np.split(arrays[f"{key}#parts"], ends) if len(arrays[f"{key}#lengths"]) else []
            values[entry.name] = tuple(parts)
        else:
            value = json.loads(arrays[f"{key}#json"].tobytes())
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
