"""An evaluation for people and programs: a table, CSV, JSON, and a picture of where the errors are.

metrics.csv     one row per metric: name, label, value, unit
frames.csv      one row per frame; people.csv: one row per true person; NaN is an empty cell
evaluation.json all of it
errors.png      the plan with everybody's root error, errors by distance and over time
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from crowd4d_ros.evaluation.evaluate import Evaluation
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.io.output import prepare_folder, replacing
from crowd4d_ros.window import FloatArray

NEEDED_BYTES = 5_000_000
"""of the files: mostly the picture and, of large crowds, frames.csv."""
DPI = 130
MAX_DOTS = 4000
"""person-frames drawn in the plan; more are thinned out evenly."""
BINS = 10
"""of distance, with equally many person-frames in each."""
ARROWS = {"up": "↑", "down": "↓", "": " "}
PEOPLE = {
    "track_id": ("id", "{:.0f}", 1.0),
    "frames": ("frames", "{:.0f}", 1.0),
    "recall": ("found %", "{:.1f}", 100.0),
    "visibility": ("seen %", "{:.0f}", 100.0),
    "distance": ("distance m", "{:.1f}", 1.0),
    "mpjpe": ("MPJPE mm", "{:.1f}", 1.0),
    "root_error": ("root m", "{:.2f}", 1.0),
    "world_error": ("world m", "{:.2f}", 1.0),
    "depth_error": ("depth %", "{:+.1f}", 100.0),
    "foot_skate": ("skate m/s", "{:.2f}", 1.0),
    "failed": ("failed", "{:.0f}", 1.0),
}
"""The table of people: column → header, format, factor."""


def table(evaluation: Evaluation) -> str:
    """The metrics, headed by what they are of."""
    lines = [
        f"profile {evaluation.profile}, tracking {evaluation.tracking}",
        f"{evaluation.prediction}",
        f"against {evaluation.data}: {evaluation.num_people} people, {evaluation.num_frames} frames",
        "",
    ]
    for name, meaning in MEANING.items():
        number = evaluation.values[name]
        shown = f"{meaning.factor * number:10.2f}" if math.isfinite(number) else f"{'-':>10}"
        lines.append(f"{meaning.label:22}{ARROWS[meaning.better]} {shown} {unit(name, evaluation):9} {meaning.what}")
    return "\n".join(line.rstrip() for line in lines)


def people_table(evaluation: Evaluation) -> str:
    """One row per true person, the worst root error first, the never found above all."""
    people = evaluation.people
    worst = np.argsort(-np.nan_to_num(people["root_error"], nan=np.inf), kind="stable")
    lines = ["".join(f"{header:>12}" for header, _, _ in PEOPLE.values())]
    for row in worst:
        cells = [
            pattern.format(factor * people[name][row]) if math.isfinite(people[name][row]) else "-"
            for name, (_, pattern, factor) in PEOPLE.items()
        ]
        lines.append("".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def unit(name: str, evaluation: Evaluation) -> str:
    """Of a metric in ``table``."""
    if name == "accel":
        return "mm/frame²" if evaluation.profile == "author_native" else "m/s²"
    return MEANING[name].unit


def document(evaluation: Evaluation) -> dict[str, Any]:
    """As JSON has it: plain numbers in the table's units, None where undefined."""
    return {
        "profile": evaluation.profile,
        "tracking": evaluation.tracking,
        "prediction": evaluation.prediction,
        "data": evaluation.data,
        "num_frames": evaluation.num_frames,
        "num_people": evaluation.num_people,
        "metrics": {
            name: {"value": _plain(meaning.factor * evaluation.values[name]), "unit": unit(name, evaluation)}
            for name, meaning in MEANING.items()
        },
        "frames": {name: [_plain(number) for number in row] for name, row in evaluation.frames.items()},
        "people": {name: [_plain(number) for number in row] for name, row in evaluation.people.items()},
    }


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """All files into ``folder``. Raises OutputError."""
    prepare_folder(folder, NEEDED_BYTES)
    metrics = [
        (name, meaning.label.strip(), _cell(meaning.factor * evaluation.values[name]), unit(name, evaluation))
        for name, meaning in MEANING.items()
    ]
    _write_csv(folder / "metrics.csv", ["name", "label", "value", "unit"], metrics)
    for name, rows in (("frames", evaluation.frames), ("people", evaluation.people)):
        columns = [[_cell(number) for number in row] for row in rows.values()]
        _write_csv(folder / f"{name}.csv", list(rows), list(zip(*columns, strict=True)))
    with replacing(folder / "evaluation.json") as path:
        path.write_text(json.dumps(document(evaluation), indent=1) + "\n")
    with replacing(folder / "errors.png") as path:
        picture(evaluation).savefig(path, dpi=DPI, format="png")


def picture(evaluation: Evaluation) -> Figure:
    """Where the errors are: from above, by distance from the camera, and over time."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    plan, distance, time = figure.subplot_mosaic("PPD;PPT", width_ratios=[1, 1, 1.1]).values()
    _draw_plan(figure, plan, evaluation.samples)
    _draw_distance(distance, evaluation.samples)
    _draw_time(time, evaluation)
    figure.suptitle(
        f"{evaluation.prediction} against {evaluation.data}\n"
        f"profile {evaluation.profile}, tracking {evaluation.tracking}",
        fontsize=10,
    )
    return figure


def _draw_plan(figure: Figure, axes: Axes, samples: dict[str, FloatArray]) -> None:
    """The truth from above, coloured by root error, with a line to where the answer has it; misses as crosses."""
    count = len(samples["x"])
    shown = np.unique(np.linspace(0, count - 1, min(count, MAX_DOTS)).astype(int)) if count else np.zeros(0, int)
    x, ahead, error = samples["x"][shown], -samples["z"][shown], samples["root_error"][shown]
    found = samples["found"][shown] > 0
    known = error[found]
    scale = Normalize(0.0, max(float(np.quantile(known, 0.95)), 0.05) if len(known) else 1.0)
    ends = np.stack([samples["pred_x"][shown], -samples["pred_z"][shown]], -1)
    lines = np.stack([np.stack([x, ahead], -1), ends], 1)[found]
    axes.add_collection(LineCollection(list(lines), colors="0.7", linewidths=0.4, zorder=1))
    dots = axes.scatter(x[found], ahead[found], c=known, norm=scale, cmap="viridis_r", s=7, linewidths=0, zorder=2)
    axes.scatter(x[~found], ahead[~found], marker="x", c="crimson", s=14, linewidths=0.8, zorder=3, label="not found")
    axes.plot(0, 0, marker="^", color="black", markersize=9, linestyle="none", label="camera")
    figure.colorbar(dots, ax=axes, label="root error [m]", shrink=0.7, extend="max")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel="right [m]", ylabel="forward [m]", title="the truth from above; lines lead to the answer")
    axes.legend(loc="upper left", fontsize=8)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_distance(axes: Axes, samples: dict[str, FloatArray]) -> None:
    """Medians over bins of equally many people, and the share found."""
    distance = samples["distance"]
    known = np.isfinite(distance)
    edges = np.unique(np.quantile(distance[known], np.linspace(0, 1, BINS + 1))) if known.any() else np.zeros(1)
    which = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = [np.flatnonzero(known & (which == number)) for number in range(len(edges) - 1)]
    bins = [rows for rows in bins if len(rows)]
    middle = [float(np.median(distance[rows])) for rows in bins]
    axes.plot(middle, [_median(samples["mpjpe"][rows]) for rows in bins], "o-", color="C0")
    axes.set(xlabel="distance from the camera [m]", title="by distance: median MPJPE and root error; recall")
    axes.set_ylabel("MPJPE [mm]", color="C0")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(
        middle, [_median(samples["root_error"][rows]) for rows in bins], "s-", color="C1", label="root error [m]"
    )
    other.plot(middle, [float(samples["found"][rows].mean()) for rows in bins], "x:", color="0.4", label="recall [1]")
    other.set_ylim(bottom=0)
    other.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _draw_time(axes: Axes, evaluation: Evaluation) -> None:
    """PPDS, PCOD and recall of every frame, and MPJPE."""
    for name in ("ppds", "pa_ppds", "pcod", "recall"):
        axes.plot(MEANING[name].factor * evaluation.frames[name], label=MEANING[name].label, linewidth=1)
    axes.set(xlabel="frame", ylabel="%", title="over time")
    other = axes.twinx()
    other.plot(evaluation.frames["mpjpe"], color="0.5", linewidth=1, linestyle=":", label="MPJPE [mm], right")
    other.set_ylim(bottom=0)
    handles = [*axes.get_lines(), *other.get_lines()]
    names = [str(line.get_label()) for line in handles]
    axes.legend(handles, names, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=5, frameon=False)


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _cell(number: float) -> str:
    return f"{number:.6g}" if math.isfinite(number) else ""


def _write_csv(path: Path, header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
