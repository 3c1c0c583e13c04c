"""scripts/resize_dataset.py: a smaller copy has the samples of the release, in its order."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from test_check import check
from torchvision.transforms import InterpolationMode
from trees import camvid_tree, every_layout, layout_tree, write_16bit, write_grey, write_image

from datasets import DATASETS, build_dataset
from datasets.camvid import CamVid
from datasets.files import read_label
from scripts.resize_dataset import main
from utils.errors import UserError

NAMES = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary", "idd"]
NUMBERS = np.arange(120).reshape(10, 12) % 12


@pytest.fixture(scope="module")
def both(miniature, tmp_path_factory):
    """The miniature: (root of the release, root of its copy)."""
    out = tmp_path_factory.mktemp("copy")
    words = ["--out", str(out), "--height", "150", "DATASET.ROOT", str(miniature), "WORKERS", "2"]
    main([*NAMES, *words])
    return miniature, out


@pytest.fixture
def camvid(tmp_path):
    """A CamVid tree of six images 12×10 that have every number; the words that copy it."""
    root = camvid_tree(tmp_path / "camvid", [np.roll(NUMBERS, i) for i in range(6)])
    words = ["camvid", "--out", str(tmp_path / "out"), "--height", "5", "--splits", "train"]
    return root, [*words, "DATASET.CAMVID_DIR", str(root), "WORKERS", "0"]


def smaller(label, height):
    """Return the label at `height`: each pixel is the one of the old grid that holds its centre."""
    old = label.shape
    size = (height, round(old[1] * height / old[0]))
    rows, columns = ((np.arange(n) + 0.5) * o / n for n, o in zip(size, old, strict=True))
    return label[rows.astype(int)][:, columns.astype(int)]


def assert_is_copy(old, new, height):
    """Assert that a dataset has the samples of another one, in its order, at `height` at most."""
    assert new.relative_list() == old.relative_list()
    assert (new.split_rule, new.label_map) == (old.split_rule, old.label_map)
    for index in range(len(old)):
        a, b = old[index], new[index]
        label = a["label"].numpy()
        if len(label) <= height:
            assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])
            continue
        assert np.array_equal(b["label"].numpy(), smaller(label, height))
        size = list(b["label"].shape)
        image = F.resize(a["image"], size, InterpolationMode.BICUBIC, antialias=True)
        gap = (image.int() - b["image"].int()).abs().float().mean()
        # JPEG changes a pixel by a few grey levels.
        assert gap < (4 if old.image_paths[index].suffix == ".jpg" else 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_copy_of_the_miniature(settings, both, name):
    for split in ("train", "val"):
        old, new = (build_dataset(name, split, settings(DATASET__ROOT=str(r))) for r in both)
        assert_is_copy(old, new, 150)


@every_layout
def test_every_layout(tmp_path, layout):
    root = tmp_path / "release"
    name, split, _, _ = layout_tree(root, layout, NUMBERS)
    dataset = DATASETS[name]
    words = [f"DATASET.{dataset.root_setting}", str(root), "WORKERS", "0"]
    words += ["--out", str(tmp_path / "out"), "--height", "7", "--splits", split]
    if layout == "synthia_flat":
        words.append("train")
    main([name, *words])
    assert_is_copy(dataset(root, split), dataset(tmp_path / "out" / dataset.folder, split), 7)


def test_labels_keep_the_numbers_of_the_file_and_their_encoding(both, tmp_path):
    for name in ("gtav", "mapillary", "synthia"):
        dataset = DATASETS[name]
        old, new = (dataset(root / dataset.folder, "val") for root in both)
        for before, after in zip(old.label_paths, new.label_paths, strict=True):
            assert np.array_equal(read_label(after), smaller(read_label(before).numpy(), 150))
    assert check(both[1], tmp_path, *(f"{name}:val" for name in NAMES))[0] == 0


def test_lower_images_are_the_same_files(camvid, tmp_path):
    root, words = camvid
    main([*words, "--height", "10"])
    old, new = CamVid(root, "train"), CamVid(tmp_path / "out" / "camvid", "train")
    for kind in ("image_paths", "label_paths"):
        for before, after in zip(getattr(old, kind), getattr(new, kind), strict=True):
            assert before.read_bytes() == after.read_bytes()


def snapshot(folder):
    """{path below `folder`: (inode, time of the last change)} of its files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder): (path.stat().st_ino, path.stat().st_ctime_ns) for path in files
    }


@pytest.mark.parametrize("written", [0, 1, 4, 6, 9, 11])
def test_interrupted_copy_is_refused_by_readers_and_goes_on(camvid, tmp_path, monkeypatch, written):
    root, words = camvid
    replace, left = os.replace, [written]

    def interrupted(source, target):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        main(words)
    target = tmp_path / "out" / "camvid"
    with pytest.raises(UserError, match="CamVid train: "):
        CamVid(target, "train")
    before = snapshot(target)
    assert len(before) == written
    main(words)
    after = snapshot(target)
    assert len(after) == 12 and {path: after[path] for path in before} == before
    assert_is_copy(CamVid(root, "train"), CamVid(target, "train"), 5)


def test_damaged_files_of_a_copy_are_written_again(camvid, tmp_path):
    root, words = camvid
    main(words)
    target = tmp_path / "out" / "camvid"
    os.truncate(target / "trainannot" / "f002.png", 40)
    (target / "train" / "f003.jpg").write_bytes(b"")
    main(words)
    assert_is_copy(CamVid(root, "train"), CamVid(target, "train"), 5)


def test_a_copy_has_one_height(camvid, tmp_path):
    main(camvid[1])
    before = snapshot(tmp_path / "out")
    with pytest.raises(UserError, match="f000.jpg is 5 pixels high, not 6; choose another --out"):
        main([*camvid[1], "--height", "6"])
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("out", ["", "camvid", "camvid/train"])
def test_the_release_is_not_written_to(camvid, tmp_path, out):
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="lies in .*/camvid or holds it; choose another folder"):
        main([*camvid[1], "--out", str(tmp_path / out)])
    assert snapshot(tmp_path) == before


def test_a_link_to_the_release_is_not_written_to(camvid, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "camvid").symlink_to(camvid[0])
    with pytest.raises(UserError, match="choose another folder"):
        main(camvid[1])


def test_a_part_that_would_be_split_anew_is_refused(tmp_path):
    """A flat SYNTHIA is parted by the names of all its images; half of them are parted again."""
    release, out = tmp_path / "old", tmp_path / "new"
    for number in range(10):
        write_image(release / "RGB" / f"{number:07d}.png")
        write_16bit(release / "GT" / "LABELS" / f"{number:07d}.png", np.full((16, 16), 3))
    words = ["synthia", "--out", str(out), "--height", "9", "WORKERS", "0"]
    words += ["DATASET.SYNTHIA_DIR", str(release), "--splits", "val"]
    with pytest.raises(UserError, match="has other images than in .* copy all splits"):
        main(words)
    main([*words, "train"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_source_that_cannot_be_read_is_named(camvid, workers):
    root, words = camvid
    (root / "train" / "f004.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"cannot read {root}/train/f004.jpg"):
        main([*words, "WORKERS", workers])


def test_a_write_that_fails_leaves_nothing_half_written(camvid, tmp_path):
    root, words = camvid
    Image.effect_noise((400, 400), 90).convert("RGB").save(root / "train" / "a.png")
    write_grey(root / "trainannot" / "a.png", np.zeros((400, 400)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*a.png: File too large .the same"):
            main([*words, "--height", "200"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").rglob("*a.png*"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["gtaw"], "unknown dataset 'gtaw'; did you mean gtav"),
        (["gtav"], "where is GTAV"),
        (["gtav", "DATASET.GTAV_DIR", "/nowhere"], "GTAV train: .*/nowhere"),
        (["gtav", "DATASET.ROOT", "/nowhere", "--splits", "tset"], "split of GTAV 'tset'; did you"),
        (["gtav", "--height", "0"], "--height is 0; expected a number of pixels"),
        (["gtav", "DATASET.ROOT"], "has no value"),
    ],
)
def test_wrong_arguments(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        main(["--out", str(tmp_path / "out"), "--height", "9", *words])
    assert not (tmp_path / "out").exists()


def test_command_line(camvid, tmp_path):
    root, words = camvid
    command = [sys.executable, "scripts/resize_dataset.py", *words, "WORKERS", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"CamVid: 6 images with labels in {tmp_path}/out/camvid\n"
        f"read them with DATASET.ROOT {tmp_path}/out\n"
    )
    assert_is_copy(CamVid(root, "train"), CamVid(tmp_path / "out" / "camvid", "train"), 5)
