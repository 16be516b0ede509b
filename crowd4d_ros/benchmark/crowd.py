"""A window of any size, at once: people who walk, sit, kneel, squat and fall on rolling ground, and what one sees.

Nothing here is realistic but what costs time: bodies in poses whose lowest vertex is now here, now there, keypoints
with noise, gaps, ground that is not flat, a scale that is to be found.
"""

from __future__ import annotations

import numpy as np
import torch

from crowd4d_ros.body.keypoints import keypoints
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.camera import project
from crowd4d_ros.config import ConfigError
from crowd4d_ros.window import (
    BodyMotion,
    BoolArray,
    Cameras,
    CrowdWindow,
    FloatArray,
    IntArray,
    Intrinsics,
    ScenePoints,
)

FPS = 10.0
DENSITY = 0.15
"""people/m²: a busy square."""
NEAREST, HEIGHT, PITCH = 15.0, 12.0, 0.5
"""metres to the nearest, of the camera above the ground, and radians it looks down."""
SCENE_DENSITY, SCENE_NOISE = 8.0, 0.02
"""points/m² of the ground, and metres they are off."""
SEEN_WRONG = {"stature": 0.03, "depth": 0.02, "pose": 0.1, "orient": 0.15, "pixels": 1.0}
"""Relative, relative, radians, radians, pixels: about what initial bodies and keypoints are off."""
ABSENT, HIDDEN = (0.1, 0.25), (0.33, 0.25)
"""The share of people who come late, as of who leaves early, and of who is hidden; and of the frames, at most."""

BENDS: dict[str, dict[str, float]] = {
    "walks": {},
    "sits": {"hip": -95.0, "knee": 10.0, "ankle": 0.0},
    "sits on heels": {"hip": -60.0, "knee": 145.0, "ankle": 50.0},
    "kneels": {"hip": 0.0, "knee": 95.0, "ankle": 40.0},
    "squats": {"hip": -115.0, "knee": 130.0, "ankle": -30.0},
    "falls": {"hip": -10.0, "knee": 15.0, "ankle": 0.0},
}
"""What people go down to, and how far their legs' joints then are bent, degrees. Half of all people walk."""
FALLEN = 85.0
"""degrees about the hips of who fell."""


def window_of(people: int, frames: int, body: BodyModel, seed: int = 0) -> CrowdWindow:
    """N people over T frames, from the seed alone. body: on the CPU or not, it only poses them.

    Raises ConfigError for sizes that no window has.
    """
    if people < 1 or frames < 2:
        raise ConfigError(f"a crowd has 1 or more people and 2 or more frames, not {people} and {frames}")
    rng = np.random.default_rng(seed)
    seconds = np.arange(frames) / FPS
    body_pose, orient, ground = _acted(people, seconds, rng)
    betas = rng.normal(0, 0.7, (people, 10))
    rest, lowest = _measured(body, betas, body_pose, orient)
    height = _terrain(ground[..., 0], ground[..., 1])
    pelvis = np.stack([ground[..., 0], height + rest[..., UP] - lowest[..., UP], ground[..., 1]], -1)

    intrinsics, cameras = _camera(frames)
    points = keypoints(body, *_tensors(body, betas[:, None], body_pose, orient, pelvis - rest))
    pixels, _ = project(points, *_tensors(body, intrinsics.K_rectified, cameras.R, cameras.t))
    seen_at = pixels.double().cpu().numpy()
    seen_at += rng.normal(0, SEEN_WRONG["pixels"], seen_at.shape)
    low, high = seen_at.min(-2), seen_at.max(-2)
    valid, observed = _presence(people, frames, rng)

    depth = 1 + SEEN_WRONG["stature"] * rng.standard_normal((people, 1, 1))
    depth = depth * (1 + SEEN_WRONG["depth"] * rng.standard_normal((people, frames, 1)))
    initial_rest, _ = _measured(body, np.zeros_like(betas), body_pose[:, :1], orient[:, :1])
    initial = BodyMotion(
        betas=np.zeros_like(betas),
        body_pose=body_pose + rng.normal(0, SEEN_WRONG["pose"], body_pose.shape),
        global_orient=orient + rng.normal(0, SEEN_WRONG["orient"], orient.shape),
        transl=depth * (pelvis - cameras.centers) + cameras.centers - initial_rest,
    )
    return CrowdWindow(
        window_id=0,
        segment_id=0,
        stamps=np.round(seconds * 1e9).astype(np.int64),
        frames=np.arange(frames),
        is_new=np.ones(frames, bool),
        intrinsics=intrinsics,
        cameras=cameras,
        gravity=cameras.R[0] @ [0.0, -1.0, 0.0],
        gravity_covariance=np.zeros((3, 3)),
        scale_source="none",
        scene=_scene(ground, rng),
        track_ids=np.arange(people) + 1,
        observed=observed,
        valid=valid,
        boxes=np.concatenate([low, high - low], -1),
        box_confidence=np.full(valid.shape, 0.9),
        keypoints_2d=seen_at,
        keypoints_confidence=rng.uniform(0.5, 0.95, seen_at.shape[:-1]) * observed[..., None],
        landmarks_3d=np.zeros((*seen_at.shape[:-1], 3)),
        masks=(np.zeros(0, np.uint32),) * valid.size,
        motion=initial,
    )


def _acted(people: int, seconds: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """body_pose (N, T, 23, 3), global_orient (N, T, 3), and x and z of the pelvis (N, T, 2).

    Walking is a sine in the hips, half a one in the knees, radians, with a stride of 1.4 m.
    """
    acts = list(BENDS)
    act = rng.choice(len(acts), people, p=[0.5] + [0.5 / (len(acts) - 1)] * (len(acts) - 1))
    walks = act == 0
    speed = np.where(walks, rng.uniform(0.8, 1.6, people), 0.0)
    heading = rng.uniform(-np.pi, np.pi, people)
    # everybody else goes down and comes up again, in five to nine seconds
    turn = 2 * np.pi * (rng.uniform(size=people)[:, None] + seconds / rng.uniform(5, 9, people)[:, None])
    down = np.where(walks[:, None], 0.0, 0.5 - 0.5 * np.cos(turn))
    phase = 2 * np.pi * (rng.uniform(size=people)[:, None] + seconds * speed[:, None] / 1.4)
    swing = np.where(walks[:, None], np.sin(phase), 0.0)
    lifted = np.where(walks[:, None], np.cos(phase), 0.0)

    pose = np.zeros((people, len(seconds), len(JOINTS) - 1, 3))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hip, knee, ankle, shoulder = (
            JOINTS.index(f"{side}_{name}") - 1 for name in ("hip", "knee", "ankle", "shoulder")
        )
        pose[..., hip, 0] = -0.45 * sign * swing
        pose[..., knee, 0] = 0.15 + 0.55 * np.clip(sign * lifted, 0, None)
        pose[..., shoulder, 2] = -1.25 * sign
        pose[..., shoulder, 0] = 0.3 * sign * swing
        for joint, name in ((hip, "hip"), (knee, "knee"), (ankle, "ankle")):
            bend = np.radians([BENDS[a].get(name, 0.0) for a in acts])[act, None]
            pose[..., joint, 0] += down * bend
    pitch = np.where((act == acts.index("falls"))[:, None], np.radians(FALLEN) * down, 0.0)
    orient = _about_y_then_x(heading[:, None], pitch)

    side = np.sqrt(people / DENSITY)
    middle = np.stack([rng.uniform(-side / 2, side / 2, people), -NEAREST - rng.uniform(0, side, people)], -1)
    step = np.stack([np.sin(heading), np.cos(heading)], -1) * speed[:, None]
    away = (seconds - seconds.mean())[None, :, None]
    # long walks go round in circles rather than behind the camera
    reach = min(3.0, side / 4)
    return pose, orient, middle[:, None] + step[:, None] * reach * np.sin(away / reach)


def _about_y_then_x(heading: FloatArray, pitch: FloatArray) -> FloatArray:
    """The axis-angle of R_y(heading) R_x(pitch), (N, T, 3)."""
    cy, sy, cx, sx = (f(a / 2) for a in (heading, pitch) for f in (np.cos, np.sin))
    w, vector = cy * cx, np.stack([cy * sx, sy * cx, -sy * sx], -1)
    sine = np.maximum(np.linalg.norm(vector, axis=-1), 1e-12)
    return np.asarray(vector * (2 * np.arctan2(sine, w) / sine)[..., None])


def _terrain(x: FloatArray, z: FloatArray) -> FloatArray:
    """The ground's height: waves of 57 and 44 m, and a slope of 2 %, up to 11 % steep in all; metres."""
    return np.asarray(-HEIGHT + 0.6 * np.sin(x / 9) + 0.5 * np.cos(z / 7) + 0.02 * x)


def _scene(ground: FloatArray, rng: np.random.Generator) -> ScenePoints:
    low, high = ground.min((0, 1)) - 5, ground.max((0, 1)) + 5
    x, z = rng.uniform(low, high, (int(SCENE_DENSITY * np.prod(high - low)), 2)).T
    points = np.stack([x, _terrain(x, z) + rng.normal(0, SCENE_NOISE, len(x)), z], -1)
    return ScenePoints(points, np.ones(len(points)), np.zeros(len(points), int))


def _camera(frames: int) -> tuple[Intrinsics, Cameras]:
    K = np.array([[1200.0, 0, 960], [0, 1200, 540], [0, 0, 1]])
    level = np.diag([1.0, -1.0, -1.0])
    down = np.array([[1, 0, 0], [0, np.cos(PITCH), -np.sin(PITCH)], [0, np.sin(PITCH), np.cos(PITCH)]])
    R = np.broadcast_to(down @ level, (frames, 3, 3)).copy()
    return Intrinsics(1920, 1080, K, np.zeros(5), "plumb_bob", K), Cameras(R, np.zeros((frames, 3)), "model")


def _presence(people: int, frames: int, rng: np.random.Generator) -> tuple[BoolArray, BoolArray]:
    """valid and observed (N, T): who comes late, who leaves early, and who is hidden for a while."""
    time = np.arange(frames)

    def some(share: float, longest: float) -> IntArray:
        """(N, 1) frames, of that share of the people at most ``longest`` of all; else none."""
        return np.where(rng.random((people, 1)) < share, rng.integers(0, 1 + int(longest * frames), (people, 1)), 0)

    valid = (time >= some(*ABSENT)) & (time < frames - some(*ABSENT))
    hidden_from = rng.integers(0, frames, (people, 1))
    hidden = (time >= hidden_from) & (time < hidden_from + some(*HIDDEN))
    return valid, valid & ~hidden


@torch.no_grad()
def _measured(
    body: BodyModel, betas: FloatArray, body_pose: FloatArray, orient: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Pelvis of the rest pose (N, 1, 3), and the lowest vertex (N, T, 3) of bodies at the origin."""
    shapes, pose, root, nowhere = _tensors(body, betas[:, None], body_pose, orient, np.zeros_like(orient))
    _, lowest = body.lowest_vertex(shapes, pose, root, nowhere)
    return body.pelvis(shapes).double().cpu().numpy(), lowest.double().cpu().numpy()


def _tensors(body: BodyModel, *arrays: FloatArray) -> list[torch.Tensor]:
    return [torch.as_tensor(a).to(body.v_template) for a in arrays]
