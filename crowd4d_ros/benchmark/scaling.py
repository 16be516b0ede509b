"""How cost grows with people times frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.benchmark.compare import Tell, descend
from crowd4d_ros.benchmark.measure import Times, most_memory, watch_memory
from crowd4d_ros.benchmark.task import Task
from crowd4d_ros.config import Config, updated
from crowd4d_ros.device import choose_device

SIZES = tuple((people, frames) for frames in (20, 40, 100, 200, 400) for people in (5, 20, 50, 100, 200, 500, 1000))
"""People and frames."""
ITERATIONS = 25
"""of each stage: one refresh of the support set and what follows, as often as in the whole schedule."""
BUSY = 1500
"""bodies: with fewer, what a call costs that computes nothing is a good part of all."""


@dataclass(frozen=True)
class Point:
    """A window's size, and seconds and bytes. stages: seconds an iteration; mean: over the schedule; memory: bytes held
    at most, see ``most_memory``; preparation: seconds until the first iteration."""

    people: int
    frames: int
    bodies: int
    stages: dict[str, Times]
    mean: Times
    memory: int
    preparation: float


@dataclass(frozen=True)
class Curve:
    """Windows of ever more bodies, and those for which there was no time. slope: of log seconds over log bodies, from
    ``BUSY`` bodies on, NaN where too few were measured; a cost that grows linearly has 1."""

    points: list[Point]
    missing: list[tuple[int, int]]
    slope: float


def curve(config: Config, budget: float, seed: int, tell: Tell, sizes: Sequence[tuple[int, int]] = SIZES) -> Curve:
    """The sizes in the order of their bodies, for ``budget`` seconds: none is begun that would probably outlast it."""
    points: list[Point] = []
    missing: list[tuple[int, int]] = []
    begun, last = time.perf_counter(), 0.0
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    _measured(*ordered[0], config, seed)  # the first ever also loads libraries
    for people, frames in ordered:
        grown = people * frames / (points[-1].people * points[-1].frames) if points else 1.0
        left = budget - (time.perf_counter() - begun)
        if missing or (points and grown * last > left):
            missing.append((people, frames))
            continue
        start = time.perf_counter()
        points.append(_measured(people, frames, config, seed))
        last = time.perf_counter() - start
        tell(f"{people} people x {frames} frames: {1e3 * points[-1].mean.wall:.1f} ms an iteration")
    return Curve(points, missing, _slope(points))


def _measured(people: int, frames: int, config: Config, seed: int) -> Point:
    watch_memory(choose_device(config.device))
    start = time.perf_counter()
    brief = {f"optimization.stage{number}_iterations": ITERATIONS for number in (1, 2, 3)}
    task = Task.of(people, frames, updated(config, brief), seed).as_in_paper()
    whole = {stage.name: stage.iterations for stage in replace(task, config=config).stages}
    preparation = time.perf_counter() - start
    problem = task.ours()
    times = descend(problem, task.stages)
    stages = {name: Times(*both) / ITERATIONS for name, both in times.items()}
    total = sum(whole.values())
    mean = Times(*(sum(whole[n] * getattr(t, a) for n, t in stages.items()) / total for a in ("wall", "cpu")))
    return Point(people, frames, int(task.window.valid.sum()), stages, mean, most_memory(task.device), preparation)


def _slope(points: list[Point]) -> float:
    busy = [point for point in points if point.bodies >= BUSY]
    if len(busy) < 2:
        return float("nan")
    bodies, seconds = np.log([[point.bodies, point.mean.wall] for point in busy]).T
    return float(np.polyfit(bodies, seconds, 1)[0])
