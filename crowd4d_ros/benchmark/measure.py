"""What a computation costs: seconds, operator calls, memory, bytes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIED = {"cpu": 1 << 26, "cuda": 1 << 30}
"""bytes of the copy that measures the memory's bandwidth: far beyond any cache."""
COPIES = 5
"""of which the fastest counts: what else the machine does only slows them down."""
_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Times:
    """Seconds of the wall and of the process, a stage's or an iteration's."""

    wall: float = 0.0
    cpu: float = 0.0

    def __truediv__(self, count: float) -> Times:
        return Times(self.wall / count, self.cpu / count)

    @classmethod
    def median(cls, times: list[tuple[float, float]]) -> Times:
        """Of each for itself."""
        return cls(*(statistics.median(column) for column in zip(*times, strict=True)))


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds of the wall and of the process, once the device has done all it was given."""
        wait(self.device)
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, repeat: int) -> list[tuple[float, float]]:
    """Wall and CPU seconds of each of ``repeat`` runs, after one that does not count."""
    work()
    times = []
    for _ in range(repeat):
        watch = Stopwatch(device)
        work()
        times.append(watch.read())
    return times


@dataclass(frozen=True)
class Cost:
    """Of one evaluation. operators: calls that compute or move something, views are none. touched: bytes that they read
    and wrote, by the sizes of their arguments and results: what no cache kept would cross the bus. peak: bytes held at
    once beyond what was held before. kernels: launched on the GPU, 0 without one."""

    operators: int
    touched: int
    peak: int
    kernels: int


def cost(work: Callable[[], object], device: torch.device) -> Cost:
    """Of ``work``, which is run three times."""
    counter = _Counter()
    with counter:
        work()
    peak = _peak(work, device)
    kernels = 0
    if device.type == "cuda":
        kernels = sum(event.get("cat") == "kernel" for event in _trace(work, [ProfilerActivity.CUDA]))
    return Cost(counter.operators, counter.touched, peak, kernels)


def watch_memory(device: torch.device) -> None:
    """From here on ``most_memory`` counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")  # proc(5): resets the resident set's high-water mark


def most_memory(device: torch.device) -> int:
    """Bytes held at most since ``watch_memory``: tensors on a GPU; on a CPU all of the process, 0 if nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def bandwidth(device: torch.device) -> float:
    """bytes/s of the memory, read and written, by copying far more than a cache holds; the best of a few."""
    source = torch.ones(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    best = min(wall for wall, _ in seconds(lambda: target.copy_(source), device, COPIES))
    return 2 * source.numel() * source.element_size() / best


def machine(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from, and how busy it was."""
    return {
        "device_type": device.type,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "torch": torch.__version__,
        "bandwidth": bandwidth(device),
    }


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.touched = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators += 1
            self.touched += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, result))
                if isinstance(leaf, Tensor)
            )
        return result


def _peak(work: Callable[[], object], device: torch.device) -> int:
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    held = peak = 0
    changes = (event["args"] for event in _trace(work, [ProfilerActivity.CPU]) if event.get("name") == "[memory]")
    for change in changes:
        held += change["Bytes"]
        peak = max(peak, held)
    return peak


def _trace(work: Callable[[], object], activities: list[ProfilerActivity]) -> list[dict[str, Any]]:
    """The profiler's events in the order of time."""
    with profile(activities=activities, profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return sorted(events, key=lambda event: event.get("ts", 0))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
