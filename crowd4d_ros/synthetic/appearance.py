"""What synthetic people wear, and what the ground and the houses look like: colours, in linear light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from crowd4d_ros.body.keypoints import VERTICES
from crowd4d_ros.body.skeleton import JOINTS
from crowd4d_ros.body.smpl import BodyModel
from crowd4d_ros.synthetic.structures import Kind
from crowd4d_ros.window import BoolArray, FloatArray, IntArray, SurfaceMesh

Palette = tuple[tuple[int, int, int], ...]
"""sRGB, 0–255: the colours of ordinary things."""

SKIN: Palette = ((224, 172, 135), (198, 134, 96), (141, 92, 60), (241, 200, 170), (92, 58, 40), (232, 190, 160))
HAIR: Palette = ((30, 22, 18), (66, 44, 30), (110, 80, 50), (160, 140, 120), (20, 20, 22), (140, 100, 55))
TOPS: Palette = (
    (40, 48, 70), (170, 40, 42), (225, 222, 215), (60, 90, 60), (28, 28, 32), (90, 120, 170), (190, 160, 60),
    (120, 120, 125), (110, 70, 110), (210, 130, 80), (70, 130, 140), (50, 60, 110),
)  # fmt: skip
BOTTOMS: Palette = (
    (38, 46, 72), (30, 30, 34), (86, 80, 70), (120, 110, 92), (60, 64, 70), (70, 84, 110), (150, 140, 125),
)  # fmt: skip
SHOES: Palette = ((25, 24, 24), (90, 60, 40), (220, 220, 220), (60, 60, 70))

GROUNDS: dict[str, tuple[int, int, int]] = {
    "plaza": (168, 158, 146),
    "hill": (104, 122, 72),
    "stairs": (172, 166, 156),
    "terraces": (146, 140, 112),
    "street": (112, 112, 114),
    "amphitheatre": (178, 170, 155),
    "colonnade": (182, 176, 164),
}
"""Scene → the mean colour of its ground, sRGB."""
OTHER_GROUND = (150, 146, 138)
KINDS: dict[Kind, Palette] = {
    Kind.BUILDING: ((196, 178, 150), (176, 168, 160), (164, 112, 88), (206, 198, 184), (150, 140, 126)),
    Kind.FURNITURE: (
        (128, 104, 84), (150, 152, 156), (44, 46, 50), (120, 34, 32), (40, 60, 96), (204, 204, 200), (92, 100, 92),
    ),
    Kind.POLE: ((92, 94, 96), (70, 76, 70)),
    Kind.TRUNK: ((98, 78, 58), (84, 70, 56)),
    Kind.LEAVES: ((66, 92, 44), (78, 98, 52), (58, 82, 46), (92, 100, 50)),
}  # fmt: skip

THICKNESS = {"skin": 0.0, "hair": 0.025, "top": 0.015, "bottom": 0.015, "shoes": 0.012}
"""metres of hair or cloth over the bare body: jackets, not paint."""
BARE_ARMS, BARE_LEGS, STRIPED = 0.4, 0.15, 0.25
"""How many wear short sleeves, short trousers, stripes."""
STRIPE = 0.07
"""metres of a stripe."""
FOLDS = 0.12
"""Relative change of a cloth's brightness in its folds."""
GROUND_CONTRAST = 0.10
"""Relative scatter of the ground's brightness."""


@dataclass(frozen=True)
class Wardrobe:
    """colors: (N, V, 3) reflectance of every vertex, linear. thickness: (N, V) metres of what covers it."""

    colors: FloatArray
    thickness: FloatArray


def wardrobe(people: int, body: BodyModel, rng: np.random.Generator) -> Wardrobe:
    """Clothes for everybody."""
    rest = body.v_template.cpu().numpy().astype(np.float64)
    parts = _parts(body, rest)
    palettes = {"skin": SKIN, "hair": HAIR, "top": TOPS, "bottom": BOTTOMS, "shoes": SHOES}
    worn = {
        name: _linear(np.array(colors)[rng.integers(len(colors), size=people)]) for name, colors in palettes.items()
    }
    colors = np.empty((people, len(rest), 3))
    thickness = np.empty((people, len(rest)))
    for name in palettes:
        colors[:, parts[name]] = worn[name][:, None]
        thickness[:, parts[name]] = THICKNESS[name]
    for share, bare in ((BARE_ARMS, parts["forearms"]), (BARE_LEGS, parts["shins"])):
        person = rng.random(people) < share
        colors[np.ix_(person, bare)] = worn["skin"][person, None]
        thickness[np.ix_(person, bare)] = 0.0
    striped = rng.random(people) < STRIPED
    stripes = parts["top"] & (np.floor(rest[:, 1] / STRIPE) % 2 == 0)
    colors[np.ix_(striped, stripes)] = worn["bottom"][striped, None]
    waves = rest @ rng.normal(0, 25.0, (people, 3, 3))  # a wavelength of a quarter of a metre: folds
    folds = 1 + FOLDS * np.sin(waves + rng.uniform(0, 2 * np.pi, (people, 1, 3))).prod(-1)
    return Wardrobe(np.clip(colors * folds[..., None], 0, 1), thickness)


def _parts(body: BodyModel, rest: FloatArray) -> dict[str, BoolArray]:
    """What of the body's surface (V, 3) is covered with what, by the bone that moves it most."""
    bone = np.array(JOINTS)[body.weights.cpu().numpy().argmax(-1)]
    side = np.char.rpartition(bone, "_")[..., 2]
    head = side == "head"
    nose, eye, ear = (rest[VERTICES[name]] for name in ("nose", "left_eye", "left_ear"))
    hair = head & ((rest[:, 1] > eye[1] + 0.05) | ((rest[:, 2] < ear[2]) & (rest[:, 1] > nose[1] - 0.03)))
    ankle = rest[side == "foot", 1].max() + 0.03
    shoes = np.isin(side, ["foot", "ankle"]) & (rest[:, 1] < ankle)
    shins = np.isin(side, ["knee", "ankle"]) & ~shoes
    forearms = side == "elbow"
    skin = (head & ~hair) | np.isin(side, ["neck", "wrist", "hand"])
    waist = rest[side == "spine1", 1].mean() - 0.03
    bottom = np.isin(side, ["hip", "knee", "ankle"]) & ~shoes | (
        np.isin(side, ["pelvis", "spine1"]) & (rest[:, 1] < waist)
    )
    top = ~(skin | hair | shoes | bottom)
    return {
        "skin": skin,
        "hair": hair,
        "top": top,
        "bottom": bottom,
        "shoes": shoes,
        "forearms": forearms,
        "shins": shins,
    }


def ground_tile(scene: str, pixels: int, rng: np.random.Generator) -> FloatArray:
    """(pixels, pixels, 3) linear reflectance of the ground, a tile that fits to itself on all sides."""
    frequency = np.hypot(np.fft.fftfreq(pixels)[:, None], np.fft.rfftfreq(pixels)[None]) * pixels
    spectrum = np.fft.rfft2(rng.normal(size=(pixels, pixels))) / np.maximum(frequency, 1.0)
    spectrum[0, 0] = 0.0
    pattern = np.fft.irfft2(spectrum, s=(pixels, pixels))
    grain = rng.normal(size=(pixels, pixels))
    brightness = 1 + GROUND_CONTRAST * (pattern / pattern.std() + 0.5 * grain)
    color = _linear(np.array(GROUNDS.get(scene, OTHER_GROUND)))
    return np.asarray(np.clip(brightness[..., None] * color, 0.01, 0.95))


def structure_colors(surface: SurfaceMesh, kinds: IntArray, rng: np.random.Generator) -> FloatArray:
    """(V, 3) linear: one of its kind's colours for everything that hangs together. kinds: (F,) ``Kind``."""
    count, corners = len(surface.vertices), surface.faces
    edges = sparse.coo_matrix(
        (np.ones(2 * len(corners)), (corners[:, [0, 1]].T.ravel(), corners[:, [1, 2]].T.ravel())), (count, count)
    )
    pieces, piece = sparse.csgraph.connected_components(edges, directed=False)
    kind = np.zeros(pieces, np.int64)
    kind[piece[corners[:, 0]]] = kinds
    colors = np.zeros((pieces, 3))
    for each, palette in KINDS.items():
        chosen = np.flatnonzero(kind == each)
        colors[chosen] = _linear(np.array(palette)[rng.integers(len(palette), size=len(chosen))])
    return np.asarray(colors[piece])


def _linear(srgb: FloatArray) -> FloatArray:
    share = np.asarray(srgb, np.float64) / 255
    return np.asarray(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))
