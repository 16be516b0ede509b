"""Pictures of synthetic worlds, by Mitsuba 3 (the extra ``render``): sun, sky, shadows, clothes.

In front of a fixed camera only what moves is rendered again: people, their shadows, and where they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from scipy import ndimage, sparse

from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.synthetic.appearance import ground_tile, structure_colors, wardrobe
from crowd4d_ros.synthetic.config import RenderConfig
from crowd4d_ros.synthetic.structures import face_kinds, mesh
from crowd4d_ros.synthetic.truth import Truth
from crowd4d_ros.window import FloatArray, SurfaceMesh

VARIANT = "scalar_rgb"
"""Mitsuba's only one that needs neither LLVM nor CUDA."""
TO_OPTICAL = np.diag([-1.0, -1.0, 1.0])
"""Mitsuba's cameras look along z with x to the left and y up."""
MARGIN = 6
"""px around what moves: the filters' width."""
CHANGE = 0.01
"""radiance, of 1: less is the faint shade that people cast on everything around them."""
NEAR = 0.5
"""metres: what is nearer to the camera is not drawn."""

PAINTED = {"type": "diffuse", "reflectance": {"type": "mesh_attribute", "name": "vertex_color"}}
"""A material of every vertex's own colour."""

Image = np.ndarray[Any, np.dtype[np.uint8]]


class RenderError(RuntimeError):
    """No picture can be made; the message says what to do."""


def frames(truth: Truth, body: BodyModel, config: RenderConfig, rng: np.random.Generator) -> Iterator[Image]:
    """Every frame of the truth, (H, W, 3) uint8 BGR, without lens distortion: K_rectified.

    body: the truth's. Raises RenderError where the renderer is not installed.
    """
    scene = _Scene(truth, body, config, rng)
    for t in range(truth.num_frames):
        yield _developed(scene.radiance(t), config, rng)


class _Scene:
    def __init__(self, truth: Truth, body: BodyModel, config: RenderConfig, rng: np.random.Generator) -> None:
        self.mi = _mitsuba()
        self.truth, self.body, self.config = truth, body, config
        self.clothes = wardrobe(truth.num_people, body, rng)
        self.faces = body.faces.cpu().numpy()
        self.incidence = _incidence(self.faces, len(body.v_template))
        self.static = self._static(rng)
        still = np.ptp(truth.cameras.R, axis=0).max() == 0 and np.ptp(truth.cameras.t, axis=0).max() == 0
        self.seed = int(rng.integers(2**31))
        width, height = truth.intrinsics.width, truth.intrinsics.height
        whole = (0, 0, width, height)
        self.empty = self._loaded({})
        self.background = self._rendered(self.empty, 0, whole, config.background_samples) if still else None

    def radiance(self, t: int) -> FloatArray:
        """(H, W, 3) linear, RGB."""
        seen = np.flatnonzero(self.truth.valid[:, t])
        vertices = self._clothed(seen, t)
        scene = self._loaded(self._people(vertices, seen))
        width, height = self.truth.intrinsics.width, self.truth.intrinsics.height
        if self.background is None:
            return self._rendered(scene, t, (0, 0, width, height), self.config.samples)
        picture, share = self.background.copy(), np.zeros((height, width, 1))
        for left, top, right, bottom in self._moving(vertices, t):
            region = (left, top, right - left, bottom - top)
            share[top:bottom, left:right, 0] = self._changed(scene, t, region)
        for left, top, right, bottom in _rectangles(share[..., 0] > 0):
            here = slice(top, bottom), slice(left, right)
            moving = self._rendered(scene, t, (left, top, right - left, bottom - top), self.config.samples)
            picture[here] += share[here] * (moving - picture[here])
        return picture

    def _changed(self, scene: Any, t: int, region: tuple[int, int, int, int]) -> FloatArray:
        """(h, w) in [0, 1]: where people or their shadows are, 1. Equal seeds make all else equal, sample by sample."""
        with_people = self._rendered(scene, t, region, self.config.mask_samples)
        without = self._rendered(self.empty, t, region, self.config.mask_samples)
        difference = cv2.blur(np.abs(with_people - without).max(-1), (MARGIN, MARGIN))
        grown = cv2.dilate((difference > CHANGE).astype(np.float32), np.ones((MARGIN, MARGIN), np.uint8))
        return np.asarray(cv2.blur(grown, (MARGIN, MARGIN)))

    def _static(self, rng: np.random.Generator) -> dict[str, Any]:
        """Ground, structures, sun and sky."""
        mi, config, truth = self.mi, self.config, self.truth
        ground = truth.terrain.mesh()
        texture = {
            "type": "bitmap",
            "data": mi.TensorXf(ground_tile(truth.scene, config.tile_pixels, rng).astype(np.float32)),
            "raw": True,
        }
        objects = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 2},
            # A cosine-weighted ray meets an even sky without noise; who picks a lamp first spends half on each.
            "sky": {
                "type": "constant",
                "radiance": {"type": "rgb", "value": [0.62, 0.72, 0.86]},
                "sampling_weight": 0.0,
            },
            "sun": {
                "type": "directional",
                "direction": list(config.sun),
                "irradiance": {"type": "rgb", "value": (config.sunlight * np.array([1.0, 0.95, 0.85])).tolist()},
            },
            "ground": self._mesh(
                ground,
                {"type": "diffuse", "reflectance": texture},
                uv=ground.vertices[:, [0, 2]] / config.tile,
                flat=True,  # smoothed, stairs would look like slopes
            ),
        }
        built = mesh(truth.structures)
        if len(built.faces):
            colors = structure_colors(built, face_kinds(truth.structures), rng)
            objects["structures"] = self._mesh(built, PAINTED, color=colors, flat=True)
        return objects

    def _clothed(self, seen: np.ndarray[Any, Any], t: int) -> FloatArray:
        """(n, V, 3) the surface of clothes and skin of the people ``seen``."""
        m = self.truth.motion
        like = self.body.v_template
        arrays = (m.betas[seen], m.body_pose[seen, t], m.global_orient[seen, t], m.transl[seen, t])
        with torch.no_grad():
            vertices = self.body.vertices(*(torch.as_tensor(a, dtype=like.dtype) for a in arrays)).numpy()
        triangles = vertices[:, self.faces]
        normals = np.cross(triangles[:, :, 1] - triangles[:, :, 0], triangles[:, :, 2] - triangles[:, :, 0])
        summed = np.stack([self.incidence @ person for person in normals]) if len(seen) else vertices
        outward = summed / np.maximum(np.linalg.norm(summed, axis=-1, keepdims=True), 1e-12)
        return np.asarray(vertices + self.clothes.thickness[seen][..., None] * outward)

    def _people(self, vertices: FloatArray, seen: np.ndarray[Any, Any]) -> dict[str, Any]:
        if not len(seen):
            return {}
        count = vertices.shape[1]
        faces = (self.faces[None] + count * np.arange(len(seen))[:, None, None]).reshape(-1, 3)
        everybody = SurfaceMesh(vertices.reshape(-1, 3), faces)
        return {"people": self._mesh(everybody, PAINTED, color=self.clothes.colors[seen].reshape(-1, 3))}

    def _mesh(
        self,
        surface: SurfaceMesh,
        material: dict[str, Any],
        uv: FloatArray | None = None,
        color: FloatArray | None = None,
        flat: bool = False,
    ) -> Any:
        properties = self.mi.Properties()
        properties["bsdf"] = self.mi.load_dict({"type": "twosided", "inner": material})
        properties["face_normals"] = flat
        result = self.mi.Mesh(
            "mesh", len(surface.vertices), len(surface.faces), properties,
            has_vertex_normals=not flat, has_vertex_texcoords=uv is not None,
        )  # fmt: skip
        if color is not None:
            result.add_attribute("vertex_color", 3, np.ascontiguousarray(color, np.float32).ravel())
        values = self.mi.traverse(result)
        values["vertex_positions"] = np.ascontiguousarray(surface.vertices, np.float32).ravel()
        values["faces"] = np.ascontiguousarray(surface.faces, np.uint32).ravel()
        if uv is not None:
            values["vertex_texcoords"] = np.ascontiguousarray(uv, np.float32).ravel()
        values.update()
        return result

    def _moving(self, vertices: FloatArray, t: int) -> list[tuple[int, int, int, int]]:
        """Disjoint left, top, right, bottom of the pixels that people and their shadows may change."""
        width, height = self.truth.intrinsics.width, self.truth.intrinsics.height
        changed = np.zeros((height, width), bool)
        sun = np.array(self.config.sun) / -self.config.sun[1]
        for person in vertices:
            reach = (person[:, 1].max() - person[:, 1].min()) * (1 + self.config.shadow_reach)
            sides = np.stack([person.min(0), person.max(0)], -1)
            corners = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
            pixels = self._projected(np.concatenate([corners, corners + reach * sun]), t)
            if pixels is None:
                continue
            low = np.clip(np.floor(pixels.min(0)) - MARGIN, 0, [width, height]).astype(int)
            high = np.clip(np.ceil(pixels.max(0)) + MARGIN, 0, [width, height]).astype(int)
            changed[low[1] : high[1], low[0] : high[0]] = True
        return _rectangles(changed)

    def _projected(self, points: FloatArray, t: int) -> FloatArray | None:
        """(P, 2) pixels, or None where a point is at or behind the camera."""
        cameras = self.truth.cameras
        image = (points @ cameras.R[t].T + cameras.t[t]) @ self.truth.intrinsics.K_rectified.T
        return None if image[:, 2].min() < NEAR else np.asarray(image[:, :2] / image[:, 2:])

    def _loaded(self, people: dict[str, Any]) -> Any:
        return self.mi.load_dict({**self.static, **people})

    def _rendered(self, scene: Any, t: int, region: tuple[int, int, int, int], samples: int) -> FloatArray:
        """(h, w, 3) linear radiance of the region: left, top, width and height."""
        mi, truth = self.mi, self.truth
        K, width, height = truth.intrinsics.K_rectified, truth.intrinsics.width, truth.intrinsics.height
        pose = np.eye(4)
        pose[:3, :3] = truth.cameras.R[t].T @ TO_OPTICAL
        pose[:3, 3] = truth.cameras.centers[t]
        left, top, region_width, region_height = region
        sensor = mi.load_dict(
            {
                "type": "perspective",
                "fov_axis": "x",
                "fov": float(np.degrees(2 * np.arctan(width / (2 * K[0, 0])))),
                # Pixels' centres are whole numbers in K, as in OpenCV, and halves in the film.
                "principal_point_offset_x": float((width / 2 - (K[0, 2] + 0.5)) / width),
                "principal_point_offset_y": float((height / 2 - (K[1, 2] + 0.5)) / height),
                "near_clip": NEAR,
                "far_clip": 1e4,
                "to_world": mi.ScalarTransform4f(pose),
                "sampler": {"type": "multijitter", "sample_count": samples},
                "film": {
                    "type": "hdrfilm",
                    "width": width,
                    "height": height,
                    "crop_offset_x": left,
                    "crop_offset_y": top,
                    "crop_width": region_width,
                    "crop_height": region_height,
                    "pixel_format": "rgb",
                    "rfilter": {"type": "box"},
                },
            }
        )
        return np.array(mi.render(scene, sensor=sensor, spp=samples, seed=self.seed + t))


def _developed(radiance: FloatArray, config: RenderConfig, rng: np.random.Generator) -> Image:
    """sRGB, 8 bits, BGR, with a lens's blur and a sensor's noise."""
    light = np.clip(cv2.GaussianBlur(radiance, (0, 0), config.blur) if config.blur else radiance, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    noisy = 255 * encoded + rng.normal(0, config.noise, encoded.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)[..., ::-1].copy()


def _rectangles(changed: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int, int, int]]:
    """Bounding rectangles of the connected regions, merged until none overlap."""
    while True:
        labels, _ = ndimage.label(changed)
        slices = ndimage.find_objects(labels)
        before = np.count_nonzero(changed)
        for rows, columns in slices:
            changed[rows, columns] = True
        if np.count_nonzero(changed) == before:
            return [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in slices]


def _incidence(faces: np.ndarray[Any, Any], vertices: int) -> sparse.csr_matrix:
    """(V, F): sums what each vertex's triangles have."""
    columns = np.repeat(np.arange(len(faces)), 3)
    return sparse.csr_matrix((np.ones(faces.size), (faces.ravel(), columns)), shape=(vertices, len(faces)))


def _mitsuba() -> Any:
    try:
        import mitsuba  # the extra "render", asked for only where pictures are
    except ImportError as error:
        raise RenderError(f"rendering needs Mitsuba 3 ({error}): pip install 'crowd4d_ros[render]'") from error
    mitsuba.set_variant(VARIANT)
    mitsuba.set_log_level(mitsuba.LogLevel.Warn)
    return mitsuba
