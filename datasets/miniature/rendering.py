"""A look turns the classes of a scene into pixels: colours by material, shifted by class.

Shapes, layout and the kind of texture are the scene's and the same everywhere; which colours the
materials take, how bright and contrasty each class is, and the light are the look's.
"""

import numpy as np

from utils.labels import VOID

from . import conditions, light
from .canvas import FAR, Scene
from .looks import NONE, Look, shoot
from .materials import Material
from .palette import COLOURS, SECOND
from .textures import TEXTURES, Noise, Pixels

M = Material

GLOWS = {M.LENS_ON: 1.0, M.HEAD_LAMP: 1.0, M.TAIL_LAMP: 0.7}


def _to_rgb(hsv: np.ndarray) -> np.ndarray:
    """HSV [N, 3] with the hue in degrees → RGB [N, 3]."""
    hue, saturation, value = hsv.T
    k = (np.array([5.0, 3.0, 1.0])[None] + hue[:, None] / 60) % 6
    fall = np.clip(np.minimum(k, 4 - k), 0, 1)
    rgb = value[:, None] * (1 - saturation[:, None] * fall)
    return rgb.astype(np.float32)


def _paint_slots(scene: Scene, look: Look, rng: np.random.Generator, own: bool) -> np.ndarray:
    """One colour [N, 3] per slot; `own` for first colours, else those of `SECOND`."""
    count = len(scene.materials)
    hsv = np.zeros((count, 3))
    choice, noise = rng.random(count), rng.standard_normal((count, 3))
    for material in np.unique(scene.materials).tolist():
        if own:
            colours = look.colours.get(M(material), COLOURS[M(material)])
        elif material in SECOND:
            colours = SECOND[M(material)]
        else:
            continue
        table = np.array(colours, float)
        steps = np.cumsum(table[:, 0]) / table[:, 0].sum()
        rows = np.flatnonzero(scene.materials == material)
        which = np.minimum(np.searchsorted(steps, choice[rows]), len(table) - 1)
        hsv[rows] = table[which, 1:]
    hsv[:, 0] += 80 * look.spread * noise[:, 0]
    hsv[:, 1] = hsv[:, 1] * np.exp(4 * look.spread * noise[:, 1]) + 0.2 * look.spread
    hsv[:, 2] += look.spread * noise[:, 2]
    return hsv


def _regions(look: Look, rng: np.random.Generator) -> np.ndarray:
    """Hue shift, and factors of saturation, value and contrast per class [256, 4]."""
    table = np.tile([0.0, 1.0, 1.0, 1.0], (256, 1))
    for label, r in look.regions.items():
        table[label] = (r.hue, r.saturation, r.value, r.contrast)
    drift = rng.standard_normal((256, 4)) * look.drift
    table[:, 0] += 60 * drift[:, 0]
    table[:, 1:] *= np.exp(drift[:, 1:] * [1.5, 1.0, 1.5])
    return table


def render(scene: Scene, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Pixels uint8 [H, W, 3] of a scene under a look."""
    shot = shoot(look, rng)
    noise = Noise(rng)
    region = _regions(look, rng)[scene.labels]
    first, second = (_paint_slots(scene, look, rng, own) for own in (True, False))
    for hsv in (first, second):
        hsv[:, 0] = (hsv[:, 0] + region[:, 0]) % 360
        hsv[:, 1] = np.clip(hsv[:, 1] * region[:, 1], 0, 0.95)
        hsv[:, 2] = np.clip(hsv[:, 2] * region[:, 2], 0.03, 1.05)
    first, second = _to_rgb(first), _to_rgb(second)
    sky = first[scene.materials == M.SKY][0]
    horizon = (0.35 * sky + 0.65 * (sky.mean() * 0.6 + 0.38)).astype(np.float32)
    colour = _texture(scene, noise, first, second, region[:, 3], horizon, shot)
    # What a look leaves out takes no random numbers.
    if look.snow != NONE:
        conditions.settle_snow(scene, colour, noise, rng.uniform(*look.snow))
    colour = _illuminate(scene, colour, shot, horizon, rng)
    if look.bloom != NONE:
        glow = np.isin(scene.materials, list(GLOWS))[scene.slot]
        conditions.spread_light(colour, glow, rng.uniform(*look.bloom))
    if look.wet != NONE:
        conditions.wet_ground(scene, colour, noise, rng.uniform(*look.wet))
    if look.rain != NONE:
        conditions.rain(colour, rng.uniform(*look.rain), rng)
    if look.flakes != NONE:
        conditions.flakes(colour, rng.uniform(*look.flakes), rng)
    return light.develop(colour, shot, rng)


def _texture(scene, noise, first, second, contrast, horizon, shot) -> np.ndarray:
    """Base colours with textures, [H, W, 3]; the pixels are visited material by material."""
    slot = scene.slot.ravel()
    material = scene.materials.astype(np.uint8)[slot]
    order = np.argsort(material, kind="stable")
    slot = slot[order]
    colour = first[slot]
    u, v, depth = (a.ravel()[order] for a in (scene.u, scene.v, scene.depth))
    foot = depth / np.float32(scene.camera.focal)
    ground = (scene.face.ravel()[order] == 0).astype(np.float32)
    foot = foot * (1 + ground * depth / np.float32(2 * scene.camera.position[1]))
    contrast = contrast.astype(np.float32)
    starts = np.searchsorted(material[order], np.arange(len(COLOURS) + 1))
    for kind in np.unique(material).tolist():
        part = slice(starts[kind], starts[kind + 1])
        texture = TEXTURES.get(M(kind))
        if texture is None:
            continue
        slots = slot[part]
        pixels = Pixels(
            u[part],
            v[part],
            foot[part],
            second[slots],
            horizon,
            contrast[slots],
            scene.traits[slots],
            slots,
            noise,
            shot.clouds,
        )
        texture(colour[part], pixels)
    result = np.empty_like(colour)
    result[order] = colour
    return result.reshape(*scene.slot.shape, 3)


def _illuminate(scene, colour, shot, horizon, rng) -> np.ndarray:
    """Sun, shadows on the ground, glow of lamps and haze."""
    sun = np.array(shot.sun, np.float32)
    facing = (scene.normals * sun).sum(1)
    facing = (0.3 + 0.7 * np.clip(0.15 + 0.85 * facing, 0, 1))[scene.face]
    is_sky = scene.depth >= FAR
    ground = (scene.face == 0) & ~is_sky & (scene.label != VOID)
    weather = shot.weather
    if weather.sun > 0.2:
        dark = light.shadows(scene, shot.sun, float(rng.uniform(0.8, 1.6)))
        facing *= 1 - 0.9 * dark * ground
    shade = 1 - 0.55 * light.contacts(scene) * ground
    direct = np.float32(weather.sun) * facing
    glow = np.zeros(len(COLOURS), np.float32)
    for kind, strength in GLOWS.items():
        glow[kind] = strength * (1.0 if weather.lamps else 0.35)
    glow = glow[scene.materials[scene.slot]]
    reach = np.clip(1.3 - scene.depth / 40, 0.0, 1.0) if weather.lamps else 0.0
    thin = np.exp(-scene.depth / np.float32(shot.haze))
    out = np.empty_like(colour)
    for i in range(3):
        lit = (weather.ambient[i] + direct * np.float32(weather.sunlight[i])) * shade
        lit = lit + reach * weather.lamplight[i]
        lit = np.where(is_sky, np.float32(weather.sky), np.maximum(lit, glow))
        value = colour[..., i] * lit
        air = horizon[i] * np.float32(weather.sky)
        out[..., i] = np.where(is_sky, value, air + (value - air) * thin)
    return out
