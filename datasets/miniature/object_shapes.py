"""The single things of `objects.py`, each drawn from four colours in a square of its own."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

DRAWN = 128  # side in pixels; drawn larger than used, and scaled down, which smooths edges


class Pen:
    """Draws shapes given in an object's own square, [-1, 1] with y up, turned and placed."""

    def __init__(self, image: Image.Image, rng: np.random.Generator):
        self.rng = rng
        self._pen = ImageDraw.Draw(image)
        scale = rng.uniform(0.42, 0.92) * DRAWN / 2
        turn = rng.normal(0, 0.12)
        flip = rng.choice((-1, 1))
        wide = rng.uniform(0.8, 1.25)
        self._a = (flip * wide * scale * math.cos(turn), scale * math.sin(turn))
        self._b = (flip * wide * scale * math.sin(turn), -scale * math.cos(turn))
        room = max(DRAWN / 2 - scale * 0.75, 0)
        self._x = DRAWN / 2 + rng.uniform(-room, room)
        self._y = DRAWN / 2 + rng.uniform(-room, room)

    def shape(self, points, colour) -> None:
        a, b = self._a, self._b
        self._pen.polygon(
            [(self._x + a[0] * x + a[1] * y, self._y + b[0] * x + b[1] * y) for x, y in points],
            fill=colour,
        )

    def box(self, x0, y0, x1, y1, colour) -> None:
        self.shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour)

    def disc(self, x, y, rx, ry, colour) -> None:
        self.shape([(x + rx * c, y + ry * s) for c, s in _CIRCLE], colour)

    def bar(self, a, b, width, colour) -> None:
        dx, dy = b[0] - a[0], b[1] - a[1]
        k = width / 2 / (math.hypot(dx, dy) or 1)
        px, py = -dy * k, dx * k
        self.shape(
            ((a[0] + px, a[1] + py), (b[0] + px, b[1] + py), (b[0] - px, b[1] - py),
             (a[0] - px, a[1] - py)),
            colour,
        )  # fmt: skip

    def blob(self, x, y, rx, ry, colour, rough=0.2, corners=18) -> None:
        wave = self.rng.uniform(1 - rough, 1 + rough, corners).tolist()
        self.shape(
            [
                (x + rx * w * math.cos(math.tau * i / corners),
                 y + ry * w * math.sin(math.tau * i / corners))
                for i, w in enumerate(wave)
            ],
            colour,
        )  # fmt: skip


_CIRCLE = tuple((math.cos(math.tau * i / 20), math.sin(math.tau * i / 20)) for i in range(20))


def _car(p: Pen, c) -> None:
    u = p.rng.uniform
    roof = u(0.35, 0.6)
    p.shape(((-1, -0.35), (1, -0.35), (0.98, 0.02), (0.5, 0.08), (-0.95, 0.1)), c[0])
    p.shape(((-0.75, 0.05), (0.5, 0.05), (u(0.05, 0.3), roof), (u(-0.6, -0.4), roof)), c[0])
    p.shape(((-0.62, 0.08), (-0.15, 0.08), (-0.15, roof - 0.07), (-0.45, roof - 0.07)), c[1])
    p.shape(((-0.08, 0.08), (0.38, 0.08), (0.12, roof - 0.07), (-0.08, roof - 0.07)), c[1])
    for x in (-0.58, 0.6):
        p.disc(x, -0.36, 0.2, 0.2, c[2])
        p.disc(x, -0.36, 0.1, 0.1, c[3])


def _bus(p: Pen, c) -> None:
    top = p.rng.uniform(0.35, 0.6)
    p.box(-1, -0.45, 1, top, c[0])
    count = p.rng.integers(4, 8)
    for i in range(count):
        x = -0.92 + 1.84 * i / count
        p.box(x, 0.0, x + 1.84 / count - 0.08, top - 0.12, c[1])
    p.box(-1, -0.2, 1, -0.1, c[3])
    for x in (-0.6, 0.6):
        p.disc(x, -0.46, 0.16, 0.16, c[2])


def _bike(p: Pen, c) -> None:
    for x in (-0.58, 0.58):
        p.disc(x, -0.3, 0.4, 0.4, c[0])
        p.disc(x, -0.3, 0.32, 0.32, c[1])
    for a, b in (((-0.58, -0.3), (-0.2, 0.3)), ((-0.58, -0.3), (0, -0.3)), ((0, -0.3), (0.4, 0.3)),
                 ((-0.2, 0.25), (0.42, 0.28)), ((0.58, -0.3), (0.36, 0.55)),
                 ((0, -0.3), (-0.25, 0.5))):  # fmt: skip
        p.bar(a, b, 0.09, c[2])
    p.bar((-0.4, 0.5), (-0.1, 0.5), 0.12, c[3])
    p.bar((0.25, 0.58), (0.55, 0.52), 0.1, c[3])


def _person(p: Pen, c) -> None:
    step = p.rng.uniform(0.08, 0.3)
    for side in (-1, 1):
        p.bar((side * 0.08, 0.0), (side * step, -0.95), 0.17, c[1])
        p.bar((side * 0.2, 0.5), (side * p.rng.uniform(0.28, 0.5), p.rng.uniform(-0.1, 0.5)), 0.12,
              c[0])  # fmt: skip
    p.shape(((-0.16, -0.1), (0.16, -0.1), (0.25, 0.55), (-0.25, 0.55)), c[0])
    p.disc(0, 0.75, 0.16, 0.2, c[2])
    p.disc(0, 0.85, 0.16, 0.12, c[3])


def _face(p: Pen, c) -> None:
    p.disc(0, 0.15, 0.72, 0.85, c[3])
    p.disc(0, 0, 0.62, 0.8, c[0])
    for side in (-1, 1):
        p.disc(side * 0.25, 0.15, 0.11, 0.07, c[1])
    p.bar((0, 0.1), (0.04, -0.15), 0.08, c[2])
    p.bar((-0.22, -0.4), (0.22, -0.4), 0.09, c[1])


def _tree(p: Pen, c) -> None:
    p.bar((0, -1), (0, 0), 0.2, c[1])
    for _ in range(4):
        p.blob(p.rng.uniform(-0.3, 0.3), p.rng.uniform(0.1, 0.5), 0.48, 0.42, c[0])
    for _ in range(12):
        p.blob(p.rng.uniform(-0.5, 0.5), p.rng.uniform(0, 0.75), 0.12, 0.1, c[2], corners=7)


def _fir(p: Pen, c) -> None:
    p.bar((0, -1), (0, -0.5), 0.16, c[1])
    tiers = p.rng.integers(3, 6)
    for i in range(tiers):
        y = -0.7 + 1.3 * i / tiers
        w = 0.7 * (1 - i / (tiers + 0.5))
        p.shape(((-w, y), (w, y), (0, y + 0.65)), c[0] if i % 2 else c[2])


def _flower(p: Pen, c) -> None:
    p.bar((0, -1), (0, 0.2), 0.09, c[1])
    p.blob(0.25, -0.5, 0.25, 0.1, c[1])
    count = p.rng.integers(5, 9)
    for i in range(count):
        a = math.tau * i / count
        p.disc(0.38 * math.cos(a), 0.35 + 0.38 * math.sin(a), 0.22, 0.22, c[0])
    p.disc(0, 0.35, 0.2, 0.2, c[2])


def _house(p: Pen, c) -> None:
    eaves = p.rng.uniform(0.0, 0.3)
    p.box(-0.75, -0.85, 0.75, eaves, c[0])
    p.shape(((-0.9, eaves), (0.9, eaves), (p.rng.uniform(-0.2, 0.2), 0.9)), c[1])
    p.box(-0.15, -0.85, 0.15, -0.3, c[2])
    for x in (-0.5, 0.5):
        p.box(x - 0.16, -0.45, x + 0.16, -0.1, c[3])


def _tower(p: Pen, c) -> None:
    half = p.rng.uniform(0.28, 0.5)
    p.box(-half, -1, half, 0.95, c[0])
    rows, columns = p.rng.integers(5, 9), p.rng.integers(2, 5)
    for i in range(rows):
        for j in range(columns):
            x, y = -half + 2 * half * (j + 0.2) / columns, -0.92 + 1.8 * i / rows
            p.box(x, y, x + 1.2 * half / columns, y + 1.05 / rows, c[1])


def _sign(p: Pen, c) -> None:
    p.bar((0, -1), (0, 0.2), 0.09, c[3])
    sides = p.rng.choice((3, 4, 8, 20))
    for size, colour in ((0.6, c[0]), (0.46, c[1])):
        p.shape(
            [(size * math.sin(math.tau * (i + 0.5 * (sides != 3)) / sides),
              0.35 + size * math.cos(math.tau * (i + 0.5 * (sides != 3)) / sides))
             for i in range(sides)],
            colour,
        )  # fmt: skip
    p.bar((-0.2, 0.35), (0.2, 0.35), 0.14, c[2])


def _lamp(p: Pen, c) -> None:
    p.bar((0, -1), (0, 0.8), 0.1, c[0])
    p.bar((-0.25, -1), (0.25, -1), 0.14, c[0])
    if p.rng.random() < 0.5:
        p.bar((0, 0.8), (0.6, 0.9), 0.1, c[0])
        p.shape(((0.35, 0.75), (0.85, 0.75), (0.7, 0.92), (0.45, 0.92)), c[1])
    else:
        p.shape(((-0.4, 0.3), (0.4, 0.3), (0.22, 0.9), (-0.22, 0.9)), c[1])


def _four_legs(p: Pen, c) -> None:
    for x in (-0.5, -0.32, 0.32, 0.5):
        p.bar((x, -0.1), (x + p.rng.uniform(-0.1, 0.1), -0.85), 0.13, c[1])
    p.blob(0, 0.05, 0.65, 0.3, c[0], 0.08)
    p.bar((0.5, 0.1), (0.75, 0.55), 0.24, c[0])
    p.blob(0.82, 0.58, 0.24, 0.17, c[0], 0.1)
    p.shape(((0.66, 0.66), (0.8, 0.7), (0.7, 0.95)), c[1])
    p.bar((-0.62, 0.1), (-0.95, p.rng.uniform(-0.2, 0.5)), 0.08, c[1])


def _bird(p: Pen, c) -> None:
    p.bar((-0.05, -0.3), (-0.1, -0.85), 0.06, c[2])
    p.bar((0.1, -0.3), (0.08, -0.85), 0.06, c[2])
    p.blob(0, 0, 0.5, 0.38, c[0], 0.06)
    p.disc(0.42, 0.42, 0.24, 0.24, c[0])
    p.shape(((0.6, 0.5), (0.6, 0.34), (0.95, 0.38)), c[2])
    p.shape(((-0.35, 0.15), (-0.35, -0.15), (-1.0, 0.15)), c[1])
    p.blob(-0.08, 0.02, 0.3, 0.18, c[1], 0.1)
    p.disc(0.47, 0.47, 0.05, 0.05, c[3])


def _fish(p: Pen, c) -> None:
    p.shape(((-0.45, 0), (-0.95, 0.45), (-0.95, -0.45)), c[1])
    p.shape(((-0.1, 0.3), (0.3, 0.3), (-0.2, 0.65)), c[1])
    p.blob(0.1, 0, 0.7, 0.38, c[0], 0.05)
    for x in (-0.2, 0.05, 0.3):
        p.bar((x, -0.25), (x, 0.25), 0.07, c[2])
    p.disc(0.58, 0.1, 0.07, 0.07, c[3])


def _chair(p: Pen, c) -> None:
    for x in (-0.45, -0.3, 0.3, 0.45):
        p.bar((x, -0.1), (x * 1.1, -0.95), 0.08, c[0])
    p.shape(((-0.52, -0.12), (0.52, -0.12), (0.4, 0.08), (-0.4, 0.08)), c[1])
    for x in (-0.42, 0.42):
        p.bar((x, 0), (x, 0.9), 0.09, c[0])
    for y in (0.35, 0.6, 0.82):
        p.bar((-0.42, y), (0.42, y), 0.11, c[0])


def _table(p: Pen, c) -> None:
    for x in (-0.75, 0.75):
        p.bar((x, 0), (x, -0.75), 0.1, c[1])
        p.bar((x * 0.7, 0), (x * 0.7, -0.55), 0.08, c[2])
    p.shape(((-1, 0), (1, 0), (0.75, 0.3), (-0.75, 0.3)), c[0])


def _cup(p: Pen, c) -> None:
    p.disc(0.55, 0.0, 0.35, 0.35, c[0])
    p.disc(0.55, 0.0, 0.22, 0.22, c[3])
    p.shape(((-0.45, -0.75), (0.4, -0.75), (0.55, 0.6), (-0.6, 0.6)), c[0])
    p.disc(-0.02, 0.6, 0.58, 0.16, c[1])
    p.bar((-0.5, -0.1), (0.48, -0.1), 0.2, c[2])


def _bottle(p: Pen, c) -> None:
    p.shape(((-0.32, -0.95), (0.32, -0.95), (0.32, 0.2), (0.12, 0.5), (-0.12, 0.5), (-0.32, 0.2)),
            c[0])  # fmt: skip
    p.box(-0.11, 0.45, 0.11, 0.9, c[0])
    p.box(-0.13, 0.82, 0.13, 0.98, c[1])
    p.box(-0.32, -0.55, 0.32, 0.0, c[2])


SHAPES: dict[str, Callable] = {
    "car": _car,
    "bus": _bus,
    "bicycle": _bike,
    "person": _person,
    "face": _face,
    "tree": _tree,
    "fir": _fir,
    "flower": _flower,
    "house": _house,
    "tower": _tower,
    "sign": _sign,
    "lamp": _lamp,
    "four-legged animal": _four_legs,
    "bird": _bird,
    "fish": _fish,
    "chair": _chair,
    "table": _table,
    "cup": _cup,
    "bottle": _bottle,
}
