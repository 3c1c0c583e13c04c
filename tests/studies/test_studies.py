"""Studies: how runs are made, and what is written of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.networks import SMALL
from studies import __main__ as study_script
from studies import study_results
from studies.study_file import read_study
from tests.studies.fake_runs import ROOT, TWO, calls
from tests.utils.results_of_runs import run_result
from utils.errors import Stopped, UserError
from utils.recipes import Recipe

SWEEP = {"settings": {"METHOD": "srha"}, "grid": {"SRM.CONCENTRATION": [2**-8, 2**-6, 1.0]}}


def test_every_run_once_with_rows_table_and_chart(study, run, tmp_path):
    files = [study("two", **TWO), study("sweep", **SWEEP)]
    out, progress = run(*files, "--seeds", 1, 2, "--jobs", 2, "TRAIN.MAX_ITER", 7)
    # Both methods and two more values; 2⁻⁶ is SRHA's own.
    assert len(calls()) == len({line.split()[0] for line in calls()}) == 2 * (2 + 2)
    assert all(" TRAIN.MAX_ITER 7 " in line and line.split()[2] == "--resume" for line in calls())
    assert "8 runs, 0 are done" in progress and "[8/8]" in progress
    assert "two: baseline, seed 1: mean of unseen 20.5 %" in progress
    assert out.split() == ["logs/studies/two/table.md", "logs/studies/sweep/table.md"]
    table = (tmp_path / "logs/studies/two/table.md").read_text()
    assert table.startswith("# Two methods\n") and "![Two methods](variants.svg)" in table
    row = (
        "| SRHA | 50.0 ± 0.0 | **31.7** ± 0.7 | **30.2** ± 0.0 | **30.9** ± 0.4 | +10.2 ± 0.0 | 2 |"
    )
    assert row in table
    with open(tmp_path / "logs/studies/sweep/rows.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["SRM.CONCENTRATION"], r["seed"]) for r in rows] == [
        (alpha, seed) for alpha in ("0.00390625", "0.015625", "1.0") for seed in "12"
    ]
    assert float(rows[-1]["mean of unseen"]) == pytest.approx(0.4 + 2 / 200)
    for row in rows:
        assert (tmp_path / "logs/studies/runs" / row["run"] / "results.json").is_file()
    assert "2⁻⁸" in (tmp_path / "logs/studies/sweep/table.md").read_text()
    assert (tmp_path / "logs/studies/sweep/srm_concentration.svg").stat().st_size > 1000

    run(*files, "--seeds", 1, 2, 3, "TRAIN.MAX_ITER", 7)
    assert len(calls()) == 3 * 4


def test_a_mean_over_domains_that_count_different_classes(study, run, tmp_path):
    domains = {"DATASET.VALIDATION": "gtav,cityscapes,idd,camvid:test"}
    file = study("one", **TWO, settings=domains, mean=["cityscapes:val", "camvid:test"])
    run(file, "--seeds", 1)
    for path in (tmp_path / "logs/studies/runs").glob("*/results.json"):
        results = json.loads(path.read_text())
        results["domains"]["camvid:test"]["label_space"] = "camvid11"
        results["versions"] = {"code": f"of {results['method']}", "torch": "2.14"}
        path.write_text(json.dumps(results))
    run(file, "--seeds", 1)
    folder = tmp_path / "logs/studies/one"
    table = (folder / "table.md").read_text()
    means = [line.split(" | ")[5] for line in table.splitlines() if line.startswith("| ")]
    # (21 + 20) / 2; IDD's 20.0 is left out.
    assert means == ["mean of unseen", "20.5", "**30.7**"]
    assert "mean of unseen: CITYSCAPES, CAMVID:TEST, which count different classes" in table
    made = "Steps: 100; seeds: 1; code: of baseline, of srha; torch: 2.14."
    with open(folder / "rows.csv") as rows:
        first = next(csv.DictReader(rows))
    assert (first["code"], first["step"], first["seed"]) == ("of baseline", "100", "1")
    assert r"SRHA & 50.0 & \textbf{31.2}" in (folder / "table.tex").read_text()
    for name in ("table.md", "table.tex", "table.html"):
        assert made in (folder / name).read_text()
    page = (folder / "table.html").read_text()
    assert "<b>30.7</b>" in page and "image/svg+xml" in page and "<summary>IDD</summary>" in page

    file = study("other", **TWO, settings=domains, mean=["citiscapes"])
    with pytest.raises(UserError, match=r"other.json, baseline: mean: .*did you mean cityscapes\?"):
        run(file, "--seeds", 1)


def test_rows_are_written_while_others_fail_and_failures_are_tried_again(study, run, monkeypatch):
    file = study("two", **TWO)
    monkeypatch.setenv("FAIL", "2")
    with pytest.raises(UserError, match="2 of 4 runs failed; the end of .*seed2.txt says why"):
        run(file, "--seeds", 2, 1, "--results", "here")
    rows = Path("here/two/rows.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in rows[1:]] == [["baseline", "1"], ["SRHA", "1"]]
    assert not list(Path("here/two").glob("*.part"))
    monkeypatch.delenv("FAIL")
    run(file, "--seeds", 2, 1, "--results", "here")
    assert len(calls()) == 6 and len(Path("here/two/rows.csv").read_text().splitlines()) == 5


def test_runs_that_begin_from_another(study, run):
    """One for each seed comes first; the others begin from its weights, with that seed."""
    start = {"METHOD": "baseline", "TRAIN.MAX_ITER": 9}
    file = study("two", **TWO, start=start)
    run(file, "--seeds", 1, 2, "--jobs", 2)
    lines = [line.split() for line in calls()]
    own = [dict(zip(words[4::2], words[5::2], strict=True)) for words in lines]
    assert len(lines) == len({words[0] for words in lines}) == 2 * (1 + 2)
    first = {words["SEED"]: words["EXPERIMENT"] for words in own[:2]}
    assert all("INIT" not in words and words["TRAIN.MAX_ITER"] == "9" for words in own[:2])
    assert {words["INIT"] for words in own[2:]} == {
        f"logs/studies/runs/{x}" for x in first.values()
    }
    assert all(words["INIT"].endswith(first[words["SEED"]]) for words in own[2:])
    rows = Path("logs/studies/two/rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    run(study("two", **TWO), "--seeds", 1)
    assert len(calls()) == 6 + 2, "with another beginning it is another run"


def test_nothing_begins_from_a_run_that_failed(study, run, monkeypatch):
    file = study("two", **TWO, start={"METHOD": "baseline", "TRAIN.MAX_ITER": 9})
    monkeypatch.setenv("FAIL", "2")
    with pytest.raises(UserError, match="3 of 6 runs failed"):
        run(file, "--seeds", 1, 2)
    assert len(calls()) == 1 + 1 + 2
    said = next(Path("logs/studies/runs").glob("srha_*_seed2.txt")).read_text()
    assert "which this run begins from, is not finished" in said
    monkeypatch.delenv("FAIL")
    run(file, "--seeds", 1, 2)
    assert len(calls()) == 4 + 3


def test_means_leave_out_what_another_row_has_seen(study, run, tmp_path):
    """A target's domain is unseen by the baseline alone."""
    variants = {"baseline": {"METHOD": "baseline"},
                "DACS": {"METHOD": "dacs", "DATASET.TARGET": "cityscapes:train"}}  # fmt: skip
    run(study("target", variants=variants), "--seeds", 1)
    with open(tmp_path / "logs/studies/target/rows.csv") as file:
        rows = list(csv.DictReader(file))
    # Of the baseline IDD is left; the other row has the mean that the fake says.
    assert [float(row["mean of unseen"]) for row in rows] == pytest.approx([0.2, 0.30656], abs=1e-4)


def test_listing_starts_nothing(study, run):
    out, _ = run(study("sweep", **SWEEP), "--list", "--seeds", 5)
    assert [line.split("  ")[1] for line in out.splitlines()] == [
        f"sweep: SRM.CONCENTRATION {alpha}, seed 5" for alpha in ("2⁻⁸", "2⁻⁶", "1")
    ]
    assert not calls() and not Path("logs").exists()


def test_jobs_share_the_cores(study, run):
    run(study("sweep", **SWEEP), "--seeds", 1, "--jobs", os.cpu_count() * 2)
    assert {line.split()[1] for line in calls()} == {"1"}


def test_a_stopped_study_stops_its_runs(study, tmp_path):
    """SIGTERM: no run is started any more, those under way are asked to save."""
    file = study("sweep", **SWEEP)
    process = subprocess.Popen(
        [sys.executable, "-m", "studies", file, "--seeds", "1"],
        env=os.environ | {"SLOW": "60"},
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(300):
        if calls():
            break
        time.sleep(0.1)
    begin = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75 and "stopped; the same command continues" in said
    assert time.perf_counter() - begin < 20 and len(calls()) == 1


def test_numbers_of_other_classes_get_tables_of_their_own(study, run, tmp_path):
    grid = {"DATASET.LABEL_SPACE": ["cityscapes19", "idd_lite7"]}
    run(study("classes", **TWO, grid=grid), "--seeds", 1)
    table = (tmp_path / "logs/studies/classes/table.md").read_text()
    assert "## cityscapes19" in table and "## idd_lite7" in table
    assert table.count("| SRHA |") == 2 and table.count("gain over baseline") == 2
    assert "variants1.svg" in table and "variants2.svg" in table


def test_named_settings_have_tables_with_a_baseline_of_their_own(study, run, tmp_path):
    grid = {"trained for": {"all": {"DATASET.VALIDATION": "gtav,cityscapes,idd"},
                            "one": {"DATASET.VALIDATION": "gtav,cityscapes"}}}  # fmt: skip
    run(study("named", **TWO, grid=grid), "--seeds", 1, 2)
    table = (tmp_path / "logs/studies/named/table.md").read_text()
    both, one = table[table.index("## all") :].split("## one")
    for part in (both, one):
        assert part.count("| baseline |") == part.count("| SRHA |") == 1
        assert part.count("gain over baseline") == 1
    assert "| IDD |" in both and "| IDD |" not in one
    rows = list(csv.DictReader(open(tmp_path / "logs/studies/named/rows.csv")))
    assert {row["trained for"] for row in rows} == {"all", "one"} and len(rows) == 8


def test_classes_of_every_domain(study, run, tmp_path):
    run(study("two", **TWO), "--seeds", 1, 2)
    text = (tmp_path / "logs/studies/two/classes.md").read_text()
    for domain, baseline in (("GTAV", 50.0), ("CITYSCAPES", 21.5), ("IDD", 20.0)):
        table = text[text.index(f"| {domain}, IoU, % | road |") :]
        assert table.splitlines()[2].startswith(f"| baseline | {baseline} |")
    assert "(classes.md)" in (tmp_path / "logs/studies/two/table.md").read_text()


def test_learning_curves_are_means_of_the_domains_on_each_side(study, tmp_path, monkeypatch):
    """Two seeds of two rows, of which one is asked for; records without mIoU are no points."""
    drawn = {}
    monkeypatch.setattr(study_results, "dot_chart", lambda *arguments: None)
    monkeypatch.setattr(
        study_results,
        "line_chart",
        lambda title, x, y, lines, *more: drawn.setdefault(title, lines),
    )
    named = read_study(Path(study("two", **TWO, curves=["SRHA"])), Recipe(), {})
    finished = []
    for seed in (1, 2):
        for condition in named.conditions:
            folder = tmp_path / f"{condition.variant}{seed}"
            folder.mkdir()
            scores = {"gtav:val": 0.5, "idd": seed / 10, "acdc": seed / 5}
            records = [{"step": 5, "loss/ce": 1.0}]
            records += [{"step": step, "mIoU13/idd": 0.9}
                        | {f"mIoU/{name}": value * step for name, value in scores.items()}
                        for step in (1, 2)]  # fmt: skip
            log = folder / "metrics.jsonl"
            log.write_text("".join(json.dumps(record) + "\n" for record in records))
            results = run_result({"gtav": 0.5, "idd": 0.1, "acdc": 0.2}, mean_unseen=0.15)
            file = folder / "results.json"
            finished.append(study_results.FinishedRun(condition, seed, file, results))
    charts = study_results.study_charts(named, finished)
    assert set(charts) == {"variants", "learning_unseen", "learning_source"}
    unseen, source = charts["learning_unseen"], charts["learning_source"]
    assert unseen == {"SRHA": {1: [pytest.approx(15), pytest.approx(30)],
                               2: [pytest.approx(30), pytest.approx(60)]}}  # fmt: skip
    assert source == {"SRHA": {1: [50.0, 50.0], 2: [100.0, 100.0]}}


def test_training_and_evaluating_for_real(miniature, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    # The runs draw nothing; the study itself draws its charts.
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "without_matplotlib"))
    (tmp_path / "one.json").write_text(json.dumps(TWO))
    settings = {**SMALL, "DATASET.ROOT": miniature, "DATASET.CACHE_DIR": tmp_path, "WORKERS": 0,
                "DATASET.VALIDATION": "gtav,cityscapes", "TRAIN.MAX_ITER": 1, "VALID.EVERY": 0,
                "TRAIN.BATCH_SIZE": 2, "TRANSFORM.CROP_SIZE": "64,96"}  # fmt: skip
    pairs = [str(word) for pair in settings.items() for word in pair]
    line = [str(tmp_path / "one.json"), "--seeds", "1", "--jobs", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["study", *line, *pairs])
    study_script.main()
    assert study_script.parse_arguments([*line, *pairs])[1]["TRAIN.MAX_ITER"] == "1"
    folders = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    assert all({"settings.json", "last.pth", "results.json"} <= {f.name for f in p.iterdir()}
               for p in folders) and len(folders) == 2  # fmt: skip
    assert "| baseline |" in (tmp_path / "one/table.md").read_text()


def test_stopped_is_what_signals_raise():
    with pytest.raises(Stopped) as stop:
        study_script._stop(signal.SIGINT, None)
    assert stop.value.code == 130
