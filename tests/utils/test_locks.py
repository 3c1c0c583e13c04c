"""One holder at a time, threads and processes alike."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from utils.locks import held


def test_threads_hold_it_one_after_another(tmp_path):
    inside, overlaps, finished = [], [], []

    def work():
        for _ in range(40):
            with held(tmp_path / "one.lock"):
                inside.append(1)
                time.sleep(0.0005)  # lets go of the interpreter
                overlaps.append(len(inside) > 1)
                inside.pop()
        finished.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(finished) == 4 and len(overlaps) == 160 and not any(overlaps)


PROCESS = """
import os, sys, time
from pathlib import Path
from utils.locks import held
inside = Path(sys.argv[1]) / "inside"
for _ in range(40):
    with held(Path(sys.argv[1]) / "one.lock"):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0.0005)
        inside.unlink()
"""


def test_processes_hold_it_one_after_another(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_who_finds_it_held_may_refuse(tmp_path):
    def refuse():
        raise ValueError("held")

    path = tmp_path / "one.lock"
    with held(path), pytest.raises(ValueError, match="held"), held(path, refuse):
        pass
    with held(path, refuse):
        pass


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), held(tmp_path / "file" / "one.lock"):
        pass
