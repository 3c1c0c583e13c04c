"""IDD's crowded roads, and ACDC's streets in fog, at night, in rain and in snow."""

from dataclasses import replace

from .domain import Domain
from .looks import Look, Region
from .materials import BUILDING, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, WALL, Material
from .plan import Street

M = Material

IDD = Domain(
    Street(
        sizes=((336, 194),),
        height=(1.2, 2.2),
        pitch=(0, 6),
        fov=(52, 68),
        lanes=(1, 1, 2, 2),
        lane=(2.8, 3.6),
        curve=0.005,
        rural=0.4,
        pavement=(1.2, 3.0),
        verge=0.5,
        median=0.35,
        junction=0.35,
        parking=0.6,
        lots=(6, 2.6, 1.6, 0.8, 1.6),
        eaves=(3.0, 18.0),
        setback=0.2,
        trees=0.7,
        kinds=(4, 1, 0.5, 2.5),
        lamps=3,
        lights=0.7,
        signs=2.5,
        gap=11,
        mix=(9, 2.2, 1.6, 0.25),
        walkers=15,
        riders=4.5,
        bikes=1.0,
        motorcycles=3.5,
        bins=2,
    ),
    Look(
        regions={
            ROAD: Region(value=1.05),
            SIDEWALK: Region(hue=-8, saturation=1.3, value=0.95, contrast=1.4),
            BUILDING: Region(saturation=1.4, value=1.05, contrast=1.2),
            WALL: Region(hue=-5, saturation=1.5, value=1.1, contrast=1.2),
            VEGETATION: Region(hue=-10, saturation=0.9, value=0.85),
            TERRAIN: Region(hue=-30, saturation=1.1, value=1.15),
            SKY: Region(saturation=0.5, value=1.0),
        },
        colours={
            M.SKY: ((2, 205, 0.2, 0.9), (2, 40, 0.08, 0.9), (1, 210, 0.4, 0.88)),
            M.ASPHALT: ((2, 35, 0.14, 0.48), (1, 32, 0.2, 0.58), (1, 40, 0.08, 0.36)),
            M.GRASS: ((2, 60, 0.4, 0.5), (2, 40, 0.38, 0.6), (1, 90, 0.4, 0.42)),
            M.FACADE: (
                (2, 40, 0.2, 0.85),
                (1, 330, 0.35, 0.75),
                (1, 190, 0.4, 0.7),
                (1.5, 48, 0.5, 0.85),
                (1, 15, 0.5, 0.65),
                (1, 0, 0.0, 0.65),
            ),
        },
        spread=0.09,
        drift=0.13,
        weather=(4, 2, 0.8, 0),
        elevation=(25, 75),
        clouds=(0.0, 0.8),
        haze=(90, 500),
        exposure=(0.85, 1.15),
        warmth=(0.0, 0.12),
        tint=(-0.03, 0.03),
        saturation=(0.7, 1.1),
        contrast=(0.8, 1.1),
        vignette=(0.0, 0.2),
        veil=(0.0, 0.06),
        blur=(0.5, 0.9),
        noise=(0.005, 0.02),
    ),
    120,
    40,
)

_STREET = Street(
    sizes=((384, 216),),
    height=(1.2, 1.6),
    pitch=(0, 5),
    fov=(50, 60),
    lanes=(1, 1, 2),
    curve=0.004,
    rural=0.3,
    verge=0.45,
    junction=0.4,
    parking=0.5,
    lots=(5, 1.6, 1.8, 1.2, 1.4),
    trees=0.7,
    kinds=(4, 2, 2.5, 0),
    lamps=5,
    lights=1.8,
    signs=3.0,
    gap=20,
    walkers=7,
    riders=1.3,
    bikes=1.2,
    motorcycles=0.9,
    ego=(4, 1, 0),
)
_CAMERA = Look(
    regions={
        ROAD: Region(value=0.95),
        BUILDING: Region(saturation=0.8),
        VEGETATION: Region(saturation=0.8, value=0.85),
        TERRAIN: Region(saturation=0.9, value=0.9),
        SKY: Region(contrast=0.5),
    },
    spread=0.08,
    drift=0.15,
    saturation=(0.6, 0.95),
    contrast=(0.85, 1.05),
    exposure=(0.85, 1.1),
    tint=(-0.02, 0.03),
    blur=(0.5, 0.9),
    noise=(0.006, 0.02),
)
_GREY_SKY = {M.SKY: ((2, 215, 0.04, 0.86), (1, 200, 0.02, 0.78))}

FOG = replace(
    _CAMERA,
    colours=_GREY_SKY,
    weather=(0, 0, 0, 0, 1),
    haze=(18, 75),
    saturation=(0.5, 0.8),
    contrast=(0.8, 1.0),
)
NIGHT = replace(
    _CAMERA,
    colours={M.SKY: ((2, 225, 0.4, 0.5), (1, 30, 0.3, 0.5))},
    weather=(0, 0, 0, 0, 0, 1),
    haze=(300, 900),
    exposure=(0.9, 1.3),
    warmth=(0.0, 0.12),
    saturation=(0.7, 1.0),
    contrast=(1.0, 1.15),
    blur=(0.5, 1.0),
    noise=(0.01, 0.022),
    bloom=(0.3, 0.7),
)
RAIN = replace(
    _CAMERA,
    colours=_GREY_SKY | {M.ASPHALT: ((1, 220, 0.06, 0.32),)},
    weather=(0, 1),
    haze=(110, 400),
    exposure=(0.75, 1.0),
    warmth=(-0.06, 0.0),
    blur=(0.6, 1.0),
    wet=(0.5, 1.0),
    rain=(0.3, 1.0),
)
SNOW = replace(
    _CAMERA,
    colours=_GREY_SKY | {M.LEAVES: ((2, 40, 0.2, 0.3), (1, 100, 0.25, 0.25), (1, 25, 0.3, 0.35))},
    weather=(0.6, 1),
    elevation=(8, 22),
    haze=(90, 500),
    exposure=(0.85, 1.05),
    warmth=(-0.06, 0.02),
    snow=(0.45, 1.0),
    flakes=(0.0, 0.7),
)
ACDC = Domain(
    _STREET, FOG, 120, 40, (("fog", FOG), ("night", NIGHT), ("rain", RAIN), ("snow", SNOW))
)
