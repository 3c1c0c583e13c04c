"""Compare runs in one table, as papers have it, and in a picture of the same scenes.

    python -m utils.compare logs/demo_* [--format latex] [--out FILE]
    python -m utils.compare logs/demo_* --picture FILE.png [DATASET.ROOT path]
    python -m utils.compare logs/demo_* --classes cityscapes --baseline baseline

Runs that differ in their seed alone are one row, mean ± standard deviation. A run is an experiment
folder, a folder of valid.py's results, a folder that holds several of them, or a results.json.
Numbers that were measured in different ways are refused, not put side by side.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from datasets.dataset import SegmentationDataset
from transforms import denormalise
from utils.compare.networks import GIVEN, PLACES, open_network
from utils.compare.paper_table import (
    CLASS_MEASURES,
    FORMATS,
    Groups,
    class_table,
    domain_table,
    domain_titles,
)
from utils.compare.runs import group_runs, plain_name
from utils.draw.pictures import class_colours, colourise, require_picture, save_picture, sheet
from utils.engine.folder import require_writable
from utils.engine.saving import write_atomically
from utils.errors import run_script
from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures
from utils.settings import split


def main() -> None:
    """Read the runs, print and write the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=GIVEN)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="experiment folders, folders of results, results.json"
    )
    parser.add_argument("--names", nargs="+", help="names of the rows, in order")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="default: markdown")
    parser.add_argument(
        "--measure",
        metavar="NAME",
        help="mIoU (default), another mean of the results, pixel_accuracy or fw_iou; with "
        f"--classes {', '.join(CLASS_MEASURES)}",
    )
    parser.add_argument("--classes", metavar="DOMAIN", help="a column for each class of a domain")
    parser.add_argument("--baseline", metavar="ROW", help="add the gain over this row")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--picture", type=Path, help="draw predictions of one run per row")
    options, places = split(parser, allowed=PLACES)
    if options.out:
        require_writable(options.out)
    if options.picture:
        require_picture(options.picture)
    groups = group_runs(options.runs, options.names)
    if options.classes:
        measure = options.measure or "iou"
        table = class_table(groups, plain_name(options.classes), measure, options.baseline)
    else:
        table = domain_table(groups, options.measure or "mIoU", options.baseline)
    text = FORMATS[options.format](table)
    print(text)
    if options.out:
        write_atomically(options.out, f"{text}\n".encode(), "The table is printed above")
    if options.picture:
        draw_predictions(groups, options.picture, places)


def draw_predictions(groups: Groups, path: Path, places: Mapping[str, Any]) -> None:
    """Draw image, label and each group's prediction (its first run) for each domain, with the mIoU
    of each.

    Predictions are made as the results were. UserError where a run's checkpoint is not found.
    """
    columns: dict[str, list[torch.Tensor]] = {}
    captions: dict[str, list[str]] = {}
    keys: dict[str, dict] = {}
    titles = domain_titles([next(iter(groups.values()))[0][1]])
    for runs in groups.values():
        network = open_network(*runs[0], places)
        for domain in titles:
            dataset = network.open(domain)
            sample = dataset[len(dataset) // 2]
            evaluated = dataset.label_space
            if domain not in columns:
                label = colourise(sample["label"], evaluated)
                columns[domain] = [denormalise(sample["image"]), label]
                captions[domain] = ["", ""]
                keys[evaluated.name] = class_colours(evaluated)
            prediction = network.predict(sample, evaluated)
            columns[domain].append(colourise(prediction, evaluated))
            captions[domain].append(score_text(prediction, sample["label"], dataset))
    rows = [(titles[domain], pictures) for domain, pictures in columns.items()]
    headings = ["image", "label", *groups]
    page = sheet(rows, headings, (320, 170), list(captions.values()), list(keys.values()))
    save_picture(page, path)
    print(f"picture: {path}")


def score_text(prediction: torch.Tensor, label: torch.Tensor, dataset: SegmentationDataset) -> str:
    """Show the mIoU of a single prediction, over the classes that it or its label has."""
    counts = ConfusionMatrix(len(dataset.label_space), torch.device("cpu"))
    counts.update(prediction, label)
    score = mean_iou(measures(counts.counts.numpy())["iou"], dataset.means["mIoU"])
    return "mIoU -" if score != score else f"mIoU {100 * score:.1f} %"


if __name__ == "__main__":
    run_script(main)
