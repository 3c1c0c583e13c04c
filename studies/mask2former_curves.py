"""How baseline and SRHA learn the miniature benchmark with either decoder, image for image.

    python -m datasets.miniature --out data/miniature
    python -m studies.mask2former_curves --data data/miniature [--steps 300]

The same images in the same order and the demo's trunk; each decoder in a small form and with an
optimizer of its own kind (settings below). Prints mIoU on the source and on the mean of the unseen
domains while training, on the first images of each, and writes it as JSON. About fifteen minutes of
two cores; finished runs are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.reporting import markdown, save
from studies.mask2former_overfit import OF_METHOD, SETTINGS

DOMAINS = ["gtav", "cityscapes", "bdd100k", "mapillary", "synthia"]
SHARED = (
    "--dataset gtav --trunk resnet_mini TRUNK.WEIGHTS objects WORKERS 1 VALID.PROTOCOL native "
    "TRANSFORM.CROP_SIZE 96,160 TRANSFORM.SCALE 0.75,1.5 TRANSFORM.BLUR_SIGMA 0.1,0.6 "
    "DATASET.CLASS_UNIFORM_TILE 128 TRAIN.BATCH_SIZE 4 LOG.EVERY 25 LOG.PICTURES_EVERY 0"
).split()
DECODERS = {
    "deeplabv3plus": {
        "DECODER.CHANNELS": 64,
        "DECODER.LOW_LEVEL_CHANNELS": 24,
        "DECODER.AUX_CHANNELS": 64,
        "TRAIN.LR_ENCODER": 0.03,
        "TRAIN.LR_DECODER": 0.06,
    },
    # Those of the check that it learns a handful of images.
    "mask2former": {k: v for k, v in SETTINGS.items() if k.startswith(("DECODER", "TRAIN"))},
}
RUNS = [(decoder, method) for decoder in DECODERS for method in ("baseline", "srha")]


def main() -> None:
    """Train the four runs, two at a time; print and write their curves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="root of the miniature benchmark")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=100, help="steps between judgements")
    parser.add_argument("--images", type=int, default=12, help="judged of each domain")
    parser.add_argument("--logs", type=Path, default=Path("logs/mask2former_curves"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        curves = list(pool.map(lambda run: train(*run, options), RUNS))
    rows = []
    for (decoder, method), curve in zip(RUNS, curves, strict=True):
        for place, values in curve.items():
            shown = [f"{100 * value:.1f}" for value in values.values()]
            rows.append([decoder, method, place, *shown])
    print(markdown(["decoder", "method", "mIoU, %, on", *map(str, curves[0]["source"])], rows))
    figures: dict[str, Any] = {"settings": SHARED, "decoders": DECODERS, "methods": OF_METHOD}
    figures |= {"images judged of each domain": options.images, "batch": 4}
    figures["curves"] = {f"{d} {m}": curve for (d, m), curve in zip(RUNS, curves, strict=True)}
    save(options.out, "mask2former_curves", figures)


def train(decoder: str, method: str, options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Train one run if it is not there; return its mIoU by step, on the source and unseen."""
    name = f"{decoder}_{method}_{options.steps}"
    folder = options.logs / name
    if not (folder / "results.json").is_file():
        pairs = DECODERS[decoder] | OF_METHOD.get(method, {})
        pairs |= {"TRAIN.MAX_ITER": options.steps, "VALID.EVERY": options.every}
        pairs |= {"VALID.MAX_IMAGES": options.images, "DATASET.ROOT": options.data}
        command = [sys.executable, "train.py", "--decoder", decoder, "--method", method, *SHARED]
        command += ["--exp", name, "--val_dataset", *DOMAINS, "LOG.DIR", str(options.logs)]
        command += ["--resume", "auto", *(str(word) for pair in pairs.items() for word in pair)]
        threads = str(max(1, (os.cpu_count() or 2) // 2))
        environment = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        environment["TQDM_POSITION"] = str(RUNS.index((decoder, method)) % 2)
        options.logs.mkdir(parents=True, exist_ok=True)
        with open(options.logs / f"{name}.txt", "w") as log:
            subprocess.run(command, check=True, stdout=log, env=os.environ | environment)
    curve: dict[str, dict[int, float]] = {"source": {}, "unseen, mean": {}}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "mIoU/gtav" in record:
            values = [record[f"mIoU/{domain}"] for domain in DOMAINS]
            curve["source"][record["step"]] = values[0]
            curve["unseen, mean"][record["step"]] = sum(values[1:]) / len(values[1:])
    return curve


if __name__ == "__main__":
    main()
