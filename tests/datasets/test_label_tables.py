"""Every number that a label file can hold, against tables typed from the datasets' papers."""

import numpy as np
import pytest
import torch
from trees import camvid_tree, every_layout, layout_tree

from datasets import DATASETS, build_dataset, label_spaces, load_settings
from datasets.camvid import CamVid
from datasets.idd_lite import IDD_LITE7
from datasets.label_spaces import CITYSCAPES19, LabelSpace, coarsening, lookup_table
from transforms import TrainTransform
from utils.errors import UserError

CLASSES = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky "
    "person rider car truck bus train motorcycle bicycle"
).split()

# The file's numbers of each of CLASSES, in order.
CITYSCAPES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
NUMBERS = {
    "cityscapes": [[number] for number in CITYSCAPES],
    "gtav": [[17, 18] if n == 17 else [26, 34] if n == 26 else [n] for n in CITYSCAPES],
    "synthia": [
        *([3], [4], [2], [21], [5], [7], [15], [9], [6], [16], [1], [10], [17], [8], [18]),
        *([19], [20], [12], [11]),
    ],
    "bdd100k": [[number] for number in range(19)],
    "idd": [[number] for number in range(19)],
    "acdc_night": [[number] for number in range(19)],
    "mapillary": [
        *([13, 24, 41], [2, 15], [17], [6], [3], [45, 47], [48], [50], [30], [29], [27], [19]),
        *([20, 21, 22], [55], [61], [54], [58], [57], [52]),
    ],
    # sky building pole road pavement tree sign fence car pedestrian bicyclist
    "camvid": [
        *([3], [4], [1], [], [7], [2], [], [6], [5], [], [0], [9], [], [8], [], [], [], []),
        [10],
    ],
    "idd_lite": [[0], [1], [2], [3], [4], [5], [6]],
}
GROUPS = {
    "road": 0,
    **{"sidewalk": 1, "terrain": 1},
    **{"person": 2, "rider": 2},
    **{"car": 3, "truck": 3, "bus": 3, "train": 3, "motorcycle": 3, "bicycle": 3},
    **{"wall": 4, "fence": 4, "pole": 4, "traffic_light": 4, "traffic_sign": 4},
    **{"building": 5, "vegetation": 5},
    "sky": 6,
}
ALL_NUMBERS = np.arange(256).reshape(16, 16)


def expected_table(name: str) -> np.ndarray:
    table = np.full(256, 255)
    for train_id, numbers in enumerate(NUMBERS[name]):
        table[numbers] = train_id
    return table


def test_class_names():
    assert [name.replace(" ", "_") for name in CITYSCAPES19.classes] == CLASSES
    assert len(IDD_LITE7) == 7 and IDD_LITE7.classes[6] == "sky"


@pytest.mark.parametrize("space", label_spaces().values(), ids=label_spaces())
def test_colours_tell_classes_apart(space):
    assert len(set(space.colours)) == len(set(space.classes)) == len(space)


@every_layout
def test_file_numbers_become_train_ids(tmp_path, layout):
    name, split, image, label = layout_tree(tmp_path, layout, ALL_NUMBERS)
    dataset = DATASETS[name](tmp_path, split)
    assert (dataset.image_paths, dataset.label_paths) == ([image], [label])
    assert dataset.relative_list() == [image.relative_to(tmp_path).as_posix()]
    sample = dataset[0]
    assert sample["image"].shape == (3, 16, 16)
    assert sample["label"].flatten().tolist() == expected_table(name).tolist()


def test_other_label_map_of_mapillary(tmp_path):
    layout_tree(tmp_path, "mapillary_val", ALL_NUMBERS)
    dataset = DATASETS["mapillary"](tmp_path, "val", label_map="openseg")
    expected = expected_table("mapillary")
    expected[[7, 8, 10, 14, 23]] = 0
    expected[[9, 11]] = 1
    expected[44] = 5
    expected[[46, 49]] = 7
    expected[41] = 255
    assert dataset[0]["label"].flatten().tolist() == expected.tolist()
    assert dataset.label_map == "openseg"
    cfg = load_settings(
        {"DATASET.MAPILLARY_DIR": str(tmp_path), "DATASET.MAPILLARY_LABEL_MAP": "openseg"}
    )
    chosen = build_dataset("mapillary", "val", cfg)
    assert chosen.label_table.tolist() == expected.tolist()
    given = build_dataset("mapillary", "val", cfg, label_map="robustnet")
    assert given.label_table.tolist() == expected_table("mapillary").tolist()
    assert given.label_map == DATASETS["mapillary"](tmp_path, "val").label_map == "robustnet"
    with pytest.raises(UserError, match="unknown label map of Mapillary 'opensge'.* mean openseg"):
        DATASETS["mapillary"](tmp_path, "val", label_map="opensge")


@pytest.mark.parametrize("layout", ["cityscapes", "synthia", "mapillary_val"])
def test_coarser_labels(tmp_path, layout):
    name, split, _, _ = layout_tree(tmp_path, layout, ALL_NUMBERS)
    dataset = DATASETS[name](tmp_path, split, label_space=IDD_LITE7)
    groups = [255 if i == 255 else GROUPS[CLASSES[i]] for i in expected_table(name)]
    assert dataset[0]["label"].flatten().tolist() == groups
    assert dataset.label_space is IDD_LITE7
    assert dataset.means == {"mIoU": (0, 1, 2, 3, 4, 5, 6)}


def test_camvid_bicyclists_are_void_in_groups(tmp_path):
    layout_tree(tmp_path, "camvid", ALL_NUMBERS)
    label = DATASETS["camvid"](tmp_path, "test", label_space=IDD_LITE7)[0]["label"]
    assert label.flatten()[:12].tolist() == [6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 255, 255]
    assert (label.flatten()[12:] == 255).all()


def test_coarsening_of_a_space_to_itself_and_of_void():
    same = coarsening(CITYSCAPES19, CITYSCAPES19)
    assert same.dtype == np.uint8
    assert same.tolist() == [*range(19), *[255] * 237]
    assert coarsening(CITYSCAPES19, IDD_LITE7)[255] == 255


def test_no_table_from_coarse_to_fine(tmp_path):
    assert coarsening(IDD_LITE7, CITYSCAPES19) is None
    layout_tree(tmp_path, "idd_lite", ALL_NUMBERS)
    with pytest.raises(UserError, match="IDD-Lite has labels in idd_lite7, and no table leads"):
        DATASETS["idd_lite"](tmp_path, "val", label_space=CITYSCAPES19)


def test_label_space_of_equal_size_is_not_confused(tmp_path):
    layout_tree(tmp_path, "bdd_new", ALL_NUMBERS)
    other = LabelSpace("other19", CITYSCAPES19.classes, CITYSCAPES19.colours)
    with pytest.raises(UserError, match="other19"):
        DATASETS["bdd100k"](tmp_path, "val", label_space=other)


def test_lookup_table():
    table = lookup_table({0: 3, 254: 1})
    assert (table.dtype, table.shape) == (np.uint8, (256,))
    assert (table[0], table[254], table[1], table[255]) == (3, 1, 255, 255)


def test_synthia_means(tmp_path):
    layout_tree(tmp_path, "synthia", ALL_NUMBERS)
    means = DATASETS["synthia"](tmp_path, "train").means
    assert means["mIoU"] == tuple(range(19))
    left_out = {
        name: [CLASSES[i] for i in range(19) if i not in ids] for name, ids in means.items()
    }
    assert left_out["mIoU16"] == ["terrain", "truck", "train"]
    assert left_out["mIoU13"] == ["wall", "fence", "pole", "terrain", "truck", "train"]


def test_camvid_mean_is_over_its_eleven_classes(tmp_path):
    layout_tree(tmp_path, "camvid", ALL_NUMBERS)
    means = DATASETS["camvid"](tmp_path, "test").means
    assert means == {"mIoU": tuple(i for i, numbers in enumerate(NUMBERS["camvid"]) if numbers)}


@pytest.mark.parametrize("name", DATASETS)
def test_padding_is_void_in_every_table(name):
    cls = DATASETS[name]
    for maps in (cls.label_maps, *cls.other_label_maps.values()):
        assert all(lookup_table(table)[255] == 255 for table in maps.values())


class Mask(CamVid):
    """Masks of 0 and 255."""

    label_maps = {"cityscapes19": {0: 0, 255: 1}}


def test_padding_is_void_whatever_the_table_says(tmp_path):
    """255 is a class of this table; the canvas around a small crop is not."""
    root = camvid_tree(tmp_path / "camvid", [np.full((30, 40), 255)])
    cfg = load_settings({"TRANSFORM.CROP_SIZE": "60,80", "TRANSFORM.SCALE": "1,1"})
    label = Mask(root, "train", transform=TrainTransform(cfg))[0]["label"]
    assert torch.bincount(label.flatten(), minlength=256)[[1, 255]].tolist() == [1200, 3600]


@pytest.mark.parametrize("number, train_id", [(-1, 0), (256, 0), (3, 19), (3, -1)])
def test_a_table_that_leads_outside_is_refused(tmp_path, monkeypatch, number, train_id):
    root = camvid_tree(tmp_path / "camvid", [np.zeros((30, 40))])
    monkeypatch.setattr(CamVid, "label_maps", {"cityscapes19": {0: 0, number: train_id}})
    with pytest.raises(UserError, match=f"takes the number {number} to the train id {train_id};"):
        CamVid(root, "train")


@pytest.mark.parametrize("classes", [0, 1, 256])
def test_a_label_space_has_2_to_255_classes(classes):
    names = tuple(map(str, range(classes)))
    with pytest.raises(UserError, match=f"few has {classes} classes; it takes 2 to 255"):
        LabelSpace("few", names, tuple((0, 0, 0) for _ in names))
