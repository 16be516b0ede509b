"""Files of network weights, read without running anything that they contain.

Ours are safetensors, whose bytes repeat for equal tensors and metadata. Torch checkpoints are read with
``weights_only``: tensors and plain containers alone. A file that needs more is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

SAFE_TORCH = (2, 6)
"""From this version on ``weights_only`` keeps what it promises (CVE-2025-32434)."""


METADATA = "crowd4d"
"""The one entry of metadata: safetensors writes several in any order."""


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why and what to do."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, or of a torch checkpoint or its ``state_dict``, on the CPU.

    Raises WeightsError.
    """
    path = Path(path)
    reader: Callable[[Path], Any] = safetensors.torch.load_file if path.suffix == ".safetensors" else _read_checkpoint
    try:
        content = reader(path)
    except WeightsError:
        raise
    except Exception as error:  # zipfile, pickle, torch and safetensors each raise their own on a damaged file
        raise WeightsError(f"cannot read weights from '{path}': {str(error).splitlines()[0]}") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise WeightsError(f"'{path}' holds no weights: it takes .safetensors, or a torch checkpoint of a state_dict")
    return tensors


def _read_checkpoint(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"cannot read weights from '{path}': there is no such file")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise WeightsError(f"torch {torch.__version__} does not read '{path}' safely: update it, or use .safetensors")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"'{path}' is no torch checkpoint of tensors alone, and nothing else is loaded, since it could run any "
            "code: if you trust it, convert it to .safetensors as docs/priors.md shows"
        ) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a .safetensors file says about its making. Raises WeightsError."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get(METADATA, "{}")
            return {str(name): str(text) for name, text in json.loads(stored).items()}
    except Exception as error:
        raise WeightsError(f"cannot read weights from '{path}': {error}") from error


def check_writable(path: str | Path) -> None:
    """Before hours of work: raises WeightsError unless ``path`` lies in a folder."""
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise WeightsError(f"cannot write weights to '{path}': it takes a file in an existing folder")


def write_weights(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes .safetensors; equal tensors and metadata give equal bytes. Raises WeightsError."""
    try:
        content = safetensors.torch.save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())},
            {METADATA: json.dumps(metadata, sort_keys=True)},
        )
        Path(path).write_bytes(content)  # readable for all, which save_file's files are not
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"cannot write weights to '{path}': {error}") from error


def check_layout(
    path: str | Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], hint: str
) -> None:
    """Raises WeightsError unless the file has exactly the expected tensors; ``hint`` says where to get one that has."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    names = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    if not names:
        return

    def shown(layout: Mapping[str, tuple[int, ...]]) -> str:
        some = [f"{name} {list(layout[name])}" if name in layout else f"no {name}" for name in names[:SHOWN]]
        return ", ".join(some) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    raise WeightsError(f"'{path}' has another layout. Expected: {shown(expected)}. Found: {shown(found)}. {hint}")


SHOWN = 4
"""tensors that a message names before it counts the rest."""
