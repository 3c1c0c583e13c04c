"""The folder that a command writes into: found out before the work, and held while it goes on."""

import errno
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.locks import held

LOCK, WRITER = ".lock", ".writer"  # files of a folder that is written into


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder and keep others from writing into it, until the `with` or this process ends.

    UserError where it cannot be written to, and where another process writes, which is named.
    """

    def refuse() -> None:
        try:
            writer = (folder / WRITER).read_text().strip()
        except OSError:
            writer = "another process"
        raise UserError(
            f"{folder} is being written to by {writer}; let it end, stop it, or choose another "
            "folder"
        )

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder / LOCK, refuse))
            (folder / WRITER).write_text(f"{this_process()}\n")
        except OSError as error:
            raise UserError(
                f"cannot write to the folder {folder}: {(error.strerror or str(error)).lower()}; "
                "choose another one"
            ) from None
        stack.callback((folder / WRITER).unlink, missing_ok=True)
        yield


def this_process() -> str:
    """Name this process for a reader on another terminal."""
    words = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    shown = words if len(words) <= 120 else words[:116] + " …"
    return f"process {os.getpid()} on {platform.node()}, {time.strftime('%Y-%m-%d %H:%M')}: {shown}"


def require_writable(path: Path) -> None:
    """Find out before the work whether a file can be written; its folder is made.

    UserError, naming the path, where it cannot, or where it is a folder or a device.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; name a file")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        # A file is replaced, not written over: that needs its folder.
        with tempfile.NamedTemporaryFile(prefix=path.name, dir=path.parent):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {path}: {reason}; name another place") from None
