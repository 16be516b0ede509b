"""One configuration: typed, documented, and the same through YAML and dotted names."""

import pytest
import yaml

from crowd4d_ros.config import Config, ConfigError, flatten, nested, to_yaml, updated


def test_every_setting_has_a_unit_and_a_reason():
    for name, (_, entry) in flatten(Config()).items():
        assert entry.metadata["unit"], name
        assert len(entry.metadata["why"]) > 8, name


def test_yaml_and_back_is_the_same_configuration():
    config = updated(Config(), {"window.length": 64, "device": "cpu"})
    assert updated(Config(), nested(yaml.safe_load(to_yaml(config)))) == config


def test_setting_one_value_leaves_the_others():
    before, after = flatten(Config()), flatten(updated(Config(), {"window.overlap": 20}))
    assert {name for name in before if before[name][0] != after[name][0]} == {"window.overlap"}


@pytest.mark.parametrize(
    "values",
    [
        {"nonsense": 1},
        {"window.nonsense": 1},
        {"window": 3},
        {"device.cpu": 1},
        {"window.length": "40"},
        {"window.length": True},
        {"window.best_frames": -1},
        {"optimization.crowd_stride": 0},
        {"optimization.crowd_radius": float("nan")},
    ],
)
def test_what_cannot_be_set_is_refused_by_name(values):
    with pytest.raises(ConfigError, match=next(iter(values)).split(".")[0]):
        updated(Config(), values)


def test_a_whole_number_is_a_fine_float():
    name = next(n for n, (v, _) in flatten(Config()).items() if isinstance(v, float))
    assert isinstance(flatten(updated(Config(), {name: 1}))[name][0], float)
