"""Sec. 3.1: a stream of frames becomes overlapping windows of observations.

Perception runs frame by frame. Gravity, camera height and ground are estimated once a segment, from
the first frames with people (or from all of it, offline), and then stay: a world that is refined while
people walk in it would make them jump. Until somebody comes they are guesses. A window leaves as soon as its
last frame has been seen; its last ``window.pending`` frames wait for the next one, since only that knows how
they go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crowd4d_ros.body.keypoints import MIRROR
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.device import limit_threads
from crowd4d_ros.initialization.gravity import Calibration, calibrate, statures
from crowd4d_ros.initialization.lifting import mirrored
from crowd4d_ros.initialization.motion import Tracked, TrackState, fit_motion
from crowd4d_ros.initialization.perception import Perception
from crowd4d_ros.initialization.scene import PeopleScene, SceneModel
from crowd4d_ros.initialization.screening import cleaned, doubtful_tracks, without
from crowd4d_ros.initialization.trajectory import Ground
from crowd4d_ros.lens import rectify
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.window import (
    NUM_KEYPOINTS,
    BoolArray,
    Cameras,
    CrowdWindow,
    FloatArray,
    Frame,
    FrameObservations,
    IntArray,
    Intrinsics,
)

log = logging.getLogger(__name__)


class StreamError(ValueError):
    """A frame that cannot be used. The stream goes on without it."""


@dataclass(frozen=True)
class Tracks:
    """The observations of T frames, stacked over the N people seen in them. Shapes as in CrowdWindow."""

    track_ids: IntArray
    observed: BoolArray
    boxes: FloatArray
    box_confidence: FloatArray
    keypoints_2d: FloatArray
    keypoints_confidence: FloatArray
    landmarks_3d: FloatArray
    masks: tuple[IntArray, ...]


def stack(observations: Sequence[FrameObservations]) -> Tracks:
    """Per-frame lists of people as (N, T, …) arrays, people in the order of their track ids."""
    counts = [len(frame.track_ids) for frame in observations]
    ids = np.concatenate([frame.track_ids for frame in observations]).astype(np.int64)
    track_ids, person = np.unique(ids, return_inverse=True)
    time = np.repeat(np.arange(len(observations)), counts)
    people, length = len(track_ids), len(observations)

    def scatter(name: str, *shape: int) -> FloatArray:
        stacked = np.zeros((people, length, *shape), np.float32)
        stacked[person, time] = np.concatenate([getattr(frame, name) for frame in observations])
        return stacked

    observed = np.zeros((people, length), bool)
    observed[person, time] = True
    masks: list[IntArray] = [np.zeros(0, np.uint32)] * (people * length)
    seen = [mask for frame in observations for mask in frame.masks]
    for place, mask in zip(person * length + time, seen, strict=True):
        masks[place] = mask
    return Tracks(
        track_ids=track_ids,
        observed=observed,
        boxes=scatter("boxes", 4),
        box_confidence=scatter("box_confidence"),
        keypoints_2d=scatter("keypoints_2d", NUM_KEYPOINTS, 2),
        keypoints_confidence=scatter("keypoints_confidence", NUM_KEYPOINTS),
        landmarks_3d=scatter("landmarks_3d", NUM_KEYPOINTS, 3),
        masks=tuple(masks),
    )


def untangled(tracks: Tracks, exchanged: BoolArray) -> Tracks:
    """The tracks with left and right exchanged back where ``exchanged`` (N, T), in 3D with near and far."""
    swap = exchanged[..., None]
    return replace(
        tracks,
        keypoints_2d=np.where(swap[..., None], tracks.keypoints_2d[:, :, MIRROR], tracks.keypoints_2d),
        keypoints_confidence=np.where(swap, tracks.keypoints_confidence[:, :, MIRROR], tracks.keypoints_confidence),
        landmarks_3d=np.where(swap[..., None], mirrored(tracks.landmarks_3d), tracks.landmarks_3d),
    )


class Initializer:
    """One camera's stream in, CrowdWindows out.

    ``push`` is ``add(observe(frame))``; the two halves are public so that perception can be recorded
    and replayed. ``finish`` flushes what an ending stream left in the buffer. ``adding`` and ``ending`` are ``add`` and
    ``finish`` for who works on one window while the next is made.
    calibration: the segment's camera, None until enough has been seen; while nobody has come it is provisional.
    intrinsics: as given, or with the focal length that the calibration estimated.
    """

    calibration: Calibration | None
    intrinsics: Intrinsics
    _is_provisional: bool
    _come: int | None
    """Where in the buffer people were first seen, while the calibration waits for more of them."""
    _buffer: list[FrameObservations]
    _last_stamp: int | None
    _states: dict[int, TrackState]

    def __init__(
        self,
        config: Config,
        intrinsics: Intrinsics,
        body: BodyModel | None = None,
        scene_model: SceneModel | None = None,
    ) -> None:
        limit_threads(config.threads)
        self.config = config
        self.body = body if body is not None else BodyModel.load(config.body)
        self.scene_model = scene_model if scene_model is not None else PeopleScene(config.scene)
        self._prior = GaussianPosePrior.load()
        self._given_intrinsics = intrinsics
        self._perception: Perception | None = None
        self.segment_id = -1
        self.window_id = 0
        self._start_segment()

    @property
    def models(self) -> dict[str, str]:
        """Name → SHA-256 of every weight file that has a part in the windows."""
        return {**self.perception.models, self.body.name: self.body.sha256}

    @property
    def perception(self) -> Perception:
        """The models that look at images; made on first use, since recorded observations need none."""
        if self._perception is None:
            self._perception = Perception(self.config, self._given_intrinsics)
        return self._perception

    def push(self, frame: Frame) -> list[CrowdWindow]:
        """The windows that this frame completes. Raises StreamError, and goes on, on a frame it cannot use."""
        return self.add(self.observe(frame))

    def observe(self, frame: Frame) -> FrameObservations:
        """Perception of one frame. Raises StreamError when its size is not the camera's or its stamp comes again."""
        height, width = frame.image.shape[:2]
        expected = self._given_intrinsics
        if (width, height) != (expected.width, expected.height):
            raise StreamError(
                f"frame {frame.index} is {width}x{height} but the camera is calibrated for "
                f"{expected.width}x{expected.height}: give the calibration of this size"
            )
        self._refuse_repeated(frame.stamp, frame.index)
        if self._last_stamp is not None and frame.stamp < self._last_stamp:
            self.perception.reset()
        return self.perception.observe(frame)

    def add(self, observations: FrameObservations) -> list[CrowdWindow]:
        """The windows that one more frame's observations complete."""
        return list(self.adding(observations))

    def adding(self, observations: FrameObservations) -> Iterator[CrowdWindow]:
        """``add``, window by window: the frame that completes a recording's calibration completes dozens."""
        self._refuse_repeated(observations.stamp, observations.index)
        yield from self._follow_clock(observations.stamp, observations.index)
        self._buffer.append(cleaned(observations))
        self._last_stamp = observations.stamp
        if self._is_calibrated():
            yield from self._complete_windows()

    def finish(self) -> list[CrowdWindow]:
        """The windows of the frames still in the buffer; the last one reaches back to be of full length."""
        return list(self.ending())

    def ending(self) -> Iterator[CrowdWindow]:
        """``finish``, window by window."""
        if not self._buffer:
            return
        if self._is_provisional:
            self._calibrate()
        yield from self._complete_windows()
        if self._settled < len(self._buffer):
            start = max(0, len(self._buffer) - self.config.window.length)
            yield self._window(start, len(self._buffer), len(self._buffer))

    def reset(self) -> None:
        """Forget the stream: what follows is another segment, in a world of its own."""
        self._start_segment()
        if self._perception is not None:
            self._perception.reset()

    def _start_segment(self) -> None:
        self.segment_id += 1
        self.calibration = None
        self._is_provisional = True
        self._come = None
        self.intrinsics = self._given_intrinsics
        self._buffer = []
        self._settled = 0
        self._last_stamp = None
        self._states = {}

    def _refuse_repeated(self, stamp: int, index: int) -> None:
        if stamp == self._last_stamp:
            raise StreamError(f"frame {index} repeats the stamp {stamp} ns of the frame before: skipped")

    def _follow_clock(self, stamp: int, index: int) -> list[CrowdWindow]:
        """The windows of the segment that ends here, if the clock went back."""
        if self._last_stamp is None or stamp > self._last_stamp:
            return []
        log.warning(
            "stamps went back by %.3f s at frame %d: a new segment begins", (self._last_stamp - stamp) / 1e9, index
        )
        left = self.finish()
        self._start_segment()
        return left

    def _is_calibrated(self) -> bool:
        """Whether windows can be made: enough has been seen of people since they came, or nobody has come yet."""
        if not self._is_provisional:
            return True
        wanted = self.config.calibration.frames
        if self.calibration is None and (wanted == 0 or len(self._buffer) < wanted):
            return False
        if self._come is None:
            self._come = self._first_with_people()
        if self._come is None and self.calibration is not None:
            return True
        if len(self._buffer) - (self._come or 0) < wanted:
            return False
        self._calibrate()
        return True

    def _first_with_people(self) -> int | None:
        """Index in the buffer of the first frame with somebody in it."""
        people = without(self._buffer, doubtful_tracks(self._buffer, self.config.window).tolist())
        return next((index for index, frame in enumerate(people) if len(frame.track_ids)), None)

    def _calibrate(self) -> None:
        self.calibration = calibrate(self._buffer, self._given_intrinsics, self.config.calibration)
        self._come = self._first_with_people()
        self._is_provisional = self._come is None
        self.intrinsics = self.calibration.intrinsics
        for warning in self.calibration.warnings:
            log.warning("calibration: %s", warning)

    def _complete_windows(self) -> Iterator[CrowdWindow]:
        window = self.config.window
        while True:
            start = max(self._settled - (window.overlap - window.pending), 0)
            end = start + window.length
            if end > len(self._buffer):
                break
            yield self._window(start, end, end - window.pending)
            forget = max(0, self._settled - window.length)
            del self._buffer[:forget]
            self._settled -= forget

    def _heights(
        self, track_ids: IntArray, observations: Sequence[FrameObservations]
    ) -> dict[int, tuple[float, float]]:
        """Track id → stature and its sigma, metres: the calibration's, or what this window shows of newcomers."""
        calibration = self.calibration
        assert calibration is not None
        heights = {
            int(track): (float(height), float(sigma))
            for track, height, sigma in zip(
                calibration.track_ids, calibration.stature, calibration.stature_sigma, strict=True
            )
        }
        newcomers = np.array([track for track in track_ids.tolist() if track not in heights], np.int64)
        if len(newcomers):
            measured, sigmas = statures(newcomers, observations, calibration, self.config.calibration)
            heights.update(zip(newcomers.tolist(), zip(measured.tolist(), sigmas.tolist(), strict=True), strict=True))
        return heights

    def _believable(self, observations: Sequence[FrameObservations]) -> list[FrameObservations]:
        """The observations of people. A track that was one in a window before stays one, however hidden."""
        doubtful = set(doubtful_tracks(observations, self.config.window).tolist()) - self._states.keys()
        if doubtful:
            log.info("window %d leaves out tracks %s: no clear keypoints", self.window_id, sorted(doubtful))
        return without(observations, doubtful)

    def _remembered(self, states: dict[int, TrackState], last: int) -> dict[int, TrackState]:
        """The states up to the stamp ``last``, ns, of everybody whom the tracker may still find again."""
        oldest = last - round(self.config.tracking.memory_s * 1e9)
        return {track: state.until(last) for track, state in states.items() if (state.stamps >= oldest).any()}

    def _window(self, start: int, end: int, settled: int) -> CrowdWindow:
        """Frames ``start`` to ``end`` of the buffer; those before ``settled`` will not change any more."""
        assert self.calibration is not None
        observations = self._believable(self._buffer[start:end])
        stamps = np.array([frame.stamp for frame in observations], np.int64)
        tracks = stack(observations)
        cameras, scene = self.scene_model.reconstruct(observations, self.intrinsics, self.calibration)
        fit = fit_motion(
            Tracked(
                track_ids=tracks.track_ids,
                observed=tracks.observed,
                keypoints_2d=tracks.keypoints_2d,
                keypoints_confidence=tracks.keypoints_confidence,
                landmarks_3d=tracks.landmarks_3d,
                boxes=rectified_boxes(tracks.boxes, self.intrinsics),
                stamps=stamps,
                K=self.intrinsics.K_rectified,
                cameras=cameras,
                heights=self._heights(tracks.track_ids, observations),
                ground=ground_in_world(self.calibration, cameras),
            ),
            self.body,
            self._prior,
            self.config.motion,
            self._states,
        )
        tracks = untangled(tracks, fit.exchanged)
        last = self._buffer[settled - 1].stamp
        self._states = self._remembered(fit.states, last)
        frame = np.arange(start, end)
        window = CrowdWindow(
            window_id=self.window_id,
            segment_id=self.segment_id,
            stamps=stamps,
            frames=np.array([frame.index for frame in observations], np.int64),
            is_new=(frame >= self._settled) & (frame < settled),
            intrinsics=self.intrinsics,
            cameras=cameras,
            gravity=self.calibration.gravity,
            gravity_covariance=self.calibration.covariance,
            scale_source=cameras.source,
            scene=scene,
            track_ids=tracks.track_ids,
            observed=tracks.observed,
            valid=fit.valid,
            boxes=tracks.boxes,
            box_confidence=tracks.box_confidence,
            keypoints_2d=tracks.keypoints_2d,
            keypoints_confidence=tracks.keypoints_confidence,
            landmarks_3d=tracks.landmarks_3d,
            masks=tracks.masks,
            motion=fit.motion,
            models=self.models,
        )
        self.window_id += 1
        self._settled = settled
        return window


def rectified_boxes(boxes: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """Boxes (…, 4) of the input image in rectified pixels: the bounds of their four undistorted corners."""
    low, size = boxes[..., :2], boxes[..., 2:]
    corners = np.stack([low, low + size * [1, 0], low + size, low + size * [0, 1]], -2)
    flat = rectify(intrinsics, corners)
    return np.concatenate([flat.min(-2), np.ptp(flat, axis=-2)], -1)


def ground_in_world(calibration: Calibration, cameras: Cameras) -> Ground:
    """The calibration's ground plane, seen by the first camera, in the world."""
    R, t = cameras.R[0], cameras.t[0]
    normal = calibration.ground_normal
    return Ground(R.T @ normal, float(normal @ t + calibration.ground_distance))
