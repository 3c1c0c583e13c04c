"""What stands along a street: poles with lamps, traffic lights and signs, trees, bins."""

import math

from utils.labels import VOID

from .canvas import Canvas
from .materials import LIGHT, POLE, SIGN, VEGETATION, Material
from .shapes import CIRCLE, CutOut

M = Material


def _pole_slots(canvas: Canvas, x: float, z: float, height: float, width: float):
    base = [(x - width / 2, 0.0, z), (x + width / 2, 0.0, z), (x, 0.0, z + width)]
    canvas.casters.append((base, 0.0, height))
    return canvas.slot(POLE, M.METAL, canvas.instance())


def lamp_post(canvas: Canvas, x: float, z: float, side: float) -> None:
    """A street lamp with an arm over the road (`side` is +1 to the right of the road)."""
    rng = canvas.rng
    height, width = rng.uniform(5.5, 9.0), rng.uniform(0.16, 0.24)
    metal = _pole_slots(canvas, x, z, height, width)
    figure = CutOut(canvas, x, z)
    figure.quad(-width * 0.8, 0.0, width * 0.8, 0.9, metal)
    figure.limb((0, 0.5), (0, height), width, width * 0.7, metal)
    reach = -side * rng.uniform(0.8, 2.2)
    figure.limb((0, height - 0.05), (reach, height + 0.35), 0.13, 0.1, metal)
    figure.quad(reach - 0.35, height + 0.25, reach + 0.35, height + 0.42, metal)


def utility_pole(canvas: Canvas, x: float, z: float) -> None:
    """A wooden pole with cross arms, for wires."""
    rng = canvas.rng
    height, width = rng.uniform(7.0, 10.0), rng.uniform(0.24, 0.32)
    wood = _pole_slots(canvas, x, z, height, width)
    figure = CutOut(canvas, x, z)
    figure.limb((0, 0), (0, height), width, width * 0.75, wood)
    for up in (height - 0.5, height - 1.3):
        figure.limb((-1.0, up), (1.0, up), 0.14, 0.14, wood)


def _light_box(canvas, figure, a, up, instance, height=1.0) -> None:
    """A housing with three lenses, its lower end at `up`."""
    rng = canvas.rng
    shell = canvas.slot(LIGHT, M.LIGHT_BOX, instance)
    width = height * 0.42
    figure.quad(a - width / 2, up, a + width / 2, up + height, shell)
    lit = rng.integers(0, 3)
    for i in range(3):
        lens = canvas.slot(LIGHT, M.LENS_ON if i == lit else M.LENS_OFF, instance)
        figure.disc(a, up + height * (1 + 2 * i) / 6, width * 0.33, width * 0.33, lens)


def traffic_light(canvas: Canvas, x: float, z: float, side: float, overhead: bool) -> None:
    """Traffic lights on a pole, and over the road on an arm where `overhead`."""
    rng = canvas.rng
    height = rng.uniform(5.2, 6.2) if overhead else rng.uniform(3.0, 3.7)
    metal = _pole_slots(canvas, x, z, height, 0.18)
    figure = CutOut(canvas, x, z)
    instance = canvas.instance()
    figure.limb((0, 0), (0, height), 0.2, 0.15, metal)
    size = rng.uniform(0.95, 1.2)
    if overhead:
        reach = rng.uniform(4.0, 7.5)
        figure.limb((0, height - 0.2), (-side * reach, height), 0.18, 0.12, metal)
        for share in (0.55, 0.98)[: rng.integers(1, 3)]:
            _light_box(canvas, figure, -side * reach * share, height - size + 0.1, instance, size)
    _light_box(canvas, figure, -side * 0.08, 2.3, instance, size)


SIGN_SHAPES = {
    "disc": CIRCLE,
    "triangle": ((0.0, 1.0), (-0.98, -0.7), (0.98, -0.7)),
    "yield": ((0.0, -1.0), (0.98, 0.7), (-0.98, 0.7)),
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "diamond": ((0.0, -1.1), (1.1, 0.0), (0.0, 1.1), (-1.1, 0.0)),
    "octagon": tuple(
        (math.cos(math.tau * (i + 0.5) / 8), math.sin(math.tau * (i + 0.5) / 8)) for i in range(8)
    ),
    "board": ((-1.5, -0.6), (1.5, -0.6), (1.5, 0.6), (-1.5, 0.6)),
    "plate": ((-0.6, -1.0), (0.6, -1.0), (0.6, 1.0), (-0.6, 1.0)),
}


def _sign(canvas, figure, a, up, size, instance, shape=None) -> None:
    """A sign of a random shape with a border and a symbol."""
    rng = canvas.rng
    shape = shape or tuple(SIGN_SHAPES)[rng.integers(len(SIGN_SHAPES))]
    outline = SIGN_SHAPES[shape]
    border, face, symbol = (
        canvas.slot(SIGN, m, instance) for m in (M.SIGN_BORDER, M.SIGN_FACE, M.SIGN_SYMBOL)
    )
    figure.shape([(a + size * p, up + size * q) for p, q in outline], border)
    inner = size * rng.uniform(0.7, 0.92)
    figure.shape([(a + inner * p, up + inner * q) for p, q in outline], face)
    kind = rng.integers(4)
    s = size * 0.45
    if shape == "board":
        for row in (-0.5, 0.15):
            right = rng.uniform(0.2, 2.3)
            figure.quad(a - 2.4 * s, up + row * s, a + right * s, up + (row + 0.4) * s, symbol)
    elif kind == 0:
        figure.quad(a - s, up - 0.25 * s, a + s, up + 0.25 * s, symbol)
    elif kind == 1:
        figure.limb((a, up - s), (a, up + s * 0.4), 0.4 * s, 0.4 * s, symbol)
        figure.shape(
            [(a - 0.7 * s, up + 0.2 * s), (a + 0.7 * s, up + 0.2 * s), (a, up + s)], symbol
        )
    elif kind == 2:
        figure.disc(a, up, 0.5 * s, 0.8 * s, symbol)
        figure.disc(a, up, 0.2 * s, 0.5 * s, face)
    else:
        figure.limb(
            (a - 0.8 * s, up - 0.8 * s), (a + 0.8 * s, up + 0.8 * s), 0.35 * s, 0.35 * s, symbol
        )


def sign_post(canvas: Canvas, x: float, z: float) -> None:
    """One or two signs on a thin pole."""
    rng = canvas.rng
    up = rng.uniform(2.2, 2.9)
    metal = _pole_slots(canvas, x, z, up + 0.5, 0.1)
    figure = CutOut(canvas, x, z)
    instance = canvas.instance()
    figure.limb((0, 0), (0, up + 0.5), 0.11, 0.1, metal)
    size = rng.uniform(0.38, 0.55)
    _sign(canvas, figure, 0.0, up + 0.1, size, instance)
    if rng.random() < 0.4:
        _sign(canvas, figure, 0.0, up - size * 1.55, size * 0.7, canvas.instance(), "board")


def gantry(canvas: Canvas, left: float, right: float, z: float) -> None:
    """Direction boards on a bridge over a wide road between two x positions."""
    rng = canvas.rng
    metal = _pole_slots(canvas, left, z, 6.5, 0.3)
    middle = (left + right) / 2
    figure = CutOut(canvas, middle, z)
    half = (right - left) / 2
    for a in (-half, half):
        figure.quad(a - 0.16, 0.0, a + 0.16, 6.6, metal)
    figure.quad(-half, 6.3, half, 6.65, metal)
    for share in (-0.5, 0.4)[: rng.integers(1, 3)]:
        _sign(canvas, figure, share * half, 6.0, rng.uniform(1.2, 1.6), canvas.instance(), "board")


def _ragged(rng, rx: float, ry: float, corners: int, rough: float):
    """A closed outline around the origin whose radius varies at random."""
    angle = math.tau / corners
    wave = rng.uniform(1 - rough, 1 + rough * 0.6, corners)
    return [
        (rx * w * math.cos(i * angle), ry * w * math.sin(i * angle))
        for i, w in enumerate(wave.tolist())
    ]


TREES = ("round", "tall", "conifer", "palm")


def tree(canvas: Canvas, x: float, z: float, kind: str, size: float = 1.0, key=None) -> None:
    """A tree of one of `TREES`; `size` 1 is about seven metres high."""
    rng = canvas.rng
    instance = canvas.instance()
    leaves, bark = (canvas.slot(VEGETATION, m, instance) for m in (M.LEAVES, M.BARK))
    figure = CutOut(canvas, x, z, key)
    trunk = rng.uniform(1.9, 2.9) * min(size, 1.3)
    height = {"round": 6.5, "tall": 9.0, "conifer": 9.0, "palm": 9.0}[kind]
    height *= size * rng.uniform(0.85, 1.15)
    wide = {"round": 0.4, "tall": 0.24, "conifer": 0.2, "palm": 0.22}[kind] * height
    if kind == "palm":
        trunk = height * 0.85
    lean = rng.uniform(-0.04, 0.04) * height
    figure.limb((0, 0), (lean, trunk + 0.6), 0.16 + 0.02 * height, 0.12 + 0.012 * height, bark)
    detail = 9 if canvas.camera.focal * wide < 8 * figure.key else 22
    crown = height - trunk
    if kind == "palm":
        for angle in rng.uniform(-0.5, 3.6, 9).tolist():
            tip = (lean + wide * math.cos(angle), height + wide * 0.6 * math.sin(angle) - 0.5)
            bend = ((lean + tip[0]) / 2, max(height, tip[1]) + 0.25)
            figure.limb((lean, height - 0.1), bend, 0.35, 0.6, leaves)
            figure.limb(bend, tip, 0.6, 0.15, leaves)
    elif kind == "conifer":
        base = min(trunk, 1.0)
        for tier in range(4):
            low = base + (height - base) * tier / 4.4
            half = wide * (1.15 - tier / 4)
            high = min(low + (height - base) * 0.42, height)
            figure.shape(
                [
                    (lean - half, low),
                    (lean - half * 0.4, low - 0.2),
                    (lean + half * 0.3, low + 0.1),
                    (lean + half, low - 0.1),
                    (lean, high),
                ],
                leaves,
            )
    else:
        for _ in range(3 if kind == "tall" else 4):
            a = lean + rng.uniform(-0.4, 0.4) * wide
            up = trunk + crown * rng.uniform(0.35, 0.7)
            outline = _ragged(rng, wide * 0.72, crown * 0.36, detail, 0.22)
            figure.shape([(a + p, up + q) for p, q in outline], leaves)
        outline = _ragged(rng, wide * 0.85, crown * 0.52, detail, 0.2)
        figure.shape([(lean + p, trunk + crown * 0.5 + q) for p, q in outline], leaves)
    crown_ground = [(x + wide * c, 0.0, z + wide * s) for c, s in CIRCLE]
    canvas.casters.append((crown_ground, trunk, height * 0.8))
    canvas.casters.append(([(x - 0.1, 0.0, z), (x + 0.1, 0.0, z), (x, 0.0, z + 0.1)], 0.0, trunk))


def bush(canvas: Canvas, x: float, z: float, width: float, height: float, key=None) -> None:
    """A ragged bush."""
    slot = canvas.slot(VEGETATION, M.LEAVES, canvas.instance())
    figure = CutOut(canvas, x, z, key)
    detail = 10 if canvas.camera.focal * width < 10 * figure.key else 24
    outline = _ragged(canvas.rng, width / 2, height * 0.55, detail, 0.2)
    figure.shape([(p, max(height * 0.45 + q, -0.02)) for p, q in outline], slot)
    canvas.contacts.append(
        [
            (x - width * 0.4, 0.0, z),
            (x + width * 0.4, 0.0, z),
            (x + width * 0.4, 0.0, z + 0.6),
            (x - width * 0.4, 0.0, z + 0.6),
        ]
    )


def static(canvas: Canvas, x: float, z: float) -> None:
    """A bin, bollard or box that belongs to no class (void)."""
    rng = canvas.rng
    slot = canvas.slot(VOID, M.STATIC, canvas.instance())
    width, height = rng.uniform(0.25, 0.8), rng.uniform(0.6, 1.3)
    figure = CutOut(canvas, x, z)
    figure.shape(
        [(-width * 0.45, 0.0), (width * 0.45, 0.0), (width * 0.5, height), (-width * 0.5, height)],
        slot,
    )
    figure.quad(-width * 0.55, height * 0.88, width * 0.55, height, slot)
    canvas.contacts.append(
        [(x - width / 2, 0.0, z), (x + width / 2, 0.0, z), (x + width / 2, 0.0, z + 0.4)]
    )
