"""How right pseudo-labels are while a method of the self-training family trains.

    python -m studies.pseudo_labels --labelled studies/datasets/labelled_pseudo_target.json
        [--every 200] [--images 48] -- arguments of train.py …

Trains as train.py does, to the last bit, and every so many steps lets the teacher label images of
the target, whole and at their own size, whose labels the training never sees. Prints a table, and
writes pseudo_labels.json into the experiment's folder: the share of right pseudo-labels, that of
confident pixels (q), and the share of right ones among these.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

import train
from benchmarks.reporting import markdown_table
from datasets import build_dataset, label_space
from network.methods.self_training import SelfTraining
from network.self_training.mixing import pseudo_labels
from transforms import EvalTransform
from utils.errors import UserError, run_script
from utils.labels import VOID

BATCH = 4  # the teacher's batch norms see so many images at once


def main() -> None:
    """Train, measure and write."""
    if "--" not in sys.argv:
        raise UserError("the arguments of train.py follow behind --")
    own, words = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labelled", required=True, help="the target's images with labels")
    parser.add_argument("--every", type=int, default=200, help="steps; default: 200")
    parser.add_argument("--images", type=int, default=48, help="default: 48")
    options = parser.parse_args(own)
    found: list[dict[str, float]] = []
    update = SelfTraining.after_step

    def after_step(method: SelfTraining, step: int) -> None:
        update(method, step)
        if (step + 1) % options.every == 0:
            measured = {"step": step + 1, **measure(method, options.labelled, options.images)}
            file = Path(method.cfg.LOG.DIR, method.cfg.EXPERIMENT, "pseudo_labels.json")
            earlier = json.loads(file.read_text()) if file.is_file() else []
            found[:] = [row for row in earlier if row["step"] <= step] + [measured]
            file.write_text(json.dumps(found, indent=1) + "\n")

    SelfTraining.after_step = after_step
    sys.argv = ["train.py", *words]
    try:
        train.main()
    finally:
        SelfTraining.after_step = update
    rows = [[str(r["step"]), *(f"{100 * v:.1f}" for v in list(r.values())[1:])] for r in found]
    print(
        "\n" + markdown_table(["step", "right, %", "confident (q), %", "right of these, %"], rows)
    )


@torch.no_grad()
def measure(method: SelfTraining, labelled: str, images: int) -> dict[str, float]:
    """Return the shares of right and of confident pseudo-labels, and of right ones among these."""
    cfg, device = method.cfg, next(method.parameters()).device
    space = label_space(cfg.DATASET.LABEL_SPACE)
    dataset = build_dataset(labelled, "train", cfg, label_space=space, transform=EvalTransform())
    number = min(images, len(dataset))
    sums = torch.zeros(4, dtype=torch.float64)
    for sample in DataLoader(Subset(dataset, range(number)), BATCH, drop_last=number > BATCH):
        sums += shares(method, sample["image"].to(device), sample["label"].to(device)).cpu()
    pixels, right, confident, both = sums.tolist()
    accuracy, share = right / pixels, confident / pixels
    return {"right": accuracy, "confident": share, "right_of_confident": both / max(confident, 1)}


def shares(method: SelfTraining, images: Tensor, labels: Tensor) -> Tensor:
    """Count labelled pixels, right ones, confident ones, and those that are both."""
    logits = method.view.predict(method.teacher.parts, images)
    found = pseudo_labels(logits, method.cfg.TEACHER.THRESHOLD).label
    confident = logits.float().softmax(1).amax(1) >= method.cfg.TEACHER.THRESHOLD
    valid, right = labels != VOID, found == labels
    counted: list[Any] = [valid, valid & right, valid & confident, valid & right & confident]
    return torch.stack([mask.sum(dtype=torch.float64) for mask in counted])


if __name__ == "__main__":
    run_script(main)
