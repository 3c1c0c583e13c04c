"""Training runs that adapt to images without labels."""

import shutil

import pytest

from utils.errors import UserError


@pytest.mark.parametrize("name", ["dacs", "sepico"])
def test_labels_of_the_target_are_not_opened(run, miniature, tmp_path, name):
    data = tmp_path / "data"
    shutil.copytree(miniature, data)
    shutil.rmtree(data / "Cityscapes/gtFine")
    run("--method", name, "DATASET.TARGET", "cityscapes:train", "TRAIN.MAX_ITER", 2, data=data)
    assert (tmp_path / f"logs/gtav_resnet_mini_{name}/results.json").is_file()


def test_a_run_without_a_target(run):
    with pytest.raises(UserError, match="set DATASET.TARGET to a folder of photographs"):
        run("--method", "dacs", "DATASET.TARGET", "")
