"""Table 1 as data: what each stage moves, and what pulls."""

from __future__ import annotations

from dataclasses import dataclass

from crowd4d_ros.config import OptimizationConfig


@dataclass(frozen=True)
class Stage:
    """variables: names in solver.Variables. terms: names in solver's list of energies."""

    name: str
    variables: tuple[str, ...]
    terms: tuple[str, ...]
    iterations: int
    learning_rate: float


def stages(config: OptimizationConfig) -> tuple[Stage, ...]:
    """Stages 1 and 2 of Table 1. ``seam`` is ours; it is zero in a first window."""
    return (
        Stage(
            "stage-1",
            ("betas", "pelvis", "global_orient", "log_alpha"),
            ("proj", "hsip_proj", "hsip_xz", "hsip_y", "beta", "tau", "gamma", "crowd", "seam"),
            config.stage1_iterations,
            config.stage1_learning_rate,
        ),
        Stage(
            "stage-2",
            ("betas", "pelvis", "global_orient", "latent"),
            ("proj", "hsip_proj", "hsip_y", "prior_theta", "beta", "tau", "gamma", "theta", "crowd", "seam"),
            config.stage2_iterations,
            config.stage2_learning_rate,
        ),
    )


def weights(config: OptimizationConfig) -> dict[str, float]:
    """λ of every term."""
    return {
        "proj": config.weight_proj,
        "hsip_proj": config.weight_hsip_proj,
        "hsip_xz": config.weight_hsip_xz,
        "hsip_y": config.weight_hsip_y,
        "beta": config.weight_beta,
        "tau": config.weight_tau,
        "gamma": config.weight_gamma,
        "theta": config.weight_theta,
        "crowd": config.weight_crowd,
        "prior_theta": config.weight_prior_theta,
        "seam": config.weight_seam,
    }
