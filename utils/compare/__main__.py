"""Compare runs in one table, as papers have it, and in a picture of the same scenes.

    python -m utils.compare logs/demo_* [--format latex] [--out FILE] [--picture FILE.png]
    python -m utils.compare logs/demo_* --classes cityscapes --baseline baseline

Runs that differ in their seed alone are one row, mean ± standard deviation. A run is an experiment
folder, a folder of valid.py's results, a folder that holds several of them, or a results.json.
Numbers that were measured in different ways are refused, not put side by side.
"""

import argparse
from pathlib import Path

import torch

from transforms import denormalise
from utils.compare.networks import open_network
from utils.compare.paper_table import (
    CLASS_MEASURES,
    FORMATS,
    Groups,
    class_table,
    domain_table,
    domain_titles,
)
from utils.compare.runs import group_runs, plain_name
from utils.draw.pictures import colourise, sheet
from utils.engine.folder import require_writable
from utils.errors import run_script


def main() -> None:
    """Read the runs, print and write the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
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
    options = parser.parse_args()
    for path in filter(None, (options.out, options.picture)):
        require_writable(path)
    groups = group_runs(options.runs, options.names)
    if options.classes:
        measure = options.measure or "iou"
        table = class_table(groups, plain_name(options.classes), measure, options.baseline)
    else:
        table = domain_table(groups, options.measure or "mIoU", options.baseline)
    text = FORMATS[options.format](table)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    if options.picture:
        draw_predictions(groups, options.picture)


def draw_predictions(groups: Groups, path: Path) -> None:
    """Draw image, label and each group's prediction (its first run) for each domain.

    Predictions are made as the results were. UserError where a run's checkpoint is not found.
    """
    columns: dict[str, list[torch.Tensor]] = {}
    titles = domain_titles([next(iter(groups.values()))[0][1]])
    for runs in groups.values():
        network = open_network(*runs[0])
        for domain in titles:
            dataset = network.open(domain)
            sample = dataset[len(dataset) // 2]
            evaluated = dataset.label_space
            if domain not in columns:
                label = colourise(sample["label"], evaluated)
                columns[domain] = [denormalise(sample["image"]), label]
            columns[domain].append(colourise(network.predict(sample, evaluated), evaluated))
    rows = [(titles[domain], pictures) for domain, pictures in columns.items()]
    page = sheet(rows, ["image", "label", *groups], cell=(320, 170))
    page.save(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    run_script(main)
