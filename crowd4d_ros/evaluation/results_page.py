"""What ``ablation.ablate`` found, to be read: as text in a terminal, and as the page docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crowd4d_ros.evaluation.ablation import METRICS, Report
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.io.output import replacing

LABEL_WIDTH, CELL_WIDTH, LAST_WIDTH = 30, 17, 9
"""characters, of the tables as text."""
MISSING = "missing"
LABELS = [MEANING[name].label for name in METRICS]
ARROWS = {"up": "↑", "down": "↓"}
TRACKINGS = {"detected": "by detection (tracks as observed, frames matched by OKS)", "ids": "true identities"}

INTRODUCTION = """# Results

Written by `{command}`; what is said by hand is in [{notes}]({notes}) and repeated at the end.

The ablations of the paper's Tables 4 to 7 on synthetic crowds with exact truth ([synthetic.md](synthetic.md)). The
paper's data, VirtualCrowd, cannot be had without an application: **its numbers, in brackets, are of other data**, and
what can be compared is which row is better and by how much. "{missing}" is what the program does not have yet, "ours"
the method as it is today.
"""


def text(report: Report) -> str:
    """The tables for a terminal; below each, what does not go the paper's way."""
    head = f"{_crowds(report)}; profile {report['profile']}, tracking {report['tracking']}; in brackets the paper's"
    return "\n\n".join([head, *(_text_table(table) for table in report["tables"])])


def write_page(path: Path, report: Report, command: str) -> None:
    """docs/results.md from the report, and from the free text beside it, results_notes.md. Raises OutputError."""
    notes = path.with_name(f"{path.stem}_notes.md")
    with replacing(path) as temporary:
        temporary.write_text(page(report, command, notes.name, notes.read_text() if notes.is_file() else ""))


def page(report: Report, command: str, notes_name: str, notes: str) -> str:
    """The page as Markdown: the same for the same report, command and notes."""
    parts = [
        INTRODUCTION.format(command=command, notes=notes_name, missing=MISSING),
        _facts(report),
        *(_page_table(table) for table in report["tables"]),
        "## Where ours does not follow the paper's\n\n" + _list(
            [f"Table {table['number']}: {sentence}" for table in report["tables"] for sentence in departures(table)],
            "Nowhere.",
        ),
        f"## Notes\n\n{notes.strip() or 'None.'}\n",
    ]  # fmt: skip
    return "\n".join(parts)


def departures(table: dict[str, Any]) -> list[str]:
    """A sentence for each step from row to row that goes another way than the paper's."""
    return [
        f"{MEANING[step['metric']].label} from '{step['from']}' to '{step['to']}': ours {_signed(step['ours'])}, "
        f"the paper's {_signed(step['paper'])}; the paper's way in {step['crowds'][0]} of {step['crowds'][1]} crowds"
        for step in table["steps"]
        if step["agrees"] is False
    ]


def _facts(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    settings = ", ".join(f"`{name}={value}`" for name, value in report["settings"].items()) or "the defaults"
    return _list([
        f"Data: {_crowds(report)}; every number is the mean over these crowds.",
        f"Profile: `{report['profile']}`. Tracking: {TRACKINGS[report['tracking']]}.",
        "PPDS, PA-PPDS and PCOD in per cent, MPJPE in mm, ACCEL in mm/frame².",
        f"Settings: {settings}, and in each row what its label says.",
        f"Machine: {'; '.join(report['machines'])}. Seconds are those of the method alone, per crowd.",
        f"Date: {' to '.join(sorted({report['dates'][0], report['dates'][-1]}))}. Versions: {versions}.",
    ], "")  # fmt: skip


def _list(sentences: Sequence[str], nothing: str) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences) or f"{nothing}\n"


def _crowds(report: Report) -> str:
    data = report["data"]
    scenes, cameras, seeds = (", ".join(map(str, data[name])) for name in ("scenes", "cameras", "seeds"))
    return (
        f"{data['people']} people x {data['frames']} frames in {scenes}; camera {cameras}; seeds {seeds}; "
        f"motions {data['motions']}"
    )


def _page_table(table: dict[str, Any]) -> str:
    better = [f"{MEANING[name].label} {ARROWS[MEANING[name].better]}" for name in METRICS]
    heading = f"## Table {table['number']}: {table['title']}\n\nThe paper's: {table['paper_data']}.\n"
    rows = [[row["label"], *_cells(row), _seconds(row)] for row in table["rows"]]
    steps = [table["steps"][first : first + len(METRICS)] for first in range(0, len(table["steps"]), len(METRICS))]
    verdicts = [[f"{step[0]['from']} → {step[0]['to']}", *map(_verdict, step)] for step in steps]
    return "\n".join([
        heading, *_markdown(["", *better, "seconds"], rows, "---:"), "",
        *_markdown(["as in the paper?", *LABELS], verdicts, "---"), "",
    ])  # fmt: skip


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], column: str) -> list[str]:
    rule = ["---", *[column] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]


def _verdict(step: dict[str, Any]) -> str:
    if step["agrees"] is None:
        return MISSING
    return f"{'yes' if step['agrees'] else '**no**'}, {step['crowds'][0]}/{step['crowds'][1]}"


def _text_table(table: dict[str, Any]) -> str:
    lines = [f"Table {table['number']}: {table['title']}", _text_line("", LABELS, "seconds")]
    lines += [_text_line(row["label"], _cells(row), _seconds(row)) for row in table["rows"]]
    lines += [f"  other than in the paper: {sentence}" for sentence in departures(table)]
    return "\n".join(lines)


def _text_line(label: str, cells: Sequence[str], last: str) -> str:
    return f"{label:<{LABEL_WIDTH}}" + "".join(f"{cell:>{CELL_WIDTH}}" for cell in cells) + f"{last:>{LAST_WIDTH}}"


def _cells(row: dict[str, Any]) -> list[str]:
    """Ours and, in brackets, the paper's, for every metric."""
    return [
        (f"{row['ours'][name]['mean']:.2f}" if row["ours"] else MISSING)
        + (f" ({row['paper'][name]:.2f})" if row["paper"] else "")
        for name in METRICS
    ]


def _seconds(row: dict[str, Any]) -> str:
    return MISSING if row["seconds"] is None else f"{row['seconds']:.1f}"


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")
