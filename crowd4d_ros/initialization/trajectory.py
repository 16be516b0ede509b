"""Where a body of known size went: the path of its root from pixels, the ground and smoothness.

Once the pose is known a whole track is one least-squares problem, linear but for the perspective. A body's
apparent size tells its distance only to 5-10 % in any one frame. So every frame gets a size of its own,
scattered around the person's: that error stays out of the direction of the ray, which the pixels know well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crowd4d_ros.config import MotionConfig
from crowd4d_ros.window import BoolArray, FloatArray


@dataclass(frozen=True)
class Ground:
    """A plane of the world: normal · x + offset is the height above it in metres. normal: (3,) unit, up."""

    normal: FloatArray
    offset: float


@dataclass(frozen=True)
class Rays:
    """Points of the bodies and where they were seen.

    offsets: (N, T, P, 3) metres from the root, world axes. pixels: (N, T, P, 2) rectified; weights: (N, T, P)
    1/pixels², 0 where not seen. K: (3, 3); R: (T, 3, 3), t: (T, 3) of x_cam = R x + t.
    """

    offsets: FloatArray
    pixels: FloatArray
    weights: FloatArray
    K: FloatArray
    R: FloatArray
    t: FloatArray

    def camera(self, points: FloatArray) -> FloatArray:
        """World points (N, T, P, 3) in camera axes."""
        return np.asarray(points @ self.R.swapaxes(-1, -2) + self.t[:, None])


def solve_path(
    rays: Rays,
    seconds: FloatArray,
    valid: BoolArray,
    contact: FloatArray,
    ground: Ground | None,
    size_sigma: FloatArray,
    config: MotionConfig,
) -> FloatArray:
    """The root's positions (N, T, 3), metres, world; zero where not ``valid``.

    seconds: (T,) increasing. valid: (N, T) the frames of a path; those without rays are bridged with the
    least acceleration. contact: (N, T, 3) metres from the root to the lowest point of the feet. size_sigma:
    (N,) relative uncertainty of the person's size.
    """
    smoothness = _smoothness(seconds, valid, config)
    seen = valid & (rays.weights > 0).any(-1)
    position: FloatArray = _apparent(rays, config)
    size: FloatArray = np.ones(valid.shape)
    ray_trust: FloatArray = np.ones(rays.weights.shape)
    size_trust: FloatArray = np.ones(valid.shape)
    ground_trust: FloatArray = np.zeros(valid.shape)  # nothing until a first round has placed everybody
    for _ in range(config.path_rounds):
        size_weight = size_trust / config.frame_size_sigma**2
        frame = _Frame.of(rays, rays.weights * ray_trust, position, size, size_weight, config)
        information, right = frame.without_size()
        if ground is not None:
            trust = ground_trust / config.ground_sigma**2
            information[..., :3, :3] += trust[..., None, None] * np.outer(ground.normal, ground.normal)
            right[..., :3] -= (trust * (contact @ ground.normal + ground.offset))[..., None] * ground.normal
        position, person_size = _solve(information, right, smoothness, valid, size_sigma)
        size = frame.size(position, person_size)

        _, error = _projected(rays, position, size, config)
        ray_trust = 1 / (1 + (error**2).sum(-1) * rays.weights / config.robust_sigmas**2)
        size_trust = 1 / (1 + ((size - person_size[:, None]) / config.frame_size_sigma) ** 2)
        if ground is not None:
            gap = np.abs((position + contact) @ ground.normal + ground.offset)
            # Huber: the occluded look small and far, and only the ground pulls them back, from anywhere
            ground_trust = seen / np.maximum(1, gap / (config.robust_sigmas * config.ground_sigma))
    return np.where(valid[..., None], position, 0.0)


def _projected(
    rays: Rays, position: FloatArray, size: FloatArray, config: MotionConfig
) -> tuple[FloatArray, FloatArray]:
    """Depths (N, T, P) and errors (N, T, P, 2) in pixels of bodies of that size there."""
    camera = rays.camera(position[..., None, :] + size[..., None, None] * rays.offsets)
    depth = np.maximum(camera[..., 2], config.nearest)
    return depth, (camera @ rays.K[:2].T) / depth[..., None] - rays.pixels


def _apparent(rays: Rays, config: MotionConfig) -> FloatArray:
    """Roots (N, T, 3) where the bodies look as large as they were seen, one frame at a time."""
    total = np.maximum(rays.weights.sum(-1), np.finfo(float).tiny)[..., None]

    def mean_and_extent(points: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean = (rays.weights[..., None] * points).sum(-2) / total
        variance = (rays.weights[..., None] * (points - mean[..., None, :]) ** 2).sum(-2) / total
        return mean, np.sqrt(variance[..., :2].sum(-1))

    homogeneous = np.concatenate([rays.pixels, np.ones_like(rays.pixels[..., :1])], -1)
    slope, extent = mean_and_extent(homogeneous @ np.linalg.inv(rays.K).T)
    offset, across = mean_and_extent(rays.offsets @ rays.R.swapaxes(-1, -2))
    depth = np.maximum(across / np.maximum(extent, np.finfo(float).eps), config.nearest)
    ray = np.where(total > np.finfo(float).tiny, slope, [0.0, 0.0, 1.0])
    camera = ray * np.minimum(depth, config.farthest)[..., None] - offset
    return np.asarray(np.einsum("tji,ntj->nti", rays.R, camera - rays.t))


@dataclass(frozen=True)
class _Frame:
    """The normal equations of every frame in (position, the frame's size), about where the body is now.

    Linearised about the projection as it is, not as observed: the algebraic error, which is linear without
    that, would be least for bodies that shrink into the camera.
    """

    position_position: FloatArray
    position_size: FloatArray
    size_size: FloatArray
    right_position: FloatArray
    right_size: FloatArray
    size_weight: FloatArray

    @staticmethod
    def of(
        rays: Rays,
        weights: FloatArray,
        position: FloatArray,
        size: FloatArray,
        size_weight: FloatArray,
        config: MotionConfig,
    ) -> _Frame:
        depth, error = _projected(rays, position, size, config)
        slope = rays.K[:2] - (error + rays.pixels)[..., None] * rays.K[2]
        rows = slope / depth[..., None, None] @ rays.R[:, None]
        spread = np.einsum("ntpij,ntpj->ntpi", rows, rays.offsets)
        constants = error - np.einsum("ntpij,ntj->ntpi", rows, position) - spread * size[..., None, None]
        weighted = rows * weights[..., None, None]
        return _Frame(
            position_position=np.einsum("ntpia,ntpib->ntab", weighted, rows),
            position_size=np.einsum("ntpia,ntpi->nta", weighted, spread),
            size_size=np.einsum("ntp,ntpi->nt", weights, spread**2) + size_weight,
            right_position=-np.einsum("ntpia,ntpi->nta", weighted, constants),
            right_size=-np.einsum("ntp,ntpi,ntpi->nt", weights, spread, constants),
            size_weight=size_weight,
        )

    def without_size(self) -> tuple[FloatArray, FloatArray]:
        """The Schur complement: (N, T, 4, 4) and (N, T, 4) in (position, the person's size)."""
        coupling = np.concatenate([self.position_size, -self.size_weight[..., None]], -1)
        information = -coupling[..., :, None] * coupling[..., None, :] / self.size_size[..., None, None]
        information[..., :3, :3] += self.position_position
        information[..., 3, 3] += self.size_weight
        right = np.concatenate([self.right_position, np.zeros_like(self.size_size)[..., None]], -1)
        return information, right - coupling * (self.right_size / self.size_size)[..., None]

    def size(self, position: FloatArray, person_size: FloatArray) -> FloatArray:
        """(N, T): each frame's best size, given the path and the person's size (N,)."""
        pull = self.right_size + self.size_weight * person_size[:, None]
        return np.asarray((pull - (self.position_size * position).sum(-1)) / self.size_size)


def _smoothness(seconds: FloatArray, valid: BoolArray, config: MotionConfig) -> FloatArray:
    """(N, T, T, 3): the quadratic form of a path's speed and acceleration, per axis, at any frame rate."""
    people, frames = valid.shape
    step = np.diff(seconds)
    form = np.zeros((people, frames, frames, 3))
    pairs = valid[:, :-1] & valid[:, 1:]
    velocity = np.stack([-1 / step, 1 / step], -1)
    _accumulate(form, velocity, pairs * step, np.array(config.speed_density))
    middle = (step[:-1] + step[1:]) / 2
    acceleration = np.stack([1 / (step[:-1] * middle), -2 / (step[:-1] * step[1:]), 1 / (step[1:] * middle)], -1)
    triples = pairs[:, :-1] & pairs[:, 1:]
    _accumulate(form, acceleration, triples * middle, np.array(config.acceleration_density))
    return form


def _accumulate(form: FloatArray, stencil: FloatArray, weight: FloatArray, density: FloatArray) -> None:
    """Add Σ weight (stencil · x)² / density². stencil: (M, S) at frames m … m + S − 1; weight: (N, M)."""
    first = np.arange(len(stencil))
    for i in range(stencil.shape[1]):
        for j in range(stencil.shape[1]):
            product = weight * (stencil[:, i] * stencil[:, j])
            form[:, first + i, first + j] += product[..., None] / density**2


def _solve(
    information: FloatArray,
    right: FloatArray,
    smoothness: FloatArray,
    valid: BoolArray,
    size_sigma: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Positions (N, T, 3) and the person's size (N,) of every track's problem."""
    people, frames = valid.shape
    use = valid[..., None, None]
    diagonal = np.where(use, information[..., :3, :3], np.eye(3))
    border = np.where(use[..., 0], information[..., :3, 3], 0.0).reshape(people, 3 * frames)
    system = np.zeros((people, 3 * frames + 1, 3 * frames + 1))
    blocks = np.einsum("nstc,cd->nsctd", smoothness, np.eye(3))
    blocks[:, np.arange(frames), :, np.arange(frames), :] += diagonal.swapaxes(0, 1)
    system[:, :-1, :-1] = blocks.reshape(people, 3 * frames, 3 * frames)
    system[:, :-1, -1] = system[:, -1, :-1] = border
    system[:, -1, -1] = np.where(valid, information[..., 3, 3], 0.0).sum(1) + 1 / size_sigma**2
    constant = np.zeros((people, 3 * frames + 1))
    constant[:, :-1] = np.where(use[..., 0], right[..., :3], 0.0).reshape(people, 3 * frames)
    constant[:, -1] = np.where(valid, right[..., 3], 0.0).sum(1) + 1 / size_sigma**2
    solution = np.linalg.solve(system, constant[..., None])[..., 0]
    return solution[:, :-1].reshape(people, frames, 3), solution[:, -1]
