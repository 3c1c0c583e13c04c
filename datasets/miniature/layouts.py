"""Where the files of each release lie: in today's official downloads, and as published code has it.

Both layouts are read by the same readers.  A flat official tree has no folders for the splits; of
SYNTHIA, whose split is then a rule of the reader, that rule decides and not what was drawn for it.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from . import encode, pseudo_target
from .canvas import Scene
from .domains import DOMAINS

LAYOUTS = ("default", "official", "published")
Save = Callable[[Path, Scene], None]


class Place(NamedTuple):
    """Which sample of a domain: `counts` are the numbers of (train, val) images.

    `layout` is "official", "published", or "default": for each domain the more common of the two.
    """

    split: str
    index: int
    counts: tuple[int, int]
    layout: str = "default"

    @property
    def number(self) -> int:
        """The sample's number over both splits, from 0."""
        return self.index + (0 if self.split == "train" else self.counts[0])


def _save_train_ids(path: Path, scene: Scene) -> None:
    Image.fromarray(scene.label).save(path)


def _gtav(root: Path, where: Place) -> tuple[Path, Path, Save]:
    name = f"{where.number + 1:05d}.png"
    if where.layout == "published":
        name = {"train": "train", "val": "valid"}[where.split] + "/" + name

    def save(path: Path, scene: Scene) -> None:
        encode.save_palette(path, encode.gtav_indices(scene), encode.CITYSCAPES_IDS)

    return root / "images" / name, root / "labels" / name, save


def _synthia(root: Path, where: Place) -> tuple[Path, Path, Save]:
    name = f"{where.number:07d}.png"
    if where.layout != "official":
        name = f"{where.split}/{name}"

    def save(path: Path, scene: Scene) -> None:
        encode.save_png16(path, encode.synthia_indices(scene))

    return root / "RGB" / name, root / "GT/LABELS" / name, save


CITIES = {
    "train": ("aachen", "bochum", "bremen", "cologne", "hamburg", "jena", "stuttgart", "ulm"),
    "val": ("frankfurt", "lindau", "munster"),
}


def _cityscapes(root: Path, where: Place) -> tuple[Path, Path, Save]:
    cities = CITIES[where.split]
    city = cities[where.index % len(cities)]
    name = f"{where.split}/{city}/{city}_{where.index // len(cities):06d}_000019"

    def save(path: Path, scene: Scene) -> None:
        Image.fromarray(encode.cityscapes_indices(scene)).save(path)

    images, labels = root / "leftImg8bit", root / "gtFine"
    if where.layout == "published":
        images = root / "leftImg8bit_trainvaltest" / "leftImg8bit"
        labels = root / "gtFine_trainvaltest" / "gtFine"
    return images / f"{name}_leftImg8bit.png", labels / f"{name}_gtFine_labelIds.png", save


def _bdd100k(root: Path, where: Place) -> tuple[Path, Path, Save]:
    digest = hashlib.sha256(f"bdd100k {where.split} {where.index}".encode()).hexdigest()
    name = f"{digest[:8]}-{digest[8:16]}"
    image = root / f"images/10k/{where.split}/{name}.jpg"
    label = root / f"labels/sem_seg/masks/{where.split}/{name}.png"
    if where.layout == "published":
        image = root / f"images/{where.split}/{name}.jpg"
        label = root / f"labels/{where.split}/{name}_train_id.png"
    return image, label, _save_train_ids


def _mapillary(root: Path, where: Place) -> tuple[Path, Path, Save]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    digest = hashlib.sha256(f"mapillary {where.split} {where.index}".encode()).digest()
    name = "".join(letters[byte % (62 if i == 0 else 64)] for i, byte in enumerate(digest[:22]))
    folder = root / {"train": "training", "val": "validation"}[where.split]
    labels = folder / ("v1.2/labels" if where.layout == "official" else "labels")

    def save(path: Path, scene: Scene) -> None:
        encode.save_palette(path, encode.mapillary_indices(scene), encode.MAPILLARY_IDS)

    return folder / f"images/{name}.jpg", labels / f"{name}.png", save


def _idd(root: Path, where: Place) -> tuple[Path, Path, Save]:
    drive, frame = divmod(where.number, 4)
    name = f"{where.split}/{drive * 3 + 1}/frame{frame * 450:04d}"
    if where.layout == "official":
        root = root / "IDD_Segmentation"
    image = root / "leftImg8bit" / f"{name}_leftImg8bit.png"
    return image, root / "gtFine" / f"{name}_gtFine_labelcsTrainIds.png", _save_train_ids


def _acdc(root: Path, where: Place) -> tuple[Path, Path, Save]:
    condition = DOMAINS["ACDC"].condition(where.index)[0]
    drive = f"GOPR{400 + where.number // 8:04d}"
    name = f"{condition}/{where.split}/{drive}/{drive}_frame_{where.number:06d}"
    images, labels = root / "rgb_anon", root / "gt"
    if where.layout == "published":
        images, labels = root / "rgb_anon_trainvaltest/rgb_anon", root / "gt_trainval/gt"
    label = labels / f"{name}_gt_labelTrainIds.png"
    return images / f"{name}_rgb_anon.png", label, _save_train_ids


def _pseudo_target(root: Path, where: Place) -> tuple[Path, Path, Save]:
    path = root / f"{where.number + 1:05d}.png"

    def throw_away(path: Path, scene: Scene) -> None:
        pass

    return path, path, throw_away


_PLACES: dict[str, Callable[[Path, Place], tuple[Path, Path, Save]]] = {
    "GTAV": _gtav,
    "SYNTHIA": _synthia,
    "Cityscapes": _cityscapes,
    "BDD100K": _bdd100k,
    "Mapillary": _mapillary,
    "IDD": _idd,
    "ACDC": _acdc,
    pseudo_target.NAME: _pseudo_target,
}


def place(domain: str, root: Path, where: Place) -> tuple[Path, Path, Save]:
    """Image path, label path below the domain's folder `root`, and what saves the label."""
    return _PLACES[domain](root, where)
