"""The crowd from above: every path in metres, over the ground, with the camera and what it sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from crowd4d_ros.config import VisualizationConfig
from crowd4d_ros.io.camera import intrinsics_from
from crowd4d_ros.io.output import replacing
from crowd4d_ros.io.results import read_surface, read_tracks
from crowd4d_ros.lens import undistort
from crowd4d_ros.visualization import track_color
from crowd4d_ros.window import FloatArray, SurfaceMesh

DPI = 150
LEGEND_ROWS = 26
"""longest paths listed with their speeds; more would not fit beside the plan."""
ARROW = 0.3
"""metres over which the last direction of a path is taken: more than a stride's sway."""
RELIEF = LinearSegmentedColormap.from_list("relief", ["#c9c1b0", "#ebe7de", "#fbfaf7"])
"""Light, so that the paths stand out."""


def write_plan(
    path: Path,
    tracks: NDArray[np.void],
    cameras: dict[str, Any],
    surface: SurfaceMesh,
    config: VisualizationConfig,
) -> None:
    """A plan of tracks, cameras and surface as io.results reads them. Raises OutputError."""
    figure = plan_figure(tracks, cameras, surface, config)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")


def write_plan_of(folder: Path, config: VisualizationConfig) -> None:
    """plan.png of a results folder, from the files that are there. Raises OutputError."""
    cameras = json.loads((folder / "cameras.json").read_text())
    tracks, surface = read_tracks(folder / "tracks.csv"), read_surface(folder / "surface.ply")
    write_plan(folder / "plan.png", tracks, cameras, surface, config)


def plan_figure(
    tracks: NDArray[np.void], cameras: dict[str, Any], surface: SurfaceMesh, config: VisualizationConfig
) -> Figure:
    """The plan as a matplotlib figure: x, forward, is up in the picture; y, left, is left."""
    low, high = _extent(tracks, cameras, config.plan_margin)
    span = np.maximum(high - low, 1.0)
    drawn = (config.plan_size - 2.2) * span / span.max()
    figure = Figure(figsize=(max(drawn[1], 3.0) + 3.6, max(drawn[0], 3.0) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    _draw_ground(figure, axes, surface)
    _draw_camera(axes, cameras, float(np.linalg.norm(span)) * 2)
    rows = [_draw_path(axes, tracks[tracks["track_id"] == track_id], config) for track_id in _longest_first(tracks)]
    _draw_scale_bar(axes, low, high)
    axes.set_xlim(high[1], low[1])
    axes.set_ylim(low[0], high[0])
    axes.set_aspect("equal")
    tick = next((step for step in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if span.max() / step <= 12), 100.0)
    axes.xaxis.set_major_locator(MultipleLocator(tick))
    axes.yaxis.set_major_locator(MultipleLocator(tick))
    axes.set_xlabel("y, left [m]")
    axes.set_ylabel("x, forward [m]")
    axes.grid(color="0.6", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    people = len(np.unique(tracks["track_id"]))
    seconds = (tracks["stamp"].max() - tracks["stamp"].min()) / 1e9 if len(tracks) else 0.0
    axes.set_title(
        f"{people} {'person' if people == 1 else 'people'}, {seconds:.1f} s, "
        f"a dot every {config.plan_mark_interval:g} s;  ○ start  ▶ end",
        fontsize=10,
    )
    if rows:
        title = (
            "id    path   mean speed" if len(rows) <= LEGEND_ROWS else f"id, path, mean speed (longest {LEGEND_ROWS})"
        )
        axes.legend(
            handles=rows[:LEGEND_ROWS],
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            title_fontsize=8,
            frameon=False,
            prop={"family": "monospace", "size": 7},
        )
    else:
        axes.text(0.5, 0.5, "nobody was found", transform=axes.transAxes, ha="center", fontsize=14, color="0.4")
    return figure


def _extent(tracks: NDArray[np.void], cameras: dict[str, Any], margin: float) -> tuple[FloatArray, FloatArray]:
    points: list[FloatArray] = [np.zeros((1, 2))]
    if len(tracks):
        points.append(np.stack([tracks["foot_x"], tracks["foot_y"]], axis=-1))
    centers = _centers(cameras)
    points.append(centers[:, :2])
    stacked = np.concatenate(points)
    return stacked.min(axis=0) - margin, stacked.max(axis=0) + margin


def _centers(cameras: dict[str, Any]) -> FloatArray:
    frames = cameras["frames"]
    if not frames:
        return np.zeros((0, 3))
    R, t = np.array([frame["R"] for frame in frames]), np.array([frame["t"] for frame in frames])
    return np.asarray(-np.einsum("tji,tj->ti", R, t))


def _draw_ground(figure: Figure, axes: Axes, surface: SurfaceMesh) -> None:
    if not len(surface.faces):
        return
    x, y, z = surface.vertices.T
    mesh = Triangulation(y, x, surface.faces)
    relief = axes.tripcolor(mesh, z, shading="gouraud", cmap=RELIEF, zorder=0)
    relief.set_clim(z.min() - 0.05, z.max() + 0.05)
    step = next((step for step in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if np.ptp(z) / step <= 10), 10.0)
    levels = np.arange(np.ceil(z.min() / step), np.floor(z.max() / step) + 1) * step
    if len(levels):
        lines = axes.tricontour(mesh, z, levels=levels, colors="0.35", linewidths=0.5, zorder=1)
        axes.clabel(lines, fontsize=6, fmt="%.2f m")
    bar = figure.colorbar(relief, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("height of the ground, the first camera at 0 [m]", fontsize=8)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=7)


def _draw_camera(axes: Axes, cameras: dict[str, Any], reach: float) -> None:
    centers = _centers(cameras)
    if not len(centers):
        return
    intrinsics = intrinsics_from(
        cameras["width"], cameras["height"], cameras["K"], cameras["distortion"], cameras["distortion_model"]
    )
    middle = intrinsics.height / 2
    sides = undistort(intrinsics, np.array([[0.0, middle], [float(intrinsics.width), middle]]))
    rays = np.concatenate([sides, np.ones((2, 1))], axis=-1) @ np.array(cameras["frames"][0]["R"])
    flat = rays[:, :2] / np.linalg.norm(rays[:, :2], axis=-1, keepdims=True)
    start = centers[0, :2]
    wedge = np.stack([start, start + reach * flat[0], start + reach * flat[1]])[:, ::-1]
    axes.add_patch(Polygon(wedge, closed=True, facecolor="tab:blue", alpha=0.06, zorder=0.5))
    axes.plot(*wedge[[1, 0, 2]].T, color="tab:blue", linewidth=0.8, alpha=0.6, zorder=1.5)
    axes.plot(centers[:, 1], centers[:, 0], color="tab:blue", linewidth=1, zorder=4)
    axes.plot(*start[::-1], marker="^", markersize=10, color="tab:blue", markeredgecolor="white", zorder=5)
    axes.annotate("camera", (start[1], start[0]), (8, -3), textcoords="offset points", fontsize=8, color="tab:blue")


def _longest_first(tracks: NDArray[np.void]) -> list[int]:
    track_ids, counts = np.unique(tracks["track_id"], return_counts=True)
    return [int(track_id) for track_id in track_ids[np.argsort(-counts, kind="stable")]]


def _draw_path(axes: Axes, rows: NDArray[np.void], config: VisualizationConfig) -> Any:
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    track_id, color = int(rows["track_id"][0]), tuple(track_color(int(rows["track_id"][0])))
    seconds = rows["stamp"] / 1e9
    ground = np.stack([rows["foot_y"], rows["foot_x"]], axis=-1)
    together = np.diff(rows["frame"]) == 1
    breaks = np.flatnonzero(~together) + 1
    line = np.insert(ground, breaks, np.nan, axis=0)
    length = float(np.nansum(np.linalg.norm(np.diff(line, axis=0), axis=-1)))
    walked = float(np.diff(seconds)[together].sum())
    speed = length / walked if walked > 0 else 0.0
    label = f"{track_id:3d} {length:6.1f} m {speed:5.2f} m/s"
    (handle,) = axes.plot(*line.T, color=color, linewidth=1.6, solid_capstyle="round", zorder=3, label=label)
    beats = np.flatnonzero(np.diff(np.floor((seconds - seconds[0]) / config.plan_mark_interval + 1e-6), prepend=-1))
    axes.plot(*ground[beats].T, ".", color=color, markersize=4, zorder=3)
    axes.plot(*ground[0], "o", markersize=6, markerfacecolor="white", markeredgecolor=color, zorder=3.5)
    arrow = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "color": color, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tuple(ground[-1]), _before_end(ground), arrowprops=arrow, zorder=3.6)
    axes.annotate(
        str(track_id),
        tuple(ground[-1]),
        (5, 4),
        textcoords="offset points",
        fontsize=8,
        weight="bold",
        color=color,
        zorder=6,
    )
    return handle


def _before_end(ground: FloatArray) -> tuple[float, float]:
    distance = np.linalg.norm(ground - ground[-1], axis=-1)
    away = np.flatnonzero(distance > ARROW)
    y, x = ground[away[-1]] if len(away) else ground[0]
    return y, x


def _draw_scale_bar(axes: Axes, low: FloatArray, high: FloatArray) -> None:
    span = high[1] - low[1]
    length = max((step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if step <= span / 4), default=0.5)
    x, y = low[0] + 0.03 * (high[0] - low[0]), high[1] - 0.04 * span
    axes.plot([y, y - length], [x, x], color="black", linewidth=3, solid_capstyle="butt", zorder=7)
    axes.annotate(f"{length:g} m", (y - length / 2, x), (0, 4), textcoords="offset points", ha="center", fontsize=8)
