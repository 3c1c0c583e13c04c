"""What breaks around training is told in one line; the run ends, its last checkpoint is whole."""

import multiprocessing
import os
import re
import shutil
import signal
import time

import pytest
from PIL import Image

from tests.engine.processes import Training, load, wait_for
from utils.engine.failures import explain
from utils.errors import UserError

OPTIONS = ["--method", "baseline", "--exp", "one", "TRAIN.MAX_ITER", 40, "VALID.EVERY", 0,
           "LOG.CHECKPOINT_EVERY", 2]  # fmt: skip


def test_a_data_worker_is_killed(run, after_step, tmp_path):
    after_step(4, lambda: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL))
    message = "a data loading process (is killed|was killed|exited).*fewer WORKERS.*A check"
    with pytest.raises(UserError, match=message):
        run(*OPTIONS, "WORKERS", 2)
    assert load(tmp_path / "logs/one/last.pth")["step"] >= 4


@pytest.mark.parametrize("workers", [0, 2])
def test_dataset_files_are_deleted(run, after_step, miniature, tmp_path, workers):
    shutil.copytree(miniature / "GTAV", tmp_path / "data" / "GTAV")
    images = tmp_path / "data/GTAV/images"
    after_step(4, lambda: shutil.rmtree(images))
    with pytest.raises(UserError, match="cannot read .*GTAV/images/.*png"):
        run(*OPTIONS, "WORKERS", workers, data=tmp_path / "data")
    assert load(tmp_path / "logs/one/last.pth")["step"] >= 4


@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_is_killed(miniature, tmp_path, dead):
    options = [*OPTIONS, "TRAIN.MAX_ITER", 100000, "WORKERS", 0]
    training = Training(tmp_path, miniature, *options, world_size=2)
    wait_for(tmp_path / "logs/one/last.pth", training)
    begin = time.monotonic()
    training.processes[dead].kill()
    codes = training.wait()
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 2, training.output()
    assert time.monotonic() - begin < 20, "the other one must not wait for it"
    printed = training.outputs[1 - dead].read_text()
    assert re.search(f"error in process {1 - dead}: lost the connection to another", printed)
    assert "Traceback" not in printed
    assert load(tmp_path / "logs/one/last.pth")["step"] >= 2


def test_a_processes_own_error_is_told_where_it_happened(miniature, tmp_path):
    training = Training(tmp_path, miniature, *OPTIONS, world_size=2, prepare=lose_files)
    assert training.wait() == [2, 2], training.output()
    assert "lost the connection to another process" in training.outputs[0].read_text()
    assert "error in process 1: cannot read" in training.outputs[1].read_text()


def lose_files(rank):
    """Let the second process fail at its third image."""
    from datasets import dataset

    read, calls = dataset.read_image, []

    def fail(path):
        calls.append(path)
        if rank == 1 and len(calls) > 2:
            raise UserError(f"cannot read {path}: it is gone")
        return read(path)

    dataset.read_image = fail


def test_other_errors_keep_their_traceback():
    assert explain(RuntimeError("expected scalar type Float but found Double")) is None
    assert explain(FileNotFoundError(2, "No such file or directory", "x.png")) is None
    for broken in (EOFError(), ConnectionResetError(104, "Connection reset by peer")):
        assert explain(broken).startswith("a data loading process was killed (often for want")
    full = OSError(28, "No space left on device", "logs/one/metrics.jsonl")
    assert explain(full).startswith("cannot write logs/one/metrics.jsonl: no space left on device")


@pytest.mark.parametrize("number", [11, 77])
def test_a_source_without_a_labelled_pixel_is_refused(run, tmp_path, capfd, number):
    """Also without class-uniform sampling. CamVid's 11 is void, and it has no 77."""
    for folder, picture in (
        ("train", Image.new("RGB", (40, 40))),
        ("trainannot", Image.new("L", (40, 40), number)),
    ):
        (tmp_path / "camvid" / folder).mkdir(parents=True)
        picture.save(tmp_path / "camvid" / folder / "a.png")
    arguments = ["--dataset", "camvid", "--method", "baseline", "DATASET.CLASS_UNIFORM_FRACTION", 0]
    with pytest.raises(UserError, match="no label of CamVid train holds a pixel of a class"):
        run(*arguments, "DATASET.CAMVID_DIR", tmp_path / "camvid")
    assert (number == 77) == ("what CamVid does not have (77;" in capfd.readouterr().err)
