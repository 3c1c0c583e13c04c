"""What lines a street: the backdrop, lots with buildings or walls, poles, lights, signs, trees."""

import math

import numpy as np

from . import frontage, furniture
from .materials import BUILDING, FENCE, LIGHT, TERRAIN, VEGETATION, WALL, Material
from .plan import REACH
from .shapes import CutOut
from .site import Site

M = Material


def backdrop(site: Site) -> None:
    """Hills, tree lines and towers behind everything."""
    rng, canvas = site.rng, site.canvas
    x = site.plan.bend(REACH)
    kinds = [VEGETATION, BUILDING]
    if TERRAIN not in site.street.absent:
        kinds.append(TERRAIN)
    for distance in (420.0, 260.0):
        label = kinds[rng.integers(len(kinds))]
        figure = CutOut(canvas, x, distance, key=distance)
        if label == BUILDING:
            for _ in range(14):
                a, wide = rng.uniform(-220, 220), rng.uniform(10, 26)
                high = rng.uniform(8, 40) * (1.6 if site.street.eaves[1] > 25 else 1.0)
                slot = canvas.slot(BUILDING, M.FACADE, canvas.instance())
                figure.quad(a - wide / 2, 0, a + wide / 2, high, slot)
            continue
        material = M.LEAVES if label == VEGETATION else M.GRASS
        slot = canvas.slot(label, material, canvas.instance())
        tall = rng.uniform(6, 16) if label == VEGETATION else rng.uniform(4, 30)
        count = 60 if label == VEGETATION else 12
        xs = np.linspace(-300, 300, count)
        rough = 0.2 if label == VEGETATION else 0.5
        ups = tall * rng.uniform(1 - rough, 1 + rough, count)
        top = list(zip(xs[::-1].tolist(), ups.tolist(), strict=True))
        figure.shape([(-300.0, -1.0), (300.0, -1.0), *top], slot)


def lots(site: Site, side: int) -> None:
    """Buildings, walls, fences, hedges and open ground along one side."""
    street, rng, plan = site.street, site.rng, site.plan
    weights = np.array(street.lots, float)
    if site.plan.rural:
        weights = weights * (0.05, 1.2, 1.5, 1.5, 4)
    soft_ground = TERRAIN not in street.absent
    z = -6.0
    forced = {WALL: 1, FENCE: 2, TERRAIN: 4}
    force = [kind for label, kind in forced.items() if label in site.featured]
    if len(force) == 2:  # one for each side
        force = force[:1] if side > 0 else force[1:]
    elif side != site.feature_side:
        force = []
    while z < REACH:
        if plan.junction and _in_junction(site, z):
            z = plan.junction[1] + max(plan.pavement)
        length = rng.uniform(7, 22)
        end = z + length
        if plan.junction:
            gap = plan.junction[0] - max(plan.pavement)
            if z < gap < end:
                end = max(gap, z + 1.0)
        kind = int(rng.choice(5, p=weights / weights.sum()))
        if force and -1 < z < 30 and end > 6:
            kind = force.pop()
            end = max(end, z + 14.0) if not plan.junction else end
        if kind == 0:
            setback = rng.uniform(2.5, 6) if rng.random() < street.setback else 0.0
            _garden(site, side, z, end, setback)
            deep = rng.uniform(8, 16)
            high = math.exp(rng.uniform(*(math.log(e) for e in street.eaves)))
            frontage.building(
                site.canvas, plan.bend, plan.outer(side) + side * setback, z, end, deep, high
            )
        else:
            _open_lot(site, side, z, end, kind, soft_ground)
        z = end + (rng.uniform(1, 5) if rng.random() < 0.25 else 0.0)


def _in_junction(site: Site, z: float) -> bool:
    """Whether a lot cannot begin at z because of the crossing road and its pavements."""
    walk = max(site.plan.pavement)
    return site.plan.junction[0] - walk - 0.5 <= z < site.plan.junction[1] + walk


def _garden(site: Site, side: int, z: float, end: float, setback: float) -> None:
    rng, plan, i = site.rng, site.plan, int(side > 0)
    if not setback or TERRAIN in site.street.absent:
        return
    plan.soft[i].append((z, end))
    s = plan.outer(side) + side * 0.2
    kind = rng.integers(5)
    if kind == 0:
        frontage.fence(site.canvas, plan.bend, s, z, end, rng.uniform(0.9, 1.3))
    elif kind == 1:
        frontage.hedge(site.canvas, plan.bend, s, z, end, rng.uniform(0.8, 1.5))
    elif kind == 2:
        frontage.wall(site.canvas, plan.bend, s, z, end, rng.uniform(0.7, 1.1))
    for _ in range(rng.integers(3)):
        where = rng.uniform(z, end)
        _bush(site, s + side * setback * 0.6, where)


def _open_lot(site: Site, side: int, z: float, end: float, kind: int, soft: bool) -> None:
    """A lot without a building: wall, fence or hedge before trees, or open ground."""
    rng, plan, i = site.rng, site.plan, int(side > 0)
    s = plan.outer(side) + side * rng.uniform(0.0, 0.6)
    if soft and (kind >= 3 or rng.random() < 0.7 or TERRAIN in site.featured):
        plan.soft[i].append((z, end))
    if kind == 1:
        frontage.wall(site.canvas, plan.bend, s, z, end, rng.uniform(1.6, 4.0))
    elif kind == 2:
        frontage.fence(site.canvas, plan.bend, s, z, end, rng.uniform(1.1, 2.4))
    elif kind == 3:
        frontage.hedge(site.canvas, plan.bend, s, z, end, rng.uniform(1.2, 3.0))
    elif rng.random() < 0.5:
        _bush(site, s + side * 3, rng.uniform(z, end))
    for _ in range(rng.poisson((end - z) / 9)):
        _tree(site, s + side * rng.uniform(3, 14), rng.uniform(z, end), 1.1)


def _bush(site: Site, s: float, z: float) -> None:
    rng = site.rng
    if z > 1.0:
        furniture.bush(
            site.canvas, s + site.plan.bend(z), z, rng.uniform(0.8, 2.5), rng.uniform(0.6, 1.8)
        )


def _tree(site: Site, s: float, z: float, size: float = 1.0) -> None:
    if z < 3:
        return
    kinds = np.array(site.street.kinds, float)
    kind = furniture.TREES[site.rng.choice(4, p=kinds / kinds.sum())]
    scale = size * site.rng.uniform(0.65, 1.2)
    furniture.tree(site.canvas, s + site.plan.bend(z), z, kind, scale)


def furniture_along(site: Site, side: int) -> None:
    """Trees, lamps or wooden poles, signs and bins between the road and the lots of a side."""
    street, rng = site.street, site.rng
    bend = site.plan.bend
    if rng.random() < 0.6:
        z = rng.uniform(4, 16)
        while z < 110:
            if rng.random() < min(street.trees, 1.0) and site.clear(z):
                _tree(site, site.beside(side, rng.uniform(0.05, 0.3)), z, 0.9)
            z += 10 * rng.uniform(0.6, 1.2)
    spacing = 110 / max(street.lamps, 0.5)
    z = rng.uniform(5, 6 + spacing / 2)
    wooden = rng.random() < 0.25
    while z < 120:
        s = site.beside(side, 0.0)
        if site.clear(z) and rng.random() < 0.6:
            if wooden:
                furniture.utility_pole(site.canvas, s + bend(z), z)
            else:
                furniture.lamp_post(site.canvas, s + bend(z), z, side)
        z += spacing
    for _ in range(rng.poisson(street.signs / 2)):
        z = 5 + 35 * rng.random() ** 1.4
        s = site.beside(side, rng.uniform(0.0, 0.15))
        furniture.sign_post(site.canvas, s + bend(z), z)
    for _ in range(rng.poisson(street.bins / 2)):
        z = rng.uniform(4, 30)
        if site.clear(z):
            s = site.beside(side, rng.uniform(0.0, 0.9))
            furniture.static(site.canvas, s + bend(z), z)


def signals(site: Site) -> None:
    """Traffic lights, at the crossing if there is one, and boards over wide roads."""
    street, rng, plan = site.street, site.rng, site.plan
    count = rng.poisson(street.lights) if plan.junction or rng.random() < 0.35 else 0
    if LIGHT in site.featured:
        count = max(count, 2)
    at = plan.junction[0] - 0.8 if plan.junction else rng.uniform(9, 22)
    at = min(at, 26.0) if LIGHT in site.featured else at
    for i in range(count):
        side = 1 if i % 2 == 0 else -1
        z = at if i < 2 or not plan.junction else plan.junction[1] + 1.0
        overhead = i % 2 == 0 and rng.random() < 0.5
        s = site.beside(side, 0.0)
        furniture.traffic_light(site.canvas, s + plan.bend(z), z, side, overhead)
    if site.plan.lanes >= 2 and rng.random() < 0.18:
        z = rng.uniform(22, 50)
        furniture.gantry(
            site.canvas, plan.left + plan.bend(z) - 0.6, plan.right + plan.bend(z) + 0.6, z
        )
