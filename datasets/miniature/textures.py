"""Textures: what tells asphalt from paving and leaves from bricks, whatever their colours.

A texture changes the colours `c` [N, 3] of the pixels of one material in place.  `Pixels` gives
where on the surface they are; patterns finer than a pixel fade out with `foot`, metres per pixel.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .materials import Material

M = Material


@dataclass
class Pixels:
    """The pixels of one material: surface coordinates u, v and pixel footprint in metres [N].

    second    a second colour of the slot [N, 3]: glass of a front, gaps of a fence
    sky       the colour of the sky at the horizon [3]
    contrast  strength of the texture [N], traits [N, 6] of the slots
    shift     whole numbers [N] that move noise from slot to slot
    """

    u: np.ndarray
    v: np.ndarray
    foot: np.ndarray
    second: np.ndarray
    sky: np.ndarray
    contrast: np.ndarray
    traits: np.ndarray
    shift: np.ndarray
    noise: "Noise"
    clouds: float


class Noise:
    """Smooth tileable noise of unit variance, drawn anew for every image."""

    SIZE = 512  # samples along a side of the tile
    BUMP = 16  # samples per bump

    def __init__(self, rng: np.random.Generator):
        bumps, edge = self.SIZE // self.BUMP, 3
        coarse = np.pad(rng.standard_normal((bumps, bumps), dtype=np.float32), edge, mode="wrap")
        side = (bumps + 2 * edge) * self.BUMP
        fine = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
        cut = edge * self.BUMP
        fine = fine[cut : cut + self.SIZE, cut : cut + self.SIZE]
        self.tile = (fine / fine.std()).ravel()
        self.white = rng.random(self.SIZE * self.SIZE, dtype=np.float32)

    def _index(self, u, v, shift):
        i = np.floor(u).astype(np.int32) + shift * 7
        j = np.floor(v).astype(np.int32) + shift * 13
        return (j & (self.SIZE - 1)) * self.SIZE + (i & (self.SIZE - 1))

    def bumps(self, u: np.ndarray, v: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Noise [N] with one bump per unit of u and v."""
        return self.tile[self._index(u * self.BUMP, v * self.BUMP, shift)]

    def at(self, p: Pixels, frequency: float, stretch: float = 1.0) -> np.ndarray:
        """Noise [N] with `frequency` bumps per metre (`stretch` times as many along v)."""
        value = self.bumps(p.u * frequency, p.v * (frequency * stretch), p.shift)
        return value * np.clip(1.6 - p.foot * frequency * max(1.0, stretch) * 2, 0, 1)

    def cell(self, i: np.ndarray, j: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """A uniform number [N] per cell (i, j) of a grid."""
        return self.white[self._index(i * 3, j * 5, shift)]

    def mix(self, p: Pixels, *octaves: tuple[float, float]) -> np.ndarray:
        """A sum of (frequency, amplitude) octaves."""
        return sum(a * self.at(p, f) for f, a in octaves)


def _scale(c: np.ndarray, factor: np.ndarray) -> None:
    c *= np.clip(factor, 0.05, 3.0)[:, None]


def _put(c: np.ndarray, where: np.ndarray, colour: np.ndarray) -> None:
    np.copyto(c, colour, where=where[:, None])


def sky(c, p: Pixels) -> None:
    """From pale at the horizon to the sky's colour above, with clouds."""
    up = np.clip(p.v * 1.6, 0, 1)
    c *= 1.0 - 0.22 * (up * p.contrast)[:, None]
    c += (p.sky - c) * (0.6 * (1 - up) ** 2)[:, None]
    if p.clouds > 0.05:
        flat = 1.0 / (p.v + 0.22)
        where = (p.u * flat * 0.45, flat * 0.7)
        value = sum(
            a * p.noise.bumps(where[0] * f, where[1] * f, p.shift)
            for f, a in ((1.0, 1.0), (2.3, 0.5), (5.1, 0.3), (11.0, 0.18))
        )
        cover = np.clip((value - 1.1 + 2.0 * p.clouds) * 0.7, 0, 1) * (0.3 + 0.6 * p.clouds)
        shade = 0.9 + 0.07 * value
        c += (np.float32(0.93) * shade - c.mean(1))[:, None] * cover[:, None]
        grey = c.mean(1, keepdims=True)
        c += (grey - c) * (0.7 * cover)[:, None]


def asphalt(c, p: Pixels) -> None:
    """Grain, stains, patches, cracks and darker wheel tracks."""
    n = p.noise
    grain = n.mix(p, (0.12, 0.06), (0.5, 0.05), (3.0, 0.05), (14.0, 0.09))
    tracks = 0.05 * np.cos(p.u * 3.7)
    patch = n.cell(np.floor(p.u / 2.6), np.floor(p.v / 7.0), p.shift)
    crack = np.abs(n.at(p, 0.7)) < 0.035
    crack &= p.foot < 0.08
    _scale(c, 1 + p.contrast * (grain + tracks - 0.13 * (patch > 0.86) - 0.22 * crack))


def marking(c, p: Pixels) -> None:
    """Paint, worn in places."""
    wear = p.noise.mix(p, (0.6, 0.08), (5.0, 0.1))
    _scale(c, 1 + p.contrast * (wear - 0.05))


def paving(c, p: Pixels) -> None:
    """Slabs with joints; each slab has a brightness of its own."""
    size = 0.35 + 0.9 * p.traits[:, 0]
    x = p.u / size
    y = p.v / (size * np.where(p.traits[:, 1] < 0.5, 1.0, 1.8))
    x = x + 0.5 * (np.floor(y) % 2) * (p.traits[:, 2] < 0.6)
    i, j = np.floor(x), np.floor(y)
    sharp = np.clip(1.5 - 2.5 * p.foot / size, 0, 1)
    joint = ((x - i) < 0.09) | ((y - j) < 0.09)
    slab = p.noise.cell(i, j, p.shift) - 0.5
    dirt = p.noise.mix(p, (0.3, 0.06), (8.0, 0.06))
    _scale(c, 1 + p.contrast * (dirt + sharp * (0.2 * slab - 0.28 * joint)))


def kerb(c, p: Pixels) -> None:
    """Stones in a row."""
    stone = np.floor(p.v / 1.1)
    tone = p.noise.cell(stone, stone * 0, p.shift) - 0.5
    _scale(c, 1 + p.contrast * (0.15 * tone + p.noise.mix(p, (4.0, 0.07))))


def grass(c, p: Pixels) -> None:
    """Tufts and bare patches."""
    n = p.noise
    tufts = n.mix(p, (0.15, 0.12), (0.9, 0.13), (4.0, 0.16), (13.0, 0.18))
    _scale(c, 1 + p.contrast * tufts)
    bare = np.clip(n.at(p, 0.25) - 0.6, 0, 1) * 0.7
    c += (p.second - c) * bare[:, None]


def leaves(c, p: Pixels) -> None:
    """Clumps of leaves, lit from above, with dark gaps between."""
    n = p.noise
    lumps = n.mix(p, (0.45, 0.2), (1.3, 0.22), (4.0, 0.22), (11.0, 0.16))
    _scale(c, 1 + p.contrast * (lumps + np.clip(0.05 * (p.v - 3.0), -0.1, 0.2)))
    gaps = lumps < -0.42
    _put(c, gaps, c * 0.5)
    light = (lumps > 0.62) & (p.traits[:, 3] > 0.4) & (p.v > 2)
    c += (p.sky - c) * (0.55 * light)[:, None]


def bark(c, p: Pixels) -> None:
    """Upright furrows."""
    _scale(c, 1 + p.contrast * (0.25 * p.noise.at(p, 7.0, 0.2) + 0.12 * p.noise.at(p, 1.2)))


def facade(c, p: Pixels) -> None:
    """Plaster, brick or panels with rows of windows, shops or doors at the street."""
    n, t = p.noise, p.traits
    plain = n.mix(p, (0.1, 0.05), (0.6, 0.04), (5.0, 0.04))
    brick = t[:, 3] < 0.35
    _scale(c, 1 + p.contrast * (plain + brick * _bricks(p, 0.3, 0.1)))
    storey = 2.8 + 1.1 * t[:, 1]
    bay = 1.7 + 2.6 * t[:, 0]
    x, y = p.u / bay, (p.v - 0.4) / storey
    i, j = np.floor(x), np.floor(y)
    fx, fy = np.abs(x - i - 0.5), y - j
    strip = t[:, 3] > 0.85
    wide = np.where(strip, 0.46, 0.2 + 0.13 * t[:, 2])
    high = np.where(strip, 0.5, 0.42 + 0.2 * t[:, 4])
    ground = (j < 1) & (t[:, 5] < 0.55)
    wide = np.where(ground, 0.42, wide)
    low = np.where(ground, 0.08, 0.3)
    high = np.where(ground, 0.72, high)
    pane = (fx < wide) & (fy > low) & (fy < low + high) & (p.v > 0.5)
    border = (fx < wide + 0.05) & (fy > low - 0.05) & (fy < low + high + 0.04) & (p.v > 0.4)
    sharp = np.clip(1.5 - 1.8 * p.foot / bay, 0.25, 1)
    ledge = ((fy < 0.06) & (t[:, 4] > 0.5)) | ((p.v < 0.8) & (t[:, 2] > 0.5))
    tone = np.where(border & ~pane, np.where(t[:, 2] > 0.45, 0.28, -0.25), 0.0)
    _scale(c, 1 + sharp * (tone - 0.16 * ledge))
    inside = n.cell(i, j, p.shift)
    curtain = np.where(inside > 0.72, 0.45, 0.0) + 0.25 * (inside - 0.5)
    reflect = np.clip(0.25 + 0.35 * (fy - low), 0, 0.6)
    glass = p.second * (1 + curtain)[:, None]
    glass += (p.sky - glass) * (reflect * (inside < 0.4))[:, None]
    bar = (fx < 0.02) | (np.abs(fy - low - high * 0.6) < 0.015)
    glass *= (1 - 0.3 * bar)[:, None]
    c += (glass - c) * (pane * sharp * 0.9)[:, None]


def _bricks(p: Pixels, long: float, high: float) -> np.ndarray:
    """Relative brightness of brickwork [N]."""
    y = p.v / high
    j = np.floor(y)
    x = p.u / long + 0.5 * (j % 2)
    i = np.floor(x)
    tone = p.noise.cell(i, j, p.shift) - 0.5
    joint = ((x - i) < 0.1) | ((y - j) < 0.18)
    return np.clip(1.8 - 3 * p.foot / high, 0, 1) * (0.3 * tone + 0.22 * joint)


def masonry(c, p: Pixels) -> None:
    """Walls: brick, stone blocks, or concrete panels with streaks."""
    n, t = p.noise, p.traits
    rough = n.mix(p, (0.2, 0.07), (1.5, 0.06), (7.0, 0.06))
    brick = _bricks(p, 0.42, 0.16) * (t[:, 0] < 0.4)
    stone = _bricks(p, 0.9, 0.45) * (t[:, 0] > 0.75)
    panel = p.u / 2.4
    concrete = (t[:, 0] >= 0.4) & (t[:, 0] <= 0.75)
    joint = ((panel - np.floor(panel)) < 0.04) & concrete
    streak = n.at(p, 1.8, 0.12) * 0.09 * concrete
    shade = rough + brick + stone + streak - 0.3 * joint - 0.18 * (p.v < 0.25)
    _scale(c, 1 + p.contrast * shade)


def fence(c, p: Pixels) -> None:
    """Bars, planks, mesh or a crash barrier; one looks through the gaps."""
    t, x, y = p.traits, p.u, p.v

    def part(value, period):
        return value / period - np.floor(value / period)

    bars = part(x, 0.28) > 0.36
    planks = part(x, 0.3) > 0.82
    mesh = (part(x + y, 0.3) > 0.26) & (part(x - y, 0.3) > 0.26)
    rails = part(y, 0.42) > 0.55
    kind = t[:, 0]
    gap = np.select([kind < 0.35, kind < 0.6, kind < 0.8], [bars, planks, mesh], rails)
    gap &= (y > 0.12) & (part(x, 2.5) > 0.05)
    fine = np.select([kind < 0.35, kind < 0.6, kind < 0.8], [0.28, 0.3, 0.3], 0.42)
    sharp = np.clip(1.7 - 2.4 * p.foot / fine, 0.35, 1)
    _scale(c, 1 + p.contrast * p.noise.mix(p, (0.5, 0.08), (5.0, 0.06)))
    behind = p.second * (1 + 0.25 * p.noise.mix(p, (0.7, 0.6), (3.0, 0.5)))[:, None]
    c += (behind - c) * (gap * sharp)[:, None]


def cloth(c, p: Pixels) -> None:
    """Folds, at times stripes or checks."""
    t = p.traits
    fold = p.noise.at(p, 4.0, 0.4) * 0.12
    stripe = np.sin(p.v * (30 + 40 * t[:, 1])) * 0.25 * (t[:, 0] < 0.15)
    check = np.sign(np.sin(p.u * 40) * np.sin(p.v * 40)) * 0.2 * (t[:, 0] > 0.9)
    _scale(c, 1 + p.contrast * (fold + stripe + check))


def cargo(c, p: Pixels) -> None:
    """Ribbed sides of lorries, containers and bands of buses."""
    rib = p.u / 0.5 - np.floor(p.u / 0.5)
    ribbed = (p.traits[:, 0] < 0.5) * np.clip(1.5 - 4 * p.foot, 0, 1)
    dirt = p.noise.mix(p, (0.3, 0.06), (2.0, 0.04))
    _scale(c, 1 + p.contrast * (dirt - 0.22 * (rib < 0.18) * ribbed))


def paint(c, p: Pixels) -> None:
    """Car paint: reflections of the sky above, of the road below."""
    shine = 0.07 * p.noise.at(p, 0.5, 2.0) + 0.1 * np.clip(p.v - 0.3, -0.4, 0.6)
    _scale(c, 1 + p.contrast * shine)


def glass(c, p: Pixels) -> None:
    """Windows of vehicles: dark, with a reflection of the sky."""
    veil = np.clip(0.16 + 0.1 * p.noise.at(p, 0.5) + 0.3 * (p.traits[:, 0] - 0.5), 0, 0.6)
    c += (p.sky - c) * veil[:, None]


def metal(c, p: Pixels) -> None:
    """Posts and poles: streaks, bands and stickers."""
    band = p.noise.cell(np.floor(p.v / 0.4), np.floor(p.v * 0), p.shift)
    stained = 0.12 * p.noise.at(p, 1.2, 0.5) - 0.25 * ((band > 0.93) & (p.traits[:, 0] < 0.5))
    _scale(c, 1 + p.contrast * stained)


def roof(c, p: Pixels) -> None:
    """Rows of tiles."""
    row = p.v / 0.35 - np.floor(p.v / 0.35)
    sharp = np.clip(1.5 - 6 * p.foot, 0, 1)
    _scale(c, 1 + p.contrast * (p.noise.mix(p, (0.4, 0.1), (3.0, 0.1)) - 0.25 * sharp * row))


def awning(c, p: Pixels) -> None:
    """Broad stripes."""
    stripe = (np.floor(p.u / 0.35) % 2 == 0) & (p.traits[:, 0] < 0.6)
    c += (0.85 - c) * (0.8 * stripe)[:, None]


def plain(c, p: Pixels) -> None:
    """A little dirt."""
    _scale(c, 1 + p.contrast * p.noise.mix(p, (1.5, 0.05), (6.0, 0.05)))


def hood(c, p: Pixels) -> None:
    """The camera car's bonnet with the sky in it; u runs over [-1, 1], v down from its edge."""
    shine = np.clip(0.75 - 0.5 * p.v + 0.12 * np.cos(p.u * 5), 0, 1)
    c += (p.sky - c) * (0.6 * shine * p.traits[:, 0])[:, None]


TEXTURES = {
    M.SKY: sky,
    M.ASPHALT: asphalt,
    M.MARKING: marking,
    M.MANHOLE: plain,
    M.RAIL: plain,
    M.PAVING: paving,
    M.KERB: kerb,
    M.GRASS: grass,
    M.FACADE: facade,
    M.ROOF: roof,
    M.AWNING: awning,
    M.MASONRY: masonry,
    M.FENCE: fence,
    M.METAL: metal,
    M.LEAVES: leaves,
    M.BARK: bark,
    M.CLOTH: cloth,
    M.TROUSERS: cloth,
    M.PAINT: paint,
    M.CARGO: cargo,
    M.GLASS: glass,
    M.HOOD: hood,
    M.DASHBOARD: plain,
}
