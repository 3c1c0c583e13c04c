"""Each way to read a sample is measured on files that look like the releases."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import data, inputs
from datasets import build_dataset, load_settings

SMALL = {"GTAV": (190, 104), "Cityscapes": (204, 102), "BDD100K": (128, 72)}


@pytest.fixture
def streets(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "SIZES", SMALL)
    inputs.write_streets(tmp_path / "streets", 2)
    return tmp_path / "streets"


def test_command_prints_its_table_and_writes_figures(streets, tmp_path, monkeypatch, capsys):
    arguments = ["data", "--files", str(streets), "--images", "2", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path)])
    data.main()
    printed = capsys.readouterr().out
    assert "| samples per second and core | GTAV 190×104 |" in printed
    assert "| whole, colours on the device |" in printed
    figures = json.loads((tmp_path / "data.json").read_text())
    assert figures["machine"] and figures["seconds_per_sample"]["GTAV"]["decode alone"] > 0
    assert set(figures["seconds_per_sample"]) == set(SMALL)


def test_files_have_the_size_and_labels_of_the_release(streets):
    dataset = build_dataset("gtav", "train", load_settings({"DATASET.ROOT": str(streets)}))
    assert len(dataset) == 2
    sample = dataset[0]
    assert sample["image"].shape == (3, 104, 190)
    numbers = np.array(Image.open(dataset.label_paths[0]))
    assert np.array_equal(dataset.label_table.take(numbers), sample["label"].numpy())
