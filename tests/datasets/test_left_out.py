"""No image is left out without a word; what systems leave in folders is no image."""

import shutil

import numpy as np
import pytest
from trees import camvid_tree

from datasets.camvid import CamVid
from utils.errors import UserError


@pytest.fixture
def camvid(tmp_path):
    """Three images of CamVid: f000.jpg to f002.jpg, and their labels."""
    return camvid_tree(tmp_path / "camvid", [np.zeros((30, 40))] * 3)


@pytest.mark.parametrize("ending", [".JPG", ".jpeg", ".JPEG", ".Jpg"])
def test_endings_in_capitals_and_of_four_letters(camvid, ending):
    image, label = camvid / "train/f001.jpg", camvid / "trainannot/f001.png"
    image.rename(image.with_suffix(ending))
    label.rename(label.with_suffix(".PNG"))
    dataset = CamVid(camvid, "train")
    assert [path.name for path in dataset.image_paths] == ["f000.jpg", f"f001{ending}", "f002.jpg"]
    assert dataset[1]["label"].shape == (30, 40)


@pytest.mark.parametrize("name", ["._f000.jpg", ".hidden.jpg", "Thumbs.db", ".DS_Store"])
def test_what_systems_leave_is_no_image(camvid, name):
    (camvid / "train" / name).write_bytes(b"x")
    (camvid / "trainannot" / name).write_bytes(b"x")
    assert len(CamVid(camvid, "train")) == 3


def test_a_picture_and_its_conversion_are_refused(camvid):
    shutil.copy(camvid / "train/f001.jpg", camvid / "train/f001.png")
    with pytest.raises(UserError, match="f001.jpg and .*f001.png would be one image; remove one"):
        CamVid(camvid, "train")


def test_labels_without_an_image_are_said(camvid, capsys):
    CamVid(camvid, "train")
    assert not capsys.readouterr().err
    (camvid / "train/f002.jpg").unlink()
    assert len(CamVid(camvid, "train")) == 2
    said = capsys.readouterr().err
    assert said.startswith("warning: CamVid train leaves out 1 labels without an image, such as")
    assert "f002.png" in said
