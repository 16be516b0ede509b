"""Runs put together: means over crowds, and what each camera, each kind of ground and each crowd has of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crowd4d_ros.evaluation.runs import Run
from crowd4d_ros.evaluation.tables import INITIAL, OURS, WITHOUT_SCENE

FLAT = 0.3
"""metres of relief, where people stand: less is flat; kerbs are 0.15 m high."""
COMPARED = (INITIAL, WITHOUT_SCENE, OURS)
"""What every breakdown shows."""
BY_CAMERA = ("recall", "ppds", "ppds_found", "pcod", "pcod_found", "mpjpe", "mpjpe_found", "accel", "root_error")
BY_CROWD = ("recall", "ppds_found", "pcod_found", "mpjpe_found", "accel", "scale_off", "feet_terrain")


def numbers_of(runs: Sequence[Run], name: str) -> dict[str, Any]:
    """{"mean", "spread", "runs"}: over the crowds in which it is known, else None, as an unknown number of a run is."""
    numbers = [run["metrics"][name] for run in runs]
    known = [number for number in numbers if number is not None]
    mean, spread = (float(np.mean(known)), float(np.std(known))) if known else (None, None)
    return {"mean": mean, "spread": spread, "runs": numbers}


def is_flat(run: Run) -> bool:
    """Whether its people stand on level ground."""
    return bool(run["relief"] < FLAT)


def by_camera(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row for each camera, each kind of ground and each of ``COMPARED`` that was run."""
    rows = []
    for camera in dict.fromkeys(run["camera"] for run in runs.get(INITIAL.name, [])):
        for flat in (False, True):
            for row in COMPARED:
                chosen = [run for run in runs.get(row.name, []) if run["camera"] == camera and is_flat(run) == flat]
                if chosen:
                    means = {name: numbers_of(chosen, name)["mean"] for name in BY_CAMERA}
                    ground = "flat" if flat else "not flat"
                    rows.append(
                        {"camera": camera, "ground": ground, "label": row.label, "crowds": len(chosen), "means": means}
                    )
    return rows


def by_crowd(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row for each crowd: the initial motion's and our numbers, None where that was not run."""
    initial, ours = ({_crowd(run): run for run in runs.get(row.name, [])} for row in (INITIAL, OURS))
    return [
        {
            "crowd": crowd,
            "relief": either["relief"],
            "initial": _some(initial.get(crowd)),
            "ours": _some(ours.get(crowd)),
        }
        for crowd, either in (ours | initial).items()
    ]


def _crowd(run: Run) -> str:
    return f"{run['scene']} {run['camera']} {run['seed']}"


def _some(run: Run | None) -> dict[str, Any] | None:
    return None if run is None else {name: run["metrics"][name] for name in BY_CROWD}
