"""Export the inference network of a checkpoint, without optimizer and teachers.

    python -m utils.export logs/my_run/best.pth --out network.safetensors
    python -m utils.export logs/my_run/best.pth --out network.onnx

`.safetensors` holds weights, settings and step: `valid.py --snapshot`, `predict.py --snapshot` and
`train.py --init` take it as they take a checkpoint; training cannot continue from it. `.onnx` and
`.pt2` (torch.export) hold the network itself for other programs, see deployment.py; they are
run and compared with the checkpoint's network before they are written.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.label_spaces import LabelSpace
from network.build import TUNING, build_method, open_run
from network.methods import METHODS, Method, method_class
from utils.engine.folder import require_writable
from utils.engine.saving import write_atomically
from utils.errors import UserError, run_script
from utils.export.deployment import (
    Deployed,
    agreements,
    export_program,
    onnx_bytes,
    onnx_runner,
    program_bytes,
    program_runner,
    refuse_disagreement,
)
from utils.network_file import SAFETENSORS, network_bytes
from utils.settings import flatten, split

# Ending → content of a file from a traced program, and how to run that content.
DEPLOYED = {".onnx": (onnx_bytes, onnx_runner), ".pt2": (program_bytes, program_runner)}
ENDINGS = (SAFETENSORS, *DEPLOYED)


def main() -> None:
    """Read the checkpoint, check that it fits its settings, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="UNKNOWN_SETTINGS ignore leaves out settings of another version; TRUNK.WEIGHTS FILE "
        "says where frozen weights are that the checkpoint leaves out.",
    )
    parser.add_argument("checkpoint", type=Path, help="of a run, such as logs/NAME/best.pth")
    parser.add_argument(
        "--out", type=Path, required=True, help=f"file to write, ending in {', '.join(ENDINGS)}"
    )
    parser.add_argument(
        "--opset", type=int, metavar="N", help="version of the operators of an .onnx file"
    )
    # What changes inference alone.
    changeable = [key for name in METHODS for key in method_class(name).inference_settings]
    options, settings = split(parser, allowed=["UNKNOWN_SETTINGS", "TRUNK.WEIGHTS", *changeable])
    size = export(options.checkpoint, options.out, options.opset, settings)
    print(f"wrote {options.out} ({size / 1e6:.1f} MB)")


def export(
    checkpoint: Path,
    out: Path,
    opset: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Write what inference needs of a checkpoint to `out`; return its size in bytes.

    `settings` may hold UNKNOWN_SETTINGS, where what is ignored is not written, TRUNK.WEIGHTS, where
    frozen weights are that the checkpoint leaves out, and the method's `inference_settings`.
    UserError for a checkpoint without settings (the published code's), for another ending, and for
    a network that runs differently once exported.
    """
    if out.suffix not in ENDINGS:
        raise UserError(f"--out {out} has to end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if opset is not None and out.suffix != ".onnx":
        raise UserError(f"--opset is for .onnx files; {out} has no operator versions")
    require_writable(out)
    cfg, state = open_run(checkpoint, settings or {})
    method, space = build_method(cfg, state)
    if method.trunk.adapters() and method.trunk.mergeable:
        method.trunk.merge()
        state["settings"] = {
            key: "full" if key == TUNING.key else value
            for key, value in state["settings"].items()
            if not key.startswith("TUNING.")
        }
    known = flatten(cfg)
    kept = {key: own for key, own in state["settings"].items() if key in known}
    state["settings"] = kept | {key: known[key] for key in kept.keys() & (settings or {}).keys()}
    if out.suffix in DEPLOYED:
        options = {} if opset is None else {"opset": opset}
        content = deployed_bytes(method, space, state, out.suffix, **options)
    else:
        parts = method.inference_parts
        weights = {k: v for k, v in method.state_dict().items() if k.split(".")[0] in parts}
        content = network_bytes(weights, state | {"label_space": space.plain()})
    write_atomically(out, content, "Nothing else was changed")
    return len(content)


def deployed_bytes(
    method: Method, space: LabelSpace, state: dict[str, Any], ending: str, **options: Any
) -> bytes:
    """Return the content of an ONNX or torch.export file that agrees with the method."""
    notes = {"settings": state["settings"], "step": state["step"], "classes": space.classes}
    to_bytes, to_runner = DEPLOYED[ending]
    network = Deployed(method)
    content = to_bytes(export_program(network), notes, **options)
    found = list(agreements(network, to_runner(content)))
    refuse_disagreement(found)
    print(*found, sep="\n")
    return content


if __name__ == "__main__":
    run_script(main)
