"""Asked to stop, a run ends its step, saves, gives the right code and leaves nothing behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

import datasets.dataset
from tests.engine.processes import Training, load, wait_until_gone
from tests.engine.stop_test import stop_once
from utils.engine.interruption import Interruption
from utils.errors import Stopped, run_script

OPTIONS = ["--method", "baseline", "--exp", "one", "TRAIN.MAX_ITER", 6, "VALID.EVERY", 0]


def slowed(reader):
    """Leave no doubt about what a process is at."""
    read = getattr(datasets.dataset, reader)

    def slow(*arguments, **options):
        time.sleep(2)
        return read(*arguments, **options)

    setattr(datasets.dataset, reader, slow)


def slow_labels(rank):
    slowed("read_label")


def slow_images(rank):
    slowed("read_image")


@pytest.fixture
def exit_code(run):
    """Return `exit_code(*arguments)` of a training script run in this process."""

    def start(*arguments):
        with pytest.raises(SystemExit) as exit_:
            run_script(lambda: run(*arguments))
        return exit_.value.code

    return start


@pytest.mark.parametrize("number, code", [
    (signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130),
])  # fmt: skip
def test_a_signal_ends_the_step_and_saves(exit_code, signal_after, tmp_path, capfd, number, code):
    before = signal.getsignal(number)
    signal_after(2, number)
    assert exit_code(*OPTIONS) == code
    # Seen in the next step by all processes, read one step later.
    assert load(tmp_path / "logs/one/last.pth")["step"] == 5
    printed = capfd.readouterr().err
    assert f"{number.name}: stopping after this step" in printed
    assert "--resume continues this run" in printed and "Traceback" not in printed
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_stops_at_once(exit_code, after_step, tmp_path, capfd):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    after_step(2, twice)
    assert exit_code(*OPTIONS, "WORKERS", 2) == 130
    assert not (tmp_path / "logs/one/last.pth").exists()
    assert "Traceback" not in capfd.readouterr().err
    assert not multiprocessing.active_children()


def test_before_the_first_step_there_is_nothing_to_save(capsys):
    with Interruption() as interruption, pytest.raises(Stopped, match="before the first step"):
        signal.raise_signal(signal.SIGUSR1)
    assert interruption.code == 75


def test_while_a_checkpoint_is_written(exit_code, run, monkeypatch, tmp_path):
    """The checkpoint is finished, and the run stops after it."""
    replace = os.replace

    def interrupted(source, target):
        if target.name == "previous.pth":
            signal.raise_signal(signal.SIGTERM)
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    assert exit_code(*OPTIONS, "TRAIN.MAX_ITER", 9, "LOG.CHECKPOINT_EVERY", 2) == 75
    # Asked at step 4, seen in the next one and read in the one after it, which is due anyway.
    assert load(tmp_path / "logs/one/last.pth")["step"] == 6
    assert load(tmp_path / "logs/one/previous.pth")["step"] == 4
    assert not list((tmp_path / "logs/one").glob("*.part"))


@pytest.mark.parametrize("world_size, workers", [(1, 2), (2, 1)])
def test_processes_and_their_workers(miniature, tmp_path, world_size, workers):
    """The signal goes to every process of the session, at a moment of its own; 20 of these in a
    row: `python -m tests.engine.stop_test`."""
    stop_once(tmp_path, miniature, signal.SIGTERM, 0.05, world_size, workers)


@pytest.mark.parametrize("centroids", [True, False])
def test_workers_end_when_their_parent_is_killed(miniature, tmp_path, centroids):
    """Those that read data, and those that look for class centroids and hold a lock meanwhile."""
    options = ["--exp", "killed", "TRAIN.MAX_ITER", 10000, "WORKERS", 2]
    prepare = slow_labels if centroids else slow_images
    training = Training(tmp_path, miniature, *options, prepare=prepare)
    while not centroids and not any((tmp_path / "cache").glob("*.npz")):
        time.sleep(0.05)
    workers = training.workers(2)
    training.kill()
    wait_until_gone(workers)
    assert centroids != any((tmp_path / "cache").glob("*.npz"))


def test_a_script_that_fails_ends_its_workers(miniature, tmp_path):
    """Also by an error that nobody expected, with workers that ignore what Python asks them by."""
    code = (
        "import multiprocessing, os, signal, time\n"
        "from utils.errors import run_script\n"
        "def sleep():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    time.sleep(600)\n"
        "def main():\n"
        "    child = multiprocessing.get_context('fork').Process(target=sleep, daemon=True)\n"
        "    child.start()\n"
        "    time.sleep(0.2)\n"
        "    raise ValueError('unexpected')\n"
        "run_script(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "ValueError: unexpected" in done.stderr
