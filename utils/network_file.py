"""The inference network alone as a safetensors file, with its settings as metadata."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.extras import import_extra

SAFETENSORS = ".safetensors"
NOTES = ("settings", "step", "label_space")


def _library() -> Any:
    return import_extra(f"{SAFETENSORS} files", "safetensors", "safetensors.torch")


def network_bytes(weights: dict[str, Tensor], notes: dict[str, Any]) -> bytes:
    """Return the content of a safetensors file: weights by name, and `notes` (NOTES) as JSON."""
    metadata = {"format": "pt"} | {key: json.dumps(notes[key]) for key in NOTES}
    dense = {name: weight.contiguous() for name, weight in weights.items()}
    return _library().torch.save(dense, metadata | {"sha256": digest(dense, metadata)})


def digest(weights: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of all that a file holds; safetensors itself has no checksums."""
    content = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name]
        content.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        content.update(weight.flatten().view(torch.uint8).numpy())
    return content.hexdigest()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read any safetensors file to the CPU: weights by name, and metadata; UserError if it is
    damaged."""
    library = _library()
    try:
        with library.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    # Damaged headers make it raise whatever it stumbled over.
    except Exception as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error})") from error


def read_network(path: Path) -> dict[str, Any]:
    """Read a file of `network_bytes` to the CPU: NOTES and `method` (the weights).

    UserError if it is damaged or was made by something else.
    """
    weights, metadata = read_safetensors(path)
    told = metadata.pop("sha256", None)
    # A bit that is turned over in its own name leaves a name that no file has.
    strange = told is None and "settings" in metadata and metadata.keys() - {"format", *NOTES}
    if strange or (told is not None and told != digest(weights, metadata)):
        raise UserError(f"{path} is damaged (its SHA-256 is another one than when written)")
    if not {"settings", "step"} <= metadata.keys():
        raise UserError(
            f"{path} holds no settings: it was not made by `python -m utils.export`, and what "
            "network its weights belong to is unknown"
        )
    return {key: json.loads(metadata[key]) for key in NOTES if key in metadata} | {
        "method": weights
    }
