"""predict.py on folders that change and that hold more than pictures: nothing is mixed up."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.test_predict import checkpoint, photos, pixels, run, written  # noqa: F401
from utils.engine.saving import write_list
from utils.predict.inputs import ImageFiles, find_inputs


def noise(path, seed, size=(40, 60)):
    generator = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def test_other_pictures_of_the_same_names_are_refused(photos, run, tmp_path):  # noqa: F811
    assert run("--input", "in", "--write", "colour")[0] == 0
    before = pixels(tmp_path / "out/colour/a.png")
    noise(tmp_path / "other/a.png", 1)
    code, _, line = run("--input", "other", "--write", "colour")
    assert code == 2 and f"holds the predictions of {tmp_path}/in/a.png; those of other/a" in line
    assert (pixels(tmp_path / "out/colour/a.png") == before).all()


def test_a_copy_of_the_pictures_continues(photos, run, tmp_path):  # noqa: F811
    run("--input", "in", "--write", "colour")
    shutil.copytree("in", "copy", copy_function=shutil.copyfile)
    shutil.rmtree("in")
    assert run("--input", "copy", "--write", "colour")[1].startswith("0 predicted, 3 there already")


def test_a_replaced_picture_is_predicted_anew(photos, run, tmp_path):  # noqa: F811
    run("--input", "in", "--write", "colour", "train_ids")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    noise(photos / "a.png", 1)
    _, out, _ = run("--input", "in", "--write", "train_ids")
    assert out.startswith(
        "1 predicted, 1 made anew, since their files were replaced, 2 there already;"
    )
    # The pictures of another kind, of what the file was, do not stay for the next call.
    assert written(tmp_path / "out/colour") == ["deep/b.png", "deep/er/c.png"]
    assert all(p.stat().st_mtime_ns == t for p, t in times.items() if p.name != "a.png")
    again = pixels(tmp_path / "out/train_ids/a.png")
    run("--input", "in/a.png", "--out", "fresh", "--write", "train_ids")
    assert (again == pixels(tmp_path / "fresh/train_ids/a.png")).all()
    # One that is replaced by no picture keeps none of the old ones.
    (photos / "a.png").write_text("no picture")
    assert run("--input", "in", "--write", "train_ids")[0] == 3
    assert not (tmp_path / "out/train_ids/a.png").exists()


def test_what_was_killed_before_it_was_recorded_is_made_again(photos, run, tmp_path):  # noqa: F811
    run("--input", "in", "--write", "colour")
    record = tmp_path / "out/inputs_0.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    # As another process had left it, cut off in its last line.
    record.unlink()
    record.with_name("inputs_5.jsonl").write_bytes(b"".join(lines)[:-9])
    for expected in ("1 predicted, 2 there already", "0 predicted, 3 there already"):
        assert run("--input", "in", "--write", "colour")[1].startswith(expected)
    assert [p.name for p in (tmp_path / "out").glob("inputs*")] == ["inputs.jsonl"]


def test_predictions_and_hidden_files_are_no_inputs(photos, run, tmp_path):  # noqa: F811
    for name in ("._a.png", ".cache/x.png", "__MACOSX/a.png"):
        noise(photos / name, 1)
    for out in ("in/seen", "in", "in/later"):
        for pattern in ("in", "in/**/*.[pj]*"):
            assert run("--input", pattern, "--out", out, "--write", "colour")[0] == 0
            assert written(tmp_path / out / "colour") == ["a.png", "deep/b.png", "deep/er/c.png"]


def test_folders_of_others_are_left_alone(photos, run, tmp_path):  # noqa: F811
    noise(tmp_path / "mine/colour/a.png", 1)
    before = (tmp_path / "mine/colour/a.png").read_bytes()
    code, _, line = run("--input", "mine/colour", "--out", "mine")
    assert code == 2 and "mine/colour is there, and not by predict.py" in line
    assert (tmp_path / "mine/colour/a.png").read_bytes() == before


def test_links_are_followed_but_not_round_in_a_circle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "store/x.png", 1)
    noise(tmp_path / "in/a.png", 1)
    for name, target in {"linked": "../store", "up": "..", "self": ".", "twin": "."}.items():
        os.symlink(target, f"in/{name}")
    os.symlink("nowhere", "in/dead.png")
    os.mkfifo("in/pipe.png")
    names = ["a", "dead", "linked/x", "up/store/x"]
    for pattern in ("in", "in/**", "in/**/*.png"):
        inputs, others = find_inputs([pattern])
        assert [source.name for source in inputs] == names
    assert others == {".png": 1}
    assert [source.name for source in find_inputs(["in/*/*.png"])[0]] == ["linked/x"]


@pytest.mark.parametrize("path", ["", "x" * 300, "in/" + "y" * 300 + "/*.png"])
def test_paths_that_are_none(photos, run, path):  # noqa: F811
    code, _, line = run("--input", path)
    assert code == 2 and line.count("\n") == 1


def test_a_name_that_is_no_text_is_skipped_and_listed(photos, settings, tmp_path):  # noqa: F811
    shutil.copy(photos / "note.txt", os.fsencode(photos) + b"/\xff.jpg")
    (source,) = (s for s in find_inputs(["in"])[0] if "\udcff" in s.name)
    _, error, _ = ImageFiles([source], settings())[0]
    write_list(tmp_path / "skipped.txt", [error], "")
    assert b"in/\xff.jpg" in (tmp_path / "skipped.txt").read_bytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_pictures_of_a_pixel_or_a_row(checkpoint, run, tmp_path, size):  # noqa: F811
    noise(tmp_path / "in/thin.png", 1, size)
    assert run("--input", "in", "--scales", "0.5", "1.0", "--flip")[0] == 0
    assert pixels(tmp_path / "out/train_ids/thin.png").shape == size
