"""Where results go: a folder that is checked before the work, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(RuntimeError):
    """Results cannot be written; the message says where and what to do."""


def prepare_folder(folder: Path, needed_bytes: int) -> None:
    """Make ``folder`` and be sure that ``needed_bytes`` can be written there. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"{folder} has {free / 1e6:.0f} MB free, about {needed_bytes / 1e6:.0f} MB are needed: "
            "free some space or choose another folder with --out"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour that becomes ``path`` when the block succeeds. OSErrors become OutputError."""
    temporary = path.with_name(f".part-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(f"the disk is full, {path} was not written: free some space and run again") from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like ``replacing``, for a folder that the block makes; it already has its final name, as bags need."""
    parent = path.with_name(f".part-{path.name}")
    shutil.rmtree(parent, ignore_errors=True)
    try:
        parent.mkdir()
        yield parent / path.name
        shutil.rmtree(path, ignore_errors=True)
        os.replace(parent / path.name, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(parent, ignore_errors=True)
