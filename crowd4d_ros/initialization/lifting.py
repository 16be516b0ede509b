"""3D landmarks to a first pose: untangle left and right over time, then read joint rotations off the bones.

Landmarks of one image are good in their angles and poor in their size, and an image of a small person often
fits two bodies: the one seen, and its mirror image in depth with left and right exchanged. Which of the two
is true shows only over time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.keypoints import MIRROR
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowd4d_ros.config import MotionConfig
from crowd4d_ros.window import BoolArray, FloatArray

NOSE, LEFT_EAR, RIGHT_EAR, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 3, 4, 5, 6, 11, 12
BODY_JOINTS = 23
HIPS, KNEES, ANKLES, SPINE = (0, 1), (3, 4), (6, 7), (2, 5, 8)
NECK, HEAD, SHOULDERS, ELBOWS = 11, 14, (15, 16), (17, 18)
"""Rows of body_pose, left before right."""
ARMS = ((5, 7, 9), (6, 8, 10))
LEGS = ((11, 13, 15), (12, 14, 16))
FEET = ((19, 17), (22, 20))
"""Keypoints along the limbs; feet from heel to big toe."""
STRAIGHT_KNEE = 0.5
"""The sine of a knee's bend from which its axis says more about the thigh's twist than the pelvis does."""


def towards_ray(pixels: FloatArray, K: FloatArray) -> FloatArray:
    """The rotation (…, 3, 3) that turns the optical axis onto the ray through a pixel (…, 2), the short way.

    A crop is seen as if the camera had looked straight at it: landmarks are relative to that direction.
    """
    return _from_axis(_rays(pixels, K))


def seen_along(pixels: FloatArray, K: FloatArray, up: FloatArray, lean: float) -> FloatArray:
    """``towards_ray``, but onto rays whose angle to the horizontal is smaller by the share ``lean``.

    People seen from above or below look to a network as if they leaned by a part of that angle: this takes it off.
    up: (…, 3) unit, camera axes.
    """
    ray = _rays(pixels, K)
    rise = (ray * up).sum(-1, keepdims=True)
    flat = ray - rise * up
    flat /= np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), np.finfo(float).eps)
    angle = (1 - lean) * np.arcsin(np.clip(rise, -1.0, 1.0))
    return _from_axis(np.cos(angle) * flat + np.sin(angle) * up)


def _rays(pixels: FloatArray, K: FloatArray) -> FloatArray:
    homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    ray = homogeneous @ np.linalg.inv(K).T
    return np.asarray(ray / np.linalg.norm(ray, axis=-1, keepdims=True))


def _from_axis(ray: FloatArray) -> FloatArray:
    axis = torch.as_tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(ray.shape)
    return _shortest(axis, torch.as_tensor(ray, dtype=torch.float64)).numpy()


def mirrored(landmarks: FloatArray) -> FloatArray:
    """Landmarks (…, 23, 3) of the body that looks the same from the front: left is right, and near is far."""
    return np.asarray(landmarks[..., MIRROR, :] * np.array([1.0, 1.0, -1.0]))


def untangle(
    candidates: FloatArray,
    confidence: FloatArray,
    observed: BoolArray,
    velocity: FloatArray,
    up: FloatArray,
    seconds: FloatArray,
    config: MotionConfig,
) -> BoolArray:
    """Where (N, T) the mirrored landmarks are the true ones: the cheapest sequence of choices (Viterbi).

    candidates: (2, N, T, 23, 3) as seen and mirrored, world axes; confidence: (N, T, 23); velocity:
    (N, T, 3) m/s. A choice costs for disagreeing with its neighbours, for facing away from where the person
    walks, and a little for not being what was seen.
    """
    facing = _facing(candidates, up)
    horizontal = velocity - (velocity @ up)[..., None] * up
    speed = np.linalg.norm(horizontal, axis=-1)
    walking = np.minimum(speed / config.walking_speed, 1.0)
    against = (1 - (facing * horizontal).sum(-1) / np.maximum(speed, 1e-6)) / 2
    own = config.facing_cost * walking * against + np.array([0.0, config.mirror_cost])[:, None, None]
    own = np.where(observed, own, 0.0)

    people, frames = observed.shape
    cost: FloatArray = np.zeros((2, people))
    came_from = np.zeros((frames, 2, people), int)
    last: FloatArray = candidates[:, :, 0]
    last_confidence: FloatArray = np.zeros_like(confidence[:, 0])
    last_seconds: FloatArray = np.full(people, seconds[0])
    for frame in range(frames):
        here, weight = candidates[:, :, frame], np.minimum(confidence[:, frame], last_confidence)
        distance = np.linalg.norm(here[None] - last[:, None], axis=-1)  # (from, to, N, 23)
        apart = (distance * weight).sum(-1) / np.maximum(weight.sum(-1), 1e-6)
        pause = 1 + np.maximum(seconds[frame] - last_seconds, 0) / config.pose_memory
        total = cost[:, None] + apart / (config.pose_step * pause)
        seen = observed[:, frame]
        came_from[frame] = np.where(seen, total.argmin(0), np.arange(2)[:, None])
        cost = np.where(seen, total.min(0) + own[:, :, frame], cost)
        last = np.where(seen[None, :, None, None], here, last)
        last_confidence = np.where(seen[:, None], confidence[:, frame], last_confidence)
        last_seconds = np.where(seen, seconds[frame], last_seconds)

    choice = np.zeros((people, frames), bool)
    state = cost.argmin(0)
    for frame in reversed(range(frames)):
        choice[:, frame] = state == 1
        state = came_from[frame, state, np.arange(people)]
    return choice & observed


def untwisted(landmarks: FloatArray, hip_trust: float) -> FloatArray:
    """Landmarks (…, 23, 3) whose hips are turned about their middle towards the shoulders, by 1 − ``hip_trust``.

    Hips are narrow and hidden in clothes: a network sees them turned less from the camera than they are.
    """
    left, right = landmarks[..., LEFT_HIP, :], landmarks[..., RIGHT_HIP, :]
    hips, shoulders = left - right, landmarks[..., LEFT_SHOULDER, :] - landmarks[..., RIGHT_SHOULDER, :]
    width, direction = _length_and_direction(hips)
    _, mixed = _length_and_direction(hip_trust * direction + (1 - hip_trust) * _length_and_direction(shoulders)[1])
    result = landmarks.copy()
    result[..., LEFT_HIP, :] = (left + right + width * mixed) / 2
    result[..., RIGHT_HIP, :] = (left + right - width * mixed) / 2
    return result


def _length_and_direction(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return length, vectors / np.maximum(length, 1e-6)


def towards_path(
    landmarks: FloatArray,
    observed: BoolArray,
    velocity: FloatArray,
    up: FloatArray,
    seconds: FloatArray,
    config: MotionConfig,
) -> FloatArray:
    """Landmarks (N, T, 23, 3) turned about ``up`` (3,) so that walkers face, averaged over a stride, where they go.

    Depth is what a network sees worst, and with it how far somebody is turned: 10 to 20 degrees wrong, alike for as
    long as the person goes the same way. Who stands or goes backwards keeps what was seen. velocity: (N, T, 3) m/s.
    """
    facing = _facing(landmarks, up)
    horizontal = velocity - (velocity @ up)[..., None] * up
    speed, heading = _length_and_direction(horizontal)
    cosine, sine = (facing * heading).sum(-1), np.cross(facing, heading) @ up
    walking = np.minimum(speed[..., 0] / config.walking_speed, 1.0) ** 2
    weight = walking * observed * (cosine > 0)
    near = np.exp(-(((seconds[:, None] - seconds) / config.facing_memory) ** 2) / 2)
    angle = np.arctan2((weight * sine) @ near, (weight * cosine) @ near + config.facing_doubt)
    turn = axis_angle_to_matrix(torch.as_tensor(angle[..., None] * up)).numpy()
    return np.asarray(landmarks @ turn.swapaxes(-1, -2))


def _facing(landmarks: FloatArray, up: FloatArray) -> FloatArray:
    """The horizontal direction (…, 3) the chest and hips look at."""
    leftwards = landmarks[..., LEFT_HIP, :] - landmarks[..., RIGHT_HIP, :]
    leftwards = leftwards + landmarks[..., LEFT_SHOULDER, :] - landmarks[..., RIGHT_SHOULDER, :]
    forward = np.cross(leftwards, up)
    return np.asarray(forward / np.maximum(np.linalg.norm(forward, axis=-1, keepdims=True), 1e-6))


def lift(landmarks: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """The pose whose bones point where the landmarks' do: body_pose (N, T, 23, 3), global_orient (N, T, 3).

    landmarks: (N, T, 23, 3) in world axes, any size; rest: (N, 1, 23, 3) keypoints of the rest pose. What
    bones do not show (the twist of arms, the collars, the hands) stays at rest.
    """
    pelvis = _torso(landmarks, LEFT_HIP, RIGHT_HIP) @ _torso(rest, LEFT_HIP, RIGHT_HIP).mT
    chest = _torso(landmarks, LEFT_SHOULDER, RIGHT_SHOULDER) @ _torso(rest, LEFT_SHOULDER, RIGHT_SHOULDER).mT
    pose = landmarks.new_zeros(*landmarks.shape[:2], BODY_JOINTS, 3)
    pose[..., SPINE, :] = matrix_to_axis_angle(pelvis.mT @ chest)[..., None, :] / len(SPINE)
    head = _head(landmarks) @ _head(rest).mT
    pose[..., (NECK, HEAD), :] = matrix_to_axis_angle(chest.mT @ head)[..., None, :] / 2
    for side in range(2):
        upper = chest @ _swing(chest, landmarks, rest, *ARMS[side][:2])
        pose[..., SHOULDERS[side], :] = matrix_to_axis_angle(chest.mT @ upper)
        pose[..., ELBOWS[side], :] = matrix_to_axis_angle(_swing(upper, landmarks, rest, *ARMS[side][1:]))
        thigh = _hinged(landmarks, pelvis[..., 0], *LEGS[side]) @ _hinged(rest, None, *LEGS[side]).mT
        pose[..., HIPS[side], :] = matrix_to_axis_angle(pelvis.mT @ thigh)
        knee = _swing(thigh, landmarks, rest, *LEGS[side][1:])
        pose[..., KNEES[side], :] = matrix_to_axis_angle(knee)
        pose[..., ANKLES[side], :] = matrix_to_axis_angle(_swing(thigh @ knee, landmarks, rest, *FEET[side]))
    return pose, matrix_to_axis_angle(pelvis)


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Axis-angle (…, 3) at ``share`` (…) of the way from start to end."""
    a, b = axis_angle_to_matrix(start), axis_angle_to_matrix(end)
    step = matrix_to_axis_angle(a.mT @ b) * share[..., None]
    return matrix_to_axis_angle(a @ axis_angle_to_matrix(step))


def _unit(v: Tensor) -> Tensor:
    return torch.nn.functional.normalize(v, dim=-1, eps=1e-6)


def _frame(first: Tensor, second: Tensor) -> Tensor:
    """Right-handed frames with columns x, y, z: y along ``first``, x as near to ``second`` as that allows."""
    y = _unit(first)
    x = _unit(second - (second * y).sum(-1, keepdim=True) * y)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def _torso(points: Tensor, left: int, right: int) -> Tensor:
    neck = points[..., (LEFT_SHOULDER, RIGHT_SHOULDER), :].mean(-2)
    spine = neck - points[..., (LEFT_HIP, RIGHT_HIP), :].mean(-2)
    return _frame(spine, points[..., left, :] - points[..., right, :])


def _head(points: Tensor) -> Tensor:
    leftwards = points[..., LEFT_EAR, :] - points[..., RIGHT_EAR, :]
    forward = points[..., NOSE, :] - points[..., (LEFT_EAR, RIGHT_EAR), :].mean(-2)
    return _frame(torch.linalg.cross(forward, leftwards), leftwards)


def _hinged(points: Tensor, leftwards: Tensor | None, hip: int, knee: int, ankle: int) -> Tensor:
    """The thigh's frame: a bent knee shows its axis, a straight one leaves it to the pelvis."""
    thigh, shin = points[..., knee, :] - points[..., hip, :], points[..., ankle, :] - points[..., knee, :]
    if leftwards is None:
        return _frame(-thigh, points.new_tensor([1.0, 0.0, 0.0]).expand_as(thigh))
    axis = torch.linalg.cross(_unit(thigh), _unit(shin))
    return _frame(-thigh, STRAIGHT_KNEE * leftwards + axis)


def _swing(parent: Tensor, points: Tensor, rest: Tensor, start: int, end: int) -> Tensor:
    """The rotation in the parent's frame that turns a bone from rest onto its observed direction."""
    bone = _unit(points[..., end, :] - points[..., start, :])
    resting = _unit(rest[..., end, :] - rest[..., start, :])
    return _shortest(resting.expand_as(bone), (parent.mT @ bone[..., None])[..., 0])


def _shortest(a: Tensor, b: Tensor) -> Tensor:
    """The shortest rotation from unit a to unit b: (…, 3, 3)."""
    axis = torch.linalg.cross(a, b)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (a * b).sum(-1, keepdim=True))
    return axis_angle_to_matrix(axis / sine.clamp_min(1e-9) * angle)
