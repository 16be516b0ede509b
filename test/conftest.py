"""What every test has: no ROS traffic beyond this machine, and, if asked for, a ROS domain of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

DOMAINS = range(1, 102)  # above 101, DDS's ports meet the operating system's ephemeral ones
DOMAIN_LOCK_PORT = 24500  # the port of a domain's lock, minus its number: below the ephemeral ports, above DDS's

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(autouse=True, scope="session")
def _ros_logs(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test of this machine uses now, set in the environment."""
    for domain in DOMAINS:
        with socket.socket() as lock:
            try:
                lock.bind(("127.0.0.1", DOMAIN_LOCK_PORT + domain))
            except OSError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            yield domain
            return
    pytest.fail(f"all {len(DOMAINS)} ROS domains are in use by other tests")


@pytest.fixture
def seeded_doubles() -> Iterator[None]:
    """Torch computes in double precision, from the same random numbers each time."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(usual)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def street(repo: Path) -> NDArray[np.uint8]:
    """(576, 768, 3) BGR, the first frame of vtest: three people."""
    video = repo.parent / "shared" / "data" / "vtest.avi"
    if not video.exists():
        pytest.skip("vtest.avi is not there")
    _, image = cv2.VideoCapture(str(video)).read()
    return image
