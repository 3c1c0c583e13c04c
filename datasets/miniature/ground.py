"""The ground as a function of place: lanes and markings, kerbs, pavements, verges, crossings."""

import numpy as np

from .canvas import FAR, Camera, Canvas
from .materials import ROAD, SIDEWALK, SKY, TERRAIN, Material
from .plan import STRAIGHT, Plan

M = Material


class GroundSlots:
    """The slots of all kinds of ground, and of the sky."""

    def __init__(self, canvas: Canvas):
        self.sky = canvas.slot(SKY, M.SKY)
        self.asphalt = canvas.slot(ROAD, M.ASPHALT)
        self.marking = canvas.slot(ROAD, M.MARKING)
        self.manhole = canvas.slot(ROAD, M.MANHOLE)
        self.rail = canvas.slot(ROAD, M.RAIL)
        self.kerb = canvas.slot(SIDEWALK, M.KERB)
        self.paving = [canvas.slot(SIDEWALK, M.PAVING, canvas.instance()) for _ in range(2)]
        self.grass = [canvas.slot(TERRAIN, M.GRASS, canvas.instance()) for _ in range(2)]


def lay_ground(camera: Camera, plan: Plan, slots: GroundSlots):
    """Maps [H, W] of slot, u, v and depth for a scene of nothing but ground and sky."""
    dx, dy, dz = camera.rays()
    height = camera.position[1]
    below = dy < -height / (FAR * 0.9)
    depth = np.where(below, -height / np.minimum(dy, -1e-6), FAR).astype(np.float32)
    depth = np.minimum(depth, FAR)
    u = np.where(below, 0, dx / np.maximum(dz, 0.05))
    v = np.where(below, 0, dy / np.maximum(dz, 0.05))
    slot = np.full(below.shape, slots.sky, np.int32)
    at = np.flatnonzero(below)
    z = (dz.ravel()[at] * depth.ravel()[at]).astype(np.float32)
    near = np.minimum(z, STRAIGHT)
    bend = plan.curvature * (near * near / 2 + STRAIGHT * np.maximum(z - STRAIGHT, 0))
    s = camera.position[0] + dx.ravel()[at] * depth.ravel()[at] - bend
    slot.ravel()[at] = _ground_slots(plan, slots, s, z)
    u.ravel()[at], v.ravel()[at] = s, z
    return slot, u, v, depth


def _ground_slots(plan: Plan, slots: GroundSlots, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    inside = (s > plan.left) & (s < plan.right)
    result = np.full(s.shape, slots.asphalt, np.int32)
    for i, side in enumerate((-1, 1)):
        out = (s - plan.edge(side)) * side
        result[out > 0] = slots.kerb
        result[out > plan.kerb] = slots.grass[i]
        result[out > plan.kerb + plan.verge[i]] = slots.paving[i]
        beyond = out > plan.kerb + plan.verge[i] + plan.pavement[i]
        for z0, z1 in plan.soft[i]:
            result[beyond & (z >= z0) & (z < z1)] = slots.grass[i]
    if plan.median:
        a, b = plan.median
        result[(s > a) & (s < b)] = slots.kerb
        strip = slots.grass[0] if plan.median_soft else slots.paving[0]
        result[(s > a + 0.2) & (s < b - 0.2)] = strip
    for at, kind, width in plan.lines:
        line = np.abs(s - at) < width / 2
        if kind == "dashed":
            line &= np.mod(z, 9.0) < 4.0
        result[line & inside] = slots.marking
    for at in plan.rails:
        result[(np.abs(s - at) < 0.06) & inside] = slots.rail
    for at, far in plan.manholes:
        result[((s - at) ** 2 + (z - far) ** 2 < 0.13) & inside] = slots.manhole
    if plan.junction:
        z0, z1 = plan.junction
        walk = max(plan.pavement)
        along = (z > z0 - walk) & (z < z1 + walk)
        for i, side in enumerate((-1, 1)):
            cross = along & ((s - plan.edge(side)) * side > 0)
            result[cross] = slots.paving[i] if plan.pavement[i] else slots.grass[i]
        result[(z > z0) & (z < z1)] = slots.asphalt
    for z0, z1 in plan.zebra:
        stripe = inside & (z > z0) & (z < z1)
        result[stripe] = slots.asphalt
        result[stripe & (np.mod(s, 1.1) < 0.55)] = slots.marking
        before = inside & (z > z0 - 1.6) & (z < z0 - 1.1) & (s > 0)
        result[before] = slots.marking
    return result
