"""Where points are painted, and that nothing is cut off."""

import numpy as np
import pytest

from utils.draw.scatter import SIDE, Panel, Row, Series, scatter_picture, ticks

RED, BLUE = (200, 0, 0), (0, 0, 200)


def centre(picture, colour):
    """The middle of the pixels near a colour, left of the legend, as (x, y)."""
    pixels = np.asarray(picture).astype(int)
    reddish = colour is RED
    strong, weak = (0, 2) if reddish else (2, 0)
    y, x = np.nonzero(pixels[..., strong] > pixels[..., weak] + 60)
    left = x < picture.width - 150
    return np.array([x[left].mean(), y[left].mean()])


@pytest.mark.parametrize("marker", ["disc", "triangle", "star"])
def test_points_stand_where_their_numbers_say(marker):
    series = [
        Series("a", np.array([[1.0, 2.0]]), RED, marker),
        Series("b", np.array([[3.0, 6.0]]), BLUE, marker),
    ]
    picture = scatter_picture([Row([Panel("both", series)], ("x", "y"))], "title")
    # The range of both axes is that of the points and a tenth more.
    dx, dy = centre(picture, BLUE) - centre(picture, RED)
    assert dx == pytest.approx(SIDE / 1.1, abs=2) and dy == pytest.approx(-SIDE / 1.1, abs=2)


@pytest.mark.parametrize("numbers", [True, False])
def test_nothing_is_cut_off(numbers):
    names = ["a", "a legend entry that is rather long for a legend"] * 2
    points = np.random.default_rng(0).normal(size=(30, 2)) * [1e4, 1e-3]
    rows = [
        Row([Panel(f"panel {p}", [Series(n, points + p, RED) for n in names]) for p in range(k)],
            ("principal component 1 (53 % of variance)", "principal component 2"), numbers)
        for k in (2, 1)
    ]  # fmt: skip
    pixels = np.asarray(scatter_picture(rows, "a title " * 30, "a note " * 40))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()


def test_equal_points_and_no_points():
    series = [Series("same", np.full((4, 2), 0.3), RED), Series("none", np.empty((0, 2)), BLUE)]
    picture = scatter_picture([Row([Panel("", series)], ("x", "y"))], "")
    x, y = centre(picture, RED)
    assert 0.3 * picture.width < x < 0.8 * picture.width


@pytest.mark.parametrize("low, high", [(-1.3, 2.2), (0.0001, 0.00037), (-5000, 12000), (0.9, 1.1)])
def test_ticks_are_few_and_round(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 9 and low <= found[0] and found[-1] <= high
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)
