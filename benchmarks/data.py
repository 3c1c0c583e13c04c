"""How fast samples are read, on drawn files of the real sizes.

    python -m benchmarks.data [--files DIR] [--images 8] [--rounds 40]

Measures a core: decoding alone (torchvision's decoders, without checks and label table), the
transform alone, the whole sample, and the class centroids of a label. Means of CPU time of one
thread; forms take turns. Then measures the start of workers, and jitter and blur on the device.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_image, read_file

from benchmarks import inputs
from benchmarks.reporting import ON_GPU, flags, report, time_in_turns
from datasets import build_dataset, load_settings
from datasets.files import read_label
from datasets.sampling.centroids import tile_centroids
from transforms import TrainTransform
from utils.errors import run_script

TILE = 1024


def main() -> None:
    """Draw the files, measure and report."""
    options = flags(__doc__, files=None, images=8, rounds=40).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.files or Path(temporary)
        inputs.write_streets(root, options.images)
        cfg = load_settings({"DATASET.ROOT": str(root)})
        seconds = {name: measure(name, cfg, options.rounds) for name in inputs.SIZES}
        starts = measure_workers(cfg)
    on_device = measure_device(cfg)
    header = [f"{name} {size[0]}×{size[1]}" for name, size in inputs.SIZES.items()]
    forms = seconds["GTAV"]
    rows = [[form, *(f"{1 / own[form]:.1f}" for own in seconds.values())] for form in forms]
    figures = {"seconds_per_sample": seconds, "seconds": starts | on_device}
    report(options, "CPU time", ["samples per second and core", *header], rows, figures)
    print(
        *(f"{what}: {1000 * value:.1f} ms" for what, value in figures["seconds"].items()), sep="\n"
    )


def measure(name: str, cfg: Any, rounds: int) -> dict[str, float]:
    """Return the mean seconds a sample of each form takes on the files of a release."""
    plain, on_device, in_worker = (
        build_dataset(name.lower(), "train", cfg, transform=transform)
        for transform in (None, TrainTransform(cfg, True), TrainTransform(cfg, False))
    )
    count, classes = len(plain), len(plain.label_space)
    loaded = [(plain[i % count]["image"], plain[i % count]["label"]) for i in range(2)]

    def decode(number: int) -> None:
        image, label = plain.image_paths[number % count], plain.label_paths[number % count]
        decode_image(read_file(str(image)), ImageReadMode.RGB)
        decode_image(read_file(str(label)), ImageReadMode.UNCHANGED)

    def centroids(number: int) -> None:
        label = read_label(plain.label_paths[number % count]).numpy()
        tile_centroids(plain.label_table.take(label), TILE, classes)

    forms = {
        "decode alone": decode,
        "transform alone, colours on the device": lambda i: on_device.transform(*loaded[i % 2]),
        "transform alone, colours in the worker": lambda i: in_worker.transform(*loaded[i % 2]),
        "whole, colours on the device": lambda i: on_device[(i, i % count, None)],
        "whole, colours in the worker": lambda i: in_worker[(i, i % count, None)],
        "centroids alone": lambda i: tile_centroids(loaded[i % 2][1].numpy(), TILE, classes),
        "centroids, label read": centroids,
    }
    return time_in_turns(forms, rounds, on_gpu=False, average=statistics.mean)


def measure_workers(cfg: Any) -> dict[str, float]:
    """Return the seconds until the first batch: of new workers, and of workers that are there."""
    dataset = build_dataset("bdd100k", "train", cfg, transform=TrainTransform(cfg))
    loader = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True)
    waits = {}
    for what in ("first batch of two new workers", "first batch of workers that persist"):
        begin = time.perf_counter()
        batches = iter(loader)
        next(batches)
        waits[what] = time.perf_counter() - begin
        for _ in batches:
            pass
    return waits


def measure_device(cfg: Any) -> dict[str, float]:
    """Return the seconds that jitter, blur and normalisation of 4 crops take on the device."""
    device = "cuda" if ON_GPU else "cpu"
    transform = TrainTransform(cfg, on_device=True)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 768, 768), dtype=torch.uint8).to(device)

    def finish(number: int) -> None:
        drawn = torch.stack([transform.photometric.draw() for _ in images])
        transform.finish({"image": images, "photometric": drawn})

    form = f"jitter and blur of 4 crops of 768² on the device {device}"
    return time_in_turns({form: finish}, 10, average=statistics.mean)


if __name__ == "__main__":
    run_script(main)
