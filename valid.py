"""Evaluate checkpoints on any number of domains; a checkpoint knows its network.

    python valid.py --snapshot logs/my_run/last.pth --val_dataset cityscapes bdd100k mapillary
    python valid.py --snapshot logs/first logs/second/best.pth --val_dataset cityscapes

Prints a table and writes results.txt, results.json, results.csv and pictures of the confusion
matrices; of several checkpoints each into a folder of its own, and one table of all is printed. A
checkpoint of the published SRHA or RobustNet code does not know its network and source: name them
with --method, --trunk and --dataset.
"""

if __name__ == "__main__":
    from utils.early import exit_on_signals

    exit_on_signals()

import sys
from contextlib import ExitStack
from dataclasses import replace

from tqdm import tqdm

from network.build import build_method
from network.checkpoint import load_checkpoint
from utils.compare.paper_table import domain_table, text
from utils.engine.folder import writing_into
from utils.engine.runtime import Runtime, open_runtime
from utils.errors import run_script
from utils.evaluate.evaluation import evaluate
from utils.evaluate.jobs import Job, open_jobs, parse_valid
from utils.evaluate.results import gather, percent, results_text, write


def main() -> None:
    """Check all checkpoints, then evaluate one after the other on its domains."""
    jobs = open_jobs(parse_valid())
    # The first checkpoint's settings choose the device.
    with ExitStack() as stack:
        runtime = stack.enter_context(open_runtime(jobs[0].cfg))
        if runtime.is_main:
            for job in jobs:
                stack.enter_context(writing_into(job.folder))
        summaries = []
        for number, job in enumerate(jobs, start=1):
            say(f"checkpoint {number} of {len(jobs)}: {job.path}", runtime)
            summaries.append(run_evaluation(job, runtime))
            if runtime.is_main:
                write(summaries[-1], job.folder)
        if runtime.is_main:
            print(printed_tables(jobs, summaries))


def run_evaluation(job: Job, runtime: Runtime) -> dict:
    """Evaluate one checkpoint on its domains; return what `results.write` takes."""
    cfg = job.cfg
    runtime = replace(runtime, precision=cfg.PRECISION, channels_last=cfg.CHANNELS_LAST)
    state = load_checkpoint(job.path)
    method, space = build_method(cfg, state)
    method.to(runtime.device, memory_format=runtime.memory_format)
    results = {}
    for name, domain in job.domains.items():
        results[name] = evaluate(method, domain, space, cfg, runtime)
        say(f"  {name}: mIoU {percent(results[name]['means']['mIoU'])} %", runtime)
    return gather(results, cfg, state["step"]) | job.stamp


def printed_tables(jobs: list[Job], summaries: list[dict]) -> str:
    """Return the table of a single checkpoint, or one row for each of several, and where they are
    written."""
    if len(jobs) == 1:
        return f"{results_text(summaries[0])}\n\nwritten to {jobs[0].folder}"
    rows = {
        str(job.path): [(job.folder, summary)] for job, summary in zip(jobs, summaries, strict=True)
    }
    folders = "\n".join(f"{job.path}: written to {job.folder}" for job in jobs)
    return f"{text(domain_table(rows))}\n\n{folders}"


def say(line: str, runtime: Runtime) -> None:
    """Print progress without breaking the progress bar."""
    if runtime.is_main:
        tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
