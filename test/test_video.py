"""Videos: frames with the right numbers and stamps, and one clear message for what is no video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crowd4d_ros.io import open_input
from crowd4d_ros.io.video import VideoError, open_video

SIZE, COUNT, FPS = (96, 64), 24, 12.0
VTEST = Path(__file__).parents[2] / "shared" / "data" / "vtest.avi"


def brightness(number: int) -> int:
    return 20 + 8 * number


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is grey of brightness(n)."""
    path = tmp_path_factory.mktemp("video") / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    for number in range(COUNT):
        writer.write(np.full((SIZE[1], SIZE[0], 3), brightness(number), np.uint8))
    writer.release()
    return path


def test_every_frame_comes_once_in_order(video: Path) -> None:
    opened = open_video(video)
    assert (opened.width, opened.height, opened.fps, opened.count) == (*SIZE, FPS, COUNT)
    frames = list(opened)
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.stamp for frame in frames] == [round(number * 1e9 / FPS) for number in range(COUNT)]
    np.testing.assert_allclose([frame.image.mean() for frame in frames], [brightness(n) for n in range(COUNT)], atol=3)
    assert not opened.warnings
    assert len(list(opened)) == COUNT, "it can be read again"


def test_a_part_keeps_the_numbers_of_the_whole(video: Path) -> None:
    part = open_video(video, start=10, frames=5)
    frames = list(part)
    assert part.count == 5
    assert [frame.index for frame in frames] == [10, 11, 12, 13, 14]
    assert frames[0].stamp == round(10 * 1e9 / FPS)
    assert frames[0].image.mean() == pytest.approx(brightness(10), abs=3)


def test_a_wrong_frame_rate_can_be_corrected(video: Path) -> None:
    assert [frame.stamp for frame in open_video(video, frames=3, fps=7)] == [0, 142857143, 285714286]


def test_more_frames_than_there_are_is_no_error(video: Path) -> None:
    rest = open_video(video, start=20, frames=100)
    assert rest.count == 4
    assert len(list(rest)) == 4
    assert not rest.warnings


def test_a_truncated_video_is_read_as_far_as_it_goes(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    content = video.read_bytes()
    cut.write_bytes(content[: int(0.6 * len(content))])
    opened = open_video(cut)
    frames = list(opened)
    assert 5 < len(frames) < COUNT
    assert len(opened.warnings) == 1
    assert f"after {len(frames)} of {COUNT}" in opened.warnings[0]
    with pytest.raises(VideoError, match=f"after {len(frames)} frames, before --start"):
        list(open_video(cut, start=COUNT - 1))


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "not a video"), (b"frame,stamp\n1,2\n" * 100, "not a video")],
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "thing.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=says) as refusal:
        open_video(path)
    assert "thing.avi" in str(refusal.value)


@pytest.mark.parametrize("arguments", [{"start": COUNT}, {"start": -1}, {"frames": 0}, {"fps": 0.0}, {"fps": np.inf}])
def test_impossible_parts_are_refused(video: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(VideoError, match="--"):
        open_video(video, **arguments)  # type: ignore[arg-type]


def test_a_topic_of_a_video_is_refused(video: Path) -> None:
    with pytest.raises(VideoError, match="--topic"):
        open_input(video, topic="/image")


@pytest.mark.skipif(not VTEST.exists(), reason="../shared/data is not here")
def test_the_demo_video_opens_and_its_rate_can_be_corrected() -> None:
    video = open_video(VTEST, start=790, fps=7)
    frames = list(video)
    assert (video.width, video.height, video.count) == (768, 576, 5)
    assert [frame.index for frame in frames] == [790, 791, 792, 793, 794]
    assert frames[-1].stamp == round(794e9 / 7)
