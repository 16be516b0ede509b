"""The paper's tables as data: every row a few settings of the pipeline, and what is observed; ours beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crowd4d_ros.evaluation.meaning import MEANING, Meaning
from crowd4d_ros.synthetic.config import ObservationConfig

Settings = Mapping[str, Any]

METRICS = ("ppds", "pa_ppds", "pcod", "mpjpe", "accel")
"""Columns of the paper's ablations, named and scaled as in ``COLUMNS``."""
COLUMNS: dict[str, Meaning] = MEANING | {
    "scale_off": Meaning("scale off", "%", 100.0, "down", "the scene's metric scale against the true one, either way")
}
"""Every number of a run: an evaluation's, and what the truth behind the observations says of the scale."""
OBSERVATIONS: dict[str, ObservationConfig] = {
    "default": ObservationConfig(),
    "1.5x noise": ObservationConfig().scaled(1.5),
    "true tracks": replace(ObservationConfig(), misses=0.0, false_rate=0.0, split=0.0, switch=0.0),
}
"""What rows are reconstructed from. "true tracks": the paper's ground-truth object tracking; nobody who shows any skin
is missed, nobody is taken for another, nothing is taken for a person, and all other errors stay."""


@dataclass(frozen=True)
class Row:
    """settings: on top of the user's. observation: one of ``OBSERVATIONS``.

    paper: its numbers, in the order of the table's ``metrics``; None for rows it does not have. is_perfect: not what
    is reconstructed but what can be (``attainable``).
    """

    label: str
    settings: Settings
    paper: tuple[float, ...] | None = None
    observation: str = "default"
    is_perfect: bool = False

    @property
    def name(self) -> str:
        """Of the variant: rows of one name are one run."""
        said = [f"{name.split('.')[-1]}={setting}" for name, setting in self.settings.items()]
        said += [self.observation] if self.observation != "default" else []
        said += ["perfect bodies"] if self.is_perfect else []
        return ", ".join(said) or "default"


@dataclass(frozen=True)
class Table:
    """metrics: what the paper has. more: what it does not, and we show beside it; both are keys of ``COLUMNS``."""

    title: str
    paper_data: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = METRICS
    more: tuple[str, ...] = ()


NO_SCENE = {"interaction.coupling": "none"}
INITIAL = Row("initial motion", {**NO_SCENE, "optimization.stages": 0})
OURS = Row("ours", {})
WITHOUT_SCENE = Row("no scene", NO_SCENE)
PERFECT = Row("perfect bodies", {}, is_perfect=True)
NOISY = "1.5x noise"

TABLES: dict[str, Table] = {
    "3": Table(
        "Occluded instances",
        "occluded instances of VirtualCrowd",
        (
            INITIAL,
            WITHOUT_SCENE,
            Row("w/o the crowd term", {"optimization.weight_crowd": 0.0}),
            Row("ours", {}, (64.19, 54.81)),
        ),
        metrics=("occluded_mpjpe", "occluded_pa_mpjpe"),
        more=("occluded_recall", "hidden_share", "hidden_mpjpe", "hidden_root_error"),
    ),
    "4": Table(
        "A method for small scenes",
        "VirtualCrowd, ground-truth tracking; ours too: everybody is found and keeps their number",
        (
            Row("VideoMimic (depth alignment)", {"interaction.coupling": "depth_alignment"},
                (80.03, 80.09, 91.34, 62.49, 23.80), "true tracks"),
            Row("ours (HSIP)", {}, (91.43, 92.38, 96.57, 59.35, 12.93), "true tracks"),
        ),
        more=("recall",),
    ),
    "5": Table(
        "Stages",
        "all of VirtualCrowd, tracking by detection",
        (
            INITIAL,
            Row("stage 1", {"optimization.stages": 1}, (88.76, 89.19, 92.67, 76.23, 34.85)),
            Row("stages 1 + 2", {"optimization.stages": 2}, (88.88, 89.34, 92.89, 67.28, 62.92)),
            Row("stages 1 + 2 + 3", {"optimization.stages": 3}, (89.04, 89.46, 92.92, 61.83, 16.10)),
        ),
        more=("mpjpe_found",),
    ),
    "6": Table(
        "Human-scene joint processing",
        "two videos of VirtualCrowd's first scene",
        (
            INITIAL,
            Row("w/o joint processing", NO_SCENE, (67.92, 68.40, 77.38, 154.08, 41.04)),
            Row("w/ joint distance", {"interaction.coupling": "joint_distance"}, (79.26, 79.22, 89.50, 62.89, 25.58)),
            Row("w/ plane anchor (HVIP)", {"interaction.coupling": "direct_anchor", "interaction.terrain": "plane"}),
            Row("w/ direct projection anchor", {"interaction.coupling": "direct_anchor"},
                (84.81, 87.95, 92.22, 65.73, 24.80)),
            Row("ours (HSIP)", {}, (90.71, 91.22, 93.57, 61.76, 16.66)),
        ),
        more=("ppds_found", "root_error"),
    ),
    "7": Table(
        "Crowd structural coherence",
        "two videos of VirtualCrowd's first scene",
        (
            Row("w/o the crowd term", {"optimization.weight_crowd": 0.0}, (90.57, 91.04, 93.44, 66.24, 16.79)),
            Row("ours", {}, (90.71, 91.22, 93.57, 61.76, 16.66)),
        ),
        more=("occluded_mpjpe", "hidden_mpjpe", "hidden_root_error", "bridged_drift"),
    ),
}  # fmt: skip

FLOORS = "floors"
"""The table that asks no paper: what the method must reach on ground that is not flat."""
FLOOR_ROWS = (
    INITIAL,
    WITHOUT_SCENE,
    OURS,
    PERFECT,
    replace(INITIAL, label=f"initial motion, {NOISY}", observation=NOISY),
    replace(OURS, label=f"ours, {NOISY}", observation=NOISY),
    replace(PERFECT, label=f"{PERFECT.label}, {NOISY}", observation=NOISY),
)


@dataclass(frozen=True)
class Floor:
    """What a number must reach. of_initial: as a share of the initial motion's from the same observations.

    limit: in the units of ``COLUMNS``, or that share; better numbers lie above it where ``COLUMNS`` says "up".
    """

    metric: str
    limit: float
    of_initial: bool = False


@dataclass(frozen=True)
class Counting:
    """Numbers that count people alike, and the floors under them. columns: keys of ``COLUMNS``."""

    title: str
    columns: tuple[str, ...]
    floors: tuple[Floor, ...]


COUNTINGS = (
    Counting(
        "as the profile defines them: misses count",
        ("ppds", "pcod", "mpjpe", "recall"),
        (Floor("ppds", 92.0), Floor("pcod", 96.0), Floor("mpjpe", 0.75, of_initial=True)),
    ),
    Counting(
        "of the people found only",
        ("ppds_found", "pcod_found", "mpjpe_found", "accel", "scale_off", "scale_error", "feet_terrain",
         "feet_terrain_mean", "feet_terrain_resized", "feet_surface", "feet_surface_mean"),
        (Floor("ppds_found", 92.0), Floor("pcod_found", 96.0), Floor("mpjpe_found", 0.75, of_initial=True),
         Floor("accel", 0.4, of_initial=True), Floor("scale_off", 3.0), Floor("feet_terrain", 3.0)),
    ),
)  # fmt: skip
ALL = (*TABLES, FLOORS)
"""What can be asked for."""


def rows_of(table: str) -> tuple[Row, ...]:
    """Of a table or of the floors."""
    return FLOOR_ROWS if table == FLOORS else TABLES[table].rows
