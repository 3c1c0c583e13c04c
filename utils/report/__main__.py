"""Write a report of runs: one HTML file that needs nothing else, to be read on any screen.

    python -m utils.report logs/demo/* --out report.html [--names NAME…]
        [--pair baseline srha] [--images 40] [--show 4] [--no-gallery] [DATASET.ROOT path]

Results by domain and class, settings that differ, learning curves, confusion matrices, and a
gallery of the images on which two of the rows disagree most. Runs are given, and become rows, as in
utils/compare; a gallery needs the checkpoints and the data, and is left out without them. Needs
matplotlib (requirements-extra.txt).
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageColor

from datasets.label_spaces import LabelSpace
from utils.compare.networks import GIVEN, PLACES
from utils.compare.paper_table import Groups, class_table, domain_table, domain_titles
from utils.compare.runs import NUISANCE, group_runs
from utils.draw.charts import MIOU, dot_chart, line_chart
from utils.draw.confusion import confusion_picture
from utils.draw.plotting import row_style
from utils.engine.folder import require_writable
from utils.engine.log import METRICS, read_records
from utils.engine.saving import write_atomically
from utils.errors import UserError, run_script, unknown_name
from utils.evaluate.metrics import measures
from utils.report import page as html
from utils.report.gallery import scenes
from utils.settings import split

MOST_POINTS = 200  # of a curve


def main() -> None:
    """Read the runs, make the sections, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=GIVEN)
    parser.add_argument("runs", nargs="+", type=Path, help="as in utils.compare")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--names", nargs="+", help="names of the rows, in order")
    parser.add_argument("--title", default="", help="default: the rows' names")
    parser.add_argument(
        "--pair", nargs=2, metavar="ROW", help="rows of the gallery, else the first"
    )
    parser.add_argument("--images", type=int, default=40, help="of a domain to compare; 0: all")
    parser.add_argument("--show", type=int, default=4, help="images of a domain in the gallery")
    parser.add_argument("--no-gallery", action="store_true")
    options, places = split(parser, allowed=PLACES)
    require_writable(options.out)
    groups = group_runs(options.runs, options.names)
    names = list(groups)
    pair = options.pair or names[:2]
    for name in pair:
        if name not in groups:
            raise unknown_name("row", name, names)
    if options.pair and pair[0] == pair[1]:
        raise UserError(f"--pair names {pair[0]} twice")
    if min(options.images, options.show) < 0:
        raise UserError("--images and --show are numbers of images, 0 or more")
    sections = {
        "Results": results(groups),
        "Settings that differ": html.settings_table(names, differing_settings(groups)),
        "Learning curves": learning_curves(groups),
        "Classes": classes(groups),
        "Confusion matrices": confusion_matrices(groups),
    }
    if not options.no_gallery and len(pair) == 2:
        show = partial(scenes, images=options.images, show=options.show, places=places)
        sections["Where they disagree"] = disagreements(groups, pair, show)
    title = options.title or " and ".join(names)
    steps = sorted({run["step"] for runs in groups.values() for _, run in runs})
    lead = f"{sum(map(len, groups.values()))} runs, step {', '.join(map(str, steps))}."
    content = html.page(title, lead, sections).encode()
    write_atomically(options.out, content, "Nothing else was changed")
    print(f"wrote {options.out} ({len(content) / 1e6:.1f} MB)")


def results(groups: Groups) -> str:
    """The table of mIoU by domain, and the same as a chart."""
    table = domain_table(groups)
    rows = {
        column.title: {
            name: list(cell.values.values())
            for name, cell in zip(groups, column.cells, strict=True)
        }
        for column in table.columns
    }
    title = "mIoU by domain"
    chart = dot_chart(title, MIOU, rows)
    return html.results_table(table) + html.charts_html({title: chart})


def differing_settings(groups: Groups) -> dict[str, list[str]]:
    """Return {setting: its value in each row} of those that differ and that matter to results."""
    settings = [runs[0][1]["settings"] for runs in groups.values()]
    keys = sorted({key for own in settings for key in own if not NUISANCE.fullmatch(key)})
    values = {key: [_shown(own.get(key)) for own in settings] for key in keys}
    return {key: own for key, own in values.items() if len(set(own)) > 1}


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def learning_curves(groups: Groups) -> str:
    """Loss and mIoU of each domain over training, mean over seeds; nothing of runs without logs."""
    logs = {name: [_metrics(file) for file, _ in runs] for name, runs in groups.items()}
    recorded = [entry for runs in logs.values() for run in runs for entry in run]
    if not recorded:
        return "<p>The runs have no metrics.jsonl beside their results.</p>"
    wanted = {"loss/ce": "cross entropy of the training batches"}
    wanted |= {f"mIoU/{d}": f"mIoU on {title}" for d, title in _titles(groups).items()}
    drawn = {}
    for key, title in wanted.items():
        factor = 1 if key.startswith("loss") else 100
        lines = {name: _curve(runs, key, factor) for name, runs in logs.items()}
        if any(len(line) > 1 for line in lines.values()):
            y_label = "cross entropy, nats" if factor == 1 else MIOU
            drawn[title] = line_chart(title, "training step", y_label, lines)
    limits = {
        run["settings"].get("VALID.MAX_IMAGES") for runs in groups.values() for _, run in runs
    }
    text = []
    if several_seeds(groups):
        text.append("Mean over seeds, with standard deviation.")
    if limits - {0, None}:
        text.append("All points but the last are of a part of the images (VALID.MAX_IMAGES).")
    return html.charts_html(drawn) + html.note([" ".join(text)])


def _metrics(results_file: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl of the experiment that results belong to."""
    for folder in (results_file.parent, results_file.parent.parent):
        if (folder / METRICS).is_file():
            return read_records(folder / METRICS)
    return []


def _curve(runs: list[list[dict[str, Any]]], key: str, factor: float) -> dict[int, list[float]]:
    """Return {step: values of the runs}, of at most about MOST_POINTS steps."""
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for entry in run:
            # A domain may be named with its default split.
            value = entry.get(key, entry.get(f"{key}:val"))
            if isinstance(value, (int, float)) and isinstance(entry["step"], int):
                by_step.setdefault(entry["step"], []).append(factor * value)
    steps = sorted(by_step)
    return {step: by_step[step] for step in steps[:: max(1, len(steps) // MOST_POINTS)]}


def classes(groups: Groups) -> str:
    """A table of each domain with a row for each class."""
    parts = [
        html.folded(title, html.shaded_table(class_table(groups, domain)), opened=number == 0)
        for number, (domain, title) in enumerate(shared_domains(groups).items())
    ]
    means = ["mean over seeds"] * several_seeds(groups)
    return html.note(["IoU in %", *means, "the best is bold"]) + "".join(parts)


def confusion_matrices(groups: Groups) -> str:
    """A picture of each row's matrix on each domain, summed over seeds."""
    parts = []
    for domain, title in shared_domains(groups).items():
        pictures = []
        for name, runs in groups.items():
            evaluated = [run["domains"][domain] for _, run in runs]
            try:
                counts = np.sum([np.array(result["confusion"]) for result in evaluated], axis=0)
            except (KeyError, ValueError):
                raise UserError(f"the confusion matrices of {name} on {title} are none") from None
            values = zip(evaluated[0]["iou"], measures(counts)["iou"], strict=True)
            iou = {label: None if np.isnan(value) else value for label, value in values}
            heading = f"{name} on {title}"
            pictures.append(html.matrix(heading, confusion_picture(counts, iou, heading)))
        parts.append(html.folded(title, "".join(pictures)))
    summed = ["summed over seeds"] * several_seeds(groups)
    return html.note(["Rows are ground truth", *summed]) + "".join(parts)


def disagreements(groups: Groups, pair: list[str], find: Callable) -> str:
    """The gallery of two rows, by their first runs; it says of which domains it cannot be made."""
    runs = {name: groups[name][0] for name in pair}
    # A row has the colour that it has in the charts.
    numbers = [list(groups).index(name) for name in pair]
    colours = {
        name: ImageColor.getrgb(row_style(n)[0]) for name, n in zip(pair, numbers, strict=True)
    }
    parts = [html.difference_key(colours)]
    space: LabelSpace | None = None
    for domain, title in shared_domains({name: groups[name] for name in pair}).items():
        try:
            found, own = find(domain, runs, list(colours.values()))
        except UserError as error:
            print(f"without images of {title}: {error}", file=sys.stderr)
            parts.append(f"<h3>{escape(title)}</h3>{html.note([f'no images: {error}'])}")
            continue
        key = html.class_key(own) if own != space else ""
        space = own
        parts.append(f"<h3>{escape(title)}</h3>{key}{html.gallery(found, colours)}")
    text = "Of each domain the images with the largest share of pixels that the two predict "
    text += f"differently, in order; {pair[0]} and {pair[1]} by one run each. Tap to enlarge."
    return html.note([text]) + "".join(parts)


def several_seeds(groups: Groups) -> bool:
    """Whether any row is of more than one run."""
    return any(len(runs) > 1 for runs in groups.values())


def shared_domains(groups: Groups) -> dict[str, str]:
    """Return {domain: title} of those that all runs were evaluated on."""
    evaluated = [run["domains"] for runs in groups.values() for _, run in runs]
    return {d: title for d, title in _titles(groups).items() if all(d in own for own in evaluated)}


def _titles(groups: Groups) -> dict[str, str]:
    return domain_titles([run for runs in groups.values() for _, run in runs])


if __name__ == "__main__":
    run_script(main)
