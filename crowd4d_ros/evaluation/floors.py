"""Whether the method reaches what it must on ground that is not flat, crowd by crowd and in the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crowd4d_ros.evaluation.runs import Run
from crowd4d_ros.evaluation.summary import is_flat, numbers_of
from crowd4d_ros.evaluation.tables import COLUMNS, COUNTINGS, FLOOR_ROWS, INITIAL, Counting, Floor, Row


def floors_document(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """``COUNTINGS`` apart, each with a row for every one of ``FLOOR_ROWS``, of the crowds that are not on flat ground.

    A cell is {"mean", "of_initial": mean / the initial motion's, "limit", "reached", "crowds": [in how many, of how
    many]}; the mean is None where it is unknown, the last three where nothing is asked for.
    """
    chosen = {name: [run for run in of_variant if not is_flat(run)] for name, of_variant in runs.items()}
    return {
        "crowds": len(chosen[INITIAL.name]),
        "countings": [
            {
                "title": counting.title,
                "columns": counting.columns,
                "floors": {floor.metric: {"limit": floor.limit, "of_initial": floor.of_initial}
                           for floor in counting.floors},
                "rows": [_row(row, counting, chosen) for row in FLOOR_ROWS],
            }
            for counting in COUNTINGS
        ],
    }  # fmt: skip


def _row(row: Row, counting: Counting, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    floors = {floor.metric: floor for floor in counting.floors}
    start = next(r for r in FLOOR_ROWS if r.settings == INITIAL.settings and r.observation == row.observation)
    before = None if row.name == start.name else runs[start.name]
    judged = row.settings != INITIAL.settings
    cells = {
        name: _cell(name, runs[row.name], before, floors.get(name) if judged else None) for name in counting.columns
    }
    return {"label": row.label, "cells": cells}


def _cell(name: str, runs: Sequence[Run], before: Sequence[Run] | None, floor: Floor | None) -> dict[str, Any]:
    numbers = numbers_of(runs, name)
    nothing: dict[str, Any] = {"mean": None, "runs": [None] * len(runs)}
    start = numbers_of(before, name) if before else nothing
    share = _share(numbers["mean"], start["mean"])
    cell = {"mean": numbers["mean"], "of_initial": share, "limit": None, "reached": None, "crowds": None}
    if floor is None:
        return cell
    each = [_share(n, s) if floor.of_initial else n for n, s in zip(numbers["runs"], start["runs"], strict=True)]
    known = [number for number in each if number is not None]
    whole = share if floor.of_initial else numbers["mean"]
    if whole is None:
        return cell
    reached = [_reaches(name, number, floor) for number in known]
    return {**cell, "limit": floor.limit, "reached": _reaches(name, whole, floor), "crowds": [sum(reached), len(known)]}


def _reaches(name: str, number: float, floor: Floor) -> bool:
    return number >= floor.limit if COLUMNS[name].better == "up" else number <= floor.limit


def _share(number: float | None, start: float | None) -> float | None:
    return number / start if number is not None and start else None
