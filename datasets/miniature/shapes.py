"""Building blocks of things: placed boxes and prisms, upright cut-outs, discs and limbs."""

import math
from collections.abc import Sequence

from .canvas import Canvas, Point

Flat = tuple[float, float]


class Place:
    """A local frame on the ground: x to the right, y up, z along `heading` (0 looks down the road).

    Calling it maps local metres to the world.
    """

    def __init__(self, x: float, z: float, heading: float = 0.0, y: float = 0.0):
        self.x, self.y, self.z, self.heading = x, y, z, heading
        self._cos, self._sin = math.cos(heading), math.sin(heading)

    def __call__(self, x: float, y: float, z: float) -> Point:
        return (
            self.x + x * self._cos + z * self._sin,
            self.y + y,
            self.z - x * self._sin + z * self._cos,
        )

    def distance(self, canvas: Canvas, x: float = 0.0, z: float = 0.0) -> float:
        """Distance along the ground from the camera to a local point, in metres."""
        wx, _, wz = self(x, 0.0, z)
        return math.hypot(wx - canvas.camera.position[0], wz)

    def sees_side(self, canvas: Canvas) -> float:
        """Sine of the angle between the heading and the line of sight: 1 for a side view."""
        sight = math.atan2(self.x - canvas.camera.position[0], self.z)
        return math.sin(self.heading - sight)


def prism(
    canvas: Canvas,
    place: Place,
    profile: Sequence[tuple[float, float, float]],
    slot: int,
    key: float,
    strips: dict[int, int] | None = None,
) -> Point:
    """A convex body with a side view: corners (z, y, half width), the first two at the bottom.

    `strips` gives the slots of single edges' strips (edge i runs from corner i to i + 1) where
    they differ from `slot`.  Returns the centre, which decals on the body need.
    """
    n = len(profile)
    z = sum(p[0] for p in profile) / n
    y = sum(p[1] for p in profile) / n
    centre = place(0.0, y, z)
    right = [place(w, y, z) for z, y, w in profile]
    left = [place(-w, y, z) for z, y, w in profile]
    for i in range(n):
        j = (i + 1) % n
        strip = slot if strips is None else strips.get(i, slot)
        canvas.face((left[i], right[i], right[j], left[j]), strip, key, centre)
    canvas.face(right, slot, key, centre)
    canvas.face(left, slot, key, centre)
    return centre


def box(canvas, place, x, y, z, slot, key, strips=None) -> Point:
    """A box over the ranges x, y and z (pairs, metres); returns its centre."""
    shifted = Place(*_ground(place, (x[0] + x[1]) / 2), place.heading, place.y)
    half = (x[1] - x[0]) / 2
    profile = [(z[0], y[0], half), (z[1], y[0], half), (z[1], y[1], half), (z[0], y[1], half)]
    return prism(canvas, shifted, profile, slot, key, strips)


def _ground(place: Place, x: float) -> tuple[float, float]:
    world = place(x, 0.0, 0.0)
    return world[0], world[2]


def side_decal(canvas, place, x, y, z, slot, key, centre) -> None:
    """A rectangle on the side at `x` over the ranges y and z."""
    canvas.face(
        (place(x, y[0], z[0]), place(x, y[0], z[1]), place(x, y[1], z[1]), place(x, y[1], z[0])),
        slot,
        key,
        centre,
    )


def end_decal(canvas, place, x, y, z, slot, key, centre) -> None:
    """A rectangle on the front or rear at `z` over the ranges x and y."""
    canvas.face(
        (place(x[0], y[0], z), place(x[1], y[0], z), place(x[1], y[1], z), place(x[0], y[1], z)),
        slot,
        key,
        centre,
    )


def wheel(canvas, place, x, y, z, radius, tyre, hub, key, centre) -> None:
    """A wheel on the side at `x`, seen from its own side only."""
    for size, slot in ((1.0, tyre), (0.58, hub)):
        canvas.face(
            [place(x, y + radius * size * s, z + radius * size * c) for c, s in CIRCLE],
            slot,
            key,
            centre,
        )


CIRCLE = tuple((math.cos(math.tau * i / 12), math.sin(math.tau * i / 12)) for i in range(12))


class CutOut:
    """A flat, upright figure on the ground that faces the camera; metres across and up."""

    def __init__(self, canvas: Canvas, x: float, z: float, key: float | None = None, y=0.0):
        self.canvas = canvas
        sight = math.atan2(x - canvas.camera.position[0], z)
        self._place = Place(x, z, sight, y)
        self.key = math.hypot(x - canvas.camera.position[0], z) if key is None else key

    def shape(self, outline: Sequence[Flat], slot: int, seen=True, labelled=True) -> None:
        """A polygon of (across, up) corners."""
        points = [self._place(a, up, 0.0) for a, up in outline]
        self.canvas.face(points, slot, self.key, None, seen, labelled)

    def quad(self, left, bottom, right, top, slot, **which) -> None:
        """An upright rectangle."""
        outline = ((left, bottom), (right, bottom), (right, top), (left, top))
        self.shape(outline, slot, **which)

    def limb(self, a: Flat, b: Flat, width_a: float, width_b: float, slot: int, **which) -> None:
        """A tapered bar from a to b with slightly rounded ends."""
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy) or 1e-6
        dx, dy = dx / length, dy / length
        px, py, qx, qy = -dy * width_a / 2, dx * width_a / 2, -dy * width_b / 2, dx * width_b / 2
        ea, eb = width_a * 0.3, width_b * 0.3
        outline = (
            (a[0] + px, a[1] + py),
            (b[0] + qx, b[1] + qy),
            (b[0] + qx * 0.5 + dx * eb, b[1] + qy * 0.5 + dy * eb),
            (b[0] - qx * 0.5 + dx * eb, b[1] - qy * 0.5 + dy * eb),
            (b[0] - qx, b[1] - qy),
            (a[0] - px, a[1] - py),
            (a[0] - px * 0.5 - dx * ea, a[1] - py * 0.5 - dy * ea),
            (a[0] + px * 0.5 - dx * ea, a[1] + py * 0.5 - dy * ea),
        )
        self.shape(outline, slot, **which)

    def disc(self, a: float, up: float, rx: float, ry: float, slot: int, **which) -> None:
        """An ellipse."""
        self.shape([(a + rx * c, up + ry * s) for c, s in CIRCLE], slot, **which)

    def ring(self, a: float, up: float, rx: float, ry: float, width: float, slot: int) -> None:
        """An elliptic ring that is seen but not labelled."""
        outer = [(a + rx * c, up + ry * s) for c, s in (*CIRCLE, CIRCLE[0])]
        kx, ky = max(rx - width, rx * 0.3), max(ry - width, 0.01)
        inner = [(a + kx * c, up + ky * s) for c, s in (CIRCLE[0], *reversed(CIRCLE))]
        self.shape(outer + inner, slot, labelled=False)


def footprint(place: Place, x: tuple[float, float], z: tuple[float, float]) -> list[Point]:
    """The four ground corners of a box."""
    return [place(a, 0.0, b) for a, b in ((x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1]))]
