"""Errors that were written for the user, and those that were not."""

from __future__ import annotations

import traceback


def is_ours(error: BaseException) -> bool:
    """Whether this package made the error's type: its message says what to do. Any other is a bug."""
    return type(error).__module__.partition(".")[0] == __name__.partition(".")[0]


def told(error: BaseException) -> str:
    """What to say of an error: its message; of a bug, the traceback that finds it."""
    return str(error) if is_ours(error) else "".join(traceback.format_exception(error)).rstrip()
