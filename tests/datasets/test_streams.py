"""Further data of a method: which image comes when, and what it is read from."""

import shutil

import pytest
import torch
from PIL import Image
from trees import LAYOUTS, camvid_tree, layout_tree, save_turned, write_image

from datasets import dataset_class, load_settings
from datasets.check.__main__ import main as check
from datasets.photographs import Stream, Unlabelled, find_photographs, images_of
from datasets.sampling.source import open_source
from network.methods.baseline import Baseline
from utils.errors import UserError


class Plain:
    """The image as it is, with a number that was drawn."""

    def __call__(self, image):
        return {"image": image, "drawn": torch.rand(1)}

    def finish(self, batch):
        return batch | {"finished": True}


@pytest.fixture
def photographs(tmp_path):
    """Five photographs in folders, and files that are none."""
    for seed, name in enumerate(("b.JPG", "a c.png", "deep/a.webp", "deep/er/x.tif", "z.jpeg")):
        write_image(tmp_path / "photos" / name, 20, 24, seed)
    for name in ("._b.JPG", "notes.txt", "deep/.hidden.png"):
        (tmp_path / "photos" / name).write_text("no image")
    return tmp_path / "photos"


def stream(domain, seed=1):
    return Unlabelled("target", Stream(str(domain), Plain()), load_settings({"SEED": seed}))


def test_photographs_are_found_below_links_too(photographs, tmp_path):
    names = ["a c.png", "b.JPG", "deep/a.webp", "deep/er/x.tif", "z.jpeg"]
    found = [path.relative_to(photographs).as_posix() for path in find_photographs(photographs)]
    assert found == names
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/all").symlink_to(photographs)
    assert len(find_photographs(tmp_path / "linked")) == 5


@pytest.mark.parametrize("domain, message", [
    ("no/such", "there is no folder no/such"), ("gtaw:train", "unknown dataset 'gtaw'"),
    ("gtav:tain", "unknown split of GTAV 'tain'"), ("gtav", "where is GTAV"),
])  # fmt: skip
def test_domains_that_are_not_there(domain, message):
    with pytest.raises(UserError, match=message):
        images_of(domain, load_settings({}))


def test_a_folder_without_images(tmp_path):
    with pytest.raises(UserError, match=f"no images .* in {tmp_path}"):
        images_of(str(tmp_path), load_settings({}))


def test_each_image_once_an_epoch_in_an_order_of_seed_and_epoch(photographs):
    one = stream(photographs)
    epochs = [[one.index_at(5 * epoch + slot) for slot in range(5)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    # From anywhere: nothing but the position counts.
    assert stream(photographs).index_at(13) == epochs[2][3]
    assert [stream(photographs, seed=2).index_at(p) for p in range(20)] != sum(epochs, [])


def test_what_is_drawn_is_a_function_of_the_position(photographs):
    one = stream(photographs)
    first, again = one.sample(3), stream(photographs).sample(3)
    assert torch.equal(first["image"], again["image"]) and first["drawn"] == again["drawn"]
    assert first["drawn"] != one.sample(4)["drawn"]


def test_photographs_are_turned_as_they_say(photographs):
    with Image.open(photographs / "b.JPG") as file:
        save_turned(file, photographs / "b.JPG", 6)
    one = stream(photographs)
    shapes = {one.index_at(p): tuple(one.sample(p)["image"].shape) for p in range(5)}
    assert shapes == {1: (3, 24, 20)} | dict.fromkeys((0, 2, 3, 4), (3, 20, 24))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_of_a_split_are_not_looked_for(tmp_path, layout):
    """Whoever asks for the images of a split need not have its labels."""
    name, split, image, label = layout_tree(tmp_path, layout, torch.zeros(8, 8).numpy())
    cfg = load_settings({"DATASET.ROOT": ""})
    cfg.DATASET[dataset_class(name).root_setting] = str(tmp_path)
    top = label.relative_to(tmp_path).parts[0]
    shutil.rmtree(tmp_path / top) if not image.is_relative_to(tmp_path / top) else label.unlink()
    assert images_of(f"{name}:{split}", cfg)[0] == [image]


def test_a_batch_of_sources_and_streams(photographs, tmp_path):
    camvid_tree(tmp_path / "camvid", [torch.full((30, 40), n % 11).numpy() for n in range(3)])
    cfg = load_settings({
        "DATASET.SOURCE": "camvid", "DATASET.CAMVID_DIR": str(tmp_path / "camvid"),
        "DATASET.CACHE_DIR": str(tmp_path / "cache"), "TRANSFORM.CROP_SIZE": "16,16", "WORKERS": 0,
    })  # fmt: skip
    streams = {"target": Stream(str(photographs), Plain())}
    source, sampler = open_source(cfg, "cpu", 0, streams)
    assert source.describe() == (f"CamVid (3 images), target {photographs} (5 images, no labels)")
    keys = [key for key, _ in zip(sampler, range(7), strict=False)]
    batch = torch.utils.data.default_collate([source[key] for key in keys])
    own = source.streams["target"]
    assert batch["target"]["index"].tolist() == [own.index_at(position) for position in range(7)]
    assert "label" not in batch["target"] and source.finish(batch)["target"]["finished"]
    files = source.files(source.indices(batch))
    assert files[:7] == [source.datasets[0].image_paths[i] for i in batch["index"].tolist()]
    assert files[7:] == [own.image_paths[i] for i in batch["target"]["index"].tolist()]
    assert Baseline.streams(cfg) == {}


def test_a_folder_is_checked_like_a_dataset(photographs, tmp_path, capsys):
    (photographs / "deep/bad.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as exit_:
        check([str(photographs), "--out", str(tmp_path / "report"), "WORKERS", "0"])
    printed = capsys.readouterr().out
    assert exit_.value.code == 1
    assert f"{photographs}: 6 photographs without labels\n  sizes: 24×20 (5)" in printed
    assert f"FAULT unreadable: {photographs}/deep/bad.png" in printed
    assert (tmp_path / "report/photos_samples.png").exists()
