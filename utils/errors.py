"""How a script ends: one clear line and an exit code, no traceback for what a user can mend."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from utils.children import end_children
from utils.early import take_back

# How torch, numpy, Pillow and the system say that memory ran out, and what says how much was asked
# for.
NO_MEMORY = re.compile(
    "allocate memory|out of memory|Unable to allocate|STATUS_ALLOC_FAILED|MemoryError"
    "|Storage size calculation overflowed|integer multiplication overflow"
)
ASKED_FOR = re.compile(r"allocate (\d+) bytes|[Aa]llocate ([\d.]+ [KMGTPE]i?B)")


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
    close = [each for each in known if name and each.startswith(name)]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")


@contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Raise UserError, with the advice, where memory runs out in the `with` or the function."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not (isinstance(error, MemoryError) or NO_MEMORY.search(str(error))):
            raise
        asked = ASKED_FOR.search(str(error))
        size = ""
        if asked:
            size = f" ({int(asked[1]) / 1e9:.3g} GB more)" if asked[1] else f" ({asked[2]} more)"
        kind = "GPU memory" if re.search("CUDA|CUBLAS|CUDNN", str(error)) else "memory"
        raise UserError(f"not enough {kind} for {what}{size}; {advice}") from error


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`. It exits with 2 after a UserError and for want of memory, printed as
    one line on stderr, with the code of a Stopped, and with 130 after Ctrl-C."""
    take_back()
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files need not be text, and are printed nevertheless.
        sys.stdout.reconfigure(errors="backslashreplace")
    if code := _exit_code(main):
        sys.exit(code)


def _exit_code(main: Callable[[], None]) -> int:
    try:
        with memory_for("this command", "smaller images, crops, batches or networks need less"):
            try:
                main()
            finally:
                # While the error is alive: a DataLoader that goes with it would wait for each of
                # its processes.
                end_children()
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
    except BrokenPipeError:
        # Whoever read the output has seen enough (`… | head`); what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Any path of a command line can be longer than the system takes.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: {error.filename}: {os.strerror(error.errno).lower()}", file=sys.stderr)
        return 2
    return 0
