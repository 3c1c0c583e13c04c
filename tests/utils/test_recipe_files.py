"""Recipe files: which of their settings count for a run, and what is said of mistakes."""

import json

import pytest

from utils.errors import UserError
from utils.recipes import Recipe, read_recipe


def test_a_method_has_settings_of_its_own_and_overrides_win():
    recipe = Recipe({"A": 1, "B": 1, "C": 1}, {"srha": {"B": 2, "C": 2}, "spc": {"A": 9}})
    assert recipe.of("srha", {"C": 3, "D": 3}) == {"A": 1, "B": 2, "C": 3, "D": 3}
    assert recipe.of("baseline") == {"A": 1, "B": 1, "C": 1}


def test_null_takes_a_setting_away():
    assert Recipe({"A": 1, "B": 1}, {"srha": {"A": None}}).of("srha", {"B": None, "C": 0}) == {
        "C": 0
    }


def test_environment_variables_are_needed_only_where_they_count(monkeypatch):
    recipe = Recipe({"DATASET.ROOT": "$DATA/real"})
    monkeypatch.delenv("DATA", raising=False)
    with pytest.raises(UserError, match="DATASET.ROOT is .DATA/real, an environment variable"):
        recipe.of("srha")
    assert recipe.of("srha", {"DATASET.ROOT": "here"}) == {"DATASET.ROOT": "here"}
    monkeypatch.setenv("DATA", "there")
    assert recipe.of("srha") == {"DATASET.ROOT": "there/real"}


def test_a_recipe_as_its_file_says_it(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"settings": {"A": 1}, "methods": {"srha": {"B": [1, 2]}}}))
    assert read_recipe(path).of("srha") == {"A": 1, "B": [1, 2]}
    path.write_text(json.dumps({"A": 1}))  # the settings.json of a run
    assert read_recipe(path) == Recipe({"A": 1})
    path.write_text("{}")
    assert read_recipe(path) == Recipe()


@pytest.mark.parametrize("content, message", [
    ("[1", "recipe.json is no JSON"),
    ("[1]", "recipe.json has to hold a JSON object"),
    ('{"settings": {}, "TRAIN.MAX_ITER": 5}', "TRAIN.MAX_ITER is no part of a recipe .settings, m"),
    ('{"settings": [1]}', "settings has to hold objects of settings"),
    ('{"methods": {"srha": 1}}', "methods has to hold objects of settings"),
])  # fmt: skip
def test_files_that_are_no_recipe(tmp_path, content, message):
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_recipe(path)
    with pytest.raises(UserError, match="cannot read .*none.json: no such file"):
        read_recipe(tmp_path / "none.json")
