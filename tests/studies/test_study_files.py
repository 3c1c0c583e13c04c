"""What study files say: runs, their names, mistakes, and the studies that are here."""

import json
from pathlib import Path

import pytest

import datasets
from benchmarks.networks import SMALL
from studies.study_file import read_study, run_name, words
from tests.studies.fake_runs import ROOT, TWO, calls
from utils.errors import UserError
from utils.recipes import Recipe, read_recipe

OFF = "0,0,0,0"


def test_what_tells_runs_apart():
    base = SMALL | {"METHOD": "srha", "DATASET.SOURCE": "gtav"}
    name = run_name(base, 1)
    assert name.startswith("srha_") and name.endswith("_seed1")
    same = [{"WORKERS": 7}, {"DATASET.ROOT": "x"}, {"SRM.CONCENTRATION": 2**-6}, {"SEED": 9},
            {"DATASET.LABEL_SPACE": "cityscapes19"}, {"LOG.DIR": "y"},
            {"ALIGN.LOCAL": "0.4, 0.6, 0.8, 1.0"}]  # fmt: skip
    other = [{"SRM.CONCENTRATION": 0.5}, {"DATASET.LABEL_SPACE": "idd_lite7"}, {"VALID.FLIP": True},
             {"ALIGN.LOCAL": OFF}, {"TRAIN.MAX_ITER": 5}]  # fmt: skip
    assert {run_name(base | change, 1) for change in same} == {name}
    assert len({name, *(run_name(base | change, 1) for change in other)}) == len(other) + 1


def test_a_description_of_a_dataset_counts_and_not_its_place(tmp_path, monkeypatch):
    names = []
    for place, classes in (("a", ["x", "y"]), ("b", ["x", "y"]), ("c", ["x", "z"])):
        file = tmp_path / place / "own.json"
        file.parent.mkdir()
        own = [{"name": name, "colour": [0, 0, 0]} for name in classes]
        splits = {"val": {"images": "i", "labels": "l"}}
        file.write_text(json.dumps({"name": "own", "classes": own, "splits": splits}))
        settings = {"METHOD": "srha", "DATASET.SOURCE": "gtav", "DATASET.FILES": str(file)}
        monkeypatch.setattr(datasets, "DESCRIBED", {})
        names.append(run_name(SMALL | settings, 1))
    assert names[0] == names[1] != names[2]


def test_settings_of_a_method_belong_to_its_runs_alone(study, tmp_path):
    recipe = Recipe({"TRAIN.MAX_ITER": 5}, {"srha": {"SRM.SCOPE": "batch"}})
    baseline, srha = read_study(Path(study(**TWO)), recipe, {"WORKERS": "0"}).conditions
    assert baseline.settings == {"TRAIN.MAX_ITER": 5, "METHOD": "baseline", "WORKERS": "0"}
    assert srha.settings["SRM.SCOPE"] == "batch"
    assert words({"A": True, "B": [1, 0.5], "C": "x"}) == ["A", "on", "B", "1,0.5", "C", "x"]


@pytest.mark.parametrize("parts, message", [
    ({"variant": {}}, "variant is no part of a study .title, about, settings, start, varian"),
    ({"start": {"TRAIN.MAX_ITER": "x"}}, "study.json, start: setting TRAIN.MAX_ITER is 'x'"),
    ({"grid": {"SRM.SCOPE": "image"}}, "SRM.SCOPE has to be a list of values, or named settings"),
    ({"grid": {"SRM.SCOP": ["image"]}}, "SRM.SCOP image: unknown setting SRM.SCOP; did you mean"),
    ({"variants": {"a": {"TRAIN.MAX_ITER": "x"}}}, "study.json, a: setting TRAIN.MAX_ITER is 'x'"),
    ({"settings": {"TRUNK.WEIGHTS": "$NOT_SET"}}, "TRUNK.WEIGHTS is .NOT_SET, an environment var"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_runs(study, run, parts, message):
    with pytest.raises(UserError, match=message):
        run(study(**parts))
    assert not calls()


def test_files_that_are_none(study, run, tmp_path):
    (tmp_path / "text.json").write_text("[1")
    with pytest.raises(UserError, match="text.json is no JSON"):
        run("text.json")
    with pytest.raises(UserError, match="cannot read none.json: no such file"):
        run("none.json")
    (tmp_path / "recipe.json").write_text('{"settings": {}, "TRAIN.MAX_ITER": 5}')
    with pytest.raises(UserError, match="TRAIN.MAX_ITER is no part of a recipe"):
        run(study(**TWO), "--recipe", "recipe.json")


PAPER = ["miniature", "gtav_resnet50"]
RECIPES = dict.fromkeys(
    (
        "sources",
        "decoders",
        "gap",
        "methods",
        "methods_longer",
        "two_step",
        "self_training",
        "self_training_bound",
    ),
    ["miniature"],
)
RECIPES |= dict.fromkeys(
    (path.stem for path in (ROOT / "studies").glob("photographs_*.json")), ["photographs"]
)


@pytest.fixture
def weights(monkeypatch):
    """The environment variables that recipes and studies name."""
    for name in ("OTHER_WEIGHTS", "MOBILENET_V2_WEIGHTS", "DATA", "WEIGHTS", "CITYSCAPES_MINI"):
        monkeypatch.setenv(name, f"{name.lower()}.pth")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "studies").glob("*.json")))
def test_the_studies_that_are_here_are_sound(name, weights):
    """Every condition has settings that training takes, and no study repeats one of its own."""
    for recipe in RECIPES.get(name, PAPER):
        shared = read_recipe(ROOT / f"studies/recipes/{recipe}.json")
        study = read_study(ROOT / f"studies/{name}.json", shared, {})
        own = {run_name(condition.settings, 304) for condition in study.conditions}
        assert len(own) == len(study.conditions) > 1 and study.about
        assert set(study.curves) <= {condition.variant for condition in study.conditions}


def test_a_setting_of_a_later_version_makes_another_run_where_it_is_changed():
    own = {"METHOD": "srha", "TRUNK.NAME": "resnet_mini"}
    changes = [{}, {"MATMUL_PRECISION": "highest"}, {"MATMUL_PRECISION": "high"}]
    changes += [{"STYLE_SHARE": 0.5}, {"ALIGN.NORMALISED": True}]
    names = [run_name(own | change, 1) for change in changes]
    assert names[0] == names[1] and len(set(names)) == 4


def test_rows_of_one_name_ask_the_same_of_photographs():
    """Whatever the source, the restyled target that belongs to it, and the pretrained weights."""
    asked = {}
    names = (
        "gtav",
        "style_elimination",
        "camvid",
        "idd_lite",
        "camvid_weights",
        "idd_lite_weights",
    )
    for name in names:
        study = json.loads((ROOT / f"studies/photographs_{name}.json").read_text())
        for row, own in study["variants"].items():
            own = {k: v for k, v in own.items() if k not in ("DATASET.TARGET", "TRUNK.WEIGHTS")}
            assert asked.setdefault(row, own) == own, (name, row)
    assert len(asked) > 13
