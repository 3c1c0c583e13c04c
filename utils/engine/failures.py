"""Failures of what training stands on, told in one line: disk, data loading, other processes."""

import errno
import re

import torch.distributed as dist

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_PROCESSES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
LAST_CHECKPOINT = "A checkpoint that was written is intact, and --resume continues from it"


def explain(error: RuntimeError | OSError | EOFError) -> str | None:
    """Return what happened and what to do, or None for an error that is not of this kind."""
    text = str(error)
    worker = re.match(r"DataLoader worker \(pid(\(s\))?[\d, ]+\) ", text)
    # The first two: a process ended while it was handing a tensor over.
    if isinstance(error, (ConnectionError, EOFError)) or worker:
        end = text[worker.end() :].rstrip(". ") if worker else "was killed"
        return (
            f"a data loading process {end} (often for want of memory: fewer WORKERS or smaller "
            f"crops need less). {LAST_CHECKPOINT}"
        )
    if isinstance(error, OSError) and error.errno in NO_PROCESSES:
        return (
            f"the system gives no more processes or files ({error.strerror.lower()}); fewer "
            "WORKERS need less"
        )
    if isinstance(error, OSError):
        known = error.errno in NO_SPACE
        return cannot_write(error, error.filename or "a file") if known else None
    if isinstance(error, dist.DistError) or "gloo" in text or "Connection closed by peer" in text:
        first = text.strip().splitlines()[0]
        return (
            "lost the connection to another process, whose own message says why it ended "
            f"({first}). {LAST_CHECKPOINT}"
        )
    return None


def cannot_write(error: OSError, path: object, afterwards: str = LAST_CHECKPOINT) -> str:
    """Say that a file cannot be written, and how things stand `afterwards`."""
    advice = "; make room" if error.errno in NO_SPACE else ""
    return f"cannot write {path}: {error.strerror.lower()}{advice}. {afterwards}"
