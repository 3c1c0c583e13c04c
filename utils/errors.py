"""Errors that a user can mend: one clear line and an exit code, never a traceback."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input. The message names the file, key or value and says what to do."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is in no registry: it names the closest and all known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; a UserError is printed as one line on stderr and exits with 2."""
    try:
        main()
    except UserError as error:
        # A data loading process hands its error on with a traceback in front of the message.
        message = str(error).rpartition(f"{UserError.__module__}.UserError: ")[2].strip()
        process = f" in process {os.environ['RANK']}" if "RANK" in os.environ else ""
        print(f"error{process}: {message}", file=sys.stderr)
        sys.exit(2)
