#!/usr/bin/env python3
"""Draws docs/images/scenes.jpg: every scene, rendered, as the cameras see it.

python scripts/draw_scenes.py [OUT.jpg]        needs the extra ``render``; some ten minutes on two cores
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.synthetic.config import SynthesisConfig
from crowd4d_ros.synthetic.render import frames
from crowd4d_ros.synthetic.synthesize import Request, synthesize

VIEWS = (
    ("plaza", "surveillance", 60),
    ("street", "surveillance", 50),
    ("hill", "drone", 60),
    ("terraces", "drone", 60),
    ("stairs", "surveillance", 50),
    ("amphitheatre", "surveillance", 70),
    ("amphitheatre", "gigapixel", 300),
    ("plaza", "gigapixel", 500),
)
"""Scene, camera, people: two to a row."""
SIZE = (960, 540)
"""px of each view, whatever its camera's image."""
SEED = 1


def main() -> None:
    """All views in one picture."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/scenes.jpg")
    views = [_view(*view) for view in VIEWS]
    rows = [np.hstack(views[i : i + 2]) for i in range(0, len(views), 2)]
    cv2.imwrite(str(out), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 82])


def _view(scene: str, camera: str, people: int) -> np.ndarray:
    config = SynthesisConfig()
    wide = (2 * SIZE[0], 2 * SIZE[1])
    config = replace(
        config,
        camera=replace(config.camera, surveillance_image=wide, drone_image=wide, gigapixel_image=wide, smallest=12.0),
        render=replace(config.render, background_samples=24, noise=0.5),
    )
    truth, _ = synthesize(Request(scene, camera, people, frames=1, seed=SEED, config=config))
    image = next(frames(truth, BodyModel.load(), config.render, np.random.default_rng(SEED)))
    small = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
    for color, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        cv2.putText(
            small, f"{scene}, {camera}", (16, SIZE[1] - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.8, color, width, cv2.LINE_AA
        )
    print(f"{scene}, {camera}: {people} people", flush=True)
    return small


if __name__ == "__main__":
    main()
