"""How benchmarks read their flags, measure, and report in a table and in JSON."""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

ON_GPU = torch.cuda.is_available()
TRUNK, CROP = ("resnet50", 768) if ON_GPU else ("mobilenet_v2", 256)
HELP = {
    "forms": "what is measured, by name (default: all parts)",
    "options": "measure precision, layout, recomputation and compilation instead of parts",
    "no_memory": "do not measure memory",
    "files": "where the drawn files are kept (default: not)",
    "trace": "write a trace for Perfetto or chrome://tracing",
    "name": "name of the JSON file",
    "out": "folder of the JSON file",
}


def flags(about: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser with a flag for each default, whose type is that of its values.

    A list takes several values, a tuple as many as it has, False is a switch, None is a path.
    """
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    common = {"name": Path(sys.argv[0]).stem, "out": Path("benchmarks/results")}
    for name, default in (defaults | common).items():
        how: dict[str, Any] = {"default": default, "help": HELP.get(name)}
        if default is False:
            how["action"] = "store_true"
        elif isinstance(default, list | tuple):
            how["nargs"] = "+" if isinstance(default, list) else len(default)
            how["type"] = type(default[0]) if default else str
        else:
            how["type"] = Path if default is None else type(default)
        parser.add_argument("--" + name.replace("_", "-"), **how)
    return parser


def save(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Write `figures` to `folder`/`name`.json, with the command, the machine and the versions."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    versions |= {"torchvision": torchvision.__version__, "numpy": np.__version__}
    about = {"command": command(), "machine": describe_machine(), "versions": versions}
    (folder / f"{name}.json").write_text(json.dumps(about | figures, indent=1) + "\n")


def report(
    options: argparse.Namespace,
    about: str,
    header: list[str],
    rows: list[list[str]],
    figures: dict[str, Any],
) -> None:
    """Print a table below the machine and what it is about; save the figures as options say."""
    threads = torch.get_num_threads()
    print(f"{describe_machine()}, {threads} threads, {about}\n\n{markdown_table(header, rows)}")
    save(options.out, options.name, {"threads": threads, **figures})


def command() -> str:
    """Return the command line that runs; of paths, which mean nothing elsewhere, the last part."""
    module, *words = sys.argv
    module = module.removesuffix("/__main__.py")
    words = [Path(word).name if "/" in word else word for word in words]
    return shlex.join(["python", "-m", f"{Path(module).parent.name}.{Path(module).stem}", *words])


def describe_machine() -> str:
    """Say what processor and GPU this is."""
    text, cpus = f"{platform.machine()}, {os.cpu_count()} cores", Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpus.read_text() if cpus.is_file() else "")
    text = f"{model[1]}, {text}" if model else text
    return f"{torch.cuda.get_device_name()}, {text}" if ON_GPU else text


def time_in_turns(
    forms: dict[str, Callable[[int], Any]],
    rounds: int,
    on_gpu: bool = ON_GPU,
    warm: bool = False,
    average: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return the average seconds of `form(round)` for each form.

    On a GPU, the time between two events. On a CPU, the time that this process computes: others on
    the machine disturb it least (run with OMP_NUM_THREADS=1). Forms take turns. The first round is
    not counted: it compiles and allocates. With `warm` a form runs once untimed before each of its
    turns: it then finds its own memory, as a training step does.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, form in forms.items():
            if warm:
                form(number)
            taken = _time(form, number, on_gpu)
            if number:
                seconds[name].append(taken)
    return {name: average(values) for name, values in seconds.items()}


def _time(form: Callable[[int], Any], number: int, on_gpu: bool) -> float:
    if not on_gpu:
        begin = time.process_time()
        form(number)
        return time.process_time() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    form(number)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of a module returns in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_bytes() -> int:
    """Return the peak of this process's memory: on the GPU if there is one, else resident.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    if ON_GPU:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
