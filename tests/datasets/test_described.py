"""Datasets that a file describes: the example of docs/datasets.md, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from trees import EXAMPLE, orchard_tree

import datasets
from datasets import build_dataset, dataset_class, is_seen, load_settings
from datasets.check.__main__ import main as check
from datasets.sampling.survey import survey_split
from scripts.resize_dataset import main as resize
from utils.errors import UserError


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(datasets, "DESCRIBED", {})


@pytest.fixture
def orchard(tmp_path):
    """The example's folder: `(its JSON file, train ids of the labels by name)`."""
    return orchard_tree(tmp_path / "orchard")


def opened(file, split="train", **overrides):
    cfg = load_settings({"DATASET.SOURCE": [str(file)]} | overrides)
    return build_dataset(cfg.DATASET.SOURCE[0], split, cfg)


def test_the_example_is_read(orchard):
    file, labels = orchard
    train, val = opened(file), opened(file, "val")
    assert [path.stem for path in train.image_paths] == ["a b", "c", "c"]
    names = [p.removeprefix("photos/spring 2024/")[:-4] for p in train.relative_list()]
    for index, name in enumerate(names):
        assert np.array_equal(train[index]["label"].numpy(), labels[name])
    assert [p.removeprefix("photos/late/")[:-8] for p in val.relative_list()] == [
        "row 2/x 1", "row 2/y",
    ]  # fmt: skip
    assert np.array_equal(val[0]["label"].numpy(), labels["row 2/x 1"])
    assert (train.title, train.label_space.classes[2]) == ("Orchard", "tree")
    assert train.label_space.colours[1:3] == ((128, 64, 0), (34, 139, 34))
    assert val.split_rule == "the list file val.txt"


def test_it_travels_to_other_processes(orchard):
    train = opened(orchard[0])
    datasets.DESCRIBED.clear()
    copy = pickle.loads(pickle.dumps(train))
    assert np.array_equal(copy[1]["label"], train[1]["label"])
    assert pickle.loads(pickle.dumps(type(train))).title == "Orchard"


def test_both_ways_between_its_classes_and_the_nineteen(orchard):
    file, labels = orchard
    cfg = load_settings({"DATASET.FILES": str(file)})
    nineteen = dataset_class("cityscapes").label_space
    there = build_dataset("orchard", "train", cfg, label_space=nineteen)
    table = np.array([9, 255, 8, 255, 10])
    own = labels["a b"]
    expected = np.where(own == 255, 255, table[np.minimum(own, 4)])
    assert np.array_equal(there[0]["label"].numpy(), expected)
    joined = datasets.coarsening(nineteen, dataset_class("orchard").label_space)
    assert joined[[9, 0, 1, 8, 10, 13]].tolist() == [0, 1, 1, 2, 4, 255]


def test_check_names_the_strange_colour(orchard, tmp_path, capsys):
    with pytest.raises(SystemExit):
        check([f"{orchard[0]}:train", "--out", str(tmp_path / "report"), "WORKERS", "0"])
    printed = capsys.readouterr().out
    assert "Orchard train: 3 images" in printed and "fruit" in printed
    assert (
        printed.count("FAULT stray id") == 3 and "colours it does not list (256 pixels)" in printed
    )


@pytest.mark.parametrize("labels", ["numbers", "palette"])
def test_numbers_and_names_of_label_spaces(tmp_path, labels):
    numbers = np.arange(64, dtype=np.uint8).reshape(8, 8) % 20
    picture = Image.fromarray(numbers)
    if labels == "palette":
        picture.putpalette([(i * 7) % 256 for i in range(768)])
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    picture.save(tmp_path / "labels/a.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a.webp")
    file = tmp_path / "own.json"
    split = {"images": "images/*.webp", "labels": "labels/*"}
    content = {"name": "own", "classes": "cityscapes19", "splits": {"val": split}}
    file.write_text(json.dumps(content))
    label = opened(file, "val")[0]["label"].numpy()
    assert np.array_equal(label, np.where(numbers == 19, 255, numbers))


def test_data_that_moved_are_found_below_the_common_root(orchard, tmp_path):
    file, _ = orchard
    (tmp_path / "moved").mkdir()
    for name in ("photos", "masks"):
        (tmp_path / "moved/orchard").mkdir(exist_ok=True)
        (file.parent / name).rename(tmp_path / "moved/orchard" / name)
    with pytest.raises(UserError, match=f'Orchard train: .*"root" in {file} changes it'):
        opened(file)
    assert len(opened(file, **{"DATASET.ROOT": str(tmp_path / "moved")})) == 3
    second = tmp_path / "second.json"
    second.write_text(json.dumps(EXAMPLE | {"name": "second", "folder": "orchard"}))
    assert len(opened(second, **{"DATASET.ROOT": str(tmp_path / "moved")})) == 3


def test_a_name_is_of_one_dataset(orchard, tmp_path):
    file, _ = orchard
    load_settings({"DATASET.FILES": str(file)})
    (tmp_path / "copy.json").write_text(file.read_text())
    with pytest.raises(UserError, match=f"copy.json: the name orchard is taken by .* {file}"):
        load_settings({"DATASET.FILES": str(tmp_path / "copy.json")})
    assert is_seen("orchard:val", ["orchard"]) and not is_seen("orchard", ["gtav"])
    file.write_text(json.dumps(EXAMPLE | {"name": "gtav"}))
    with pytest.raises(UserError, match="the name gtav is taken by a dataset of this project"):
        load_settings({"DATASET.SOURCE": str(file)})
    file.write_text(json.dumps(EXAMPLE | {"name": "other", "label_space": "cityscapes19"}))
    with pytest.raises(UserError, match="two label spaces are called cityscapes19: grass, path"):
        load_settings({"DATASET.SOURCE": str(file)})


def changed(**changes):
    return {key: value for key, value in (EXAMPLE | changes).items() if value is not None}


def classes(*own, **others):
    return changed(classes=list(own), **others)


RED, GREEN = {"rgb": [255, 0, 0]}, {"rgb": [0, 255, 0]}
BAD = {
    'the description has no "classes"': changed(classes=None),
    'the description: "splits" is .* of the wrong type': changed(splits=[]),
    "the description: unknown key 'class'; did you mean classes": changed(**{"class": []}),
    '"name" is .a/b.; it has letters, digits': changed(name="a/b"),
    '"folder" is .a/b.; it has letters, digits': changed(folder="a/b"),
    "the label space orchard has 1 classes": classes(EXAMPLE["classes"][0], **{"from": {}}),
    "unknown label space 'city'": changed(classes="city"),
    '"classes", number 0, "labels" holds 256': classes({"name": "a", "labels": 256}),
    "holds {'rgb': 3, 'x': 1}; a label is": classes({"name": "a", "labels": {"rgb": 3, "x": 1}}),
    "a colour is .red, green, blue. from 0 to 255, not .1, 2.": changed(void={"rgb": [1, 2]}),
    'number 0 has no "colour"': classes({"name": "a", "labels": 3}),
    "the name 'a' stands twice": classes(
        {"name": "a", "labels": RED}, {"name": "a", "labels": GREEN}
    ),
    r"the label \(255, 0, 0\) stands twice": changed(void=RED),
    "labels are numbers, or": changed(void=0),
    '"splits" is empty': changed(splits={}),
    '"splits", \'train\' has no "labels"': changed(splits={"train": {"images": "a"}}),
    "'images' is '../a'; it lies below the root": changed(
        splits={"train": {"images": "../a", "labels": "b"}}
    ),
    "unknown class of cityscapes19 'lawn'": changed(to={"cityscapes19": {"grass": "lawn"}}),
    "unknown class of \"classes\" 'lawn'": changed(**{"from": {"cityscapes19": {"lawn": "road"}}}),
    "unknown label space in \"to\" 'city'": changed(to={"city": {}}),
}


@pytest.mark.parametrize("message", BAD)
def test_a_wrong_description_is_named_with_its_place(tmp_path, message):
    file = tmp_path / "own.json"
    file.write_text(json.dumps(BAD[message]))
    with pytest.raises(UserError, match=f"{file}.*({message})"):
        load_settings({"DATASET.VALIDATION": f"{file}:val"})


@pytest.mark.parametrize("content", [None, "{", "[]", "\0\1"])
def test_a_file_that_is_no_description(tmp_path, content):
    if content:
        (tmp_path / "own.json").write_text(content)
    with pytest.raises(UserError, match="own.json"):
        load_settings({"DATASET.SOURCE": str(tmp_path / "own.json")})


@pytest.mark.parametrize("line, message", [
    ("z", "names 0 images: z"), ("x 1_rgb", "names 2 images: x 1_rgb"),
    ("y_rgb\ny_rgb.jpg", "names an image twice: y_rgb.jpg"),
])  # fmt: skip
def test_lists_name_images_of_the_split(orchard, line, message):
    (orchard[0].parent / "val.txt").write_text(line)
    with pytest.raises(UserError, match=f"the list file .*val.txt {message}"):
        opened(orchard[0], "val")


def test_leaving_images_out(orchard):
    file, _ = orchard
    (file.parent / "leave_out_train.txt").write_text("row 1/c.jpg\n")
    dataset = opened(file)
    assert len(dataset) == 2 and dataset.split_rule.endswith(
        "without the 1 images of leave_out_train.txt"
    )
    (file.parent / "leave_out_train.txt").write_text("c\na b\nrow 2/c\n")
    with pytest.raises(UserError, match="leave_out_train.txt names 2 images: c"):
        opened(file)
    (file.parent / "leave_out_train.txt").write_text("row 1/c\na b\nrow 2/c\n")
    with pytest.raises(UserError, match="without the 3 images of .* leave no image"):
        opened(file)


def test_a_resized_copy_has_its_colours(orchard, tmp_path):
    file, labels = orchard
    resize([str(file), "--out", str(tmp_path / "small"), "--height", "16"])
    copy = opened(file, **{"DATASET.ROOT": str(tmp_path / "small")})
    assert copy.root == tmp_path / "small" / "orchard"
    # Blocks of 8 pixels become blocks of 4.
    assert np.array_equal(copy[0]["label"].numpy(), labels["a b"][::2, ::2])


def test_a_colour_that_is_corrected_is_surveyed_anew(orchard, tmp_path):
    """The files are the same, and so is the table from numbers to train ids."""
    file, _ = orchard
    wrong = json.dumps(EXAMPLE).replace("[135, 206, 235]", "[1, 2, 3]")
    found = []
    for content in (wrong, json.dumps(EXAMPLE)):
        file.write_text(content)
        dataset = opened(file)
        survey = survey_split(dataset, 16, tmp_path / "cache", 0)
        found.append(survey.class_pixels(dataset)[:, 4].tolist())
    assert found == [[0, 0, 0], [256, 256, 256]]
