"""Frozen dataclasses of arrays (window.py's) as named arrays, for npz files without pickles."""

from __future__ import annotations

import json
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.io.output import replacing

T = TypeVar("T")

STATE = "state."
"""Prefix of a state's arrays beside those of the items, which begin with their number."""


def save_list(path: Path, items: list[Any], state: dict[str, NDArray[Any]] | None = None) -> None:
    """Frozen dataclasses of arrays, and a ``state``, in one npz."""
    arrays = {f"{STATE}{name}": array for name, array in (state or {}).items()}
    for index, item in enumerate(items):
        pack(item, f"{index}", arrays)
    named: dict[str, Any] = {"count": np.array(len(items)), **arrays}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def load_list(path: Path, kind: type[T]) -> list[T]:
    """What ``save_list`` wrote of items of type ``kind``."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return [unpack(kind, f"{index}", arrays) for index in range(int(arrays["count"]))]


def load_state(path: Path) -> dict[str, NDArray[Any]]:
    """The state that ``save_list`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name.removeprefix(STATE): file[name] for name in file.files if name.startswith(STATE)}


def pack(item: Any, name: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Add the fields of ``item`` to ``arrays``, as ``name``.field."""
    for entry in fields(item):
        value, key = getattr(item, entry.name), f"{name}.{entry.name}"
        if is_dataclass(value):
            pack(value, key, arrays)
        elif isinstance(value, np.ndarray):
            arrays[key] = value
        elif isinstance(value, tuple) and all(isinstance(part, np.ndarray) for part in value):
            arrays[f"{key}#lengths"] = np.array([len(part) for part in value], np.int64)
            arrays[f"{key}#parts"] = np.concatenate(value) if value else np.zeros(0)
        else:
            arrays[f"{key}#json"] = np.frombuffer(json.dumps(value, default=_number).encode(), np.uint8)


def unpack(kind: type[T], name: str, arrays: dict[str, NDArray[Any]]) -> T:
    """The item of type ``kind`` that ``pack`` added. Raises KeyError where one of its fields is missing."""
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        key = f"{name}.{entry.name}"
        if is_dataclass(types[entry.name]):
            values[entry.name] = unpack(types[entry.name], key, arrays)
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


def _number(value: Any) -> Any:
    return value.item()  # NumPy's scalars, the only other thing that window.py's types hold
