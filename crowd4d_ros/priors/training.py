"""What the trainings of all priors share: clips that weigh alike, seeds, when to stop, where the weights came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Progress = Callable[[str], None]
"""Takes a line of text about how far the training is."""


@contextmanager
def repeatable(seed: int) -> Iterator[torch.Generator]:
    """One seed for all that is random, and sums in one order: equal arguments give equal bytes on a machine.

    The generator is for drawing; layers and dropout take PyTorch's own, seeded alike. Threads, determinism and the
    global generator are restored afterwards.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield torch.Generator().manual_seed(seed)
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def held_back(clips: Sequence[Any], every: int) -> tuple[list[Any], list[Any]]:
    """Clips to learn from, and every ``every``'th, which decides when to stop."""
    return [clip for at, clip in enumerate(clips) if (at + 1) % every], list(clips[every - 1 :: every])


def drawn_alike(lengths: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` rows of clips laid one after the other, every clip as often as any: lengths (C,) → (count,) int64.

    Otherwise the climbing of a single subject, 40 % of the CMU frames, would decide.
    """
    clip = torch.randint(len(lengths), (count,), generator=generator)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    return lengths.cumsum(0)[clip] - lengths[clip] + (share * lengths[clip]).long()


class Best:
    """Keeps the weights with the least loss on what was held back, and knows when to stop."""

    def __init__(self, patience: int) -> None:
        self.loss, self.step = float("inf"), 0
        self.weights: dict[str, Tensor] = {}
        self._left = self._patience = patience

    def stop(self, loss: float, step: int, weights: dict[str, Tensor]) -> bool:
        """Whether ``patience`` looks in a row, this one the last, have brought nothing."""
        self._left -= 1
        if loss < self.loss:
            self.loss, self.step, self._left = loss, step, self._patience
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return self._left <= 0


def provenance(mocap: str | Path, config: Any, seed: int) -> dict[str, str]:
    """What, besides the code, decides the weights: metadata of their file. No date, so that bytes repeat."""
    return {
        "mocap_sha256": hashlib.sha256(Path(mocap).read_bytes()).hexdigest(),
        "config": json.dumps(asdict(config), sort_keys=True),
        "seed": str(seed),
        "data": "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu, created with funding from NSF EIA-0196217",
    }


def frames(clips: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Sound body poses of clips, one after the other, (F, 23, 3) float32, and how many of each, (C,)."""
    poses = [torch.from_numpy(clip.pose[clip.sound, 1:].astype(np.float32)) for clip in clips]
    return torch.cat(poses), torch.tensor([len(pose) for pose in poses])
