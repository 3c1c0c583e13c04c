"""Is the miniature benchmark a benchmark? Three figures for each of its domains.

    python -m studies.miniature_gap --data data/miniature [--out benchmarks/results]

Learnable: the baseline trained on a domain's own training split does well there. Gap: the same
network trained on GTAV does worse there. No short cut: a classifier of single pixels by their
colour does poorly even on its own domain. Prints a Markdown table and writes it with machine and
versions as JSON. About fifteen minutes on two CPU cores; finished runs are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.reporting import save
from datasets import build_dataset, load_settings
from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures

DOMAINS = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary"]
# The network of scripts/demo.sh with twice its schedule: a domain has 120 to 240 images.
RECIPE = (
    "--method baseline --trunk resnet_mini TRUNK.WEIGHTS objects DECODER.CHANNELS 64 "
    "DECODER.LOW_LEVEL_CHANNELS 24 DECODER.AUX_CHANNELS 64 TRANSFORM.CROP_SIZE 128,224 "
    "TRANSFORM.SCALE 0.75,1.5 TRANSFORM.BLUR_SIGMA 0.1,0.6 DATASET.CLASS_UNIFORM_TILE 128 "
    "TRAIN.BATCH_SIZE 4 TRAIN.MAX_ITER 2000 TRAIN.LR_ENCODER 0.03 TRAIN.LR_DECODER 0.06 "
    "VALID.PROTOCOL native WORKERS 1"
).split()
LEVELS = 16  # of each colour channel in the pixel classifier


def main() -> None:
    """Train a baseline per domain, fit the colour classifiers, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="root of the miniature benchmark")
    parser.add_argument("--logs", type=Path, default=Path("logs/miniature_gap"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    # Two at a time, each on half of the cores, as in the demo.
    with ThreadPoolExecutor(2) as pool:
        work = pool.map(partial(train_on, data=options.data, logs=options.logs), DOMAINS)
        trained = dict(zip(DOMAINS, work, strict=True))
    colours = {domain: colour_classifier(domain, options.data) for domain in DOMAINS}
    rows = []
    for domain in DOMAINS:
        own, source = trained[domain][domain], trained["gtav"][domain]
        rows.append([domain, *(f"{100 * v:.1f}" for v in (own, source, colours[domain]))])
    header = ["mIoU, %", "trained on it", "trained on GTAV", "colour alone, trained on it"]
    lines = [header, ["---"] * 4, *rows]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    figures = {"recipe": " ".join(RECIPE), "trained_on": trained, "colour_classifier": colours}
    save(options.out, "miniature_gap", figures)


def train_on(source: str, data: str, logs: Path) -> dict[str, float]:
    """Train the baseline on `source`; return its mIoU on each domain."""
    results = logs / source / "results.json"
    if not results.is_file():
        command = [sys.executable, "train.py", "--dataset", source, "--val_dataset", *DOMAINS]
        command += ["--exp", source, *RECIPE, "LOG.DIR", str(logs), "DATASET.ROOT", data]
        threads = str(max(1, (os.cpu_count() or 2) // 2))
        environment = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        environment["TQDM_POSITION"] = str(DOMAINS.index(source) % 2)
        logs.mkdir(parents=True, exist_ok=True)
        with open(logs / f"{source}.txt", "w") as log:
            subprocess.run(command, check=True, stdout=log, env=os.environ | environment)
    domains = json.loads(results.read_text())["domains"]
    return {domain: domains[domain]["means"]["mIoU"] for domain in DOMAINS}


def colour_classifier(domain: str, data: str) -> float:
    """Fit the most frequent class of each of 16³ colours on train; return its mIoU on val.

    Classes are weighted by their inverse frequency, or rare ones would never be predicted.
    """
    cfg = load_settings({"DATASET.ROOT": data})
    train, val = (build_dataset(domain, split, cfg) for split in ("train", "val"))
    number = len(train.label_space)
    histogram = np.zeros((LEVELS**3, number))
    for sample in train:
        valid = sample["label"] < number
        cells = colour_cells(sample["image"])[valid] * number + sample["label"][valid]
        histogram += np.bincount(cells, minlength=histogram.size).reshape(histogram.shape)
    best = torch.from_numpy((histogram / histogram.sum(0).clip(1)).argmax(1))
    confusion = ConfusionMatrix(number, torch.device("cpu"))
    for sample in val:
        confusion.update(best[colour_cells(sample["image"])], sample["label"])
    return mean_iou(measures(confusion.counts.numpy())["iou"])


def colour_cells(image: torch.Tensor) -> torch.Tensor:
    """Number the colour of each pixel of a uint8 `[3, H, W]` on a grid of 16³: int64 `[H, W]`."""
    red, green, blue = image.long() * LEVELS // 256
    return (red * LEVELS + green) * LEVELS + blue


if __name__ == "__main__":
    main()
