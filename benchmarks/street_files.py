"""Image and label files of the sizes, types and encodings of the real releases, drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.miniature import DOMAINS, Scene, draw_scene, generator, render
from datasets.miniature.layouts import Place, place

# (width, height) of an image of each release.
SIZES = {"GTAV": (1914, 1052), "Cityscapes": (2048, 1024), "BDD100K": (1280, 720)}


def write_streets(root: Path, count: int, val: int = 1) -> None:
    """Write `count` training images and `val` for validation of each domain below `root`.

    Files that are there stay. PNGs have the default compression; JPEGs quality 90.
    """
    jobs = [
        (name, split, i)
        for name in SIZES
        for split, n in (("train", count), ("val", val))
        for i in range(n)
    ]
    for name, split, index in tqdm(jobs, desc="drawing street scenes", disable=None):
        where = Place(split, index, (count, val), "published")
        image_path, label_path, save_label = place(name, root / name, where)
        if label_path.exists():
            continue
        domain = DOMAINS[name]
        street = replace(domain.street, sizes=(SIZES[name],))
        scene = draw_scene(street, generator(name, split, index, 0, 0), index)
        look = domain.condition(index)[1]
        picture = Image.fromarray(render(scene, look, generator(name, split, index, 0, 1)))
        for path in (image_path, label_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(image_path, **({"quality": 90} if image_path.suffix == ".jpg" else {}))
        fray(scene, np.random.default_rng(index))
        save_label(label_path, scene)


def fray(scene: Scene, rng: np.random.Generator) -> None:
    """Displace each label pixel by up to two, in place.

    Drawn regions have smoother borders than real ones, which would flatter the label decoder and
    the centroid index.
    """
    height, width = scene.label.shape
    rows, columns = np.indices((height, width))
    rows = np.clip(rows + rng.integers(-2, 3, rows.shape), 0, height - 1)
    columns = np.clip(columns + rng.integers(-2, 3, rows.shape), 0, width - 1)
    for layer in (scene.label, scene.label_slot):
        layer[:] = layer[rows, columns]
