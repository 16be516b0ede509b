"""The console script ``crowd4d``: arguments in, calls out."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import crowd4d_ros
from crowd4d_ros.config import Config, ConfigError, nested, to_yaml, updated
from crowd4d_ros.repeated import FirstOfItsKind

USER_ERROR, BUG, STOPPED = 2, 1, 130
"""Exit codes; 130 is the shell's for Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    console = logging.StreamHandler()
    console.addFilter(FirstOfItsKind())
    logging.basicConfig(format="crowd4d: %(message)s", handlers=[console])
    logging.captureWarnings(True)
    logging.getLogger(crowd4d_ros.__name__).setLevel(logging.DEBUG if parsed.debug else logging.WARNING)
    try:
        parsed.run(parsed)
    except KeyboardInterrupt as stop:
        print(f"crowd4d: {stop or 'stopped'}", file=sys.stderr)
        return STOPPED
    except Exception as error:
        return _failed(error, parsed.debug)
    return 0


def _failed(error: Exception, debug: bool) -> int:
    # An error of our own types was written for the user. Any other is a bug, and its traceback is wanted.
    ours = type(error).__module__.split(".")[0] == crowd4d_ros.__name__
    if debug or not ours:
        traceback.print_exception(error)
    print(
        f"crowd4d: {error if ours else 'this is a bug, please report it with the lines above'}",
        file=sys.stderr,
    )
    return USER_ERROR if ours else BUG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crowd4d", description="Metric 4D crowds from one RGB camera.")
    parser.add_argument("--version", action="version", version=f"crowd4d {crowd4d_ros.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "reconstruct",
        help="a video or a bag becomes a 4D crowd",
        description="Reconstruct the people of a video file or a rosbag2 folder into OUT: tracks.csv, "
        "cameras.json, crowd.npz, surface.ply, overlay.mp4, overlay.png, plan.png, report.json. "
        "Interrupted, the same command continues.",
    )
    command.set_defaults(run=_reconstruct)
    command.add_argument("input", metavar="INPUT", type=Path, help="a video file, or a rosbag2 folder (sqlite3, mcap)")
    command.add_argument(
        "--camera-info",
        metavar="FILE",
        type=Path,
        help="its calibration as ROS YAML; without, the bag's is used, or the focal length is estimated",
    )
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the results go")
    command.add_argument("--start", metavar="S", type=int, default=0, help="first frame, from 0")
    command.add_argument("--frames", metavar="N", type=int, help="how many frames; default: all")
    command.add_argument("--fps", metavar="F", type=float, help="the true frame rate, where the recording's is wrong")
    command.add_argument("--topic", metavar="T", default="", help="the image topic, where a bag has several")
    command.add_argument("--bag", action="store_true", help="also write the results as a bag, OUT/bag")
    command.add_argument("--keep-work", action="store_true", help="keep OUT/.work, the observations and windows")
    _add_settings(command)

    command = commands.add_parser(
        "config",
        help="print the configuration as commented YAML",
        description="Print every setting, as --config reads it.",
    )
    command.set_defaults(run=_print_config)
    _add_settings(command)
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="D", help="auto, cpu or cuda")
    command.add_argument("--body", metavar="FILE", help="your SMPL file; default: the embedded, licence-free body")
    command.add_argument("--config", metavar="YAML", type=Path, help="settings that differ from `crowd4d config`")
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="one setting, such as window.length=60",
    )
    command.add_argument("--debug", action="store_true", help="log more, and show tracebacks")


def _config(parsed: argparse.Namespace) -> Config:
    config = updated(Config(), _read_settings(parsed.config)) if parsed.config else Config()
    chosen: dict[str, Any] = {name: getattr(parsed, name) for name in ("device", "body") if getattr(parsed, name)}
    for assignment in parsed.set:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set takes NAME=VALUE, not '{assignment}'")
        try:
            chosen[name.strip()] = _parsed(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {name}: '{text}' is not a value") from None
    return updated(config, chosen)


def _parsed(text: str) -> Any:
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value  # YAML 1.1 takes 1e-5 for a string
    except ValueError:
        return value


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a mapping of settings; `crowd4d config` prints one")
    # A group without settings, as `crowd4d config` may print it, is read as None.
    return {name: setting for name, setting in nested(document).items() if setting is not None}


def _reconstruct(parsed: argparse.Namespace) -> None:
    config = _config(parsed)
    from crowd4d_ros.offline import Options, reconstruct  # torch takes seconds to import; help and errors should not

    options = Options(
        input=parsed.input,
        out=parsed.out,
        camera_info=parsed.camera_info,
        start=parsed.start,
        frames=parsed.frames,
        fps=parsed.fps,
        topic=parsed.topic,
        bag=parsed.bag,
        keep_work=parsed.keep_work,
    )
    print(reconstruct(options, config))


def _print_config(parsed: argparse.Namespace) -> None:
    print(to_yaml(_config(parsed)), end="")


if __name__ == "__main__":
    sys.exit(main())
