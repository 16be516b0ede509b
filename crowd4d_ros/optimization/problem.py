"""What a window's optimization is about: what is given, what is sought, and how well they agree (Sec. 3.3).

What costs time is computed for valid person-frames only, side by side as the last axis (body/packing.py and
body/tangent.py), by functions whose gradients are written down: the bodies (body/rig.py), their pixels (image.py),
their turns (turning.py). The rest is as energies.py has it, on (N, T).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crowd4d_ros.body.keypoints import SOLES, VERTICES, sources_to_keypoints
from crowd4d_ros.body.lowest import Reach
from crowd4d_ros.body.packing import Packing
from crowd4d_ros.body.rig import Rig
from crowd4d_ros.body.rotations import matrix_to_axis_angle
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.body.tangent import exponential, orthonormal
from crowd4d_ros.camera import project
from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import Coupling
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.optimization import energies, turning
from crowd4d_ros.optimization.evidence import Evidence, tensor_like
from crowd4d_ros.optimization.image import View
from crowd4d_ros.optimization.long_range import LongRange
from crowd4d_ros.optimization.seam import seam
from crowd4d_ros.optimization.settling import rises
from crowd4d_ros.optimization.stages import Stage
from crowd4d_ros.priors.motion import MotionPrior, Segment
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import BodyMotion, BoolArray, CrowdWindow, FloatArray
from crowd4d_ros.world import LastWindow

SUPPORT_MARGIN = 0.002
"""metres: vertices so near to somebody's lowest may be it before the next refresh. Ours: without it 0.2 to 1.5 % of
bodies had, after 25 iterations, a vertex lower than all of the support by 0.1 to 2 mm; with it 0.07 % at most."""


class Problem:
    """One window on the device. Arguments: ``solver.optimize``'s.

    variables: by name, what the stages of Table 1 move, as it stands. calmed: (V − 1) what the step from each body
    to the next counts in Eq. 24: ``Packing.lasting``, and in Stage 3 times ``LongRange.calm``.
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
        self.pack = pack = Packing.of(seen.valid, body.v_template)
        self.calmed = pack.lasting
        self.has_proxy = self.valid & self._tensor(proxy.valid, torch.bool)
        # a bridged frame's initial body is on a straight line: neighbours know better where it is across the ground
        is_observed = self._tensor(window.observed, torch.bool)
        self.has_own_place = self.has_proxy & is_observed
        self.observed = pack.packed(is_observed)[None].to(body.v_template.dtype)
        self.scene_tree = cKDTree(proxy.scene_points)
        self.reference, self.point, self.reach = (self._tensor(a) for a in (proxy.reference, proxy.point, proxy.range))
        self.foothold = self.point[..., UP]
        self.ground = None if proxy.ground is None else proxy.ground.on(self.valid.device, self.foothold.dtype)
        graph = energies.neighbours(
            proxy.point,
            window.valid & proxy.valid & (config.weight_crowd > 0),
            config.crowd_stride,
            config.crowd_neighbours,
            config.crowd_radius,
            config.crowd_width,
            window.observed if config.crowd_hidden_only else None,
        )
        self.pairs = graph.pairs(config.crowd_stride, self.point)

        self.seam = seam(window, previous, body, config.seam_decay, config.seam_turn_decay)
        self.is_held = pack.packed(self.seam.held) if bool(self.seam.held.any()) else None
        self.initial = self._matrices(seen.global_orient, seen.body_pose)
        self.held = self._matrices(self.seam.global_orient, self.seam.body_pose)
        self.initial_turns = turning.quaternions(self.initial)
        self.rig = Rig.of(body, torch.tensor(list(VERTICES.values()), device=self.valid.device))
        self.levers = Reach(body)
        pelvis = seen.transl + body.pelvis(seen.betas)[:, None]

        is_detected = config.reprojection_reference == "detected"
        leg_change = config.leg_change if is_detected else 0.0
        self.to_keypoints = sources_to_keypoints(seen.betas, leg_change)[: config.keypoints]
        self.view = View(seen.K[:2], pack.of_frames(seen.R), pack.of_frames(seen.t), pack.packed(seen.size))
        pixels = seen.pixels
        if not is_detected:
            joints, landmarks, _ = self.rig.pose(pack.of_people(seen.betas), self.initial, pack.packed(pelvis))
            pixels, _ = project(pack.padded(self._keypoints(joints, landmarks).movedim(0, 1)), seen.K, seen.R, seen.t)
        self.weight = pack.packed(seen.weight)
        self.pixels = torch.where(self.weight > 0, pack.packed(pixels).movedim(1, 0), 0.0)
        probe, _ = project(self._tensor(proxy.probe)[..., None, :], seen.K, seen.R, seen.t)
        self.probe_pixels = pack.packed(probe).movedim(1, 0)
        shift = self.seam.shift(self.reference)
        self.reference = self.reference + shift
        self.point = self.point + shift * shift.new_tensor([1.0, 0.0, 1.0])  # along the ground: its height is known
        self.support = torch.zeros(0, dtype=torch.int64, device=self.valid.device)

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
        config, valid, has_proxy, pack = self.config, self.valid, self.has_proxy, self.pack
        alpha, betas = self.variables["log_alpha"].exp(), self.variables["betas"]
        moved = None if self.long_range is None else self.long_range.motion.moved(self.variables["motion_latent"])
        pelvis, rotations = self._state(moved)
        height_width = config.hsip_height_width if moved is None else config.stage3_height_width
        roots = pack.packed(pelvis)
        joints, landmarks, lowest = self.rig.pose(pack.of_people(betas), rotations, roots)
        lowest_y = pack.padded(lowest)
        body_turns = not {"theta", "initial_pose"}.isdisjoint(names)
        turning_joints = rotations if body_turns else rotations[:, :, :1]
        quaternions = cache(lambda: turning.quaternions(turning_joints))
        turned = cache(lambda: turning.steps(turning_joints, quaternions(), self.calmed))
        terms: dict[str, Callable[[], Tensor]] = {
            "proj": lambda: self.view.energy(
                self._keypoints(joints, landmarks),
                alpha,
                self.pixels,
                self.weight,
                # a scale that is far off moves everybody's pixels: nobody is an outlier until it has settled
                config.reprojection_width if self.has_settled or self.pose_is_free else math.inf,
            ),
            "hsip_proj": lambda: self.view.energy(
                energies.plane_anchor(roots.mT, lowest).mT[:, None],
                alpha,
                self.probe_pixels,
                self.observed,
                seen_only=False,
            ),
            "hsip_xz": lambda: energies.hsip_xz(pelvis, self.point, self.reach, alpha, self.has_own_place),
            "hsip_y": lambda: energies.hsip_y(lowest_y, self.foothold, alpha, has_proxy, height_width),
            "joint_distance": lambda: self._joint_distance(landmarks, lowest_y, alpha),
            "depth": lambda: energies.depth(pelvis, self.reference, alpha, config.depth_metres, has_proxy),
            "beta": lambda: energies.shape_prior(betas, valid),
            "tau": lambda: energies.translation_smoothness(pelvis, valid),
            "gamma": lambda: turned()[0],
            "theta": lambda: turned()[1:].mean(),
            "crowd": lambda: energies.crowd(
                pelvis, self.pairs, config.crowd_direction, config.crowd_metres, config.crowd_turn
            ),
            "upright": lambda: energies.upright(pack.padded(rotations[UP, UP, 0]), valid),
            "initial_pose": lambda: turning.distances(rotations, quaternions(), self.initial_turns)[1:].mean(),
            "prior_theta": lambda: energies.pose_prior(self.variables["latent"], valid),
            "seam": lambda: energies.shape_seam(betas, self.seam.betas, self.seam.known, valid),
        }
        if self.long_range is not None and moved is not None:
            latent = self.variables["motion_latent"]
            terms |= self.long_range.terms(latent, moved, betas, pack.padded(joints.movedim(0, 1)), config.amc_gamma)
        return {name: terms[name]() for name in names}

    @torch.no_grad()
    def answer(self) -> tuple[BodyMotion, FloatArray, FloatArray]:
        """The bodies as they stand, their joints (N, T, 24, 3) and lowest vertices (N, T, 3), metres, world."""
        pelvis, rotations = self._state()
        orient, body_pose = self._angles(rotations)
        betas = self.variables["betas"]
        transl = pelvis - self.body.pelvis(betas)[:, None]
        posed = self.body.pose(betas[:, None], body_pose, orient, transl)
        index = self.body.lowest_index(posed)
        lowest = self.body.skin(posed, index[..., None])[..., 0, :]
        rise = self._rise(lowest)
        motion = BodyMotion(*(array(a) for a in (betas, body_pose, orient, transl + rise)))
        return motion, array(posed.joints + rise[..., None, :]), array(lowest + rise)

    def _rise(self, lowest: Tensor) -> Tensor:
        """(N, T, 3) metres: how lowest vertices (N, T, 3) are set on the ground at the end of Stage 3."""
        config, rise = self.config, torch.zeros_like(lowest)
        is_due = self.long_range is not None and self.has_settled and config.stage3_settling and config.weight_hsip_y
        if self.ground is None or not is_due:
            return rise
        alpha = self.variables["log_alpha"].exp()
        height, _ = self.ground.height(lowest[..., [0, 2]] / alpha)
        rise[..., UP] = rises(
            lowest[..., UP] - alpha * height,
            self.has_proxy,
            self.seam.held,
            energies.adjacent(self.valid),
            self._tensor(self.window.seconds, torch.float64),
            config.stage3_settling,
            config.stage3_settling_width,
        )
        return rise

    def _begin_long_range(self) -> None:
        """From here on the motion is what the segments' codes say, beginning with Stage 2's."""
        if self.motion_prior is None:
            raise ConfigError("Stage 3 needs a motion prior: give one, or set optimization.stages to 2")
        with torch.no_grad():
            pelvis, rotations = self._state()
        columns = self.pack.padded(rotations[:, :2].transpose(0, 1)).flatten(2, 3).mT
        self.long_range = LongRange.of(self.window, self.body, self.motion_prior, self.config, pelvis, columns)
        self.variables["motion_latent"] = self.long_range.motion.initial
        self.calmed = self.pack.lasting * self.long_range.calm[self.pack.person[:-1]]

    def _state(self, moved: Segment | None = None) -> tuple[Tensor, Tensor]:
        """The bodies as they stand, the last window's where held: pelvis (N, T, 3), rotations (3, 3, 24, V)."""
        pack = self.pack
        if self.long_range is None:
            pelvis = self.variables["pelvis"]
            root = exponential(pack.packed(self.variables["global_orient"])[:, None])
            # until Stage 2 frees it the pose is the initial one, which a smaller latent space could not hold
            pose = self.initial[:, :, 1:]
            if self.pose_is_free:
                pose = self.prior.rotations(pack.packed(self.variables["latent"]).mT)
            rotations = torch.cat([root, pose], 2)
        else:
            motion = self.long_range.motion
            pelvis, columns = motion.at_frames(moved or motion.moved(self.variables["motion_latent"]))
            pelvis = pelvis + self.seam.shift(pelvis)
            if self.is_held is not None:
                columns = columns + self.seam.turn(columns)
            rotations = orthonormal(pack.packed(columns.mT).reshape(2, 3, columns.shape[-2], -1))
        if self.is_held is None:
            return pelvis, rotations
        pelvis = torch.where(self.seam.held[..., None], self.seam.pelvis, pelvis)
        return pelvis, torch.where(self.is_held, self.held, rotations)

    def _matrices(self, orient: Tensor, body_pose: Tensor) -> Tensor:
        """Axis-angle (N, T, 3) and (N, T, 23, 3) → rotations (3, 3, 24, V)."""
        angles = self.pack.packed(torch.cat([orient[..., None, :], body_pose], -2))
        return exponential(angles.transpose(0, 1).contiguous())

    def _angles(self, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (3, 3, 24, V) → axis-angle (N, T, 3) and (N, T, 23, 3); what did not change is kept to the bit."""
        seen, held = self.seen, self.seam.held[..., None]
        angles = matrix_to_axis_angle(rotations.permute(3, 2, 0, 1)).movedim(0, -1)
        orient = self.pack.padded(angles[0], seen.global_orient)
        pose = self.pack.padded(angles[1:], seen.body_pose) if self.pose_is_free else seen.body_pose
        return (
            torch.where(held, self.seam.global_orient, orient),
            torch.where(held[..., None], self.seam.body_pose, pose),
        )

    def _keypoints(self, joints: Tensor, landmarks: Tensor) -> Tensor:
        """(3, K, V) of bodies and their vertices of ``VERTICES``."""
        return self.to_keypoints @ torch.cat([joints, landmarks], 1)

    def _joint_distance(self, landmarks: Tensor, lowest_y: Tensor, alpha: Tensor) -> Tensor:
        soles = self.pack.padded(landmarks[:, -len(SOLES) :].movedim(0, 1))
        _, index = self.scene_tree.query(array(soles / alpha))
        nearest = self._tensor(self.scene_tree.data[index])
        return energies.joint_distance(soles, lowest_y, nearest, alpha, self.config.contact_height, self.has_proxy)

    @torch.no_grad()
    def refresh_support(self) -> None:
        """The vertices that are anybody's lowest at any time, or nearly, and the ground under them, until the next."""
        pelvis, rotations = self._state()
        betas, pack = self.variables["betas"], self.pack
        joints, _, lowest = self.rig.pose(pack.of_people(betas), rotations, pack.packed(pelvis))
        among = self.levers.candidates(betas, (joints[UP] - lowest).amin(-1))
        transl = pelvis - self.body.pelvis(betas)[:, None]
        posed = self.body.pose_rotations(betas[:, None], pack.padded(rotations.movedim(2, 0)), transl)
        index, self.support = self.levers.lowest(posed, self.valid, among, SUPPORT_MARGIN)
        self.rig = self.rig.supported(self.body, self.support)
        if self.ground is not None and self.has_settled:
            vertex = self.body.skin(posed, index[..., None])[..., 0, :] / self.variables["log_alpha"].exp()
            self.foothold, _ = self.ground.height(vertex[..., [0, 2]])

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
