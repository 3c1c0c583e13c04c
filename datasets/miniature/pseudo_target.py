"""The pseudo-target: the training scenes of GTAV, each under a random look of its own.

It stands in for images that a diffusion model draws from a source, which have no labels either.
"""

from dataclasses import replace

import numpy as np

from utils.labels import VOID

from .looks import Look, Region
from .materials import CLASSES
from .source_domains import GTAV

NAME = "PseudoTarget"
SCENES = "GTAV"
# Drawn per class: degrees of hue that are added, and factors of the rest.
HUE = (-180.0, 180.0)
SATURATION = (0.3, 1.6)
VALUE = (0.55, 1.45)
CONTRAST = (0.5, 1.8)
# Light and camera, far beyond any domain's own ranges.
_ANY = replace(
    GTAV.look,
    drift=0.0,
    weather=(3, 3, 2, 1, 2, 0.5),  # all; few nights, which show little of any class
    elevation=(8, 75),
    clouds=(0.0, 1.0),
    haze=(60, 2000),
    exposure=(0.8, 1.3),
    warmth=(-0.15, 0.15),
    tint=(-0.08, 0.08),
    saturation=(0.5, 1.3),
    contrast=(0.75, 1.25),
    vignette=(0.0, 0.35),
    veil=(0.0, 0.1),
    blur=(0.35, 1.1),
    noise=(0.002, 0.02),
)


def draw_look(rng: np.random.Generator) -> Look:
    """Draw the look of one image: each class by itself, whatever it looks like anywhere else."""
    bounds = np.array([HUE, SATURATION, VALUE, CONTRAST]).T
    labels = (*range(len(CLASSES)), VOID)
    drawn = rng.uniform(*bounds, size=(len(labels), 4)).tolist()
    regions = {label: Region(*row) for label, row in zip(labels, drawn, strict=True)}
    return replace(_ANY, regions=regions, spread=rng.uniform(0.04, 0.1))
