"""Files of weights: read with errors that name the file, and sealed so that damage is noticed."""

import hashlib
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from utils.errors import UserError

DIGEST = 64  # hexadecimal digits of a SHA-256
END = b"PK\x05\x06"  # of a zip archive: this record of 22 bytes, whose last two count a comment
NO_WEIGHTS = {
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file itself",
}


def seal(file: BinaryIO) -> None:
    """Write the SHA-256 of a zip archive, a whole file of `torch.save` open as "w+b", into its
    comment: checksums of zip cover what is stored, and not the archive's own records."""
    end = file.seek(-2, 2) + 2
    file.write(struct.pack("<H", DIGEST))
    digest = sha256(file, end)
    file.seek(end)
    file.write(digest)


def sha256(file: BinaryIO, length: int) -> bytes:
    """Return the hexadecimal SHA-256 of the first `length` bytes of a file."""
    file.seek(0)
    content = hashlib.sha256()
    while length > 0 and (part := file.read(min(length, 1 << 24))):
        content.update(part)
        length -= len(part)
    return content.hexdigest().encode()


def check_seal(path: Path) -> None:
    """Raise UserError for a file of `torch.save` that is damaged.

    One that is sealed is compared with its SHA-256, another zip archive with the checksums of its
    members; older kinds of files have none.
    """
    with path.open("rb") as file:
        size, length = file.seek(0, 2), struct.pack("<H", DIGEST)
        file.seek(max(0, size - DIGEST - 22))
        tail = file.read()
        # Two of three, so that a flipped bit does not make a sealed file an unsealed one.
        signs = (
            tail[:4] == END,
            tail[20:22] == length,
            bool(re.fullmatch(rb"[0-9a-f]{64}", tail[22:])),
        )
        if sum(signs) >= 2 or _ends_early(tail, length):
            if sha256(file, size - DIGEST) != tail[-DIGEST:]:
                raise UserError(f"{path} is damaged (its SHA-256 is another one than when written)")
            return
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        # Damaged records make zipfile raise whatever it stumbled over.
        except Exception as error:
            raise UserError(f"{path} is damaged ({error})") from None
        if damaged is not None:
            raise UserError(f"{path} is damaged ({damaged})")


def _ends_early(tail: bytes, length: bytes) -> bool:
    at = tail.find(END, 1)
    return at >= 0 and tail[at + 20 : at + 22] == length


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read a file of `torch.save` to the CPU: a mapping of tensors and plain values.

    Nothing is unpickled that could run code; numpy numbers, which older code stores beside its
    weights, are let through. UserError for a file that is missing, damaged or holds no mapping.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        with path.open("rb") as file:
            begin = file.read(64).lstrip().lower()
        for mark, what in NO_WEIGHTS.items():
            if begin.startswith(mark):
                raise UserError(f"{path} holds no weights: it is {what}")
        check_seal(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    scalar = np.float64(0).__reduce__()[0]
    old_name = (scalar, "numpy.core.multiarray.scalar")
    numbers = [np.dtype, type(np.dtype(np.float64)), scalar, old_name]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own advice, to switch off `weights_only`, would run what a file of others says.
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" (it asks for {name[1]})" if name else ""
        raise UserError(
            f"{path} is damaged, or holds more than tensors and plain values{what}"
        ) from None
    except MemoryError:
        raise UserError(f"the memory does not hold {path}") from None
    # Damaged pickles make torch raise whatever it stumbled over.
    except Exception as error:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")[0]
        raise UserError(f"{path} is damaged or holds no weights ({reason})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no weights by name but a {type(content).__name__}")
    return content
