"""VPoser: the published layout, read safely; a code that decodes to human poses and back."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crowd4d_ros.body.rotations import axis_angle_to_matrix, relative_log
from crowd4d_ros.body.skeleton import JOINTS, mirror_pose
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.priors import load_pose_prior
from crowd4d_ros.priors.mocap import read_clips
from crowd4d_ros.priors.pose import NUM_BODY_JOINTS, GaussianPosePrior, energy
from crowd4d_ros.priors.train_pose import pose_errors
from crowd4d_ros.priors.vposer import EMBEDDED, LATENT_DIM, VPOSER_JOINTS, Vposer, VposerNet, continuous_to_matrix
from crowd4d_ros.priors.weights import WeightsError

MOCAP = Path(__file__).resolve().parents[2] / "shared" / "data" / "mocap" / "cmu_mocap.npz"
ASSET = Path(__file__).resolve().parents[1] / "crowd4d_ros" / "assets" / EMBEDDED
ZERO = torch.zeros(3)


@pytest.fixture(scope="module")
def prior() -> Vposer:
    return Vposer.load()


@pytest.fixture(scope="module")
def samples(prior: Vposer) -> Tensor:
    return prior.decode(torch.randn(500, prior.latent_dim, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def net() -> VposerNet:
    """With batch norms that have seen poses, as after training."""
    torch.manual_seed(0)
    net = VposerNet()
    net.encode(0.3 * torch.randn(200, VPOSER_JOINTS, 3))
    return net.eval()


def joint(name: str) -> int:
    return JOINTS.index(name) - 1


# --- the network and what is made of it -----------------------------------------------------------------------


def test_names_and_sizes_are_the_published_ones(net: VposerNet) -> None:
    """As a V02_05 checkpoint lists them."""
    norms = {
        f"encoder_net.{at}.{part}": (size,)
        for at, size in ((1, 63), (4, 512))
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    layers = {
        "encoder_net.2": (512, 63), "encoder_net.6": (512, 512), "encoder_net.7": (512, 512),
        "encoder_net.8.mu": (32, 512), "encoder_net.8.logvar": (32, 512),
        "decoder_net.0": (512, 32), "decoder_net.3": (512, 512), "decoder_net.5": (126, 512),
    }  # fmt: skip
    expected = norms | {f"{name}.weight": size for name, size in layers.items()}
    expected |= {f"{name}.bias": size[:1] for name, size in layers.items()}
    assert {name: tuple(tensor.shape) for name, tensor in net.weights().items()} == expected


def test_the_folded_prior_is_the_network(net: VposerNet) -> None:
    exact = VposerNet().double().eval()
    exact.load_state_dict(net.state_dict())
    folded = Vposer(net.weights(), dtype=torch.float64)
    pose = 0.5 * torch.randn(4, 5, NUM_BODY_JOINTS, 3, dtype=torch.float64)
    with torch.no_grad():
        mean, _ = exact.encode(pose.flatten(0, 1)[:, :VPOSER_JOINTS])
        rotations = exact.decode(mean)
    torch.testing.assert_close(folded.encode(pose).flatten(0, 1), mean)
    decoded = folded.decode(mean)
    torch.testing.assert_close(axis_angle_to_matrix(decoded[:, :VPOSER_JOINTS]), rotations)
    assert (decoded[:, VPOSER_JOINTS:] == 0).all(), "hands are rigid"


def test_continuous_rotations_are_two_columns_by_gram_schmidt() -> None:
    rotation = axis_angle_to_matrix(torch.randn(10, VPOSER_JOINTS, 3, dtype=torch.float64))
    first, second = rotation[..., 0], rotation[..., 1]
    skewed = torch.stack([3 * first, 0.5 * second - 2 * first], -1)  # of any length, the second leaning on the first
    torch.testing.assert_close(continuous_to_matrix(skewed.flatten(-3)), rotation)


def pointed(*rotations: Tensor) -> Vposer:
    """A prior that puts out these rotations, in turn, whatever the code, plus a little of it."""
    net = VposerNet().double()
    turns = torch.stack([axis_angle_to_matrix(rotation) for rotation in rotations])
    columns = turns.repeat(VPOSER_JOINTS, 1, 1)[:VPOSER_JOINTS, :, :2]
    with torch.no_grad():
        net.decoder_net[5].bias.copy_(columns.flatten())
        net.decoder_net[5].weight.mul_(1e-6)
    return Vposer(net.weights(), dtype=torch.float64)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, torch.pi - 1e-3])
def test_gradients_are_right_at_and_near_the_ends_of_the_logarithm(angle: float) -> None:
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64), dim=0)
    prior = pointed(angle * axis)
    latent = torch.randn(1, prior.latent_dim, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(prior.decode(latent)[0, 0], angle * axis, atol=1e-5, rtol=0)
    assert torch.autograd.gradcheck(lambda z: 1e6 * prior.decode(z)[:, :2], latent, eps=1e-3, atol=1e-3, rtol=1e-2)


def test_at_half_a_turn_value_and_gradient_are_finite() -> None:
    prior = pointed(*torch.pi * torch.eye(3, dtype=torch.float64))
    latent = torch.zeros(1, prior.latent_dim, dtype=torch.float64, requires_grad=True)
    pose = prior.decode(latent)
    pose.square().sum().backward()
    assert ((pose[0, :VPOSER_JOINTS].norm(dim=-1) - torch.pi).abs() < 1e-4).all()
    assert latent.grad is not None
    assert latent.grad.isfinite().all()


# --- the embedded weights -------------------------------------------------------------------------------------


def test_any_leading_dimensions(prior: Vposer) -> None:
    latent = torch.randn(2, 3, prior.latent_dim)
    pose = prior.decode(latent)
    assert pose.shape == (2, 3, NUM_BODY_JOINTS, 3)
    assert prior.encode(pose).shape == latent.shape
    torch.testing.assert_close(prior.decode(latent[1, 2]), pose[1, 2], atol=1e-5, rtol=0)


def test_samples_are_people(samples: Tensor) -> None:
    knees, elbows = (samples[:, [joint(f"left_{name}"), joint(f"right_{name}")]] for name in ("knee", "elbow"))
    assert (knees[..., 0] > -0.35).float().mean() > 0.97, "knees bend backwards only"
    assert elbows.norm(dim=-1).max() < torch.pi * 0.95
    joints = BodyModel.load().joints(torch.zeros(10), samples, ZERO, ZERO)
    assert (joints[:, JOINTS.index("head"), 1] > joints[:, 0, 1]).float().mean() > 0.95, "heads above pelvises"


def test_the_mean_is_a_person_upright_and_nearly_symmetric(prior: Vposer) -> None:
    mean = prior.decode(torch.zeros(prior.latent_dim))
    joints = BodyModel.load().joints(torch.zeros(10), mean, ZERO, ZERO)
    arms = [JOINTS.index(name) for name in ("left_wrist", "right_wrist")]
    assert (joints[arms, 1] < joints[JOINTS.index("spine3"), 1]).all(), "arms down, not SMPL's T"
    assert joints[JOINTS.index("head"), 1] == joints[:, 1].max()
    assert relative_log(mirror_pose(mean), mean).norm(dim=-1).rad2deg().mean() < 10


def test_unlikely_poses_cost_more(prior: Vposer) -> None:
    walking = GaussianPosePrior.load().decode(torch.zeros(69))
    bent, broken = walking.clone(), walking.clone()
    bent[joint("left_knee"), 0] += 1.0
    broken[joint("left_knee"), 0] -= 1.0
    assert energy(prior.encode(walking)) < energy(prior.encode(bent)) < energy(prior.encode(broken))


@pytest.mark.skipif(not MOCAP.exists(), reason="the shared motion capture is not there")
def test_unseen_walking_is_likely_and_comes_back(prior: Vposer) -> None:
    clips = [clip for clip in read_clips(MOCAP, "test") if "walking" in clip.name]
    errors, truncated = (pose_errors(each, clips) for each in (prior, GaussianPosePrior.load(LATENT_DIM)))
    assert errors is not None
    assert truncated is not None
    assert errors.millimetres < 0.75 * truncated.millimetres
    assert 0.5 < errors.energy < 1.5, "as of a standard normal"


def test_half_precision_costs_less_than_a_tenth_of_a_millimetre(samples: Tensor) -> None:
    """Weights anywhere within what rounds to the stored ones give the same poses."""
    stored = load_file(ASSET)
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    torch.manual_seed(0)
    unrounded = {
        name: tensor.double() * (1 + torch.finfo(torch.float16).eps * (torch.rand(tensor.shape) - 0.5))
        for name, tensor in stored.items()
    }
    poses = [prior.decode(prior.encode(samples)) for prior in (Vposer(stored), Vposer(unrounded))]
    joints = BodyModel.load().joints(torch.zeros(10), torch.stack(poses), ZERO, ZERO)
    assert 1000 * (joints[0] - joints[1]).norm(dim=-1).mean() < 0.1


# --- files ----------------------------------------------------------------------------------------------------


def test_a_published_checkpoint_loads(net: VposerNet, tmp_path: Path) -> None:
    """Its weights are among a trainer's other tensors, with a prefix; plain state dicts and safetensors load alike."""
    lightning = {f"vp_model.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 13, "state_dict": {**lightning, "bm_train.f": torch.zeros(3)}}, tmp_path / "V02_05.ckpt")
    torch.save(net.state_dict(), tmp_path / "vposer.pt")
    save_file(lightning, tmp_path / "vposer.safetensors")
    latent = torch.randn(3, LATENT_DIM)
    expected = Vposer(net.weights()).decode(latent)
    for file in ("V02_05.ckpt", "vposer.pt", "vposer.safetensors"):
        torch.testing.assert_close(load_pose_prior(str(tmp_path / file)).decode(latent), expected)


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pkl", ".safetensors"])
def test_no_file_is_ever_run(tmp_path: Path, suffix: str) -> None:
    trace, file = tmp_path / "was_here", tmp_path / f"vposer{suffix}"
    content = {"state_dict": {"vp_model.decoder_net.0.weight": Hostile(trace)}}
    for write in (lambda: torch.save(content, file), lambda: file.write_bytes(pickle.dumps(content))):
        write()
        with pytest.raises(WeightsError, match="vposer"):
            Vposer.load(file)
        assert not trace.exists()
    pickle.loads(file.read_bytes())
    assert trace.exists(), "the file would have, had it been unpickled"


def test_another_layout_is_one_error_that_says_what_to_do(net: VposerNet, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    weights = net.weights()

    def refusal(changed: dict[str, Tensor]) -> str:
        save_file(changed, file)
        with pytest.raises(WeightsError) as error:
            Vposer.load(file)
        return str(error.value)

    wider = refusal({**weights, "decoder_net.5.weight": torch.zeros(138, 512)})
    assert all(part in wider for part in (str(file), "[126, 512]", "[138, 512]", "smpl-x.is.tue.mpg.de"))
    assert "no encoder_net.8.mu.bias" in refusal({k: t for k, t in weights.items() if k != "encoder_net.8.mu.bias"})
    assert "bodyprior_enc_fc1.weight" in refusal({"bodyprior_enc_fc1.weight": torch.zeros(512, 63)}), "VPoser v1"


def test_missing_damaged_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        Vposer.load(tmp_path / "none.ckpt")
    with pytest.raises(WeightsError, match="cannot read weights"):
        Vposer.load(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(ASSET.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot read weights"):
        Vposer.load(cut)
    torch.save({"state_dict": {}}, tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match="no weights"):
        Vposer.load(tmp_path / "empty.pt")


def test_names_of_the_embedded_priors() -> None:
    assert isinstance(load_pose_prior("gaussian"), GaussianPosePrior)
    embedded = load_pose_prior("vposer", dtype=torch.float64)
    assert isinstance(embedded, Vposer)
    assert embedded.decode(torch.zeros(LATENT_DIM, dtype=torch.float64)).dtype == torch.float64
