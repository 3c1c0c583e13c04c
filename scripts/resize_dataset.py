"""Write smaller copies of datasets, for slow disks and for decoders that cannot keep up.

    python scripts/resize_dataset.py gtav mapillary --out /fast --height 720 DATASET.ROOT /data

writes to /fast/GTAV and /fast/Mapillary; DATASET.ROOT /fast then reads them like any release.
Images higher than N pixels are resized to that height by bicubic interpolation with antialiasing,
their labels to the nearest pixel; others are copied. Names, folders and list files stay the same.
PNG stays PNG, JPEG stays JPEG (quality 95, colours at full resolution). Resized labels keep the
numbers of the file as grey PNGs, of 16 bits where the release has 16, without palette or instances.

The same command goes on where an earlier one was stopped. Images are written before labels, so that
no reader takes an unfinished copy for a whole one. A copy is another dataset for training:
TRANSFORM.SCALE and CROP_SIZE count in its pixels. WORKERS is the number of processes.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from datasets import DATASETS, dataset_class, load_settings
from datasets.commands import in_processes
from datasets.dataset import SegmentationDataset
from datasets.files import read_header, read_image
from datasets.soundness import find_damage
from transforms.geometric import resize_image, resize_label
from utils.errors import UserError, run_script
from utils.settings import split

FORMATS: dict[str, dict] = {
    **dict.fromkeys((".jpg", ".jpeg"), {"format": "JPEG", "quality": 95, "subsampling": 0}),
    **dict.fromkeys((".tif", ".tiff"), {"format": "TIFF"}),
    ".webp": {"format": "WEBP", "quality": 95},
}
LISTS = ("*.txt", "split_data/*.txt", "split.mat", "read_mapping/split.mat")


def write_image(source: Path, target: Path, *, size: tuple[int, int]) -> None:
    """Write an image at `size` (h, w) in the file type of its source."""
    pixels = resize_image(read_image(source), size).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(target, **FORMATS.get(source.suffix.lower(), {"format": "PNG"}))


def write_label(
    dataset: type[SegmentationDataset], source: Path, target: Path, *, size: tuple[int, int]
) -> None:
    """Write a label at `size` (h, w) as a PNG: colours, or numbers in the release's depth."""
    if dataset.colours:
        resized = torch.stack([resize_label(part, size) for part in read_image(source)], dim=-1)
    else:
        resized = resize_label(dataset.read_numbers(source), size)
    dtype = np.uint16 if dataset.label_bits == 16 else np.uint8
    Image.fromarray(resized.numpy().astype(dtype)).save(target, "PNG")


def place(write: Callable[[Path, Path], object], source: Path, target: Path) -> None:
    """Write `target` from `source` in one step; UserError if that is not possible."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(source, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error} (the same command goes on from here)"
        ) from None


def copy(write: Callable, height: int, files: tuple[Path, Path]) -> None:
    """Write an image or label (source, target) at `height` at most, unless it is there and whole.

    UserError for a file that cannot be read or written, and for a target of another size.
    """
    source, target = files
    old = read_header(source)[:2]
    new = old if old[0] <= height else (height, max(1, round(old[1] * height / old[0])))
    if not target.exists() or find_damage(np.fromfile(target, np.uint8)) is not None:
        place(shutil.copyfile if new == old else partial(write, size=new), source, target)
    elif read_header(target)[:2] != new:
        raise UserError(
            f"{target} is {read_header(target).height} pixels high, not {new[0]}; choose another "
            "--out, or delete the copy of another --height"
        )


def resize_dataset(
    dataset: type[SegmentationDataset], splits: Sequence[str], out: Path, height: int, cfg: EasyDict
) -> None:
    """Write a copy of a dataset's splits to its folder below `out`.

    UserError for missing files, and where the copy would be written to, or read as other samples.
    """
    root, target = dataset.find_root(cfg), out / dataset.folder
    for new in (out.resolve(), target.resolve()):
        if new.is_relative_to(root.resolve()) or root.resolve().is_relative_to(new):
            raise UserError(f"--out {out} lies in {root} or holds it; choose another folder")
    opened = [dataset(root, split) for split in splits]
    for kind, write in (("image", write_image), ("label", partial(write_label, dataset))):
        sources = [path for part in opened for path in getattr(part, f"{kind}_paths")]
        files = [(source, target / source.relative_to(root)) for source in sources]
        title = f"{kind}s of {dataset.title}"
        list(in_processes(partial(copy, write, height), files, cfg.WORKERS, title))
    lists = [path for pattern in LISTS for path in root.glob(pattern)]
    for path in [path for path in lists if not path.name.startswith("leave_out_")]:
        place(shutil.copyfile, path, target / path.relative_to(root))
    for part in opened:
        if dataset(target, part.split).relative_list() != part.relative_list():
            raise UserError(
                f"{dataset.title} {part.split} in {target} has other images than in {root} (split "
                f"by {part.split_rule}); copy all splits (--splits {' '.join(dataset.splits)}), or "
                "give the release list files (datasets/lists.py)"
            )
    print(f"{dataset.title}: {sum(map(len, opened))} images with labels in {target}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and copy each dataset that it names."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s NAME … --out DIR --height N [--splits SPLIT …] [KEY VALUE …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="not in a release")
    parser.add_argument("--height", type=int, required=True, metavar="N", help="pixels")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], metavar="SPLIT")
    options, settings = split(parser, arguments)
    if options.height < 1:
        raise UserError(f"--height is {options.height}; expected a number of pixels, at least 1")
    cfg = load_settings(settings)
    for dataset in [dataset_class(name) for name in options.names]:
        resize_dataset(dataset, options.splits, options.out, options.height, cfg)
    print(f"read them with DATASET.ROOT {options.out}")


if __name__ == "__main__":
    run_script(main)
