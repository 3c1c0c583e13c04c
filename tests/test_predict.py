"""predict.py on images and videos of random noise, with a network of random weights."""

import json
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image

import predict
from datasets.label_spaces import CITYSCAPES19, CITYSCAPES_IDS
from network.build import build_method
from transforms import normalise
from utils.errors import UserError, run_script
from utils.export.__main__ import export
from utils.predict.predictor import Predictor
from utils.predict.rendering import KINDS
from utils.settings import flatten

SIZES = {"a.png": (40, 60), "deep/b.jpg": (40, 60), "deep/er/c.JPEG": (33, 47)}


@pytest.fixture
def checkpoint(settings, tmp_path, monkeypatch):
    """A small SRHA checkpoint, last.pth, in the working directory; returns its method."""
    monkeypatch.chdir(tmp_path)
    cfg = settings(METHOD="srha", DATASET__LABEL_SPACE="cityscapes19", WORKERS=0)
    method, _ = build_method(cfg)
    state = {"settings": flatten(cfg), "step": 7, "method": method.state_dict()}
    torch.save(state, "last.pth")
    return method.eval()


@pytest.fixture
def photos(checkpoint, tmp_path):
    """The folder `in` with images at three depths, and a file that is none."""
    generator = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(path)
    (tmp_path / "in" / "note.txt").write_text("no image")
    return tmp_path / "in"


@pytest.fixture
def run(monkeypatch, capsys):
    """Return `run(*arguments)` → (exit code, stdout, stderr) of predict.py."""

    def start(*arguments):
        line = ["predict.py", "--snapshot", "last.pth", "--out", "out", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", line)
        capsys.readouterr()
        code = 0
        try:
            run_script(predict.main)
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return start


def pixels(path):
    with Image.open(path) as file:
        return np.array(file)


@torch.no_grad()
def expected(method, path):
    """Class and probability of each pixel, by the plain formula."""
    image = torch.from_numpy(pixels(path)).permute(2, 0, 1)
    probability = method(normalise(image)[None])[0].double().softmax(0)
    return probability.argmax(0).numpy(), probability.amax(0).numpy()


def written(out):
    files = [p.relative_to(out).as_posix() for p in out.rglob("*.*") if p.is_file()]
    return sorted(p for p in files if p != ".lock" and not p.startswith("inputs"))


@pytest.mark.parametrize("batch", [1, 4])
def test_every_kind_is_what_it_says(checkpoint, photos, run, tmp_path, batch):
    code, out, _ = run("--input", "in", "VALID.BATCH_SIZE", batch, "WORKERS", 1)
    assert code == 0 and out == (
        "3 predicted; written to out\npassed over, neither image nor video: 1 .txt\n"
    )
    for name, size in SIZES.items():
        stem = name.rpartition(".")[0]
        labels, confidence = expected(checkpoint, photos / name)
        own = {kind: pixels(tmp_path / "out" / kind / f"{stem}.png") for kind in KINDS}
        assert (own["train_ids"] == labels).mean() > 0.999
        assert own["train_ids"].shape == size and own["train_ids"].dtype == np.uint8
        ids = np.vectorize({v: k for k, v in CITYSCAPES_IDS.items()}.get)(own["train_ids"])
        assert (own["city_ids"] == ids).all()
        assert (own["colour"] == np.array(CITYSCAPES19.colours)[own["train_ids"]]).all()
        assert np.abs(own["confidence"] - 255 * confidence).max() < 0.51
        assert own["overlay"].shape[1:] == (size[1], 3) and own["overlay"].shape[0] > size[0]
        mixed = 0.45 * pixels(photos / name) + 0.55 * own["colour"]
        assert np.abs(own["overlay"][: size[0]] - mixed).max() <= 1
    assert len(written(tmp_path / "out")) == 15 + 1


def test_scales_flip_and_windows_are_those_of_valid(checkpoint, photos, run, tmp_path):
    from network.inference import predict as segment

    run("--input", "in/a.png", "--write", "train_ids", "--scales", "0.5", "1.0", "--flip",
        "--sliding", "32", "20")  # fmt: skip
    image = normalise(torch.from_numpy(pixels(photos / "a.png")).permute(2, 0, 1))[None]
    with torch.no_grad():
        labels = segment(checkpoint, image, (40, 60), (0.5, 1.0), True, (32, 20))[0]
    assert (pixels(tmp_path / "out/train_ids/a.png") == labels.numpy()).all()
    note = json.loads((tmp_path / "out/predictions.json").read_text())
    assert note["predicted"] == "native, windows of 32 with stride 20, scales 0.5 1, flip"


def test_pictures_of_all_kinds_are_predicted(photos, run, tmp_path):
    """TIFF, WebP and 16 bits as well; labels of the same pixels are the same."""
    grey = pixels(photos / "a.png")[..., 0].astype(np.uint16) * 257
    for name in ("grey.tif", "grey16.png", "lossless.webp"):
        array = grey if "lossless" not in name else (grey // 257).astype(np.uint8)
        image = Image.fromarray(array)
        image.save(tmp_path / "in" / name, **({"lossless": True} if "webp" in name else {}))
    code, out, _ = run("--input", "in", "--write", "train_ids")
    assert code == 0 and out.startswith("6 predicted;")
    a, b, c = (pixels(tmp_path / f"out/train_ids/{n}.png") for n in ("grey", "grey16", "lossless"))
    assert (a == b).all() and (b == c).all()


def test_it_continues_and_adds_kinds(photos, run, tmp_path):
    run("--input", "in", "--write", "train_ids")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/train_ids").rglob("*.png")}
    gone = tmp_path / "out/train_ids/a.png"
    gone.unlink()
    (tmp_path / "out/train_ids/a.png.part").write_bytes(b"cut off")
    code, out, _ = run("--input", "in", "--write", "train_ids")
    assert code == 0 and out.startswith("1 predicted, 2 there already;")
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p != gone)
    assert written(tmp_path / "out/train_ids") == ["a.png", "deep/b.png", "deep/er/c.png"]
    _, out, _ = run("--input", "in", "--write", "train_ids", "colour")
    assert out.startswith("3 predicted;")
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p != gone)


def test_an_export_predicts_the_same(photos, run, tmp_path):
    export(tmp_path / "last.pth", tmp_path / "network.safetensors")
    run("--input", "in", "--write", "train_ids")
    run("--snapshot", "network.safetensors", "--out", "again", "--input", "in",
        "--write", "train_ids")  # fmt: skip
    for path in (tmp_path / "out").rglob("*.png"):
        other = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_named_and_skipped(photos, run, tmp_path, workers):
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[:300])
    (photos / "flipped.png").write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    (photos / "empty.jpg").touch()
    Image.new("RGB", (400, 300)).save(photos / "large.png")
    code, out, progress = run(
        "--input", "in", "--write", "colour", "WORKERS", workers, "VALID.MAX_PIXELS", 100000
    )
    assert code == predict.SKIPPED == 3
    assert out.startswith("3 predicted, 4 skipped (listed in out/skipped.txt);")
    lines = (tmp_path / "out/skipped.txt").read_text().splitlines()
    for name in ("cut.png", "flipped.png", "empty.jpg", "large.png"):
        assert sum(f"in/{name}" in line for line in lines) == 1 and f"in/{name}" in progress
    assert written(tmp_path / "out/colour") == ["a.png", "deep/b.png", "deep/er/c.png"]
    for name in ("cut.png", "flipped.png", "empty.jpg", "large.png"):
        (photos / name).unlink()
    assert run("--input", "in", "--write", "colour")[0] == 0
    assert not (tmp_path / "out/skipped.txt").exists()


def test_photographs_are_turned_upright(photos, run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "deep/b.jpg") as photo:
        photo.save(photos / "turned.jpg", exif=exif)
    run("--input", "in/turned.jpg", "--write", "train_ids", "overlay")
    assert pixels(tmp_path / "out/train_ids/turned.png").shape == (60, 40)
    assert pixels(tmp_path / "out/overlay/turned.png").shape[1] == 40


def test_names(photos, run, tmp_path):
    """A pattern keeps the folders below its fixed part; equal stems keep their endings."""
    Image.new("RGB", (40, 40)).save(photos / "deep/b.png")
    run("--input", "in/deep/**/*", "--write", "colour")
    assert written(tmp_path / "out/colour") == ["b.jpg.png", "b.png.png", "er/c.png"]
    code, _, line = run("--input", "in/deep/b.jpg", "in/other", "--write", "colour")
    assert code == 2 and "--input in/other: there is no such file or folder" in line
    (photos / "er").mkdir()
    Image.new("RGB", (40, 40)).save(photos / "er/b.png")
    code, _, line = run("--input", "in/er", "in/deep/b.png")
    assert code == 2 and "in/er/b.png and in/deep/b.png would be written to one place" in line


@pytest.mark.parametrize("arguments, message", [
    (["--input", "nothing"], "--input nothing: there is no such file or folder"),
    (["--input", "in/*.jpg"], "--input in/\\*.jpg: no image or video there"),
    (["--input", "in/note.txt"], "--input in/note.txt: no image or video there"),
    (["--input", "in", "--write", "color"], "unknown kind of prediction 'color'; did you mean"),
    (["--input", "in", "VALID.PROTOCOL", "robustnet"], "VALID.PROTOCOL: predictions are made"),
    (["--input", "in", "--sliding", "32", "40"], "VALID.SLIDING is 32 40"),
    (["--input", "in", "--snapshot", "none.pth"], "no checkpoint none.pth"),
])  # fmt: skip
def test_mistakes(photos, run, arguments, message):
    code, _, progress = run(*arguments)
    line = [line for line in progress.splitlines() if line.startswith("error")]
    assert code == 2 and len(line) == 1
    with pytest.raises(UserError, match=message):
        raise UserError(line[0])


def test_predictions_of_two_networks_are_not_mixed(photos, run, tmp_path):
    assert run("--input", "in", "--write", "colour")[0] == 0
    assert run("--input", "in", "--write", "colour", "--flip")[0] == 2
    state = torch.load("last.pth")
    state["method"]["decoder.classifier.bias"] += 1
    torch.save(state, "other.pth")
    code, _, line = run("--snapshot", "other.pth", "--input", "in")
    assert code == 2 and "out holds predictions with another checkpoint sha256" in line


def test_other_classes_have_no_cityscapes_ids(settings, photos, run):
    cfg = settings(METHOD="baseline", DATASET__LABEL_SPACE="idd_lite7", WORKERS=0)
    method, _ = build_method(cfg)
    state = {"settings": flatten(cfg), "step": 7, "method": method.state_dict()}
    torch.save(state, "groups.pth")
    code, _, line = run("--snapshot", "groups.pth", "--input", "in", "--write", "city_ids")
    assert code == 2 and "the classes of idd_lite7 have no ids" in line
    assert run("--snapshot", "groups.pth", "--input", "in")[0] == 0


def write_video(path, frames, rate=10, size=(64, 48)):
    """Write noise of blocks that changes from frame to frame."""
    generator = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"
        for _ in range(frames):
            blocks = generator.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
            image = Image.fromarray(blocks).resize(size)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))


def frames_of(path):
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode()]


@pytest.mark.parametrize("size", [(64, 48), (63, 49)])
def test_a_video_keeps_size_times_and_frames(checkpoint, run, tmp_path, size):
    write_video("drive.mp4", 7, size=size)
    code, out, _ = run("--input", "drive.mp4", "VALID.BATCH_SIZE", 3)
    assert code == 0 and out == "1 predicted (7 frames of videos); written to out\n"
    source = frames_of("drive.mp4")
    for kind in ("colour", "overlay", "confidence"):
        own = frames_of(tmp_path / "out" / kind / "drive.mp4")
        assert [time for time, _ in own] == [time for time, _ in source]
        assert own[0][1].shape[1] == size[0]
    labels = sorted((tmp_path / "out/train_ids/drive.mp4").iterdir())
    assert [p.name for p in labels] == [f"{i:06}.png" for i in range(7)]
    for path, (_, image), (_, colours) in zip(
        labels, source, frames_of(tmp_path / "out/colour/drive.mp4"), strict=True
    ):
        Image.fromarray(image).save("frame.png")
        assert (pixels(path) == expected(checkpoint, "frame.png")[0]).mean() > 0.999
        wanted = np.array(CITYSCAPES19.colours)[pixels(path)]
        assert np.abs(colours.astype(int) - wanted).mean() < 20
    assert run("--input", "drive.mp4")[1].startswith("0 predicted, 1 there already;")


@pytest.mark.parametrize("name", ["drive.mp4", "drive.MKV"])
def test_a_broken_frame_is_named_and_skipped(checkpoint, run, tmp_path, name):
    write_video(name, 6)
    with av.open(name) as container:
        packets = sorted((p for p in container.demux(video=0) if p.size), key=lambda p: p.pts)
    coded = bytes(packets[4])
    content = (tmp_path / name).read_bytes()
    assert content.count(coded) == 1
    (tmp_path / name).write_bytes(content.replace(coded, 9 * b"\xff" + coded[9:]))
    code, out, _ = run("--input", name, "--write", "train_ids", "overlay")
    assert code == 3 and out.startswith("1 predicted (5 frames of videos), 1 skipped")
    assert f"{name}, frame 4: it " in (tmp_path / "out/skipped.txt").read_text()
    labels = sorted(p.name for p in (tmp_path / "out/train_ids/drive.mp4").iterdir())
    assert labels == [f"{i:06}.png" for i in (0, 1, 2, 3, 5)]
    assert len(frames_of(tmp_path / "out/overlay/drive.mp4")) == 5


def test_files_that_are_no_video(checkpoint, run, tmp_path):
    write_video("drive.mp4", 3)
    whole = (tmp_path / "drive.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.avi").write_text("no video")
    code, out, _ = run("--input", "drive.mp4", "cut.mp4", "text.avi", "--write", "overlay")
    assert code == 3 and out.startswith("1 predicted (3 frames of videos), 2 skipped")
    assert written(tmp_path / "out/overlay") == ["drive.mp4"]


def test_a_video_that_is_cut_off_leaves_nothing(checkpoint, run, tmp_path, monkeypatch):
    write_video("drive.mp4", 4)
    segment, calls = Predictor.segment, []

    def interrupted(self, images):
        calls.append(images)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(self, images)

    monkeypatch.setattr(Predictor, "segment", interrupted)
    assert run("--input", "drive.mp4")[0] == 130
    assert written(tmp_path / "out") == ["predictions.json"]
    assert run("--input", "drive.mp4")[0] == 0


def test_videos_without_pyav(checkpoint, run, monkeypatch):
    write_video("drive.mp4", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, line = run("--input", "drive.mp4")
    assert code == 2 and "videos need av: pip install -r requirements-extra.txt" in line
