"""The Human–Scene Interaction Proxy (HSIP, Eq. 7–16), for all people and frames at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crowd4d_ros.config import InteractionConfig
from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.interaction.trust import known_from_above, weighted_median
from crowd4d_ros.window import BoolArray, FloatArray

LOWESS_ROUNDS = 5
"""Reweightings of the robust filter; its weights settle in three or four."""
LOOK = 0.03
"""of the way to the surface, to either side, over which a ray's clearance is seen to fall: a metre at thirty."""
LEAST_WEIGHT = 1e-4
"""of a sample that is not trusted at all: where there are no others, it is all there is."""
SLOPE_RIDGE = 1e-3
"""half widths²: samples closer together than a thirtieth of the filter give no slope, but a constant."""

OPEN_RANGE, CLOSE_RANGE, NO_HSIP = "open", "close", "none"
"""Sec. 3.2.2's two ways to an HSIP, by the surface and where bodies hide it; and other couplings, which have none."""


@dataclass(frozen=True)
class Proxy:
    """Where each person stands, in the frame scaled by α0. Metres, world. Entries are finite everywhere.

    anchor, probe: (N, T, 3) a and a' (Eq. 7, 8).
    hit, probe_hit: (N, T, 3) s and s' (Eq. 10), of use where met and probe_met (N, T), and else s*.
    depth: (N, T) μ̃ of Eq. 13, relative to the initial root. reference: (N, T, 3) r* (Eq. 14).
    point: (N, T, 3) s*, the HSIP (Eq. 15). range: (N, T) metres (Eq. 16).
    valid: (N, T) the person is there, a ray met the surface then or within ``bridge`` seconds, and it is trusted.
    mode: OPEN_RANGE, from the surface, CLOSE_RANGE, without one, or NO_HSIP, by another coupling.
    scene_points: (P, 3) what feet are drawn to by interaction.coupling joint_distance; empty else.
    ground: whose height under a lowest vertex Eq. 18 takes in the place of s*'s once the scale has settled, or None.
    """

    anchor: FloatArray
    probe: FloatArray
    hit: FloatArray
    met: BoolArray
    probe_hit: FloatArray
    probe_met: BoolArray
    depth: FloatArray
    reference: FloatArray
    point: FloatArray
    range: FloatArray
    valid: BoolArray
    mode: str = OPEN_RANGE
    scene_points: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    ground: Surface | None = None


def anchor_proxies(
    pelvis: FloatArray,
    lowest: FloatArray,
    valid: BoolArray,
    centers: FloatArray,
    seconds: FloatArray,
    surface: Surface,
    config: InteractionConfig,
) -> Proxy:
    """Eq. 7–16.

    pelvis: (N, T, 3) the initial roots τ̄; lowest: (N, T, 3) the lowest vertices; valid: (N, T);
    centers: (T, 3) the cameras; seconds: (T,) stamps. All in the frame scaled by α0, like ``surface``.

    Root, anchor and probe share x and z, so their rays and the vertical through s' lie in one plane: Eq. 11's
    intersection always exists, and its μ is the μ at which the probe's ray meets the surface. Whose lowest vertex is
    ``beside`` the root sits or bends: what is under the root is a seat, and that vertex takes a's place in μ. Ours.
    """
    camera = np.broadcast_to(centers, pelvis.shape)
    ahead = camera - np.array([0.0, 0.0, 1.0])
    pelvis, lowest = (np.where(valid[..., None], a, ahead) for a in (pelvis, lowest))
    anchor = np.stack([pelvis[..., 0], lowest[..., 1], pelvis[..., 2]], -1)
    probe = anchor - [0.0, config.probe_offset, 0.0]
    hit_mu, met = meeting(camera, anchor, valid, surface, config, is_nearest=True)
    aside = np.linalg.norm((lowest - pelvis)[..., [0, 2]], axis=-1, keepdims=True)
    stood = np.where(aside > config.beside, lowest, anchor) - [0.0, config.probe_offset, 0.0]
    probe_mu, probe_met = meeting(camera, stood, valid, surface, config, is_nearest=True)

    distance = np.linalg.norm(pelvis - camera, axis=-1)
    trust = surface_trust(camera, stood, probe_mu, probe_met, surface, config)
    metres, near = smoothed(probe_mu * distance, probe_met, seconds, config, trust)
    # what surface and bodies disagree on in all alike is the scale, for α to settle
    known = known_from_above(stood - camera, config)
    common = _common(probe_mu, known * (trust > 0))
    steady_trust = averaged(trust, probe_met, seconds, config)
    depth = np.where(near, common + steady_trust * (metres / distance - common), 1.0)
    reference = camera + depth[..., None] * (pelvis - camera)
    height, _ = surface.height(reference[..., [0, 2]])
    point = np.stack([reference[..., 0], height, reference[..., 2]], -1)

    hit = np.where(met[..., None], camera + hit_mu[..., None] * (anchor - camera), point)
    probe_hit = np.where(probe_met[..., None], camera + probe_mu[..., None] * (probe - camera), point)
    reach = np.maximum(*(np.linalg.norm(point - s, axis=-1) for s in (hit, probe_hit)))
    reach = np.where(met | probe_met, np.minimum(reach, config.max_range), config.lone_range)
    is_told = valid & near & (steady_trust > config.least_trust)
    return Proxy(
        anchor, probe, hit, met, probe_hit, probe_met, depth, reference, point, reach, is_told,
        ground=foothold_ground(surface, config),
    )  # fmt: skip


def foothold_ground(surface: Surface, config: InteractionConfig) -> Surface | None:
    """What ``interaction.foothold`` says of where Eq. 18's height is read."""
    return surface if config.foothold == "feet" else None


def meeting(
    camera: FloatArray,
    target: FloatArray,
    valid: BoolArray,
    surface: Surface,
    config: InteractionConfig,
    is_nearest: bool = False,
) -> tuple[FloatArray, BoolArray]:
    """Eq. 10: μ of the rays from the cameras through the targets (N, T, 3), and where it can be trusted.

    is_nearest: of a ray's meetings that which is nearest to the target counts, not the first. What stands in front of
    people hides their feet, but is not what they stand on.
    """
    ray = target - camera
    mu = surface.nearest(camera, ray, config.max_depth_ratio) if is_nearest else surface.intersect(camera, ray)[0]
    normal = np.array([-surface.plane[0], 1.0, -surface.plane[1]])
    sine = np.abs(ray @ normal) / (np.linalg.norm(normal) * np.maximum(np.linalg.norm(ray, axis=-1), 1e-9))
    plausible = (mu > 1 / config.max_depth_ratio) & (mu < config.max_depth_ratio)
    met = valid & plausible & (sine > np.sin(np.radians(config.min_grazing)))
    return np.where(met, mu, 1.0), met


def surface_trust(
    camera: FloatArray,
    target: FloatArray,
    mu: FloatArray,
    met: BoolArray,
    surface: Surface,
    config: InteractionConfig,
) -> FloatArray:
    """(N, T) in [0, 1]: how much the surface knows of a person's depth that the initial body does not. Ours.

    A ray that is ``ray_height`` and ``ray_angle`` off, over ground that is ``unseen_height`` off where nobody saw it,
    meets the surface so much too near or far as the clearance falls slowly along it: at grazing angles and over crests
    by metres; nowhere faster than over level ground (``trust.known_from_above``). The share is that of the two
    variances, this one and ``own_depth``'s. A surface much nearer or farther than the body, against everybody's median,
    is more likely to be another one than to be right, and nobody stands on a face: who is looked up at is met there, on
    the riser before them.
    """
    ray = target - camera
    distance = np.linalg.norm(ray, axis=-1)
    near, far = (camera + ((1 + side * LOOK) * mu)[..., None] * ray for side in (-1, 1))
    fall = (surface.side(near)[0] - surface.side(far)[0]) / (2 * LOOK * mu)
    place = (camera + mu[..., None] * ray)[..., [0, 2]]
    unseen = 1 - surface.observed(place)
    wrong = config.ray_height**2 + (config.ray_angle * distance) ** 2 + (config.unseen_height * unseen) ** 2
    is_ground = surface.slope(place) < np.tan(np.radians(config.steepest))
    common = _common(mu, known_from_above(ray, config) * (met & is_ground))
    same = is_ground / (1 + ((mu / common - 1) / config.surprise) ** 4)
    # a slope that faces the camera is as often the front of steps and furniture, over which feet stand level
    fall = np.clip(fall, 0.0, np.maximum(-ray[..., 1], 0.0))
    gained = (config.own_depth * fall) ** 2
    return np.where(met, same * gained / (gained + wrong), 0.0)


def _common(mu: FloatArray, known: FloatArray) -> float:
    """Everybody's median of μ (N, T), by how well it is known (N, T); 1, the initial depth, where nobody has one."""
    is_known = known > 0
    return weighted_median(mu[is_known], known[is_known]) if is_known.any() else 1.0


def smoothed(
    values: FloatArray,
    known: BoolArray,
    seconds: FloatArray,
    config: InteractionConfig,
    trust: FloatArray | None = None,
) -> tuple[FloatArray, BoolArray]:
    """Eq. 13's F: robust local lines over time (LOWESS) through values (N, T) where known, by their trust (N, T).

    Filtered are metres along the root's ray, not the ratio μ: the ratio carries the jitter of the initial
    root, metres move as people do. Returns (N, T) and where it can be believed: within ``bridge`` of a known
    value.
    """
    weight = known if trust is None else known * np.maximum(trust, LEAST_WEIGHT)
    gap, kernel = _kernel(seconds, config)
    time = (seconds - seconds[0]) / config.smoothing
    offset = time[None, :] - time[:, None]
    values = np.where(known, values, 0.0)
    robust = weight.astype(np.float64)
    fitted = np.zeros_like(values)
    for _ in range(LOWESS_ROUNDS):
        s0, s1, s2, y0, y1 = (
            (robust * a) @ (kernel * b).T
            for a, b in ((1.0, 1.0), (1.0, offset), (1.0, offset**2), (values, 1.0), (values, offset))
        )
        s2 = s2 + SLOPE_RIDGE * s0
        spread = np.where(s0 > 0, s0 * s2 - s1**2, 1.0)
        fitted = np.where(s0 > 0, (s2 * y0 - s1 * y1) / spread, 0.0)
        deviation = np.where(known, np.abs(values - fitted), np.nan)
        robust = weight * _biweight(deviation, config)
    seen = np.asarray((known[:, None, :] & (gap <= config.bridge)).any(-1))
    return fitted, seen


def averaged(values: FloatArray, known: BoolArray, seconds: FloatArray, config: InteractionConfig) -> FloatArray:
    """Values (N, T) where known, averaged over the same time as F's: (N, T), 0 for whom nothing is known."""
    _, kernel = _kernel(seconds, config)
    samples = known @ kernel.T
    return np.asarray((np.where(known, values, 0.0) @ kernel.T) / np.where(samples > 0, samples, 1.0))


def _kernel(seconds: FloatArray, config: InteractionConfig) -> tuple[FloatArray, FloatArray]:
    """(T, T) seconds between frames, and the tricube of them."""
    gap = np.abs(seconds[:, None] - seconds[None, :])
    near = np.clip(1 - (gap / config.smoothing) ** 3, 0, None) ** 3
    # the far tail decides only in gaps, where no sample is near
    return gap, near + 1e-6 * np.exp(-gap / config.smoothing)


def _biweight(deviation: FloatArray, config: InteractionConfig) -> FloatArray:
    """Tukey's weights (N, T) of deviations, NaN where unknown, against each person's median."""
    nothing_known = np.isnan(deviation).all(-1, keepdims=True)
    median = np.nanmedian(np.where(nothing_known, 0.0, deviation), -1, keepdims=True)
    width = np.maximum(config.smoothing_outlier * median, config.smoothing_floor)
    share = np.nan_to_num(deviation) / width
    # never quite zero: a person of outliers only still has a place
    return np.asarray(np.clip(1 - share**2, 1e-4, None) ** 2)
