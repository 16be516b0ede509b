"""The energies, one function per equation, before their weights λ.

Tensors are (N people, T frames, …), metres and radians, world frame with y up. ``valid`` (N, T) masks people
before anything is computed from them: padding may hold anything, NaN included, and gets a zero gradient. Each
energy is the *sum* of the paper, so that the force on a person does not depend on how many others there are;
pixels are divided by the person's size A as in Eq. 22, so that weights hold at every resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crowd4d_ros.optimization.soft_dtw import divergence
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

XZ = [0, 2]
APART = 1e-9
"""metres: lets the norm of two people in one place be differentiated."""


def _masked(values: Tensor, valid: Tensor, fill: float = 0.0) -> Tensor:
    """Values (N, T, …) where valid (N, T), and ``fill`` elsewhere, whatever was there."""
    return torch.where(valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim)), values, fill)


def hsip_xz(pelvis: Tensor, point: Tensor, reach: Tensor, alpha: Tensor, valid: Tensor) -> Tensor:
    """Eq. 17, m²: hinge on the root's horizontal distance from α s* beyond the support range α r.

    pelvis τ, point s*: (N, T, 3); reach r: (N, T); alpha: ().
    """
    offset = (_masked(pelvis, valid) - alpha * _masked(point, valid))[..., XZ]
    beyond = torch.linalg.vector_norm(offset, dim=-1) - alpha * _masked(reach, valid)
    return torch.relu(beyond).square().sum()


def hsip_y(lowest_y: Tensor, point_y: Tensor, alpha: Tensor, valid: Tensor, width: float = math.inf) -> Tensor:
    """Eq. 18, m²: the lowest vertex is at the height α s*_y. lowest_y, point_y: (N, T); alpha: ().

    Ours: farther off than ``width``, metres, the force grows no more (pseudo-Huber); the paper's squares are of
    infinite width.
    """
    squared = (_masked(lowest_y, valid) - alpha * _masked(point_y, valid)).square()
    return (2 * squared / (1 + (1 + squared / width**2).sqrt())).sum()


def plane_anchor(pelvis: Tensor, lowest_y: Tensor) -> Tensor:
    """Eq. 7 and 19: the root (N, T, 3) moved vertically to the height (N, T) of the lowest vertex."""
    return torch.stack([pelvis[..., 0], lowest_y, pelvis[..., 2]], -1)


def hsip_projection(anchor: Tensor, probe: Tensor, size: Tensor, valid: Tensor) -> Tensor:
    """Eq. 20, in squares of the person's size: the anchor projects where the probe anchor did.

    anchor Π(a_proj), probe Π(a'): (N, T, 2) pixels; size: (N, T) pixels. The paper's squared pixels are
    divided by A² as in Eq. 22.
    """
    return (_masked(anchor - probe, valid) / _masked(size, valid, 1.0)[..., None]).square().sum()


def joint_distance(
    soles: Tensor, lowest_y: Tensor, nearest: Tensor, alpha: Tensor, height: float, valid: Tensor
) -> Tensor:
    """Joint distance of Table 6, m²: what touches the ground is at scene points; the mean over a body's joints.

    soles and the scene points nearest to them, before α: (N, T, J, 3); lowest_y: (N, T), and joints less than
    ``height`` metres above it touch the ground, whatever it is; alpha: ().
    """
    touches = valid[..., None] & (soles.detach()[..., 1] - lowest_y.detach()[..., None] < height)
    squared = _masked(soles - alpha * nearest, touches).square().sum(-1)
    return (squared.sum(-1) / touches.sum(-1).clamp(min=1)).sum()


def depth(pelvis: Tensor, reference: Tensor, alpha: Tensor, metres: float, valid: Tensor) -> Tensor:
    """VideoMimic's L_3D of the root alone, m: root (N, T, 3) and where the scene's depth puts it, before α: ().

    The distance is rounded off within ``metres`` (Charbonnier): Adam circles around a kink, and α never settles.
    """
    return _charbonnier(_masked(pelvis - alpha * reference, valid).square().sum(-1), metres).sum()


@dataclass(frozen=True)
class Pairs:
    """Neighbours as Eq. 21 reads them, on a device. rows: (4, E) of the N·T person-frames: who and the neighbour at t,
    who and the neighbour at t − Δ. weight: (E,).
    """

    rows: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Eq. 21's edges over all frames: person, neighbour, frame and weight, each (E,)."""

    person: IntArray
    neighbour: IntArray
    frame: IntArray
    weight: FloatArray

    def pairs(self, stride: int, pelvis: Tensor) -> Pairs:
        """For people (N, T, 3) on the device and of the dtype of ``pelvis``, with Δ = ``stride`` frames."""
        now = np.stack([self.person, self.neighbour]) * pelvis.shape[1] + self.frame
        rows = torch.as_tensor(np.concatenate([now, now - stride]), device=pelvis.device)
        return Pairs(rows, torch.as_tensor(self.weight, dtype=pelvis.dtype, device=pelvis.device))


def neighbours(
    point: FloatArray,
    valid: BoolArray,
    stride: int,
    count: int,
    radius: float,
    width: float,
    seen: BoolArray | None = None,
) -> Neighbours:
    """The dynamic interaction graph on the HSIP points (N, T, 3).

    An edge (n, m) at frame t ≥ stride joins n with one of its ``count`` nearest within ``radius`` metres at
    t, if both are valid at t and at t − stride. With w = exp(−d²/2 width²) the effective weight is w / Σ_m w:
    a person in a dense crowd is held no harder than one with a single neighbour. seen: (N, T), ours: who is seen at
    both times has no edges, and is still a neighbour to those who are not.
    """
    lasting = np.zeros_like(valid)
    lasting[:, stride:] = valid[:, stride:] & valid[:, :-stride]
    person, frame = np.nonzero(lasting)
    if len(person) < 2:
        nobody = np.zeros(0, np.int64)
        return Neighbours(nobody, nobody, nobody, np.zeros(0))
    # frames are set apart farther than the radius: one tree answers for all of them
    layers = np.concatenate([point[person, frame][:, XZ], 2 * radius * frame[:, None]], -1)
    distance, other = cKDTree(layers).query(layers, min(count + 1, len(layers)), distance_upper_bound=radius)
    row = np.broadcast_to(np.arange(len(layers))[:, None], other.shape)
    held = np.ones(len(layers), bool) if seen is None else ~(seen[person, frame] & seen[person, frame - stride])
    is_edge = np.isfinite(distance) & (other != row) & held[:, None]
    row, other, distance = row[is_edge], other[is_edge], distance[is_edge]
    weight = np.exp(-0.5 * (distance / width) ** 2)
    weight /= np.bincount(row, weight, len(layers))[row]
    return Neighbours(person[row], person[other], frame[row], weight)


def crowd(pelvis: Tensor, pairs: Pairs, direction_weight: float, metres: float, turn: float) -> Tensor:
    """Eq. 21 (CSCR), m: neighbours keep their relative displacement and its direction.

    pelvis: (N, T, 3). metres, turn: the widths c of the two Charbonnier penalties, ρ(x) = sqrt(x² + c²) − c,
    beyond which they grow linearly.
    """
    places = pelvis.flatten(0, 1).index_select(0, pairs.rows.flatten()).reshape(4, -1, 3)
    now, before = places[0] - places[1], places[2] - places[3]
    moved = _charbonnier((now - before).square().sum(-1), metres)
    lengths = ((now.square().sum(-1) + APART**2) * (before.square().sum(-1) + APART**2)).sqrt()
    turned = _charbonnier((1 - (now * before).sum(-1) / lengths).square(), turn)
    return (pairs.weight * (moved + direction_weight * turned)).sum()


def _charbonnier(squared: Tensor, width: float) -> Tensor:
    return (squared + width**2).sqrt() - width


def reprojection(
    projected: Tensor,
    in_front: Tensor,
    reference: Tensor,
    confidence: Tensor,
    size: Tensor,
    valid: Tensor,
    width: float = math.inf,
) -> Tensor:
    """Eq. 22, in squares of the person's size: joints project onto their 2D references.

    projected, reference: (N, T, J, 2) pixels; in_front: (N, T, J) bool; confidence: (N, T, J) in [0, 1], the
    weight of each joint; size A: (N, T) pixels. Ω_reproj leaves out joints behind the camera and those of no
    confidence. Ours: residuals far beyond ``width``, sizes, pull no more (Geman–McClure, x²/(1 + x²/width²)); the
    paper's squares are of infinite width.
    """
    usable = valid[..., None] & in_front & (confidence > 0)
    residual = torch.where(usable[..., None], projected - reference, 0.0)
    residual = residual / _masked(size, valid, 1.0)[..., None, None]
    squared = residual.square().sum(-1)
    return (torch.where(usable, confidence, 0.0) * squared / (1 + squared / width**2)).sum()


def adjacent(valid: Tensor) -> Tensor:
    """Ω_adj: (N, T − 1), valid in a frame and in the next."""
    return valid[:, 1:] & valid[:, :-1]


def translation_smoothness(pelvis: Tensor, valid: Tensor) -> Tensor:
    """Eq. 23, m²: squared steps of the root (N, T, 3)."""
    pelvis = _masked(pelvis, valid)
    return _masked(pelvis[:, 1:] - pelvis[:, :-1], adjacent(valid)).square().sum()


def upright(up_y: Tensor, valid: Tensor) -> Tensor:
    """Ours, rad²: the squared angle between the pelvis's vertical and gravity's, 2 (1 − cos).

    up_y: (N, T), the height of the pelvis's unit vertical.
    """
    return _masked(2 * (1 - up_y), valid).sum()


def shape_prior(betas: Tensor, valid: Tensor) -> Tensor:
    """Eq. 25: a standard normal on betas (N, 10), once for every valid frame of the person."""
    return (valid.sum(-1) * _masked(betas, valid.any(-1)).square().sum(-1)).sum()


def pose_prior(latent: Tensor, valid: Tensor) -> Tensor:
    """Eq. 26: a standard normal on the pose codes (N, T, L)."""
    return _masked(latent, valid).square().sum()


def shape_seam(betas: Tensor, previous: Tensor, known: Tensor, valid: Tensor) -> Tensor:
    """Ours: betas (N, 10) stay near the last window's of people it knew, once for every valid frame."""
    return (valid.sum(-1) * torch.where(known[:, None], betas - previous, 0.0).square().sum(-1)).sum()


def motion_prior(latent: Tensor) -> Tensor:
    """Eq. 27: a standard normal on the motion codes (M, L) of all segments."""
    return latent.square().sum()


def contact_stationarity(joints: Tensor, confidence: Tensor, lasting: Tensor) -> Tensor:
    """Eq. 28, m²: joints that touch the ground do not move from one frame to the next.

    joints: (N, T, C, 3) metres, world; confidence: (N, T, C) in [0, 1]; lasting: (N, T − 1) the pairs of frames that
    count. Their weight is c_t c_{t+1}, ours for the paper's c_t: at ten frames a second a foot that touches the ground
    in one frame may be well above it in the next. It has no gradient: else the easiest way not to slide is to fly.
    """
    both = (confidence[:, 1:] * confidence[:, :-1]).detach()
    step = _masked(joints[:, 1:] - joints[:, :-1], lasting)
    return (_masked(both, lasting) * step.square().sum(-1)).sum()


def connection(joints: Tensor) -> Tensor:
    """Eq. 29, m²: a segment's last frame is its successor's, and the successor's first is its own.

    joints: (2, J, 2, K, 3) metres, world: by each of the two segments, at each of the two times.
    """
    return (joints[1] - joints[0]).square().sum()


def motion_consistency(pose: Tensor, reference: Tensor, weight: Tensor, gamma: float) -> Tensor:
    """Eq. 30 (AMC): unreliable people move as their references do, sooner or later.

    pose, reference: (U, F, K), see groups.py; weight: (U,); gamma: of the soft-DTW, in squares of the poses' unit. The
    divergence stands for the paper's sDTW, see soft_dtw.py.
    """
    return (weight * divergence(pose, reference, gamma)).sum()
