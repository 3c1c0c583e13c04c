"""Tiny dataset trees in the encodings of the real ones."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datasets.dataset import SegmentationDataset


def write_image(path: Path, height: int = 16, width: int = 16, seed: int = 0) -> None:
    """Write a random JPEG or PNG photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def save_turned(picture: Image.Image, path: Path, orientation: int) -> None:
    """Save a picture with EXIF data that say how a viewer has to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)


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
    _write_chunks(path, (width, height, 16, 2), pixels)


def write_png(path: Path, label: np.ndarray, bits: int) -> None:
    """Write numbers [H, W] as a grey PNG of 1 to 8 bits per pixel, unstretched."""
    height, width = label.shape
    levels = (label[..., None] >> np.arange(bits)[::-1]) & 1
    _write_chunks(path, (width, height, bits, 0), np.packbits(levels.reshape(height, -1), axis=1))


def _write_chunks(path: Path, header: tuple[int, int, int, int], rows: np.ndarray) -> None:
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in parts:
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


def assert_same_samples(one: SegmentationDataset, other: SegmentationDataset) -> None:
    """Assert that two datasets have equal images and labels in the same order, and some."""
    assert len(one) == len(other) > 0
    for index in range(len(one)):
        a, b = one[index], other[index]
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])


# case: (dataset, split, image, label, writer of the label)
_OLD_CITYSCAPES = (
    "leftImg8bit_trainvaltest/leftImg8bit/val/bonn/bonn_000001_000019_leftImg8bit.png",
    "gtFine_trainvaltest/gtFine/val/bonn/bonn_000001_000019_gtFine_labelIds.png",
)
_NEW_CITYSCAPES = tuple(path.split("/", 1)[1] for path in _OLD_CITYSCAPES)
_IDD = (
    "leftImg8bit/val/119/902541_leftImg8bit.png",
    "gtFine/val/119/902541_gtFine_labelcsTrainIds.png",
)
_ACDC = (
    "rgb_anon/night/train/GOPR0351/GOPR0351_frame_000159_rgb_anon.png",
    "gt/night/train/GOPR0351/GOPR0351_frame_000159_gt_labelTrainIds.png",
)
_ACDC_ZIPS = ("rgb_anon_trainvaltest", "gt_trainval")
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
    "mapillary_v2": (
        *("mapillary", "train"),
        *("training/images/x_Y.jpg", "training/v1.2/labels/x_Y.png"),
    ),
    "gtav_list": ("gtav", "val", "images/part/00007.png", "labels/part/00007.png"),
    "synthia_flat": ("synthia", "val", "RGB/0000001.png", "GT/LABELS/0000001.png"),
    "synthia_list": ("synthia", "train", "RGB/0000001.png", "GT/LABELS/0000001.png"),
    "idd": ("idd", "val", *_IDD),
    "idd_segmentation": ("idd", "val", *(f"IDD_Segmentation/{path}" for path in _IDD)),
    "acdc_night": ("acdc_night", "train", *_ACDC),
    "acdc_zips": (
        *("acdc_night", "train"),
        *(f"{zip_}/{path}" for zip_, path in zip(_ACDC_ZIPS, _ACDC, strict=True)),
    ),
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
    if layout == "gtav_list":
        (root / "val.txt").write_text("# chosen by hand\n\nimages/part/00007.png labels/x.png\n")
    if layout == "synthia_list":
        (root / "split_data").mkdir()
        (root / "split_data" / "synthia_split_train.txt").write_text("0000001.png\n")
    if layout == "synthia_flat":
        # Of two images one is for validation; the order of hashes says it is 0000001.
        write_image(root / "RGB" / "0000002.png")
        write_16bit(root / "GT" / "LABELS" / "0000002.png", label)
    return name, split, root / image, root / path


every_layout = pytest.mark.parametrize("layout", LAYOUTS)


# The dataset described by a file in docs/datasets.md: its label colours, and their train ids.
_PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
EXAMPLE = json.loads(re.search(r"```json\n(.*?)```", _PAGE.read_text(), re.DOTALL)[1])
_COLOURS = [(0, 255, 0), (128, 64, 0), (160, 82, 45), (0, 100, 0), (255, 0, 0), (135, 206, 235)]
_BLACK, _STRAY = (0, 0, 0), (9, 9, 9)
_TRAIN_IDS = np.array([0, 1, 1, 2, 3, 4, 255, 255])


def orchard_tree(root: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Write the example of docs/datasets.md; return its JSON file, and train ids by image.

    Labels are of blocks in all its colours, void, and a colour that it does not list.
    """
    train, late = "spring 2024/{}", "late/{}"
    files = {
        **{name: (f"{train}.jpg", f"{train}.png") for name in ("a b", "row 1/c", "row 2/c")},
        **{
            name: (f"{late}_rgb.jpg", f"{late}_mask.png")
            for name in ("row 1/x 1", "row 2/x 1", "row 2/y")
        },
    }
    labels = {}
    for seed, (name, (image, label)) in enumerate(files.items()):
        numbers = np.random.default_rng(seed).permutation(np.arange(32) % 8).reshape(4, 8)
        numbers = numbers.repeat(8, axis=0).repeat(8, axis=1)
        write_image(root / "photos" / image.format(name), 32, 64, seed)
        path = root / "masks" / label.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([*_COLOURS, _BLACK, _STRAY], np.uint8)[numbers]).save(path)
        labels[name] = _TRAIN_IDS[numbers]
    (root / "val.txt").write_text("# two\nrow 2/x 1_rgb.jpg\nphotos/late/row 2/y_rgb\n")
    file = root / "orchard.json"
    file.write_text(json.dumps(EXAMPLE))
    return file, labels
