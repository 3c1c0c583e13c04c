"""Which images and videos a command line names, and reading the images in parallel."""

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from easydict import EasyDict
from torch import Tensor
from torch.utils.data import Dataset

from datasets.files import IMAGES, is_hidden, read_image
from utils.errors import UserError
from utils.evaluate.evaluation import check_size
from utils.predict.record import NOTE, Stamp, stamp_of
from utils.predict.rendering import KINDS

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
KNOWN = IMAGES + VIDEOS
EVERYTHING = ("**",)  # the parts of a pattern that all files of a folder match


class Input(NamedTuple):
    """An image or video, and what its predictions are called: a path without ending below the
    folder of a kind."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file's ending is that of a video."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(paths: list[str]) -> tuple[list[Input], Counter]:
    """Return the images and videos below `paths`, sorted, and how often which other endings were
    passed over.

    A path is a file, a folder, which is searched to the bottom, or a pattern with `*`, `?` or `[`.
    Links to folders are followed, but not round in a circle. Hidden files and predictions are no
    inputs. Predictions keep the folders below a path. Files that differ in their ending alone keep
    it in their name. UserError where there is nothing, for a file of another kind, for a folder
    that cannot be read, and for two files that would be written to one place.
    """
    found: dict[Path, str] = {}
    others: Counter = Counter()
    for path in paths:
        try:
            files = _files(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"--input {path}: cannot read {error.filename}: {reason}") from None
        wanted = {file: name for file, name in files.items() if _is_input(file)}
        if not wanted:
            raise UserError(
                f"--input {path}: no image or video there ({', '.join(KNOWN)}); hidden files and "
                "predictions do not count"
            )
        others.update(file.suffix.lower() or file.name for file in files.keys() - wanted.keys())
        found |= wanted
    stems = Counter(name.removesuffix(file.suffix) for file, name in found.items())
    inputs: dict[str, Input] = {}
    for file, name in found.items():
        stem = name.removesuffix(file.suffix)
        name = stem if stems[stem] == 1 else name
        if name in inputs:
            raise UserError(
                f"{inputs[name].path} and {file} would be written to one place; give them in two "
                "calls with an --out each"
            )
        inputs[name] = Input(file, name)
    return [inputs[name] for name in sorted(inputs)], others


def _is_input(file: Path) -> bool:
    # A link to nothing is an input that cannot be read, which is said; a pipe would be waited for.
    return file.suffix.lower() in KNOWN and (file.is_file() or not file.exists())


def _files(text: str) -> dict[Path, str]:
    """Return {file: its name below the folder} of what one argument means."""
    path = Path(text)
    if text and path.is_dir():
        return dict(_walk(path, EVERYTHING))
    if path.is_file():
        return {} if is_hidden(Path(path.name)) else {path: path.name}
    if not glob.has_magic(text):
        raise UserError(f"--input {text}: there is no such file or folder")
    # The folder before the first part with a wildcard.
    fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    return dict(_walk(Path(*path.parts[:fixed]), path.parts[fixed:]))


def _walk(base: Path, pattern: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files below a folder that match the parts of a pattern, links followed, and their
    names below it."""

    def fail(error: OSError) -> None:
        raise error

    if not base.is_dir():
        return
    for place, folders, files in os.walk(base, followlinks=True, onerror=fail):
        folder = Path(place)
        above = folder.relative_to(base).parts
        deeper = "**" in pattern or len(above) + 1 < len(pattern)
        folders[:] = [name for name in folders if deeper and _is_searched(folder / name, base)]
        for name in files:
            if not is_hidden(Path(name)) and _matches((*above, name), pattern):
                yield folder / name, "/".join((*above, name))


def _is_searched(folder: Path, base: Path) -> bool:
    """Whether inputs are looked for in a folder below `base`."""
    predictions = folder.name in KINDS and (folder.parent / NOTE).is_file()
    if predictions or is_hidden(Path(folder.name)):
        return False
    above = folder
    while above != base:
        above = above.parent
        if _real(above) == _real(folder):
            return False
    return True


def _real(folder: Path) -> str:
    return _real_of(folder.absolute())


_real_of = lru_cache(1 << 16)(os.path.realpath)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, in which `**` is any number of them."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


class ImageFiles(Dataset):
    """Samples (input, image uint8 `[3, H, W]`, turned as its EXIF data say, and the file's stamp),
    or (input, error, None)."""

    def __init__(self, inputs: list[Input], cfg: EasyDict):
        self.inputs, self.cfg = inputs, cfg

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> tuple[Input, Tensor | str, Stamp | None]:
        source = self.inputs[number]
        try:
            stamp = stamp_of(source.path)
            image = read_image(source.path, upright=True)
            check_size(image.shape[1:], self.cfg, str(source.path))
        except UserError as error:
            return source, str(error), None
        except UnicodeEncodeError:
            return source, f"cannot read {source.path}: its name is no UTF-8", None
        return source, image, stamp
