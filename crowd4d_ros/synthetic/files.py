"""The files of a synthetic crowd: truth.npz, what is, and observations.npz, what an initializer would have seen.

truth.npz is z up (REP-103: x forward, y left, z up), as reconstructions are; ``TRUTH`` lists what is in it.
observations.npz keeps a CrowdWindow in the core's axes (x right, y up, z backward), field by field under its name.
Both say so in ``axes``, hold no pickles, and are the same bytes for the same crowd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowd4d_ros.axes import (
    orient_to_y_up,
    orient_to_z_up,
    rotation_to_y_up,
    rotation_to_z_up,
    to_y_up,
    to_z_up,
    transl_to_y_up,
    transl_to_z_up,
)
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.io.arrays import pack, unpack
from crowd4d_ros.io.output import replacing
from crowd4d_ros.synthetic.truth import Structures, Truth
from crowd4d_ros.window import BodyMotion, Cameras, CrowdWindow, FloatArray, Intrinsics

Arrays = dict[str, NDArray[Any]]

TRUTH_FORMAT, OBSERVATIONS_FORMAT = "crowd4d truth 1", "crowd4d observations 1"
Z_UP = "x forward, y left, z up (REP-103), metres; x_cam = R x + t; camera: x right, y down, z ahead"
Y_UP = "x right, y up, z backward, metres; x_cam = R x + t; camera: x right, y down, z ahead"

TRUTH: dict[str, tuple[str, str, str]] = {
    "format": ("<U", "", "which file this is"),
    "axes": ("<U", "", "of the world and of the camera"),
    "scene": ("<U", "", "its name"),
    "camera": ("<U", "", "its kind"),
    "motions": ("<U", "", "gait, mocap:train or mocap:test"),
    "seed": ("<i8", "", "with the names above and the settings, it makes this crowd again"),
    "fps": ("<f8", "", "frames/s"),
    "stamps": ("<i8", "T", "nanoseconds"),
    "image_size": ("<i8", "2", "width, height in pixels"),
    "K": ("<f8", "3 3", "pixels of the images"),
    "K_rectified": ("<f8", "3 3", "pixels of the undistorted images"),
    "distortion": ("<f8", "D", "in OpenCV's order"),
    "distortion_model": ("<U", "", "plumb_bob, rational_polynomial or equidistant"),
    "intrinsics_source": ("<U", "", "who knows the calibration"),
    "camera_R": ("<f8", "T 3 3", "world to camera"),
    "camera_t": ("<f8", "T 3", "metres"),
    "camera_source": ("<U", "", "who knows the poses"),
    "terrain_heights": ("<f8", "X Z", "metres; node (i, j) is at x = corner[0] - spacing j, y = corner[1] - spacing i"),
    "terrain_corner": ("<f8", "2", "metres, x and y of node (0, 0)"),
    "terrain_spacing": ("<f8", "", "metres"),
    "terrain_kept": ("|b1", "X-1 Z-1 2", "whether the triangles of a cell, with (1, 0) and with (0, 1), are there"),
    "terrain_plane": ("<f8", "3", "a, b, c of the ground beyond the grid: z = a x + b y + c"),
    "box_base": ("<f8", "B 3", "metres, middle of the underside"),
    "box_size": ("<f8", "B 3", "metres along the box's own x, y and z, at yaw 0 the world's"),
    "box_yaw": ("<f8", "B", "radians about z, counter-clockwise from above"),
    "cylinder_base": ("<f8", "C 3", "metres, middle of the underside"),
    "cylinder_radius": ("<f8", "C", "metres"),
    "cylinder_height": ("<f8", "C", "metres"),
    "track_ids": ("<i8", "N", "from 1"),
    "group": ("<i8", "N", "equal numbers walk together"),
    "activity": ("|i1", "N T", "0 walks, 1 stands, 2 sits"),
    "valid": ("|b1", "N T", "in the scene; without meaning below where False"),
    "betas": ("<f4", "N 10", "SMPL shape"),
    "rest_pelvis": ("<f8", "N 3", "metres, J0(betas): the pelvis is at rest_pelvis + transl"),
    "body_pose": ("<f4", "N T 23 3", "axis-angle, radians"),
    "global_orient": ("<f4", "N T 3", "axis-angle, radians"),
    "transl": ("<f4", "N T 3", "metres, smplx's"),
    "joints": ("<f4", "N T 24 3", "metres"),
    "lowest": ("<f4", "N T 3", "metres, the lowest vertex"),
    "support_point": ("<f4", "N T 3", "metres, the terrain under the pelvis"),
    "keypoints_2d": ("<f4", "N T 23 2", "undistorted pixels, exact; NaN behind the camera"),
    "keypoints_visible": ("|b1", "N T 23", "in the image, hidden by nobody else and nothing"),
    "visibility": ("<f4", "N T", "share of the skin in the image that nobody else and nothing hides"),
    "boxes": ("<f4", "N T 4", "left, top, width, height in pixels of the images, cut at the border"),
}
"""truth.npz: key → type, shape, meaning; N people, T frames."""


class TruthError(ValueError):
    """A file that is no truth.npz, or a damaged one; the message says which."""


class ObservationsError(ValueError):
    """A file that is no observations.npz, or a damaged one; the message says which."""


def write_truth(path: Path, truth: Truth) -> None:
    """``truth`` as a compressed npz; people in single precision, all else as it is. Raises OutputError."""
    _write(path, {key: np.asarray(value, TRUTH[key][0]) for key, value in _truth_arrays(truth).items()})


def read_truth(path: Path) -> Truth:
    """What ``write_truth`` wrote. Raises TruthError."""
    arrays = _read(path, TRUTH_FORMAT, TruthError, "a truth.npz of `crowd4d synthesize`")
    try:
        return _truth_from(arrays)
    except KeyError as error:
        raise TruthError(f"{path} is damaged: it has no {error}") from None


def write_observations(path: Path, window: CrowdWindow) -> None:
    """``window`` as a compressed npz. Raises OutputError."""
    arrays: Arrays = {"format": np.array(OBSERVATIONS_FORMAT), "axes": np.array(Y_UP)}
    pack(window, "window", arrays)
    _write(path, arrays)


def read_observations(path: Path) -> CrowdWindow:
    """What ``write_observations`` wrote. Raises ObservationsError."""
    arrays = _read(path, OBSERVATIONS_FORMAT, ObservationsError, "an observations.npz of `crowd4d synthesize`")
    try:
        return unpack(CrowdWindow, "window", arrays)
    except KeyError as error:
        raise ObservationsError(f"{path} is damaged: it has no {error}") from None


def _truth_arrays(truth: Truth) -> dict[str, Any]:
    intrinsics, cameras, terrain, structures = truth.intrinsics, truth.cameras, truth.terrain, truth.structures
    motion = truth.motion
    rest_pelvis = (truth.joints[:, 0, 0] - motion.transl[:, 0]).astype(np.float64)
    return {
        "format": TRUTH_FORMAT,
        "axes": Z_UP,
        "scene": truth.scene,
        "camera": truth.camera,
        "motions": truth.motions,
        "seed": truth.seed,
        "fps": truth.fps,
        "stamps": truth.stamps,
        "image_size": [intrinsics.width, intrinsics.height],
        "K": intrinsics.K,
        "K_rectified": intrinsics.K_rectified,
        "distortion": intrinsics.distortion,
        "distortion_model": intrinsics.distortion_model,
        "intrinsics_source": intrinsics.source,
        "camera_R": rotation_to_z_up(cameras.R),
        "camera_t": cameras.t,
        "camera_source": cameras.source,
        "terrain_heights": terrain.heights,
        "terrain_corner": -terrain.corner[::-1],
        "terrain_spacing": terrain.spacing,
        "terrain_kept": terrain.kept,
        "terrain_plane": terrain.plane[[1, 0, 2]] * [-1.0, -1.0, 1.0],
        "box_base": to_z_up(structures.box_base),
        "box_size": structures.box_size[:, [2, 0, 1]],
        "box_yaw": structures.box_yaw,
        "cylinder_base": to_z_up(structures.cylinder_base),
        "cylinder_radius": structures.cylinder_radius,
        "cylinder_height": structures.cylinder_height,
        "track_ids": truth.track_ids,
        "group": truth.group,
        "activity": truth.activity,
        "valid": truth.valid,
        "betas": motion.betas,
        "rest_pelvis": rest_pelvis,
        "body_pose": motion.body_pose,
        "global_orient": orient_to_z_up(motion.global_orient),
        "transl": transl_to_z_up(motion.transl, rest_pelvis),
        "joints": to_z_up(truth.joints),
        "lowest": to_z_up(truth.lowest),
        "support_point": to_z_up(truth.support_point),
        "keypoints_2d": truth.keypoints_2d,
        "keypoints_visible": truth.keypoints_visible,
        "visibility": truth.visibility,
        "boxes": truth.boxes,
    }


def _truth_from(arrays: Arrays) -> Truth:
    width, height = arrays["image_size"].tolist()
    people = {name: _double(arrays[name]) for name in ("transl", "global_orient", "joints", "lowest", "support_point")}
    return Truth(
        scene=str(arrays["scene"]),
        camera=str(arrays["camera"]),
        motions=str(arrays["motions"]),
        seed=int(arrays["seed"]),
        fps=float(arrays["fps"]),
        stamps=arrays["stamps"],
        intrinsics=Intrinsics(
            width=width,
            height=height,
            K=arrays["K"],
            distortion=arrays["distortion"],
            distortion_model=str(arrays["distortion_model"]),
            K_rectified=arrays["K_rectified"],
            source=str(arrays["intrinsics_source"]),
        ),
        cameras=Cameras(rotation_to_y_up(arrays["camera_R"]), arrays["camera_t"], str(arrays["camera_source"])),
        terrain=Surface(
            heights=arrays["terrain_heights"],
            corner=-arrays["terrain_corner"][::-1],
            spacing=float(arrays["terrain_spacing"]),
            kept=arrays["terrain_kept"],
            plane=arrays["terrain_plane"][[1, 0, 2]] * [-1.0, -1.0, 1.0],
        ),
        structures=Structures(
            box_base=to_y_up(arrays["box_base"]),
            box_size=arrays["box_size"][:, [1, 2, 0]],
            box_yaw=arrays["box_yaw"],
            cylinder_base=to_y_up(arrays["cylinder_base"]),
            cylinder_radius=arrays["cylinder_radius"],
            cylinder_height=arrays["cylinder_height"],
        ),
        track_ids=arrays["track_ids"],
        group=arrays["group"],
        activity=arrays["activity"],
        valid=arrays["valid"],
        motion=BodyMotion(
            betas=_double(arrays["betas"]),
            body_pose=_double(arrays["body_pose"]),
            global_orient=orient_to_y_up(people["global_orient"]),
            transl=transl_to_y_up(people["transl"], arrays["rest_pelvis"]),
        ),
        joints=to_y_up(people["joints"]),
        lowest=to_y_up(people["lowest"]),
        support_point=to_y_up(people["support_point"]),
        keypoints_2d=_double(arrays["keypoints_2d"]),
        keypoints_visible=arrays["keypoints_visible"],
        visibility=_double(arrays["visibility"]),
        boxes=_double(arrays["boxes"]),
    )


def _double(array: NDArray[Any]) -> FloatArray:
    return np.asarray(array, np.float64)


def _write(path: Path, arrays: Arrays) -> None:
    named: dict[str, Any] = arrays
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)


def _read(path: Path, wanted: str, error: type[ValueError], what: str) -> Arrays:
    """All arrays of an npz whose format is ``wanted``. Raises ``error``."""
    if not path.is_file():
        raise error(f"there is no {path}: give {what}")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file["format"]) if "format" in getattr(file, "files", ()) else ""
            if found == wanted:
                return dict(file)
    except Exception as damage:  # NumPy, zipfile and zlib each raise their own on a damaged file
        raise error(f"{path} cannot be read, it is not {what}, or damaged: {damage}") from None
    raise error(f"{path} is not {what}" + (f" but '{found}'" if found else ""))
