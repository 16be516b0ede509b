"""The embedded weights: where they are, what they are, and a session to run them."""

from __future__ import annotations

import hashlib
import logging
from importlib import resources
from pathlib import Path

import onnxruntime

log = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """Weights that are missing or cannot be run; the message says what to do."""


def embedded(name: str) -> bytes:
    """The bytes of crowd4d_ros/assets/``name``."""
    try:
        return (resources.files("crowd4d_ros") / "assets" / name).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"the package lacks assets/{name}: install it again, or run scripts/convert_models.py"
        ) from error


class Model:
    """ONNX weights in a session. name, sha256: for the record."""

    def __init__(self, name: str, device: str = "auto", path: str = "", threads: int = 0) -> None:
        """path: a user's own file instead of the embedded ``name``. threads: of a run on a CPU, 0 for one a core.

        Raises ModelError.
        """
        if path and not Path(path).is_file():
            raise ModelError(f"no model file {path}")
        data = Path(path).read_bytes() if path else embedded(name)
        self.name = Path(path).name if path else name
        self.sha256 = hashlib.sha256(data).hexdigest()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # spinning threads fight the optimizer for the same cores: 34 instead of 12 ms a crop on two busy ones
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=providers(device))
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ModelError(f"{self.name} is not a model that ONNX Runtime can run: {error}") from error
        self.input_name = self.session.get_inputs()[0].name
        self.on_gpu = self.session.get_providers()[0] != "CPUExecutionProvider"


def providers(device: str) -> list[str]:
    """ONNX Runtime's providers for "auto", "cpu" or "cuda"; says so when a wanted GPU is not to be had."""
    available = onnxruntime.get_available_providers()
    if device != "cpu" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if device == "cuda":
        log.warning("perception runs on the CPU: this onnxruntime has no CUDA; install onnxruntime-gpu")
    return ["CPUExecutionProvider"]
