"""The reference: the same problem with the whole mesh of every body in every iteration, in plain autograd.

Written for the eye, not the clock, beside ``optimization.problem``, which has to agree with it term by term. Left out
is what a benchmark's window never has: a window before it, and people who meet the scene otherwise than by HSIP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from crowd4d_ros.benchmark.mesh import Mesh
from crowd4d_ros.body.files import BodyArrays
from crowd4d_ros.body.keypoints import VERTICES, sources_to_keypoints
from crowd4d_ros.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_6d_to_matrix
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.camera import project
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization import energies
from crowd4d_ros.optimization.evidence import Evidence, tensor_like
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.priors.motion import MotionPrior, Segment
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import CrowdWindow

HELD = {"cpu": 2000, "cuda": 30000}
"""Bodies whose meshes, with all that their gradients need, are held at once, some 1.5 MB each: more are computed in
parts, and each part once more for its gradient."""


@dataclass(frozen=True)
class Given:
    """What the energies are computed from, (N, T, …), as ``Problem`` has it before it packs it.

    observed, has_proxy: (N, T); initial: (N, T, 23, 3, 3) the initial pose; point: (N, T, 3), reach: (N, T), Eq. 17's;
    probe: (N, T, 2) pixels of Eq. 20; to_keypoints: (K, 24 + 11); landmarks: (11,) of ``VERTICES``.
    """

    seen: Evidence
    observed: Tensor
    has_proxy: Tensor
    initial: Tensor
    point: Tensor
    reach: Tensor
    probe: Tensor
    to_keypoints: Tensor
    landmarks: Tensor

    @classmethod
    def of(cls, window: CrowdWindow, proxy: Proxy, config: OptimizationConfig, like: Tensor) -> Given:
        """On the device and of the dtype of ``like``."""
        seen = Evidence.of(window, config, like)
        probe, _ = project(tensor_like(proxy.probe, like)[..., None, :], seen.K, seen.R, seen.t)
        return cls(
            seen=seen,
            observed=seen.valid & tensor_like(window.observed, like, torch.bool),
            has_proxy=seen.valid & tensor_like(proxy.valid, like, torch.bool),
            initial=axis_angle_to_matrix(seen.body_pose),
            point=tensor_like(proxy.point, like),
            reach=tensor_like(proxy.range, like),
            probe=probe[..., 0, :],
            to_keypoints=sources_to_keypoints(like, config.leg_change)[: config.keypoints],
            landmarks=torch.tensor(list(VERTICES.values()), device=like.device),
        )


@dataclass(frozen=True)
class Bodies:
    """Bodies (N, T), zeros where nobody is. joints: (N, T, 24, 3); landmarks: (N, T, 11, 3) of ``VERTICES``; lowest:
    (N, T, 3), of all vertices."""

    joints: Tensor
    landmarks: Tensor
    lowest: Tensor


class MeshProblem(Problem):
    """``Problem``, but its energies: each body's whole mesh, made of ``arrays``, in every iteration."""

    def __init__(
        self,
        arrays: BodyArrays,
        window: CrowdWindow,
        proxy: Proxy,
        body: BodyModel,
        prior: PosePrior,
        config: OptimizationConfig,
        coupling: Coupling,
        motion_prior: MotionPrior | None,
    ) -> None:
        if coupling is not COUPLINGS["hsip"] or config.reprojection_reference != "detected":
            raise ConfigError(
                "the benchmark's reference knows interaction.coupling 'hsip' and optimization.reprojection_reference "
                "'detected' alone"
            )
        super().__init__(window, proxy, body, prior, config, coupling, False, None, motion_prior)
        self.mesh = Mesh(arrays, body.v_template)
        self.given = Given.of(window, proxy, config, body.v_template)

    @torch.no_grad()
    def refresh_support(self) -> None:
        """The ground under everybody's lowest vertex, as ``Problem`` does; the mesh needs no support set."""
        if self.ground is None or not self.has_settled:
            return
        _, _, bodies = self._bodies(self._moved())
        xz = bodies.lowest[..., [0, 2]] / self.variables["log_alpha"].exp()
        self.foothold, _ = self.ground.height(xz)

    def follow(self, other: Problem) -> None:
        """Everything that moves becomes what it is in ``other``, a problem of the same window in the same precision."""
        self.long_range = other.long_range
        equalise(self, other)
        self.foothold = other.foothold

    def energies(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """As ``Problem.energies``."""
        config, given, seen = self.config, self.given, self.given.seen
        valid = seen.valid
        betas, alpha = self.variables["betas"], self.variables["log_alpha"].exp()
        moved = self._moved()
        pelvis, rotations, bodies = self._bodies(moved)
        lowest_y = bodies.lowest[..., UP]
        keypoints = torch.einsum("ks,ntsc->ntkc", given.to_keypoints, torch.cat([bodies.joints, bodies.landmarks], -2))
        camera = (seen.K, seen.R, alpha * seen.t)
        height_width = config.hsip_height_width if moved is None else config.stage3_height_width
        width = config.reprojection_width if self.has_settled or self.pose_is_free else math.inf
        terms: dict[str, Callable[[], Tensor]] = {
            "proj": lambda: energies.reprojection(
                *project(keypoints, *camera), seen.pixels, seen.weight, seen.size, valid, width
            ),
            "hsip_proj": lambda: energies.hsip_projection(
                project(energies.plane_anchor(pelvis, lowest_y)[..., None, :], *camera)[0][..., 0, :],
                given.probe,
                seen.size,
                given.observed,
            ),
            "hsip_xz": lambda: energies.hsip_xz(
                pelvis, given.point, given.reach, alpha, given.has_proxy & given.observed
            ),
            "hsip_y": lambda: energies.hsip_y(lowest_y, self.foothold, alpha, given.has_proxy, height_width),
            "beta": lambda: energies.shape_prior(betas, valid),
            "tau": lambda: energies.translation_smoothness(pelvis, valid),
            "gamma": lambda: self._steps(rotations[..., :1, :, :]),
            "theta": lambda: self._steps(rotations[..., 1:, :, :]),
            "crowd": lambda: energies.crowd(
                pelvis, self.pairs, config.crowd_direction, config.crowd_metres, config.crowd_turn
            ),
            "upright": lambda: energies.upright(rotations[..., 0, UP, UP], valid),
            "initial_pose": lambda: (_squared_angle(given.initial, rotations[..., 1:, :, :]).mean(-1) * valid).sum(),
            "prior_theta": lambda: energies.pose_prior(self.variables["latent"], valid),
            "seam": lambda: betas.new_zeros(()),
        }
        if self.long_range is not None and moved is not None:
            latent = self.variables["motion_latent"]
            terms |= self.long_range.terms(latent, moved, betas, bodies.joints, config.amc_gamma)
        return {name: terms[name]() for name in names}

    def _moved(self) -> Segment | None:
        return None if self.long_range is None else self.long_range.motion.moved(self.variables["motion_latent"])

    def _bodies(self, moved: Segment | None) -> tuple[Tensor, Tensor, Bodies]:
        """Of the variables as they are: the pelvis (N, T, 3), all rotations (N, T, 24, 3, 3), and the bodies."""
        pelvis, rotations = self._motion(moved)
        return pelvis, rotations, self._posed(self.variables["betas"], rotations, pelvis)

    def _motion(self, moved: Segment | None) -> tuple[Tensor, Tensor]:
        """The pelvis (N, T, 3) and all rotations (N, T, 24, 3, 3)."""
        if self.long_range is not None and moved is not None:
            pelvis, columns = self.long_range.motion.at_frames(moved)
            return pelvis, rotation_6d_to_matrix(columns)
        pelvis, orient = self.variables["pelvis"], self.variables["global_orient"]
        pose = self.prior.decode(self.variables["latent"]) if self.pose_is_free else self.given.seen.body_pose
        return pelvis, axis_angle_to_matrix(torch.cat([orient[..., None, :], pose], -2))

    def _posed(self, betas: Tensor, rotations: Tensor, pelvis: Tensor) -> Bodies:
        """The whole mesh of everybody who is there."""
        there = self.given.seen.valid
        shapes = betas[:, None].expand(*there.shape, -1)[there]
        given = shapes, rotations[there], pelvis[there]
        held = HELD[pelvis.device.type]
        if len(shapes) <= held:
            points = self._points(*given)
        else:
            parts = zip(*(torch.split(a, held) for a in given), strict=True)
            points = torch.cat([checkpoint(self._points, *part, use_reentrant=False) for part in parts])
        spread = points.new_zeros(*there.shape, *points.shape[1:]).index_put((there,), points)
        joints, landmarks, lowest = torch.split(spread, [rotations.shape[2], len(self.given.landmarks), 1], -2)
        return Bodies(joints, landmarks, lowest[..., 0, :])

    def _points(self, betas: Tensor, rotations: Tensor, pelvis: Tensor) -> Tensor:
        """Joints, landmarks and the lowest vertex, (B, 24 + 11 + 1, 3)."""
        vertices, joints = self.mesh(betas, rotations, pelvis)
        lowest = vertices[..., UP].argmin(-1, keepdim=True)
        index = torch.cat([self.given.landmarks.expand(len(betas), -1), lowest], -1)
        return torch.cat([joints, vertices.take_along_dim(index[..., None], -2)], -2)

    def _steps(self, rotations: Tensor) -> Tensor:
        """Eq. 24 of rotations (N, T, J, 3, 3)."""
        squared = _squared_angle(rotations[:, :-1], rotations[:, 1:]).mean(-1)
        weight = energies.adjacent(self.given.seen.valid).to(squared)
        if self.long_range is not None:
            weight = weight * self.long_range.calm[:, None]
        return (squared * weight).sum()


def equalise(problem: Problem, other: Problem) -> None:
    """The variables of ``problem`` become copies of those of ``other``, leaves where those are leaves to optimise."""
    problem.has_settled, problem.scale_is_stable = other.has_settled, other.scale_is_stable
    problem.pose_is_free = other.pose_is_free
    for name, variable in other.variables.items():
        same = variable.detach().to(problem.variables["betas"], copy=True)
        problem.variables[name] = same.requires_grad_(variable.requires_grad)


def _squared_angle(a: Tensor, b: Tensor) -> Tensor:
    """|log(aᵀ b)|², rad²."""
    return matrix_to_axis_angle(a.mT @ b).square().sum(-1)
