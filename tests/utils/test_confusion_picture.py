"""The colours, texts and names in the picture of a confusion matrix."""

import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from tests.utils.results_of_runs import domain_result, run_result
from utils.draw.confusion import EMPTY, FULL, confusion_picture
from utils.draw.plotting import can_draw, save_figure
from utils.evaluate.results import write

pytestmark = pytest.mark.draws


def draw(counts, iou):
    """The axes of the picture, and the colour of each cell `[K, K, 3]`."""
    figure = confusion_picture(np.array(counts), iou, "title")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    colours = axes.collections[0].get_facecolors()[:, :3].reshape(len(iou), len(iou), 3)
    return axes, colours


def texts(axes):
    """Text by the column and row whose cell it is in, or beside."""
    return {
        tuple(np.floor(text.get_position()).astype(int)): text.get_text() for text in axes.texts
    }


def test_a_cell_has_the_colour_of_its_share_of_the_row():
    counts = np.array([[6, 2, 0], [0, 0, 10], [3, 3, 6]])
    axes, colours = draw(counts, {"road": 0.5, "sky": None, "a name as long as this": 0.25})
    shares = counts / counts.sum(1, keepdims=True)
    expected = 1 + shares[..., None] * (np.array(to_rgb(FULL)) - 1)
    np.testing.assert_allclose(colours, expected, atol=0.005)
    found = texts(axes)
    assert {at: found.get(at) for at in ((0, 0), (1, 0), (2, 0), (0, 1), (2, 1))} == {
        (0, 0): "75", (1, 0): "25", (2, 0): None, (0, 1): None, (2, 1): "100"
    }  # fmt: skip
    # Rows from top to bottom, with IoU and share of the pixels.
    assert axes.get_ylim() == (3, 0)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "road", "sky", "a name as long as this"
    ]  # fmt: skip
    assert [found[4, row] for row in range(3)] == ["50.0", "-", "25.0"]
    assert [found[6, row] for row in range(3)] == ["26.7", "33.3", "40.0"]


def test_a_class_without_pixels_is_told_from_one_that_is_never_hit():
    axes, colours = draw([[8, 1, 1], [0, 0, 0], [5, 5, 0]], dict.fromkeys("abc", 0.0))
    np.testing.assert_allclose(colours[1], np.tile(to_rgb(EMPTY), (3, 1)))
    np.testing.assert_allclose(colours[2, 2], 1, atol=0.005)
    assert texts(axes)[1, 1] == "no pixels"


@pytest.mark.parametrize("number", [1, 2, 19])
def test_nothing_is_cut_off(number, tmp_path):
    """All edges are white, also where the title is wider than the matrix."""
    iou = {f"class number {i}": 0.5 for i in range(number)}
    title = "a title that says a lot about all of this " * 2
    for counts in (np.full((number, number), 7), np.zeros((number, number), int)):
        save_figure(confusion_picture(counts, iou, title), tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        for edge in (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:]):
            assert (edge == 255).all()


def test_without_matplotlib_results_are_written_without_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    can_draw.cache_clear()
    result = domain_result("IDD", {"road": 0.5}, confusion=[[1]])
    results = run_result({"idd": result}) | {"mean_unseen": 0.5}
    for name in ("a", "b"):
        write(results, tmp_path / name)
        names = sorted(path.name for path in (tmp_path / name).iterdir())
        assert names == ["results.csv", "results.json", "results.txt"]
    can_draw.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert "confusion matrices" in line and "requirements-extra.txt" in line
