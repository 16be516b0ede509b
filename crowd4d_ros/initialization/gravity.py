"""Gravity, camera height, ground and focal length of a fixed camera, from the people it sees.

All upright people of the input together: camera and ground are common, stature and proportions are
constant along a track, where somebody stands is free. Maximum a posteriori with robust weights; the
priors alone decide where people do not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from crowd4d_ros.config import CalibrationConfig
from crowd4d_ros.initialization.upright import (
    NUM_LANDMARKS,
    Motion,
    Stick,
    UprightPeople,
    Whitening,
    motion_over_ground,
    reproject,
    tangents,
    unknown_motion,
    upright_people,
    whitening,
)
from crowd4d_ros.window import FloatArray, FrameObservations, IntArray, Intrinsics

log = logging.getLogger(__name__)


class CalibrationError(ValueError):
    """Input that no camera can be estimated from; the message says what to do."""


@dataclass(frozen=True)
class Calibration:
    """A fixed camera over its ground. Camera axes are OpenCV's optical ones.

    gravity: (3,) unit, down, camera axes; covariance: (3, 3) rad², of that vector (rank 2: across it).
    camera_height: metres, vertically down to the ground's plane; camera_height_sigma: metres, scale included.
    scale_sigma: relative, how well people's statures fix the metre.
    ground_normal: (3,) unit, up, camera axes; ground_distance: metres along it: normal · X = −distance.
    slope_sigma: degrees, of the ground against level.
    intrinsics: as given, or with the estimated focal length. focal_sigma: pixels, zero where given.
    track_ids: (N,); stature, stature_sigma: (N,) metres without shoes; sigma without the common scale's.
    body: the average body as seen (proportions, gait), needed to measure further people alike.
    source: "people", or "none" when only priors speak.
    residuals: statistics of the landmarks' errors, ankle to ear (see _Problem.residual_statistics).
    """

    gravity: FloatArray
    covariance: FloatArray
    camera_height: float
    camera_height_sigma: float
    scale_sigma: float
    ground_normal: FloatArray
    ground_distance: float
    slope_sigma: float
    intrinsics: Intrinsics
    focal_estimated: bool
    focal_sigma: float
    track_ids: IntArray
    stature: FloatArray
    stature_sigma: FloatArray
    body: State
    num_people: int
    num_observations: int
    source: str
    residuals: dict[str, list[float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def pitch(self) -> float:
        """Degrees the optical axis points below the horizontal."""
        return pitch_roll(self.gravity)[0]

    @property
    def roll(self) -> float:
        """Degrees the camera is turned clockwise about its optical axis, as seen from behind it."""
        return pitch_roll(self.gravity)[1]

    @property
    def slope(self) -> float:
        """Degrees between the ground's plane and level."""
        return float(np.degrees(np.arccos(np.clip(-self.gravity @ self.ground_normal, -1.0, 1.0))))

    @property
    def gravity_sigma(self) -> float:
        """Degrees, in the worse direction."""
        return float(np.degrees(np.sqrt(max(np.linalg.eigvalsh(self.covariance).max(), 0.0))))

    def summary(self) -> dict[str, object]:
        """Plain numbers for a report."""
        return {
            "pitch_deg": self.pitch,
            "roll_deg": self.roll,
            "gravity_sigma_deg": self.gravity_sigma,
            "camera_height_m": self.camera_height,
            "camera_height_sigma_m": self.camera_height_sigma,
            "scale_sigma": self.scale_sigma,
            "slope_deg": self.slope,
            "focal_px": float(self.intrinsics.K_rectified[0, 0]),
            "focal_estimated": self.focal_estimated,
            "focal_sigma_px": self.focal_sigma,
            "people": self.num_people,
            "observations": self.num_observations,
            "statures_m": {int(i): float(s) for i, s in zip(self.track_ids, self.stature, strict=True)},
            "residuals_px": self.residuals,
            "source": self.source,
            "warnings": list(self.warnings),
        }


def pitch_roll(gravity: FloatArray) -> tuple[float, float]:
    """Degrees (pitch, roll) of a camera that sees ``gravity`` (3,), down, in its optical axes.

    Pitch: of the optical axis below the horizontal, −90 to 90. Roll: about the optical axis, positive when
    the camera is turned clockwise as seen from behind it, its right side lower.
    """
    x, y, z = gravity / np.linalg.norm(gravity)
    return float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(x, y)))


def gravity_from_pitch_roll(pitch: float, roll: float) -> FloatArray:
    """(3,) unit, down, in optical axes: the inverse of ``pitch_roll``; degrees."""
    p, r = np.radians(pitch), np.radians(roll)
    return np.array([np.sin(r) * np.cos(p), np.cos(r) * np.cos(p), np.sin(p)])


def camera_rotation(gravity: FloatArray) -> FloatArray:
    """(3, 3) R of x_cam = R x_world, for the y-up world in which the camera looks along −z, seen from above.

    gravity: (3,) down in optical axes. A camera that looks straight down or up has the image's top ahead.
    """
    up = -gravity / np.linalg.norm(gravity)
    ahead = np.array([0.0, 0.0, 1.0])
    if np.linalg.norm(ahead - (ahead @ up) * up) < 1e-3:
        ahead = np.array([0.0, -1.0, 0.0])
    backward = -(ahead - (ahead @ up) * up)
    backward /= np.linalg.norm(backward)
    return np.stack([np.cross(up, backward), up, backward], axis=1)


@dataclass(frozen=True)
class State:
    """The unknowns.

    up: (3,) unit. slope: (2,) of the ground's normal, lean: (2,) of the bodies, radians from ``up``.
    log_distance: to the ground, of metres. log_focal: over the prior's. body: (8,) log mean stature over the
    prior's, five proportions less theirs, and the gait's rise and forward gains less one.
    Per track: log_stature (N,) over the prior's, deviation (N, 5) of the proportions, own_lean (N, 2) radians
    besides everybody's.
    """

    up: FloatArray
    slope: FloatArray
    lean: FloatArray
    log_distance: float
    log_focal: float
    body: FloatArray
    log_stature: FloatArray
    deviation: FloatArray
    own_lean: FloatArray

    def moved(self, common: FloatArray, own: FloatArray) -> State:
        """A step: common (16,) in the order of the slices below; own (N, 8), of each track."""
        up = self.up + common[GRAVITY] @ tangents(self.up)
        return State(
            up=up / np.linalg.norm(up),
            slope=self.slope + common[SLOPE],
            lean=self.lean + common[LEAN],
            log_distance=self.log_distance + common[DISTANCE],
            log_focal=self.log_focal + common[FOCAL],
            body=self.body + common[BODY],
            log_stature=self.log_stature + own[:, 0],
            deviation=self.deviation + own[:, 1 : 1 + NUM_LANDMARKS],
            own_lean=self.own_lean + own[:, 1 + NUM_LANDMARKS :],
        )

    @property
    def normal(self) -> FloatArray:
        """(3,) unit, the ground's."""
        normal = self.up + self.slope @ tangents(self.up)
        return np.asarray(normal / np.linalg.norm(normal))

    @property
    def axis(self) -> FloatArray:
        """(N, 3) unit, the bodies'."""
        axis = self.up + (self.lean + self.own_lean) @ tangents(self.up)
        return np.asarray(axis / np.linalg.norm(axis, axis=-1, keepdims=True))


GRAVITY, SLOPE, LEAN, DISTANCE, FOCAL, BODY = slice(0, 2), slice(2, 4), slice(4, 6), 6, 7, slice(8, 16)
NUM_COMMON, NUM_OWN = 16, 1 + NUM_LANDMARKS + 2
GRID = [(float(pitch), float(roll)) for pitch in range(-30, 90, 5) for roll in range(-40, 41, 8)]
FOCAL_GRID = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Degrees of pitch and roll, sigmas of focal length: finer than where Gauss-Newton finds its way from."""


def calibrate(
    observations: Sequence[FrameObservations], intrinsics: Intrinsics, config: CalibrationConfig
) -> Calibration:
    """Everything about a fixed camera that its people tell. Nobody to be seen is a warning, not an error.

    Raises CalibrationError when the focal length is given but unusable.
    """
    estimate_focal = intrinsics.source == "estimated"
    if not estimate_focal and not (intrinsics.K_rectified[0, 0] > 0 and intrinsics.K_rectified[1, 1] > 0):
        raise CalibrationError("K_rectified has no focal length: give a calibrated CameraInfo, or none at all")
    people = upright_people(observations, intrinsics, config)
    if estimate_focal:
        intrinsics = _centred(intrinsics, config)
    problem = _Problem(people, intrinsics, config, estimate_focal, config.slope_sigma)
    estimate = problem.estimate(problem.initial())
    if len(people) == 0:
        return problem.calibration(estimate)
    on_hill = replace(problem, slope_sigma=config.hill_sigma)
    hill = on_hill.estimate(estimate.state)
    if hill.slope_evidence() > config.hill_evidence:
        log.info("the ground slopes by %.1f deg", np.degrees(np.linalg.norm(hill.state.slope)))
        return on_hill.calibration(hill)
    return problem.calibration(estimate)


def statures(
    track_ids: IntArray,
    observations: Sequence[FrameObservations],
    calibration: Calibration,
    config: CalibrationConfig,
) -> tuple[FloatArray, FloatArray]:
    """Statures (N,) and their sigmas (N,), metres, barefoot, of ``track_ids`` (N,) under a known camera.

    Who is never upright has the population's mean and scatter.
    """
    mean = config.stature * np.exp(calibration.body.body[0])
    height = np.full(len(track_ids), mean)
    sigma = np.full(len(track_ids), config.stature_sigma)
    people = upright_people(observations, calibration.intrinsics, config)
    tracks = len(people.track_ids)
    if tracks == 0:
        return height, sigma
    problem = _Problem(people, calibration.intrinsics, config, False, config.slope_sigma)
    state = replace(
        calibration.body,
        log_focal=0.0,
        log_stature=np.full(tracks, calibration.body.body[0]),
        deviation=np.zeros((tracks, NUM_LANDMARKS)),
        own_lean=np.zeros((tracks, 2)),
    )
    estimate = problem.estimate(state, common_known=True)
    place = {int(track): row for row, track in enumerate(people.track_ids)}
    rows = np.array([place.get(int(track), -1) for track in track_ids])
    height[rows >= 0] = config.stature * np.exp(estimate.state.log_stature[rows[rows >= 0]])
    sigma[rows >= 0] = height[rows >= 0] * estimate.stature_sigma[rows[rows >= 0]]
    return height, sigma


def _centred(intrinsics: Intrinsics, config: CalibrationConfig) -> Intrinsics:
    focal = config.focal * max(intrinsics.width, intrinsics.height)
    K = np.array([[focal, 0.0, intrinsics.width / 2], [0.0, focal, intrinsics.height / 2], [0.0, 0.0, 1.0]])
    return replace(intrinsics, K=K, K_rectified=K)


@dataclass(frozen=True)
class _Round:
    """What is held still during one iteration: who walks where, expected errors, weights against outliers.

    landmark_weight: (n, 5); track_weight: (N,), of the prior on stature.
    """

    motion: Motion
    expected: Whitening
    landmark_weight: FloatArray
    track_weight: FloatArray


@dataclass(frozen=True)
class _System:
    """Normal equations in bordered form: the common unknowns (16), and a small block (8) for each track.

    scores: (N, 16) each track's gradient of the common unknowns; prior_gradient: (16,) their prior's.
    """

    common: FloatArray
    cross: FloatArray
    own: FloatArray
    prior_gradient: FloatArray
    scores: FloatArray
    own_gradient: FloatArray

    def reduced(self, damping: float, free: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Tracks eliminated: the free unknowns' matrix, their gradient (N, free) by track; inverse blocks."""
        own = self.own + damping * np.einsum("nii->ni", self.own)[..., None] * np.eye(NUM_OWN)
        inverse = np.linalg.inv(own)
        gain = np.einsum("nab,nbg->nag", inverse, self.cross)
        common = self.common - np.einsum("nag,nah->gh", self.cross, gain)
        common += damping * np.diag(np.diag(self.common))
        scores = self.scores - np.einsum("nag,na->ng", gain, self.own_gradient)
        return common[np.ix_(free, free)], scores[:, free], inverse

    def step(self, damping: float, free: IntArray) -> tuple[FloatArray, FloatArray]:
        """Levenberg-Marquardt: (16,) and (N, 8)."""
        matrix, scores, inverse = self.reduced(damping, free)
        common = np.zeros(NUM_COMMON)
        if len(free):
            common[free] = -np.linalg.solve(matrix, self.prior_gradient[free] + scores.sum(0))
        rest = self.own_gradient + np.einsum("nag,g->na", self.cross, common)
        return common, -np.einsum("nab,nb->na", inverse, rest)


@dataclass(frozen=True)
class _Estimate:
    """A state, the covariance (16, 16) of its common unknowns, and its statures' relative sigma (N,)."""

    state: State
    covariance: FloatArray
    stature_sigma: FloatArray
    residuals: dict[str, list[float]]

    def slope_evidence(self) -> float:
        """Sigmas between the ground and level."""
        slope = self.state.slope
        return float(np.sqrt(slope @ np.linalg.solve(self.covariance[SLOPE, SLOPE], slope)))


@dataclass(frozen=True)
class _Problem:
    """The people, the priors, and how far a state is from both."""

    people: UprightPeople
    intrinsics: Intrinsics
    config: CalibrationConfig
    estimate_focal: bool
    slope_sigma: float

    @property
    def free(self) -> IntArray:
        return np.array([i for i in range(NUM_COMMON) if i != FOCAL or self.estimate_focal])

    def stick(self, state: State) -> Stick:
        K = self.intrinsics.K_rectified.astype(float).copy()
        K[0, 0] *= np.exp(state.log_focal)
        K[1, 1] *= np.exp(state.log_focal)
        fractions = np.array(self.config.height_fractions) + state.body[1:6] + state.deviation
        return Stick(
            axis=state.axis[self.people.track],
            normal=state.normal,
            distance=float(np.exp(state.log_distance)),
            K=K,
            fractions=fractions[self.people.track],
            stature=(self.config.stature * np.exp(state.log_stature))[self.people.track],
            rise_gain=1.0 + state.body[6],
            forward_gain=1.0 + state.body[7],
        )

    def initial(self) -> State:
        """The best of a grid of pitch, roll and focal length, with the ground where people's sizes put it."""
        config, tracks = self.config, len(self.people.track_ids)

        def start(pitch: float, roll: float, log_focal: float) -> State:
            return State(
                up=-gravity_from_pitch_roll(pitch, roll),
                slope=np.zeros(2),
                lean=np.zeros(2),
                log_distance=float(np.log(config.height)),
                log_focal=log_focal,
                body=np.zeros(8),
                log_stature=np.zeros(tracks),
                deviation=np.zeros((tracks, NUM_LANDMARKS)),
                own_lean=np.zeros((tracks, 2)),
            )

        if len(self.people) == 0:
            return start(config.pitch, 0.0, 0.0)
        few = replace(self, people=self.people.thinned(config.grid_observations))
        focals = [config.focal_sigma * k for k in FOCAL_GRID] if self.estimate_focal else [0.0]
        best, best_cost = start(config.pitch, 0.0, 0.0), np.inf
        for log_focal in focals:
            for pitch, roll in GRID:
                state = start(pitch, roll, log_focal)
                state = replace(state, log_distance=few.ground_below_sizes(state))
                cost = few.robust_cost(state)
                if cost < best_cost:
                    best, best_cost = state, cost
        return best

    def ground_below_sizes(self, state: State) -> float:
        """Log of the median distance to the ground, people placed by their apparent size alone."""
        _, positions = self.errors(state, self.first_round(state), on_ground=False)
        return float(np.log(np.maximum(np.median(-positions @ state.up), self.config.lowest)))

    def rough_depth(self, state: State) -> FloatArray:
        """(n,) metres: stature over the extent of the seen landmarks."""
        seen, pixels = self.people.seen, self.people.pixels
        fractions = np.array(self.config.height_fractions)
        low = np.where(seen[..., None], pixels, np.inf).min(1)
        high = np.where(seen[..., None], pixels, -np.inf).max(1)
        extent = np.linalg.norm(high - low, axis=-1)
        share = np.where(seen, fractions, -np.inf).max(1) - np.where(seen, fractions, np.inf).min(1)
        stick = self.stick(state)
        return np.asarray(stick.K[1, 1] * stick.stature * share / np.maximum(extent, 1.0))

    def robust_cost(self, state: State) -> float:
        first = self.first_round(state)
        errors, _ = self.errors(state, first)
        scale = self.config.outlier**2
        data = scale * np.log1p((errors**2).sum(-1) / scale) * self.people.information[:, None]
        return float(data.sum() + (self.common_prior(state) ** 2).sum())

    def errors(self, state: State, held: _Round, on_ground: bool = True) -> tuple[FloatArray, FloatArray]:
        stick, weights = self.stick(state), held.landmark_weight
        return reproject(self.people, stick, held.motion, held.expected, weights, self.config, on_ground)

    def first_round(self, state: State) -> _Round:
        """Nothing known yet of who walks where."""
        return _Round(
            motion=unknown_motion(len(self.people)),
            expected=whitening(self.people, self.stick(state), self.rough_depth(state), self.config),
            landmark_weight=np.ones((len(self.people), NUM_LANDMARKS)),
            track_weight=np.ones(len(self.people.track_ids)),
        )

    def next_round(self, state: State, held: _Round) -> _Round:
        """Motion, expectations and weights from where people stand now."""
        config = self.config
        _, positions = self.errors(state, held)
        motion = motion_over_ground(self.people, positions, state.up, config)
        depth = np.maximum(positions[:, 2], config.nearest)
        expected = whitening(self.people, self.stick(state), depth, config)
        moving = replace(held, motion=motion, expected=expected)
        errors, _ = self.errors(state, moving)
        unusual = self.own_prior(state)[:, 0]
        return replace(
            moving,
            landmark_weight=1.0 / (1.0 + (errors**2).sum(-1) / config.outlier**2),
            track_weight=1.0 / (1.0 + unusual**2 / config.outlier**2),
        )

    def common_prior(self, state: State) -> FloatArray:
        """(19,) whitened distances of the common unknowns from their priors."""
        config = self.config
        pitch, roll = pitch_roll(-state.up)
        posture = self.people.body_axis.mean(0) if len(self.people) else state.up
        sigmas = np.array(
            [
                config.stature_mean_sigma / config.stature,
                *config.height_fractions_sigma,
                config.gait_sigma,
                config.gait_sigma,
            ]
        )
        return np.concatenate(
            [
                [(pitch - config.pitch) / config.pitch_sigma, roll / config.roll_sigma],
                state.slope / np.radians(self.slope_sigma),
                state.lean / np.radians(config.lean_sigma),
                [(state.log_distance - np.log(config.height)) / config.height_sigma],
                [state.log_focal / config.focal_sigma],
                tangents(state.up) @ posture / np.radians(config.posture_sigma),
                state.body / sigmas,
            ]
        )

    def own_prior(self, state: State) -> FloatArray:
        """(N, 8) whitened distances of statures, proportions and leans from the population."""
        config = self.config
        stature = (state.log_stature - state.body[0]) / (config.stature_sigma / config.stature)
        deviation = state.deviation / config.person_fractions_sigma
        own_lean = state.own_lean / np.radians(config.person_lean_sigma)
        return np.concatenate([stature[:, None], deviation, own_lean], -1)

    def parts(self, state: State, held: _Round) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weighted errors of the data (n, 10), the tracks' prior (N, 8) and the common prior (19,)."""
        errors, _ = self.errors(state, held)
        weights = np.sqrt(held.landmark_weight * self.people.information[:, None])
        own = self.own_prior(state)
        own[:, 0] *= np.sqrt(held.track_weight)
        data = (errors * weights[..., None]).reshape(len(self.people), 2 * NUM_LANDMARKS)
        return data, own, self.common_prior(state)

    def solve(self, state: State, common_known: bool = False) -> State:
        """Levenberg-Marquardt with reweighting."""
        free = self.free[:0] if common_known else self.free
        held, damping = self.first_round(state), 1e-3

        def cost(candidate: State) -> float:
            return sum(float((part**2).sum()) for part in self.parts(candidate, held))

        for _ in range(self.config.rounds):
            held = self.next_round(state, held)
            before, system = cost(state), self.system(state, held)
            for _ in range(self.config.attempts):
                common, own = system.step(damping, free)
                candidate = state.moved(common, own)
                if cost(candidate) <= before:
                    state, damping = candidate, damping / 10
                    break
                damping *= 10
            if max(np.abs(common).max(), np.abs(own).max()) < self.config.tolerance:
                break
        return state

    def system(self, state: State, held: _Round) -> _System:
        """The normal equations, by forward differences: all tracks move at once, since none sees another."""
        tracks = len(self.people.track_ids)
        base = self.parts(state, held)
        still_common, still_own = np.zeros(NUM_COMMON), np.zeros((tracks, NUM_OWN))

        def derivative(candidate: State) -> list[FloatArray]:
            moved = self.parts(candidate, held)
            return [(new - old) / STEP for new, old in zip(moved, base, strict=True)]

        by_common = [derivative(state.moved(STEP * axis, still_own)) for axis in np.eye(NUM_COMMON)]
        by_own = [derivative(state.moved(still_common, still_own + STEP * axis)) for axis in np.eye(NUM_OWN)]
        data_common, prior_common, common_common = (np.stack([d[k] for d in by_common], -1) for k in range(3))
        data_own, prior_own = (np.stack([d[k] for d in by_own], -1) for k in range(2))
        starts = np.searchsorted(self.people.track, np.arange(tracks))

        def per_track(
            equation: str, data: tuple[FloatArray, FloatArray], prior: tuple[FloatArray, FloatArray]
        ) -> FloatArray:
            summed = np.add.reduceat(np.einsum(equation, *data), starts)
            return np.asarray(summed + np.einsum(equation, *prior))

        return _System(
            common=np.tensordot(data_common, data_common, ((0, 1), (0, 1)))
            + np.tensordot(prior_common, prior_common, ((0, 1), (0, 1)))
            + common_common.T @ common_common,
            cross=per_track("nra,nrg->nag", (data_own, data_common), (prior_own, prior_common)),
            own=per_track("nra,nrb->nab", (data_own, data_own), (prior_own, prior_own)),
            prior_gradient=common_common.T @ base[2],
            scores=per_track("nrg,nr->ng", (data_common, base[0]), (prior_common, base[1])),
            own_gradient=per_track("nra,nr->na", (data_own, base[0]), (prior_own, base[1])),
        )

    def estimate(self, start: State, common_known: bool = False) -> _Estimate:
        """The best state from ``start`` on, and how sure it is."""
        if len(self.people) == 0:
            return self.prior_estimate(start)
        state = self.solve(start, common_known)
        held = self.next_round(state, self.next_round(state, self.first_round(state)))
        matrix, scores, inverse = self.system(state, held).reduced(0.0, self.free)
        covariance = np.linalg.inv(matrix)
        covariance *= self.disagreement(covariance, scores)
        return _Estimate(
            state, self.embedded(covariance), np.sqrt(inverse[:, 0, 0]), self.residual_statistics(state, held)
        )

    def prior_estimate(self, state: State) -> _Estimate:
        """What is believed of a camera that has seen nobody."""
        nobody, base = np.zeros((0, NUM_OWN)), self.common_prior(state)
        moved = [self.common_prior(state.moved(STEP * axis, nobody)) for axis in np.eye(NUM_COMMON)]
        jacobian = (np.stack(moved, -1) - base[:, None]) / STEP
        covariance = np.linalg.inv((jacobian.T @ jacobian)[self.free_block])
        return _Estimate(state, self.embedded(covariance), np.zeros(0), {})

    @property
    def free_block(self) -> tuple[IntArray, ...]:
        return np.ix_(self.free, self.free)

    def embedded(self, covariance: FloatArray) -> FloatArray:
        """(16, 16), zero where the focal length is given."""
        whole = np.zeros((NUM_COMMON, NUM_COMMON))
        whole[self.free_block] = covariance
        return whole

    def disagreement(self, covariance: FloatArray, scores: FloatArray) -> float:
        """How much more the tracks' pulls differ than independent errors would, at least 1 (sandwich)."""
        tracks = len(scores)
        if tracks < 2:
            return 1.0
        spread = covariance @ (scores.T @ scores) @ covariance * tracks / (tracks - 1)
        shown = np.isin(self.free, [0, 1, DISTANCE])
        return float(max(1.0, (np.diag(spread) / np.diag(covariance))[shown].mean()))

    def distinct_people(self) -> int:
        """At least so many: most at once. Whoever leaves and comes back is two tracks, but one stature."""
        return int(np.bincount(self.people.frame).max(initial=0)) if len(self.people) else 0

    def calibration(self, estimate: _Estimate) -> Calibration:
        """The estimate in a user's terms, and what a user should know about it."""
        config, state, covariance = self.config, estimate.state, estimate.covariance
        tracks, distinct = len(self.people.track_ids), self.distinct_people()
        population = config.stature_sigma / config.stature
        ends = config.height_fractions_sigma[0], config.height_fractions_sigma[-1]
        body = np.linalg.norm([config.stature_mean_sigma / config.stature, *ends])
        distance_variance = covariance[DISTANCE, DISTANCE]
        scale_sigma = config.height_sigma
        if tracks:
            distance_variance += population**2 * (1 / distinct - 1 / tracks)
            scale_sigma = float(np.hypot(population / np.sqrt(distinct), body))
        distance = float(np.exp(state.log_distance))
        height = distance / float(state.normal @ state.up)
        across = tangents(state.up)
        scaling = np.diag([np.exp(state.log_focal), np.exp(state.log_focal), 1.0])
        intrinsics = self.intrinsics
        if self.estimate_focal:
            K = intrinsics.K_rectified.copy()
            K[:2, :2] = scaling[:2, :2] @ K[:2, :2]
            intrinsics = replace(intrinsics, K=K, K_rectified=K)
        focal = float(intrinsics.K_rectified[0, 0])
        stature = config.stature * np.exp(state.log_stature)
        result = Calibration(
            gravity=-state.up,
            covariance=across.T @ covariance[GRAVITY, GRAVITY] @ across,
            camera_height=height,
            camera_height_sigma=height * float(np.sqrt(distance_variance)),
            scale_sigma=scale_sigma,
            ground_normal=state.normal,
            ground_distance=distance,
            slope_sigma=float(np.degrees(np.sqrt(np.trace(covariance[SLOPE, SLOPE]) / 2))),
            intrinsics=intrinsics,
            focal_estimated=self.estimate_focal,
            focal_sigma=focal * float(np.sqrt(covariance[FOCAL, FOCAL])),
            track_ids=self.people.track_ids,
            stature=stature,
            stature_sigma=stature * estimate.stature_sigma,
            body=state,
            num_people=tracks,
            num_observations=len(self.people),
            source="people" if tracks else "none",
            residuals=estimate.residuals,
        )
        return replace(result, warnings=self.warnings(result))

    def warnings(self, result: Calibration) -> tuple[str, ...]:
        config = self.config
        if result.num_people == 0:
            return ("no upright people seen: gravity and camera height are priors, nothing is measured",)
        found = []
        if result.num_people < config.few_people:
            share = 100 * result.camera_height_sigma / result.camera_height
            found.append(f"only {result.num_people} upright people: the scale is uncertain by {share:.0f} %")
        if result.gravity_sigma > config.poor_gravity:
            found.append(f"gravity is known to {result.gravity_sigma:.1f} deg only: few people, or all at one distance")
        if result.focal_estimated:
            focal = result.intrinsics.K_rectified[0, 0]
            found.append(f"no calibration: focal length {focal:.0f} ± {result.focal_sigma:.0f} px from people")
        return tuple(found)

    def residual_statistics(self, state: State, held: _Round) -> dict[str, list[float]]:
        """Per landmark, ankle to ear, across and along the upright: mean and RMS in pixels, RMS in sigmas."""
        errors, _ = self.errors(state, held)
        weights = (self.people.seen * held.landmark_weight)[..., None]
        weights = weights / np.maximum(weights.sum(0), 1e-9)
        pixels = errors * np.stack([held.expected.sigma_across, held.expected.sigma_along], -1)
        tables = {
            "mean_px": (weights * pixels).sum(0),
            "rms_px": np.sqrt((weights * pixels**2).sum(0)),
            "rms_whitened": np.sqrt((weights * errors**2).sum(0)),
        }
        return {
            f"{name}_{axis}": [float(entry) for entry in table[:, column]]
            for name, table in tables.items()
            for column, axis in enumerate(("across", "along"))
        }


STEP = 1e-6
"""Of forward differences: radians and relative lengths alike, halfway down double precision."""
