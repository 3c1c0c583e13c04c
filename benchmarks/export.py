"""What an exported network costs and whether it is the same: onnxruntime beside PyTorch.

    python -m benchmarks.export [CHECKPOINT …] [--trunk NAME …] [--size 512 1024] [--rounds 10]

Without checkpoints: the decoder of the recipes on several backbones, with random weights. Times are
of one thread and one image, normalisation included; the forms take turns.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms.v2.functional import resize

from benchmarks.inputs import settings_of
from benchmarks.reporting import flags, report, time_in_turns
from datasets.miniature import draw
from network.build import build_method, open_run
from network.methods import Method
from transforms import normalise
from utils.errors import run_script
from utils.export.deployment import Deployed, agreements, export_program, onnx_bytes, onnx_runner

TRUNKS = ["resnet50", "mobilenet_v2", "shufflenet_v2_x1_0"]


def main() -> None:
    """Export, compare and time each network."""
    parser = flags(__doc__, trunk=TRUNKS, size=(512, 1024), rounds=10)
    parser.add_argument("checkpoints", nargs="*", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = {
        f"{path.parent.name}/{path.name}": build_method(*open_run(path, {}))[0]
        for path in options.checkpoints
    }
    methods = methods or {f"{name}, random weights": untrained(name) for name in options.trunk}
    figures = {n: measure(method, options.size, options.rounds) for n, method in methods.items()}
    rows = []
    for name, own in figures.items():
        seconds, agreement = own["seconds"], own["agreement"]
        row = [name, f"{own['megabytes']:.1f}", *(f"{1000 * s:.0f}" for s in seconds.values())]
        row += [f"{seconds['PyTorch'] / seconds['onnxruntime']:.2f}"]
        row += [f"{max(a['largest'] for a in agreement):.1f}"]
        row += [f"{max(a['difference'] for a in agreement):.1e}"]
        rows.append([*row, f"{100 * min(a['labels'] for a in agreement):.3f}"])
    forms = [f"{form}, ms" for form in next(iter(figures.values()))["seconds"]]
    header = ["network", "ONNX, MB", *forms, "PyTorch / onnxruntime"]
    header += ["largest logit", "logits differ by", "equal labels, %"]
    about = f"an image of {options.size[1]}×{options.size[0]}"
    report(options, about, header, rows, {"size": options.size, "measured": figures})


def untrained(trunk: str) -> Method:
    """Return SRHA with random weights and the batch statistics of two drawn streets.

    Without those the features of a deep network grow from layer to layer, and rounding with them.
    """
    method, _ = build_method(settings_of(trunk, {}))
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
    with torch.no_grad():
        method.predict(normalise(torch.cat([street((256, 512), i) for i in range(2)])))
    return method.eval()


def street(size: Sequence[int], number: int = 0) -> torch.Tensor:
    """Return a drawn street, uint8 `[1, 3, H, W]`."""
    image = torch.from_numpy(draw("Cityscapes", "val", number)[0]).permute(2, 0, 1)
    return resize(image, list(size), antialias=True)[None].contiguous()


@torch.no_grad()
def measure(method: Method, size: Sequence[int], rounds: int) -> dict[str, Any]:
    """Return size of the ONNX file, agreement at three sizes, and seconds for an image."""
    network = Deployed(method)
    content = onnx_bytes(export_program(network), {})
    run = onnx_runner(content, threads=1)
    agreement = [own._asdict() for own in agreements(network, run)]
    image = street(size)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    image_last = image.contiguous(memory_format=torch.channels_last)
    forms = {
        "PyTorch": lambda _: network(image),
        "PyTorch, channels last": lambda _: last(image_last),
        "onnxruntime": lambda _: run(image),
    }
    seconds = time_in_turns(forms, rounds, on_gpu=False)
    return {"megabytes": len(content) / 1e6, "agreement": agreement, "seconds": seconds}


if __name__ == "__main__":
    run_script(main)
