"""Stages 1 and 2: Adam on the crowd's motion and the residual scale of the scene (Sec. 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crowd4d_ros.body.keypoints import SOLES, posed_keypoints
from crowd4d_ros.body.smpl import UP, BodyModel, PosedBody
from crowd4d_ros.camera import project
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.seam import seam
from crowd4d_ros.optimization.stages import Stage, stages, weights
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import BodyMotion, BoolArray, CrowdWindow, FloatArray, IntArray
from crowd4d_ros.world import LastWindow

logger = logging.getLogger(__name__)

State = tuple[Tensor, Tensor, Tensor, Tensor]
"""betas (N, 10), pelvis (N, T, 3), global_orient (N, T, 3), body_pose (N, T, 23, 3)."""


@dataclass(frozen=True)
class Solution:
    """The optimised window. Entries that are not valid in the window are finite and carry no meaning.

    motion: transl is smplx's. joints: (N, T, 24, 3) metres, world. lowest: (N, T, 3) lowest vertices.
    alpha: the residual scale; cameras, SIPC and SIS are to be scaled by it. scale_is_stable: it had settled.
    energies: term → its weighted value where each stage that used it ended. warnings: what went wrong.
    """

    motion: BodyMotion
    joints: FloatArray
    lowest: FloatArray
    alpha: float
    scale_is_stable: bool
    energies: dict[str, list[float]]
    warnings: tuple[str, ...]


def optimize(
    window: CrowdWindow,
    proxy: Proxy,
    body: BodyModel,
    prior: PosePrior,
    config: OptimizationConfig,
    *,
    coupling: Coupling = COUPLINGS["hsip"],
    scale_is_stable: bool = False,
    previous: LastWindow | None = None,
) -> Solution:
    """Stages 1 and 2 of Table 1 on one window.

    window: already scaled by α0 (``interaction.scale.scaled``), as ``proxy``, which ``coupling`` made, is. body,
    prior: on the device and of the dtype to compute with. scale_is_stable: the world's scale is known, α stays 1.
    previous: the last window's answer; frames that both windows have keep it exactly, and the new frames start from it.
    A term that is not finite ends the window with a warning that names it, in the last good state.
    """
    if config.reprojection_reference not in ("initial", "detected"):
        raise ConfigError(
            f"optimization.reprojection_reference is 'initial' or 'detected', not '{config.reprojection_reference}'"
        )
    problem = _Problem(window, proxy, body, prior, config, coupling, scale_is_stable, previous)
    if window.valid.any():
        for stage in stages(config, coupling):
            if not problem.run(stage):
                break
    return problem.solution()


class _Problem:
    """One window on the device: what is given, what is sought, and how well they agree."""

    def __init__(
        self,
        window: CrowdWindow,
        proxy: Proxy,
        body: BodyModel,
        prior: PosePrior,
        config: OptimizationConfig,
        coupling: Coupling,
        scale_is_stable: bool,
        previous: LastWindow | None,
    ) -> None:
        self.body, self.prior, self.config, self.weights = body, prior, config, weights(config)
        self.coupling = coupling
        self.scale_is_given = self.scale_is_stable = scale_is_stable or not coupling.is_scaled
        self.has_settled = self.pose_is_free = False
        self.alphas: list[float] = []
        self.energies: dict[str, list[float]] = {}
        self.warnings: list[str] = []

        self.valid = self._tensor(window.valid, torch.bool)
        self.has_proxy = self.valid & self._tensor(proxy.valid, torch.bool)
        self.K = self._tensor(window.intrinsics.K_rectified)
        self.R, self.t = self._tensor(window.cameras.R), self._tensor(window.cameras.t)
        area = np.where(window.valid, window.boxes[..., 2] * window.boxes[..., 3], 0.0)
        self.size = self._tensor(np.maximum(np.sqrt(np.maximum(area, 0.0)), config.min_size))
        self.scene_tree = cKDTree(proxy.scene_points)
        self.reference, self.point, self.reach = (self._tensor(a) for a in (proxy.reference, proxy.point, proxy.range))
        self.graph = energies.neighbours(
            proxy.point,
            window.valid & proxy.valid & (config.weight_crowd > 0),
            config.crowd_stride,
            config.crowd_neighbours,
            config.crowd_radius,
            config.crowd_width,
        )

        betas, pose, orient, transl = (self._tensor(a) for a in _filled(window))
        self.initial_pose = pose
        self.seam = seam(window, previous, body, config.seam_decay)
        posed = body.pose(betas[:, None], pose, orient, transl)
        pelvis = posed.joints[..., 0, :]
        self.confidence = self._tensor(window.keypoints_confidence)[..., : config.keypoints]
        self.pixels = self._tensor(window.keypoints_2d)[..., : config.keypoints, :]
        if config.reprojection_reference == "initial":
            self.pixels, _ = project(self._keypoints(posed), self.K, self.R, self.t)
        probe, _ = project(self._tensor(proxy.probe)[..., None, :], self.K, self.R, self.t)
        self.probe_pixels = probe[..., 0, :]
        shift = self.seam.shift(self.reference)
        self.reference = self.reference + shift
        self.point = self.point + shift * shift.new_tensor([1.0, 0.0, 1.0])  # along the ground: its height is known
        self.support = torch.zeros(1, dtype=torch.int64, device=self.valid.device)

        self.variables = {
            "betas": torch.where(self.seam.known[:, None], self.seam.betas, betas),
            "pelvis": pelvis + self.seam.shift(pelvis),
            "global_orient": orient,
            "log_alpha": torch.zeros((), dtype=betas.dtype, device=betas.device),
            "latent": prior.encode(pose),
        }

    def run(self, stage: Stage) -> bool:
        """One stage of Table 1. False if it had to stop."""
        free = [n for n in stage.variables if not (n == "log_alpha" and self.scale_is_given)]
        moving = {name: self.variables[name].detach().requires_grad_() for name in free}
        self.variables.update(moving)
        self.pose_is_free |= "latent" in moving
        optimizer = torch.optim.Adam(moving.values(), lr=stage.learning_rate)
        good = {name: tensor.detach().clone() for name, tensor in moving.items()}
        for iteration in range(stage.iterations + 1):
            if iteration % self.config.support_refresh == 0:
                self._refresh_support()
            if "log_alpha" in stage.variables:
                self._root_once_stable(optimizer)
            values = self._energies(stage.terms)
            weighted = torch.stack([self.weights[name] * value for name, value in values.items()])
            if not bool(torch.isfinite(weighted).all()):
                self.variables.update(good)
                self._warn(f"{stage.name} stopped at iteration {iteration}: {_broken(values)} is not finite")
                return False
            if iteration == stage.iterations:
                break
            good = {name: tensor.detach().clone() for name, tensor in moving.items()}
            optimizer.zero_grad()
            torch.autograd.backward(weighted.sum())
            optimizer.step()
        for name, value in zip(values, weighted.tolist(), strict=True):
            self.energies.setdefault(name, []).append(value)
        if "log_alpha" in stage.variables and not self.has_settled:
            self._warn(f"the scale did not settle in {stage.name}: people stay where their size puts them")
        return True

    @torch.no_grad()
    def solution(self) -> Solution:
        betas, pelvis, orient, body_pose = state = self._state()
        posed = self._pose(state)
        index = self.body.lowest_index(posed)
        lowest = self.body.skin(posed, index[..., None])[..., 0, :]
        transl = pelvis - self.body.pelvis(betas)[:, None]
        motion = BodyMotion(*(_array(a) for a in (betas, body_pose, orient, transl)))
        return Solution(
            motion,
            _array(posed.joints),
            _array(lowest),
            float(self.variables["log_alpha"].exp()),
            self.scale_is_stable,
            self.energies,
            tuple(self.warnings),
        )

    def _energies(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The terms, unweighted."""
        config, valid, held = self.config, self.valid, self.has_proxy
        alpha = self.variables["log_alpha"].exp()
        betas, pelvis, orient, body_pose = state = self._state()
        posed = self._pose(state)
        lowest_y = self.body.skin(posed, self.support)[..., UP].amin(-1)
        camera = (self.K, self.R, alpha * self.t)
        terms: dict[str, Callable[[], Tensor]] = {
            "proj": lambda: energies.reprojection(
                *project(self._keypoints(posed), *camera), self.pixels, self.confidence, self.size, valid
            ),
            "hsip_proj": lambda: energies.hsip_projection(
                project(energies.plane_anchor(pelvis, lowest_y)[..., None, :], *camera)[0][..., 0, :],
                self.probe_pixels,
                self.size,
                valid,
            ),
            "hsip_xz": lambda: energies.hsip_xz(pelvis, self.point, self.reach, alpha, held),
            "hsip_y": lambda: energies.hsip_y(lowest_y, self.point[..., UP], alpha, held),
            "joint_distance": lambda: self._joint_distance(posed, lowest_y, alpha),
            "depth": lambda: energies.depth(pelvis, self.reference, alpha, config.depth_metres, held),
            "beta": lambda: energies.shape_prior(betas, valid),
            "tau": lambda: energies.translation_smoothness(pelvis, valid),
            "gamma": lambda: energies.rotation_smoothness(orient, valid),
            "theta": lambda: energies.rotation_smoothness(body_pose, valid),
            "crowd": lambda: energies.crowd(
                pelvis,
                self.graph,
                config.crowd_stride,
                config.crowd_direction,
                config.crowd_metres,
                config.crowd_turn,
            ),
            "prior_theta": lambda: energies.pose_prior(self.variables["latent"], valid),
            "seam": lambda: energies.shape_seam(betas, self.seam.betas, self.seam.known, valid),
        }
        return {name: terms[name]() for name in names}

    def _state(self) -> State:
        """The bodies as they stand, the last window's where held."""
        held = self.seam.held[..., None]
        latent = self.variables["latent"]
        # until Stage 2 frees it the pose is the initial one, which a smaller latent space could not hold
        pose = self.prior.decode(latent) if self.pose_is_free else self.initial_pose
        return (
            self.variables["betas"],
            torch.where(held, self.seam.pelvis, self.variables["pelvis"]),
            torch.where(held, self.seam.global_orient, self.variables["global_orient"]),
            torch.where(held[..., None], self.seam.body_pose, pose),
        )

    def _pose(self, state: State) -> PosedBody:
        betas, pelvis, orient, body_pose = state
        return self.body.pose(betas[:, None], body_pose, orient, pelvis - self.body.pelvis(betas)[:, None])

    def _keypoints(self, posed: PosedBody) -> Tensor:
        return posed_keypoints(self.body, posed)[..., : self.config.keypoints, :]

    def _joint_distance(self, posed: PosedBody, lowest_y: Tensor, alpha: Tensor) -> Tensor:
        soles = posed_keypoints(self.body, posed)[..., list(SOLES), :]
        _, index = self.scene_tree.query(_array(soles / alpha))
        nearest = self._tensor(self.scene_tree.data[index])
        return energies.joint_distance(soles, lowest_y, nearest, alpha, self.config.contact_height, self.has_proxy)

    @torch.no_grad()
    def _refresh_support(self) -> None:
        """The vertices that are the lowest of anybody at any time: the only ones skinned until the next."""
        self.support = torch.unique(self.body.lowest_index(self._pose(self._state()))[self.valid])

    @torch.no_grad()
    def _root_once_stable(self, optimizer: torch.optim.Optimizer) -> None:
        """τ ← r*, scaled, as soon as α has settled: from there on depth comes from the scene."""
        if self.has_settled:
            return
        self.alphas.append(float(self.variables["log_alpha"]))
        recent = self.alphas[-self.config.stable_iterations :]
        settled = len(recent) == self.config.stable_iterations and np.ptp(recent) < self.config.stable_change
        if not (settled or self.scale_is_given):
            return
        self.has_settled = self.scale_is_stable = True
        if not self.coupling.is_rooted:
            return
        pelvis = self.variables["pelvis"]
        reference = self.variables["log_alpha"].exp() * self.reference
        pelvis.copy_(torch.where(self.has_proxy[..., None], reference, pelvis))
        optimizer.state.pop(pelvis, None)  # its momentum belonged to the place it left

    def _warn(self, message: str) -> None:
        logger.warning(message)
        self.warnings.append(message)

    def _tensor(self, array: FloatArray | BoolArray, dtype: torch.dtype | None = None) -> Tensor:
        like = self.body.v_template
        return torch.as_tensor(array, dtype=dtype or like.dtype, device=like.device)


def _filled(window: CrowdWindow) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """betas, body_pose, global_orient and transl with every padded entry copied from a valid one.

    Padding may hold NaN, and even at weight zero a NaN spoils a gradient.
    """
    motion = window.motion
    betas = np.where(window.valid.any(-1, keepdims=True), motion.betas, 0.0)
    given = motion.body_pose, motion.global_orient, motion.transl
    if not window.valid.any():
        pose, orient, transl = (np.zeros_like(a) for a in given)
    else:
        source = nearest_valid(window.valid)
        pose, orient, transl = (a.reshape(-1, *a.shape[2:])[source] for a in given)
    return betas, pose, orient, transl


def nearest_valid(valid: BoolArray) -> IntArray:
    """(N, T) index into N·T of the same person's nearest valid frame, or of the first valid entry of all.

    Somebody must be valid somewhere.
    """
    people, frames = valid.shape
    frame = np.arange(frames)
    before = np.maximum.accumulate(np.where(valid, frame, -frames), -1)
    after = np.minimum.accumulate(np.where(valid, frame, 2 * frames)[:, ::-1], -1)[:, ::-1]
    nearest = np.where(frame - before <= after - frame, before, after)
    own = np.arange(people)[:, None] * frames + nearest
    return np.where(valid.any(-1, keepdims=True), own, valid.argmax())


def _broken(values: dict[str, Tensor]) -> str:
    return ", ".join(name for name, value in values.items() if not bool(torch.isfinite(value)))


def _array(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy())
