"""Which images are in a split: list files, split.mat, folders, conditions, the seeded rule."""

import numpy as np
import pytest
from trees import write_16bit, write_grey, write_image, write_palette, write_split_mat

from datasets import DATASETS
from datasets.lists import seeded_part
from utils.errors import UserError

LABEL = np.full((4, 4), 7)


def gtav(root, numbers):
    for number in numbers:
        write_image(root / "images" / f"{number:05d}.png", 4, 4)
        write_palette(root / "labels" / f"{number:05d}.png", LABEL)
    return root


def synthia(root, count):
    for number in range(count):
        write_image(root / "RGB" / f"{number:07d}.png", 4, 4)
        write_16bit(root / "GT" / "LABELS" / f"{number:07d}.png", LABEL)
    return root


def stems(dataset):
    return [path.stem for path in dataset.image_paths]


def test_list_file_goes_before_split_mat_and_is_taken_as_it_stands(tmp_path):
    gtav(tmp_path, [1, 2, 3, 12160])
    write_split_mat(tmp_path / "split.mat", train=[1, 12160], val=[2], test=[3])
    by_mat = DATASETS["gtav"](tmp_path, "train")
    assert (stems(by_mat), by_mat.split_rule) == (["00001"], "split.mat")
    (tmp_path / "gtav_split_train.txt").write_text("images\\00003.png\n12160,x\n")
    by_list = DATASETS["gtav"](tmp_path, "train")
    assert stems(by_list) == ["00003", "12160"]
    assert by_list.split_rule == "the list file gtav_split_train.txt"
    # Other splits have no list and keep their rule.
    assert stems(DATASETS["gtav"](tmp_path, "val")) == ["00002"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "train.txt names no image"),
        ("# only words\n", "train.txt names no image"),
        ("00001\n00001.png\n", "names 1 images more than once"),
        ("00001\n00009\n", "1 images of the list file train.txt are not there; .*00009.png"),
    ],
)
def test_wrong_list_files(tmp_path, text, message):
    gtav(tmp_path, [1, 2])
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        DATASETS["gtav"](tmp_path, "train")


def test_damaged_split_mat_is_named(tmp_path):
    gtav(tmp_path, [1])
    for content in (b"", b"no mat file" * 40):
        (tmp_path / "split.mat").write_bytes(content)
        with pytest.raises(UserError, match=f"cannot read {tmp_path}/split.mat"):
            DATASETS["gtav"](tmp_path, "train")


def test_flat_synthia_is_parted_in_the_published_proportion(tmp_path):
    synthia(tmp_path, 20)
    parts = {split: DATASETS["synthia"](tmp_path, split) for split in ("train", "val")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 14, "val": 6}
    together = stems(parts["train"]) + stems(parts["val"])
    assert sorted(together) == [f"{number:07d}" for number in range(20)]
    assert all("seeded rule" in part.split_rule for part in parts.values())


def test_seeded_rule_is_pinned():
    names = [f"{number:07d}" for number in range(9400)]
    train, val = (seeded_part(names, 6580, 2820, split, 0) for split in ("train", "val"))
    assert (len(train), len(val)) == (6580, 2820) and not set(train) & set(val)
    assert val[:4] == ["0000003", "0000006", "0000008", "0000013"]
    assert val == seeded_part(reversed(names), 6580, 2820, "val", 0)
    assert val != seeded_part(names, 6580, 2820, "val", 1)


def test_folders_of_synthia_go_before_the_seeded_rule(tmp_path):
    synthia(tmp_path, 3)
    write_image(tmp_path / "RGB" / "val" / "x.png", 4, 4)
    write_16bit(tmp_path / "GT" / "LABELS" / "val" / "x.png", LABEL)
    dataset = DATASETS["synthia"](tmp_path, "val")
    assert (stems(dataset), dataset.split_rule) == (["x"], "the folders of the release")


def test_synthia_without_any_image(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*RGB/train"):
        DATASETS["synthia"](tmp_path, "train")


def test_conditions_of_acdc_are_domains(tmp_path):
    for number, condition in enumerate(("fog", "night", "rain", "snow")):
        for split in ("train", "val"):
            name = f"{condition}/{split}/GOPR{number}/GOPR{number}_frame_1"
            write_image(tmp_path / "rgb_anon" / f"{name}_rgb_anon.png", 4, 4)
            write_grey(tmp_path / "gt" / f"{name}_gt_labelTrainIds.png", LABEL)
    assert len(DATASETS["acdc"](tmp_path, "val")) == 4
    for condition in ("fog", "night", "rain", "snow"):
        dataset = DATASETS[f"acdc_{condition}"](tmp_path, "train")
        (path,) = dataset.relative_list()
        assert path.startswith(f"rgb_anon/{condition}/train/")


def test_acdc_without_one_condition_says_which(tmp_path):
    write_image(tmp_path / "rgb_anon/fog/val/G/G_rgb_anon.png", 4, 4)
    write_grey(tmp_path / "gt/fog/val/G/G_gt_labelTrainIds.png", LABEL)
    with pytest.raises(UserError, match="no files night/val"):
        DATASETS["acdc"](tmp_path, "val")


def test_idd_in_jpeg(tmp_path):
    write_image(tmp_path / "leftImg8bit/train/7/a_leftImg8bit.jpg", 4, 4)
    write_grey(tmp_path / "gtFine/train/7/a_gtFine_labelcsTrainIds.png", LABEL)
    assert len(DATASETS["idd"](tmp_path, "train")) == 1
