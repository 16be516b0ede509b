"""What ``ablation.ablate`` found, to be read: as text in a terminal, and as the page docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crowd4d_ros.evaluation.ablation import Report
from crowd4d_ros.evaluation.summary import BY_CAMERA, BY_CROWD, FLAT
from crowd4d_ros.evaluation.tables import COLUMNS, OURS
from crowd4d_ros.io.output import replacing

LABEL_WIDTH, CELL_WIDTH, LAST_WIDTH = 30, 17, 9
"""characters, of the tables as text."""
UNKNOWN = "–"
ARROWS = {"up": "↑", "down": "↓", "": ""}
TRACKINGS = {"detected": "by detection (tracks as observed, frames matched by OKS)", "ids": "true identities"}

INTRODUCTION = """# Results

Written by `{command}`; what is said by hand is in [{notes}]({notes}) and repeated at the end.

The paper's Tables 3 to 7 on synthetic crowds with exact truth ([synthetic.md](synthetic.md)). The paper's data,
VirtualCrowd, cannot be had without an application: **its numbers, in brackets, are of other data**, and what can be
compared is which row is better and by how much. "{unknown}" is what a row has no number for, "ours" the method as it
is today. [metrics.md](metrics.md) says what every column is.
"""
FLOORS_INTRODUCTION = """## Floors

What the method must reach on ground that is not flat, from default observations, and from observations with 1.5 times
their errors. {crowds} of these crowds are on such ground. Two ways of counting people, **not to be mixed**: the
profile's scores sink with everybody who is missed, and nobody can be found who was not detected; the numbers of the
people found alone do not. Behind a number: whether its floor is reached by the mean, and in how many crowds; (×) is
the share of the initial motion's number from the same observations. "Perfect bodies" are the truth's, moved along
their rays to the surface that was observed: what scene and cameras as observed allow, at best.
"""
CAMERAS_INTRODUCTION = """## Cameras

Means over the crowds of a camera and a kind of ground; "not flat": people stand {flat:.1f} m apart in height or more.
"""


def text(report: Report) -> str:
    """The tables for a terminal; below each, what does not go the paper's way."""
    head = f"{_crowds(report)}; profile {report['profile']}, tracking {report['tracking']}; in brackets the paper's"
    parts = [head, *(_text_table(table) for table in report["tables"])]
    if report["floors"]:
        parts += [
            f"Floors, {counting['title']}\n{_text_floors(counting)}" for counting in report["floors"]["countings"]
        ]
    parts.append(f"Cameras\n{_aligned(*_camera_cells(report))}")
    return "\n\n".join(parts)


def write_page(path: Path, report: Report, command: str) -> None:
    """docs/results.md from the report, and from the free text beside it, results_notes.md. Raises OutputError."""
    notes = path.with_name(f"{path.stem}_notes.md")
    with replacing(path) as temporary:
        temporary.write_text(page(report, command, notes.name, notes.read_text() if notes.is_file() else ""))


def page(report: Report, command: str, notes_name: str, notes: str) -> str:
    """The page as Markdown: the same for the same report, command and notes."""
    parts = [
        INTRODUCTION.format(command=command, notes=notes_name, unknown=UNKNOWN),
        _facts(report),
        *(_page_table(table) for table in report["tables"]),
        *([_page_floors(report["floors"])] if report["floors"] else []),
        _page_cameras(report),
        "## Where ours does not follow the paper's\n\n" + _list(
            [f"Table {table['number']}: {sentence}" for table in report["tables"] for sentence in departures(table)],
            "Nowhere.",
        ),
        *(["## Floors that are not reached\n\n" + _list(shortfalls(report["floors"]), "None.")]
          if report["floors"] else []),
        f"## Notes\n\n{notes.strip() or 'None.'}\n",
    ]  # fmt: skip
    return "\n".join(parts)


def departures(table: dict[str, Any]) -> list[str]:
    """A sentence for each step from row to row that goes another way than the paper's.

    Of a metric that the paper does not have, for each that gets worse.
    """
    return [
        f"{COLUMNS[step['metric']].label} from '{step['from']}' to '{step['to']}': ours {_signed(step['ours'])}, "
        + (f"the paper's {_signed(step['paper'])}; the paper's way" if step["paper"] is not None else "better")
        + f" in {step['crowds'][0]} of {step['crowds'][1]} crowds"
        for step in table["steps"]
        if step["agrees"] is False
    ]


def shortfalls(floors: dict[str, Any]) -> list[str]:
    """A sentence for each floor that our rows do not reach in the mean, or that was not measured."""
    return [
        f"{row['label']}, {counting['title']}: {_label(name)} "
        + ("not measured" if cell["reached"] is None else _floor_cell(name, cell, counting))
        + f", to be {_limit(name, floor)}"
        for counting in floors["countings"]
        for row in counting["rows"]
        if row["label"].startswith(OURS.label)
        for name, floor in counting["floors"].items()
        for cell in [row["cells"][name]]
        if not cell["reached"]
    ]


def _facts(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    settings = ", ".join(f"`{name}={value}`" for name, value in report["settings"].items()) or "the defaults"
    return _list([
        f"Data: {_crowds(report)}; every number is the mean over these crowds.",
        f"Profile: `{report['profile']}`. Tracking: {TRACKINGS[report['tracking']]}.",
        "PPDS, PA-PPDS, PCOD and recall in per cent, MPJPE in mm, ACCEL in mm/frame², root errors in m, feet in cm.",
        f"Settings: {settings}, and in each row what its label says.",
        f"Machine: {'; '.join(report['machines'])}. Seconds are those of the method alone, per crowd, on one core.",
        f"Date: {' to '.join(sorted({report['dates'][0], report['dates'][-1]}))}. Versions: {versions}.",
    ], "")  # fmt: skip


def _list(sentences: Sequence[str], nothing: str) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences) or f"{nothing}\n"


def _crowds(report: Report) -> str:
    data = report["data"]
    people = f"{data['people']} people x {data['frames']} frames"
    if data["crowds"]:
        chosen = ", ".join(" ".join(map(str, crowd)) for crowd in data["crowds"])
        return (
            f"{people} each in {len(data['crowds'])} crowds (scene, camera, seed): {chosen}; motions {data['motions']}"
        )
    scenes, cameras, seeds = (", ".join(map(str, data[name])) for name in ("scenes", "cameras", "seeds"))
    return f"{people} in {scenes}; camera {cameras}; seeds {seeds}; motions {data['motions']}"


def _page_table(table: dict[str, Any]) -> str:
    columns = [*table["metrics"], *table["more"]]
    heading = f"## Table {table['number']}: {table['title']}\n\nThe paper's: {table['paper_data']}.\n"
    rows = [[row["label"], *_cells(row, columns), _seconds(row)] for row in table["rows"]]
    parts = [heading, *_markdown(["", *map(_headed, columns), "seconds"], rows, "---:"), ""]
    steps = [table["steps"][first : first + len(columns)] for first in range(0, len(table["steps"]), len(columns))]
    if steps:
        verdicts = [[f"{step[0]['from']} → {step[0]['to']}", *map(_verdict, step)] for step in steps]
        title = "as in the paper?" + (" (what it does not have: better?)" if table["more"] else "")
        parts += [*_markdown([title, *map(_label, columns)], verdicts, "---"), ""]
    return "\n".join(parts)


def _page_floors(floors: dict[str, Any]) -> str:
    parts = [FLOORS_INTRODUCTION.format(crowds=floors["crowds"])]
    for counting in floors["countings"]:
        parts += [f"**{counting['title'][0].upper()}{counting['title'][1:]}**\n"]
        parts += [*_markdown(_floor_head(counting), _floor_rows(counting), "---:"), ""]
    return "\n".join(parts)


def _page_cameras(report: Report) -> str:
    people = [
        [row["crowd"], f"{row['relief']:.1f}", *_values(row["initial"], BY_CROWD), *_values(row["ours"], BY_CROWD[1:])]
        for row in report["crowds"]
    ]
    head = [*(f"initial: {_label(name)}" for name in BY_CROWD), *(f"ours: {_label(name)}" for name in BY_CROWD[1:])]
    return "\n".join([
        CAMERAS_INTRODUCTION.format(flat=FLAT), *_markdown(*_camera_cells(report), "---:"), "",
        "Crowd by crowd, of the people found only:", "",
        *_markdown(["scene, camera, seed", "relief m", "recall r", *head[1:]], people, "---:"), "",
    ])  # fmt: skip


def _camera_cells(report: Report) -> tuple[list[str], list[list[str]]]:
    head = ["", "crowds", *map(_headed, BY_CAMERA)]
    rows = [
        [f"{row['camera']}, {row['ground']}: {row['label']}", str(row["crowds"]), *_values(row["means"], BY_CAMERA)]
        for row in report["cameras"]
    ]
    return head, rows


def _values(numbers: dict[str, float | None] | None, names: Sequence[str]) -> list[str]:
    return [_number(numbers[name] if numbers else None) for name in names]


def _floor_head(counting: dict[str, Any]) -> list[str]:
    wanted = {name: f" {_limit(name, floor)}" for name, floor in counting["floors"].items()}
    return ["", *(f"{_headed(name)}{wanted.get(name, '')}" for name in counting["columns"])]


def _floor_rows(counting: dict[str, Any]) -> list[list[str]]:
    return [
        [row["label"], *(_floor_cell(name, cell, counting) for name, cell in row["cells"].items())]
        for row in counting["rows"]
    ]


def _floor_cell(name: str, cell: dict[str, Any], counting: dict[str, Any]) -> str:
    """The number; as a share of the initial motion's, where that is judged; and whether the floor is reached."""
    floor = counting["floors"].get(name)
    shown = _number(cell["mean"])
    if floor and floor["of_initial"] and cell["of_initial"] is not None:
        shown += f" (×{cell['of_initial']:.2f})"
    if cell["reached"] is None:
        return shown
    return f"{shown} {'pass' if cell['reached'] else '**fail**'} {cell['crowds'][0]}/{cell['crowds'][1]}"


def _limit(name: str, floor: dict[str, Any]) -> str:
    sign = "≥" if COLUMNS[name].better == "up" else "≤"
    return f"{sign} ×{floor['limit']:.2f}" if floor["of_initial"] else f"{sign} {floor['limit']:g}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], column: str) -> list[str]:
    rule = ["---", *[column] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]


def _verdict(step: dict[str, Any]) -> str:
    if step["agrees"] is None:
        return UNKNOWN
    return f"{'yes' if step['agrees'] else '**no**'}, {step['crowds'][0]}/{step['crowds'][1]}"


def _text_table(table: dict[str, Any]) -> str:
    columns = [*table["metrics"], *table["more"]]
    lines = [f"Table {table['number']}: {table['title']}", _text_line("", list(map(_label, columns)), "seconds")]
    lines += [_text_line(row["label"], _cells(row, columns), _seconds(row)) for row in table["rows"]]
    lines += [f"  other than in the paper: {sentence}" for sentence in departures(table)]
    return "\n".join(lines)


def _text_floors(counting: dict[str, Any]) -> str:
    return _aligned(_floor_head(counting), _floor_rows(counting)).replace("**fail**", "FAIL")


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join([f"{cells[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(cells[1:], widths[1:], strict=True))])
        for cells in (head, *rows)
    )


def _text_line(label: str, cells: Sequence[str], last: str) -> str:
    shown = "".join(f" {cell:>{CELL_WIDTH - 1}}" for cell in cells)
    return f"{label:<{LABEL_WIDTH}}{shown}{last:>{LAST_WIDTH}}"


def _cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Ours and, in brackets, the paper's, for every metric."""
    paper = row["paper"] or {}
    return [_number(row["ours"][name]["mean"]) + (f" ({paper[name]:.2f})" if name in paper else "") for name in columns]


def _label(name: str) -> str:
    """Of a column, whatever stands above it."""
    meaning = COLUMNS[name]
    return f"{COLUMNS[name.removesuffix('_mean')].label} mean" if name.endswith("_mean") else meaning.label.strip()


def _headed(name: str) -> str:
    return f"{_label(name)} {ARROWS[COLUMNS[name].better]}".strip()


def _number(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:.2f}"


def _seconds(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.1f}"


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")
