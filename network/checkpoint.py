"""What is in a checkpoint: settings and weights, as plain tensors and Python values.

It is loaded with `weights_only`; utils/engine/saving.py writes the files.
"""

import hashlib
from pathlib import Path
from typing import Any

from network.published import is_published, rename_weights
from utils.errors import UserError
from utils.files import read_weights
from utils.network_file import SAFETENSORS, read_network

LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU: one of training, one of utils/export, or a published one.

    Returns `settings`, `step`, `method` (weights by name; their moving average, where training
    keeps one) and, of training, what `train.py` saves beside them. An exported or published file
    holds the inference network alone (`network_only`), a published one no settings either
    (`published`). UserError if it is none of them.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    if path.suffix == SAFETENSORS:
        return read_network(path) | {"network_only": True}
    state = dict(read_weights(path))
    if is_published(state):
        network = {"settings": {}, "step": 0, "method": rename_weights(state)}
        return network | {"published": True, "network_only": True}
    if not {"settings", "method"} <= state.keys():
        raise UserError(
            f"{path} is no checkpoint of this project, and not of the published SRHA or RobustNet "
            "code: it holds neither settings nor their key names"
        )
    state["method"].update(state.pop("average", {}))
    return state


def checkpoint_path(name: str | Path) -> Path:
    """Return the checkpoint that a name means: a file, or the newest of an experiment folder."""
    path = Path(name)
    return path / LAST if path.is_dir() else path


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, the first 16 hex digits."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
