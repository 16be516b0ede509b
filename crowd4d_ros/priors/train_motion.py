"""Training of the motion prior: `crowd4d train motion-prior`.

A variational autoencoder that begins as the principal axes of its segments. Its encoder sees most segments as an
initializer would give them (parts of the body turned, the whole tilted and turned, the pelvis adrift) and its decoder
answers for the true ones: the code is of what somebody did, not of what was measured. The encoder also says how
wrong the segment's axes are, which it can see: people walk where they face.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from crowd4d_ros.body.rotations import matrix_to_6d
from crowd4d_ros.priors.config import MotionTrainingConfig
from crowd4d_ros.priors.mocap import MocapError, read_clips
from crowd4d_ros.priors.motion import Layout, MotionPrior, placed, save
from crowd4d_ros.priors.motion_data import (
    CONTACTS,
    HIPS,
    KNEES,
    Motion,
    Recording,
    Skeleton,
    borne,
    centred,
    disturbed,
    drawn,
    record,
    turned,
)
from crowd4d_ros.priors.motion_report import MotionReport, report_on
from crowd4d_ros.priors.training import Best, Progress, held_back, provenance, repeatable
from crowd4d_ros.priors.weights import check_writable

SLOPE = 0.1
"""Of LeakyReLU below zero."""
FIRST_SPREAD = 0.3
"""Standard deviation of the codes that segments are given at first."""
SOFT = (0.003, 0.03, 0.02)
"""metres, m/s, rad: shorter errors count by their squares, so that gradients end at zero."""
MAX_GRADIENT = 5.0
"""Norm that a step's gradient is cut to: rare segments, like a jump, have huge ones."""
CHECKED = 1024
"""segments of held-back clips that are looked at."""
LEAST_VARIANCE = 1e-4
"""Of the codes along an axis, which is not stretched beyond it: an axis that carries nothing stays so."""
FIXED = ("mean", "basis", "spread", "feature_weight", "input_scale")
"""What the principal axes gave, and the training leaves."""


@dataclass(frozen=True)
class MotionTraining:
    """steps: trained; best: the step kept. report: on the test clips."""

    out: Path
    sha256: str
    steps: int
    best: int
    report: MotionReport

    def __str__(self) -> str:
        return (
            f"{self.out}: {self.out.stat().st_size} bytes, sha256 {self.sha256}\n"
            f"  step {self.best} of {self.steps}\n{self.report}"
        )


def train_motion_prior(
    mocap: Path, out: Path, config: MotionTrainingConfig, seed: int, progress: Progress
) -> MotionTraining:
    """Trains on the train clips, writes ``out``, and measures what was written on the test clips.

    Equal arguments give equal bytes on a machine. Raises MocapError and WeightsError.
    """
    check_writable(out)
    clips = [clip for clip in read_clips(mocap, "train") if not any(part in clip.name for part in config.exclude)]
    learned, checked = held_back(clips, config.held_back)
    if not checked:
        raise MocapError(f"'{mocap}' has {len(clips)} clips to train on: at least {config.held_back} are needed")
    with repeatable(seed) as rng:
        skeleton = Skeleton()
        prior, best, steps = _fitted(
            record(learned, skeleton, config), record(checked, skeleton, config), skeleton, config, rng, progress
        )
        save(prior, out, provenance(mocap, config, seed))
        report = report_on(MotionPrior.load(out), record(read_clips(mocap, "test"), skeleton, config), config, seed)
    return MotionTraining(out, hashlib.sha256(out.read_bytes()).hexdigest(), steps, best, report)


def _fitted(
    learned: Recording,
    checked: Recording,
    skeleton: Skeleton,
    config: MotionTrainingConfig,
    rng: torch.Generator,
    progress: Progress,
) -> tuple[MotionPrior, int, int]:
    prior = principal_prior(
        borne(drawn(learned, config.axes_from, config, rng), skeleton, config, rng), skeleton, config, rng
    )
    truth = drawn(checked, CHECKED, config, rng)
    strength = torch.linspace(0, config.strongest, CHECKED)
    seen = disturbed(truth, strength, skeleton, config, rng)

    weights = {name: tensor.requires_grad_() for name, tensor in prior.tensors.items() if name not in FIXED}
    log_spread = torch.full((config.latent_dim,), FIRST_SPREAD).log().requires_grad_()
    groups: list[dict[str, Any]] = [
        {"params": list(weights.values())},
        {"params": [log_spread], "lr": config.rate * config.spread_rate},
    ]
    optimizer = torch.optim.Adam(groups, lr=config.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    averaged = {name: tensor.detach().clone() for name, tensor in weights.items()}
    best = Best(config.patience)
    for step in range(1, config.steps + 1):
        batch = borne(drawn(learned, config.batch, config, rng), skeleton, config, rng)
        strength = config.strongest * torch.rand(config.batch, generator=rng)
        strength = strength * (torch.rand(config.batch, generator=rng) >= config.clean)
        noise = torch.randn(config.batch, config.latent_dim, generator=rng) * log_spread.exp()
        terms = losses(prior, disturbed(batch, strength, skeleton, config, rng), batch, noise, skeleton, config)
        optimizer.zero_grad()
        loss = torch.stack([*terms.values(), _variance_term(log_spread, config)]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*weights.values(), log_spread], MAX_GRADIENT)
        optimizer.step()
        schedule.step()
        kept = min(config.averaging, step / (step + 10))  # of the first steps nothing should last
        with torch.no_grad():
            for name, tensor in weights.items():
                averaged[name].lerp_(tensor, 1 - kept)
        if step % config.check_every == 0 or step == config.steps:
            with torch.no_grad():
                found = losses(_with(prior, averaged), seen, truth, torch.zeros(()), skeleton, config)
            unseen = sum(float(term) for name, term in found.items() if name != "code")
            progress(f"step {step} of {config.steps}: loss {loss.item():.2f}, of clips held back {unseen:.2f}")
            if best.stop(unseen, step, averaged):
                break
    fitted = _with(prior, best.weights)
    return (
        whitened(fitted, borne(drawn(learned, config.axes_from, config, rng), skeleton, config, rng)),
        best.step,
        step,
    )


def _with(prior: MotionPrior, weights: dict[str, Tensor]) -> MotionPrior:
    return MotionPrior(prior.layout, {**{name: t.detach() for name, t in prior.tensors.items()}, **weights})


def principal_prior(
    sample: Motion, skeleton: Skeleton, config: MotionTrainingConfig, rng: torch.Generator
) -> MotionPrior:
    """A prior that is the sample's principal axes: the perceptrons' last layers are zero."""
    layout = Layout(
        config.frames, config.ticks_per_s, CONTACTS, config.latent_dim, config.components, config.hidden, SLOPE
    )
    weight = torch.cat([skeleton.reach().repeat_interleave(6), torch.ones(3)])
    x = (torch.cat([matrix_to_6d(sample.turns).flatten(-2), sample.pelvis], -1) * weight).flatten(1).double()
    mean = x.mean(0)
    variance, axes = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
    axes = axes[:, -config.components :].flip(-1)
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)  # eigenvectors come with either sign
    spread = variance[-config.components :].flip(-1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()

    tensors = {name: torch.zeros(shape) for name, shape in layout.shapes().items()}
    tensors.update(mean=mean.float(), basis=axes.mT.float().contiguous(), spread=spread.float(), feature_weight=weight)
    for name in ("encoder", "decoder"):
        for layer in (0, 1):
            shape = tensors[f"{name}.{layer}.weight"].shape
            tensors[f"{name}.{layer}.weight"] = torch.randn(shape, generator=rng) * (2 / shape[1]) ** 0.5
    seen, _ = centred(disturbed(sample, torch.ones(len(x)), skeleton, config, rng), config.ticks_per_s)
    prior = MotionPrior(layout, tensors)
    prior.tensors["input_scale"] = prior.features(seen.turns, seen.pelvis).std(0)
    code = torch.arange(config.latent_dim)
    prior.tensors["encoder.linear.weight"][code, code] = (tensors["spread"] / prior.tensors["input_scale"])[code]
    prior.tensors["decoder.linear.weight"][code, code] = 1.0
    return prior


def losses(
    prior: MotionPrior, seen: Motion, truth: Motion, noise: Tensor, skeleton: Skeleton, config: MotionTrainingConfig
) -> dict[str, Tensor]:
    """Of what the prior makes of ``seen``, its codes moved by ``noise``, against the truth in its own axes. Scalars."""
    rate = config.ticks_per_s
    own, placement = centred(seen, rate)
    latent = prior.encode_features(prior.features(own.turns, own.pelvis))
    code, residual = latent[:, : prior.latent_dim], latent[:, prior.latent_dim :]
    turns, pelvis, logits = prior.decode_global(code + noise)
    moved = placement.moved(residual)
    _, path = placed(moved, turns[..., 0, :, :], pelvis, rate)
    turns = turned(moved.heading, turns)

    joints = skeleton.joints(turns, path)
    wrong = joints - skeleton.joints(truth.turns, truth.pelvis)
    feet = (joints[:, 1:, CONTACTS] - joints[:, :-1, CONTACTS]).norm(dim=-1) * rate
    stands = torch.minimum(truth.contact[:, 1:], truth.contact[:, :-1])
    knees = _shanks(turns) - _shanks(truth.turns)
    squared_angle = (turns - truth.turns).square().sum((-1, -2)) / 2
    return {
        "joints": _length(wrong, SOFT[0]).mean() / config.joint_scale,
        "rotations": squared_angle.mean() / config.rotation_scale**2,
        "knees": _length(knees, SOFT[2]).mean() / config.knee_scale,
        "velocities": _length((wrong[:, 1:] - wrong[:, :-1]) * rate, SOFT[1]).mean() / config.velocity_scale,
        "skating": (feet * stands).sum() / stands.sum().clamp(min=1) / config.skate_scale,
        "contacts": config.contact_weight * binary_cross_entropy_with_logits(logits, truth.contact),
        "code": config.kl_weight * 0.5 * code.square().sum(-1).mean(),
    }


def _shanks(turns: Tensor) -> Tensor:
    """Directions of the shanks (…, 2, 3) in the thighs' axes: how knees bend."""
    return (turns[..., list(HIPS), :, :].mT @ turns[..., list(KNEES), :, 1:2]).squeeze(-1)


def _variance_term(log_spread: Tensor, config: MotionTrainingConfig) -> Tensor:
    """The part of the divergence from a standard normal that is the codes' own spread's."""
    return config.kl_weight * 0.5 * ((2 * log_spread).exp() - 1 - 2 * log_spread).sum()


def _length(vector: Tensor, soft: float) -> Tensor:
    return (vector.square().sum(-1) + soft**2).sqrt()


@torch.no_grad()
def whitened(prior: MotionPrior, sample: Motion) -> MotionPrior:
    """The same prior with codes of zero mean and unit covariance over the sample: what Eq. 27 takes them for.

    The codes are turned as little as possible, by the covariance's symmetric root.
    """
    code = prior.encode_features(prior.features(sample.turns, sample.pelvis))[:, : prior.latent_dim].double()
    mean = code.mean(0)
    variance, axes = torch.linalg.eigh((code - mean).mT @ (code - mean) / len(code))
    spread = variance.clamp(min=LEAST_VARIANCE).sqrt()
    root, inverse = (axes * spread) @ axes.mT, (axes / spread) @ axes.mT
    tensors = {name: tensor.double() for name, tensor in prior.tensors.items()}
    rest = torch.eye(len(tensors["encoder.linear.bias"]), dtype=torch.float64)
    rest[: prior.latent_dim, : prior.latent_dim] = inverse
    tensors["encoder.linear.bias"][: prior.latent_dim] -= mean
    for name in ("linear", "2"):
        tensors[f"encoder.{name}.weight"] = rest @ tensors[f"encoder.{name}.weight"]
        tensors[f"encoder.{name}.bias"] = rest @ tensors[f"encoder.{name}.bias"]
    for name in ("linear", "0"):
        tensors[f"decoder.{name}.bias"] = tensors[f"decoder.{name}.bias"] + tensors[f"decoder.{name}.weight"] @ mean
        tensors[f"decoder.{name}.weight"] = tensors[f"decoder.{name}.weight"] @ root
    return MotionPrior(prior.layout, {name: tensor.float() for name, tensor in tensors.items()})
