"""The inference network for other programs: a torch.export program, or an ONNX graph.

Both take images as they are stored, uint8 `[B, 3, H, W]` RGB with batch, height and width free, and
return logits float32 `[B, K, H, W]`. Normalisation and what a method does in inference, such as
style elimination, are inside.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from network.methods import Method
from transforms import normalise
from utils.errors import UserError
from utils.extras import import_extra

CHECK_SIZES = ((128, 256), (97, 161), (210, 120))  # wide, odd, upright
# Of logits (as a share of the largest where that is above 1: rounding grows with it), of labels.
MOST_DIFFERENCE, LEAST_AGREEMENT = 1e-4, 0.999
Logits = Callable[[Tensor], Tensor]


class Deployed(nn.Module):
    """A method's inference on images as they are stored."""

    def __init__(self, method: Method):
        super().__init__()
        # Teachers and memories are for training; an exported file would hold them.
        for name, _ in list(method.named_children()):
            if name not in method.inference_parts:
                setattr(method, name, None)
        self.method = method.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return logits float32 `[B, K, H, W]` of images uint8 `[B, 3, H, W]`."""
        return self.method.predict(normalise(image))


def export_program(network: Deployed) -> ExportedProgram:
    """Trace a network for any batch and any height and width that it is exported for; UserError
    for one that is not."""
    example = torch.zeros(2, 3, 96, 160, dtype=torch.uint8)
    least = network.method.exported_from
    sides = {2: Dim("height", min=least), 3: Dim("width", min=least)}
    free = {"image": {0: Dim("batch", min=1), **sides}}
    with torch.no_grad():
        return torch.export.export(
            network,
            (example,),
            dynamic_shapes=free,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def program_bytes(program: ExportedProgram, notes: dict[str, Any]) -> bytes:
    """Return the content of a .pt2 file; `notes.json` in it holds the notes."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"notes.json": json.dumps(notes)})
    return file.getvalue()


def onnx_bytes(program: ExportedProgram, notes: dict[str, Any], opset: int | None = None) -> bytes:
    """Return the content of an ONNX file, the notes as its metadata; its axes are called batch,
    height and width. `opset` is the version of its operators, by default torch's choice. UserError
    without onnx, and for an opset that the network cannot be written in."""
    # torch needs them, and would fail later and longer.
    import_extra("ONNX files", "onnx", "onnxscript")
    names = {"input_names": ["image"], "output_names": ["logits"]}
    options = {"dynamo": True, "verbose": False, "opset_version": opset}
    # Where torch cannot convert to an opset it logs a traceback and keeps another one.
    logging.disable(logging.WARNING)
    try:
        model = torch.onnx.export(program, **options, **names).model_proto
    finally:
        logging.disable(logging.NOTSET)
    found = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset not in (None, found):
        raise UserError(
            f"--opset {opset}: torch cannot write this network in it; opset {found} would do"
        )
    axes = ("batch", "", "height", "width")
    for value in (*model.graph.input, *model.graph.output):
        for size, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if size.dim_param:
                size.dim_param = axis
    for key, value in notes.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    return model.SerializeToString()


def onnx_runner(content: bytes, threads: int = 0) -> Logits:
    """Return a function that runs an ONNX file in onnxruntime on the CPU (0 threads: all cores)."""
    onnxruntime = import_extra("checks of ONNX files", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])

    return run


def program_runner(content: bytes) -> Logits:
    """Return a function that runs the content of a .pt2 file."""
    return torch.export.load(io.BytesIO(content)).module()


class Agreement(NamedTuple):
    """An exported network and its origin at one size (height, width): the largest difference of
    logits, the largest logit, and the share of equal labels."""

    size: tuple[int, int]
    difference: float
    largest: float
    labels: float

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{width}×{height}: logits (up to {self.largest:.3g}) differ by at most "
            f"{self.difference:.1e}, {100 * self.labels:.3f} % of the labels agree"
        )


@torch.no_grad()
def agreements(network: Deployed, run: Logits) -> Iterator[Agreement]:
    """Compare an exported network with its origin on smooth random images of CHECK_SIZES."""
    for number, size in enumerate(CHECK_SIZES):
        generator = torch.Generator().manual_seed(number)
        coarse = 255 * torch.rand(1 + number, 3, 9, 12, generator=generator)
        image = nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255).byte()
        expected, found = network(image), run(image)
        same = (expected.argmax(1) == found.argmax(1)).double().mean()
        gap, largest = (float(x.abs().max()) for x in (expected - found, expected))
        yield Agreement(size, gap, largest, float(same))


def refuse_disagreement(found: list[Agreement]) -> None:
    """Raise UserError where an exported network is another one than its origin."""
    for own in found:
        # Written so that NaN is refused.
        most = MOST_DIFFERENCE * max(1.0, own.largest)
        if not (own.difference <= most and own.labels >= LEAST_AGREEMENT):
            raise UserError(
                f"the exported network is not the one of the checkpoint ({own}); nothing is written"
            )
