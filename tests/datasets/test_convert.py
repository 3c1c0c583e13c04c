"""A converted tree is read exactly like the release it was made of, or not at all."""

import os
import shutil
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
from trees import assert_same_samples, camvid_tree, every_layout, layout_tree

from datasets import DATASETS, build_dataset
from datasets.camvid import CamVid
from datasets.convert import main
from datasets.label_spaces import CITYSCAPES19, IDD_LITE7
from datasets.mapillary import Mapillary
from datasets.miniature import DOMAINS
from datasets.miniature.write import write_domains
from datasets.sampling.centroids import load_or_compute
from transforms import EvalTransform, TrainTransform
from utils.errors import UserError

NAMES = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary", "idd", "acdc"]
NUMBERS = np.arange(120).reshape(10, 12) % 12


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    write_domains(root, list(DOMAINS), workers=1, train=5, val=4, progress=False)
    return root


@pytest.fixture(scope="module")
def converted(release, tmp_path_factory):
    root = tmp_path_factory.mktemp("converted")
    main([*NAMES, "--out", str(root), "DATASET.ROOT", str(release), "WORKERS", "2"])
    return root


@pytest.fixture
def camvid(tmp_path):
    """A CamVid tree of six images 12×10 that have every number; its root setting as words."""
    root = camvid_tree(tmp_path / "camvid", [np.roll(NUMBERS, i) for i in range(6)])
    return root, ["DATASET.CAMVID_DIR", str(root), "WORKERS", "0"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", [*NAMES, "acdc_fog", "acdc_night"])
def test_samples_names_and_order_are_those_of_the_release(
    settings, release, converted, name, split
):
    old = build_dataset(name, split, settings(DATASET__ROOT=str(release)))
    new = build_dataset(name, split, settings(DATASET__ROOT=str(converted)))
    assert_same_samples(old, new)
    assert new.relative_list() == old.relative_list()
    assert new.split_rule == f"{old.split_rule}, converted"
    assert (new.label_map, new.means) == (old.label_map, old.means)


@every_layout
def test_every_layout(tmp_path, layout):
    root = tmp_path / "release"
    name, split, image, _ = layout_tree(root, layout, NUMBERS)
    dataset = DATASETS[name]
    words = [f"DATASET.{dataset.root_setting}", str(root), "WORKERS", "0"]
    main([f"{name}:{split}", "--out", str(tmp_path / "out"), *words])
    new = dataset(tmp_path / "out" / dataset.folder, split)
    assert_same_samples(dataset(root, split), new)
    assert new.relative_list() == [image.relative_to(root).as_posix()]


def test_labels_are_grey_train_ids_and_images_the_same_bytes(release, converted):
    for name in ("synthia", "mapillary"):
        dataset = DATASETS[name]
        old = dataset(release / dataset.folder, "val")
        new = dataset(converted / dataset.folder, "val")
        for index in range(len(old)):
            with Image.open(new.label_paths[index]) as file:
                assert file.mode == "L"
                assert np.array_equal(np.array(file), old[index]["label"].numpy())
            assert new.image_paths[index].read_bytes() == old.image_paths[index].read_bytes()


@pytest.mark.parametrize("name", ["gtav", "mapillary"])
def test_training_sees_the_same_crops_and_centroids(settings, release, converted, tmp_path, name):
    found = []
    for root in (release, converted):
        cfg = settings(DATASET__ROOT=str(root), TRANSFORM__CROP_SIZE=[96, 128])
        dataset = build_dataset(name, "train", cfg, transform=TrainTransform(cfg), seed=3)
        classes = load_or_compute(dataset, 100, tmp_path / root.name, 19, workers=0)
        index, x, y = (part[0] for part in classes[0])
        samples = [dataset[(0, 1, None)], dataset[(7, int(index), (float(x), float(y)))]]
        found.append((samples, classes))
    for old, new in zip(*(samples for samples, _ in found), strict=True):
        assert torch.equal(old["image"], new["image"]) and torch.equal(old["label"], new["label"])
    for old, new in zip(*(classes for _, classes in found), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))


@pytest.mark.parametrize("space", [CITYSCAPES19, IDD_LITE7])
def test_label_spaces_that_the_release_maps_to_itself(camvid, tmp_path, space):
    # CamVid's bicyclists are bicycles in the 19 classes, hence vehicles, but void in the groups.
    root, words = camvid
    main(["camvid:train", "--out", str(tmp_path / "out"), *words])
    new = CamVid(tmp_path / "out" / "camvid", "train", label_space=space)
    assert_same_samples(CamVid(root, "train", label_space=space), new)


@pytest.mark.parametrize("name", NAMES)
def test_coarser_label_space(settings, release, converted, name):
    old, new = (
        build_dataset(name, "val", settings(DATASET__ROOT=str(root)), label_space=IDD_LITE7)
        for root in (release, converted)
    )
    assert_same_samples(old, new)


def test_other_label_map_of_mapillary(settings, release, converted, tmp_path):
    words = ["DATASET.ROOT", str(release), "DATASET.MAPILLARY_LABEL_MAP", "openseg"]
    main(["mapillary:val", "--out", str(tmp_path), *words, "WORKERS", "0"])
    old = Mapillary(release / "Mapillary", "val", label_map="openseg")
    new = Mapillary(tmp_path / "Mapillary", "val", label_map="openseg")
    assert_same_samples(old, new)
    with pytest.raises(UserError, match="converted with label map openseg, .* into robustnet"):
        Mapillary(tmp_path / "Mapillary", "val")
    with pytest.raises(UserError, match="converted with label map robustnet, .* into openseg"):
        Mapillary(converted / "Mapillary", "val", label_map="openseg")


def test_resized_to_the_protocol(release, tmp_path):
    root = tmp_path / "release" / "Mapillary" / "validation"
    shutil.copytree(release / "Mapillary" / "validation", root)
    dataset = Mapillary(root.parent, "val")
    # One landscape and one portrait.
    shapes = {image: dataset[i]["label"].shape for i, image in enumerate(dataset.image_paths)}
    wide = [image for image, (height, width) in shapes.items() if width > height]
    for image in wide[1:]:
        image.unlink()
    words = ["DATASET.ROOT", str(tmp_path / "release"), "WORKERS", "0"]
    main(["mapillary:val", "--out", str(tmp_path), "--protocol", "robustnet", *words])
    old, new = (
        Mapillary(path, "val", transform=EvalTransform("robustnet", "mapillary"))
        for path in (root.parent, tmp_path / "Mapillary")
    )
    assert_same_samples(old, new)
    assert new.label_map == "robustnet, resized (protocol robustnet)"
    assert new.split_rule.endswith(", converted, resized (protocol robustnet)")
    native = Mapillary(tmp_path / "Mapillary", "val")
    assert all(native[i]["image"].shape == (3, 1536, 1536) for i in range(len(native)))


def test_resized_to_a_height(release, tmp_path):
    words = ["DATASET.ROOT", str(release), "WORKERS", "0"]
    main(["mapillary:train", "--out", str(tmp_path), "--height", "280", *words])
    old = Mapillary(release / "Mapillary", "train")
    new = Mapillary(tmp_path / "Mapillary", "train")
    endings = set()
    for a, b, path in zip((old[i] for i in range(len(old))), new, new.image_paths, strict=False):
        height, width = a["label"].shape
        endings.add((height > 280, path.suffix))
        image, label = a["image"], a["label"]
        if height > 280:
            size = [280, round(width * 280 / height)]
            image = F.resize(image, size, InterpolationMode.BICUBIC, antialias=True)
            label = F.resize(label[None], size, InterpolationMode.NEAREST_EXACT)[0]
        assert torch.equal(b["image"], image) and torch.equal(b["label"], label)
    assert endings == {(True, ".png"), (False, ".jpg")}
    assert new.label_map == "robustnet, resized (height 280)"
    assert new.relative_list() == old.relative_list()


def test_a_rule_that_resizes_nothing_leaves_results_comparable(camvid, tmp_path):
    root, words = camvid
    main(["camvid:train", "--out", str(tmp_path / "out"), "--height", "400", *words])
    new = CamVid(tmp_path / "out" / "camvid", "train")
    assert new.label_map == CamVid(root, "train").label_map


def test_links_in_place_of_copies(camvid, tmp_path):
    root, words = camvid
    main(["camvid:train", "--out", str(tmp_path / "out"), "--link", *words])
    new = CamVid(tmp_path / "out" / "camvid", "train")
    for path in new.image_paths:
        assert os.path.samefile(path, root / "train" / path.name)
    assert_same_samples(CamVid(root, "train"), new)


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_without_its_stamp_is_no_dataset(settings, converted, tmp_path, name):
    folder = DATASETS[name].folder
    shutil.copytree(converted / folder, tmp_path / folder)
    (tmp_path / folder / "converted.json").unlink()
    for split in ("train", "val"):
        with pytest.raises(UserError, match="there is n"):
            build_dataset(name, split, settings(DATASET__ROOT=str(tmp_path)))


def test_the_check_finds_no_fault(converted, tmp_path):
    code, report = check(converted, tmp_path, "gtav", "synthia:train", "acdc_fog")
    assert code == 0
    assert [(r["dataset"], r["split"], r["images"]) for r in report] == [
        ("gtav", "train", 5),
        ("gtav", "val", 4),
        ("synthia", "train", 5),
        ("acdc_fog", "train", 1),
        ("acdc_fog", "val", 1),
    ]


def test_split_without_images(release, tmp_path):
    with pytest.raises(UserError, match="GTAV test has no images"):
        main(["gtav:test", "--out", str(tmp_path / "out"), "DATASET.ROOT", str(release)])


def test_command_line(release, tmp_path):
    command = [sys.executable, "-m", "datasets.convert", "idd:val", "DATASET.ROOT", str(release)]
    command += ["--out", str(tmp_path / "out"), "WORKERS", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert f"IDD val: 4 pairs in {tmp_path}/out/IDD, all equal to those of {release}/IDD" in (
        done.stdout
    )
    assert "pairs/s" in done.stdout
