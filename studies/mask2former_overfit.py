"""Does SRHA with a Mask2Former decoder learn? It has to reproduce a handful of images.

    python -m studies.mask2former_overfit [--steps 500] [--images 4] [--methods baseline srha]

The middle of drawn GTAV streets, at twice its size (a pole is then wider than a pixel of a mask),
without augmentation, all of them in every step. Trunk, decoder and rates are those of
studies/decoders.json; everything else is what `train.py` runs. Prints mIoU on these images as it
grows and writes it as JSON; exits with 2 if a method ends below 90 %. About eight minutes of one
core.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from easydict import EasyDict

from benchmarks.reporting import markdown_table, save
from datasets.miniature import draw
from network.build import build_method, resolve
from network.inference import predict
from network.methods import Method
from studies.study_file import read_study
from transforms.normalisation import normalise
from utils.engine.allocator import keep_freed_memory
from utils.engine.optimization import (
    build_optimizer,
    clip_gradients,
    decay_at,
    rates_at,
    set_rates,
)
from utils.errors import UserError, run_script
from utils.evaluate.metrics import ConfusionMatrix, mean_iou, measures
from utils.recipes import read_recipe
from utils.seeding import stable_seed
from utils.settings import split

STUDIES = Path(__file__).parent
TARGET = 0.9  # mIoU
SIDE = 96  # pixels of a drawn image, which become twice as many


def main() -> None:
    """Train each method on the images; print and write its mIoU there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=["baseline", "srha"])
    parser.add_argument("--out", type=Path, default=STUDIES / "results")
    options, overrides = split(parser)
    keep_freed_memory()
    images, labels = street_corners(options.images)
    figures = {}
    for name in options.methods:
        own = overrides | {"TRAIN.MAX_ITER": options.steps, "METHOD": name}
        figures[name] = overfit(settings_of(own), images, labels)
    print(f"\nmIoU, %, on the {options.images} images that are trained\n")
    rows = [
        [str(step), *(f"{100 * found['mIoU'][step]:.1f}" for found in figures.values())]
        for step in figures[options.methods[0]]["mIoU"]
    ]
    print(markdown_table(["step", *figures], rows))
    shape = {"images": options.images, "size": list(images.shape[2:])}
    shape["classes"] = len(labels.unique()) - 1
    save(options.out, "mask2former_overfit", shape | figures)
    for name, found in figures.items():
        if found["mIoU"][options.steps] < TARGET:
            end = 100 * found["mIoU"][options.steps]
            raise UserError(f"{name} ends at {end:.1f} % mIoU, below {TARGET:.0%}")


def settings_of(overrides: dict[str, Any]) -> EasyDict:
    """Resolve the settings of studies/decoders.json with Mask2Former, `overrides` above them."""
    recipe = read_recipe(STUDIES / "recipes/miniature.json")
    own = {"DATASET.LABEL_SPACE": "cityscapes19"} | overrides
    conditions = read_study(STUDIES / "decoders.json", recipe, own).conditions
    return resolve(next(c.settings for c in conditions if c.variant == "Mask2Former"))


def street_corners(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalised images `[B, 3, S, S]` and labels `[B, S, S]` int64."""
    images, labels = [], []
    for index in range(number):
        image, label = draw("GTAV", "train", index)
        top, left = ((side - SIDE) // 2 for side in label.shape)
        part = slice(top, top + SIDE), slice(left, left + SIDE)
        images.append(torch.from_numpy(image[part]).permute(2, 0, 1).float() / 255)
        labels.append(torch.from_numpy(label[part].astype(np.int64)))
    large = F.interpolate(torch.stack(images), scale_factor=2.0, mode="bilinear")
    labels = torch.stack(labels).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return normalise(large), labels


def overfit(cfg: EasyDict, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Train as train.py does on these images alone; return mIoU on them by step, and the losses."""
    torch.manual_seed(cfg.SEED)
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    found: dict[str, Any] = {"mIoU": {}}
    begin = time.process_time()
    for step in range(cfg.TRAIN.MAX_ITER):
        method.train()
        torch.manual_seed(stable_seed("step", cfg.SEED, step, 0))
        set_rates(optimizer, rates_at(step, cfg), decay_at(step, cfg))
        losses = method({"image": images, "label": labels, "step": step})
        sum(losses.values()).backward()
        clip_gradients(method, cfg.TRAIN.CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step)
        if (step + 1) % 50 == 0 or step + 1 == cfg.TRAIN.MAX_ITER:
            found["mIoU"][step + 1] = mean_iou_on(method, images, labels)
            found["losses"] = {name: round(value.item(), 3) for name, value in losses.items()}
            print(f"{cfg.METHOD} {step + 1}: {found['mIoU'][step + 1]:.1%} {found['losses']}")
    return found | {"seconds of a core": time.process_time() - begin}


@torch.no_grad()
def mean_iou_on(method: Method, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mIoU on the images, in evaluation mode."""
    confusion = ConfusionMatrix(method.num_classes, images.device)
    confusion.update(predict(method.eval(), images, tuple(labels.shape[1:])), labels)
    return mean_iou(measures(confusion.counts.numpy())["iou"])


if __name__ == "__main__":
    run_script(main)
