"""One typed configuration. The YAML files and the ROS parameters are made from it.

Every number says its unit and why it has its value; numbers the paper does not give are ours.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration value that cannot be used; the message says which and what to do."""


def value(default: T, unit: str, why: str, least: float | None = None) -> T:
    """A configuration field with its unit and its reason. least: the smallest that can be used; None: 0 of a count."""
    result: T = field(default=default, metadata={"unit": unit, "why": why, "least": least})
    return result


@dataclass(frozen=True)
class DetectionConfig:
    """Person detection (initialization/detection.py)."""

    model: str = value("", "path", "a NanoDet ONNX file of your own; empty: the embedded NanoDet-g")
    scales: tuple[float, ...] = value(
        (0.75, 1.25), "of the image", "two copies; (1.0, 2.0) for people below 40 px, at four times the cost"
    )
    min_confidence: float = value(0.3, "[0, 1]", "weaker boxes are mostly poles and shadows")
    min_side: float = value(4.0, "px", "slivers at the border carry no pose")
    overlap: float = value(0.5, "IoU", "boxes that share more are one person seen twice")
    interval_s: float = value(
        0.3,
        "s",
        "between detections, in which people are followed by their landmarks; newcomers wait so long; 0: each frame",
    )


@dataclass(frozen=True)
class KeypointsConfig:
    """Keypoints, landmarks and masks per person (initialization/keypoints.py)."""

    model: str = value("", "path", "a BlazePose ONNX file of your own; empty: the embedded BlazePose full")
    margin: float = value(1.25, "box sides", "crop around a person, as BlazePose was trained")
    passes: int = value(2, "passes", "at most; the second sees a centred, upright crop; both must see a person")
    settled: float = value(0.1, "crop sides", "a crop nearer to the centred, upright one needs no further pass")
    same_box: float = value(0.5, "IoU", "a new box that shares more with a followed person's is taken for its own")
    cpu_batch: int = value(1, "crops", "larger ones leave the cache: 10.5 ms a crop alone, 13.7 in eights", least=1)
    min_presence: float = value(0.3, "[0, 1]", "with it, precision 1.00 and recall .96 of boxes on vtest")
    doubtful_confidence: float = value(0.35, "[0, 1]", "below tracking.begin_confidence: begins no track")
    same_pose: float = value(0.06, "box heights", "mean keypoint distance of two boxes on one person")
    leap: float = value(0.2, "box heights", "a pose found so far from where it was expected is somebody else's")
    covered: float = value(
        0.9,
        "of a mask",
        "within those of surer people: 24 of 28 false boxes of rendered videos, between two people; 16 of 4842 others",
    )
    mask_share: float = value(
        0.5, "1", "of the way from a box's sides to its mask's: four rendered videos, errors of .020 heights, not .023"
    )
    mask_alone: float = value(0.15, "IoU", "boxes that share more keep to themselves: masks leak into people beside")
    mask_reach: float = value(0.1, "box heights", "at most of that way is believed: masks leak, and lack hidden parts")


@dataclass(frozen=True)
class TrackingConfig:
    """Association over time (initialization/tracking.py)."""

    begin_confidence: float = value(0.5, "[0, 1]", "weaker boxes continue tracks but begin none (ByteTrack)")
    confirm_hits: int = value(3, "detections", "a box that flickers for one or two frames is no person")
    recent_s: float = value(0.5, "s", "unseen for longer is lost: found again only if the clothes agree")
    memory_s: float = value(3.0, "s", "a walk behind a lamp post or another person takes less")
    weak_share: float = value(0.75, "(0, 1)", "of boxes may be weak in the long run; of a sign's, 0.9 are")
    max_trust_s: float = value(1.0, "s", "with weak_share: weak boxes alone keep a track for 3 s")
    measurement_noise: float = value(0.02, "box heights", "NanoDet's boxes jitter by 0.013 on vtest")
    degrees_of_freedom: tuple[float, ...] = value(
        (10.0, 3.0, 3.0), "1", "Student's, of centre x, y and height: occluders cut boxes from below or above"
    )
    speed: float = value(0.8, "box heights/s", "1.4 m/s of a walk over 1.7 m of height")
    acceleration: float = value(0.4, "box heights/s^1.5", "white noise: people turn within a second or two")
    height_rate: float = value(0.1, "ratio", "boxes grow and shrink more slowly than they move")
    gate: float = value(10.0, "nats, doubled", "a pair that costs more is none; a steady walk costs -20")
    appearance_weight: float = value(40.0, "nats, doubled", "two people usually differ by 0.5: 10 more")
    appearance_gate: float = value(0.5, "Bhattacharyya distance", "95% of a person's own on vtest: 0.27")
    appearance_gate_lost: float = value(0.35, "Bhattacharyya distance", "median of different people: 0.47")
    appearance_memory: float = value(0.9, "[0, 1)", "share of the old histogram kept a frame")


@dataclass(frozen=True)
class CalibrationConfig:
    """Gravity, camera height and focal length from people (initialization/gravity.py, upright.py).

    Five entries are for the middles of ankles, knees, hips, shoulders and ears, in fractions of stature.
    """

    frames: int = value(
        140,
        "frames",
        "of a live stream, before its first window: 20 s of vtest, gravity then within 1 deg of the whole's",
    )
    recording_frames: int = value(2000, "frames", "the same of a recording, where waiting costs only memory; 0: all")
    max_observations: int = value(1500, "person-frames", "bounds the time; a track's errors are correlated", least=1)
    min_confidence: float = value(0.5, "1", "landmarks below are guesses behind an occluder")
    tiny: float = value(20.0, "px", "nobody below this box height is measured: a pixel is 5 % of a stature")
    small: float = value(45.0, "px", "below, where most are larger: false and far, they bend the horizon")
    small_share: float = value(0.5, "1", "of the upper quartile: where all are small, small is no flaw")
    border: float = value(4.0, "px", "boxes that touch the image border cut feet or heads off")
    max_bend: float = value(30.0, "deg", "trunk against legs: below 15 when walking, 90 when sitting")
    height_fractions: tuple[float, ...] = value(
        (0.088, 0.308, 0.519, 0.815, 0.920),
        "stature",
        "where BlazePose marks standing people of six rendered videos; their true ankles are at .043, knees at .289",
    )
    height_fractions_sigma: tuple[float, ...] = value(
        (0.008, 0.02, 0.02, 0.015, 0.008), "stature", "a network's landmark is not a caliper's"
    )
    person_fractions_sigma: float = value(0.01, "stature", "ANSUR II: proportions between people, about 1%")
    sole: float = value(0.025, "m", "shoes lift every landmark")
    gait_rise: tuple[float, ...] = value(
        (-0.002, -0.016, -0.020, -0.025, -0.018),
        "stature",
        "walking less standing, as BlazePose marks them: 2400 and 1900 views of the same videos",
    )
    gait_forward: tuple[float, ...] = value(
        (-0.03, 0.04, -0.012, 0.008, 0.032), "stature", "64 CMU walks, less what standing has: ours, by judgement"
    )
    gait_sigma: float = value(0.3, "1", "how far another crowd's average walker may differ from these")
    rise_sigma: tuple[float, ...] = value(
        (0.02, 0.01, 0.01, 0.013, 0.017), "stature", "the CMU walks: scatter over a stride, upwards"
    )
    sway_sigma: tuple[float, ...] = value(
        (0.036, 0.03, 0.012, 0.02, 0.03), "stature", "the CMU walks: scatter over a stride, horizontally"
    )
    pixel_sigma: float = value(1.0, "px", "BlazePose on 60-100 px tall people")
    outlier: float = value(2.5, "sigma", "where Cauchy's weight is half: swapped limbs, neighbours")
    correlation_time: float = value(1.0, "s", "a stride: until then the same pose is seen from the same side")
    stature: float = value(1.69, "m", "ANSUR II, mean of men (1.756) and women (1.629)")
    stature_sigma: float = value(0.09, "m", "both sexes together")
    stature_mean_sigma: float = value(0.025, "m", "between adult populations (NCD-RisC)")
    walking_speed: float = value(1.0, "m/s", "from here on the gait offsets hold in full; linear below")
    speed_span: float = value(1.2, "s", "one stride, so that the sway cancels")
    pitch: float = value(15.0, "deg", "prior: street and surveillance cameras look slightly down")
    pitch_sigma: float = value(20.0, "deg", "weak: some seconds of walking overrule it")
    roll_sigma: float = value(8.0, "deg", "prior around zero: cameras are mounted nearly upright")
    height: float = value(4.0, "m", "prior median: between a hand-held camera and a lamp post")
    height_sigma: float = value(0.8, "log", "1.8 m to 9 m is one sigma")
    slope_sigma: float = value(0.4, "deg", "prior: level but for drainage (1 %), unless people show a hill")
    hill_sigma: float = value(5.0, "deg", "prior on a hill: streets and paths stay below 10 %")
    hill_evidence: float = value(3.5, "sigma", "believe a hill from here: 8 deg shows 4 on 20 people, vtest 2.8")
    lean_sigma: float = value(1.0, "deg", "all bodies may seem to lean alike: gait, bags, the network")
    person_lean_sigma: float = value(1.5, "deg", "how each body leans besides: bags, habits, talking")
    posture_sigma: float = value(8.0, "deg", "mean direction of 3D landmarks, biased in depth")
    focal: float = value(1.0, "longer side", "no calibration: 53 deg along it, as phones and surveillance")
    focal_sigma: float = value(0.35, "log", "no calibration: 39 to 71 deg across is one sigma")
    rounds: int = value(12, "iterations", "Gauss-Newton with reweighting settles in six to ten")
    attempts: int = value(6, "steps", "per round, damping ten times the last's: from none to plenty", least=1)
    tolerance: float = value(1e-5, "1", "a step below a thousandth of a degree and of a per cent")
    grid_observations: int = value(200, "person-frames", "for the first guess: finer than its grid")
    lowest: float = value(0.3, "m", "first guesses below the ground start from here")
    nearest: float = value(1.0, "m", "nobody is whole in an image from nearer: keeps wrong hypotheses finite")
    poor_gravity: float = value(3.0, "deg", "beyond, the ground at 30 m is off by 1.5 m: a warning says so")
    few_people: int = value(3, "people", "below, the scale is a guess about these few and a warning says so")


@dataclass(frozen=True)
class SceneConfig:
    """Scene points where no scene model gives them (initialization/scene.py)."""

    spacing: float = value(0.4, "m", "below a surface's cell of 0.5 m, so that none on the way stays empty")
    max_nodes: int = value(60000, "nodes", "100 m square at 0.4 m; beyond, the spacing doubles", least=1)
    farthest: float = value(150.0, "m", "feet seen further away are misplaced, near the horizon")
    reach: float = value(4.0, "m", "one sigma of confidence: how far from a path the ground is taken to go on")
    min_confidence: float = value(0.02, "1", "points further out say nothing and are left out")


@dataclass(frozen=True)
class MotionConfig:
    """Initial SMPL motions (initialization/motion.py)."""

    max_gap: float = value(2.0, "s", "longest occlusion to bridge; a walker may turn in more than that")
    default_stature: float = value(1.70, "m", "mean adult, for people whose stature is not known")
    default_stature_sigma: float = value(0.09, "m", "scatter of adults")
    min_confidence: float = value(0.4, "1", "torso confidence from which a frame's landmarks give a pose")

    start_share: float = value(0.5, "1", "of a lifted pose's deviation from the prior's mean: the rest is noise")

    mirror_cost: float = value(0.5, "nats", "per frame, for taking landmarks as mirrored: rare, but it comes in runs")
    facing_cost: float = value(2.0, "nats", "per frame, for walking backwards")
    walking_speed: float = value(0.8, "m/s", "from which the direction of motion tells where somebody faces")
    facing_memory: float = value(0.7, "s", "sigma of the average over time: a stride, in which the hips sway both ways")
    facing_doubt: float = value(1.0, "frames", "of walking, from which the path is believed more than the landmarks")
    hip_trust: float = value(
        0.33, "1", "weight of the hips' line, the rest is the shoulders': rendered, it is off by 24 deg, theirs by 17"
    )
    landmark_lean: float = value(
        0.5,
        "1",
        "BlazePose's people lean away by this share of the angle from above: rendered .65, vtest's trunks .4, legs .1",
    )
    landmark_legs: float = value(-0.13, "1", "as keypoint_legs, of the 3D landmarks: rendered shins -.10 to -.18")
    pose_step: float = value(0.05, "m", "mean change of a landmark between frames of a walk, and its noise")
    pose_memory: float = value(0.4, "s", "after which a pose says little about the next: a step takes 0.5 s")

    keypoint_legs: float = value(
        -0.095,
        "1",
        "relative length of BlazePose's thighs and shins, less 1: six rendered videos -.08 to -.13; vtest's look alike",
    )
    keypoint_sigma: float = value(0.025, "sqrt(box area)", "keypoint noise: 1.5 px for a person of 100 px")
    foot_trust: float = value(0.15, "1", "of heels and toes: 5 px long, 2 px of noise, often on the wrong side")
    box_sigma: float = value(0.10, "sqrt(box area)", "how well a box's top and bottom show crown and soles")
    robust_sigmas: float = value(3.0, "sigmas", "where an error starts to count as an outlier (Geman-McClure)")
    frame_size_sigma: float = value(0.06, "1", "scatter of apparent size: articulation and keypoint noise")
    body_size_sigma: float = value(0.03, "1", "body model against the person, stature aside")
    ground_sigma: float = value(
        0.12, "m", "soles against the ground: 5 cm, but lasting for a second, so that each frame counts for less"
    )
    acceleration_density: tuple[float, ...] = value(
        (0.5, 2.0, 0.5),
        "m/s^2/sqrt(Hz)",
        "world x, y, z: walkers change velocity by 0.2 m/s in a frame at 7 frames/s, and bob by 3 cm twice a second",
    )
    speed_density: float = value(4.0, "m/s/sqrt(Hz)", "10 m/s from frame to frame at 7 frames/s: nobody leaps")
    nearest: float = value(0.3, "m", "in front of the camera: nobody is nearer")
    farthest: float = value(1000.0, "m", "nobody further away can be told apart from a point")
    path_rounds: int = value(4, "rounds", "of reweighting; the fourth moves nobody by more than 2 cm")

    shape_rounds: int = value(4, "steps", "of Newton from the mean body to a stature; height is almost linear")
    passes: int = value(2, "passes", "the path solved for the pose, then both refined")
    iterations: int = value(40, "steps", "of Adam in each pass")
    momentum: float = value(0.8, "1", "Adam's first beta: few steps leave no time to coast")
    pose_rate: float = value(0.2, "latent units", "Adam's step: codes have unit variance")
    turn_rate: float = value(0.05, "rad", "Adam's step of the orientation")
    shift_rate: float = value(0.01, "m", "Adam's step of the path")
    bone_sigma: float = value(0.25, "rad", "direction of a bone in BlazePose's 3D landmarks")
    prior_weight: float = value(1.0, "1", "of the pose prior: as it was fitted")
    depth_sigma: float = value(0.05, "m", "how far the pose may pull the path along the ray")
    limb_acceleration: float = value(30.0, "m/s^2", "a walker's ankles and wrists, against the root")
    torso_acceleration: float = value(4.0, "m/s^2", "a walker's hips, shoulders and head, against the root")
    lifted: float = value(0.06, "m", "a foot this much above the other one is in the air")
    slide_sigma: float = value(0.3, "m/s", "a standing foot's speed: the heel rises while the toe stands")


@dataclass(frozen=True)
class WindowConfig:
    """The sliding window (initialization/initializer.py). Raises ConfigError where its parts do not fit."""

    length: int = value(48, "frames", "6.9 s at 7 frames/s: several steps of a walk, bounded memory")
    overlap: int = value(16, "frames", "shared with the window before: its answer, then frames it could not settle")
    pending: int = value(8, "frames", "last of a window, answered by the next: a second of future steadies them")
    min_confidence: float = value(
        0.6, "[0, 1]", "keypoints of a track's best frames, or it is left out: signs on vtest reach .49, people .72"
    )
    best_share: float = value(0.1, "of a track's frames", "who is seen well in a tenth of them is a person")
    best_frames: int = value(3, "frames", "at least, since a sign has its single lucky frame")

    def __post_init__(self) -> None:
        if not 0 <= self.pending < self.overlap < self.length:
            raise ConfigError(
                f"window.pending < window.overlap < window.length must hold, not "
                f"{self.pending} < {self.overlap} < {self.length}"
            )


@dataclass(frozen=True)
class InteractionConfig:
    """Scale, SIPC, SIS and HSIP (interaction/, Sec. 3.2)."""

    coupling: str = value(
        "hsip",
        "hsip|none|joint_distance|direct_anchor|depth_alignment",
        "what ties people to the scene; hsip is the paper's, the others are what it is compared with",
    )
    terrain: str = value("sis", "sis|plane", "the ground; plane is that of the methods that assume one")
    scale_trim: float = value(3.0, "robust sigmas", "depth ratios farther from their median are wrong tracks")
    scale_spread_floor: float = value(0.01, "ratio", "perfect agreement must not trim the last rounding error")
    cell: float = value(
        0.5, "m", "ℓ of Eq. 3: two cells a step, small enough for kerbs, large enough to meet the floor"
    )
    confidence: float = value(0.5, "0-1", "τ_c of Eq. 4: the more trusted half of a scene model's range")
    max_points: int = value(
        120_000, "points", "a denser scene is thinned to so many: its terrain then takes a fifth of a second", least=1
    )
    person_width: float = value(
        0.45, "m", "scene points seen this near a body's axis, and at its depth, are on the body"
    )
    person_height: float = value(
        1.9, "m", "a body's points end so far above its lowest vertex: a tall person's stature"
    )
    person_feet: float = value(0.1, "m", "and begin so far above it: lower ones may be ground as well as shoes")
    person_depth: float = value(
        0.12, "ratio", "and are this much nearer or farther than the initial body: four deviations"
    )
    support: float = value(
        0.06, "share", "of a block's points make a height its terrain: little ground shows below a facade"
    )
    support_points: float = value(2.0, "points", "and at least so many, weighted, since single points are ghosts")
    terrain_levels: int = value(
        5, "levels", "blocks of 0.5 to 8 m a side: the coarsest has enough points 50 m away", least=1
    )
    terrain_width: float = value(4.0, "deviations", "Tukey's weights end here: what is farther off is another surface")
    terrain_noise: float = value(
        2.0, "ratio", "a block's noise against the whole scene's, at most: more of it is a wall or a slope"
    )
    terrain_doubt: float = value(
        1.5, "deviations", "a finer level's correction below this is taken for chance; 1 to 3 were tried"
    )
    wall_height: float = value(
        1.5,
        "m",
        "ours: terrain so much above the ground around a narrow rise is a wall's, a pillar's or a tree's with a hidden "
        "foot; the surface under people is 28 cm off in 53 training views' mean, 49 without, 27 with 1, 37 with 2.5; "
        "above 1, since people stand on stages and platforms",
        least=0.0,
    )
    wall_width: float = value(
        5.0,
        "m",
        "ours: what is narrower than twice this is no ground, as points show a wall; 4 and 6 m are alike",
        least=0.0,
    )
    terrain_nodes: int = value(640_000, "cells", "400 m square at 0.5 m; beyond, cells grow", least=1)
    memory: float = value(30.0, "m", "ground this far beyond what a window shows is forgotten: bounds a drone's flight")
    spike: float = value(
        0.5, "m", "an SIPC point this far off its neighbours' median: a pole, a car, a ghost below ground"
    )
    spike_neighbours: int = value(8, "points", "the ring of cells around a cell", least=1)
    plane_slope: float = value(0.1, "m/m", "gravity prior: open ground drains at a few per cent, streets climb to ten")
    margin: float = value(10.0, "m", "SIS beyond its points and people; beyond the fade, so that its rim is the plane")
    fade_start: float = value(2.0, "m", "residuals hold this far from a point: gaps of a few cells are interpolated")
    fade_end: float = value(6.0, "m", "and are gone this far from any: a person's neighbourhood, no more")
    long_edge: float = value(3.0, "cells", "slopes up to 70 degrees are terrain, steeper faces are walls")
    max_nodes: int = value(
        160_000, "nodes", "200 m square at 0.5 m; beyond, cells grow: 2 MB as a mesh on the wire", least=1
    )
    probe_offset: float = value(0.02, "m", "v of Eq. 8: the sole of a shoe, which the barefoot body lacks")
    close_support: float = value(
        1.0, "m", "around the feet some ground must be seen, or the body hides what it stands on"
    )
    close_points: int = value(3, "points", "scene points show such ground: people of 26 px have some ten")
    close_depth: float = value(
        0.3, "ratio", "and are this much nearer or farther than the feet: ground a metre aside, seen at five degrees"
    )
    close_share: float = value(
        0.5, "share", "of the people at keyframes hide what they stand on: from here on it is close range"
    )
    close_skin: float = value(0.08, "m", "joints lie this far behind the skin that a scene model sees")
    close_range: float = value(
        0.5, "m", "the fixed range of Eq. 16 at close range: a shoulder's width, as well as depths tell there"
    )
    foothold: str = value(
        "feet",
        "feet|hsip",
        "where Eq. 18 reads the ground's height: s*, the paper's, is under the initial root, and on a slope of .25 "
        "feet that stand 0.2 m from there end 4 cm off; ours, under the lowest vertex itself: 1.3 cm",
    )
    beside: float = value(
        0.35, "m", "feet this far aside of the root are a sitter's, no step's; to know it halves sitters' errors"
    )
    min_grazing: float = value(1.0, "degrees", "flatter rays meet the surface tens of metres off for a pixel's error")
    own_depth: float = value(
        0.03, "ratio", "error of initial depths, from statures above all: 2 to 3 % once placed by keypoints"
    )
    ray_height: float = value(
        0.05,
        "m",
        "error of a ray's height where it meets the ground: poses, shoes, the surface itself; in Eq. 2, .03 to .1 "
        "are alike",
    )
    ray_angle: float = value(0.001, "rad", "error of a ray's angle: a pixel at a focal length of a thousand")
    unseen_height: float = value(0.5, "m", "error of the reference plane where the ground was not seen")
    surprise: float = value(0.15, "ratio", "a surface this much nearer or farther than the body is half believed")
    steepest: float = value(45.0, "degrees", "people stand on stairs of 35; what is steeper is a wall")
    least_trust: float = value(0.05, "share", "with less, the surface has nothing to say of a person: no proxy")
    max_depth_ratio: float = value(
        3.0, "ratio", "a surface this much nearer or farther than the body is another surface"
    )
    smoothing: float = value(0.7, "s", "half width of the filter of Eq. 13: about one stride")
    smoothing_outlier: float = value(6.0, "median deviations", "Tukey's customary width, four standard deviations")
    smoothing_floor: float = value(0.05, "m", "deviations below this are never outliers")
    bridge: float = value(2.0, "s", "longest time from a met surface for which the filter's depth is believed")
    max_range: float = value(3.0, "m", "ceiling of Eq. 16: grazing rays part without bound, and the hinge with them")
    lone_range: float = value(0.5, "m", "the range where no ray met the surface: the paper's fixed constant")
    lift_radius: float = value(
        0.1,
        "body sizes",
        "depth_alignment: a scene point this near a joint's pixel is on the body: half a torso's width",
    )


@dataclass(frozen=True)
class OptimizationConfig:
    """Energy weights and the schedule (optimization/, Sec. 3.3-3.5, Table 1)."""

    stages: int = value(
        3, "stages", "the paper's; 2 leaves the motion prior out, 1 also the poses as they are, 0 everything"
    )
    solver: str = value(
        "adam",
        "adam|lm",
        "adam is the paper's; lm is where it ends in a fifth of the time, and no nearer the truth: bodies jitter more",
    )
    deadline: float = value(
        0.0, "s", "of the clock, a window's: the best answer by then, and a warning says what was left out; 0: none"
    )
    stage1_iterations: int = value(150, "iterations", "the paper's")
    stage2_iterations: int = value(150, "iterations", "the paper's")
    stage3_iterations: int = value(300, "iterations", "the paper's")
    stage1_learning_rate: float = value(0.01, "per iteration", "the paper's")
    stage2_learning_rate: float = value(0.01, "per iteration", "the paper's")
    stage3_learning_rate: float = value(0.02, "per iteration", "the paper's")
    weight_proj: float = value(
        100.0,
        "per squared body size",
        "λ of Eq. 22, the measure of all others; 1000 lets noise of the limbs shake the root",
    )
    weight_hsip_proj: float = value(
        10.0,
        "per squared body size",
        "λ of Eq. 20: 100 adds half to the root's jitter, as feet are one noisy point",
    )
    weight_hsip_xz: float = value(
        10.0, "1/m²", "λ of Eq. 17: from a scale 30% wrong, 1 ends 1.6% off and 10 ends 1.3% off"
    )
    weight_hsip_y: float = value(
        200.0,
        "1/m²",
        "λ of Eq. 18: feet within 2 cm of the ground against keypoints; 10 leaves 3 cm, 1000 adds to jitter",
    )
    hsip_height_width: float = value(
        0.05,
        "m",
        "ours: a surface farther off pulls no harder; where it is a metre off, Stage 1's MPJPE is 108 mm, not 143",
    )
    weight_joint_distance: float = value(
        100.0, "1/m²", "interaction.coupling joint_distance: what Eq. 18's height costs, as it stands in its place"
    )
    weight_depth: float = value(
        10.0, "1/m", "interaction.coupling depth_alignment: as steep as Eq. 17 half a metre off"
    )
    weight_beta: float = value(
        0.1, "1", "λ of Eq. 25: one deviation of stature costs what 1% of a body size does in Eq. 22"
    )
    weight_tau: float = value(
        10.0,
        "1/m²",
        "λ of Eq. 23 at 10 frames/s: 5 leaves more jitter, 30 pulls the ends of a walk 5 cm off its slope",
    )
    weight_gamma: float = value(
        30.0,
        "1/rad²",
        "λ of Eq. 24: against 1, with weight_tau, Stage 1's ACCEL is 186, not 292, its MPJPE 100, not 103",
    )
    weight_theta: float = value(
        100.0, "1/rad²", "λ of Eq. 24: 30 leaves ACCEL at 203, 300 at 152, but its MPJPE is 2 mm above 100's 83"
    )
    weight_crowd: float = value(
        3.0,
        "1/m",
        "λ of Eq. 21: MPJPE of hidden people 76.4 mm in ten crowds, 79.7 with 0; in four of them 10 is as good, but "
        "PPDS and PCOD are .4 and .6 points lower, and 1 is 1 mm worse",
    )
    weight_prior_theta: float = value(
        0.3, "1", "λ of Eq. 26: what the noise of keypoints weighs it; MPJPE on the hill 101 mm with .001, 87 with .1"
    )
    stage3_smoothing: float = value(
        0.01,
        "1",
        "share of λ of Eq. 23 and 24 in Stage 3: with all, ACCEL is 94 and not 83; the prior knows a gait better",
    )
    stage3_rest: float = value(
        300.0,
        "times",
        "ours: λ of Eq. 24 is higher by it in Stage 3 for who rests, whom codes let sway: five crowds' ACCEL is 86.5, "
        "88.3 without, MPJPE 64.4 mm, 64.7 without; 1000 with .28: 84.8 and 63.9, but standing ankles slide (real)",
    )
    stage3_rest_speed: float = value(
        0.27,
        "rad/s",
        "ours: who turns their joints no faster, in the mean, rests: people who stand still seem to by .23 to .31, "
        "walkers from .35 on; with .5 ACCEL is higher",
    )
    stage3_height_width: float = value(
        0.01,
        "m",
        "ours: hsip_height_width in Stage 3, where λ of Eq. 18 is higher by as much as this is narrower: the prior "
        "lifts feet; off the ground by 3.6 mm, not 7.6 (real), 7.0, not 11.3 (five crowds), MPJPE as before",
    )
    stage3_legs_kept: float = value(
        1.0,
        "share",
        "ours: of the mean turn of a person's leg joints that Stage 2 has and no code of the prior, which bends knees: "
        "straighter knees are .1 degrees too bent in six training views' mean, 4.4 with 0, MPJPE and ACCEL the same; "
        "all joints' turns cost 6 mm",
    )
    stage3_settling: float = value(
        0.1,
        "s",
        "ours: within which bodies are set on the ground at the end of Stage 3 (settling.py), 0: they are not; off it "
        "by 2.0 mm, not 5.1 (real), while roots' vertical acceleration stays at .7 m/s² rms; with .05 it is .76",
    )
    stage3_settling_width: float = value(
        0.02, "m", "ours: who is farther off than this hardly is: gaits are 1 cm off; with .05 roots jerk at steps"
    )
    stage3_clock: bool = value(
        True,
        "true|false",
        "ours: segments run by when frames seem to have been taken (clock.py): 3.7 % of a size from the real video's "
        "keypoints, 4.0 without; where stamps are even nothing changes",
    )
    weight_motion_prior: float = value(
        0.1,
        "1",
        "λ of Eq. 27: a code near the mean bends both knees; .25 bends them a degree more and is 3 % farther from the "
        "keypoints, at the same MPJPE; 1 costs 4 mm, as people glide; 0.01 follows the keypoints' noise",
    )
    weight_contact: float = value(
        300.0, "1/m²", "λ of Eq. 28: against 100, feet skate by 21 cm/s, not 28; 1000 hides people's depth, at 18"
    )
    weight_connect: float = value(50.0, "1/m²", "λ of Eq. 29: 1 mm of MPJPE better than 10, and 2 than 1")
    weight_amc: float = value(
        1.0, "1/rad²", "λ of Eq. 30: MPJPE of bridged frames 60.8 mm, 61.2 without; 10 costs the unreliable 4 mm"
    )
    segment_overlap: float = value(
        0.5, "s", "at least, of a segment's 1.6 s: half a step, in which Hann weights fade one into the next"
    )
    segment_least: float = value(0.5, "s", "who is seen for less keeps Stage 2's motion: half a step fits any gait")
    contact_gap: float = value(0.2, "s", "between frames further apart a foot may have been lifted and put down")
    amc_gamma: float = value(
        0.1, "rad²", "γ of the soft-DTW: alignments that differ by 18 degrees rms at a tick are still alike"
    )
    amc_full_confidence: float = value(
        0.6, "[0, 1]", "mean keypoint confidence from which somebody is seen well: guessed keypoints have .5"
    )
    amc_reliable: float = value(0.7, "[0, 1]", "reliability from which somebody needs no reference")
    amc_radius: float = value(5.0, "m", "how far members of a group are apart: as crowd_radius")
    amc_speed: float = value(0.3, "m/s", "how much the speeds of a group differ: a quarter of a walk's 1.3")
    amc_heading: float = value(
        0.5, "rad", "how much the headings of a group differ: 29 degrees, initial ones are off by 17"
    )
    amc_standing: float = value(0.3, "m/s", "slower people have no heading: they sway and jitter as fast")
    weight_seam: float = value(
        30.0,
        "1",
        "betas across windows: a published body does not grow; its joints move by .5 mm at most, by 1.3 with 10",
    )
    weight_upright: float = value(
        10.0,
        "1/rad²",
        "ours: pelvises tilt by 4 to 9 degrees in mocap, initial ones by 13 to 21; 0 adds 1 to 9 mm, 20 none",
    )
    weight_initial_pose: float = value(
        100.0,
        "1/rad²",
        "ours: the initial pose is evidence of what images do not show; MPJPE 83 mm, 87 without, 30 to 100 are alike",
    )
    leg_change: float = value(
        -0.095, "1", "thighs and shins as the network marks them, against SMPL's: scripts/measure_observation_errors.py"
    )
    leg_doubt: float = value(
        0.165,
        "1",
        "ours, before Stage 1 (placement.py): mean doubt, 1 - confidence, of seen keypoints from which on legs are "
        "shorter in proportion; .06-.10 on videos; at 1.5x noise scales of 22 crowds are 3.1 % rms off, 3.7 without",
        least=0.01,
    )
    guessed: float = value(0.6, "1", "ours: what confidences of guessed keypoints do not reach: .48 in the median")
    reprojection_width: float = value(
        0.2,
        "body sizes",
        "ours: residuals beyond it pull less (Geman-McClure): five of their deviations; placed by squares, bodies are "
        "2 to 3 % farther off and MPJPE is 6 mm higher; 0.1 to 0.3 are alike",
    )
    confidence_power: float = value(
        4.0, "1", "ours: confidence to this power is a keypoint's weight: guessed ones, at .5, are four times as wrong"
    )
    pose_prior: str = value(
        "vposer", "gaussian|vposer|path", "MPJPE 83 mm and ACCEL 149 in three crowds, gaussian's 84 and 170"
    )
    weight_own_depth: float = value(
        300.0,
        "1/log²",
        "ours: placed people keep the depth they have against others to 3 %, as statures do; 0: 4.4 and 6 %",
    )
    placement_iterations: int = value(60, "iterations", "ours, before Stage 1 (placement.py): 100 change nothing")
    placement_width: float = value(
        0.12,
        "body sizes",
        "ours: as reprojection_width; with true shapes people are .1 % too far off in ten crowds' mean, with 0.2 .7 %, "
        "and with 0.08 .4 % too near",
    )
    placement_shape: float = value(
        0.82,
        "share",
        "ours: of the initial betas that is believed: where .7 of a deviation is seen with an error of .6 (rendered), "
        "the likeliest is .7 / (.7² + .6²) of what is seen; 1 believes all, .82 takes an eighth off statures' errors",
    )
    placement_learning_rate: float = value(0.02, "per iteration", "1.2 rad or log depth in all: errors are half of it")
    reprojection_reference: str = value(
        "detected",
        "initial|detected",
        "the 2D joints of Eq. 22: the window's keypoints, or the paper's projection of the initial motion, which is "
        "no evidence against it; MPJPE on the hill 77 against 127 mm",
    )
    keypoints: int = value(
        23,
        "keypoints",
        "17 is the paper's layout; feet tell where somebody faces: MPJPE 96 mm on the stairs, 99 without",
    )
    min_size: float = value(10.0, "px", "A of Eq. 22 at least: no detector finds smaller people")
    contact_height: float = value(
        0.05, "m", "joint_distance: toes and heels this near the lowest vertex touch the ground"
    )
    depth_metres: float = value(0.05, "m", "Charbonnier width of depth_alignment: far below what depth maps are off")
    stable_iterations: int = value(10, "iterations", "the scale is watched this long before it counts as stable")
    stable_change: float = value(0.001, "relative", "and may change by this much: 2 cm at 20 m")
    enough: float = value(
        0.04,
        "share",
        "of the energy: a stage that falls by less in support_refresh iterations is over; 0: never, as the paper. On "
        "the hill 35 s instead of 55, and MPJPE 62.9 mm instead of 63.9",
    )
    support_refresh: int = value(
        25, "iterations", "the lowest vertex is sought over the whole mesh this often", least=1
    )
    crowd_hidden_only: bool = value(
        True,
        "true|false",
        "ours: Eq. 21 holds only whom images do not show now or Δ before. The paper's everybody loses PCOD and PPDS "
        "for MPJPE: .4, .3 and 2.7 mm of hidden people with 1, 1.4, .8 and 5.6 mm with 3; ours nothing, .1 and 4.0 mm",
    )
    crowd_stride: int = value(
        3,
        "frames",
        "Δ of Eq. 21: MPJPE of hidden people 75.7 mm in four crowds, 76.7 with 1; 6 costs .5 of PPDS",
        least=1,
    )
    crowd_neighbours: int = value(4, "people", "a pedestrian heeds those around, few of them", least=1)
    crowd_radius: float = value(5.0, "m", "beyond the social distance of 3.6 m nobody walks together")
    crowd_width: float = value(2.0, "m", "σ of w in Eq. 21: groups walk 1 to 2 m apart")
    crowd_direction: float = value(0.1, "m", "λ_dir of Eq. 21")
    crowd_metres: float = value(
        0.2,
        "m",
        "Charbonnier width: what two walk apart in Δ is no error; changes beyond it pull with a constant force",
    )
    crowd_turn: float = value(0.05, "1-cos", "Charbonnier width of the direction: 18 degrees")
    seam_decay: float = value(1.0, "s", "a jump at the seam dies away over a stride")
    seam_turn_decay: float = value(
        0.3,
        "s",
        "ours: so does Stage 3's of the joints, whose swing it may not hold up for long: two windows' ACCEL 84.7, 86.4 "
        "without",
    )


@dataclass(frozen=True)
class VisualizationConfig:
    """Overlays, plans and markers (visualization/)."""

    opacity: float = value(0.75, "0-1", "the person behind the body stays recognisable")
    bridged_opacity: float = value(0.35, "0-1", "visibly lighter: nobody saw this body, it is bridged")
    mesh_cells: tuple[float, ...] = value(
        (0.06, 0.03, 0.0), "metres", "bodies drawn with ever smaller triangles, 0 the full mesh: 8x, 3x, 1x fewer"
    )
    triangle_size: float = value(6.0, "pixels", "the coarsest mesh with smaller triangles is drawn: looks smooth")
    supersampling: int = value(
        2, "per pixel side", "smooth outlines at 4x the fill, which is not what costs time", least=1
    )
    trail: float = value(1.5, "s", "how much of the path is drawn behind a person; the overlap of windows holds it")
    foot_radius: float = value(0.3, "metres", "ring on the ground around the support point: a person's footprint")
    text_height: float = value(0.022, "of the image's height", "legible labels that hide nobody; 0 for none")
    plan_size: float = value(9.0, "inches", "the plan's longer side, at 150 dots per inch")
    plan_mark_interval: float = value(1.0, "s", "dots on the paths: their spacing shows the speed")
    plan_margin: float = value(2.0, "metres", "ground shown around the outermost path")


@dataclass(frozen=True)
class Config:
    """Everything that can be set."""

    device: str = value("auto", "auto|cpu|cuda", "cuda where there is one")
    threads: int = value(
        1, "threads", "torch's on a CPU: its small tensors are done before a second thread has begun; 0: torch's choice"
    )
    body: str = value("", "path", "a user's SMPL file; empty: the embedded licence-free body")
    detection: DetectionConfig = DetectionConfig()
    keypoints: KeypointsConfig = KeypointsConfig()
    tracking: TrackingConfig = TrackingConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    scene: SceneConfig = SceneConfig()
    motion: MotionConfig = MotionConfig()
    window: WindowConfig = WindowConfig()
    interaction: InteractionConfig = InteractionConfig()
    optimization: OptimizationConfig = OptimizationConfig()
    visualization: VisualizationConfig = VisualizationConfig()


def flatten(config: Any, prefix: str = "") -> dict[str, tuple[Any, Field[Any]]]:
    """Dotted name → (value, field), in declaration order: what ROS calls parameters."""
    flat: dict[str, tuple[Any, Field[Any]]] = {}
    for entry in fields(config):
        current, name = getattr(config, entry.name), prefix + entry.name
        if is_dataclass(current):
            flat.update(flatten(current, name + "."))
        else:
            flat[name] = (current, entry)
    return flat


def updated(config: T, values: dict[str, Any]) -> T:
    """``config`` with dotted names replaced. Unknown names and wrong types raise ConfigError."""
    return _updated(config, values, "")


def _updated(config: T, values: dict[str, Any], prefix: str) -> T:
    changes: dict[str, Any] = {}
    known = {entry.name: entry.metadata.get("least") for entry in fields(config)}  # type: ignore[arg-type]
    grouped: dict[str, dict[str, Any]] = {}
    for name, new in values.items():
        head, _, rest = name.partition(".")
        if head not in known:
            raise ConfigError(f"unknown setting '{prefix}{head}'; `crowd4d config` lists all of them")
        current = getattr(config, head)
        if is_dataclass(current) != bool(rest):
            raise ConfigError(f"'{prefix}{name}' is {'a group' if not rest else 'not a group'} of settings")
        if rest:
            grouped.setdefault(head, {})[rest] = new
        else:
            changes[head] = _checked(prefix + head, current, new)
            _check_range(prefix + head, changes[head], known[head])
    for head, inner in grouped.items():
        changes[head] = _updated(getattr(config, head), inner, f"{prefix}{head}.")
    return replace(config, **changes)  # type: ignore[type-var]


def _checked(name: str, current: Any, new: Any) -> Any:
    if isinstance(current, tuple):
        if not isinstance(new, (list, tuple)):
            raise ConfigError(f"'{name}' takes a list, not {new!r}")
        return tuple(_checked(name, current[0], item) if current else item for item in new)
    if isinstance(current, bool) != isinstance(new, bool):
        raise ConfigError(f"'{name}' takes a {type(current).__name__}, not {new!r}")
    if isinstance(current, float) and isinstance(new, int):
        return float(new)
    if not isinstance(new, type(current)):
        raise ConfigError(f"'{name}' takes a {type(current).__name__}, not {new!r}")
    return new


def _check_range(name: str, new: Any, least: float | None) -> None:
    if isinstance(new, float) and math.isnan(new):
        raise ConfigError(f"'{name}' takes a number, not {new}")
    if least is None and isinstance(new, int):
        least = 0
    if least is not None and new < least:
        raise ConfigError(f"'{name}' is at least {least:g}, not {new}")


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """A YAML mapping of mappings, as dotted names."""
    flat: dict[str, Any] = {}
    for name, item in values.items():
        if isinstance(item, dict):
            flat.update({f"{name}.{inner}": leaf for inner, leaf in nested(item).items()})
        else:
            flat[name] = item
    return flat


def to_yaml(config: Any) -> str:
    """A configuration (any of these dataclasses) as commented YAML: each value with its unit and its reason."""
    lines: list[str] = []
    _write(config, lines, "")
    return "\n".join(lines) + "\n"


def _write(config: Any, lines: list[str], indent: str) -> None:
    for entry in fields(config):
        current = getattr(config, entry.name)
        if is_dataclass(current):
            lines.append(f"{indent}{entry.name}:  # {(type(current).__doc__ or '').splitlines()[0]}")
            _write(current, lines, indent + "  ")
        else:
            lines.append(f"{indent}# [{entry.metadata['unit']}] {entry.metadata['why']}")
            lines.append(f"{indent}{entry.name}: {_literal(current)}")


def _literal(current: Any) -> str:
    if isinstance(current, tuple):
        return "[" + ", ".join(_literal(item) for item in current) + "]"
    if isinstance(current, bool):
        return str(current).lower()
    if isinstance(current, float):
        # YAML 1.1 takes a number without a point, 1e-05, for a string.
        return repr(current) if "e" not in repr(current) or "." in repr(current) else repr(current).replace("e", ".0e")
    return f'"{current}"' if isinstance(current, str) else str(current)
