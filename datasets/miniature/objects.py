"""Single objects and textures, 64×64: the stand-in for ImageNet to train a small trunk on.

Any class comes in any hue, at any place and scale, on any background, in any light; nothing here
has the layout of a street or the colours of the benchmark.  What tells classes apart is shape, and
for the last ones texture.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from .object_shapes import DRAWN, SHAPES, Pen

SIDE = 64


def _bricks(u, v, noise, k):
    row = np.floor(v)
    x = u / 2 + 0.5 * (row % 2)
    joint = (x - np.floor(x) < 0.1) | (v - row < 0.18)
    return 0.9 * joint + 0.15 * noise


def _stripes(u, v, noise, k):
    return (np.sin(u * 2.2) > k) * 1.0 + 0.1 * noise


def _checks(u, v, noise, k):
    return ((np.floor(u) + np.floor(v)) % 2) + 0.1 * noise


def _spots(u, v, noise, k):
    x, y = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return (x * x + y * y < 0.09 + 0.04 * k) * 1.0 + 0.1 * noise


def _marble(u, v, noise, k):
    return 0.5 + 0.5 * np.sin(u * 0.9 + 3.0 * noise)


PATTERNS: dict[str, Callable] = {
    "bricks": _bricks,
    "stripes": _stripes,
    "checks": _checks,
    "spots": _spots,
    "marble": _marble,
}
OBJECT_CLASSES: tuple[str, ...] = (*SHAPES, *PATTERNS)


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours uint8 [count, 3] of any hue, each some way from the one before."""
    colours = rng.uniform(10, 250, (count, 3))
    grey = colours.mean(1, keepdims=True)
    colours = grey + (colours - grey) * rng.uniform(0.2, 1.3, (count, 1))
    for i in range(1, count):
        if np.abs(colours[i] - colours[i - 1]).sum() < 120:
            colours[i] = (colours[i] + 128) % 256
    return np.clip(colours, 0, 255).astype(np.uint8)


def _smooth(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise float32 [side, side] of about unit size, `cells` bumps across."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def _pattern(rng: np.random.Generator, pattern: Callable, side: int, scale: float) -> np.ndarray:
    """A two-coloured pattern float32 [side, side, 3], turned and warped."""
    axis = (np.arange(side, dtype=np.float32) / side - 0.5) * scale
    turn = rng.uniform(-0.4, 0.4) + (math.pi / 2 if rng.random() < 0.3 else 0)
    x, y = axis[None], axis[:, None]
    warp = _smooth(rng, 4, side) * 0.12
    shift = rng.uniform(0, 9, 2)
    u = math.cos(turn) * x + math.sin(turn) * y + warp + shift[0]
    v = -math.sin(turn) * x + math.cos(turn) * y + warp + shift[1]
    share = pattern(u, v, _smooth(rng, int(scale) + 3, side), rng.uniform(-0.5, 0.5))
    a, b = _colours(rng, 2).astype(np.float32)
    return a + (b - a) * np.clip(share, 0, 1)[..., None]


def _background(rng: np.random.Generator) -> np.ndarray:
    """A gradient, blobs or a coarse pattern, float32 [SIDE, SIDE, 3]."""
    kind = rng.integers(4)
    a, b = _colours(rng, 2).astype(np.float32)
    if kind == 0:
        angle = rng.uniform(0, math.tau)
        axis = np.linspace(-0.7, 0.7, SIDE, dtype=np.float32)
        share = 0.5 + math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]
    elif kind == 1:
        share = 0.5 + 0.5 * _smooth(rng, int(rng.integers(3, 20)), SIDE)
    elif kind == 2:
        share = (_smooth(rng, int(rng.integers(3, 9)), SIDE) > 0) * np.float32(1)
    else:
        share = 0.5 + 0.3 * _smooth(rng, 6, SIDE) + 0.2 * _smooth(rng, 30, SIDE)
    return a + (b - a) * np.clip(share, 0, 1)[..., None]


def draw_object(rng: np.random.Generator, class_index: int) -> np.ndarray:
    """A picture uint8 [64, 64, 3] of class `OBJECT_CLASSES[class_index]`.

    Raises IndexError for no such class.
    """
    name = OBJECT_CLASSES[class_index]
    if name in PATTERNS:
        picture = _pattern(rng, PATTERNS[name], SIDE, rng.uniform(5, 14))
    else:
        mask = Image.new("P", (DRAWN, DRAWN))
        SHAPES[name](Pen(mask, rng), (1, 2, 3, 4))
        parts = np.asarray(mask)
        colours = np.concatenate([np.zeros((1, 3), np.uint8), _colours(rng, 4)])
        alpha = (parts > 0).astype(np.float32)
        drawn = colours[parts] * alpha[..., None]
        half = (SIDE, DRAWN // SIDE, SIDE, DRAWN // SIDE)
        drawn = drawn.reshape(*half, 3).mean((1, 3))
        alpha = alpha.reshape(half).mean((1, 3))
        texture = 1 + rng.uniform(0, 0.25) * _smooth(rng, int(rng.integers(6, 30)), SIDE)
        picture = _background(rng) * (1 - alpha)[..., None] + drawn * texture[..., None]
    return _photograph(rng, picture)


def _photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Light from a side, contrast, exposure, blur and noise."""
    angle, axis = rng.uniform(0, math.tau), np.linspace(-1, 1, SIDE, dtype=np.float32)
    light = 1 + rng.uniform(0, 0.3) * (
        math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]
    )
    picture = picture * light[..., None]
    picture = 128 + (picture - 128) * rng.uniform(0.45, 1.15)
    picture = picture * rng.uniform(0.6, 1.25)
    picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(1, 10)
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
        pixels = np.asarray(blurred).copy()
    return pixels
