"""Finding and decoding the files of a dataset, with errors that name the path."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image, encode_png, read_file

from datasets.soundness import find_damage
from utils.errors import UserError

GREY, PALETTE = 0, 3  # colour types in the header of a PNG


class Listing(NamedTuple):
    """The files of a split by key; an image and its label have the same key.

    `rule` says in words how images were chosen for the split. `absent` are images that a list names
    and that are not there.
    """

    images: dict[str, Path]
    labels: dict[str, Path]
    rule: str = "the folders of the release"
    absent: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[Path, Path]]:
        """Return (image, label) of each key, sorted; UserError for a missing image or label."""
        if self.absent:
            raise UserError(
                f"{len(self.absent)} images of {self.rule} are not there; the first is "
                f"{self.absent[0]}"
            )
        missing = sorted(key for key in self.images if key not in self.labels)
        if missing:
            near = next(iter(self.labels.values())).parent if self.labels else "an empty folder"
            raise UserError(
                f"{len(missing)} of {len(self.images)} images have no label; the first is "
                f"{self.images[missing[0]]} (labels are looked for as in {near})"
            )
        return [(self.images[key], self.labels[key]) for key in sorted(self.images)]


def first_folder(*candidates: Path) -> Path:
    """Return the first folder that exists; UserError lists all that were looked for."""
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UserError("there is no folder " + " or ".join(map(str, candidates)))


def visible_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files below a folder that match a pattern, sorted, without those that systems and
    archive programs leave there (`._x`, `.DS_Store`, `Thumbs.db`, `__MACOSX`)."""
    found = {path for pattern in patterns for path in first_folder(folder).glob(pattern)}
    return sorted(path for path in found if not is_hidden(path.relative_to(folder)))


def is_hidden(path: Path) -> bool:
    """Whether a relative path is no file of a user's own."""
    return any(part.startswith(".") or part in ("Thumbs.db", "__MACOSX") for part in path.parts)


def by_key(folder: Path, pattern: str, *endings: str) -> dict[str, Path]:
    """Return {path below `folder` without its ending: path} of the files with one of `endings`.

    The first ending that fits is cut off; capitals do not matter, and .jpeg is .jpg. Images and
    labels that belong together have one key. UserError where there is no folder or no file, and for
    two files of one key.
    """
    found: dict[str, Path] = {}
    for path in visible_files(folder, pattern):
        relative = path.relative_to(folder).as_posix()
        plain = re.sub(r"\.jpeg$", ".jpg", relative, flags=re.IGNORECASE)
        ending = next((e for e in endings if plain.lower().endswith(e.lower())), None)
        if ending is None:
            continue
        key = plain[: -len(ending)]
        if key in found:
            raise UserError(f"{found[key]} and {path} would be one image; remove one of them")
        found[key] = path
    if not found:
        raise UserError(f"no files {pattern} ending in {' or '.join(endings)} in {folder}")
    return found


def read_image(path: Path, upright: bool = False) -> torch.Tensor:
    """Return a JPEG or PNG as uint8 [3, H, W] RGB; UserError names a file that cannot be read.

    `upright` turns a photograph as its EXIF data say; labels belong to the pixels as stored.
    """
    try:
        return decode_image(_read_sound(path), ImageReadMode.RGB, apply_exif_orientation=upright)
    except RuntimeError as error:
        raise _unreadable(path, error) from None


def read_label(path: Path) -> torch.Tensor:
    """Return the numbers that a label PNG holds, before any mapping, as uint8 [H, W].

    Palette files give their indices, 16-bit colour files (SYNTHIA) their first channel. UserError
    for a file that cannot be read, one that holds colours, and one with numbers above 255.
    """
    try:
        data = _read_sound(path)
        bits, colour = (int(data[24]), int(data[25])) if len(data) > 25 else (8, GREY)
        # torchvision fills labels of less than 8 bits per pixel with uninitialised memory.
        if bits < 8 and colour == PALETTE:
            with Image.open(path) as file:
                return torch.from_numpy(np.array(file))
        label = decode_image(data, ImageReadMode.UNCHANGED)
    # PIL reports damage inside a PNG as a SyntaxError or ValueError.
    except (RuntimeError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from None
    if label.shape[0] > 1 and label.dtype != torch.uint16:
        raise UserError(f"label {path} holds colours; expected one class number per pixel")
    label = label[0]
    if label.dtype == torch.uint16:
        largest = int(label.int().max())
        if largest > 255:
            raise UserError(f"label {path} holds the number {largest}; classes are below 256")
    elif bits < 8:
        # Decoders stretch grey levels of few bits over 0 to 255.
        label = label // (255 // (2**bits - 1))
    return label.to(torch.uint8)


def png_bytes(pixels: torch.Tensor) -> bytes:
    """Return uint8 [3, H, W] or [H, W] as an 8-bit PNG, RGB or grey."""
    channels = pixels if pixels.ndim == 3 else pixels[None]
    return encode_png(channels.contiguous()).numpy().tobytes()


def _read_sound(path: Path) -> torch.Tensor:
    """Return the bytes of a file, uint8 [n], that can be given to a decoder."""
    data = read_file(str(path))
    damage = find_damage(data.numpy())
    if damage is not None:
        raise UserError(f"cannot read {path}: {damage}")
    return data


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).split(", ")[-1].strip()
    return UserError(f"cannot read {path}: {reason}")
