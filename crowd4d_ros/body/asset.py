"""The embedded body's file: SMPL's arrays, quantised, the sparse ones as their few entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH_STEP = 5e-5
"""metres (template), and metres per standard deviation (shapes): a vertex moves by less than 0.1 mm."""
WEIGHT_STEP = 1 / 1024
"""Skinning weights and regressor: at 1 m of lever arm between bones, below 1 mm, and far less in practice."""


def pack(
    v_template: NDArray[np.floating],
    shapedirs: NDArray[np.floating],
    J_regressor: NDArray[np.floating],
    weights: NDArray[np.floating],
    parents: NDArray[np.integer],
    faces: NDArray[np.integer],
) -> dict[str, NDArray[Any]]:
    """SMPL's arrays as the few small ones that ``unpack`` reads. Vertex order is kept."""
    packed: dict[str, NDArray[Any]] = {
        "v_template": _quantised(v_template),
        "shapedirs": _quantised(shapedirs.reshape(len(v_template), -1)),
        "faces": _differences(faces.astype(np.int16)),
        "parents": parents.astype(np.int8),
        "steps": np.array([LENGTH_STEP, WEIGHT_STEP]),
    }
    for name, dense in (("weights", weights), ("J_regressor", J_regressor.T)):
        values = np.rint(dense / WEIGHT_STEP).astype(np.int16)
        rows, columns = np.nonzero(values)
        packed[name] = values[rows, columns]
        packed[f"{name}_count"] = np.count_nonzero(values, axis=1).astype(np.uint8)
        packed[f"{name}_joint"] = columns.astype(np.uint8)
    return packed


def unpack(packed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of an SMPL file, by their names in it."""
    length_step, weight_step = packed["steps"]
    v_template = _restored(packed["v_template"]) * length_step
    shapedirs = _restored(packed["shapedirs"]) * length_step
    dense = {}
    for name in ("weights", "J_regressor"):
        rows = np.repeat(np.arange(len(v_template)), packed[f"{name}_count"])
        dense[name] = np.zeros((len(v_template), len(packed["parents"])))
        dense[name][rows, packed[f"{name}_joint"]] = packed[name] * weight_step
    return {
        "v_template": v_template,
        "shapedirs": shapedirs.reshape(*v_template.shape, -1),
        "posedirs": np.broadcast_to(0.0, (*v_template.shape, 9 * (len(packed["parents"]) - 1))),
        "J_regressor": _normalised(dense["J_regressor"].T),
        "weights": _normalised(dense["weights"]),
        "kintree_table": np.stack([packed["parents"], np.arange(len(packed["parents"]))]),
        "f": _restored(packed["faces"]),
    }


def _quantised(lengths: NDArray[np.floating]) -> NDArray[np.int16]:
    return _differences(np.rint(lengths / LENGTH_STEP).astype(np.int16))


def _differences(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Row minus the row before, modulo 2¹⁶: neighbours are alike, and small numbers compress."""
    return np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))


def _restored(differences: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.cumsum(differences, axis=0, dtype=np.int16)


def _normalised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))
