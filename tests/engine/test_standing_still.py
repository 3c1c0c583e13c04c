"""A run whose data end or stand still ends too, and keeps its last good step."""

import os
import signal
import time

import pytest

from datasets import dataset
from tests.engine.processes import Training, load, records, same, wait_for
from utils.engine import interruption
from utils.errors import UserError

OPTIONS = ["--method", "baseline", "VALID.EVERY", 0, "DATASET.CLASS_UNIFORM_FRACTION", 0]


def test_a_damaged_file_leaves_the_last_good_step(run, monkeypatch, tmp_path, capfd):
    """Also one of a later pass of a step, whose earlier passes changed statistics: mended, the run
    goes on as one left alone."""
    options = [*OPTIONS, "TRAIN.MAX_ITER", 8, "TRAIN.BATCH_PER_PROCESS", 2]
    read, reads = dataset.read_image, []

    def spoiled(path):
        reads.append(path)
        if len(reads) == 5 * 4 + 3:  # 4 images a step
            raise UserError(f"cannot read {path}: it is damaged")
        return read(path)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="it is damaged"):
        patch.setattr(dataset, "read_image", spoiled)
        run(*options, "--exp", "one")
    assert "saved step 5; --resume continues from it" in capfd.readouterr().err
    run(*options, "--exp", "one", "--resume")
    run(*options, "--exp", "alone")
    one, alone = (
        load(tmp_path / "logs" / name / "last.pth", "settings") for name in ("one", "alone")
    )
    one.pop("log_position"), alone.pop("log_position")
    assert same(one, alone)
    assert records(tmp_path / "logs/one") == records(tmp_path / "logs/alone")


def short_patience(rank):
    """Wait no more than a second for data."""
    interruption.PATIENCE = 1


@pytest.mark.parametrize("signals, code", [([signal.SIGTERM], 75), ([signal.SIGINT] * 2, 130)])
def test_stopped_while_all_workers_stand_still(miniature, tmp_path, signals, code):
    training = Training(
        tmp_path, miniature, *OPTIONS, "--exp", "one", "TRAIN.MAX_ITER", 100000, "WORKERS", 3,
        "LOG.EVERY", 1, "LOG.CHECKPOINT_EVERY", 3, prepare=short_patience,
    )  # fmt: skip
    metrics = tmp_path / "logs/one/metrics.jsonl"
    wait_for(tmp_path / "logs/one/last.pth", training)
    workers = training.workers(3)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    while time.time() - metrics.stat().st_mtime < 1:
        time.sleep(0.1)  # what they had read before
    begin = time.monotonic()
    for number in signals:
        os.kill(training.processes[0].pid, number)
        time.sleep(0.2)
    assert training.wait() == [code], training.output()
    assert time.monotonic() - begin < 5
    printed = training.output()
    assert "Traceback" not in printed
    if code == 75:
        assert f"the data loading processes {sorted(workers)} have given nothing" in printed
        step = records(tmp_path / "logs/one")[-1]["step"]
        assert load(tmp_path / "logs/one/last.pth")["step"] == step
