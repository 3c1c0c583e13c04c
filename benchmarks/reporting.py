"""How benchmarks measure and what they leave behind: JSON with machine and versions."""

import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision


def save(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Write `figures` to `folder`/`name`.json, with the command, the machine and the versions."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        "command": command(),
        "machine": describe_machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        **figures,
    }
    (folder / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")


def report(
    about: str,
    header: list[str],
    rows: list[list[str]],
    folder: Path,
    name: str,
    figures: dict[str, Any],
) -> None:
    """Print a table below the machine and what it is about; save the figures."""
    print(f"{describe_machine()}, {about}\n\n{markdown(header, rows)}")
    save(folder, name, figures)


def command() -> str:
    """Return the command line that runs; of paths, which mean nothing elsewhere, the last part."""
    module, *words = sys.argv
    words = [Path(word).name if "/" in word else word for word in words]
    return shlex.join(["python", "-m", f"{Path(module).parent.name}.{Path(module).stem}", *words])


def describe_machine() -> str:
    """Say what processor and GPU this is."""
    text = f"{platform.machine()}, {os.cpu_count()} cores"
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        models = [
            line.split(":")[1] for line in cpu.read_text().splitlines() if "model name" in line
        ]
        text = f"{models[0].strip()}, {text}" if models else text
    return f"{torch.cuda.get_device_name()}, {text}" if torch.cuda.is_available() else text


def cpu_times(forms: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Return the seconds of CPU time of this thread that one call of each form takes.

    The forms take turns, `form(round)`, so that what else the machine does meets them alike; the
    first round is not counted. It is the mean: calls draw different work.
    """
    totals = dict.fromkeys(forms, 0.0)
    for number in range(rounds + 1):
        for name, form in forms.items():
            begin = time.thread_time()
            form(number)
            if number:
                totals[name] += time.thread_time() - begin
    return {name: total / rounds for name, total in totals.items()}


def median_times(
    forms: dict[str, Callable[[], Any]], rounds: int, device: torch.device, warm: bool = False
) -> dict[str, float]:
    """Return the median seconds of one call of each form: by events on a GPU, and on a CPU the
    time that this process computes, which others on the machine disturb least (run it with one
    thread: OMP_NUM_THREADS=1).

    The forms take turns; the first round, which compiles and allocates, is not counted. With `warm`
    a form runs once untimed before each of its turns: it then finds its own memory and not what
    another form has left, as in training, where one step follows another of its kind.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, form in forms.items():
            if warm:
                form()
            taken = _time_on_gpu(form) if device.type == "cuda" else _time(form)
            if number:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _time(form: Callable[[], Any]) -> float:
    begin = time.process_time()
    form()
    return time.process_time() - begin


def _time_on_gpu(form: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    form()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def peak_resident_bytes() -> int:
    """Return the peak of this process's resident memory.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
