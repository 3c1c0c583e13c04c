"""`python -m datasets.pseudo_target` with both engines, the diffusion model tiny and random."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipeline import save_pipeline

import datasets
from datasets import load_settings
from datasets.photographs import images_of
from datasets.pseudo_target import __main__ as command
from datasets.pseudo_target import diffusion, drawing, names_of
from datasets.pseudo_target.diffusion import Diffusion, Sampling, padded, resized, unpadded
from tests.engine.processes import free_port
from utils.engine import saving
from utils.errors import UserError, run_script

SMALL = ["--steps", "3", "--scale", "0.2", "WORKERS", "0"]
RESTYLE = ["--engine", "restyle", "WORKERS", "0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    save_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model):
    return Diffusion(str(model), torch.device("cpu"), Sampling(3, 0.9, 9.0, 0.2))


@pytest.fixture
def data(miniature, tmp_path):
    """A GTAV of six images that a test may spoil."""
    shutil.copytree(miniature / "GTAV", tmp_path / "data/GTAV")
    return tmp_path / "data"


@pytest.fixture
def draw(miniature, tmp_path, model, monkeypatch):
    """Return `draw(out, *words)` → the drawn images by name, and what they were drawn as."""
    monkeypatch.chdir(tmp_path)

    def run(out, *words, root=miniature):
        words = [*words] if "--engine" in words else ["--model", model, *SMALL, *words]
        line = ["gtav", "--out", out, *words, "DATASET.ROOT", root]
        command.main([str(word) for word in line])
        return pictures(tmp_path / out)

    return run


def pictures(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def test_it_draws_each_image_under_its_name_and_training_takes_the_folder(
    draw, miniature, tmp_path, capsys
):
    drawn = draw("out", "--images", 4)
    assert list(drawn) == ["00001.png", "00002.png", "00004.png", "00005.png"]
    size = np.array(Image.open(miniature / "GTAV/images/00001.png")).shape
    assert all(pixels.shape == size and pixels.std() > 1 for pixels in drawn.values())
    lines = [json.loads(line) for line in (tmp_path / "out/prompts.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == list(drawn)
    assert all(line["prompt"].startswith("A high quality photo; ") for line in lines)
    note = json.loads((tmp_path / "out/pseudo_target.json").read_text())
    assert (note["engine"], note["source"], note["steps"]) == ("diffusion", "gtav:train", 3)
    assert "4 drawn; use it by DATASET.TARGET out" in capsys.readouterr().out
    found, _ = images_of(str(tmp_path / "out"), load_settings({}))
    assert [path.name for path in found] == list(drawn)
    # Again, and continued where it was cut off: the same pixels.
    assert same(draw("again", "--images", 4, "--batch", 1), drawn)
    (tmp_path / "again/00004.png").unlink()
    (tmp_path / "again/00002.png.part").write_bytes(b"cut off")
    assert same(draw("again", "--images", 4), drawn)
    assert "1 drawn, 3 there already" in capsys.readouterr().out
    # The noise of an image is its own, but rounding is the batch's.
    together = draw("together", "--images", 4, "--batch", 3)
    assert max(np.abs(together[k].astype(int) - drawn[k]).max() for k in drawn) <= 1
    assert not same(draw("other", "--images", 4, "SEED", 1), drawn)


def test_restyled_images_do_not_depend_on_who_draws_them(draw, tmp_path):
    alone = draw("out", *RESTYLE)
    assert len(alone) == 6 and not (tmp_path / "out/prompts.jsonl").exists()
    note = json.loads((tmp_path / "out/pseudo_target.json").read_text())
    assert len(note.pop("files")) == 16
    assert note == {"source": "gtav:train", "images": 6, "engine": "restyle", "seed": 304}
    assert same(draw("two", "--engine", "restyle", "WORKERS", 2), alone)
    (tmp_path / "two/00003.png").unlink()
    assert same(draw("two", *RESTYLE), alone)
    assert len(images_of(str(tmp_path / "out"), load_settings({}))[0]) == 6


def test_processes_share_the_images(draw, tmp_path, miniature):
    alone = draw("alone", "--images", 3, *RESTYLE)
    line = ["gtav", "--out", tmp_path / "two", "--images", 3, *RESTYLE, "DATASET.ROOT", miniature]
    # From the server of tests/engine/processes.py, which has imported the most of it.
    port, context = str(free_port()), multiprocessing.get_context("forkserver")
    both = [
        context.Process(target=as_one_of_two, args=([*map(str, line)], rank, port))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert same(pictures(tmp_path / "two"), alone)
    drawn = [(tmp_path / f"drawn_{rank}.txt").read_text().split() for rank in range(2)]
    assert drawn == [["00001.png", "00005.png"], ["00003.png"]]


def as_one_of_two(line, rank, port):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    os.environ["MASTER_PORT"] = port
    torch.set_num_threads(1)
    write = drawing.write_image

    def note(pixels, path):
        write(pixels, path)
        with (path.parent.parent / f"drawn_{rank}.txt").open("a") as file:
            file.write(f"{path.name}\n")

    drawing.write_image = note
    command.main(line)


def test_own_prompts_and_blocks_reach_the_model(draw, tmp_path, monkeypatch):
    seen = []
    draw_images = Diffusion.draw

    def note(self, images, prompts, seeds):
        seen.extend(zip(prompts, seeds, strict=True))
        return draw_images(self, images, prompts, seeds)

    monkeypatch.setattr(Diffusion, "draw", note)
    line = '{{"file": "0000{}.png", "prompt": "{}", "seed": 3}}\n'
    (tmp_path / "mine.jsonl").write_text(line.format(4, "dusk"))
    assert list(draw("out", "--prompts", tmp_path / "mine.jsonl")) == ["00004.png"]
    assert seen == [("dusk", 3)]
    (tmp_path / "mine.jsonl").write_text(line.format(4, "dawn"))
    with pytest.raises(UserError, match="prompts.jsonl holds other prompts than these"):
        draw("out", "--prompts", tmp_path / "mine.jsonl")
    # Of the images that --images leaves out there may be prompts, too.
    (tmp_path / "mine.jsonl").write_text(line.format(4, "dawn") + line.format(1, "noon"))
    assert list(draw("one", "--prompts", tmp_path / "mine.jsonl", "--images", 1)) == ["00001.png"]


def test_the_plan_draws_nothing(draw, tmp_path, capsys):
    draw("out", "--plan", "--variant", "rand_cond")
    printed = capsys.readouterr().out
    assert printed.startswith("6 images\nlocation:") and not (tmp_path / "out").exists()
    assert "00001.png: A high quality photo; " in printed
    numbers = [int(line.split()[0]) for line in printed.splitlines()[2:4]]
    assert sum(numbers) == 6


def test_padding_and_size():
    size = {name: resized(Image.new("RGB", side), 0).size for name, side in
            (("gtav", (1914, 1052)), ("synthia", (1280, 760)))}  # fmt: skip
    assert size == {"gtav": (957, 526), "synthia": (1280, 760)}
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (526, 957, 3), np.uint8))
    wide = padded(source)
    assert wide.size == (960, 576)
    pixels = np.array(wide)
    assert (
        np.array_equal(pixels[:526, :957], source)
        and (pixels[:526, 957:] == pixels[:526, 956:957]).all()
    )
    assert (pixels[526:] == pixels[525]).all()
    assert np.array_equal(unpadded(wide, source, 1.0), source)


def test_the_schedule_is_the_published_one(engine):
    scheduler = engine.pipeline.scheduler
    scheduler.set_timesteps(25)
    steps, _ = engine.pipeline.get_timesteps(25, 0.9, torch.device("cpu"))
    assert steps.tolist() == list(range(841, 0, -40)) and len(steps) == 22
    assert scheduler.alphas_cumprod[841] == pytest.approx(0.0254, abs=1e-4)
    assert scheduler.alphas_cumprod[881] == pytest.approx(0.0172, abs=1e-4)
    assert (scheduler.config.clip_sample, scheduler.config.prediction_type) == (False, "epsilon")


def test_the_model_is_called_as_published(engine, monkeypatch):
    seen = {}
    call = type(engine.pipeline).__call__

    def note(self, **options):
        seen.update(options)
        return call(self, **options)

    monkeypatch.setattr(type(engine.pipeline), "__call__", note)
    monkeypatch.setattr(engine, "sampling", Sampling(scale=0.2))
    engine.draw([Image.new("RGB", (320, 320), (9, 90, 200))] * 2, ["a", "b"], [1, 2])
    assert (seen["num_inference_steps"], seen["strength"], seen["guidance_scale"]) == (25, 0.9, 9)
    assert seen["negative_prompt"] == ["", ""] and len(seen["generator"]) == 2
    assert seen["depth_map"].shape[0] == 2 and {i.size for i in seen["image"]} == {(64, 64)}


def spoiled(engine_class, monkeypatch, how):
    """Let the model fail in one of the ways that models do."""
    draw = engine_class.draw

    def depth(self, images):
        found = torch.arange(16.0).view(1, 4, 4).repeat(len(images), 1, 1)
        estimator = self.pipeline.depth_estimator
        monkeypatch.setattr(estimator, "forward", lambda *_: type("O", (), {
            "predicted_depth": torch.full_like(found, 3.0)})())  # fmt: skip
        return original_depth(self, images)

    original_depth = engine_class.depth
    if how == "depth":
        monkeypatch.setattr(engine_class, "depth", depth)
    elif how == "memory":

        def run_out(self, images, *_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        monkeypatch.setattr(engine_class, "draw", run_out)
    else:

        def nothing(self, *arguments):
            vae = self.pipeline.vae
            monkeypatch.setattr(
                vae, "decode", lambda z, **_: (z.new_full((len(z), 3, 64, 64), float("nan")),)
            )
            return draw(self, *arguments)

        monkeypatch.setattr(engine_class, "draw", nothing)


@pytest.mark.parametrize(("how", "message"), [
    ("depth", "its depth is the same everywhere"), ("numbers", "values that are no numbers"),
    ("memory", "not enough GPU memory for drawing it .2.00 GiB more.; a smaller --scale"),
])  # fmt: skip
def test_what_a_model_cannot_draw_is_named_and_counted(
    draw, tmp_path, monkeypatch, capsys, how, message
):
    spoiled(Diffusion, monkeypatch, how)
    with pytest.raises(SystemExit) as end:
        draw("out", "--images", 3, "--batch", 2)
    assert end.value.code == 3
    lines = (tmp_path / "out/skipped.txt").read_text().splitlines()
    assert len(lines) == 3 and "00001.png" in lines[0] and not pictures(tmp_path / "out")
    assert all(re.search(message, line) for line in lines)
    assert "0 drawn, 3 skipped (listed in out/skipped.txt)" in capsys.readouterr().out
    # What is mended is drawn, and the list is gone.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert len(draw("out", "--images", 3)) == 3 and not (tmp_path / "out/skipped.txt").exists()


def test_ten_failures_in_a_row_end_it(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "MOST_FAILURES", 3)
    spoiled(Diffusion, monkeypatch, "memory")
    with pytest.raises(UserError, match="3 images in a row could not be drawn; .*GPU memory"):
        draw("out")
    assert len((tmp_path / "out/skipped.txt").read_text().splitlines()) == 3


def test_lost_images_end_it_too(draw, data, tmp_path, monkeypatch):
    """The labels were read before: from the cache."""
    draw("out", "--images", 1, *RESTYLE, root=data)
    monkeypatch.setattr(drawing, "MOST_FAILURES", 3)
    read = drawing.read_image
    lost = [data / f"GTAV/images/0000{n}.png" for n in (2, 3, 4, 5)]

    def read_or_fail(path):
        if path in lost:
            raise UserError(f"cannot read {path}: gone")
        return read(path)

    monkeypatch.setattr(drawing, "read_image", read_or_fail)
    for words in (RESTYLE, []):
        with pytest.raises(UserError, match="3 images in a row could not be drawn; .*00004.png"):
            draw(f"out_{len(words)}", *words, root=data)


@pytest.mark.parametrize("words", [RESTYLE, []], ids=["restyle", "diffusion"])
def test_an_image_that_cannot_be_read_is_named(draw, data, tmp_path, words):
    path = data / "GTAV/images/00003.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit):
        draw("out", "--images", 3, *words, root=data)
    assert (tmp_path / "out/skipped.txt").read_text().startswith(f"cannot read {path}: ")
    assert list(pictures(tmp_path / "out")) == ["00001.png", "00005.png"]


def test_a_label_of_another_size(draw, data, tmp_path):
    path = data / "GTAV/labels/00002.png"
    Image.open(path).resize((100, 50), Image.Resampling.NEAREST).save(path)
    with pytest.raises(UserError, match="1 of 6 labels of GTAV train do not fit: .*00002.png"):
        draw("out", *RESTYLE, root=data)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_in_part(draw, tmp_path, monkeypatch):
    written = []
    original = saving.write_part

    def full(path, *arguments):
        written.append(path.name)
        if len(written) > 3:
            raise UserError(saving.cannot_write(OSError(errno.ENOSPC, "No space"), path, "So"))
        return original(path, *arguments)

    monkeypatch.setattr(saving, "write_part", full)
    with pytest.raises(UserError, match="cannot write out/.*.png: no space; make room"):
        draw("out", *RESTYLE)
    assert len(pictures(tmp_path / "out")) == 2 and not list((tmp_path / "out").glob("*.part"))


@pytest.mark.parametrize(("words", "message"), [
    (["--variant", "uni"], "unknown variant of prompts 'uni'; did you mean uni_cls"),
    (["--engine", "restyle", "--variant", "uni_cls"], "--variant has no effect with --engine"),
    (["--strength", "0"], "--strength 0: it is above 0"), (["--steps", "1"], "--steps times"),
    (["--steps", "1000"], "--steps 1 to 999"), (["--model", "./sd2"], "./sd2: there is no such"),
    (["--images", "-1"], "--images is 0 or more"), (["--guidance", "nan"], "--guidance is 0"),
    (["--prompts", "none.json"], "cannot read none.json"), (["synthia"], "one source at a time"),
    (["--model", "no/such/folder"], "--model no/such/folder: there is no such folder"),
])  # fmt: skip
def test_wrong_arguments_leave_nothing(draw, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        draw("out", *words)
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_had(draw, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--model empty: the folder holds no pipeline"):
        draw("out", "--model", "empty")

    def offline(*_, **__):
        raise OSError("no network")

    pipeline = diffusion.load_diffusers().StableDiffusionDepth2ImgPipeline
    monkeypatch.setattr(pipeline, "from_pretrained", offline)
    with pytest.raises(UserError, match="withdrawn .* in November 2025. sd2-community.*--model FO"):
        draw("out", "--model", diffusion.WITHDRAWN)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match="need diffusers: pip install -r requirements-diffusion.tx"):
        draw("out")
    assert not (tmp_path / "out").exists()


def test_sources_and_folders_that_do_not_do(draw, tmp_path, miniature):
    def run(*words):
        command.main([*map(str, words), "DATASET.ROOT", str(miniature), *RESTYLE])

    with pytest.raises(UserError, match="PseudoTarget is a folder; a source has labels"):
        run(miniature / "PseudoTarget", "--out", "out")
    with pytest.raises(UserError, match="unknown split of GTAV 'tain'"):
        run("gtav:tain", "--out", "out")
    with pytest.raises(UserError, match="--out DIR: name the folder"):
        run("gtav")
    with pytest.raises(UserError, match="overlap"):
        run("gtav", "--out", miniature / "GTAV/drawn")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("all of it")
    with pytest.raises(UserError, match="mine holds files that are no pseudo-target"):
        run("gtav", "--out", "mine")
    draw("out", "--images", 1, *RESTYLE)
    with pytest.raises(UserError, match="out holds a pseudo-target with seed 304, not 5"):
        draw("out", "--images", 1, *RESTYLE, "SEED", 5)
    for content in ("[1]", "{}", "3", "{"):
        Path("out/pseudo_target.json").write_text(content)
        with pytest.raises(UserError, match="pseudo_target.json is damaged"):
            draw("out", "--images", 1, *RESTYLE)


def test_other_files_of_the_same_names_are_not_mixed_in(draw, data, tmp_path):
    draw("out", "--images", 3, *RESTYLE, root=data)
    (tmp_path / "out/00003.png").unlink()
    path = data / "GTAV/images/00003.png"
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path, compress_level=1)
    with pytest.raises(
        UserError, match="out holds a pseudo-target with other files of the source;"
    ):
        draw("out", "--images", 3, *RESTYLE, root=data)


def test_what_a_cut_off_start_leaves_is_continued(draw, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("pseudo_target.json.part", "prompts.jsonl.part"):
        (folder / name).write_text("cut o")
    assert len(draw("out", "--images", 1)) == 1
    (folder / "prompts.jsonl").unlink()
    assert len(draw("out", "--images", 1)) == 1 and (folder / "prompts.jsonl").exists()


@pytest.fixture
def described(miniature, tmp_path, monkeypatch):
    """Return `described(pattern, files)` → a file that describes them, with labels beside."""

    def write(pattern, files):
        picture, label = (miniature / "GTAV" / part / "00001.png" for part in ("images", "labels"))
        for name in files:
            for source, root in ((picture, "own/rgb"), (label, "own/id")):
                (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, tmp_path / root / name)
        classes = [
            {"name": "road", "labels": 7, "colour": [1, 1, 1]},
            {"name": "sky", "labels": 23, "colour": [2, 2, 2]},
        ]
        split = {kind: f"{root}{pattern}" for kind, root in (("images", "rgb"), ("labels", "id"))}
        content = {"name": "own", "classes": classes, "splits": {"train": split}}
        (tmp_path / "own/own.json").write_text(json.dumps(content))
        monkeypatch.setattr(datasets, "DESCRIBED", {})
        return str(tmp_path / "own/own.json")

    return write


@pytest.mark.parametrize(("pattern", "files"), [
    ("", ["a.png", "b.png"]), ("/*/rgb.png", ["a/rgb.png", "b/rgb.png"]),
    ("/**/*.png", ["a.png", "deep/er/a.png"]),
])  # fmt: skip
def test_images_keep_their_names_below_the_common_folder(
    described, tmp_path, monkeypatch, pattern, files
):
    monkeypatch.chdir(tmp_path)
    command.main([described(pattern, files), "--out", "out", *RESTYLE])
    drawn = sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.png"))
    assert drawn == files
    with pytest.raises(UserError, match="drawn lies among the files of"):
        out = (tmp_path / "own/rgb" / files[0]).parent / "drawn"
        command.main([str(tmp_path / "own/own.json"), "--out", str(out), *RESTYLE])


def test_two_images_of_one_name():
    with pytest.raises(UserError, match="x/a.png and x/a.jpg would both be drawn as a.png"):
        names_of([Path("x/a.png"), Path("x/a.jpg")])
    assert names_of([Path("x/y/a.b.jpg"), Path("x/z.png")]) == ["y/a.b.png", "z.png"]


def test_a_repository_that_names_a_class_of_earlier_versions(model, tmp_path):
    shutil.copytree(model, tmp_path / "old")
    index = json.loads((tmp_path / "old/model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "DPTFeatureExtractor"]
    (tmp_path / "old/model_index.json").write_text(json.dumps(index))
    engine = Diffusion(str(tmp_path / "old"), torch.device("cpu"), Sampling())
    assert engine.processor.size["height"] == 32 and list(engine.processor.image_mean) == [0.5] * 3


def test_images_of_many_sizes_do_not_pile_up(monkeypatch):
    read = []

    def image(_):
        read.append(torch.zeros(3, 8, len(read) + 1, dtype=torch.uint8))
        return read[-1]

    monkeypatch.setattr(drawing, "read_image", image)
    pair = (drawing.Job(Path("x"), Path("y"), "x"), None)
    waiting = [
        len(read) - n for n, _ in enumerate(drawing.batches([pair] * 20, 2, drawing.Tally()))
    ]
    assert len(waiting) == 20 and max(waiting) == 8


def test_as_a_script_a_mistake_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pseudo_target", "--out", "x"])
    with pytest.raises(SystemExit) as end:
        run_script(command.main)
    assert end.value.code == 2
    assert "error: name the datasets to pseudo_target" in capsys.readouterr().err
