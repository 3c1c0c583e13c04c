"""Export the inference network of a checkpoint, without optimizer and teachers.

    python -m utils.export logs/my_run/best.pth --out network.safetensors

The file holds settings and step too, so that `valid.py --snapshot` and `train.py --init` take it as
they take a checkpoint. Training cannot continue from it.
"""

import argparse
from pathlib import Path

from utils.checkpoint import build_method, load_checkpoint, resolve
from utils.errors import UserError, run_script
from utils.network_file import SAFETENSORS, network_bytes
from utils.saving import write_atomically


def main() -> None:
    """Read the checkpoint, check that it fits its settings, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="of a run, such as logs/NAME/best.pth")
    parser.add_argument("--out", type=Path, required=True, help=f"file to write, *{SAFETENSORS}")
    options = parser.parse_args()
    size = export(options.checkpoint, options.out)
    print(f"wrote {options.out} ({size / 1e6:.1f} MB)")


def export(checkpoint: Path, out: Path) -> int:
    """Write what inference needs of a checkpoint to `out`; return its size in bytes.

    UserError for a checkpoint without settings (the published code's) and for another ending.
    """
    if out.suffix != SAFETENSORS:
        raise UserError(f"--out {out} has to end in {SAFETENSORS}")
    state = load_checkpoint(checkpoint)
    if state.get("published"):
        raise UserError(
            f"{checkpoint} is of the published code and knows no settings; `train.py --init` makes "
            "a run of it, whose checkpoints can be exported"
        )
    method, _ = build_method(resolve(state["settings"]), state)
    parts = method.inference_parts
    weights = {k: v for k, v in method.state_dict().items() if k.split(".")[0] in parts}
    content = network_bytes(weights, state["settings"], state["step"])
    write_atomically(out, lambda file: file.write(content))
    return len(content)


if __name__ == "__main__":
    run_script(main)
