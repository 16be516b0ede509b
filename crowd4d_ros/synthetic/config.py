"""The numbers of synthetic worlds: kept apart from the configuration of the method, which must not know them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from crowd4d_ros.config import ConfigError, value


@dataclass(frozen=True)
class CameraConfig:
    """Where cameras hang and how they fly (synthetic/cameras.py).

    Pairs are ranges drawn from evenly. Heights are above the highest ground below or in the middle of the view.
    """

    candidates: int = value(12, "views", "drawn; taken is the one whose ground structures hide the least")
    room: float = value(1000.0, "m^2", "of walkable ground in view for 500 people; views with less are worth less")
    roll: float = value(1.0, "deg", "nobody hangs a camera straighter")
    person: float = value(1.7, "m", "who stands at the edge of the view is to be seen whole")
    smallest: float = value(36.0, "px", "of a person's height: nobody is sent where detectors see a smudge")

    surveillance_image: tuple[int, int] = value((1280, 720), "px", "the usual 720p of a fixed camera")
    surveillance_height: tuple[float, float] = value((4.5, 12.0), "m", "on a lamp post to under a roof")
    surveillance_distance: tuple[float, float] = value((16.0, 26.0), "m", "people of 50 to 130 px in the middle")
    surveillance_beyond: tuple[float, float] = value((0.0, 12.0), "m", "aimed so far behind the middle: near feet fit")
    surveillance_focal: tuple[float, float] = value((0.72, 1.0), "image widths", "70 to 53 deg across")

    low_height: tuple[float, float] = value((3.0, 6.0), "m", "on a traffic light: rays graze, people hide people")
    low_distance: tuple[float, float] = value((12.0, 18.0), "m", "people of 70 to 150 px in the middle")

    gigapixel_image: tuple[int, int] = value((6000, 3375), "px", "20 megapixels: at 250 m people are still 40 px")
    gigapixel_height: tuple[float, float] = value((25.0, 45.0), "m", "a roof above the houses around")
    gigapixel_distance: tuple[float, float] = value((120.0, 160.0), "m", "to the middle: the plaza ends 270 m away")
    gigapixel_focal: tuple[float, float] = value(
        (1.2, 2.4), "image widths", "45 to 24 deg across, as the place fills the image: 50 px at 240 m and more"
    )
    gigapixel_fill: float = value(0.95, "1", "share of the image's width that the walkable ground's fills")

    drone_image: tuple[int, int] = value((1920, 1080), "px", "the usual 1080p of a drone's video link")
    drone_height: tuple[float, float] = value((16.0, 28.0), "m", "above trees; people of 38 px and more in the middle")
    drone_pitch: tuple[float, float] = value((30.0, 50.0), "deg", "below the horizon: BlazePose fails on steeper views")
    drone_focal: tuple[float, float] = value((0.75, 0.95), "image widths", "67 to 56 deg across, as drones have")
    drone_period: tuple[float, float] = value((16.0, 36.0), "s", "of each axis's to and fro: a calm pilot")
    drone_speed: tuple[float, float, float] = value((2.5, 1.0, 1.5), "m/s", "at most, to the right, up and backward")
    drone_turn: float = value(2.0, "deg/s", "at most, beyond following the middle of the view, which stays in view")
    drone_nod: float = value(0.6, "deg/s", "at most, likewise")
    shake: float = value(0.12, "deg", "amplitude of what a gimbal leaves about each axis: ours, by judgement")
    shake_period: tuple[float, float] = value((0.4, 1.2), "s", "rotor vibration is faster and taken out; gusts remain")


@dataclass(frozen=True)
class PathsConfig:
    """Who walks where (synthetic/paths.py, navigation.py).

    Weidmann 1993 (speeds), Helbing and Molnár 1995 and Johansson et al. 2007 (forces), Moussaïd et al. 2010 (groups)
    are quoted from memory.
    """

    step: float = value(0.05, "s", "of the simulation: people brake within ten of them")
    warm_up: float = value(12.0, "s", "simulated before the first frame: placed people become a crowd")
    max_density: float = value(1.0, "people/m^2", "of the walkable region: from there on crowds stop and go")

    speed: float = value(1.34, "m/s", "Weidmann: mean on level ground")
    speed_sigma: float = value(0.26, "m/s", "Weidmann: scatter between people")
    speed_range: tuple[float, float] = value((0.7, 1.9), "m/s", "nobody ambles slower or runs")
    group_slowing: float = value(0.02, "m/s", "each further member; keeping together costs groups the rest")
    grades: tuple[float, ...] = value(
        (-0.5, -0.1, 0.0, 0.1, 0.5), "rise over run", "0.5 is a stair of 16 cm on 32 cm; 0.1 a steep street"
    )
    grade_speeds: tuple[float, ...] = value(
        (0.52, 1.0, 1.0, 0.88, 0.46), "of the level speed", "Weidmann: stairs 0.69 m/s down, 0.61 m/s up"
    )
    tread: float = value(0.4, "m", "heights are smoothed so far: a flight of steps feels like a slope")

    group_share: float = value(0.45, "of people", "walk with others: 30 to 70% on shopping streets")
    group_sizes: tuple[float, ...] = value((0.6, 0.25, 0.15), "of groups", "of 2, 3 and 4")
    abreast: float = value(0.7, "m", "between neighbours in a group")
    cohesion: float = value(3.0, "m/s^2", "Moussaïd's beta 2: towards a group's middle when far from it")
    gaze: float = value(2.0, "1/s/rad", "who must look back slows down: Moussaïd's beta 1 is 4, too slow here")
    vision: float = value(110.0, "deg", "either side, where others are seen: Moussaïd has 90, and members never level")
    spreading: float = value(6.0, "1/s^2", "members nearer than abreast move apart")

    relaxation: float = value(0.5, "s", "Helbing and Molnár: time to take up the wanted velocity")
    acceleration: float = value(2.0, "m/s^2", "at most, by will; braking for somebody may add as much")
    braking: float = value(1.5, "m/s^2", "each, when two are about to collide")
    repulsion: float = value(2.0, "m/s^2", "between people who would touch: at 3, walkers lose 3% more speed")
    repulsion_range: float = value(0.35, "m", "Helbing and Molnár: 0.3")
    foresight: float = value(0.8, "s", "people avoid where others will be")
    sideways: float = value(0.15, "1", "weight of what happens behind one's back")
    neighbourhood: float = value(3.0, "m", "nobody farther away is felt")
    wall_repulsion: float = value(3.0, "m/s^2", "from structures, when touching")
    wall_range: float = value(0.2, "m", "Helbing and Molnár: 0.2")
    narrow: float = value(0.2, "m", "to structures, beyond a body's half width: nearer, people slow down")
    narrow_speed: float = value(0.5, "of the speed", "when touching: between rows of seats people edge along")
    separation: float = value(0.42, "m", "between centres: shoulders turn, and 0.35 must hold at every frame")

    turn_rate: float = value(150.0, "deg/s", "at most: a turn about takes a second and a half")
    turn_time: float = value(0.3, "s", "in which a body follows its direction of walking")

    standing_share: float = value(0.3, "of groups", "stand when the simulation begins")
    stop_rate: float = value(0.015, "1/s", "a walking group stops somewhere every minute")
    stop_share: float = value(0.3, "of arrivals", "stop there for a while; the others go on elsewhere")
    stand_time: tuple[float, float] = value((3.0, 20.0), "s", "shortest, and what is added on average")
    stand_room: float = value(0.8, "m", "to structures, where people stop: not in narrow passages")
    chat_spacing: float = value(0.9, "m", "between neighbours in a circle of people talking")
    look_rate: float = value(0.12, "1/s", "somebody standing alone turns every eight seconds")
    look_turn: float = value(110.0, "deg", "at most, either way")

    sitting_share: float = value(0.4, "of people", "sit at most, however many seats there are")
    seats_taken: float = value(0.5, "of seats", "when the simulation begins")
    sit_share: float = value(0.3, "of arrivals", "look for a seat")
    sit_time: tuple[float, float] = value((5.0, 40.0), "s", "shortest, and what is added on average")
    sit_search: float = value(25.0, "m", "how far people go for a seat")
    sit_reach: float = value(0.38, "m", "from where one stands in front of a seat to where the pelvis then rests")
    sit_down: float = value(1.0, "s", "to sit down, and to stand up")
    sit_spacing: float = value(0.5, "m", "seats nearer to a taken one stay empty")
    sit_together: float = value(5.0, "m", "a group's seats from each other, at most")
    sit_approach: float = value(2.0, "m", "seats with nowhere to stand nearer, in front, cannot be reached")
    backing_speed: float = value(0.3, "m/s", "to step back towards a seat")

    entering_share: float = value(0.08, "of people", "come through a gate while the camera looks")
    leaving_share: float = value(0.15, "of choices of where to go", "are a gate")
    gate_reach: float = value(0.7, "m", "from the gate, people are gone")
    arrival: float = value(1.5, "m", "from a goal, a group has arrived")
    patience: float = value(3.0, "s", "in which people get on by progress, or they go elsewhere")
    progress: float = value(0.5, "m", "a sixth of what an amble covers in that time")

    procession_speed: float = value(1.6, "m/s", "when nothing slows it down: they catch up; .8 to 1 in the mean")
    procession_slowing: tuple[float, float] = value((0.8, 0.95), "share of the speed", "lost when all slow down: ours")
    procession_period: tuple[float, float] = value((3.0, 4.5), "s", "from one slowing down to the next: ours")
    procession_lag: float = value(0.08, "s", "scatter of when people slow down: at 0.15, ranks run into each other")
    procession_files: int = value(4, "files", "abreast, as on a pavement of 4 m")
    procession_across: float = value(0.95, "m", "between files: shoulders and a little room")
    procession_along: float = value(1.4, "m", "between ranks: 0.75 people/m^2, where crowds still walk")
    procession_wander: float = value(0.08, "m", "of everybody about their place, along and across")
    procession_wander_time: float = value(2.5, "s", "correlation time of that: some steps")

    places: int = value(24, "places", "at most, where people go to, besides gates")
    place_radius: float = value(4.0, "m", "groups going to the same place go to points so far from it")
    way: float = value(10.0, "m", "the least between goals, where there is room")
    block: float = value(0.5, "m", "between nodes of the graph of ways: as wide as a person")
    max_nodes: int = value(60000, "nodes", "0.1 s for the ways to a place; beyond, blocks grow")
    lookahead: int = value(12, "pairs of nodes", "of the way, to find the farthest in sight: 12 m")
    glance: float = value(0.35, "m", "between looks along a line of sight: thinner than any structure and its margin")
    replan: float = value(0.4, "s", "between looks for the way")
    elbow_room: float = value(0.5, "m", "ways with less room to structures count as longer")
    detour: float = value(1.5, "1", "how much longer, when touching them")


@dataclass(frozen=True)
class BodiesConfig:
    """Shapes, gait and feet (synthetic/bodies.py, footsteps.py, gait.py, planting.py).

    Murray et al. 1964, Grieve and Gear 1966, Perry and Burnfield 2010 are quoted from memory.
    """

    furthest_shape: float = value(2.5, "sigma", "beyond, the shape space is extrapolated")
    statures: tuple[float, float] = value((1.5, 1.95), "m", "adults")

    rate: float = value(30.0, "samples/s", "feet are planned at: a swing then has ten samples or more")
    margin_s: float = value(2.0, "s", "planned before and after the frames: three steps")
    speed_smoothing_s: float = value(0.1, "s", "sigma: paths have corners, people do not")
    change_s: float = value(0.3, "s", "in which standing becomes walking: half a step")
    sit_s: float = value(1.0, "s", "to sit down, and to stand up: as the paths have it")
    sit_reach: float = value(0.38, "m", "back onto the seat: as the paths have it")
    slowest: float = value(0.15, "m/s", "people who drift more slowly stand, and step when they have strayed")
    slowest_turn: float = value(20.0, "deg/s", "slower turns are made with the trunk")
    stray: float = value(0.12, "m", "from where the feet were set until they step")
    stray_turn: float = value(25.0, "deg", "from where the feet point until they step")
    lead_s: float = value(0.1, "s", "feet are lifted before the body moves")
    tail_s: float = value(0.35, "s", "the last step closes after the body has slowed down")
    shortest_walk_s: float = value(1.0, "s", "each foot moves once, one after the other")
    cadence: float = value(64.8, "strides/min", "Grieve and Gear: at one stature a second")
    cadence_exponent: float = value(0.57, "1", "Grieve and Gear, adults")
    cadence_spread: float = value(0.04, "log", "between people of one stature: Murray's 4%")
    cadence_on_slopes: float = value(1.3, "1", "shorter steps on slopes; on stairs of 0.5, at 0.65 m/s, a tread each")
    slowest_cadence: float = value(1.3, "steps/s", "slower feet look like wading")
    fastest_cadence: float = value(2.6, "steps/s", "then people run")
    turn_per_step: float = value(45.0, "deg", "on the spot, each foot turns that far")
    double_support: float = value(0.2, "steps", "both feet down: Perry's stance of 60% of the stride")

    standing_width: float = value(0.18, "m", "between the ankles: somewhat less than between the hips")
    walking_width: float = value(0.1, "m", "Murray: 8 cm between the heels' middles")
    width_spread: float = value(0.012, "m", "of half of it, between people")
    toe_out: float = value(0.0, "deg", "beyond the rest pose's, whose feet point out by 8")
    toe_out_spread: float = value(4.0, "deg", "between people and feet: Murray's 5 to 9")
    hold_search: float = value(0.18, "m", "along the foot, for a place to stand: half a tread and more")
    hold_search_step: float = value(0.02, "m", "of the search")
    hold_stiffness: float = value(0.5, "m/m^2", "18 cm further are worth 16 mm less of gap beneath the sole")
    support_iterations: int = value(6, "1", "of the reweighted least squares")
    support_tolerance: float = value(0.004, "m", "the sole's own roundness: its points carry although not in one plane")
    ankle_limit: float = value(20.0, "deg", "people stand on the edge of their feet on what is steeper")
    grade_reach: float = value(0.7, "m", "along which a slope is felt: a step")
    brisk: float = value(1.3, "m/s", "at and above it, feet roll and arms swing in full")
    strike_pitch: float = value(18.0, "deg", "toes up on landing: Perry's 20 to 25 less the toes' own")
    strike_share: float = value(0.14, "of the stance", "until the foot is flat")
    heel_off: float = value(0.5, "of the stance", "from where on the heel rises: Perry, 31% of the stride")
    push_pitch: float = value(50.0, "deg", "of the heel when the toes leave: Perry's 55 to 60")
    flat_feet: float = value(4.0, "1", "on stairs of 0.5, toes are up a third as far on landing")
    unroll: float = value(2.0, "1", "power with which the foot levels in the air: by mid-swing a quarter is left")
    least_lift: float = value(0.005, "m", "of every swing")
    swing_clearance: float = value(0.02, "m", "of the sole in mid-swing: people clear by 1 to 2 cm")
    flight_samples: int = value(14, "1", "of a swing at which it must clear the terrain")
    straightest: float = value(0.996, "of the leg", "10 deg of knee remain, as in people who stand or walk")
    deepest_crouch: float = value(0.55, "of the leg", "for a foot far away, the pelvis sinks no lower")
    swing_slack: float = value(0.3, "m", "a foot in the air does not hold the pelvis down")
    pelvis_smoothing_s: float = value(0.08, "s", "radius: people do not bump from one arc of the hip to the next")
    pelvis_smoothing_steep_s: float = value(0.2, "s", "the same on stairs, where the feet rise by more at once")
    steep: float = value(0.3, "rise over run", "from where on it is stairs; less is in between")
    knee_limit: float = value(150.0, "deg", "of flexion")
    knee_follows_foot: float = value(0.5, "[0, 1]", "knees point between body and foot")

    style_spread: float = value(0.2, "log", "of the size of every rhythmic movement, between people")
    sway: float = value(0.015, "m", "Murray: 3 cm from side to side; towards the standing foot")
    pelvis_turn: float = value(5.0, "deg", "Perry: 10 from end to end")
    pelvis_drop: float = value(3.5, "deg", "Perry: 4, on the side of the lifted foot")
    trunk_turn: float = value(4.0, "deg", "Murray: 7 from end to end, against the pelvis")
    lean: float = value(2.0, "deg", "of the trunk, forward")
    lean_spread: float = value(2.0, "deg", "between people")
    lean_with_speed: float = value(2.0, "deg", "more when brisk")
    lean_with_grade: float = value(0.25, "1", "of the slope's angle")
    pelvis_lean: float = value(0.5, "of the lean", "the pelvis's share")
    slouch: float = value(4.0, "deg", "of the spine, forward")
    slouch_spread: float = value(4.0, "deg", "between people")
    sit_down_lean: float = value(30.0, "deg", "of the trunk, half-way down or up: else people would fall back")
    seated_tilt: float = value(12.0, "deg", "backwards, of the pelvis")
    seated_slouch: float = value(10.0, "deg", "of the spine, forward")
    head_bow: float = value(6.0, "deg", "people look at the ground some metres ahead")
    head_bow_spread: float = value(6.0, "deg", "between people")
    look_spread: float = value(6.0, "deg", "to a side, between people")
    wrist_spread: float = value(6.0, "deg", "between people, each axis")
    arm_lowering: float = value(76.0, "deg", "from the horizontal: arms hang 14 off the vertical, clear of the hips")
    elbow_tilt: float = value(31.0, "deg", "of the elbow's axis off SMPL's y: the mean of recorded poses")
    arm_turn: float = value(12.0, "deg", "inwards, about the upper arm")
    elbow_bend: float = value(18.0, "deg", "Murray: 20 to 40 over a stride, with elbow_swing")
    elbow_spread: float = value(6.0, "deg", "between people")
    arm_spread: float = value(3.0, "deg", "between people, each angle")
    arm_swing: float = value(20.0, "deg", "Murray: 30 to 40 from end to end")
    elbow_swing: float = value(10.0, "deg", "more bent in front")
    straightest_elbow: float = value(4.0, "deg", "elbows do not bend backwards")
    posture_while_walking: float = value(
        0.2, "of people", "keep their hands where they had them, and do not swing them"
    )
    idle_turn: float = value(3.0, "deg", "of pelvis and trunk, standing")
    idle_list: float = value(2.0, "deg", "of the pelvis: weight goes from foot to foot")
    idle_sway: float = value(0.008, "m", "with it")
    idle_look: float = value(18.0, "deg", "of the head, from side to side")
    idle_nod: float = value(4.0, "deg", "of the head, up and down")
    idle_arms: float = value(4.0, "deg", "of the elbows")
    idle_while_seated: float = value(0.7, "1", "of what people do standing")
    mocap_stands: float = value(0.6, "of people", "with --mocap, stand as somebody recorded did; recordings are lively")
    mocap_choices: int = value(6, "cycles", "of the nearest speed, among which each person's is drawn")
    mocap_still: float = value(0.2, "m/s", "of the recorded pelvis, over half a second: it stands")
    mocap_upright: float = value(20.0, "deg", "of the recorded trunk off the vertical: neither climbs nor bends")
    mocap_straight: float = value(25.0, "deg", "a recorded stride's turn, and its way off where it faces")
    mocap_shortest_s: float = value(1.5, "s", "of recorded standing")
    mocap_speeds: tuple[float, float] = value((0.4, 2.1), "m/s", "of recorded walking; faster clips run")
    gesture: float = value(16.0, "deg", "of the arms of who talks")
    gesture_periods: tuple[float, float] = value((0.8, 3.0), "s", "of it")


@dataclass(frozen=True)
class ObservationConfig:
    """The initializer's errors (synthetic/observation.py), as docs/synthetic.md measured them.

    "sizes" are the square root of a person's box area in pixels, 50 for a pedestrian 90 px tall. Correlation times
    are the lag at which a correlation has fallen to 1/e. "rendered": scripts/measure_observation_errors.py on six
    crowds (plaza, two streets, two hills, stairs) from surveillance cameras, people of 40 to 60 px in the median; two
    figures are of the plaza and a street alone, a range of all six. Frozen: later results are judged on these.
    """

    misses: float = value(1.0, "ratio", "of the probabilities to miss somebody that the next ones give")
    miss_base: float = value(
        0.02,
        "probability",
        "per frame, of people large and in the open: with visibility, .02-.14 in all, rendered; .04 on vtest",
    )
    miss_height: float = value(
        31.5, "px", "of whom half are missed, by NanoDet at scales 0.75 and 1.25: .94 at 29 px, .13 at 40 px, rendered"
    )
    miss_height_width: float = value(0.1, "log height", "one sigma of that threshold: it is sharp")
    miss_visibility: float = value(
        0.65, "share", "visible share of a body at which half are missed: .62-.70 missed at 0.5 to 0.75, rendered"
    )
    miss_visibility_width: float = value(0.2, "share", "one sigma of that threshold")
    miss_bias: float = value(
        0.75, "share of variance", "of chance: the same for a person all the time; .03 bridged, rendered; .04 on vtest"
    )
    miss_time: float = value(0.2, "s", "correlation time of misses: runs of 0.25 s, rendered; gaps of 0.28 s on vtest")
    min_hits: int = value(3, "detections", "tracks of fewer are never confirmed: tracking.confirm_hits")
    max_gap: float = value(2.0, "s", "longest gap that is bridged: motion.max_gap")
    split: float = value(0.5, "probability", "that a gap longer than max_gap begins a track of another number")
    switch: float = value(
        0.4,
        "probability",
        "that two people who pass exchange identities: 3 per 1000 person-frames, rendered; 1 on vtest",
    )
    switch_overlap: float = value(0.3, "IoU", "two boxes that share more are an encounter, one at a time")

    false_rate: float = value(
        0.01, "people/frame", "signs that pass the screening: 0 and .017, rendered; none on vtest"
    )
    false_duration: float = value(4.0, "s", "mean time a sign is taken for a person")
    false_doubt: float = value(0.3, "1", "confidence that a sign's keypoints lack: they reach .49 on vtest, people .72")
    false_size: float = value(0.4, "log height", "a sign's height against a person's")

    box_noise: float = value(
        0.022,
        "box heights",
        "of each edge: .021-.023, rendered, most of it not jitter; NanoDet's jitter is .013 on vtest",
    )
    box_time: float = value(0.3, "s", "correlation time of the edges")
    box_cut: float = value(
        0.8, "share", "how far the box of somebody half hidden shrinks to what is visible: .67 and .82, rendered"
    )
    box_doubt: float = value(
        0.27, "1", "confidence that a clear person's box lacks: .70-.72 in the mean, rendered; .81 on vtest"
    )
    box_doubt_sigma: float = value(0.05, "1", "scatter of the same")

    keypoint_pixels: float = value(
        0.5, "px", "noise that does not shrink with the person, fitted to three bins of height, rendered"
    )
    keypoint_noise: float = value(
        0.036, "sizes", "noise that does: together 1.6 px at 35 px of height, 2.0 at 65, 3.2 at 110, rendered"
    )
    keypoint_legs: float = value(
        -0.095, "1", "thighs and shins in the image against the body's: -.105 and -.085, rendered"
    )
    keypoint_groups: tuple[float, ...] = value(
        (0.8, 0.85, 1.0, 1.4, 0.85, 0.9, 1.0, 1.1),
        "ratio",
        "of both: head, shoulders, elbows, wrists, hips, knees, ankles, feet",
    )
    keypoint_smooth: float = value(
        0.92, "share of variance", "noise that lasts, correlated .68-.76 from frame to frame, rendered"
    )
    keypoint_time: float = value(0.9, "s", "correlation time of that share: .38-.52 after half a second, rendered")
    keypoint_outlier: float = value(
        0.08, "probability", "of a visible keypoint per frame: .03-.11 beyond four sigmas in all, rendered"
    )
    keypoint_outlier_size: float = value(0.2, "sizes", "one sigma of an outlier: the length of a hand or foot")
    keypoint_hidden: float = value(0.16, "sizes", "error of keypoints that are not seen but guessed: .17-.22, rendered")
    self_hidden: float = value(0.8, "share", "of elbows and wrists behind the own trunk that are guessed too")
    no_small_toes: float = value(1.0, "share", "BlazePose has no small toes: their confidence is 0")
    exchange: float = value(
        0.035,
        "share of frames",
        "left for right, left over by the initializer's untangling, bodies too: .02-.06 face the wrong way, rendered",
    )
    keypoint_exchange: float = value(0.04, "share of frames", "the same of 2D keypoints alone")
    exchange_time: float = value(0.5, "s", "correlation time of exchanges: they come in runs")
    doubt: float = value(
        0.03, "1", "confidence that a visible keypoint lacks on average: .75 in all, rendered; torsos .97 to 1 on vtest"
    )
    doubt_limbs: float = value(
        0.2, "1", "the same of elbows, wrists, knees, ankles and feet, besides: lower quartile .75, vtest"
    )
    doubt_error: float = value(1.2, "1/sizes", "and what the keypoint's own error adds")
    doubt_person: float = value(0.07, "1", "scatter between people and over seconds, which all keypoints share")
    hidden_confidence: float = value(0.48, "1", "median of keypoints that are guessed: .48-.51 in the mean, rendered")

    landmark_noise: float = value(
        0.01, "m", "of 3D landmarks, across the ray, besides what they share with the fitted body: ours"
    )
    landmark_depth: float = value(0.02, "m", "and along it; in all .06 across and .16 along, rendered")
    landmark_time: float = value(0.5, "s", "correlation time of both")
    landmark_shin: float = value(-0.13, "1", "BlazePose's shins against the body's: -.13 and -.10, rendered")
    landmark_forearm: float = value(-0.2, "1", "the same of forearms: -.20 and -.14, rendered")
    landmark_upper_arm: float = value(0.0, "1", "and upper arms: .00 and .04, rendered")

    betas_shrunk: float = value(0.3, "share", "of each beta lost: slopes of .9 and .4, rendered, on 7 to 25 people")
    betas_noise: float = value(
        0.6, "1", "scatter of betas besides: statures spread by 2 to 3 % on level ground, 4 to 6 % on terrain, rendered"
    )
    depth_common: float = value(
        0.06, "log depth", "of all people alike: .04-.14, always too far, since legs are seen short; rendered"
    )
    depth_stature: float = value(
        0.3,
        "share",
        "of a wrong stature that becomes wrong depth; the ground tells the rest: slopes of .32-.33, rendered terrain",
    )
    depth_person: float = value(
        0.03,
        "log depth",
        "bias of a person besides: .01 on level ground, .05-.16 on terrain, rendered; the median",
    )
    depth_slow: float = value(0.0025, "log depth", "slow error: .001-.003, rendered; .009 once")
    depth_time: float = value(1.8, "s", "correlation time of that: 1.6 s, rendered")
    depth_jitter: float = value(0.00005, "log depth", "white: the initial path is smooth")
    lateral: float = value(1.2, "px", "of the root across the ray: 1.0 and 1.6, rendered")
    lateral_bias: float = value(0.7, "share of variance", "of that, the same for a person all the time")
    lateral_time: float = value(
        0.6, "s", "correlation time of the rest: roots then accelerate by 2.0 m/s2 in the mean, 2.2 to 2.5 rendered"
    )
    body_lean: float = value(15.0, "deg", "away from the camera, of bodies seen from above: 11 and 14, rendered")
    body_lean_angle: float = value(10.0, "deg", "below the horizon, from which on bodies lean so")
    body_tilt: float = value(6.0, "deg", "lean of a body besides, per axis: 6 and 8, rendered")
    body_turn: float = value(27.0, "deg", "about the vertical: 27 and 23, rendered")
    body_bias: float = value(
        0.8, "share of variance", "of tilt and turn: the same for a person all the time, .84 and .74, rendered"
    )
    body_time: float = value(0.55, "s", "correlation time of the rest: with segment_time, sets how joints shake")
    segment_tail: float = value(0.4, "log", "scatter of the size of parts' errors over time: limbs taken for others")
    segment_errors: tuple[float, ...] = value(
        (7.0, 15.5, 19.5, 20.5, 9.0, 11.0, 11.0),
        "deg",
        "chest, head, upper arms, forearms, thighs, shins and feet against the pelvis, per axis, rendered",
    )
    segment_bias: float = value(
        0.6, "share of variance", "of those: the same for a person all the time: .57 and .65, rendered"
    )
    segment_time: float = value(
        0.45, "s", "correlation time of the rest: joints have acceleration errors of 4.7 m/s2; 5.0 and 5.6 rendered"
    )
    segment_along_ray: float = value(0.9, "ratio", "along the line of sight against across it: .91 and .94, rendered")

    keyframe_interval: float = value(2.0, "s", "between the frames whose points are kept")
    grid: float = value(8.0, "px", "between scene points: a point map of a quarter million, thinned to some 7000")
    scale_range: float = value(1.1, "log", "hidden scale: uniform within a factor of 3 either way; 0: metric")
    point_noise: float = value(0.01, "log depth", "white, at point_distance: one surface scatters by per cents")
    point_distance: float = value(20.0, "m", "where point_noise holds; it grows with the square root of distance")
    point_distortion: float = value(
        0.02, "log depth", "smooth over the image: pi3 and VGGT report relative depth errors of a few per cent"
    )
    point_distortion_shared: float = value(0.8, "share of variance", "of the distortion, the same in all keyframes")
    flying: float = value(0.3, "probability", "that a point at a depth edge floats between the two depths")
    flying_edge: float = value(0.1, "log depth", "steps between neighbouring points from here on are edges")
    ghost: float = value(0.005, "probability", "that a point lies behind the surface it shows: mirrors, puddles, shade")
    ghost_depth: float = value(0.2, "log depth", "mean depth of ghosts behind the surface")
    own_points: float = value(0.8, "share", "of points on people that are taken for the scene")
    holes: float = value(0.1, "share", "of the image without a point, in patches: sky, glare, texture-less ground")
    point_doubt: float = value(0.25, "1", "confidence a mean point lacks: tau_c = 0.5 keeps the more trusted half")
    point_doubt_error: float = value(4.0, "1/log depth", "and what its own error adds")

    gravity: float = value(
        0.5,
        "deg",
        "tilt per axis: .4-.5 in all on level ground, rendered; within 1 on vtest. On terrain the initializer takes "
        "the slope for level, 3-7 deg, but points in observations come with a scene model, whose gravity is its own",
    )
    focal: float = value(0.0, "log", "calibrated; 0.1 is fair where the initializer estimates it from people")
    camera_turn: float = value(0.2, "deg/sqrt(s)", "rotation drift of a moving camera")
    camera_drift: float = value(0.01, "m/m", "position drift of a moving camera, of the distance flown")

    def scaled(self, factor: float) -> ObservationConfig:
        """All errors times ``factor``: 0 is exact, 1 these. Times, thresholds and what gives errors their shape stay.

        Probabilities and shares end at 1.
        """
        if factor < 0:
            raise ConfigError(f"errors cannot be multiplied by {factor}: give 0 for none, 1 for the measured ones")
        changes: dict[str, Any] = {}
        for entry in fields(self):
            current = getattr(self, entry.name)
            if entry.name in _SHAPES:
                continue
            if isinstance(current, tuple):
                changes[entry.name] = tuple(factor * item for item in current)
            elif entry.metadata["unit"].startswith(("share", "probability")):
                changes[entry.name] = min(factor * current, 1.0)
            else:
                changes[entry.name] = factor * current
        return replace(self, **changes)


_SHAPES = (
    "miss_base", "miss_height", "miss_visibility", "min_hits", "miss_height_width", "miss_visibility_width",
    "miss_bias", "miss_time", "max_gap", "switch_overlap", "false_duration", "false_size", "box_time",
    "keypoint_smooth", "keypoint_time", "exchange_time", "landmark_time", "depth_stature", "depth_time",
    "lateral_time", "lateral_bias", "segment_bias", "segment_time", "segment_along_ray", "body_lean_angle",
    "body_bias", "body_time", "keypoint_groups", "keyframe_interval", "grid", "point_distance",
    "point_distortion_shared", "flying_edge",
)  # fmt: skip
"""Fields of ObservationConfig that are no errors themselves."""


@dataclass(frozen=True)
class RenderConfig:
    """Pictures of synthetic worlds (synthetic/render.py)."""

    samples: int = value(16, "per pixel", "of what moves: 25 leave less grain in the shade, detectors find as many")
    mask_samples: int = value(2, "per pixel", "to find what people and their shadows change")
    background_samples: int = value(36, "per pixel", "of what stands still in front of a fixed camera: rendered once")
    sun: tuple[float, ...] = value((0.45, -1.0, -0.55), "direction", "x, y, z: afternoon, shadows fall to the right")
    sunlight: float = value(2.2, "irradiance", "against the sky's 1: a clear day, shadows a third as bright")
    shadow_reach: float = value(0.9, "person's heights", "how far a shadow falls: where a person changes the picture")
    tile: float = value(4.0, "m", "side of the ground's texture; larger ones blur, smaller ones show their repeats")
    tile_pixels: int = value(512, "px", "8 mm of ground: below a pixel from 6 m on")
    blur: float = value(0.6, "px", "sigma: what a lens and a Bayer sensor leave of an edge")
    noise: float = value(1.5, "of 255", "sigma of a sensor by daylight")
    jpeg_quality: int = value(92, "1-100", "of the images in a bag")


@dataclass(frozen=True)
class SynthesisConfig:
    """Everything that can be set of a synthetic crowd."""

    fps: float = value(10.0, "frames/s", "between the demo's 7 and a camera's 30; the method's weights were set there")
    camera: CameraConfig = CameraConfig()
    paths: PathsConfig = PathsConfig()
    bodies: BodiesConfig = BodiesConfig()
    observation: ObservationConfig = ObservationConfig()
    render: RenderConfig = RenderConfig()
