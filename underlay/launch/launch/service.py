"""Runs a launch description: starts its processes, shows what they say, answers their ends, ends them all."""

import contextlib
import heapq
import itertools
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

from launch.core import LaunchContext, LaunchError, visit_all
from launch.event_handlers import answers
from launch.events import ProcessExited

LAST_WORDS = 1.0  # seconds to read what a process has said before it ended; its own children may hold the pipe open
POLL = 0.1  # seconds between looks at timers and signals


class _Process:
    def __init__(self, action, label, popen, patience):
        self.action, self.label, self.popen, self.patience = action, label, popen, patience
        self.ended = False
        self.signals = []


class LaunchService:
    """include_launch_description(…), then run(): 0, or 1 if a process or the launch file failed."""

    def __init__(self, *, argv=(), noninteractive=True, debug=False):
        self.context = LaunchContext(argv=argv, service=self)
        self.scratch = tempfile.TemporaryDirectory(prefix="launch_")
        self.handlers, self.processes, self.entities = [], [], []
        self.stopping_since = None
        self.interrupted = False
        self.failed = False
        self._timers, self._order = [], itertools.count()
        self._ended = queue.SimpleQueue()
        self._writing = threading.Lock()

    def include_launch_description(self, description):
        self.entities.append(description)

    def log(self, level, who, what):
        self._show(f"[{level}] [{who}]: {what}\n")

    def _show(self, line):
        with self._writing:
            sys.stdout.write(line)
            sys.stdout.flush()

    # --- what actions ask for ---
    def start(self, action, name, command, *, environment, cwd, output, patience):
        if self.stopping_since is not None:
            return
        label = f"{name}-{len(self.processes) + 1}"
        try:
            popen = subprocess.Popen(
                command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LaunchError(f"cannot start {command[0]}: {error.strerror}") from error
        process = _Process(action, label, popen, patience)
        self.processes.append(process)
        self.log("INFO", label, f"process started with pid [{popen.pid}]")
        threading.Thread(target=self._follow, args=(process, output), daemon=True).start()

    def _follow(self, process, output):
        """Shows or keeps what a process says until it ends."""
        kept = None
        if output in ("log", "both"):
            folder = os.environ.get("ROS_LOG_DIR") or os.path.expanduser("~/.ros/log")
            os.makedirs(folder, exist_ok=True)
            kept = open(os.path.join(folder, f"{process.label}-{process.popen.pid}.log"), "w")  # noqa: SIM115
        streams = ((process.popen.stdout, output != "log"), (process.popen.stderr, True))
        readers = [threading.Thread(target=self._read, args=(process, *s, kept), daemon=True) for s in streams]
        for reader in readers:
            reader.start()
        process.popen.wait()
        for reader in readers:
            reader.join(LAST_WORDS)
        self._ended.put(process)

    def _read(self, process, stream, shown, kept):
        for line in stream:
            if shown:
                self._show(f"[{process.label}] {line.rstrip()}\n")
            if kept:
                kept.write(line)
                kept.flush()

    def after(self, seconds, actions):
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), actions))

    def shutdown(self, reason):
        if self.stopping_since is None:
            self.log("INFO", "launch", f"shutting down: {reason}")
            self.stopping_since = time.monotonic()
            self._timers.clear()
            for process in self._running():
                self._signal(process, signal.SIGINT)

    # --- the run ---
    def run(self):
        """Until every process has ended and no timer is left. SIGINT and SIGTERM end the processes."""
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._visit(self.entities)
            while self._running() or self._timers:
                self._step()
        finally:
            for process in self._running():
                self._signal(process, signal.SIGKILL)
            for number, handler in before.items():
                signal.signal(number, handler)
            self.scratch.cleanup()
        return int(self.failed)

    def _running(self):
        return [process for process in self.processes if not process.ended]

    def _step(self):
        with contextlib.suppress(queue.Empty):
            self._process_ended(self._ended.get(timeout=POLL))
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._visit(heapq.heappop(self._timers)[2])
        if self.interrupted:
            self.shutdown("user interrupted")
        if self.stopping_since is not None:
            waited = time.monotonic() - self.stopping_since
            for process in self._running():
                if waited > sum(process.patience):
                    self._signal(process, signal.SIGKILL)
                elif waited > process.patience[0]:
                    self._signal(process, signal.SIGTERM)

    def _visit(self, entities):
        try:
            visit_all(entities, self.context)
        except Exception as error:
            self.failed = True
            self.log("ERROR", "launch", str(error) if isinstance(error, LaunchError) else repr(error))
            self.shutdown("the launch file failed")

    def _process_ended(self, process):
        process.ended = True
        pid, code = process.popen.pid, process.popen.returncode
        if code == 0 or (process.signals and -code in process.signals and code != -signal.SIGKILL):
            self.log("INFO", process.label, f"process has finished cleanly [pid {pid}]")
        else:
            self.failed = True
            self.log("ERROR", process.label, f"process has died [pid {pid}, exit code {code}]")
        event = ProcessExited(action=process.action, name=process.label, pid=pid, returncode=code)
        self._visit(answers(process.action.on_exit, event, self.context))
        for handler in list(self.handlers):
            self._visit(handler.answer(event, self.context))

    def _signal(self, process, number):
        if number in process.signals:
            return
        process.signals.append(number)
        if number != signal.SIGINT:
            self.log("ERROR", process.label, f"does not end: sending {signal.Signals(number).name}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, number)

    def _interrupt(self, number, frame):
        self.interrupted = True
