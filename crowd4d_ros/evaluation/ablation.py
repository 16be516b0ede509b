"""The paper's tables on synthetic crowds, and the floors under them: what is run, and what it says as one report."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

import crowd4d_ros
from crowd4d_ros.config import Config, ConfigError, flatten, updated
from crowd4d_ros.evaluation.floors import floors_document
from crowd4d_ros.evaluation.runs import PROFILE, RUN_BYTES, TRACKING, Run, Say, Variant, quietly, run_all
from crowd4d_ros.evaluation.summary import by_camera, by_crowd, numbers_of
from crowd4d_ros.evaluation.tables import ALL, COLUMNS, FLOORS, INITIAL, TABLES, Row, rows_of
from crowd4d_ros.interaction.anchors import coupling
from crowd4d_ros.io.output import prepare_folder, replacing
from crowd4d_ros.optimization.stages import stages
from crowd4d_ros.synthetic.synthesize import Request

Report = dict[str, Any]
"""What ``ablate`` found, as JSON."""


class AblationError(ValueError):
    """What cannot be run; the message says why."""


@dataclass(frozen=True)
class Options:
    """What to run: every table's rows on every scene, camera and seed, ``jobs`` crowds at a time.

    tables: keys of ``tables.ALL``. out: results, and runs that are finished. crowds: scene, camera and seed of each,
    instead of all combinations.
    """

    tables: tuple[str, ...]
    out: Path
    scenes: tuple[str, ...] = ("hill", "stairs", "plaza")
    cameras: tuple[str, ...] = ("surveillance",)
    seeds: tuple[int, ...] = (0, 1)
    people: int = 20
    frames: int = 60
    mocap: Path | None = None
    jobs: int = 1
    crowds: tuple[tuple[str, str, int], ...] = ()

    def __post_init__(self) -> None:
        for name in self.tables:
            if name not in ALL:
                raise AblationError(f"there is no table {name}: choose from {', '.join(ALL)}")
        for name in ("tables", "scenes", "cameras", "seeds"):
            if not getattr(self, name):
                raise AblationError(f"no {name} are given")
        if self.jobs < 1:
            raise AblationError(f"jobs is {self.jobs}: it must be at least 1")

    @property
    def motions(self) -> str:
        return f"mocap, {Request.mocap_split} split" if self.mocap else "procedural gait"

    def requests(self, body: str) -> list[Request]:
        """Every crowd to reconstruct, of people with that body."""
        return [
            Request(scene, camera, self.people, self.frames, seed, self.mocap, body=body)
            for scene, camera, seed in self.crowds or product(self.scenes, self.cameras, self.seeds)
        ]


def ablate(options: Options, config: Config, say: Say = quietly) -> Report:
    """Run what is not kept yet, and write OUT/ablation.json and a CSV per table. Raises the errors of the parts.

    say: told what is run; with several jobs it goes to other processes, and must be a function of some module.
    """
    _check(config)
    variants, requests = _variants(options.tables, config), options.requests(config.body)
    prepare_folder(options.out / "runs", RUN_BYTES * len(variants) * len(requests))
    named = [Path(setting) for setting, _ in flatten(config).values() if isinstance(setting, str) and setting]
    given = [path for path in (options.mocap, *named) if path is not None and path.is_file()]
    runs = run_all(requests, variants, options.out / "runs", given, options.jobs, say)
    report = _report(options, config, runs)
    with replacing(options.out / "ablation.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    for table in report["tables"]:
        _write_csv(options.out / f"table{table['number']}.csv", table)
    if report["floors"]:
        _write_floors(options.out / f"{FLOORS}.csv", report["floors"])
    return report


def _variants(tables: Sequence[str], config: Config) -> dict[str, Variant]:
    """Name → configuration of every different row, the initial motion before all. Raises AblationError."""
    rows = [INITIAL, *(row for table in tables for row in rows_of(table))]
    return {row.name: Variant(_configured(config, row), row.observation, row.is_perfect) for row in rows}


def _configured(config: Config, row: Row) -> Config:
    """``config`` with the row's settings. Raises AblationError where they cannot be run together."""
    try:
        chosen = updated(config, dict(row.settings))
        _check(chosen)
    except ConfigError as error:
        raise AblationError(f"the row '{row.label}' cannot be run with these settings: {error}") from None
    return chosen


def _check(config: Config) -> None:
    """Raises ConfigError where a stage, a coupling or a terrain is asked for that does not exist."""
    stages(config.optimization, coupling(config.interaction))


def _report(options: Options, config: Config, runs: Mapping[str, list[Run]]) -> Report:
    every = [run for of_variant in runs.values() for run in of_variant]
    own = {name: setting for name, (setting, _) in flatten(config).items() if setting != flatten(Config())[name][0]}
    return {
        "profile": PROFILE,
        "tracking": TRACKING,
        "data": {
            "scenes": options.scenes,
            "cameras": options.cameras,
            "seeds": options.seeds,
            "crowds": options.crowds,
            "people": options.people,
            "frames": options.frames,
            "motions": options.motions,
        },
        "settings": {name: setting for name, setting in own.items() if name not in ("body", "device")},
        "machines": sorted({run["machine"] for run in every}),
        "dates": sorted({run["date"] for run in every}),
        "versions": {
            "crowd4d": crowd4d_ros.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
        "tables": [_table(number, runs) for number in options.tables if number != FLOORS],
        "floors": floors_document(runs) if FLOORS in options.tables else None,
        "cameras": by_camera(runs),
        "crowds": by_crowd(runs),
        "runs": runs,
    }


def _table(number: str, runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    table = TABLES[number]
    columns = (*table.metrics, *table.more)
    rows = [_row(row, table.metrics, columns, runs[row.name]) for row in table.rows]
    compared = [row for row in rows if row["paper"] is not None]
    return {
        "number": number,
        "title": table.title,
        "paper_data": table.paper_data,
        "metrics": table.metrics,
        "more": table.more,
        "rows": rows,
        "steps": [_step(first, second, name) for first, second in pairwise(compared) for name in columns],
    }


def _row(row: Row, metrics: Sequence[str], columns: Sequence[str], runs: list[Run]) -> dict[str, Any]:
    """{"label", "paper": name → number or None, "ours": name → {"mean", "spread", "runs"}, "seconds"}."""
    paper = dict(zip(metrics, row.paper, strict=True)) if row.paper else None
    ours = {name: numbers_of(runs, name) for name in columns}
    return {"label": row.label, "paper": paper, "ours": ours, "seconds": float(np.mean([r["seconds"] for r in runs]))}


def _step(first: dict[str, Any], second: dict[str, Any], name: str) -> dict[str, Any]:
    """From one row to the next: how a metric changes here, and in how many crowds the way it changes in the paper.

    A metric that the paper does not have should become better, or stay. "agrees" is None where there is nothing to say.
    """
    paper = second["paper"][name] - first["paper"][name] if name in first["paper"] else None
    way = np.sign(paper) if paper is not None else {"up": 1.0, "down": -1.0, "": np.nan}[COLUMNS[name].better]
    step = {"from": first["label"], "to": second["label"], "metric": name, "paper": paper}
    before, after = (np.array(row["ours"][name]["runs"], float) for row in (first, second))  # None becomes NaN
    each = (after - before)[np.isfinite(after - before)]
    if not len(each) or np.isnan(way) or (paper is None and not each.any()):
        return {**step, "ours": None, "agrees": None, "crowds": None}
    ours = float(each.mean())
    return {
        **step,
        "ours": ours,
        "agrees": bool(np.sign(ours) == way),
        "crowds": [int((np.sign(each) == way).sum()), len(each)],
    }


def _write_csv(path: Path, table: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        labels = [COLUMNS[name].label for name in table["metrics"]]
        head = [f"{label} {side}" for label in labels for side in ("ours", "paper")]
        writer.writerow(["row", *head, *(COLUMNS[name].label for name in table["more"]), "seconds"])
        for row in table["rows"]:
            ours, more = ([row["ours"][name]["mean"] for name in table[part]] for part in ("metrics", "more"))
            paper = [row["paper"][name] if row["paper"] else "" for name in table["metrics"]]
            cells = [cell for pair in zip(ours, paper, strict=True) for cell in pair]
            writer.writerow([row["label"], *cells, *more, row["seconds"]])


def _write_floors(path: Path, floors: dict[str, Any]) -> None:
    """A line per row and number: with its floor, if it has one, and in how many crowds that is reached."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["counting", "row", "metric", "mean", "of initial", "limit", "reached", "crowds", "of"])
        for counting in floors["countings"]:
            for row in counting["rows"]:
                for name, cell in row["cells"].items():
                    judged = [cell[part] for part in ("mean", "of_initial", "limit", "reached")]
                    writer.writerow([counting["title"], row["label"], name, *judged, *(cell["crowds"] or ("", ""))])
