"""Checks within a limit of time: what was found, what failed, what there was no time for."""

import gc
import signal
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from utils.engine.runtime import choose_algorithms

ROOT = Path(__file__).parents[2]

Figures = dict[str, Any]


class DoesNotApply(Exception):
    """Raised by a check that has no meaning on this machine; the message says why."""


class OutOfTimeError(BaseException):
    """Raised in a check whose part has no time left; no `except Exception` on the way keeps it."""


class Sizes(NamedTuple):
    """What is measured: those of the recipes, or tiny ones for a rehearsal."""

    trunk: str = "resnet50"
    crop: int = 768
    batch: int = 8
    rounds: int = 10
    classes: tuple[int, ...] = (19, 150, 1000)
    every: int = 1  # of the networks that the smoke test builds
    recipes: tuple[str, ...] = ()  # empty: all
    images: int = 48  # drawn for the run with loading
    steps: int = 60  # of that run
    workers: int = 16
    image: tuple[int, int] = (1914, 1052)
    photographs: tuple[int, int, int] = (2500, 16, 256)  # steps, batch, crop
    judged: int = 0  # photographs of each domain; 0: all


TINY = Sizes(
    trunk="resnet_mini",
    crop=64,
    batch=2,
    rounds=1,
    classes=(19, 40),
    every=24,
    recipes=("train_r50os16_gtav_srha",),
    images=4,
    steps=4,
    workers=1,
    image=(382, 210),
    photographs=(4, 2, 64),
    judged=2,
)


class Check(NamedTuple):
    """A named check; `run` returns figures, or raises DoesNotApply or what went wrong. `left()` are
    the seconds that its part has still."""

    name: str
    run: Callable[[Callable[[], float]], Figures]


class Part(NamedTuple):
    """Named checks in order of importance, and the share of all time that they may take."""

    name: str
    share: float
    checks: Callable[[Sizes], Iterable[Check]]


def run_parts(
    parts: list[Part], sizes: Sizes, seconds: float, known: Collection[tuple[str, str]] = ()
) -> Iterator[dict[str, Any]]:
    """Run the checks of the parts, one after the other, but for those `known` by the names of part
    and check; yield what came out of each.

    A part ends with its share of the `seconds`; what it leaves goes to those behind it. What is
    under way then is broken off, and checks that were not begun are named.
    """
    begin, end = time.perf_counter(), 0.0
    for part in parts:
        # As in training.
        choose_algorithms(deterministic=False)
        end += part.share * seconds

        def left(end: float = end) -> float:
            return end - (time.perf_counter() - begin)

        for check in part.checks(sizes):
            if (part.name, check.name) in known:
                continue
            found = {"part": part.name, "check": check.name}
            if left() <= 0:
                yield found | {"outcome": "left out", "reason": "no time left"}
                continue
            since = time.perf_counter()
            found |= outcome_of(check, left)
            yield found | {"seconds": round(time.perf_counter() - since, 2)}


def outcome_of(check: Check, left: Callable[[], float]) -> dict[str, Any]:
    """Run a check; return its figures, or why there are none."""
    try:
        with limited(left()):
            figures = check.run(left)
        return {"outcome": "ok", "figures": figures}
    except DoesNotApply as reason:
        return {"outcome": "does not apply", "reason": str(reason)}
    except OutOfTimeError:
        return {"outcome": "broken off", "reason": "no time left"}
    except Exception as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
        place = ", ".join(f"{Path(f.filename).name} line {f.lineno}" for f in own[-2:])
        return {"outcome": "failed", "reason": f"{type(error).__name__}: {error} ({place})"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        # Networks that hold one another wait for it, with their memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in this thread after so many seconds."""

    def stop(number: int, frame: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: where it is raised in a callback it is printed and lost.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
