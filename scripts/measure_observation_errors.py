#!/usr/bin/env python3
"""Measures the initializer's errors on rendered videos, and those of synthetic observations beside them.

    scripts/measure_observation_errors.py FOLDER... --out DIR [--seeds 5] [--real VIDEO --real-camera-info YAML]

Each FOLDER is of `crowd4d synthesize ... --video`: truth.npz, camera_info.yaml and the video. Perception and the
initializer run on the video; what perception saw is kept in DIR, so that the next run is fast. The same statistics are
then measured of `synthetic.observation.observe` with the settings as they are, averaged over seeds. DIR/errors.md and
DIR/errors.json hold both, the median over folders and folder by folder.

With --real, statistics that need no truth are measured of that video too, in DIR/statistics.md, beside the same of the
rendered videos and of synthetic observations.

Cameras must be fixed: the embedded scene model knows no other. Needs this package (PYTHONPATH=. does).
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.evaluation.observation_errors import observation_errors, observation_statistics, stitched
from crowd4d_ros.initialization.initializer import Initializer
from crowd4d_ros.io import open_input
from crowd4d_ros.io.camera import read_camera_info
from crowd4d_ros.io.resume import WorkFolder, key_of
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.files import read_truth
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import CrowdWindow

VIDEOS = (".mp4", ".avi", ".mkv")
Numbers = dict[str, float]

log = logging.getLogger("measure")


def video_of(folder: Path) -> Path:
    """The folder's only video. Exits with a message where there is none, or several."""
    videos = [path for path in sorted(folder.iterdir()) if path.suffix in VIDEOS]
    if len(videos) != 1:
        raise SystemExit(f"{folder} holds {len(videos)} videos: make it with `crowd4d synthesize ... --video`")
    return videos[0]


def initialized(video: Path, camera_info: Path, cache: Path) -> CrowdWindow:
    """The initializer's windows of the whole video, as one. What perception saw before in ``cache`` is not seen again.

    Several segments, which a video has none of, would be a mistake of its stamps: ValueError.
    """
    config = Config()
    patient = replace(config.calibration, frames=config.calibration.recording_frames)
    initializer = Initializer(replace(config, calibration=patient), read_camera_info(camera_info))
    cache.mkdir(parents=True, exist_ok=True)
    perception = {"detection": config.detection, "keypoints": config.keypoints, "tracking": config.tracking}
    work = WorkFolder(cache, key_of(video, {name: str(group) for name, group in perception.items()}, Config()))
    source = open_input(video)
    windows, last = [], -1
    for observations in work.observations():
        windows += initializer.add(observations)
        last = observations.index
    state = work.state()
    for frame in tqdm(source, desc=str(video), total=source.count, mininterval=15):
        if frame.index <= last:
            continue
        if state:
            initializer.perception.restore(state)
            state = {}
        observations = initializer.observe(frame)
        work.add_observations(observations, initializer.perception.state())
        windows += initializer.add(observations)
    work.flush()
    return stitched(windows + initializer.finish())


def averaged(rows: list[Numbers]) -> Numbers:
    """Statistic by statistic, over those rows that have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nobody has it: NaN is the answer
        return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def typical(rows: list[Numbers]) -> Numbers:
    """The median of each statistic over folders: one crowd whose calibration went wrong must not decide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return {name: float(np.nanmedian([row[name] for row in rows])) for name in rows[0]}


def synthetic(truth: Truth, body: BodyModel, seeds: int) -> tuple[Numbers, Numbers]:
    """Errors and statistics of observations as they are synthesized now."""
    errors, statistics = [], []
    for seed in range(seeds):
        window = observe(truth, body, ObservationConfig(), np.random.default_rng(seed))
        errors.append(observation_errors(window, truth, body))
        statistics.append(observation_statistics(window, body))
    return averaged(errors), averaged(statistics)


def table(columns: dict[str, Numbers]) -> str:
    """A markdown table: one row for each statistic that any column has."""
    names = list(next(iter(columns.values())))
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name in names:
        values = [column[name] for column in columns.values()]
        if any(np.isfinite(values)):
            cells = ("–" if np.isnan(value) else f"{value:.3g}" for value in values)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--real", type=Path, metavar="VIDEO")
    parser.add_argument("--real-camera-info", type=Path, metavar="YAML")
    arguments = parser.parse_args()
    if (arguments.real is None) != (arguments.real_camera_info is None):
        parser.error("--real and --real-camera-info come together")
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    body, exact = BodyModel.load(), BodyModel.load(dtype=torch.float64)
    measured: dict[str, Numbers] = {}
    synthesized: dict[str, Numbers] = {}
    statistics: dict[str, list[Numbers]] = {"rendered video": [], "observe()": []}
    for folder in arguments.folders:
        truth = read_truth(folder / "truth.npz")
        if np.ptp(truth.cameras.centers, axis=0).max() > 0 or np.ptp(truth.cameras.R, axis=0).max() > 0:
            log.warning("%s is left out: its camera moves, and the embedded scene model takes it for fixed", folder)
            continue
        window = initialized(video_of(folder), folder / "camera_info.yaml", arguments.out / folder.name)
        measured[folder.name] = observation_errors(window, truth, body)
        errors, of_synthetic = synthetic(truth, exact, arguments.seeds)
        synthesized[folder.name] = errors
        statistics["rendered video"].append(observation_statistics(window, body))
        statistics["observe()"].append(of_synthetic)
    if not measured:
        raise SystemExit("no folder has a fixed camera: nothing was measured")

    columns = {"initializer": typical(list(measured.values())), "observe()": typical(list(synthesized.values()))}
    for name in measured:
        columns |= {f"{name}: initializer": measured[name], f"{name}: observe()": synthesized[name]}
    (arguments.out / "errors.md").write_text(table(columns))
    (arguments.out / "errors.json").write_text(json.dumps(columns, indent=1))
    print(table(dict(list(columns.items())[:2])))
    if arguments.real is not None:
        window = initialized(arguments.real, arguments.real_camera_info, arguments.out / arguments.real.stem)
        real = {"real video": observation_statistics(window, body)}
        text = table({**real, **{name: typical(rows) for name, rows in statistics.items()}})
        (arguments.out / "statistics.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
