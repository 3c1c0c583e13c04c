"""Kill a training run again and again, start it again each time, and compare the end.

    python -m tests.engine.kill_test [--kills 100] [--workers 1] [--rivals]

The run writes a checkpoint in every step and is killed (SIGKILL) at random moments, every third
time while it writes one. Each next start continues with `--resume auto`. With `--rivals` the same
command is started a second time before two of three kills, and has to be refused. In the end
checkpoint and records must be those of a run that was left alone.
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from datasets.miniature.write import write_domains
from tests.engine.processes import PATIENCE, Training, load, records, same


def main() -> None:
    """Draw a data set, run the test, print what the kills met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="data loading processes")
    parser.add_argument("--method", default="baseline")
    parser.add_argument("--rivals", action="store_true", help="start each run twice")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_domains(data, ("GTAV",), seed=0, workers=2, train=6, val=3)
        met = kill_and_compare(
            Path(folder),
            data,
            options.kills,
            options.seed,
            options.method,
            options.workers,
            options.rivals,
        )
    print(
        f"{options.kills} kills in {time.monotonic() - begin:.0f} s, {met['a rival']} of them "
        f"after a rival was refused: {met['in a checkpoint']} "
        f"while a checkpoint was written, {met['before a step']} before a start had made its first "
        "step; the end equals that of a run that was left alone"
    )


def kill_and_compare(
    folder: Path,
    data: Path,
    kills: int,
    seed: int,
    method: str = "baseline",
    workers: int = 0,
    rivals: bool = False,
) -> Counter:
    """Run the test in `folder`; return how many kills met what, or raise AssertionError."""
    moments = random.Random(seed)
    steps = 8 * kills
    options = ["--method", method, "TRAIN.MAX_ITER", steps, "LOG.EVERY", 7, "VALID.EVERY", 11]
    options += ["LOG.CHECKPOINT_EVERY", 1, "WORKERS", workers]
    whole, killed = folder / "logs/whole", folder / "logs/killed"
    alone = Training(folder, data, *options, "--exp", "whole")
    assert alone.wait(PATIENCE + steps) == [0], alone.output()
    met: Counter = Counter()
    for number in range(kills):
        training = Training(folder, data, *options, "--exp", "killed", "--resume", "auto")
        rival = rivals and number % 3 > 0
        # A run that has written a checkpoint holds its folder.
        written = wait_for_a_moment(training, killed, moments, number % 3 == 0, int(rival))
        if rival:
            # It sleeps meanwhile: else it would come to its end before the rival is refused.
            training.signal(signal.SIGSTOP)
            second = Training(folder, data, *options, "--exp", "killed", "--resume", "auto")
            assert second.wait() == [2] and "is being written to by" in second.output()
            met["a rival"] += 1
            training.signal(signal.SIGCONT)
        assert training.processes[0].is_alive(), f"it ended by itself:\n{training.output()}"
        training.signal(signal.SIGKILL)
        training.processes[0].join()
        met["in a checkpoint"] += (killed / "last.pth.part").exists()
        met["before a step"] += written == 0
    last = Training(folder, data, *options, "--exp", "killed", "--resume", "auto")
    assert last.wait(PATIENCE + steps) == [0], last.output()
    for name in ("last.pth", "best.pth"):
        states = [load(run / name, "settings", "log_position") for run in (whole, killed)]
        assert same(*states), name
    assert records(whole) == records(killed)
    return met


def wait_for_a_moment(
    training: Training, folder: Path, moments: random.Random, in_checkpoint: bool, least: int
) -> int:
    """Wait for `least` to four new checkpoints and some time more, or until one is being written.

    Returns how many there were.
    """
    last, part = folder / "last.pth", folder / "last.pth.part"
    # What the kill before has left of a checkpoint is not one that is being written now.
    part.unlink(missing_ok=True)
    aim, written, before = moments.randint(least, 4), 0, _changed(last)
    end = time.monotonic() + moments.uniform(0, 0.5) if aim == 0 else float("inf")
    while training.processes[0].is_alive() and time.monotonic() < end:
        if (now := _changed(last)) != before:
            written, before = written + 1, now
        if in_checkpoint and written >= aim and part.exists():
            break
        if not in_checkpoint and written == aim and end == float("inf"):
            end = time.monotonic() + moments.uniform(0, 0.1)
        time.sleep(0.0005)
    return written


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


if __name__ == "__main__":
    main()
