"""Strings that are known when the launch file runs."""

import importlib
import os

from launch.core import LaunchError, Substitution, text


class TextSubstitution(Substitution):
    def __init__(self, *, text):
        self.text = text

    def perform(self, context):
        return self.text


class LaunchConfiguration(Substitution):
    def __init__(self, variable_name, *, default=None):
        self.variable_name, self.default = variable_name, default

    def perform(self, context):
        name = text(context, self.variable_name)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self.default is None:
            raise LaunchError(f"launch configuration '{name}' does not exist")
        return text(context, self.default)


class PathJoinSubstitution(Substitution):
    def __init__(self, substitutions):
        self.substitutions = list(substitutions)

    def perform(self, context):
        return os.path.join(*(text(context, part) for part in self.substitutions))


class EnvironmentVariable(Substitution):
    def __init__(self, name, *, default_value=None):
        self.name, self.default_value = name, default_value

    def perform(self, context):
        name = text(context, self.name)
        if name in context.environment:
            return context.environment[name]
        if self.default_value is None:
            raise LaunchError(f"environment variable '{name}' does not exist")
        return text(context, self.default_value)


class PythonExpression(Substitution):
    def __init__(self, expression, python_modules=("math",)):
        self.expression, self.python_modules = expression, python_modules

    def perform(self, context):
        names = {}
        for module in (importlib.import_module(text(context, name)) for name in self.python_modules):
            names.update(vars(module) if module.__name__ == "math" else {}, **{module.__name__: module})
        return str(eval(text(context, self.expression), {}, names))


class ThisLaunchFileDir(Substitution):
    def perform(self, context):
        return context.locals["launch_file_dir"]


def boolean(word):
    """What launch takes for true and false."""
    if word.strip().lower() in ("true", "1"):
        return True
    if word.strip().lower() in ("false", "0"):
        return False
    raise LaunchError(f"'{word}' is neither true nor false (true, false, 1, 0)")


class NotSubstitution(Substitution):
    def __init__(self, value):
        self.value = value

    def perform(self, context):
        return str(not boolean(text(context, self.value))).lower()


class AndSubstitution(Substitution):
    def __init__(self, left, right):
        self.left, self.right = left, right

    def perform(self, context):
        return str(boolean(text(context, self.left)) and boolean(text(context, self.right))).lower()


class OrSubstitution(AndSubstitution):
    def perform(self, context):
        return str(boolean(text(context, self.left)) or boolean(text(context, self.right))).lower()


class EqualsSubstitution(AndSubstitution):
    def perform(self, context):
        return str(text(context, self.left) == text(context, self.right)).lower()


class NotEqualsSubstitution(AndSubstitution):
    def perform(self, context):
        return str(text(context, self.left) != text(context, self.right)).lower()
