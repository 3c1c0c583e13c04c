"""Checkpoints on disk: `last.pth`, the one before it and the best one, each written at one stroke.

Whenever the machine stops, the folder holds a whole checkpoint: a new one gets its name when it is
on the disk to its last byte, and the old one stays as `previous.pth`.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from network.checkpoint import BEST, LAST, PREVIOUS
from utils.engine.failures import LAST_CHECKPOINT, cannot_write
from utils.errors import UserError
from utils.files import read_weights, seal

# What training continues from, see `train.py`.
COMPLETE = {
    *("settings", "step", "samples", "method", "optimizer"),
    *("best", "running_means", "log_position"),
}


class Checkpoints:
    """Writes the checkpoints of an experiment folder. Only the main process does."""

    def __init__(self, folder: Path, resumed_from: Path | None = None):
        """`resumed_from` is the file that training continues from."""
        self.folder = folder
        self.newest = resumed_from or folder / LAST

    def save(self, state: dict[str, Any]) -> None:
        """Write `last.pth`; a whole one that is there already becomes `previous.pth`.

        UserError when there is no room for it, which leaves all files as they are.
        """
        last = self.folder / LAST
        # Names, settings and the padding of a tensor to whole blocks of the file.
        size = int(1.02 * _size(state)) + (1 << 18)
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise UserError(
                f"no room for a checkpoint of {size / 1e6:.0f} MB in {self.folder} "
                f"({free / 1e6:.0f} MB free); make room. {LAST_CHECKPOINT}"
            )

        def write(file: BinaryIO) -> None:
            torch.save(state, file)
            seal(file)

        temporary = write_part(last, write)
        # A damaged last.pth that was passed over on resuming must not replace the one before it.
        if self.newest == last and last.exists():
            link(last, self.folder / PREVIOUS)
        os.replace(temporary, last)
        sync_folder(self.folder)
        self.newest = last

    def keep_best(self) -> None:
        """Keep the newest checkpoint as `best.pth`."""
        link(self.newest, self.folder / BEST)
        sync_folder(self.folder)


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], str]:
    """Return path and content of the newest whole checkpoint of a folder, and a warning or "".

    That is `previous.pth` where `last.pth` is damaged or missing. The content is what was saved:
    `method` holds the weights, not their average. UserError when there is none, or when it cannot
    be continued from.
    """
    damage = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            state = dict(read_weights(path))
        except UserError as error:
            damage.append(str(error))
            continue
        if missing := sorted(COMPLETE - state.keys()):
            raise UserError(
                f"{path} cannot be continued from: it holds no {', '.join(missing)}; --init starts "
                "a new run from its weights"
            )
        if not damage:
            return path, state, ""
        return path, state, f"warning: {damage[0]}; continuing from {path}, step {state['step']}"
    if damage:
        raise UserError("; ".join(damage) + "; no other checkpoint to continue from")
    raise UserError(f"no checkpoint {folder / LAST}")


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to continue from, whole or not."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def write_atomically(path: Path, content: bytes, afterwards: str) -> None:
    """Write a file through a temporary one beside it, so that `path` is never there in part.

    UserError, ending in how things stand `afterwards`, when the disk is full or cannot be written
    to; then nothing is left of it and an older `path` stays.
    """
    os.replace(write_part(path, lambda file: file.write(content), afterwards), path)
    sync_folder(path.parent)


def write_list(path: Path, lines: Sequence[str], afterwards: str) -> None:
    """Write a file with a line for each entry; none is left where there is no entry."""
    if lines:
        # Names of files may hold bytes that are no text.
        text = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        write_atomically(path, text, afterwards)
    else:
        path.unlink(missing_ok=True)


def write_part(
    path: Path, write: Callable[[BinaryIO], Any], afterwards: str = LAST_CHECKPOINT
) -> Path:
    """Fill a temporary file beside `path` with `write(file)`, down to the disk; return its path."""
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch.save, when it is broken off, puts an error of its own on top of what happened.
        real = error.__context__ or error
        if isinstance(real, OSError):
            raise UserError(cannot_write(real, path, afterwards)) from error
        raise real from None
    return temporary


def link(source: Path, target: Path) -> None:
    """Give a file a second name in its folder at one stroke; a copy where links are unknown."""
    temporary = target.with_name(target.name + ".part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        with open(source, "rb") as original:
            write_part(target, lambda file: shutil.copyfileobj(original, file, 1 << 20))
    os.replace(temporary, target)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; os.replace alone leaves that to the system."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(state: Any) -> int:
    """Return the bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.nbytes
    items = state.values() if isinstance(state, dict) else state
    return sum(map(_size, items)) if isinstance(state, (dict, list, tuple)) else 0
