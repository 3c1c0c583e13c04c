"""Does SRHA help on real photographs, at a small budget? A study with real ImageNet weights.

    python -m benchmarks.real_photographs --data DIR --weights FILE [--seeds 1 2 3] [--jobs 2]
        [--directions camvid idd_lite] [--variants NAME …] [--steps 500] [--long]
        [--precision bfloat16]

DIR holds camvid/ and idd_lite/, FILE a state dict of torchvision's mobilenet_v2. Trains each
variant on one dataset and judges it on both: CamVid → IDD-Lite, and IDD-Lite → CamVid in IDD-Lite's
groups. Every finished run is a row of benchmarks/results/real_photographs.json at once, and is not
repeated; what was cut off continues. `--long` takes four times the steps for baseline and SRHA.
Prints the tables: mean ± deviation over seeds, seen and unseen. Settings may be chosen on the
source's validation split only, which has a column of its own.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import markdown, save
from utils.errors import UserError, run_script

NAME = "real_photographs"
RECIPE = (
    "--trunk mobilenet_v2 TRANSFORM.CROP_SIZE 192,256 "
    "DECODER.CHANNELS 128 DECODER.AUX_CHANNELS 128 "
    "DATASET.CLASS_UNIFORM_TILE 256 TRAIN.BATCH_SIZE 4 WORKERS 1 VALID.PROTOCOL native "
    "LOG.EVERY 25 LOG.CHECKPOINT_EVERY 100 LOG.PICTURES_EVERY 0 VALID.MAX_IMAGES 25"
).split()
# Source: (validation split to choose settings on, seen domain, unseen domain, further settings).
DIRECTIONS = {
    "camvid": ("camvid:val", "camvid:test", "idd_lite", ()),
    # IDD-Lite has no third split: what is chosen on its val is also reported on it.
    "idd_lite": ("idd_lite", "idd_lite", "camvid:test", ("DATASET.LABEL_SPACE", "idd_lite7")),
}
NO_ALIGNMENT = "ALIGN.GLOBAL 0,0,0,0 ALIGN.REGIONAL 0,0,0,0 ALIGN.LOCAL 0,0,0,0"


def scaled(factor: float, *terms: str) -> str:
    """Return settings with the published weights of alignment terms times `factor`."""
    weights = ",".join(f"{factor * weight:.3g}" for weight in (0.4, 0.6, 0.8, 1.0))
    return " ".join(f"ALIGN.{term} {weights}" for term in terms or ("GLOBAL", "REGIONAL", "LOCAL"))


VARIANTS = {
    "baseline": "--method baseline",
    "baseline + style elimination": f"{NO_ALIGNMENT} SRM.ENABLED off STEM_FROZEN off",
    "SRM only": f"{NO_ALIGNMENT} CONSISTENCY.WEIGHT 0",
    "alignment only": "SRM.ENABLED off",
    "SRHA": "",
    "SRHA, teacher on originals": "TEACHER.STREAMS original",
    "SRHA, alignment × 0.3": scaled(0.3),
    "SRHA, alignment × 0.1": scaled(0.1),
    "SRHA, consistency × 0.1": "CONSISTENCY.WEIGHT 1",
    "SRHA, alignment × 0.1, consistency × 0.1": scaled(0.1) + " CONSISTENCY.WEIGHT 1",
    "SRHA, teacher with its own statistics": "TEACHER.BATCH_STATISTICS off",
    "SRHA, relative alignment": "ALIGN.RELATIVE on",
    "SRHA, warm-up": "ALIGN.WARMUP {steps} CONSISTENCY.WARMUP {steps}",
}
LONG = ("baseline", "SRHA")


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--directions", nargs="+", default=list(DIRECTIONS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--long", action="store_true", help="four times the steps")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--logs", type=Path, default=Path("logs/real_photographs"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    for kind, known in (("variants", VARIANTS), ("directions", DIRECTIONS)):
        for name in getattr(options, kind):
            if name not in known:
                raise UserError(f"no {kind[:-1]} {name!r}; there are: {', '.join(known)}")
    if not options.weights.is_file():
        raise UserError(f"there is no file {options.weights}")
    steps = options.steps * (4 if options.long else 1)
    variants = [v for v in options.variants if not options.long or v in LONG]
    done = {key_of(row) for row in rows_of(options.out)}
    jobs = [
        {
            "direction": direction,
            "variant": variant,
            "seed": seed,
            "steps": steps,
            "precision": options.precision,
        }
        for seed in options.seeds
        for direction in options.directions
        for variant in variants
    ]
    jobs = [job for job in jobs if key_of(job) not in done]
    print(f"{len(jobs)} runs to do, {len(done)} are done", file=sys.stderr)
    with ThreadPoolExecutor(options.jobs) as pool:
        failed = [name for name in pool.map(partial(attempt, options=options), jobs) if name]
    print(tables(rows_of(options.out)))
    if failed:
        raise UserError(f"{len(failed)} runs failed; the end of {failed[0]} says why")


def key_of(row: dict[str, Any]) -> tuple:
    """Return what makes a run."""
    return tuple(row[name] for name in ("direction", "variant", "seed", "steps", "precision"))


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Return the finished runs."""
    path = out / f"{NAME}.json"
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def attempt(job: dict[str, Any], options: argparse.Namespace) -> str:
    """Train and judge one run and add its row; return its output file if it failed."""
    name = "_".join(str(part) for part in key_of(job)).replace(",", "").replace(" ", "_")
    validation, seen, unseen, further = DIRECTIONS[job["direction"]]
    domains = list(dict.fromkeys([validation, seen, unseen]))
    command = [sys.executable, "train.py", "--dataset", job["direction"], "--val_dataset", *domains]
    command += ["--exp", name, "--resume", "auto", *RECIPE, *further]
    command += VARIANTS[job["variant"]].format(steps=job["steps"] // 2).split()
    command += ["SEED", job["seed"], "TRAIN.MAX_ITER", job["steps"]]
    command += [
        "PRECISION",
        job["precision"],
        "VALID.EVERY",
        job["steps"] // 4,
        "DATASET.ROOT",
        options.data,
    ]
    command += ["TRUNK.WEIGHTS", options.weights, "LOG.DIR", options.logs]
    options.logs.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // options.jobs))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    output = options.logs / f"{name}.txt"
    with output.open("w") as log:
        line = [str(word) for word in command]
        code = subprocess.run(line, stdout=log, stderr=log, env=environment).returncode
    if code:
        return str(output)
    folder = options.logs / name
    results = json.loads((folder / "results.json").read_text())
    scores = {d: r["means"]["mIoU"] for d, r in results["domains"].items()}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    row = job | {
        "validation": scores[validation],
        "seen": scores[seen],
        "unseen": scores[unseen],
        "iou_unseen": results["domains"][unseen]["iou"],
        "curves": [
            {"step": m["step"], "seen": m[f"mIoU/{seen}"], "unseen": m[f"mIoU/{unseen}"]}
            for m in metrics
            if f"mIoU/{unseen}" in m
        ],
        "losses": [
            {k: v for k, v in m.items() if k == "step" or k.startswith("loss/")}
            for m in metrics
            if "loss/total" in m
        ][:: max(1, job["steps"] // 250)],
    }
    add_row(row, options.out)
    print(
        f"{name}: seen {100 * row['seen']:.1f}, unseen {100 * row['unseen']:.1f}", file=sys.stderr
    )
    return ""


def add_row(row: dict[str, Any], out: Path) -> None:
    """Add a row to the results; runs that end at the same time wait for one another."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = [own for own in rows_of(out) if key_of(own) != key_of(row)]
        save(out, NAME, {"recipe": " ".join(RECIPE), "rows": [*rows, row]})
    (out / f"{NAME}.lock").unlink(missing_ok=True)


def tables(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table for each direction and budget."""
    texts = []
    budgets = sorted({(row["direction"], row["steps"], row["precision"]) for row in rows})
    for direction, steps, precision in budgets:
        own = defaultdict(list)
        for row in rows:
            if (row["direction"], row["steps"], row["precision"]) == (direction, steps, precision):
                own[row["variant"]].append(row)
        columns = dict(
            zip(DIRECTIONS[direction][:3], ("validation", "seen", "unseen"), strict=True)
        )
        header = ["mIoU, %", *(f"{name} ({domain})" for domain, name in columns.items()), "seeds"]
        body = []
        for variant in filter(own.__contains__, VARIANTS):
            scores = [spread([row[name] for row in own[variant]]) for name in columns.values()]
            body.append([variant, *scores, str(len(own[variant]))])
        texts.append(f"{direction}, {steps} steps, {precision}\n\n" + markdown(header, body))
    return "\n\n".join(texts)


def spread(values: list[float]) -> str:
    """Show fractions in percent as mean ± sample standard deviation."""
    percents = 100 * np.array(values)
    deviation = f" ± {percents.std(ddof=1):.1f}" if len(percents) > 1 else ""
    return f"{percents.mean():.1f}{deviation}"


if __name__ == "__main__":
    run_script(main)
