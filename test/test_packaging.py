"""What is declared, what is installed and what is imported agree."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

import crowd4d_ros

DISTRIBUTION = {"cv2": "opencv-python-headless", "yaml": "PyYAML"}  # where the two names differ
ROSDEP = {
    "numpy": "python3-numpy", "scipy": "python3-scipy", "opencv-python-headless": "python3-opencv",
    "PyYAML": "python3-yaml", "tqdm": "python3-tqdm", "matplotlib": "python3-matplotlib",
}  # fmt: skip
OPTIONAL = {"smplx", "mitsuba"}  # extras of setup.py
PYTHON = {"numpy", "torch", "yaml", "cv2", "rosbags", "tqdm"}  # modules that are not ROS packages


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that `pip install .` makes on a machine without ROS."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    source.mkdir()
    for entry in (
        "setup.py",
        "setup.cfg",
        "pyproject.toml",
        "package.xml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "NOTICE",
    ):
        if (repo / entry).exists():
            shutil.copy(repo / entry, source)
    shutil.copytree(repo / "crowd4d_ros", source / "crowd4d_ros", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name not in ("AMENT_PREFIX_PATH", "PYTHONPATH")}
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "dist"],
        cwd=source, env=environment, check=True,
    )  # fmt: skip
    (path,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(wheel: zipfile.ZipFile, file: str) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith(f".dist-info/{file}"))
    return wheel.read(name).decode()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(wheel: zipfile.ZipFile) -> set[str]:
    """Names of the distributions that an installation without extras brings."""
    lines = re.findall(r"^Requires-Dist: ([\w.-]+)(.*)$", metadata(wheel, "METADATA"), re.M)
    return {normal(name) for name, rest in lines if "extra" not in rest}


def imported_distributions(repo: Path) -> set[str]:
    """Distributions that modules outside nodes/ import, at any place."""
    found = set()
    for path in (repo / "crowd4d_ros").rglob("*.py"):
        if "nodes" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "crowd4d_ros", *OPTIONAL}
    return {normal(DISTRIBUTION.get(name, name)) for name in found}


def imported_packages(repo: Path) -> set[str]:
    """ROS packages that the nodes and the launch files import."""
    found = set()
    for path in (*(repo / "crowd4d_ros/nodes").glob("*.py"), *(repo / "launch").glob("*.py")):
        found |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.M))
    third_party = found - {*sys.stdlib_module_names, "crowd4d_ros"}
    return {{"tf2_ros": "tf2_ros_py"}.get(name, name) for name in third_party if name not in PYTHON}


def pins(repo: Path, file: str) -> set[str]:
    lines = re.findall(r"^([\w.-]+)==", (repo / "requirements" / file).read_text(), re.M)
    return {normal(name) for name in lines}


def test_one_version(repo: Path, wheel: zipfile.ZipFile) -> None:
    package = ElementTree.parse(repo / "package.xml").findtext("version")
    installed = re.search(r"^Version: (.+)$", metadata(wheel, "METADATA"), re.M)
    assert installed is not None
    assert crowd4d_ros.__version__ == package == installed[1]


def test_what_is_imported_is_installed(repo: Path, wheel: zipfile.ZipFile) -> None:
    assert imported_distributions(repo) <= required(wheel)


def test_what_is_installed_is_imported(repo: Path, wheel: zipfile.ZipFile) -> None:
    assert required(wheel) <= imported_distributions(repo)


def test_every_dependency_is_pinned(repo: Path, wheel: zipfile.ZipFile) -> None:
    assert pins(repo, "runtime.txt") == required(wheel)


def test_on_a_ros_machine_rosdep_and_one_pip_step_bring_everything(repo: Path, wheel: zipfile.ZipFile) -> None:
    package = ElementTree.parse(repo / "package.xml").getroot()
    keys = {entry.text for kind in ("depend", "exec_depend") for entry in package.iter(kind)}
    from_rosdep = {normal(name) for name, key in ROSDEP.items() if key in keys}
    assert from_rosdep | pins(repo, "ros-machine.txt") == required(wheel)
    assert not from_rosdep & pins(repo, "ros-machine.txt"), (
        "pip must not replace what the system's ROS is built against"
    )


def test_ros_packages_that_are_imported_are_declared(repo: Path) -> None:
    package = ElementTree.parse(repo / "package.xml").getroot()
    declared = {entry.text for kind in ("depend", "exec_depend") for entry in package.iter(kind)}
    assert imported_packages(repo) <= declared


def test_the_wheel_has_assets_and_types(repo: Path, wheel: zipfile.ZipFile) -> None:
    assets = {str(path.relative_to(repo)) for path in (repo / "crowd4d_ros/assets").iterdir()}
    assert assets
    assert assets | {"crowd4d_ros/py.typed"} <= set(wheel.namelist())


def test_without_ros_pip_installs_one_command(wheel: zipfile.ZipFile) -> None:
    assert (
        metadata(wheel, "entry_points.txt").split("\n\n")[0].strip()
        == "[console_scripts]\ncrowd4d = crowd4d_ros.cli:main"
    )


def test_importing_the_library_needs_no_ros(repo: Path) -> None:
    modules = [
        ".".join(path.relative_to(repo).with_suffix("").parts)
        for path in sorted((repo / "crowd4d_ros").rglob("*.py"))
        if "nodes" not in path.parts and path.stem != "__init__"
    ]
    script = f"""
import importlib, sys
for ros in ("rclpy", "cv_bridge", "sensor_msgs", "geometry_msgs", "ament_index_python"):
    sys.modules[ros] = None
for module in {modules}:
    importlib.import_module(module)
"""
    subprocess.run([sys.executable, "-c", script], cwd=repo, check=True)


def test_colcon_of_a_user_never_sees_the_underlay(repo: Path) -> None:
    assert (repo / "underlay/COLCON_IGNORE").exists()


def test_the_sourced_environment_names_an_existing_dds_profile() -> None:
    profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE")
    if profile is None:
        pytest.skip("the workspace is not sourced (make build)")
    assert ElementTree.parse(profile).getroot().tag.endswith("dds")
