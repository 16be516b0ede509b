"""Sections 3.2 to 3.5 of the paper on one page: a window of observations becomes a 4D crowd."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np
import torch

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.device import choose_device, limit_threads
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling, coupling, own_places
from crowd4d_ros.interaction.point_cloud import scene_interaction_points, without_people
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.interaction.scale import ScaleError, initial_scale, scaled
from crowd4d_ros.interaction.surface import Surface, SurfaceError, build_surface
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.optimization.placement import placed_by_keypoints
from crowd4d_ros.optimization.solver import Solution, optimize
from crowd4d_ros.optimization.stages import stages
from crowd4d_ros.priors import load_pose_prior
from crowd4d_ros.priors.motion import MotionPrior
from crowd4d_ros.window import BodyMotion, BoolArray, CrowdMotion, CrowdWindow, FloatArray, SurfaceMesh
from crowd4d_ros.world import LastWindow, World

log = logging.getLogger(__name__)

METRIC = ("people", "odometry")
"""Scale sources whose scenes come in metres."""
NO_SURFACE = SurfaceMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))


class Pipeline:
    """Crowd4D over sliding windows. What lasts from window to window is in the World, not here."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.coupling = coupling(config.interaction)
        stages(config.optimization, self.coupling)  # what does not exist is refused before any work
        limit_threads(config.threads)
        self.device = choose_device(config.device)
        self.body = BodyModel.load(config.body, device=self.device)
        self.prior = load_pose_prior(config.optimization.pose_prior, device=self.device)
        self.motion_prior = MotionPrior.load(device=self.device) if config.optimization.stages > 2 else None

    def step(self, window: CrowdWindow, world: World) -> tuple[CrowdMotion, World]:
        """One window, Sec. 3.2–3.5: scale, SIPC, SIS, HSIP, then the staged optimisation.

        Where the people and the scene do not meet, the window is optimised without the scene, with a warning.
        """
        began = time.monotonic()
        config = self.config
        world = world.entering(window.segment_id)
        if config.optimization.stages and config.optimization.reprojection_reference == "detected":
            window = placed_by_keypoints(window, self.body, config.optimization)
        alpha0, placed = world.scale or 1.0, window
        try:
            alpha0 = self._scale(window, world)
            window = scaled(window, alpha0)
            joints, lowest = self._posed(window.motion)
            static = without_people(window.scene, lowest, window.valid, window.cameras, config.interaction)
            sipc = scene_interaction_points(static, config.interaction, world.sipc)
            surface = build_surface(sipc, joints[window.valid, 0], config.interaction)
        except (ScaleError, SurfaceError) as error:
            return self._without_scene(scaled(placed, alpha0), world, alpha0, error, began)
        proxy = self.coupling.anchor(window, joints, lowest, surface, config.interaction)
        is_stable = world.scale_is_stable or window.scale_source in METRIC
        solution = self._optimized(window, proxy, self.coupling, world, is_stable, began)
        terrain = sipc * solution.alpha, surface.scaled(solution.alpha)
        motion = _crowd_motion(window, solution, alpha0, *terrain, proxy.mode)
        return motion, world.after(motion, solution.scale_is_stable)

    def _scale(self, window: CrowdWindow, world: World) -> float:
        """The world's scale; in the first window with people, Eq. 2's α0.

        A scene that is metric already keeps its metres, which more people vouch for than this window has: α0 is then
        a check, and logged.
        """
        if world.scale is not None or not window.valid.any() or not self.coupling.is_scaled:
            return world.scale or 1.0
        _, lowest = self._posed(window.motion)
        alpha0 = initial_scale(lowest, window.valid, window.cameras, window.scene, self.config.interaction)
        log.info("alpha0 = %.3f from %d person-frames, spread %.3f", alpha0.value, alpha0.pairs, alpha0.spread)
        return 1.0 if window.scale_source in METRIC else alpha0.value

    @torch.no_grad()
    def _posed(self, motion: BodyMotion) -> tuple[FloatArray, FloatArray]:
        """Joints (N, T, 24, 3) and lowest vertices (N, T, 3), metres, world."""
        betas, pose, orient, transl = (
            tensor_like(a, self.body.v_template)
            for a in (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
        )
        joints = self.body.joints(betas, pose, orient, transl)
        _, lowest = self.body.lowest_vertex(betas, pose, orient, transl)
        return joints.cpu().numpy().astype(float), lowest.cpu().numpy().astype(float)

    def _optimized(
        self, window: CrowdWindow, proxy: Proxy, coupling: Coupling, world: World, scale_is_stable: bool, began: float
    ) -> Solution:
        return optimize(
            window,
            proxy,
            self.body,
            self.prior,
            self.config.optimization,
            coupling=coupling,
            scale_is_stable=scale_is_stable,
            previous=world.last,
            motion_prior=self.motion_prior,
            began=began,
        )

    def _without_scene(
        self, window: CrowdWindow, world: World, alpha0: float, reason: Exception, began: float
    ) -> tuple[CrowdMotion, World]:
        warning = f"window {window.window_id} is without the scene: {reason}"
        log.warning("%s", warning)
        joints, lowest = self._posed(window.motion)
        proxy = own_places(window, joints, lowest, None, self.config.interaction)
        solution = self._optimized(window, proxy, COUPLINGS["none"], world, world.scale_is_stable, began)
        solution = replace(solution, warnings=(warning, *solution.warnings))
        motion = _crowd_motion(window, solution, alpha0, np.zeros((0, 3)), None, proxy.mode)
        return motion, replace(world, last=LastWindow.of(motion))


def _crowd_motion(
    window: CrowdWindow,
    solution: Solution,
    alpha0: float,
    sipc: FloatArray,
    surface: Surface | None,
    hsip_mode: str,
) -> CrowdMotion:
    """The answer in metres: cameras, SIPC and SIS carry the residual scale α too."""
    pelvis = solution.joints[..., 0, :]
    support = solution.lowest
    if surface is not None:
        height, _ = surface.height(pelvis[..., [0, 2]])
        support = np.stack([pelvis[..., 0], height, pelvis[..., 2]], -1)
    return CrowdMotion(
        window_id=window.window_id,
        segment_id=window.segment_id,
        stamps=window.stamps,
        frames=window.frames,
        is_new=window.is_new,
        intrinsics=window.intrinsics,
        cameras=replace(window.cameras, t=window.cameras.t * solution.alpha),
        scale=alpha0 * solution.alpha,
        scale_source=window.scale_source,
        track_ids=window.track_ids,
        observed=window.observed,
        valid=window.valid,
        boxes=window.boxes,
        motion=solution.motion,
        joints=solution.joints,
        support_point=support,
        velocity=velocities(pelvis, window.valid, window.seconds),
        confidence=window.box_confidence * window.keypoints_confidence.mean(-1) * window.observed,
        sipc=sipc,
        surface=NO_SURFACE if surface is None else surface.mesh(),
        energies=solution.energies,
        hsip_mode=hsip_mode,
        warnings=solution.warnings,
        models=window.models,
    )


def velocities(positions: FloatArray, valid: BoolArray, seconds: FloatArray) -> FloatArray:
    """(N, T, 3) m/s: slopes between the neighbouring valid frames of positions (N, T, 3); zero without any."""
    before = np.maximum(np.arange(len(seconds)) - 1, 0)
    after = np.minimum(np.arange(len(seconds)) + 1, len(seconds) - 1)
    before = np.where(valid[:, before], before, np.arange(len(seconds)))
    after = np.where(valid[:, after], after, np.arange(len(seconds)))
    step = np.take_along_axis(positions, after[..., None], 1) - np.take_along_axis(positions, before[..., None], 1)
    elapsed = seconds[after] - seconds[before]
    moving = valid & (elapsed > 0)
    return np.where(moving[..., None], step / np.where(moving, elapsed, 1.0)[..., None], 0.0)
