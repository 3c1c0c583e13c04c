"""A user's mistake is answered by one line that names it, and exit code 2; never a traceback."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
import valid
from utils.errors import run_script

SMALL = (
    "--trunk resnet_mini TRUNK.WEIGHTS objects DECODER.CHANNELS 16 DECODER.LOW_LEVEL_CHANNELS 8 "
    "DECODER.AUX_CHANNELS 16 TRANSFORM.CROP_SIZE 64,96 TRAIN.BATCH_SIZE 2 TRAIN.MAX_ITER 1 "
    "WORKERS 0 VALID.PROTOCOL native --dataset gtav --val_dataset gtav "
    "DATASET.CLASS_UNIFORM_FRACTION 0"
).split()


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    """Return `answer(main, *arguments)` → the one line on stderr of a script that must exit 2."""
    monkeypatch.chdir(tmp_path)

    def start(main, *arguments):
        line = [*SMALL, *arguments] if main is train.main else list(arguments)
        monkeypatch.setattr(sys, "argv", ["script", *line])
        with pytest.raises(SystemExit) as exit_:
            run_script(main)
        assert exit_.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        return lines[0]

    return start


@pytest.fixture
def gtav(miniature, tmp_path):
    """A copy of the miniature GTAV that a test may break: (arguments, root)."""
    shutil.copytree(miniature / "GTAV", tmp_path / "broken" / "GTAV")
    return ["DATASET.ROOT", str(tmp_path / "broken")], tmp_path / "broken" / "GTAV"


@pytest.mark.parametrize("arguments, message", [
    (["DATASET.ROOT", "nowhere"], "GTAV train: there is neither nowhere/GTAV/split.mat"),
    (["--dataset", "gtax"], "unknown dataset 'gtax'; did you mean gtav?"),
    (["--val_dataset", "gtav:trian"], "unknown split of GTAV 'trian'; did you mean train?"),
    (["--method", "sraha"], "unknown method 'sraha'; did you mean srha?"),
    (["--trunk", "resnet_50"], "unknown trunk 'resnet_50'; did you mean resnet50?"),
    (["--decoder", "deeplabv3"], "unknown decoder 'deeplabv3'; did you mean deeplabv3plus?"),
    (["DATASET.LABEL_SPACE", "city"], "unknown label space 'city'"),
    (["TRAIN.MAXITER", "3"], "unknown setting TRAIN.MAXITER; did you mean TRAIN.MAX_ITER?"),
    (["TRAIN.MAX_ITER", "soon"], "setting TRAIN.MAX_ITER is 'soon'; expected a whole number"),
    (["TRUNK.OUTPUT_STRIDE", "12"], "TRUNK.OUTPUT_STRIDE is '12'; expected one of 8, 16, 32"),
    (["TRUNK.WEIGHTS", "missing.pth"], "no weights file missing.pth"),
    (["TRANSFORM.SCALE", "2,0.5"], "TRANSFORM.SCALE runs from low to high"),
    (["TRANSFORM.JITTER", "0.4,0.4,0.4,0.9"], "hue 0.9; it goes from 0 to 0.5"),
    (["TRAIN.BATCH_SIZE", "1", "--method", "baseline"], "at once and cannot train on one; choose"),
    (["--init", "missing.pth"], "no checkpoint missing.pth"),
    (["--resume", "--exp", "never"], "no checkpoint logs/never/last.pth"),
    (["--dataset", "gtav", "gtav"], "DATASET.SOURCE names gtav twice; change --dataset"),
    (["--dataset", "gtav", "idd_lite"], "GTAV is annotated in cityscapes19 and IDD-Lite in "
     "idd_lite7; train in one for all: DATASET.LABEL_SPACE idd_lite7"),
    (["--dataset", "idd_lite", "gtav", "DATASET.LABEL_SPACE", "cityscapes19"],
     "IDD-Lite train: there is no"),
    (["--dataset", "gtav", "synthia", "idd"], "TRAIN.BATCH_SIZE 2 holds no equal parts of 3 source "
     "domains; set a multiple of 3 such as 3, or DATASET.MIXING proportional"),
    (["--dataset", "gtav", "synthia", "TRAIN.BATCH_PER_PROCESS", "1"],
     "TRAIN.BATCH_PER_PROCESS 1 has no room for an image of each of 2 source domains"),
    (["DATASET.MIXING", "half"], "DATASET.MIXING is 'half'; expected one of equal, proportional"),
    (["DEVICE", "cuda"], "torch sees no GPU"),
])  # fmt: skip
def test_settings(answer, miniature, arguments, message):
    if message.startswith("torch sees") and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = answer(train.main, "DATASET.ROOT", str(miniature), *arguments)
    assert re.search(message.replace("?", r"\?"), line), line


def test_an_unset_root(answer, monkeypatch):
    monkeypatch.delenv("GTAV_DIR", raising=False)
    line = answer(train.main)
    assert "where is GTAV? Set DATASET.GTAV_DIR or the environment variable GTAV_DIR" in line


def test_an_empty_split(answer, gtav):
    arguments, root = gtav
    for image in (root / "images").iterdir():
        image.unlink()
    line = answer(train.main, *arguments)
    assert "GTAV train" in line and "images" in line


def test_an_image_without_a_label(answer, gtav):
    arguments, root = gtav
    (root / "labels" / "00002.png").unlink()
    line = answer(train.main, *arguments)
    assert "have no label; the first is" in line and "00002.png" in line


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_truncated_png_is_named_from_every_process(answer, gtav, kind, workers):
    arguments, root = gtav
    for path in (root / kind).iterdir():
        path.write_bytes(path.read_bytes()[:200])
    line = answer(train.main, *arguments, "WORKERS", workers)
    assert f"{kind}/0000" in line and "cannot" in line


def test_a_label_of_another_size(answer, gtav):
    arguments, root = gtav
    for path in (root / "labels").iterdir():
        with Image.open(path) as label:
            smaller = label.crop((0, 0, 100, 90))
        smaller.save(path)
    line = answer(train.main, *arguments)
    assert "image and label differ in size" in line and "382×210" in line and "100×90" in line


@pytest.mark.parametrize("setting, message", [
    ("TRANSFORM.CROP_SIZE 1000000,1000000", "2 crops of 1000000×1000000 pixels of one pass take "
     "24000 GB, .*; set a smaller TRANSFORM.CROP_SIZE"),
    ("DECODER.CHANNELS 100000000", "not enough memory for the network of these settings .*more.; "
     "smaller widths .such as DECODER.CHANNELS"),
    ("DECODER.CHANNELS 10000000000000000", "not enough memory for the network of these settings"),
    ("TRAIN.BATCH_SIZE 1000000000", "BATCH_SIZE is '1000000000'; expected between 1 and 65536"),
    ("WORKERS 100000", "WORKERS is '100000'; expected between 0 and 1024"),
])  # fmt: skip
def test_sizes_that_no_memory_holds(answer, miniature, setting, message):
    assert re.search(message, answer(train.main, "DATASET.ROOT", str(miniature), *setting.split()))


@pytest.mark.parametrize("error, kind", [
    (MemoryError(), "memory for this command;"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
     "GPU memory for this command .2.00 GiB more.;"),
    (OSError(12, "Cannot allocate memory"), "memory for this command;"),
])  # fmt: skip
def test_memory_runs_out_anywhere(answer, error, kind):
    def run_out():
        raise error

    assert re.match(f"error: not enough {kind}", answer(run_out))


def test_files_that_are_no_checkpoint(answer, miniature, tmp_path):
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
    assert "text.pth is damaged" in answer(valid.main, "--snapshot", "text.pth")
    assert "text.pth is damaged" in answer(
        train.main, "DATASET.ROOT", str(miniature), "TRUNK.WEIGHTS", "text.pth"
    )
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no weights by name" in answer(valid.main, "--snapshot", "list.pth")
    assert "is no checkpoint of this project" in answer(valid.main, "--snapshot", "other.pth")


@pytest.mark.parametrize("script", ["train.py", "valid.py", "predict.py"])
@pytest.mark.parametrize("number, code", [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_during_imports_has_its_exit_code(tmp_path, script, number, code):
    """A torch that takes for ever stands for one that takes seconds."""
    (tmp_path / "torch.py").write_text(
        "import pathlib, time\npathlib.Path(__file__).with_name('there').touch()\ntime.sleep(60)"
    )
    root = Path(__file__).parent.parent
    # Our folder comes first on the path of a script; the module that never ends comes before it.
    code_line = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); " + (
        f"sys.path.insert(1, {str(root)!r}); runpy.run_path({str(root / script)!r}, "
        "run_name='__main__')"
    )
    process = subprocess.Popen([sys.executable, "-c", code_line], stderr=subprocess.PIPE)
    while not (tmp_path / "there").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.Signals[number])
    assert process.communicate(timeout=60)[1] == b"" and process.returncode == code


def test_output_that_nobody_reads_on_is_no_error():
    root = Path(__file__).parent.parent
    line = f"{sys.executable} config.py | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("# Shared")
