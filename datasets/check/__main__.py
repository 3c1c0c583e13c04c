"""`python -m datasets.check NAME[:SPLIT] … [KEY VALUE …]`: is the data on disk as released?

Reads every file of the splits (without SPLIT: of all splits of the dataset). A folder in place of a
name holds photographs without labels, and its images are read. Names the faults of each file, and
writes report.json, a bar chart of the classes and a contact sheet. Exit code 0: no faults, 1:
faults, 2: wrong arguments. Notes are unusual but may be meant: another number of images than
published, labels of a single class, labels that hardly fit. JPEG has no checksums: damaged pixels
go unnoticed unless the file is cut off.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets import DATASETS, dataset_class, load_settings, parse_domain
from datasets.check.inspection import (
    Fault,
    PairReport,
    find_swapped,
    inspect_image,
    inspect_pair,
)
from datasets.check.pictures import class_chart, photograph_sheet, sample_sheet
from datasets.commands import in_processes, parse_words
from datasets.dataset import SegmentationDataset
from datasets.files import Listing
from datasets.label_spaces import lookup_table
from datasets.photographs import find_photographs
from utils.draw.plotting import can_draw, save_figure
from utils.errors import UserError, run_script, unknown_name
from utils.labels import VOID

ON_SCREEN = 30  # faults and notes of a split that are printed; report.json has all
SAMPLES = 8  # pictures of the contact sheet


def check_split(
    dataset: type[SegmentationDataset], root: Path, split: str, workers: int, out: Path
) -> dict[str, Any]:
    """Check a split and write its pictures to `out`; return its part of the report."""
    faults: list[Fault] = []
    notes: list[str] = []
    try:
        listing = dataset.files(root, split)
        labels = listing.labels
    except UserError as error:
        listing, labels = Listing({}, dict), {}
        # Releases come without the labels of their test split, and most users without its images.
        if split in ("train", "val"):
            faults.append(Fault("missing", str(root), str(error)))
        else:
            notes.append(str(error))
    faults += [Fault("missing", path, f"is named by {listing.rule}") for path in listing.absent]
    images = listing.images
    for files, others, other in ((images, labels, "label"), (labels, images, "image")):
        for key in sorted(files.keys() - others.keys()):
            faults.append(Fault("missing pair", str(files[key]), f"has no {other}"))
    pairs = [(images[key], labels[key]) for key in sorted(images.keys() & labels.keys())]
    title = f"check of {dataset.title} {split}"
    reports = list(in_processes(partial(inspect_pair, dataset), pairs, workers, title))
    swapped, in_doubt = find_swapped(dataset, pairs, reports)
    faults += [fault for report in reports for fault in report.faults] + swapped
    notes += [f"{path} hardly follows the edges of its image; have a look" for path in in_doubt]
    published = dataset.published_counts.get(split)
    if published is not None and len(images) != published:
        notes.insert(0, f"{len(images)} images; the published split has {published}")
    single = [str(label) for (_, label), r in zip(pairs, reports, strict=True) if r.single]
    notes += [f"{path} is of one single class" for path in single]
    turned = [image for (image, _), r in zip(pairs, reports, strict=True) if r.orientation != 1]
    if turned:
        notes.append(
            f"{len(turned)} photographs are to be turned, say their EXIF data (first {turned[0]}); "
            "pixels are taken as stored"
        )
    shares = _class_shares(dataset, reports)
    if reports and not any(shares["class_share"].values()):
        text = "no label has a pixel of a class; another kind of label file, perhaps?"
        faults.append(Fault("no class", str(pairs[0][1]), text))
    sizes = Counter(f"{r.size[0]}×{r.size[1]}" for r in reports if r.size)
    result = {
        "dataset": dataset.name,
        "title": dataset.title,
        "split": split,
        "root": str(root),
        "split_rule": listing.rule,
        "images": len(images),
        "published": published,
        "sizes": dict(sizes.most_common()),
        "faults": [fault._asdict() for fault in faults],
        "notes": notes,
        "single_class": single,
        **shares,
    }
    sound = [pair for pair, report in zip(pairs, reports, strict=True) if not report.faults]
    _draw(dataset, result, sound, out / f"{dataset.name}_{split}")
    return result


def check_photographs(folder: Path, workers: int, out: Path) -> dict[str, Any]:
    """Check the images of a folder without labels; return its part of the report."""
    paths = find_photographs(folder)
    reports = list(in_processes(inspect_image, paths, workers, f"check of {folder}"))
    faults = [fault for own, _ in reports for fault in own]
    sizes = Counter(f"{size[0]}×{size[1]}" for _, size in reports if size)
    sound = [path for path, (own, _) in zip(paths, reports, strict=True) if not own]
    if sound:
        chosen = random.Random(0).sample(sound, min(SAMPLES, len(sound)))
        photograph_sheet(chosen).save(out / f"{folder.resolve().name}_samples.png")
    return {
        "dataset": str(folder),
        "images": len(paths),
        "sizes": dict(sizes.most_common()),
        "faults": [fault._asdict() for fault in faults],
        "notes": [],
    }


def _class_shares(dataset: type[SegmentationDataset], reports: list[PairReport]) -> dict[str, Any]:
    """Return the classes' shares of the labelled pixels, in how many images they are, and void's
    share of all pixels."""
    table = lookup_table(dataset.label_maps[dataset.label_space.name])
    pixels, images = np.zeros(256), np.zeros(256, dtype=int)
    for report in reports:
        if report.counts is not None:
            counts = np.bincount(table, report.counts, minlength=256)
            pixels += counts
            images += counts > 0
    classes = dataset.label_space.classes
    labelled = max(pixels.sum() - pixels[VOID], 1)
    return {
        "class_share": {name: pixels[i] / labelled for i, name in enumerate(classes)},
        "class_images": {name: int(images[i]) for i, name in enumerate(classes)},
        "void_share": pixels[VOID] / max(pixels.sum(), 1),
    }


def _draw(
    dataset: type[SegmentationDataset],
    result: dict[str, Any],
    pairs: list[tuple[Path, Path]],
    stem: Path,
) -> None:
    """Write the chart of the classes, where matplotlib is, and the contact sheet of a split."""
    if can_draw("a chart of the classes"):
        shares = np.array(list(result["class_share"].values()))
        title = f"{dataset.title} {result['split']}, {result['images']} images"
        save_figure(class_chart(title, dataset.label_space, shares), Path(f"{stem}_classes.png"))
    if pairs:
        chosen = random.Random(0).sample(pairs, min(SAMPLES, len(pairs)))
        sample_sheet(dataset, chosen).save(f"{stem}_samples.png")


def split_summary(result: dict[str, Any]) -> str:
    """Return what was found in a split, for the screen."""
    if "split" in result:
        lines = [
            f"{result['title']} {result['split']}: {result['images']} images in "
            f"{result['root']}, split by {result['split_rule']}"
        ]
    else:
        lines = [f"{result['dataset']}: {result['images']} photographs without labels"]
    if sizes := [f"{size} ({count})" for size, count in result["sizes"].items()]:
        lines.append(f"  sizes: {', '.join(sizes[:4])}{', …' if len(sizes) > 4 else ''}")
    if sizes and "split" in result:
        lines.append(f"  {'class':<20}{'pixels':>9}{'images':>9}")
        for name, share in result["class_share"].items():
            count = result["class_images"][name]
            lines.append(f"  {name:<20}{100 * share:>7.3f} %{count:>8}")
        lines.append(f"  {'void':<20}{100 * result['void_share']:>7.3f} % of all pixels")
    found = [f"  FAULT {f['kind']}: {f['file']} {f['text']}" for f in result["faults"]]
    found += [f"  note: {note}" for note in result["notes"]]
    lines += found[:ON_SCREEN]
    if len(found) > ON_SCREEN:
        lines.append(f"  … and {len(found) - ON_SCREEN} more in report.json")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the check; exits with 1 if there are faults."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.check",
        usage="%(prog)s NAME[:SPLIT] … [--out DIR] [KEY VALUE …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the report, else LOG.DIR/check")
    options, names, settings = parse_words(parser, arguments)
    cfg = load_settings(settings)
    out = Path(options.out or Path(cfg.LOG.DIR) / "check")
    wanted: list[Callable[[], dict[str, Any]]] = []
    for text in names:
        if Path(text).is_dir() and text not in DATASETS:
            wanted.append(partial(check_photographs, Path(text), cfg.WORKERS, out))
            continue
        name, split = parse_domain(text, "")
        dataset = dataset_class(name)
        if split and split not in dataset.splits:
            raise unknown_name(f"split of {dataset.title}", split, dataset.splits)
        root = dataset.find_root(cfg)
        wanted += [
            partial(check_split, dataset, root, part, cfg.WORKERS, out)
            for part in ([split] if split else dataset.splits)
        ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        results = []
        for check in wanted:
            results.append(check())
            print(split_summary(results[-1]), flush=True)
        report = json.dumps(results, indent=1, ensure_ascii=False)
        (out / "report.json").write_text(report + "\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"cannot write the report to {out}: {error}") from None
    faults, notes = (sum(len(each[kind]) for each in results) for kind in ("faults", "notes"))
    print(f"{faults or 'no'} faults, {notes} notes; report and pictures: {out}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    run_script(main)
