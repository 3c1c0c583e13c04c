"""How a script ends: one clear line and an exit code, no traceback for what a user can mend."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

from utils.children import end_children


class UserError(Exception):
    """Bad input. The message names the file, key or value and says what to do."""


class Stopped(BaseException):
    """A run ends early because it was asked to, with exit code `code`.

    `agreed`: all processes stop at this place, so that none waits for another. It is no Exception:
    code that turns any failure into a message of its own must not catch it.
    """

    def __init__(self, message: str, code: int, agreed: bool):
        super().__init__(message)
        self.code, self.agreed = code, agreed


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is in no registry: it names the closest and all known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`. It exits with 2 after a UserError, printed as one line on stderr, with
    the code of a Stopped, and with 130 after Ctrl-C."""
    try:
        code = _exit_code(main)
    finally:
        end_children()
    if code:
        sys.exit(code)


def _exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except UserError as error:
        # A data loading process hands its error on with a traceback in front of the message.
        message = str(error).rpartition(f"{UserError.__module__}.UserError: ")[2].strip()
        process = f" in process {os.environ['RANK']}" if "RANK" in os.environ else ""
        print(f"error{process}: {message}", file=sys.stderr)
        return 2
    except Stopped as stop:
        if os.environ.get("RANK", "0") == "0":
            print(stop, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Any path of a command line can be longer than the system takes.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: {error.filename}: {os.strerror(error.errno).lower()}", file=sys.stderr)
        return 2
    return 0
