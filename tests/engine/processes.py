"""Training processes of a test: real ones, forked from a server that has imported everything."""

import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch

from benchmarks.networks import small
from network.build import AXES
from tests.conftest import PRELOAD

# Everything small: a step takes some 50 ms on one core.
SETTINGS = (
    "TRANSFORM.CROP_SIZE 64,64 TRAIN.BATCH_SIZE 4 WORKERS 0 DEVICE cpu VALID.SCALES 0.25 "
    "LOG.PICTURES_EVERY 0 --dataset gtav --val_dataset gtav"
).split()
FLAGS = {"TRUNK.NAME": "trunk", "DATASET.SOURCE": "dataset"}  # beside which a setting is refused
PATIENCE = 60  # seconds

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOAD)


def command_line(*arguments: Any) -> list[str]:
    """Return the arguments of train.py: small settings, then `arguments`."""
    words = [str(word) for word in arguments]
    given = {a.key: words[words.index(f"--{a.flag}") + 1] for a in AXES if f"--{a.flag}" in words}
    line = SETTINGS.copy()
    for key, value in small(given).items():
        items = list(map(str, value)) if isinstance(value, list) else [str(value)]
        line += [f"--{FLAGS[key]}", *items] if key in FLAGS else [key, ",".join(items)]
    return [*line, *words]


class Training:
    """One run of train.py in `world_size` processes below `folder`; they start at once."""

    def __init__(
        self,
        folder: Path,
        data: Path,
        *arguments: Any,
        world_size: int = 1,
        prepare: Callable[[int], None] | None = None,
    ):
        """`prepare(rank)`, a function of a module, is called in each process before training."""
        line = command_line("DATASET.ROOT", data, *arguments)
        self.outputs = [folder / f"output_{rank}.txt" for rank in range(world_size)]
        environment: dict[str, str] = {}
        if world_size > 1:
            environment = {
                "WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(free_port()),
            }
        self.processes = [
            _context.Process(target=_train, args=(folder, line, environment, rank, prepare))
            for rank in range(world_size)
        ]
        for process in self.processes:
            process.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the processes and to their data loading processes, as schedulers do."""
        for process in self.processes:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                # It has not yet made a session of its own.
                os.kill(process.pid, number)

    def wait(self, patience: float = PATIENCE) -> list[int]:
        """Return the exit codes; AssertionError if a process hangs or leaves another behind."""
        end = time.monotonic() + patience
        for process in self.processes:
            process.join(max(0, end - time.monotonic()))
            if process.exitcode is None:
                self.kill()
                raise AssertionError(f"process {process.pid} hangs:\n{self.output()}")
        orphans = [p for process in self.processes for p in _members(process.pid)]
        assert not orphans, f"left behind: {orphans}"
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """Kill the training processes at once, and wait until their workers are gone too."""
        for process in self.processes:
            process.kill()
            process.join()

    def workers(self, number: int) -> list[int]:
        """Return the ids of the first process's data loading processes, once they are there."""
        end = time.monotonic() + PATIENCE
        session = self.processes[0].pid
        while len(found := [pid for pid in _members(session) if pid != session]) < number:
            assert time.monotonic() < end and self.processes[0].is_alive(), self.output()
            time.sleep(0.01)
        return found

    def output(self) -> str:
        """Return what all processes printed, on both streams."""
        return "\n".join(path.read_text() for path in self.outputs if path.exists())


def small_disk(rank: int) -> None:
    """Let this process see a file system of 16 megabytes at `disk`; what it holds in the end is
    copied to `kept`. Where that is not allowed it ends with REFUSED."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace, private = 0x00020000, 0x00044000  # CLONE_NEWNS; MS_REC | MS_PRIVATE
    if (
        libc.unshare(namespace)
        or libc.mount(None, b"/", None, private, None)
        or libc.mount(b"tmpfs", b"disk", b"tmpfs", 0, b"size=16m")
    ):
        os._exit(small_disk.REFUSED)
    Finalize(None, shutil.copytree, ("disk/one", "kept"), exitpriority=1)


small_disk.REFUSED = 99


def free_port() -> int:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def wait_for(path: Path, training: Training) -> None:
    """Wait until a file is there; AssertionError if the training ends before."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        alive = all(process.is_alive() for process in training.processes)
        assert alive and time.monotonic() < end, training.output()
        time.sleep(0.005)


def wait_until_gone(processes: list[int]) -> None:
    """Wait until none of these processes lives; AssertionError if one does not end."""
    end = time.monotonic() + PATIENCE
    while any(_alive(process) for process in processes):
        assert time.monotonic() < end, f"still there: {processes}"
        time.sleep(0.05)


def same(a: Any, b: Any) -> bool:
    """Whether two nested containers hold equal values and bitwise equal tensors."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def load(path: Path, *but: str) -> dict[str, Any]:
    """Read a checkpoint, without the keys `but`."""
    state = torch.load(path, weights_only=True)
    return {key: value for key, value in state.items() if key not in but}


def records(folder: Path) -> list[dict[str, Any]]:
    """Read the metrics of an experiment folder, but for how fast it went."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if not key.startswith("speed/")}
        for line in lines
    ]


def children(process: int) -> list[int]:
    """Return the living processes that a process has started."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [n for n in numbers if (fields := _alive(n)) and int(fields[1]) == process]


def _members(session: int) -> list[int]:
    """Return the living processes of a session."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [n for n in numbers if (fields := _alive(n)) and int(fields[3]) == session]


def _alive(process: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, nothing for one that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] == "Z" else fields


def _train(
    folder: Path,
    line: Sequence[str],
    environment: dict[str, str],
    rank: int,
    prepare: Callable[[int], None] | None,
) -> None:
    import train
    from utils.errors import run_script
    from utils.evaluate import results

    results.can_draw = lambda pictures: False
    os.setsid()
    # The server hands on its own way of starting processes; train.py by itself forks.
    multiprocessing.set_start_method("fork", force=True)
    os.chdir(folder)
    if environment:
        os.environ.update(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    output = os.open(f"output_{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *line]
    if prepare is not None:
        prepare(rank)
    run_script(train.main)
