"""One window to optimise, prepared once, as often as asked: for us and for the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict, TypeVar

import torch
from torch import Tensor

from crowd4d_ros.benchmark.crowd import window_of
from crowd4d_ros.benchmark.reference import MeshProblem
from crowd4d_ros.body.files import BodyArrays, read_body
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, updated
from crowd4d_ros.device import choose_device
from crowd4d_ros.interaction.anchors import Coupling, coupling
from crowd4d_ros.interaction.point_cloud import scene_interaction_points
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.interaction.surface import build_surface
from crowd4d_ros.optimization.evidence import tensor_like
from crowd4d_ros.optimization.problem import Problem
from crowd4d_ros.optimization.stages import Stage, stages
from crowd4d_ros.priors import load_pose_prior
from crowd4d_ros.priors.motion import MotionPrior
from crowd4d_ros.priors.pose import PosePrior
from crowd4d_ros.window import CrowdWindow

P = TypeVar("P", bound=Problem)


@dataclass(frozen=True)
class Task:
    """A window, where its people stand, and what a ``Problem`` is made of, on the device."""

    window: CrowdWindow
    proxy: Proxy
    coupling: Coupling
    config: Config
    body: BodyModel
    arrays: BodyArrays
    prior: PosePrior
    motion_prior: MotionPrior | None

    @classmethod
    def of(cls, people: int, frames: int, config: Config, seed: int = 0) -> Task:
        """The synthetic crowd of that size. Raises ConfigError where no benchmark can be made of it."""
        body = BodyModel(arrays := read_body(config.body), choose_device(config.device))
        window = window_of(people, frames, body, seed)
        with torch.no_grad():
            motion = window.motion
            posed = body.pose(
                *(
                    tensor_like(a, body.v_template)
                    for a in (motion.betas[:, None], motion.body_pose, motion.global_orient, motion.transl)
                )
            )
            joints = posed.joints.double().cpu().numpy()
            lowest = body.skin(posed, body.lowest_index(posed)[..., None])[..., 0, :].double().cpu().numpy()
        sipc = scene_interaction_points(window.scene, config.interaction)
        surface = build_surface(sipc, joints[window.valid, 0], config.interaction)
        chosen = coupling(config.interaction)
        return cls(
            window=window,
            proxy=chosen.anchor(window, joints, lowest, surface, config.interaction),
            coupling=chosen,
            config=config,
            body=body,
            arrays=arrays,
            **_priors(config, body.v_template),
        )

    def double(self) -> Task:
        """The same window, computed in double precision."""
        body = BodyModel(self.arrays, self.device, torch.float64)
        return replace(self, body=body, **_priors(self.config, body.v_template))

    @property
    def device(self) -> torch.device:
        return self.body.v_template.device

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages(self.config.optimization, self.coupling)

    def as_in_paper(self) -> Task:
        """The same, to be solved by Adam in every iteration of the schedule."""
        descent = {"optimization.solver": "adam", "optimization.enough": 0.0, "optimization.deadline": 0.0}
        return replace(self, config=updated(self.config, descent))

    def ours(self) -> Problem:
        """The window's problem as ``solver.optimize`` sees it."""
        return self.made(Problem)

    def made(self, kind: type[P]) -> P:
        """As ``ours``, of another class."""
        config = self.config.optimization
        return kind(
            self.window, self.proxy, self.body, self.prior, config, self.coupling, False, None, self.motion_prior
        )

    def reference(self) -> MeshProblem:
        """The same with every body's whole mesh."""
        config = self.config.optimization
        return MeshProblem(
            self.arrays, self.window, self.proxy, self.body, self.prior, config, self.coupling, self.motion_prior
        )


class _Priors(TypedDict):
    prior: PosePrior
    motion_prior: MotionPrior | None


def _priors(config: Config, like: Tensor) -> _Priors:
    device, dtype = like.device, like.dtype
    has_third = config.optimization.stages > 2
    return {
        "prior": load_pose_prior(config.optimization.pose_prior, device, dtype),
        "motion_prior": MotionPrior.load(device=device, dtype=dtype) if has_third else None,
    }
