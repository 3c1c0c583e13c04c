"""Which images and videos a command line names, and reading the images in parallel."""

import glob
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from easydict import EasyDict

from datasets.files import read_image
from utils.errors import UserError
from utils.evaluate.evaluation import check_size

IMAGES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


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
        wanted = {file: name for file, name in files.items() if _suffix(file) in IMAGES + VIDEOS}
        if not wanted:
            known = ", ".join(IMAGES + VIDEOS)
            raise UserError(f"--input {path}: no image or video there ({known})")
        others.update(_suffix(file) or file.name for file in files.keys() - wanted.keys())
        found |= wanted
    stems: dict[str, list[Path]] = defaultdict(list)
    for file, name in found.items():
        stems[name.removesuffix(file.suffix)].append(file)
    inputs: dict[str, Input] = {}
    for stem, files in stems.items():
        for file in files:
            name = stem if len(files) == 1 else found[file]
            if name in inputs:
                raise UserError(
                    f"{inputs[name].path} and {file} would be written to one place; give them in "
                    "two calls with an --out each"
                )
            inputs[name] = Input(file, name)
    return [inputs[name] for name in sorted(inputs)], others


def _suffix(path: Path) -> str:
    return path.suffix.lower()


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


class ImageFiles(torch.utils.data.Dataset):
    """Reads image files; what is wrong with one is its `error`, and not raised.

    Samples are `number`, `image` uint8 `[3, H, W]`, as EXIF data turn it, or None, and `error`.
    """

    def __init__(self, paths: list[Path], cfg: EasyDict):
        self.paths, self.cfg = paths, cfg

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> dict[str, Any]:
        path = self.paths[number]
        try:
            image = read_image(path, upright=True)
            check_size(image.shape[1:], self.cfg, str(path))
        except UserError as error:
            return {"number": number, "image": None, "error": str(error)}
        return {"number": number, "image": image, "error": ""}
