"""Where torch computes, and with how many threads."""

from __future__ import annotations

import torch

from crowd4d_ros.config import ConfigError


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". Raises ConfigError for another name, or a GPU that is not there."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"'device' is 'auto', 'cpu' or 'cuda', not '{wanted}'")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("'device' is 'cuda' but torch sees no GPU: use 'auto', or install torch's CUDA build")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def limit_threads(threads: int) -> None:
    """Torch's threads on the CPU, for the whole process; 0 leaves torch's choice."""
    if threads > 0:
        torch.set_num_threads(threads)
