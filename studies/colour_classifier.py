"""Is the colour of a pixel a short cut? A classifier of single pixels on each drawn domain.

    python -m studies.colour_classifier --data data/miniature

It names the most frequent class of each of 16³ colours on a domain's training split. Prints its
mIoU on the validation split, to stand beside studies/gap.json.
"""

import argparse

import torch

from benchmarks.reporting import markdown_table
from datasets import build_dataset, load_settings
from utils.errors import run_script
from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures

DOMAINS = ("gtav", "synthia", "cityscapes", "bdd100k", "mapillary")
LEVELS = 16  # of each colour channel


def main() -> None:
    """Fit a classifier for each domain and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="root of the miniature benchmark")
    data = parser.parse_args().data
    rows = [[domain, f"{100 * colour_classifier(domain, data):.1f}"] for domain in DOMAINS]
    print(markdown_table(["domain", "mIoU of colour alone, %"], rows))


def colour_classifier(domain: str, data: str) -> float:
    """Fit on train, return the mIoU on val.

    Classes are weighted by their inverse frequency, or rare ones would never be predicted.
    """
    cfg = load_settings({"DATASET.ROOT": data})
    train, val = (build_dataset(domain, split, cfg) for split in ("train", "val"))
    number = len(train.label_space)
    histogram = torch.zeros(LEVELS**3, number, dtype=torch.float64)
    for sample in train:
        valid = sample["label"] < number
        places = colours(sample["image"])[valid], sample["label"][valid].long()
        histogram.index_put_(places, torch.ones((), dtype=torch.float64), accumulate=True)
    best = (histogram / histogram.sum(0).clamp(min=1)).argmax(1)
    confusion = ConfusionMatrix(number, torch.device("cpu"))
    for sample in val:
        confusion.update(best[colours(sample["image"])], sample["label"])
    return mean_iou(measures(confusion.counts.numpy())["iou"])


def colours(image: torch.Tensor) -> torch.Tensor:
    """Number the colour of each pixel of a uint8 `[3, H, W]` on a grid of 16³: int64 `[H, W]`."""
    red, green, blue = image.long() * LEVELS // 256
    return (red * LEVELS + green) * LEVELS + blue


if __name__ == "__main__":
    run_script(main)
