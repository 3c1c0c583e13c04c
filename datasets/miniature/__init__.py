"""A miniature benchmark of drawn streets: one scene model, many looks.

`draw("GTAV", "train", 7)` gives one image and its labels, `python -m datasets.miniature --out DIR`
writes whole domains in the layouts of the real releases.
"""

import zlib

import numpy as np

from . import pseudo_target
from .canvas import Scene
from .domain import Domain
from .domains import DOMAINS, STANDARD
from .looks import Look, Region
from .materials import CLASSES, COLOURS
from .plan import Street
from .rendering import render
from .scene import draw_scene

__all__ = [
    "CLASSES",
    "COLOURS",
    "DOMAINS",
    "STANDARD",
    "Domain",
    "Look",
    "Region",
    "Scene",
    "Street",
    "draw",
    "draw_both",
    "draw_scene",
    "generator",
    "render",
]


def generator(domain: str, split: str, index: int, seed: int, stream: int) -> np.random.Generator:
    """The random generator of one stream (0 scene, 1 look, 2 files, 3 regions) of one image."""
    key = (seed, zlib.crc32(domain.encode()), zlib.crc32(split.encode()), index, stream)
    return np.random.default_rng(np.random.SeedSequence(key))


def draw_both(domain: str, split: str, index: int, seed: int = 0) -> tuple[np.ndarray, Scene]:
    """The image uint8 [H, W, 3] and the `Scene` of one sample.  Raises KeyError for no domain."""
    scenes = pseudo_target.SCENES if domain == pseudo_target.NAME else domain
    made = DOMAINS[scenes]
    scene = draw_scene(made.street, generator(scenes, split, index, seed, 0), index)
    look = made.condition(index)[1]
    if domain == pseudo_target.NAME:
        look = pseudo_target.draw_look(generator(domain, split, index, seed, 3))
    return render(scene, look, generator(domain, split, index, seed, 1)), scene


def draw(domain: str, split: str, index: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The image uint8 [H, W, 3] and the train ids uint8 [H, W] (255 is void) of one sample.

    The result depends on the arguments alone. "PseudoTarget" gives GTAV's labels, which its files
    lack.
    """
    image, scene = draw_both(domain, split, index, seed)
    return image, scene.label
