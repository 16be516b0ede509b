"""What is finished stays finished: observations and windows of an unfinished reconstruction, on disk.

OUT/.work holds chunks of FrameObservations, one file per finished window with the world after it, and a key
made of everything that has a part in the result. The same arguments continue; others start over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import crowd4d_ros
from crowd4d_ros.config import Config, flatten
from crowd4d_ros.io.arrays import load_list, load_state, save_list
from crowd4d_ros.io.output import replacing
from crowd4d_ros.window import CrowdMotion, FrameObservations
from crowd4d_ros.world import World

log = logging.getLogger(__name__)

CHUNK = 20
"""frames of observations per file: a crash costs some seconds of perception."""
SAMPLE = 1 << 20
"""bytes hashed at both ends of an input file: enough to tell recordings apart without reading them."""


class WorkFolder:
    """The finished part of a reconstruction into ``folder``. ``key``: see ``key_of``. Raises OutputError."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".work"
        self._pending: list[FrameObservations] = []
        self._state: dict[str, NDArray[Any]] = {}
        if (self.path / "key").is_file() and (self.path / "key").read_text() == key:
            log.info("continuing the reconstruction in %s", folder)
        else:
            if self.path.exists():
                log.warning("%s holds a reconstruction with other arguments: starting over", folder)
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            with replacing(self.path / "key") as temporary:
                temporary.write_text(key)
        self._chunks = len(self._files("observations"))
        self.num_windows = len(self._files("window"))

    def _files(self, kind: str) -> list[Path]:
        return sorted(self.path.glob(f"{kind}-*.npz"))

    def observations(self) -> Iterator[FrameObservations]:
        """Every recorded observation, in the order of the input."""
        yield from recorded(self.path.parent)

    def add_observations(self, observations: FrameObservations, state: dict[str, NDArray[Any]]) -> None:
        """Record a frame, and perception's state after it; on disk after ``CHUNK`` frames, or ``flush``."""
        self._pending.append(observations)
        self._state = state
        if len(self._pending) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Bring every recorded observation to the disk."""
        if self._pending:
            save_list(self.path / f"observations-{self._chunks:06d}.npz", self._pending, self._state)
            self._chunks += 1
            self._pending = []

    def state(self) -> dict[str, NDArray[Any]]:
        """Perception's state after the last recorded observation; empty without any."""
        files = self._files("observations")
        return load_state(files[-1]) if files else {}

    def motion(self, number: int) -> CrowdMotion:
        """Finished window ``number``, from 0 on."""
        return load_list(self.path / f"window-{number:06d}.npz", CrowdMotion)[0]

    def motions(self) -> Iterator[CrowdMotion]:
        """Every finished window, in order."""
        return map(self.motion, range(self.num_windows))

    def world(self) -> World:
        """The world after the last finished window."""
        return World.load(self.path / f"world-{self.num_windows - 1:06d}.npz") if self.num_windows else World()

    def finish_window(self, motion: CrowdMotion, world: World) -> None:
        """Record a finished window. The window's file comes last: where it exists, its world does."""
        with replacing(self.path / f"world-{self.num_windows:06d}.npz") as temporary:
            world.save(temporary)
        save_list(self.path / f"window-{self.num_windows:06d}.npz", [motion])
        (self.path / f"world-{self.num_windows - 1:06d}.npz").unlink(missing_ok=True)
        self.num_windows += 1

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value, such as the seconds already spent."""
        with replacing(self.path / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(value))

    def recall(self, name: str, default: Any) -> Any:
        """What ``remember`` kept, or ``default``."""
        path = self.path / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else default

    def remove(self) -> None:
        """The reconstruction is complete."""
        shutil.rmtree(self.path)


def recorded(folder: Path) -> Iterator[FrameObservations]:
    """Every observation that an unfinished reconstruction into ``folder``, or one with --keep-work, has left there."""
    for path in sorted((folder / ".work").glob("observations-*.npz")):
        yield from load_list(path, FrameObservations)


def key_of(input: Path, options: dict[str, Any], config: Config) -> str:
    """SHA-256 of the input, the options, the configuration with the files it names, and this version."""
    digest = hashlib.sha256()
    files = [input] if input.is_file() else sorted(path for path in input.rglob("*") if path.is_file())
    for path in files:
        digest.update(f"{path.resolve()} {path.stat().st_size}".encode())
        digest.update(_sample(path))
    settings = {name: current for name, (current, _) in flatten(config).items()}
    stated = {"version": crowd4d_ros.__version__, "options": options, "config": settings}
    digest.update(json.dumps(stated, sort_keys=True, default=str).encode())
    for name in settings.values():
        if isinstance(name, str) and name and Path(name).is_file():
            digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return digest.hexdigest()


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(0, path.stat().st_size - SAMPLE))
        return hashlib.sha256(head + file.read(SAMPLE)).digest()
