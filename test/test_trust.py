"""How much is known of depth from above, and the median that listens to it."""

import numpy as np
import pytest

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.trust import known_from_above, weighted_median

CONFIG = InteractionConfig()


def to_feet(*drops):
    """Rays to feet so many metres below the camera, twenty metres away."""
    return np.stack([np.zeros(len(drops)), -np.array(drops), np.full(len(drops), -20.0)], -1)


def test_a_ray_tells_as_much_as_the_body_where_its_height_costs_as_much_depth():
    even = CONFIG.ray_height / CONFIG.own_depth
    assert known_from_above(to_feet(even), CONFIG) == pytest.approx(0.5)
    assert known_from_above(to_feet(3 * even), CONFIG) == pytest.approx(0.9)


def test_the_higher_the_camera_the_more_is_known():
    known = known_from_above(to_feet(-5.0, 0.0, 0.1, 1.0, 4.0, 40.0), CONFIG)
    assert (np.diff(known[1:]) > 0).all()
    assert 0 < known[0] == known[1] < 1e-4
    assert known[-1] > 0.99


def test_a_weighted_median_is_the_median_of_repeated_values():
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=9), rng.integers(1, 5, 9)
    repeated = np.sort(np.repeat(values, times))
    assert weighted_median(values, times) == repeated[(len(repeated) - 1) // 2]


def test_what_has_no_weight_has_no_say():
    assert weighted_median(np.array([9.0, 1.0, 5.0, 2.0]), np.array([0.0, 1.0, 0.0, 1.0])) == 1.0
