"""One pass over a split before training: where its classes are, and what is wrong with it."""

import hashlib
import json
import os
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.commands import in_processes
from datasets.dataset import SegmentationDataset
from datasets.files import read_header
from datasets.sampling.centroids import ClassCentroids, tile_centroids
from utils.errors import UserError
from utils.locks import held


class Survey(NamedTuple):
    """What the labels of a split hold.

    rows    float32 [n, 4] of (image index, train id, x, y): centroids of tiles
    pixels  int64 [m, 3] of (image index, number in the label file, its pixels)
    sizes   int64 [N, 5] of each image: label height and width, image height and width, and the
            image's EXIF orientation
    """

    rows: np.ndarray
    pixels: np.ndarray
    sizes: np.ndarray

    def centroids(self, classes: int) -> list[ClassCentroids]:
        """Return the centroids of each class."""
        by_class = [self.rows[self.rows[:, 1] == train_id] for train_id in range(classes)]
        return [ClassCentroids(r[:, 0].astype(np.int64), r[:, 2], r[:, 3]) for r in by_class]

    def class_pixels(self, dataset: SegmentationDataset) -> np.ndarray:
        """Return the pixels of each image's classes, int64 [N, K]."""
        counts = np.zeros((len(self.sizes), 256), dtype=np.int64)
        images, numbers, pixels = self.pixels.T
        np.add.at(counts, (images, dataset.label_table[numbers]), pixels)
        return counts[:, : len(dataset.label_space)]


def survey_split(
    dataset: SegmentationDataset, tile: int, cache_dir: Path | str, workers: int
) -> Survey:
    """Survey a split, from the cache or by reading all labels once.

    Centroids are those of tiles of `tile`² pixels. `workers` processes read labels (0: this one
    does). The name of the cache file in `cache_dir` holds `survey_key`: it stays valid when the
    data move. If several processes need one cache, one computes it and the others wait. A damaged
    cache is computed again. UserError for an unreadable label or a folder that cannot be written
    to.
    """
    key = survey_key(dataset, tile)
    cache = Path(cache_dir) / f"labels_{dataset.name}_{dataset.split}_{key}.npz"
    lock = cache.with_suffix(".lock")
    wait = f"waiting for the class centroids of {dataset.title} ({lock})"
    found = _read(cache)
    if found is None:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with held(lock, partial(print, wait, file=sys.stderr)):
                found = _read(cache)
                if found is None:
                    found = _compute(dataset, tile, workers)
                    _write(cache, found)
        except OSError as error:
            raise UserError(
                f"cannot write class centroids to {cache.parent}: {error} (DATASET.CACHE_DIR "
                "chooses another folder)"
            ) from None
    return found


def refuse_unusable(dataset: SegmentationDataset, found: Survey) -> None:
    """Raise UserError for labels of another size than their image, and for none with a class."""
    where = f"{dataset.title} {dataset.split}"
    differing = np.flatnonzero((found.sizes[:, :2] != found.sizes[:, 2:4]).any(axis=1))
    if len(differing):
        error = dataset.size_error(differing[0], *found.sizes[differing[0], [2, 3, 0, 1]])
        raise UserError(
            f"{len(differing)} of {len(dataset)} labels of {where} do not fit: {error} "
            f"(leave_out_{dataset.split}.txt in the root leaves images out)"
        )
    if not len(found.rows):
        numbers = _texts(dataset, found.pixels[:, 1])
        raise UserError(
            f"no label of {where} holds a pixel of a class: there is {numbers} alone, which "
            f"is no class of {dataset.title} (another kind of label file, perhaps?)"
        )


def remarks(dataset: SegmentationDataset, found: Survey) -> list[str]:
    """Say what is unusual about a split that can be trained on."""
    lines = []
    known = np.isin(found.pixels[:, 1], sorted(dataset.file_numbers))
    if not known.all():
        images, numbers, pixels = found.pixels[~known].T
        first = dataset.label_paths[images[0]]
        lines.append(
            f"{len(np.unique(images))} label files hold what {dataset.title} does not have "
            f"({_texts(dataset, numbers)}; first {first}, {pixels[0]} pixels); it counts as void"
        )
    classes = dataset.label_space.classes
    absent = [name for i, name in enumerate(classes) if not (found.rows[:, 1] == i).any()]
    if absent:
        lines.append(f"no pixel is {' or '.join(absent)}")
    turned = np.flatnonzero(found.sizes[:, 4] != 1)
    if len(turned):
        lines.append(
            f"{len(turned)} photographs are to be turned, say their EXIF data (first "
            f"{dataset.image_paths[turned[0]]}); pixels are taken as stored, and labels have to be "
            f"of those; `python -m datasets.check {dataset.name}` looks whether they fit"
        )
    return [f"{dataset.title} {dataset.split}: {line}" for line in lines]


def _texts(dataset: SegmentationDataset, numbers: np.ndarray) -> str:
    shown = [dataset.label_text(number) for number in np.unique(numbers)]
    return ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")


def _read(cache: Path) -> Survey | None:
    """Return what a cache file holds, or None if there is none or it is damaged."""
    try:
        with np.load(cache) as stored:
            return Survey(*(stored[name] for name in Survey._fields))
    # What numpy raises for a file that is cut off or is something else.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(cache: Path, found: Survey) -> None:
    temporary = cache.with_suffix(f".{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **found._asdict())
        os.replace(temporary, cache)
    finally:
        temporary.unlink(missing_ok=True)


def _compute(dataset: SegmentationDataset, tile: int, workers: int) -> Survey:
    """Survey each image; float32, in which rows have their image, is exact to 2²⁴ images."""
    pairs = list(zip(dataset.image_paths, dataset.label_paths, strict=True))
    work = partial(_survey_of, type(dataset), dataset.label_table, tile, len(dataset.label_space))
    parts = in_processes(work, pairs, workers, f"class centroids of {dataset.title}")
    rows, pixels, sizes = zip(*parts, strict=True)
    numbered = [
        np.concatenate([np.insert(part, 0, index, axis=1) for index, part in enumerate(each)])
        for each in (rows, pixels)
    ]
    return Survey(*numbered, np.array(sizes))


def _survey_of(
    dataset: type[SegmentationDataset],
    table: np.ndarray,
    tile: int,
    num_classes: int,
    pair: tuple[Path, Path],
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    header, numbers = read_header(pair[0]), dataset.read_numbers(pair[1]).numpy()
    counts = np.bincount(numbers.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    rows = tile_centroids(table.take(numbers), tile, num_classes)
    return rows, np.stack([present, counts[present]], axis=1), (*numbers.shape, *header)


def survey_key(dataset: SegmentationDataset, tile: int) -> str:
    """Return a hash of what a survey depends on: dataset, split, label table and colours, tile,
    and the files' names below the root and sizes, not contents."""
    root, space = dataset.root, dataset.label_space
    paths = [*dataset.label_paths, *dataset.image_paths]
    try:
        files = [(path.relative_to(root).as_posix(), path.stat().st_size) for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
    table = dataset.label_table.tolist()
    labels = [space.name, len(space), table, dataset.colours]
    parts = [dataset.name, dataset.split, labels, tile, files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
