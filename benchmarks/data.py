"""How fast samples are read, on drawn files of the real sizes.

    python -m benchmarks.data [--files DIR] [--rounds 40] [--out benchmarks/results]

Measures samples per second of one core, for the forms of FORMS: decoding alone (torchvision's
decoders, without checks and label table), the transforms alone, the whole pipeline, and the
published order in plain PIL. Then measures the class centroids of a label, the start of workers,
and jitter and blur on the device. Times are CPU time of one thread; forms take turns. Prints
Markdown and writes JSON.
"""

import argparse
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_image, read_file

from benchmarks.plain_pil import LabelReader, centroids_by_loop, sample
from benchmarks.reporting import cpu_times, describe_machine, markdown, save
from benchmarks.street_files import SIZES, write_streets
from datasets import build_dataset, load_settings
from datasets.dataset import SegmentationDataset
from datasets.files import read_label
from datasets.sampling.centroids import tile_centroids
from transforms import TrainTransform
from utils.errors import run_script

TILE = 1024
FORMS = {
    "decode": "decode alone",
    "transforms, colours on device": "transforms alone, colours on the device",
    "transforms, colours in worker": "transforms alone, colours in the worker",
    "colours on device": "whole, colours on the device",
    "colours in worker": "whole, colours in the worker",
    "PIL, index labels": "published order in PIL, index labels",
    "PIL, colour labels": "published order in PIL, labels by colour",
}
# {title: (slow form, fast form)}
SAMPLE_RATIOS = {
    "whole / decode limit, colours on the device": ("decode", "colours on device"),
    "whole / decode limit, colours in the worker": ("decode", "colours in worker"),
    "whole, colours in worker / PIL, index labels": ("PIL, index labels", "colours in worker"),
    "whole, colours in worker / PIL, by colour": ("PIL, colour labels", "colours in worker"),
}
CENTROID_RATIOS = {
    "centroid index / one pass per class": ("loop alone", "index alone"),
    "the same with reading the label": ("loop", "index"),
    "centroid index / published form, by colour": ("by colour", "index"),
}


def main() -> None:
    """Draw the files, measure, print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=Path, help="where the drawn files are kept (default: not)")
    parser.add_argument("--images", type=int, default=8, help="files of each size")
    parser.add_argument("--rounds", type=int, default=40, help="samples of each form and size")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.files or Path(temporary)
        write_streets(root, options.images)
        cfg = load_settings({"DATASET.ROOT": str(root)})
        seconds = {name: measure_samples(name, cfg, options.rounds) for name in SIZES}
        centroids = {name: measure_centroids(name, cfg, options.rounds // 4 + 1) for name in SIZES}
        starts = measure_workers(cfg)
    device = measure_device(cfg)
    print(describe_machine())
    print_tables(seconds, centroids)
    print("\n" + "; ".join(f"{what} {1000 * value:.0f} ms" for what, value in starts.items()))
    print(
        f"jitter and blur of a batch of 4 crops of 768² on {device[0]}: {1000 * device[1]:.1f} ms"
    )
    figures = {
        "seconds_per_sample": seconds,
        "centroids": centroids,
        "worker_start_seconds": starts,
        "photometric_on_device": {"device": device[0], "seconds_per_batch_of_4": device[1]},
    }
    save(options.out, "data", figures)


def measure_samples(name: str, cfg: Any, rounds: int) -> dict[str, float]:
    """Return seconds per sample of each form on the files of a release."""
    on_device, in_worker = (
        build_dataset(name.lower(), "train", cfg, transform=TrainTransform(cfg, where))
        for where in (True, False)
    )
    plain = build_dataset(name.lower(), "train", cfg)
    loaded = [(plain[i]["image"], plain[i]["label"]) for i in range(2)]
    random.seed(0)
    forms = {
        "decode": partial(decode_alone, plain),
        "transforms, colours on device": lambda i: on_device.transform(*loaded[i % 2]),
        "transforms, colours in worker": lambda i: in_worker.transform(*loaded[i % 2]),
        "colours on device": lambda i: on_device[(i, i % len(plain), None)],
        "colours in worker": lambda i: in_worker[(i, i % len(plain), None)],
        "PIL, index labels": partial(read_in_pil, plain, LabelReader(plain.label_table)),
    }
    if name == "GTAV":
        by_colour = LabelReader(plain.label_table, plain.label_space.colours)
        forms["PIL, colour labels"] = partial(read_in_pil, plain, by_colour)
    return cpu_times(forms, rounds)


def decode_alone(dataset: SegmentationDataset, number: int) -> None:
    """Decode an image and its label: no pipeline that decodes can be faster."""
    index = number % len(dataset)
    decode_image(read_file(str(dataset.image_paths[index])), ImageReadMode.RGB)
    decode_image(read_file(str(dataset.label_paths[index])), ImageReadMode.UNCHANGED)


def read_in_pil(dataset: SegmentationDataset, reader: LabelReader, number: int) -> None:
    """Read a sample in the published order."""
    index = number % len(dataset)
    sample(str(dataset.image_paths[index]), str(dataset.label_paths[index]), reader, crop=768)


def measure_centroids(name: str, cfg: Any, rounds: int) -> dict[str, float]:
    """Return seconds per label of the centroid index: ours, one pass per class, and by colour."""
    dataset = build_dataset(name.lower(), "train", cfg)
    classes = len(dataset.label_space)
    paths = dataset.label_paths
    by_colour = LabelReader(dataset.label_table, dataset.label_space.colours)

    def read(number: int) -> np.ndarray:
        return dataset.label_table.take(read_label(paths[number % len(paths)]).numpy())

    labels = [read(i) for i in range(len(paths))]
    forms = {
        "index alone": lambda i: tile_centroids(labels[i % len(labels)], TILE, classes),
        "loop alone": lambda i: centroids_by_loop(labels[i % len(labels)], TILE, classes),
        "index": lambda i: tile_centroids(read(i), TILE, classes),
        "loop": lambda i: centroids_by_loop(read(i), TILE, classes),
    }
    if name == "GTAV":
        forms["by colour"] = lambda i: centroids_by_loop(
            by_colour(str(paths[i % len(paths)])), TILE, classes
        )
    return cpu_times(forms, rounds)


def measure_workers(cfg: Any) -> dict[str, float]:
    """Return the seconds until the first batch: of new workers, and of workers that are there."""
    dataset = build_dataset("bdd100k", "train", cfg, transform=TrainTransform(cfg))
    loader = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True)
    waits = {}
    for what in ("first batch of two new workers after", "of workers that persist after"):
        begin = time.perf_counter()
        batches = iter(loader)
        next(batches)
        waits[what] = time.perf_counter() - begin
        for _ in batches:
            pass
    return waits


def measure_device(cfg: Any, rounds: int = 10) -> tuple[str, float]:
    """Return the device, and the seconds it takes for jitter, blur and normalisation of 4 crops."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    transform = TrainTransform(cfg, on_device=True)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 768, 768), dtype=torch.uint8).to(device)
    total = 0.0
    for number in range(rounds + 1):
        drawn = torch.stack([transform.photometric.draw() for _ in images])
        begin = time.perf_counter()
        transform.finish({"image": images, "photometric": drawn})
        if device.type == "cuda":
            torch.cuda.synchronize()
        total += time.perf_counter() - begin if number else 0
    return ("GPU" if device.type == "cuda" else "CPU (one thread)"), total / rounds


def print_tables(seconds: dict[str, dict], centroids: dict[str, dict]) -> None:
    """Print samples per second and core, and the ratios that matter."""
    titles = [f"{name} {size[0]}×{size[1]}" for name, size in SIZES.items()]
    rows = [
        [title, *(f"{1 / s[form]:.1f}" if form in s else "-" for s in seconds.values())]
        for form, title in FORMS.items()
    ]
    print(markdown(["samples per second and core", *titles], rows))
    rows = [
        [title, *(f"{s[slow] / s[fast]:.2f}" if slow in s else "-" for s in measured.values())]
        for measured, ratios in ((seconds, SAMPLE_RATIOS), (centroids, CENTROID_RATIOS))
        for title, (slow, fast) in ratios.items()
    ]
    print("\n" + markdown(["ratio of speeds", *titles], rows))
    rows = [
        [form, *(f"{1000 * c[form]:.1f}" if form in c else "-" for c in centroids.values())]
        for form in centroids["GTAV"]
    ]
    print("\n" + markdown(["centroids of a label, ms", *titles], rows))


if __name__ == "__main__":
    run_script(main)
