"""Reading files of weights, with errors that name the file."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.errors import UserError


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read a file of `torch.save` to the CPU: a mapping of tensors and plain values.

    Nothing is unpickled that could run code; numpy numbers, which older code stores beside its
    weights, are let through. UserError for a file that is missing, damaged or holds no mapping.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    scalar = np.float64(0).__reduce__()[0]
    old_name = (scalar, "numpy.core.multiarray.scalar")
    numbers = [np.dtype, type(np.dtype(np.float64)), scalar, old_name]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")[0]
        raise UserError(f"{path} is damaged or holds no weights ({reason})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no weights by name but a {type(content).__name__}")
    return content
