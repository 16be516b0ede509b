"""The command line: a recording in, all files out; interrupted, it continues; mistakes are one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from synthetic_crowd import FPS, camera
from synthetic_motion import body_model, crowd_motion, frames_of, nobody

from crowd4d_ros import cli, offline
from crowd4d_ros.config import Config, ConfigError, nested
from crowd4d_ros.errors import told
from crowd4d_ros.initialization.initializer import StreamError
from crowd4d_ros.io.camera import write_camera_info
from crowd4d_ros.io.results import read_results
from crowd4d_ros.offline import Interrupted, Options, reconstruct
from crowd4d_ros.visualization.overlay import OverlayPainter
from crowd4d_ros.window import CrowdMotion, Frame, FrameObservations
from crowd4d_ros.world import World

COUNT, LENGTH, OVERLAP = 20, 8, 2
FILES = {
    "tracks.csv",
    "cameras.json",
    "crowd.npz",
    "surface.ply",
    "overlay.mp4",
    "overlay.png",
    "plan.png",
    "report.json",
}


@dataclass
class Crowd:
    """Stands in for the initializer and the pipeline: knows the answer, and counts what it was asked."""

    people: int = 2
    stop_at_window: int = -1
    refuse: frozenset[int] = frozenset()
    observed: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)
    stepped: list[int] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=lambda: {"detector": "abc"})

    def __post_init__(self) -> None:
        self.body = body_model()
        self.truth = crowd_motion(self.people, COUNT) if self.people else nobody(COUNT)
        self.emitted = 0
        self.perception = self
        self.restored = -1

    def observe(self, frame: Frame) -> FrameObservations:
        if frame.index in self.refuse:
            raise StreamError(f"frame {frame.index} repeats the stamp of the frame before: skipped")
        self.observed.append(frame.index)
        none = np.zeros(0)
        return FrameObservations(frame.stamp, frame.index, none, none, none, none, none, none, ())

    @property
    def counts(self) -> dict[str, int]:
        return {"frames observed": len(self.observed)}

    def state(self) -> dict[str, Any]:
        return {"last": np.array(self.observed[-1])}

    def restore(self, state: dict[str, Any]) -> None:
        self.restored = int(state["last"])

    def adding(self, observations: FrameObservations) -> Iterable[CrowdMotion]:
        self.added.append(observations.index)
        start = max(self.emitted - OVERLAP, 0)
        return self._window(start, start + LENGTH) if len(self.added) == start + LENGTH else []

    def ending(self) -> list[CrowdMotion]:
        count = len(self.added)
        return self._window(max(self.emitted - OVERLAP, 0), count) if self.emitted < count else []

    def _window(self, start: int, stop: int) -> list[CrowdMotion]:
        piece = frames_of(self.truth, slice(start, stop))
        frames = np.array(self.added[start:stop])
        window = replace(
            piece,
            frames=frames,
            stamps=np.round(frames * 1e9 / FPS).astype(np.int64),
            is_new=np.arange(start, stop) >= self.emitted,
        )
        self.emitted = stop
        return [window]

    def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
        self.stepped.append(int(window.frames[-1]))
        if len(self.stepped) - 1 == self.stop_at_window:
            raise KeyboardInterrupt
        return window, world.after(window, True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video and its camera's calibration."""
    folder = tmp_path_factory.mktemp("recording")
    writer = cv2.VideoWriter(str(folder / "crowd.avi"), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (768, 576))
    for _ in range(COUNT):
        writer.write(np.full((576, 768, 3), 120, np.uint8))
    writer.release()
    write_camera_info(folder / "camera.yaml", camera())
    return folder / "crowd.avi", folder / "camera.yaml"


def run(recording: tuple[Path, Path], out: Path, crowd: Crowd | None = None, **options: Any) -> Crowd:
    crowd = crowd or Crowd()
    given = Options(input=recording[0], out=out, **{"camera_info": recording[1], **options})
    reconstruct(given, Config(), lambda *_: crowd, lambda *_: crowd)  # type: ignore[arg-type, return-value]
    return crowd


def test_a_recording_becomes_all_the_files(recording: tuple[Path, Path], tmp_path: Path) -> None:
    crowd = run(recording, tmp_path, bag=True)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"bag"}
    results = read_results(tmp_path)
    assert sorted(set(results.tracks["frame"])) == list(range(COUNT))
    assert crowd.observed == list(range(COUNT))
    assert [window["new_frames"] for window in results.report["windows"]] == [8, 6, 6]
    assert {"perception", "optimization", "overlay", "bag"} <= set(results.report["timings"])
    assert results.report["models"]["detector"] == "abc"
    assert results.report["perception"] == {"frames observed": COUNT}
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


def test_a_part_keeps_the_numbers_of_the_whole(recording: tuple[Path, Path], tmp_path: Path) -> None:
    run(recording, tmp_path, start=5, frames=10, fps=7.0)
    results = read_results(tmp_path)
    assert sorted(set(results.tracks["frame"])) == list(range(5, 15))
    video = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 10


def test_interrupted_it_continues_where_it_stopped(recording: tuple[Path, Path], tmp_path: Path) -> None:
    stopped = Crowd(stop_at_window=1)
    with pytest.raises(Interrupted, match=r"1 windows.*same command continues"):
        run(recording, tmp_path / "a", stopped)
    continued = run(recording, tmp_path / "a")
    assert stopped.observed + continued.observed == list(range(COUNT)), "no frame is observed twice"
    assert continued.restored == stopped.observed[-1], "the tracker remembers who is who"
    assert len(continued.stepped) == 2, "the finished window is not optimised again"
    run(recording, tmp_path / "b")
    for name in ("tracks.csv", "cameras.json", "surface.ply", "overlay.mp4", "overlay.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not (tmp_path / "a" / ".work").exists()


def test_the_next_window_is_prepared_while_one_is_optimised(recording: tuple[Path, Path], tmp_path: Path) -> None:
    crowd = Crowd()
    prepared = threading.Event()

    class Patient(Crowd):
        def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
            assert prepared.wait(10), "the next window is not made before this one is done"
            return crowd.step(window, world)

        def _window(self, start: int, stop: int) -> list[CrowdMotion]:
            if start:
                prepared.set()
            return super()._window(start, stop)

    run(recording, tmp_path, Patient())
    assert len(crowd.stepped) == 3


def test_windows_are_drawn_while_later_ones_are_optimised(
    recording: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = threading.Event()
    draw = OverlayPainter.draw

    def drawing(self: OverlayPainter, image: Any, motion: CrowdMotion, t: int) -> Any:
        drawn.set()
        return draw(self, image, motion, t)

    class Patient(Crowd):
        def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
            assert not self.stepped or drawn.wait(10), "the first window is not drawn before the second is done"
            return super().step(window, world)

    monkeypatch.setattr(OverlayPainter, "draw", drawing)
    run(recording, tmp_path / "a", Patient())
    run(recording, tmp_path / "b")
    for name in ("overlay.mp4", "overlay.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def ours() -> list[str]:
    """The threads that are still there, of those that a run starts."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("overlay", "windows", "frames"))]


def test_nothing_half_drawn_is_left_by_an_interrupted_run(recording: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(recording, tmp_path, Crowd(stop_at_window=2))
    assert {path.name for path in tmp_path.iterdir()} == {".work"}
    assert not ours()


def test_no_thread_outlives_a_run_that_ends_while_a_window_is_waiting(
    recording: tuple[Path, Path], tmp_path: Path
) -> None:
    prepared = threading.Event()

    class Hasty(Crowd):
        def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
            assert prepared.wait(10)
            raise KeyboardInterrupt

        def adding(self, observations: FrameObservations) -> Iterable[CrowdMotion]:
            yield from super().adding(observations)  # a window is made when it is asked for

        def _window(self, start: int, stop: int) -> list[CrowdMotion]:
            if start:
                prepared.set()
            return super()._window(start, stop)

    with pytest.raises(Interrupted) as error:
        run(recording, tmp_path, Hasty())
    assert not ours(), f"nor where {error} still holds what was going on"


def test_what_fails_in_the_drawing_is_told_at_once(
    recording: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ConfigError("no such colour")

    begun: list[Future[None]] = []
    drawing = offline._Run.drawing

    @contextmanager
    def watched(self: Any) -> Iterator[Future[None]]:
        with drawing(self) as overlay:
            begun.append(overlay)
            yield overlay

    class Patient(Crowd):
        def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
            if self.stepped:
                wait(begun, 10)
            return super().step(window, world)

    monkeypatch.setattr(OverlayPainter, "draw", broken)
    monkeypatch.setattr(offline._Run, "drawing", watched)
    crowd = Patient()
    with pytest.raises(ConfigError, match="no such colour"):
        run(recording, tmp_path, crowd)
    assert len(crowd.stepped) == 2, "no further window is optimised for nothing"
    assert {path.name for path in tmp_path.iterdir()} == {".work"}
    assert not ours()


def test_what_fails_in_the_preparation_is_told(recording: tuple[Path, Path], tmp_path: Path) -> None:
    class Broken(Crowd):
        def adding(self, observations: FrameObservations) -> list[CrowdMotion]:
            raise ConfigError("no such gravity")

    with pytest.raises(ConfigError, match="no such gravity"):
        run(recording, tmp_path, Broken())


def test_where_the_optimization_fails_it_is_told_and_nothing_goes_on(
    recording: tuple[Path, Path], tmp_path: Path
) -> None:
    class Broken(Crowd):
        def step(self, window: CrowdMotion, world: World) -> tuple[CrowdMotion, World]:
            raise ConfigError("no such weight")

    crowd = Broken()
    with pytest.raises(ConfigError, match="no such weight"):
        run(recording, tmp_path, crowd)
    assert not ours()
    assert len(crowd.observed) < COUNT, "of the video no more is looked at than the next window needs"


def test_with_other_arguments_it_starts_over(recording: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(recording, tmp_path, Crowd(stop_at_window=1))
    again = run(recording, tmp_path, fps=7.0)
    assert again.observed == list(range(COUNT))


def test_a_mistake_in_the_arguments_keeps_what_is_unfinished(recording: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(recording, tmp_path, Crowd(stop_at_window=1))

    def no_pipeline(_: Config) -> Any:
        raise ConfigError("no such body")

    with pytest.raises(ConfigError):
        reconstruct(Options(*recording[:1], out=tmp_path, fps=7.0), Config(), lambda *_: Crowd(), no_pipeline)  # type: ignore[arg-type, return-value]
    assert len(run(recording, tmp_path).stepped) == 2


def test_finished_pictures_can_be_drawn_again_from_kept_work(recording: tuple[Path, Path], tmp_path: Path) -> None:
    run(recording, tmp_path, keep_work=True)
    again = run(recording, tmp_path, keep_work=True)
    assert again.observed == again.stepped == []
    assert len(read_results(tmp_path).tracks) == 2 * COUNT


def test_frames_that_cannot_be_used_are_counted_in_one_warning(recording: tuple[Path, Path], tmp_path: Path) -> None:
    run(recording, tmp_path, Crowd(refuse=frozenset({4, 9, 15})))
    warnings = read_results(tmp_path).report["warnings"]
    assert sum("repeats the stamp" in warning for warning in warnings) == 1
    assert any("(and 2 more)" in warning for warning in warnings)


def test_without_people_there_is_a_warning_and_every_file(recording: tuple[Path, Path], tmp_path: Path) -> None:
    run(recording, tmp_path, Crowd(people=0))
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "no people were found" in read_results(tmp_path).report["warnings"]


def test_a_truncated_video_is_reconstructed_as_far_as_it_goes(recording: tuple[Path, Path], tmp_path: Path) -> None:
    content = recording[0].read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: int(0.7 * len(content))])
    crowd = run((cut, recording[1]), tmp_path / "out")
    assert 0 < len(crowd.observed) < COUNT
    assert any("cut off" in warning for warning in read_results(tmp_path / "out").report["warnings"])


def test_without_calibration_the_focal_length_is_estimated_and_it_says_so(
    recording: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = []
    crowd = Crowd()

    def make(_: Config, intrinsics: Any) -> Any:
        given.append(intrinsics)
        return crowd

    reconstruct(Options(recording[0], tmp_path), Config(), make, lambda _: crowd)  # type: ignore[arg-type, return-value]
    assert given[0].source == "estimated"
    assert "focal length is estimated" in caplog.text
    assert any("focal length" in warning for warning in read_results(tmp_path).report["warnings"])


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    fake = Crowd()
    monkeypatch.setattr(offline, "Initializer", lambda *_: fake)
    monkeypatch.setattr(offline, "Pipeline", lambda *_: fake)
    return fake


def refusal(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which these arguments are refused."""
    assert cli.main([str(argument) for argument in arguments]) == cli.USER_ERROR
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_the_command_writes_the_files_and_prints_where(
    recording: tuple[Path, Path], tmp_path: Path, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "reconstruct",
        recording[0],
        "--camera-info",
        recording[1],
        "--out",
        tmp_path / "out",
        "--frames",
        9,
    ]
    assert cli.main([str(argument) for argument in arguments]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert crowd.observed == list(range(9))


def test_bad_input_is_one_line_and_exit_code_two(
    recording: tuple[Path, Path], tmp_path: Path, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    video, info = recording
    out = ["--out", tmp_path / "out"]
    document = yaml.safe_load(info.read_text())
    zero, small = tmp_path / "zero.yaml", tmp_path / "small.yaml"
    zero.write_text(yaml.safe_dump({**document, "camera_matrix": {"data": [0.0] * 9}}))
    small.write_text(yaml.safe_dump({**document, "image_width": 640, "image_height": 480}))
    text = tmp_path / "words.avi"
    text.write_text("words")

    assert "no such file" in refusal(["reconstruct", tmp_path / "none.avi", *out], capsys)
    assert "not a video" in refusal(["reconstruct", text, *out], capsys)
    assert "metadata.yaml" in refusal(["reconstruct", tmp_path, *out], capsys)
    assert "no such camera info" in refusal(["reconstruct", video, "--camera-info", "none.yaml", *out], capsys)
    assert "not calibrated" in refusal(["reconstruct", video, "--camera-info", zero, *out], capsys)
    assert "640x480" in refusal(["reconstruct", video, "--camera-info", small, *out], capsys)
    assert "--out" in refusal(["reconstruct", video, "--camera-info", info, "--out", text / "x"], capsys)
    assert "--out" in refusal(["reconstruct", video, "--camera-info", info, "--out", text], capsys)
    assert "--start" in refusal(["reconstruct", video, "--camera-info", info, "--start", 500, *out], capsys)
    assert "no_such" in refusal(["reconstruct", video, "--set", "no_such=1", *out], capsys)
    assert "length" in refusal(["reconstruct", video, "--set", "window.length=long", *out], capsys)
    assert "configuration" in refusal(["reconstruct", video, "--config", "none.yaml", *out], capsys)


def test_an_interrupted_command_says_how_to_go_on(
    recording: tuple[Path, Path], tmp_path: Path, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd.stop_at_window = 0
    arguments = ["reconstruct", str(recording[0]), "--camera-info", str(recording[1]), "--out", str(tmp_path)]
    assert cli.main(arguments) == cli.STOPPED
    assert "the same command continues" in capsys.readouterr().err


def test_a_bug_shows_its_traceback(
    recording: tuple[Path, Path], tmp_path: Path, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd.observe = None  # type: ignore[assignment, method-assign]
    arguments = ["reconstruct", str(recording[0]), "--camera-info", str(recording[1]), "--out", str(tmp_path)]
    assert cli.main(arguments) == cli.BUG
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "bug" in error


def test_the_printed_configuration_can_be_given_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["config", "--set", "window.length=55", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert nested(yaml.safe_load(printed))["window.length"] == 55
    (tmp_path / "config.yaml").write_text(printed)
    assert cli.main(["config", "--config", str(tmp_path / "config.yaml")]) == 0
    assert capsys.readouterr().out == printed


def test_help_and_version_come_without_loading_the_models() -> None:
    code = (
        "import sys; from crowd4d_ros.cli import main\ntry: main(['--version'])\nfinally: print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.startswith("crowd4d 0.")
    assert answer.strip().endswith("False")


def test_the_report_is_plain_json(recording: tuple[Path, Path], tmp_path: Path) -> None:
    run(recording, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["arguments"]["input"] == str(recording[0])


def test_of_an_error_of_ours_its_message_is_told_and_of_a_bug_where_it_is() -> None:
    def said(error: Exception) -> str:
        try:
            raise error
        except Exception as raised:
            return told(raised)

    assert said(ConfigError("give another value")) == "give another value"
    assert "test_cli.py" in said(KeyError("a bug"))
    assert said(KeyError("a bug")).endswith("KeyError: 'a bug'")
