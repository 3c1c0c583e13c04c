"""What benchmarks measure on: settings, training batches, and files as those of real releases."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from PIL import Image
from tqdm import tqdm

from datasets.miniature import DOMAINS, Scene, draw, draw_scene, generator, render
from datasets.miniature.layouts import Place, place
from network.build import resolve
from utils.labels import VOID

# (width, height) of an image of each release.
SIZES = {"GTAV": (1914, 1052), "Cityscapes": (2048, 1024), "BDD100K": (1280, 720)}


def settings_of(trunk: str, overrides: dict[str, Any]) -> EasyDict:
    """Resolve the settings of SRHA with a trunk of random weights, and `overrides` above them."""
    own = {"METHOD": "srha", "DATASET.LABEL_SPACE": "cityscapes19"}
    return resolve(own | {"TRUNK.NAME": trunk, "TRUNK.WEIGHTS": "none"} | overrides)


def batch_of(classes: int, images: int, crop: int) -> dict[str, torch.Tensor]:
    """Return a training batch of noise, with labels as in `labels_of`."""
    image = torch.randn(images, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    label, domain = labels_of(classes, images, crop), torch.zeros(images, dtype=torch.long)
    return {"image": image, "label": label, "domain": domain}


def labels_of(classes: int, images: int, crop: int) -> torch.Tensor:
    """Return labels int64 `[images, crop, crop]` of drawn streets, their classes renamed to random
    ones of `classes`; the number of regions of an image does not depend on `classes`."""
    maps, generator = [], torch.Generator().manual_seed(0)
    for index in range(images):
        label = street(index)
        places = torch.arange(crop) * label.shape[0] // crop
        names = torch.full((256,), VOID)
        names[:19] = torch.randperm(max(classes, 19), generator=generator)[:19] % classes
        maps.append(names[label[places][:, places]])
    return torch.stack(maps)


@cache
def street(index: int) -> torch.Tensor:
    """Return the label of a drawn street, int64."""
    return torch.from_numpy(draw("GTAV", "train", index)[1]).long()


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
        street = replace(DOMAINS[name].street, sizes=(SIZES[name],))
        scene = draw_scene(street, generator(name, split, index, 0, 0), index)
        look = DOMAINS[name].condition(index)[1]
        picture = Image.fromarray(render(scene, look, generator(name, split, index, 0, 1)))
        image_path.parent.mkdir(parents=True, exist_ok=True)
        label_path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(image_path, **({"quality": 90} if image_path.suffix == ".jpg" else {}))
        fray(scene, np.random.default_rng(index))
        save_label(label_path, scene)


def fray(scene: Scene, rng: np.random.Generator) -> None:
    """Displace each label pixel by up to two, in place: drawn borders are smoother than real ones,
    which would flatter the label decoder and the centroid index."""
    height, width = scene.label.shape
    rows, columns = np.indices((height, width))
    rows = np.clip(rows + rng.integers(-2, 3, rows.shape), 0, height - 1)
    columns = np.clip(columns + rng.integers(-2, 3, rows.shape), 0, width - 1)
    for layer in (scene.label, scene.label_slot):
        layer[:] = layer[rows, columns]
