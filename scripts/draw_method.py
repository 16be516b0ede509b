#!/usr/bin/env python3
"""Draws the figures of docs/method.md: what Sec. 3.2 makes of a window of a real video, and of a synthetic one.

    crowd4d reconstruct VIDEO --camera-info CAMERA --out REAL --frames 240 --keep-work
    crowd4d synthesize --scene hill --camera surveillance --people 25 --frames 60 --seed 1 --out SYNTHETIC
    scripts/draw_method.py REAL SYNTHETIC [docs/images]

method_scene.jpg: points, SIPC, SIS. method_hsip.jpg: the paper's Fig. 3, measured. method_trails.jpg: HSIP over time.
Everything drawn is what the pipeline itself had when it anchored people; nothing is sketched. A minute on one core.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Polygon
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.config import Config, InteractionConfig
from crowd4d_ros.initialization.initializer import Initializer
from crowd4d_ros.interaction.anchors import hsip
from crowd4d_ros.interaction.point_cloud import reliable
from crowd4d_ros.interaction.proxy import Proxy
from crowd4d_ros.interaction.surface import Surface, without_spikes
from crowd4d_ros.io import open_input
from crowd4d_ros.io.arrays import load_list
from crowd4d_ros.io.camera import read_camera_info
from crowd4d_ros.lens import project
from crowd4d_ros.pipeline import Pipeline
from crowd4d_ros.sliding import windows
from crowd4d_ros.synthetic.files import read_observations
from crowd4d_ros.visualization import track_color
from crowd4d_ros.window import CrowdWindow, FloatArray, FrameObservations
from crowd4d_ros.world import World

WIDTH, DPI, QUALITY = 10.0, 130, 66
"""inches, dots per inch, JPEG: 1300 px, legible at the width of a page, and together below 600 kB."""
ANCHOR, MET, ROOT, PROXY, GROUND, PLANE, DROPPED, OBSERVED = (
    "#1f5fbf", "#e07b00", "#222222", "#d1105a", "#6b4a2b", "#17a2a2", "#c81e1e", "#f2b705",
)  # fmt: skip
SLAB = 0.5
"""metres on either side of a section: a cell of the SIPC."""
MARGIN = 4.0
"""metres of ground drawn around people."""
LIGHT = np.array([0.35, 0.85, 0.4])
"""where it comes from."""
ELEVATION = np.radians(32.0)
"""of the oblique view: steep enough to see behind the hill's top."""
RELIEF = 0.5
"""metres between contour lines; flatter ground gets none."""
UPRIGHT = 0.85
"""metres from root to lowest vertex: nobody who sits."""
TELLING = (0.3, 0.15, 0.12)
"""metres from a to s, from s to s*, and from r′ to r*, in the picture of one person: clear, and not rare."""
LEGEND_ROOM = 4.0
"""metres below a section."""
DEPTHS, MOSTLY = 3, 0.8
"""People whose μ is shown, and the share of the window for which they are there."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One window as ``pipeline.Pipeline.step`` has it when it anchors people, all in the frame scaled by α0.

    joints: (N, T, 24, 3), lowest: (N, T, 3) metres, of the bodies that are anchored.
    """

    name: str
    window: CrowdWindow
    config: Config
    body: BodyModel
    sipc: FloatArray
    surface: Surface
    joints: FloatArray
    lowest: FloatArray
    proxy: Proxy

    @property
    def camera(self) -> FloatArray:
        """(T, 3)."""
        return self.window.cameras.centers

    def vertices(self, person: int, t: int) -> FloatArray:
        """(6890, 3) of one initial body."""
        motion = self.window.motion
        given = (motion.betas[person], motion.body_pose[person, t], motion.global_orient[person, t])
        with torch.no_grad():
            tensors = (torch.as_tensor(a).to(self.body.v_template) for a in (*given, motion.transl[person, t]))
            return self.body.vertices(*tensors).double().cpu().numpy()

    def section(self, t: int, towards: FloatArray, points: FloatArray) -> FloatArray:
        """(…, 2) metres: distance from the camera towards a point (3,), and height above the camera."""
        along = _unit((towards - self.camera[t])[[0, 2]])
        return np.stack([(points - self.camera[t])[..., [0, 2]] @ along, points[..., 1] - self.camera[t, 1]], -1)

    def profile(self, t: int, towards: FloatArray, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Heights above the camera (K,) of SIS and reference plane at distances (K,) from it."""
        xz = self.camera[t, [0, 2]] + reach[:, None] * _unit((towards - self.camera[t])[[0, 2]])
        return self.surface.height(xz)[0] - self.camera[t, 1], self.surface.plane_height(xz) - self.camera[t, 1]

    def pixels(self, points: FloatArray, t: int) -> FloatArray:
        """(…, 2) of the image as it came."""
        cameras = self.window.cameras
        return project(self.window.intrinsics, points @ cameras.R[t].T + cameras.t[t])


def main() -> None:
    """All figures."""
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    out = Path(sys.argv[3] if len(sys.argv) == 4 else "docs/images")
    logging.getLogger("crowd4d_ros").setLevel(logging.ERROR)  # without descent the scale does not settle: no news
    config = Config()
    settings = replace(config.optimization, stages=1, stage1_iterations=0)  # all of the pipeline but the descent
    pipeline = Pipeline(replace(config, optimization=settings))
    real, image_of = real_scene(Path(sys.argv[1]), pipeline)
    synthetic = synthetic_scene(Path(sys.argv[2]), pipeline)
    for name, figure in (
        ("scene", scene_figure(real, image_of, synthetic)),
        ("hsip", hsip_figure(real, image_of, synthetic)),
        ("trails", trails_figure(real, synthetic)),
    ):
        path = out / f"method_{name}.jpg"
        figure.savefig(path, dpi=DPI, facecolor="white", pil_kwargs={"quality": QUALITY, "optimize": True})
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def real_scene(folder: Path, pipeline: Pipeline) -> tuple[Scene, Any]:
    """The fullest window of ``crowd4d reconstruct --keep-work``, and its images by the window's frame."""
    arguments = json.loads((folder / "report.json").read_text())["arguments"]
    calibration = pipeline.config.calibration
    patient = replace(pipeline.config, calibration=replace(calibration, frames=calibration.recording_frames))
    initializer = Initializer(patient, read_camera_info(arguments["camera_info"]), pipeline.body)
    seen = (
        o for path in sorted((folder / ".work").glob("observations-*.npz")) for o in load_list(path, FrameObservations)
    )
    window = _fullest([w for o in seen for w in initializer.add(o)] + initializer.finish())

    def image(t: int) -> Image:
        source = open_input(arguments["input"], int(window.frames[t]), 1, arguments["fps"], arguments["topic"])
        return np.asarray(next(iter(source)).image[..., ::-1])

    return scene("the real video", window, pipeline), image


def synthetic_scene(folder: Path, pipeline: Pipeline) -> Scene:
    """The fullest window of ``crowd4d synthesize``."""
    name = json.loads((folder / "report.json").read_text())["request"]["scene"]
    whole = read_observations(folder / "observations.npz")
    return scene(f"a synthetic {name}", _fullest(list(windows(whole, pipeline.config.window))), pipeline)


def scene(name: str, window: CrowdWindow, pipeline: Pipeline) -> Scene:
    """One window as the pipeline itself has it before the first iteration."""
    seen: list[tuple[CrowdWindow, FloatArray, FloatArray, Surface, Proxy]] = []

    def anchor(
        window: CrowdWindow, joints: FloatArray, lowest: FloatArray, surface: Surface, config: InteractionConfig
    ) -> Proxy:
        seen.append((window, joints, lowest, surface, hsip(window, joints, lowest, surface, config)))
        return seen[-1][-1]

    pipeline.coupling = replace(pipeline.coupling, anchor=anchor)
    motion, _ = pipeline.step(window, World())
    if not seen:
        sys.exit(f"{name}: {'; '.join(motion.warnings)}")
    window, joints, lowest, surface, proxy = seen[0]
    return Scene(name, window, pipeline.config, pipeline.body, motion.sipc, surface, joints, lowest, proxy)


# --- points, SIPC, SIS -----------------------------------------------------------------------------------------------


def scene_figure(real: Scene, image_of: Any, synthetic: Scene) -> Figure:
    """Eq. 3–6: the real scene in its image; the synthetic one from above, as a mesh, and cut open."""
    figure = Figure(figsize=(WIDTH, 10.4), layout="constrained")
    rows = figure.subfigures(3, 1, height_ratios=(2.75, 3.9, 3.5))
    _scene_in_image(rows[0], real, image_of)
    _scene_from_above(rows[1], synthetic)
    mesh, section = rows[2].subplots(1, 2, width_ratios=(1.0, 1.25))
    _scene_as_mesh(mesh, synthetic)
    _scene_in_section(section, synthetic)
    return figure


def _scene_in_image(part: Any, real: Scene, image_of: Any) -> None:
    t = _busiest_frame(real)
    image = image_of(t)
    panels = part.subplots(1, 3)
    trusted = reliable(real.window.scene, real.config.interaction)
    points, confidence = real.pixels(real.window.scene.points, t), real.window.scene.confidence
    panels[0].scatter(*points[~trusted].T, s=1.5, c="0.85", linewidths=0)
    panels[0].scatter(*points[trusted].T, s=2.5, c=confidence[trusted], cmap="autumn", linewidths=0)
    panels[0].set_title("the real video: points; white: confidence < τ_c", fontsize=9.5)
    panels[1].scatter(*real.pixels(real.sipc, t).T, s=4, c=OBSERVED, linewidths=0)
    panels[1].set_title("SIPC (Eq. 3–5): the ground in each cell", fontsize=9.5)
    corners = _corners(real.surface)
    share = real.surface.observed(corners.mean(1)[:, [0, 2]])
    pixels = real.pixels(corners, t)
    size = np.array([real.window.intrinsics.width, real.window.intrinsics.height])
    seen = (np.isfinite(pixels) & (pixels > -size) & (pixels < 2 * size)).all((-1, -2))
    for chosen, color in ((share > 0.5, OBSERVED), (share <= 0.5, PLANE)):
        panels[2].add_collection(
            PolyCollection(
                pixels[seen & chosen], facecolors=[(*to_rgb(color), 0.28)], edgecolors=color, linewidths=0.15
            )
        )
    panels[2].set_title("SIS (Eq. 6): a mesh, beyond points the plane", fontsize=9.5)
    panels[2].legend(
        handles=[Patch(color=OBSERVED, label="near SIPC points"), Patch(color=PLANE, label="reference plane")],
        loc="lower left", fontsize=8, framealpha=0.9,
    )  # fmt: skip
    for axes in panels:
        _show(axes, image)


def _scene_from_above(part: Any, scene: Scene) -> None:
    panels = part.subplots(1, 3, sharex=True, sharey=True)
    surface, points = scene.surface, scene.window.scene.points
    trusted = reliable(scene.window.scene, scene.config.interaction)
    low, high = _height_range(scene)
    heights = {"vmin": low, "vmax": high, "cmap": "terrain"}
    panels[0].scatter(*_plan(points[~trusted]).T, s=1.2, c="0.75", linewidths=0)
    panels[0].scatter(*_plan(points[trusted]).T, s=1.2, c=points[trusted, 1], linewidths=0, **heights)
    panels[0].set_title(f"{scene.name}: points; grey: c < τ_c", fontsize=9.5)
    shown = panels[1].scatter(*_plan(scene.sipc).T, s=5, marker="s", c=scene.sipc[:, 1], linewidths=0, **heights)
    panels[1].scatter(*_plan(scene.sipc[_is_spike(scene)]).T, s=11, marker="x", c=DROPPED, linewidths=0.8)
    panels[1].set_title("SIPC; ×: spikes, which SIS leaves out", fontsize=9.5)
    corners = _corners(surface)
    panels[2].add_collection(
        PolyCollection(_plan(corners), facecolors=_paint(scene, corners), edgecolors="face", linewidths=0.1)
    )
    dropped = _dropped(surface)
    panels[2].add_collection(PolyCollection(_plan(dropped), facecolors=DROPPED, edgecolors=DROPPED, linewidths=0.3))
    panels[2].set_title("SIS; grey: the plane, red: triangles left out", fontsize=9.5)
    bar = part.colorbar(shown, ax=panels, location="right", shrink=0.85, aspect=30, pad=0.01)
    bar.set_label("height above the camera [m]", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    low_corner, high_corner = _extent(scene)
    for axes in panels:
        axes.plot(*_plan(scene.camera[0]), marker="^", color="black", markersize=8, clip_on=False)
        _view_wedge(axes, scene, _busiest_frame(scene))
        axes.set_xlim(low_corner[0], high_corner[0])
        axes.set_ylim(-1.0, high_corner[1])
        axes.set_aspect("equal")
        axes.set_xlabel("right [m]", fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("ahead of the camera ▲ [m]", fontsize=9)


def _scene_as_mesh(axes: Axes, scene: Scene) -> None:
    """Seen obliquely from above the camera, without perspective, far triangles first."""
    low, high = _extent(scene)
    kept, dropped = _corners(scene.surface), _dropped(scene.surface)
    corners = np.concatenate([kept, dropped])
    colors = np.concatenate([_paint(scene, kept), np.tile([*to_rgb(DROPPED), 1.0], (len(dropped), 1))])
    middle = _plan(corners.mean(1))
    near = ((middle > low) & (middle < high)).all(-1)
    corners, colors, middle = corners[near], colors[near], middle[near]
    order = np.argsort(-middle[:, 1], kind="stable")
    axes.add_collection(
        PolyCollection(_oblique(corners[order]), facecolors=colors[order], edgecolors=(0, 0, 0, 0.18), linewidths=0.15)
    )
    valid = scene.proxy.valid[:, _busiest_frame(scene)]
    feet = _oblique(scene.proxy.point[valid, _busiest_frame(scene)])
    axes.plot(*feet.T, "*", color=PROXY, markersize=7, markeredgecolor="white", markeredgewidth=0.5)
    axes.autoscale()
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title("the SIS as a mesh, heights doubled; ★ people", fontsize=9.5)


def _scene_in_section(axes: Axes, scene: Scene) -> None:
    t = _busiest_frame(scene)
    towards = scene.camera[t] + scene.window.cameras.R[t][2]
    trusted = reliable(scene.window.scene, scene.config.interaction)
    along = _unit((towards - scene.camera[t])[[0, 2]])
    aside = np.array([-along[1], along[0]])

    def near(points: FloatArray) -> FloatArray:
        offset = (points - scene.camera[t])[:, [0, 2]]
        return scene.section(t, towards, points[(np.abs(offset @ aside) < SLAB) & (offset @ along > 0)])

    points, is_spike = scene.window.scene.points, _is_spike(scene)
    sipc = near(scene.sipc[~is_spike])
    reach = np.linspace(0.0, sipc[:, 0].max() + 12.0, 600)
    ground, plane = scene.profile(t, towards, reach)
    axes.plot(*near(points[~trusted]).T, ".", color="0.7", markersize=3, label="points, confidence < τ_c")
    axes.plot(*near(points[trusted]).T, ".", color="#5b8c3a", markersize=3, label="points, confidence ≥ τ_c")
    axes.plot(*sipc.T, "s", color=OBSERVED, markersize=4, markeredgecolor="black", markeredgewidth=0.4, label="SIPC")
    axes.plot(*near(scene.sipc[is_spike]).T, "x", color=DROPPED, markersize=6, label="SIPC, spikes left out")
    axes.plot(reach, plane, "--", color=PLANE, linewidth=1.4, label="reference plane")
    axes.plot(reach, ground, color=GROUND, linewidth=1.8, label="SIS")
    axes.plot(0, 0, "^", color="black", markersize=9, label="camera")
    axes.set_xlim(-1, reach[-1])
    axes.set_ylim(min(ground.min(), plane.min()) - LEGEND_ROOM, 2.0)
    axes.set_xlabel("distance ahead of the camera [m]", fontsize=9)
    axes.set_ylabel("height [m]", fontsize=9)
    axes.set_title("cut along the optical axis, a metre thick", fontsize=9.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize=7.5, loc="lower right", framealpha=0.9)


# --- HSIP ------------------------------------------------------------------------------------------------------------


def hsip_figure(real: Scene, image_of: Any, synthetic: Scene) -> Figure:
    """The paper's Fig. 3 for two people: overlay or whole ray, body, and feet."""
    figure = Figure(figsize=(WIDTH, 8.4), layout="constrained")
    panels = figure.subplots(2, 3, width_ratios=(1.75, 0.85, 1.3))
    person, t = _telling(real)
    _hsip_in_image(panels[0, 0], real, image_of, person, t)
    _side_view(panels[0, 1], panels[0, 2], real, person, t)
    panels[0, 0].set_title("The real video: paths of s*, and s* with its range", fontsize=10)
    person, t = _telling(synthetic)
    _whole_ray(panels[1, 0], synthetic, person, t)
    _side_view(panels[1, 1], panels[1, 2], synthetic, person, t)
    panels[1, 0].set_title(f"{synthetic.name.capitalize()}: the whole ray", fontsize=10)
    figure.legend(handles=_symbols(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _marks(scene: Scene, person: int, t: int) -> Iterator[tuple[str, str, str, FloatArray]]:
    """Symbol, marker, colour and place of all that Eq. 7–15 make of one person."""
    proxy, camera = scene.proxy, scene.camera[t]
    root = scene.joints[person, t, 0]
    raw = _raw_depth(scene)[person, t]
    yield "τ̄", "o", ROOT, root
    yield "a", "s", ANCHOR, proxy.anchor[person, t]
    yield "a′", "v", ANCHOR, proxy.probe[person, t]
    yield "s", "s", MET, proxy.hit[person, t]
    yield "s′", "v", MET, proxy.probe_hit[person, t]
    yield "r′", "D", "0.6", camera + raw * (root - camera)
    yield "r*", "D", PROXY, proxy.reference[person, t]
    yield "s*", "*", PROXY, proxy.point[person, t]


def _symbols() -> list[Any]:
    def mark(marker: str, color: str, label: str) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker=marker, color=color, markersize=11 if marker == "*" else 7,
            markeredgecolor="black", markeredgewidth=0.5, label=label,
        )  # fmt: skip

    return [
        mark("o", ROOT, "τ̄  initial root"),
        mark("s", ANCHOR, "a  anchor (Eq. 7)"),
        mark("v", ANCHOR, "a′  probe (Eq. 8)"),
        Line2D([], [], color=GROUND, linewidth=2, label="SIS (Eq. 6)"),
        mark("s", MET, "s  where a's ray meets it (Eq. 10)"),
        mark("v", MET, "s′  where a′'s does (Eq. 10)"),
        mark("D", "0.6", "r′  frame by frame (Eq. 11)"),
        Line2D([], [], color="0.35", linewidth=1, label="viewing rays (Eq. 9)"),
        mark("D", PROXY, "r*  smoothed (Eq. 14)"),
        mark("*", PROXY, "s*  the HSIP (Eq. 15)"),
        Patch(color=PROXY, alpha=0.25, label="support range (Eq. 16)"),
        Patch(color="#7aa6d8", alpha=0.5, label="initial body"),
    ]


def _hsip_in_image(axes: Axes, scene: Scene, image_of: Any, chosen: int, t: int) -> None:
    image = image_of(t)
    closer = axes.inset_axes((0.02, 0.03, 0.36, 0.56))
    for person in np.flatnonzero(scene.proxy.valid[:, t]):
        color = track_color(int(scene.window.track_ids[person]))
        body = scene.pixels(scene.vertices(person, t), t)[scene.body.faces.cpu().numpy()]
        ring = scene.pixels(_ring(scene, person, t), t)
        trail = scene.pixels(scene.proxy.point[person, scene.proxy.valid[person]], t)
        for panel, marker in ((axes, 7), (closer, 12)):
            panel.add_collection(PolyCollection(body, facecolors=[(*color, 0.12)], linewidths=0))
            panel.add_patch(Polygon(ring, facecolor=(*to_rgb(PROXY), 0.4), edgecolor=PROXY, linewidth=1))
            panel.plot(*trail.T, color=color, linewidth=1.2)
            panel.plot(*scene.pixels(scene.proxy.point[person, t], t), "*", color=PROXY, markersize=marker,
                       markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
        if person == chosen:
            low, high = np.nanmin(body, (0, 1)), np.nanmax(np.concatenate([body.reshape(-1, 2), ring]), 0)
    for _, marker, color, place in _marks(scene, chosen, t):
        if marker != "*":
            closer.plot(*scene.pixels(place, t), marker, color=color, markersize=6, markeredgecolor="white",
                        markeredgewidth=0.5)  # fmt: skip
    for panel in (axes, closer):
        _show(panel, image)
    middle, half = (low + high) / 2, 0.6 * float((high - low).max())
    reach = half * np.array([0.85, 1.0])
    middle = np.clip(middle, reach, np.array(image.shape[1::-1]) - reach)
    closer.set_xlim(middle[0] - reach[0], middle[0] + reach[0])
    closer.set_ylim(middle[1] + reach[1], middle[1] - reach[1])
    closer.set_axis_on()
    closer.set_xticks([])
    closer.set_yticks([])
    for spine in closer.spines.values():
        spine.set(color="white", linewidth=1.5)
    axes.indicate_inset_zoom(closer, edgecolor="white", alpha=1.0)


def _whole_ray(axes: Axes, scene: Scene, person: int, t: int) -> None:
    root = scene.joints[person, t, 0]
    end = scene.section(t, root, scene.proxy.point[person, t])[0]
    reach = np.linspace(0.0, end * 1.15, 500)
    ground, plane = scene.profile(t, root, reach)
    axes.fill_between(reach, ground, ground.min() - 3, color=GROUND, alpha=0.12, linewidth=0)
    axes.plot(reach, plane, "--", color=PLANE, linewidth=1, label="reference plane")
    axes.plot(reach, ground, color=GROUND, linewidth=2)
    _rays(axes, scene, person, t)
    axes.plot(0, 0, "^", color="black", markersize=10)
    axes.annotate("camera", (0, 0), (6, 4), textcoords="offset points", fontsize=9)
    _body(axes, scene, person, t)
    for _, marker, color, place in _marks(scene, person, t):
        axes.plot(*scene.section(t, root, place), marker, color=color, markersize=5, markeredgecolor="black",
                  markeredgewidth=0.4)  # fmt: skip
    axes.set_ylim(min(ground.min(), plane.min()) - 1, 2)
    axes.set_xlabel("distance from the camera [m]", fontsize=9)
    axes.set_ylabel("height above the camera [m]", fontsize=9)
    axes.legend(fontsize=8, loc="lower left")
    axes.grid(alpha=0.3)


def _side_view(whole: Axes, feet: Axes, scene: Scene, person: int, t: int) -> None:
    """In the vertical plane of the root's ray, which holds all of Eq. 7–15."""
    root = scene.joints[person, t, 0]
    marks = {name: scene.section(t, root, place) for name, _, _, place in _marks(scene, person, t)}
    body = scene.section(t, root, scene.vertices(person, t))
    for axes in (whole, feet):
        reach = np.linspace(marks["s*"][0] - 6, marks["s*"][0] + 6, 600)
        ground, plane = scene.profile(t, root, reach)
        axes.fill_between(reach, ground, ground.min() - 6, color=GROUND, alpha=0.12, linewidth=0)
        axes.plot(reach, plane, "--", color=PLANE, linewidth=1)
        axes.plot(reach, ground, color=GROUND, linewidth=2)
        _body(axes, scene, person, t)
        _rays(axes, scene, person, t)
        radius = scene.proxy.range[person, t]
        support = marks["s*"] + radius * np.array([[-1.0, 0.0], [1.0, 0.0]])
        axes.plot(*support.T, color=PROXY, linewidth=7, alpha=0.25, solid_capstyle="butt")
        for name, marker, color, place in _marks(scene, person, t):
            at = scene.section(t, root, place)
            axes.plot(*at, marker, color=color, markersize=13 if marker == "*" else 8, markeredgecolor="black",
                      markeredgewidth=0.5, zorder=5)  # fmt: skip
            if (axes is whole) == (name in ("τ̄", "r′", "r*")):
                axes.annotate(name, at, OFFSETS[name], textcoords="offset points", fontsize=11, zorder=6)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    feet_marks = np.stack([marks[name] for name in ("a", "a′", "s", "s′", "s*")])
    spread = np.concatenate([body, feet_marks, [marks["r*"], marks["r′"]]])
    whole.set_xlim(spread[:, 0].min() - 0.25, spread[:, 0].max() + 0.25)
    whole.set_ylim(spread[:, 1].min() - 0.2, spread[:, 1].max() + 0.15)
    low, high = feet_marks.min(0), feet_marks.max(0)
    middle, half = (low + high) / 2, np.maximum(float((high - low)[0]) * 0.66, 0.12) * np.array([1.0, 0.85])
    feet.set_xlim(middle[0] - half[0], middle[0] + half[0])
    feet.set_ylim(middle[1] - half[1], middle[1] + half[1])
    box = middle + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    whole.add_patch(Polygon(box, fill=False, edgecolor="0.3", linewidth=1, linestyle=":"))
    for axis in (whole.xaxis, whole.yaxis, feet.xaxis, feet.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    whole.set_title("one person, from the side", fontsize=10)
    feet.set_title("the dotted box", fontsize=10)
    whole.set_ylabel("height above the camera [m]", fontsize=9)
    whole.set_xlabel("distance from the camera [m]", fontsize=9)
    feet.set_xlabel("distance from the camera [m]", fontsize=9)


OFFSETS = {
    "τ̄": (-14, 8), "a": (-14, 4), "a′": (-16, -12), "s": (6, -16), "s′": (-8, 9), "r′": (-4, -19), "r*": (6, 8),
    "s*": (-6, -18),
}  # fmt: skip
"""points, of each symbol's name from its mark."""


def _rays(axes: Axes, scene: Scene, person: int, t: int) -> None:
    proxy, root = scene.proxy, scene.joints[person, t, 0]
    ends = (proxy.hit[person, t], proxy.probe_hit[person, t], root, proxy.reference[person, t])
    for target, color in zip(ends, (ANCHOR, ANCHOR, ROOT, ROOT), strict=True):
        end = scene.section(t, root, target)
        axes.plot([0, end[0]], [0, end[1]], color=color, linewidth=0.8, alpha=0.7)
    for places in (
        (root, proxy.probe[person, t]),
        (proxy.reference[person, t], proxy.point[person, t]),
    ):
        axes.plot(*scene.section(t, root, np.stack(places)).T, ":", color="0.2", linewidth=1.2)


def _body(axes: Axes, scene: Scene, person: int, t: int) -> None:
    vertices = scene.vertices(person, t)
    flat = scene.section(t, scene.joints[person, t, 0], vertices)
    axes.add_collection(
        PolyCollection(flat[scene.body.faces.cpu().numpy()], facecolors=[(0.48, 0.65, 0.85, 0.25)], linewidths=0)
    )


# --- HSIP over time --------------------------------------------------------------------------------------------------


def trails_figure(real: Scene, synthetic: Scene) -> Figure:
    """Everybody's HSIP from above, and μ before and after Eq. 13."""
    figure = Figure(figsize=(WIDTH, 9.6), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(1.35, 1.0))
    for axes, scene in zip(halves[0].subplots(1, 2), (real, synthetic), strict=True):
        _trails(axes, scene)
    panels = halves[1].subplots(DEPTHS, 2, sharex="col")
    halves[1].suptitle("μ along the root's ray (Eq. 12–14), three people of each", fontsize=10)
    for column, scene in enumerate((real, synthetic)):
        _depths(panels[:, column], scene)
    halves[1].legend(
        handles=[
            Line2D([], [], color="0.45", linewidth=0.9, label="initial root, μ = 1"),
            Line2D([], [], color="black", marker="o", markersize=3, linestyle="", label="μ of r′, frame by frame"),
            Line2D([], [], color="C0", linewidth=2, label="μ̃ of r*, in the person's colour"),
        ],
        loc="outside lower center", ncols=3, fontsize=9, frameon=False,
    )  # fmt: skip
    return figure


def _trails(axes: Axes, scene: Scene) -> None:
    window, proxy, surface = scene.window, scene.proxy, scene.surface
    t = _busiest_frame(scene)
    x, z = (surface.corner[a] + surface.spacing * np.arange(surface.heights.shape[a]) for a in (0, 1))
    if np.ptp(surface.heights) > RELIEF:
        levels = np.arange(np.floor(surface.heights.min()), surface.heights.max(), RELIEF)
        lines = axes.contour(x, -z, surface.heights.T, levels=levels, colors=GROUND, linewidths=0.6, alpha=0.4,
                             linestyles="solid")  # fmt: skip
        axes.clabel(lines, fontsize=7, fmt="%.1f m")
    for person in np.flatnonzero(proxy.valid.any(-1)):
        color = track_color(int(window.track_ids[person]))
        valid = proxy.valid[person]
        path, initial = (
            _plan(np.where(valid[:, None], a[person], np.nan)) for a in (proxy.point, scene.joints[:, :, 0])
        )
        axes.plot(*path.T, color=color, linewidth=2.2)
        axes.plot(*initial.T, color="black", linewidth=0.7)
        at = t if valid[t] else int(np.flatnonzero(valid)[-1])
        axes.add_patch(Circle(path[at], proxy.range[person, at], facecolor=(*to_rgb(PROXY), 0.35), edgecolor=PROXY))
        axes.plot(*path[at], "*", color=PROXY, markersize=6, markeredgecolor="white", markeredgewidth=0.4)
    axes.plot(*_plan(scene.camera[t]), "^", color="black", markersize=9)
    _view_wedge(axes, scene, t)
    people = _plan(np.concatenate([proxy.point[proxy.valid], scene.joints[proxy.valid, 0]]))
    low, high = people.min(0) - MARGIN, people.max(0) + MARGIN
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    people_count, seconds = int(proxy.valid.any(-1).sum()), window.seconds[-1]
    axes.set_title(f"{scene.name.capitalize()}: {people_count} people in {seconds:.1f} s", fontsize=10)
    axes.set_xlabel("right [m]", fontsize=9)
    axes.set_ylabel("ahead of the camera [m]", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(
        handles=[
            Line2D([], [], color="black", linewidth=0.7, label="initial roots τ̄"),
            Line2D([], [], color="C0", linewidth=2.2, label="HSIP s*, a colour each"),
            Patch(facecolor=(*to_rgb(PROXY), 0.35), edgecolor=PROXY, label="range around s*, one frame"),
        ],
        loc="best", fontsize=8, framealpha=0.9,
    )  # fmt: skip


def _depths(panels: NDArray[np.object_], scene: Scene) -> None:
    """Those whose μ jumps most from frame to frame, of those who are there for most of the window."""
    seconds, proxy = scene.window.seconds, scene.proxy
    raw = np.where(proxy.probe_met, _raw_depth(scene), np.nan)
    smooth = np.where(proxy.valid, proxy.depth, np.nan)
    jumps = np.nansum(np.abs(np.diff(raw - smooth, axis=-1)), -1) * (proxy.valid.mean(-1) > MOSTLY)
    for axes, person in zip(panels, np.argsort(-jumps), strict=False):
        axes.axhline(1.0, color="0.45", linewidth=0.9)
        axes.plot(seconds, raw[person], "o", color="black", markersize=2.5)
        axes.plot(seconds, smooth[person], color=track_color(int(scene.window.track_ids[person])), linewidth=2)
        axes.set_ylabel("μ", fontsize=9, rotation=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("time [s]", fontsize=9)


# --- shared ----------------------------------------------------------------------------------------------------------


def _fullest(given: list[CrowdWindow]) -> CrowdWindow:
    return max(given, key=lambda window: int(window.valid.sum()))


def _busiest_frame(scene: Scene) -> int:
    """Most people; of those frames the middle one."""
    people = scene.proxy.valid.sum(0)
    best = np.flatnonzero(people == people.max())
    return int(best[len(best) // 2])


def _telling(scene: Scene) -> tuple[int, int]:
    """A near person who stands or walks, whose anchor and surface are far enough apart to be told from each other."""
    proxy = scene.proxy
    distance = np.linalg.norm(proxy.point - scene.camera, axis=-1)
    upright = scene.joints[..., 0, 1] - scene.lowest[..., 1] > UPRIGHT
    usable = proxy.valid & proxy.met & proxy.probe_met & scene.window.observed & upright
    usable &= distance < np.median(distance[usable])
    usable &= proxy.anchor[..., 1] > proxy.hit[..., 1]  # as in the paper's figure
    roots = scene.joints[..., 0, :] - scene.camera
    raw = scene.camera + _raw_depth(scene)[..., None] * roots
    pairs = ((proxy.anchor, proxy.hit), (proxy.hit, proxy.point), (raw, proxy.reference))
    gaps = np.stack([np.linalg.norm(first - second, axis=-1) for first, second in pairs], -1)
    error = np.where(usable, np.abs(np.log(np.maximum(gaps, 1e-3) / TELLING)).sum(-1), np.inf)
    person, t = np.unravel_index(int(error.argmin()), error.shape)
    return int(person), int(t)


def _raw_depth(scene: Scene) -> FloatArray:
    """(N, T) μ of Eq. 12, of the probe's ray, before Eq. 13."""
    proxy = scene.proxy
    met = np.linalg.norm(proxy.probe_hit - scene.camera, axis=-1)
    return np.asarray(met / np.linalg.norm(proxy.probe - scene.camera, axis=-1))


def _is_spike(scene: Scene) -> NDArray[np.bool_]:
    """(M,) the SIPC points that the surface leaves out."""
    kept = without_spikes(scene.sipc, scene.surface.plane, scene.config.interaction)
    distance, _ = cKDTree(kept).query(scene.sipc)
    return np.asarray(distance > 0)


def _corners(surface: Surface) -> FloatArray:
    """(F, 3, 3) the mesh's triangles."""
    mesh = surface.mesh()
    return np.asarray(mesh.vertices[mesh.faces])


def _dropped(surface: Surface) -> FloatArray:
    """(F, 3, 3) the triangles with long edges."""
    return _corners(replace(surface, kept=~surface.kept))


def _paint(scene: Scene, corners: FloatArray) -> FloatArray:
    """(F, 4) of triangles (F, 3, 3): their height's colour, grey where there is only the plane, shaded."""
    low, high = _height_range(scene)
    colors = np.asarray(colormaps["terrain"]((corners[..., 1].mean(-1) - low) / (high - low)))
    share = scene.surface.observed(corners.mean(1)[:, [0, 2]])[:, None]
    colors[:, :3] = (share * colors[:, :3] + (1 - share) * 0.86) * _shade(corners)[:, None]
    return colors


def _height_range(scene: Scene) -> tuple[float, float]:
    low, high = np.percentile(scene.sipc[~_is_spike(scene), 1], [2, 98])
    return float(low), float(high + 0.25 * (high - low))  # the map's end is as white as the paper


def _extent(scene: Scene) -> tuple[FloatArray, FloatArray]:
    """Lower left and upper right of the ground with people, from above."""
    people = _plan(np.concatenate([scene.proxy.point[scene.proxy.valid], scene.camera[:1]]))
    return people.min(0) - 2 * MARGIN, people.max(0) + 2 * MARGIN


def _oblique(points: FloatArray) -> FloatArray:
    """(…, 2) points seen without perspective from above the camera, heights doubled."""
    return np.stack([points[..., 0], -points[..., 2] * np.sin(ELEVATION) + 2 * points[..., 1] * np.cos(ELEVATION)], -1)


def _shade(triangles: FloatArray) -> FloatArray:
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.asarray(np.clip(0.55 + 0.5 * np.abs(normal @ _unit(LIGHT)), 0, 1))


def _plan(points: FloatArray) -> FloatArray:
    """(…, 2) from above: right, ahead."""
    return np.asarray(points[..., [0, 2]] * [1.0, -1.0])


def _view_wedge(axes: Axes, scene: Scene, t: int) -> None:
    """What the image spans, from above."""
    intrinsics, cameras = scene.window.intrinsics, scene.window.cameras
    K = intrinsics.K_rectified
    edges = [np.array([(u - K[0, 2]) / K[0, 0], 0.0, 1.0]) @ cameras.R[t] for u in (0.0, intrinsics.width)]
    for edge in edges:
        end = scene.camera[t] + 400 * np.array([*_unit(edge[[0, 2]])])[[0, 0, 1]] * [1, 0, 1]
        axes.plot(*_plan(np.stack([scene.camera[t], end])).T, color="black", linewidth=0.7, alpha=0.6, scalex=False,
                  scaley=False)  # fmt: skip


def _ring(scene: Scene, person: int, t: int) -> FloatArray:
    """(48, 3) the support range around s*, on the surface."""
    angle = np.linspace(0, 2 * np.pi, 48)
    xz = scene.proxy.point[person, t, [0, 2]] + scene.proxy.range[person, t] * np.stack(
        [np.cos(angle), np.sin(angle)], -1
    )
    return np.stack([xz[:, 0], scene.surface.height(xz)[0], xz[:, 1]], -1)


def _show(axes: Axes, image: Image) -> None:
    axes.imshow(image, zorder=0)
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)
    axes.set_axis_off()


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))


if __name__ == "__main__":
    main()
