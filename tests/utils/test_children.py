"""Processes that are started end with the one that started them, however they are started."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Starts two processes that would sleep for ever, and says their ids.
PARENT = """
import multiprocessing, os, sys, time
from tests.utils.test_children import follow

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    for _ in range(2):
        context.Process(target=follow, args=(queue,)).start()
    print(queue.get(), queue.get(), flush=True)
    time.sleep(60)
"""


def follow(queue):
    from utils.children import end_with_parent

    end_with_parent()
    time.sleep(0.3)  # one that took its parent for gone would have ended
    queue.put(os.getpid())
    time.sleep(60)


def lives(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_end_with_a_killed_parent_and_not_before(tmp_path, method):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, script, method], env=environment, stdout=subprocess.PIPE, text=True
    )
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2 and all(map(lives, children))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 10
    while any(map(lives, children)):
        assert time.monotonic() < end
        time.sleep(0.02)
