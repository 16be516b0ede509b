"""Warnings that differ in nothing but their numbers: told once while it runs, counted in the report."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def counted(texts: Iterable[str]) -> list[str]:
    """One text of each kind, the first, with how many more there are. A text that comes twice counts once."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for text in dict.fromkeys(texts):
        kinds[_kind(text)].append(text)
    return [f"{first} (and {len(more)} more)" if more else first for first, *more in kinds.values()]


class FirstOfItsKind(logging.Filter):
    """Lets the first warning of each kind pass: a thousand frames of a wrong size are one line."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = _kind(record.getMessage())
        told = kind in self._seen
        self._seen.add(kind)
        return record.levelno != logging.WARNING or not told


class Collector(logging.Handler):
    """Every different warning, for the report."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.texts[record.getMessage()] = None


@contextmanager
def collecting() -> Iterator[dict[str, None]]:
    """Whatever this package warns of, each text once, in order."""
    logger, collector = logging.getLogger(__package__), Collector()
    logger.addHandler(collector)
    try:
        yield collector.texts
    finally:
        logger.removeHandler(collector)


def _kind(text: str) -> str:
    return re.sub(r"\d+", "", text)
