"""Where the classes are: per label tile and class, the centre of mass of its pixels."""

from typing import NamedTuple

import numpy as np


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
