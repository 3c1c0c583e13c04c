"""Converting one image and its label, and proving on the spot that nothing was lost."""

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from datasets.converted import folders
from datasets.dataset import SegmentationDataset
from datasets.files import png_bytes, read_image, read_label
from transforms.protocols import EvalTransform, resize
from utils.errors import UserError


class SizeRule(NamedTuple):
    """How images are resized: those higher than `height` (0: none), or all as `protocol` judges.

    Resizing is bicubic with antialiasing, labels take the nearest pixel, and the shape is kept
    (transforms/protocols.py).
    """

    height: int = 0
    protocol: str = ""

    def __str__(self) -> str:
        if self.protocol:
            return f"protocol {self.protocol}"
        return f"height {self.height}" if self.height else "original"

    def apply(
        self, image: torch.Tensor, label: torch.Tensor, dataset: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return image uint8 [3, h, w] and label uint8 [h, w] of the dataset in the new size."""
        if self.protocol:
            return EvalTransform(self.protocol, dataset).resize(image, label)
        height, width = label.shape
        if not 0 < self.height < height:
            return image, label
        return resize(image, label, (self.height, max(1, round(width * self.height / height))))


class Outcome(NamedTuple):
    """What became of a pair: its image file below the split's images, whether it was resized,
    whether it was written now rather than before, or what is wrong with the source."""

    file: str = ""
    resized: bool = False
    written: bool = False
    problem: str = ""


class PairConverter:
    """Converts pairs of a release, `dataset` (in its own label space, no transform), by index.

    Files come below `target`, read back and compared before they get their name, and carry the
    time of their source's last change. Those that are there with that time are left alone.
    """

    def __init__(self, dataset: SegmentationDataset, target: Path, size: SizeRule, link: bool):
        self.dataset, self.size, self.link = dataset, size, link
        self.images, self.labels = folders(target, dataset.split)

    def __call__(self, index: int) -> Outcome:
        """Convert a pair. UserError if a file cannot be written or is not what was written."""
        try:
            return self._find(index) or self._convert(index)
        except OSError as error:
            raise UserError(
                f"cannot convert {self.dataset.image_paths[index]} and its label to {self.images}: "
                f"{error.strerror or error} (the same command goes on from there)"
            ) from None

    def bytes_needed(self, index: int) -> int:
        """Return how large the files of a pair become; 0 for a pair that cannot be read."""
        try:
            image, label, resized = self._read(index)
            if resized:
                return len(png_bytes(label)) + len(png_bytes(image))
            kept = 0 if self.link else self.dataset.image_paths[index].stat().st_size
            return len(png_bytes(label)) + kept
        except (UserError, OSError):
            return 0

    def _read(self, index: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Return image and label as they are to be, and whether the rule changed them."""
        sample = self.dataset[index]
        image, label = sample["image"], sample["label"]
        new_image, new_label = self.size.apply(image, label, self.dataset.name)
        same = torch.equal(new_image, image) and torch.equal(new_label, label)
        return new_image, new_label, not same

    def _targets(self, index: int, ending: str) -> tuple[Path, Path]:
        key = self.dataset.keys[index]
        return self.images / f"{key}{ending}", self.labels / f"{key}.png"

    def _find(self, index: int) -> Outcome | None:
        """Return the outcome of a pair that was converted before, from these files, or None."""
        source = self.dataset.image_paths[index]
        for ending in {source.suffix, ".png"}:
            image, label = self._targets(index, ending)
            if not _follows(label, self.dataset.label_paths[index]) or not _follows(image, source):
                continue
            resized = self.size != SizeRule() and _pixels(image) != _pixels(source)
            if resized or image.stat().st_size == source.stat().st_size:
                return Outcome(image.relative_to(self.images).as_posix(), resized)
        return None

    def _convert(self, index: int) -> Outcome:
        source, numbers = self.dataset.image_paths[index], self.dataset.label_paths[index]
        try:
            times = [(s.st_atime_ns, s.st_mtime_ns) for s in (source.stat(), numbers.stat())]
            image, label, resized = self._read(index)
        except OSError as error:
            return Outcome(problem=f"cannot read {error.filename}: {error.strerror}")
        except UserError as error:
            return Outcome(problem=str(error))
        to_image, to_label = self._targets(index, ".png" if resized else source.suffix)
        if resized:
            _write_png(to_image, image, read_image, times[0])
        elif self.link:
            _link(to_image, source)
        else:
            with _complete_or_absent(to_image) as temporary:
                shutil.copyfile(source, temporary)
                # Equal bytes are equal pixels.
                _require(filecmp.cmp(source, temporary, shallow=False), to_image)
                os.utime(temporary, ns=times[0])
        _write_png(to_label, label, read_label, times[1])
        file = to_image.relative_to(self.images).as_posix()
        return Outcome(file, resized, written=True)


def _write_png(
    target: Path,
    pixels: torch.Tensor,
    read: Callable[[Path], torch.Tensor],
    times: tuple[int, int],
) -> None:
    with _complete_or_absent(target) as temporary:
        temporary.write_bytes(png_bytes(pixels))
        _require(torch.equal(read(temporary), pixels), target)
        os.utime(temporary, ns=times)


def _link(target: Path, source: Path) -> None:
    try:
        with _complete_or_absent(target) as temporary:
            os.link(source.resolve(), temporary)
    except OSError as error:
        raise UserError(
            f"cannot link {target} to {source} ({error.strerror}); without --link it is copied"
        ) from None


@contextmanager
def _complete_or_absent(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `target` in one step if all goes well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _require(equal: bool, target: Path) -> None:
    if not equal:
        raise UserError(
            f"what was written for {target} reads back differently, so it was removed; is the disk "
            "sound?"
        )


def _follows(target: Path, source: Path) -> bool:
    """Whether a target is there and carries the time of its source's last change."""
    try:
        found = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    # Some file systems keep whole seconds only.
    return found.st_size > 0 and int(found.st_mtime) == int(source.stat().st_mtime)


def _pixels(path: Path) -> tuple[int, int]:
    """Return width and height from the header of an image file."""
    with Image.open(path) as file:
        return file.size
