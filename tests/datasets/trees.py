"""Tiny dataset trees in the encodings of the real ones."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat


def write_image(path: Path, height: int = 16, width: int = 16, seed: int = 0) -> None:
    """Write a random JPEG or PNG photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_grey(path: Path, label: np.ndarray) -> None:
    """Write numbers [H, W] as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label.astype(np.uint8)).save(path)


def write_palette(path: Path, label: np.ndarray, bits: int = 8) -> None:
    """Write numbers [H, W] as the indices of a palette PNG whose colours are other numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label.astype(np.uint8)).convert("P")
    image.putdata(label.astype(np.uint8).ravel())
    image.putpalette([(i * 7 + 90) % 256 for i in range(3 * 2**bits)])
    image.save(path, bits=bits)


def write_16bit(path: Path, label: np.ndarray) -> None:
    """Write numbers [H, W] as the first of three 16-bit channels, as SYNTHIA does; PIL cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = label.shape
    pixels = np.zeros((height, width, 3), dtype=">u2")
    pixels[..., 0] = label
    pixels[..., 1] = 777  # the instance
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))


def write_split_mat(path: Path, train: list[int], val: list[int], test: list[int]) -> None:
    """Write GTAV's split file: column vectors of image numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"trainIds": train, "valIds": val, "testIds": test}
    savemat(path, {key: np.array(ids, dtype=float)[:, None] for key, ids in columns.items()})


def camvid_tree(root: Path, labels: list[np.ndarray], split: str = "train") -> Path:
    """Write a CamVid tree with these labels (file numbers) and random images of equal size."""
    for number, label in enumerate(labels):
        write_image(root / split / f"f{number:03d}.jpg", *label.shape, seed=number)
        write_grey(root / f"{split}annot" / f"f{number:03d}.png", label)
    return root


# case: (dataset, split, image, label, writer of the label)
_OLD_CITYSCAPES = (
    "leftImg8bit_trainvaltest/leftImg8bit/val/bonn/bonn_000001_000019_leftImg8bit.png",
    "gtFine_trainvaltest/gtFine/val/bonn/bonn_000001_000019_gtFine_labelIds.png",
)
_NEW_CITYSCAPES = tuple(path.split("/", 1)[1] for path in _OLD_CITYSCAPES)
LAYOUTS = {
    "gtav_folders": ("gtav", "val", "images/valid/00007.png", "labels/valid/00007.png"),
    "gtav_split_mat": ("gtav", "val", "images/00007.png", "labels/00007.png"),
    "synthia": ("synthia", "train", "RGB/train/0000001.png", "GT/LABELS/train/0000001.png"),
    "cityscapes": ("cityscapes", "val", *_NEW_CITYSCAPES),
    "cityscapes_trainvaltest": ("cityscapes", "val", *_OLD_CITYSCAPES),
    "bdd_old": ("bdd100k", "train", "images/train/0a-1.jpg", "labels/train/0a-1_train_id.png"),
    "bdd_plain": ("bdd100k", "val", "images/val/0a-1.jpg", "labels/val/0a-1.png"),
    "bdd_new": ("bdd100k", "val", "images/10k/val/b.jpg", "labels/sem_seg/masks/val/b.png"),
    "mapillary_train": ("mapillary", "train", "training/images/x_Y.jpg", "training/labels/x_Y.png"),
    "mapillary_val": ("mapillary", "val", "validation/images/x.jpg", "validation/labels/x.png"),
    "camvid": ("camvid", "test", "test/f_1.jpg", "testannot/f_1.png"),
    "camvid_png": ("camvid", "train", "train/f_1.png", "trainannot/f_1.png"),
    "idd_lite": (
        *("idd_lite", "val"),
        *("leftImg8bit/val/173/7_image.jpg", "gtFine/val/173/7_label.png"),
    ),
}
WRITERS = {"gtav": write_palette, "mapillary": write_palette, "synthia": write_16bit}


def layout_tree(root: Path, layout: str, label: np.ndarray) -> tuple[str, str, Path, Path]:
    """Write one image and its label (file numbers) in a layout of LAYOUTS.

    Returns (dataset name, split, image path, label path).
    """
    name, split, image, path = LAYOUTS[layout]
    write_image(root / image, *label.shape)
    WRITERS.get(name, write_grey)(root / path, label)
    if layout == "gtav_split_mat":
        write_split_mat(root / "split.mat", train=[1], val=[7], test=[2])
    return name, split, root / image, root / path


every_layout = pytest.mark.parametrize("layout", LAYOUTS)
