import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from trees import (
    camvid_tree,
    layout_tree,
    save_turned,
    write_16bit,
    write_grey,
    write_image,
    write_palette,
    write_png,
    write_split_mat,
)

from datasets import DATASETS, build_dataset, load_settings, parse_domain
from datasets.camvid import CamVid
from datasets.files import read_header, read_image, read_label
from datasets.gtav import GTAV
from transforms import EvalTransform, TrainTransform
from utils.errors import UserError

LABEL = np.arange(256).reshape(16, 16)


@pytest.fixture
def camvid(tmp_path):
    """Four images 40×30 with random labels."""
    numbers = np.random.default_rng(0).integers(0, 12, (4, 30, 40))
    return camvid_tree(tmp_path / "camvid", list(numbers))


@pytest.fixture
def no_variables(monkeypatch):
    for dataset in DATASETS.values():
        monkeypatch.delenv(dataset.root_setting, raising=False)


def small_crops():
    return TrainTransform(load_settings({"TRANSFORM.CROP_SIZE": [24, 24]}))


def test_sample_without_transform(camvid):
    sample = CamVid(camvid, "train", domain=3)[2]
    assert set(sample) == {"image", "label", "index", "domain"}
    assert (sample["index"], sample["domain"]) == (2, 3)
    assert (sample["image"].dtype, sample["image"].shape) == (torch.uint8, (3, 30, 40))
    assert (sample["label"].dtype, sample["label"].shape) == (torch.uint8, (30, 40))
    with Image.open(camvid / "train" / "f002.jpg") as file:
        pixels = torch.from_numpy(np.array(file)).permute(2, 0, 1)
    # Decoders differ by rounding.
    assert (sample["image"].int() - pixels.int()).abs().max() <= 3


def test_evaluation_takes_plain_indices(camvid):
    dataset = CamVid(camvid, "train", transform=EvalTransform())
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["image"].shape == (4, 3, 30, 40) and batch["image"].dtype == torch.float32
    assert batch["index"].tolist() == [0, 1, 2, 3]


def test_files_are_sorted(camvid):
    assert CamVid(camvid, "train").relative_list() == [f"train/f00{i}.jpg" for i in range(4)]


def test_augmentation_is_a_function_of_seed_position_index_stream(camvid):
    def sample(key, **options):
        return CamVid(camvid, "train", transform=small_crops(), **options)[key]["image"]

    first = sample((0, 1, None))
    assert torch.equal(first, sample((0, 1, None)))
    for other in (
        sample((1, 1, None)),
        sample((0, 1, None), seed=1),
        sample((0, 1, None), stream="target"),
    ):
        assert not torch.equal(first, other)


def test_same_samples_for_any_number_of_workers(camvid):
    dataset = CamVid(camvid, "train", transform=small_crops())
    keys = [(0, 3, None), (0, 0, (5.0, 6.0)), (1, 3, None), (1, 2, None)]
    batches = []
    for workers in (0, 2):
        torch.manual_seed(workers)
        loader = DataLoader(dataset, batch_size=2, sampler=keys, num_workers=workers)
        batches.append([batch["image"] for batch in loader])
    assert torch.equal(torch.cat(batches[0]), torch.cat(batches[1]))


def test_global_generator_is_left_alone(camvid):
    dataset = CamVid(camvid, "train", transform=small_crops())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    dataset[(0, 1, None)]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_indices_of_any_depth(tmp_path, bits):
    label = LABEL % 2**bits
    write_palette(tmp_path / "label.png", label, bits)
    assert read_label(tmp_path / "label.png").tolist() == label.tolist()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_levels_of_few_bits_are_numbers(tmp_path, bits):
    label = LABEL % 2**bits
    write_png(tmp_path / "label.png", label, bits)
    assert read_label(tmp_path / "label.png").tolist() == label.tolist()


def test_numbers_above_255_are_refused(tmp_path):
    write_16bit(tmp_path / "label.png", LABEL + 3)
    with pytest.raises(UserError, match="label.png holds the number 258; classes are below 256"):
        read_label(tmp_path / "label.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_labels_of_equal_channels_are_numbers(tmp_path, mode, ending):
    path = tmp_path / f"label{ending}"
    Image.fromarray(LABEL.astype(np.uint8)).convert(mode).save(path)
    assert read_label(path).tolist() == LABEL.tolist()


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_labels_in_tiff(tmp_path, mode):
    image = Image.fromarray(LABEL.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([(i * 7 + 90) % 256 for i in range(768)])
    image.save(tmp_path / "label.tif")
    assert read_label(tmp_path / "label.tif").tolist() == LABEL.tolist()


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_labels_that_compression_changes_are_refused(tmp_path, ending):
    write_image(tmp_path / f"label{ending}")
    with pytest.raises(UserError, match=f"label{ending} is a JPEG or WebP.*; a label is a PNG or"):
        read_label(tmp_path / f"label{ending}")


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
def test_pictures_of_other_kinds_are_read(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / f"x{ending}"
    save_turned(Image.fromarray(pixels), path, 6)
    read, turned = (
        read_image(path, upright=upright).permute(1, 2, 0).numpy() for upright in (False, True)
    )
    if ending == ".tif":
        assert np.array_equal(read, np.rot90(pixels, -1)) and np.array_equal(turned, read)
        assert read_header(path) == (7, 5, 1)
    else:
        assert np.array_equal(turned, np.rot90(read, -1)) and read_header(path) == (5, 7, 6)
        assert ending == ".webp" or np.array_equal(read, pixels)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, ending):
    levels = np.array([[0, 128, 129, 65535 - 129, 65535 - 128, 257 * 9]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"x{ending}")
    read = read_image(tmp_path / f"x{ending}")
    assert read.dtype == torch.uint8 and read.tolist() == [[[0, 0, 1, 254, 255, 9]]] * 3


def test_pictures_in_floats_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match="x.tif holds float32; 8 or 16 bits are read"):
        read_image(tmp_path / "x.tif")


def test_label_of_colours_is_refused(tmp_path):
    write_image(tmp_path / "colours.png")
    with pytest.raises(UserError, match="colours.png holds colours; expected one class number"):
        read_label(tmp_path / "colours.png")


@pytest.mark.parametrize("path", ["train/f001.jpg", "trainannot/f001.png"])
def test_truncated_file_is_named(camvid, path):
    os.truncate(camvid / path, 60)
    with pytest.raises(UserError, match=f"cannot read {camvid / path}: .+"):
        CamVid(camvid, "train")[1]


def test_sizes_that_differ_are_named(camvid):
    write_grey(camvid / "trainannot" / "f001.png", np.zeros((30, 39)))
    dataset = CamVid(camvid, "train")
    with pytest.raises(UserError) as caught:
        dataset[1]
    assert str(caught.value) == (
        f"image and label differ in size: {camvid}/train/f001.jpg is 40×30, "
        f"{camvid}/trainannot/f001.png is 39×30 pixels"
    )
    # Errors of data loading processes travel as pickles.
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_image_without_label_is_named(camvid):
    (camvid / "trainannot" / "f002.png").unlink()
    message = f"CamVid train: 1 of 4 images have no label; the first is {camvid}/train/f002.jpg"
    with pytest.raises(UserError, match=message):
        CamVid(camvid, "train")


def test_missing_root_says_path_and_setting(tmp_path):
    looked_for = f"there is no folder {tmp_path}/x/train .*DATASET.CAMVID_DIR"
    with pytest.raises(UserError, match=looked_for):
        CamVid(tmp_path / "x", "train")


def test_all_candidates_are_named(tmp_path):
    old = f"{tmp_path}/leftImg8bit_trainvaltest/leftImg8bit/val"
    with pytest.raises(UserError, match=f"{old} or {tmp_path}/leftImg8bit/val"):
        DATASETS["cityscapes"](tmp_path, "val")


def test_empty_split(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=f"no files .* ending in .jpg or .png in {tmp_path}/val"):
        CamVid(tmp_path, "val")


def test_unknown_split(camvid):
    with pytest.raises(UserError, match="unknown split of CamVid 'tests'; did you mean test?"):
        CamVid(camvid, "tests")


def gtav_tree(root, numbers, train, val=(1,)):
    for number in numbers:
        write_image(root / "images" / f"{number:05d}.png")
        write_palette(root / "labels" / f"{number:05d}.png", LABEL)
    write_split_mat(root / "read_mapping" / "split.mat", train=train, val=val, test=[3])


def test_gtav_splits_are_image_numbers(tmp_path):
    numbers = [1, 2, 3, 12160, 15188, 12161, 12166]
    gtav_tree(tmp_path, numbers, train=[12161, 12160, 15188, 2], val=[12166, 1])
    names = {split: GTAV(tmp_path, split).relative_list() for split in GTAV.splits}
    assert names == {
        # Without the single-colour images, which stay in other splits.
        "train": ["images/00002.png", "images/12161.png"],
        "val": ["images/00001.png", "images/12166.png"],
        "test": ["images/00003.png"],
    }


def test_gtav_image_of_split_file_is_missing(tmp_path):
    gtav_tree(tmp_path, [1, 2, 3], train=[2, 4])
    with pytest.raises(UserError, match="1 images of .*split.mat are not there; .*/00004.png"):
        GTAV(tmp_path, "train")


def test_gtav_without_split_file_and_folders(tmp_path):
    message = f"neither {tmp_path}/split.mat .* nor a folder {tmp_path}/images/valid"
    with pytest.raises(UserError, match=message):
        GTAV(tmp_path, "val")


def test_a_root_is_the_setting_then_the_common_root_then_the_variable(
    camvid, monkeypatch, no_variables
):
    def build(overrides):
        return build_dataset("camvid", "train", load_settings(overrides))

    root = {"DATASET.ROOT": str(camvid.parent)}
    monkeypatch.setenv("CAMVID_DIR", "/nowhere")
    assert len(build(root)) == 4
    with pytest.raises(UserError, match="/nowhere/train"):
        build({})
    elsewhere = {"DATASET.ROOT": "/elsewhere", "DATASET.CAMVID_DIR": str(camvid)}
    assert build(elsewhere).root == camvid


def test_no_root_at_all(no_variables):
    with pytest.raises(UserError, match="where is GTAV. Set DATASET.GTAV_DIR or .* holds GTAV"):
        build_dataset("gtav", "train", load_settings({}))


def test_options_reach_the_dataset(camvid):
    cfg = load_settings({"DATASET.CAMVID_DIR": str(camvid)})
    assert build_dataset("camvid", "train", cfg, domain=2)[0]["domain"] == 2


def test_unknown_dataset():
    with pytest.raises(UserError, match="unknown dataset 'gta'; did you mean gtav?"):
        build_dataset("gta", "train", load_settings({}))


def test_every_dataset_has_a_setting_for_its_root():
    assert {dataset.root_setting for dataset in DATASETS.values()} <= set(load_settings({}).DATASET)


def test_parse_domain():
    assert parse_domain("camvid:test") == ("camvid", "test")
    assert parse_domain("camvid") == ("camvid", "val")


def test_images_of_one_split_only(tmp_path):
    layout_tree(tmp_path, "bdd_old", LABEL)
    layout_tree(tmp_path, "bdd_plain", LABEL)
    assert DATASETS["bdd100k"](tmp_path, "val").relative_list() == ["images/val/0a-1.jpg"]


def test_what_is_no_file_is_named(tmp_path):
    """A pipe too, without waiting for whoever might write into it."""
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, read_label, read_header):
        for name in ("folder", "pipe"):
            with pytest.raises(UserError, match=f"cannot read .*{name}.png: it is no file"):
                read(tmp_path / f"{name}.png")
        with pytest.raises(UserError, match="cannot read .*nothing.png: there is no such file"):
            read(tmp_path / "nothing.png")
