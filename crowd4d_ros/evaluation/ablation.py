"""The paper's ablations on synthetic crowds (Tables 4 to 7): every row a few settings of the pipeline, ours beside it.

What a row needs and the program does not have yet, it says itself, by a ConfigError: the row is missing, and comes to
life with the setting. Every run is kept under the digest of all that has a part in it: an interrupted command goes on.
"""

from __future__ import annotations

import csv
import datetime
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

import crowd4d_ros
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, ConfigError, flatten, updated
from crowd4d_ros.evaluation.comparison import Tracking
from crowd4d_ros.evaluation.crowds import crowd_of_motions, ground_truth
from crowd4d_ros.evaluation.evaluate import evaluate
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.evaluation.metrics import Profile
from crowd4d_ros.interaction.anchors import coupling
from crowd4d_ros.io.output import prepare_folder, replacing
from crowd4d_ros.optimization.stages import stages
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.sliding import windows
from crowd4d_ros.synthetic.synthesize import Request, synthesize
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdMotion, CrowdWindow
from crowd4d_ros.world import World

Settings = Mapping[str, Any]

METRICS = ("ppds", "pa_ppds", "pcod", "mpjpe", "accel")
"""Columns of the tables, named and scaled as in ``meaning.MEANING``."""
PROFILE: Profile = "author_native"
"""What the paper's numbers were computed with."""
TRACKING: Tracking = "detected"
"""Tracks as they are observed: the paper's tracking by detection. Nobody tells the observations who is who."""
RUN_BYTES = 100_000
"""OUT needs this much at most for a run: some numbers."""
MAKERS = (
    "*.py", "assets/*.npz", "body/*.py", "evaluation/*.py", "initialization/*.py", "interaction/*.py",
    "optimization/*.py", "priors/*.py", "synthetic/*.py",
)  # fmt: skip
"""What of this package has a part in a number: kept runs of another program are not taken for this one's."""


class AblationError(ValueError):
    """What cannot be run; the message says why."""


@dataclass(frozen=True)
class Row:
    """settings: on top of the user's. paper: its numbers, in the order of METRICS; None for rows it does not have."""

    label: str
    settings: Settings
    paper: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Table:
    title: str
    paper_data: str
    rows: tuple[Row, ...]


INITIAL = Row("initial motion", {"interaction.coupling": "none", "optimization.stages": 0})
TABLES: dict[int, Table] = {
    4: Table(
        "A method for small scenes",
        "VirtualCrowd, ground-truth tracking",
        (
            Row("VideoMimic (depth alignment)", {"interaction.coupling": "depth_alignment"},
                (80.03, 80.09, 91.34, 62.49, 23.80)),
            Row("ours (HSIP)", {}, (91.43, 92.38, 96.57, 59.35, 12.93)),
        ),
    ),
    5: Table(
        "Stages",
        "all of VirtualCrowd, tracking by detection",
        (
            INITIAL,
            Row("stage 1", {"optimization.stages": 1}, (88.76, 89.19, 92.67, 76.23, 34.85)),
            Row("stages 1 + 2", {"optimization.stages": 2}, (88.88, 89.34, 92.89, 67.28, 62.92)),
            Row("stages 1 + 2 + 3", {"optimization.stages": 3}, (89.04, 89.46, 92.92, 61.83, 16.10)),
        ),
    ),
    6: Table(
        "Human-scene joint processing",
        "two videos of VirtualCrowd's first scene",
        (
            INITIAL,
            Row("w/o joint processing", {"interaction.coupling": "none"}, (67.92, 68.40, 77.38, 154.08, 41.04)),
            Row("w/ joint distance", {"interaction.coupling": "joint_distance"}, (79.26, 79.22, 89.50, 62.89, 25.58)),
            Row("w/ plane anchor (HVIP)", {"interaction.coupling": "direct_anchor", "interaction.terrain": "plane"}),
            Row("w/ direct projection anchor", {"interaction.coupling": "direct_anchor"},
                (84.81, 87.95, 92.22, 65.73, 24.80)),
            Row("ours (HSIP)", {}, (90.71, 91.22, 93.57, 61.76, 16.66)),
        ),
    ),
    7: Table(
        "Crowd structural coherence",
        "two videos of VirtualCrowd's first scene",
        (
            Row("w/o the crowd term", {"optimization.weight_crowd": 0.0}, (90.57, 91.04, 93.44, 66.24, 16.79)),
            Row("ours", {}, (90.71, 91.22, 93.57, 61.76, 16.66)),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to run: every table's rows on every scene, camera and seed. out: results, and runs that are finished."""

    tables: tuple[int, ...]
    out: Path
    scenes: tuple[str, ...] = ("hill", "stairs", "plaza")
    cameras: tuple[str, ...] = ("surveillance",)
    seeds: tuple[int, ...] = (0, 1)
    people: int = 20
    frames: int = 60
    mocap: Path | None = None

    def __post_init__(self) -> None:
        for number in self.tables:
            if number not in TABLES:
                raise AblationError(f"there is no table {number}: choose from {', '.join(map(str, TABLES))}")
        for name in ("tables", "scenes", "cameras", "seeds"):
            if not getattr(self, name):
                raise AblationError(f"no {name} are given")

    @property
    def motions(self) -> str:
        return f"mocap, {Request.mocap_split} split" if self.mocap else "procedural gait"

    def requests(self, body: str) -> list[Request]:
        """Every crowd to reconstruct, of people with that body."""
        return [
            Request(scene, camera, self.people, self.frames, seed, self.mocap, body=body)
            for scene, camera, seed in product(self.scenes, self.cameras, self.seeds)
        ]


Run = dict[str, Any]
"""One crowd, one variant, as JSON: what it was, its metrics by name, seconds, scale, warnings, machine and date."""
Report = dict[str, Any]
"""What ``ablate`` found, as JSON."""


def ablate(options: Options, config: Config, progress: Callable[[str], None] = lambda text: None) -> Report:
    """Run what is not kept yet, and write OUT/ablation.json and a CSV per table. Raises the errors of the parts."""
    _check(config)
    variants, requests = _variants(options.tables, config), options.requests(config.body)
    prepare_folder(options.out / "runs", RUN_BYTES * len(variants) * len(requests))
    data = _program(config, options.mocap)
    runs: dict[str, list[Run]] = {name: [] for name in variants}
    for number, request in enumerate(requests, 1):
        crowd = functools.cache(functools.partial(synthesize, request))
        for name, chosen in variants.items():
            kept = options.out / "runs" / f"{_key(request, chosen, data)}.json"
            if not kept.is_file():
                progress(f"{number}/{len(requests)} {request.scene} {request.camera} seed {request.seed}: {name}")
                run = {"variant": name, **_named(request), **_run(*crowd(), chosen)}
                with replacing(kept) as temporary:
                    temporary.write_text(json.dumps(run, indent=1) + "\n")
            runs[name].append(json.loads(kept.read_text()))
    report = _report(options, config, runs)
    with replacing(options.out / "ablation.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    for table in report["tables"]:
        _write_csv(options.out / f"table{table['number']}.csv", table)
    return report


def _run(truth: Truth, observed: CrowdWindow, config: Config) -> Run:
    """One crowd reconstructed by one variant, and measured."""
    pipeline, world, motions = Pipeline(config), World(), []
    began = time.perf_counter()
    for window in windows(observed, config.window):
        motion, world = pipeline.step(window, world)
        motions.append(motion)
    seconds = time.perf_counter() - began
    return {
        "metrics": _metrics(motions, truth, pipeline.body),
        "seconds": round(seconds, 2),
        "scale": motions[-1].scale,
        "warnings": sorted({text for motion in motions for text in motion.warnings}),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def _metrics(motions: Sequence[CrowdMotion], truth: Truth, body: BodyModel) -> dict[str, float]:
    """All that ``evaluate`` says, in the units of its tables."""
    found = evaluate(crowd_of_motions(motions, body), ground_truth(truth, body), PROFILE, TRACKING)
    return {name: MEANING[name].factor * number for name, number in found.values.items()}


def _variants(tables: Sequence[int], config: Config) -> dict[str, Config]:
    """Name → configuration of every different row that exists today."""
    rows = [row for number in tables for row in TABLES[number].rows]
    return {_name(row): chosen for row in rows if (chosen := _configured(config, row)) is not None}


def _name(row: Row) -> str:
    return ", ".join(f"{name.split('.')[-1]}={setting}" for name, setting in row.settings.items()) or "default"


def _configured(config: Config, row: Row) -> Config | None:
    """``config`` with the row's settings; None where they ask for what does not exist yet."""
    try:
        chosen = updated(config, dict(row.settings))
        _check(chosen)
    except ConfigError:
        return None
    return chosen


def _check(config: Config) -> None:
    """Raises ConfigError where a stage, a coupling or a terrain is asked for that does not exist."""
    stages(config.optimization, coupling(config.interaction))


def _key(request: Request, config: Config, data: str) -> str:
    settings = {name: setting for name, (setting, _) in flatten(config).items()}
    stated = {"crowd": _named(request), "settings": settings, "data": data}
    return _digest(json.dumps(stated, sort_keys=True, default=str).encode())


def _named(request: Request) -> dict[str, Any]:
    names = ("scene", "camera", "people", "frames", "seed", "mocap_split")
    return {name: getattr(request, name) for name in names} | {"has_mocap": request.mocap is not None}


def _program(config: Config, mocap: Path | None) -> str:
    """The digest of all that has a part in every run: this package's code, and the files given."""
    package = Path(crowd4d_ros.__file__).parent
    code = sorted(path for name in MAKERS for path in package.glob(name))
    given = [path for path in (mocap, Path(config.body) if config.body else None) if path is not None]
    return _digest(*(path.read_bytes() for path in (*code, *given)))


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def machine() -> str:
    """The processor and its cores; nothing that tells whose machine it is."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _report(options: Options, config: Config, runs: dict[str, list[Run]]) -> Report:
    every = [run for of_variant in runs.values() for run in of_variant]
    own = {name: setting for name, (setting, _) in flatten(config).items() if setting != flatten(Config())[name][0]}
    return {
        "profile": PROFILE,
        "tracking": TRACKING,
        "data": {
            "scenes": options.scenes,
            "cameras": options.cameras,
            "seeds": options.seeds,
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
        "tables": [_table(number, runs) for number in options.tables],
        "runs": runs,
    }


def _table(number: int, runs: dict[str, list[Run]]) -> dict[str, Any]:
    table = TABLES[number]
    rows = [_row(row, runs.get(_name(row))) for row in table.rows]
    compared = [row for row in rows if row["paper"] is not None]
    return {
        "number": number,
        "title": table.title,
        "paper_data": table.paper_data,
        "rows": rows,
        "steps": [_step(first, second, name) for first, second in pairwise(compared) for name in METRICS],
    }


def _row(row: Row, runs: list[Run] | None) -> dict[str, Any]:
    """{"label", "paper": name → number or None, "ours": name → {"mean", "spread", "runs"} or None, "seconds"}."""
    paper = dict(zip(METRICS, row.paper, strict=True)) if row.paper else None
    if runs is None:
        return {"label": row.label, "paper": paper, "ours": None, "seconds": None}
    ours = {}
    for name in METRICS:
        numbers = [run["metrics"][name] for run in runs]
        ours[name] = {"mean": float(np.mean(numbers)), "spread": float(np.std(numbers)), "runs": numbers}
    return {"label": row.label, "paper": paper, "ours": ours, "seconds": float(np.mean([r["seconds"] for r in runs]))}


def _step(first: dict[str, Any], second: dict[str, Any], name: str) -> dict[str, Any]:
    """From one row to the next: how a metric changes in the paper and here, and in how many crowds the same way."""
    paper = second["paper"][name] - first["paper"][name]
    step = {"from": first["label"], "to": second["label"], "metric": name, "paper": paper}
    if first["ours"] is None or second["ours"] is None:
        return {**step, "ours": None, "agrees": None, "crowds": None}
    each = np.subtract(second["ours"][name]["runs"], first["ours"][name]["runs"])
    ours = float(each.mean())
    return {
        **step,
        "ours": ours,
        "agrees": bool(np.sign(ours) == np.sign(paper)),
        "crowds": [int((np.sign(each) == np.sign(paper)).sum()), len(each)],
    }


def _write_csv(path: Path, table: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer, columns = csv.writer(file), [MEANING[name].label for name in METRICS]
        writer.writerow(["row", *(f"{name} {side}" for name in columns for side in ("ours", "paper")), "seconds"])
        for row in table["rows"]:
            ours = [row["ours"][name]["mean"] if row["ours"] else "missing" for name in METRICS]
            paper = [row["paper"][name] if row["paper"] else "" for name in METRICS]
            cells = [cell for pair in zip(ours, paper, strict=True) for cell in pair]
            writer.writerow([row["label"], *cells, row["seconds"]])
