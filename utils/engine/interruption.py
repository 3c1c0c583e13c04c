"""Being asked to stop: SIGTERM and SIGUSR1 of a scheduler, SIGINT of a user at the keyboard.

Training ends its step and saves, in all processes at the same step, and exits with 75 (EX_TEMPFAIL,
"start me again") after SIGTERM or SIGUSR1 and with 130 after SIGINT. A second SIGINT ends it at
once. Before training there is nothing to save, and every one of them ends it at once. Where
the step that should end waits for data that do not come, the run ends with the step before it.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

from torch.utils.data import DataLoader

from utils.children import end_children, end_children_at_exit, end_with_parent
from utils.engine.runtime import Runtime
from utils.errors import Stopped

REQUEUE = 75
INTERRUPTED = 128 + signal.SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PATIENCE = 10  # seconds for a batch after a request to stop; torchrun kills after 30


class Interruption:
    """Catches the signals inside `with`; `code` is the exit code asked for, 0 while none was.

    From `defer` on a signal only sets the code, and the run asks for it where it can stop.
    """

    current: ClassVar["Interruption | None"] = None

    def __init__(self) -> None:
        self.code = 0
        self.waiting_for: list[int] = []
        self.deferred = False
        self.process = os.getpid()

    def __enter__(self) -> "Interruption":
        self.previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self.previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._give_up)
        Interruption.current = self
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        Interruption.current = None

    @contextmanager
    def bounded(self, processes: list[int]) -> Iterator[None]:
        """Wait for data loading processes, but after a request to stop not for more than PATIENCE:
        all of them may stand still."""
        self.waiting_for = processes
        if self.code:
            signal.alarm(PATIENCE)
        try:
            yield
        finally:
            self.waiting_for = []
            signal.alarm(0)

    def defer(self) -> None:
        """From now on, wait for `check` or for the training loop to stop."""
        self.deferred = True

    def check(self, runtime: Runtime) -> None:
        """Raise Stopped in all processes if one of them was asked to stop; all have to call it."""
        code = runtime.largest(self.code)
        if code:
            raise self.outcome(code)

    def outcome(self, code: int) -> Stopped:
        """Return the error that ends a run whose state is saved."""
        return Stopped("stopped and saved; --resume continues this run", code, agreed=True)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # A forked data loading process inherits this handler.
        if os.getpid() != self.process:
            return
        if number == signal.SIGINT and self.code == INTERRUPTED:
            raise KeyboardInterrupt
        self.code = INTERRUPTED if number == signal.SIGINT else self.code or REQUEUE
        name = signal.Signals(number).name
        if not self.deferred:
            raise Stopped(f"{name} before the first step", self.code, agreed=False)
        # Printing from a handler could meet a print that it interrupts.
        os.write(2, f"\n{name}: stopping after this step\n".encode())
        if self.waiting_for:
            signal.alarm(PATIENCE)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if self.waiting_for:
            raise Stopped(
                f"asked to stop, and the data loading processes {self.waiting_for} have given "
                f"nothing for {PATIENCE} seconds: they, or the disk they read from, stand still; "
                "stopped without the step that waits for them",
                self.code,
                agreed=False,
            )


def start_workers(loader: DataLoader) -> Iterator[Any]:
    """Return `iter(loader)` with data loading processes that never see the signals.

    A scheduler sends them to all processes, and training still needs data to end its step. The
    processes inherit what is blocked while they are started. They end as the DataLoader wants them
    to, or are killed in the end.
    """
    # The DataLoader notices a killed parent after five seconds, in which peers believe it alive,
    # and not at all one that was killed while it started them.
    loader.worker_init_fn = _follow
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return _Batches(iter(loader))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end_children_at_exit()


class _Batches:
    """An iterator of a DataLoader that a request to stop does not leave waiting."""

    def __init__(self, batches: Any):
        self.batches = batches
        self.processes = [worker.pid for worker in getattr(batches, "_workers", [])]

    def __iter__(self) -> "_Batches":
        return self

    def __next__(self) -> Any:
        if Interruption.current is None:
            return next(self.batches)
        with Interruption.current.bounded(self.processes):
            return next(self.batches)

    def end(self) -> None:
        """End the processes. There is no public way; after an error its traceback holds the last
        reference."""
        if self.processes:
            self.batches._shutdown_workers()


def _follow(worker: int) -> None:
    end_with_parent()


@contextmanager
def data_from(
    loader: DataLoader, lost: Callable[[], None] = lambda: None
) -> Iterator[Iterator[Any]]:
    """Yield the batches of `start_workers(loader)`, whose processes end with the `with`, however
    that ends. `lost` is called when a batch cannot be had."""
    batches = start_workers(loader)

    def in_order() -> Iterator[Any]:
        try:
            yield from batches
        except (Exception, Stopped):
            lost()
            raise

    try:
        yield in_order()
    except BaseException:
        # The DataLoader would wait seconds for each that stands still.
        end_children()
        raise
    finally:
        batches.end()
