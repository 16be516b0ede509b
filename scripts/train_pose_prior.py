#!/usr/bin/env python3
"""Fits the Gaussian pose prior to motion capture and reports how well it carries over to unseen clips.

    scripts/train_pose_prior.py --mocap cmu_mocap.npz [--out crowd4d_ros/assets/pose_prior.npz]

The mocap file holds clips of SMPL poses at 30 frames/s: names, lens and split (train/test) of each clip,
poses (frames, 24, 3) axis-angle of all clips one after the other. Nothing random is involved.
Needs this package (PYTHONPATH=. does).

CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu, created with funding from NSF EIA-0196217.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.rotations import relative_log
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.mocap import unbroken, upright_feet
from crowd4d_ros.priors.pose import GaussianPosePrior, energy

ROOT = Path(__file__).resolve().parents[1]

FREEDOM = {
    **dict.fromkeys(JOINTS[1:], 3.0),
    **dict.fromkeys(("left_collar", "right_collar"), 8.0),
    **dict.fromkeys(("left_wrist", "right_wrist"), 10.0),
    **dict.fromkeys(("left_foot", "right_foot"), 5.0),
}
"""Degrees of standard deviation added to each axis of a joint. The recordings have no collar and hand motion,
one axis of the wrist, and no error of the observations; without it those axes would be rigid. Collars and
wrists get what they move in walking, all others the noise of a good fit."""


def fit(body_pose: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (69,) and basis (69, 69), rows from the largest axis to the smallest.

    Every clip counts once, or the climbing of a single subject, 40 % of all frames, would decide; and every
    pose counts with its mirror image.
    """
    weight = 1 / torch.bincount(clip).to(body_pose)[clip]
    weight = torch.cat([weight, weight]) / (2 * weight.sum())
    pose = torch.cat([body_pose, mirror_pose(body_pose)]).flatten(1)
    mean = weight @ pose
    centred = pose - mean
    freedom = torch.tensor([FREEDOM[joint] for joint in JOINTS[1:]], dtype=pose.dtype).deg2rad()
    covariance = (centred * weight[:, None]).mT @ centred + torch.diag(freedom.square().repeat_interleave(3))
    variance, axes = torch.linalg.eigh(covariance)
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)  # eigenvectors come with either sign
    return mean, (axes * variance.sqrt()).mT.flip(0)


def report(prior: GaussianPosePrior, body_pose: Tensor, what: str) -> None:
    """Prints the errors of decode(encode(θ)) and the mean energy, over poses (F, 23, 3)."""
    model = BodyModel.load(dtype=body_pose.dtype)
    zero = torch.zeros(3, dtype=body_pose.dtype)
    betas = torch.zeros(10, dtype=body_pose.dtype)
    latent = prior.encode(body_pose)
    rebuilt = prior.decode(latent)
    degrees = relative_log(body_pose, rebuilt).norm(dim=-1).rad2deg()
    joints = [model.joints(betas, pose, zero, zero) for pose in (body_pose, rebuilt)]
    millimetres = 1000 * (joints[0] - joints[1]).norm(dim=-1)
    print(
        f"  {what:<15} latent {prior.latent_dim:2d}: {degrees.mean():5.2f} deg, {millimetres.mean():5.1f} mm "
        f"(max {millimetres.max():4.0f}), |z|^2 per dimension {energy(latent).mean() / prior.latent_dim:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "crowd4d_ros" / "assets" / "pose_prior.npz")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same bytes again

    with np.load(arguments.mocap) as mocap:
        poses = torch.as_tensor(mocap["poses"].astype(np.float64))
        names, split, lengths = mocap["names"], mocap["split"], mocap["lens"]
    clip = torch.as_tensor(np.repeat(np.arange(len(lengths)), lengths))
    train = torch.as_tensor(split == "train")[clip]
    walking = torch.as_tensor(["walking" in name for name in names])[clip]
    body_pose = upright_feet(poses[:, 1:])
    sound = unbroken(body_pose)
    print(f"{len(body_pose)} poses, {(~sound).sum()} of them broken and left out")
    train, test = train & sound, ~train & sound

    mean, basis = fit(body_pose[train], clip[train])
    np.savez_compressed(arguments.out, mean=mean.float().numpy(), basis=basis.float().numpy())
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, sha256 {digest}")
    length = basis.norm(dim=-1).rad2deg()
    print(f"axes from {length[0]:.1f} to {length[-1]:.1f} deg a unit of latent")
    for latent_dim in (32, 45, len(basis)):
        prior = GaussianPosePrior(mean, basis[:latent_dim])
        report(prior, body_pose[test], "held out, all")
        report(prior, body_pose[test & walking], "held out, walks")


if __name__ == "__main__":
    main()
