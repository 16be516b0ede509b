"""How far a motion prior carries over to clips it has not seen: errors of what it rebuilds and of what it denoises."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from crowd4d_ros.priors.config import MotionTrainingConfig
from crowd4d_ros.priors.motion import MotionPrior, placed
from crowd4d_ros.priors.motion_data import Motion, Recording, Skeleton, centred, disturbed, every, turned

WALKING = "walking"
"""in the names of the clips of walking."""


@dataclass(frozen=True)
class MotionErrors:
    """Of motions against the true ones, means over ticks and joints, (B,), or one number over many segments.

    joints: mm, in the true segment's axes; pose: mm, pelvis on pelvis; angle: degrees of joints' orientations in the
    world; acceleration: m/s², of joints' positions at the ticks; heading: degrees; contact: share of contacts that are
    right; size: ‖z‖² a dimension. The last two only of a prior's answers, nan otherwise.
    """

    joints: Tensor
    pose: Tensor
    angle: Tensor
    acceleration: Tensor
    heading: Tensor
    contact: Tensor
    size: Tensor

    def mean(self, weight: Tensor) -> MotionErrors:
        """Weighted by (B,)."""
        return MotionErrors(*(getattr(self, each.name) @ weight / weight.sum() for each in fields(self)))

    def __str__(self) -> str:
        answer = "" if self.contact.isnan() else f", contacts {self.contact:.3f}, |z|^2/L {self.size:.2f}"
        return (
            f"{self.joints:5.1f} mm, pose {self.pose:5.1f} mm, {self.angle:5.2f} deg, "
            f"{self.acceleration:5.2f} m/s2, heading {self.heading:4.1f} deg{answer}"
        )


@dataclass(frozen=True)
class MotionReport:
    """Lines of errors on the test clips, each clip weighing alike."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def errors(motion: Motion, truth: Motion, skeleton: Skeleton, rate: float, size: Tensor | None = None) -> MotionErrors:
    """size: (B,) of a prior's answer."""
    wrong = skeleton.joints(motion.turns, motion.pelvis) - skeleton.joints(truth.turns, truth.pelvis)
    pose = wrong - (motion.pelvis - truth.pelvis)[..., None, :]
    acceleration = (wrong[:, 2:] - 2 * wrong[:, 1:-1] + wrong[:, :-2]) * rate**2
    cosine = ((motion.turns * truth.turns).sum((-1, -2)) - 1) / 2
    headings = centred(motion, rate)[1].heading - centred(truth, rate)[1].heading
    right = ((motion.contact > 0.5) == (truth.contact > 0.5)).float().mean((-1, -2))
    unknown = torch.full_like(headings, torch.nan)
    return MotionErrors(
        joints=1000 * wrong.norm(dim=-1).mean((-1, -2)),
        pose=1000 * pose.norm(dim=-1).mean((-1, -2)),
        angle=cosine.clamp(-1, 1).acos().rad2deg().mean((-1, -2)),
        acceleration=acceleration.norm(dim=-1).mean((-1, -2)),
        heading=(torch.remainder(headings + torch.pi, 2 * torch.pi) - torch.pi).abs().rad2deg(),
        contact=unknown if size is None else right,
        size=unknown if size is None else size,
    )


@torch.no_grad()
def answered(prior: MotionPrior, seen: Motion) -> tuple[Motion, Tensor]:
    """What the prior makes of segments, in the axes that they are in, and z_ξ (B, L + 5)."""
    own, placement = centred(seen, prior.rate)
    latent = prior.encode_features(prior.features(own.turns, own.pelvis))
    turns, pelvis, logits = prior.decode_global(latent[:, : prior.latent_dim])
    moved = placement.moved(latent[:, prior.latent_dim :])
    _, path = placed(moved, turns[..., 0, :, :], pelvis, prior.rate)
    return Motion(turned(moved.heading, turns), path, logits.sigmoid()), latent


def report_on(prior: MotionPrior, recording: Recording, config: MotionTrainingConfig, seed: int) -> MotionReport:
    """On the recording's segments as they are, and with the training's errors at strength 1."""
    config = replace(config, frames=prior.frames, ticks_per_s=prior.rate)
    skeleton, rng = Skeleton(), torch.Generator().manual_seed(seed)
    truth, clip = every(recording, config)
    seen = disturbed(truth, torch.ones(len(clip)), skeleton, config, rng)
    weight = 1 / torch.bincount(clip)[clip]
    walks = torch.tensor([WALKING in name for name in recording.names])[clip]
    rows: dict[str, MotionErrors] = {"disturbed": errors(seen, truth, skeleton, prior.rate)}
    for name, given in (("rebuilt", truth), ("denoised", seen)):
        answer, latent = answered(prior, given)
        size = latent[:, : prior.latent_dim].square().mean(-1)
        rows[name] = errors(answer, truth, skeleton, prior.rate, size)
    clips, walking = len(set(clip.tolist())), len(set(clip[walks].tolist()))
    lines = [f"  {len(clip)} segments of {clips} test clips, {walking} of them walking"]
    for what, chosen in (("all", weight), ("walking", weight * walks)):
        if chosen.sum() > 0:
            lines += [f"  {what}, {name}: {rows[name].mean(chosen)}" for name in ("rebuilt", "disturbed", "denoised")]
    return MotionReport(tuple(lines))
