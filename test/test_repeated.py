"""A warning about every frame is told once and counted once."""

from __future__ import annotations

import logging

import pytest

from crowd4d_ros.repeated import Collector, FirstOfItsKind, counted


def test_texts_that_differ_in_numbers_are_one_with_a_count() -> None:
    assert counted(["frame 4 is bad", "no people", "frame 17 is bad", "frame 17 is bad"]) == [
        "frame 4 is bad (and 1 more)",
        "no people",
    ]


def test_the_console_shows_the_first_and_the_report_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    logger, console, collector = logging.getLogger("test_repeated"), logging.StreamHandler(), Collector()
    console.addFilter(FirstOfItsKind())
    for handler in (console, collector):
        logger.addHandler(handler)
    for frame in range(3):
        logger.warning("frame %d is bad", frame)
    logger.error("frame 4 is bad")
    assert capsys.readouterr().err.splitlines() == ["frame 0 is bad", "frame 4 is bad"]
    assert list(collector.texts) == ["frame 0 is bad", "frame 1 is bad", "frame 2 is bad", "frame 4 is bad"]
