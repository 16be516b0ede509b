"""The console script ``crowd4d``: arguments in, calls out."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

import crowd4d_ros
from crowd4d_ros.config import Config, ConfigError, nested, to_yaml, updated
from crowd4d_ros.errors import is_ours
from crowd4d_ros.repeated import FirstOfItsKind

T = TypeVar("T")

TRAINED = {"pose-prior": "vposer.safetensors", "motion-prior": "motion_prior.safetensors"}
"""What `crowd4d train` trains, and the file it writes unless told otherwise."""

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
        sys.stdout.flush()
    except BrokenPipeError:  # as in `crowd4d evaluate … | head`; Python would fail once more while it closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED
    except KeyboardInterrupt as stop:
        print(f"crowd4d: {stop or 'stopped'}", file=sys.stderr)
        return STOPPED
    except Exception as error:
        return _failed(error, parsed.debug)
    return 0


def _failed(error: Exception, debug: bool) -> int:
    ours = is_ours(error)
    if debug or not ours:
        traceback.print_exception(error)
    text = error if ours else "this is a bug, please report it with the lines above"
    print(f"crowd4d: {text}", file=sys.stderr)
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
        "synthesize",
        help="a synthetic crowd with exact truth, and what would have been observed of it",
        description="Make a crowd into OUT: truth.npz, observations.npz (as `crowd4d optimize` reads it), "
        "camera_info.yaml, plan.png, preview.png, report.json; with --video also video.avi, with --bag also bag/. "
        "The same arguments make the same files.",
    )
    command.set_defaults(run=_synthesize)
    command.add_argument("--scene", metavar="NAME", required=True, help="such as plaza, hill or street")
    command.add_argument("--camera", metavar="KIND", required=True, help="such as surveillance, gigapixel or drone")
    command.add_argument("--people", metavar="N", type=int, required=True, help="in the scene during the frames")
    command.add_argument("--frames", metavar="T", type=int, required=True)
    command.add_argument("--seed", metavar="S", type=int, default=0, help="another seed, another crowd")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the files go")
    command.add_argument("--fps", metavar="F", type=float, help="frames a second; default: the configuration's")
    command.add_argument("--mocap", metavar="FILE", type=Path, help="people's motions; default: a procedural gait")
    command.add_argument("--mocap-split", metavar="S", default="test", help="train or test; default: test")
    command.add_argument("--body", metavar="FILE", default="", help="your SMPL file; default: the embedded body")
    command.add_argument("--video", action="store_true", help="also render OUT/video.avi: seconds a frame")
    command.add_argument("--bag", action="store_true", help="also render OUT/bag, images and camera_info")
    _add_config(command, "`crowd4d config --synthetic`")

    command = commands.add_parser(
        "optimize",
        help="observations become a 4D crowd, without looking at images again",
        description="Optimise recorded observations into OUT: tracks.csv, cameras.json, crowd.npz, surface.ply, "
        "plan.png, report.json.",
    )
    command.set_defaults(run=_optimize)
    command.add_argument("observations", metavar="OBSERVATIONS", type=Path, help="an observations.npz, or its folder")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the results go")
    _add_settings(command)

    command = commands.add_parser(
        "ablate",
        help="the paper's ablations on synthetic crowds",
        description="Run the rows of the paper's Tables 3 to 7 on synthetic crowds and print them beside the paper's "
        "numbers; and 'floors', what must be reached on ground that is not flat. OUT keeps ablation.json, a CSV per "
        "table, and every finished run: the same command continues.",
    )
    command.set_defaults(run=_ablate)
    command.add_argument("--table", metavar="T", default="all", help="3 to 7, floors, several as 5,6, or all (default)")
    command.add_argument("--scenes", metavar="S,…", default="hill,stairs,plaza", help="default: %(default)s")
    command.add_argument("--cameras", metavar="C,…", default="surveillance", help="default: %(default)s")
    command.add_argument("--seeds", metavar="N,…", default="0,1", help="default: %(default)s")
    command.add_argument("--crowds", metavar="S:C:N,…", default="", help="instead of these: hill:drone:3,plaza:…")
    command.add_argument("--people", metavar="N", type=int, default=20, help="in each scene; default: %(default)s")
    command.add_argument("--frames", metavar="T", type=int, default=60, help="default: %(default)s")
    command.add_argument("--mocap", metavar="FILE", type=Path, help="people's motions; default: a procedural gait")
    command.add_argument("--jobs", metavar="N", type=int, default=1, help="crowds at a time, a core each; default: 1")
    command.add_argument("--out", metavar="DIR", type=Path, default=Path("ablation"), help="default: %(default)s")
    command.add_argument(
        "--page", metavar="FILE", type=Path, help="also write the results as Markdown, docs/results.md"
    )
    _add_settings(command)

    command = commands.add_parser(
        "evaluate",
        help="a 4D crowd against the truth",
        description="Compare PRED with TRUTH: print the metrics of one profile, and write metrics.csv, frames.csv, "
        "people.csv, evaluation.json and errors.png.",
    )
    command.set_defaults(run=_evaluate)
    command.add_argument(
        "prediction", metavar="PRED", type=Path, help="a folder of `crowd4d reconstruct`, or an observations.npz"
    )
    command.add_argument(
        "truth",
        metavar="TRUTH",
        type=Path,
        help="a folder of `crowd4d synthesize`, its truth.npz, or VirtualCrowd's .json",
    )
    command.add_argument(
        "--profile",
        choices=["author_native", "standard"],
        default="author_native",
        help="whose metrics: the Crowd4D and DyCrowd authors', or the field's (default: author_native)",
    )
    command.add_argument(
        "--tracking",
        choices=["detected", "ids"],
        default="detected",
        help="who is whom: as it looks in the image, or by equal track ids, if PRED was made with the true ones",
    )
    command.add_argument("--per-person", action="store_true", help="also print a row per person")
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    command.add_argument("--out", metavar="DIR", type=Path, help="for the files; default: evaluation-PROFILE in PRED")
    command.add_argument("--body", metavar="FILE", default="", help="the SMPL file both were made with, if they were")
    command.add_argument("--debug", action="store_true", help="log more, and show tracebacks")

    command = commands.add_parser(
        "check",
        help="what can be checked of a reconstruction without truth",
        description="Print for each folder of `crowd4d reconstruct` how near it is to image and ground, and how people "
        "move. The distance to detected keypoints needs a folder made with --keep-work.",
    )
    command.set_defaults(run=_check)
    command.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="a column each")
    command.add_argument("--json", action="store_true", help="print JSON, in SI units and degrees, instead of a table")
    command.add_argument("--body", metavar="FILE", default="", help="the SMPL file they were made with, if they were")
    command.add_argument("--debug", action="store_true", help="log more, and show tracebacks")

    command = commands.add_parser(
        "benchmark",
        help="how fast the optimization is, against full SMPL in the same process",
        description="Measure the three stages on a synthetic window, beside the same problem with every body's whole "
        "mesh, and whether both agree. Print a table, and write benchmark.json, benchmark.md and, with --curve, "
        "scaling.png into OUT. docs/performance.md",
    )
    command.set_defaults(run=_benchmark)
    command.add_argument("--people", metavar="N", type=int, default=20, help="default: %(default)s")
    command.add_argument("--frames", metavar="T", type=int, default=40, help="default: %(default)s")
    command.add_argument("--stages", metavar="S,…", default="1,2,3", help="those to report; default: %(default)s")
    command.add_argument("--repeat", metavar="R", type=int, default=3, help="medians of so many; default: %(default)s")
    command.add_argument("--threads", metavar="N", type=int, default=0, help="the reference's on a CPU; default: all")
    command.add_argument("--seed", metavar="S", type=int, default=0, help="another seed, another crowd")
    command.add_argument("--full", action="store_true", help="also both sides' whole schedules, the reference's twice")
    command.add_argument(
        "--curve", metavar="SECONDS", type=float, default=0.0, nargs="?", const=600.0,
        help="also 5 to 1000 people x 20 to 400 frames, as far as one gets in SECONDS, 600 without a number",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON instead of the table")
    command.add_argument("--out", metavar="DIR", type=Path, default=Path("out/benchmark"), help="default: %(default)s")
    _add_settings(command)

    command = commands.add_parser(
        "train",
        help="the pose prior and the motion prior, from motion capture",
        description="Train one of the learned priors on the train clips of motion capture, write its weights, and "
        "print its errors on the test clips. The same arguments make the same file. docs/priors.md",
    )
    command.set_defaults(run=_train)
    command.add_argument("prior", choices=list(TRAINED), help="which")
    command.add_argument("--mocap", metavar="FILE", type=Path, required=True, help="clips of SMPL poses, .npz")
    command.add_argument("--out", metavar="FILE", type=Path, help="default: " + " or ".join(TRAINED.values()))
    command.add_argument("--seed", metavar="S", type=int, default=0, help="default: %(default)s")
    _add_config(command, "those in docs/priors.md")

    command = commands.add_parser(
        "config",
        help="print the configuration as commented YAML",
        description="Print every setting, as --config reads it.",
    )
    command.set_defaults(run=_print_config)
    command.add_argument("--synthetic", action="store_true", help="the settings of `crowd4d synthesize` instead")
    _add_settings(command)
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="D", help="auto, cpu or cuda")
    command.add_argument("--body", metavar="FILE", help="your SMPL file; default: the embedded, licence-free body")
    _add_config(command, "`crowd4d config`")


def _add_config(command: argparse.ArgumentParser, printed_by: str) -> None:
    command.add_argument("--config", metavar="YAML", type=Path, help=f"settings that differ from {printed_by}")
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="one setting, such as window.length=60",
    )
    command.add_argument("--debug", action="store_true", help="log more, and show tracebacks")


def _config(parsed: argparse.Namespace) -> Config:
    named = {name: getattr(parsed, name) for name in ("device", "body") if getattr(parsed, name)}
    return _configured(Config(), parsed, named)


def _configured(config: T, parsed: argparse.Namespace, named: dict[str, Any]) -> T:
    """``config`` with what --config says, then the options ``named``, then what --set says."""
    if parsed.config:
        config = updated(config, _read_settings(parsed.config))
    chosen = dict(named)
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


def _synthesize(parsed: argparse.Namespace) -> None:
    from crowd4d_ros.synthetic.config import SynthesisConfig

    config = _configured(SynthesisConfig(), parsed, {} if parsed.fps is None else {"fps": parsed.fps})
    from crowd4d_ros.synthetic.folder import write_synthesis
    from crowd4d_ros.synthetic.synthesize import Request

    request = Request(
        scene=parsed.scene,
        camera=parsed.camera,
        people=parsed.people,
        frames=parsed.frames,
        seed=parsed.seed,
        mocap=parsed.mocap,
        mocap_split=parsed.mocap_split,
        body=parsed.body,
        config=config,
    )
    write_synthesis(request, parsed.out, video=parsed.video, bag=parsed.bag)
    print(parsed.out)


def _optimize(parsed: argparse.Namespace) -> None:
    config = _config(parsed)
    from crowd4d_ros.reoptimize import reoptimize

    print(reoptimize(parsed.observations, parsed.out, config))


def _ablate(parsed: argparse.Namespace) -> None:
    config = _config(parsed)
    from crowd4d_ros.evaluation.ablation import Options, ablate
    from crowd4d_ros.evaluation.results_page import text, write_page
    from crowd4d_ros.evaluation.tables import ALL

    options = Options(
        tables=ALL if parsed.table == "all" else _listed(parsed.table),
        out=parsed.out,
        scenes=_listed(parsed.scenes),
        cameras=_listed(parsed.cameras),
        seeds=_numbers("--seeds", parsed.seeds),
        people=parsed.people,
        frames=parsed.frames,
        mocap=parsed.mocap,
        jobs=parsed.jobs,
        crowds=tuple(map(_crowd, _listed(parsed.crowds))),
    )
    report = ablate(options, config, _tell)
    print(text(report))
    if parsed.page:
        write_page(parsed.page, report, "crowd4d ablate" + _stated(parsed))


def _train(parsed: argparse.Namespace) -> None:
    out = parsed.out or Path(TRAINED[parsed.prior])
    report: object
    if parsed.prior == "pose-prior":
        from crowd4d_ros.priors.config import PoseTrainingConfig
        from crowd4d_ros.priors.train_pose import train_pose_prior

        pose = _configured(PoseTrainingConfig(), parsed, {})
        report = train_pose_prior(parsed.mocap, out, pose, parsed.seed, _tell)
    else:
        from crowd4d_ros.priors.config import MotionTrainingConfig
        from crowd4d_ros.priors.train_motion import train_motion_prior

        motion = _configured(MotionTrainingConfig(), parsed, {})
        report = train_motion_prior(parsed.mocap, out, motion, parsed.seed, _tell)
    print(report)


def _tell(step: str) -> None:
    print(f"crowd4d: {step}", file=sys.stderr)


def _stated(parsed: argparse.Namespace) -> str:
    """The arguments that have a part in the numbers, as they are typed; a file by its name alone."""
    names = ("table", *(("crowds",) if parsed.crowds else ("scenes", "cameras", "seeds")), "people", "frames")
    words = [f"--{name} {getattr(parsed, name)}" for name in names]
    words += [f"--mocap {parsed.mocap.name}"] if parsed.mocap else []
    return "".join(f" {word}" for word in (*words, *(f"--set {setting}" for setting in parsed.set)))


def _crowd(text: str) -> tuple[str, str, int]:
    """SCENE:CAMERA:SEED."""
    try:
        scene, camera, seed = text.split(":")
        return scene, camera, int(seed)
    except ValueError:
        raise ConfigError(f"--crowds takes SCENE:CAMERA:SEED, as hill:drone:3, not '{text}'") from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in _listed(text))
    except ValueError:
        raise ConfigError(f"{option} takes whole numbers, as 5,6, not '{text}'") from None


def _evaluate(parsed: argparse.Namespace) -> None:
    from crowd4d_ros.body.smpl import BodyModel
    from crowd4d_ros.evaluation.evaluate import evaluate
    from crowd4d_ros.evaluation.reading import read_crowd, read_ground_truth
    from crowd4d_ros.evaluation.report import document, people_table, table, write_report

    body = BodyModel.load(parsed.body)
    truth = read_ground_truth(parsed.truth, body)
    evaluation = evaluate(read_crowd(parsed.prediction, body), truth, parsed.profile, parsed.tracking)
    beside = parsed.prediction if parsed.prediction.is_dir() else parsed.prediction.parent
    out = parsed.out or beside / f"evaluation-{parsed.profile}"
    write_report(evaluation, out)
    if parsed.json:
        print(json.dumps(document(evaluation), indent=1))
        return
    print(table(evaluation))
    if parsed.per_person:
        print(f"\n{people_table(evaluation)}")
    print(f"\n{out}")


def _benchmark(parsed: argparse.Namespace) -> None:
    config = _config(parsed)
    from crowd4d_ros.benchmark.report import document, table, write
    from crowd4d_ros.benchmark.run import Options, benchmark

    options = Options(
        people=parsed.people,
        frames=parsed.frames,
        stages=_numbers("--stages", parsed.stages),
        repeat=parsed.repeat,
        threads=parsed.threads,
        seed=parsed.seed,
        is_full=parsed.full,
        curve_s=parsed.curve,
    )
    result = benchmark(options, config, _tell)
    write(result, parsed.out)
    print(json.dumps(document(result), indent=1) if parsed.json else table(result))


def _check(parsed: argparse.Namespace) -> None:
    from crowd4d_ros.body.smpl import BodyModel
    from crowd4d_ros.evaluation.checks import check, table

    body = BodyModel.load(parsed.body)
    found = [check(folder, body) for folder in parsed.folders]
    names = [str(folder) for folder in parsed.folders]
    if parsed.json:
        known = [{name: value if math.isfinite(value) else None for name, value in column.items()} for column in found]
        print(json.dumps(dict(zip(names, known, strict=True)), indent=1))
    else:
        print(table(names, found))


def _print_config(parsed: argparse.Namespace) -> None:
    if parsed.synthetic:
        from crowd4d_ros.synthetic.config import SynthesisConfig

        print(to_yaml(_configured(SynthesisConfig(), parsed, {})), end="")
    else:
        print(to_yaml(_config(parsed)), end="")


if __name__ == "__main__":
    sys.exit(main())
