"""What closes a street to the sides: buildings, walls, fences and hedges, in segments.

Each runs along the street from z0 to z1 at a signed offset from the road's centre line; segments
are painted by their far end, so that what stands before them comes after them.
"""

from collections.abc import Callable

from .canvas import Canvas, Point
from .materials import BUILDING, FENCE, VEGETATION, WALL, Material

M = Material
Bend = Callable[[float], float]
STEP = 6.0  # metres per segment


def _pieces(z0: float, z1: float):
    count = max(1, round((z1 - z0) / STEP))
    edges = [z0 + (z1 - z0) * i / count for i in range(count + 1)]
    return reversed(list(zip(edges[:-1], edges[1:], strict=True)))


def _strip(canvas, bend: Bend, s: float, z0, z1, low, high, slot, lift=0.0) -> None:
    """An upright surface along the street."""
    for a, b in _pieces(z0, z1):
        xa, xb = s + bend(a), s + bend(b)
        points = ((xa, low, a), (xb, low, b), (xb, high, b), (xa, high, a))
        canvas.face(points, slot, b + lift, u0=a - z0)


def building(canvas: Canvas, bend: Bend, s: float, z0: float, z1: float, deep: float, high: float):
    """A house front at offset `s` (its sign is the side), `deep` metres deep, `high` to the eaves.

    Low houses have a pitched roof.
    """
    rng = canvas.rng
    instance = canvas.instance()
    side = 1.0 if s > 0 else -1.0
    front = canvas.slot(BUILDING, M.FACADE, instance)
    pitched = high < 11 and rng.random() < 0.6
    back = s + side * deep
    x0, x1 = bend(z0), bend(z1)
    ridge = high + deep * rng.uniform(0.2, 0.4) if pitched else high
    roof = canvas.slot(BUILDING, M.ROOF, instance)
    if pitched:
        middle = s + side * deep / 2
        for a, b in _pieces(z0, z1):
            points = (
                (s + bend(a), high, a),
                (s + bend(b), high, b),
                (middle + bend(b), ridge, b),
                (middle + bend(a), ridge, a),
            )
            canvas.face(points, roof, b)
        near = ((s + x0, high, z0), (back + x0, high, z0), (middle + x0, ridge, z0))
        canvas.face(near, front, z0 + STEP)
    elif rng.random() < 0.6:
        _strip(canvas, bend, s - side * 0.25, z0, z1, high - 0.35, high + 0.2, roof)
    _strip(canvas, bend, s, z0, z1, 0.0, high, front)
    flank = ((s + x0, 0.0, z0), (back + x0, 0.0, z0), (back + x0, high, z0), (s + x0, high, z0))
    canvas.face(flank, front, z0 + STEP, u0=(z1 - z0))
    far = ((s + x1, 0.0, z1), (back + x1, 0.0, z1), (back + x1, high, z1), (s + x1, high, z1))
    canvas.face(far, front, z1 + STEP)
    ground = [(s + x0, 0.0, z0), (back + x0, 0.0, z0), (back + x1, 0.0, z1), (s + x1, 0.0, z1)]
    canvas.casters.append((ground, 0.0, high))
    canvas.contacts.append(
        [
            (s - side * 0.5 + x0, 0.0, z0),
            (s + x0, 0.0, z0),
            (s + x1, 0.0, z1),
            (s - side * 0.5 + x1, 0.0, z1),
        ]
    )
    if rng.random() < 0.35:
        _awning(canvas, bend, s, side, z0, z1, instance)


def _awning(canvas, bend, s, side, z0, z1, instance) -> None:
    slot = canvas.slot(BUILDING, M.AWNING, instance)
    a = z0 + (z1 - z0) * canvas.rng.uniform(0.05, 0.4)
    b = min(a + canvas.rng.uniform(3, 6), z1)
    xa, xb = s + bend(a), s + bend(b)
    reach = -side * 1.3
    points = ((xa + reach, 2.6, a), (xb + reach, 2.6, b), (xb, 3.3, b), (xa, 3.3, a))
    canvas.face(points, slot, b - 0.01)
    drop = (
        (xa + reach, 2.35, a),
        (xb + reach, 2.35, b),
        (xb + reach, 2.62, b),
        (xa + reach, 2.62, a),
    )
    canvas.face(drop, slot, b - 0.01)


def wall(canvas: Canvas, bend: Bend, s: float, z0: float, z1: float, high: float) -> None:
    """A free-standing wall with a coping and a near end."""
    slot = canvas.slot(WALL, M.MASONRY, canvas.instance())
    side = 1.0 if s > 0 else -1.0
    x0 = bend(z0)
    end: tuple[Point, ...] = (
        (s + x0, 0.0, z0),
        (s + side * 0.35 + x0, 0.0, z0),
        (s + side * 0.35 + x0, high, z0),
        (s + x0, high, z0),
    )
    canvas.face(end, slot, z0 + STEP)
    _strip(canvas, bend, s, z0, z1, 0.0, high, slot)
    _strip(canvas, bend, s - side * 0.06, z0, z1, high - 0.14, high + 0.04, slot, -0.01)
    _ground_line(canvas, bend, s, z0, z1, high)


def fence(canvas: Canvas, bend: Bend, s: float, z0: float, z1: float, high: float) -> None:
    """A fence: bars, planks, mesh or a crash barrier by the traits of its slot, with posts."""
    instance = canvas.instance()
    slot = canvas.slot(FENCE, M.FENCE, instance)
    post = canvas.slot(FENCE, M.TRIM, instance)
    _strip(canvas, bend, s, z0, z1, 0.08, high, slot)
    z = z0
    while z < z1:
        x = s + bend(z)
        points = (
            (x - 0.05, 0.0, z),
            (x + 0.05, 0.0, z),
            (x + 0.05, high + 0.1, z),
            (x - 0.05, high + 0.1, z),
        )
        canvas.face(points, post, z - 0.01)
        z += 2.5
    _ground_line(canvas, bend, s, z0, z1, high)


def hedge(canvas: Canvas, bend: Bend, s: float, z0: float, z1: float, high: float) -> None:
    """A clipped hedge with an uneven top."""
    slot = canvas.slot(VEGETATION, M.LEAVES, canvas.instance())
    side = 1.0 if s > 0 else -1.0
    for a, b in _pieces(z0, z1):
        xa, xb = s + bend(a), s + bend(b)
        tops = []
        for i in range(7):
            t = 1 - i / 6
            up = high * canvas.rng.uniform(0.88, 1.06)
            tops.append((xa + (xb - xa) * t, up, a + (b - a) * t))
        canvas.face(((xa, 0.0, a), (xb, 0.0, b), *tops), slot, b, u0=a)
    x0 = bend(z0)
    end = (
        (s + x0, 0.0, z0),
        (s + side * 0.9 + x0, 0.0, z0),
        (s + side * 0.9 + x0, high, z0),
        (s + x0, high * 0.95, z0),
    )
    canvas.face(end, slot, z0 + STEP)
    _ground_line(canvas, bend, s, z0, z1, high)


def _ground_line(canvas, bend, s, z0, z1, high) -> None:
    x0, x1 = s + bend(z0), s + bend(z1)
    ground = [
        (x0 - 0.15, 0.0, z0),
        (x0 + 0.15, 0.0, z0),
        (x1 + 0.15, 0.0, z1),
        (x1 - 0.15, 0.0, z1),
    ]
    canvas.casters.append((ground, 0.0, high))
    canvas.contacts.append(ground)
