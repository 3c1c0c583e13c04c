"""Run studies: variants and swept settings × seeds, with tables and charts at the end.

    python -m studies studies/components.json --recipe studies/recipes/miniature.json
        [--seeds 304 305] [--jobs 2] [--out logs/studies] [--results DIR] [--list] [KEY VALUE …]

Every run is an experiment folder of train.py below OUT/runs, shared by the studies that come to
the same settings. Rows, tables and charts of a study (in OUT/NAME, or DIR/NAME) are written again
as each run ends. The same command continues: finished runs are kept, others resume. What a study
file holds is in studies/study_file.py. `--jobs` runs at a time share the machine's cores, or GPUs.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import torch

from studies.study_file import Study, read_study, run_name, words
from studies.study_results import write_results
from utils.engine.command_line import command_parser
from utils.engine.interruption import INTERRUPTED, REQUEUE
from utils.errors import Stopped, UserError, run_script
from utils.evaluate.results import percent
from utils.locks import held
from utils.recipes import Recipe, read_recipe
from utils.settings import split


class StudyRun(NamedTuple):
    """A training run: its experiment's folder, all that it sets, what it is first needed for, and
    the folder of the run that it begins from, if there is one."""

    folder: Path
    settings: dict[str, Any]
    purpose: str
    start: Path | None = None

    def file(self, suffix: str) -> Path:
        """Return a file beside its folder: .txt is what it says, .lock is held while it runs."""
        return self.folder.with_suffix(suffix)

    def results(self) -> dict[str, Any] | None:
        """Return the results of a finished run."""
        path = self.folder / "results.json"
        return json.loads(path.read_text()) if path.is_file() else None


def main() -> None:
    """Read the studies, make the runs that are missing, write what they say."""
    options, overrides = parse_arguments()
    recipe = read_recipe(options.recipe) if options.recipe else Recipe()
    studies = [read_study(path, recipe, overrides) for path in options.studies]
    folder, tables = options.out / "runs", options.results or options.out
    runs = runs_of(studies, options.seeds, folder)
    missing = [run for run in runs if not run.results()]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} are done", file=sys.stderr)
    if options.list:
        print("".join(f"{run.folder.name}  {run.purpose}\n" for run in missing), end="")
        return

    def write_all() -> None:
        for study in studies:
            write_results(study, options.seeds, folder, tables / study.name)

    folder.mkdir(parents=True, exist_ok=True)
    failed = Runner(options.jobs).train(missing, write_all)
    write_all()
    for study in studies:
        print(tables / study.name / "table.md")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(missing)} runs failed; the end of {failed[0].file('.txt')} "
            "says why, and the same command tries them again"
        )


def parse_arguments(
    arguments: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parse the command line; return its flags, and settings that go above those of all runs."""
    parser = command_parser("Run studies and write their tables and charts.")
    parser.add_argument("studies", nargs="+", type=Path, metavar="FILE", help="studies/*.json")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="studies/recipes/*.json")
    parser.add_argument("--seeds", nargs="+", type=int, default=[304, 305, 306], metavar="N")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("logs/studies"), metavar="DIR")
    parser.add_argument("--results", type=Path, metavar="DIR", help="of tables; default: --out")
    parser.add_argument("--list", action="store_true", help="only list the runs that are missing")
    options, overrides = split(parser, arguments)
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least 1")
    return options, overrides


def runs_of(studies: list[Study], seeds: list[int], folder: Path) -> list[StudyRun]:
    """Return the distinct runs of studies, below `folder`, seed by seed."""
    runs: dict[str, StudyRun] = {}
    for seed in seeds:
        for study in studies:
            for condition in study.conditions:
                name = run_name(condition.settings, seed)
                about = condition.named(study.axes) or "as the recipe"
                settings, start = condition.settings | {"SEED": seed}, None
                if condition.start is not None:
                    start = folder / run_name(condition.start, seed)
                    own = condition.start | {"SEED": seed}
                    purpose = f"{study.name}: what others begin from, seed {seed}"
                    runs.setdefault(start.name, StudyRun(start, own, purpose))
                    settings["INIT"] = str(start)
                purpose = f"{study.name}: {about}, seed {seed}"
                runs.setdefault(name, StudyRun(folder / name, settings, purpose, start))
    return list(runs.values())


class Runner:
    """Trains runs side by side; each has its share of the cores, and a GPU where there are any."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.places: queue.Queue[dict[str, str]] = queue.Queue()
        self.processes: set[subprocess.Popen] = set()
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
        for number in range(jobs):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            self.places.put(gpu | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"})

    def train(self, runs: list[StudyRun], after_each: Callable[[], None]) -> list[StudyRun]:
        """Train runs; return those that failed. Where it is broken off, those under way save."""
        failed, begin = [], time.perf_counter()
        # Those that others begin from have to be finished before these.
        waves = [[run for run in runs if (run.start is None) == first] for first in (True, False)]
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for number, (run, results) in enumerate(self._in_waves(pool, waves), start=1):
                    if results:
                        after_each()
                        outcome = f"mean of unseen {percent(results['mean_unseen'], 1)} %"
                    else:
                        failed.append(run)
                        outcome = f"failed, see {run.file('.txt')}"
                    left = (time.perf_counter() - begin) / number * (len(runs) - number) / 60
                    print(f"[{number}/{len(runs)}] {run.purpose}: {outcome}; some {left:.0f} min "
                          "left", file=sys.stderr, flush=True)  # fmt: skip
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self.processes):
                    process.terminate()
                raise
        return failed

    def _in_waves(
        self, pool: ThreadPoolExecutor, waves: Sequence[Sequence[StudyRun]]
    ) -> Iterator[tuple[StudyRun, dict[str, Any] | None]]:
        """Yield runs with their results as they end, a wave after the other."""
        for wave in waves:
            futures = {pool.submit(self._train, run): run for run in wave}
            for future in as_completed(futures):
                yield futures[future], future.result()

    def _train(self, run: StudyRun) -> dict[str, Any] | None:
        """Start or continue a run; return its results, or None if it failed."""
        command = [sys.executable, "train.py", "--resume", "auto", *words(run.settings)]
        command += ["EXPERIMENT", run.folder.name, "LOG.DIR", str(run.folder.parent)]
        place = self.places.get()
        # Another study command may be at the same run.
        with held(run.file(".lock")), open(run.file(".txt"), "a") as log:
            if run.start is not None and not (run.start / "results.json").is_file():
                print(f"{run.start}, which this run begins from, is not finished", file=log)
            elif not run.results():
                process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | place)
                self.processes.add(process)
                process.wait()
                self.processes.discard(process)
        self.places.put(place)
        return run.results()


def _stop(number: int, frame: Any) -> None:
    code = INTERRUPTED if number == signal.SIGINT else REQUEUE
    raise Stopped("stopped; the same command continues", code, agreed=True)


if __name__ == "__main__":
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, _stop)
    run_script(main)
