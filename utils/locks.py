"""A lock between processes, and between threads of one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def held(path: Path, occupied: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path`.

    Where another process or thread holds it, `occupied` is called first: it may say that this one
    waits, or raise an error that refuses. The system lets go of a lock when its process dies.
    Raises OSError if the file cannot be written.
    """
    # The file stays. Two could be inside if one held a removed file and one its successor.
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if occupied:
            occupied()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
