"""The package's Python side: what `pip install .` installs, and the scripts that CMakeLists.txt installs."""

import os
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

package = ElementTree.parse("package.xml").getroot()
name = package.findtext("name")

scripts = [f"crowd4d = {name}.cli:main"]
if "AMENT_PREFIX_PATH" in os.environ:  # without ROS, `pip install .` must not put a "player" on the user's PATH
    nodes = ("player", "initializer", "optimizer", "visualizer", "recorder")
    scripts += [f"{node} = {name}.nodes.{node}:main" for node in nodes]

setup(
    name=name,
    version=package.findtext("version"),
    description=package.findtext("description"),
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    author=package.findtext("maintainer"),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[name, f"{name}.*"]),
    package_data={name: ["py.typed", "assets/*"]},
    zip_safe=False,
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.11",
        "opencv-python-headless>=4.6,<5",
        "torch>=2.2",
        "onnxruntime>=1.17",
        "rosbags>=0.11.9",
        "trimesh>=4.0",
        "PyYAML>=6.0",
        "tqdm>=4.60",
        "matplotlib>=3.6",
        "motrics>=0.3",
        "safetensors>=0.4",
    ],
    extras_require={
        "smplx": ["smplx>=0.1.28"],
        "render": ["mitsuba>=3.9"],
        "dev": ["pytest>=8", "ruff", "mypy", "import-linter>=2", "smplx>=0.1.28"],
    },
    entry_points={"console_scripts": scripts},
)
