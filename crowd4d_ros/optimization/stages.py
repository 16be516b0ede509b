"""Table 1 as data: what each stage moves, and what pulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling

SOLVERS = ("adam", "lm")
"""The paper's; lm.py, and in Stage 3 adam.py along code_axes.py."""
SMOOTHNESS = ("tau", "gamma", "theta")
"""Eq. 23 and 24."""


@dataclass(frozen=True)
class Stage:
    """variables: what moves. terms: energies, by their names in ``weights``. shares: what is made of their λ."""

    name: str
    variables: tuple[str, ...]
    terms: tuple[str, ...]
    iterations: int
    learning_rate: float
    shares: Mapping[str, float] = field(default_factory=dict)

    def factor(self, term: str) -> float:
        """What this stage makes of the term's λ."""
        return self.shares.get(term, 1.0)


def stages(config: OptimizationConfig, coupling: Coupling = COUPLINGS["hsip"]) -> tuple[Stage, ...]:
    """The first ``config.stages`` of Table 1, without terms of no weight.

    Ours are ``seam``, which a first window has none of, ``upright`` and ``initial_pose``.

    Raises ConfigError for a solver or a stage that does not exist, or that nothing drives.
    """
    if config.solver not in SOLVERS:
        raise ConfigError(f"optimization.solver is {' or '.join(map(repr, SOLVERS))}, not '{config.solver}'")
    table = (
        Stage(
            "stage-1",
            ("betas", "pelvis", "global_orient", "log_alpha"),
            ("proj", *coupling.terms[0], "beta", "tau", "gamma", "crowd", "seam", "upright"),
            config.stage1_iterations,
            config.stage1_learning_rate,
        ),
        Stage(
            "stage-2",
            ("betas", "pelvis", "global_orient", "latent"),
            (
                *("proj", *coupling.terms[1], "prior_theta", "beta", "tau", "gamma", "theta", "crowd", "seam"),
                *("upright", "initial_pose"),
            ),
            config.stage2_iterations,
            config.stage2_learning_rate,
        ),
        Stage(
            "stage-3",
            ("betas", "motion_latent"),
            (
                *("proj", *coupling.terms[2], "contact", "motion_prior", "beta", "tau", "gamma", "theta", "seam"),
                *("connect", "amc"),
            ),
            config.stage3_iterations,
            config.stage3_learning_rate,
            {
                **dict.fromkeys(SMOOTHNESS, config.stage3_smoothing),
                # a narrower Eq. 18 that pulls as hard at a surface that is far off
                "hsip_y": config.hsip_height_width / config.stage3_height_width,
            },
        ),
    )
    if not 0 <= config.stages <= len(table):
        raise ConfigError(f"optimization.stages is 0 to {len(table)}, not {config.stages}")
    weight = weights(config)
    chosen = tuple(
        replace(s, terms=tuple(t for t in s.terms if weight[t] * s.factor(t))) for s in table[: config.stages]
    )
    for stage in chosen:
        if not stage.terms:
            raise ConfigError(f"every weight of {stage.name} is 0: set optimization.stages instead")
    return chosen


def weights(config: OptimizationConfig) -> dict[str, float]:
    """λ of every term."""
    return {
        "proj": config.weight_proj,
        "hsip_proj": config.weight_hsip_proj,
        "hsip_xz": config.weight_hsip_xz,
        "hsip_y": config.weight_hsip_y,
        "joint_distance": config.weight_joint_distance,
        "depth": config.weight_depth,
        "beta": config.weight_beta,
        "tau": config.weight_tau,
        "gamma": config.weight_gamma,
        "theta": config.weight_theta,
        "crowd": config.weight_crowd,
        "prior_theta": config.weight_prior_theta,
        "motion_prior": config.weight_motion_prior,
        "contact": config.weight_contact,
        "connect": config.weight_connect,
        "amc": config.weight_amc,
        "seam": config.weight_seam,
        "upright": config.weight_upright,
        "initial_pose": config.weight_initial_pose,
    }


def factors(config: OptimizationConfig, stage: Stage) -> dict[str, float]:
    """What each of the stage's terms is multiplied by: λ, and what the stage makes of it."""
    weight = weights(config)
    return {name: weight[name] * stage.factor(name) for name in stage.terms}
