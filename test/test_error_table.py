"""Which metric sees which error. The table is the specification: every injected error moves the metrics marked x,
and no other one at all. a: in author_native only; s: in standard only; ?: it may."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from synthetic_truth import exact_body, flat_truth

from crowd4d_ros.body.skeleton import JOINT_MIRROR, JOINTS
from crowd4d_ros.evaluation.comparison import TORSO, TRACKINGS, Tracking
from crowd4d_ros.evaluation.crowds import Crowd, GroundTruth, ground_truth
from crowd4d_ros.evaluation.evaluate import evaluate
from crowd4d_ros.evaluation.meaning import MEANING
from crowd4d_ros.evaluation.metrics import PROFILES, Profile
from crowd4d_ros.window import Cameras

Array = NDArray[np.floating[Any]]

TABLE = """
error                     ppds pa_ppds pcod mpjpe pa_mpjpe wa_mpjpe w_mpjpe accel recall ghosts scale depth root world ground feet skate seam identity
everybody 2 m to the side    .       .    .     .        .        .       .     .      .      .     .     .    x     x      .  ?       .    .        .
another world, turned        .       .    .     .        .        .       .     .      .      .     .     .    .     x      .  .       .    .        .
gravity wrong by 3 degrees   .       .    .     .        .        .       .     .      .      .     .     .    .     x      x  .       .    .        .
everything 1.2 times         x       .    .     x        .        .       .     x      .      .     x     x    x     x      x  x       x    ?        .
layout alone 1.2 times       x       .    .     .        .        s       s     .      .      .     x     x    x     x      x  x       x    ?        .
each at a wrong depth        x       x    ?     .        .        s       s     .      .      .     x     x    x     x      x  x       x    ?        .
all sunk by 0.1 m            .       .    .     .        .        .       .     .      .      .     .     ?    x     x      x  x       .    .        .
a jump at the seam           .       .    .     .        .        s       s     .      .      .     .     .    x     x      .  .       x    x        .
places jitter                x       x    ?     .        .        s       s     .      .      .     ?     ?    x     x      ?  ?       x    x        .
limbs jitter                 .       .    .     x        x        x       x     x      .      .     .     .    .     .      .  .       x    .        .
limbs bent                   .       .    .     x        x        x       x     .      .      .     .     .    .     .      .  .       .    .        .
left and right swapped       .       .    .     x        x        x       x     x      .      .     .     .    .     .      .  .       x    .        .
bodies turned by 40 degrees  .       .    .     x        .        s       s     s      .      .     .     ?    x     x      .  .       ?    ?        .
somebody lost                x       x    a     a        a        a       a     ?      x      .     ?     ?    ?     ?      ?  ?       ?    ?        x
somebody who is not there    .       .    .     .        .        .       .     .      .      x     .     .    .     .      .  .       .    ?        x
two swap their numbers       .       .    .     .        .        a       a     ?      .      .     .     .    .     .      .  .       .    .        x
"""  # noqa: E501

COLUMNS = {
    "ghosts": ("false_positives",),
    "scale": ("scale_error",),
    "depth": ("depth_error",),
    "root": ("root_error",),
    "world": ("world_error",),
    "ground": ("penetration", "floating"),
    "feet": ("feet_terrain_mean",),
    "skate": ("foot_skate",),
    "seam": ("seam_jump",),
    "identity": ("idf1", "mota", "hota"),
}
SEAM, HALF = 14, 17
LIMBS = [
    row
    for row, name in enumerate(JOINTS)
    if any(part in name for part in ("knee", "ankle", "foot", "elbow", "wrist", "hand"))
]


@functools.cache
def truth() -> GroundTruth:
    return ground_truth(flat_truth(6, 30, seed=3), exact_body())


def answer() -> Crowd:
    border = np.zeros(truth().crowd.num_frames, bool)
    border[SEAM] = True
    return replace(truth().crowd, is_border=border)


def moved(crowd: Crowd, move: Callable[[Array], Array]) -> Crowd:
    """Every point (N, T, …, 3) of all bodies moved."""
    return replace(crowd, joints=move(crowd.joints), keypoints=move(crowd.keypoints), lowest=move(crowd.lowest))


def shifted(crowd: Crowd, offset: Array) -> Crowd:
    """Each body as a whole by ``offset`` (N, T, 3), metres."""
    offset = np.broadcast_to(offset, crowd.lowest.shape)
    return moved(crowd, lambda points: points + (offset if points.ndim == 3 else offset[:, :, None]))


def in_another_world(crowd: Crowd, rotation: Rotation) -> Crowd:
    """The same crowd seen by the same cameras, in a world of other axes."""
    A = rotation.as_matrix()
    cameras = Cameras(crowd.cameras.R @ A.T, crowd.cameras.t, crowd.cameras.source)
    return replace(moved(crowd, lambda points: points @ A.T), cameras=cameras)


def further(crowd: Crowd, factor: Array | float) -> Crowd:
    """Each torso ``factor`` times as far from the first camera, the bodies as they are."""
    return shifted(crowd, torsos(crowd) * (factor - 1.0))


def with_joints(crowd: Crowd, rows: list[int], change: Array) -> Crowd:
    joints = crowd.joints.copy()
    joints[:, :, rows] += change
    return replace(crowd, joints=joints)


def torsos(crowd: Crowd) -> Array:
    return np.asarray(crowd.joints[:, :, list(TORSO)].mean(2))


def turned_around(crowd: Crowd) -> Crowd:
    """Every body about the vertical through the middle of its torso."""
    A = Rotation.from_euler("y", 40, degrees=True).as_matrix()
    middle = torsos(crowd)[:, :, None]
    return replace(crowd, joints=(crowd.joints - middle) @ A.T + middle)


def without(crowd: Crowd, person: int) -> Crowd:
    valid = crowd.valid.copy()
    valid[person] = False
    return replace(crowd, valid=valid)


def with_a_ghost(crowd: Crowd) -> Crowd:
    """Nobody is there: in the sky, 3 m above person 0, and in the image."""
    up = np.array([0.0, 3.0, 0.0])
    extra = {name: getattr(crowd, name)[:1] + up for name in ("joints", "keypoints", "lowest")}
    extra |= {"boxes": crowd.boxes[:1] - [0, 100.0, 0, 0], "track_ids": np.array([99])}
    extra |= {name: getattr(crowd, name)[:1] for name in ("valid", "observed", "clearance")}
    return replace(crowd, **{name: np.concatenate([getattr(crowd, name), more]) for name, more in extra.items()})


def with_swapped_numbers(crowd: Crowd, first: int, second: int) -> Crowd:
    order = np.arange(crowd.num_people)
    order[[first, second]] = order[[second, first]]
    names = ("joints", "keypoints", "lowest", "boxes", "valid", "observed", "clearance")
    late = np.arange(crowd.num_frames) >= HALF

    def swapped(values: NDArray[Any]) -> NDArray[Any]:
        return np.where(late.reshape(-1, *[1] * (values.ndim - 2)), values[order], values)

    return replace(crowd, **{name: swapped(getattr(crowd, name)) for name in names})


def noise(*shape: int, scale: float) -> Array:
    return np.asarray(np.random.default_rng(7).normal(scale=scale, size=shape))


def jumped(crowd: Crowd) -> Crowd:
    late = np.arange(crowd.num_frames) >= SEAM
    return shifted(crowd, late[:, None] * np.array([0.3, 0.0, 0.0]))


def size(crowd: Crowd) -> tuple[int, int]:
    return crowd.num_people, crowd.num_frames


ERRORS: dict[str, Callable[[Crowd], Crowd]] = {
    "everybody 2 m to the side": lambda c: shifted(c, np.array([2.0, 0, 0])),
    "another world, turned": lambda c: in_another_world(c, Rotation.from_euler("y", 50, degrees=True)),
    "gravity wrong by 3 degrees": lambda c: in_another_world(c, Rotation.from_euler("x", 3, degrees=True)),
    "everything 1.2 times": lambda c: moved(c, lambda points: 1.2 * points),
    "layout alone 1.2 times": lambda c: further(c, 1.2),
    "each at a wrong depth": lambda c: further(c, 1.0 + noise(c.num_people, 1, 1, scale=0.05)),
    "all sunk by 0.1 m": lambda c: shifted(c, np.array([0, -0.1, 0])),
    "a jump at the seam": jumped,
    "places jitter": lambda c: shifted(c, noise(*size(c), 3, scale=0.05) * [1, 0, 1]),
    "limbs jitter": lambda c: with_joints(c, LIMBS, noise(*size(c), len(LIMBS), 3, scale=0.05)),
    "limbs bent": lambda c: with_joints(c, LIMBS, noise(c.num_people, 1, len(LIMBS), 3, scale=0.05)),
    "left and right swapped": lambda c: replace(c, joints=c.joints[:, :, list(JOINT_MIRROR)]),
    "bodies turned by 40 degrees": turned_around,
    "somebody lost": lambda c: without(c, 2),
    "somebody who is not there": with_a_ghost,
    "two swap their numbers": lambda c: with_swapped_numbers(c, 0, 1),
}


def rows() -> list[tuple[str, dict[str, str]]]:
    header, *lines = TABLE.strip().splitlines()
    columns = header.split()[1:]
    marks = [line.split()[-len(columns) :] for line in lines]
    names = [" ".join(line.split()[: -len(columns)]) for line in lines]
    return [(name, dict(zip(columns, mark, strict=True))) for name, mark in zip(names, marks, strict=True)]


@functools.cache
def perfect(profile: Profile) -> dict[str, float]:
    return evaluate(answer(), truth(), profile).values


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("error", "marks"), rows(), ids=[name for name, _ in rows()])
def test_an_error_moves_what_should_see_it_and_nothing_else(
    profile: Profile, error: str, marks: dict[str, str]
) -> None:
    who_is_whom = error.startswith(("somebody", "two"))
    values = evaluate(ERRORS[error](answer()), truth(), profile, "detected" if who_is_whom else "ids").values
    for column, mark in marks.items():
        names = COLUMNS.get(column, (column,))
        change = max(abs(values[name] - perfect(profile)[name]) for name in names)
        if mark == "x" or mark == profile[0]:
            assert change > 1e-3, f"{column} does not see: {error}"
        elif mark != "?":
            assert change < 1e-7, f"{column} sees {change:.3g} of: {error}"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("tracking", TRACKINGS)
def test_the_truth_is_perfect(profile: Profile, tracking: Tracking) -> None:
    values = evaluate(truth().crowd, truth(), profile, tracking).values
    ones = {name for name, meaning in MEANING.items() if meaning.better == "up"}
    of_one_side_alone = {"seam_jump", "seam_jump_elsewhere", "hidden_share"}
    not_known = {"feet_surface", "feet_surface_mean", "bridged_drift"}
    for name, value in values.items():
        if name not in of_one_side_alone | not_known:
            assert value == pytest.approx(1.0 if name in ones else 0.0, abs=1e-6), name


@pytest.mark.parametrize("profile", PROFILES)
def test_a_similarity_of_the_whole_crowd_moves_ppds_alone_of_the_layout(profile: Profile) -> None:
    A = Rotation.from_euler("xyz", [10, 40, -5], degrees=True).as_matrix()
    crowd = moved(answer(), lambda points: 0.9 * points @ A.T + [3.0, 1.0, -2.0])
    values = evaluate(crowd, truth(), profile, "ids").values
    assert values["ppds"] == pytest.approx(0.9)
    assert values["scale_error"] == pytest.approx(-0.1)
    for name in ("pa_mpjpe", "wa_mpjpe", "w_mpjpe"):
        assert values[name] == pytest.approx(0.0, abs=1e-6)
    assert values["pa_ppds"] == pytest.approx(1.0)


def test_a_lost_person_costs_what_the_authors_make_it_cost() -> None:
    values = evaluate(without(answer(), 2), truth(), "author_native").values
    assert values["recall"] == values["ppds"] == values["pcod"] == pytest.approx(5 / 6)
    for name in ("mpjpe", "pa_mpjpe", "wa_mpjpe", "w_mpjpe"):
        assert values[name] == pytest.approx(150.0 / 6)
