"""A synthetic crowd as a folder: truth.npz, observations.npz, camera_info.yaml, plan.png, preview.png, report.json.

With pictures as a camera takes them, if wanted: video.avi, and bag/.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

import crowd4d_ros
from crowd4d_ros.axes import rotation_to_z_up, to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import VisualizationConfig
from crowd4d_ros.io.camera import write_camera_info
from crowd4d_ros.io.output import prepare_folder, replacing
from crowd4d_ros.io.results import COLUMNS, plain
from crowd4d_ros.synthetic.files import write_observations, write_truth
from crowd4d_ros.synthetic.preview import write_preview
from crowd4d_ros.synthetic.synthesize import Request, streams, synthesize
from crowd4d_ros.synthetic.truth import Activity, Truth
from crowd4d_ros.visualization.plan import write_plan
from crowd4d_ros.window import CrowdWindow, SurfaceMesh

PERSON_FRAME_BYTES = 4000
"""of both npz files, per person and frame; measured 2200."""
PICTURE_BYTES = 0.4
"""of a video or a bag per pixel and frame, generously; measured 0.18 in a bag at 1280x720."""
SCENE_BYTES = 20_000_000
"""of the terrain, the scene points and the pictures."""


def write_synthesis(
    request: Request, out: Path, *, video: bool = False, bag: bool = False
) -> tuple[Truth, CrowdWindow]:
    """Synthesize ``request`` into ``out``. Raises the errors of ``synthesize``, OutputError, and RenderError."""
    prepare_folder(out, request.people * request.frames * PERSON_FRAME_BYTES + SCENE_BYTES)
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        seconds[step] = time.perf_counter() - begin

    truth, observations = synthesize(request, timed)
    with timed("files"):
        write_truth(out / "truth.npz", truth)
        write_observations(out / "observations.npz", observations)
        write_camera_info(out / "camera_info.yaml", truth.intrinsics)
    body = BodyModel.load(request.body)
    with timed("pictures"):
        config = VisualizationConfig()
        write_preview(out / "preview.png", truth, body, config)
        write_plan(out / "plan.png", tracks_of(truth), cameras_of(truth), ground_of(truth), config)
    if video or bag:
        from crowd4d_ros.synthetic.recording import write_recording  # bags are slow to import and seldom wanted

        pixels = truth.intrinsics.width * truth.intrinsics.height * request.frames
        prepare_folder(out, int(pixels * PICTURE_BYTES * (video + bag)))
        with timed("recording"):
            rng = streams(request.seed)["recording"]
            write_recording(truth, body, out, request.config.render, rng, video=video, bag=bag)
    with replacing(out / "report.json") as path:
        path.write_text(json.dumps(plain(report(request, truth, observations, seconds)), indent=1) + "\n")
    return truth, observations


def report(request: Request, truth: Truth, observations: CrowdWindow, seconds: dict[str, float]) -> dict[str, Any]:
    """What was asked for, with what, how long it took, and what came of it."""
    seen = truth.visibility > 0
    stated = asdict(request)
    return {
        "request": {name: value for name, value in stated.items() if name != "config"},
        "config": stated["config"],
        "motions": truth.motions,
        "models": observations.models,
        "versions": {
            "crowd4d_ros": crowd4d_ros.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
            "platform": platform.platform(),
        },
        "seconds": {step: round(spent, 3) for step, spent in seconds.items()},
        "people": {
            "in_the_scene": truth.valid.sum(0),
            "seen": seen.sum(0),
            "ever_seen": seen.any(-1).sum(),
            "mean_visibility_of_seen": truth.visibility[seen].mean() if seen.any() else 0.0,
            "median_height_px": np.median(truth.boxes[seen][:, 3]) if seen.any() else 0.0,
            "share_of_time": {
                activity.name.lower(): (truth.activity[truth.valid] == activity).mean() if truth.valid.any() else 0.0
                for activity in Activity
            },
        },
        "observations": {
            "tracks": observations.num_people,
            "observed": observations.observed.sum(0),
            "bridged": (observations.valid & ~observations.observed).sum(0),
            "scene_points": len(observations.scene.points),
        },
    }


def tracks_of(truth: Truth) -> NDArray[np.void]:
    """The truth as the rows of a tracks.csv (``io.results.COLUMNS``), z up: who is in the scene."""
    person, frame = np.nonzero(truth.valid)
    whole = ("frame", "stamp", "track_id")
    rows = np.zeros(len(person), [(name, np.int64 if name in whole else np.float64) for name in COLUMNS])
    rows["frame"], rows["stamp"], rows["track_id"] = frame, truth.stamps[frame], truth.track_ids[person]
    pelvis, foot = (to_z_up(points[person, frame]) for points in (truth.joints[..., 0, :], truth.support_point))
    for names, values in (
        (("left", "top", "width", "height"), truth.boxes[person, frame]),
        (("x", "y", "z"), pelvis),
        (("foot_x", "foot_y", "foot_z"), foot),
        (("confidence",), truth.visibility[person, frame, None]),
    ):
        for name, column in zip(names, values.T, strict=True):
            rows[name] = column
    return rows


def cameras_of(truth: Truth) -> dict[str, Any]:
    """The truth's cameras as a cameras.json has them, z up."""
    intrinsics = truth.intrinsics
    R = rotation_to_z_up(truth.cameras.R)
    return {
        "width": intrinsics.width,
        "height": intrinsics.height,
        "K": intrinsics.K,
        "distortion_model": intrinsics.distortion_model,
        "distortion": intrinsics.distortion,
        "frames": [{"R": R[t], "t": truth.cameras.t[t]} for t in range(truth.num_frames)],
    }


def ground_of(truth: Truth) -> SurfaceMesh:
    """The terrain as a surface.ply has it, z up."""
    mesh = truth.terrain.mesh()
    return SurfaceMesh(to_z_up(mesh.vertices), mesh.faces)
