"""Launch files: Python only, here."""

import importlib.util
import os

from launch.core import LaunchError, text


class LaunchDescriptionSource:
    def __init__(self, location):
        self.location = location

    def path(self, context):
        return os.path.abspath(text(context, self.location))

    def get_launch_description(self, context):
        path = self.path(context)
        if not os.path.isfile(path):
            raise LaunchError(f"there is no launch file '{path}'")
        if not path.endswith(".py"):
            raise LaunchError(f"'{path}': only Python launch files run without ROS 2's own launch")
        spec = importlib.util.spec_from_file_location("launch_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "generate_launch_description"):
            raise LaunchError(f"'{path}' has no function generate_launch_description")
        return module.generate_launch_description()


class PythonLaunchDescriptionSource(LaunchDescriptionSource):
    pass


AnyLaunchDescriptionSource = LaunchDescriptionSource
