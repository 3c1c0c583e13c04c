import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import data, street_files
from benchmarks.plain_pil import LabelReader, centroids_by_loop, sample
from datasets import build_dataset, load_settings
from datasets.sampling.centroids import tile_centroids

SMALL = {"GTAV": (190, 104), "Cityscapes": (204, 102), "BDD100K": (128, 72)}


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(street_files, "SIZES", SMALL)
        street_files.write_streets(root, 2)
    return root


@pytest.fixture
def gtav(streets):
    return build_dataset("gtav", "train", load_settings({"DATASET.ROOT": str(streets)}))


def test_labels_by_colour_and_by_number_are_the_same(gtav):
    by_number = LabelReader(gtav.label_table)
    by_colour = LabelReader(gtav.label_table, gtav.label_space.colours)
    for index, path in enumerate(gtav.label_paths):
        assert np.array_equal(by_number(str(path)), gtav[index]["label"].numpy())
        wrong = by_colour(str(path)) != gtav[index]["label"].numpy()
        # Numbers that share a class's colour in the release have one of their own here.
        assert not wrong[~np.isin(np.array(Image.open(path)), (18, 34))].any()


def test_both_centroid_indices_find_the_same(gtav):
    label = gtav[0]["label"].numpy()
    ours = tile_centroids(label, 64, 19)
    theirs = np.array(centroids_by_loop(label, 64, 19))
    order = np.lexsort(ours.T), np.lexsort(theirs.T)
    assert np.allclose(ours[order[0]], theirs[order[1]], atol=1e-3)


def test_plain_pil_gives_a_sample(gtav):
    reader = LabelReader(gtav.label_table)
    image, label = sample(str(gtav.image_paths[0]), str(gtav.label_paths[0]), reader, crop=96)
    assert image.shape == (3, 96, 96) and label.shape == (96, 96)
    assert set(label.unique().tolist()) <= {*range(19), 255}


def test_command_prints_ratios_and_writes_figures(streets, tmp_path, monkeypatch, capsys):
    arguments = ["data", "--files", str(streets), "--images", "2", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path)])
    data.main()
    assert "whole / decode limit, colours on the device" in capsys.readouterr().out
    figures = json.loads((tmp_path / "data.json").read_text())
    assert figures["machine"] and figures["seconds_per_sample"]["GTAV"]["decode"] > 0
    assert set(figures["seconds_per_sample"]) == set(SMALL)
