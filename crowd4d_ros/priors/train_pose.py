"""Training of the pose prior: `crowd4d train pose-prior`.

The loss is VPoser's: the rebuilt pose's rotations and joints against the pose, and the divergence of its code from
a standard normal. Ours is that the encoder sees poses with errors, which it has to remove: the recordings hold joints
still that no observed body holds still (FREEDOM), and those would else decide the code.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, compose, matrix_to_axis_angle, relative_log
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.config import PoseTrainingConfig
from crowd4d_ros.priors.mocap import Clip, MocapError, read_clips
from crowd4d_ros.priors.pose import PosePrior, energy
from crowd4d_ros.priors.training import Best, Progress, drawn_alike, frames, held_back, provenance, repeatable
from crowd4d_ros.priors.vposer import VPOSER_JOINTS, Vposer, VposerNet
from crowd4d_ros.priors.weights import check_writable, write_weights

FREEDOM = {
    **dict.fromkeys(JOINTS[1:], 3.0),
    **dict.fromkeys(("left_collar", "right_collar"), 8.0),
    **dict.fromkeys(("left_wrist", "right_wrist"), 10.0),
    **dict.fromkeys(("left_foot", "right_foot"), 5.0),
}
"""Degrees of standard deviation of each axis of a joint in observed poses beyond the recorded ones. The recordings
have no collar and hand motion and one axis of the wrist. Collars and wrists get what they move in walking, all others
the noise of a good fit."""

WALKING = "walking"
"""in the names of the clips of walking."""
ACTIVE = 0.1
"""of a standard normal's standard deviation: a dimension whose mean moves less carries nothing."""


@dataclass(frozen=True)
class PoseErrors:
    """decode(encode(θ)) against θ, over poses: geodesic angle of the 23 joints' rotations, distance of the 24 joints.

    degrees, millimetres, furthest (mm): every pose alike. energy: mean ‖z‖² a dimension; 1 for a standard normal.
    """

    poses: int
    degrees: float
    millimetres: float
    furthest: float
    energy: float

    def __str__(self) -> str:
        return (
            f"{self.degrees:.2f} deg, {self.millimetres:.1f} mm (max {self.furthest:.0f}), "
            f"|z|^2 per dimension {self.energy:.2f}, {self.poses} poses"
        )


@dataclass(frozen=True)
class PoseReport:
    """steps: trained; best: the step kept. walking, all: on the test clips. active: dimensions that carry something."""

    out: Path
    sha256: str
    steps: int
    best: int
    active: int
    walking: PoseErrors | None
    all: PoseErrors | None

    def __str__(self) -> str:
        return (
            f"{self.out}: {self.out.stat().st_size} bytes, sha256 {self.sha256}\n"
            f"  step {self.best} of {self.steps}, {self.active} active dimensions\n"
            f"  test clips, walking: {self.walking or 'none in the file'}\n"
            f"  test clips, all:     {self.all or 'none in the file'}"
        )


def train_pose_prior(mocap: Path, out: Path, config: PoseTrainingConfig, seed: int, progress: Progress) -> PoseReport:
    """Trains VPoser on the train clips of ``mocap``, writes ``out``, and measures it on the test clips.

    Equal arguments give equal bytes. Raises MocapError, WeightsError.
    """
    check_writable(out)
    learn, judge = held_back(read_clips(mocap, "train"), config.held_back)
    if not (learn and judge):
        raise MocapError(f"'{mocap}' has too few train clips: it takes {config.held_back}, or held_back lower")
    tested = read_clips(mocap, "test")
    with repeatable(seed) as generator:
        best, steps = _fit(learn, judge, config, generator, progress)
        stored = {name: tensor.half() for name, tensor in best.weights.items()}
        write_weights(out, stored, provenance(mocap, config, seed))
        prior = Vposer(stored, out.name)
        return PoseReport(
            out=out,
            sha256=hashlib.sha256(out.read_bytes()).hexdigest(),
            steps=steps,
            best=best.step,
            active=active_dimensions(prior, learn),
            walking=pose_errors(prior, [clip for clip in tested if WALKING in clip.name]),
            all=pose_errors(prior, tested),
        )


def _fit(
    learn: list[Clip], judge: list[Clip], config: PoseTrainingConfig, generator: torch.Generator, progress: Progress
) -> tuple[Best, int]:
    net = VposerNet(dropout=config.dropout)
    loss = _Loss(config)
    poses, lengths = frames(learn)
    judged, judged_lengths = frames(judge)
    judged = judged[drawn_alike(judged_lengths, JUDGED, generator)]
    judged = torch.cat([judged, mirror_pose(judged)])
    judged_noisy = _observed(judged, config.input_noise, generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    best = Best(config.patience)
    for step in range(1, config.steps + 1):
        pose = poses[drawn_alike(lengths, config.batch, generator)]
        mirrored = torch.rand(config.batch, generator=generator) < 0.5
        pose = torch.where(mirrored[:, None, None], mirror_pose(pose), pose)
        mean, deviation = net.encode(_observed(pose, config.input_noise, generator)[:, :VPOSER_JOINTS])
        code = mean + deviation * torch.randn(mean.shape, generator=generator)
        optimizer.zero_grad()
        loss(net.decode(code), pose, mean, deviation).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % config.check_every == 0 or step == config.steps:
            net.eval()
            with torch.no_grad():
                mean, deviation = net.encode(judged_noisy[:, :VPOSER_JOINTS])
                parts = loss(net.decode(mean), judged, mean, deviation)
            net.train()
            progress(f"step {step}: {parts}")
            if best.stop(float(parts.total), step, net.weights()):
                break
    return best, step


JUDGED = 1024
"""poses that decide when to stop, besides their mirror images."""


@dataclass(frozen=True)
class _Parts:
    """degrees and metres are means over joints and poses, divergence nats."""

    total: Tensor
    radians: Tensor
    metres: Tensor
    divergence: Tensor

    def __str__(self) -> str:
        return (
            f"loss {self.total:.3f}, {math.degrees(self.radians):.2f} deg, {1000 * float(self.metres):.1f} mm, "
            f"{self.divergence:.1f} nats"
        )


class _Loss:
    """VPoser's, over batches."""

    def __init__(self, config: PoseTrainingConfig) -> None:
        self.config = config
        self.body = BodyModel.load()
        self.rest = torch.zeros(1, 10)

    def joints(self, body_pose: Tensor) -> Tensor:
        zero = torch.zeros(len(body_pose), 3)
        return self.body.joints(self.rest, body_pose, zero, zero)

    def __call__(self, rebuilt: Tensor, pose: Tensor, mean: Tensor, deviation: Tensor) -> _Parts:
        """rebuilt: (B, 21, 3, 3); pose: (B, 23, 3); mean, deviation: (B, latent_dim)."""
        config = self.config
        radians = _angle(rebuilt, axis_angle_to_matrix(pose[:, :VPOSER_JOINTS])).mean()
        body_pose = torch.cat([matrix_to_axis_angle(rebuilt), pose[:, VPOSER_JOINTS:]], 1)
        metres = (self.joints(body_pose) - self.joints(pose)).square().sum(-1).add(SMOOTH**2).sqrt().mean()
        variance = deviation.square()
        divergence = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(-1).mean()
        total = config.geodesic_weight * radians + config.joint_weight * metres + config.kl_weight * divergence
        return _Parts(total, radians, metres, divergence)


SMOOTH = 1e-3
"""m and rad below which distances and angles count by their square, or their gradients would jump at 0."""


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle of aᵀ b from ‖a − b‖ = 2√2 sin(angle/2), smooth at 0 and finite at π: (…, 3, 3) → (…)."""
    half = (a - b).square().sum((-1, -2)).add(SMOOTH**2).sqrt() / math.sqrt(8)
    return 2 * torch.asin(half.clamp(max=1 - SMOOTH))


def _observed(pose: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Poses (B, 23, 3) with errors of ``noise`` times FREEDOM."""
    freedom = torch.tensor([FREEDOM[joint] for joint in JOINTS[1:]]).deg2rad()[:, None]
    return compose(pose, noise * freedom * torch.randn(pose.shape, generator=generator))


@torch.no_grad()
def pose_errors(prior: PosePrior, clips: list[Clip]) -> PoseErrors | None:
    """Errors over all sound frames of clips; None if there are none."""
    if not clips:
        return None
    pose, _ = frames(clips)
    latent = prior.encode(pose)
    rebuilt = prior.decode(latent)
    zero = torch.zeros(len(pose), 3)
    body = BodyModel.load()
    joints = [body.joints(torch.zeros(1, 10), each, zero, zero) for each in (pose, rebuilt)]
    distance = 1000 * (joints[0] - joints[1]).norm(dim=-1)
    return PoseErrors(
        poses=len(pose),
        degrees=float(relative_log(pose, rebuilt).norm(dim=-1).rad2deg().mean()),
        millimetres=float(distance.mean()),
        furthest=float(distance.max()),
        energy=float(energy(latent).mean()) / prior.latent_dim,
    )


@torch.no_grad()
def active_dimensions(prior: PosePrior, clips: list[Clip]) -> int:
    """How many dimensions of the code move with the pose, by more than ACTIVE."""
    pose, _ = frames(clips)
    return int((prior.encode(pose).std(0) > ACTIVE).sum())
