"""Signals that come while a script imports its modules, which takes seconds; imports nothing of
that kind itself."""

import os
import signal

# As in utils/engine/interruption.py.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def exit_on_signals() -> None:
    """Let signals end the process with the exit code of a run before its first step.

    One that is ignored, as SIGINT is under nohup, stays ignored.
    """
    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _exit)


def take_back() -> None:
    """Let signals do what they do by default, where `exit_on_signals` changed that."""
    for number in CODES:
        if signal.getsignal(number) == _exit:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _exit(number: int, frame: object) -> None:
    os._exit(CODES[signal.Signals(number)])
