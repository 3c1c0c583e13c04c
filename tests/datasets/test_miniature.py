"""The miniature benchmark: drawn the same everywhere, written as the real releases are.

The encodings stand here a second time, typed from the documentation of the data sets, so that a
slip in the writer's tables cannot hide.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat
from torchvision.io import ImageReadMode, decode_image, read_file

from datasets.miniature import CLASSES, DOMAINS, STANDARD, draw, draw_scene, generator, render
from datasets.miniature.__main__ import main
from datasets.miniature.looks import WEATHERS
from datasets.miniature.objects import OBJECT_CLASSES, draw_object
from datasets.miniature.pseudo_target import draw_look
from datasets.miniature.write import MiniatureError, write_domains

TRAIN, VAL = 6, 2

# train id → indices that stand for it in the label files
CITYSCAPES = {
    0: {7}, 1: {8}, 2: {11}, 3: {12}, 4: {13}, 5: {17}, 6: {19}, 7: {20}, 8: {21}, 9: {22},
    10: {23}, 11: {24}, 12: {25}, 13: {26}, 14: {27}, 15: {28}, 16: {31}, 17: {32}, 18: {33},
}  # fmt: skip
GTAV = CITYSCAPES | {5: {17, 18}, 13: {26, 34}}
SYNTHIA = {
    0: {3}, 1: {4}, 2: {2}, 3: {21}, 4: {5}, 5: {7}, 6: {15}, 7: {9}, 8: {6}, 9: {16}, 10: {1},
    11: {10}, 12: {17}, 13: {8}, 14: {18}, 15: {19}, 16: {20}, 17: {12}, 18: {11},
}  # fmt: skip
MAPILLARY = {
    0: {13, 24, 41}, 1: {2, 15}, 2: {17}, 3: {6}, 4: {3}, 5: {45, 47}, 6: {48}, 7: {50}, 8: {30},
    9: {29}, 10: {27}, 11: {19}, 12: {20, 21, 22}, 13: {55}, 14: {61}, 15: {54}, 16: {58},
    17: {57}, 18: {52},
}  # fmt: skip
MAPILLARY_OTHER_COLUMN = {7, 8, 9, 10, 11, 14, 23, 44, 46, 49}  # classes in some label maps
SIZES = {
    "GTAV": {(382, 210)},
    "SYNTHIA": {(320, 190)},
    "Cityscapes": {(384, 192)},
    "BDD100K": {(320, 180)},
    "Mapillary": {(400, 300), (480, 270), (240, 320)},
    "IDD": {(336, 194)},
    "ACDC": {(384, 216)},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("miniature")
    write_domains(out, workers=1, train=TRAIN, val=VAL, progress=False)
    return out


@pytest.fixture(scope="module")
def samples() -> dict[str, list]:
    return {name: [draw(name, "train", i) for i in range(8)] for name in DOMAINS}


def decode(indices: np.ndarray, table: dict[int, set[int]]) -> np.ndarray:
    label = np.full(indices.shape, 255, np.uint8)
    for train_id, members in table.items():
        label[np.isin(indices, list(members))] = train_id
    return label


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", DOMAINS)
def test_a_sample_depends_on_its_arguments_alone(name):
    image, label = draw(name, "val", 3, seed=5)
    draw(name, "train", 0)
    again, label_again = draw(name, "val", 3, seed=5)
    assert np.array_equal(image, again) and np.array_equal(label, label_again)
    for other in (("train", 3, 5), ("val", 4, 5), ("val", 3, 6)):
        changed = draw(name, *other)[1]
        assert changed.shape != label.shape or not np.array_equal(changed, label)


def test_the_same_scene_under_two_looks_has_the_same_labels():
    scene = draw_scene(DOMAINS["GTAV"].street, np.random.default_rng(1))
    before = scene.label.copy()
    looks = [render(scene, DOMAINS[name].look, np.random.default_rng(2)) for name in DOMAINS]
    assert np.array_equal(scene.label, before)
    for image in looks:
        assert image.shape == (*before.shape, 3) and image.dtype == np.uint8
    for a, b in zip(looks, looks[1:], strict=False):
        assert np.abs(a.astype(int) - b).mean() > 8


@pytest.mark.parametrize("name", DOMAINS)
def test_size_and_dtype(name, samples):
    sizes = {(image.shape[1], image.shape[0]) for image, _ in samples[name]}
    assert sizes == SIZES[name]
    for image, label in samples[name]:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (*label.shape, 3)


@pytest.mark.parametrize("name", DOMAINS)
def test_every_class_occurs_often_and_no_other(name):
    missing = {"terrain", "truck", "train"} if name == "SYNTHIA" else set()
    street = DOMAINS[name].street
    labels = [draw_scene(street, generator(name, "val", i, 0, 0), i).label for i in range(28)]
    for train_id, cls in enumerate(CLASSES):
        images = sum((label == train_id).sum() >= 40 for label in labels)
        if cls in missing:
            assert not any((label == train_id).any() for label in labels), cls
        else:
            assert images >= 0.1 * len(labels), cls
    assert set(np.unique(np.concatenate([x.ravel() for x in labels]))) <= {*range(19), 255}


@pytest.mark.parametrize("name", DOMAINS)
def test_no_exact_colour_identifies_a_class(name, samples):
    """Few pixels of a class have a colour that is nine times in ten the class's own.

    In two halves of the images alike: in a single image each colour is rare.
    """
    halves = []
    for half in (samples[name][::2], samples[name][1::2]):
        images = np.concatenate([image.reshape(-1, 3) for image, _ in half]).astype(int) // 4
        labels = np.concatenate([label.ravel() for _, label in half])
        colour = (images[:, 0] * 64 + images[:, 1]) * 64 + images[:, 2]
        cells = colour * 20 + np.minimum(labels, 19)
        counts = np.bincount(cells, minlength=64**3 * 20).reshape(-1, 20)
        own = counts[:, :19] > 0.9 * np.maximum(counts.sum(1), 1)[:, None]
        halves.append((colour, labels, own))
    telling = halves[0][2] & halves[1][2]
    for colour, labels, _ in halves:
        for train_id in np.unique(labels[labels != 255]):
            share = telling[colour[labels == train_id], train_id].mean()
            assert share < 0.5, (CLASSES[train_id], share)


def check_labels(written: Path, name: str, paths, decoded, split="train"):
    for index, (path, label) in enumerate(zip(paths, decoded, strict=True)):
        assert np.array_equal(label, draw(name, split, index)[1]), path


def test_gtav_files(written):
    root = written / "GTAV"
    numbers = [f"{i:05d}.png" for i in range(1, TRAIN + VAL + 1)]
    assert sorted(p.name for p in root.glob("images/*")) == numbers
    assert sorted(p.name for p in root.glob("labels/*")) == numbers
    labels = [Image.open(root / "labels" / name) for name in numbers]
    assert {label.mode for label in labels} == {"P"}
    indices = [np.asarray(label) for label in labels]
    check_labels(written, "GTAV", numbers[:TRAIN], [decode(x, GTAV) for x in indices[:TRAIN]])
    check_labels(written, "GTAV", numbers[TRAIN:], [decode(x, GTAV) for x in indices[TRAIN:]],
                 "val")  # fmt: skip
    assert {34, 18} <= set(np.unique(np.concatenate([x.ravel() for x in indices])))
    pixels = np.asarray(Image.open(root / "images" / numbers[0]))
    assert np.array_equal(pixels, draw("GTAV", "train", 0)[0])
    palette = np.array(labels[0].getpalette()).reshape(-1, 3)
    assert palette[7].tolist() == [128, 64, 128] and palette[26].tolist() == [0, 0, 142]
    split = loadmat(root / "split.mat")
    assert split["trainIds"].tolist() == [[i] for i in range(1, TRAIN + 1)]
    assert split["valIds"].tolist() == [[i] for i in range(TRAIN + 1, TRAIN + VAL + 1)]
    assert split["testIds"].size == 0


def test_synthia_files(written):
    root = written / "SYNTHIA"
    for split, count in (("train", TRAIN), ("val", VAL)):
        paths = sorted((root / "GT/LABELS" / split).iterdir())
        images = sorted((root / "RGB" / split).iterdir())
        assert [p.name for p in paths] == [p.name for p in images] and len(paths) == count
        planes = [decode_image(read_file(str(p)), ImageReadMode.UNCHANGED).numpy() for p in paths]
        assert {p.dtype for p in planes} == {np.dtype("uint16")}
        assert all(p.shape[0] == 3 and not p[2].any() for p in planes)
        check_labels(written, "SYNTHIA", paths, [decode(p[0], SYNTHIA) for p in planes], split)
        cars = planes[0][1][planes[0][0] == 8]
        assert len(np.unique(cars)) > 1, "instances tell cars apart"


def test_cityscapes_files(written):
    root = written / "Cityscapes"
    for split, count in (("train", TRAIN), ("val", VAL)):
        images = sorted(root.glob(f"leftImg8bit/{split}/*/*_leftImg8bit.png"))
        assert len(images) == count
        drawn = {draw("Cityscapes", split, i)[0].tobytes(): i for i in range(count)}
        for path in images:
            city = path.parent.name
            assert path.name.startswith(f"{city}_")
            name = path.name.replace("leftImg8bit", "gtFine_labelIds")
            label = Image.open(root / "gtFine" / split / city / name)
            assert label.mode == "L"
            index = drawn[np.asarray(Image.open(path)).tobytes()]
            expected = draw("Cityscapes", split, index)[1]
            assert np.array_equal(decode(np.asarray(label), CITYSCAPES), expected)
            assert (np.asarray(label)[-1] == 1).mean() > 0.5, "the car's hood is the ego vehicle"


@pytest.mark.parametrize(
    "name, image_glob, label_folder, table",
    [
        ("BDD100K", "images/10k/{}", "labels/sem_seg/masks/{}", {i: {i} for i in range(19)}),
        ("Mapillary", "{}/images", "{}/labels", MAPILLARY),
    ],
)
def test_bdd_and_mapillary_files(written, name, image_glob, label_folder, table):
    root = written / name
    folders = ("training", "validation") if name == "Mapillary" else ("train", "val")
    for folder, split, count in zip(folders, ("train", "val"), (TRAIN, VAL), strict=True):
        images = {p.stem: p for p in (root / image_glob.format(folder)).glob("*.jpg")}
        labels = {p.stem: p for p in (root / label_folder.format(folder)).glob("*.png")}
        assert images.keys() == labels.keys() and len(images) == count
        drawn = [draw(name, split, i) for i in range(count)]
        for stem in images:
            assert len(stem) == (22 if name == "Mapillary" else 17)
            label = Image.open(labels[stem])
            assert label.mode == ("P" if name == "Mapillary" else "L")
            indices = np.asarray(label)
            if name == "Mapillary":
                assert indices.max() <= 65
                assert not np.isin(indices, list(MAPILLARY_OTHER_COLUMN)).any()
            decoded = decode(indices, table)
            index = next(i for i, (_, x) in enumerate(drawn) if np.array_equal(x, decoded))
            pixels = np.asarray(Image.open(images[stem])).astype(int)
            assert np.abs(pixels - drawn[index][0]).mean() < 20, "a JPEG of that very drawing"


def test_the_number_of_workers_does_not_change_the_files(written, tmp_path):
    write_domains(tmp_path, ["GTAV", "BDD100K"], workers=2, train=TRAIN, val=VAL, progress=False)
    for name in ("GTAV", "BDD100K"):
        assert digests(written / name) == digests(tmp_path / name)


def test_a_complete_folder_is_left_alone_and_an_unfinished_one_completed(tmp_path):
    settings = {"domains": ["BDD100K"], "workers": 1, "train": 2, "val": 1, "progress": False}
    assert write_domains(tmp_path, **settings)["BDD100K"] == (tmp_path / "BDD100K", True)
    image = next((tmp_path / "BDD100K").rglob("*.jpg"))
    image.unlink()
    assert write_domains(tmp_path, **settings)["BDD100K"][1] is False
    assert not image.exists(), "complete by its stamp, so nothing was written"
    stamp = tmp_path / "BDD100K" / "miniature.json"
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"complete": False}))
    assert write_domains(tmp_path, **settings)["BDD100K"][1] is True
    assert image.exists()
    with pytest.raises(MiniatureError, match="seed 0 instead of 1"):
        write_domains(tmp_path, **settings, seed=1)


def test_foreign_folders_are_refused_before_anything_is_written(tmp_path, capsys):
    foreign = tmp_path / "SYNTHIA" / "precious.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    arguments = ["--out", str(tmp_path), "--train", "1", "--val", "1"]
    assert main([*arguments, "--domains", "GTAV", "SYNTHIA"]) == 1
    assert "did not write" in capsys.readouterr().err
    assert foreign.read_text() == "mine" and not (tmp_path / "GTAV").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "x", "--domains", "cityscape"], "did you mean Cityscapes?"),
        ([], "--out DIR"),
        (["--out", "x", "--train", "0"], "at least one image"),
        (["--out", "x", "--workers", "0"], "at least 1"),
    ],
)
def test_wrong_arguments_get_one_line_and_an_exit_code(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("x").exists()


def test_the_sheet_shows_every_domain(tmp_path):
    sheet = tmp_path / "sheet.png"
    assert main(["--sheet", str(sheet), "--domains", "gtav", "bdd100k"]) == 0
    with Image.open(sheet) as picture:
        assert picture.height > 4 * 150 and picture.width > 4 * 250


def test_full_sizes_are_those_of_the_benchmark():
    counts = {name: (domain.train, domain.val) for name, domain in DOMAINS.items()}
    assert counts == {
        name: (240, 40) if name in ("GTAV", "SYNTHIA") else (120, 40) for name in SIZES
    }


def test_conditions_are_equally_many_and_feature_every_class():
    seen = [[DOMAINS["ACDC"].condition(i)[0] for i in range(n)] for n in (120, 40)]
    assert [{names.count(name) for name in names} for names in seen] == [{30}, {10}]
    assert len(set(zip(seen[0], (i % 4 for i in range(120)), strict=True))) == 16


def test_conditions_look_different():
    """Night is dark, snow whitens the ground, fog takes contrast from what is far."""
    scene = draw_scene(DOMAINS["ACDC"].street, np.random.default_rng(3))
    looks = dict(DOMAINS["ACDC"].conditions)
    images = {
        name: np.mean([render(scene, look, np.random.default_rng(i)) for i in range(4)], axis=0)
        for name, look in looks.items()
    }
    means = {name: image.mean() for name, image in images.items()}
    assert means["night"] < 0.5 * min(means[name] for name in ("fog", "rain", "snow"))
    ground = np.isin(scene.label, (1, 9)) & (scene.face == 0)
    assert images["snow"][ground].mean() > images["rain"][ground].mean() + 30
    far = (scene.depth > 30) & (scene.depth < 900)
    assert images["fog"][far].std() < 0.7 * images["rain"][far].std()


def test_the_standard_domains_are_what_they_were():
    """Figures in docs/ were measured on these very pictures: new looks must not move old ones."""
    pinned = {
        "GTAV": [(119.0, "147b1007"), (128.44, "318735f8"), (127.25, "2240a7be")],
        "SYNTHIA": [(65.39, "536c9bc5"), (107.14, "8c5e5905"), (52.78, "5b6a721f")],
        "Cityscapes": [(69.48, "511b4624"), (84.85, "98cd7643"), (86.99, "0e708899")],
        "BDD100K": [(97.84, "f8cc40fe"), (141.68, "5148f6cd"), (118.81, "c37f5667")],
        "Mapillary": [(85.4, "4954a056"), (95.82, "32d81dbf"), (99.8, "9ead4872")],
    }
    assert set(pinned) == set(STANDARD)
    for name, expected in pinned.items():
        for index, (mean, digest) in zip((0, 5, 11), expected, strict=True):
            image, label = draw(name, "train", index)
            assert image.mean() == pytest.approx(mean, abs=0.02)
            assert hashlib.sha256(label.tobytes()).hexdigest().startswith(digest)


def test_domains_that_are_not_asked_for(tmp_path):
    write_domains(tmp_path, workers=1, train=1, val=1, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(STANDARD)
    stamps = [json.loads((tmp_path / name / "miniature.json").read_text()) for name in STANDARD]
    assert all("layout" not in stamp for stamp in stamps)


def border_contrast(image: np.ndarray, label: np.ndarray) -> float:
    """Mean step between neighbours of two classes over that between neighbours of one."""
    steps = np.abs(np.diff(image.astype(float).mean(2), axis=1))
    border = label[:, 1:] != label[:, :-1]
    return steps[border].mean() / steps[~border].mean()


def test_the_pseudo_target_shows_scenes_of_gtav_under_looks_of_its_own():
    for index in range(4):
        drawn, label = draw("GTAV", "train", index)
        image, own_label = draw("PseudoTarget", "train", index)
        assert np.array_equal(own_label, label) and image.shape == drawn.shape
        assert np.array_equal(draw("PseudoTarget", "train", index)[0], image)
        assert not np.array_equal(draw("PseudoTarget", "train", index, seed=1)[1], label)
        # Its edges lie where GTAV's classes meet, not where another scene's do.
        other = draw("GTAV", "train", index + 6)[1]
        assert border_contrast(image, label) > max(1.5, 1.3 * border_contrast(image, other))
        assert np.abs(image.astype(int) - drawn).mean() > 10
    scene = draw_scene(DOMAINS["GTAV"].street, np.random.default_rng(1))
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    images = [render(scene, draw_look(rng), np.random.default_rng(5)) for rng in rngs]
    assert np.abs(images[0].astype(int) - images[1]).mean() > 8


def test_the_looks_of_the_pseudo_target_fill_their_ranges():
    looks = [draw_look(np.random.default_rng(seed)) for seed in range(200)]
    assert len({json.dumps(asdict(look), default=str) for look in looks}) == 200
    for name, (low, high) in {
        "hue": (-180, 180), "saturation": (0.3, 1.6), "value": (0.55, 1.45), "contrast": (0.5, 1.8)
    }.items():  # fmt: skip
        for label in (*range(19), 255):
            drawn = np.array([getattr(look.regions[label], name) for look in looks])
            assert low <= drawn.min() < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < drawn.max() <= high
    assert all(min(look.weather) > 0 and len(look.weather) == len(WEATHERS) for look in looks)


def test_the_pseudo_target_is_a_folder_of_photographs_without_labels(tmp_path):
    arguments = ["--out", str(tmp_path), "--workers", "1", "--domains"]
    assert main([*arguments, "pseudotarget", "GTAV", "--train", "3", "--val", "1"]) == 0
    images = tmp_path / "GTAV/images"
    written = {path.name for path in (tmp_path / "PseudoTarget").iterdir()}
    assert written == {"miniature.json", *(f"0000{n}.png" for n in (1, 2, 3))}
    assert {path.name for path in images.iterdir()} == written - {"miniature.json"} | {"00004.png"}
    pixels = np.asarray(Image.open(tmp_path / "PseudoTarget/00002.png"))
    assert np.array_equal(pixels, draw("PseudoTarget", "train", 1)[0])
    # The same in any layout, and with any number of validation images.
    assert main([*arguments, "PseudoTarget", "--train", "3", "--layout", "published"]) == 0


def test_layouts_are_not_mixed_in_a_folder(tmp_path):
    settings = {"domains": ["BDD100K"], "workers": 1, "train": 1, "val": 1, "progress": False}
    write_domains(tmp_path, **settings)
    with pytest.raises(MiniatureError, match="layout None instead of published"):
        write_domains(tmp_path, **settings, layout="published")
    with pytest.raises(MiniatureError, match="unknown layout 'x'"):
        write_domains(tmp_path, **settings, layout="x")


def test_command_line_writes_all_domains_in_a_layout(tmp_path):
    arguments = ["--out", str(tmp_path), "--train", "1", "--val", "1", "--workers", "1"]
    assert main([*arguments, "--domains", "all", "--layout", "published"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(DOMAINS)
    assert len(list((tmp_path / "GTAV/images/valid").iterdir())) == 1
    assert not (tmp_path / "GTAV/split.mat").exists()


def test_streams_and_domains_have_random_numbers_of_their_own():
    keys = [("GTAV", "train", 0, 0, 0), ("GTAV", "train", 0, 0, 1), ("SYNTHIA", "train", 0, 0, 0),
            ("GTAV", "val", 0, 0, 0), ("GTAV", "train", 1, 0, 0)]  # fmt: skip
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_objects_are_deterministic_pictures():
    assert len(set(OBJECT_CLASSES)) == len(OBJECT_CLASSES) >= 20
    for index in range(len(OBJECT_CLASSES)):
        a = draw_object(np.random.default_rng(index), index)
        assert a.shape == (64, 64, 3) and a.dtype == np.uint8 and a.std() > 2
        assert np.array_equal(a, draw_object(np.random.default_rng(index), index))
        other = draw_object(np.random.default_rng(index), (index + 1) % len(OBJECT_CLASSES))
        assert not np.array_equal(a, other)
    with pytest.raises(IndexError):
        draw_object(np.random.default_rng(0), len(OBJECT_CLASSES))


def test_no_object_class_has_a_colour_of_its_own():
    """The mean colours of all classes lie together: colours say nothing about the class."""
    rng = np.random.default_rng(0)
    means = np.array(
        [[draw_object(rng, k).mean((0, 1)) for _ in range(24)] for k in range(len(OBJECT_CLASSES))]
    )
    between, within = means.mean(1).std(0), means.std(1).mean(0)
    assert (between < 0.5 * within).all()
