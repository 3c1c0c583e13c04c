"""Baseline, SRHA and SPC from one and from two drawn sources, on the same unseen domains.

    python -m studies.miniature_sources --data data/miniature [--seeds 1 2 3] [--steps 400]
        [--methods baseline srha spc] [--sources gtav gtav+synthia] [--jobs 2]

DIR of --data is the miniature benchmark (`python -m datasets.miniature --out DIR`). Every finished
run is a row of benchmarks/results/miniature_sources.json at once, and is not repeated; what was cut
off continues. Prints the table: mean ± deviation over seeds on sources and on unseen domains.
"""

import argparse
import json
import sys
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.reporting import markdown
from studies.rows import Study, add_options, refuse_failed, refuse_unknown, spread
from utils.errors import run_script

NAME = "miniature_sources"
KEYS = ("method", "sources", "seed", "steps")
# The demo's recipe. Batches hold four images for any number of sources.
RECIPE = (
    "--trunk resnet_mini TRUNK.WEIGHTS objects DECODER.CHANNELS 64 DECODER.LOW_LEVEL_CHANNELS 24 "
    "TRANSFORM.CROP_SIZE 128,224 TRANSFORM.SCALE 0.75,1.5 TRANSFORM.BLUR_SIGMA 0.1,0.6 "
    "DATASET.CLASS_UNIFORM_TILE 128 TRAIN.BATCH_SIZE 4 TRAIN.LR_ENCODER 0.03 "
    "TRAIN.LR_DECODER 0.06 VALID.PROTOCOL native VALID.EVERY 0 WORKERS 1 LOG.EVERY 25 "
    "LOG.CHECKPOINT_EVERY 100 LOG.PICTURES_EVERY 0"
).split()
# SRHA's published weights belong to 60 000 steps; the demo scales them down by ten for 1000.
METHODS = {
    "baseline": "DECODER.AUX_CHANNELS 64",
    "srha": "DECODER.AUX_CHANNELS 64 ALIGN.GLOBAL 0.04,0.06,0.08,0.1 "
    "ALIGN.REGIONAL 0.04,0.06,0.08,0.1 ALIGN.LOCAL 0.04,0.06,0.08,0.1 CONSISTENCY.WEIGHT 1",
    "spc": "SPC.EMBEDDING 64",
}
SOURCES = ("gtav", "gtav+synthia")
UNSEEN = ("cityscapes", "bdd100k", "mapillary")


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser, NAME, steps=400)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    options = parser.parse_args()
    refuse_unknown("method", options.methods, METHODS)
    refuse_unknown("sources", options.sources, SOURCES)
    wanted = [
        {"method": method, "sources": sources, "seed": seed, "steps": options.steps}
        for seed in options.seeds
        for sources in options.sources
        for method in options.methods
    ]
    study = Study(NAME, RECIPE, KEYS, options.out, options.logs, options.jobs)
    failed = study.run(wanted, partial(attempt, study=study, options=options))
    print(tables(study.rows()))
    refuse_failed(failed)


def attempt(job: dict[str, Any], study: Study, options: argparse.Namespace) -> str:
    """Train and judge one run and add its row; return its output file if it failed."""
    sources = job["sources"].split("+")
    arguments = ["--dataset", *sources, "--val_dataset", *sources, *UNSEEN]
    arguments += ["--method", job["method"], *METHODS[job["method"]].split()]
    arguments += ["SEED", job["seed"], "TRAIN.MAX_ITER", job["steps"]]
    arguments += ["DATASET.ROOT", options.data]
    folder, failure = study.train(job, arguments)
    if failure:
        return failure
    results = json.loads((folder / "results.json").read_text())
    scores = {domain: r["means"]["mIoU"] for domain, r in results["domains"].items()}
    study.add(job | {"mIoU": scores, "mean_unseen": results["mean_unseen"]})
    print(f"{folder.name}: mean of unseen {100 * results['mean_unseen']:.1f}", file=sys.stderr)
    return ""


def tables(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table for each number of steps: a row for each method and its sources."""
    texts = []
    header = ["mIoU, %", "trained on", "sources", *UNSEEN, "mean of unseen", "seeds"]
    for steps in sorted({row["steps"] for row in rows}):
        own = defaultdict(list)
        for row in rows:
            if row["steps"] == steps:
                own[row["sources"], row["method"]].append(row)
        body = []
        for sources, method in ((s, m) for s in SOURCES for m in METHODS if (s, m) in own):
            group = own[sources, method]
            seen = [np.mean([row["mIoU"][s] for s in sources.split("+")]) for row in group]
            unseen = [[row["mIoU"][domain] for row in group] for domain in UNSEEN]
            mean = [row["mean_unseen"] for row in group]
            scores = [spread(values) for values in (seen, *unseen, mean)]
            body.append([method, sources.replace("+", " + "), *scores, str(len(group))])
        texts.append(f"{steps} steps\n\n{markdown(header, body)}")
    return "\n\n".join(texts)


if __name__ == "__main__":
    run_script(main)
