"""Training runs that adapt to images without labels."""

import json
import shutil

import pytest

from utils.compare.paper_table import domain_table, markdown
from utils.errors import UserError


@pytest.mark.parametrize("name", ["dacs", "sepico"])
def test_labels_of_the_target_are_not_opened(run, miniature, tmp_path, name):
    data = tmp_path / "data"
    shutil.copytree(miniature, data)
    shutil.rmtree(data / "Cityscapes/gtFine")
    run("--method", name, "DATASET.TARGET", "cityscapes:train", "TRAIN.MAX_ITER", 2, data=data)
    assert (tmp_path / f"logs/gtav_resnet_mini_{name}/results.json").is_file()


def test_the_domain_of_the_target_is_not_unseen(run, tmp_path, capsys):
    options = ["TRAIN.MAX_ITER", 1, "--val_dataset", "gtav", "cityscapes", "idd"]
    run("--method", "dacs", "DATASET.TARGET", "cityscapes:train", *options)
    folder = tmp_path / "logs/gtav_resnet_mini_dacs"
    assert json.loads((folder / "results.json").read_text())["unseen"] == ["idd"]
    said = capsys.readouterr().out
    assert "gtav (source)" in said and "cityscapes (target)" in said and "idd (" not in said
    results = json.loads((folder / "results.json").read_text())
    lines = markdown(domain_table({"dacs": [(folder, results)]})).splitlines()
    assert "GTAV (source) | Cityscapes (target) | IDD |" in lines[0]


def test_a_run_without_a_target(run):
    with pytest.raises(UserError, match="set DATASET.TARGET to a folder of photographs"):
        run("--method", "dacs", "DATASET.TARGET", "")
