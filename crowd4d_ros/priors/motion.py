"""Motion prior: a latent code in which a plausible second and a half of motion is a standard normal sample.

A code decodes to a segment: body pose, root orientation, root trajectory and contact confidence at F ticks, together,
so that people walk where they face. A segment is described in its own axes; its placement says where these are in the
world: position, heading about gravity, and climb (the steady gain of height, which is the terrain's, not the gait's).
So a code means the same everywhere, uphill too.

Stage 3 optimises z_ξ = [code (L), residual (5)] of each segment and nothing else of it. The placement that a segment's
initial motion had is a constant; the residual corrects it, in units of RESIDUAL_SIGMA, and is what lets a person move
and turn as a whole. ``initial`` finds both from a motion, however noisy, and ``motion`` is what the terms of the energy
are computed from:

    latent, placement = prior.initial(segment)   # a segment in the world's axes
    moved = prior.motion(latent, placement)      # a segment in the world's axes again, differentiable in latent

Network: principal axes of the segments' joint orientations (in the segment's axes, weighted by the lengths they move)
and trajectory; an encoder to the code and a decoder from it, each a linear map and a residual perceptron, initialised
as PCA. The encoder was trained on noisy segments and is a denoiser; see train_motion.py.
Conventions as everywhere: metres, y up, any leading dimensions, rotations as 6D (body/rotations.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear

from crowd4d_ros.body.rotations import matrix_to_6d, rotation_6d_to_matrix
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP
from crowd4d_ros.body.tangent import dot, gradient, orthonormal, turned
from crowd4d_ros.priors.weights import WeightsError, check_layout, read_metadata, read_weights, write_weights

FORMAT = "crowd4d motion prior 1"
HINT = "It takes a file that 'crowd4d train motion-prior' has written."
PARENTS = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""SMPL's tree; the root is its own."""
PLACEMENT_DIM = 5
RESIDUAL_SIGMA = (0.1, 0.1, 0.1, 0.3, 0.1)
"""A unit of the residual: origin (left, up, ahead) metres, heading rad, climb m/s. As wrong as initial motions are:
their heading by 17° (27° in the synthetic observations), the rest by some decimetres at most."""


@dataclass(frozen=True)
class Segment:
    """Motion at F ticks, in a segment's axes or the world's.

    rotations: (…, F, 24, 6) 6D; joint 0 is the root's orientation, the others are relative to their parents. What the
    prior decodes is orthonormal, and in memory (…, F, 6, 24).
    pelvis: (…, F, 3) metres. contact: (…, F, C) in [0, 1], of the prior's ``contact_joints``.
    """

    rotations: Tensor
    pelvis: Tensor
    contact: Tensor

    def matrices(self) -> Tensor:
        """(…, F, 24, 3, 3)."""
        return rotation_6d_to_matrix(self.rotations)


@dataclass(frozen=True)
class Placement:
    """Where a segment's axes are in the world: x to the left of the heading, y up, z ahead.

    origin: (…, 3) metres, the pelvis's mean. heading: (…,) rad about y, 0 along z. climb: (…,) m/s.
    """

    origin: Tensor
    heading: Tensor
    climb: Tensor

    def moved(self, residual: Tensor) -> Placement:
        """Corrected by a residual (…, 5) in units of RESIDUAL_SIGMA, its origin's in the segment's axes."""
        step = residual * residual.new_tensor(RESIDUAL_SIGMA)
        turned = (about_up(self.heading) @ step[..., :3, None]).squeeze(-1)
        return Placement(self.origin + turned, self.heading + step[..., 3], self.climb + step[..., 4])


def about_up(angle: Tensor) -> Tensor:
    """Rotations about y: (…,) rad → (…, 3, 3)."""
    c, s, o = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([c, o, s, o, o + 1, o, -s, o, c], -1).reshape(*angle.shape, 3, 3)


def clock(frames: int, rate: float, like: Tensor) -> Tensor:
    """(F,) seconds of the ticks from the segment's middle."""
    return (torch.arange(frames, dtype=like.dtype, device=like.device) - (frames - 1) / 2) / rate


def canonical(orient: Tensor, pelvis: Tensor, rate: float) -> tuple[Placement, Tensor, Tensor]:
    """A motion's placement, and the motion in these axes: orient (…, F, 3, 3), pelvis (…, F, 3), world → local.

    The heading is the turn about gravity that is nearest to the root's orientations, all ticks together: the largest
    trace. Undefined only for a body upside down, not for one that lies. Origin and climb are least squares. All are
    means over the ticks: a tick's jitter does not move the axes. ``placed`` is the exact inverse.
    """
    total = orient.sum(-3)
    heading = torch.atan2(total[..., 0, 2] - total[..., 2, 0], total[..., 0, 0] + total[..., 2, 2])
    time = clock(pelvis.shape[-2], rate, pelvis)
    climb = pelvis[..., UP] @ time / time.square().sum()
    placement = Placement(pelvis.mean(-2), heading, climb)
    back = about_up(-heading)
    local = pelvis - placement.origin[..., None, :] - _rise(climb, time)
    return placement, back[..., None, :, :] @ orient, local @ back.mT


def placed(placement: Placement, orient: Tensor, pelvis: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """From a segment's axes to the world's: orient (…, F, 3, 3), pelvis (…, F, 3), see ``canonical``."""
    return about_up(placement.heading)[..., None, :, :] @ orient, placed_path(placement, pelvis, rate)


def placed_path(placement: Placement, pelvis: Tensor, rate: float) -> Tensor:
    """``placed`` for the pelvis (…, F, 3) alone."""
    rise = _rise(placement.climb, clock(pelvis.shape[-2], rate, pelvis))
    return pelvis @ about_up(placement.heading).mT + placement.origin[..., None, :] + rise


def _rise(climb: Tensor, time: Tensor) -> Tensor:
    """(…,) m/s at (F,) s → (…, F, 3) metres."""
    height = climb[..., None] * time
    zero = torch.zeros_like(height)
    return torch.stack([zero, height, zero], -1)


def global_rotations(local: Tensor) -> Tensor:
    """Relative to the parents → in the root's axes' own frame of reference: (…, 24, 3, 3)."""
    turns = [local[..., 0, :, :]]
    for joint in range(1, len(JOINTS)):
        turns.append(turns[PARENTS[joint]] @ local[..., joint, :, :])
    return torch.stack(turns, -3)


class _AgainstParents(torch.autograd.Function):
    """Rotations in a segment's axes (3, 3, 24, …, F) and its heading (…) → 6D against the parents, (…, F, 144).

    6D of all joints, its first component first. L = Pᵀ R, the root's P being the turn from the world back to the
    segment. As R turns to R exp([ω]×), so does L; as P turns by ω, L turns by −Lᵀ ω. So of a torque g at L
    (body/tangent.py), g is R's and −L g is P's.
    """

    @staticmethod
    def forward(ctx: Any, rotations: Tensor, heading: Tensor) -> Tensor:
        above = rotations.index_select(2, torch.tensor(PARENTS, device=rotations.device))
        above[:, :, 0] = about_up(-heading).movedim((-2, -1), (0, 1))[..., None]
        local = torch.empty_like(rotations)
        for column in range(3):
            own = rotations[:, column]
            torch.mul(above[0], own[0], out=local[column]).addcmul_(above[1], own[1]).addcmul_(above[2], own[2])
        ctx.save_for_backward(rotations, local)
        columns = local[:2].flatten(0, 2)
        return columns.flatten(1).mT.reshape(*columns.shape[1:], len(columns))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rotations, local = ctx.saved_tensors
        pull_x, pull_y = gradients[0].movedim(-1, 0).contiguous().view(2, *local.shape[1:])
        x, y, z = local
        torques = torch.stack([dot(z, pull_y), dot(z, pull_x).neg_(), dot(y, pull_x).sub_(dot(x, pull_y))])
        on_parents = turned(local.transpose(0, 1), torques)
        parents = torch.tensor(PARENTS[1:], device=rotations.device)
        torques.index_add_(1, parents, on_parents[:, 1:], alpha=-1)
        return gradient(rotations, torques), on_parents[UP, 0].sum(-1)


@dataclass(frozen=True)
class Layout:
    """The sizes of a motion prior, stored beside its weights.

    frames: ticks; rate: ticks/s; contact_joints: rows of SMPL's joints; slope: LeakyReLU's.
    """

    frames: int
    rate: float
    contact_joints: tuple[int, ...]
    latent_dim: int
    components: int
    hidden: int
    slope: float

    @property
    def features(self) -> int:
        """A tick's: 6D of every joint, and the pelvis."""
        return 6 * len(JOINTS) + 3

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the file."""
        contacts = self.frames * len(self.contact_joints)
        inputs, hidden, code, parts = self.components, self.hidden, self.latent_dim, self.components
        found: dict[str, tuple[int, ...]] = {
            "mean": (self.frames * self.features,),
            "basis": (self.components, self.frames * self.features),
            "feature_weight": (self.features,),
            "spread": (self.components,),
            "input_scale": (self.components,),
        }
        outputs = {"encoder": code + PLACEMENT_DIM, "decoder": parts + contacts}
        for name, size in (("encoder", inputs), ("decoder", code)):
            found[f"{name}.linear.weight"] = (outputs[name], size)
            found[f"{name}.linear.bias"] = (outputs[name],)
            for layer, (rows, columns) in enumerate([(hidden, size), (hidden, hidden), (outputs[name], hidden)]):
                found[f"{name}.{layer}.weight"] = (rows, columns)
                found[f"{name}.{layer}.bias"] = (rows,)
        return found


class MotionPrior:
    """The trained prior. Its frames, rate (ticks/s), contact_joints (SMPL's rows) and latent_dim are its file's."""

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.tensors = dict(tensors)
        # a segment's ticks last and its joints before them: what Stage 3 computes runs over long contiguous arrays
        lead = (-1, layout.frames, layout.features)
        mean, basis = ((tensors[n].reshape(lead) / tensors["feature_weight"]) for n in ("mean", "basis"))
        self._mean, self._basis = (_ticks_last(a).flatten(1) for a in (mean, basis))

    @classmethod
    def load(
        cls, path: str | Path = "", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> MotionPrior:
        """A file of ``crowd4d train motion-prior``, or the embedded prior if ``path`` is empty.

        Raises WeightsError for another file, or one whose tensors are not as its layout says.
        """
        embedded = resources.files("crowd4d_ros") / "assets" / "motion_prior.safetensors"
        with resources.as_file(embedded) as own:
            layout, tensors = _read(Path(path or own))
        return cls(layout, {name: tensor.to(device, dtype) for name, tensor in tensors.items()})

    @property
    def frames(self) -> int:
        return self.layout.frames

    @property
    def rate(self) -> float:
        return self.layout.rate

    @property
    def contact_joints(self) -> tuple[int, ...]:
        return self.layout.contact_joints

    @property
    def latent_dim(self) -> int:
        """L: of the code, without the residual."""
        return self.layout.latent_dim

    def encode(self, segment: Segment) -> Tensor:
        """The mean code of a segment in its own axes: (…, L). Its contact is not looked at."""
        return self._encoded(segment)[..., : self.latent_dim]

    def decode(self, latent: Tensor) -> Segment:
        """(…, L) → a segment in its own axes."""
        return self._turned(latent, latent.new_zeros(latent.shape[:-1]))

    def initial(self, segment: Segment) -> tuple[Tensor, Placement]:
        """z_ξ (…, L + 5) and the placement it corrects, of a segment in the world's axes.

        The residual is the encoder's: a person who seems to walk sideways has probably been turned by the estimate.
        """
        matrices = segment.matrices()
        placement, orient, pelvis = canonical(matrices[..., 0, :, :], segment.pelvis, self.rate)
        local = torch.cat([orient[..., None, :, :], matrices[..., 1:, :, :]], -3)
        return self._encoded(Segment(matrix_to_6d(local), pelvis, segment.contact)), placement

    def motion(self, latent: Tensor, placement: Placement) -> Segment:
        """What z_ξ (…, L + 5) stands for, in the world's axes."""
        code, residual = latent.tensor_split([self.latent_dim], -1)
        moved = placement.moved(residual)
        segment = self._turned(code, moved.heading)
        return replace(segment, pelvis=placed_path(moved, segment.pelvis, self.rate))

    def decode_global(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(…, L) → all joints' orientations (…, F, 24, 3, 3) and pelvis (…, F, 3) in the segment's axes, and the
        contact's logits (…, F, C)."""
        columns, pelvis, logits = self._decoded(latent)
        return orthonormal(columns).movedim((0, 1, 2), (-2, -1, -3)), pelvis, logits

    def _turned(self, latent: Tensor, heading: Tensor) -> Segment:
        """Its root turned to a heading (…), its pelvis still in its own axes."""
        columns, pelvis, logits = self._decoded(latent)
        rows = _AgainstParents.apply(orthonormal(columns), heading)  # type: ignore[no-untyped-call]
        return Segment(rows.reshape(*rows.shape[:-1], 6, len(JOINTS)).mT, pelvis, logits.sigmoid())

    def _decoded(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """6D in the segment's axes, not yet orthonormal, (2, 3, 24, …, F); pelvis (…, F, 3); logits (…, F, C)."""
        layout, lead = self.layout, latent.shape[:-1]
        out = self._network("decoder", latent.reshape(-1, latent.shape[-1]))
        part, contacts = out.tensor_split([layout.components], -1)
        x = torch.addmm(self._mean, part * self.tensors["spread"], self._basis)
        columns, pelvis = x.reshape(len(out), layout.features, layout.frames).tensor_split([-3], 1)
        columns = columns.reshape(*lead, 2, 3, len(JOINTS), layout.frames).movedim((-4, -3, -2), (0, 1, 2))
        pelvis = pelvis.mT.reshape(*lead, layout.frames, 3)
        return columns.contiguous(), pelvis, contacts.reshape(*lead, layout.frames, len(layout.contact_joints))

    def features(self, turns: Tensor, pelvis: Tensor) -> Tensor:
        """The encoder's input: principal components (…, K) of orientations (…, F, 24, 3, 3) and pelvis (…, F, 3)."""
        file = self.tensors
        x = torch.cat([matrix_to_6d(turns).flatten(-2), pelvis], -1) * file["feature_weight"]
        return (x.flatten(-2) - file["mean"]) @ file["basis"].mT

    def encode_features(self, parts: Tensor) -> Tensor:
        """(…, K) → the mean code and the placement's residual (…, L + 5)."""
        return self._network("encoder", parts / self.tensors["input_scale"])

    def _encoded(self, segment: Segment) -> Tensor:
        return self.encode_features(self.features(global_rotations(segment.matrices()), segment.pelvis))

    def _network(self, name: str, x: Tensor) -> Tensor:
        file, slope = self.tensors, self.layout.slope

        def layer(which: str, value: Tensor) -> Tensor:
            return linear(value, file[f"{name}.{which}.weight"], file[f"{name}.{which}.bias"])

        return layer("linear", x) + layer("2", leaky_relu(layer("1", leaky_relu(layer("0", x), slope)), slope))


def _ticks_last(features: Tensor) -> Tensor:
    """Features (K, F, 147), a tick's 6D of each joint and its pelvis, → (K, 147, F): 6D (2, 3, 24), and the pelvis."""
    joints = features[..., :-3].reshape(*features.shape[:-1], len(JOINTS), 6).mT.flatten(-2)
    return torch.cat([joints, features[..., -3:]], -1).mT


def save(prior: MotionPrior, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Writes what ``MotionPrior.load`` reads, in half precision: its rounding is far below the prior's own error.

    provenance: further metadata. Raises WeightsError.
    """
    halves = {name: tensor.detach().to(torch.float16) for name, tensor in prior.tensors.items()}
    layout = json.dumps(asdict(prior.layout), sort_keys=True)
    write_weights(path, halves, {**provenance, "format": FORMAT, "layout": layout})


def _read(path: Path) -> tuple[Layout, dict[str, Tensor]]:
    stored = read_metadata(path)
    try:
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is '{stored['format']}', not '{FORMAT}'")
        described = json.loads(stored["layout"])
        layout = Layout(**{**described, "contact_joints": tuple(described["contact_joints"])})
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"'{path}' is no motion prior ({error}). {HINT}") from error
    tensors = read_weights(path)
    check_layout(path, tensors, layout.shapes(), HINT)
    return layout, tensors
