"""How far away the pixels of a street are, in order, from its label alone."""

from typing import NamedTuple

import numpy as np

from datasets.label_spaces import CITYSCAPES19, LabelSpace, coarsening
from utils.labels import VOID

GROUND, SKY = ("road", "sidewalk", "terrain"), "sky"
HORIZON = 0.45  # of the height, where a label shows no ground
FARTHEST = 60.0  # the sky; the ground in the lowest row is 1


class Roles(NamedTuple):
    """Which train ids lie flat on the ground, and which are sky."""

    ground: tuple[int, ...]
    sky: tuple[int, ...]


def roles_of(space: LabelSpace) -> Roles:
    """Return the roles of a label space's classes: of those that the Cityscapes classes become
    there, else of the classes of the same name; there may be none."""
    table = coarsening(CITYSCAPES19, space)
    if table is None:
        names = {name: i for i, name in enumerate(space.classes)}
        ids = {name: names.get(name, VOID) for name in (*GROUND, SKY)}
    else:
        ids = {name: int(table[CITYSCAPES19.classes.index(name)]) for name in (*GROUND, SKY)}
    ground = tuple(sorted({ids[name] for name in GROUND} - {VOID}))
    return Roles(ground, tuple({ids[SKY]} - {VOID}))


def depth_order(label: np.ndarray, roles: Roles) -> np.ndarray:
    """Return relative depths float32 [H, W], 1 to FARTHEST, of train ids uint8 [H, W].

    The ground is a plane below a horizon. What stands on it is, in each column, as far away as its
    foot; what has no ground below it is as far as the ground at its lowest row. The sky is behind
    everything. This is an order and no distance: of a thing that hides another's foot the depth is
    too large.
    """
    height, width = label.shape
    ground, sky = np.isin(label, roles.ground), np.isin(label, roles.sky)
    rows = np.arange(height)
    covered = np.flatnonzero(ground.mean(1) > 0.02)
    horizon = float(covered[0]) if len(covered) else HORIZON * height
    horizon = min(horizon, 0.8 * height)
    below = np.maximum(rows - horizon + 1, (height - horizon) / (FARTHEST - 1))
    plane = np.clip((height - horizon) / below, 1, FARTHEST - 1).astype(np.float32)
    depth = np.repeat(plane[:, None], width, axis=1)
    standing = ~(ground | sky)
    # The lowest row of each run of one class in a column.
    foot = np.repeat(rows[:, None], width, axis=1)
    for row in range(height - 2, -1, -1):
        foot[row] = np.where(label[row] == label[row + 1], foot[row + 1], row)
    depth[standing] = plane[foot[standing]]
    depth[sky] = FARTHEST
    return depth
