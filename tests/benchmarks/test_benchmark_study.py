"""Studies: what is done is not repeated, what failed is said, and how their tables are made."""

import pytest

from studies.miniature_sources import UNSEEN, tables
from studies.rows import Study, refuse_failed, refuse_unknown, spread
from utils.errors import UserError


def test_finished_runs_are_not_repeated(tmp_path, capsys):
    study = Study("one", ["--trunk", "x"], ("method", "seed"), tmp_path / "out", tmp_path, 2)
    called = []

    def attempt(job):
        called.append(job["seed"])
        if job["seed"] == 2 and called.count(2) == 1:
            return "logs/second.txt"
        study.add(job | {"score": job["seed"] / 10})
        return ""

    wanted = [{"method": "spc", "seed": seed} for seed in (1, 2, 3)]
    assert study.run(wanted, attempt) == ["logs/second.txt"]
    assert study.run(wanted, attempt) == []
    assert sorted(called) == [1, 2, 2, 3]
    rows = sorted(study.rows(), key=study.key_of)
    assert [row["score"] for row in rows] == [0.1, 0.2, 0.3]
    study.add(wanted[0] | {"score": 0.9})
    assert len(study.rows()) == 3 and {"spc"} == {row["method"] for row in study.rows()}
    assert "1 runs to do, 2 are done" in capsys.readouterr().err


def test_what_a_study_says_of_mistakes():
    with pytest.raises(UserError, match="no method 'dacs'; there are: baseline, srha"):
        refuse_unknown("method", ["srha", "dacs"], ("baseline", "srha"))
    with pytest.raises(UserError, match="1 runs failed; the end of a.txt says why"):
        refuse_failed(["a.txt"])
    refuse_failed([])


def test_the_table_has_means_and_deviations_of_the_runs():
    def row(method, sources, seed, seen, unseen):
        scores = dict.fromkeys(sources.split("+"), seen) | dict.fromkeys(UNSEEN, unseen)
        return {"method": method, "sources": sources, "seed": seed, "steps": 5,
                "mIoU": scores, "mean_unseen": unseen}  # fmt: skip

    rows = [
        row("spc", "gtav+synthia", 1, 0.3, 0.2), row("spc", "gtav", 1, 0.3, 0.2),
        row("spc", "gtav", 2, 0.5, 0.4), row("baseline", "gtav", 1, 0.1, 0.05),
    ]  # fmt: skip
    lines = tables(rows).splitlines()
    assert lines[0] == "5 steps"
    assert lines[4].startswith("| baseline | gtav | 10.0 | 5.0 |")
    assert lines[5] == (
        "| spc | gtav | 40.0 ± 14.1 | 30.0 ± 14.1 | 30.0 ± 14.1 | 30.0 ± 14.1 | 30.0 ± 14.1 | 2 |"
    )
    assert lines[6].startswith("| spc | gtav + synthia | 30.0 | 20.0 |")
    assert spread([0.25]) == "25.0"
