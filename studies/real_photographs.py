"""Does SRHA help on real photographs, at a small budget? A study with real ImageNet weights.

    python -m studies.real_photographs --data DIR --weights FILE [--seeds 1 2 3] [--jobs 2]
        [--directions camvid idd_lite] [--variants NAME …] [--steps 500] [--long]
        [--precision bfloat16] [--report DIR]

DIR holds camvid/ and idd_lite/, FILE a state dict of torchvision's mobilenet_v2. Trains each
variant on one dataset and judges it on both: CamVid → IDD-Lite, and IDD-Lite → CamVid in IDD-Lite's
groups. Every finished run is a row of benchmarks/results/real_photographs.json at once, and is not
repeated; what was cut off continues. `--long` takes four times the steps for baseline and SRHA.
Prints the tables, mean ± deviation over seeds, seen and unseen, and writes them with charts and
predictions to LOGS/report. Settings may be chosen on the source's validation split only, which has
a column of its own.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from studies.photograph_report import charts, class_tables, predictions, tables
from studies.rows import Study, add_options, refuse_failed, refuse_unknown
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
# Of what the report has curves, and of which pair it shows predictions, in so many scenes.
CURVES = ["baseline", "SRM only", "SRHA", "SRHA, alignment × 0.1, consistency × 0.1"]
PICTURED = ("baseline", "SRHA")
SCENES = 4


def main() -> None:
    """Run what is missing, print the tables, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser, NAME, steps=500)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--directions", nargs="+", default=list(DIRECTIONS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--long", action="store_true", help="four times the steps")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--report", type=Path, help="folder of the report; default: LOGS/report")
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
    report(study, options.report or options.logs / "report")
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
        "iou_seen": results["domains"][seen]["iou"],
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


def report(study: Study, folder: Path) -> None:
    """Print and write the tables; draw charts and predictions, if their checkpoints are here."""
    domains = {direction: domains for direction, (*domains, _) in DIRECTIONS.items()}
    rows = study.rows()
    text = tables(rows, list(VARIANTS), domains)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text(text + "\n")
    (folder / "classes.md").write_text(class_tables(rows, list(VARIANTS), domains) + "\n")
    for name, drawing in charts(rows, list(VARIANTS), CURVES).items():
        (folder / name).write_text(drawing)
    for direction, (_, _, unseen, _) in DIRECTIONS.items():
        pairs: dict[tuple, dict[str, Path]] = {}
        for row in rows:
            path = study.folder_of(row)
            kept = all((path / name).is_file() for name in ("results.json", "last.pth"))
            if row["variant"] in PICTURED and row["direction"] == direction and kept:
                key = (row["steps"], -row["seed"], row["precision"])
                pairs.setdefault(key, {})[row["variant"]] = path
        pairs = {key: pair for key, pair in pairs.items() if len(pair) == len(PICTURED)}
        if not pairs:
            print(f"no predictions of {direction}: no checkpoints of {' and '.join(PICTURED)}")
            continue
        pair = pairs[max(pairs)]
        picture = folder / f"{direction}_predictions.png"
        predictions({name: pair[name] for name in PICTURED}, unseen, SCENES, picture)
    print(f"report: {folder}")


if __name__ == "__main__":
    run_script(main)
