"""VPoser: a pose prior whose code, a standard normal sample of 32 dimensions, decodes to a human body pose.

The architecture is the published one (Pavlakos et al., "Expressive Body Capture", CVPR 2019; version 2 of
human_body_prior), and so are the names of its weights, so that a user's VPoser file loads in place of ours. Ours are
trained by ``crowd4d train pose-prior`` (train_pose.py) on motion capture that is free to use; docs/priors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crowd4d_ros.body.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from crowd4d_ros.body.tangent import orthonormal
from crowd4d_ros.priors.pose import NUM_BODY_JOINTS
from crowd4d_ros.priors.weights import check_layout, read_weights

VPOSER_JOINTS = 21
"""SMPL's joints 1 to 21; its hands, 22 and 23, are rigid."""
NEURONS = 512
LATENT_DIM = 32
DROPOUT = 0.1
SLOPE = 0.01
"""of LeakyReLU below zero: PyTorch's default, which version 2 uses (version 1 had 0.2)."""
EMBEDDED = "vposer.safetensors"
PREFIX = "vp_model."
"""of names in published checkpoints, which hold the trainer's other tensors beside."""
HINT = (
    "A VPoser v2 file (V02_05) comes from smpl-x.is.tue.mpg.de under its non-commercial licence; "
    "docs/priors.md says how to convert it, and `crowd4d train pose-prior` makes a free one."
)


class Posterior(nn.Module):
    """Heads of the encoder: mean and, before softplus, standard deviation of the code."""

    def __init__(self, neurons: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(neurons, latent_dim)
        self.logvar = nn.Linear(neurons, latent_dim)  # its published name, though no logarithm is taken

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu(hidden), F.softplus(self.logvar(hidden))


class VposerNet(nn.Module):
    """The network as it is trained. The state dict's names and shapes are those of published VPoser v2 checkpoints."""

    def __init__(self, neurons: int = NEURONS, latent_dim: int = LATENT_DIM, dropout: float = DROPOUT) -> None:
        super().__init__()
        pose = VPOSER_JOINTS * 3
        self.encoder_net = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(pose),
            nn.Linear(pose, neurons), nn.LeakyReLU(SLOPE), nn.BatchNorm1d(neurons), nn.Dropout(dropout),
            nn.Linear(neurons, neurons), nn.Linear(neurons, neurons), Posterior(neurons, latent_dim),
        )  # fmt: skip
        self.decoder_net = nn.Sequential(
            nn.Linear(latent_dim, neurons), nn.LeakyReLU(SLOPE), nn.Dropout(dropout),
            nn.Linear(neurons, neurons), nn.LeakyReLU(SLOPE),
            last := nn.Linear(neurons, VPOSER_JOINTS * 6),
        )  # fmt: skip
        # From random rotations the spine's three would settle a third of a turn off each, their product right.
        with torch.no_grad():
            last.bias.copy_(torch.eye(3)[:, :2].flatten().repeat(VPOSER_JOINTS))

    def encode(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (B, 21, 3) axis-angle → mean and standard deviation of the code, (B, latent_dim) each."""
        mean, deviation = self.encoder_net(pose)
        return mean, deviation

    def decode(self, latent: Tensor) -> Tensor:
        """Codes (B, latent_dim) → rotation matrices (B, 21, 3, 3)."""
        return continuous_to_matrix(self.decoder_net(latent))

    def weights(self) -> dict[str, Tensor]:
        """The state dict less the counters of batches, which nothing reads."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.endswith(COUNTER)}


COUNTER = "num_batches_tracked"


def continuous_to_matrix(continuous: Tensor) -> Tensor:
    """Zhou et al.'s continuous rotations (…, J·6) → (…, J, 3, 3): a (3, 2) matrix a joint, by Gram-Schmidt."""
    return rotation_6d_to_matrix(continuous.reshape(*continuous.shape[:-1], -1, 3, 2).mT.flatten(-2))


class Vposer:
    """A trained VPoser as a PosePrior: dropout off, and batch norms and neighbouring linear layers made one.

    Without them the encoder is one hidden layer, since the published one has no nonlinearity behind its first.
    name: the file it came from.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        name: str = "",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """weights: those of VposerNet. Folded in double precision, then held as ``dtype``."""
        exact = {key: tensor.detach().to("cpu", torch.float64) for key, tensor in weights.items()}

        def layer(key: str) -> tuple[Tensor, Tensor]:
            return exact[f"{key}.weight"], exact[f"{key}.bias"]

        def held(affine: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return affine[0].to(device, dtype), affine[1].to(device, dtype)

        code = _normalized(exact, "encoder_net.4")
        for key in ("encoder_net.6", "encoder_net.7", "encoder_net.8.mu"):
            code = _chained(code, layer(key))
        self._encoder = held(_chained(_normalized(exact, "encoder_net.1"), layer("encoder_net.2"))), held(code)
        *inner, last = (layer(f"decoder_net.{index}") for index in (0, 3, 5))
        self._decoder = *(held(affine) for affine in inner), held(_columns_first(last))
        self.name = name

    @classmethod
    def load(
        cls, path: str | Path = "", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Vposer:
        """A VPoser v2 file, .safetensors or a torch checkpoint, or the embedded one if ``path`` is empty.

        Raises WeightsError.
        """
        if not path:
            with resources.as_file(resources.files("crowd4d_ros") / "assets" / EMBEDDED) as embedded:
                return cls.load(embedded, device, dtype)
        weights = read_weights(path)
        if any(key.startswith(PREFIX) for key in weights):
            weights = {key.removeprefix(PREFIX): weights[key] for key in weights if key.startswith(PREFIX)}
        weights = {key: tensor for key, tensor in weights.items() if not key.endswith(COUNTER)}
        check_layout(path, weights, _layout(), HINT)
        return cls(weights, Path(path).name, device, dtype)

    @property
    def latent_dim(self) -> int:
        return self._decoder[0][0].shape[1]

    def encode(self, body_pose: Tensor) -> Tensor:
        """(…, 23, 3) axis-angle radians, each of length at most π → mean of the code, (…, latent_dim)."""
        hidden, code = self._encoder
        pose = body_pose[..., :VPOSER_JOINTS, :].flatten(-2)
        return F.linear(F.leaky_relu(F.linear(pose, *hidden), SLOPE), *code)

    def decode(self, latent: Tensor) -> Tensor:
        """(…, latent_dim) → (…, 23, 3) axis-angle radians, of length at most π."""
        matrices = self.rotations(latent.reshape(-1, self.latent_dim)).permute(3, 2, 0, 1)
        return matrix_to_axis_angle(matrices).reshape(*latent.shape[:-1], NUM_BODY_JOINTS, 3)

    def rotations(self, latent: Tensor) -> Tensor:
        """Codes (V, latent_dim) → matrices side by side (3, 3, 23, V), the hands' the identity."""
        first, second, last = self._decoder
        hidden = F.leaky_relu(F.linear(latent, *first), SLOPE, inplace=True)
        hidden = F.leaky_relu(F.linear(hidden, *second), SLOPE, inplace=True)
        columns = torch.addmm(last[1][:, None], last[0], hidden.mT)
        body = orthonormal(columns.reshape(2, 3, VPOSER_JOINTS, -1))
        hands = torch.eye(3, dtype=body.dtype, device=body.device)[:, :, None, None]
        return torch.cat([body, hands.expand(-1, -1, NUM_BODY_JOINTS - VPOSER_JOINTS, body.shape[-1])], 2)


def _layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a VPoser v2 file."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VposerNet().weights().items()}


def _columns_first(last: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The layer with its outputs, (3, 2) matrices of each joint, as columns of all joints side by side: (2, 3, 21)."""
    weight, bias = (part.reshape(VPOSER_JOINTS, 3, 2, -1).transpose(0, 2).flatten(0, 2) for part in last)
    return weight, bias[:, 0]


def _normalized(weights: Mapping[str, Tensor], key: str) -> tuple[Tensor, Tensor]:
    """A batch norm's running statistics and scale as weight and bias of a linear layer."""
    scale = weights[f"{key}.weight"] / (weights[f"{key}.running_var"] + nn.BatchNorm1d(1).eps).sqrt()
    return scale.diag(), weights[f"{key}.bias"] - weights[f"{key}.running_mean"] * scale


def _chained(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The linear layer that does what ``first`` and then ``second`` do."""
    return second[0] @ first[0], second[0] @ first[1] + second[1]
