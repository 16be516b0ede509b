"""The numbers of training the priors: `crowd4d train`, kept apart from the configuration of the method."""

from __future__ import annotations

from dataclasses import dataclass

from crowd4d_ros.config import value


@dataclass(frozen=True)
class PoseTrainingConfig:
    """VPoser's training (priors/train_pose.py)."""

    steps: int = value(5000, "batches", "at most; the last thousand gain 0.1 mm")
    batch: int = value(256, "poses", "one thread's matrices are efficient from there on")
    rate: float = value(1e-3, "1", "Adam's at the start, falling along a cosine; published (from memory)")
    weight_decay: float = value(0.0, "1", "early stopping does it")
    dropout: float = value(0.0, "1", "published: 0.1, 1.2 mm worse on held-back clips after 1000 batches")
    kl_weight: float = value(
        0.002, "1", "of the divergence, nats; published: .005, 0.8 mm worse after 1000 batches; .001: long codes"
    )
    geodesic_weight: float = value(2.0, "1/rad", "of the mean angle between rotations; published (from memory)")
    joint_weight: float = value(40.0, "1/m", "of the mean distance between joints")
    input_noise: float = value(0.5, "1", "of FREEDOM, on what the encoder sees; by judgement, not compared alone")
    held_back: int = value(10, "clips", "every so many'th of the training clips decides when to stop", least=2)
    check_every: int = value(500, "batches", "between looks at the clips held back", least=1)
    patience: int = value(8, "looks", "without a better one, then it stops")


@dataclass(frozen=True)
class MotionTrainingConfig:
    """The motion prior's training (priors/train_motion.py, priors/motion_data.py)."""

    frames: int = value(25, "ticks", "with ticks_per_s, 1.6 s: a stride and a half; CMU's shortest clips just fit")
    ticks_per_s: float = value(15.0, "1/s", "joints of a walk move along lines for so long; twice vtest's frame rate")
    latent_dim: int = value(
        96, "1", "ours; 128 with a KL weight of .01: Stage 3 keeps more of Stage 2's errors (MPJPE +2 mm)"
    )
    components: int = value(
        384, "1", "principal axes the networks see and make: 17 mm of unseen walks are beyond; 23 mm with 256"
    )
    hidden: int = value(512, "units", "of two layers each in encoder and decoder: 5 MB; data are the limit")

    contact_speed: float = value(0.4, "m/s", "recorded feet that stand move by 0.05 to 0.25; swinging ones by 1 to 3.5")
    contact_height: float = value(0.06, "m", "above its lowest within contact_window: ankles rise before they leave")
    contact_window: float = value(1.0, "s", "to either side: a step or two, so that stairs have their own lowest")

    slowest: float = value(0.75, "ratio", "of the recorded pace: people in a street walk from 0.8 to 1.8 m/s")
    fastest: float = value(1.25, "ratio", "of the recorded pace")
    stature: float = value(0.07, "ratio", "one sigma of a path's size: longer legs go further by the same angles")
    posture_body: float = value(2.0, "deg", "per axis and joint, one sigma of other people's bearing: arms and trunk")
    posture_legs: float = value(1.0, "deg", "the same of pelvis and legs, whose feet must not slide for it")
    straightest: float = value(0.25, "ratio", "of a knee's recorded bend where it bends little: the clips' stand bent")
    most_bent: float = value(1.35, "ratio", "the same, the other way")
    bend_fade: float = value(40.0, "deg", "knees that bend more, of swinging legs, stay as recorded")
    still: float = value(
        0.3,
        "share",
        "of the segments in which both feet stand is slowed to nearly nothing: clips of people waiting are few",
    )
    still_pace: float = value(0.15, "ratio", "of the recorded pace, at most")

    clean: float = value(0.2, "share", "of the segments are seen without errors")
    strongest: float = value(1.4, "ratio", "all errors of a segment are multiplied by a number up to this")
    joint_error: float = value(6.0, "deg", "per axis of a joint against its parent, the same at all ticks: 10 in all")
    joint_wander: float = value(4.6, "deg", "the same, slowly changing: 8 in all")
    tilt_error: float = value(7.0, "deg", "of the whole body, per axis: 6 of tilt and 15 of lean, seen from above")
    turn_error: float = value(25.0, "deg", "of the whole body about the vertical: 27 and 23 as measured")
    pelvis_error: float = value(0.01, "m", "per axis and tick")
    pelvis_wander: float = value(0.03, "m", "per axis, slowly changing: ours, by judgement")
    wander_time: float = value(0.5, "s", "correlation time of what changes slowly, as the initializer's errors'")

    joint_scale: float = value(0.02, "m", "a joint's distance that costs 1")
    rotation_scale: float = value(0.15, "rad", "a joint's angle whose square costs 1")
    knee_scale: float = value(
        0.04,
        "rad",
        "a knee's wrong bend that costs 1; joints alone, for which it is millimetres, left straight ones 12° off",
    )
    velocity_scale: float = value(0.4, "m/s", "a joint's wrong velocity that costs 1: shaking")
    skate_scale: float = value(0.3, "m/s", "a standing foot's speed that costs 1")
    contact_weight: float = value(0.3, "1/nat", "of contacts' cross entropy, a tick and joint")
    kl_weight: float = value(
        0.02,
        "1/nat",
        "of the code's divergence from a standard normal; .01 and .003 rebuild more (walks 29 and 22 mm, not 33), but "
        "Stage 3 has use for what they do not: its MPJPE is 2 and 10 mm worse",
    )

    axes_from: int = value(12000, "segments", "drawn for the principal axes, and in the end for the codes' covariance")
    steps: int = value(3000, "batches", "four minutes on a free core")
    batch: int = value(64, "segments", "smaller ones train as far in less time")
    rate: float = value(1e-3, "1", "Adam's at the start, falling to nothing along a cosine")
    spread_rate: float = value(10.0, "ratio", "to rate, of the codes' own spread: few numbers, which start far off")
    averaging: float = value(0.998, "1", "a step's share of the running mean of the weights that is kept: 500 steps")
    held_back: int = value(10, "clips", "every so many'th of the training clips decides when to stop", least=2)
    check_every: int = value(250, "batches", "between looks at the clips held back", least=1)
    patience: int = value(6, "looks", "without a better one, then it stops")
    exclude: tuple[str, ...] = value(("directing_traffic_1",), "parts of names", "clips whose root tilts are corrupt")
    report_step: float = value(0.4, "s", "between the starts of the segments that are reported on")
