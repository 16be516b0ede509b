"""docs/method.md and the code say the same: names, settings, equations, Table 1."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from crowd4d_ros.config import Config, flatten
from crowd4d_ros.optimization.stages import stages, weights

PAGE = Path(__file__).parent.parent / "docs" / "method.md"
TEXT = PAGE.read_text(encoding="utf-8")
SETTINGS = {name: value for name, (value, _) in flatten(Config()).items()}
NAMES = sorted(set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT)))


def found(name: str) -> bool:
    """Whether crowd4d_ros.NAME is a module, or something in one."""
    module, inner = ["crowd4d_ros", *name.split(".")], []
    while module:
        try:
            thing = importlib.import_module(".".join(module))
        except ModuleNotFoundError:
            inner.insert(0, module.pop())
            continue
        for part in inner:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_exists(name):
    assert name in SETTINGS or found(name), f"docs/method.md names `{name}`: neither code nor a setting"


def test_the_page_names_enough_to_be_worth_checking():
    assert len(NAMES) > 40
    assert not found("interaction.proxy.nothing")
    assert not found("interaction.nowhere")


@pytest.mark.parametrize(("name", "stated"), re.findall(r"`([a-z_]+\.\w+)` = ([0-9.]*[0-9])", TEXT))
def test_values_on_the_page_are_the_defaults(name, stated):
    assert float(stated) == SETTINGS[name]


def test_every_equation_has_its_row():
    rows = re.findall(r"^\| (\d[\d, ]*) \|", TEXT.split("## Sec. 3.3")[0] + TEXT.split("## Sec. 3.4")[1], re.MULTILINE)
    assert sorted(int(number) for row in rows for number in row.split(",")) == list(range(1, 31))


def test_table_1_on_the_page_is_the_code_s():
    config = Config().optimization
    table = re.findall(r"^\| ([123]) \| [^|]* \| ([^|]*) \| (\d+), ([\d.]+) \|$", TEXT, re.MULTILINE)
    assert len(table) == 3
    every = weights(config)
    complete = stages(replace(config, stages=3))
    for (_, terms, iterations, rate), stage in zip(table, complete, strict=True):
        assert set(terms.replace("*", "").split(", ")) == {term for term in stage.terms if every[term]}
        assert (int(iterations), float(rate)) == (stage.iterations, stage.learning_rate)


def test_pictures_of_the_page_are_there_and_small():
    pictures = [PAGE.parent / path for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)]
    assert len(pictures) == 3
    assert sum(path.stat().st_size for path in pictures) < 600_000
