"""The data that flows: frames in, observations between, a 4D crowd out.

    Frame ──initializer──► CrowdWindow ──pipeline.step──► CrowdMotion

Arrays are (N people, T frames, …). World quantities are in the core's axes: metres, x right, y up,
z backward, gravity along −y, origin at the first camera centre. Cameras map x_cam = R x + t, OpenCV
optical axes (x right, y down, z forward). Padding carries ``valid == False`` and is never read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]

NUM_KEYPOINTS = 23
"""COCO-WholeBody's first 23: the 17 of COCO, then big toe, small toe and heel, left and right."""
NUM_COCO = 17
"""The paper's 17 keypoints are the first 17 of the 23."""


@dataclass(frozen=True)
class Intrinsics:
    """One camera's calibration.

    K: (3, 3) pixels, of the images as they come.
    distortion: (D,) OpenCV order; empty means none.
    distortion_model: "plumb_bob", "rational_polynomial" or "equidistant".
    K_rectified: (3, 3) pixels, of the undistorted pixels in which all keypoints are expressed.
    source: "camera_info", or "estimated" when no calibration was given.
    """

    width: int
    height: int
    K: FloatArray
    distortion: FloatArray
    distortion_model: str
    K_rectified: FloatArray
    source: str = "camera_info"


@dataclass(frozen=True)
class Frame:
    """One image of the stream. image: (H, W, 3) uint8, BGR; stamp: nanoseconds; index: from 0 in the input."""

    image: NDArray[np.uint8]
    stamp: int
    index: int


@dataclass(frozen=True)
class FrameObservations:
    """What perception saw in one frame, after tracking: n people.

    boxes: (n, 4) left, top, width, height in pixels of the input image.
    keypoints_2d: (n, 23, 2) rectified pixels; keypoints_confidence: (n, 23) in [0, 1].
    landmarks_3d: (n, 23, 3) metres, camera axes, relative to the middle of the hips.
    masks: n run-length masks of the input image (see initialization.masks).
    """

    stamp: int
    index: int
    track_ids: IntArray
    boxes: FloatArray
    box_confidence: FloatArray
    keypoints_2d: FloatArray
    keypoints_confidence: FloatArray
    landmarks_3d: FloatArray
    masks: tuple[IntArray, ...]

    def take(self, rows: IntArray) -> FrameObservations:
        """The people in ``rows`` (m,), indices in that order."""
        return FrameObservations(
            self.stamp,
            self.index,
            track_ids=self.track_ids[rows],
            boxes=self.boxes[rows],
            box_confidence=self.box_confidence[rows],
            keypoints_2d=self.keypoints_2d[rows],
            keypoints_confidence=self.keypoints_confidence[rows],
            landmarks_3d=self.landmarks_3d[rows],
            masks=tuple(self.masks[row] for row in rows),
        )


@dataclass(frozen=True)
class Cameras:
    """A camera trajectory. R: (T, 3, 3), t: (T, 3) metres, x_cam = R x_world + t."""

    R: FloatArray
    t: FloatArray
    source: str
    """How the poses were obtained: "people", "odometry", or a scene model's name."""

    @property
    def centers(self) -> FloatArray:
        """(T, 3) metres, world: −Rᵀ t."""
        return np.asarray(-np.einsum("tji,tj->ti", self.R, self.t))

    def in_camera(self, points: FloatArray) -> FloatArray:
        """World points (N, T, 3) or (N, T, K, 3) in the axes of the camera of their frame."""
        if points.ndim == 3:
            return self.in_camera(points[:, :, None])[:, :, 0]
        return np.asarray(points @ self.R.swapaxes(-1, -2) + self.t[:, None])


@dataclass(frozen=True)
class ScenePoints:
    """Static scene points of all keyframes (the paper's S̄, Sec. 3.1), world axes, before the scale α.

    points: (P, 3); confidence: (P,) in [0, 1]; keyframe: (P,) index into the window's frames.
    """

    points: FloatArray
    confidence: FloatArray
    keyframe: IntArray


@dataclass(frozen=True)
class BodyMotion:
    """SMPL motions of N people over T frames.

    betas: (N, 10); body_pose: (N, T, 23, 3) axis-angle; global_orient: (N, T, 3) axis-angle;
    transl: (N, T, 3) metres, smplx's translation (the pelvis is J0(betas) + transl).
    """

    betas: FloatArray
    body_pose: FloatArray
    global_orient: FloatArray
    transl: FloatArray


@dataclass(frozen=True)
class CrowdWindow:
    """The paper's barred quantities (Sec. 3.1) of one window: what the initializer observed.

    stamps: (T,) int64 nanoseconds; frames: (T,) index in the input.
    is_new: (T,) settled here: no window before answered for them, and none after will.
    gravity: (3,) unit, pointing down, in the first camera's axes; gravity_covariance: (3, 3) rad².
    scale_source: what made the scene metric: "people", "odometry", "model", or "none".
    track_ids: (N,); observed: (N, T) detected in that frame; valid: (N, T) observed or bridged.
    boxes: (N, T, 4) left, top, width, height in input pixels; box_confidence: (N, T).
    keypoints_2d: (N, T, 23, 2) rectified pixels; keypoints_confidence: (N, T, 23) in [0, 1], 0 where bridged.
    landmarks_3d: (N, T, 23, 3) metres, camera axes, relative to the middle of the hips.
    masks: N·T run-length masks, person-major, an empty array where there is none.
    models: name → SHA-256 of every weight file that had a part in it.
    """

    window_id: int
    segment_id: int
    stamps: IntArray
    frames: IntArray
    is_new: BoolArray
    intrinsics: Intrinsics
    cameras: Cameras
    gravity: FloatArray
    gravity_covariance: FloatArray
    scale_source: str
    scene: ScenePoints
    track_ids: IntArray
    observed: BoolArray
    valid: BoolArray
    boxes: FloatArray
    box_confidence: FloatArray
    keypoints_2d: FloatArray
    keypoints_confidence: FloatArray
    landmarks_3d: FloatArray
    masks: tuple[IntArray, ...]
    motion: BodyMotion
    models: dict[str, str] = field(default_factory=dict)

    @property
    def num_people(self) -> int:
        return len(self.track_ids)

    @property
    def num_frames(self) -> int:
        return len(self.stamps)

    @property
    def seconds(self) -> FloatArray:
        """(T,) since the first frame."""
        return np.asarray((self.stamps - self.stamps[0]) / 1e9)


@dataclass(frozen=True)
class SurfaceMesh:
    """The Scene Interaction Surface. vertices: (V, 3) metres, world; faces: (F, 3) int32."""

    vertices: FloatArray
    faces: IntArray


@dataclass(frozen=True)
class CrowdMotion:
    """The optimised crowd of one window, metric world.

    joints: (N, T, 24, 3) metres; support_point: (N, T, 3) metres, where the person stands on the surface;
    velocity: (N, T, 3) m/s of the pelvis; confidence: (N, T) in [0, 1].
    scale: α0·α, the metric scale applied to the scene and the camera centres (already applied to ``cameras``).
    sipc: (M, 3) metres. energies: term → its value at the end of each stage that used it.
    hsip_mode: how people were put in the scene (Sec. 3.2.2): "open" by its surface, "close" where bodies hide it, or
    "none".
    """

    window_id: int
    segment_id: int
    stamps: IntArray
    frames: IntArray
    is_new: BoolArray
    intrinsics: Intrinsics
    cameras: Cameras
    scale: float
    scale_source: str
    track_ids: IntArray
    observed: BoolArray
    valid: BoolArray
    boxes: FloatArray
    motion: BodyMotion
    joints: FloatArray
    support_point: FloatArray
    velocity: FloatArray
    confidence: FloatArray
    sipc: FloatArray
    surface: SurfaceMesh
    energies: dict[str, list[float]]
    hsip_mode: str = "none"
    warnings: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=dict)
