"""The report of the study of real photographs: tables, gains and charts of given rows."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from studies import real_photographs
from studies.photograph_report import charts, class_tables, tables
from studies.real_photographs import DIRECTIONS

DOMAINS = {"camvid": ("camvid:val", "camvid:test", "idd_lite")}
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
VARIANTS = ["baseline", "SRHA", "SRM only"]


def row(variant, seed, unseen, steps=500):
    return {
        "direction": "camvid", "variant": variant, "seed": seed, "steps": steps,
        "precision": "bfloat16", "validation": 0.3, "seen": 0.2, "unseen": unseen,
        "iou_seen": {"road": unseen, "wall": None, "car": 0.5},
        "iou_unseen": {"drivable": unseen},
        "curves": [{"step": step, "seen": 0.1, "unseen": unseen * step / 500}
                   for step in (125, 500)],
        "losses": [{"step": step, "loss/ce": 1.0 * seed, "loss/local": 6.0, "loss/total": 8.0}
                   for step in (25, 475)],
    }  # fmt: skip


@pytest.fixture
def rows():
    """Three seeds of the baseline, two of SRHA, and one run of four times the steps."""
    return [
        row("SRHA", 1, 0.42), row("SRHA", 3, 0.48), row("baseline", 1, 0.40),
        row("baseline", 2, 0.10), row("baseline", 3, 0.44), row("SRHA", 1, 0.35, 2000),
    ]  # fmt: skip


def test_gains_are_over_the_baseline_of_the_same_seeds(rows):
    short, long = tables(rows, VARIANTS, DOMAINS).split("\n\ncamvid, 2000")
    lines = short.splitlines()
    assert lines[0] == "camvid, 500 steps, bfloat16"
    assert "unseen (idd_lite)" in lines[2]
    assert lines[4] == "| baseline | 30.0 ± 0.0 | 20.0 ± 0.0 | 31.3 ± 18.6 |  | 3 |"
    # +2 and +4 points: the baseline's second seed has no counterpart and does not count.
    assert lines[5] == "| SRHA | 30.0 ± 0.0 | 20.0 ± 0.0 | 45.0 ± 4.2 | +3.0 ± 1.4 | 2 |"
    # Without a baseline of that budget there is no gain.
    assert long.splitlines()[-1] == "| SRHA | 30.0 | 20.0 | 35.0 |  | 1 |"


def test_a_domain_that_is_seen_and_validated_on_has_one_column(rows):
    domains = {"camvid": ("camvid", "camvid", "idd_lite")}
    lines = tables(rows, VARIANTS, domains).splitlines()
    assert lines[2].startswith("| mIoU, % | seen (camvid) | unseen (idd_lite) |")
    assert lines[4].startswith("| baseline | 20.0 ± 0.0 | 31.3 ± 18.6 |")


def test_a_loss_has_its_own_sign(rows):
    worse = [*rows, row("SRM only", 2, 0.05)]
    assert "| SRM only | 30.0 | 20.0 | 5.0 | -5.0 | 1 |" in tables(worse, VARIANTS, DOMAINS)


def test_classes_that_a_domain_lacks_have_no_column(rows):
    lines = class_tables(rows, VARIANTS, DOMAINS).splitlines()
    assert lines[0] == "camvid, 500 steps, bfloat16: seen (camvid:test)"
    assert lines[2] == "| IoU, % | road | car |"
    assert lines[4:6] == ["| baseline | 31.3 | 50.0 |", "| SRHA | 45.0 | 50.0 |"]


def test_a_class_that_one_run_predicts_and_another_does_not_has_no_column(rows):
    rows[0]["iou_seen"] |= {"wall": 0.0}
    for order in (rows, rows[::-1]):
        assert "wall" not in class_tables(order, VARIANTS, DOMAINS)


def test_a_budget_without_a_variant_that_has_curves():
    drawn = charts([row("SRM only", 1, 0.4)], VARIANTS, ["baseline", "SRHA"])
    assert set(drawn) == {"camvid_500_bfloat16_scores.svg"}


def test_the_results_that_are_kept_make_a_report():
    rows = json.loads((RESULTS / "real_photographs.json").read_text())["rows"]
    domains = {direction: domains for direction, (*domains, _) in DIRECTIONS.items()}
    known = list(real_photographs.VARIANTS)
    assert {row["variant"] for row in rows} <= set(known)
    for make in (tables, class_tables):
        assert make(rows, known, domains).count("| baseline |") >= 2
    assert len(charts(rows, known, real_photographs.CURVES)) >= 8


def test_charts_of_every_budget(rows):
    drawn = charts(rows, VARIANTS, ["baseline", "SRHA"])
    kinds = ("scores", "unseen", "seen", "losses")
    assert set(drawn) == {f"camvid_{s}_bfloat16_{kind}.svg" for s in (500, 2000) for kind in kinds}
    texts = {
        name: "\n".join(ElementTree.fromstring(drawing).itertext())
        for name, drawing in drawn.items()
    }
    assert "baseline" in texts["camvid_500_bfloat16_unseen.svg"]
    assert "baseline" not in texts["camvid_2000_bfloat16_unseen.svg"]
    losses = texts["camvid_500_bfloat16_losses.svg"]
    # The total would dwarf its parts.
    assert "ce" in losses and "local" in losses and "total" not in losses
