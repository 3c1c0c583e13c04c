"""Charts show their values where they are, in files that are equal byte by byte."""

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from utils.draw import plotting
from utils.draw.charts import dot_chart, line_chart
from utils.draw.plotting import COLOURS, row_style, save_figure, svg
from utils.draw.spread import deviation, deviation_text, mean, mean_text, paired_differences
from utils.errors import UserError

SEEDS = {1: [10.0], 2: [20.0, 40.0], 4: [40.0]}


def texts(figure):
    element = ElementTree.fromstring(svg(figure))
    return [" ".join("".join(e.itertext()).split()) for e in element.iter() if "text" in e.tag]


def test_lines_go_through_the_means_and_bars_are_sample_deviations():
    (axes,) = line_chart("title", "x", "y", {"a": SEEDS, "none": {}, "b": {1: [5.0]}}).axes
    first, second = axes.containers
    np.testing.assert_allclose(first.lines[0].get_xydata(), [[1, 10], [2, 30], [4, 40]])
    (bars,) = first.lines[2]
    low, high = bars.get_segments()[1][:, 1]
    assert high - low == pytest.approx(2 * np.std([20, 40], ddof=1))
    assert first.lines[0].get_color() == COLOURS[0]
    # A line without values leaves its colour to the other charts of a report.
    assert second.lines[0].get_color() == COLOURS[2]


def test_single_values_have_no_bars_in_the_legend_either():
    lines = {"several": SEEDS, "one": {1: [5.0], 2: [6.0]}}
    rows = {"row": {"several": [1.0, 2.0], "one": [3.0]}}
    for figure in (line_chart("", "x", "y", lines), dot_chart("", "x", rows)):
        several, one = figure.axes[0].containers
        assert several.has_yerr or several.has_xerr
        assert not one.has_yerr and not one.has_xerr


def test_all_of_a_spread_is_inside_the_axes():
    wide = {x: [0.0, 100.0 * x] for x in (1, 2, 3)}
    for lines in ({"a": wide}, {"a": wide, "b": {2: [50.0]}}):
        (axes,) = line_chart("", "x", "y", lines).axes
        low, high = axes.get_ylim()
        ends = [mean(v) + side * deviation(v) for v in wide.values() for side in (-1, 1)]
        assert low < min(ends) and high > max(ends)


def test_many_points_have_a_band():
    (axes,) = line_chart("", "x", "y", {"a": {x: [x, x + 2.0] for x in range(50)}}).axes
    (band,) = axes.collections
    extent = band.get_paths()[0].get_extents()
    assert extent.height == pytest.approx(49 + 2 * np.std([0, 2], ddof=1))


def test_powers_of_two_are_evenly_spaced():
    points = {2.0**e: [1.0 + e] for e in (-8, -6, -4)}
    figure = line_chart("a", "α", "y", {"": points}, logarithmic=True)
    (axes,) = figure.axes
    a, b, c = axes.transData.transform([(x, 0) for x in points])[:, 0]
    assert b - a == pytest.approx(c - b)
    assert any(text.replace(" ", "") == "2−8" for text in texts(figure))
    assert not figure.legends


def test_the_main_line_is_the_heaviest():
    (axes,) = line_chart("", "x", "y", {"a": SEEDS, "b": SEEDS, "c": SEEDS}, main="b").axes
    widths = [container.lines[0].get_linewidth() for container in axes.containers]
    assert widths[1] > max(widths[0], widths[2])


def test_dots_are_means_and_a_column_has_one_colour():
    rows = {"one": {"b": [3.0, 5.0]}, "two": {"a": [1.0], "b": [2.0]}, "three": {"a": []}}
    (axes,) = dot_chart("title", "x", rows).axes
    columns = dict(zip("ba", axes.containers, strict=True))
    places = {name: container.lines[0].get_xydata() for name, container in columns.items()}
    np.testing.assert_allclose(places["b"][:, 0], [4, 2])
    np.testing.assert_allclose(places["a"][:, 0], [1])
    for number, container in enumerate(columns.values()):
        line = container.lines[0]
        assert (line.get_color(), line.get_marker()) == row_style(number)
    above, below = places["b"][:, 1]
    assert axes.get_ylim()[0] > below > above


def test_names_are_text_and_neither_markup_nor_formula():
    rows = {"a < b & c": {"one $x$": [1.0, 2.0], "two": [3.0]}, "a long name " * 6: {"two": [0.5]}}
    figure = dot_chart("<b>", "x", rows)
    assert {"<b>", "a < b & c", "one $x$"} <= set(texts(figure))
    assert "a long name a long name a long" in texts(figure)


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_equal_charts_are_equal_files(tmp_path, suffix):
    for name in ("a", "b"):
        figure = line_chart("title", "x", "y", {"a": SEEDS, "b": SEEDS})
        save_figure(figure, tmp_path / "new" / f"{name}.{suffix}")
    first, second = ((tmp_path / "new" / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second and len(first) > 1000
    with pytest.raises(UserError, match="a.gif: a picture ends in .svg, .pdf, .png"):
        save_figure(figure, tmp_path / "a.gif")


def test_a_missing_matplotlib_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib: pip install -r requirements-extra.txt"):
        line_chart("", "x", "y", {"a": SEEDS})
    plotting.can_draw.cache_clear()
    assert not plotting.can_draw("the pictures") and not plotting.can_draw("the pictures")
    plotting.can_draw.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("without the pictures:") and "requirements-extra.txt" in line


def test_spreads_and_their_text():
    assert deviation([3.0]) is None and deviation([1.0, 2.0]) == pytest.approx(0.5**0.5)
    assert mean_text([12.34]) == "12.3" and mean_text([10, 12], 2) == "11.00"
    assert deviation_text([12.34]) == "" and deviation_text([10, 12], 2) == " ± 1.41"
    assert mean_text([-0.01, -0.01]) == "0.0"
    assert mean_text([-1.0], difference=True) == "−1.0"
    assert mean_text([2.0, 4.0], difference=True) == "+3.0"
    assert paired_differences({1: 5.0, 2: 7.0, 3: 1.0}, {2: 3.0, 1: 4.0}) == {1: 1.0, 2: 4.0}
