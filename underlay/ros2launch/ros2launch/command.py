"""ros2 launch PACKAGE FILE [name:=value …], ros2 launch PATH [name:=value …], and --show-args."""

import argparse
import os
import sys

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.core import LaunchError, text

from launch import LaunchContext, LaunchDescription, LaunchDescriptionSource, LaunchService


def main(argv=None):
    """0, or 1 if the launch file, or a process of it, failed."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] != "launch":
        print(
            "ros2: only `ros2 launch` works without a ROS 2 installation; for the rest, install ROS 2",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser("ros2 launch", description="Run a launch file.")
    parser.add_argument("-s", "--show-args", "--show-arguments", action="store_true", help="show its arguments and end")
    parser.add_argument("-n", "--noninteractive", action="store_true", help="as always, here")
    parser.add_argument("package_or_path", help="package of the launch file, or the path of one")
    parser.add_argument("rest", nargs="*", help="launch file of the package, and name:=value")
    options = parser.parse_args(words[1:])
    try:
        path, given = _file_and_arguments(options.package_or_path, options.rest)
        if options.show_args:
            print(describe_arguments(path))
            return 0
        return launch(path, given)
    except LaunchError as error:
        print(f"ros2 launch: {error}", file=sys.stderr)
        return 1


def launch(path, arguments):
    """Runs a launch file with arguments (a dictionary), until it ends."""
    service = LaunchService()
    included = IncludeLaunchDescription(LaunchDescriptionSource(path), launch_arguments=arguments.items())
    service.include_launch_description(LaunchDescription([included]))
    return service.run()


def _file_and_arguments(target, rest):
    words = list(rest)
    if os.path.isfile(target):
        path = target
    elif not words or ":=" in words[0]:
        raise LaunchError(f"there is no file '{target}'; a package's launch file is `ros2 launch PACKAGE FILE`")
    else:
        path = _in_package(target, words.pop(0))
    malformed = [word for word in words if ":=" not in word[1:]]
    if malformed:
        raise LaunchError(f"malformed argument '{malformed[0]}', expected name:=value")
    return path, dict(word.split(":=", 1) for word in words)


def _in_package(package, file):
    try:
        share = get_package_share_directory(package)
    except PackageNotFoundError as error:
        raise LaunchError(f"there is no package '{package}': is its workspace sourced?") from error
    found = [os.path.join(folder, file) for folder, _, files in os.walk(share, followlinks=True) if file in files]
    if len(found) != 1:
        raise LaunchError(f"package '{package}' has {len(found) or 'no'} launch file{'s' * bool(found)} '{file}'")
    return found[0]


def describe_arguments(path):
    """The arguments of a launch file and of those it includes, as text."""
    context = LaunchContext()
    lines = ["Arguments (pass arguments as '<name>:=<value>'):"]
    for argument in _declared(LaunchDescriptionSource(path).get_launch_description(context), context):
        lines += ["", f"    '{argument.name}':", f"        {argument.description}"]
        if argument.choices:
            lines[-1] += f" (one of {', '.join(argument.choices)})"
        if argument.default_value is not None:
            try:
                argument.execute(context)
                lines.append(f"        (default: '{text(context, argument.default_value)}')")
            except LaunchError:
                lines.append("        (default: computed from other arguments)")
    return "\n".join(lines if len(lines) > 1 else ["No arguments."])


def _declared(entity, context):
    if isinstance(entity, DeclareLaunchArgument):
        yield entity
    elif isinstance(entity, IncludeLaunchDescription):
        yield from _declared(entity.source.get_launch_description(context), context)
    elif isinstance(entity, (LaunchDescription, GroupAction)):
        for inner in entity.entities if isinstance(entity, LaunchDescription) else entity.actions:
            yield from _declared(inner, context)
