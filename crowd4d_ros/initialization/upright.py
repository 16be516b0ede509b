"""People as upright rulers: what a standing or walking person of known stature looks like to a camera.

A person is a vertical stick on the ground. The middles of ankles, knees, hips, shoulders and ears sit on
it at known fractions of stature, a little shifted by walking, with known scatter. Where the person stands
is eliminated observation by observation, so that only the camera, the ground and statures remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from crowd4d_ros.config import CalibrationConfig
from crowd4d_ros.window import BoolArray, FloatArray, FrameObservations, IntArray, Intrinsics

PAIRS: IntArray = np.array([(15, 16), (13, 14), (11, 12), (5, 6), (3, 4)])
"""Left and right ankle, knee, hip, shoulder, ear in the 23 keypoints. Middles cancel most of the gait."""
NUM_LANDMARKS = len(PAIRS)
ANKLE, HIP, SHOULDER, EAR = 0, 2, 3, 4
NANOSECONDS = 1e-9


@dataclass(frozen=True)
class UprightPeople:
    """n person-frames with their landmarks, sorted by track, then time.

    track: (n,) index into track_ids (N,); frame: (n,) index into the observations; row: (n,) in that frame.
    time: (n,) seconds. pixels: (n, 5, 2) rectified; seen: (n, 5). box_height: (n,) pixels.
    body_axis: (n, 3) unit, from the ankles to the shoulders in the 3D landmarks, camera axes.
    information: (n,) what each counts for, since errors within a track are correlated.
    """

    track_ids: IntArray
    track: IntArray
    frame: IntArray
    row: IntArray
    time: FloatArray
    pixels: FloatArray
    seen: BoolArray
    body_axis: FloatArray
    information: FloatArray

    def __len__(self) -> int:
        return len(self.track)

    def thinned(self, count: int) -> UprightPeople:
        """At most ``count`` person-frames, evenly from all tracks and times; tracks keep their numbers."""
        if len(self) <= count:
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        per_frame = {
            entry.name: getattr(self, entry.name)[chosen] for entry in fields(self) if entry.name != "track_ids"
        }
        return UprightPeople(self.track_ids, **per_frame)


def upright_people(
    observations: Sequence[FrameObservations], intrinsics: Intrinsics, config: CalibrationConfig
) -> UprightPeople:
    """Everybody who stands or walks, whole and clear enough to measure with; at most max_observations."""
    counts = np.array([len(frame.track_ids) for frame in observations], int)
    if counts.sum() == 0:
        return _nobody()

    def gather(name: str) -> FloatArray:
        return np.concatenate([np.asarray(getattr(frame, name), float) for frame in observations])

    ids = np.concatenate([frame.track_ids for frame in observations]).astype(np.int64)
    frame = np.repeat(np.arange(len(observations)), counts)
    row = np.concatenate([np.arange(count) for count in counts])
    stamps = np.array([entry.stamp for entry in observations], np.int64)
    time = ((stamps - stamps[0]) * NANOSECONDS)[frame]
    keypoints, boxes = gather("keypoints_2d"), gather("boxes")
    pixels = keypoints[:, PAIRS].mean(2)
    confidence = gather("keypoints_confidence")[:, PAIRS].min(2)
    landmarks = gather("landmarks_3d")[:, PAIRS].mean(2)
    seen = (confidence >= config.min_confidence) & np.isfinite(pixels).all(-1)

    trunk, legs = landmarks[:, SHOULDER] - landmarks[:, HIP], landmarks[:, HIP] - landmarks[:, ANKLE]
    bend = np.degrees(np.arccos(np.clip((_unit(trunk) * _unit(legs)).sum(-1), -1.0, 1.0)))
    far_edge = np.array([intrinsics.width, intrinsics.height]) - config.border
    usual = config.small_share * float(np.quantile(boxes[:, 3], 0.75))
    inside = boxes[:, 3] >= max(config.tiny, min(config.small, usual))
    inside &= (boxes[:, :2] > config.border).all(-1) & (boxes[:, :2] + boxes[:, 2:] < far_edge).all(-1)
    usable = inside & (bend < config.max_bend) & seen[:, ANKLE] & (seen[:, SHOULDER] | seen[:, EAR])

    usable &= np.isfinite(landmarks).all((-1, -2))
    kept = np.flatnonzero(usable)
    track_ids, track = np.unique(ids[kept], return_inverse=True)
    kept = kept[order := np.lexsort((time[kept], track))]
    track = track[order]
    people = UprightPeople(
        track_ids=track_ids,
        track=track,
        frame=frame[kept],
        row=row[kept],
        time=time[kept],
        pixels=np.where(seen[kept, :, None], pixels[kept], 0.0),
        seen=seen[kept],
        body_axis=_unit(landmarks[kept, SHOULDER] - landmarks[kept, ANKLE]),
        information=_information(track, time[kept], config),
    )
    if len(people) <= config.max_observations:
        return people
    thinned = people.thinned(config.max_observations)
    return replace(thinned, information=_information(thinned.track, thinned.time, config))


def _nobody() -> UprightPeople:
    none = np.zeros(0, int)
    return UprightPeople(
        none,
        none,
        none,
        none,
        np.zeros(0),
        np.zeros((0, NUM_LANDMARKS, 2)),
        np.zeros((0, NUM_LANDMARKS), bool),
        np.zeros((0, 3)),
        np.zeros(0),
    )


def _information(track: IntArray, time: FloatArray, config: CalibrationConfig) -> FloatArray:
    """(n,) at most 1: independent looks per look, from the mean spacing of the looks at that track."""
    if len(track) == 0:
        return np.zeros(0)
    count = np.bincount(track)
    start, end = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(start, track, time)
    np.maximum.at(end, track, time)
    looks = 1.0 + np.maximum(end - start, 0.0) / config.correlation_time
    return np.asarray(np.minimum(looks / np.maximum(count, 1), 1.0)[track])


@dataclass(frozen=True)
class Motion:
    """How each person-frame moves over the ground.

    gait: (n,) from 0, standing, to 1, walking. heading: (n, 3) camera axes, as long as gait, zero if unknown.
    """

    heading: FloatArray
    gait: FloatArray


def unknown_motion(count: int) -> Motion:
    """What to assume before positions are known: an average pedestrian walks, nobody knows where to."""
    return Motion(np.zeros((count, 3)), np.ones(count))


def motion_over_ground(
    people: UprightPeople, positions: FloatArray, up: FloatArray, config: CalibrationConfig
) -> Motion:
    """Heading and gait from positions (n, 3), over one stride around each person-frame."""
    count = len(people)
    key = people.track * (people.time.max() + 10.0 * config.speed_span) + people.time
    index = np.arange(count)
    first = np.searchsorted(people.track, people.track, side="left")
    last = np.searchsorted(people.track, people.track, side="right") - 1
    before = np.clip(np.searchsorted(key, key - config.speed_span / 2), first, index)
    after = np.clip(np.searchsorted(key, key + config.speed_span / 2, side="right") - 1, index, last)
    before = np.where(before == index, np.maximum(index - 1, first), before)
    after = np.where(after == index, np.minimum(index + 1, last), after)
    span = people.time[after] - people.time[before]
    known = (span > config.speed_span / 3) & (span < 2 * config.speed_span)
    velocity = (positions[after] - positions[before]) / np.where(known, span, 1.0)[:, None]
    velocity -= (velocity @ up)[:, None] * up
    speed = np.linalg.norm(velocity, axis=-1)
    gait = np.where(known, np.minimum(speed / config.walking_speed, 1.0), 1.0)
    heading = np.where(known[:, None], velocity / np.maximum(speed, 1e-9)[:, None], 0.0)
    return Motion(heading * gait[:, None], gait)


@dataclass(frozen=True)
class Stick:
    """What is believed about the camera, the ground and everybody's body.

    axis: (n, 3) along which bodies seem to stand; normal: (3,) of the ground; both unit, up, camera axes.
    distance: metres from the camera to the ground plane. K: (3, 3). fractions: (n, 5) heights over stature;
    stature: (n,) metres. rise_gain, forward_gain: how much of the gait offsets applies.
    """

    axis: FloatArray
    normal: FloatArray
    distance: float
    K: FloatArray
    fractions: FloatArray
    stature: FloatArray
    rise_gain: float
    forward_gain: float


def landmark_offsets(stick: Stick, motion: Motion, config: CalibrationConfig) -> FloatArray:
    """(n, 5, 3) metres, camera axes: landmarks relative to the ground point below the person."""
    rise = np.array(config.gait_rise) * stick.rise_gain
    forward = np.array(config.gait_forward) * stick.forward_gain
    height = stick.stature[:, None] * (stick.fractions + motion.gait[:, None] * rise) + config.sole
    ahead = stick.stature[:, None] * forward
    return np.asarray(height[..., None] * stick.axis[:, None] + ahead[..., None] * motion.heading[:, None])


def tangents(normal: FloatArray) -> FloatArray:
    """(2, 3) an orthonormal basis of the plane across ``normal``."""
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = _unit(_cross(normal, helper))
    return np.stack([first, _cross(normal, first)])


def locate(
    people: UprightPeople, stick: Stick, offsets: FloatArray, weights: FloatArray, on_ground: bool = True
) -> FloatArray:
    """(n, 3) metres, camera axes: the ground points that explain the pixels best, in closed form.

    weights: (n, 5) inverse variances over squared depth. on_ground: on the plane; else by size alone.
    """
    basis = tangents(stick.normal) if on_ground else np.eye(3)
    origin = -stick.distance * stick.normal if on_ground else np.zeros(3)
    focal = np.array([stick.K[0, 0], stick.K[1, 1]])
    rays = (people.pixels - stick.K[:2, 2]) / focal
    weight = np.sqrt(weights)[..., None] * focal

    def beside(points: FloatArray) -> FloatArray:
        """x − (x/z)·z and y − (y/z)·z of (…, 3) vanish where a point meets its ray (…, 2)."""
        return np.asarray(points[..., :2] - rays * points[..., 2:])

    count, equations = len(rays), 2 * rays.shape[1]
    design = np.stack([weight * beside(direction) for direction in basis], -1)
    design = design.reshape(count, equations, len(basis))
    target = -(weight * beside(offsets + origin)).reshape(count, equations, 1)
    across = design.swapaxes(-1, -2)
    normal_matrix, right = across @ design, (across @ target)[..., 0]
    ridge = RIDGE * (np.trace(normal_matrix, axis1=1, axis2=2) + RIDGE)
    regular = normal_matrix + ridge[:, None, None] * np.eye(len(basis))
    solution = np.linalg.solve(regular, right[..., None])[..., 0]
    return np.asarray(origin + solution @ basis)


@dataclass(frozen=True)
class Whitening:
    """Expected errors, frozen for one iteration, lest a fit improve by declaring its errors expected.

    along, across: (n, 5, 2) unit, the upright's direction in the image and the one across it.
    sigma_along, sigma_across: (n, 5) pixels. depth: (n,) metres.
    """

    along: FloatArray
    across: FloatArray
    sigma_along: FloatArray
    sigma_across: FloatArray
    depth: FloatArray


def whitening(people: UprightPeople, stick: Stick, depth: FloatArray, config: CalibrationConfig) -> Whitening:
    """Pixel noise, and the scatter of walking bodies seen at ``depth`` (n,) metres."""
    focals = np.array([stick.K[0, 0], stick.K[1, 1]])
    rays = (people.pixels - stick.K[:2, 2]) / focals
    along = (stick.axis[:, None, :2] - rays * stick.axis[:, None, 2:]) / np.sqrt(1.0 + (rays**2).sum(-1, keepdims=True))
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), np.array([0.0, -1.0]))
    foreshortened = np.minimum(length[..., 0] ** 2, 1.0)
    size = (np.sqrt(focals.prod()) * stick.stature / depth)[:, None] ** 2
    sway, rise = np.array(config.sway_sigma) ** 2, np.array(config.rise_sigma) ** 2
    return Whitening(
        along=along,
        across=np.stack([-along[..., 1], along[..., 0]], -1),
        sigma_along=np.sqrt(config.pixel_sigma**2 + size * (sway * (1 - foreshortened) + rise * foreshortened)),
        sigma_across=np.sqrt(config.pixel_sigma**2 + size * sway),
        depth=depth,
    )


def reproject(
    people: UprightPeople,
    stick: Stick,
    motion: Motion,
    expected: Whitening,
    robust: FloatArray,
    config: CalibrationConfig,
    on_ground: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Whitened errors (n, 5, 2), across and along the upright, with everybody placed where they fit best.

    robust: (n, 5) what each landmark counts for in the placement. Also returns the placements (n, 3) metres,
    ground points in camera axes. Errors of unseen landmarks are zero.
    """
    offsets = landmark_offsets(stick, motion, config)
    weights = robust * people.seen / (expected.sigma_along * expected.sigma_across)
    depth = expected.depth
    for _ in range(2):  # the second time with the depth of the first: then linear is exact to first order
        positions = locate(people, stick, offsets, weights / depth[:, None] ** 2, on_ground)
        depth = np.maximum(positions[:, 2], NEAREST)
    points = positions[:, None] + offsets
    focals = np.array([stick.K[0, 0], stick.K[1, 1]])
    errors = points[..., :2] / np.maximum(points[..., 2:], NEAREST) * focals + stick.K[:2, 2] - people.pixels
    whitened = np.stack(
        [
            (errors * expected.across).sum(-1) / expected.sigma_across,
            (errors * expected.along).sum(-1) / expected.sigma_along,
        ],
        -1,
    )
    return np.where(people.seen[..., None], whitened, 0.0), positions


RIDGE = 1e-9
"""Relative. Rays along the ground leave a position open; this keeps it finite."""
NEAREST = 0.3
"""Metres. Whoever is nearer, or behind the camera, is a wrong hypothesis; kept finite so that it can lose."""


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """The product of two vectors (3,). np.cross takes ten times as long, a third of a calibration's time."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
