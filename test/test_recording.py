"""Recordings of synthetic crowds: what is written is what `crowd4d reconstruct` then reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic_truth import flat_truth

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.io.bags import open_bag
from crowd4d_ros.io.camera import read_camera_info
from crowd4d_ros.io.video import open_video
from crowd4d_ros.synthetic import recording
from crowd4d_ros.synthetic.config import RenderConfig
from crowd4d_ros.synthetic.recording import write_recording
from crowd4d_ros.synthetic.render import Image, RenderError
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import FloatArray

FRAMES = 5


@pytest.fixture(scope="module")
def truth() -> Truth:
    return flat_truth(2, FRAMES)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def ramp(truth: Truth, t: int) -> Image:
    """Brighter with every frame, and from left to right: order and orientation can be told."""
    across = np.linspace(0, 60, truth.intrinsics.width)
    gray = np.broadcast_to(across + 30 * t, (truth.intrinsics.height, truth.intrinsics.width))
    return np.repeat(gray[..., None], 3, -1).astype(np.uint8)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ramps in place of rendered frames."""

    def frames(truth: Truth, body: BodyModel, config: RenderConfig, rng: np.random.Generator) -> Iterator[Image]:
        for t in range(truth.num_frames):
            yield ramp(truth, t)

    monkeypatch.setattr(recording, "frames", frames)


def assert_close(image: FloatArray, truth: Truth, t: int) -> None:
    np.testing.assert_allclose(image.astype(int), ramp(truth, t).astype(int), atol=4)


@pytest.mark.usefixtures("painted")
def test_the_video_has_every_frame_at_its_rate_and_its_camera(tmp_path: Path, truth: Truth, body: BodyModel) -> None:
    write_recording(truth, body, tmp_path, RenderConfig(), np.random.default_rng(0), video=True, bag=False)
    video = open_video(tmp_path / "video.avi")
    read = list(video)
    assert video.fps == truth.fps
    assert [frame.stamp for frame in read] == truth.stamps.tolist()
    for t, frame in enumerate(read):
        assert_close(frame.image, truth, t)
    camera = read_camera_info(tmp_path / "camera_info.yaml")
    np.testing.assert_array_equal(camera.K, truth.intrinsics.K_rectified)
    assert not camera.distortion.any()
    assert not (tmp_path / "bag").exists()


@pytest.mark.usefixtures("painted")
def test_the_bag_has_every_frame_at_its_stamp_and_its_camera(tmp_path: Path, truth: Truth, body: BodyModel) -> None:
    write_recording(truth, body, tmp_path, RenderConfig(), np.random.default_rng(0), video=False, bag=True)
    bag = open_bag(tmp_path / "bag")
    read = list(bag)
    assert [frame.stamp for frame in read[1:]] == truth.stamps[1:].tolist()
    for t, frame in enumerate(read):
        assert_close(frame.image, truth, t)
    assert bag.intrinsics is not None
    np.testing.assert_array_equal(bag.intrinsics.K_rectified, truth.intrinsics.K_rectified)
    assert not (tmp_path / "video.avi").exists()


def test_a_recording_that_fails_leaves_nothing_behind(
    tmp_path: Path, truth: Truth, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames(truth: Truth, body: BodyModel, config: RenderConfig, rng: np.random.Generator) -> Iterator[Image]:
        yield ramp(truth, 0)
        raise RenderError("pip install 'crowd4d_ros[render]'")

    monkeypatch.setattr(recording, "frames", frames)
    with pytest.raises(RenderError, match="pip install"):
        write_recording(truth, body, tmp_path, RenderConfig(), np.random.default_rng(0), video=True, bag=True)
    assert list(tmp_path.iterdir()) == []
