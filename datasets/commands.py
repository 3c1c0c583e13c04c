"""What the commands over whole datasets share: their words, and reading in several processes."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from datasets import DATASETS
from utils.children import end_with_parent
from utils.errors import UserError
from utils.settings import split


def parse_words(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str], dict[str, str]]:
    """Parse flags, datasets and settings in any order; return (flags, datasets, settings by key).

    UserError for a key without a value and where no dataset is named.
    """
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME[:SPLIT]",
        help=f"{', '.join(DATASETS)}, or a JSON file that describes one",
    )
    options, settings = split(parser, arguments)
    if not options.words:
        what = parser.prog.rpartition(".")[2]
        raise UserError(f"name the datasets to {what}: {', '.join(DATASETS)}")
    return options, options.words, settings


def in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int, title: str
) -> Iterator[Any]:
    """Yield work(item) of each item in order, under a progress bar; `workers` 0: in this process.

    `work` is handed to each process once, so it may be large. What it raises ends all work.
    UserError for a process that was killed.
    """
    progress = partial(tqdm, total=len(items), desc=title, unit="image", disable=None)
    if workers == 0 or len(items) < 2:
        yield from progress(map(work, items))
        return
    pool = ProcessPoolExecutor(workers, initializer=_set_up, initargs=(work,))
    try:
        yield from progress(pool.map(_call, items, chunksize=8))
    except KeyboardInterrupt:
        print(f"\n{title}: interrupted", file=sys.stderr)
        raise
    except BrokenProcessPool:
        raise UserError(
            f"{title}: a process was killed, for want of memory perhaps; try WORKERS 0"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _set_up(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)
    # Only the main process answers Ctrl-C. The workers end with it, also when it is killed: they
    # would keep the locks that it holds.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _call(item: Any) -> Any:
    return _work(item)
