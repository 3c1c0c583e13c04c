"""What judging costs: images per second and peak memory of each protocol.

    python -m benchmarks.evaluate [--trunk mobilenet_v2] [--images 4] [--files DIR]

Judges drawn street scenes of Cityscapes' size with random weights, data loading included, in a
process of its own for each way. Prints a table and writes JSON.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.reporting import peak_resident_bytes, report
from benchmarks.street_files import write_streets
from network.build import build_method, resolve
from utils.engine.runtime import runtime
from utils.errors import run_script
from utils.evaluate.evaluation import evaluate, open_domain

WAYS: dict[str, dict[str, str]] = {
    "robustnet": {},
    "native": {"VALID.PROTOCOL": "native"},
    "openseg": {"VALID.PROTOCOL": "openseg"},
    "windows of 768, stride 512": {"VALID.SLIDING": "768,512"},
    "flip": {"VALID.FLIP": "on"},
    "scales 0.5 1 2 and flip": {"VALID.SCALES": "0.5,1,2", "VALID.FLIP": "on"},
}


def main() -> None:
    """Judge in each way; print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--trunk", default="resnet50" if torch.cuda.is_available() else "mobilenet_v2"
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--files", type=Path, help="where the drawn files are kept (default: not)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        files = options.files or Path(temporary)
        write_streets(files, 1, options.images)
        for way in WAYS:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                figures[way] = pool.submit(measure, way, options.trunk, str(files)).result()
    rows = [
        [way, f"{own['images'] / own['seconds']:.2f}", f"{own['bytes'] / 2**20:.0f}"]
        for way, own in figures.items()
    ]
    about = f"{torch.get_num_threads()} threads, {options.trunk}"
    header = ["2048×1024 images", "images/s", "peak MiB"]
    figures = {"trunk": options.trunk, "measured": figures}
    report(about, header, rows, options.out, "evaluate", figures)


def measure(way: str, trunk: str, files: str) -> dict[str, float]:
    """Judge all images in one way; return images, seconds (without the first image) and bytes."""
    overrides = {"TRUNK.NAME": trunk, "TRUNK.WEIGHTS": "none", "DATASET.ROOT": files, "WORKERS": 1}
    overrides["DATASET.LABEL_SPACE"] = "cityscapes19"
    cfg = resolve({"METHOD": "srha"} | overrides | WAYS[way])
    with runtime(cfg) as here:
        method, space = build_method(cfg)
        method.to(here.device, memory_format=here.memory_format)
        domain = open_domain("cityscapes", cfg, space)
        evaluate(method, domain, space, cfg, here, max_images=1)
        begin = time.perf_counter()
        result = evaluate(method, domain, space, cfg, here)
        seconds = time.perf_counter() - begin
        if here.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = peak_resident_bytes()
    return {"images": result["images"], "seconds": seconds, "bytes": peak}


if __name__ == "__main__":
    run_script(main)
