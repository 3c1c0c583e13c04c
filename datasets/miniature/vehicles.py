"""Cars, trucks, buses and trams as bodies with windows, wheels and lamps, in real proportions."""

from .canvas import Canvas
from .materials import BUS, CAR, TRAIN, TRUCK, Material
from .shapes import CIRCLE, Place, box, end_decal, footprint, prism, side_decal, wheel

M = Material


class _Kit:
    """The slots that one vehicle's parts share."""

    def __init__(self, canvas: Canvas, label: int):
        instance = canvas.instance()

        def slot(material):
            return canvas.slot(label, material, instance)

        self.paint, self.glass, self.tyre = slot(M.PAINT), slot(M.GLASS), slot(M.TYRE)
        self.hub, self.trim, self.plate = slot(M.HUB), slot(M.TRIM), slot(M.PLATE)
        self.head, self.tail = slot(M.HEAD_LAMP), slot(M.TAIL_LAMP)
        self.new = slot


def _stands(canvas: Canvas, place: Place, half: float, z: tuple, height: float) -> None:
    ground = footprint(place, (-half, half), z)
    canvas.contacts.append(ground)
    canvas.casters.append((ground, 0.2, height))


def _near(canvas: Canvas, place: Place, metres: float) -> bool:
    """Whether a detail of that size covers more than about one and a half pixels."""
    return canvas.camera.focal * metres > 1.5 * place.distance(canvas)


def _lamps(canvas, place, kit, front, rear, half, y, key, centre) -> None:
    """Head and tail lamps and a licence plate."""
    if not _near(canvas, place, 0.2):
        return
    upright = canvas.rng.random() < 0.4
    for side in (-1, 1):
        lamp = sorted((side * half * 0.93, side * half * 0.62))
        end_decal(canvas, place, lamp, (y, y + 0.16), front, kit.head, key, centre)
        lamp = sorted((side * half * 0.94, side * half * (0.78 if upright else 0.6)))
        high = y + (0.3 if upright else 0.15)
        end_decal(canvas, place, lamp, (y, high), rear, kit.tail, key, centre)
    for z in (front, rear):
        end_decal(canvas, place, (-0.26, 0.26), (y - 0.16, y - 0.03), z, kit.plate, key, centre)


def car(canvas: Canvas, place: Place) -> None:
    """A saloon, hatchback, estate, van or pick-up; the place is its centre."""
    rng = canvas.rng
    kind = rng.choice(5, p=(0.33, 0.28, 0.2, 0.12, 0.07))
    kit = _Kit(canvas, CAR)
    half = rng.uniform(0.86, 0.97)
    length = (4.5, 4.0, 4.6, 5.0, 5.2)[kind] * rng.uniform(0.95, 1.05)
    waist = (0.92, 0.95, 1.05, 1.12, 1.05)[kind]
    top = (1.43, 1.48, 1.68, 2.0, 1.75)[kind] * rng.uniform(0.97, 1.04)
    r, f = -length / 2, length / 2
    cabin = (  # rear bottom, front bottom, front top, rear top
        (r + 0.45, f - 1.15, f - 1.95, r + 1.1),
        (r + 0.08, f - 1.0, f - 1.7, r + 0.55),
        (r + 0.06, f - 1.15, f - 1.8, r + 0.4),
        (r + 0.03, f - 0.7, f - 1.3, r + 0.12),
        (f - 3.1, f - 1.3, f - 1.9, f - 2.95),
    )[kind]
    key = place.distance(canvas)
    _stands(canvas, place, half, (r, f), top)
    tight = half * 0.95
    body = [
        (r + 0.06, 0.24, tight),
        (f - 0.08, 0.24, tight),
        (f, 0.42, tight),
        (f, 0.62, tight),
        (f - 0.15, waist - 0.16, half),
        (cabin[1], waist, half * 0.98),
        (r + 0.04, waist, half * 0.96),
        (r, 0.62, tight),
        (r, 0.42, tight),
    ]
    dark = {0: kit.trim, 1: kit.trim, 8: kit.trim}
    centre = prism(canvas, place, body, kit.paint, key, dark)
    for z in (r + 0.78, f - 0.82):
        for side in (-1, 1):
            x = side * half
            arch = [place(x, 0.33 + 0.41 * s, z + 0.42 * c) for c, s in CIRCLE[:7]]
            canvas.face(arch, kit.trim, key, centre)
            wheel(canvas, place, x, 0.32, z, 0.33, kit.tyre, kit.hub, key, centre)
    if _near(canvas, place, 0.25):
        end_decal(canvas, place, (-0.5, 0.5), (0.47, 0.63), f, kit.trim, key, centre)
        end_decal(canvas, place, (-half * 0.9, half * 0.9), (0.4, 0.46), r, kit.trim, key, centre)
        for side in (-1, 1):
            x = side * half
            side_decal(canvas, place, x, (0.24, 0.34), (r + 1.3, f - 1.3), kit.trim, key, centre)
            door = (r + f) / 2 - 0.1
            side_decal(canvas, place, x, (0.4, waist), (door, door + 0.03), kit.trim, key, centre)
    _lamps(canvas, place, kit, f - 0.02, r, half, 0.64, key, centre)
    w0, w1 = half - 0.03, half - 0.17
    greenhouse = [
        (cabin[0], waist - 0.02, w0),
        (cabin[1], waist - 0.02, w0),
        (cabin[2], top, w1),
        (cabin[3], top, w1),
    ]
    centre = prism(canvas, place, greenhouse, kit.paint, key)
    _greenhouse(canvas, place, kit, greenhouse, key, centre, rear_side_glass=kind != 3)


def _greenhouse(canvas, place, kit, corners, key, centre, rear_side_glass) -> None:
    """Windscreen, rear window and side windows on a cabin given by four corners."""
    (z0, y0, w0), (z1, _, _), (z2, y1, w1), (z3, _, _) = corners

    def on(low, high, t):
        return low + (high - low) * t

    for a, b in ((z1, z2), (z0, z3)):
        points = [
            place(side * (on(w0, w1, t) - 0.09), on(y0, y1, t), on(a, b, t))
            for side, t in ((-1, 0.1), (1, 0.1), (1, 0.88), (-1, 0.88))
        ]
        canvas.face(points, kit.glass, key, centre)
    if not _near(canvas, place, 0.35):
        return
    back, front, low, high = z0 + 0.12, z1 - 0.18, 0.12, 0.86
    middle = (z0 + z1) / 2
    for side in (-1, 1):
        for a, b in ((back, middle - 0.05), (middle + 0.05, front)):
            if a == back and not rear_side_glass:
                continue
            points = []
            for z, t in ((a, low), (b, low), (b, high), (a, high)):
                slide = (z1 - z2) * t if z == front else (z0 - z3) * t if z == back else 0.0
                points.append(place(side * on(w0, w1, t), on(y0, y1, t), z - slide))
            canvas.face(points, kit.glass, key, centre)


def truck(canvas: Canvas, place: Place) -> None:
    """A lorry: a cab before a box, a tank or an open load; the place is its centre."""
    rng = canvas.rng
    kit = _Kit(canvas, TRUCK)
    cargo = kit.new(M.CARGO)
    half = rng.uniform(1.15, 1.27)
    length = rng.uniform(6.0, 10.5)
    height = rng.uniform(2.8, 3.9)
    r, f = -length / 2, length / 2
    split = f - rng.uniform(1.7, 2.3)
    cab_top = min(height, rng.uniform(2.4, 3.0))
    _stands(canvas, place, half, (r, f), height)
    parts = [("cab", split + 1), ("load", r + 1)]
    parts.sort(key=lambda part: -place.distance(canvas, 0.0, part[1]))
    key = place.distance(canvas)
    kind = rng.choice(3, p=(0.65, 0.15, 0.2))
    frame = box(canvas, place, (-half * 0.8, half * 0.8), (0.45, 0.95), (r, f - 0.2), kit.trim, key)
    for side in (-1, 1):
        for z in (r + 0.8, r + 1.9, f - 1.1):
            wheel(canvas, place, side * half, 0.5, z, 0.5, kit.tyre, kit.hub, key, frame)
    for name, _ in parts:
        if name == "cab":
            _truck_cab(canvas, place, kit, split + 0.1, f, half, cab_top, key)
        else:
            _truck_load(canvas, place, kit, cargo, kind, (r, split), half, height, key)


def _truck_cab(canvas, place, kit, rear, front, half, top, key) -> None:
    shape = [
        (rear, 0.55, half),
        (front, 0.55, half),
        (front, 1.5, half),
        (front - 0.25, top, half * 0.94),
        (rear, top, half * 0.94),
    ]
    centre = prism(canvas, place, shape, kit.paint, key, {1: kit.trim})
    glass = [place(s * half * 0.9, y, z) for s, y, z in _sloped(front, 1.52, top - 0.25, 0.22)]
    canvas.face(glass, kit.glass, key, centre)
    for side in (-1, 1):
        y = (1.45, top - 0.3)
        side_decal(
            canvas, place, side * half, y, (rear + 0.7, front - 0.25), kit.glass, key, centre
        )
        end = sorted((side * half * 0.95, side * half * 0.6))
        end_decal(canvas, place, end, (0.8, 1.05), front, kit.head, key, centre)
        wheel(canvas, place, side * half, 0.5, front - 1.1, 0.5, kit.tyre, kit.hub, key, centre)


def _sloped(z, low, high, lean):
    return ((-1, low, z), (1, low, z), (1, high, z - lean), (-1, high, z - lean))


def _truck_load(canvas, place, kit, cargo, kind, z, half, height, key) -> None:
    if kind == 1:  # a tank
        mid = (1.1 + height) / 2
        shape = [
            (z[0], 1.1, half * 0.55),
            (z[1], 1.1, half * 0.55),
            (z[1], mid, half),
            (z[1], height, half * 0.55),
            (z[0], height, half * 0.55),
            (z[0], mid, half),
        ]
        centre = prism(canvas, place, shape, cargo, key)
        floor = 1.3
    else:
        floor = 0.95
        top = height if kind == 0 else min(height, 2.0)
        centre = box(canvas, place, (-half, half), (floor, top), z, cargo, key)
        if kind == 0 and _near(canvas, place, 0.3):
            line = kit.trim
            end_decal(canvas, place, (-0.04, 0.04), (floor, top), z[0], line, key, centre)
            for y in (floor + 0.05, top - 0.12):
                end_decal(canvas, place, (-half, half), (y, y + 0.07), z[0], line, key, centre)
            for side in (-1, 1):
                band = (floor + (top - floor) * 0.35, floor + (top - floor) * 0.62)
                length = z[1] - z[0]
                span = (z[0] + length * 0.2, z[1] - length * 0.2)
                side_decal(canvas, place, side * half, band, span, kit.paint, key, centre)
    _lamps_rear(canvas, place, kit, z[0], half, floor, key, centre)


def _lamps_rear(canvas, place, kit, rear, half, y, key, centre) -> None:
    bar = (y - 0.28, y - 0.02)
    end_decal(canvas, place, (-half, half), bar, rear, kit.trim, key, centre)
    for side in (-1, 1):
        end = sorted((side * half * 0.97, side * half * 0.72))
        end_decal(canvas, place, end, bar, rear, kit.tail, key, centre)
    end_decal(canvas, place, (-0.26, 0.26), bar, rear, kit.plate, key, centre)


def bus(canvas: Canvas, place: Place) -> None:
    """A city bus, at times with two decks; the place is its centre."""
    rng = canvas.rng
    kit = _Kit(canvas, BUS)
    band, sign = kit.new(M.CARGO), kit.new(M.TAIL_LAMP if rng.random() < 0.3 else M.HEAD_LAMP)
    decks = 2 if rng.random() < 0.12 else 1
    half, length = 1.27, rng.uniform(9.5, 12.5)
    top = 3.1 if decks == 1 else 4.2
    r, f = -length / 2, length / 2
    key = place.distance(canvas)
    _stands(canvas, place, half, (r, f), top)
    shape = [
        (r, 0.35, half),
        (f, 0.35, half),
        (f, 1.0, half),
        (f - 0.15, top, half * 0.97),
        (r, top, half * 0.97),
    ]
    centre = prism(canvas, place, shape, kit.paint, key)
    for side in (-1, 1):
        x = side * half
        side_decal(canvas, place, x, (0.35, 0.75), (r, f), band, key, centre)
        for z in (r + 2.6, f - 2.5):
            wheel(canvas, place, x, 0.48, z, 0.48, kit.tyre, kit.hub, key, centre)
        for low, high in ((1.25, 2.55), (2.95, 3.9))[:decks]:
            _window_row(canvas, place, kit, x, (low, high), (r + 0.35, f - 0.45), 1.5, key, centre)
        if side > 0:
            for z in (f - 1.5, r + length * 0.45):
                side_decal(canvas, place, x, (0.45, 2.5), (z, z + 1.1), kit.trim, key, centre)
                for a in (0.07, 0.58):
                    pane = (z + a, z + a + 0.45)
                    side_decal(canvas, place, x, (0.6, 2.4), pane, kit.glass, key, centre)
    glass = [place(s * 1.15, y, z) for s, y, z in _sloped(f - 0.02, 1.05, 2.45, 0.1)]
    canvas.face(glass, kit.glass, key, centre)
    end_decal(canvas, place, (-0.95, 0.95), (2.6, 2.95), f - 0.12, kit.trim, key, centre)
    end_decal(canvas, place, (-0.7, 0.7), (2.66, 2.89), f - 0.12, sign, key, centre)
    end_decal(canvas, place, (-1.05, 1.05), (1.5, 2.5), r, kit.glass, key, centre)
    end_decal(canvas, place, (-1.0, 1.0), (0.45, 1.2), r, band, key, centre)
    if decks == 2:
        for z in (f - 0.14, r):
            end_decal(canvas, place, (-1.1, 1.1), (3.1, 3.95), z, kit.glass, key, centre)
    _lamps(canvas, place, kit, f, r, half, 0.75, key, centre)


def _window_row(canvas, place, kit, x, y, z, pane, key, centre) -> None:
    """A row of windows with posts between them; far away, one band."""
    if not _near(canvas, place, 0.6):
        side_decal(canvas, place, x, y, z, kit.glass, key, centre)
        return
    count = max(1, round((z[1] - z[0]) / pane))
    step = (z[1] - z[0]) / count
    for i in range(count):
        span = (z[0] + i * step + 0.06, z[0] + (i + 1) * step - 0.06)
        side_decal(canvas, place, x, y, span, kit.glass, key, centre)


def tram(canvas: Canvas, place: Place) -> None:
    """A tram of two or three cars with sloping noses and a pantograph; the place is its centre."""
    rng = canvas.rng
    kit = _Kit(canvas, TRAIN)
    band = kit.new(M.CARGO)
    cars = int(rng.integers(2, 4))
    half, top, one = rng.uniform(1.2, 1.33), rng.uniform(3.2, 3.6), rng.uniform(7.0, 9.0)
    total = cars * one
    key = place.distance(canvas)
    _stands(canvas, place, half, (-total / 2, total / 2), top)
    far_first = place.distance(canvas, 0.0, 1.0) > place.distance(canvas, 0.0, -1.0)
    for i in sorted(range(cars), reverse=far_first):
        r = -total / 2 + i * one + 0.15
        f = r + one - 0.3
        nose_front = 0.9 if i == cars - 1 else 0.0
        nose_rear = 0.9 if i == 0 else 0.0
        shape = [
            (r, 0.25, half),
            (f, 0.25, half),
            (f, 1.2, half),
            (f - nose_front, top, half * 0.9),
            (r + nose_rear, top, half * 0.9),
            (r, 1.2, half),
        ]
        centre = prism(canvas, place, shape, kit.paint, key, {3: kit.trim})
        for side in (-1, 1):
            x = side * half
            side_decal(canvas, place, x, (0.25, 0.9), (r, f), band, key, centre)
            span = (r + 0.3 + nose_rear, f - 0.3 - nose_front)
            _window_row(canvas, place, kit, x, (1.3, 2.6), span, 1.3, key, centre)
            door = (r + one * 0.45, r + one * 0.45 + 1.2)
            side_decal(canvas, place, x, (0.4, 2.7), door, kit.trim, key, centre)
            side_decal(
                canvas, place, x, (0.7, 2.5), (door[0] + 0.1, door[1] - 0.1), kit.glass, key, centre
            )
        for nose, z, way in ((nose_front, f, 1), (nose_rear, r, -1)):
            _tram_end(canvas, place, kit, band, nose, z, way, half, top, key, centre)
    if rng.random() < 0.8:
        _pantograph(canvas, place, kit.trim, top, key)


def _tram_end(canvas, place, kit, band, nose, z, way, half, top, key, centre) -> None:
    if nose == 0.0:
        end_decal(canvas, place, (-half, half), (0.3, top - 0.1), z, kit.trim, key, centre)
        return
    slope = nose / (top - 1.2)
    glass = [
        place(s * half * 0.86, y, z - way * slope * (y - 1.2))
        for s, y in ((-1, 1.3), (1, 1.3), (1, top - 0.6), (-1, top - 0.6))
    ]
    canvas.face(glass, kit.glass, key, centre)
    end_decal(canvas, place, (-half * 0.9, half * 0.9), (0.35, 0.75), z, band, key, centre)
    lamp = kit.head if way > 0 else kit.tail
    for side in (-1, 1):
        end = sorted((side * half * 0.9, side * half * 0.6))
        end_decal(canvas, place, end, (0.85, 1.08), z, lamp, key, centre)


def _pantograph(canvas, place, slot, top, key) -> None:
    for a, b in (((0.0, 0.0), (0.9, 0.7)), ((0.9, 0.7), (0.1, 1.4)), ((-0.6, 1.4), (0.8, 1.45))):
        points = [
            place(-0.5, top + a[1], a[0]),
            place(0.5, top + b[1], b[0]),
            place(0.5, top + b[1] + 0.08, b[0]),
            place(-0.5, top + a[1] + 0.08, a[0]),
        ]
        canvas.face(points, slot, key)


VEHICLES = {CAR: car, TRUCK: truck, BUS: bus, TRAIN: tram}
HALF_LENGTH = {CAR: 2.4, TRUCK: 5.0, BUS: 6.2, TRAIN: 12.5}
