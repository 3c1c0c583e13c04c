"""A look turns the classes of a scene into pixels: colours by material, shifted by class.

Shapes, layout and the kind of texture are the scene's and the same everywhere; which colours the
materials take, how bright and contrasty each class is, and the light are the look's.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from utils.labels import VOID

from . import conditions, light
from .canvas import FAR, Scene
from .materials import Material
from .textures import TEXTURES, Noise, Pixels

M = Material

# (weight, hue in degrees, saturation, value)
Colour = tuple[float, float, float, float]
Colours = tuple[Colour, ...]
ANY = tuple((1.0, hue, 0.65, 0.6) for hue in range(0, 360, 30))
GREYS: Colours = ((2, 220, 0.03, 0.85), (2, 220, 0.05, 0.2), (2, 220, 0.05, 0.5))

# The colours of materials where a look does not give its own.
COLOURS: dict[Material, Colours] = {
    M.SKY: ((2, 212, 0.4, 0.9), (1, 215, 0.12, 0.9)),
    M.ASPHALT: ((1, 230, 0.04, 0.42),),
    M.MARKING: ((5, 50, 0.04, 0.85), (1, 45, 0.55, 0.8)),
    M.MANHOLE: ((1, 30, 0.08, 0.3),),
    M.RAIL: ((1, 210, 0.05, 0.5), (1, 25, 0.2, 0.3)),
    M.PAVING: ((2, 35, 0.1, 0.6), (1, 20, 0.2, 0.55), (1, 220, 0.03, 0.55)),
    M.KERB: ((1, 40, 0.06, 0.66),),
    M.GRASS: ((1, 85, 0.45, 0.5),),
    M.FACADE: (
        (2, 35, 0.2, 0.72),
        (2, 15, 0.4, 0.55),
        (2, 220, 0.04, 0.6),
        (1, 48, 0.3, 0.8),
        (1, 85, 0.25, 0.5),
    ),
    M.ROOF: ((2, 12, 0.5, 0.45), (2, 220, 0.08, 0.3)),
    M.AWNING: ANY,
    M.MASONRY: ((2, 30, 0.12, 0.58), (1, 14, 0.4, 0.5), (2, 220, 0.04, 0.5), (1, 80, 0.25, 0.42)),
    M.FENCE: ((2, 210, 0.05, 0.55), (1, 28, 0.4, 0.42), (1, 120, 0.3, 0.3), (1, 0, 0, 0.85)),
    M.METAL: ((3, 215, 0.05, 0.5), (1, 120, 0.2, 0.28), (1, 28, 0.3, 0.38)),
    M.LIGHT_BOX: ((4, 160, 0.1, 0.14), (1, 46, 0.8, 0.7)),
    M.LENS_ON: ((2, 0, 0.85, 1.0), (1, 38, 0.9, 1.0), (2, 150, 0.75, 0.95)),
    M.LENS_OFF: ((1, 0, 0.3, 0.2), (1, 120, 0.2, 0.2)),
    M.SIGN_FACE: (
        (4, 0, 0.0, 0.92),
        (3, 218, 0.8, 0.65),
        (2, 48, 0.85, 0.92),
        (2, 0, 0.8, 0.75),
        (1, 150, 0.7, 0.45),
    ),
    M.SIGN_BORDER: ((3, 0, 0.8, 0.75), (3, 0, 0.0, 0.9), (2, 220, 0.1, 0.15)),
    M.SIGN_SYMBOL: ((3, 0, 0.0, 0.1), (3, 0, 0.0, 0.95), (1, 0, 0.8, 0.7)),
    M.LEAVES: ((2, 95, 0.45, 0.38), (1.5, 65, 0.35, 0.45), (1, 125, 0.3, 0.3), (1, 48, 0.3, 0.4)),
    M.BARK: ((1, 28, 0.3, 0.33), (1, 30, 0.1, 0.45)),
    M.SKIN: ((2, 24, 0.4, 0.8), (1, 22, 0.5, 0.5), (1, 20, 0.5, 0.34)),
    M.HAIR: ((3, 25, 0.4, 0.14), (1, 35, 0.5, 0.5), (1, 0, 0, 0.6)),
    M.CLOTH: (*GREYS, *((0.6, h, 0.55, 0.5) for h in range(0, 360, 30))),
    M.TROUSERS: ((3, 220, 0.4, 0.25), (2, 0, 0, 0.13), (1, 40, 0.3, 0.5), (1, 0, 0, 0.45)),
    M.SHOE: ((2, 0, 0, 0.12), (1, 0, 0, 0.85), (1, 25, 0.5, 0.3)),
    M.HELMET: (*GREYS, (1, 0, 0.8, 0.7), (1, 220, 0.7, 0.6), (1, 50, 0.8, 0.9)),
    M.PAINT: (
        (3, 220, 0.03, 0.85),
        (3, 220, 0.08, 0.18),
        (3, 215, 0.05, 0.55),
        (1.5, 2, 0.8, 0.6),
        (1.5, 215, 0.7, 0.45),
        (0.7, 48, 0.8, 0.8),
        (0.6, 130, 0.5, 0.35),
    ),
    M.CARGO: (
        (3, 0, 0.0, 0.85),
        (1, 2, 0.7, 0.6),
        (1, 215, 0.6, 0.5),
        (1, 120, 0.4, 0.4),
        (1, 35, 0.6, 0.7),
        (1, 0, 0, 0.4),
    ),
    M.GLASS: ((1, 205, 0.25, 0.2), (1, 180, 0.15, 0.28)),
    M.TYRE: ((1, 220, 0.08, 0.1),),
    M.HUB: ((1, 220, 0.03, 0.6), (1, 220, 0.03, 0.3)),
    M.HEAD_LAMP: ((1, 50, 0.1, 0.95),),
    M.TAIL_LAMP: ((1, 0, 0.85, 0.65),),
    M.PLATE: ((2, 50, 0.05, 0.9), (1, 50, 0.7, 0.85)),
    M.TRIM: ((1, 220, 0.05, 0.14), (1, 220, 0.03, 0.3)),
    M.STATIC: ((1, 130, 0.4, 0.3), (1, 220, 0.05, 0.35), (1, 35, 0.6, 0.6), (1, 215, 0.5, 0.45)),
    M.HOOD: ((1, 220, 0.04, 0.14), (1, 220, 0.03, 0.5)),
    M.DASHBOARD: ((1, 220, 0.05, 0.1),),
}
# What is seen in windows of fronts, through fences, as bare soil.
SECOND: dict[Material, Colours] = {
    M.FACADE: ((2, 210, 0.2, 0.25), (1, 205, 0.3, 0.6), (1, 210, 0.35, 0.85), (1, 30, 0.15, 0.2)),
    M.FENCE: ((2, 90, 0.35, 0.3), (2, 220, 0.05, 0.35), (1, 40, 0.25, 0.5)),
    M.GRASS: ((1, 38, 0.35, 0.5),),
}
NONE = (0.0, 0.0)
GLOWS = {M.LENS_ON: 1.0, M.HEAD_LAMP: 1.0, M.TAIL_LAMP: 0.7}


@dataclass(frozen=True)
class Region:
    """How a class departs from the colours of its materials.

    hue in degrees is added; saturation, value and the contrast of textures are multiplied.
    """

    hue: float = 0.0
    saturation: float = 1.0
    value: float = 1.0
    contrast: float = 1.0


@dataclass(frozen=True)
class Look:
    """Everything about a domain's appearance; ranges are (low, high), drawn once per image.

    regions      per train id, how the class departs from its materials' colours
    colours      materials with colours of this look's own
    spread       standard deviation of saturation and value from surface to surface
    drift        how far the classes move, each by itself, from image to image
    weather      weights of `WEATHERS`: sun, overcast, dusk, night, fog, dark night
    elevation    of the sun, degrees
    clouds       share of the sky
    haze         metres of visibility
    exposure, warmth, tint, saturation, contrast, vignette, veil, blur, noise   of the camera
    wet, rain    how much roads mirror, and rain in the air and on the lens, 0 to 1
    snow, flakes   share of the ground under snow, and snow in the air, 0 to 1
    bloom        how far light spreads around lamps at night, 0 to 1
    """

    regions: dict[int, Region] = field(default_factory=dict)
    colours: dict[Material, Colours] = field(default_factory=dict)
    spread: float = 0.08
    drift: float = 0.1
    weather: tuple[float, ...] = (1, 0, 0, 0)
    elevation: tuple[float, float] = (30, 60)
    clouds: tuple[float, float] = (0.0, 0.5)
    haze: tuple[float, float] = (500, 1500)
    exposure: tuple[float, float] = (0.95, 1.05)
    warmth: tuple[float, float] = (0.0, 0.0)
    tint: tuple[float, float] = (0.0, 0.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    vignette: tuple[float, float] = (0.0, 0.0)
    veil: tuple[float, float] = (0.0, 0.0)
    blur: tuple[float, float] = (0.5, 0.6)
    noise: tuple[float, float] = (0.004, 0.008)
    wet: tuple[float, float] = NONE
    rain: tuple[float, float] = NONE
    snow: tuple[float, float] = NONE
    flakes: tuple[float, float] = NONE
    bloom: tuple[float, float] = NONE


@dataclass(frozen=True)
class Weather:
    """Light and air: strengths of the sun and of the sky's light, and what goes with them.

    elevation   of the sun, degrees, where the weather rather than the look decides it
    clouds      share of the sky, likewise
    haze, noise multiply the look's; `sky` the brightness of the sky
    lamps       whether lamps light the street, `lamplight` how much and in which colour
    """

    sun: float
    sunlight: tuple[float, float, float]
    ambient: tuple[float, float, float]
    elevation: tuple[float, float] | None = None
    clouds: float | None = None
    haze: float = 1.0
    noise: float = 1.0
    sky: float = 1.0
    lamps: bool = False
    lamplight: tuple[float, float, float] = (0.4, 0.4, 0.4)


WEATHERS = (
    Weather(0.62, (1.04, 1.0, 0.92), (0.58, 0.6, 0.64)),
    Weather(0.1, (1, 1, 1), (0.9, 0.91, 0.93), elevation=(60, 60), clouds=1.0, haze=0.7),
    Weather(0.5, (1.25, 0.95, 0.65), (0.5, 0.52, 0.62), elevation=(6, 14), haze=0.6, noise=1.3),
    Weather(
        0.08,
        (1, 0.9, 0.7),
        (0.3, 0.31, 0.4),
        elevation=(60, 60),
        clouds=0.0,
        haze=0.8,
        noise=1.6,
        sky=0.2,
        lamps=True,
    ),
    Weather(0.0, (1, 1, 1), (0.86, 0.87, 0.88), elevation=(60, 60), clouds=0.0),
    Weather(
        0.0,
        (1, 1, 1),
        (0.13, 0.14, 0.2),
        elevation=(60, 60),
        clouds=0.0,
        noise=2.0,
        sky=0.1,
        lamps=True,
        lamplight=(0.52, 0.43, 0.3),
    ),
)


@dataclass
class _Shot:
    """One draw of a look's ranges: light and camera of one image."""

    exposure: float
    white: tuple[float, float, float]
    saturation: float
    contrast: float
    vignette: float
    veil: float
    blur: float
    noise: float
    clouds: float
    haze: float
    sun: tuple[float, float, float]
    weather: Weather


def _shoot(look: Look, rng: np.random.Generator) -> _Shot:
    def pick(name):
        return float(rng.uniform(*getattr(look, name)))

    weights = np.array(look.weather, float) / sum(look.weather)
    weather = WEATHERS[rng.choice(len(weights), p=weights)]
    elevation = math.radians(rng.uniform(*(weather.elevation or look.elevation)))
    azimuth = rng.uniform(-math.pi, math.pi)
    warmth, tint, clouds = pick("warmth"), pick("tint"), pick("clouds")
    return _Shot(
        exposure=pick("exposure"),
        white=(1 + warmth, 1 + tint, 1 - warmth),
        saturation=pick("saturation"),
        contrast=pick("contrast"),
        vignette=pick("vignette"),
        veil=pick("veil"),
        blur=pick("blur"),
        noise=pick("noise") * weather.noise,
        clouds=clouds if weather.clouds is None else weather.clouds,
        haze=pick("haze") * weather.haze,
        sun=light.sun_direction(azimuth, elevation),
        weather=weather,
    )


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
    shot = _shoot(look, rng)
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
