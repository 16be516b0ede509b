"""A crowd in time: who goes where, who stops, sits down, comes and leaves, and how all of them move.

The plans are made for groups (people alone are groups of one); the social forces move people.
"""

from __future__ import annotations

import logging
from enum import IntEnum

import numpy as np

from crowd4d_ros.synthetic.config import PathsConfig
from crowd4d_ros.synthetic.forces import (
    Pairs,
    bounded,
    braked,
    group_forces,
    kept_off,
    repulsion,
    spread,
    unit,
    wall_repulsion,
)
from crowd4d_ros.synthetic.headings import forward
from crowd4d_ros.synthetic.navigation import FAR, Ground, PathsError, Routes, speed_on
from crowd4d_ros.synthetic.seats import Seats
from crowd4d_ros.synthetic.truth import Scene
from crowd4d_ros.window import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

PLACING_TRIES = 400
"""Random spots looked at for a group before the region counts as full; in the first half, only roomy ones, abreast."""
NEARBY_TRIES = 8
"""Random points looked at near a place before the place itself is taken."""
GLANCES = 20
"""Points looked at along the way to a place."""
STILL = 0.05
"""m/s, and m from a spot: less is standing there."""
SETTLING = 0.4
"""m/s: who stops turns to what they look at from there on."""
INTENT = 0.3
"""m/s: slower than that, people turn to where they want to go rather than to where they are pushed."""
FACES = np.radians(8.0)
"""rad: turned well enough to sit down."""
BEHIND = -0.5
"""Cosine: who wants to go there, or further behind, turns before walking."""
SLOWEST = 0.05
"""Share of the speed that is left then, so that nobody stays stuck."""
ARRIVES_IN = 0.7
"""s: people who stop at a spot are so far from it in time, all the way."""
AHEAD = 2.0
"""How much places straight ahead are preferred: e^4 against those behind."""
ENTRY_TIMES = (0.05, 0.7)
"""Of the duration: who comes in later would hardly be seen."""


class _Mode(IntEnum):
    AWAY = 0
    WALK = 1
    STAND = 2
    TO_SEAT = 3
    SEATED = 4


class Crowd:
    """The state of the simulation: arrays over people (P), groups (G) and seats (S). Time is 0 at the first frame."""

    def __init__(
        self,
        scene: Scene,
        ground: Ground,
        routes: Routes,
        people: int,
        duration: float,
        config: PathsConfig,
        rng: np.random.Generator,
    ) -> None:
        """People in the region of ``routes``, ``config.warm_up`` before the ``duration`` seconds that count.

        Raises PathsError where they do not fit.
        """
        self._ground, self._routes, self._config, self._rng = ground, routes, config, rng
        self._time, self._duration = -config.warm_up, duration
        sizes = _group_sizes(people, config, rng)
        self.group: IntArray = np.repeat(np.arange(len(sizes)), sizes)
        self._size = sizes
        self._members = np.split(np.arange(people), np.cumsum(sizes)[:-1])
        speed = np.clip(config.speed + config.speed_sigma * rng.standard_normal(len(sizes)), *config.speed_range)
        self._speed: FloatArray = (speed - config.group_slowing * (sizes - 1))[self.group]

        self._mode: IntArray = np.full(people, int(_Mode.AWAY))
        self._position: FloatArray = np.zeros((people, 2))
        self._velocity: FloatArray = np.zeros((people, 2))
        self._heading: FloatArray = np.zeros(people)
        self._turning: FloatArray = np.zeros(people)
        self._look: FloatArray = np.zeros(people)  # where somebody standing faces
        self._spot: FloatArray = np.zeros((people, 2))  # where somebody stops
        self._waypoint: FloatArray = np.zeros((people, 2))
        self._target: IntArray = np.zeros(people, np.int64)  # of the routes
        self._replans_at = -np.inf

        self._goal: FloatArray = np.zeros((len(sizes), 2))
        self._leaving: BoolArray = np.zeros(len(sizes), bool)  # the goal is a gate
        self._until: FloatArray = np.zeros(len(sizes))  # when standing or sitting ends
        self._enters_at: FloatArray = np.full(len(sizes), np.inf)
        self._entrance: FloatArray = np.zeros((len(sizes), 2))
        self._was: FloatArray = np.zeros((len(sizes), 2))
        self._was_at = self._time

        self._seats = Seats.of(scene, ground, routes, config)
        self._seat: IntArray = np.zeros(people, np.int64)
        self._clock: FloatArray = np.zeros(people)  # since somebody began to back up to a seat
        self._backs_from: FloatArray = np.zeros((people, 2))
        self._rises: BoolArray = np.zeros(people, bool)

        self._gates, self._places = self._targets(scene)
        routes.add(np.concatenate([self._gates, self._places]))
        self._begin()

    def simulate(self, seconds: float) -> None:
        """Lets time pass."""
        steps = int(np.ceil(seconds / self._config.step - 1e-9))
        for _ in range(steps):
            self._decide(seconds / steps)
            self._move(seconds / steps)
            self._sit_and_rise(seconds / steps)
            self._time += seconds / steps

    def record(self) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        """Position (P, 2), heading (P,), seat height (P,) of who sits, else NaN, and who is there (P,), now."""
        rows = np.flatnonzero(self._mode == _Mode.SEATED)
        since = self._clock[rows] - self._seats.backing(self._seat[rows], self._backs_from[rows], self._config)
        rows = rows[(since >= 0) & (~self._rises[rows] | (since <= 2 * self._config.sit_down))]
        height = np.full(len(self.group), np.nan)
        height[rows] = self._seats.height[self._seat[rows]]
        return self._position.copy(), self._heading.copy(), height, self._mode != _Mode.AWAY

    # how it begins

    def _targets(self, scene: Scene) -> tuple[FloatArray, FloatArray]:
        """Gates that can be reached, and places in the region, with room around them if there are any."""
        config, routes = self._config, self._routes
        gates = routes.nodes[routes.node_of(scene.gates.reshape(-1, 2))]
        reachable = np.linalg.norm(gates - scene.gates.reshape(-1, 2), axis=-1) < config.place_radius
        if not reachable.all():
            logger.info("%d gates cannot be reached", np.count_nonzero(~reachable))
        candidates = np.flatnonzero(self._roomy())
        count = min(config.places, len(candidates))
        return gates[reachable], routes.nodes[self._rng.choice(candidates, count, replace=False)]

    def _roomy(self) -> BoolArray:
        """Nodes (M,) of the region with room to stand; all of the region's if there are none."""
        wanted = self._routes.wanted
        roomy = wanted & (self._ground.at(self._routes.nodes)[:, 0] > self._config.stand_room)
        return roomy if roomy.any() else wanted

    def _begin(self) -> None:
        """Some sit, some stand, some walk, and some wait beyond the gates."""
        config, rng = self._config, self._rng
        sitting = min(config.seats_taken * np.count_nonzero(self._seats.usable), config.sitting_share * len(self.group))
        entering = config.entering_share * len(self.group) if len(self._entrances()) else 0.0
        roomy, wanted = np.flatnonzero(self._roomy()), np.flatnonzero(self._routes.wanted)
        for g in rng.permutation(len(self._members)):
            members = self._members[g]
            if len(members) <= entering:
                entering -= len(members)
                self._enters_at[g] = rng.uniform(*ENTRY_TIMES) * self._duration
            elif len(members) <= sitting and self._sit(g, np.inf):
                sitting -= len(members)
                self._mode[members] = _Mode.SEATED
                self._backs_from[members] = self._spot[members]
                backing = self._seats.backing(self._seat[members], self._spot[members], config)
                self._clock[members] = backing + config.sit_down
                self._position[members] = self._seats.at[self._seat[members]]
                self._heading[members] = self._look[members]
                self._until[g] = self._time + self._lasting(config.sit_time)
            else:
                self._place(g, roomy, wanted)
                if rng.random() >= config.standing_share or not self._stop(g):
                    self._go(g)

    def _place(self, g: int, roomy: IntArray, wanted: IntArray) -> None:
        """A group onto a free spot of the region, its members abreast, or near each other where it is full."""
        config, rng, members = self._config, self._rng, self._members[g]
        gap = 0.5 * (config.separation + config.abreast)
        for tries in range(PLACING_TRIES):
            first_half = tries < PLACING_TRIES // 2
            node = self._routes.nodes[rng.choice(roomy if first_half else wanted)]
            heading = rng.uniform(-np.pi, np.pi)
            abreast = np.arange(len(members))[:, None] * config.abreast * forward(np.array(heading + 0.5 * np.pi))
            offsets = abreast if first_half else rng.normal(0, config.abreast, (len(members), 2))
            spots = node + rng.uniform(-0.5, 0.5, 2) * self._routes.cell + offsets
            apart = np.linalg.norm(spots[:, None] - spots, axis=-1) + FAR * np.eye(len(spots))
            fits = self._ground.at(spots)[:, 0].min() > self._ground.edge and apart.min() >= gap
            if fits and self._in_sight(node, spots).all() and not self._crowded(spots, gap).any():
                self._position[members], self._mode[members] = spots, _Mode.WALK
                self._heading[members] = self._look[members] = heading
                return
        raise PathsError(
            f"{len(self.group)} people do not fit into the {self._routes.area:.0f} m^2 that the region offers: ask for "
            "fewer, or show more of the scene"
        )

    # what there is to know

    def _present(self, g: int) -> IntArray:
        members = self._members[g]
        return np.asarray(members[self._mode[members] != _Mode.AWAY])

    def _all(self, *modes: _Mode) -> BoolArray:
        """Groups (G,) with somebody there, and all of them in one of ``modes``."""
        there = np.bincount(self.group, self._mode != _Mode.AWAY)
        return np.asarray((there > 0) & (np.bincount(self.group, np.isin(self._mode, modes)) == there))

    def _middles(self) -> FloatArray:
        """(G, 2) the middle of each group."""
        sums = [np.bincount(self.group, self._position[:, axis]) for axis in (0, 1)]
        return np.asarray(np.stack(sums, -1) / self._size[:, None])

    def _nearest(self, points: FloatArray) -> FloatArray:
        """(G,) metres from each group's nearest member to its point (P, 2)."""
        nearest = np.full(len(self._members), np.inf)
        distance = np.linalg.norm(self._position - points, axis=-1)
        np.minimum.at(nearest, self.group, np.where(self._mode == _Mode.AWAY, np.inf, distance))
        return nearest

    def _crowded(self, spots: FloatArray, distance: float, but: IntArray | int | None = None) -> BoolArray:
        """Whether somebody, except ``but``, is nearer than ``distance`` to spots (S, 2), or about to stand there."""
        others = self._mode != _Mode.AWAY
        if but is not None:
            others[but] = False
        stops = others & ((self._mode == _Mode.STAND) | (self._mode == _Mode.TO_SEAT))
        theirs = np.concatenate([self._position[others], self._spot[stops]])
        return np.asarray((np.linalg.norm(spots[:, None] - theirs, axis=-1) < distance).any(-1))

    def _in_sight(self, place: FloatArray, points: FloatArray) -> BoolArray:
        return self._ground.is_open(np.broadcast_to(place, points.shape), points, self._config.glance)

    def _in_view(self, start: FloatArray, ends: FloatArray) -> FloatArray:
        """How much of the straight lines to ends (E, 2) is in the region: the share squared, but never nothing."""
        points = start + np.linspace(0, 1, GLANCES)[:, None, None] * (ends - start)
        seen = self._routes.wanted[self._routes.node_of(points)].mean(0)
        return np.asarray(np.maximum(seen, 1 / GLANCES) ** 2)

    def _near(self, place: FloatArray, radius: float, room: float) -> FloatArray:
        """A random point in sight of a place with that much room, or the place."""
        distance, bearing = self._rng.uniform(0, [[radius], [2 * np.pi]], (2, NEARBY_TRIES))
        points = place + distance[:, None] * forward(bearing)
        good = self._in_sight(place, points) & (self._ground.at(points)[:, 0] > room)
        return np.asarray(points[good.argmax()] if good.any() else place)

    def _entrances(self) -> IntArray:
        """Gates from which people reach the region in half of the time."""
        way = self._routes.distance[: len(self._gates)][:, self._routes.wanted]
        return np.flatnonzero(way.min(-1) < 0.5 * self._duration * self._config.speed)

    def _lasting(self, times: tuple[float, float]) -> float:
        return float(times[0] + self._rng.exponential(times[1]))

    # what groups do

    def _decide(self, step: float) -> None:
        """Groups arrive, stop, set out again, come and go."""
        config, rng = self._config, self._rng
        walking, standing = self._all(_Mode.WALK) & ~self._leaving, self._all(_Mode.STAND)
        arrived = walking & (self._nearest(self._goal[self.group]) < config.arrival)
        for g in np.flatnonzero(arrived):
            chance = rng.random()
            sits = chance < config.sit_share and self._sit(g, config.sit_search)
            stops = chance > 1 - config.stop_share and self._stop(g)
            if not (sits or stops):
                self._go(g)
        for g in np.flatnonzero(walking & ~arrived & (rng.random(len(walking)) < config.stop_rate * step)):
            self._stop(g)
        for g in np.flatnonzero(standing & (self._until < self._time)):
            self._go(g)
        self._lose_patience()
        alone = (self._size[self.group] == 1) & (self._mode == _Mode.STAND)
        turns = alone & (rng.random(len(alone)) < config.look_rate * step)
        self._look[turns] += np.radians(rng.uniform(-config.look_turn, config.look_turn, np.count_nonzero(turns)))
        self._come_and_leave()

    def _lose_patience(self) -> None:
        """Who does not get on goes elsewhere."""
        if self._time - self._was_at < self._config.patience:
            return
        middles = self._middles()
        stuck = np.linalg.norm(middles - self._was, axis=-1) < self._config.progress
        to_seat = self._all(_Mode.TO_SEAT) & (self._nearest(self._spot) > self._config.arrival)
        for g in np.flatnonzero(stuck & (self._all(_Mode.WALK) | to_seat)):
            self._go(g)
        self._was, self._was_at = middles, self._time

    def _come_and_leave(self) -> None:
        at_gate = (self._mode == _Mode.WALK) & self._leaving[self.group]
        at_gate &= np.linalg.norm(self._position - self._goal[self.group], axis=-1) < self._config.gate_reach
        if self._time >= 0:
            self._mode[at_gate] = _Mode.AWAY
            self._enters_at[self.group[at_gate]] = np.inf
        else:
            for g in np.unique(self.group[at_gate]):
                self._go(g)
        for person in np.flatnonzero((self._mode == _Mode.AWAY) & (self._enters_at[self.group] <= self._time)):
            self._enter(int(person))

    def _enter(self, person: int) -> None:
        """Somebody comes through a gate if there is room, or waits; members of a group follow the first."""
        config, g = self._config, int(self.group[person])
        is_first = not len(self._present(g))
        if is_first:
            self._entrance[g] = self._gates[self._rng.choice(self._entrances())]
        spot = self._near(self._entrance[g], config.arrival, self._ground.edge)
        if self._crowded(spot[None], config.abreast).any():
            return
        self._position[person], self._mode[person] = spot, _Mode.WALK
        if is_first:
            self._heading[person] = _bearing(self._places.mean(0) - spot)
            self._go(g, leaving=False)
            self._target[self._members[g]] = self._target[person]
        ahead = self._routes.waypoint(spot[None], self._target[[person]], self._goal[[g]])[0] - spot
        self._heading[person] = _bearing(ahead)
        self._velocity[person] = self._speed[person] * unit(ahead)
        self._replans_at = -np.inf

    def _go(self, g: int, leaving: bool = True) -> None:
        """A group sets out for another place, rather ahead than behind, or for a gate unless it was there already."""
        config, rng, members, gates = self._config, self._rng, self._present(g), len(self._gates)
        middle = self._position[members].mean(0)
        targets = np.concatenate([self._gates, self._places])
        way = self._routes.distance[: len(targets), self._routes.node_of(middle)]
        is_gate = np.arange(len(targets)) < gates
        # nobody leaves before the first frame
        nearest_gate = config.speed_range[1] * max(-self._time, 0.0)
        is_far = way >= np.where(is_gate, nearest_gate, min(config.way, 0.5 * float(way[gates:].max())))
        odds = is_far * np.exp(AHEAD * (unit(targets - middle) * forward(self._heading[members[0]])).sum(-1))
        odds[gates:] *= self._in_view(middle, self._places)
        leaves = leaving and odds[:gates].any() and rng.random() < config.leaving_share
        odds = np.where(is_gate == leaves, odds, 0.0)
        target = int(rng.choice(len(odds), p=odds / odds.sum()))
        self._leaving[g], self._target[members] = leaves, target
        place = targets[target]
        self._goal[g] = place if leaves else self._near(place, config.place_radius, config.elbow_room)
        self._mode[members] = _Mode.WALK
        self._replans_at = -np.inf

    def _stop(self, g: int) -> bool:
        """A group stops, in a circle, if there is room; returns whether."""
        config, members = self._config, self._present(g)
        position, count = self._position[members], len(members)
        middle = position.mean(0) + ARRIVES_IN * self._velocity[members].mean(0)
        spots, look = middle[None], self._heading[members]
        if count > 1:
            # everybody keeps to their side of the circle, so that ways do not cross
            bearing = _bearing(position - position.mean(0))
            place = np.argsort(np.argsort(bearing)) * 2 * np.pi / count
            place = place + np.angle(np.exp(1j * (bearing - place)).mean())
            spots = middle + 0.5 * config.chat_spacing / np.sin(np.pi / count) * forward(place)
            look = place + np.pi
        if self._ground.at(spots)[:, 0].min() < config.stand_room:
            return False
        if self._crowded(spots, config.chat_spacing, but=members).any():
            return False
        self._spot[members], self._look[members], self._mode[members] = spots, look, _Mode.STAND
        self._until[g] = self._time + self._lasting(config.stand_time)
        return True

    def _sit(self, g: int, search: float) -> bool:
        """A group heads for free seats next to each other, ``search`` metres around, if there are; returns whether."""
        config, seats = self._config, self._seats
        members = self._present(g) if np.isfinite(search) else self._members[g]
        taken = self._seat[(self._mode == _Mode.TO_SEAT) | (self._mode == _Mode.SEATED)]
        middle = self._position[members].mean(0)
        near = np.flatnonzero(seats.free(taken, config) & (np.linalg.norm(seats.at - middle, axis=-1) < search))
        if not len(near):
            return False
        chosen = seats.together(int(self._rng.choice(near)), len(members), taken, config)
        if chosen is None:
            return False
        self._seat[members], self._spot[members] = chosen, seats.approach[chosen]
        self._look[members], self._rises[members] = seats.heading[chosen], False
        self._mode[members], self._until[g] = _Mode.TO_SEAT, np.inf
        if np.isfinite(search):
            self._target[members] = self._routes.add(seats.approach[chosen])
        self._replans_at = -np.inf
        return True

    # how people move

    def _move(self, step: float) -> None:
        """One step of everybody who is there; the seated stay where they are."""
        config, ground = self._config, self._ground
        rows = np.flatnonzero(self._mode != _Mode.AWAY)
        self._replan()
        position, velocity, heading = self._position[rows], self._velocity[rows], self._heading[rows]
        seated = self._mode[rows] == _Mode.SEATED
        to_spot = self._spot[rows] - position
        distance = np.linalg.norm(to_spot, axis=-1)
        stops = self._stops(rows, distance)
        walks = ~stops & ~seated
        ahead = unit(np.where(stops[:, None], to_spot, self._waypoint[rows] - position))
        felt = ground.at(position)
        room, away, climb = felt[:, 0] - ground.edge, felt[:, 1:3], felt[:, 3:]

        ease = np.clip(room / config.narrow, config.narrow_speed, 1.0)
        speed = self._speed[rows] * speed_on((climb * ahead).sum(-1), config) * ease
        turned = ((ahead * forward(heading)).sum(-1) - BEHIND) / (1 - BEHIND)
        speed = np.where(stops, np.minimum(speed, distance / ARRIVES_IN), speed * np.clip(turned, SLOWEST, 1.0))
        acceleration = (speed[:, None] * ahead - velocity) / config.relaxation
        pairs = Pairs.near(position, config.neighbourhood)
        social = self._social_forces(rows, pairs, walks, ahead) + wall_repulsion(room, away, config)
        acceleration += np.where(walks[:, None], social, 0.0)

        velocity = velocity + step * bounded(acceleration, config.acceleration)
        settled = seated | (stops & (distance < STILL) & (np.linalg.norm(velocity, axis=-1) < STILL))
        velocity[settled] = 0.0
        velocity = kept_off(room, away, braked(pairs, velocity, ~settled, step, config), step, config)
        velocity[seated] = 0.0
        position = position + step * velocity
        beyond = np.maximum(ground.edge - ground.at(position)[:, 0], 0.0)
        position = np.where(seated[:, None], position, position + beyond[:, None] * unit(away))
        self._position[rows], self._velocity[rows] = position, velocity
        self._turn(rows, stops, ahead, step)

    def _stops(self, rows: IntArray, distance: FloatArray) -> BoolArray:
        """Who goes straight to a spot, ``distance`` (P,) away, to stand there: no forces push them off it."""
        to_seat = (self._mode[rows] == _Mode.TO_SEAT) & (distance < self._config.arrival)
        in_sight = (self._waypoint[rows] == self._spot[rows]).all(-1)
        return np.asarray((self._mode[rows] == _Mode.STAND) | (to_seat & in_sight))

    def _social_forces(self, rows: IntArray, pairs: Pairs, walks: BoolArray, ahead: FloatArray) -> FloatArray:
        config, velocity, group = self._config, self._velocity[rows], self.group[rows]
        together = group[pairs.first] == group[pairs.second]
        _, on_the_way = np.unique(np.where(walks, group, -1 - np.arange(len(rows))), return_inverse=True)
        return np.asarray(
            repulsion(pairs.take(~together), velocity, forward(self._heading[rows]), config)
            + spread(pairs.take(together), len(rows), config)
            + group_forces(self._position[rows], velocity, ahead, on_the_way, config)
        )

    def _replan(self) -> None:
        """Everybody looks for the way, now and then, and when something was decided."""
        if self._time < self._replans_at:
            return
        rows = np.flatnonzero((self._mode == _Mode.WALK) | (self._mode == _Mode.TO_SEAT))
        goal = np.where((self._mode[rows] == _Mode.WALK)[:, None], self._goal[self.group[rows]], self._spot[rows])
        self._waypoint[rows] = self._routes.waypoint(self._position[rows], self._target[rows], goal)
        self._replans_at = self._time + self._config.replan

    def _turn(self, rows: IntArray, stops: BoolArray, ahead: FloatArray, step: float) -> None:
        """Bodies face where they walk; where they stop, what they look at."""
        config, velocity = self._config, self._velocity[rows]
        walking = _bearing(velocity + np.where(stops[:, None], 0.0, INTENT * ahead))
        seated = self._mode[rows] == _Mode.SEATED
        looks = seated | (stops & (np.linalg.norm(velocity, axis=-1) < SETTLING))
        left = _wrapped(np.where(looks, self._look[rows], walking) - self._heading[rows])
        fastest = np.radians(config.turn_rate)
        wanted = np.clip(left / config.turn_time, -fastest, fastest)
        turning = self._turning[rows] + (wanted - self._turning[rows]) * min(1.0, 2 * step / config.turn_time)
        self._turning[rows] = np.where(seated, 0.0, turning)
        # who backs up to a seat finishes turning; a seated body faces exactly as its seat
        self._heading[rows] += np.where(seated, left * min(1.0, step / config.turn_time), step * turning)

    def _sit_and_rise(self, step: float) -> None:
        """Who stands before a seat, turned, sits down; who has sat long enough rises, if there is room."""
        config, seats = self._config, self._seats
        rows = np.flatnonzero(self._mode == _Mode.TO_SEAT)
        ready = np.linalg.norm(self._position[rows] - self._spot[rows], axis=-1) < 2 * STILL
        ready &= np.linalg.norm(self._velocity[rows], axis=-1) < STILL
        ready &= np.abs(_wrapped(self._look[rows] - self._heading[rows])) < FACES
        rows = rows[ready]
        rows = rows[~self._is_cut(self._time + seats.backing(self._seat[rows], self._position[rows], config))]
        self._backs_from[rows], self._clock[rows] = self._position[rows], 0.0
        self._mode[rows], self._velocity[rows] = _Mode.SEATED, 0.0
        self._until[self.group[rows]] = self._time + self._lasting(config.sit_time)

        rows = np.flatnonzero(self._mode == _Mode.SEATED)
        backing = seats.backing(self._seat[rows], self._backs_from[rows], config)
        seated = backing + config.sit_down
        waits = (self._clock[rows] >= seated) & ~self._rises[rows] & (self._until[self.group[rows]] < self._time)
        waits &= ~self._is_cut(np.array(self._time))
        for person in rows[waits]:
            way = np.stack([seats.front[self._seat[person]], self._backs_from[person]])
            self._rises[person] = not self._crowded(way, config.separation, int(person)).any()
        clock = self._clock[rows]
        on_foot = (clock < backing) | (clock > seated + config.sit_down)
        clock = clock + step * np.where(on_foot, self._way_is_free(rows), 1.0)
        self._clock[rows] = clock = np.where(self._rises[rows], clock, np.minimum(clock, seated))
        self._position[rows] = seats.position(self._seat[rows], self._backs_from[rows], clock, config)
        done = rows[clock > 2 * seated]
        self._mode[done], self._spot[done], self._look[done] = _Mode.STAND, self._position[done], self._heading[done]

    def _way_is_free(self, rows: IntArray) -> FloatArray:
        """How freely people near a seat move (P,), from 0 to 1: they wait until walkers have passed."""
        config = self._config
        walkers = self._position[self._mode == _Mode.WALK]
        gap = np.linalg.norm(self._position[rows][:, None] - walkers, axis=-1).min(-1, initial=FAR)
        return np.asarray(np.clip((gap - config.separation) / (config.abreast - config.separation), 0.0, 1.0))

    def _is_cut(self, seconds: FloatArray) -> BoolArray:
        """Whether sitting down or rising from a time (…) on would be cut by the first or the last frame."""
        takes = self._config.sit_down + self._config.step
        return np.asarray(((seconds > -takes) & (seconds <= 0)) | (seconds > self._duration - takes))


def _group_sizes(people: int, config: PathsConfig, rng: np.random.Generator) -> IntArray:
    """Sizes (G,) of groups, people alone among them, in a random order."""
    sizes: list[int] = []
    together = round(config.group_share * people)
    while sum(sizes) + 2 <= together:
        size = 2 + int(rng.choice(len(config.group_sizes), p=config.group_sizes))
        sizes.append(min(size, together - sum(sizes)))
    return rng.permutation(np.array(sizes + [1] * (people - sum(sizes))))


def _wrapped(angle: FloatArray) -> FloatArray:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def _bearing(vector: FloatArray) -> FloatArray:
    return np.asarray(np.arctan2(vector[..., 0], vector[..., 1]))
