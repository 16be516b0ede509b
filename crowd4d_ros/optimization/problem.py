"""What a window's optimization is about: what is given, what is sought, and how well they agree (Sec. 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crowd4d_ros.body.keypoints import SOLES, VERTICES, posed_keypoints, sources_to_keypoints
from crowd4d_ros.body.smpl import UP, BodyModel, PosedBody
from crowd4d_ros.camera import project
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.evidence import Evidence, tensor_like
from crowd4d_ros.optimization.long_range import LongRange
from crowd4d_ros.optimization.seam import seam
from crowd4d_ros.optimization.stages import Stage
from crowd4d_ros.priors.motion import MotionPrior, Segment
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import BodyMotion, BoolArray, CrowdWindow, FloatArray
from crowd4d_ros.world import LastWindow

State = tuple[Tensor, Tensor, Tensor, Tensor]
"""betas (N, 10), pelvis (N, T, 3), global_orient (N, T, 3), body_pose (N, T, 23, 3)."""


class Problem:
    """One window on the device. Arguments: ``solver.optimize``'s.

    variables: by name, what the stages of Table 1 move, as it stands.
    """

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
        motion_prior: MotionPrior | None,
    ) -> None:
        self.body, self.prior, self.config = body, prior, config
        self.coupling = coupling
        self.scale_is_given = self.scale_is_stable = scale_is_stable or not coupling.is_scaled
        self.has_settled = self.pose_is_free = False
        self.window, self.motion_prior = window, motion_prior
        self.long_range: LongRange | None = None
        self.alphas: list[float] = []

        self.seen = seen = Evidence.of(window, config, body.v_template)
        self.valid = seen.valid
        self.has_proxy = self.valid & self._tensor(proxy.valid, torch.bool)
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

        is_detected = config.reprojection_reference == "detected"
        leg_change = config.leg_change if is_detected else 0.0
        self.to_keypoints = sources_to_keypoints(seen.betas, leg_change)[: config.keypoints]
        self.landmarks = torch.tensor(list(VERTICES.values()), device=self.valid.device)
        self.seam = seam(window, previous, body, config.seam_decay)
        posed = body.pose(seen.betas[:, None], seen.body_pose, seen.global_orient, seen.transl)
        pelvis = posed.joints[..., 0, :]
        self.pixels = seen.pixels
        if not is_detected:
            self.pixels, _ = project(self._keypoints(posed, body.skin(posed, self.landmarks)), seen.K, seen.R, seen.t)
        probe, _ = project(self._tensor(proxy.probe)[..., None, :], seen.K, seen.R, seen.t)
        self.probe_pixels = probe[..., 0, :]
        shift = self.seam.shift(self.reference)
        self.reference = self.reference + shift
        self.point = self.point + shift * shift.new_tensor([1.0, 0.0, 1.0])  # along the ground: its height is known
        self.skinned = self.landmarks

        self.variables = {
            "betas": torch.where(self.seam.known[:, None], self.seam.betas, seen.betas),
            "pelvis": pelvis + self.seam.shift(pelvis),
            "global_orient": seen.global_orient,
            "log_alpha": pelvis.new_zeros(()),
            "latent": prior.encode(seen.body_pose),
        }

    def begin(self, stage: Stage) -> dict[str, Tensor]:
        """The variables that the stage moves, as leaves."""
        if "motion_latent" in stage.variables:
            self._begin_long_range()
        free = [name for name in stage.variables if not (name == "log_alpha" and self.scale_is_given)]
        moving = {name: self.variables[name].detach().requires_grad_() for name in free}
        self.variables.update(moving)
        self.pose_is_free |= "latent" in moving
        return moving

    def energies(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The terms, unweighted."""
        config, seen, valid, held = self.config, self.seen, self.valid, self.has_proxy
        alpha = self.variables["log_alpha"].exp()
        moved = None if self.long_range is None else self.long_range.motion.moved(self.variables["motion_latent"])
        betas, pelvis, orient, body_pose = state = self._state(moved)
        posed = self._pose(state)
        skinned = self.body.skin(posed, self.skinned)
        lowest_y = skinned[..., len(VERTICES) :, UP].amin(-1)
        camera = (seen.K, seen.R, alpha * seen.t)
        terms: dict[str, Callable[[], Tensor]] = {
            "proj": lambda: energies.reprojection(
                *project(self._keypoints(posed, skinned[..., : len(VERTICES), :]), *camera),
                self.pixels,
                seen.weight,
                seen.size,
                valid,
                # a scale that is far off moves everybody's pixels: nobody is an outlier until it has settled
                config.reprojection_width if self.has_settled or self.pose_is_free else math.inf,
            ),
            "hsip_proj": lambda: energies.hsip_projection(
                project(energies.plane_anchor(pelvis, lowest_y)[..., None, :], *camera)[0][..., 0, :],
                self.probe_pixels,
                seen.size,
                valid,
            ),
            "hsip_xz": lambda: energies.hsip_xz(pelvis, self.point, self.reach, alpha, held),
            "hsip_y": lambda: energies.hsip_y(lowest_y, self.point[..., UP], alpha, held, config.hsip_height_width),
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
            "upright": lambda: energies.upright(posed.transforms[..., 0, UP, UP], valid),
            "initial_pose": lambda: energies.rotation_distance(body_pose, seen.body_pose, valid),
            "prior_theta": lambda: energies.pose_prior(self.variables["latent"], valid),
            "seam": lambda: energies.shape_seam(betas, self.seam.betas, self.seam.known, valid),
        }
        if self.long_range is not None and moved is not None:
            latent = self.variables["motion_latent"]
            terms |= self.long_range.terms(latent, moved, self.body, betas, posed, config.amc_gamma)
        return {name: terms[name]() for name in names}

    @torch.no_grad()
    def answer(self) -> tuple[BodyMotion, FloatArray, FloatArray]:
        """The bodies as they stand, their joints (N, T, 24, 3) and lowest vertices (N, T, 3), metres, world."""
        betas, pelvis, orient, body_pose = state = self._state()
        posed = self._pose(state)
        index = self.body.lowest_index(posed)
        lowest = self.body.skin(posed, index[..., None])[..., 0, :]
        transl = pelvis - self.body.pelvis(betas)[:, None]
        motion = BodyMotion(*(array(a) for a in (betas, body_pose, orient, transl)))
        return motion, array(posed.joints), array(lowest)

    def _begin_long_range(self) -> None:
        """From here on the motion is what the segments' codes say, beginning with Stage 2's."""
        if self.motion_prior is None:
            raise ConfigError("Stage 3 needs a motion prior: give one, or set optimization.stages to 2")
        with torch.no_grad():
            _, *motion = self._state()
        self.long_range = LongRange.of(self.window, self.motion_prior, self.config, *motion)
        self.variables["motion_latent"] = self.long_range.motion.initial

    def _state(self, moved: Segment | None = None) -> State:
        """The bodies as they stand, the last window's where held."""
        held = self.seam.held[..., None]
        if self.long_range is None:
            pelvis, orient = self.variables["pelvis"], self.variables["global_orient"]
            # until Stage 2 frees it the pose is the initial one, which a smaller latent space could not hold
            pose = self.prior.decode(self.variables["latent"]) if self.pose_is_free else self.seen.body_pose
        else:
            motion = self.long_range.motion
            pelvis, orient, pose = motion.at_frames(moved or motion.moved(self.variables["motion_latent"]))
            pelvis = pelvis + self.seam.shift(pelvis)
        return (
            self.variables["betas"],
            torch.where(held, self.seam.pelvis, pelvis),
            torch.where(held, self.seam.global_orient, orient),
            torch.where(held[..., None], self.seam.body_pose, pose),
        )

    def _pose(self, state: State) -> PosedBody:
        betas, pelvis, orient, body_pose = state
        return self.body.pose(betas[:, None], body_pose, orient, pelvis - self.body.pelvis(betas)[:, None])

    def _keypoints(self, posed: PosedBody, landmarks: Tensor) -> Tensor:
        """(N, T, K, 3) of bodies and their vertices of ``VERTICES``."""
        sources = torch.cat([posed.joints, landmarks], -2)
        return torch.einsum("ks,ntsc->ntkc", self.to_keypoints, sources)

    def _joint_distance(self, posed: PosedBody, lowest_y: Tensor, alpha: Tensor) -> Tensor:
        soles = posed_keypoints(self.body, posed)[..., list(SOLES), :]
        _, index = self.scene_tree.query(array(soles / alpha))
        nearest = self._tensor(self.scene_tree.data[index])
        return energies.joint_distance(soles, lowest_y, nearest, alpha, self.config.contact_height, self.has_proxy)

    @torch.no_grad()
    def refresh_support(self) -> None:
        """Landmarks, and the vertices that are anybody's lowest at any time: no others are skinned until the next."""
        lowest = torch.unique(self.body.lowest_index(self._pose(self._state()))[self.valid])
        self.skinned = torch.cat([self.landmarks, lowest])

    @torch.no_grad()
    def root_once_stable(self) -> bool:
        """τ ← r*, scaled, as soon as α has settled: from there on depth comes from the scene. True if it did that."""
        if self.has_settled:
            return False
        self.alphas.append(float(self.variables["log_alpha"]))
        recent = self.alphas[-self.config.stable_iterations :]
        settled = len(recent) == self.config.stable_iterations and np.ptp(recent) < self.config.stable_change
        if not (settled or self.scale_is_given):
            return False
        self.has_settled = self.scale_is_stable = True
        if not self.coupling.is_rooted:
            return False
        pelvis = self.variables["pelvis"]
        reference = self.variables["log_alpha"].exp() * self.reference
        pelvis.copy_(torch.where(self.has_proxy[..., None], reference, pelvis))
        return True

    def _tensor(self, array: FloatArray | BoolArray, dtype: torch.dtype | None = None) -> Tensor:
        return tensor_like(array, self.body.v_template, dtype)


def array(tensor: Tensor) -> FloatArray:
    """A tensor's numbers on the host."""
    return np.asarray(tensor.detach().cpu().numpy())
