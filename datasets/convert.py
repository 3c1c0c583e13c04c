"""`python -m datasets.convert NAME[:SPLIT] … --out DIR [KEY VALUE …]`: a copy for slow disks.

Writes labels as 8-bit PNGs of train ids, and images as they are, to DIR/<folder of the dataset>,
which is then read like the release: DATASET.ROOT DIR. Samples, their order and their names in
results stay the same. Without SPLIT it takes train and val. Every pair is read back and compared
with the release's; a split counts as converted when all of its pairs are equal. After an
interruption the same command goes on; files that are there, and carry the time of the last change
of the file they were made from, were compared before and are left alone.

--height and --protocol also resize images and labels (bicubic; nearest), and store such images as
PNG. Reading them then equals resizing on the fly, --protocol robustnet being what valid.py does by
default. For training it is another dataset: TRANSFORM.SCALE and CROP_SIZE then count in the new
pixels, and what was thrown away does not come back at a scale of 2. Results on resized images say
so in their label map.
"""

import argparse
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from easydict import EasyDict

from datasets import DATASETS, dataset_class, find_root, load_settings
from datasets.commands import in_processes, parse_words
from datasets.convert_pair import Outcome, PairConverter, SizeRule
from datasets.convert_report import report
from datasets.converted import (
    STAMP,
    find_conversion,
    from_train_ids,
    numbers_to_train_ids,
    read_stamp,
    write_stamp,
)
from datasets.dataset import SegmentationDataset
from utils.errors import UserError, run_script, unknown_name
from utils.locks import held

DEFAULT_SPLITS = ("train", "val")
SAMPLED = 8  # pairs that the size of a conversion is estimated from
SPARE = 1.1  # free space that is asked for, in estimates


class Options(NamedTuple):
    """The command line: what to convert, to which folder, and how."""

    names: list[str]
    out: Path
    size: SizeRule
    link: bool
    cfg: EasyDict


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.convert",
        usage="%(prog)s NAME[:SPLIT] … --out DIR [--height N | --protocol robustnet] [--link] "
        "[KEY VALUE …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="WORKERS N is the number of processes; DATASET.MAPILLARY_LABEL_MAP chooses the "
        "label map, of which a tree has one.",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="gets a folder per dataset")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--height", type=int, metavar="N", help="resize images higher than N pixels to N"
    )
    # openseg has labels in another size than images, native has all in their own.
    sizes.add_argument(
        "--protocol", choices=("robustnet",), help="resize as this protocol of evaluation does"
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="link images to the release's (hard links, same disk) in place of copying them",
    )
    options, names, overrides = parse_words(parser, arguments)
    if options.height is not None and options.height < 1:
        raise UserError(f"--height is {options.height}; expected a number of pixels, at least 1")
    size = SizeRule(options.height or 0, options.protocol or "")
    return Options(names, Path(options.out), size, options.link, load_settings(overrides))


def convert(dataset: type[SegmentationDataset], splits: Sequence[str], options: Options) -> None:
    """Convert splits of a dataset and print what came of it.

    Datasets whose images are part of this one's (the conditions of ACDC) can be read from the tree
    as well. UserError for a root that is missing or converted already, a folder that holds
    something else, too little space, and files of the release that cannot be read.
    """
    root = find_root(dataset, options.cfg)
    target = options.out / dataset.folder
    parts = [part for part in DATASETS.values() if issubclass(part, dataset)]
    if find_conversion(dataset, root) is not None:
        raise UserError(f"{root} is a converted tree; name the root of the release")
    opened = {
        split: [part(root, split, **part.options(options.cfg)) for part in parts]
        for split in splits
    }
    whole = {split: next(d for d in opened[split] if type(d) is dataset) for split in splits}
    for split in splits:
        if len(whole[split]) == 0:
            raise UserError(f"{dataset.title} {split} has no images in {root}")
    _open_target(whole[splits[0]], target, options.size)
    converters = [PairConverter(d, target, options.size, options.link) for d in whole.values()]
    with _alone(target):
        stamp = read_stamp(target)
        _require_space(converters, target)
        for split, converter in zip(splits, converters, strict=True):
            outcomes = _run(converter, stamp, target, options.cfg.WORKERS)
            by_image = dict(zip(whole[split].image_paths, outcomes, strict=True))
            for part in opened[split]:
                stamp["datasets"].setdefault(part.name, {})[split] = _entry(part, by_image)
            write_stamp(target, stamp)
            converted = dataset(target, split, **dataset.options(options.cfg))
            print(report(whole[split], converted, outcomes), flush=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let no other process convert to `target`; the system lets go when a process dies."""
    lock = target / "converting.lock"

    def refuse() -> None:
        raise UserError(f"another process is converting to {target}; let it end")

    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock, refuse))
        except OSError as error:
            raise UserError(f"cannot write {lock}: {error.strerror}") from None
        yield


def _open_target(dataset: SegmentationDataset, target: Path, size: SizeRule) -> None:
    """See that the target has a converted.json that fits; a new one is without any split."""
    made = {
        "source": str(dataset.root.resolve()),
        "size": str(size),
        "label_space": dataset.label_space.name,
        "label_map": dataset.label_map,
        "train_ids": numbers_to_train_ids(type(dataset), dataset.label_map),
    }
    # Refuses, before any work, what could not be read in every label space of the release.
    from_train_ids(type(dataset), dataset.label_map)
    old, new = dataset.root.resolve(), target.resolve()
    if new.is_relative_to(old) or old.is_relative_to(new):
        raise UserError(
            f"--out puts {dataset.title} into {target}, which is, holds or lies in the release "
            f"{dataset.root}; choose another folder"
        )
    stamp = read_stamp(target)
    if stamp is not None:
        differing = [key for key, value in made.items() if stamp.get(key) != value]
        if differing:
            key = differing[0]
            was = "another table" if key == "train_ids" else stamp.get(key)
            raise UserError(
                f"{target} was converted with {key.replace('_', ' ')} {was}; choose another --out, "
                "or delete it"
            )
        return
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} holds something else (no {STAMP}); choose another --out")
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {target}: {error.strerror}") from None
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions |= {"torch": torch.__version__, "torchvision": torchvision.__version__}
    write_stamp(target, made | {"versions": versions, "datasets": {}})


def _require_space(converters: Sequence[PairConverter], target: Path) -> None:
    """UserError if the disk is too small for the files that are not there yet, by an estimate."""
    needed = 0.0
    for converter in converters:
        length = len(converter.dataset)
        sample = sorted({i * length // SAMPLED for i in range(SAMPLED)})
        total = length * np.mean([converter.bytes_needed(i) for i in sample])
        there = sum(_bytes(folder) for folder in (converter.images, converter.labels))
        needed += max(0.0, SPARE * total - there)
    free = shutil.disk_usage(target).free
    if needed > free:
        raise UserError(
            f"{target} has {free / 1e9:.1f} GB of free space; the conversion needs about "
            f"{needed / 1e9:.1f} GB"
        )


def _bytes(folder: Path) -> int:
    """Return the size of a folder's files without those that are links to the release's."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(stat.st_size for stat in found if stat.st_nlink == 1)


def _run(
    converter: PairConverter, stamp: dict[str, Any], target: Path, workers: int
) -> list[Outcome]:
    """Convert all pairs of a split; UserError if some cannot be read, each of which is printed."""
    dataset = converter.dataset
    title = f"conversion of {dataset.title} {dataset.split}"
    complete = {
        name: set(splits[dataset.split]["files"].values())
        for name, splits in stamp["datasets"].items()
        if dataset.split in splits
    }
    outcomes: list[Outcome] = []
    with closing(in_processes(converter, range(len(dataset)), workers, title)) as results:
        for outcome in results:
            outcomes.append(outcome)
            if outcome.written:
                # From the first file that changes until the last, a split is not what was stamped.
                outdated = [name for name, files in complete.items() if outcome.file in files]
                for name in outdated:
                    del complete[name], stamp["datasets"][name][dataset.split]
                    write_stamp(target, stamp)
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    if problems:
        raise UserError(
            f"{len(problems)} of {len(dataset)} pairs of {dataset.title} {dataset.split}, named "
            "above, cannot be converted; mend them or take them out of the split, then the same "
            "command goes on"
        )
    return outcomes


def _entry(part: SegmentationDataset, outcomes: dict[Path, Outcome]) -> dict[str, Any]:
    """Return what converted.json says of a split; `outcomes` are those of the release's images."""
    own = [outcomes[path] for path in part.image_paths]
    files = [outcome.file for outcome in own]
    return {
        "split_rule": part.split_rule,
        "images": len(own),
        "resized": sum(outcome.resized for outcome in own),
        "files": dict(zip(part.relative_list(), files, strict=True)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the conversion."""
    options = parse(arguments)
    wanted: dict[type[SegmentationDataset], list[str]] = {}
    for text in options.names:
        name, _, split = text.partition(":")
        dataset = dataset_class(name)
        if split and split not in dataset.splits:
            raise unknown_name(f"split of {dataset.title}", split, dataset.splits)
        splits = wanted.setdefault(dataset, [])
        splits += [part for part in ([split] if split else DEFAULT_SPLITS) if part not in splits]
    for dataset, splits in wanted.items():
        convert(dataset, splits, options)
    print(f"read it with DATASET.ROOT {options.out}")


if __name__ == "__main__":
    run_script(main)
