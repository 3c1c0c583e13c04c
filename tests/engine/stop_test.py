"""Stop training runs in mid-flight, one after another, and look at what is left of each.

    python -m tests.engine.stop_test [--rounds 20]

Each round stops a run with two data loading processes, and one of two training processes, by a
signal to all of their processes at a random moment: in a step, a checkpoint, a validation.
"""

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path

from datasets.miniature.write import write_domains
from tests.engine.processes import Training, load, wait_for


def main() -> None:
    """Run the rounds and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_domains(data, ("GTAV",), seed=0, workers=2, train=6, val=3)
        for number in range(options.rounds):
            for world_size, workers in ((1, 2), (2, 1)):
                kind = signal.SIGTERM if number % 2 == 0 else signal.SIGUSR1
                out = Path(folder) / f"round_{number}_{world_size}"
                out.mkdir()
                step, seconds = stop_once(
                    out, data, kind, moments.uniform(0, 1.0), world_size, workers
                )
                print(
                    f"round {number + 1}: {world_size} processes, {workers} workers each, "
                    f"{kind.name}: saved at step {step}, exit code 75 after {seconds:.2f} s, "
                    "nothing left behind",
                    flush=True,
                )


def stop_once(
    folder: Path, data: Path, kind: signal.Signals, delay: float, world_size: int, workers: int
) -> tuple[int, float]:
    """Start a run, stop it `delay` seconds after its first checkpoint, and check what is left.

    Returns the step that was saved and how long the end took. AssertionError for another exit code,
    for a process that hangs or is left behind, and for a checkpoint that is not whole.
    """
    options = ["--method", "baseline", "--exp", "stopped", "TRAIN.MAX_ITER", 100000]
    options += ["LOG.CHECKPOINT_EVERY", 3, "VALID.EVERY", 5, "WORKERS", workers]
    training = Training(folder, data, *options, world_size=world_size)
    wait_for(folder / "logs/stopped/last.pth", training)
    time.sleep(delay)
    begin = time.monotonic()
    training.signal(kind)
    codes = training.wait()
    assert codes == [75] * world_size, (codes, training.output())
    assert "Traceback" not in training.output(), training.output()
    state = load(folder / "logs/stopped/last.pth")
    assert state["samples"] == 4 * state["step"] > 0
    assert not list((folder / "logs/stopped").glob("*.part"))
    return state["step"], time.monotonic() - begin


if __name__ == "__main__":
    main()
