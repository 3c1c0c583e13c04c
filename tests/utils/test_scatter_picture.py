"""Points stand where their numbers say, each group in its colour, and nothing is cut off."""

import numpy as np
import pytest
from PIL import Image

from utils.draw.plotting import save_figure
from utils.draw.scatter import PanelRow, PointGroup, scatter_picture

RED, BLUE = (200, 0, 0), "#0000c8"


@pytest.mark.parametrize("marker", ["o", "^", "*"])
def test_points_stand_where_their_numbers_say(marker):
    groups = [
        PointGroup("a", np.array([[1.0, 2.0], [1.5, 3.0]]), RED, marker),
        PointGroup("b", np.array([[3.0, 6.0]]), BLUE, marker),
    ]
    figure = scatter_picture([PanelRow({"both": groups}, ("first", "second"))], "title", "note")
    (axes,) = figure.axes
    (points,) = axes.collections
    found = {}
    for place, colour in zip(points.get_offsets().data, points.get_facecolors(), strict=True):
        found.setdefault(tuple(np.rint(255 * colour[:3]).astype(int)), []).append(tuple(place))
    assert {c: sorted(places) for c, places in found.items()} == {
        (200, 0, 0): [(1, 2), (1.5, 3)], (0, 0, 200): [(3, 6)]
    }  # fmt: skip
    # The range of both axes is that of the points and a tenth more.
    np.testing.assert_allclose(axes.get_xlim(), [2 - 1.1, 2 + 1.1])
    np.testing.assert_allclose(axes.get_ylim(), [4 - 2.2, 4 + 2.2])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("first", "second")


def test_a_row_shares_its_range_and_the_legend_names_a_group_once():
    groups = [[PointGroup("same", np.array([[x, 0.0], [0, 1]]), RED)] for x in (1.0, 9.0, 100.0)]
    rows = [
        PanelRow({"one": groups[0], "two": groups[1]}, ("x", "y")),
        PanelRow({"three": groups[2]}, ("x", "y"), numbers=False),
    ]
    figure = scatter_picture(rows, "title")
    one, two, three = figure.axes
    assert one.get_xlim() == two.get_xlim() != three.get_xlim()
    assert len(one.get_xticks()) > 2 and len(three.get_xticks()) == 0
    assert [text.get_text() for text in figure.legends[0].texts] == ["same"]


def test_stars_are_in_front_of_all_other_points():
    points = np.zeros((1, 2))
    groups = [PointGroup(marker, points, RED, marker) for marker in "*o^"]
    figure = scatter_picture([PanelRow({"": groups}, ("x", "y"))], "")
    *others, stars = sorted(figure.axes[0].collections, key=lambda own: own.get_zorder())
    assert len(others) == 2 and stars.get_sizes()[0] > max(o.get_sizes()[0] for o in others)


@pytest.mark.parametrize("numbers", [True, False])
def test_nothing_is_cut_off(numbers, tmp_path):
    names = ["a", "a legend entry that is rather long for a legend"] * 2
    points = np.random.default_rng(0).normal(size=(30, 2)) * [1e4, 1e-3]
    rows = [
        PanelRow({f"panel {p}": [PointGroup(n, points + p, RED) for n in names] for p in range(k)},
                 ("principal component 1 (53 % of variance)", "principal component 2"), numbers)
        for k in (2, 1)
    ]  # fmt: skip
    save_figure(scatter_picture(rows, "a title " * 30, "a note " * 40), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()


def test_equal_points_and_no_points():
    groups = [
        PointGroup("same", np.full((4, 2), 0.3), RED),
        PointGroup("none", np.empty((0, 2)), BLUE),
    ]
    (axes,) = scatter_picture([PanelRow({"": groups}, ("x", "y"))], "").axes
    low, high = axes.get_xlim()
    # Equal up to rounding is one point in the middle.
    assert (low + high) / 2 == pytest.approx(0.3) and high - low > 1e-4
