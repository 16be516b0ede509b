"""Between detections people are followed by their landmarks: nobody is lost by it, and nobody is found too late."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from crowd4d_ros.config import Config, DetectionConfig
from crowd4d_ros.initialization import masks
from crowd4d_ros.initialization.detection import Detections, Image, box_iou
from crowd4d_ros.initialization.following import Followed, towards_masks
from crowd4d_ros.initialization.keypoints import Crops, Poses
from crowd4d_ros.initialization.perception import Perception, covered
from crowd4d_ros.window import NUM_KEYPOINTS, FloatArray, Frame, FrameObservations, IntArray, Intrinsics

FPS, SIZE = 10, (320, 240)
INTERVAL = 3
"""frames from one detection to the next."""
WIDTH, HEIGHT = 20.0, 60.0
SHAPE = np.random.default_rng(0).uniform(0.1, 0.9, (NUM_KEYPOINTS, 2))
"""Keypoints in a box."""
CONFIG = replace(Config(), detection=DetectionConfig(interval_s=INTERVAL / FPS))
CONFIRM = CONFIG.tracking.confirm_hits


@dataclass
class Scene:
    """Stands in for both networks: knows where everybody is. Who stands left of 0 is not there.

    left: (people, frames) pixels, the box's; confidence: (people,). looks: how many crops each frame was asked for.
    """

    left: FloatArray
    confidence: FloatArray
    frame: int = 0
    detected_in: list[int] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    @property
    def boxes(self) -> FloatArray:
        here = self.left[:, self.frame]
        top = 20 + 70.0 * np.arange(len(here))
        return np.stack([here, top, np.full(len(here), WIDTH), np.full(len(here), HEIGHT)], -1)

    @property
    def present(self) -> IntArray:
        return np.flatnonzero(self.left[:, self.frame] >= 0)

    def detect(self, image: Image) -> Detections:
        self.detected_in.append(self.frame)
        return Detections(self.boxes[self.present], self.confidence[self.present])

    def estimate(self, image: Image, crops: Crops) -> Poses:
        self.looks[-1] += len(crops.size)
        boxes = self.boxes[self.present]
        apart = np.linalg.norm(boxes[None, :, :2] + boxes[None, :, 2:] / 2 - crops.center[:, None], axis=-1)
        nearest = apart.argmin(-1) if len(boxes) else np.zeros(len(crops.size), int)
        seen = apart.min(-1, initial=np.inf) < HEIGHT / 2
        boxes = boxes[nearest] if len(boxes) else np.zeros((len(crops.size), 4))
        return Poses(
            keypoints_2d=boxes[:, None, :2] + SHAPE * boxes[:, None, 2:],
            confidence=np.where(seen[:, None], 0.9, 0.0) * np.ones(NUM_KEYPOINTS),
            landmarks_3d=np.zeros((len(boxes), NUM_KEYPOINTS, 3)),
            presence=np.where(seen, 0.9, 0.0),
            masks=tuple(masks.encode(np.zeros(SIZE[::-1], bool)) for _ in boxes),
            aims=Crops.around(boxes, CONFIG.keypoints.margin),
        )


def perception(scene: Scene, config: Config = CONFIG) -> Perception:
    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    return Perception(config, Intrinsics(*SIZE, K, np.zeros(5), "plumb_bob", K), scene, scene)


def watch(scene: Scene, looking: Perception, start: int = 0, stop: int | None = None) -> list[FrameObservations]:
    seen, picture = [], np.zeros((*SIZE[::-1], 3), np.uint8)
    for index in range(start, stop or scene.left.shape[1]):
        scene.frame = index
        scene.looks.append(0)
        seen.append(looking.observe(Frame(picture, scene.frame * 10**9 // FPS, scene.frame)))
    return seen


def walkers(frames: int = 24) -> Scene:
    time = np.arange(frames)
    return Scene(np.stack([20 + 4.0 * time, 250 - 3.0 * time, np.full(frames, 100.0)]), np.full(3, 0.9))


def test_people_are_detected_every_interval_and_seen_in_every_frame() -> None:
    scene = walkers()
    looking = perception(scene)
    seen = watch(scene, looking)
    assert scene.detected_in == list(range(0, 24, INTERVAL))
    assert [len(frame.track_ids) for frame in seen] == [0] * (CONFIRM - 1) + [3] * (25 - CONFIRM)
    assert len({tuple(sorted(frame.track_ids)) for frame in seen[CONFIRM:]}) == 1
    assert (looking.frames, looking.detected, looking.lost) == (24, 8, 0)


def test_boxes_go_with_the_landmarks() -> None:
    scene = walkers()
    seen = watch(scene, perception(scene))
    for frame in seen[CONFIRM:]:
        scene.frame = frame.index
        overlap = box_iou(scene.boxes, frame.boxes)
        np.testing.assert_allclose(overlap.max(0), 1.0, atol=1e-6)


def test_every_frame_is_detected_in_where_there_is_no_interval() -> None:
    scene = walkers()
    watch(scene, perception(scene, replace(CONFIG, detection=DetectionConfig(interval_s=0.0))))
    assert scene.detected_in == list(range(24))


@pytest.mark.parametrize("come", range(6, 6 + INTERVAL))
def test_a_newcomer_is_looked_at_within_an_interval(come: int) -> None:
    scene = walkers()
    scene.left[2, :come] = -1
    seen = watch(scene, perception(scene))
    first = next(frame.index for frame in seen if len(frame.track_ids) == 3)
    assert first < come + INTERVAL + CONFIRM - 1


def test_who_is_lost_is_looked_for_at_once_and_only_then() -> None:
    scene = walkers()
    gone = 2 * INTERVAL + 1
    scene.left[2, gone:] = -1
    looking = perception(scene)
    seen = watch(scene, looking, stop=3 * INTERVAL)
    assert scene.detected_in == [0, INTERVAL, 2 * INTERVAL, gone]
    assert looking.lost == 1
    assert [len(frame.track_ids) for frame in seen[gone - 1 :]] == [3, 2, 2]
    assert scene.looks[gone] == 3, "those who are still there are not looked at again"


def test_a_weak_box_is_looked_at_only_where_somebody_is_expected() -> None:
    scene = walkers(2 * INTERVAL)
    scene.confidence[1] = 0.4
    watch(scene, perception(scene))
    assert max(scene.looks) == 2
    scene = walkers(2 * INTERVAL + 1)
    looking = perception(scene)
    watch(scene, looking, stop=2 * INTERVAL)
    scene.confidence[1] = 0.4
    assert len(watch(scene, looking, start=2 * INTERVAL)[0].track_ids) == 3


def test_nobody_needs_no_look() -> None:
    scene = Scene(np.full((2, 9), -1.0), np.full(2, 0.9))
    seen = watch(scene, perception(scene))
    assert scene.looks == [0] * 9
    assert all(not len(frame.track_ids) for frame in seen)


@pytest.mark.parametrize("stop", range(5, 5 + INTERVAL))
def test_restored_it_goes_on_as_the_one_it_was(stop: int) -> None:
    scene = walkers()
    expected = watch(scene, perception(scene))
    first, second = perception(scene), perception(scene)
    watch(scene, first, stop=stop)
    second.restore(first.state())
    rest = watch(scene, second, start=stop)
    for one, other in zip(expected[stop:], rest, strict=True):
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert second.frames == 24


def test_after_a_reset_everybody_is_detected() -> None:
    scene = walkers()
    looking = perception(scene)
    watch(scene, looking, stop=INTERVAL + 1)
    looking.reset()
    watch(scene, looking, stop=1)
    assert scene.detected_in == [0, INTERVAL, 0]


def test_people_move_with_their_tracks() -> None:
    box = np.array([[100.0, 50, 20, 60]])
    crops = Crops.around(box, 1.25)
    keypoints = box[:, None, :2] + SHAPE * box[:, None, 2:]
    still = Followed(box, np.ones(1), np.ones(1, bool), keypoints, *crops, np.array([7]))
    moved = still.moved(np.array([3, 7]), np.array([[50.0, 50, 0], [6, -2, 0]]))
    step = np.array([6.0, -2.0])
    np.testing.assert_allclose(moved.boxes[:, :2], box[:, :2] + step)
    np.testing.assert_allclose(moved.boxes[:, 2:], box[:, 2:])
    np.testing.assert_allclose(moved.center, still.center + step)
    np.testing.assert_allclose(moved.keypoints, keypoints + step)
    nearer = still.moved(np.array([7]), np.array([[0.0, 0, 6]]))
    np.testing.assert_allclose(nearer.boxes[0, 2:] / box[0, 2:], np.exp(0.1))
    np.testing.assert_allclose(nearer.center, still.center)


def upright(*boxes: tuple[int, int, int, int]) -> Poses:
    """People whose masks fill their boxes, left, top, width and height, and whose keypoints reach to the corners."""
    corners = np.array(boxes, float)
    return Poses(
        keypoints_2d=corners[:, None, :2]
        + np.resize([[0, 0], [0, 1], [1, 0], [1, 1]], (NUM_KEYPOINTS, 2)) * (corners[:, None, 2:] - 1),
        confidence=np.ones((len(boxes), NUM_KEYPOINTS)),
        landmarks_3d=np.zeros((len(boxes), NUM_KEYPOINTS, 3)),
        presence=np.ones(len(boxes)),
        masks=tuple(masks.encode(np.ones((h, w), bool), (x, y), SIZE[::-1]) for x, y, w, h in boxes),
        aims=Crops.around(corners, 1.25),
    )


def test_sides_go_part_of_the_way_to_those_of_the_mask() -> None:
    share, reach = CONFIG.keypoints.mask_share, CONFIG.keypoints.mask_reach
    people = upright((100, 50, 22, 58), (200, 50, 20, 60))
    boxes = np.array([[98.0, 50, 20, 60], [160, 50, 20, 60]])
    drawn = towards_masks(boxes, people.masks, SIZE[1], CONFIG.keypoints)
    np.testing.assert_allclose(drawn[0], [98 + 2 * share, 50, 20 + 2 * share, 60 - 2 * share])
    np.testing.assert_allclose(drawn[1], [160 + share * reach * 60, 50, 20, 60])
    empty = (masks.encode(np.zeros(SIZE[::-1], bool)),) * 2
    np.testing.assert_array_equal(towards_masks(boxes, empty, SIZE[1], CONFIG.keypoints), boxes)
    assert towards_masks(boxes[:0], (), SIZE[1], CONFIG.keypoints).shape == (0, 4)


def test_beside_others_boxes_keep_to_themselves() -> None:
    boxes = np.array([[100.0, 50, 20, 60], [108, 50, 20, 60]])
    people = upright((100, 50, 28, 60), (100, 50, 28, 60))
    np.testing.assert_array_equal(towards_masks(boxes, people.masks, SIZE[1], CONFIG.keypoints), boxes)


def test_who_is_between_two_others_is_covered_by_both() -> None:
    people = upright((100, 50, 20, 60), (120, 50, 20, 60), (110, 50, 20, 60), (130, 50, 20, 60), (200, 50, 20, 60))
    np.testing.assert_allclose(covered(people, SIZE[::-1]), [0, 0, 1, 0.5, 0], atol=0.05)


def test_a_pose_that_leaps_is_somebody_elses() -> None:
    scene = walkers()
    leap = 2 * INTERVAL + 1
    scene.left[2, leap:] += 1.5 * CONFIG.keypoints.leap * HEIGHT
    looking = perception(scene)
    watch(scene, looking, stop=3 * INTERVAL)
    assert scene.detected_in == [0, INTERVAL, 2 * INTERVAL, leap]
    assert looking.lost == 1


def test_overlap_is_shared_area_over_the_area_of_both() -> None:
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[5.0, 0, 10, 10], [20, 20, 5, 5], [0, 0, 10, 10]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 0, 1]])
