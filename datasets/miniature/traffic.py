"""What moves and parks on a street: vehicles in lanes, riders, people on foot."""

import math

import numpy as np

from . import people
from .materials import BICYCLE, BUS, CAR, MOTORCYCLE, PERSON, RIDER, TRAIN, TRUCK
from .plan import PARKING
from .shapes import Place
from .site import Site
from .vehicles import HALF_LENGTH, VEHICLES


def traffic(site: Site) -> None:
    """Vehicles: the featured ones first, then the lanes, parked rows and the crossing road."""
    rng, street, plan = site.rng, site.street, site.plan
    for label in (TRAIN, BUS, TRUCK):
        if label in site.featured:
            _feature_vehicle(site, label)
    for label in (MOTORCYCLE, RIDER, BICYCLE):
        if label in site.featured:
            _feature_cycle(site, label)
    labels = (CAR, TRUCK, BUS, TRAIN)
    mix = np.array(
        [0.0 if c in street.absent else w for c, w in zip(labels, street.mix, strict=True)]
    )
    for way, count in ((1, site.plan.lanes), (-1, site.plan.other)):
        for number in range(count):
            s = site.plan.lane_centre(way, number)
            z = rng.uniform(5, 8 + street.gap)
            while z < 130:
                label = labels[rng.choice(4, p=mix / mix.sum())]
                if label == TRAIN and not plan.rails:
                    label = BUS
                jitter = rng.normal(0, 0.15)
                _vehicle(site, label, s + jitter, z, 0.0 if way > 0 else math.pi)
                z += 6 + rng.exponential(street.gap)
    for i, side in enumerate((-1, 1)):
        if site.plan.parking[i]:
            _parked(site, side)
    if plan.junction and rng.random() < 0.6:
        z = sum(plan.junction) / 2
        label = labels[rng.choice(3, p=mix[:3] / mix[:3].sum())]
        turn = math.pi / 2 * rng.choice((-1, 1))
        _vehicle(site, label, rng.uniform(plan.left - 6, plan.right + 6), z, turn)


def _vehicle(site: Site, label: int, s: float, z: float, turn: float = 0.0) -> bool:
    half = HALF_LENGTH[label] * (0.72 if label == TRAIN else 1.0)
    if z - half < 3.0 and abs(s - site.ego_s) < 2.0 or z < 2.5:
        return False
    if not site.free(s, z, 1.15 if label == CAR else 1.4, half + 0.6):
        return False
    heading = site.plan.heading(z) + turn + site.rng.normal(0, 0.02)
    VEHICLES[label](site.canvas, Place(s + site.plan.bend(z), z, heading))
    return True


def _feature_vehicle(site: Site, label: int) -> None:
    rng = site.rng
    for _ in range(8):
        way = 1 if not site.plan.other or rng.random() < 0.5 else -1
        number = int(rng.integers(site.plan.lanes if way > 0 else site.plan.other))
        if label == TRAIN:
            number, way = 0, -1 if rng.random() < 0.65 else way
        s = site.plan.lane_centre(way, number)
        ahead = abs(s - site.ego_s) < 2.0
        low = HALF_LENGTH[label] * (0.75 if label == TRAIN else 1.0)
        z = low + (rng.uniform(6, 22) if ahead else rng.uniform(3, 18))
        if _vehicle(site, label, s, z, 0.0 if way > 0 else math.pi):
            return


def _parked(site: Site, side: int) -> None:
    rng, plan = site.rng, site.plan
    s = plan.edge(side) - side * PARKING / 2
    z = rng.uniform(3, 9)
    while z < 95:
        if rng.random() < 0.75 and site.clear(z):
            label = TRUCK if rng.random() < 0.03 and TRUCK not in site.street.absent else CAR
            _vehicle(site, label, s, z, 0.0 if side > 0 or rng.random() < 0.2 else math.pi)
        z += rng.uniform(5.2, 6.6)


def crowd(site: Site) -> None:
    """Walkers on pavements and crossings, riders, parked bicycles and motorcycles."""
    rng, street, plan = site.rng, site.street, site.plan
    count = rng.poisson(street.walkers * (0.1 if site.plan.rural else rng.uniform(0.3, 1.7)))
    if PERSON in site.featured:
        count += 3
    for i in range(count):
        side = 1 if rng.random() < 0.55 else -1
        near = PERSON in site.featured and i < 3
        z = rng.uniform(4, 12) if near else 5 + 45 * rng.random() ** 1.5
        s = site.beside(side, rng.uniform(0.1, 1.0))
        if plan.zebra and rng.random() < 0.25:
            z = rng.uniform(*plan.zebra[0])
            s = rng.uniform(plan.left, plan.right)
        if site.free(s, z, 0.25, 0.25):
            people.person(site.canvas, s + plan.bend(z), z)
            if rng.random() < 0.3:
                people.person(site.canvas, s + plan.bend(z) + 0.6, z + 0.1)
    for _ in range(rng.poisson(street.riders)):
        z = rng.uniform(6, 35)
        way = 1 if rng.random() < 0.6 else -1
        s = plan.edge(way) - way * rng.uniform(0.6, 1.6)
        turn = rng.normal(0.0 if way > 0 else math.pi, 0.6)
        _cycle(site, s, z, turn, rng.random() < 0.3, ridden=True)
    for expected, motor in ((street.bikes, False), (street.motorcycles, True)):
        for _ in range(rng.poisson(expected)):
            side = 1 if rng.random() < 0.5 else -1
            z = rng.uniform(4, 25)
            s = site.beside(side, rng.uniform(0.0, 0.8))
            _cycle(site, s, z, rng.uniform(0.3, 2.8), motor, ridden=False)


def _feature_cycle(site: Site, label: int) -> None:
    rng = site.rng
    for _ in range(8):
        z = rng.uniform(4.5, 11)
        s = rng.uniform(site.plan.left + 0.6, site.plan.right - 0.6)
        turn = rng.choice((0.0, math.pi, rng.uniform(0.5, 2.6), -rng.uniform(0.5, 2.6)))
        motor = label == MOTORCYCLE or (label == RIDER and rng.random() < 0.3)
        if _cycle(site, s, z, turn, motor, ridden=label == RIDER or rng.random() < 0.6):
            return


def _cycle(site: Site, s, z, turn, motor, ridden) -> bool:
    if not site.free(s, z, 0.7, 1.2):
        return False
    draw = people.motorcycle if motor else people.bicycle
    draw(site.canvas, s + site.plan.bend(z), z, site.plan.heading(z) + turn, ridden)
    return True
