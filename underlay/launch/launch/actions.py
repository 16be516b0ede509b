"""What a launch file does."""

import os

from launch.core import Action, LaunchError, text
from launch.events import Shutdown as ShutdownEvent
from launch.launch_description_sources import LaunchDescriptionSource


class DeclareLaunchArgument(Action):
    """An argument of the launch file: name:=value on the command line."""

    def __init__(self, name, *, default_value=None, description="no description given", choices=None, **kwargs):
        super().__init__(**kwargs)
        self.name, self.default_value, self.description, self.choices = (
            name,
            default_value,
            description,
            choices,
        )

    def execute(self, context):
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise LaunchError(f"the launch file needs {self.name}:=… ({self.description})")
            context.launch_configurations[self.name] = text(context, self.default_value)
        given = context.launch_configurations[self.name]
        if self.choices and given not in self.choices:
            raise LaunchError(f"{self.name}:={given} is not one of {', '.join(self.choices)}")


class SetLaunchConfiguration(Action):
    def __init__(self, name, value, **kwargs):
        super().__init__(**kwargs)
        self.name, self.value = name, value

    def execute(self, context):
        context.launch_configurations[text(context, self.name)] = text(context, self.value)


class SetEnvironmentVariable(Action):
    def __init__(self, name, value, **kwargs):
        super().__init__(**kwargs)
        self.name, self.value = name, value

    def execute(self, context):
        context.environment[text(context, self.name)] = text(context, self.value)


class AppendEnvironmentVariable(SetEnvironmentVariable):
    def execute(self, context):
        name, value = text(context, self.name), text(context, self.value)
        before = context.environment.get(name)
        context.environment[name] = f"{before}{os.pathsep}{value}" if before else value


class UnsetEnvironmentVariable(Action):
    def __init__(self, name, **kwargs):
        super().__init__(**kwargs)
        self.name = name

    def execute(self, context):
        context.environment.pop(text(context, self.name), None)


class LogInfo(Action):
    def __init__(self, *, msg, **kwargs):
        super().__init__(**kwargs)
        self.msg = msg

    def execute(self, context):
        context.service.log("INFO", "launch.user", text(context, self.msg))


class _Restore(Action):
    """Puts back what a scoped group has changed."""

    def __init__(self, configurations, environment, local):
        super().__init__()
        self.saved = configurations, environment, local

    def execute(self, context):
        context.launch_configurations, context.environment, context.locals = self.saved


class GroupAction(Action):
    """Actions that share a condition and, if scoped, whose settings end with the group."""

    def __init__(self, actions, *, scoped=True, forwarding=True, launch_configurations=None, **kwargs):
        super().__init__(**kwargs)
        self.actions, self.scoped, self.forwarding = list(actions), scoped, forwarding
        self.launch_configurations = launch_configurations or {}

    def execute(self, context):
        restore = _Restore(dict(context.launch_configurations), dict(context.environment), dict(context.locals))
        if self.scoped and not self.forwarding:
            context.launch_configurations = {}
        for name, value in self.launch_configurations.items():
            context.launch_configurations[text(context, name)] = text(context, value)
        return [*self.actions, restore] if self.scoped else self.actions


class IncludeLaunchDescription(Action):
    """Another launch file. As in ROS 2, its arguments stay set afterwards: a GroupAction keeps them in."""

    def __init__(self, launch_description_source, *, launch_arguments=(), **kwargs):
        super().__init__(**kwargs)
        source = launch_description_source
        self.source = source if isinstance(source, LaunchDescriptionSource) else LaunchDescriptionSource(source)
        self.launch_arguments = launch_arguments

    def execute(self, context):
        for name, value in dict(self.launch_arguments).items():
            context.launch_configurations[text(context, name)] = text(context, value)
        context.locals["launch_file_dir"] = os.path.dirname(self.source.path(context))
        return [self.source.get_launch_description(context)]


class OpaqueFunction(Action):
    """Python that runs with the context, and may return further actions."""

    def __init__(self, *, function, args=(), kwargs=None, **action):
        super().__init__(**action)
        self.function, self.args, self.kwargs = function, args, kwargs or {}

    def execute(self, context):
        return self.function(context, *self.args, **self.kwargs)


class RegisterEventHandler(Action):
    def __init__(self, event_handler, **kwargs):
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def execute(self, context):
        context.service.handlers.append(self.event_handler)


class EmitEvent(Action):
    def __init__(self, *, event, **kwargs):
        super().__init__(**kwargs)
        self.event = event

    def execute(self, context):
        if not isinstance(self.event, ShutdownEvent):
            raise LaunchError(f"this stand-in for launch emits Shutdown only, not {type(self.event).__name__}")
        context.service.shutdown(self.event.reason)


class Shutdown(EmitEvent):
    def __init__(self, *, reason="reason not given", **kwargs):
        super().__init__(event=ShutdownEvent(reason=reason), **kwargs)


class TimerAction(Action):
    def __init__(self, *, period, actions, **kwargs):
        super().__init__(**kwargs)
        self.period, self.actions = period, actions

    def execute(self, context):
        seconds = self.period if isinstance(self.period, (int, float)) else float(text(context, self.period))
        context.service.after(seconds, self.actions)


class ExecuteProcess(Action):
    """A process. output: "screen" shows what it says; "log" keeps it in a file and shows its stderr only."""

    def __init__(
        self, *, cmd, name=None, cwd=None, env=None, additional_env=None, output="log", on_exit=None,
        shell=False, sigterm_timeout=5, sigkill_timeout=5, condition=None,
    ):  # fmt: skip
        super().__init__(condition=condition)
        self.cmd, self.name, self.cwd, self.env, self.additional_env = cmd, name, cwd, env, additional_env
        self.output, self.on_exit, self.shell = output, on_exit, shell
        self.sigterm_timeout, self.sigkill_timeout = sigterm_timeout, sigkill_timeout

    def command(self, context):
        """The command as a list of strings."""
        return [text(context, word) for word in self.cmd]

    def execute(self, context):
        command = self.command(context)
        label = text(context, self.name) if self.name else os.path.basename(command[0])
        command = ["sh", "-c", " ".join(command)] if self.shell else command
        base = context.environment if self.env is None else self.env
        environment = {text(context, k): text(context, v) for k, v in {**base, **(self.additional_env or {})}.items()}
        patience = [float(text(context, str(t) if isinstance(t, (int, float)) else t))
                    for t in (self.sigterm_timeout, self.sigkill_timeout)]  # fmt: skip
        context.service.start(
            self, label, command, environment=environment, cwd=text(context, self.cwd) if self.cwd else None,
            output=text(context, self.output), patience=patience,
        )  # fmt: skip


ExecuteLocal = ExecuteProcess
