"""What the engine's tests share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from tests.engine.processes import command_line
from utils.engine.progress import Progress


@pytest.fixture
def run(miniature, tmp_path, monkeypatch):
    """Return `run(*arguments)`, which trains in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def start(*arguments, data: Path = miniature) -> None:
        line = command_line("DATASET.ROOT", data, *arguments)
        monkeypatch.setattr(sys, "argv", ["train.py", *line])
        train.main()

    return start


@pytest.fixture
def after_step(monkeypatch):
    """Return `after_step(step, act)`, by which `act()` happens right after that optimizer step."""

    def plan(step: int, act: Callable[[], None]) -> None:
        def update(progress: Progress) -> None:
            if progress.done == step:
                act()
            count(progress)

        # Called right after every method's own `after_step`.
        count = Progress.update
        monkeypatch.setattr(Progress, "update", update)

    return plan


@pytest.fixture
def signal_after(after_step):
    """Return `signal_after(step, number)`: this process gets a signal after that step."""
    return lambda step, number: after_step(step, lambda: os.kill(os.getpid(), number))
