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
import json
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reporting import markdown
from benchmarks.study import Study, add_options, refuse_failed, refuse_unknown, spread
from utils.errors import UserError, run_script

NAME = "real_photographs"
KEYS = ("direction", "variant", "seed", "steps", "precision")
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
    add_options(parser, NAME, steps=500)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--directions", nargs="+", default=list(DIRECTIONS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--long", action="store_true", help="four times the steps")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    refuse_unknown("variant", options.variants, VARIANTS)
    refuse_unknown("direction", options.directions, DIRECTIONS)
    if not options.weights.is_file():
        raise UserError(f"there is no file {options.weights}")
    steps = options.steps * (4 if options.long else 1)
    variants = [v for v in options.variants if not options.long or v in LONG]
    wanted = [
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
    study = Study(NAME, RECIPE, KEYS, options.out, options.logs, options.jobs)
    failed = study.run(wanted, partial(attempt, study=study, options=options))
    print(tables(study.rows()))
    refuse_failed(failed)


def attempt(job: dict[str, Any], study: Study, options: argparse.Namespace) -> str:
    """Train and judge one run and add its row; return its output file if it failed."""
    validation, seen, unseen, further = DIRECTIONS[job["direction"]]
    domains = list(dict.fromkeys([validation, seen, unseen]))
    arguments = ["--dataset", job["direction"], "--val_dataset", *domains, *further]
    arguments += VARIANTS[job["variant"]].format(steps=job["steps"] // 2).split()
    arguments += ["SEED", job["seed"], "TRAIN.MAX_ITER", job["steps"]]
    arguments += ["PRECISION", job["precision"], "VALID.EVERY", job["steps"] // 4]
    arguments += ["DATASET.ROOT", options.data, "TRUNK.WEIGHTS", options.weights]
    folder, failure = study.train(job, arguments)
    if failure:
        return failure
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
    study.add(row)
    scores = f"seen {100 * row['seen']:.1f}, unseen {100 * row['unseen']:.1f}"
    print(f"{folder.name}: {scores}", file=sys.stderr)
    return ""


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


if __name__ == "__main__":
    run_script(main)
