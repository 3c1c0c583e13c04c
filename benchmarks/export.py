"""What an exported network costs and whether it is the same: onnxruntime beside PyTorch.

    python -m benchmarks.export [CHECKPOINT …] [--size 512 1024] [--rounds 10]

Without checkpoints: the decoder of the recipes on several backbones, with random weights. Times are
of one thread and one image, normalisation included; the forms take turns. Prints a table, writes
JSON.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms.v2.functional import resize

from benchmarks.reporting import median_times, report
from datasets.miniature import draw
from network.build import build_method, resolve, resolve_stored
from network.checkpoint import load_checkpoint
from network.methods import Method
from transforms import normalise
from utils.errors import run_script
from utils.export.deployment import Deployed, agreements, export_program, onnx_bytes, onnx_runner

TRUNKS = ("resnet50", "mobilenet_v2", "shufflenet_v2_x1_0")


def main() -> None:
    """Export, compare and time each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--name", default="export", help="name of the JSON file")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = {f"{path.parent.name}/{path.name}": trained(path) for path in options.checkpoints}
    methods = methods or {f"{name}, random weights": untrained(name) for name in TRUNKS}
    figures = {
        name: measure(method, tuple(options.size), options.rounds)
        for name, method in methods.items()
    }
    rows = [
        [
            name,
            f"{own['megabytes']:.1f}",
            *(f"{1000 * own['seconds'][form]:.0f}" for form in own["seconds"]),
            f"{own['seconds']['PyTorch'] / own['seconds']['onnxruntime']:.2f}",
            f"{max(a['largest'] for a in own['agreement']):.1f}",
            f"{max(a['difference'] for a in own['agreement']):.1e}",
            f"{100 * min(a['labels'] for a in own['agreement']):.3f}",
        ]
        for name, own in figures.items()
    ]
    forms = [f"{form}, ms" for form in next(iter(figures.values()))["seconds"]]
    header = ["network", "ONNX, MB", *forms, "PyTorch / onnxruntime"]
    header += ["largest logit", "logits differ by", "equal labels, %"]
    about = f"1 thread, an image of {options.size[1]}×{options.size[0]}"
    figures = {"size": options.size, "measured": figures}
    report(about, header, rows, options.out, options.name, figures)


def trained(path: Path) -> Method:
    """Return the method of a checkpoint."""
    state = load_checkpoint(path)
    return build_method(resolve_stored(state["settings"], {}, path), state)[0]


def untrained(trunk: str) -> Method:
    """Return SRHA with random weights and the batch statistics of two drawn streets.

    Without those the features of a deep network grow from layer to layer, and rounding with them.
    """
    overrides = {"TRUNK.NAME": trunk, "TRUNK.WEIGHTS": "none"}
    cfg = resolve({"METHOD": "srha", "DATASET.LABEL_SPACE": "cityscapes19"} | overrides)
    method, _ = build_method(cfg)
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        method.predict(normalise(torch.cat([street((256, 512), i) for i in range(2)])))
    return method.eval()


def street(size: tuple[int, int], number: int = 0) -> torch.Tensor:
    """Return a drawn street, uint8 `[1, 3, H, W]`."""
    image = torch.from_numpy(draw("Cityscapes", "val", number)[0]).permute(2, 0, 1)
    return resize(image, list(size), antialias=True)[None].contiguous()


@torch.no_grad()
def measure(method: Method, size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Return size of the ONNX file, agreement at three sizes, and seconds for an image."""
    network = Deployed(method)
    content = onnx_bytes(export_program(network), {})
    run = onnx_runner(content, threads=1)
    agreement = [own._asdict() for own in agreements(network, run)]
    image = street(size)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    image_last = image.contiguous(memory_format=torch.channels_last)
    forms = {
        "PyTorch": lambda: network(image),
        "PyTorch, channels last": lambda: last(image_last),
        "onnxruntime": lambda: run(image),
    }
    seconds = median_times(forms, rounds, torch.device("cpu"))
    return {"megabytes": len(content) / 1e6, "agreement": agreement, "seconds": seconds}


if __name__ == "__main__":
    run_script(main)
