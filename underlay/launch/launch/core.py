"""Entities, substitutions, and the context they are evaluated in."""

import os


class LaunchError(RuntimeError):
    """A launch file that cannot be run as asked."""


class Substitution:
    """A string that is known when the launch file runs."""

    def perform(self, context):
        raise NotImplementedError


def text(context, value):
    """A string, a substitution, or a list of both, as one string."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return "".join(text(context, part) for part in value)
    raise TypeError(f"expected text, a substitution or a list of them, not {value!r}")


class LaunchContext:
    """What a launch file sees while it runs: configurations, environment, and the service that runs it."""

    def __init__(self, *, argv=(), service=None):
        self.argv = list(argv)
        self.service = service
        self.launch_configurations = {}
        self.environment = dict(os.environ)
        self.locals = {}

    def perform_substitution(self, value):
        return text(self, value)


class LaunchDescriptionEntity:
    def visit(self, context):
        raise NotImplementedError


class Action(LaunchDescriptionEntity):
    """Something a launch file does, if its condition holds."""

    def __init__(self, *, condition=None):
        self.condition = condition

    def visit(self, context):
        if self.condition is None or self.condition.evaluate(context):
            return self.execute(context)
        return None

    def execute(self, context):
        raise NotImplementedError


class LaunchDescription(LaunchDescriptionEntity):
    def __init__(self, initial_entities=None):
        self.entities = list(initial_entities or [])

    def add_entity(self, entity):
        self.entities.append(entity)

    add_action = add_entity

    def visit(self, context):
        return self.entities


def visit_all(entities, context):
    """Visits entities, and what they return, in order."""
    for entity in entities or ():
        visit_all(entity.visit(context), context)
