"""The motion that ships: how pelvis, trunk, head and arms go with the rhythm of walking, standing and sitting.

Amplitudes and phases are those of textbooks (Murray, Drought and Kory 1964; Perry and Burnfield 2010), quoted from
memory.
Legs and feet are not here: they follow from where the feet are planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.footsteps import Beat
from crowd4d_ros.synthetic.planting import about, axis_angle
from crowd4d_ros.window import FloatArray

SPINE = [JOINTS.index(name) - 1 for name in ("spine1", "spine2", "spine3")]
NECK, HEAD = JOINTS.index("neck") - 1, JOINTS.index("head") - 1
SHOULDERS, ELBOWS, WRISTS = (
    [JOINTS.index(f"{side}_{name}") - 1 for side in ("left", "right")] for name in ("shoulder", "elbow", "wrist")
)
OPPOSITE: FloatArray = np.array([-1.0, 1.0])
"""The left arm swings forward with the right foot."""

POSTURES: dict[str, tuple[float, tuple[float, float, float, float], tuple[float, float, float, float], float]] = {
    "arms at the sides": (0.4, (77, 2, 12, 16), (77, 2, 12, 16), 0),
    "hands in pockets": (0.12, (72, -10, 25, 38), (72, -10, 25, 38), 4),
    "hands clasped": (0.12, (74, 14, 48, 52), (74, 14, 48, 52), 4),
    "arms crossed": (0.05, (70, 30, 52, 88), (70, 34, 48, 92), 2),
    "looking at a phone": (0.1, (77, 2, 12, 16), (70, 26, 36, 102), 22),
    "a bag in one hand": (0.08, (79, 0, 5, 6), (76, 4, 14, 20), 0),
    "talking": (0.1, (70, 14, 34, 62), (72, 10, 28, 50), 0),
}
"""How people stand: name → how often, then for the left and the right arm degrees of lowering from the horizontal,
of lifting to the front, of inward turn about the upper arm and of the elbow's bend, and of the head's bow."""
GESTURING = "talking"
ON_THE_LAP: tuple[float, float, float, float] = (74, 26, 30, 58)
"""The same four angles of an arm whose hand rests on the thigh."""
WANDER_PERIODS = (2.5, 12.0)
"""seconds: what people do while nothing happens, from shifting about to looking around."""
WANDER_TERMS = 4


@dataclass(frozen=True)
class Poses:
    """body_pose: (N, S, 23, 3) axis-angle, in which the legs mean nothing. pelvis: (N, S, 3) axis-angle of the root
    against the heading. sway: (N, S) metres to the left of the path."""

    body_pose: FloatArray
    pelvis: FloatArray
    sway: FloatArray


class MotionSource(Protocol):
    """Where upper bodies come from."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    def poses(self, beat: Beat, rng: np.random.Generator) -> Poses:
        """Poses of the beat's N people at its S samples."""
        ...


@dataclass(frozen=True)
class ProceduralGait:
    """Sines of the phase, each person with ways of their own."""

    config: BodiesConfig

    @property
    def name(self) -> str:
        return "gait"

    def poses(self, beat: Beat, rng: np.random.Generator) -> Poses:
        config, people = self.config, len(beat.phase)
        stands = (1 - beat.walking) * (1 - beat.seated)
        # 1 when the left foot is in front, −1 when the right one is; and 1 when the left is in the air.
        stride, air = -np.cos(np.pi * beat.phase), np.sin(np.pi * beat.phase)
        size = beat.walking * np.sqrt(np.clip(beat.speed / config.brisk, 0, 1.5))
        drift = _wander(rng, beat, 8) * (stands + config.idle_while_seated * beat.seated)[..., None]

        def personal(mean: float, spread: float) -> FloatArray:
            return rng.normal(mean, spread, (people, 1))

        def lively() -> FloatArray:
            return np.exp(rng.normal(0, config.style_spread, (people, 1)))

        yaw = -config.pelvis_turn * lively() * size * stride + config.idle_turn * drift[..., 0]
        list_ = -config.pelvis_drop * lively() * size * air + config.idle_list * drift[..., 1]
        lean = personal(config.lean, config.lean_spread) + config.lean_with_speed * size
        lean = lean + np.degrees(np.arctan(config.lean_with_grade * beat.grade)) * beat.walking
        lean = lean + config.sit_down_lean * 4 * beat.seated * (1 - beat.seated)
        slouch = personal(config.slouch, config.slouch_spread)
        pelvis_pitch = config.pelvis_lean * lean - config.seated_tilt * beat.seated

        trunk_turn = config.trunk_turn * lively() * size * stride - yaw + config.idle_turn * drift[..., 2]
        bow, arms = self._arms(beat, stride * size, stands, drift, rng)
        look_turn = personal(0, config.look_spread) + config.idle_look * drift[..., 3]
        look_down = personal(config.head_bow, config.head_bow_spread) + bow + config.idle_nod * drift[..., 4]

        body_pose = np.zeros((*beat.phase.shape, len(JOINTS) - 1, 3))
        trunk_pitch = lean - pelvis_pitch + slouch + config.seated_slouch * beat.seated
        third = np.stack([trunk_pitch, trunk_turn, -list_], -1) / 3
        body_pose[:, :, SPINE] = np.radians(third)[:, :, None]
        head = np.stack([look_down - lean - slouch, look_turn - yaw - trunk_turn, np.zeros_like(yaw)], -1) / 2
        body_pose[:, :, [NECK, HEAD]] = np.radians(head)[:, :, None]
        body_pose[:, :, SHOULDERS + ELBOWS] = arms
        body_pose[:, :, WRISTS] = np.radians(rng.normal(0, config.wrist_spread, (people, 1, 2, 3)))
        pelvis = axis_angle(
            about(1, np.radians(yaw)) @ about(0, np.radians(pelvis_pitch)) @ about(2, np.radians(list_))
        )
        sway = -config.sway * lively() * size * air + config.idle_sway * drift[..., 1]
        return Poses(body_pose, pelvis, sway)

    def _arms(
        self, beat: Beat, swing: FloatArray, stands: FloatArray, drift: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """The bow of the head (N, S) degrees that goes with the posture, and shoulders, then elbows (N, S, 4, 3)."""
        config, people = self.config, len(beat.phase)
        share, left, right, bows = zip(*POSTURES.values(), strict=True)
        posture = rng.choice(len(POSTURES), people, p=np.array(share) / sum(share))
        standing = np.stack([np.array(left), np.array(right)], 1)[posture].astype(float)
        swapped = rng.random(people) < 0.5
        standing = np.where(swapped[:, None, None], standing[:, ::-1], standing)
        keeps = (rng.random((people, 1)) < config.posture_while_walking) * beat.walking
        held = np.clip(stands + keeps, 0, 1)
        hangs = np.array([config.arm_lowering, 0.0, config.arm_turn, config.elbow_bend])
        hangs = hangs + rng.normal(0, [config.arm_spread, 0.0, config.arm_spread, config.elbow_spread], (people, 2, 4))
        standing += rng.normal(0, config.arm_spread, (people, 2, 4))
        lap = np.array(ON_THE_LAP) + rng.normal(0, config.arm_spread, (people, 2, 4))
        held, seated = held[..., None, None], beat.seated[..., None, None]
        angles = (1 - seated) * ((1 - held) * hangs[:, None] + held * standing[:, None]) + seated * lap[:, None]

        lively = np.exp(rng.normal(0, config.style_spread, (people, 1, 2)))
        forward = OPPOSITE * swing[..., None] * lively * (1 - held[..., 0]) * (1 - seated[..., 0])
        angles[..., 1] += config.arm_swing * forward
        angles[..., 3] += config.elbow_swing * forward
        gestures = (posture == list(POSTURES).index(GESTURING))[:, None, None] * stands[..., None]
        gesture = _wander(rng, beat, 4, periods=config.gesture_periods)
        angles[..., 1] += config.gesture * gestures * gesture[..., :2]
        angles[..., 3] += config.gesture * gestures * gesture[..., 2:] + config.idle_arms * drift[..., 5:7]
        angles[..., 3] = np.maximum(angles[..., 3], config.straightest_elbow)

        lowering, lift, turn, bend = np.radians(np.moveaxis(angles, -1, 0))
        # About an axis tilted in the forearm: with the upper arm turned as far, the hand is where it was, palm back.
        tilt = np.radians(np.array(config.elbow_tilt))
        shoulder = axis_angle(about(0, -lift) @ about(2, -lowering) @ about(0, turn + tilt))
        elbow = axis_angle(about(0, -tilt) @ about(1, -bend) @ about(0, tilt))
        mirror = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]])
        bow = np.array(bows)[posture][:, None] * held[..., 0, 0]
        return bow, np.concatenate([shoulder * mirror, elbow * mirror], 2)


def _wander(
    rng: np.random.Generator, beat: Beat, channels: int, periods: tuple[float, float] = WANDER_PERIODS
) -> FloatArray:
    """(N, S, channels) smooth noise of mean 0 and variance 1: a few sines of random period and phase."""
    people, samples = beat.phase.shape
    time = np.arange(samples)[:, None] / beat.rate
    total: FloatArray = np.zeros((people, samples, channels))
    short, long = periods
    for _ in range(WANDER_TERMS):
        period = short * (long / short) ** rng.random((people, 1, channels))
        total += np.sin(2 * np.pi * (time / period + rng.random((people, 1, channels))))
    return np.asarray(total * np.sqrt(2 / WANDER_TERMS))
