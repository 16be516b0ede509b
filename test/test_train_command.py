"""`crowd4d train`: seeded, from the train clips alone, to a file that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crowd4d_ros import cli
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.priors.config import PoseTrainingConfig
from crowd4d_ros.priors.mocap import MocapError, read_clips
from crowd4d_ros.priors.pose import GaussianPosePrior
from crowd4d_ros.priors.train_pose import PoseReport, train_pose_prior
from crowd4d_ros.priors.training import Best, drawn_alike, held_back, repeatable
from crowd4d_ros.priors.vposer import Vposer
from crowd4d_ros.priors.weights import read_metadata

QUICK = PoseTrainingConfig(steps=20, batch=32, held_back=4, check_every=10)


def write_clips(path: Path, test_pose: float = 0.0) -> Path:
    """Eight train clips and one test clip of poses around a human mean, unlike each other."""
    prior = GaussianPosePrior.load(10)
    generator = torch.Generator().manual_seed(0)
    lens = np.array([20, 40, 30, 20, 20, 25, 30, 35, 20])
    pose = prior.decode(torch.randn(lens.sum(), 10, generator=generator)).numpy()
    pose[-lens[-1] :] += test_pose
    np.savez(
        path,
        names=np.array([f"walking_{number}" for number in range(len(lens))]),
        split=np.array(["train"] * 8 + ["test"]),
        lens=lens,
        poses=np.concatenate([np.zeros((lens.sum(), 1, 3)), pose], 1).astype("f2"),
        trans=np.zeros((lens.sum(), 3), "f4"),
    )
    return path


@pytest.fixture(scope="module")
def mocap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("mocap") / "clips.npz")


def train(mocap: Path, out: Path, config: PoseTrainingConfig = QUICK, seed: int = 0) -> PoseReport:
    return train_pose_prior(mocap, out, config, seed, lambda _: None)


def test_equal_arguments_give_equal_bytes_and_another_seed_others(mocap: Path, tmp_path: Path) -> None:
    first, again, other = (train(mocap, tmp_path / f"{at}.safetensors", seed=at // 2) for at in range(3))
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256
    metadata = read_metadata(first.out)
    assert metadata["seed"] == "0"
    assert len(metadata["mocap_sha256"]) == 64
    assert '"steps": 20' in metadata["config"]


def test_test_clips_have_no_part_in_the_weights(mocap: Path, tmp_path: Path) -> None:
    bent = write_clips(tmp_path / "bent.npz", test_pose=0.3)
    first, second = train(mocap, tmp_path / "a.safetensors"), train(bent, tmp_path / "b.safetensors")
    latent = torch.randn(5, 32)
    torch.testing.assert_close(
        Vposer.load(first.out).decode(latent), Vposer.load(second.out).decode(latent), atol=0, rtol=0
    )
    assert first.all != second.all


def test_it_learns(mocap: Path, tmp_path: Path) -> None:
    untrained = train(mocap, tmp_path / "a.safetensors", replace(QUICK, rate=0.0)).walking
    trained = train(mocap, tmp_path / "b.safetensors", replace(QUICK, steps=80)).walking
    assert untrained is not None
    assert trained is not None
    assert trained.degrees < 0.8 * untrained.degrees
    assert trained.millimetres < 0.6 * untrained.millimetres


def test_every_clip_is_drawn_as_often_as_any() -> None:
    lengths = torch.tensor([5, 1000, 50])
    rows = drawn_alike(lengths, 30_000, torch.Generator().manual_seed(0))
    clip = torch.bucketize(rows, lengths.cumsum(0), right=True)
    np.testing.assert_allclose(clip.bincount() / 30_000, 1 / 3, atol=0.02)
    assert set(rows[clip == 0].tolist()) == set(range(5))
    assert rows.max() < lengths.sum()


def test_clips_held_back_are_never_learned() -> None:
    learn, judge = held_back(range(25), 10)
    assert judge == [9, 19]
    assert sorted([*learn, *judge]) == list(range(25))


def test_training_stops_when_nothing_is_gained_and_keeps_the_best() -> None:
    best = Best(patience=2)
    weights = {"w": torch.zeros(1)}
    stops = []
    for step, loss in enumerate([3.0, 1.0, 2.0, 1.5, 0.5]):
        weights["w"].fill_(step)
        stops.append(best.stop(loss, step, weights))
        if stops[-1]:
            break
    assert stops == [False, False, False, True]
    assert (best.loss, best.step, best.weights["w"].item()) == (1.0, 1, 1.0)


def test_repeatable_leaves_the_process_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    with repeatable(0):
        torch.rand(7)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_command(mocap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prior.safetensors"
    quick = [f"--set={name}={getattr(QUICK, name)}" for name in ("steps", "batch", "held_back", "check_every")]
    assert cli.main(["train", "pose-prior", "--mocap", str(mocap), "--out", str(out), "--seed", "3", *quick]) == 0
    printed = capsys.readouterr()
    assert "walking" in printed.out
    assert "step 20" in printed.err
    assert read_metadata(out)["seed"] == "3"
    assert Vposer.load(out).latent_dim == 32


def test_what_cannot_be_trained_from_is_one_line(
    mocap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: str) -> str:
        assert cli.main(["train", "pose-prior", *arguments]) == cli.USER_ERROR
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    text = tmp_path / "words.npz"
    text.write_text("words")
    assert "no motion capture" in refusal("--mocap", str(text))
    assert "no_such" in refusal("--mocap", str(mocap), "--set", "no_such=1")
    assert "too few train clips" in refusal("--mocap", str(mocap), "--set", "held_back=9")
    assert "existing folder" in refusal("--mocap", str(mocap), "--out", str(tmp_path / "no" / "x"))


def test_a_split_that_does_not_exist(mocap: Path) -> None:
    with pytest.raises(MocapError, match="'train' or 'test'"):
        read_clips(mocap, "validation")


def test_mirrored_poses_are_poses(mocap: Path) -> None:
    pose = torch.from_numpy(read_clips(mocap, "train")[0].pose)
    torch.testing.assert_close(mirror_pose(mirror_pose(pose)), pose)
    knees = [JOINTS.index("left_knee"), JOINTS.index("right_knee")]
    torch.testing.assert_close(mirror_pose(pose)[:, knees, 0], pose[:, knees[::-1], 0])
