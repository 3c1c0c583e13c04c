"""The sheet of pictures that compare draws."""

import numpy as np
import torch

from datasets.label_spaces import CITYSCAPES19
from utils.draw.pictures import class_colours, colourise, sheet


def test_a_sheet_has_scores_and_a_key_and_no_colours_between_classes():
    labels = torch.arange(19).repeat(40, 3)
    painted = colourise(labels, CITYSCAPES19)
    names = ["a\nb", "a name that is far too long for the width of its column " * 2]
    rows, key = [("domain", [painted, painted])], class_colours(CITYSCAPES19)
    bare = np.array(sheet(rows, names, (100, 60)))
    page = np.array(sheet(rows, names, (100, 60), [["", "mIoU 43.2 %"]], [key]))
    # Below a picture is its score, and below the pictures the key.
    assert page.shape[1] == bare.shape[1] and page.shape[0] > bare.shape[0] + 20
    shown = {tuple(colour) for colour in page.reshape(-1, 3)}
    assert shown >= set(key.values())
    coloured = {colour for colour in shown if len(set(colour)) > 1}
    assert coloured <= set(key.values())
