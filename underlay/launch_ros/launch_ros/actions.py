"""Nodes, their names, parameters and remappings."""

import os
import tempfile

import yaml
from launch.actions import ExecuteProcess
from launch.core import Action, LaunchError, Substitution, text

from launch_ros.parameter_descriptions import ParameterFile, evaluate_parameter
from launch_ros.substitutions import FindPackagePrefix


class PushRosNamespace(Action):
    def __init__(self, namespace, **kwargs):
        super().__init__(**kwargs)
        self.namespace = namespace

    def execute(self, context):
        outer = context.locals.get("ros_namespace", "")
        context.locals["ros_namespace"] = _joined(outer, text(context, self.namespace))


PushROSNamespace = PushRosNamespace


class SetParameter(Action):
    """A parameter of every node that follows in this scope."""

    def __init__(self, name, value, **kwargs):
        super().__init__(**kwargs)
        self.name, self.value = name, value

    def execute(self, context):
        name, value = text(context, self.name), evaluate_parameter(context, self.value)
        context.locals["ros_parameters"] = {**context.locals.get("ros_parameters", {}), name: value}


class SetRemap(Action):
    """A remapping of every node that follows in this scope."""

    def __init__(self, src, dst, **kwargs):
        super().__init__(**kwargs)
        self.src, self.dst = src, dst

    def execute(self, context):
        rule = (text(context, self.src), text(context, self.dst))
        context.locals["ros_remappings"] = [*context.locals.get("ros_remappings", []), rule]


class Node(ExecuteProcess):
    """An executable of a package's lib folder, as a ROS node."""

    def __init__(
        self, *, executable, package=None, name=None, namespace=None, parameters=None, remappings=None,
        ros_arguments=None, arguments=None, prefix=None, **kwargs,
    ):  # fmt: skip
        super().__init__(cmd=[], **kwargs)
        self.executable, self.package, self.node_name, self.namespace = executable, package, name, namespace
        self.parameters, self.remappings, self.prefix = parameters or [], remappings or [], prefix
        self.ros_arguments, self.arguments = ros_arguments or [], arguments or []

    def command(self, context):
        program = text(context, self.executable)
        if self.package is not None:
            package = text(context, self.package)
            program = os.path.join(FindPackagePrefix(package).perform(context), "lib", package, program)
            if not os.access(program, os.X_OK):
                raise LaunchError(f"package '{package}' has no executable {os.path.basename(program)} ({program})")
        ros = [text(context, word) for word in self.ros_arguments]
        if self.node_name:
            ros += ["-r", f"__node:={text(context, self.node_name)}"]
        own = text(context, self.namespace) if self.namespace else ""
        namespace = _joined(context.locals.get("ros_namespace", ""), own)
        if namespace:
            ros += ["-r", f"__ns:={namespace}"]
        for entry in (context.locals.get("ros_parameters", {}), *self.parameters):
            ros += self._parameter_arguments(context, entry)
        for source, target in (*context.locals.get("ros_remappings", []), *self.remappings):
            ros += ["-r", f"{text(context, source)}:={text(context, target)}"]
        words = [text(context, word) for word in self.arguments]
        before = text(context, self.prefix).split() if self.prefix else []
        return [*before, program, *words, *(["--ros-args", *ros] if ros else [])]

    def _parameter_arguments(self, context, entry):
        if isinstance(entry, dict):
            values = evaluate_parameter(context, entry)
            return ["--params-file", _parameter_file(context, values)] if values else []
        if isinstance(entry, ParameterFile):
            path = entry.evaluate(context)
        elif isinstance(entry, (str, os.PathLike, Substitution, list, tuple)):
            path = text(context, entry)
        else:
            raise LaunchError(f"parameters are dictionaries or files, not {entry!r}")
        if not os.path.isfile(path):
            raise LaunchError(f"there is no parameter file '{path}'")
        return ["--params-file", path]


def _parameter_file(context, values):
    """Parameters of any node, as a file that lasts as long as the launch."""
    handle, path = tempfile.mkstemp(dir=context.service.scratch.name, suffix=".yaml")
    with os.fdopen(handle, "w") as file:
        yaml.safe_dump({"/**": {"ros__parameters": values}}, file)
    return path


def _joined(outer, inner):
    """A namespace in another; an inner one that starts with / stands for itself."""
    if inner.startswith("/"):
        outer = ""
    parts = [part for part in (*outer.split("/"), *inner.split("/")) if part]
    return "/" + "/".join(parts) if parts else ""
