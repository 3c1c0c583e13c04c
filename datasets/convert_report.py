"""What a conversion came to: pairs, bytes on disk, and the speed of reading before and after."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from datasets.convert_pair import Outcome
from datasets.dataset import SegmentationDataset

TIMED = 24  # pairs that the speed of reading is measured on


def report(
    release: SegmentationDataset, converted: SegmentationDataset, outcomes: Sequence[Outcome]
) -> str:
    """Return what the conversion of a split came to, for the screen.

    Reads a few pairs of both for the speed. A disk that is read from by many processes at once, as
    in training, is not measured.
    """
    count = len(outcomes)
    resized = sum(outcome.resized for outcome in outcomes)
    earlier = count - sum(outcome.written for outcome in outcomes)
    text = f"{release.title} {release.split}: {count} pairs in {converted.root}, all equal to "
    text += f"those of {release.root}"
    if resized:
        text += f" after resizing {resized} of them"
    if earlier:
        text += f"; {earlier} were compared by an earlier run"
    lines = [text]
    for kind in ("image", "label"):
        before, after = (getattr(dataset, f"{kind}_paths") for dataset in (release, converted))
        old, new, linked = _megabytes(before, after)
        links = f", and links to {linked:.1f} MB" if linked else ""
        lines.append(f"  {kind}s: {old:.1f} → {new:.1f} MB{links}")
    indices = sorted({i * count // TIMED for i in range(TIMED)})
    old, new = pairs_per_second((release, converted), indices)
    lines.append(
        f"  reading, in one process: {old:.1f} → {new:.1f} pairs/s ({len(indices)} pairs, {CACHE})"
    )
    return "\n".join(lines)


def pairs_per_second(
    datasets: Sequence[SegmentationDataset], indices: Sequence[int]
) -> list[float]:
    """Return how many pairs of each dataset this process reads and decodes in a second.

    They are read in turn, so that other work of the machine slows all of them down.
    """
    for dataset in datasets:
        dataset[indices[0]]  # what the first reading of a process sets up is not counted
    seconds = [0.0] * len(datasets)
    for index in indices:
        for which, dataset in enumerate(datasets):
            _drop_from_cache(dataset.image_paths[index])
            _drop_from_cache(dataset.label_paths[index])
            start = time.perf_counter()
            dataset[index]
            seconds[which] += time.perf_counter() - start
    return [len(indices) / total for total in seconds]


if hasattr(os, "posix_fadvise"):
    CACHE = "dropped from the system's cache before"

    def _drop_from_cache(path: Path) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            # Only what is on the disk can be dropped.
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)

else:
    CACHE = "in the system's cache"

    def _drop_from_cache(path: Path) -> None:
        """Leave it there: this system has no call for it."""


def _megabytes(before: Sequence[Path], after: Sequence[Path]) -> tuple[float, float, float]:
    """Return the size of the files before, of those written, and of those that are links."""
    sizes = [0.0, 0.0, 0.0]
    for old, new in zip((path.stat() for path in before), after, strict=True):
        stat = new.stat()
        sizes[0] += old.st_size
        sizes[2 if os.path.samestat(old, stat) else 1] += stat.st_size
    return sizes[0] / 1e6, sizes[1] / 1e6, sizes[2] / 1e6
