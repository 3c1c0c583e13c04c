"""Finding and decoding the files of a dataset, with errors that name the path."""

import io
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, encode_png, read_file

from datasets.soundness import JPEG_SIGNATURE, PNG_SIGNATURE, TIFF_SIGNATURES, find_damage
from utils.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
PALETTE = 3  # colour type in the header of a PNG
ORIENTATION = 0x0112  # EXIF
# Colours of label files, each (r, g, b); the number of one is its position.
Colours = tuple[tuple[int, int, int], ...]
UNKNOWN = 255  # number of a colour that is none of them

# What Pillow raises for damage inside a file.
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass
class Listing:
    """The files of a split by key; an image and its label have the same key.

    `find_labels` is called when labels are asked for: a split can be read without them. `rule` says
    in words how images were chosen for the split. `absent` are images that a list names and that
    are not there.
    """

    images: dict[str, Path]
    find_labels: Callable[[], dict[str, Path]]
    rule: str = "the folders of the release"
    absent: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> dict[str, Path]:
        """The label files; UserError says which path was looked for."""
        return self.find_labels()

    def without(self, keys: Collection[str], why: str = "") -> "Listing":
        """Return the listing without some images and their labels; `why` is added to the rule."""
        images = {key: path for key, path in self.images.items() if key not in keys}

        def labels() -> dict[str, Path]:
            return {key: path for key, path in self.labels.items() if key not in keys}

        return Listing(images, labels, self.rule + why, self.absent)

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


def read_image(path: Path, upright: bool = False) -> Tensor:
    """Return a JPEG, PNG, TIFF or WebP as uint8 [3, H, W] RGB; 16 bits are rounded to 8.

    `upright` turns a photograph as its EXIF data say; labels belong to the pixels as stored. What a
    TIFF says is part of its format, and always done. UserError names a file that cannot be read.
    """
    data = _read_sound(path)
    try:
        if _decodes(data):
            image = decode_image(data, ImageReadMode.RGB, apply_exif_orientation=upright)
        else:
            image = _with_pillow(data, path, rgb=True, upright=upright)
    except (RuntimeError, *DAMAGE) as error:
        raise _unreadable(path, error) from None
    if image.dtype == torch.uint16:
        image = ((image.int() + 128) // 257).to(torch.uint8)
    return image.expand(3, -1, -1)


def read_label(path: Path, colours: Colours | None = None) -> Tensor:
    """Return the numbers that a label file holds, before any mapping, as uint8 [H, W].

    A label is a PNG or TIFF. Palette files give their indices, 16-bit colour files (SYNTHIA) their
    first channel, and files whose channels are equal that one. With `colours` each pixel gives the
    position of its colour, or UNKNOWN. UserError for a file that cannot be read, one that holds
    colours unasked, and one with numbers above 255.
    """
    try:
        data = _read_sound(path)
        if not bytes(data[:4].tolist()).startswith((PNG_SIGNATURE[:4], *TIFF_SIGNATURES)):
            raise UserError(
                f"label {path} is a JPEG or WebP, which change the numbers of pixels; a label is a "
                "PNG or TIFF"
            )
        if colours is not None:
            return _numbers_of(read_image(path), colours)
        label = _label_channels(data, path)
    except (RuntimeError, *DAMAGE) as error:
        raise _unreadable(path, error) from None
    if label.dtype == torch.uint16:
        label = label[0]
        largest = int(label.int().max())
        if largest > 255:
            raise UserError(f"label {path} holds the number {largest}; classes are below 256")
        return label.to(torch.uint8)
    # Without alpha, the last of two or four channels.
    channels = label[: 1 if label.shape[0] < 3 else 3]
    if len(channels) > 1 and not (channels == channels[0]).all():
        raise UserError(
            f"label {path} holds colours; expected one class number per pixel (a dataset described "
            "by a file can have colours: docs/datasets.md)"
        )
    return channels[0]


def _label_channels(data: Tensor, path: Path) -> Tensor:
    """Return the channels of a label as they are stored, uint8 or uint16 [C, H, W]."""
    if not _decodes(data):
        return _with_pillow(data, path)
    bits, colour = int(data[24]), int(data[25])
    # torchvision fills labels of less than 8 bits per pixel with uninitialised memory.
    if bits < 8 and colour == PALETTE:
        return _with_pillow(data, path)
    label = decode_image(data, ImageReadMode.UNCHANGED)
    # Decoders stretch grey levels of few bits over 0 to 255.
    return label // (255 // (2**bits - 1)) if bits < 8 else label


def _decodes(data: Tensor) -> bool:
    """Whether torchvision decodes a file; others are for Pillow."""
    begin = bytes(data[:8].tolist())
    return begin == PNG_SIGNATURE or begin[:2] == JPEG_SIGNATURE


def _with_pillow(data: Tensor, path: Path, rgb: bool = False, upright: bool = False) -> Tensor:
    """Decode by Pillow: uint8 or uint16 [C, H, W], colours (`rgb`) or indices of palettes."""
    with Image.open(io.BytesIO(data.numpy().tobytes())) as file:
        picture = ImageOps.exif_transpose(file) if upright or file.format == "TIFF" else file
        deep = picture.mode.startswith(("I", "F"))  # more than 8 bits, which it would cut off
        pixels = np.array(picture.convert("RGB") if rgb and not deep else picture)
    if pixels.dtype == bool:  # one bit for each pixel
        pixels = pixels.astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} holds {pixels.dtype}; 8 or 16 bits are read")
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def _numbers_of(pixels: Tensor, colours: Colours) -> Tensor:
    codes = pixels.to(torch.int32)
    codes = (codes[0] << 16) | (codes[1] << 8) | codes[2]
    return torch.from_numpy(_colour_table(colours).take(codes.numpy()))


@lru_cache(maxsize=4)
def _colour_table(colours: Colours) -> np.ndarray:
    """Return uint8 [2²⁴] from colours, red in the highest byte, to their positions."""
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    for number, (red, green, blue) in enumerate(colours):
        table[red << 16 | green << 8 | blue] = number
    return table


class Header(NamedTuple):
    """Size of an image as stored, and its EXIF orientation: 1, or how it is to be turned."""

    height: int
    width: int
    orientation: int


def read_header(path: Path) -> Header:
    """Read the beginning of an image file; UserError names one that cannot be read."""
    _refuse_no_file(path)
    try:
        with Image.open(path) as file:
            # Pillow looks for EXIF data of a PNG behind its pixels, which takes decoding it.
            told = file.format != "TIFF" and (file.format != "PNG" or "exif" in file.info)
            exif = file.getexif() if told else {}
            return Header(file.height, file.width, exif.get(ORIENTATION, 1))
    except DAMAGE as error:
        raise _unreadable(path, error) from None


def png_bytes(pixels: Tensor) -> bytes:
    """Return uint8 [3, H, W] or [H, W] as an 8-bit PNG, RGB or grey."""
    channels = pixels if pixels.ndim == 3 else pixels[None]
    return encode_png(channels.contiguous()).numpy().tobytes()


def _read_sound(path: Path) -> Tensor:
    """Return the bytes of a file, uint8 [n], that can be given to a decoder."""
    _refuse_no_file(path)
    try:
        data = read_file(str(path))
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    damage = find_damage(data.numpy())
    if damage is not None:
        raise UserError(f"cannot read {path}: {damage}")
    return data


def _refuse_no_file(path: Path) -> None:
    """Raise UserError for a folder, a pipe, whose reader would wait, and where there is nothing."""
    if not path.is_file():
        what = "it is no file" if path.exists() else "there is no such file"
        raise UserError(f"cannot read {path}: {what}")


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).split(", ")[-1].strip()
    return UserError(f"cannot read {path}: {reason}")
