"""The plan of a street: its statistics in a domain, and one street seen from above."""

import math
from dataclasses import dataclass, field

import numpy as np

from .materials import TERRAIN, TRAIN

REACH = 170.0  # metres to which streets are laid out
STRAIGHT = 90.0  # metres after which a bend goes on straight
PARKING = 2.3  # width of a row of parked cars, metres
GAUGE = 1.44  # between the rails, metres


@dataclass
class Plan:
    """The street seen from above; offsets are metres from the road's centre line.

    left, right    edges of the road
    kerb           width of the kerbs, 0 without
    verge          per side, width of the strip between kerb and pavement
    pavement       per side, width of the pavement
    rural          whether it is a country road or motorway
    lanes, other   numbers of lanes of the camera's direction (right) and the other (left)
    lane           width of a lane
    middle         half the width of the strip between the directions
    parking        per side, whether cars park there
    lines          (offset, kind, width) of lines along the road, kind "solid" or "dashed"
    rails          offsets of rails
    junction       (z0, z1) of a crossing road, or None
    zebra          z ranges of zebra crossings
    manholes       (offset, z)
    soft           per side, z ranges whose ground beyond the pavement is terrain
    median         (offset, offset) of a raised strip within the road, or None
    """

    curvature: float
    left: float
    right: float
    kerb: float
    verge: tuple[float, float]
    pavement: tuple[float, float]
    rural: bool
    lanes: int
    other: int
    lane: float
    middle: float
    parking: tuple[bool, bool]
    lines: list = field(default_factory=list)
    rails: list = field(default_factory=list)
    junction: tuple[float, float] | None = None
    zebra: list = field(default_factory=list)
    manholes: list = field(default_factory=list)
    soft: tuple[list, list] = field(default_factory=lambda: ([], []))
    median: tuple[float, float] | None = None
    median_soft: bool = True

    def bend(self, z: float) -> float:
        """Where the centre line is at distance z: its x position in metres."""
        near = min(z, STRAIGHT)
        return self.curvature * (near * near / 2 + STRAIGHT * max(z - STRAIGHT, 0.0))

    def heading(self, z: float) -> float:
        """The road's direction at distance z, in radians to the right."""
        return math.atan(self.curvature * min(max(z, 0.0), STRAIGHT))

    def lane_centre(self, way: int, number: int) -> float:
        """Signed offset of a lane's middle; `way` is 1 for the camera's direction, else -1."""
        return way * (self.middle + (number + 0.5) * self.lane)

    def edge(self, side: int) -> float:
        """Signed offset of the road's edge on a side (-1 left, +1 right)."""
        return self.right if side > 0 else self.left

    def outer(self, side: int) -> float:
        """Signed offset at which the pavement of a side ends and the lots begin."""
        i = int(side > 0)
        return self.edge(side) + side * (self.kerb + self.verge[i] + self.pavement[i])


@dataclass(frozen=True)
class Street:
    """How the streets of a domain look from its camera; ranges are (low, high).

    sizes        (width, height) in pixels, one of which is drawn per image
    height       of the camera above the ground, metres
    pitch, fov   degrees; a positive pitch looks down
    lanes        numbers of lanes per direction that occur
    lane         width of a lane, metres
    curve        greatest curvature, 1/m
    rural        share of streets without pavements (motorways, country roads)
    pavement     width, metres
    verge        share of streets with a strip of grass between kerb and pavement
    median       share of streets with a raised strip between the directions
    junction     share of streets with a crossing road
    parking      share of streets with cars parked along them
    lots         weights of what closes the street: building, wall, fence, hedge, open
    eaves        height of buildings, metres
    setback      share of buildings behind a front garden
    trees        per 10 m of each side; `kinds` weights the `furniture.TREES`
    lamps, lights, signs    expected numbers per image
    gap          mean free distance between vehicles of a lane, metres
    mix          weights of car, truck, bus, train in traffic
    walkers, riders, bikes, motorcycles, bins    expected numbers per image
    ego          weights of nothing, a hood, a dashboard at the lower edge
    absent       train ids that the domain does not label and does not show
    """

    sizes: tuple[tuple[int, int], ...]
    height: tuple[float, float] = (1.3, 1.6)
    pitch: tuple[float, float] = (1.0, 5.0)
    fov: tuple[float, float] = (52.0, 62.0)
    lanes: tuple[int, ...] = (1, 1, 2)
    lane: tuple[float, float] = (3.1, 3.6)
    curve: float = 0.003
    rural: float = 0.1
    pavement: tuple[float, float] = (2.0, 4.5)
    verge: float = 0.3
    median: float = 0.15
    junction: float = 0.4
    parking: float = 0.5
    lots: tuple[float, ...] = (6, 1.5, 2, 1, 1)
    eaves: tuple[float, float] = (5.0, 22.0)
    setback: float = 0.3
    trees: float = 0.6
    kinds: tuple[float, ...] = (5, 2, 1, 0)
    lamps: float = 4
    lights: float = 1.2
    signs: float = 2.5
    gap: float = 22
    mix: tuple[float, ...] = (12, 1, 0.7, 0.4)
    walkers: float = 6
    riders: float = 1
    bikes: float = 0.8
    motorcycles: float = 0.6
    bins: float = 1
    ego: tuple[float, ...] = (1, 0, 0)
    absent: frozenset[int] = frozenset()


def make_plan(street: Street, rng: np.random.Generator, featured: set[int], rural: bool) -> Plan:
    """Draw the plan of one street; a `rural` one has shoulders and verges, no pavements."""
    soft = TERRAIN not in street.absent
    lanes = int(rng.choice(street.lanes)) + int(rural)
    other = lanes if rng.random() < 0.75 else 0
    if TRAIN in featured:
        other = max(other, 1)
    lane = rng.uniform(*street.lane)
    parking = rng.random() < street.parking and not rural
    parked = tuple(parking and rng.random() < 0.85 for _ in range(2))
    median = rng.random() < street.median and other > 0
    width = rng.uniform(1.0, 3.0) if median else 0.0
    shoulder = rng.uniform(0.5, 2.5) if rural else 0.0
    right = width / 2 + lanes * lane + PARKING * parked[1] + shoulder
    left = -(width / 2 + other * lane + PARKING * parked[0] + shoulder)
    verge = tuple(
        rng.uniform(1.0, 3.0) if soft and rng.random() < street.verge else 0.0 for _ in range(2)
    )
    pavement = tuple(rng.uniform(*street.pavement) for _ in range(2))
    if rural:
        verge, pavement = (rng.uniform(2, 6), rng.uniform(2, 6)), (0.0, 0.0)
    plan = Plan(
        rng.uniform(-street.curve, street.curve),
        left,
        right,
        0.0 if rural else rng.uniform(0.15, 0.3),
        verge,
        pavement,
        rural,
        lanes,
        other,
        lane,
        width / 2,
        parked,
    )
    if median:
        plan.median = (-width / 2, width / 2)
        plan.median_soft = soft and rng.random() < 0.7
    _mark(plan, shoulder, rng)
    if TRAIN in featured or (TRAIN not in street.absent and rng.random() < 0.06):
        for way in (1, -1)[: 1 + (other > 0)]:
            at = plan.lane_centre(way, 0)
            plan.rails.extend((at - GAUGE / 2, at + GAUGE / 2))
    plan.manholes = [(rng.uniform(left, right), rng.uniform(4, 25)) for _ in range(rng.integers(3))]
    _cross(plan, street, rng)
    return plan


def _mark(plan: Plan, shoulder: float, rng: np.random.Generator) -> None:
    """Lines between lanes, in the middle, at the edges and along parked cars."""
    wide = rng.uniform(0.13, 0.22)
    if rng.random() < 0.85:
        for way, count in ((1, plan.lanes), (-1, plan.other)):
            for i in range(1, count):
                plan.lines.append((way * (plan.middle + i * plan.lane), "dashed", wide))
        if plan.other and not plan.median:
            kind = "solid" if rng.random() < 0.4 else "dashed"
            offsets = (-0.15, 0.15) if kind == "solid" and rng.random() < 0.6 else (0.0,)
            plan.lines.extend((at, kind, wide) for at in offsets)
        if plan.rural or rng.random() < 0.3:
            plan.lines.append((plan.right - max(shoulder, 0.3), "solid", wide))
            plan.lines.append((plan.left + max(shoulder, 0.3), "solid", wide))
    for i, marked in enumerate(plan.parking):
        if marked and rng.random() < 0.4:
            edge = plan.right - PARKING if i else plan.left + PARKING
            plan.lines.append((edge, "solid", wide))


def _cross(plan: Plan, street: Street, rng: np.random.Generator) -> None:
    """A crossing road and zebra crossings."""
    if rng.random() < street.junction and not plan.rural:
        z0 = rng.uniform(12, 45)
        plan.junction = (z0, z0 + rng.uniform(7, 14))
        if rng.random() < 0.75:
            plan.zebra.append((z0 - 4.5, z0 - 1.5))
            plan.zebra.append((plan.junction[1] + 1.0, plan.junction[1] + 4.0))
    elif rng.random() < 0.12:
        z0 = rng.uniform(8, 30)
        plan.zebra.append((z0, z0 + 3.0))
