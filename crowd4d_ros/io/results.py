"""The files a reconstruction leaves: metres, z up (REP-103), the world of the first camera.

tracks.csv    one row per person and frame with a box; header ``COLUMNS``; stamp in nanoseconds
cameras.json  K, distortion, and per frame R and t with x_cam = R x_world + t, and how they were obtained
crowd.npz     SMPL parameters of N people over all T frames, see ``CROWD``
surface.ply   the Scene Interaction Surface
report.json   versions, models, solver, timings, windows, people, warnings, camera (height, pitch, roll), calibration;
              timings are seconds of the clock, and steps run beside one another
"""

from __future__ import annotations

import dataclasses
import json
import platform
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

import crowd4d_ros
from crowd4d_ros.axes import orient_to_z_up, rotation_to_z_up, to_z_up, transl_to_z_up
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.initialization.gravity import pitch_roll
from crowd4d_ros.io.output import replacing
from crowd4d_ros.lens import project
from crowd4d_ros.repeated import counted
from crowd4d_ros.window import CrowdMotion, FloatArray, IntArray, SurfaceMesh

COLUMNS = [
    "frame",
    "stamp",
    "track_id",
    "left",
    "top",
    "width",
    "height",
    "x",
    "y",
    "z",
    "foot_x",
    "foot_y",
    "foot_z",
    "confidence",
]
"""left … height: pixels of the input image; x, y, z: the pelvis; foot: where it touches the ground."""

CROWD: dict[str, tuple[str, tuple[int, ...], str]] = {
    "valid": ("?", (), "observed or bridged; all else is zero where this is False"),
    "observed": ("?", (), "detected in that frame"),
    "boxes": (
        "<f4",
        (4,),
        "left, top, width, height, input pixels; a bridged body's is its projection",
    ),
    "betas": ("<f4", (10,), "SMPL shape"),
    "body_pose": ("<f4", (23, 3), "axis-angle, radians"),
    "global_orient": ("<f4", (3,), "axis-angle, radians"),
    "transl": ("<f4", (3,), "metres, smplx's translation: the pelvis is J0(betas) + transl"),
    "joints": ("<f4", (24, 3), "metres; joint 0 is the pelvis"),
    "support_point": ("<f4", (3,), "metres, where the person stands on the surface"),
    "velocity": ("<f4", (3,), "metres/s of the pelvis"),
    "confidence": ("<f4", (), "0 to 1"),
}
"""crowd.npz's arrays over people and frames: key → type, shape after (N, T), meaning. Beside them:
stamps (T,) int64 nanoseconds, frames (T,) numbers in the input, segment_ids (T,), scale (T,) α0·α of the
scene, track_ids (N,)."""

BOX_STRIDE = 5
"""Every fifth vertex bounds a body to a few millimetres."""


@dataclass(frozen=True)
class Results:
    """A results folder, read back. tracks: structured, with ``COLUMNS``; crowd: arrays of crowd.npz."""

    tracks: NDArray[np.void]
    cameras: dict[str, Any]
    crowd: dict[str, NDArray[Any]]
    surface: SurfaceMesh
    report: dict[str, Any]


class ResultWriter:
    """Collects the new frames of each window, and writes all files when closed. Raises OutputError."""

    def __init__(self, folder: Path, config: Config, body: BodyModel) -> None:
        self.folder, self.config, self.body = folder, config, body
        self._rows: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self._frames: list[dict[str, Any]] = []
        self._windows: list[dict[str, Any]] = []
        self._scales: list[float] = []
        self._last: CrowdMotion | None = None
        self._surface = SurfaceMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
        self._models: dict[str, str] = {}
        self._warnings: dict[str, None] = {}

    @property
    def num_frames(self) -> int:
        return len(self._frames)

    @property
    def num_people(self) -> int:
        return len(np.unique(np.concatenate(self._rows["track_id"]))) if self._rows else 0

    def add(self, motion: CrowdMotion) -> None:
        """The frames of ``motion`` that no window before had."""
        new = np.flatnonzero(motion.is_new)
        time, person = np.nonzero(motion.valid[:, new].T)
        self._add_rows(motion, person, new[time], len(self._frames) + time)
        R = rotation_to_z_up(motion.cameras.R[new])
        for row, index in enumerate(new):
            self._frames.append(
                {
                    "frame": int(motion.frames[index]),
                    "stamp": int(motion.stamps[index]),
                    "segment": motion.segment_id,
                    "R": R[row].tolist(),
                    "t": motion.cameras.t[index].tolist(),
                    "source": motion.cameras.source,
                }
            )
        self._scales += [motion.scale] * len(new)
        if len(motion.surface.vertices):
            self._surface = SurfaceMesh(to_z_up(motion.surface.vertices), motion.surface.faces)
        self._models.update(motion.models)
        self._warnings.update(dict.fromkeys(motion.warnings))
        self._windows.append(
            {
                "window": motion.window_id,
                "segment": motion.segment_id,
                "frames": [int(frame) for frame in motion.frames[[0, -1]]] if len(motion.frames) else [],
                "new_frames": len(new),
                "people": len(motion.track_ids),
                "scale": float(motion.scale),
                "scale_source": motion.scale_source,
                "hsip_mode": motion.hsip_mode,
                "energies": motion.energies,
            }
        )
        self._last = motion

    def _add_rows(self, motion: CrowdMotion, person: IntArray, frame: IntArray, position: IntArray) -> None:
        with torch.no_grad():
            betas = _tensor(motion.motion.betas, self.body)
            pelvis = self.body.pelvis(betas).cpu().numpy()
            heights = self.body.height(betas).cpu().numpy()
        boxes = motion.boxes[person, frame].astype(np.float32)
        bridged = ~motion.observed[person, frame]
        boxes[bridged] = self._projected_boxes(motion, person[bridged], frame[bridged])
        rows = {
            "position": position,
            "track_id": motion.track_ids[person],
            "height": heights[person],
            "valid": np.ones(len(person), bool),
            "observed": motion.observed[person, frame],
            "boxes": boxes,
            "betas": motion.motion.betas[person],
            "body_pose": motion.motion.body_pose[person, frame],
            "global_orient": orient_to_z_up(motion.motion.global_orient[person, frame]),
            "transl": transl_to_z_up(motion.motion.transl, pelvis)[person, frame],
            "joints": to_z_up(motion.joints[person, frame]),
            "support_point": to_z_up(motion.support_point[person, frame]),
            "velocity": to_z_up(motion.velocity[person, frame]),
            "confidence": motion.confidence[person, frame],
        }
        for name, values in rows.items():
            self._rows[name].append(values.astype(CROWD[name][0]) if name in CROWD else values)

    def _projected_boxes(self, motion: CrowdMotion, person: IntArray, frame: IntArray) -> FloatArray:
        boxes = np.full((len(person), 4), np.nan, np.float32)
        if not len(person):
            return boxes
        index = np.arange(0, len(self.body.v_template), BOX_STRIDE)
        vertices = posed_vertices(self.body, motion, person, frame, index)
        R, t = motion.cameras.R[frame], motion.cameras.t[frame]
        pixels = project(motion.intrinsics, vertices @ R.transpose(0, 2, 1) + t[:, None])
        size = np.array([motion.intrinsics.width, motion.intrinsics.height], np.float64)
        seen = np.isfinite(pixels).all(axis=(-2, -1))
        low, high = (np.clip(pixels[seen].min(axis=1), 0, size), np.clip(pixels[seen].max(axis=1), 0, size))
        inside = ((high - low) > 0).all(axis=-1, keepdims=True)
        boxes[seen] = np.where(inside, np.concatenate([low, high - low], axis=-1), np.nan)
        return boxes

    def close(self, report: dict[str, Any]) -> None:
        """Write everything. ``report``: what the windows do not say: timings, arguments, calibration."""
        rows = {name: np.concatenate(chunks) for name, chunks in self._rows.items()} if self._rows else {}
        self._write_tracks(rows)
        self._write_cameras()
        self._write_crowd(rows)
        self._write_surface()
        self._write_report(rows, report)

    def _write_tracks(self, rows: dict[str, NDArray[Any]]) -> None:
        with replacing(self.folder / "tracks.csv") as path, path.open("w", newline="") as file:
            file.write(",".join(COLUMNS) + "\n")
            if not rows:
                return
            for row in np.lexsort([rows["track_id"], rows["position"]]):
                box = rows["boxes"][row]
                if not np.isfinite(box).all():
                    continue
                frame = self._frames[rows["position"][row]]
                pixels = ",".join(f"{number:.2f}" for number in box)
                metres = ",".join(f"{number:.4f}" for number in (*rows["joints"][row, 0], *rows["support_point"][row]))
                file.write(
                    f"{frame['frame']},{frame['stamp']},{rows['track_id'][row]},{pixels},{metres},"
                    f"{rows['confidence'][row]:.3f}\n"
                )

    def _write_cameras(self) -> None:
        document: dict[str, Any] = {
            "axes": "x_cam = R x_world + t; world: metres, z up (REP-103); camera: x right, y down, z ahead",
            "frames": self._frames,
        }
        if self._last is not None:
            intrinsics = self._last.intrinsics
            document = {
                "width": intrinsics.width,
                "height": intrinsics.height,
                "K": intrinsics.K.tolist(),
                "distortion_model": intrinsics.distortion_model,
                "distortion": intrinsics.distortion.tolist(),
                "K_rectified": intrinsics.K_rectified.tolist(),
                "intrinsics_source": intrinsics.source,
                "scale_source": self._last.scale_source,
                **document,
            }
        _write_json(self.folder / "cameras.json", document)

    def _write_crowd(self, rows: dict[str, NDArray[Any]]) -> None:
        track_ids, person = (
            np.unique(rows["track_id"], return_inverse=True) if rows else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        )
        order = np.argsort(person, kind="stable")
        people = np.split(order, np.searchsorted(person[order], np.arange(1, len(track_ids)))) if len(track_ids) else []
        small = {
            "track_ids": track_ids.astype(np.int64),
            "stamps": np.array([frame["stamp"] for frame in self._frames], np.int64),
            "frames": np.array([frame["frame"] for frame in self._frames], np.int64),
            "segment_ids": np.array([frame["segment"] for frame in self._frames], np.int64),
            "scale": np.array(self._scales, np.float64),
        }
        length = len(self._frames)
        with (
            replacing(self.folder / "crowd.npz") as path,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive,
        ):
            for name, array in small.items():
                _write_member(archive, name, array.dtype.str, array.shape, [array])
            # One person at a time: dense arrays of a long recording exceed memory, and are mostly zeros.
            for name, (dtype, shape, _) in CROWD.items():
                blocks = (_scatter(rows, name, dtype, (length, *shape), each) for each in people)
                _write_member(archive, name, dtype, (len(people), length, *shape), blocks)

    def _write_surface(self) -> None:
        mesh = trimesh.Trimesh(self._surface.vertices, self._surface.faces, process=False)
        with replacing(self.folder / "surface.ply") as path:
            path.write_bytes(trimesh.exchange.ply.export_ply(mesh))

    def _write_report(self, rows: dict[str, NDArray[Any]], report: dict[str, Any]) -> None:
        document = {
            "versions": {
                "crowd4d_ros": crowd4d_ros.__version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch.__version__,
                "opencv": cv2.__version__,
                "platform": platform.platform(),
            },
            "camera": self._camera(),
            **report,
            "models": {**self._models, **report.get("models", {})},
            "solver": self.config.optimization.solver,
            "num_frames": len(self._frames),
            "people": self._people(rows),
            "windows": self._windows,
            "warnings": counted([*report.get("warnings", []), *self._warnings, *self._missing()]),
        }
        _write_json(self.folder / "report.json", document)

    def _missing(self) -> list[str]:
        if not self.num_frames:
            return ["no window could be reconstructed"]
        return [] if self.num_people else ["no people were found"]

    def _camera(self) -> dict[str, float]:
        """The first camera: metres above the ground's plane, degrees below the horizontal and clockwise."""
        if not self._frames:
            return {}
        R, t = np.array(self._frames[0]["R"]), np.array(self._frames[0]["t"])
        pitch, roll = pitch_roll(-R[:, 2])
        vertices = np.asarray(self._surface.vertices, np.float64)
        plane = np.linalg.lstsq(np.c_[vertices[:, :2], np.ones(len(vertices))], vertices[:, 2], rcond=None)[0]
        x, y, z = -R.T @ t
        height = {"height_m": float(z - plane @ [x, y, 1.0])} if len(vertices) else {}
        return {**height, "pitch_deg": pitch, "roll_deg": roll}

    def _people(self, rows: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        if not rows:
            return []
        people = []
        for track_id in np.unique(rows["track_id"]):
            mine = np.flatnonzero(rows["track_id"] == track_id)
            mine = mine[np.argsort(rows["position"][mine], kind="stable")]
            path = rows["joints"][mine, 0, :2].astype(np.float64)
            first, last = self._frames[rows["position"][mine[0]]], self._frames[rows["position"][mine[-1]]]
            stamps = np.array([self._frames[position]["stamp"] for position in rows["position"][mine]])
            together = np.diff(rows["position"][mine]) == 1  # nothing is known of the way through a gap
            seconds = float(np.diff(stamps)[together].sum()) / 1e9
            length = float(np.linalg.norm(np.diff(path, axis=0), axis=-1)[together].sum())
            people.append(
                {
                    "track_id": int(track_id),
                    "first_frame": first["frame"],
                    "last_frame": last["frame"],
                    "frames": len(mine),
                    "observed": int(rows["observed"][mine].sum()),
                    "height": float(np.median(rows["height"][mine])),
                    "path_length": length,
                    "mean_speed": length / seconds if seconds > 0 else 0.0,
                }
            )
        return people


def read_results(folder: str | Path) -> Results:
    """What ``ResultWriter`` wrote. Raises FileNotFoundError naming a missing file."""
    folder = Path(folder)
    cameras = json.loads((folder / "cameras.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    with np.load(folder / "crowd.npz", allow_pickle=False) as file:
        crowd = dict(file)
    return Results(read_tracks(folder / "tracks.csv"), cameras, crowd, read_surface(folder / "surface.ply"), report)


def read_tracks(path: str | Path) -> NDArray[np.void]:
    """tracks.csv as a structured array with the fields ``COLUMNS``."""
    whole = {"frame", "stamp", "track_id"}
    dtype = np.dtype([(name, np.int64 if name in whole else np.float64) for name in COLUMNS])
    lines = Path(path).read_text().splitlines()[1:]
    return np.array([tuple(line.split(",")) for line in lines], dtype)


def read_surface(path: str | Path) -> SurfaceMesh:
    """surface.ply, z up; it may be empty."""
    with open(path, "rb") as file:
        mesh = trimesh.exchange.ply.load_ply(file)
    vertices = np.asarray(mesh.get("vertices", np.zeros((0, 3)))).reshape(-1, 3)
    return SurfaceMesh(vertices, np.asarray(mesh.get("faces", np.zeros((0, 3)))).reshape(-1, 3).astype(np.int32))


def posed_vertices(
    body: BodyModel, motion: CrowdMotion, person: IntArray, frame: IntArray | int, index: IntArray
) -> FloatArray:
    """(n, K, 3) metres, world: vertices ``index`` (K,) of n bodies. frame: (n,), or one for all."""
    smpl = motion.motion
    with torch.no_grad():
        vertices = body.vertices(
            _tensor(smpl.betas[person], body),
            _tensor(smpl.body_pose[person, frame], body),
            _tensor(smpl.global_orient[person, frame], body),
            _tensor(smpl.transl[person, frame], body),
            index=torch.as_tensor(index, device=body.v_template.device),
        )
    return np.asarray(vertices.cpu().numpy(), np.float64)


def plain(value: Any) -> Any:
    """A value made of dataclasses, arrays and containers, as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _write_json(path: Path, document: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(document), indent=1) + "\n")


def _tensor(array: FloatArray, body: BodyModel) -> torch.Tensor:
    return torch.as_tensor(array, dtype=body.v_template.dtype, device=body.v_template.device)


def _scatter(
    rows: dict[str, NDArray[Any]], name: str, dtype: str, shape: tuple[int, ...], mine: IntArray
) -> NDArray[Any]:
    block = np.zeros(shape, dtype)
    block[rows["position"][mine]] = rows[name][mine]
    return block


def _write_member(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {
            "descr": np.dtype(dtype).str,
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for block in blocks:
            member.write(block.tobytes())
