"""Processes that this one has started must not outlive it, and must not keep it from ending."""

import atexit
import multiprocessing
import os
import signal
import threading


def end_children() -> None:
    """Kill all of them: Python would wait after a SIGTERM, which data loading processes do not hear
    (see `utils.engine.interruption.start_workers`)."""
    children = multiprocessing.active_children()
    if children:
        # The DataLoader's handler would report each of them as an accident.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in children:
            child.kill()
            child.join()
        signal.signal(signal.SIGCHLD, handler)


def end_children_at_exit() -> None:
    """See to `end_children` when Python ends, before anything that was registered up to now."""
    atexit.unregister(end_children)
    atexit.register(end_children)


def end_with_parent() -> None:
    """End this process, one of `multiprocessing`, when the process that started it is gone: a
    pool's processes would wait for work for ever."""

    def watch() -> None:
        # Not its process id: with the start method forkserver, Python 3.14's, the system's parent
        # of this process is the server.
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
