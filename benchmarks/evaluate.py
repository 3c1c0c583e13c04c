"""What evaluation costs: images per second and peak memory of each protocol.

    python -m benchmarks.evaluate [--trunk mobilenet_v2] [--images 4] [--files DIR]

Evaluates random weights on drawn street scenes of Cityscapes' size, data loading included. Each
protocol has a process of its own.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.inputs import settings_of, write_streets
from benchmarks.reporting import TRUNK, flags, in_own_process, peak_bytes, report
from network.build import build_method
from utils.engine.runtime import open_runtime
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
    """Evaluate in each way and report."""
    options = flags(__doc__, trunk=TRUNK, images=4, files=None).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        files = options.files or Path(temporary)
        write_streets(files, 1, options.images)
        figures = {way: in_own_process(measure, way, options.trunk, str(files)) for way in WAYS}
    rows = [
        [way, f"{own['images'] / own['seconds']:.2f}", f"{own['bytes'] / 2**20:.0f}"]
        for way, own in figures.items()
    ]
    header = ["2048×1024 images", "images/s", "peak MiB"]
    report(options, options.trunk, header, rows, {"trunk": options.trunk, "measured": figures})


def measure(way: str, trunk: str, files: str) -> dict[str, float]:
    """Return images, the seconds that evaluating them takes after a first one, and peak bytes."""
    cfg = settings_of(trunk, {"DATASET.ROOT": files, "WORKERS": 1} | WAYS[way])
    with open_runtime(cfg) as runtime:
        method, space = build_method(cfg)
        method.to(runtime.device, memory_format=runtime.memory_format)
        domain = open_domain("cityscapes", cfg, space)
        evaluate(method, domain, space, cfg, runtime, max_images=1)
        begin = time.perf_counter()
        result = evaluate(method, domain, space, cfg, runtime)
        seconds = time.perf_counter() - begin
    return {"images": result["images"], "seconds": seconds, "bytes": peak_bytes()}


if __name__ == "__main__":
    run_script(main)
