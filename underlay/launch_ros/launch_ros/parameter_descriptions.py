"""Parameters whose type, or whose file, is said in so many words."""

import yaml
from launch.core import LaunchError, Substitution, text


class ParameterFile:
    def __init__(self, param_file, *, allow_substs=False):
        if allow_substs:
            raise LaunchError("this stand-in for launch_ros does not substitute in parameter files")
        self.param_file = param_file

    def evaluate(self, context):
        return text(context, self.param_file)


class ParameterValue:
    def __init__(self, value, *, value_type=None):
        self.value, self.value_type = value, value_type

    def evaluate(self, context):
        if isinstance(self.value, (str, Substitution)) or _is_pieces(self.value):
            words = text(context, self.value)
            return words if self.value_type is str else _typed(yaml.safe_load(words), self.value_type, words)
        return self.value if self.value_type is None else self.value_type(self.value)


def _typed(value, kind, words):
    if kind is None:
        return "" if value is None else value
    if kind is float and type(value) is int:
        return float(value)
    if kind in (bool, int, float) and type(value) is not kind:
        raise LaunchError(f"'{words}' is not a parameter value of type {kind.__name__}")
    return value


def _is_pieces(value):
    """A list with a substitution in it is one string in pieces, as in ROS 2."""
    return isinstance(value, (list, tuple)) and any(isinstance(item, Substitution) for item in value)


def evaluate_parameter(context, value):
    """A parameter value of a launch file: text is read by YAML's rules, arrays and numbers stay."""
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    if isinstance(value, dict):
        return {text(context, name): evaluate_parameter(context, item) for name, item in value.items()}
    if isinstance(value, (str, Substitution)) or _is_pieces(value):
        return ParameterValue(value).evaluate(context)
    return list(value) if isinstance(value, tuple) else value
