"""Places with real terrain: a plaza, a hill, stairs, terraces, a street, an amphitheatre, a colonnade.

Metres, y up. The middle of each is near (0, 0); cameras look along −z from the +z side, so the ground that rises does
so away from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from crowd4d_ros.interaction.surface import Surface
from crowd4d_ros.synthetic.furniture import SEAT_HEIGHT, SEAT_WIDTH, Site
from crowd4d_ros.synthetic.structures import barred
from crowd4d_ros.synthetic.truth import Scene, Structures
from crowd4d_ros.window import BoolArray, FloatArray

BODY_RADIUS = 0.3
"""metres from a body's middle to whatever it would touch."""
TALLEST_STEP = 0.25
"""metres between neighbouring nodes: more is a wall nobody walks up or down."""
BORDER = 1.0
"""metres of terrain beyond the walkable part: a stride's foot lands on the ground."""
FINE = 0.1
"""metres between nodes where steps or kerbs must be sharp."""
COARSE = 0.5
"""metres between nodes of smooth ground."""


class SceneError(ValueError):
    """There is no such scene; the message names those there are."""


def make_scene(name: str, rng: np.random.Generator) -> Scene:
    """The scene called ``name``; ``rng`` varies its terrain and where things stand. Raises SceneError."""
    if name not in SCENES:
        raise SceneError(f"there is no scene '{name}'; there are {', '.join(SCENES)}")
    return SCENES[name](rng)


def plaza(rng: np.random.Generator) -> Scene:
    """A flat square of 120 x 250 m between houses."""
    terrain = _terrain((-64.0, -130.0), (64.0, 128.0), COARSE, lambda x, z: np.zeros_like(x))
    site = Site(terrain, rng)
    gates = [(0.0, 126.0), (-40.0, 126.0), (40.0, 126.0)]
    for side in (-1, 1):
        gates += _houses_along(site, side * 60.0, (9.0, 15.0), 30.0)
    site.box(rng.uniform(-20, 20), -134.0, (70.0, 14.0, 12.0))
    gates += [(-58.0, -125.0), (58.0, -125.0)]
    for x, z in site.spots(1, 4.0, (-12.0, -45.0), (12.0, -12.0)):
        site.cylinder(x, z, 4.0, 0.5)  # a fountain
        site.cylinder(x, z, 0.6, 3.0)
    for x, z in site.spots(12, 6.0, (-55.0, -115.0), (55.0, 100.0)):
        site.kiosk(x, z, rng.uniform(-np.pi, np.pi))
    for x, z in site.spots(40, 4.0, (-57.0, -120.0), (57.0, 110.0)):
        site.tree(x, z)
    for x, z in site.spots(26, 2.5, (-57.0, -120.0), (57.0, 110.0)):
        site.lamp(x, z)
    for x, z in site.spots(40, 2.0, (-55.0, -115.0), (55.0, 100.0)):
        site.bench(x, z, rng.uniform(-np.pi, np.pi))
    for x, z in site.spots(10, 3.0, (-30.0, -60.0), (30.0, 40.0)):
        site.box(x, z, (rng.uniform(3.0, 6.0), 1.6, 0.25), rng.uniform(-np.pi, np.pi))  # boards and low walls
    return _scene("plaza", site, gates)


def hill(rng: np.random.Generator) -> Scene:
    """A meadow of 120 x 120 m that rises to a hill, with lesser mounds; nowhere steeper than one in three."""
    summit = np.array([[rng.uniform(-8, 8), rng.uniform(-28, -16)]])
    middles = np.concatenate([summit, rng.uniform([-45.0, -45.0], [45.0, 25.0], (4, 2))])
    rises = np.concatenate([rng.uniform(6.5, 9.0, 1), rng.uniform(-1.0, 1.8, 4)])
    widths = np.concatenate([rng.uniform(19.0, 23.0, 1), rng.uniform(8.0, 13.0, 4)])
    terrain = _terrain(
        (-60.0, -60.0), (60.0, 60.0), COARSE, lambda x, z: mounds(np.stack([x, z], -1), middles, rises, widths)
    )
    site = Site(terrain, rng)
    site.kiosk(summit[0, 0], summit[0, 1], 0.0)
    for x, z in site.spots(30, 4.0, (-55.0, -55.0), (55.0, 35.0)):
        site.tree(x, z)
    for x, z in site.spots(16, 2.5, (-45.0, -45.0), (45.0, 30.0)):
        site.bench(x, z, rng.normal(0.0, 0.5))
    for x, z in site.spots(10, 2.5, (-45.0, -45.0), (45.0, 30.0)):
        site.lamp(x, z)
    for x, z in site.spots(5, 3.0, (-30.0, -25.0), (30.0, 25.0)):
        site.box(x, z, (rng.uniform(3.0, 7.0), 1.3, 0.4), rng.normal(0.0, 0.4))  # dry-stone walls
    around = np.linspace(-np.pi, np.pi, 10, endpoint=False)
    return _scene("hill", site, [(58 * np.sin(a), 58 * np.cos(a)) for a in around])


def mounds(xz: FloatArray, middles: FloatArray, rises: FloatArray, widths: FloatArray) -> FloatArray:
    """Heights (…) at xz (…, 2) of Gaussian mounds: middles (M, 2), rises (M,) and widths (M,), metres."""
    distance2 = ((xz[..., None, :] - middles) ** 2).sum(-1)
    return np.asarray((rises * np.exp(-distance2 / (2 * widths**2))).sum(-1))


def stairs(rng: np.random.Generator) -> Scene:
    """Flights of a wide stair with landings, between a lower and an upper square."""
    flights, steps = int(rng.integers(3, 5)), int(rng.integers(11, 15))
    rise, tread, landing = rng.uniform(0.16, 0.17), 3, int(rng.integers(28, 42))  # treads in nodes
    flight = steps * tread
    length = flights * (flight + landing) - landing
    foot = round(0.4 * length) * FINE  # z of the first riser

    def height(x: FloatArray, z: FloatArray) -> FloatArray:
        beyond = np.floor((foot - z) / FINE + 0.5)  # nodes behind the first riser, exact in spite of rounding
        whole, rest = np.divmod(np.clip(beyond, 0, length), flight + landing)
        risers = np.where(beyond > 0, whole * steps + np.clip(np.ceil(rest / tread), 0, steps), 0)
        return np.asarray(rise * risers + 0.0 * x)

    top = foot - length * FINE
    site = Site(_terrain((-20.0, top - 26.0), (20.0, foot + 30.0), FINE, height), rng)
    for x in (-22.0, 22.0):
        site.box(x, (top + foot) / 2, (6.0, 7.0, foot - top + 16.0))
    site.box(rng.uniform(-5, 5), top - 27.0, (24.0, 9.0, 4.0))
    for x in (-6.5, 6.5):
        for z in np.arange(foot, top, -1.2).tolist():
            site.cylinder(x, z, 0.03, 0.95)  # posts of the handrails
    for k in range(flights - 1):
        z = foot - ((k + 1) * flight + (k + 0.5) * landing) * FINE
        for x in rng.permutation([-16.0, -11.0, 0.0, 11.0, 16.0])[:3].tolist():
            site.box(x, z, (1.4, 0.7, 1.4))  # planters
    for low, high in (((-17.0, foot + 3.0), (17.0, foot + 24.0)), ((-17.0, top - 22.0), (17.0, top - 3.0))):
        for x, z in site.spots(3, 3.0, low, high):
            site.tree(x, z)
        for x, z in site.spots(4, 2.5, low, high):
            site.bench(x, z, rng.normal(0.0, 0.4))
        for x, z in site.spots(3, 2.5, low, high):
            site.lamp(x, z)
        for x, z in site.spots(1, 3.0, low, high):
            site.kiosk(x, z, 0.0)
    gates = [(x, foot + 28.0) for x in (-15.0, -5.0, 5.0, 15.0)] + [(x, top - 23.0) for x in (-17.0, 17.0)]
    return _scene("stairs", site, [*gates, (-18.0, foot + 26.5), (18.0, foot + 26.5)])


def terraces(rng: np.random.Generator) -> Scene:
    """Terraces held by walls with a ledge to sit on, joined by ramps and by short stairs."""
    walls = 5
    depth, rise = rng.uniform(9.5, 11.0), rng.uniform(1.0, 1.25)
    steps = int(np.ceil(rise / 0.17))
    first = 16.0
    ramps = rng.uniform(-20.0, 20.0, walls)
    flights = ramps + rng.uniform(10.0, 16.0, walls) * np.where(ramps > 0, -1, 1)
    fronts = np.round((first - depth * np.arange(walls)) / FINE) * FINE + FINE / 2

    def height(x: FloatArray, z: FloatArray) -> FloatArray:
        result = np.zeros(np.broadcast_shapes(x.shape, z.shape))
        for front, ramp, flight in zip(fronts, ramps, flights, strict=True):
            before = z - front  # metres before the wall
            ledge = np.where(before < LEDGE, SEAT_HEIGHT, 0.0)
            sloped = np.where(np.abs(x - ramp) < 1.8, rise * np.clip(1 - before / (RAMP * rise), 0, 1), ledge)
            stepped = rise / steps * np.clip(np.ceil(steps - before / 0.3), 0, steps)
            result += np.where(before < 0, rise, np.where(np.abs(x - flight) < 1.5, stepped, sloped))
        return result

    site = Site(_terrain((-28.0, fronts[-1] - 14.0), (28.0, 38.0), FINE, height), rng)
    for level, (front, ramp, flight) in enumerate(zip(fronts, ramps, flights, strict=True)):
        for x, length in ((ramp, RAMP * rise), (flight, 0.3 * steps)):
            for before in np.arange(0.0, length + 2.0, 1.0).tolist():
                site.keep_free(x, front + before, 1.0)
        along = np.arange(-26.0, 26.0, 2 * SEAT_WIDTH)
        along = along[(np.abs(along - ramp) > 2.3) & (np.abs(along - flight) > 2.0)]
        ledge = np.stack([along, np.full(len(along), front + LEDGE - SEAT_BACK)], -1)
        site.seats(ledge, np.full(len(along), level * rise + SEAT_HEIGHT), np.zeros(len(along)))
    for front in fronts:
        for x, z in site.spots(3, 2.5, (-25.0, front - 0.7 * depth), (25.0, front - 3.0)):
            site.tree(x, z)
        for x, z in site.spots(2, 2.0, (-25.0, front - 0.7 * depth), (25.0, front - 2.0)):
            site.lamp(x, z)
        for x, z in site.spots(1, 2.5, (-25.0, front - 0.6 * depth), (25.0, front - 3.5)):
            site.bench(x, z, rng.normal(0.0, 0.3))
    for x, z in site.spots(2, 3.0, (-22.0, 21.0), (22.0, 33.0)):
        site.kiosk(x, z, 0.0)
    for x, z in site.spots(4, 3.0, (-24.0, 20.0), (24.0, 34.0)):
        site.bench(x, z, rng.uniform(-np.pi, np.pi))
    site.box(0.0, fronts[-1] - 15.0, (30.0, 8.0, 4.0))
    gates = [(x, 36.5) for x in (-20.0, 0.0, 20.0)] + [(x, fronts[-1] - 11.0) for x in (-24.0, 24.0)]
    return _scene("terraces", site, [*gates, (-26.5, 25.0), (26.5, 25.0)])


LEDGE = 0.5
"""metres: the depth of the ledge along the foot of a terrace's wall."""
RAMP = 7.0
"""metres of ramp for each metre up."""


HOUSE_DEPTH = 8.0
"""metres."""
ALLEY = 3.5
"""metres between two houses."""


def street(rng: np.random.Generator) -> Scene:
    """A street that climbs away from the camera: cambered road, kerbs, pavements, parked cars, houses."""
    grade, wave = rng.uniform(0.01, 0.05), rng.uniform(0.2, 0.5)
    terrain = _terrain(
        (-14.0, -66.0),
        (14.0, 66.0),
        FINE,
        lambda x, z: street_section(x) - grade * z + wave * np.sin(2 * np.pi * z / 60.0),
    )
    site = Site(terrain, rng)
    gates = [(x, z) for x in (-7.0, 0.0, 7.0) for z in (-64.5, 64.5)]
    for side in (-1, 1):
        gates += _houses_along(site, side * 9.5, (6.0, 10.0), 22.0)
        for z in np.arange(-58.0, 60.0, 6.2).tolist():
            if rng.random() < 0.5:
                site.car(side * 2.95, z + rng.uniform(-0.5, 0.5), 0.0)
        for k, z in enumerate(np.arange(-56.0, 58.0, 12.0).tolist()):
            (site.lamp if k % 2 else site.tree)(side * 4.7, z + rng.uniform(-1.5, 1.5))
        for z in np.arange(-50.0, 45.0, 19.0) + rng.uniform(0.0, 17.0, 5):  # apart
            site.bench(side * 8.9, z, -side * np.pi / 2)
        for _, z in site.spots(2, 3.0, (side * 8.0 - 0.1, -45.0), (side * 8.0 + 0.1, 45.0)):
            site.kiosk(side * 8.4, z, -side * np.pi / 2)
    return _scene("street", site, gates)


ROAD = 4.05
"""metres from the crown of the road to its kerbs, on half a node."""
KERB = 0.14
"""metres: the kerb's height over the gutter."""
CAMBER = 0.1
"""metres: the crown's height over the gutter."""
CROSSFALL = 0.02
"""the slope of the pavement towards the gutter."""


def street_section(x: FloatArray) -> FloatArray:
    """Height (…) across the street at x (…), over its crown: a parabola, the kerb, and the pavement's slope."""
    road = -CAMBER * (x / ROAD) ** 2
    return np.where(np.abs(x) < ROAD, road, KERB - CAMBER + CROSSFALL * (np.abs(x) - ROAD))


def amphitheatre(rng: np.random.Generator) -> Scene:
    """Rows of stone seats around an orchestra, with aisles of half steps, and a walk along the top."""
    rows = int(rng.integers(15, 20))
    inner = rng.uniform(9.0, 11.0)
    aisles = np.deg2rad(rng.uniform(-8, 8) + np.array([-66.0, -33.0, 0.0, 33.0, 66.0]))
    middle = 13.0  # z of the centre of the circles
    outer = inner + rows * ROW_DEPTH

    def height(x: FloatArray, z: FloatArray) -> FloatArray:
        radius, angle = np.hypot(x, z - middle), np.arctan2(x, middle - z)
        row = SEAT_HEIGHT * np.clip(np.floor((radius - inner) / ROW_DEPTH) + 1, 0, rows)
        half = SEAT_HEIGHT / 2 * np.clip(np.floor(2 * (radius - inner) / ROW_DEPTH) + 2, 0, 2 * rows)
        off = np.abs(radius[..., None] * np.sin(angle[..., None] - aisles))
        on_aisle = ((off < AISLE) & (np.cos(angle[..., None] - aisles) > 0)).any(-1)
        return np.asarray(np.where(np.abs(angle) < FAN, np.where(on_aisle, half, row), 0.0))

    site = Site(_terrain((-34.0, middle - outer - 8.0), (34.0, 40.0), FINE, height), rng)
    for row in range(rows):
        radius = inner + row * ROW_DEPTH + SEAT_BACK
        angle = np.arange(-0.95 * FAN, 0.95 * FAN, SEAT_WIDTH / radius)
        free = (np.abs(radius * np.sin(angle[:, None] - aisles)) > AISLE + 0.5).all(-1)
        angle = angle[free]
        xz = np.stack([radius * np.sin(angle), middle - radius * np.cos(angle)], -1)
        site.seats(xz, np.full(len(xz), (row + 1) * SEAT_HEIGHT), -angle)
    stage = rng.uniform(-2, 2)
    site.box(stage, middle + 6.5, (12.0, 0.6, 4.0))
    for x in (stage - 7.0, stage + 7.0):
        site.box(x, middle + 6.5, (1.2, 2.6, 1.2))  # loudspeakers
    for angle in np.linspace(-0.9 * FAN, 0.9 * FAN, 8) + rng.uniform(-0.1, 0.1, 8):
        radius = outer + 5.5
        site.tree(radius * np.sin(angle), middle - radius * np.cos(angle))
    for x, z in site.spots(2, 3.0, (-30.0, middle + 2.0), (30.0, 36.0)):
        site.kiosk(x, z, rng.uniform(-np.pi, np.pi))
    for x, z in site.spots(6, 2.5, (-30.0, middle + 2.0), (30.0, 36.0)):
        site.lamp(x, z)
    for x, z in site.spots(4, 2.5, (-30.0, middle + 2.0), (30.0, 36.0)):
        site.bench(x, z, rng.uniform(-np.pi, np.pi))
    top = middle - outer - 6.0
    gates = [(-32.0, 30.0), (32.0, 30.0), (-12.0, 38.5), (12.0, 38.5), (-14.0, top), (0.0, top), (14.0, top)]
    return _scene("amphitheatre", site, gates)


ROW_DEPTH = 0.9
"""metres: a row's seat, and the passage behind it."""
SEAT_BACK = 0.2
"""metres from the edge of a row or ledge to the middle of who sits there: at 0.3, thighs cut 3 cm into the edge."""
AISLE = 0.75
"""metres: half an aisle's width."""
FAN = float(np.deg2rad(82.0))
"""radians: half the angle that the rows span."""


def colonnade(rng: np.random.Generator) -> Scene:
    """A square on a slope, half surrounded by pillars and a wall behind, between which a procession passes."""
    grade, rise = rng.choice([-1, 1]) * rng.uniform(0.04, 0.08), rng.uniform(0.01, 0.03)
    middles = rng.uniform([-14.0, -14.0], [14.0, 2.0], (3, 2))
    rises, widths = rng.uniform(-0.7, 0.7, 3), rng.uniform(5.0, 8.0, 3)
    terrain = _terrain(
        (-34.0, -26.0),
        (34.0, 40.0),
        COARSE,
        lambda x, z: grade * x - rise * z + mounds(np.stack([x, z], -1), middles, rises, widths),
    )
    site = Site(terrain, rng)
    middle, ring, thick = 13.0, rng.uniform(14.0, 16.0), rng.uniform(0.5, 0.65)

    def on_ring(radius: float, angle: FloatArray) -> FloatArray:
        return np.stack([radius * np.sin(angle), middle - radius * np.cos(angle)], -1)

    pillars = np.arange(-ARC, ARC, rng.uniform(3.6, 4.4) / ring) + rng.uniform(-0.1, 0.1)
    for x, z in on_ring(ring, pillars):
        site.cylinder(x, z, thick, 4.5)
    back = ring + PASSAGE + 0.8
    walls = np.arange(-ARC, ARC, 5.0 / back)
    for (x, z), angle in zip(on_ring(back, walls), walls.tolist(), strict=True):
        site.box(x, z, (5.2, 5.5, 0.6), -angle)
    way = on_ring(ring + thick + 0.5 * (PASSAGE - thick), np.arange(-ARC, ARC, 0.5 / back))
    for x, z in site.spots(6, 2.5, (-30.0, 18.0), (30.0, 36.0)):
        site.bench(x, z, rng.uniform(-np.pi, np.pi))
    for side in (-1, 1):
        for x, z in site.spots(4, 4.0, (side * 27.0 - 5.0, -20.0), (side * 27.0 + 5.0, 36.0)):
            site.tree(x, z)
    gates = [(-31.0, 36.0), (31.0, 36.0), *way[[0, -1]].tolist()]
    return replace(_scene("colonnade", site, gates), way=way)


ARC = float(np.deg2rad(80.0))
"""radians: half the angle that the colonnade spans."""
PASSAGE = 5.5
"""metres from the middle of the pillars to the wall behind."""

SCENES: dict[str, Callable[[np.random.Generator], Scene]] = {
    "plaza": plaza,
    "hill": hill,
    "stairs": stairs,
    "terraces": terraces,
    "street": street,
    "amphitheatre": amphitheatre,
    "colonnade": colonnade,
}


def _terrain(
    low: tuple[float, float],
    high: tuple[float, float],
    spacing: float,
    height: Callable[[FloatArray, FloatArray], FloatArray],
) -> Surface:
    """``height`` of x and z, sampled from ``low`` to ``high`` on whole multiples of the spacing."""
    first, last = np.round(np.divide(low, spacing)).astype(int), np.round(np.divide(high, spacing)).astype(int)
    x, z = np.meshgrid(*(spacing * np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
    heights = height(x, z)
    kept = np.ones((heights.shape[0] - 1, heights.shape[1] - 1, 2), bool)
    return Surface(heights, spacing * first, spacing, kept, _plane(x, z, heights))


def _plane(x: FloatArray, z: FloatArray, heights: FloatArray) -> FloatArray:
    """Least squares; on a full grid x and z are uncorrelated."""
    dx, dz = x - x.mean(), z - z.mean()
    a, b = (dx * heights).sum() / (dx**2).sum(), (dz * heights).sum() / (dz**2).sum()
    return np.array([a, b, heights.mean() - a * x.mean() - b * z.mean()])


def _houses_along(site: Site, side: float, heights: tuple[float, float], longest: float) -> list[tuple[float, float]]:
    """A row of houses along the terrain's edge beyond x = ``side``, with alleys; returned are the alleys' gates."""
    _, low = site.terrain.corner
    high = low + (site.terrain.heights.shape[1] - 1) * site.terrain.spacing
    gates = []
    begin = low
    while begin < high:
        end = min(begin + site.rng.uniform(0.6, 1.0) * longest, high)
        x = side + np.sign(side) * HOUSE_DEPTH / 2
        site.box(x, (begin + end) / 2, (HOUSE_DEPTH, site.rng.uniform(*heights), end - begin))
        begin = end + ALLEY
        if begin < high:
            gates.append((side + np.sign(side), end + ALLEY / 2))
    return gates


def _scene(name: str, site: Site, gates: list[tuple[float, float]]) -> Scene:
    structures, seats, heading = site.built()
    walkable = _walkable(site.terrain, structures)
    nodes = site.terrain.corner + site.terrain.spacing * np.argwhere(walkable)
    to_nodes = np.linalg.norm(nodes - np.array(gates)[:, None], axis=-1)
    return Scene(name, site.terrain, structures, walkable, nodes[to_nodes.argmin(-1)], seats, heading)


def _walkable(terrain: Surface, structures: Structures) -> BoolArray:
    """The largest connected part that keeps off borders, walls and whatever stands."""
    heights, spacing = terrain.heights, terrain.spacing
    steep = np.zeros(heights.shape, bool)
    for axis in (0, 1):
        tall = np.abs(np.diff(heights, axis=axis)) > TALLEST_STEP
        pad = [(0, 1) if a == axis else (0, 0) for a in (0, 1)]
        steep |= np.pad(tall, pad) | np.pad(tall, [side[::-1] for side in pad])
    free = distance_transform_edt(np.pad(~steep, 1, constant_values=True))[1:-1, 1:-1] * spacing > BODY_RADIUS
    margin = round(BORDER / spacing)
    inside = np.zeros_like(free)
    inside[margin:-margin, margin:-margin] = True
    parts, _ = label(free & inside & ~barred(structures, terrain, BODY_RADIUS))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())
