"""A run's folder belongs to one process at a time, and is tried before the work."""

import json
import os
import signal

import pytest

import train
from tests.engine.processes import Training, load, wait_for
from utils.engine.folder import require_writable, writing_into
from utils.engine.log import METRICS, read_records
from utils.errors import UserError

OPTIONS = ["--method", "baseline", "--exp", "one", "LOG.CHECKPOINT_EVERY", 1, "VALID.EVERY", 0]


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_gone(run, miniature, tmp_path):
    first = Training(tmp_path, miniature, *OPTIONS, "TRAIN.MAX_ITER", 10**6)
    wait_for(tmp_path / "logs/one/last.pth", first)
    pid = first.processes[0].pid
    for resume in ([], ["--resume"], ["--resume", "auto"]):
        refusal = f"one is being written to by process {pid} on" if resume else "one exists"
        with pytest.raises(UserError, match=refusal):
            run(*OPTIONS, *resume)
    os.kill(pid, signal.SIGKILL)
    first.wait()
    step = load(tmp_path / "logs/one/last.pth")["step"]
    run(*OPTIONS, "--resume", "TRAIN.MAX_ITER", step + 1)
    assert load(tmp_path / "logs/one/last.pth")["step"] == step + 1


def test_a_run_that_ended_before_its_first_checkpoint_is_taken_over(run, tmp_path, monkeypatch):
    def fail(*arguments):
        raise UserError("no data")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no data"):
        patch.setattr(train, "build_optimizer", fail)
        run(*OPTIONS)
    run(*OPTIONS, "TRAIN.MAX_ITER", 1)
    assert load(tmp_path / "logs/one/last.pth")["step"] == 1


def test_records_of_a_start_without_a_checkpoint_are_kept(run, tmp_path):
    folder = tmp_path / "logs/one"
    folder.mkdir(parents=True)
    (folder / METRICS).write_text('{"step": 1}\n')
    run(*OPTIONS, "--resume", "auto", "TRAIN.MAX_ITER", 1)
    assert (folder / "metrics_1.jsonl").read_text() == '{"step": 1}\n'


def test_a_record_that_was_cut_off_swallows_no_other(run, tmp_path):
    options = [*OPTIONS, "LOG.EVERY", 1]
    run(*options, "TRAIN.MAX_ITER", 2)
    metrics = tmp_path / "logs/one" / METRICS
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-30])
    assert len(read_records(metrics)) == whole.count(b"\n") - 1
    run(*options, "TRAIN.MAX_ITER", 3, "--resume")
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[0] == 1 and steps[-1] == 3


@pytest.mark.parametrize("place", ["file/below", "folder"])
def test_what_cannot_be_written_is_said_before_the_work(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=str(tmp_path / place)):
        require_writable(tmp_path / place)
    if place != "folder":
        with pytest.raises(UserError, match="cannot write to the folder"):
            with writing_into(tmp_path / place):
                pass
    assert not list((tmp_path / "folder").iterdir())
