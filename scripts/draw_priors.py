#!/usr/bin/env python3
"""Draws what the learned priors take for people: samples of their codes, decoded.

    python scripts/draw_priors.py [pose] [motion] [--mocap FILE] [--out FOLDER] [--seed S]

FOLDER (docs/images) gets pose_prior.jpg and motion_prior.jpg; FILE, motion capture, adds examples of denoising to this.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP, BodyModel
from crowd4d_ros.priors import load_pose_prior
from crowd4d_ros.priors.config import MotionTrainingConfig
from crowd4d_ros.priors.mocap import read_clips
from crowd4d_ros.priors.motion import PARENTS, MotionPrior
from crowd4d_ros.priors.motion_data import CONTACTS, Motion, Skeleton, disturbed, every, record
from crowd4d_ros.priors.motion_report import answered
from crowd4d_ros.visualization import track_color
from crowd4d_ros.visualization.raster import paint, shade

PIXELS_PER_METRE = 165.0
TILE = (240, 330)
"""px, width and height, of one body."""
COLUMNS = 8
POSES = 16
TURN = math.radians(25.0)
"""of the bodies from facing the viewer: limbs in front of the trunk show."""
MARGIN = 20
"""px below the lowest vertex."""
WHITE = 255

STRIPS = 6
"""samples of motions, and strips in a column."""
EVERY = 3
"""ticks between the skeletons of a strip."""
STRIP = (86, 220)
"""px, of one skeleton."""
LABEL = 90
SCALE = 75.0
"""px/m."""
DENOISED = ("walking_44", "walking_47")
"""of the test clips."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=list(PICTURES), default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    parser.add_argument("--mocap", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.what:
        path = arguments.out / f"{name}_prior.jpg"
        picture = PICTURES[name](torch.Generator().manual_seed(arguments.seed), arguments.mocap)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(path)


def pose_samples(generator: torch.Generator, mocap: Path | None) -> np.ndarray:
    """The mean pose, and standard normal samples."""
    prior = load_pose_prior("vposer")
    latent = torch.randn(POSES, prior.latent_dim, generator=generator)
    latent[0] = 0
    vertices = BodyModel.load().vertices(
        torch.zeros(1, 10), prior.decode(latent), torch.tensor([0.0, TURN, 0.0]), torch.zeros(3)
    )
    return grid(vertices)


def grid(vertices: Tensor) -> np.ndarray:
    """Bodies (B, 6890, 3), y up, seen along −z from far away, each on its feet in its tile: an image, BGR."""
    faces = BodyModel.load().faces.numpy()
    tiles = [tile(each, faces, 255 * track_color(at)[::-1]) for at, each in enumerate(vertices.numpy())]
    return np.vstack([np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)])


def tile(vertices: np.ndarray, faces: np.ndarray, color: np.ndarray) -> np.ndarray:
    """One body (6890, 3) on white, its middle in the middle."""
    width, height = TILE
    lowest, middle = vertices[:, UP].min(), (vertices[:, 0].min() + vertices[:, 0].max()) / 2
    x = width / 2 + PIXELS_PER_METRE * (vertices[:, 0] - middle)
    y = height - MARGIN - PIXELS_PER_METRE * (vertices[:, UP] - lowest)
    brightness = shade(vertices[faces] * [1.0, -1.0, -1.0])  # to camera axes, y down and z away
    colors = np.concatenate([brightness[:, None] * color, np.ones((len(faces), 1))], -1)
    blank = np.full((height, width, 3), WHITE, np.uint8)
    return paint(blank, np.stack([x, y], -1)[faces], -vertices[faces, 2].mean(-1), colors, 2)


def motion_samples(generator: torch.Generator, mocap: Path | None) -> np.ndarray:
    """Standard normal samples, a strip each; beside them unseen walks: given to the encoder, its answer, the truth."""
    prior = MotionPrior.load()
    samples = prior.decode_global(torch.randn(STRIPS, prior.latent_dim, generator=generator))
    strips = [strip(*each, f"sample {at + 1}") for at, each in enumerate(zip(*samples, strict=True))]
    if mocap is not None:
        config = replace(MotionTrainingConfig(), frames=prior.frames, ticks_per_s=prior.rate)
        skeleton = Skeleton()
        clips = [clip for clip in read_clips(mocap, "test") if clip.name.endswith(DENOISED)]
        segments, clip = every(record(clips, skeleton, config), config)
        first = [int((clip == at).nonzero()[0]) for at in range(len(clips))]
        truth = Motion(segments.turns[first], segments.pelvis[first], segments.contact[first].logit(1e-6))
        seen = disturbed(truth, torch.ones(len(first)), skeleton, config, generator)
        answer, _ = answered(prior, seen)
        answer = replace(answer, contact=answer.contact.logit(1e-6))
        rows = {"given": replace(seen, contact=torch.full_like(seen.contact, -1)), "answer": answer, "truth": truth}
        strips += [
            strip(motion.turns[at], motion.pelvis[at], motion.contact[at], name)
            for at in range(len(first))
            for name, motion in rows.items()
        ]
    return np.hstack([np.vstack(strips[at : at + STRIPS]) for at in range(0, len(strips), STRIPS)])


def strip(turns: Tensor, pelvis: Tensor, logits: Tensor, name: str) -> np.ndarray:
    """A segment, its every so many'th tick side by side, from its left and, in a line below, from above."""
    joints = Skeleton().joints(turns, pelvis)
    ticks = range(0, len(joints), EVERY)
    image = np.full((STRIP[1], STRIP[0] * len(ticks) + LABEL, 3), WHITE, np.uint8)
    cv2.putText(image, name, (6, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
    ground = float(joints[..., UP].min())
    for column, tick in enumerate(ticks):
        body = joints[tick]
        middle = body[0]
        side = torch.stack([body[:, 2] - middle[2], ground - body[:, UP]], -1) * SCALE
        above = torch.stack([body[:, 2] - middle[2], body[:, 0] - middle[0]], -1) * SCALE
        left = LABEL + STRIP[0] * (column + 0.5)
        for points, bottom in ((side, STRIP[1] - 85.0), (above, STRIP[1] - 38.0)):
            skeleton_lines(image, points.numpy() + np.array([left, bottom]), logits[tick] > 0)
    way = pelvis[-1] - pelvis[0]
    text = f"{float(way.norm()):.1f} m"
    cv2.putText(image, text, (6, 50), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    draw_way(image, way)
    return image


def draw_way(image: np.ndarray, way: Tensor) -> None:
    """Where the pelvis went, from above; the segment's axes look to the right."""
    at = (40, STRIP[1] - 38)
    to = (at[0] + round(float(way[2]) * 18), at[1] + round(float(way[0]) * 18))
    cv2.arrowedLine(image, at, to, (0, 120, 0), 2, cv2.LINE_AA, tipLength=0.3)


def skeleton_lines(image: np.ndarray, points: np.ndarray, stands: Tensor) -> None:
    for joint, parent in enumerate(PARENTS):
        name = JOINTS[joint]
        color = (200, 90, 20) if "left" in name else (30, 60, 220) if "right" in name else (70, 70, 70)
        ends = [tuple(round(v * 8) for v in points[each]) for each in (parent, joint)]
        cv2.line(image, *ends, color, 2, cv2.LINE_AA, shift=3)
    for row, joint in enumerate(CONTACTS):
        if stands[row]:
            cv2.circle(image, tuple(round(v) for v in points[joint]), 3, (0, 150, 0), -1, cv2.LINE_AA)


PICTURES: dict[str, Callable[[torch.Generator, Path | None], np.ndarray]] = {
    "pose": pose_samples,
    "motion": motion_samples,
}


if __name__ == "__main__":
    main()
