"""What a step of each row of a study costs, on one machine: those of a table ran on several.

    OMP_NUM_THREADS=1 python -m studies.step_costs [--study studies/methods.json] [--rounds 5]
                                                   [--recipe studies/recipes/miniature.json]

Forward, backward and optimizer on noise, without loading, with what begins late in a training;
weights are random, and ISW, which waits for a survey, does not whiten. Rows take turns; medians, on
a CPU of its time.
"""

from pathlib import Path

import torch

from benchmarks.recipes import plan_of, step_of
from benchmarks.reporting import ON_GPU, flags, report, time_in_turns
from network.build import resolve
from studies.study_file import read_study
from utils.engine.allocator import keep_freed_memory
from utils.engine.runtime import Runtime
from utils.errors import run_script
from utils.recipes import read_recipe


def main() -> None:
    """Measure the rows and report; ratios are to the first."""
    files = {"study": "studies/methods.json", "recipe": "studies/recipes/miniature.json"}
    options = flags(__doc__, **files, rounds=5).parse_args()
    keep_freed_memory()
    study = read_study(Path(options.study), read_recipe(Path(options.recipe)), {})
    device, steps, images = torch.device("cuda" if ON_GPU else "cpu"), {}, {}
    for condition in study.conditions:
        cfg = resolve({"DATASET.LABEL_SPACE": "cityscapes19"} | condition.settings)
        torch.manual_seed(0)
        runtime = Runtime(device, 0, 1, cfg.PRECISION, cfg.CHANNELS_LAST)
        name = condition.named(study.axes)
        steps[name] = step_of(cfg, runtime)[0]
        images[name] = plan_of(cfg).images
    seconds = time_in_turns(steps, options.rounds)
    first = next(iter(seconds.values()))
    rows = [
        [name, f"{1000 * own:.0f}", f"{own / first:.2f}", f"{images[name] / own:.1f}"]
        for name, own in seconds.items()
    ]
    header = ["row", "ms", f"/ {next(iter(seconds))}", "images/s"]
    report(options, study.name, header, rows, {"study": study.name, "seconds": seconds})


if __name__ == "__main__":
    run_script(main)
