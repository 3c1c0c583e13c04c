"""Images without labels: a tree of photographs, or a split of a dataset whose labels stay shut."""

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets import DATASETS, dataset_class, parse_domain
from datasets.files import IMAGES, is_hidden, read_image
from utils.errors import UserError, unknown_name
from utils.seeding import stable_seed


class Stream(NamedTuple):
    """Further data of a method: an image of `domain` comes with each source image.

    domain     folder of photographs, or NAME[:SPLIT] of a dataset (split train by default)
    transform  uint8 [3, H, W] → sample; it draws from torch's global generator. Its `finish` acts
               on a batch on the device
    """

    domain: str
    transform: Callable[[Tensor], dict[str, Tensor]]


def find_photographs(folder: Path) -> list[Path]:
    """Return the images in a folder and below it, sorted; UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    every = map(Path, glob.glob("**/*", root_dir=folder, recursive=True))
    found = sorted(p for p in every if p.suffix.lower() in IMAGES and not is_hidden(p))
    if not found:
        raise UserError(f"no images ({', '.join(IMAGES)}) in {folder}")
    return [folder / path for path in found]


def images_of(domain: str, cfg: Any) -> tuple[list[Path], str]:
    """Return the images of a stream's domain, and what to call it; no label is looked for."""
    if Path(domain).is_dir():
        refuse_overlap(Path(domain), cfg)
        return find_photographs(Path(domain)), domain
    name, split = parse_domain(domain, "train")
    if "/" in domain and not name.lower().endswith(".json"):
        raise UserError(f"there is no folder {domain}")
    dataset = dataset_class(name)
    if split not in dataset.splits:
        raise unknown_name(f"split of {dataset.title}", split, dataset.splits)
    root = dataset.find_root(cfg)
    images = dataset.files(root, split).images
    return [images[key] for key in sorted(images)], f"{dataset.title} {split}"


def refuse_overlap(folder: Path, cfg: Any) -> None:
    """Raise UserError for a folder that shares files with the root of a dataset, whose label maps
    would be taken for photographs, and whose domain would count as unseen."""
    resolved = folder.resolve()
    for name, root in _roots(cfg):
        if resolved == root or resolved in root.parents or root in resolved.parents:
            raise UserError(
                f"{folder} and the folder of {name}, {root}, overlap; for images of a dataset "
                f"name it with its split, such as {name}:train"
            )


def _roots(cfg: Any) -> Iterator[tuple[str, Path]]:
    """Yield the datasets whose folders are there, with these."""
    for name, dataset in DATASETS.items():
        try:
            yield name, dataset.find_root(cfg).resolve()
        except UserError:
            continue


class Unlabelled:
    """The images of a stream, in an endless order of their own.

    The image at a position, and what its transform draws, are functions of (seed, position, stream
    name): a run that is resumed, and any number of processes, see the same.
    """

    def __init__(self, name: str, stream: Stream, cfg: Any):
        self.name, self.seed, self.transform = name, cfg.SEED, stream.transform
        try:
            self.image_paths, self.title = images_of(stream.domain, cfg)
        except UserError as error:
            raise UserError(f"the {name} {stream.domain}: {error}") from error
        self.order: tuple[int, Sequence[int]] = (-1, ())

    def __len__(self) -> int:
        return len(self.image_paths)

    def index_at(self, position: int) -> int:
        """Return which image comes at a position: each once an epoch, in random order."""
        epoch, slot = divmod(position, len(self))
        if self.order[0] != epoch:
            generator = np.random.default_rng(stable_seed(self.seed, epoch, self.name))
            self.order = (epoch, generator.permutation(len(self)))
        return int(self.order[1][slot])

    def sample(self, position: int) -> dict[str, Any]:
        """Read and transform the image at a position: the transform's result with `index`.

        A photograph is turned as its EXIF data say. UserError for one that cannot be read.
        """
        index = self.index_at(position)
        image = read_image(self.image_paths[index], upright=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stable_seed(self.seed, position, index, self.name))
            return self.transform(image) | {"index": index}
