"""Each planted fault is found and its file named; a clean tree passes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import camvid_tree, save_turned, write_grey, write_image

from datasets.check.__main__ import main
from datasets.check.inspection import agreement
from datasets.check.pictures import class_chart
from datasets.label_spaces import CITYSCAPES19
from datasets.miniature import draw
from datasets.miniature.write import write_domains
from utils.draw.plotting import can_draw
from utils.errors import UserError


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    names = ["Cityscapes", "SYNTHIA"]
    write_domains(root, names, workers=1, train=6, val=2, progress=False)
    return root


@pytest.fixture
def tree(clean, tmp_path):
    return Path(shutil.copytree(clean, tmp_path / "data"))


def check(root, out, *names, workers=0):
    """Run the check; return (exit code, report)."""
    with pytest.raises(SystemExit) as exit_:
        main([*names, "--out", str(out), "DATASET.ROOT", str(root), "WORKERS", str(workers)])
    return exit_.value.code, json.loads((out / "report.json").read_text())


def faults_of(root, out, name):
    code, report = check(root, out, name)
    found = [(f["kind"], Path(f["file"])) for result in report for f in result["faults"]]
    assert code == (1 if found else 0)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_clean_tree(clean, tmp_path, capsys, workers):
    code, report = check(clean, tmp_path, "cityscapes", "synthia:val", workers=workers)
    assert code == 0
    assert [(r["dataset"], r["split"], r["images"]) for r in report] == [
        ("cityscapes", "train", 6),
        ("cityscapes", "val", 2),
        ("synthia", "val", 2),
    ]
    # A subset is no fault.
    assert report[0]["notes"] == ["6 images; the published split has 2975"]
    screen = capsys.readouterr().out
    assert "no faults, 3 notes" in screen and "384×192 (6)" in screen
    for name in ("cityscapes_train", "synthia_val"):
        with Image.open(tmp_path / f"{name}_classes.png") as chart:
            assert chart.width > 500
        with Image.open(tmp_path / f"{name}_samples.png") as sheet:
            assert sheet.height > 2 * 180


def test_without_matplotlib_the_chart_is_left_out_and_one_line_says_so(
    clean, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    can_draw.cache_clear()
    code, _ = check(clean, tmp_path, "cityscapes")
    can_draw.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 0 and "chart of the classes" in line and "requirements-extra.txt" in line
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == [
        "cityscapes_train_samples.png", "cityscapes_val_samples.png"
    ]  # fmt: skip


def test_the_chart_shows_each_class_in_its_colour():
    shares = np.zeros(len(CITYSCAPES19))
    shares[[0, 2]] = 0.0004, 0.9996
    (axes,) = class_chart("Cityscapes", CITYSCAPES19, shares).axes
    bars = axes.containers[0]
    assert [bar.get_width() for bar in bars][:3] == pytest.approx([0.04, 0, 99.96])
    for bar, colour in zip(bars, CITYSCAPES19.colours, strict=True):
        np.testing.assert_allclose(bar.get_facecolor()[:3], np.divide(colour, 255))
    assert [text.get_text() for text in axes.texts][:3] == ["0.04 %", "none", "100 %"]
    # Twice as long on paper is four times as many pixels; a rare class is seen.
    ends = axes.transData.transform([(x, 0) for x in (0, 1, 4)])[:, 0]
    assert ends[2] - ends[0] == pytest.approx(2 * (ends[1] - ends[0]))


def test_class_shares_are_those_of_the_drawings(clean, tmp_path):
    _, report = check(clean, tmp_path, "cityscapes:train")
    labels = np.concatenate([draw("Cityscapes", "train", i)[1].ravel() for i in range(6)])
    valid = labels != 255
    assert report[0]["void_share"] == pytest.approx(1 - valid.mean())
    assert report[0]["class_share"]["car"] == pytest.approx((labels == 13).sum() / valid.sum())
    assert sum(report[0]["class_share"].values()) == pytest.approx(1)


def cityscapes(tree, number):
    """Image and label of the training image `number` of the tree."""
    image = sorted(tree.glob("Cityscapes/leftImg8bit/train/*/*.png"))[number]
    name = image.name.replace("_leftImg8bit", "_gtFine_labelIds")
    return image, tree / "Cityscapes/gtFine/train" / image.parent.name / name


def truncate(image, label):
    os.truncate(image, image.stat().st_size // 2)
    return "unreadable", image


def truncate_label(image, label):
    os.truncate(label, label.stat().st_size - 30)
    return "unreadable", label


def wrong_size(image, label):
    with Image.open(label) as file:
        file.crop((0, 0, 380, 192)).save(label)
    return "size", label


def stray_id(image, label):
    numbers = np.array(Image.open(label))
    numbers[0, 0] = 77
    write_grey(label, numbers)
    return "stray id", label


def missing_label(image, label):
    label.unlink()
    return "missing pair", image


def missing_image(image, label):
    image.unlink()
    return "missing pair", label


def empty_image(image, label):
    image.write_bytes(b"")
    return "empty file", image


def empty_label(image, label):
    label.write_bytes(b"")
    return "empty file", label


def colours(image, label):
    write_image(label, 192, 384)
    return "unreadable", label


def unreadable(image, label):
    image.write_bytes(b"no picture at all" * 9)
    return "unreadable", image


def jpeg_label(image, label):
    with Image.open(label) as file:
        file.save(label, "JPEG")
    return "unreadable", label


def turned(image, label):
    """The label is of the photograph as a viewer shows it: upside down."""
    with Image.open(image) as file:
        save_turned(file, image, 3)
    with Image.open(label) as file:
        file.rotate(180).save(label)
    return "turned", label


def turned_aside(image, label):
    with Image.open(image) as file:
        save_turned(file, image, 6)
    with Image.open(label) as file:
        file.rotate(-90, expand=True).save(label)
    return "size", label


def folder(image, label):
    label.unlink()
    label.mkdir()
    return "unreadable", label


def dead_link(image, label):
    image.unlink()
    image.symlink_to("/nowhere/x.png")
    return "missing", image


PLANTED = [
    *(truncate, truncate_label, wrong_size, stray_id, missing_label, missing_image, empty_image),
    *(empty_label, colours, jpeg_label, unreadable, turned, turned_aside, folder, dead_link),
]


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_fault(tree, tmp_path, plant, capsys):
    kind, path = plant(*cityscapes(tree, 2))
    assert faults_of(tree, tmp_path / "out", "cityscapes:train") == [(kind, path)]
    screen = capsys.readouterr().out
    assert f"FAULT {kind}: {path}" in screen and "1 faults" in screen


def test_all_faults_of_a_tree_are_found_together(tree, tmp_path):
    planted = [plant(*cityscapes(tree, n)) for n, plant in enumerate((truncate, stray_id, colours))]
    assert sorted(faults_of(tree, tmp_path / "out", "cityscapes")) == sorted(planted)


def test_swapped_labels(tree, tmp_path):
    first, second = cityscapes(tree, 1)[1], cityscapes(tree, 4)[1]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    found = faults_of(tree, tmp_path / "out", "cityscapes:train")
    assert sorted(found) == [("swapped label", first), ("swapped label", second)]


def test_copied_label(tree, tmp_path):
    first, second = cityscapes(tree, 1)[1], cityscapes(tree, 4)[1]
    first.write_bytes(second.read_bytes())
    assert faults_of(tree, tmp_path / "out", "cityscapes:train") == [("swapped label", first)]


def test_labels_out_of_step(tree, tmp_path):
    labels = [cityscapes(tree, n)[1] for n in range(6)]
    contents = [path.read_bytes() for path in labels]
    for path, content in zip(labels, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    found = faults_of(tree, tmp_path / "out", "cityscapes:train")
    assert sorted(found) == [("swapped label", path) for path in sorted(labels)]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_synthia_label_of_8_bits(tree, tmp_path, mode):
    label = tree / "SYNTHIA/GT/LABELS/train/0000003.png"
    Image.new(mode, (320, 190)).save(label)
    assert faults_of(tree, tmp_path / "out", "synthia:train") == [("8-bit label", label)]


def test_label_of_one_class_is_noted(tmp_path):
    labels = [np.arange(120).reshape(10, 12) % 12, np.full((10, 12), 3)]
    camvid_tree(tmp_path / "camvid", labels)
    code, report = check(tmp_path, tmp_path / "out", "camvid:train")
    single = str(tmp_path / "camvid/trainannot/f001.png")
    assert code == 0 and report[0]["single_class"] == [single]
    assert f"{single} is of one single class" in report[0]["notes"]


def test_images_of_a_list_that_are_not_there(tree, tmp_path):
    (tree / "SYNTHIA" / "train.txt").write_text("0000000.png\n0000099.png\n")
    found = faults_of(tree, tmp_path / "out", "synthia:train")
    assert found == [("missing", tree / "SYNTHIA/RGB/0000099.png")]


def test_missing_root_is_a_fault(tmp_path):
    code, report = check(tmp_path, tmp_path / "out", "idd:train")
    assert code == 1
    assert "there is no folder" in report[0]["faults"][0]["text"]


def test_outlines_fit_their_own_image_only():
    samples = [draw("GTAV", "train", i) for i in range(4)]
    for i, (image, _) in enumerate(samples):
        scores = [agreement(image.transpose(2, 0, 1), label) for _, label in samples]
        assert np.argmax(scores) == i and scores[i] > 0.2
    assert agreement(samples[0][0].transpose(2, 0, 1), np.zeros((210, 382), np.uint8)) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name the datasets to check: gtav"),
        (["gtaw"], "unknown dataset 'gtaw'; did you mean gtav"),
        (["gtav:tset"], "unknown split of GTAV 'tset'; did you mean test"),
        (
            ["idd", "DATASET.IDDDIR", "x"],
            "unknown setting DATASET.IDDDIR; did you mean DATASET.IDD",
        ),
        (["idd", "DATASET.ROOT"], "has no value"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_a_report_that_cannot_be_written(clean, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the report to"):
        main(["synthia:val", "--out", str(tmp_path / "file"), "DATASET.ROOT", str(clean)])


def test_command_line(tree, tmp_path):
    write_image(tree / "SYNTHIA/RGB/val/extra.png", 190, 320)
    command = [sys.executable, "-m", "datasets.check", "synthia:val", "WORKERS", "2"]
    command += ["DATASET.ROOT", str(tree), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert f"FAULT missing pair: {tree}/SYNTHIA/RGB/val/extra.png has no label" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_names_that_are_no_text(tmp_path):
    """They are printed and reported with escapes."""
    camvid_tree(tmp_path / "camvid", [np.full((20, 20), n) for n in range(2)])
    for folder, ending in (("train", "jpg"), ("trainannot", "png")):
        file = tmp_path / "camvid" / folder / f"f000.{ending}"
        file.rename(os.fsdecode(os.fsencode(file.parent) + b"/f\xff." + ending.encode()))
    line = f"python -m datasets.check camvid:train --out {tmp_path}/out DATASET.CAMVID_DIR"
    command = [sys.executable, *line.split()[1:], str(tmp_path / "camvid"), "WORKERS", "0"]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2])
    assert b"Traceback" not in done.stderr and b"f\\udcff" in done.stdout
    assert "f\\udcff" in (tmp_path / "out/report.json").read_text()
