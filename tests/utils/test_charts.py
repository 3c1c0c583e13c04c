"""Charts are SVG that any program reads, with points where the values are."""

import xml.etree.ElementTree as ElementTree

import pytest

from utils.draw.charts import Point, Series, dot_chart, line_chart, nice_scale

SVG = "{http://www.w3.org/2000/svg}"


def circles(chart):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in chart.iter(f"{SVG}circle")]


def texts(chart):
    return ["".join(text.itertext()) for text in chart.iter(f"{SVG}text")]


@pytest.mark.parametrize("low, high", [(0, 1), (3.2, 3.9), (-12, 88), (0.001, 0.0017), (5, 5)])
def test_scales_hold_their_values_between_round_ticks(low, high):
    scale = nice_scale(low, high, 100, 300)
    assert scale.low <= low <= high <= scale.high
    assert 2 <= len(scale.ticks) <= 8
    assert scale(scale.low) == 100 and scale(scale.high) == 300
    assert len(set(scale.ticks.values())) == len(scale.ticks)
    for value, text in scale.ticks.items():
        assert float(text) == pytest.approx(value, abs=1e-12)


def test_points_of_a_line_are_where_their_means_are():
    series = [Series("", [Point(1, [10.0]), Point(2, [20.0, 40.0]), Point(4, [40.0])])]
    chart = ElementTree.fromstring(line_chart("title", "x", "y", series))
    (xa, ya), (xb, yb), (xc, yc) = circles(chart)
    assert (xc - xb) == pytest.approx(2 * (xb - xa), abs=0.3)
    assert (ya - yb) == pytest.approx(2 * (yb - yc), abs=0.3) and ya > yb > yc
    assert {"title", "x", "y"} <= set(texts(chart))


def test_powers_of_two_are_evenly_spaced():
    points = [Point(2.0**e, [1.0 + e]) for e in (-8, -6, -4)]
    chart = ElementTree.fromstring(line_chart("a", "α", "y", [Series("", points)], True))
    (xa, _), (xb, _), (xc, _) = circles(chart)
    assert xb - xa == pytest.approx(xc - xb, abs=0.2)
    assert "2−8" in texts(chart)


def test_names_are_text_and_not_markup():
    rows = {"a < b & c": {"one": [1.0, 2.0], "two": [3.0]}, "a long name " * 6: {"one": [0.5]}}
    chart = ElementTree.fromstring(dot_chart("<b>", "x", rows))
    assert "<b>" in texts(chart) and "a < b & c" in texts(chart)
    # Legend and values; of two columns in the first row the heavier is drawn last.
    assert len(circles(chart)) == 2 + 3
    width, height = float(chart.get("width")), float(chart.get("height"))
    assert all(0 < x < width and 0 < y < height for x, y in circles(chart))
