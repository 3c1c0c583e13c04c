"""Signals that arrive while a script imports its modules; imported first, this ends it quietly.

Nothing can be lost then. `utils.errors.run_script` takes the signals over.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

REQUEUE = 75  # EX_TEMPFAIL: start me again
INTERRUPTED = 128 + signal.SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SCRIPTS = ("train.py", "valid.py", "predict.py")


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End this process with the exit code that belongs to a signal."""
    os.write(2, f"{signal.Signals(number).name}: nothing had begun\n".encode())
    # No exception: one that is raised inside an import may be taken for the import's failure.
    os._exit(INTERRUPTED if number == signal.SIGINT else REQUEUE)


if Path(sys.argv[0]).name in SCRIPTS:
    for _number in SIGNALS:
        signal.signal(_number, end_at_once)
