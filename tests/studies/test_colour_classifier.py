"""The classifier of single pixels by their colour, on images whose labels are known."""

import pytest
import torch

from studies import colour_classifier
from utils.labels import VOID


class Images(list):
    """Samples with two classes."""

    label_space = ("road", "sky")


@pytest.mark.parametrize("told_by_colour, score", [(True, 1.0), (False, 0.25)])
def test_it_knows_what_colour_tells(monkeypatch, told_by_colour, score):
    """Class 1 is blue and rare, or both classes are grey: then one is named everywhere."""
    label = torch.zeros(8, 8, dtype=torch.long)
    label[:2, :4] = 1
    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    if told_by_colour:
        image[2][label == 1] = 255
    train = label.clone()
    train[7] = VOID
    val = torch.arange(64).reshape(8, 8) % 2 if not told_by_colour else label
    data = {"train": Images([{"image": image, "label": train}]),
            "val": Images([{"image": image, "label": val}])}  # fmt: skip
    monkeypatch.setattr(colour_classifier, "build_dataset", lambda name, split, cfg: data[split])
    assert colour_classifier.colour_classifier("gtav", "data") == pytest.approx(score)


def test_colours_are_told_apart_by_steps_of_sixteen():
    image = torch.tensor([[[0, 15, 16, 255]], [[0, 15, 0, 255]], [[0, 15, 0, 255]]])
    assert colour_classifier.colours(image.byte()).tolist() == [[0, 0, 256, 4095]]
