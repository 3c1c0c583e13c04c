"""Finding and decoding the files of a dataset, with errors that name the path."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, read_file

from utils.errors import UserError

PALETTE = 3  # colour type in the header of a PNG


def first_folder(*candidates: Path) -> Path:
    """Return the first folder that exists; UserError lists all that were looked for."""
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UserError("there is no folder " + " or ".join(map(str, candidates)))


def by_key(folder: Path, pattern: str, *endings: str) -> dict[str, Path]:
    """Return {path below `folder` without its ending: path} of the files with one of `endings`.

    The first ending that fits is cut off. Images and labels that belong together have one key.
    """
    found = {}
    for path in folder.glob(pattern):
        relative = path.relative_to(folder).as_posix()
        ending = next((ending for ending in endings if relative.endswith(ending)), None)
        if ending is not None:
            found[relative.removesuffix(ending)] = path
    if not found:
        raise UserError(f"no files {pattern} ending in {' or '.join(endings)} in {folder}")
    return found


def pair(images: dict[str, Path], labels: dict[str, Path]) -> list[tuple[Path, Path]]:
    """Return (image, label) of each key of `images`, sorted; UserError for a missing label."""
    missing = sorted(key for key in images if key not in labels)
    if missing:
        folder = next(iter(labels.values())).parent
        raise UserError(
            f"{len(missing)} of {len(images)} images have no label; the first is "
            f"{images[missing[0]]} (labels are looked for as in {folder})"
        )
    return [(images[key], labels[key]) for key in sorted(images)]


def read_image(path: Path) -> torch.Tensor:
    """Return a JPEG or PNG as uint8 [3, H, W] RGB; UserError names a file that cannot be read."""
    try:
        return decode_image(str(path), ImageReadMode.RGB)
    except RuntimeError as error:
        raise _unreadable(path, error) from None


def read_label(path: Path) -> torch.Tensor:
    """Return the numbers that a label PNG holds, before any mapping, as uint8 [H, W].

    Palette files give their indices, 16-bit colour files (SYNTHIA) their first channel. UserError
    for a file that cannot be read, and for one that holds colours.
    """
    try:
        data = read_file(str(path))
        # torchvision fills labels of less than 8 bits per pixel with uninitialised memory.
        if len(data) > 25 and data[24] < 8 and data[25] == PALETTE:
            with Image.open(path) as file:
                return torch.from_numpy(np.array(file))
        label = decode_image(data, ImageReadMode.UNCHANGED)
    except (RuntimeError, OSError) as error:
        raise _unreadable(path, error) from None
    if label.shape[0] > 1 and label.dtype != torch.uint16:
        raise UserError(f"label {path} holds colours; expected one class number per pixel")
    return label[0].to(torch.uint8)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).split(", ")[-1].strip()
    return UserError(f"cannot read {path}: {reason}")
