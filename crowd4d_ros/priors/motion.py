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
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear

from crowd4d_ros.body.rotations import matrix_to_6d, rotation_6d_to_matrix
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import UP
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

    rotations: (…, F, 24, 6) 6D; joint 0 is the root's orientation, the others are relative to their parents.
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


def interpolation(known: Tensor, wanted: Tensor) -> Tensor:
    """Weights (…, W, K) of values at increasing times ``known`` (…, K) for those at ``wanted`` (…, W); held outside."""
    if known.shape[-1] == 1:
        return torch.ones(*wanted.shape, 1, dtype=wanted.dtype, device=wanted.device)
    after = torch.searchsorted(known.contiguous(), wanted.contiguous()).clamp(1, known.shape[-1] - 1)
    left, right = known.gather(-1, after - 1), known.gather(-1, after)
    share = ((wanted - left) / (right - left)).clamp(0, 1)[..., None]
    weights = torch.zeros(*wanted.shape, known.shape[-1], dtype=wanted.dtype, device=wanted.device)
    return weights.scatter(-1, after[..., None] - 1, 1 - share).scatter(-1, after[..., None], share)


def global_rotations(local: Tensor) -> Tensor:
    """Relative to the parents → in the root's axes' own frame of reference: (…, 24, 3, 3)."""
    turns = [local[..., 0, :, :]]
    for joint in range(1, len(JOINTS)):
        turns.append(turns[PARENTS[joint]] @ local[..., joint, :, :])
    return torch.stack(turns, -3)


def local_rotations(turns: Tensor) -> Tensor:
    """The inverse of ``global_rotations``; one product for all joints."""
    below = turns[..., PARENTS[1:], :, :].mT @ turns[..., 1:, :, :]
    return torch.cat([turns[..., :1, :, :], below], -3)


def _local_6d(rotations: Tensor) -> Tensor:
    """6D in common axes, not orthonormal, (…, 24, 6) → 6D against the parents.

    rotation_6d_to_matrix, local_rotations and matrix_to_6d in one, written out by components: on a CPU several times
    faster than a hundred thousand small matrices, and Stage 3 does it at every iteration.
    """
    ax, ay, az, bx, by, bz = rotations.unbind(-1)
    first = _unit(ax, ay, az)
    along = first[0] * bx + first[1] * by + first[2] * bz
    second = _unit(bx - along * first[0], by - along * first[1], bz - along * first[2])
    (ax, ay, az), (bx, by, bz) = first, second
    third = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    above = [[component[..., PARENTS[1:]] for component in column] for column in (first, second, third)]
    below = [[component[..., 1:] for component in column] for column in (first, second)]
    local = torch.stack([p[0] * c[0] + p[1] * c[1] + p[2] * c[2] for c in below for p in above], -1)
    root = torch.stack([component[..., :1] for component in (*first, *second)], -1)
    return torch.cat([root, local], -2)


def _unit(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = (x * x + y * y + z * z).clamp(min=torch.finfo(x.dtype).tiny).rsqrt()
    return x * scale, y * scale, z * scale


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
        rotations, pelvis, logits = self._decoded(latent)
        return Segment(_local_6d(rotations), pelvis, logits.sigmoid())

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
        code, residual = latent[..., : self.latent_dim], latent[..., self.latent_dim :]
        segment = self.decode(code)
        moved, root = placement.moved(residual), segment.rotations[..., 0, :]
        columns = root.reshape(*root.shape[:-2], 2 * self.frames, 3) @ about_up(moved.heading).mT
        rotations = torch.cat([columns.reshape(root.shape)[..., None, :], segment.rotations[..., 1:, :]], -2)
        return Segment(rotations, placed_path(moved, segment.pelvis, self.rate), segment.contact)

    def decode_global(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(…, L) → all joints' orientations (…, F, 24, 3, 3) and pelvis (…, F, 3) in the segment's axes, and the
        contact's logits (…, F, C)."""
        rotations, pelvis, logits = self._decoded(latent)
        return rotation_6d_to_matrix(rotations), pelvis, logits

    def _decoded(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """6D in the segment's axes, not yet orthonormal (…, F, 24, 6); pelvis; logits."""
        layout, file = self.layout, self.tensors
        out = self._network("decoder", latent)
        part = out[..., : layout.components] * file["spread"]
        ticks = (*latent.shape[:-1], layout.frames)
        x = (part @ file["basis"] + file["mean"]).reshape(*ticks, layout.features) / file["feature_weight"]
        contacts = out[..., layout.components :].reshape(*ticks, len(layout.contact_joints))
        return x[..., :-3].reshape(*ticks, len(JOINTS), 6), x[..., -3:], contacts

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
