"""What is asked of perfect bodies: nothing where the scene is perfect, the error of the scene where it is not."""

from dataclasses import replace

import numpy as np
import pytest

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.evaluation.attainable import attainable
from crowd4d_ros.synthetic.config import ObservationConfig
from crowd4d_ros.synthetic.observation import observe
from crowd4d_ros.synthetic.synthesize import Request, synthesize

CONFIG = InteractionConfig()


@pytest.fixture(scope="module")
def crowd():
    truth, _ = synthesize(Request("plaza", "surveillance", people=6, frames=12, seed=3, mocap=None))
    return truth, observe(truth, BodyModel.load(), ObservationConfig().scaled(0), np.random.default_rng(0))


def test_perfect_observations_allow_everything(crowd):
    found = attainable(*crowd, CONFIG)
    assert abs(found.scale) < 0.005
    assert np.median(found.feet) < 0.03


def test_units_of_the_scene_do_not_matter(crowd):
    truth, window = crowd
    cameras = replace(window.cameras, t=window.cameras.t / 2)
    half = replace(window, cameras=cameras, scene=replace(window.scene, points=window.scene.points / 2))
    same, found = attainable(truth, window, CONFIG), attainable(truth, half, CONFIG)
    assert found.scale == pytest.approx(same.scale, abs=1e-3)


def test_a_bent_scene_misplaces_even_perfect_bodies(crowd):
    """Points 3 % too near at the left of the picture and too far at its right: no scale makes that good."""
    truth, window = crowd
    pixels = window.scene.points @ window.cameras.R[0].T + window.cameras.t[0]
    across = pixels[:, 0] / np.abs(pixels[:, 2])
    stretch = np.exp(0.03 * across / np.abs(across).max())[:, None]
    centre = window.cameras.centers[0]
    bent = replace(window, scene=replace(window.scene, points=centre + stretch * (window.scene.points - centre)))
    assert np.std(attainable(truth, bent, CONFIG).depth) > 2 * np.std(attainable(truth, window, CONFIG).depth)
