"""window.py ↔ messages: numpy into flat fields and back, in REP-103 axes.

The message classes are given (``Types``), so the same code serves the ROS graph (rclpy's classes) and bags
without ROS (the bag library's). Nothing here imports ROS. World axes change here and nowhere else.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from crowd4d_ros import axes
from crowd4d_ros.window import (
    NUM_KEYPOINTS,
    BodyMotion,
    BoolArray,
    Cameras,
    CrowdMotion,
    CrowdWindow,
    FloatArray,
    IntArray,
    Intrinsics,
    ScenePoints,
    SurfaceMesh,
)

Types: TypeAlias = Callable[[str], Any]
"""A message's full name, "crowd4d_ros/msg/CrowdState", to its class."""

VALID, OBSERVED, OBSERVATION_HERE, MOTION_HERE = 1, 2, 4, 8
"""The bits of CrowdWindow.content, as the .msg file has them."""

_TYPECODES = {
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
_BODY_AXES: FloatArray = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""(3, 3). REP-103's body (x forward, y left, z up) to SMPL's (x left, y up, z forward)."""


class MessageError(ValueError):
    """A message or a window that cannot be converted; says why."""


# --- any message -----------------------------------------------------------------------------------


def make(types: Types, name: str, /, **fields: Any) -> Any:
    """A message of either library. Every field must be given, arrays in the field's own dtype."""
    cls = types(name)
    if not hasattr(cls, "get_fields_and_field_types"):
        return cls(**fields)
    kinds = cls.get_fields_and_field_types()
    message = cls()
    for key, content in fields.items():
        if isinstance(content, np.ndarray) and kinds[key].startswith("sequence"):
            # the generated setters take an array.array as it is, and check anything else number by number
            content = array(_TYPECODES[content.dtype.name], content.tobytes())
        setattr(message, key, content)
    return message


def make_header(types: Types, stamp: int, frame_id: str) -> Any:
    """std_msgs/Header. stamp: nanoseconds."""
    seconds, nanoseconds = divmod(int(stamp), 10**9)
    time = make(types, "builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return make(types, "std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def stamp_of(header: Any) -> int:
    """A header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def settled_stamp(part: CrowdWindow | CrowdMotion) -> int:
    """Nanoseconds: the last frame that this window settles, so that each window has a later one."""
    new = np.flatnonzero(part.is_new)
    return int(part.stamps[new[-1] if len(new) else 0])


def definitions() -> dict[str, str]:
    """This package's messages, name → definition, from the source tree or where the package is installed."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / "msg", parent / "share" / "crowd4d_ros" / "msg"):
            if (folder / "CrowdWindow.msg").exists():
                return {f"crowd4d_ros/msg/{file.stem}": file.read_text("utf-8") for file in folder.glob("*.msg")}
    raise MessageError("the package is installed without its msg/*.msg files: install crowd4d_ros again")


def bag_types(typestore: Any) -> Types:
    """The classes of a rosbags typestore, in which ours are registered."""
    from rosbags.typesys import get_types_from_msg

    found: dict[str, Any] = {}
    for name, text in definitions().items():
        found.update(get_types_from_msg(text, name))
    typestore.register(found)
    return lambda name: typestore.types[name]


def _flat(values: ArrayLike, dtype: str = "float32") -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype).ravel()


def _shaped(values: Any, *shape: int) -> NDArray[Any]:
    return np.array(values).reshape(shape)


def _quantised(values: FloatArray, what: str) -> tuple[NDArray[np.int16], float]:
    """Flat int16 and the step in which the largest value just fits: the error is at most half a step."""
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest):
        raise MessageError(f"{what} has values that are not finite")
    step = float(np.float32(largest / (np.iinfo(np.int16).max - 1))) or 1.0
    return np.rint(values / step).astype(np.int16).ravel(), step


def _make_calibration(types: Types, intrinsics: Intrinsics) -> Any:
    return make(
        types,
        "crowd4d_ros/msg/CameraCalibration",
        width=int(intrinsics.width),
        height=int(intrinsics.height),
        k=_flat(intrinsics.K, "float64"),
        distortion_model=intrinsics.distortion_model,
        distortion=_flat(intrinsics.distortion, "float64"),
        k_rectified=_flat(intrinsics.K_rectified, "float64"),
        source=intrinsics.source,
    )


def _read_calibration(message: Any) -> Intrinsics:
    return Intrinsics(
        width=int(message.width),
        height=int(message.height),
        K=_shaped(message.k, 3, 3),
        distortion=np.array(message.distortion),
        distortion_model=message.distortion_model,
        K_rectified=_shaped(message.k_rectified, 3, 3),
        source=message.source,
    )


def _model_lines(models: dict[str, str]) -> list[str]:
    return [f"{name} {digest}" for name, digest in models.items()]


def _read_models(lines: Sequence[str]) -> dict[str, str]:
    return {name: digest for name, _, digest in (line.rpartition(" ") for line in lines)}


# --- CrowdWindow -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """Values per (person, frame). keys: (K, 2) track id and stamp; columns: name → (K, …)."""

    keys: IntArray
    columns: dict[str, NDArray[Any]]

    def find(self, keys: IntArray) -> IntArray:
        """(Q,) the place of each key (Q, 2) in this table, −1 where it is not."""
        _, number = np.unique(np.concatenate([self.keys, keys]), axis=0, return_inverse=True)
        mine, wanted = np.split(number.ravel(), [len(self.keys)])
        place = np.full(len(number.ravel()), -1)
        place[mine] = np.arange(len(self.keys))
        return np.asarray(place[wanted])

    def only(self, mask: BoolArray) -> _Rows:
        return _Rows(self.keys[mask], {name: column[mask] for name, column in self.columns.items()})

    def differ(self, other: _Rows) -> BoolArray:
        """(K,) rows that ``other`` lacks or has with other values. Masks go with their observation."""
        place = other.find(self.keys)
        known = np.flatnonzero(place >= 0)
        differs = place < 0
        for name, column in self.columns.items():
            if column.dtype != object:
                changed = column[known] != other.columns[name][place[known]]
                differs[known] |= changed.any(tuple(range(1, changed.ndim)))
        return differs


def _keys(mask: BoolArray, track_ids: IntArray, stamps: IntArray) -> IntArray:
    person, time = np.nonzero(mask)
    return np.stack([track_ids[person].astype(np.int64), stamps[time]], 1)


@dataclass(frozen=True)
class _Sent:
    """What the two ends of the wire both remember of a window. World quantities in the message's axes."""

    window_id: int
    segment_id: int
    observations: _Rows
    motions: _Rows

    def precedes(self, window_id: int, segment_id: int) -> bool:
        return (self.window_id + 1, self.segment_id) == (window_id, segment_id)


_OBSERVATION_COLUMNS: dict[str, tuple[int, ...]] = {
    "boxes": (4,),
    "box_confidence": (),
    "keypoints_2d": (NUM_KEYPOINTS, 2),
    "keypoints_confidence": (NUM_KEYPOINTS,),
    "landmarks_3d": (NUM_KEYPOINTS, 3),
}


class WindowEncoder:
    """CrowdWindows, in order, to messages: what the message before carried is left out."""

    def __init__(self, types: Types, world_frame: str) -> None:
        self._types = types
        self._world_frame = world_frame
        self._sent: _Sent | None = None

    def encode(self, window: CrowdWindow, rest_pelvis: FloatArray, camera_frame: str) -> Any:
        """crowd4d_ros/CrowdWindow. rest_pelvis: (N, 3) metres, J0(betas). Raises MessageError."""
        sent = _Sent(window.window_id, window.segment_id, _observation_rows(window), _motion_rows(window, rest_pelvis))
        content = (VALID * window.valid + OBSERVED * window.observed).astype(np.uint8)
        before = self._sent
        if before is not None and before.precedes(window.window_id, window.segment_id):
            seen, moved = (
                new.differ(old)
                for new, old in ((sent.observations, before.observations), (sent.motions, before.motions))
            )
        else:
            seen, moved = (np.ones(len(rows.keys), bool) for rows in (sent.observations, sent.motions))
        content[window.observed] += (OBSERVATION_HERE * seen).astype(np.uint8)
        content[window.valid] += (MOTION_HERE * moved).astype(np.uint8)
        observations, motions = sent.observations.only(seen).columns, sent.motions.only(moved).columns
        landmarks, landmarks_step = _quantised(observations["landmarks_3d"], "landmarks_3d")
        pose = np.concatenate([motions["global_orient"][:, None], motions["body_pose"]], 1)
        pose, pose_step = _quantised(pose, "the initial pose")
        pose = pose.reshape(-1, 24, 3)
        masks = observations["masks"]
        confidence = np.clip(observations["keypoints_confidence"], 0, 1) * np.iinfo(np.uint16).max
        message = make(
            self._types,
            "crowd4d_ros/msg/CrowdWindow",
            header=make_header(self._types, settled_stamp(window), self._world_frame),
            window_id=int(window.window_id),
            segment_id=int(window.segment_id),
            models=_model_lines(window.models),
            stamps=_flat(window.stamps, "int64"),
            frames=_flat(window.frames, "uint32"),
            is_new=_flat(window.is_new, "uint8"),
            calibration=_make_calibration(self._types, window.intrinsics),
            camera_r=_flat(axes.rotation_to_z_up(window.cameras.R), "float64"),
            camera_t=_flat(window.cameras.t, "float64"),
            camera_source=window.cameras.source,
            camera_frame_id=camera_frame,
            gravity=_flat(window.gravity, "float64"),
            gravity_covariance=_flat(window.gravity_covariance, "float64"),
            scale_source=window.scale_source,
            scene_points=_flat(axes.to_z_up(window.scene.points)),
            scene_confidence=_flat(window.scene.confidence),
            scene_keyframe=_flat(window.scene.keyframe, "uint32"),
            track_ids=_flat(window.track_ids, "int32"),
            content=content.ravel(),
            betas=_flat(window.motion.betas),
            rest_pelvis=_flat(rest_pelvis),
            boxes=_flat(observations["boxes"]),
            box_confidence=_flat(observations["box_confidence"]),
            keypoints_2d=_flat(observations["keypoints_2d"]),
            keypoints_confidence=_flat(np.rint(confidence), "uint16"),
            landmarks_3d=landmarks,
            landmarks_step=landmarks_step,
            mask_lengths=np.array([len(mask) for mask in masks], np.uint32),
            masks=_flat(np.concatenate([*masks, np.zeros(0, np.uint32)]), "uint32"),
            transl=_flat(motions["transl"]),
            global_orient=pose[:, 0].ravel(),
            body_pose=pose[:, 1:].ravel(),
            pose_step=pose_step,
        )
        self._sent = sent
        return message


def _observation_rows(window: CrowdWindow) -> _Rows:
    columns = {name: np.asarray(getattr(window, name)[window.observed], np.float32) for name in _OBSERVATION_COLUMNS}
    rows = np.flatnonzero(window.observed)
    columns["masks"] = _objects([window.masks[row] for row in rows])
    return _Rows(_keys(window.observed, window.track_ids, window.stamps), columns)


def _motion_rows(window: CrowdWindow, rest_pelvis: FloatArray) -> _Rows:
    motion, valid = window.motion, window.valid
    transl = axes.transl_to_z_up(np.asarray(motion.transl, np.float64), rest_pelvis)[valid]
    orient = axes.orient_to_z_up(np.asarray(motion.global_orient, np.float64)[valid])
    columns = {"transl": transl, "global_orient": orient, "body_pose": np.asarray(motion.body_pose)[valid]}
    return _Rows(_keys(valid, window.track_ids, window.stamps), columns)


def _objects(items: Sequence[IntArray]) -> NDArray[Any]:
    """(K,) of arrays, which numpy would stack if they were all of one length."""
    objects = np.empty(len(items), object)
    for place, item in enumerate(items):
        objects[place] = item
    return objects


class WindowDecoder:
    """Messages, in order, to CrowdWindows.

    Where a message was missed, the window is cut to the frames after the last one that leans on it.
    """

    def __init__(self) -> None:
        self._sent: _Sent | None = None

    def decode(self, message: Any) -> CrowdWindow:
        """The window of one message. Raises MessageError where its arrays do not fit together, or time goes back."""
        try:
            return self._decode(message)
        except (ValueError, IndexError) as error:
            raise MessageError(f"window {message.window_id} of segment {message.segment_id}: {error}") from error

    def _decode(self, message: Any) -> CrowdWindow:
        stamps, track_ids = np.array(message.stamps), np.array(message.track_ids, np.int64)
        people, length, points = len(track_ids), len(stamps), len(message.scene_confidence)
        if (stamps[1:] <= stamps[:-1]).any():
            raise ValueError("its stamps do not increase")
        content = _shaped(message.content, people, length)
        valid, observed = (content & VALID) > 0, (content & OBSERVED) > 0
        before = self._sent
        if before is not None and not before.precedes(message.window_id, message.segment_id):
            before = None
        observations, seen = _merged(
            _keys(observed, track_ids, stamps),
            (content[observed] & OBSERVATION_HERE) > 0,
            _read_observations(message),
            None if before is None else before.observations,
        )
        motions, moved = _merged(
            _keys(valid, track_ids, stamps),
            (content[valid] & MOTION_HERE) > 0,
            _read_motions(message),
            None if before is None else before.motions,
        )
        self._sent = _Sent(
            int(message.window_id), int(message.segment_id), observations.only(seen), motions.only(moved)
        )
        lost = np.concatenate([np.nonzero(observed)[1][~seen], np.nonzero(valid)[1][~moved]])
        start = int(lost.max(initial=-1)) + 1
        if start == length:
            raise MessageError("every frame leans on the window before it, which did not arrive")
        rest_pelvis = _shaped(message.rest_pelvis, people, 3)
        dense = {name: _scatter(observed, column) for name, column in observations.columns.items()}
        motion = {name: _scatter(valid, column) for name, column in motions.columns.items()}
        keep = valid[:, start:].any(1) | observed[:, start:].any(1)
        part = np.ix_(keep, np.arange(length) >= start)
        R = axes.rotation_to_y_up(_shaped(message.camera_r, length, 3, 3))
        orient = axes.orient_to_y_up(motion["global_orient"][part])
        return CrowdWindow(
            window_id=int(message.window_id),
            segment_id=int(message.segment_id),
            stamps=stamps[start:],
            frames=_shaped(message.frames, length).astype(np.int64)[start:],
            is_new=_shaped(message.is_new, length).astype(bool)[start:],
            intrinsics=_read_calibration(message.calibration),
            cameras=Cameras(R[start:], _shaped(message.camera_t, length, 3)[start:], message.camera_source),
            gravity=np.array(message.gravity),
            gravity_covariance=_shaped(message.gravity_covariance, 3, 3),
            scale_source=message.scale_source,
            scene=ScenePoints(
                points=axes.to_y_up(_shaped(message.scene_points, points, 3)),
                confidence=np.array(message.scene_confidence),
                keyframe=np.maximum(_shaped(message.scene_keyframe, points).astype(np.int64) - start, 0),
            ),
            track_ids=track_ids[keep],
            observed=observed[part],
            valid=valid[part],
            boxes=dense["boxes"][part],
            box_confidence=dense["box_confidence"][part],
            keypoints_2d=dense["keypoints_2d"][part],
            keypoints_confidence=dense["keypoints_confidence"][part],
            landmarks_3d=dense["landmarks_3d"][part],
            masks=tuple(_NO_MASK if mask is None else mask for mask in dense["masks"][part].ravel()),
            motion=BodyMotion(
                betas=_shaped(message.betas, people, 10)[keep],
                body_pose=motion["body_pose"][part],
                global_orient=orient.astype(np.float32),
                transl=axes.transl_to_y_up(motion["transl"][part], rest_pelvis[keep]).astype(np.float32)
                * valid[part][..., None],
            ),
            models=_read_models(message.models),
        )


_NO_MASK: IntArray = np.zeros(0, np.uint32)


def _read_observations(message: Any) -> dict[str, NDArray[Any]]:
    columns = {
        name: np.array(getattr(message, name)).reshape(-1, *shape) for name, shape in _OBSERVATION_COLUMNS.items()
    }
    columns["keypoints_confidence"] = (columns["keypoints_confidence"] / np.iinfo(np.uint16).max).astype(np.float32)
    columns["landmarks_3d"] = columns["landmarks_3d"] * np.float32(message.landmarks_step)
    ends = np.cumsum(np.array(message.mask_lengths, np.int64))
    columns["masks"] = _objects(np.split(np.array(message.masks), ends)[:-1])
    return columns


def _read_motions(message: Any) -> dict[str, NDArray[Any]]:
    step = np.float32(message.pose_step)
    return {
        "transl": _shaped(message.transl, -1, 3),
        "global_orient": _shaped(message.global_orient, -1, 3) * step,
        "body_pose": _shaped(message.body_pose, -1, 23, 3) * step,
    }


def _merged(
    keys: IntArray, here: BoolArray, columns: dict[str, NDArray[Any]], before: _Rows | None
) -> tuple[_Rows, BoolArray]:
    """All rows of a window, from this message and the one before, and which of them are known, (K,)."""
    known = here.copy()
    place = np.full(len(keys), -1)
    if before is not None:
        place[~here] = before.find(keys[~here])
        known |= place >= 0
    merged = {}
    for name, carried in columns.items():
        column = np.zeros((len(keys), *carried.shape[1:]), carried.dtype)
        column[here] = carried
        if before is not None:
            column[place >= 0] = before.columns[name][place[place >= 0]]
        merged[name] = column
    return _Rows(keys, merged), known


def _scatter(mask: BoolArray, column: NDArray[Any]) -> NDArray[Any]:
    """Rows (K, …) back into (N, T, …); zeros elsewhere."""
    fill = None if column.dtype == object else 0
    dense = np.full((*mask.shape, *column.shape[1:]), fill, column.dtype)
    dense[mask] = column
    return dense


# --- CrowdState ------------------------------------------------------------------------------------


def states(
    motion: CrowdMotion, rest_pelvis: FloatArray, types: Types, world_frame: str, camera_frame: str
) -> Iterator[Any]:
    """crowd4d_ros/CrowdState of every new frame of a window. rest_pelvis: (N, 3) metres, J0(betas)."""
    body = motion.motion
    orient = axes.orient_to_z_up(np.asarray(body.global_orient, np.float64))
    transl = axes.transl_to_z_up(np.asarray(body.transl, np.float64), rest_pelvis)
    joints, support = axes.to_z_up(motion.joints), axes.to_z_up(motion.support_point)
    velocity, R = axes.to_z_up(motion.velocity), axes.rotation_to_z_up(motion.cameras.R)
    calibration = _make_calibration(types, motion.intrinsics)
    new = np.flatnonzero(motion.is_new)
    for place, t in enumerate(new):
        here = motion.valid[:, t]
        last = place == len(new) - 1
        yield make(
            types,
            "crowd4d_ros/msg/CrowdState",
            header=make_header(types, motion.stamps[t], world_frame),
            frame=int(motion.frames[t]),
            window_id=int(motion.window_id),
            segment_id=int(motion.segment_id),
            window_frame=place,
            window_frames=len(new),
            calibration=calibration,
            camera_r=_flat(R[t], "float64"),
            camera_t=_flat(motion.cameras.t[t], "float64"),
            camera_source=motion.cameras.source,
            camera_frame_id=camera_frame,
            scale=float(motion.scale),
            scale_source=motion.scale_source,
            track_ids=_flat(motion.track_ids[here], "int32"),
            observed=_flat(motion.observed[here, t], "uint8"),
            boxes=_flat(motion.boxes[here, t]),
            confidence=_flat(motion.confidence[here, t]),
            betas=_flat(body.betas[here]),
            global_orient=_flat(orient[here, t]),
            body_pose=_flat(body.body_pose[here, t]),
            transl=_flat(transl[here, t]),
            rest_pelvis=_flat(rest_pelvis[here]),
            joints=_flat(joints[here, t]),
            support_point=_flat(support[here, t]),
            velocity=_flat(velocity[here, t]),
            models=_model_lines(motion.models) if last else [],
            hsip_mode=motion.hsip_mode,
            warnings=list(motion.warnings) if last else [],
            energy_terms=[name for name, values in motion.energies.items() for _ in values] if last else [],
            energies=_flat([x for values in motion.energies.values() for x in values] if last else [], "float64"),
        )


def read_states(
    messages: Sequence[Any], sipc: FloatArray | None = None, surface: SurfaceMesh | None = None
) -> CrowdMotion:
    """The motion of successive frames of one window, all of them new. sipc, surface: in the core's axes.

    Raises MessageError where a message's arrays do not fit together.
    """
    try:
        return _read_states(messages, sipc, surface)
    except (ValueError, IndexError) as error:
        raise MessageError(f"the state of frame {messages[-1].frame}: {error}") from error


def _read_states(messages: Sequence[Any], sipc: FloatArray | None, surface: SurfaceMesh | None) -> CrowdMotion:
    last = messages[-1]
    counts = [len(m.track_ids) for m in messages]
    ids = np.concatenate([np.array(m.track_ids, np.int64) for m in messages])
    track_ids, first, person = np.unique(ids, return_index=True, return_inverse=True)
    time = np.repeat(np.arange(len(messages)), counts)
    valid = np.zeros((len(track_ids), len(messages)), bool)
    valid[person, time] = True
    order = np.lexsort((time, person))

    def rows(name: str, *shape: int) -> NDArray[Any]:
        return np.concatenate([np.array(getattr(m, name)).reshape(-1, *shape) for m in messages])

    def dense(name: str, *shape: int) -> NDArray[Any]:
        return _scatter(valid, rows(name, *shape)[order])

    rest_pelvis = rows("rest_pelvis", 3)[first]
    transl = axes.transl_to_y_up(dense("transl", 3), rest_pelvis) * valid[..., None]
    energies: dict[str, list[float]] = {}
    for name, energy in zip(last.energy_terms, last.energies, strict=True):
        energies.setdefault(name, []).append(float(energy))
    return CrowdMotion(
        window_id=int(last.window_id),
        segment_id=int(last.segment_id),
        stamps=np.array([stamp_of(m.header) for m in messages], np.int64),
        frames=np.array([m.frame for m in messages], np.int64),
        is_new=np.ones(len(messages), bool),
        intrinsics=_read_calibration(last.calibration),
        cameras=Cameras(
            R=axes.rotation_to_y_up(np.stack([_shaped(m.camera_r, 3, 3) for m in messages])),
            t=np.stack([np.array(m.camera_t) for m in messages]),
            source=last.camera_source,
        ),
        scale=float(last.scale),
        scale_source=last.scale_source,
        track_ids=track_ids,
        observed=dense("observed") > 0,
        valid=valid,
        boxes=dense("boxes", 4),
        motion=BodyMotion(
            betas=rows("betas", 10)[first],
            body_pose=dense("body_pose", 23, 3),
            global_orient=axes.orient_to_y_up(dense("global_orient", 3)).astype(np.float32),
            transl=transl.astype(np.float32),
        ),
        joints=axes.to_y_up(dense("joints", 24, 3)),
        support_point=axes.to_y_up(dense("support_point", 3)),
        velocity=axes.to_y_up(dense("velocity", 3)),
        confidence=dense("confidence"),
        sipc=np.zeros((0, 3), np.float32) if sipc is None else sipc,
        surface=SurfaceMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)) if surface is None else surface,
        energies=energies,
        hsip_mode=last.hsip_mode,
        warnings=tuple(last.warnings),
        models=_read_models(last.models),
    )


# --- surface, transforms, terrain ------------------------------------------------------------------


def make_surface(types: Types, motion: CrowdMotion, world_frame: str) -> Any:
    """crowd4d_ros/SurfaceMesh of a window."""
    return make(
        types,
        "crowd4d_ros/msg/SurfaceMesh",
        header=make_header(types, settled_stamp(motion), world_frame),
        window_id=int(motion.window_id),
        segment_id=int(motion.segment_id),
        vertices=_flat(axes.to_z_up(motion.surface.vertices)),
        faces=_flat(motion.surface.faces, "uint32"),
    )


def read_surface(message: Any) -> SurfaceMesh:
    """The surface in the core's axes. Raises MessageError where its faces and vertices do not fit together."""
    try:
        vertices, faces = _shaped(message.vertices, -1, 3), _shaped(message.faces, -1, 3)
    except ValueError as error:
        raise MessageError(f"the surface of window {message.window_id}: {error}") from error
    if faces.size and faces.max() >= len(vertices):
        raise MessageError(f"the surface of window {message.window_id}: a face names a vertex that there is not")
    return SurfaceMesh(axes.to_y_up(vertices), faces.astype(np.int32))


def camera_pose(state: Any) -> tuple[FloatArray, FloatArray]:
    """(3, 3) and (3,): the camera's optical axes and centre in the world (z up), as TF wants it."""
    R = _shaped(state.camera_r, 3, 3)
    return R.T, -R.T @ np.array(state.camera_t)


def person_poses(state: Any) -> tuple[FloatArray, FloatArray]:
    """(n, 3, 3), (n, 3): REP-103 bodies' axes (x forward, y left, z up) and pelvises, in the world (z up)."""
    orient = np.array(state.global_orient, np.float64).reshape(-1, 3)
    turns = Rotation.from_rotvec(orient).as_matrix() if len(orient) else np.zeros((0, 3, 3))
    return turns @ _BODY_AXES, np.array(state.joints, np.float64).reshape(-1, 24, 3)[:, 0]


def terrain_grid(surface: Any, cell: float, steepest: float) -> tuple[NDArray[np.int8], FloatArray, float]:
    """A surface message as nav_msgs/OccupancyGrid wants it: walkable 0, an obstacle 100, unknown −1.

    Returns data (rows along y, columns along x), its lower corner (2,) and its mean height, metres. A cell is
    an obstacle if any of it is steeper than ``steepest`` rad.
    """
    vertices = np.array(surface.vertices, np.float64).reshape(-1, 3)
    if not len(vertices):
        return np.zeros((0, 0), np.int8), np.zeros(2), 0.0
    corners = vertices[np.array(surface.faces, np.int64).reshape(-1, 3)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=-1)
    steep = np.abs(normals[:, 2]) < np.cos(steepest) * length
    origin = np.floor(vertices[:, :2].min(0) / cell) * cell
    longest = np.abs(corners - np.roll(corners, 1, axis=1))[..., :2].max()
    points = _lattice(int(np.ceil(longest / cell)) + 1) @ corners[..., :2]
    columns, rows = np.moveaxis(((points - origin) / cell).astype(int), -1, 0)
    grid = np.full((rows.max() + 1, columns.max() + 1), -1, np.int8)
    np.maximum.at(grid, (rows, columns), np.where(steep, 100, 0).astype(np.int8)[:, None])
    return grid, origin, float(vertices[:, 2].mean())


def _lattice(steps: int) -> FloatArray:
    """(L, 3) weights of points strictly inside a triangle, ``steps`` to a side, evenly spaced."""
    i, j = np.indices((steps, steps)).reshape(2, -1)
    inside = i + j < steps
    a, b = (np.stack([i, j])[:, inside] + 1 / 3) / steps
    return np.stack([a, b, 1 - a - b], -1)
