"""Where the classes are: per label tile and class, the centre of mass of its pixels."""

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
from datasets.files import read_label
from utils.errors import UserError
from utils.locks import held


class ClassCentroids(NamedTuple):
    """Centroids of one class: image indices (int64 [n]), x and y (float32 [n], label pixels)."""

    indices: np.ndarray
    x: np.ndarray
    y: np.ndarray


def tile_centroids(label: np.ndarray, tile: int, num_classes: int) -> np.ndarray:
    """Return float32 [n, 3] of (class, x, y), one row per tile and class present in it.

    `label` is uint8 [H, W] of train ids; tiles have `tile`² pixels, and those at the right and
    bottom are partial, so that every pixel counts. x and y are centres of mass in pixels of the
    whole label, 0 being the centre of the first.
    """
    height, width = label.shape
    # Runs of one class within a row and tile: some ten thousand, where there are millions of
    # pixels. The sum of x over a run is its length times its middle.
    begins = np.empty(label.shape, dtype=bool)
    np.not_equal(label[:, 1:], label[:, :-1], out=begins[:, 1:])
    begins[:, ::tile] = True
    first = np.flatnonzero(begins)
    length = np.diff(first, append=label.size)
    y, x = np.divmod(first, width)
    tiles = y // tile * -(-width // tile) + x // tile
    cells = tiles * 256 + label.ravel()[first]
    counts = np.bincount(cells, length)
    sum_x = np.bincount(cells, length * (x + (length - 1) / 2))
    sum_y = np.bincount(cells, length * y)
    present = np.flatnonzero(counts)
    present = present[present % 256 < num_classes]
    rows = [present % 256, sum_x[present] / counts[present], sum_y[present] / counts[present]]
    return np.stack(rows, axis=1).astype(np.float32)


def load_or_compute(
    dataset: SegmentationDataset, tile: int, cache_dir: Path | str, workers: int
) -> list[ClassCentroids]:
    """Return the centroids of each class, from the cache or by reading all labels once.

    `workers` processes read labels (0: this one does). The name of the cache file in `cache_dir` is
    a hash of dataset, split, label table, tile, and the label files' names below the root and
    sizes, not contents: it stays valid when the data move. If several processes need one cache, one
    computes it and the others wait. A damaged cache is computed again. UserError for an unreadable
    label or a folder that cannot be written to.
    """
    key = _cache_key(dataset, tile)
    cache = Path(cache_dir) / f"centroids_{dataset.name}_{dataset.split}_{key}.npz"
    lock = cache.with_suffix(".lock")
    wait = f"waiting for the class centroids of {dataset.title} ({lock})"
    rows = _read(cache)
    if rows is None:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with held(lock, partial(print, wait, file=sys.stderr)):
                rows = _read(cache)
                if rows is None:
                    rows = _compute(dataset, tile, workers)
                    _write(cache, rows)
        except OSError as error:
            raise UserError(
                f"cannot write class centroids to {cache.parent}: {error} (DATASET.CACHE_DIR "
                "chooses another folder)"
            ) from None
    by_class = [rows[rows[:, 1] == train_id] for train_id in range(len(dataset.label_space))]
    return [ClassCentroids(r[:, 0].astype(np.int64), r[:, 2], r[:, 3]) for r in by_class]


def _read(cache: Path) -> np.ndarray | None:
    """Return the rows of a cache file, or None if there is none or it is damaged."""
    try:
        with np.load(cache) as stored:
            rows = stored["rows"]
    # What numpy raises for a file that is cut off or is something else.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return rows if rows.ndim == 2 and rows.shape[1] == 4 else None


def _write(cache: Path, rows: np.ndarray) -> None:
    temporary = cache.with_suffix(f".{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez(file, rows=rows)
        os.replace(temporary, cache)
    finally:
        temporary.unlink(missing_ok=True)


def _compute(dataset: SegmentationDataset, tile: int, workers: int) -> np.ndarray:
    """Return float32 [n, 4] of (image index, class, x, y); float32 is exact to 2²⁴ images."""
    work = partial(_centroids_of, dataset.label_table, tile, len(dataset.label_space))
    title = f"class centroids of {dataset.title}"
    results = in_processes(work, dataset.label_paths, workers, title)
    return np.concatenate([np.insert(rows, 0, index, axis=1) for index, rows in enumerate(results)])


def _centroids_of(table: np.ndarray, tile: int, num_classes: int, path: Path) -> np.ndarray:
    return tile_centroids(table.take(read_label(path).numpy()), tile, num_classes)


def _cache_key(dataset: SegmentationDataset, tile: int) -> str:
    root, space = dataset.root, dataset.label_space
    try:
        files = [(p.relative_to(root).as_posix(), p.stat().st_size) for p in dataset.label_paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
    table = dataset.label_table.tolist()
    parts = [dataset.name, dataset.split, space.name, table, tile, len(space), files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
