"""The labels of VirtualCrowd (DyCrowd, TPAMI 2025), as far as they are publicly described.

The data set is gated (CC BY-NC 4.0, access after review). It has eight sequences: scene1 … scene4 and their _view2.
Of a scene's label file, <scene>.json, public descriptions say: ``"schema_version": "virtualcrowd_label_json_v1"``;
frames in order, each with instances; of each instance track_id (positive), bbox_xyxy, joints_2d_smpl54 (54, 3)
pixels and a visibility, joints_3d_smpl54 (54, 3) and joints_3d_h36m17 (17, 3) metres in the camera's axes. SMPL-54 is
SMPL's 24 joints, smplx's 21 landmarks of the skin, and 9 regressed joints.

Not described, and so assumed: that the frames are a list or a mapping under "frames" (else the document itself is it),
and the instances a list, or one under "instances". The camera's matrix is not read but recovered from the instances,
whose 2D joints are their 3D joints' projection. Not tried on the real files. What they do not have is unknown here:
terrain, lowest vertices. Shown joints' share is the visibility.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from crowd4d_ros.evaluation.crowds import CrowdError, GroundTruth, crowd_of_rows
from crowd4d_ros.window import NUM_COCO, Cameras, FloatArray, Intrinsics

SCHEMA = "virtualcrowd_label_json_v1"
SMPL_54 = 54
COCO_OF_54 = (24, 26, 25, 28, 27, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
"""COCO's 17 keypoints; smplx orders the landmarks of the face nose, right eye, left eye, right ear, left ear."""
FPS = 30.0
"""frames/s, assumed: no metric of author_native uses it, and standard only for ACCEL's unit."""
CAMERA_FROM_WORLD = np.diag([1.0, -1.0, -1.0])
"""The core's world (y up, z backward) to the camera's axes: labels are in these, gravity is not known."""


def read_virtual_crowd(path: str | Path) -> GroundTruth:
    """A scene's labels. Raises CrowdError."""
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CrowdError(f"cannot read the labels {path}: {error}") from None
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise CrowdError(f"{path} is not a VirtualCrowd label file: schema_version is {schema!r}, not '{SCHEMA}'")
    try:
        frames = [_instances(frame) for frame in _frames(document)]
        return _ground_truth(path.stem, frames)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CrowdError(f"{path} is not laid out as publicly described: {error!r}; see virtual_crowd.py") from None


def _frames(document: dict[str, Any]) -> list[Any]:
    frames = document["frames"] if "frames" in document else {k: v for k, v in document.items() if k.isdigit()}
    return list(frames.values()) if isinstance(frames, dict) else list(frames)


def _instances(frame: Any) -> list[dict[str, Any]]:
    return list(frame["instances"] if isinstance(frame, dict) else frame)


def _ground_truth(name: str, frames: list[list[dict[str, Any]]]) -> GroundTruth:
    rows = [(t, instance) for t, instances in enumerate(frames) for instance in instances]
    if not rows:
        raise ValueError("there is no instance in any frame")
    times = np.array([t for t, _ in rows])
    track_ids, person = np.unique([int(instance["track_id"]) for _, instance in rows], return_inverse=True)
    joints = _stacked(rows, "joints_3d_smpl54", (SMPL_54, 3))
    pixels = _stacked(rows, "joints_2d_smpl54", (SMPL_54, 3))
    corners = _stacked(rows, "bbox_xyxy", (4,))
    world = joints @ CAMERA_FROM_WORLD  # R is its own inverse
    coco = list(COCO_OF_54)
    K = camera_matrix(joints.reshape(-1, 3), pixels[..., :2].reshape(-1, 2))
    width, height = np.ceil(corners[:, 2:].max(0)).astype(int)
    crowd = crowd_of_rows(
        name=f"VirtualCrowd {name}",
        stamps=np.round(np.arange(len(frames)) * 1e9 / FPS).astype(np.int64),
        track_ids=track_ids,
        person=person,
        frame=times,
        points={
            "joints": world[:, :24],
            "keypoints": world[:, coco],
            "boxes": np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], -1),
        },
        intrinsics=Intrinsics(int(width), int(height), K, np.zeros(0), "plumb_bob", K, source="labels"),
        cameras=Cameras(np.tile(CAMERA_FROM_WORLD, (len(frames), 1, 1)), np.zeros((len(frames), 3)), "labels"),
        is_border=np.zeros(len(frames), bool),
    )
    visibility = np.zeros(crowd.valid.shape)
    visibility[person, times] = (pixels[:, coco, 2] > 0).sum(-1) / NUM_COCO
    return GroundTruth(crowd, visibility, None)


def _stacked(rows: list[tuple[int, dict[str, Any]]], key: str, shape: tuple[int, ...]) -> FloatArray:
    values = np.array([instance[key] for _, instance in rows], np.float64)
    if values.shape[1:] != shape:
        raise ValueError(f"{key} has the shape {values.shape[1:]}, not {shape}")
    return values


def camera_matrix(points: FloatArray, pixels: FloatArray) -> FloatArray:
    """K (3, 3) without skew, least squares: points (n, 3) in the camera's axes and their pixels (n, 2)."""
    ahead = points[:, 2] > 0
    slopes = points[ahead, :2] / points[ahead, 2:]
    K = np.eye(3)
    for axis in (0, 1):
        design = np.stack([slopes[:, axis], np.ones(len(slopes))], -1)
        (K[axis, axis], K[axis, 2]), *_ = np.linalg.lstsq(design, pixels[ahead, axis], rcond=None)
    return K
