"""Runs of the method on synthetic crowds, each measured and kept: what was run once is read again.

A run is known by the digest of all that has a part in it: the crowd, what is observed of it, the settings, this
package's code and the files given. An interrupted command goes on. Runs of other crowds can go on at the same time:
each has one thread, so that its numbers do not depend on how many there are.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import crowd4d_ros
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, flatten
from crowd4d_ros.evaluation.attainable import attainable
from crowd4d_ros.evaluation.comparison import Tracking
from crowd4d_ros.evaluation.crowds import crowd_of_motions, ground_truth
from crowd4d_ros.evaluation.evaluate import evaluate
from crowd4d_ros.evaluation.metrics import Profile
from crowd4d_ros.evaluation.tables import COLUMNS, OBSERVATIONS
from crowd4d_ros.interaction.anchors import coupling
from crowd4d_ros.interaction.scale import ScaleError
from crowd4d_ros.interaction.surface import SurfaceError
from crowd4d_ros.io.output import replacing
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.sliding import windows
from crowd4d_ros.synthetic.estimate import estimate_world
from crowd4d_ros.synthetic.synthesize import Request, streams, synthesize
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdMotion, CrowdWindow
from crowd4d_ros.world import World

PROFILE: Profile = "author_native"
"""What the paper's numbers were computed with."""
TRACKING: Tracking = "detected"
"""Frames are matched by how people look in the image: nobody tells an answer who is who."""
MAKERS = (
    "*.py", "assets/*.npz", "assets/*.safetensors", "body/*.py", "evaluation/*.py", "initialization/*.py",
    "interaction/*.py", "optimization/*.py", "priors/*.py", "synthetic/*.py",
)  # fmt: skip
"""What of this package has a part in a number: kept runs of another program are not taken for this one's."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LOCAL_RELIEF = (5.0, 95.0)
"""per cent of the heights where people stand, between which the ground's relief is measured."""

RUN_BYTES = 100_000
"""A kept run needs this much at most: some numbers."""

Run = dict[str, Any]
"""One crowd, one variant, as JSON: what it was, its metrics by name, seconds, scale, warnings, machine and date."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """A configuration, and a key of ``OBSERVATIONS``: what it is given. is_perfect: as of ``tables.Row``."""

    config: Config
    observation: str
    is_perfect: bool = False


@dataclass(frozen=True)
class Job:
    """A crowd and the variants to run on it, by name; ``kept`` is where each run goes."""

    title: str
    request: Request
    variants: Mapping[str, Variant]
    kept: Mapping[str, Path]


def quietly(text: str) -> None:
    """Says nothing."""


def run_all(
    requests: Sequence[Request],
    variants: Mapping[str, Variant],
    folder: Path,
    files: Sequence[Path],
    jobs: int,
    say: Say,
) -> dict[str, list[Run]]:
    """Every variant on every crowd, in their order; ``jobs`` crowds at a time. Raises the errors of the parts.

    folder: of the runs, which exists. files: what else has a part in them. say: told what is run, in any process.
    """
    data = program(files)
    kept = {
        name: [folder / f"{_key(request, variant, data)}.json" for request in requests]
        for name, variant in variants.items()
    }
    work = []
    for number, request in enumerate(requests):
        missing = {name: variant for name, variant in variants.items() if not kept[name][number].is_file()}
        if missing:
            title = f"{number + 1}/{len(requests)} {request.scene} {request.camera} seed {request.seed}"
            work.append(Job(title, request, missing, {name: kept[name][number] for name in missing}))
    if jobs == 1:
        for job in work:
            run_job(job, say)
    elif work:
        with _one_thread(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for _ in pool.map(functools.partial(run_job, say=say), work):
                pass
    return {name: [json.loads(path.read_text()) for path in paths] for name, paths in kept.items()}


def run_job(job: Job, say: Say) -> None:
    """Run and keep every variant of one crowd, the observations of each made once."""
    with _one_thread():
        for observation in dict.fromkeys(variant.observation for variant in job.variants.values()):
            request = replace(job.request, config=replace(job.request.config, observation=OBSERVATIONS[observation]))
            crowd = functools.cache(functools.partial(synthesize, request))
            for name, variant in job.variants.items():
                if variant.observation != observation or job.kept[name].is_file():
                    continue
                say(f"{job.title}: {name}")
                run = {"variant": name, **_named(request), **_run(request, *crowd(), variant)}
                with replacing(job.kept[name]) as temporary:
                    temporary.write_text(json.dumps(run, indent=1) + "\n")


def _run(request: Request, truth: Truth, observed: CrowdWindow, variant: Variant) -> Run:
    """One crowd reconstructed by one variant, and measured."""
    measure = _allowed if variant.is_perfect else _reconstructed
    run = measure(truth, observed, variant.config, true_scale(request, truth))
    numbers = {name: number if math.isfinite(number) else None for name, number in run["metrics"].items()}
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return {**run, "metrics": numbers, "relief": relief(truth), "machine": machine(), "date": date}


def _reconstructed(truth: Truth, observed: CrowdWindow, config: Config, scale: float) -> Run:
    """The method's answer. scale: the true one."""
    pipeline, world, motions = Pipeline(config), World(), []
    began = time.perf_counter()
    for window in windows(observed, config.window):
        motion, world = pipeline.step(window, world)
        motions.append(motion)
    seconds = time.perf_counter() - began
    numbers = _measured(motions, truth, pipeline.body)
    if coupling(config.interaction).is_scaled:
        off = np.abs(np.array([motion.scale for motion in motions]) / scale - 1.0)
        numbers["scale_off"] = COLUMNS["scale_off"].factor * float(off.mean())
    else:  # the surface is of another size than the people
        numbers |= dict.fromkeys(("feet_surface", "feet_surface_mean"), float("nan"))
    warnings = sorted({text for motion in motions for text in motion.warnings})
    return {"metrics": numbers, "seconds": round(seconds, 2), "scale": motions[-1].scale, "warnings": warnings}


def _allowed(truth: Truth, observed: CrowdWindow, config: Config, scale: float) -> Run:
    """What the observations allow; unknown where perfect bodies do not meet the scene."""
    numbers, began = dict.fromkeys(COLUMNS, float("nan")), time.perf_counter()
    run: Run = {"metrics": numbers, "seconds": 0.0, "scale": None, "warnings": []}
    try:
        best = attainable(truth, observed, config.interaction)
    except (ScaleError, SurfaceError) as error:
        return {**run, "warnings": [str(error)]}
    found = {
        "scale_off": abs(best.alpha / scale - 1.0),
        "scale_error": best.scale,
        "feet_terrain": float(np.median(best.feet)),
        "feet_terrain_mean": float(np.mean(best.feet)),
        "feet_terrain_resized": float(np.median(best.feet_resized)),
    }
    numbers |= {name: COLUMNS[name].factor * number for name, number in found.items()}
    return {**run, "metrics": numbers, "seconds": round(time.perf_counter() - began, 2), "scale": best.alpha}


def _measured(motions: Sequence[CrowdMotion], truth: Truth, body: BodyModel) -> dict[str, float]:
    """All that ``evaluate`` says, in the units of its tables, and ``scale_off``, unknown."""
    found = evaluate(crowd_of_motions(motions, body), ground_truth(truth, body), PROFILE, TRACKING)
    values = {name: COLUMNS[name].factor * float(number) for name, number in found.values.items()}
    return values | {"scale_off": float("nan")}


def true_scale(request: Request, truth: Truth) -> float:
    """Metres per unit of the scene, which the observations of ``request`` hide: the first thing they draw."""
    (first,) = streams(request.seed)["observation"].spawn(1)
    return estimate_world(truth, request.config.observation, first).scale


def relief(truth: Truth) -> float:
    """Metres between the low and the high places where people stand, but for the lowest and highest few."""
    low, high = np.percentile(truth.support_point[truth.valid][:, 1], LOCAL_RELIEF)
    return float(high - low)


def program(files: Sequence[Path]) -> str:
    """The digest of all that has a part in every run: this package's code, and the files given."""
    package = Path(crowd4d_ros.__file__).parent
    code = sorted(path for name in MAKERS for path in package.glob(name))
    return _digest(*(path.read_bytes() for path in (*code, *files)))


def machine() -> str:
    """The processor and its cores; nothing that tells whose machine it is."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _key(request: Request, variant: Variant, data: str) -> str:
    settings = {name: setting for name, (setting, _) in flatten(variant.config).items()}
    given = {"observation": variant.observation, "is_perfect": variant.is_perfect}
    stated = {"crowd": _named(request), **given, "settings": settings, "data": data}
    return _digest(json.dumps(stated, sort_keys=True, default=str).encode())


def _named(request: Request) -> dict[str, Any]:
    names = ("scene", "camera", "people", "frames", "seed", "mocap_split")
    return {name: getattr(request, name) for name in names} | {"has_mocap": request.mocap is not None}


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


@contextmanager
def _one_thread() -> Iterator[None]:
    """In this process and in those it starts; as before afterwards."""
    threads, variables = torch.get_num_threads(), {name: os.environ.get(name) for name in THREADS}
    torch.set_num_threads(1)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, before in variables.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
