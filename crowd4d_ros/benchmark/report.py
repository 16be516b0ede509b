"""The benchmark as JSON, as a table, and the scaling curve as a picture."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crowd4d_ros.benchmark.agreement import Agreement
from crowd4d_ros.benchmark.run import Result, StageResult
from crowd4d_ros.benchmark.scaling import BUSY, Curve

JSON, TABLE, PICTURE = "benchmark.json", "benchmark.md", "scaling.png"
"""What ``write`` writes."""


def document(result: Result) -> dict[str, Any]:
    """Everything, in SI units."""
    return {
        "options": asdict(result.options),
        "solver": result.solver,
        "threads": result.threads,
        "machine": result.machine,
        "bodies": result.bodies,
        "smplx": None if result.smplx is None else asdict(result.smplx) | {"ratio": result.smplx.ratio},
        "stages": [_stage(stage, result.machine["bandwidth"]) for stage in result.stages],
        "schedule": {
            "ours": asdict(result.ours),
            "reference": asdict(result.reference),
            "ratio": _ratio(result.reference.wall, result.ours.wall),
            "cpu_ratio": _ratio(result.reference.cpu, result.ours.cpu),
        },
        "equal_energy": [asdict(stage) for stage in result.reached],
        "equal_energy_ratio": equal_energy_ratio(result),
        "equal_answer": [asdict(stage) for stage in result.ended],
        "curve": None if result.curve is None else asdict(result.curve),
    }


def equal_energy_ratio(result: Result) -> float | None:
    """The reference's seconds for its schedule, over ours to the energies that it ends with; None if we end above."""
    reference = {
        stage.seen.stage.name: stage.seen.reference.wall * stage.seen.stage.iterations for stage in result.stages
    }
    ours = [stage.seconds for stage in result.reached if stage.stage in reference]
    if any(seconds is None for seconds in ours):
        return None
    return _ratio(sum(reference.values()), sum(seconds or 0.0 for seconds in ours))


def table(result: Result) -> str:
    """Markdown: a row a stage, and what holds for all."""
    where, options = result.machine, result.options
    lines = [
        f"{options.people} people x {options.frames} frames, {result.bodies} bodies; {where['device']}, the reference "
        f"with {result.threads} threads, torch {where['torch']}, load {where['load'][0]}",
        "",
        "| | ms an iteration | reference | ratio | CPU ratio | operators | reference | peak MB | reference | misses "
        "| energies off | gradients off | rounded | reference |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(stage) for stage in result.stages),
        f"| schedule | {_ms(result.ours.wall)} | {_ms(result.reference.wall)} "
        f"| **{_times(result.reference.wall, result.ours.wall)}** | {_times(result.reference.cpu, result.ours.cpu)} "
        "| | | | | | | | | |",
        "",
    ]
    if result.smplx:
        lines.append(
            f"smplx's lbs, forward and backward of {result.smplx.bodies} bodies: {_ms(result.smplx.lbs.wall)} ms; the "
            f"reference's mesh: {_ms(result.smplx.mesh.wall)} ms, {result.smplx.ratio:.2f} of it."
        )
    if where["device_type"] == "cuda":
        shares = ", ".join(f"{share(stage, where['bandwidth']):.0%}" for stage in result.stages)
        lines.append(f"Of {where['bandwidth'] / 1e9:.0f} GB/s measured, the stages use at most {shares}.")
    lines += [
        f"{reached.stage}: energy {reached.energy:.5g} "
        + (
            f"reached after {reached.seconds:.2f} s, {reached.iterations} iterations of {result.solver}"
            if reached.seconds is not None
            else f"not reached: {result.solver} ended at {reached.ended:.5g} after {reached.total:.2f} s"
        )
        for reached in result.reached
    ]
    if ratio := equal_energy_ratio(result):
        lines.append(f"Time to equal energy: **{ratio:.0f}x** less than the reference's schedule.")
    lines += [
        f"{stage.stage}: final energy {stage.energy:.1e} off; joints {1e3 * stage.apart:.3f} mm from the reference's, "
        f"at most {1e3 * stage.farthest:.2f}; the reference from itself {1e3 * stage.itself:.3f}, at most "
        f"{1e3 * stage.itself_farthest:.2f}"
        for stage in result.ended
    ]
    if result.curve:
        missing = ", ".join(f"{people} x {frames}" for people, frames in result.curve.missing)
        lines.append(
            f"Slope of log seconds over log bodies from {BUSY} bodies on: {result.curve.slope:.2f}; "
            + (f"not measured for lack of time: {missing}" if missing else "all sizes measured")
        )
    return "\n".join(lines)


def write(result: Result, out: Path) -> None:
    """JSON, table, and the curve's picture if there is one, into the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON).write_text(json.dumps(_finite(document(result)), indent=1) + "\n")
    (out / TABLE).write_text(table(result) + "\n")
    if result.curve:
        picture(result.curve).savefig(out / PICTURE, dpi=150)


def picture(curve: Curve) -> Figure:
    """Seconds of an iteration over bodies, both logarithmic, with the line of slope 1 through the largest."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bodies = np.array([point.people * point.frames for point in curve.points])
    for frames in sorted({point.frames for point in curve.points}):
        own = [point for point in curve.points if point.frames == frames]
        milliseconds = [1e3 * point.mean.wall for point in own]
        axes.plot([p.people * p.frames for p in own], milliseconds, "o-", lw=1, ms=4, label=f"{frames} frames")
    largest = 1e3 * curve.points[-1].mean.wall
    axes.plot(bodies, largest * bodies / bodies[-1], "k--", lw=1, label="proportional to people x frames")
    axes.set(xscale="log", yscale="log", xlabel="people x frames", ylabel="ms an iteration, mean over the schedule")
    axes.set_ylim(bottom=0.7 * 1e3 * min(point.mean.wall for point in curve.points))
    fitted = "" if math.isnan(curve.slope) else f"slope from {BUSY} bodies on: {curve.slope:.2f}"
    axes.set_title(fitted, fontsize=10, loc="left")
    axes.grid(which="both", alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def share(stage: StageResult, bandwidth: float) -> float:
    """Of the memory's bandwidth that our iteration would use if no cache kept anything: an upper bound."""
    return stage.seen.costs["ours"].touched / stage.ours.wall / bandwidth


def _stage(stage: StageResult, bandwidth: float) -> dict[str, Any]:
    seen = stage.seen
    return {
        "stage": seen.stage.name,
        "iterations": seen.stage.iterations,
        "ours": asdict(stage.ours) | asdict(seen.costs["ours"]) | {"bandwidth_share": share(stage, bandwidth)},
        "reference": asdict(seen.reference) | asdict(seen.costs["reference"]),
        "ratio": _ratio(seen.reference.wall, stage.ours.wall),
        "cpu_ratio": _ratio(seen.reference.cpu, stage.ours.cpu),
        "support": asdict(seen.misses),
        "agreement": [asdict(agreement) for agreement in seen.exact],
        "rounding": [asdict(agreement) for agreement in seen.rounded],
        "reference_rounding": [asdict(agreement) for agreement in seen.reference_rounded],
    }


def _row(stage: StageResult) -> str:
    seen, ours, reference = stage.seen, stage.seen.costs["ours"], stage.seen.costs["reference"]
    cells = (
        seen.stage.name,
        _ms(stage.ours.wall),
        _ms(seen.reference.wall),
        _times(seen.reference.wall, stage.ours.wall),
        _times(seen.reference.cpu, stage.ours.cpu),
        ours.operators,
        reference.operators,
        f"{ours.peak / 1e6:.0f}",
        f"{reference.peak / 1e6:.0f}",
        f"{seen.misses.missed} of {seen.misses.bodies}",
        f"{_worst(seen.exact, 'energies'):.0e}",
        f"{_worst(seen.exact, 'gradients'):.0e}",
        f"{_worst(seen.rounded, 'gradients'):.0e}",
        f"{_worst(seen.reference_rounded, 'gradients'):.0e}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _worst(agreements: list[Agreement], what: str) -> float:
    return max((error for agreement in agreements for error in getattr(agreement, what).values()), default=math.nan)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _ratio(reference: float, ours: float) -> float:
    return reference / ours if ours else math.inf


def _times(reference: float, ours: float) -> str:
    return f"{_ratio(reference, ours):.1f}x"


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
