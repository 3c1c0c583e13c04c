"""Steps of the rows of a study, timed side by side."""

import json

import pytest

from studies import step_costs
from tests.studies.fake_runs import ROOT
from utils.errors import UserError

ROWS = {
    "plain": {"METHOD": "baseline"},
    "two passes": {"METHOD": "baseline", "TRAIN.BATCH_SIZE": 4, "TRAIN.BATCH_PER_PROCESS": 2},
    "to a target": {"METHOD": "dacs", "DATASET.TARGET": "cityscapes:train"},
}


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    study = {"title": "t", "about": "a", "variants": ROWS}
    study["settings"] = {"TRANSFORM.CROP_SIZE": "64,64", "TRAIN.BATCH_SIZE": 2}
    (tmp_path / "own.json").write_text(json.dumps(study))
    given = ["--study", str(tmp_path / "own.json"), "--out", str(tmp_path), "--rounds", "1"]
    given += ["--recipe", str(ROOT / "studies/recipes/miniature.json")]
    monkeypatch.setattr("sys.argv", ["step_costs.py", *given])
    return tmp_path


def test_each_row_has_a_time_and_a_ratio_to_the_first(arguments, capsys):
    step_costs.main()
    seconds = json.loads((arguments / "step_costs.json").read_text())["seconds"]
    assert list(seconds) == list(ROWS)
    lines = capsys.readouterr().out.splitlines()
    for name, own in seconds.items():
        cells = next(line for line in lines if line.startswith(f"| {name} |")).split(" | ")
        assert cells[1:3] == [f"{1000 * own:.0f}", f"{own / seconds['plain']:.2f}"]
        assert cells[3] == f"{2 / own:.1f} |", "two images in each pass"


def test_rows_of_a_grid_are_told_apart(arguments):
    study = json.loads((arguments / "own.json").read_text())
    study["variants"] = {"plain": ROWS["plain"]}
    study["grid"] = {"images": {"two": {}, "four": {"TRAIN.BATCH_SIZE": 4}}}
    (arguments / "own.json").write_text(json.dumps(study))
    step_costs.main()
    seconds = json.loads((arguments / "step_costs.json").read_text())["seconds"]
    assert list(seconds) == ["plain, images two", "plain, images four"]


def test_a_study_that_is_none(arguments):
    (arguments / "own.json").write_text("[1")
    with pytest.raises(UserError, match="own.json is no JSON"):
        step_costs.main()
