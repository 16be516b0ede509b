"""A recording in, a 4D crowd out: every frame, as fast as the machine allows, without a ROS graph.

While a frame is observed the next one is read, and while a window is optimised the next one is prepared, in threads of
their own, and no further ones: nothing queues up. In another one the windows before are drawn. What is finished is on
disk (io.resume), so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config
from crowd4d_ros.initialization.initializer import Initializer, StreamError
from crowd4d_ros.io import FrameSource, open_input
from crowd4d_ros.io.camera import check_size, default_intrinsics, read_camera_info
from crowd4d_ros.io.output import prepare_folder, replacing_folder
from crowd4d_ros.io.results import ResultWriter, plain
from crowd4d_ros.io.resume import WorkFolder, key_of
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.repeated import collecting
from crowd4d_ros.visualization.overlay import OverlayPainter, write_overlay
from crowd4d_ros.visualization.plan import write_plan_of
from crowd4d_ros.window import CrowdMotion, CrowdWindow, Frame, FrameObservations, Intrinsics
from crowd4d_ros.world import World

log = logging.getLogger(__name__)
T = TypeVar("T")

VIDEO_BYTES = 0.25
"""of overlay.mp4 per pixel and frame, generously; measured 0.06 to 0.15 for MPEG-4."""
OBSERVATION_BYTES = 50_000
"""per frame, for the observations and motions of some twenty people."""
UNKNOWN_LENGTH = 1000
"""frames assumed where a container does not say."""
UNCALIBRATED = "no camera calibration was given (--camera-info): the focal length is estimated from the people"
QUIET_INTERVAL = 15.0
"""seconds between progress lines where nobody watches them live, as in a log file."""


class Remembering(Protocol):
    """What is asked of the perception: to go on where an interrupted run stopped, and what it did, for the report."""

    @property
    def counts(self) -> dict[str, int]: ...
    def state(self) -> dict[str, NDArray[Any]]: ...
    def restore(self, state: dict[str, NDArray[Any]]) -> None: ...


class Observing(Protocol):
    """What is asked of the initializer."""

    @property
    def perception(self) -> Remembering: ...
    def observe(self, frame: Frame) -> FrameObservations: ...
    def adding(self, observations: FrameObservations) -> Iterable[CrowdWindow]: ...
    def ending(self) -> Iterable[CrowdWindow]: ...


class Optimizing(Protocol):
    """What is asked of the pipeline."""

    body: BodyModel

    def step(self, window: CrowdWindow, world: World) -> tuple[CrowdMotion, World]: ...


@dataclass(frozen=True)
class Options:
    """What to reconstruct. start, frames: in frames of the input; fps: overrides the recording's stamps."""

    input: Path
    out: Path
    camera_info: Path | None = None
    start: int = 0
    frames: int | None = None
    fps: float | None = None
    topic: str = ""
    bag: bool = False
    keep_work: bool = False


class Interrupted(KeyboardInterrupt):
    """Stopped by the user; what is finished is kept."""


def reconstruct(
    options: Options,
    config: Config,
    make_initializer: Callable[[Config, Intrinsics], Observing] | None = None,
    make_pipeline: Callable[[Config], Optimizing] | None = None,
) -> Path:
    """Reconstruct ``options.input`` into the files of io.results in ``options.out``; returns that folder.

    Raises the errors of io and of the pipeline, each with a message for the user, and Interrupted.
    """
    with collecting() as warnings:
        run = _Run(options, config, make_initializer or Initializer, make_pipeline or Pipeline, warnings)
        try:
            with run.drawing() as overlay:
                run.reconstruct(overlay)
                run.write(overlay)
        except KeyboardInterrupt:
            run.keep()
            raise Interrupted(
                f"stopped after {run.work.num_windows} windows; the same command continues from here"
            ) from None
    if not options.keep_work:
        run.work.remove()
    return options.out


class _Run:
    def __init__(
        self,
        options: Options,
        config: Config,
        make_initializer: Callable[[Config, Intrinsics], Observing],
        make_pipeline: Callable[[Config], Optimizing],
        warnings: dict[str, None],
    ) -> None:
        self.options, self.config = options, config
        self.source = self._open(options.start, options.frames)
        self.intrinsics = _intrinsics(options, self.source)
        count = self.source.count or UNKNOWN_LENGTH
        picture = self.source.width * self.source.height * VIDEO_BYTES
        prepare_folder(options.out, int(count * (picture + OBSERVATION_BYTES)))
        self.pipeline = make_pipeline(config)
        patient = replace(config.calibration, frames=config.calibration.recording_frames)
        self.initializer = make_initializer(replace(config, calibration=patient), self.intrinsics)
        # Last, since it drops what other arguments left unfinished: a mistake in these must not.
        stated = {name: value for name, value in asdict(options).items() if name not in ("out", "bag", "keep_work")}
        stated["intrinsics"] = plain(self.intrinsics)
        self.work = WorkFolder(options.out, key_of(options.input, stated, config))
        self._stopping, self._abandoned = threading.Event(), threading.Event()
        self._is_there: SimpleQueue[bool] = SimpleQueue()
        self.seconds: dict[str, float] = defaultdict(float, self.work.recall("seconds", {}))
        self.counts: dict[str, int] = self.work.recall("counts", {})
        self.warnings = warnings
        self.warnings.update(dict.fromkeys(self.work.recall("warnings", [])))
        if self.intrinsics.source == "estimated":
            log.warning(UNCALIBRATED)

    def _open(self, start: int, frames: int | None) -> FrameSource:
        return open_input(self.options.input, start, frames, self.options.fps, self.options.topic)

    def reconstruct(self, overlay: Future[None]) -> None:
        """Every window of the input, each into the work folder. overlay: drawn meanwhile; if it fails, this ends."""
        world, number = self.work.world(), 0
        with _progress("reconstructing", self.source.count) as bar, self._prepared(bar) as windows:
            for window in windows:
                if number >= self.work.num_windows:
                    with self._timed("optimization"):
                        motion, world = self.pipeline.step(window, world)
                    self.work.finish_window(motion, world)
                    self._remember()
                number += 1
                self._is_there.put(True)
                if overlay.done():
                    overlay.result()
                bar.set_postfix(windows=number, people=len(window.track_ids))
        self._is_there.put(False)

    @contextmanager
    def drawing(self) -> Iterator[Future[None]]:
        """In another thread overlay.mp4 and overlay.png of the windows as they are finished."""
        with ThreadPoolExecutor(1, "overlay") as thread:
            overlay = thread.submit(self._draw)
            try:
                yield overlay
            finally:
                self._abandoned.set()
                self._is_there.put(False)

    def _draw(self) -> None:
        """Until every window is there and drawn, or ``_abandoned``."""
        began, waited = time.perf_counter(), 0.0

        def is_there() -> bool:
            nonlocal waited
            since = time.perf_counter()
            answer = self._is_there.get()
            waited += time.perf_counter() - since
            return answer

        def finished() -> Iterator[CrowdMotion]:
            number = 0
            while is_there():
                yield self.work.motion(number)
                number += 1

        motions = finished()
        first = next(motions, None)
        stamps = first.stamps if first is not None else np.zeros(0)
        fps = 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else self.options.fps or 1.0
        painter = OverlayPainter(self.pipeline.body, self.config.visualization)
        known = motions if first is None else chain([first], motions)
        for _ in write_overlay(self.options.out, self.source, known, painter, fps):
            if self._abandoned.is_set():
                return
        self.seconds["overlay"] += time.perf_counter() - began - waited

    @contextmanager
    def _prepared(self, bar: Any) -> Iterator[Iterator[CrowdWindow]]:
        """``_windows``, none of which is prepared any more once the block ends."""
        with _ahead(self._windows(bar), "windows") as windows:
            try:
                yield windows
            finally:
                self._stopping.set()

    def _windows(self, bar: Any) -> Iterator[CrowdWindow]:
        """The windows of what is recorded, and of the frames after it until ``_stopping``."""
        last, state = -1, self.work.state()
        for observations in self.work.observations():
            if self._stopping.is_set():
                return
            last = observations.index
            yield from self._made(self.initializer.adding(observations))
            bar.update()
        with _ahead(self.source, "frames") as frames:
            for frame in frames:
                if self._stopping.is_set():
                    return
                if frame.index <= last:
                    continue
                try:
                    with self._timed("perception"):
                        if state:
                            self.initializer.perception.restore(state)
                            state = {}
                        observations = self.initializer.observe(frame)
                except StreamError as error:
                    log.warning(str(error))
                    continue
                self.work.add_observations(observations, self.initializer.perception.state())
                self.counts = self.initializer.perception.counts
                yield from self._made(self.initializer.adding(observations))
                bar.update()
        self.work.flush()
        bar.set_description("optimizing")
        yield from self._made(self.initializer.ending())

    def _made(self, windows: Iterable[CrowdWindow]) -> Iterator[CrowdWindow]:
        """``windows``, one when it is asked for, until ``_stopping``."""
        windows = iter(windows)
        while not self._stopping.is_set():
            with self._timed("initial motion"):
                window = next(windows, None)
            if window is None:
                return
            yield window

    def write(self, overlay: Future[None]) -> None:
        """Every file, from the work folder. overlay: drawn meanwhile."""
        out = self.options.out
        results = ResultWriter(out, self.config, self.pipeline.body)
        for motion in self.work.motions():
            results.add(motion)
        if self.options.bag:
            self._write_bag()
        overlay.result()
        results.close(self._report(results))
        write_plan_of(out, self.config.visualization)

    def _write_bag(self) -> None:
        from crowd4d_ros.io.bags import ResultBag  # rosbags is slow to import and only wanted here

        with self._timed("bag"), replacing_folder(self.options.out / "bag") as folder:
            bag = ResultBag(folder, self.pipeline.body)
            for motion in self.work.motions():
                bag.add(motion)
            bag.close()

    def _report(self, results: ResultWriter) -> dict[str, Any]:
        calibration = getattr(self.initializer, "calibration", None)
        return {
            "arguments": plain(asdict(self.options)),
            "device": str(self.pipeline.body.v_template.device),
            "calibration": calibration and calibration.summary(),
            "models": getattr(self.initializer, "models", {}),
            "perception": self.counts,
            "timings": {
                step: {
                    "seconds": round(spent, 3),
                    "ms_per_frame": round(1e3 * spent / max(results.num_frames, 1), 2),
                }
                for step, spent in self.seconds.items()
            },
            "warnings": list(self.warnings),
        }

    def keep(self) -> None:
        """What is known so far, to the disk."""
        self.work.flush()
        self._remember()

    def _remember(self) -> None:
        self.work.remember("seconds", dict(self.seconds))
        self.work.remember("counts", self.counts)
        self.work.remember("warnings", list(self.warnings))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - begin


@contextmanager
def _ahead(items: Iterable[T], name: str) -> Iterator[Iterator[T]]:
    """``items``, the next of which is made in another thread while one is worked on. They end with the block."""

    def each() -> Generator[T, None, None]:
        yield from items

    with ThreadPoolExecutor(1, name) as thread:
        made = each()

        def taken() -> Iterator[T]:
            following = thread.submit(next, made, None)
            while (item := following.result()) is not None:
                following = thread.submit(next, made, None)
                yield item

        try:
            yield taken()
        finally:
            thread.submit(made.close)  # there, since it may still be making one


def _intrinsics(options: Options, source: FrameSource) -> Intrinsics:
    if options.camera_info is not None:
        intrinsics = read_camera_info(options.camera_info)
    elif source.intrinsics is not None:
        intrinsics = source.intrinsics
    else:
        return default_intrinsics(source.width, source.height)
    check_size(intrinsics, source.width, source.height)
    return intrinsics


def _progress(what: str, total: int | None) -> Any:
    interval = 0.1 if sys.stderr.isatty() else QUIET_INTERVAL
    return tqdm(total=total, desc=what, unit="frame", mininterval=interval, maxinterval=interval, dynamic_ncols=True)
