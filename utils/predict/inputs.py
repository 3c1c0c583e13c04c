"""Which images and videos a command line names, and reading the images in parallel."""

import glob
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from easydict import EasyDict
from torch import Tensor
from torch.utils.data import Dataset

from datasets.files import read_image
from utils.errors import UserError
from utils.evaluate.evaluation import check_size

IMAGES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
KNOWN = IMAGES + VIDEOS


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
    Predictions keep the folders below it. Files that differ in their ending alone keep it in their
    name. UserError where there is nothing, for a file of another kind, and for two files that would
    be written to one place.
    """
    found: dict[Path, str] = {}
    others: Counter = Counter()
    for path in paths:
        files = _files(path)
        wanted = {file: name for file, name in files.items() if file.suffix.lower() in KNOWN}
        if not wanted:
            raise UserError(f"--input {path}: no image or video there ({', '.join(KNOWN)})")
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


def _files(text: str) -> dict[Path, str]:
    """Return {file: its name below the folder} of what one argument means."""
    path = Path(text)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {file: file.relative_to(path).as_posix() for file in files}
    if path.is_file():
        return {path: path.name}
    if not glob.has_magic(text):
        raise UserError(f"--input {text}: there is no such file or folder")
    # The folder before the first part with a wildcard.
    base = Path(re.split(r"[*?\[]", text, maxsplit=1)[0] + "x").parent
    files = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    return {file: file.relative_to(base).as_posix() for file in files if file.is_file()}


class ImageFiles(Dataset):
    """Samples (input, image uint8 `[3, H, W]`, turned as its EXIF data say), or (input, error)."""

    def __init__(self, inputs: list[Input], cfg: EasyDict):
        self.inputs, self.cfg = inputs, cfg

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> tuple[Input, Tensor | str]:
        source = self.inputs[number]
        try:
            image = read_image(source.path, upright=True)
            check_size(image.shape[1:], self.cfg, str(source.path))
        except UserError as error:
            return source, str(error)
        return source, image
