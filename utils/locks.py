"""A lock between processes, and between threads of one."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, occupied: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` and remove it at the end.

    Where another process or thread holds it `occupied` is called: it may say that this one waits,
    or raise what refuses. The system lets go of a lock when its process dies. Raises OSError if
    the file cannot be written.
    """
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if occupied:
                    occupied()
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it before has removed the file, and a third one may hold a new one.
            try:
                if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    continue
            except FileNotFoundError:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        return
