"""Recorded observations in, a 4D crowd out: the method from Sec. 3.2 on, without the models that look at images."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from crowd4d_ros.config import Config
from crowd4d_ros.io.output import prepare_folder
from crowd4d_ros.io.results import ResultWriter
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.repeated import collecting
from crowd4d_ros.sliding import windows
from crowd4d_ros.synthetic.files import ObservationsError, read_observations
from crowd4d_ros.visualization.plan import write_plan_of
from crowd4d_ros.world import World

log = logging.getLogger(__name__)

PERSON_FRAME_BYTES = 2000
"""of the results, per person and frame."""
OBSERVATIONS = "observations.npz"


def reoptimize(source: Path, out: Path, config: Config) -> Path:
    """The crowd of the observations in ``source``, a file or its folder, as the files of io.results in ``out``.

    Raises ObservationsError, OutputError and the pipeline's errors.
    """
    path = source / OBSERVATIONS if source.is_dir() else source
    whole = read_observations(path)
    if not whole.num_frames:
        raise ObservationsError(f"{path} has no frames: nothing can be optimised")
    prepare_folder(out, whole.num_people * whole.num_frames * PERSON_FRAME_BYTES)
    pipeline = Pipeline(config)
    results, world = ResultWriter(out, config, pipeline.body), World()
    begin = time.perf_counter()
    with collecting() as warnings:
        for window in windows(whole, config.window):
            motion, world = pipeline.step(window, world)
            results.add(motion)
    spent = time.perf_counter() - begin
    results.close(
        {
            "arguments": {"observations": str(path), "out": str(out)},
            "device": str(pipeline.body.v_template.device),
            "timings": {
                "optimization": {"seconds": round(spent, 3), "ms_per_frame": round(1e3 * spent / whole.num_frames, 2)}
            },
            "warnings": list(warnings),
        }
    )
    write_plan_of(out, config.visualization)
    return out
