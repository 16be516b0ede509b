"""The stand-in for `ros2 launch` on machines without ROS 2: its files mean what they mean to the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("launch.core", reason="the real launch is installed; its own tests are elsewhere")
command = pytest.importorskip("ros2launch.command", reason="the underlay is not sourced (make build)")

Run = Callable[..., tuple[int, str]]

PRELUDE = """
from launch import LaunchDescription
from launch.actions import *
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown as ShutdownEvent
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import *
from launch_ros.actions import Node, PushRosNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

def sh(script, **options):
    return ExecuteProcess(cmd=["sh", "-c", script], output="screen", **options)

def generate_launch_description():
    return LaunchDescription([
"""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a list of actions as a launch file: (exit status, everything printed)."""

    def run_actions(actions: str, **arguments: str) -> tuple[int, str]:
        path = write(tmp_path / "under_test.launch.py", actions)
        status = command.launch(str(path), arguments)
        return status, capsys.readouterr().out

    return run_actions


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `toy` whose node `show` prints, as JSON, its arguments and its parameters."""
    prefix = tmp_path / "prefix"
    index = prefix / "share/ament_index/resource_index/packages/toy"
    index.parent.mkdir(parents=True)
    index.touch()
    (prefix / "share/toy/launch").mkdir(parents=True)
    node = prefix / "lib/toy/show"
    node.parent.mkdir(parents=True)
    node.write_text(
        f"#!{sys.executable}\n"
        "import json, sys, yaml\n"
        "files = [value for flag, value in zip(sys.argv, sys.argv[1:]) if flag == '--params-file']\n"
        "read = [yaml.safe_load(open(file))['/**']['ros__parameters'] for file in files]\n"
        "words = [word for word in sys.argv[1:] if word not in files]\n"
        "print(json.dumps({'words': words, 'parameters': {k: v for f in read for k, v in f.items()}}))\n"
    )
    node.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}")
    return prefix


def write(path: Path, actions: str) -> Path:
    path.write_text(PRELUDE + textwrap.indent(textwrap.dedent(actions), " " * 8) + "\n    ])\n")
    return path


def shown(output: str, label: str = "show-1") -> dict[str, object]:
    """What the node `show` has printed."""
    line = next(line for line in output.splitlines() if line.startswith(f"[{label}] "))
    content: dict[str, object] = json.loads(line.removeprefix(f"[{label}] "))
    return content


def test_output_carries_the_name_of_its_process(run: Run) -> None:
    status, output = run("sh('echo to stdout; echo to stderr >&2')")
    assert status == 0
    assert "[sh-1] to stdout" in output
    assert "[sh-1] to stderr" in output


def test_output_that_is_logged_shows_errors_only(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    _, output = run("ExecuteProcess(cmd=['sh', '-c', 'echo quiet; echo loud >&2'])")
    assert "loud" in output
    assert "quiet" not in output
    (kept,) = (tmp_path / "log").iterdir()
    assert sorted(kept.read_text().split()) == ["loud", "quiet"]


def test_a_process_that_dies_fails_the_launch(run: Run) -> None:
    status, output = run("sh('exit 3'), sh('echo the other goes on')")
    assert status == 1
    assert "[ERROR] [sh-1]: process has died" in output
    assert "exit code 3" in output
    assert "the other goes on" in output


def test_the_end_of_a_node_can_end_them_all(run: Run) -> None:
    begin = time.monotonic()
    status, output = run("sh('sleep 60'), sh('true', on_exit=Shutdown(reason='all is written'))")
    assert status == 0
    assert "all is written" in output
    assert time.monotonic() - begin < 5


def test_stragglers_are_killed(run: Run) -> None:
    status, output = run(
        "sh('trap \"\" INT TERM; while :; do sleep 0.1; done', sigterm_timeout='0.3', sigkill_timeout='0.3'),"
        "TimerAction(period=0.5, actions=[Shutdown(reason='time is up')])"
    )
    assert status == 1
    assert "sending SIGTERM" in output
    assert "sending SIGKILL" in output


def test_handlers_answer_their_own_process(run: Run) -> None:
    _, output = run(
        """
        first := sh('true'), sh('sleep 0.3'),
        RegisterEventHandler(OnProcessExit(target_action=first, on_exit=[LogInfo(msg='the first ended')])),
        RegisterEventHandler(OnProcessExit(on_exit=lambda event, _: LogInfo(msg=f'saw {event.returncode}'))),
        """
    )
    assert output.count("the first ended") == 1
    assert output.count("saw 0") == 2


def test_interrupting_the_launch_interrupts_its_processes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "wait.launch.py",
        "sh('trap \"echo interrupted; exit 0\" INT; echo ready; while true; do sleep 0.1; done')",
    )
    script = f"import sys; from ros2launch.command import main; sys.exit(main(['launch', {str(path)!r}]))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as launch:
        assert launch.stdout is not None
        for line in launch.stdout:
            if "ready" in line:
                break
        launch.send_signal(signal.SIGINT)
        rest = launch.stdout.read()
    assert launch.returncode == 0
    assert "interrupted" in rest


def test_arguments_have_defaults_choices_and_needs(run: Run) -> None:
    actions = """
        DeclareLaunchArgument('colour', default_value='red', choices=['red', 'green']),
        LogInfo(msg=['it is ', LaunchConfiguration('colour')]),
        """
    assert "it is red" in run(actions)[1]
    assert "it is green" in run(actions, colour="green")[1]
    status, output = run(actions, colour="blue")
    assert status == 1
    assert "colour:=blue is not one of red, green" in output
    status, output = run("DeclareLaunchArgument('video', description='the video file')")
    assert status == 1
    assert "the launch file needs video:=… (the video file)" in output


def test_substitutions(run: Run, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROWD4D_TEST", "set")
    _, output = run(
        """
        DeclareLaunchArgument('n', default_value='3'),
        LogInfo(msg=PathJoinSubstitution([FindPackageShare('toy'), 'launch'])),
        LogInfo(msg=['squared: ', PythonExpression([LaunchConfiguration('n'), ' ** 2'])]),
        LogInfo(msg=EnvironmentVariable('CROWD4D_TEST')),
        LogInfo(msg=EnvironmentVariable('CROWD4D_UNSET', default_value='unset')),
        SetEnvironmentVariable('CROWD4D_TEST', 'changed'), sh('echo env $CROWD4D_TEST'),
        """
    )
    for expected in (f"{package}/share/toy/launch", "squared: 9", ": set\n", ": unset\n", "env changed"):
        assert expected in output


def test_conditions(run: Run) -> None:
    _, output = run(
        """
        DeclareLaunchArgument('rviz', default_value='false'),
        LogInfo(msg='if', condition=IfCondition(LaunchConfiguration('rviz'))),
        LogInfo(msg='unless', condition=UnlessCondition(LaunchConfiguration('rviz'))),
        GroupAction([LogInfo(msg='grouped')], condition=IfCondition(PythonExpression(['1 > 2']))),
        """
    )
    assert ": unless\n" in output
    assert ": if\n" not in output
    assert "grouped" not in output


def test_a_condition_that_is_neither_true_nor_false_is_refused(run: Run) -> None:
    status, output = run("LogInfo(msg='x', condition=IfCondition('yes'))")
    assert status == 1
    assert "'yes' is neither true nor false" in output


def test_a_group_keeps_its_settings_to_itself_and_an_include_does_not(run: Run, tmp_path: Path) -> None:
    included = write(tmp_path / "included.launch.py", "LogInfo(msg=['included ', LaunchConfiguration('a')])")
    source = f"PythonLaunchDescriptionSource('{included}')"
    include = f"IncludeLaunchDescription({source}, launch_arguments={{'a': '2'}}.items())"
    report = "LogInfo(msg=['after ', LaunchConfiguration('a')])"
    _, grouped = run(f"SetLaunchConfiguration('a', '1'), GroupAction([{include}]), {report}")
    assert "included 2" in grouped
    assert "after 1" in grouped
    _, plain = run(f"SetLaunchConfiguration('a', '1'), {include}, {report}")
    assert "after 2" in plain


def test_functions_see_the_context_and_return_actions(run: Run) -> None:
    _, output = run(
        """
        DeclareLaunchArgument('people', default_value='2'),
        OpaqueFunction(function=lambda context: [
            LogInfo(msg=f'person {i}') for i in range(int(LaunchConfiguration('people').perform(context)))]),
        """
    )
    assert "person 0" in output
    assert "person 1" in output


def test_nodes_get_their_name_namespace_and_remappings(run: Run, package: Path) -> None:
    _, output = run(
        """
        GroupAction([
            PushRosNamespace('drone'),
            Node(package='toy', executable='show', name='eye', namespace='left', output='screen',
                 arguments=['--flag'], remappings=[('image', ['/camera', '/image_raw'])]),
        ]),
        Node(package='toy', executable='show', output='screen'),
        """
    )
    words = shown(output)["words"]
    ros = ["-r", "__node:=eye", "-r", "__ns:=/drone/left", "-r", "image:=/camera/image_raw"]
    assert words == ["--flag", "--ros-args", *ros]
    assert shown(output, "show-2")["words"] == []


def test_parameters_keep_their_types(run: Run, package: Path, tmp_path: Path) -> None:
    (tmp_path / "parameters.yaml").write_text("/**: {ros__parameters: {from_file: 1, overridden: 1}}")
    _, output = run(
        f"""
        DeclareLaunchArgument('text', default_value='7'),
        SetParameter('use_sim_time', True),
        Node(package='toy', executable='show', output='screen', parameters=['{tmp_path}/parameters.yaml', {{
            'number': LaunchConfiguration('text'),
            'text': ParameterValue(LaunchConfiguration('text'), value_type=str),
            'real': ParameterValue(LaunchConfiguration('text'), value_type=float),
            'joined': ['a', LaunchConfiguration('text')],
            'flag': True, 'list': [0.5, 1.0], 'empty': '', 'overridden': 2}}]),
        """
    )
    assert shown(output)["parameters"] == {
        "use_sim_time": True,
        "from_file": 1,
        "overridden": 2,
        "number": 7,
        "text": "7",
        "real": 7.0,
        "flag": True,
        "list": [0.5, 1.0],
        "joined": "a7",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("Node(package='toy', executable='nobody')", "package 'toy' has no executable nobody"),
        ("Node(package='no_such_package', executable='x')", "there is no package 'no_such_package'"),
        (
            "Node(package='toy', executable='show', parameters=['/no/such.yaml'])",
            "no parameter file '/no/such.yaml'",
        ),
        ("ExecuteProcess(cmd=['/no/such/program'])", "cannot start /no/such/program"),
        ("LogInfo(msg=LaunchConfiguration('x'))", "launch configuration 'x' does not exist"),
    ],
)
def test_what_cannot_run_says_why(run: Run, package: Path, actions: str, message: str) -> None:
    status, output = run(actions)
    assert status == 1
    assert message in output


def test_the_command_finds_a_package_file_and_shows_its_arguments(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        package / "share/toy/launch/toy.launch.py",
        """
        DeclareLaunchArgument('video', description='the video file'),
        GroupAction([DeclareLaunchArgument('rate', default_value='1.0', description='of real time')]),
        LogInfo(msg=['playing ', LaunchConfiguration('video')]),
        """,
    )
    assert command.main(["launch", "toy", "toy.launch.py", "--show-args"]) == 0
    arguments = capsys.readouterr().out
    assert "'video':\n        the video file\n" in arguments
    assert "'rate':\n        of real time\n        (default: '1.0')" in arguments
    assert command.main(["launch", "toy", "toy.launch.py", "video:=a=b.avi"]) == 0
    assert "playing a=b.avi" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launch", "toy", "none.launch.py"], "package 'toy' has no launch file 'none.launch.py'"),
        (["launch", "no_such_package", "x.launch.py"], "there is no package 'no_such_package'"),
        (["launch", "no/such/file.launch.py"], "there is no file 'no/such/file.launch.py'"),
        (["topic", "list"], "only `ros2 launch` works without a ROS 2 installation"),
    ],
)
def test_a_command_that_cannot_be_followed_says_why(
    package: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert command.main(words) != 0
    assert message in capsys.readouterr().err
