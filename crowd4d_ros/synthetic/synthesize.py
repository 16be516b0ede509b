"""A synthetic crowd, from a request to its truth and to what an initializer would have seen of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.synthetic.bodies import crowd_bodies
from crowd4d_ros.synthetic.cameras import place_camera, visible_ground
from crowd4d_ros.synthetic.config import SynthesisConfig
from crowd4d_ros.synthetic.gait import MotionSource, ProceduralGait
from crowd4d_ros.synthetic.mocap import MocapMotion
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.paths import crowd_paths
from crowd4d_ros.synthetic.posed import pose_crowd
from crowd4d_ros.synthetic.scenes import make_scene
from crowd4d_ros.synthetic.truth import Paths, Scene, Truth
from crowd4d_ros.synthetic.visibility import sight
from crowd4d_ros.window import BodyMotion, Cameras, CrowdWindow, FloatArray, Intrinsics

STEPS = ("scene", "camera", "paths", "bodies", "observation", "recording")
"""Every step draws from a stream of its own: who changes one leaves the others as they were."""

Timer = Callable[[str], AbstractContextManager[None]]
"""A context manager for each step's name."""


class SynthesisError(ValueError):
    """A crowd that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Request:
    """What to make. scene, camera: their names. mocap: a file of motions, of its split "train" or "test";
    without one, people walk the procedural gait. body: a SMPL file; empty: the embedded body.
    """

    scene: str
    camera: str
    people: int
    frames: int
    seed: int = 0
    mocap: Path | None = None
    mocap_split: str = "test"
    body: str = ""
    config: SynthesisConfig = field(default_factory=SynthesisConfig)

    def __post_init__(self) -> None:
        for name, least in (("people", 1), ("frames", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SynthesisError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not 0 < self.config.fps < np.inf:
            raise SynthesisError(f"fps is {self.config.fps}: it must be positive and finite")
        bodies, paths = self.config.bodies, self.config.paths
        if (bodies.sit_s, bodies.sit_reach) != (paths.sit_down, paths.sit_reach):
            raise SynthesisError(
                "bodies must sit down as their paths do: set bodies.sit_s to paths.sit_down, and both sit_reach alike"
            )


def streams(seed: int) -> dict[str, np.random.Generator]:
    """An independent stream for each of ``STEPS``."""
    seeds = np.random.SeedSequence(seed).spawn(len(STEPS))
    return {step: np.random.default_rng(each) for step, each in zip(STEPS, seeds, strict=True)}


def synthesize(request: Request, timed: Timer = lambda step: nullcontext()) -> tuple[Truth, CrowdWindow]:
    """The crowd of ``request``, and one window of observations over all of its frames.

    The same request gives the same bytes. Raises the errors of the steps, each with a message for the user.
    """
    config, frames, fps = request.config, request.frames, request.config.fps
    rng = streams(request.seed)
    body = BodyModel.load(request.body, dtype=torch.float64)

    with timed("motions"):
        source = motion_source(request)
    with timed("scene"):
        scene = make_scene(request.scene, rng["scene"])
    with timed("camera"):
        intrinsics, cameras = place_camera(request.camera, scene, frames, fps, config.camera, rng["camera"])
        scene, cameras = from_first_camera(scene, cameras)
        region = visible_ground(scene, intrinsics, cameras, config.camera)
    with timed("paths"):
        paths = crowd_paths(scene, request.people, frames, fps, config.paths, rng["paths"], region)
    with timed("bodies"):
        motion = crowd_bodies(paths, scene.terrain, body, source, config.bodies, rng["bodies"], fps)
    with timed("visibility"):
        truth = truth_of(request, source.name, scene, intrinsics, cameras, paths, motion, body)
    with timed("observation"):
        return truth, observe(truth, body, config.observation, rng["observation"])


def motion_source(request: Request) -> MotionSource:
    """Where the motions come from. Raises the errors of the mocap file."""
    bodies = request.config.bodies
    if request.mocap is None:
        return ProceduralGait(bodies)
    return MocapMotion.load(request.mocap, request.mocap_split, bodies)


def from_first_camera(scene: Scene, cameras: Cameras) -> tuple[Scene, Cameras]:
    """The same with the world's origin at the first camera's centre."""
    offset = -cameras.centers[0]
    return scene.moved(offset), replace(cameras, t=cameras.t - cameras.R @ offset)


def truth_of(
    request: Request,
    motions: str,
    scene: Scene,
    intrinsics: Intrinsics,
    cameras: Cameras,
    paths: Paths,
    motion: BodyMotion,
    body: BodyModel,
) -> Truth:
    """Everything there is to know about the crowd."""
    crowd = pose_crowd(body, motion)
    seen = sight(crowd, paths.present, intrinsics, cameras, scene.terrain, scene.structures)
    pelvis = crowd.joints[..., 0, :]
    return Truth(
        scene=request.scene,
        camera=request.camera,
        motions=motions,
        seed=request.seed,
        fps=request.config.fps,
        stamps=np.round(np.arange(request.frames) * (1e9 / request.config.fps)).astype(np.int64),
        intrinsics=intrinsics,
        cameras=cameras,
        terrain=scene.terrain,
        structures=scene.structures,
        track_ids=np.arange(1, request.people + 1),
        group=paths.group,
        activity=paths.activity,
        valid=paths.present,
        motion=motion,
        joints=crowd.joints,
        lowest=crowd.lowest,
        support_point=on_ground(scene, pelvis),
        keypoints_2d=seen.keypoints_2d,
        keypoints_visible=seen.keypoints_visible,
        visibility=seen.visibility,
        boxes=seen.boxes,
    )


def on_ground(scene: Scene, points: FloatArray) -> FloatArray:
    """The terrain under points (…, 3)."""
    height, _ = scene.terrain.height(points[..., [0, 2]])
    return np.stack([points[..., 0], height, points[..., 2]], -1)
