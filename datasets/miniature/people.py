"""People on foot, and riders on bicycles and motorcycles, as upright cut-outs made of limbs."""

from .canvas import Canvas
from .materials import BICYCLE, MOTORCYCLE, PERSON, RIDER, Material
from .shapes import CutOut, Place

M = Material


def _shadow(canvas: Canvas, x: float, z: float, width: float, height: float) -> None:
    base = [(x - width / 2, 0.0, z), (x + width / 2, 0.0, z), (x + width / 2, 0.0, z + 0.25)]
    canvas.casters.append((base, 0.0, height))
    canvas.contacts.append([*base, (x - width / 2, 0.0, z + 0.25)])


def _head(figure: CutOut, canvas, label, a, up, size, instance, helmet=False) -> None:
    """A head of `size` metres with its centre at (a, up), with hair or a helmet."""
    rng = canvas.rng
    skin = canvas.slot(label, M.SKIN, instance)
    figure.disc(a, up, size * 0.38, size * 0.5, skin)
    hair = canvas.slot(label, M.HELMET if helmet else M.HAIR, instance)
    if helmet:
        figure.disc(a, up + size * 0.14, size * 0.46, size * 0.42, hair)
    elif rng.random() < 0.5:
        figure.disc(a, up + size * 0.2, size * 0.41, size * 0.34, hair)
    else:
        figure.disc(a, up + size * 0.05, size * 0.42, size * 0.5, hair)


def person(canvas: Canvas, x: float, z: float, y: float = 0.0) -> None:
    """A person standing or walking at (x, z)."""
    rng = canvas.rng
    instance = canvas.instance()

    def slot(material):
        return canvas.slot(PERSON, material, instance)

    tall = rng.uniform(1.58, 1.9) if rng.random() < 0.88 else rng.uniform(1.05, 1.45)
    k = tall / 1.75
    figure = CutOut(canvas, x, z, y=y)
    _shadow(canvas, x, z, 0.45 * k, tall)
    top, legs, shoe = slot(M.CLOTH), slot(M.TROUSERS), slot(M.SHOE)
    stride = rng.uniform(0.0, 0.3) * k
    way = rng.choice((-1, 1))
    hip, neck = 0.88 * k, 1.46 * k
    broad = rng.uniform(0.2, 0.26) * k
    skirt = rng.random() < 0.18
    for side in (-1, 1):
        foot = side * max(stride, 0.09 * k)
        knee = (foot * 0.62 + way * 0.04 * (stride > 0.1), 0.46 * k)
        low = slot(M.SKIN) if skirt else legs
        figure.limb((side * 0.08 * k, hip), knee, 0.17 * k, 0.14 * k, low)
        figure.limb(knee, (foot, 0.07 * k), 0.14 * k, 0.1 * k, low)
        figure.limb((foot - 0.02, 0.04), (foot + way * 0.13 * k, 0.035), 0.09, 0.08, shoe)
    if skirt:
        hem = rng.uniform(0.45, 0.7) * k
        figure.shape(
            ((-0.15 * k, hip + 0.1), (0.15 * k, hip + 0.1), (0.24 * k, hem), (-0.24 * k, hem)), legs
        )
    if rng.random() < 0.25:
        bag = canvas.slot(PERSON, M.CLOTH, instance)
        figure.quad(-way * 0.36 * k, 0.98 * k, -way * 0.08 * k, 1.42 * k, bag)
    hem = hip - (0.3 * k if rng.random() < 0.25 else 0.04)
    torso = (
        (-0.16 * k, hem),
        (0.16 * k, hem),
        (broad, 1.36 * k),
        (0.1 * k, neck),
        (-0.1 * k, neck),
        (-broad, 1.36 * k),
    )
    figure.shape(torso, top)
    sleeve = slot(M.SKIN) if rng.random() < 0.3 else top
    for side in (-1, 1):
        swing = side * -way * stride * 0.6
        elbow = (side * (broad + 0.05 * k) + swing * 0.4, 1.12 * k)
        hand = (side * broad + swing, 0.86 * k)
        figure.limb((side * broad, 1.36 * k), elbow, 0.13 * k, 0.11 * k, top)
        figure.limb(elbow, hand, 0.1 * k, 0.08 * k, sleeve)
    _head(figure, canvas, PERSON, 0.0, tall - 0.13, 0.27 * max(k, 0.85), instance)


def _bike_slots(canvas, label, instance):
    kinds = (M.PAINT, M.TYRE, M.TRIM)
    return tuple(canvas.slot(label, kind, instance) for kind in kinds)


def bicycle(canvas: Canvas, x: float, z: float, heading: float, ridden: bool, key=None) -> None:
    """A bicycle, with a rider when `ridden`; seen from the side or the rear by its heading."""
    instance = canvas.instance()
    frame, tyre, trim = _bike_slots(canvas, BICYCLE, instance)
    hollow = canvas.slot(BICYCLE, M.TRIM, instance)
    figure = CutOut(canvas, x, z, key)
    _shadow(canvas, x, z, 0.5, 1.7 if ridden else 1.0)
    k = Place(x, z, heading).sees_side(canvas)
    if abs(k) < 0.36:
        figure.quad(-0.05, 0.0, 0.05, 0.68, tyre)
        figure.quad(-0.06, 0.5, 0.06, 0.98, frame)
        figure.quad(-0.16, 0.28, 0.16, 0.36, trim)
        figure.limb((-0.28, 1.03), (0.28, 1.03), 0.06, 0.06, trim)
        figure.quad(-0.11, 0.86, 0.11, 0.97, trim)
        if ridden:
            _rider_rear(canvas, figure, instance, seat=0.95, foot=0.25, spread=0.17)
        return
    for a in (-0.52, 0.52):
        figure.disc(a * k, 0.34, 0.34 * abs(k), 0.34, hollow, seen=False)
        figure.ring(a * k, 0.34, 0.34 * abs(k), 0.34, 0.055, tyre)
        for c, s in ((1, 0), (0, 1), (0.7, 0.7), (0.7, -0.7)):
            spoke = 0.3 * abs(k) * c
            figure.limb(
                (a * k - spoke, 0.34 - 0.3 * s),
                (a * k + spoke, 0.34 + 0.3 * s),
                0.012,
                0.012,
                trim,
                labelled=False,
            )
    figure.shape(
        [(-0.5 * k, 0.36), (-0.05 * k, 0.28), (0.36 * k, 0.8), (-0.2 * k, 0.78)], frame, seen=False
    )
    bars = (
        ((-0.52, 0.34), (-0.06, 0.3)),
        ((-0.52, 0.34), (-0.2, 0.78)),
        ((-0.06, 0.3), (-0.22, 0.9)),
        ((-0.06, 0.3), (0.36, 0.76)),
        ((-0.2, 0.78), (0.36, 0.8)),
        ((0.52, 0.34), (0.34, 0.98)),
    )
    for a, b in bars:
        figure.limb((a[0] * k, a[1]), (b[0] * k, b[1]), 0.055, 0.055, frame)
    figure.limb((-0.34 * k, 0.93), (-0.1 * k, 0.93), 0.08, 0.06, trim)
    figure.limb((0.26 * k, 1.02), (0.44 * k, 0.98), 0.06, 0.06, trim)
    if ridden:
        _rider_side(
            canvas,
            figure,
            instance,
            k,
            seat=(-0.22, 0.95),
            grip=(0.36, 1.02),
            foot=(0.0, 0.2),
            helmet=canvas.rng.random() < 0.6,
        )


def motorcycle(canvas: Canvas, x: float, z: float, heading: float, ridden: bool, key=None):
    """A motorcycle or scooter, with a rider when `ridden`."""
    rng = canvas.rng
    instance = canvas.instance()
    paint, tyre, trim = _bike_slots(canvas, MOTORCYCLE, instance)
    glass = canvas.slot(MOTORCYCLE, M.GLASS, instance)
    lamp = canvas.slot(MOTORCYCLE, M.HEAD_LAMP, instance)
    tail = canvas.slot(MOTORCYCLE, M.TAIL_LAMP, instance)
    hub = canvas.slot(MOTORCYCLE, M.HUB, instance)
    figure = CutOut(canvas, x, z, key)
    _shadow(canvas, x, z, 0.8, 1.6 if ridden else 1.1)
    view = Place(x, z, heading)
    k = view.sees_side(canvas)
    if abs(k) < 0.42:
        comes = abs(heading) > 1.6
        figure.quad(-0.09, 0.0, 0.09, 0.62, tyre)
        figure.quad(-0.2, 0.38, 0.2, 0.72, trim)
        figure.shape([(-0.24, 0.62), (0.24, 0.62), (0.2, 1.0), (-0.2, 1.0)], paint)
        figure.quad(-0.14, 0.3, 0.14, 0.4, trim)
        figure.disc(0.0, 0.78, 0.1, 0.09, lamp if comes else tail)
        if ridden:
            _rider_rear(canvas, figure, instance, seat=0.82, foot=0.28, spread=0.28, helmet=True)
        figure.limb((-0.4, 1.06), (0.4, 1.06), 0.06, 0.06, trim)
        for side in (-1, 1):
            figure.disc(side * 0.42, 1.16, 0.08, 0.06, glass)
        return
    for a in (-0.66, 0.66):
        figure.disc(a * k, 0.31, 0.31 * abs(k), 0.31, tyre)
        figure.disc(a * k, 0.31, 0.19 * abs(k), 0.19, hub)
    scooter = rng.random() < 0.4
    figure.shape(
        [(-0.45 * k, 0.24), (0.38 * k, 0.24), (0.44 * k, 0.62), (0.1 * k, 0.72), (-0.5 * k, 0.66)],
        trim,
    )
    figure.limb((0.66 * k, 0.31), (0.42 * k, 1.02), 0.1, 0.08, trim)
    figure.shape([(-0.92 * k, 0.72), (-0.1 * k, 0.6), (-0.05 * k, 0.8), (-0.85 * k, 0.88)], paint)
    if scooter:
        figure.shape(
            [(-0.95 * k, 0.38), (-0.15 * k, 0.3), (-0.1 * k, 0.75), (-0.9 * k, 0.8)], paint
        )
        figure.shape([(0.3 * k, 0.3), (0.45 * k, 0.3), (0.5 * k, 1.05), (0.36 * k, 1.05)], paint)
    else:
        figure.shape([(-0.1 * k, 0.62), (0.45 * k, 0.64), (0.4 * k, 0.93), (0.05 * k, 0.95)], paint)
        figure.limb((-0.8 * k, 0.36), (-0.1 * k, 0.34), 0.11, 0.09, hub)
    figure.limb((-0.7 * k, 0.87), (-0.02 * k, 0.83), 0.12, 0.1, trim)
    figure.limb((0.26 * k, 1.08), (0.5 * k, 1.0), 0.07, 0.07, trim)
    figure.disc(0.56 * k, 0.88, 0.1, 0.1, lamp)
    figure.disc(-0.9 * k, 0.8, 0.07, 0.05, tail)
    if ridden:
        _rider_side(
            canvas,
            figure,
            instance,
            k,
            seat=(-0.3, 0.88),
            grip=(0.32, 1.06),
            foot=(0.08, 0.33),
            helmet=True,
        )


def _rider_side(canvas, figure, instance, k, seat, grip, foot, helmet) -> None:
    """A rider from the side, leaning from the seat to the grips; `k` narrows and mirrors."""
    rng = canvas.rng
    top, legs = (canvas.slot(RIDER, m, instance) for m in (M.CLOTH, M.TROUSERS))
    shoe = canvas.slot(RIDER, M.SHOE, instance)
    lean = rng.uniform(0.12, 0.38)
    shoulder = (seat[0] + lean, seat[1] + 0.5)
    hip = (seat[0] * k, seat[1] + 0.03)
    for lift in (0.28, 0.0):
        ankle = ((foot[0] + lift * 0.2) * k, foot[1] + lift * 0.5)
        knee = ((foot[0] + 0.2) * k, (hip[1] + ankle[1]) / 2 + 0.12)
        figure.limb(hip, knee, 0.19, 0.15, legs)
        figure.limb(knee, ankle, 0.14, 0.1, legs)
        figure.limb(ankle, (ankle[0] + 0.16 * k, ankle[1] - 0.02), 0.09, 0.07, shoe)
    figure.limb(hip, (shoulder[0] * k, shoulder[1]), 0.28, 0.3, top)
    if rng.random() < 0.25:
        bag = canvas.slot(RIDER, M.CLOTH, instance)
        a, up = (seat[0] + lean * 0.6 - 0.18) * k, seat[1] + 0.32
        figure.limb((a, up - 0.16), (a + 0.06 * k, up + 0.16), 0.2, 0.2, bag)
    elbow = ((shoulder[0] + grip[0]) / 2 * k, (shoulder[1] + grip[1]) / 2 - 0.06)
    figure.limb((shoulder[0] * k, shoulder[1] - 0.04), elbow, 0.13, 0.11, top)
    figure.limb(elbow, (grip[0] * k, grip[1] + 0.03), 0.1, 0.08, top)
    head = ((shoulder[0] + 0.08) * k, shoulder[1] + 0.2)
    _head(figure, canvas, RIDER, *head, 0.27, instance, helmet)


def _rider_rear(canvas, figure, instance, seat, foot, spread, helmet=None) -> None:
    """A rider from behind or ahead."""
    rng = canvas.rng
    top, legs = (canvas.slot(RIDER, m, instance) for m in (M.CLOTH, M.TROUSERS))
    shoe = canvas.slot(RIDER, M.SHOE, instance)
    lift = rng.uniform(0.0, 0.22)
    for side, up in ((-1, foot + lift), (1, foot + 0.2 - lift)):
        knee = (side * (spread + 0.05), (seat + up) / 2 + 0.08)
        figure.limb((side * 0.1, seat), knee, 0.18, 0.14, legs)
        figure.limb(knee, (side * spread, up), 0.14, 0.1, legs)
        figure.disc(side * spread, up - 0.03, 0.06, 0.05, shoe)
    high = seat + 0.52
    figure.shape(
        [
            (-0.17, seat - 0.05),
            (0.17, seat - 0.05),
            (0.24, high - 0.08),
            (0.1, high),
            (-0.1, high),
            (-0.24, high - 0.08),
        ],
        top,
    )
    if rng.random() < 0.3:
        bag = canvas.slot(RIDER, M.CLOTH, instance)
        figure.quad(-0.16, seat + 0.1, 0.16, high - 0.06, bag)
    for side in (-1, 1):
        elbow = (side * 0.34, high - 0.3)
        figure.limb((side * 0.23, high - 0.09), elbow, 0.12, 0.1, top)
        figure.limb(elbow, (side * 0.28, seat + 0.12), 0.1, 0.08, top)
    helmet = rng.random() < 0.6 if helmet is None else helmet
    _head(figure, canvas, RIDER, 0.0, high + 0.14, 0.27, instance, helmet)
