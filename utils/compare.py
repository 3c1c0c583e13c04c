"""Compare runs in one table, as papers have it, and in a picture of the same scenes.

    python -m utils.compare logs/demo_* [--format latex] [--out FILE] [--picture FILE.png]
    python -m utils.compare logs/demo_* --classes cityscapes --baseline baseline

Runs that differ in their seed alone are one row, mean ± standard deviation. A run is an experiment
folder, a folder of valid.py's results, a folder that holds several of them, or a results.json.
Numbers that were measured in different ways are refused, not put side by side.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from easydict import EasyDict

from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace, coarsening
from network.methods import Method
from transforms import denormalise
from utils.checkpoint import build_method, load_checkpoint, resolve
from utils.distributed import Runtime, runtime
from utils.errors import UserError, run_script
from utils.evaluation import open_domain, predict_batch
from utils.paper_table import (
    CLASS_MEASURES,
    FORMATS,
    Groups,
    class_table,
    domain_table,
    domain_titles,
)
from utils.pictures import colourise, sheet
from utils.runs import group_runs, plain_name


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
    groups = group_runs(options.runs, options.names)
    if options.classes:
        measure = options.measure or "iou"
        table = class_table(groups, plain_name(options.classes), measure, options.baseline)
    else:
        table = domain_table(groups, options.measure or "mIoU", options.baseline)
    text = FORMATS[options.format](table)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")
    if options.picture:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        draw(groups, options.picture)


def draw(groups: Groups, path: Path) -> None:
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
            judged = dataset.label_space
            if domain not in columns:
                label = colourise(sample["label"], judged)
                columns[domain] = [denormalise(sample["image"]), label]
            columns[domain].append(colourise(network.predict(sample, judged), judged))
    rows = [(titles[domain], pictures) for domain, pictures in columns.items()]
    page = sheet(rows, ["image", "label", *groups], cell=(320, 170))
    page.save(path)
    print(f"picture: {path}")


class Network(NamedTuple):
    """The network that results are of, and how they were made."""

    method: Method
    space: LabelSpace
    cfg: EasyDict
    here: Runtime

    def open(self, domain: str) -> SegmentationDataset:
        """Open a domain that it was judged on."""
        return open_domain(domain, self.cfg, self.space)

    @torch.no_grad()
    def predict(self, sample: dict[str, Any], judged: LabelSpace) -> torch.Tensor:
        """Return the train ids uint8 `[h, w]`, in the space `judged`, of a sample at its label's
        size, on the CPU."""
        size = sample["label"].shape
        labels = predict_batch(self.method, sample["image"][None], size, self.cfg, self.here)[0]
        return torch.from_numpy(coarsening(self.space, judged))[labels.cpu().long()]


def open_network(source: Path, results: dict[str, Any]) -> Network:
    """Return the network of a results.json; UserError where its checkpoint is not found."""
    state = load_checkpoint(find_checkpoint(source, results))
    cfg = resolve(state["settings"] | results["settings"])
    method, space = build_method(cfg, state)
    with runtime(cfg) as here:
        method.to(here.device, memory_format=here.memory_format).eval()
    return Network(method, space, cfg, here)


def find_checkpoint(source: Path, results: dict) -> Path:
    """Return the checkpoint of a results.json: beside it, or beside the folder it lies in."""
    name = results.get("checkpoint", "last.pth")
    candidates = [source.parent / name, source.parent.parent / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"the picture needs the checkpoint of {source}, and there is no "
        + " or ".join(map(str, candidates))
    )


if __name__ == "__main__":
    run_script(main)
