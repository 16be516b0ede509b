"""Table 1 as data: what each stage moves, and what pulls."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crowd4d_ros.config import ConfigError, OptimizationConfig
from crowd4d_ros.interaction.anchors import COUPLINGS, Coupling


@dataclass(frozen=True)
class Stage:
    """variables: names in solver.Variables. terms: names in solver's list of energies."""

    name: str
    variables: tuple[str, ...]
    terms: tuple[str, ...]
    iterations: int
    learning_rate: float


def stages(config: OptimizationConfig, coupling: Coupling = COUPLINGS["hsip"]) -> tuple[Stage, ...]:
    """The first ``config.stages`` of Table 1, without terms of no weight. ``seam`` is ours; a first window has none.

    Raises ConfigError for a stage that does not exist, or that nothing drives.
    """
    table = (
        Stage(
            "stage-1",
            ("betas", "pelvis", "global_orient", "log_alpha"),
            ("proj", *coupling.terms[0], "beta", "tau", "gamma", "crowd", "seam"),
            config.stage1_iterations,
            config.stage1_learning_rate,
        ),
        Stage(
            "stage-2",
            ("betas", "pelvis", "global_orient", "latent"),
            ("proj", *coupling.terms[1], "prior_theta", "beta", "tau", "gamma", "theta", "crowd", "seam"),
            config.stage2_iterations,
            config.stage2_learning_rate,
        ),
    )
    if not 0 <= config.stages <= len(table):
        raise ConfigError(f"optimization.stages is 0 to {len(table)}, not {config.stages}: there are no more yet")
    weight = weights(config)
    chosen = tuple(replace(s, terms=tuple(t for t in s.terms if weight[t])) for s in table[: config.stages])
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
        "seam": config.weight_seam,
    }
