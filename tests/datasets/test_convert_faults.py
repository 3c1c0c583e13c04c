"""Interrupted, impossible and damaged conversions: nothing wrong is read, and work is kept."""

import fcntl
import json
import os
import resource
import shutil

import numpy as np
import pytest
from test_check import check
from trees import assert_same_samples, camvid_tree, write_grey, write_image

import datasets.convert_pair
from datasets import DATASETS
from datasets.camvid import CamVid
from datasets.convert import main
from utils.errors import UserError

NUMBERS = np.arange(120).reshape(10, 12) % 12


@pytest.fixture
def camvid(tmp_path):
    """A CamVid tree of six images 12×10 that have every number; its root setting as words."""
    root = camvid_tree(tmp_path / "camvid", [np.roll(NUMBERS, i) for i in range(6)])
    return root, ["DATASET.CAMVID_DIR", str(root), "WORKERS", "0"]


def snapshot(folder):
    """{path below `folder`: (inode, time of the last change)} of its files."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    return {
        path.relative_to(folder): (path.stat().st_ino, path.stat().st_ctime_ns) for path in files
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_all_named_and_the_rest_goes_on(camvid, tmp_path, capsys, workers):
    root, words = camvid
    command = ["camvid:train", "--out", str(tmp_path / "out"), *words[:2], "WORKERS", str(workers)]
    good = (root / "train/f001.jpg").read_bytes()
    (root / "train/f001.jpg").write_bytes(b"no picture")
    write_grey(root / "trainannot/f004.png", NUMBERS[1:])
    with pytest.raises(UserError, match="2 of 6 pairs of CamVid train, named above, cannot be"):
        main(command)
    screen = capsys.readouterr().err
    assert f"cannot read {root}/train/f001.jpg" in screen and "f004.png is 12×9 pixels" in screen
    target = tmp_path / "out" / "camvid"
    with pytest.raises(UserError, match=r"holds nothing complete; .*datasets.convert camvid"):
        CamVid(target, "train")
    before = snapshot(target)
    assert len(before) == 8 and not list(target.rglob("*.part"))
    (root / "train/f001.jpg").write_bytes(good)
    write_grey(root / "trainannot/f004.png", NUMBERS)
    main(command)
    assert "4 were compared by an earlier run" in capsys.readouterr().out
    after = snapshot(target)
    assert len(after) == 12 and {path: after[path] for path in before} == before
    assert_same_samples(CamVid(root, "train"), CamVid(target, "train"))


def test_a_file_of_the_release_that_changed_is_converted_again(camvid, tmp_path):
    root, words = camvid
    command = ["camvid:train", "--out", str(tmp_path / "out"), *words]
    main(command)
    before = snapshot(tmp_path / "out")
    label = root / "trainannot" / "f002.png"
    write_grey(label, NUMBERS[::-1])
    os.utime(label, (1, 1))
    main(command)
    after = snapshot(tmp_path / "out")
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed == {"f002.png", "f002.jpg"}
    assert_same_samples(CamVid(root, "train"), CamVid(tmp_path / "out" / "camvid", "train"))


def test_splits_are_added(camvid, tmp_path):
    root, words = camvid
    camvid_tree(root, [NUMBERS], "val")
    out = tmp_path / "out" / "camvid"
    main(["camvid:train", "--out", str(out.parent), *words])
    with pytest.raises(UserError, match="is a converted tree without val, .*convert camvid:val"):
        CamVid(out, "val")
    main(["camvid:val", "--out", str(out.parent), *words])
    assert (len(CamVid(out, "train")), len(CamVid(out, "val"))) == (6, 1)


def test_what_reads_back_differently_is_an_error_and_removed(camvid, tmp_path, monkeypatch):
    encode = datasets.convert_pair.png_bytes
    monkeypatch.setattr(datasets.convert_pair, "png_bytes", lambda pixels: encode(pixels.flip(-1)))
    with pytest.raises(UserError, match="f000.png reads back differently"):
        main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])
    assert not list((tmp_path / "out").rglob("*.png*"))


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path):
    root = tmp_path / "camvid"
    write_image(root / "train" / "a.png", 40, 40)
    write_grey(root / "trainannot" / "a.png", np.zeros((40, 40)))
    words = ["DATASET.CAMVID_DIR", str(root), "WORKERS", "0"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # More than converted.json and less than the image.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot convert .*a.png .*: File too large .the same"):
            main(["camvid:train", "--out", str(tmp_path / "out"), *words])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "converted.json"
    ]


def test_too_little_space(camvid, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"has 0.0 GB of free space; the conversion needs about"):
        main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])


def test_one_process_at_a_time(camvid, tmp_path):
    target = tmp_path / "out" / "camvid"
    main(["camvid:train", "--out", str(target.parent), *camvid[1]])
    with (target / "converting.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is converting to .*camvid"):
            main(["camvid:train", "--out", str(target.parent), *camvid[1]])


@pytest.mark.parametrize("out", ["", "camvid", "camvid/train"])
def test_the_release_is_not_written_to(camvid, tmp_path, out):
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="choose another"):
        main(["camvid:train", "--out", str(tmp_path / out), *camvid[1]])
    assert snapshot(tmp_path) == before


def test_a_folder_that_holds_something_else(camvid, tmp_path):
    (tmp_path / "out" / "camvid").mkdir(parents=True)
    (tmp_path / "out" / "camvid" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"out/camvid holds something else .no converted.json.;"):
        main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])


def test_a_tree_has_one_size(camvid, tmp_path):
    main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])
    with pytest.raises(UserError, match="was converted with size original; choose another --out"):
        main(["camvid:train", "--out", str(tmp_path / "out"), "--height", "5", *camvid[1]])


def test_a_converted_tree_is_no_release(camvid, tmp_path):
    main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])
    words = ["DATASET.ROOT", str(tmp_path / "out")]
    with pytest.raises(UserError, match="is a converted tree; name the root of the release"):
        main(["camvid:train", "--out", str(tmp_path / "again"), *words])


@pytest.fixture
def tree(camvid, tmp_path):
    """A converted CamVid."""
    main(["camvid:train", "--out", str(tmp_path / "out"), *camvid[1]])
    return tmp_path / "out" / "camvid"


def test_files_of_a_converted_tree_that_are_gone_are_named(tree):
    (tree / "train/train_ids/f003.png").unlink()
    with pytest.raises(UserError, match="1 of 6 images have no label; .*train/images/f003.jpg"):
        CamVid(tree, "train")
    (tree / "train/images/f001.jpg").unlink()
    with pytest.raises(UserError, match="1 images of the folders .* first is .*images/f001.jpg"):
        CamVid(tree, "train")


def test_a_tree_of_other_train_ids_is_refused(tree):
    stamp = json.loads((tree / "converted.json").read_text())
    stamp["train_ids"]["3"] = 5
    (tree / "converted.json").write_text(json.dumps(stamp))
    with pytest.raises(UserError, match="converted with another table of train ids; delete it"):
        CamVid(tree, "train")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "datasets": {"camvid": 3}}'])
def test_damaged_stamp(tree, text):
    (tree / "converted.json").write_text(text)
    with pytest.raises(UserError, match="converted.json is damaged or of another version"):
        CamVid(tree, "train")


def test_a_tree_of_another_dataset(tree):
    with pytest.raises(UserError, match="a converted tree and holds camvid; .*convert cityscapes"):
        DATASETS["cityscapes"](tree, "train")


def test_the_check_finds_a_stray_train_id(tree, tmp_path):
    write_grey(tree / "train/train_ids/f002.png", np.full((10, 12), 14))
    code, report = check(tree.parent, tmp_path / "check", "camvid")
    faults = [fault for result in report for fault in result["faults"]]
    assert code == 1 and [fault["kind"] for fault in faults] == ["stray id"]
    assert faults[0]["file"] == str(tree / "train/train_ids/f002.png")


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "name the datasets to convert: gtav"),
        (["gtaw"], "unknown dataset 'gtaw'; did you mean gtav"),
        (["gtav:tset"], "unknown split of GTAV 'tset'; did you mean test"),
        (["gtav", "--height", "0"], "--height is 0; expected a number of pixels"),
        (["gtav"], "where is GTAV"),
        (["gtav", "DATASET.GTAV_DIR", "/nowhere"], "GTAV train: .*/nowhere"),
        (["gtav", "DATASET.ROOT"], "has no value"),
    ],
)
def test_wrong_arguments(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        main([*words, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
