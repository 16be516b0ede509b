"""Motion capture as a source: strides found in clips, played at the walker's phase, the split kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_planting import FLAT, paths
from test_synthetic_bodies import joints, walkers

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors.mocap import FPS, SPLAY, MocapError, upright_feet
from crowd4d_ros.priors.pose import GaussianPosePrior, energy
from crowd4d_ros.synthetic.bodies import crowd_bodies
from crowd4d_ros.synthetic.config import BodiesConfig
from crowd4d_ros.synthetic.gait import ProceduralGait
from crowd4d_ros.synthetic.mocap import MocapMotion, passers_by
from crowd4d_ros.synthetic.truth import Activity

CONFIG = BodiesConfig()
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "mocap" / "cmu_mocap.npz"
SPEED = 1.25


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


@pytest.fixture(scope="module")
def recording(body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two people walking at SPEED and two standing, one each in either split."""
    frames = 150
    at = np.zeros((4, frames, 2))
    at[:2, :, 1] = SPEED * np.arange(frames) / FPS
    kind = np.array([Activity.WALK, Activity.WALK, Activity.STAND, Activity.STAND], np.int8)[:, None]
    crowd = paths(at, np.full((4, frames), 0.4))
    crowd.position[:2] = crowd.position[:2, :, 1:] * [np.sin(0.4), np.cos(0.4)]
    crowd.activity[:] = kind
    motion = crowd_bodies(crowd, FLAT, body, ProceduralGait(CONFIG), CONFIG, np.random.default_rng(0), FPS)
    file = tmp_path_factory.mktemp("mocap") / "clips.npz"
    np.savez(
        file,
        names=np.array(["walk_1", "walk_2", "stand_1", "stand_2"]),
        split=np.array(["train", "test", "train", "test"]),
        lens=np.full(4, frames),
        poses=np.concatenate([motion.global_orient[:, :, None], motion.body_pose], 2).reshape(-1, 24, 3).astype("f2"),
        trans=joints(motion, body)[:, :, 0].reshape(-1, 3).astype("f4"),
    )
    return file


def test_strides_are_found_with_their_speed(recording: Path) -> None:
    source = MocapMotion.load(recording, "train", CONFIG)
    assert source.name == "mocap:train"
    assert len(source.speed) >= 3
    np.testing.assert_allclose(source.speed, SPEED, rtol=0.05)
    assert set(source.stride_clip) == {"walk_1"}
    assert set(source.standing_clip) == {"stand_1"}


def test_a_stride_ends_where_it_begins(recording: Path) -> None:
    strides = MocapMotion.load(recording, "train", CONFIG).strides
    within = np.abs(np.diff(strides, axis=1)).max()
    assert np.abs(strides[:, 0] - strides[:, -1]).max() < 2 * within
    assert np.abs(strides[:, :, 0]).max() < np.radians(20), "against the heading, whatever it was"


def test_the_arms_of_the_recording_swing_in_step_with_the_planted_feet(recording: Path, body: BodyModel) -> None:
    source = MocapMotion.load(recording, "test", CONFIG)
    motion = crowd_bodies(walkers(), FLAT, body, source, CONFIG, np.random.default_rng(1), 10.0)
    at = joints(motion, body)[..., 2]
    wrists, ankles = at[..., 20] - at[..., 21], at[..., 7] - at[..., 8]
    assert np.median([np.corrcoef(*pair)[0, 1] for pair in zip(wrists, ankles, strict=True)]) < -0.7


def test_the_same_seed_gives_the_same_motion(recording: Path, body: BodyModel) -> None:
    source = MocapMotion.load(recording, "train", CONFIG)
    first, again = (
        crowd_bodies(walkers(), FLAT, body, source, CONFIG, np.random.default_rng(5), 10.0) for _ in range(2)
    )
    assert first.body_pose.tobytes() == again.body_pose.tobytes()


def test_upright_feet_turns_only_feet() -> None:
    pose = torch.zeros(1, 23, 3, dtype=torch.float64)
    turned = upright_feet(pose)
    assert turned[0, 6, 2] == pytest.approx(SPLAY)
    assert turned[0, 7, 2] == pytest.approx(-SPLAY)
    changed = (turned - pose).abs().amax((0, 2)) > 1e-12
    assert changed.nonzero()[:, 0].tolist() == [6, 7]


def test_what_cannot_be_used_is_said(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(MocapError, match="'train' or 'test'"):
        MocapMotion.load(recording, "validation", CONFIG)
    bad, whole = tmp_path / "bad.npz", recording.read_bytes()
    for content in (b"not an archive", whole[: len(whole) // 2], whole[:2000] + bytes(100) + whole[2100:]):
        bad.write_bytes(content)
        with pytest.raises(MocapError, match="no motion capture file"):
            MocapMotion.load(bad, "train", CONFIG)
    with np.load(recording) as file:
        np.savez(bad, **{**file, "poses": file["poses"][:-1]})
    with pytest.raises(MocapError, match="do not fit its clips' lens"):
        MocapMotion.load(bad, "train", CONFIG)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared motion capture is not there")
def test_the_shared_clips_keep_their_split() -> None:
    train, test = (passers_by(SHARED, split) for split in ("train", "test"))
    assert not {clip.name for clip in train} & {clip.name for clip in test}
    assert not any("directing_traffic_1" in clip.name for clip in train + test)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared motion capture is not there")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_shared_clips_walk_and_stand_like_people(body: BodyModel, split: str) -> None:
    source = MocapMotion.load(SHARED, split, CONFIG)
    assert len(source.speed) >= 15
    prior = GaussianPosePrior.load(dtype=torch.float64)
    stand = paths(np.stack([np.arange(10.0), np.zeros(10)], -1)[:, None].repeat(20, 1), np.zeros((10, 20)), 1)
    for crowd in (walkers(), stand):
        motion = crowd_bodies(crowd, FLAT, body, source, CONFIG, np.random.default_rng(0), 10.0)
        distance = energy(prior.encode(torch.from_numpy(motion.body_pose))).sqrt()
        assert distance.mean() < 9
        assert joints(motion, body)[:, :, 15, 1].min() > 1.2, "upright"
