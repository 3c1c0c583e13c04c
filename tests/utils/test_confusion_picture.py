"""What is painted where in the picture of a confusion matrix."""

import numpy as np
import pytest

from utils.draw.confusion import CELL, EMPTY, FULL, confusion_picture


def cells(counts, names):
    """The colour inside each cell's upper left corner, `[K, K, 3]`, where the lines of the grid
    are found in the picture."""
    picture = np.asarray(confusion_picture(counts, names, "title").convert("RGB"))
    number = len(counts)
    grid = (picture == np.array([205, 205, 205])).all(2)
    left = int(np.argmax(grid.sum(0) >= CELL * number - number))
    top = int(np.argmax(grid[:, left]))
    corners = CELL * np.arange(number) + 5
    return picture[(top + corners)[:, None], (left + corners)[None]]


def test_a_cell_has_the_colour_of_its_share_of_the_row():
    counts = np.array([[6, 2, 0], [0, 0, 10], [3, 3, 6]])
    painted = cells(counts, ("road", "sky", "a name as long as this"))
    shares = counts / counts.sum(1, keepdims=True)
    expected = 255 + shares[..., None] * (FULL - 255)
    assert np.abs(painted - expected).max() <= 0.5


def test_a_class_without_pixels_is_told_from_one_that_is_never_hit():
    counts = np.array([[8, 1, 1], [0, 0, 0], [5, 5, 0]])
    painted = cells(counts, ("a", "b", "c"))
    assert (painted[1] == EMPTY).all()
    assert (painted[2, 2] == 255).all()


@pytest.mark.parametrize("number", [1, 2, 19])
def test_nothing_is_cut_off(number):
    """All edges are white, also where the title is wider than the matrix."""
    counts = np.full((number, number), 7)
    names = [f"class number {i}" for i in range(number)]
    picture = confusion_picture(counts, names, "a title that says a lot about all of this " * 2)
    pixels = np.asarray(picture)
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 255).all() for edge in edges)
    assert picture.width >= CELL * number and picture.height >= CELL * number
    blank = confusion_picture(np.zeros_like(counts), names, "")
    assert (np.asarray(blank.crop((0, 0, 100, 40))) == 255).all()
