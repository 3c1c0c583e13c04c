"""Make visible what SRM does: the same operation on the image itself, for several α.

    python -m utils.restyling_picture gtav cityscapes --out restyled.png [--images 1]
        [--alphas 0.0039,0.0156,0.25,1] [--seed 0] [KEY VALUE …]

SRM acts on layer 0's features; on an image the style of a region is the mean and deviation of its
colours. Columns of one row draw the same random numbers, so they differ by α alone.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from datasets import build_dataset, load_settings, parse_domain
from datasets.commands import parse_words
from network.regions.rearrangement import SemanticRearrangement
from transforms import EvalTransform, denormalise
from utils.draw.pictures import colourise, require_picture, save_picture, sheet
from utils.errors import UserError, run_script
from utils.seeding import stable_seed

ALPHAS = (2**-8, 2**-6, 2**-2, 1.0)
WIDTH = 320  # pixels of a picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Open the datasets, restyle images of each, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="picture to write, *.png")
    parser.add_argument("--images", type=int, default=1, help="rows of each dataset")
    parser.add_argument(
        "--alphas", type=_numbers, default=ALPHAS, metavar="α,α,…", help="default: 2⁻⁸, 2⁻⁶, 2⁻², 1"
    )
    parser.add_argument("--seed", type=int, default=0)
    options, names, overrides = parse_words(parser, arguments)
    if min(options.alphas) <= 0:
        raise UserError(f"--alphas {min(options.alphas):g}: a concentration is above 0")
    require_picture(options.out)
    cfg = load_settings(overrides)
    rows = []
    for domain in names:
        name, split = parse_domain(domain)
        dataset = build_dataset(name, split, cfg, transform=EvalTransform("native", name))
        number = min(options.images, len(dataset))
        for i in range(number):
            index = (2 * i + 1) * len(dataset) // (2 * number)
            sample, space = dataset[index], dataset.label_space
            image, label = sample["image"], sample["label"]
            pictures = [denormalise(image), colourise(label, space)]
            for alpha in options.alphas:
                seed = stable_seed("restyling", options.seed, domain, index)
                restyled = restyle_image(image, label, len(space), alpha, seed)
                pictures.append(denormalise(restyled))
            rows.append((dataset.title, pictures))
    titles = ["image", "regions", *(f"alpha = {_ascii(alpha)}" for alpha in options.alphas)]
    tallest = max(picture.shape[1] / picture.shape[2] for _, (picture, *_) in rows)
    page = sheet(rows, titles, (WIDTH, round(WIDTH * tallest)))
    save_picture(page, options.out)
    print(f"picture: {options.out}")


def _ascii(alpha: float) -> str:
    """Show α in letters that Pillow's own font has."""
    exponent = math.log2(alpha)
    return f"2^{exponent:.0f}" if exponent.is_integer() and exponent < -2 else f"{alpha:g}"


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def restyle_image(image: Tensor, label: Tensor, classes: int, alpha: float, seed: int) -> Tensor:
    """Give the regions of a normalised image `[3, H, W]` the colour statistics of one another.

    `label` holds train ids `[H, W]`; α and the mixing are those of SRM. Deterministic in `seed`.
    """
    rearrangement = SemanticRearrangement(classes, alpha)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return rearrangement(image[None], label[None].long())[0]


if __name__ == "__main__":
    run_script(main)
