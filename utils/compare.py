"""Compare runs: one table of all domains, and a picture of the same scenes under each method.

    python -m utils.compare logs/demo_* [--out FILE.md] [--picture FILE.png]

Runs that differ in their seed alone are one row, mean ± standard deviation. A run is an experiment
folder (its results.json is read; the picture needs its last.pth as well).
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.label_spaces import coarsening
from transforms import denormalise
from utils.checkpoint import build_method, load_checkpoint, resolve
from utils.errors import UserError, run_script
from utils.evaluation import open_domain
from utils.pictures import colourise, sheet

# Settings in which two runs may differ and still be repetitions of one another: where things are,
# how often something is written, what is judged.
NUISANCE = re.compile(
    r"SEED|EXPERIMENT|DEVICE|WORKERS|LOG\..*|VALID\..*|DATASET\.(ROOT|VALIDATION|.*_DIR)"
)


def main() -> None:
    """Read the runs, print and write the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="experiment folders")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--picture", type=Path, help="draw predictions of one run per row")
    options = parser.parse_args()
    groups = group_runs(options.runs)
    text = markdown(groups)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")
    if options.picture:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        draw(groups, options.picture)


def group_runs(folders: list[Path]) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Read results.json of each folder; return {row name: [(folder, results), …]}.

    A row is named after its method and, where rows share one, the settings that tell them apart.
    """
    by_settings: dict[str, list] = defaultdict(list)
    for folder in folders:
        path = folder / "results.json"
        if not path.is_file():
            raise UserError(f"no {path}: {folder} is no finished run")
        results = json.loads(path.read_text())
        key = {k: v for k, v in results["settings"].items() if not NUISANCE.fullmatch(k)}
        by_settings[json.dumps(key, sort_keys=True)].append((folder, results))
    settings = [json.loads(key) for key in by_settings]
    groups = {}
    for own, runs in zip(settings, by_settings.values(), strict=True):
        rivals = [other for other in settings if other["METHOD"] == own["METHOD"]]
        differing = [k for k in own if any(other.get(k) != own[k] for other in rivals)]
        name = ", ".join([own["METHOD"], *(f"{k} {own[k]}" for k in differing)])
        groups[name] = runs
    return groups


def markdown(groups: dict[str, list[tuple[Path, dict[str, Any]]]]) -> str:
    """Return the table: a row per group, mIoU in percent per domain and over unseen ones.

    The mean is over the domains that every run was judged on and none was trained on.
    """
    results = [run for runs in groups.values() for _, run in runs]
    titles = {d: result["title"] for run in results for d, result in run["domains"].items()}
    unseen = [d for d in titles if all(d in run["unseen"] for run in results)]
    seen = [d for d in titles if all(d not in run["unseen"] for run in results)]
    header = [title + (" (source)" if d in seen else "") for d, title in titles.items()]
    header = ["mIoU, %", *header, "mean of unseen", "seeds"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, runs in groups.items():
        scores = {
            d: [r["domains"][d]["means"]["mIoU"] for _, r in runs if d in r["domains"]]
            for d in titles
        }
        cells = [spread(values) for values in scores.values()]
        by_run = list(zip(*(scores[d] for d in unseen), strict=True))
        means = [sum(row) / len(row) for row in by_run if None not in row]
        lines.append("| " + " | ".join([name, *cells, spread(means), str(len(runs))]) + " |")
    return "\n".join(lines)


def spread(values: list[float | None]) -> str:
    """Show fractions in percent as mean ± sample standard deviation; a dash if there are none."""
    percents = 100 * np.array([value for value in values if value is not None])
    if not len(percents):
        return "-"
    deviation = f" ± {percents.std(ddof=1):.1f}" if len(percents) > 1 else ""
    return f"{percents.mean():.1f}{deviation}"


@torch.no_grad()
def draw(groups: dict[str, list[tuple[Path, dict[str, Any]]]], path: Path) -> None:
    """Draw image, label and each group's prediction (its first run) for each domain."""
    columns: dict[str, list[torch.Tensor]] = {}
    titles = {d: r["title"] for d, r in next(iter(groups.values()))[0][1]["domains"].items()}
    for runs in groups.values():
        state = load_checkpoint(runs[0][0] / "last.pth")
        cfg = resolve(state["settings"])
        method, space = build_method(cfg, state)
        method.eval()
        for domain in titles:
            dataset = open_domain(domain, cfg, space)
            sample = dataset[len(dataset) // 2]
            judged = dataset.label_space
            if domain not in columns:
                label = colourise(sample["label"], judged)
                columns[domain] = [denormalise(sample["image"]), label]
            prediction = method(sample["image"][None])[0].argmax(0)
            to_judged = torch.from_numpy(coarsening(space, judged))
            columns[domain].append(colourise(to_judged[prediction], judged))
    rows = [(titles[domain], pictures) for domain, pictures in columns.items()]
    page = sheet(rows, ["image", "label", *groups], cell=(320, 170))
    page.save(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    run_script(main)
