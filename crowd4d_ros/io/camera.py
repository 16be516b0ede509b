"""Camera calibration: ROS camera_info files in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike

from crowd4d_ros.io.output import replacing
from crowd4d_ros.window import FloatArray, Intrinsics

COEFFICIENTS = {
    "plumb_bob": (0, 4, 5, 8, 12, 14),
    "rational_polynomial": (0, 4, 5, 8, 12, 14),
    "equidistant": (0, 4),
}
"""Distortion model → how many coefficients OpenCV knows of it."""
ALIASES = {"": "plumb_bob", "none": "plumb_bob", "radtan": "plumb_bob", "fisheye": "equidistant"}
"""What drivers also call the same models."""
TYPICAL_FOCAL = 1.2
"""Focal length over the larger image side where nobody gave one: 45° wide, between a phone and a webcam."""
FOCAL_AGREEMENT = 4.0
"""P's focal length is believed within this factor of K's; uncalibrated drivers publish zeros or ones."""


class CameraInfoError(ValueError):
    """A calibration that cannot be used; the message says which and what to do."""


class UncalibratedError(CameraInfoError):
    """A CameraInfo whose K is zero, as drivers publish it for a camera that nobody has calibrated."""


def read_camera_info(path: str | Path) -> Intrinsics:
    """Intrinsics of a ROS camera_info YAML file, as camera_calibration or ``ros2 topic echo`` writes it.

    Raises CameraInfoError for a missing file, one that is no such YAML, and what ``intrinsics_from`` refuses.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise CameraInfoError(f"no such camera info file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CameraInfoError(f"cannot read the camera info file {path}: {error}") from error
    except yaml.YAMLError as error:
        raise CameraInfoError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise CameraInfoError(f"{path} is not a camera info file: it needs image_width, image_height, camera_matrix")
    try:
        return intrinsics_from(
            _first(document, "image_width", "width"),
            _first(document, "image_height", "height"),
            _matrix(_first(document, "camera_matrix", "k", "K")),
            _matrix(_first(document, "distortion_coefficients", "d", "D", default=[])),
            _first(document, "distortion_model", "camera_model", default=""),
            _matrix(_first(document, "projection_matrix", "p", "P", default=None)),
        )
    except CameraInfoError as error:
        raise CameraInfoError(f"{path}: {error}") from None


def _first(document: dict[str, Any], *names: str, default: Any = CameraInfoError) -> Any:
    for name in names:
        if name in document:
            return document[name]
    if default is CameraInfoError:
        raise CameraInfoError(f"it has no '{names[0]}'; see camera_calibration for the format")
    return default


def _matrix(entry: Any) -> Any:
    return entry.get("data") if isinstance(entry, dict) else entry


def intrinsics_from(
    width: int, height: int, K: ArrayLike, D: ArrayLike, model: str, P: ArrayLike | None = None
) -> Intrinsics:
    """The fields of a CameraInfo, checked. K: 9 numbers; D: OpenCV order; P: 12 numbers, used where sensible.

    Raises CameraInfoError.
    """
    try:
        matrix = np.asarray(K, np.float64).reshape(3, 3)
        distortion = np.asarray(D if D is not None else [], np.float64).ravel()
        projection = None if P is None else np.asarray(P, np.float64).reshape(3, 4)
        width, height = int(width), int(height)
    except (TypeError, ValueError, OverflowError) as error:
        raise CameraInfoError(f"K needs 9 numbers, P 12, width and height one each: {error}") from None
    if width <= 0 or height <= 0:
        raise CameraInfoError(f"the image size is {width}x{height}: set image_width and image_height")
    if not matrix.any():
        raise UncalibratedError(
            "K is zero, the camera is not calibrated: calibrate it (camera_calibration), "
            "or give no calibration and the focal length is estimated"
        )
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or matrix[2, 2] != 1:
        raise CameraInfoError(f"K is not a camera matrix [fx 0 cx; 0 fy cy; 0 0 1]: {matrix.ravel().tolist()}")
    model = ALIASES.get(str(model or ""), str(model))
    if not distortion.any():
        distortion = np.zeros(0)
        model = model if model in COEFFICIENTS else "plumb_bob"
    if model not in COEFFICIENTS:
        raise CameraInfoError(f"distortion model '{model}' is not supported; use one of {', '.join(COEFFICIENTS)}")
    if len(distortion) not in COEFFICIENTS[model] or not np.isfinite(distortion).all():
        raise CameraInfoError(f"{model} takes {COEFFICIENTS[model][1:]} coefficients, not {distortion.tolist()}")
    rectified = matrix if projection is None or not _is_sensible(projection, matrix, width, height) else projection
    return Intrinsics(width, height, matrix, distortion, model, rectified[:, :3].copy())


def _is_sensible(P: FloatArray, K: FloatArray, width: int, height: int) -> bool:
    focal, center = P[[0, 1], [0, 1]], P[:2, 2]
    agrees = (focal * FOCAL_AGREEMENT > K[[0, 1], [0, 1]]) & (focal < FOCAL_AGREEMENT * K[[0, 1], [0, 1]])
    return bool(np.isfinite(P).all() and agrees.all() and (center > 0).all() and (center < [width, height]).all())


def default_intrinsics(width: int, height: int) -> Intrinsics:
    """A guess for an uncalibrated camera, marked "estimated": people will tell its focal length better."""
    focal = TYPICAL_FOCAL * max(width, height)
    K = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Intrinsics(width, height, K, np.zeros(0), "plumb_bob", K.copy(), source="estimated")


def check_size(intrinsics: Intrinsics, width: int, height: int) -> None:
    """Raise CameraInfoError when the calibration is of another image size."""
    if (intrinsics.width, intrinsics.height) != (width, height):
        raise CameraInfoError(
            f"the calibration is for {intrinsics.width}x{intrinsics.height}, images are {width}x{height}: "
            "give the calibration of this size, or none and the focal length is estimated"
        )


def write_camera_info(path: str | Path, intrinsics: Intrinsics, name: str = "camera") -> None:
    """A camera_info YAML file that ``read_camera_info`` and ROS's camera_info_manager read."""
    K_rectified = intrinsics.K_rectified
    document = {
        "image_width": intrinsics.width,
        "image_height": intrinsics.height,
        "camera_name": name,
        "camera_matrix": _entry(intrinsics.K),
        "distortion_model": intrinsics.distortion_model,
        "distortion_coefficients": _entry(intrinsics.distortion[None]),
        "rectification_matrix": _entry(np.eye(3)),
        "projection_matrix": _entry(np.concatenate([K_rectified, np.zeros((3, 1))], axis=1)),
    }
    with replacing(Path(path)) as temporary:
        temporary.write_text(yaml.safe_dump(document, sort_keys=False))


def _entry(matrix: FloatArray) -> dict[str, Any]:
    rows, cols = matrix.shape
    return {"rows": rows, "cols": cols, "data": [float(number) for number in matrix.ravel()]}
