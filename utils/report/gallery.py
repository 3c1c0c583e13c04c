"""Where two methods disagree: image, label, both predictions and their difference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datasets.label_spaces import LabelSpace
from transforms import denormalise
from utils.compare.networks import Network, open_network
from utils.draw.pictures import Colour, colourise
from utils.labels import VOID

WIDTH = 512  # pixels of a picture
BOTH_WRONG = (50, 50, 50)  # where two predictions differ


class Disagreement(NamedTuple):
    """An image of a domain with its titled pictures, a photograph first, the share of labelled
    pixels on which two methods disagree, and the shares that the first and the second have right
    there."""

    name: str
    disagreement: float
    first_right: float
    second_right: float
    pictures: list[tuple[str, Image.Image]]


def scenes(
    domain: str,
    runs: dict[str, tuple[Path, dict[str, Any]]],
    colours: Sequence[Colour],
    images: int,
    show: int,
    places: Mapping[str, Any],
) -> tuple[list[Disagreement], LabelSpace]:
    """Return those `show` images of a domain on which two methods disagree most, and its classes.

    `runs` are two, by name, with their colours in difference maps; `images` are looked at, evenly
    spread over the domain (0: all). `places` are settings of `compare.networks.PLACES`. UserError
    without checkpoints or data.
    """
    networks = {name: open_network(*run, places) for name, run in runs.items()}
    dataset = next(iter(networks.values())).open(domain)
    number = min(images or len(dataset), len(dataset))
    chosen = [i * len(dataset) // number for i in range(number)]
    ranked = []
    for index in tqdm(chosen, desc=dataset.title, leave=False, disable=None):
        sample = dataset[index]
        shares = _shares(sample["label"], *_predictions(networks, sample, dataset.label_space))
        ranked.append((shares, index))
    ranked.sort(reverse=True)
    found = [
        _scene(
            dataset.image_paths[index].stem,
            shares,
            networks,
            colours,
            dataset[index],
            dataset.label_space,
        )
        for shares, index in ranked[:show]
    ]
    return found, dataset.label_space


def _predictions(
    networks: dict[str, Network], sample: dict[str, Any], space: LabelSpace
) -> list[Tensor]:
    return [network.predict(sample, space) for network in networks.values()]


def _shares(label: Tensor, first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """Return the shares of labelled pixels where predictions differ, and there the first is right,
    and the second."""
    differ = (label != VOID) & (first != second)
    labelled = max(1, int((label != VOID).sum()))
    parts = (differ, differ & (first == label), differ & (second == label))
    return tuple(int(part.sum()) / labelled for part in parts)


def difference(
    image: Tensor,
    label: Tensor,
    first: Tensor,
    second: Tensor,
    colours: Sequence[Colour],
) -> Tensor:
    """Paint where predictions differ by which is right, over a pale grey image: uint8 `[3, h, w]`.

    Where they agree, and where nothing is labelled, the image is seen.
    """
    grey = image.float().mean(0, keepdim=True).expand(3, -1, -1) * 0.5 + 127
    picture = grey.to(torch.uint8)
    differ = (label != VOID) & (first != second)
    kinds = (
        (colours[0], first == label),
        (colours[1], second == label),
        (BOTH_WRONG, (first != label) & (second != label)),
    )
    for colour, where in kinds:
        picture[:, differ & where] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return picture


def _scene(
    name: str,
    shares: tuple[float, float, float],
    networks: dict[str, Network],
    colours: Sequence[Colour],
    sample: dict[str, Any],
    space: LabelSpace,
) -> Disagreement:
    label = sample["label"]
    predictions = _predictions(networks, sample, space)
    image = denormalise(sample["image"])
    size = tuple(label.shape)
    shown = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0].byte()
    pictures = [("image", shown), ("label", colourise(label, space))]
    for run, prediction in zip(networks, predictions, strict=True):
        pictures.append((run, colourise(prediction, space)))
    pictures.append(("difference", difference(shown, label, *predictions, colours)))
    small = [(title, fitted(p, photograph=p is shown)) for title, p in pictures]
    return Disagreement(name, *shares, small)


def fitted(picture: Tensor, photograph: bool) -> Image.Image:
    """Return a picture uint8 `[3, h, w]` at most WIDTH wide; only photographs are smoothed."""
    page = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
    if page.width > WIDTH:
        way = Image.Resampling.LANCZOS if photograph else Image.Resampling.NEAREST
        page = page.resize((WIDTH, max(1, round(page.height * WIDTH / page.width))), way)
    return page
