"""Crowds and truths from files: results folders, synthetic crowds, VirtualCrowd's labels."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crowd4d_ros.axes import rotation_to_y_up, to_y_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.evaluation.crowds import (
    Crowd,
    CrowdError,
    GroundTruth,
    check_body,
    crowd_of_rows,
    crowd_of_window,
    ground_truth,
    posed,
)
from crowd4d_ros.evaluation.ground import height_above
from crowd4d_ros.evaluation.virtual_crowd import read_virtual_crowd
from crowd4d_ros.io.results import Results, read_results
from crowd4d_ros.synthetic.files import (
    OBSERVATIONS_FORMAT,
    TRUTH_FORMAT,
    ObservationsError,
    TruthError,
    read_observations,
    read_truth,
)
from crowd4d_ros.window import BoolArray, Cameras, Intrinsics, SurfaceMesh

Z_UP = 2
"""The vertical axis of result files."""


def read_crowd(path: str | Path, body: BodyModel) -> Crowd:
    """An answer: a results folder of `crowd4d reconstruct`, observations.npz (its initial motion) or truth.npz.

    A folder of `crowd4d synthesize` that holds no results stands for its truth.npz. Raises CrowdError.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "crowd.npz").exists() or not (path / "truth.npz").exists():
            return read_result_crowd(path, body)
        path = path / "truth.npz"
    if not path.exists():
        raise CrowdError(f"there is no {path}: give a results folder, observations.npz or truth.npz")
    try:
        kind = _format(path)
        if kind == OBSERVATIONS_FORMAT:
            return crowd_of_window(read_observations(path), body, str(path))
        if kind == TRUTH_FORMAT:
            return replace(ground_truth(read_truth(path), body).crowd, name=str(path))
    except (TruthError, ObservationsError) as error:
        raise CrowdError(str(error)) from None
    raise CrowdError(f"{path} is neither a results folder nor an observations.npz or truth.npz")


def read_ground_truth(path: str | Path, body: BodyModel) -> GroundTruth:
    """truth.npz, the folder it is in, or the labels of a VirtualCrowd scene, a .json. Raises CrowdError."""
    path = Path(path)
    if path.suffix == ".json":
        return read_virtual_crowd(path)
    try:
        return ground_truth(read_truth(path / "truth.npz" if path.is_dir() else path), body)
    except TruthError as error:
        raise CrowdError(str(error)) from None


def read_result_crowd(folder: str | Path, body: BodyModel) -> Crowd:
    """What `crowd4d reconstruct` or `optimize` wrote to ``folder``. Raises CrowdError."""
    folder = Path(folder)
    try:
        return _result_crowd(str(folder), read_results(folder), body)
    except CrowdError:
        raise
    except OSError as error:
        raise CrowdError(f"{folder} is not a results folder of `crowd4d reconstruct`: {error}") from None
    except (KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CrowdError(f"{folder} has no readable results ({error}): reconstruct again") from None


def _result_crowd(name: str, results: Results, body: BodyModel) -> Crowd:
    crowd, document = results.crowd, results.cameras
    person, frame = np.nonzero(crowd["valid"])
    parameters = ("betas", "body_pose", "global_orient", "transl")
    # Posed as they are, z up, and the points turned: the parameters need not be.
    points = posed(body, {key: crowd[key][person, frame] for key in parameters}, up=Z_UP)
    check_body(points["joints"], crowd["joints"][person, frame], name)
    frames = document["frames"]
    points = {key: to_y_up(values) for key, values in points.items()}
    surface = SurfaceMesh(to_y_up(results.surface.vertices), results.surface.faces)
    return crowd_of_rows(
        name=name,
        stamps=crowd["stamps"],
        track_ids=crowd["track_ids"],
        person=person,
        frame=frame,
        points={
            **points,
            "boxes": crowd["boxes"][person, frame],
            "clearance": height_above(surface, points["lowest"]),
        },
        observed=crowd["observed"][person, frame],
        intrinsics=Intrinsics(
            document["width"],
            document["height"],
            np.array(document["K"]),
            np.array(document["distortion"]),
            document["distortion_model"],
            np.array(document["K_rectified"]),
            document["intrinsics_source"],
        ),
        cameras=Cameras(
            rotation_to_y_up(np.array([entry["R"] for entry in frames], np.float64).reshape(-1, 3, 3)),
            np.array([entry["t"] for entry in frames], np.float64).reshape(-1, 3),
            frames[0]["source"],
        ),
        is_border=_borders(results.report, len(frames)),
    )


def _borders(report: dict[str, Any], frames: int) -> BoolArray:
    """(T,) where report.json's windows begin to answer, but for the first."""
    start = np.cumsum([window["new_frames"] for window in report.get("windows", [])], dtype=np.int64)[:-1]
    border = np.zeros(frames, bool)
    border[start[(start > 0) & (start < frames)]] = True
    return border


def _format(path: Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file["format"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error):
        return ""
