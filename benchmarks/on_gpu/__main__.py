"""Everything that matters on a GPU, in minutes and in order of importance.

    python -m benchmarks.on_gpu [--minutes 9] [--out FILE.json] [--data DIR] [--parts smoke step …]
    python -m benchmarks.on_gpu --keep …        # what has not passed in FILE
    python -m benchmarks.on_gpu --rehearse      # tiny sizes, a part of the networks, also on a CPU

smoke     a step of every method × trunk family × tuning, small, in float32 and bfloat16; the second
          may not wait for the device, but for Mask2Former's
parity    losses and gradients against the CPU in float64; SyncBatchNorm; deterministic steps
step      SRHA at the ResNet-50 recipe (batch 8, 768²) over its floor, the baseline, loops as
          published; memory; what regions take; CUDA graph, compiled, layout, precision
classes   regions of 19, 150 and 1000 classes, sums as a scatter and as a product; size of parts
recipes   hours and memory of each recipe, from its step
loading   train.py on images of GTAV's size: the share of time that waits for data
training  with --data (a folder with camvid and idd_lite): baseline and SRHA

Each part has a share of the time, and what it leaves goes to those behind it. Results are written
as they come, with the machine, the versions and the revision; what failed, did not apply or had no
time is named. The exit code is 1 if a check failed. With `--keep` the checks of FILE stay as they
are, each with its revision, but for those that have not passed and run again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.on_gpu import loading, recipes, smoke, step
from benchmarks.on_gpu.checks import TINY, Part, Sizes, run_parts
from benchmarks.reporting import ON_GPU, command, describe_machine, markdown_table
from utils.engine.allocator import keep_freed_memory
from utils.engine.folder import require_writable
from utils.engine.saving import write_atomically
from utils.errors import UserError, run_script, unknown_name
from utils.revision import revision


def parts(data: Path | None) -> list[Part]:
    """Return all parts in order, with their shares of the time."""
    return [
        Part("smoke", 0.24, smoke.checks),
        Part("parity", 0.08, smoke.parity_checks),
        Part("step", 0.22, step.checks),
        Part("classes", 0.06, step.class_checks),
        Part("recipes", 0.2, recipes.checks),
        Part("loading", 0.12, loading.checks),
        Part("training", 0.08 if data else 0.0, partial(loading.photograph_checks, data=data)),
    ]


def main() -> None:
    """Run the parts within the time, write and print what they found."""
    options = arguments()
    chosen = parts(options.data)
    names = [part.name for part in chosen]
    for name in options.parts or ():
        if name not in names:
            raise unknown_name("part", name, names)
    if not ON_GPU and not options.rehearse:
        raise UserError("torch sees no GPU; --rehearse goes through all of it on a CPU")
    require_writable(options.out)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    keep_freed_memory()
    chosen = [part for part in chosen if not options.parts or part.name in options.parts]
    whole = sum(part.share for part in chosen) or 1.0
    chosen = [part._replace(share=part.share / whole) for part in chosen]
    begin = time.perf_counter()
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    versions |= {"torchvision": torchvision.__version__, "cuda": torch.version.cuda}
    about = {"command": command(), "machine": describe_machine(), "versions": versions}
    about |= {"code": revision(), "rehearsal": options.rehearse, "minutes": options.minutes}
    before = earlier(options.out, about) if options.keep else {}
    found = {(one["part"], one["check"]): one for one in before.get("checks", [])}
    passed = {name for name, one in found.items() if one["outcome"] == "ok"}
    sizes = TINY if options.rehearse else Sizes()
    for one in run_parts(chosen, sizes, 60 * options.minutes, passed):
        found[one["part"], one["check"]] = one | {"code": about["code"]}
        print(line_of(one), file=sys.stderr, flush=True)
        taken = {"seconds": round(time.perf_counter() - begin, 1)}
        content = before | about | taken | {"checks": list(found.values())}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out, text.encode(), "The results so far are printed")
    seconds = time.perf_counter() - begin
    print(f"{describe_machine()}, code {revision()}, {seconds:.0f} s\n\n{table_of(found.values())}")
    failed = sum(one["outcome"] == "failed" for one in found.values())
    if failed:
        print(f"{failed} of {len(found)} checks failed; {options.out} has the reasons")
        sys.exit(1)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.on_gpu", description=__doc__, formatter_class=form
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it (default: 9)")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, also on a CPU")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="some of the parts")
    parser.add_argument("--keep", action="store_true", help="run what has not passed in FILE")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of camvid and idd_lite")
    places = "default: benchmarks/results/on_gpu.json, of a rehearsal logs/on_gpu_rehearsal.json"
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"JSON; {places}")
    options = parser.parse_args()
    rehearsed = Path("logs/on_gpu_rehearsal.json")
    real = Path("benchmarks/results/on_gpu.json")
    options.out = options.out or (rehearsed if options.rehearse else real)
    if options.keep and not options.out.is_file():
        raise UserError(f"--keep: {options.out} is not there; the first run goes without it")
    if options.minutes <= 0:
        raise UserError(f"--minutes {options.minutes:g}: more than 0")
    return options


def earlier(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return what a file holds; UserError if it is of another machine, of other versions, or of a
    rehearsal where this is none."""
    try:
        content = json.loads(file.read_text())
        for one in content["checks"]:
            if not {"part", "check", "outcome"} <= one.keys():
                raise KeyError("part, check, outcome")
        for name in ("machine", "versions", "rehearsal"):
            if content[name] != about[name]:
                raise UserError(f"--keep: {name} of {file}: {content[name]}, here {about[name]}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--keep: {file} has no checks: {error}") from None
    return content


def line_of(one: dict[str, Any]) -> str:
    """Return a line about a check, for the one who waits."""
    said = one.get("reason") or ", ".join(f"{k} {v}" for k, v in one.get("figures", {}).items())
    return f"{one['part']}: {one['check']}: {one['outcome']} ({one.get('seconds', 0)} s): {said}"


def table_of(found: Iterable[dict[str, Any]]) -> str:
    """Return what came out: a row for each check, but for the smoke test's that passed."""
    rows, passed = [], {}
    for one in found:
        if one["part"] == "smoke" and one["outcome"] == "ok":
            passed[one["part"]] = passed.get(one["part"], 0) + 1
            continue
        said = one.get("reason") or ", ".join(f"{k} {v}" for k, v in one["figures"].items())
        rows.append([one["part"], one["check"], one["outcome"], said.replace("|", "/")])
    rows = [[part, f"{number} networks", "ok", ""] for part, number in passed.items()] + rows
    return markdown_table(["part", "check", "outcome", "figures"], rows)


if __name__ == "__main__":
    run_script(main)
