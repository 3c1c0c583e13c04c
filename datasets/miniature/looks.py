"""What a look is: how classes depart from their materials' colours, and light, air and camera."""

import math
from dataclasses import dataclass, field

import numpy as np

from . import light
from .materials import Material
from .palette import Colours

NONE = (0.0, 0.0)


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
class Shot:
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


def shoot(look: Look, rng: np.random.Generator) -> Shot:
    """Draw the light and the camera of one image."""

    def pick(name):
        return float(rng.uniform(*getattr(look, name)))

    weights = np.array(look.weather, float) / sum(look.weather)
    weather = WEATHERS[rng.choice(len(weights), p=weights)]
    elevation = math.radians(rng.uniform(*(weather.elevation or look.elevation)))
    azimuth = rng.uniform(-math.pi, math.pi)
    warmth, tint, clouds = pick("warmth"), pick("tint"), pick("clouds")
    return Shot(
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
