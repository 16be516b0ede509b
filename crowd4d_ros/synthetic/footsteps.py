"""When each foot is in the air and where it stands: footsteps from a path, before any terrain.

The clock of walking is the ``phase``, in steps: it grows by one a step, and stands still at a whole number while the
person does. Step k is taken by the left foot if k is even; its foot is in the air while the phase runs from k + δ to
k + 1 − δ, where 2δ is the share of a step with both feet down, and then stands until step k + 2 begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.headings import forward, leftward, smoothstep
from crowd4d_ros.synthetic.truth import Activity, Paths
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

FIRST_STEP = -2
"""The steps that put the feet where they are at the beginning."""
LEFT_RIGHT: FloatArray = np.array([1.0, -1.0])
"""Where the feet are along the body's x: SMPL looks along +z, its left is +x."""
JUST_BEFORE = 1e-3
"""steps: to ask what happens when a step ends and not when the standing after it does."""


@dataclass(frozen=True)
class Route:
    """Paths in finer time steps, continued before and after the frames so that nobody begins mid-stride.

    position: (N, S, 2) metres; heading: (N, S) radians; seated: (N, S) in [0, 1], how far sat down; seat: (N, S)
    metres, the surface's height, 0 where nobody sits; rate: samples/s; frames: which samples are the frames.
    """

    position: FloatArray
    heading: FloatArray
    seated: FloatArray
    seat: FloatArray
    rate: float
    frames: slice

    @property
    def forward(self) -> FloatArray:
        """(N, S, 2) unit x and z of where the body faces."""
        return forward(self.heading)


@dataclass(frozen=True)
class Beat:
    """The rhythm of walking. All (N, S): phase in steps; speed m/s; walking, seated in [0, 1]; grade: rise over run.

    rests: (N, S) the phase at which the walk under way ends. rate: samples/s.
    """

    phase: FloatArray
    speed: FloatArray
    walking: FloatArray
    seated: FloatArray
    grade: FloatArray
    rests: FloatArray
    rate: float


@dataclass(frozen=True)
class Footprints:
    """Where step k stands, in column k − FIRST_STEP. xz: (N, K, 2) metres of the ankle; yaw: (N, K) radians.

    lift, land: (N, K) samples (not whole) at which the step's foot leaves the ground and comes back to it.
    """

    xz: FloatArray
    yaw: FloatArray
    lift: FloatArray
    land: FloatArray


def resampled(paths: Paths, fps: float, config: BodiesConfig, rng: np.random.Generator) -> Route:
    """The paths at ``config.rate`` or more. Where they are not present, people who walk go on walking for a while."""
    people, frames = paths.heading.shape
    finer = max(1, int(np.ceil(config.rate / fps)))
    margin = int(np.ceil(config.margin_s * fps)) + 1
    frame = np.arange(-margin, frames + margin)
    first = paths.present.argmax(1)[:, None]
    last = frames - 1 - paths.present[:, ::-1].argmax(1)[:, None]
    nearest = np.clip(frame, first, last)
    # Where the walk before the first frame begins is random: else all would walk in step.
    reach = config.margin_s * fps * rng.uniform(0.6, 1.0, (people, 1))
    beyond = np.clip(frame - nearest, -reach, reach)
    position = np.take_along_axis(paths.position, nearest[..., None], 1)
    second, last_but_one = np.minimum(first + 1, last), np.maximum(last - 1, first)
    row = np.arange(people)[:, None]
    entering = paths.position[row, second] - paths.position[row, first]
    leaving = paths.position[row, last] - paths.position[row, last_but_one]
    activity = np.take_along_axis(paths.activity, nearest, 1)
    beyond = np.where(activity == Activity.WALK, beyond, 0.0)
    position = position + beyond[..., None] * np.where(beyond[..., None] < 0, entering, leaving)
    heading = np.take_along_axis(paths.heading, nearest, 1)
    sits = np.repeat(activity == Activity.SIT, finer, 1)[:, : -(finer - 1) or None]
    seat = np.repeat(np.take_along_axis(paths.seat, nearest, 1), finer, 1)[:, : -(finer - 1) or None]
    rate = fps * finer
    position, heading = _finer(position, finer), _finer(heading[..., None], finer)[..., 0]
    return Route(
        position=position,
        heading=heading,
        seated=np.minimum(_sat_down(sits, rate * config.sit_s), _sat_back(sits, position, heading, finer, config)),
        seat=np.where(sits, seat, 0.0),
        rate=rate,
        frames=slice(margin * finer, (margin + frames - 1) * finer + 1, finer),
    )


def _finer(values: FloatArray, finer: int) -> FloatArray:
    """Catmull-Rom between samples (N, S, D): (N, (S − 1) finer + 1, D)."""
    slope = np.gradient(values, axis=1)
    start, end = values[:, :-1, None], values[:, 1:, None]
    leave, arrive = slope[:, :-1, None], slope[:, 1:, None]
    x = (np.arange(finer) / finer)[:, None]
    between = (
        (2 * x**3 - 3 * x**2 + 1) * start
        + (x**3 - 2 * x**2 + x) * leave
        + (3 * x**2 - 2 * x**3) * end
        + (x**3 - x**2) * arrive
    )
    return np.concatenate([between.reshape(len(values), -1, values.shape[-1]), values[:, -1:]], 1)


def _sat_down(sits: BoolArray, duration: float) -> FloatArray:
    """0 at both ends of each stretch of sitting, rising to 1 within ``duration`` samples of them."""
    index = np.arange(sits.shape[1])
    since = index - np.maximum.accumulate(np.where(sits, -1, index), 1)
    until = np.minimum.accumulate(np.where(sits, len(index), index)[:, ::-1], 1)[:, ::-1] - index
    # Who sits at the very first or last sample has sat, or will sit, for long.
    since = np.where(np.logical_and.accumulate(sits, 1), duration, since)
    until = np.where(np.logical_and.accumulate(sits[:, ::-1], 1)[:, ::-1], duration, until)
    return smoothstep(np.minimum(since, until) / duration)


def _sat_back(
    sits: BoolArray, position: FloatArray, heading: FloatArray, finer: int, config: BodiesConfig
) -> FloatArray:
    """How far (0 to 1) who sits has moved back onto the seat, where they end up the farthest back.

    It tells what the time cannot: that somebody is sitting down as the first frame is taken. Every ``finer``-th sample
    is a path's own; between them the curve may swing farther back than the seat, and after them turn away.
    """
    starts = sits & ~np.concatenate([np.zeros((len(sits), 1), bool), sits[:, :-1]], 1)
    stay = np.cumsum(starts.ravel()).reshape(sits.shape)
    first = np.concatenate([[0], np.flatnonzero(starts)])[stay]
    moved = position - position.reshape(-1, 2)[first]
    ahead = (moved * forward(heading.ravel()[first])).sum(-1)
    own = sits & (np.arange(sits.shape[1]) % finer == 0)
    back = np.full(stay.max(initial=0) + 1, np.inf)
    np.minimum.at(back, stay[own], ahead[own])
    return np.where(sits, np.clip(1 - (ahead - back[stay]) / config.sit_reach, 0, 1), 0.0)


def walking_beat(
    route: Route,
    home: FloatArray,
    grade: FloatArray,
    stature: FloatArray,
    config: BodiesConfig,
    rng: np.random.Generator,
) -> Beat:
    """The rhythm in which the feet follow ``home`` (N, S, 2), where they would stand side by side.

    grade: (N, S) rise over run along the way; stature: (N,) metres. Cadence after Grieve and Gear (1966).
    """
    rate = route.rate
    smooth = config.speed_smoothing_s * rate
    velocity = gaussian_filter1d(np.gradient(home, axis=1) * rate, smooth, axis=1, mode="nearest")
    speed = np.linalg.norm(velocity, axis=-1)
    turn = np.abs(gaussian_filter1d(np.gradient(route.heading, axis=1) * rate, smooth, axis=1, mode="nearest"))
    active = _active(home, route.heading, speed, turn, rate, config)
    own = np.exp(rng.normal(0, config.cadence_spread, (len(home), 1)))
    relative = np.maximum(speed, 1e-6) / stature[:, None]
    cadence = 2 / 60 * config.cadence * own * relative**config.cadence_exponent
    cadence *= 1 + config.cadence_on_slopes * np.abs(grade)
    cadence = np.maximum(cadence, turn / np.radians(config.turn_per_step))
    cadence = np.clip(cadence, config.slowest_cadence, config.fastest_cadence)
    phase, rests = _whole_steps(np.where(active, cadence / rate, 0.0), active)
    first = rng.integers(0, 2, (len(home), 1))
    walking = gaussian_filter1d(active.astype(float), config.change_s * rate / 2, axis=1, mode="nearest")
    return Beat(phase + first, speed, walking, route.seated, grade, rests + first, rate)


def _active(
    home: FloatArray, heading: FloatArray, speed: FloatArray, turn: FloatArray, rate: float, config: BodiesConfig
) -> BoolArray:
    """When the feet move: while ``home`` does, a moment before and after, and when it has crept away from them."""
    lead, tail, shortest = (round(s * rate) for s in (config.lead_s, config.tail_s, config.shortest_walk_s))
    moves = (speed > config.slowest) | (turn > np.radians(config.slowest_turn))
    moves = np.concatenate([moves[:, lead:], np.repeat(moves[:, -1:], lead, 1)], 1)
    active = np.zeros(moves.shape, bool)
    until: IntArray = np.zeros(len(moves), np.int64)
    at, facing = home[:, 0], heading[:, 0]
    for now in range(moves.shape[1]):
        strays = np.linalg.norm(home[:, now] - at, axis=-1) > config.stray
        strays |= np.abs(heading[:, now] - facing) > np.radians(config.stray_turn)
        go, stood = moves[:, now] | strays, until <= now
        until = np.where(go, np.maximum(until, now + np.where(stood, max(shortest, tail), tail)), until)
        active[:, now] = until > now
        at = np.where(active[:, now, None], home[:, now], at)
        facing = np.where(active[:, now], heading[:, now], facing)
    return active


def _whole_steps(advance: FloatArray, active: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Phase (N, S), its advances (N, S) scaled so that each walk has a whole number of steps, two or more; and the
    phase at which the walk under way ends."""
    starts = active & ~np.concatenate([np.zeros((len(active), 1), bool), active[:, :-1]], 1)
    walk = np.cumsum(starts.ravel()).reshape(active.shape)
    steps = np.bincount(walk.ravel(), (advance * active).ravel(), walk.max(initial=0) + 1)
    whole = np.maximum(np.rint(steps), 2.0)
    scale = np.where(steps > 0, whole / np.where(steps > 0, steps, 1.0), 0.0)
    phase = np.cumsum(advance * scale[walk], 1)
    # The sums of whole numbers of steps, without their rounding errors.
    done = np.cumsum(np.where(starts, whole[walk], 0.0), 1)
    return np.where(active, np.minimum(phase, done), done), done


def footprints(
    beat: Beat, home: FloatArray, heading: FloatArray, half_width: FloatArray, toe_out: FloatArray, config: BodiesConfig
) -> Footprints:
    """Each foot stands where ``home`` is in the middle of its stance, ``half_width`` (N, S) metres to its side.

    toe_out: (N, 2) radians, outwards.
    """
    people = len(beat.phase)
    step = np.arange(FIRST_STEP, int(np.ceil(beat.phase.max(initial=0))) + 1)
    both = config.double_support / 2

    def sample(phase: FloatArray) -> FloatArray:
        return _sample_of(beat.phase, np.broadcast_to(phase, (people, len(step))))

    ends = at_samples(beat.rests[..., None], sample(step + 0.5))[..., 0]
    rests = step >= ends - 2
    middle = sample(np.where(rests, ends - JUST_BEFORE, step + 1.5))
    yaw, width = (at_samples(values[..., None], middle)[..., 0] for values in (heading, half_width))
    side = LEFT_RIGHT[step % 2]
    xz = at_samples(home, middle) + (side * width)[..., None] * leftward(yaw)
    yaw = yaw + side * toe_out[:, step % 2]
    return Footprints(xz, yaw, lift=sample(step + both), land=sample(step + 1 - both))


def _sample_of(phase: FloatArray, wanted: FloatArray) -> FloatArray:
    """When (samples, not whole) the phase (N, S) of each person reaches ``wanted`` (N, K)."""
    people, samples = phase.shape
    far = phase.max(initial=0) + samples  # people one after another: one table, increasing throughout
    rising = phase + JUST_BEFORE**2 * np.arange(samples) + 3 * far * np.arange(people)[:, None]
    asked = np.clip(wanted, phase[:, :1], phase[:, -1:]) + 3 * far * np.arange(people)[:, None]
    at = np.interp(asked.ravel(), rising.ravel(), np.tile(np.arange(samples), people)).reshape(wanted.shape)
    return np.asarray(at)


def at_samples(values: FloatArray, sample: FloatArray) -> FloatArray:
    """Values (N, S, D) linearly at samples (N, K)."""
    below = np.clip(np.floor(sample).astype(np.int64), 0, values.shape[1] - 2)
    share = (sample - below)[..., None]
    row = np.arange(len(values))[:, None]
    return np.asarray((1 - share) * values[row, below] + share * values[row, below + 1])
