"""Tables of given results: what stands where, what is bold, and in which form it is written."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from tests.utils.results_of_runs import domain_result, run_result
from utils.compare.paper_table import (
    class_table,
    comma_separated,
    domain_table,
    latex,
    markdown,
    text,
)
from utils.errors import UserError


def group(*results):
    return [(Path(f"run{number}/results.json"), result) for number, result in enumerate(results)]


def cells(line):
    """The cells of a line of Markdown."""
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


@pytest.fixture
def groups():
    """Two methods with two seeds each; the second domain is the source."""
    scores = {
        "baseline": [{"cityscapes": 0.30, "gtav": 0.60, "idd": 0.2004}, {
            "cityscapes": 0.34, "gtav": 0.62, "idd": 0.2004}],
        "srha": [{"cityscapes": 0.40, "gtav": 0.50, "idd": 0.1996}, {
            "cityscapes": 0.42, "gtav": 0.50, "idd": 0.1996}],
    }  # fmt: skip
    return {
        method: group(*(run_result(s, method, seed) for seed, s in enumerate(runs)))
        for method, runs in scores.items()
    }


def test_rows_are_methods_and_columns_domains_then_the_mean_over_unseen(groups):
    lines = markdown(domain_table(groups)).splitlines()
    assert cells(lines[0]) == [
        "mIoU, %", "CITYSCAPES", "GTAV (source)", "IDD", "mean of unseen", "seeds"
    ]  # fmt: skip
    baseline, srha = cells(lines[2]), cells(lines[3])
    deviation = np.std([30, 34], ddof=1)
    assert baseline[:2] == ["baseline", f"32.0 ± {deviation:.1f}"]
    # The source is no test of generalisation and not ranked; equal as shown is equal, and no best.
    assert baseline[2] == "61.0 ± 1.4" and srha[2] == "50.0 ± 0.0"
    assert baseline[3] == srha[3] == "20.0 ± 0.0"
    means = [np.mean([40, 19.96]), np.mean([42, 19.96])]
    assert srha[4] == f"**{np.mean(means):.1f}** ± {np.std(means, ddof=1):.1f}"
    assert baseline[5] == srha[5] == "2"
    assert "protocol native" in lines[-1] and "mean of unseen: CITYSCAPES, IDD" in lines[-1]


def test_one_row_has_nothing_to_be_best_of(groups):
    assert "**" not in markdown(domain_table({"srha": groups["srha"]}))


def test_gains_are_differences_of_the_same_seeds(groups):
    lines = markdown(domain_table(groups, baseline="baseline")).splitlines()
    assert cells(lines[0])[-2] == "gain over baseline" and "paired by seed" in lines[-1]
    # Means over Cityscapes and IDD of seeds 0 and 1.
    gains = [50 * (0.40 + 0.1996 - 0.30 - 0.2004), 50 * (0.42 + 0.1996 - 0.34 - 0.2004)]
    assert cells(lines[2])[-2] == "-"
    assert cells(lines[3])[-2] == f"+{np.mean(gains):.1f} ± {np.std(gains, ddof=1):.1f}"
    worse = markdown(domain_table(groups, baseline="srha")).splitlines()
    assert cells(worse[2])[-2] == cells(lines[3])[-2].replace("+", "−")
    with pytest.raises(UserError, match="unknown row 'base'; did you mean baseline"):
        domain_table(groups, baseline="base")


def test_a_gain_is_of_the_seeds_that_both_rows_have():
    def runs(method, scores):
        return group(*(run_result({"idd": s}, method, seed) for seed, s in scores.items()))

    groups = {
        "a": runs("a", {1: 0.1, 2: 0.2, 3: 0.4}),
        "b": runs("b", {3: 0.5, 4: 0.9}),
        "c": runs("c", {2: 0.1, 1: 0.3}),
        "d": runs("d", {7: 0.8}),
    }
    lines = markdown(domain_table(groups, baseline="a")).splitlines()
    assert [cells(line)[-2] for line in lines[2:6]] == [
        "-", "+10.0 (of 1)", "+5.0 ± 21.2", "-"
    ]  # fmt: skip
    header, *rows = csv.reader(io.StringIO(comma_separated(domain_table(groups, baseline="a"))))
    gain = header.index("gain over a")
    assert [row[gain : gain + 2] for row in rows] == [
        ["", ""], ["10.0000", ""], ["5.0000", "21.2132"], ["", ""]
    ]  # fmt: skip


def test_a_domain_that_only_some_were_trained_on_is_marked_in_their_cells():
    groups = {
        "a": group(run_result({"gtav": 0.9, "idd": 0.1, "synthia": 0.2}, "a")),
        "b": group(run_result({"gtav": 0.3, "idd": 0.2, "synthia": 0.8}, "b", source="synthia")),
        "c": group(run_result({"gtav": 0.4, "idd": 0.3, "synthia": 0.1}, "c", source="camvid")),
    }
    lines = markdown(domain_table(groups)).splitlines()
    assert cells(lines[0])[1:4] == ["GTAV", "IDD", "SYNTHIA"]
    assert [cells(line)[1] for line in lines[2:5]] == ["90.0 (source)", "30.0", "**40.0**"]
    assert [cells(line)[3] for line in lines[2:5]] == ["**20.0**", "80.0 (source)", "10.0"]
    assert [cells(line)[4] for line in lines[2:5]] == ["10.0", "20.0", "**30.0**"]


def test_runs_that_lack_a_domain_are_counted_where_it_matters():
    runs = [run_result({"idd": 0.1, "synthia": 0.5}, seed=1), run_result({"idd": 0.3}, seed=2)]
    groups = {"srha": group(*runs)}
    lines = markdown(domain_table(groups)).splitlines()
    assert cells(lines[2]) == ["srha", "20.0 ± 14.1", "50.0 (of 1)", "20.0 ± 14.1", "2"]
    assert lines[-1].endswith("mean of unseen: IDD")


def test_other_measures(groups):
    line = markdown(domain_table(groups, "fw_iou")).splitlines()[2]
    assert cells(line)[1] == "25.0 ± 0.0"
    assert markdown(domain_table(groups, "pixel_accuracy")).startswith("| pixel_accuracy, % ")
    with pytest.raises(UserError, match="unknown measure 'mIoU9'; did you mean mIoU"):
        domain_table(groups, "mIoU9")


def test_a_mean_that_one_domain_has_leaves_the_other_columns_out():
    synthia = domain_result("SYNTHIA", {"road": 0.5}) | {"means": {"mIoU": 0.5, "mIoU13": 0.6}}
    groups = {"srha": group(run_result({"gtav": 0.1, "idd": 0.1, "synthia": synthia}))}
    lines = markdown(domain_table(groups, "mIoU13")).splitlines()
    assert cells(lines[0]) == ["mIoU13, %", "SYNTHIA", "mean of unseen", "seeds"]
    assert cells(lines[2]) == ["srha", "60.0", "60.0", "1"]


def test_classes_of_one_domain():
    def result(road, sky, train):
        return domain_result("BDD100K", {"road": road, "sky": sky, "train": train})

    groups = {
        "a": group(run_result({"bdd100k": result(0.9, 0.5, None)}),
                   run_result({"bdd100k": result(0.7, 0.5, None)}, seed=1)),
        "b": group(run_result({"bdd100k": result(0.6, 0.7, None)}, "b")),
    }  # fmt: skip
    lines = markdown(class_table(groups, "bdd100k")).splitlines()
    assert cells(lines[0]) == ["BDD100K, IoU, %", "road", "sky", "train", "mIoU", "seeds"]
    assert cells(lines[2]) == ["a", "**80.0**", "50.0", "-", "65.0", "2"]
    assert cells(lines[3]) == ["b", "60.0", "**70.0**", "-", "65.0", "1"]
    assert "100.0" in markdown(class_table(groups, "bdd100k", "precision"))
    with pytest.raises(UserError, match="unknown evaluated domain 'bdd'; did you mean bdd100k"):
        class_table(groups, "bdd")
    with pytest.raises(UserError, match="unknown measure of classes 'mIoU'"):
        class_table(groups, "bdd100k", "mIoU")
    groups["b"] = group(run_result({"idd": 0.1}, "b"))
    with pytest.raises(UserError, match=r"run0/results.json \(b\) was not evaluated on bdd100k"):
        class_table(groups, "bdd100k")


def test_the_mean_of_classes_is_that_of_all_tables():
    """A domain counts some of the classes: CamVid has no truck, and 0 for those that are found."""
    iou = {"road": 0.5, "car": 0.3, "truck": 0.0}
    camvid = domain_result("CamVid", iou, means={"mIoU": 0.4})
    groups = {"SRHA": group(run_result({"gtav": 0.5, "camvid": camvid}))}
    assert cells(markdown(class_table(groups, "camvid")).splitlines()[2])[4] == "40.0"


def test_latex_is_a_fragment_with_escaped_names(groups):
    groups = {"50%_of_$x & {y}": groups["baseline"], "srha": groups["srha"]}
    lines = latex(domain_table(groups, baseline="srha")).splitlines()
    body = [line for line in lines if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lrrrrrr}" and body[-1] == r"\end{tabular}"
    assert [line for line in body if line.endswith("rule")] == [
        r"\toprule", r"\midrule", r"\bottomrule"
    ]  # fmt: skip
    rows = [line for line in body if line.endswith(r" \\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 6 for row in rows)
    assert rows[1].startswith(r"50\%\_of\_\$x \& \{y\} & 32.0 $\pm$ 2.8 & ")
    assert r"\textbf{41.0} $\pm$ 1.4" in rows[2]
    assert rows[1].split(" & ")[-2].startswith("$-$")
    assert all(character.isascii() for character in "".join(body))


def test_csv_holds_unrounded_means_and_deviations(groups):
    header, *rows = csv.reader(io.StringIO(comma_separated(domain_table(groups))))
    first = dict(zip(header, rows[0], strict=True))
    assert first["mIoU, %"] == "baseline" and first["seeds"] == "2"
    assert float(first["IDD"]) == pytest.approx(20.04)
    assert float(first["CITYSCAPES, deviation"]) == pytest.approx(
        np.std([30, 34], ddof=1), abs=1e-4
    )


def test_text_for_a_terminal_is_aligned(groups):
    lines = text(domain_table({name: runs[:1] for name, runs in groups.items()})).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[2].split() == ["baseline", "30.0", "60.0", "20.0", "25.0"]


def test_two_splits_of_a_dataset_are_told_apart():
    result = run_result({"camvid": 0.4, "camvid:test": 0.3, "idd": 0.2})
    for domain in ("camvid", "camvid:test"):
        result["domains"][domain]["title"] = "CamVid"
    header = cells(markdown(domain_table({"srha": group(result)})).splitlines()[0])
    assert header[1:4] == ["CamVid val", "CamVid test", "IDD"]
