"""Run studies: variants and swept settings × seeds, with a table and charts at the end.

    python -m studies studies/components.json --recipe studies/recipes/miniature.json
        [--seeds 304 305] [--jobs 2] [--out logs/studies] [--results DIR] [--list] [KEY VALUE …]

Every run is an experiment folder of train.py below OUT/runs, shared by the studies that come to
the same settings. Rows, table and charts of a study (in OUT/NAME, or DIR/NAME) are written again as
each run ends. The same command continues: finished runs are kept, others resume. What a study file
holds is in studies/study_file.py. `--jobs` runs at a time share the machine's cores, or its GPUs.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import torch

from studies.options import StudyOptions, parse_study
from studies.study_file import Recipe, Study, read_recipe, read_study, run_name, words
from studies.study_results import write_results
from utils.engine.interruption import INTERRUPTED, REQUEUE
from utils.errors import Stopped, UserError, run_script
from utils.evaluate.results import percent
from utils.locks import held


class Run(NamedTuple):
    """A training run: its experiment's name, all that it sets, and what it is first needed for."""

    name: str
    settings: dict[str, Any]
    purpose: str


def main() -> None:
    """Read the studies, make the runs that are missing, write what they say."""
    options = parse_study()
    recipe = read_recipe(Path(options.recipe)) if options.recipe else Recipe()
    studies = [read_study(Path(p), recipe, options.overrides) for p in options.studies]
    runs = runs_of(studies, options.seeds)
    folder = Path(options.out) / "runs"
    missing = [run for run in runs.values() if not (folder / run.name / "results.json").is_file()]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} are done", file=sys.stderr)
    if options.listed:
        for run in missing:
            print(f"{run.name}  {run.purpose}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    failed = Runner(folder, options.jobs).make(missing, lambda: write_all(studies, options))
    write_all(studies, options)
    for study in studies:
        print(results_folder(study, options) / "table.md")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(missing)} runs failed; the end of {failed[0]} says why, and "
            "the same command tries them again"
        )


def runs_of(studies: list[Study], seeds: list[int]) -> dict[str, Run]:
    """Return the distinct runs of studies by name, seed by seed."""
    runs: dict[str, Run] = {}
    for seed in seeds:
        for study in studies:
            for cell in study.cells:
                name = run_name(cell.settings, seed)
                purpose = f"{study.name}: {cell.name or 'as the recipe'}, seed {seed}"
                runs.setdefault(name, Run(name, cell.settings | {"SEED": seed}, purpose))
    return runs


def results_folder(study: Study, options: StudyOptions) -> Path:
    """Return where rows, table and charts of a study are written."""
    return Path(options.results or options.out) / study.name


def write_all(studies: list[Study], options: StudyOptions) -> None:
    """Write what the finished runs say, of every study."""
    for study in studies:
        runs = Path(options.out) / "runs"
        write_results(study, options.seeds, runs, results_folder(study, options))


class Runner:
    """Trains runs side by side; each gets its share of the cores, and a GPU where there are any."""

    def __init__(self, folder: Path, jobs: int):
        self.folder = folder
        self.jobs = jobs
        self.places: queue.Queue[dict[str, str]] = queue.Queue()
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
        for number in range(jobs):
            place = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
            if gpus:
                place["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
            self.places.put(place)
        self.processes: set[subprocess.Popen] = set()

    def make(self, runs: list[Run], after_each: Any) -> list[Path]:
        """Train runs; return the output files of those that failed.

        Asked to stop (Ctrl-C, SIGTERM), it lets the runs under way save, and raises Stopped.
        """
        failed, begin = [], time.perf_counter()
        before = {n: signal.signal(n, _stop) for n in (signal.SIGINT, signal.SIGTERM)}
        pool = ThreadPoolExecutor(self.jobs)
        try:
            futures = {pool.submit(self._train, run): run for run in runs}
            for number, future in enumerate(as_completed(futures), start=1):
                run = futures[future]
                output = future.result()
                if output is not None:
                    failed.append(output)
                else:
                    after_each()
                left = (time.perf_counter() - begin) / number * (len(runs) - number) / 60
                print(f"[{number}/{len(runs)}] {run.purpose}: {self._outcome(run)}; some "
                      f"{left:.0f} min left", file=sys.stderr, flush=True)  # fmt: skip
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(self.processes):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True)
            for number, handler in before.items():
                signal.signal(number, handler)
        return failed

    def _train(self, run: Run) -> Path | None:
        """Start or continue a run; return the file of its output if it failed."""
        output = self.folder / f"{run.name}.txt"
        place = self.places.get()
        # Another study command may be at the same run.
        with held(self.folder / f"{run.name}.lock"):
            try:
                if (self.folder / run.name / "results.json").is_file():
                    return None
                command = [sys.executable, "train.py", "--resume", "auto", *words(run.settings)]
                command += ["EXPERIMENT", run.name, "LOG.DIR", str(self.folder)]
                with open(output, "a") as log:
                    process = subprocess.Popen(
                        command, stdout=log, stderr=log, env=os.environ | place
                    )
                    self.processes.add(process)
                    code = process.wait()
                    self.processes.discard(process)
                return output if code else None
            finally:
                self.places.put(place)

    def _outcome(self, run: Run) -> str:
        path = self.folder / run.name / "results.json"
        if not path.is_file():
            return f"failed, see {self.folder / run.name}.txt"
        return f"mean of unseen {percent(json.loads(path.read_text())['mean_unseen'], 1)} %"


def _stop(number: int, frame: Any) -> None:
    code = INTERRUPTED if number == signal.SIGINT else REQUEUE
    raise Stopped("stopped; the same command continues", code, agreed=True)


if __name__ == "__main__":
    run_script(main)
