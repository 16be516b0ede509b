"""Every binary that came from others is listed in NOTICE, as the bytes it is."""

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("asset", sorted((ROOT / "crowd4d_ros" / "assets").iterdir()), ids=lambda path: path.name)
def test_notice_names_the_asset_and_its_hash(asset):
    notice = (ROOT / "NOTICE").read_text()
    assert f"crowd4d_ros/assets/{asset.name}" in notice
    assert hashlib.sha256(asset.read_bytes()).hexdigest() in notice
