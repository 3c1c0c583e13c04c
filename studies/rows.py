"""Studies of many short training runs: what is missing is run, and each run is a row of results.

A finished run is a row of OUT/NAME.json at once and is not repeated; a cut off one continues.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.reporting import save
from utils.errors import UserError
from utils.locks import held

Row = dict[str, Any]


class Study(NamedTuple):
    """A study's name, the `train.py` arguments that all its runs share, and the keys of a row that
    make a run; where results and run folders are, and how many runs there are at a time."""

    name: str
    recipe: list[str]
    keys: tuple[str, ...]
    out: Path
    logs: Path
    jobs: int

    def key_of(self, row: Row) -> tuple:
        """Return what makes a run."""
        return tuple(row[key] for key in self.keys)

    def rows(self) -> list[Row]:
        """Return the finished runs."""
        path = self.out / f"{self.name}.json"
        return json.loads(path.read_text())["rows"] if path.is_file() else []

    def add(self, row: Row) -> None:
        """Add a row to the results; runs that end at the same time wait for one another."""
        self.out.mkdir(parents=True, exist_ok=True)
        with held(self.out / f"{self.name}.lock"):
            rows = [own for own in self.rows() if self.key_of(own) != self.key_of(row)]
            save(self.out, self.name, {"recipe": " ".join(self.recipe), "rows": [*rows, row]})

    def run(self, wanted: list[Row], attempt: Callable[[Row], str]) -> list[str]:
        """Call `attempt` with each wanted run that is not done; return the output files of those
        that failed, which it returns ("" otherwise)."""
        done = {self.key_of(row) for row in self.rows()}
        wanted = [job for job in wanted if self.key_of(job) not in done]
        print(f"{len(wanted)} runs to do, {len(done)} are done", file=sys.stderr)
        with ThreadPoolExecutor(self.jobs) as pool:
            return [output for output in pool.map(attempt, wanted) if output]

    def folder_of(self, job: Row) -> Path:
        """Return the folder of a run's logs and checkpoints."""
        name = "_".join(str(part) for part in self.key_of(job))
        return self.logs / name.replace(",", "").replace(" ", "_")

    def train(self, job: Row, arguments: list[Any]) -> tuple[Path, str]:
        """Train a run with the recipe and `arguments`, or continue it.

        Returns its folder, and its output file if it failed. Runs at a time share the cores.
        """
        name = self.folder_of(job).name
        command = [sys.executable, "train.py", "--exp", name, "--resume", "auto", *self.recipe]
        command += [*arguments, "LOG.DIR", self.logs]
        self.logs.mkdir(parents=True, exist_ok=True)
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        output = self.logs / f"{name}.txt"
        with output.open("w") as log:
            line = [str(word) for word in command]
            code = subprocess.run(line, stdout=log, stderr=log, env=environment).returncode
        return self.logs / name, str(output) if code else ""


def add_options(parser: argparse.ArgumentParser, name: str, steps: int) -> None:
    """Add what every study is asked for on its command line."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--logs", type=Path, default=Path("logs") / name)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))


def refuse_unknown(kind: str, names: list[str], known: Any) -> None:
    """Raise UserError for a name that a study does not know."""
    for name in names:
        if name not in known:
            raise UserError(f"no {kind} {name!r}; there are: {', '.join(known)}")


def refuse_failed(failed: list[str]) -> None:
    """Raise UserError if runs failed, with the output file that says why."""
    if failed:
        raise UserError(f"{len(failed)} runs failed; the end of {failed[0]} says why")


def spread(values: list[float]) -> str:
    """Show fractions in percent as mean ± sample standard deviation."""
    percents = 100 * np.array(values)
    deviation = f" ± {percents.std(ddof=1):.1f}" if len(percents) > 1 else ""
    return f"{percents.mean():.1f}{deviation}"
