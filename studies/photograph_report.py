"""What the study of real photographs leaves for a reader: tables, charts, and predictions.

The datasets are not ours to pass on: of a scene the report has neither the photograph nor the
label map, but predictions, and where they differ which of them is right.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import markdown
from studies.rows import spread
from utils.compare.networks import Network, open_network
from utils.compare.runs import read_results
from utils.draw.charts import dot_chart, line_chart
from utils.draw.pictures import colourise, sheet
from utils.draw.plotting import svg
from utils.labels import VOID
from utils.report.gallery import difference

Row = dict[str, Any]
SCORES = ("validation", "seen", "unseen")


def by_budget(rows: list[Row]) -> dict[tuple[str, int, str], dict[str, list[Row]]]:
    """Sort rows into {(direction, steps, precision): {variant: rows}}."""
    budgets: dict[tuple, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        budgets[row["direction"], row["steps"], row["precision"]][row["variant"]].append(row)
    return dict(sorted(budgets.items()))


def tables(rows: list[Row], variants: list[str], domains: dict[str, tuple]) -> str:
    """Return a Markdown table for each direction and budget: mean ± deviation over seeds, and the
    gain in the unseen domain over the baseline of the same seeds."""
    texts = []
    for (direction, steps, precision), own in by_budget(rows).items():
        # A domain that is validated on and then judged has one column.
        columns = dict(zip(domains[direction], SCORES, strict=True))
        titles = [f"{score} ({domain})" for domain, score in columns.items()]
        header = ["mIoU, %", *titles, "unseen, over the baseline", "seeds"]
        baseline = {row["seed"]: row["unseen"] for row in own.get("baseline", [])}
        body = []
        for variant in filter(own.__contains__, variants):
            runs = own[variant]
            gains = [r["unseen"] - baseline[r["seed"]] for r in runs if r["seed"] in baseline]
            gain = "" if variant == "baseline" or not gains else signed(gains)
            scores = [spread([row[score] for row in runs]) for score in columns.values()]
            body.append([variant, *scores, gain, str(len(runs))])
        texts.append(f"{direction}, {steps} steps, {precision}\n\n" + markdown(header, body))
    return "\n\n".join(texts)


def class_tables(rows: list[Row], variants: list[str], domains: dict[str, tuple]) -> str:
    """Return Markdown tables of the IoU of each class that is defined in all runs of a budget (it
    is not where a class is neither labelled nor predicted), mean over seeds."""
    texts = []
    for (direction, steps, precision), own in by_budget(rows).items():
        for score, domain in list(zip(SCORES, domains[direction], strict=True))[1:]:
            ious = [row[f"iou_{score}"] for runs in own.values() for row in runs]
            present = [name for name in ious[0] if all(iou[name] is not None for iou in ious)]
            body = []
            for variant in filter(own.__contains__, variants):
                values = [[row[f"iou_{score}"][name] for name in present] for row in own[variant]]
                means = 100 * np.array(values).mean(0)
                body.append([variant, *(f"{mean:.1f}" for mean in means)])
            title = f"{direction}, {steps} steps, {precision}: {score} ({domain})"
            texts.append(f"{title}\n\n" + markdown(["IoU, %", *present], body))
    return "\n\n".join(texts)


def signed(gains: list[float]) -> str:
    """Show differences as mean ± deviation with their sign."""
    text = spread(gains)
    return text if text.startswith("-") else f"+{text}"


def charts(rows: list[Row], variants: list[str], curves: list[str]) -> dict[str, str]:
    """Return {file name: SVG}: of each direction and budget the scores of all variants, the curves
    of some, and the losses of SRHA."""
    drawn = {}
    for (direction, steps, precision), own in by_budget(rows).items():
        name = f"{direction}_{steps}_{precision}"
        title = f"{direction}, {steps} steps, {precision}"
        known = [variant for variant in variants if variant in own]
        dots = {
            variant: {s: [100 * row[s] for row in own[variant]] for s in ("unseen", "seen")}
            for variant in known
        }
        drawn[f"{name}_scores.svg"] = svg(dot_chart(title, "mIoU, %", dots))
        for score in ("unseen", "seen"):
            lines = {v: curve(own[v], "curves", score, 100) for v in curves if v in own}
            if not lines:
                continue
            text = f"{title}: {score} (a part of the images; at the end all)"
            drawn[f"{name}_{score}.svg"] = svg(line_chart(text, "step", "mIoU, %", lines))
        if "SRHA" in own:
            terms = [key for key in own["SRHA"][0]["losses"][0] if key.startswith("loss/")]
            lines = {
                term.removeprefix("loss/"): curve(own["SRHA"], "losses", term)
                for term in terms
                if term != "loss/total"
            }
            text = f"{title}: weighted losses of SRHA"
            drawn[f"{name}_losses.svg"] = svg(line_chart(text, "step", "loss", lines))
    return drawn


def curve(rows: list[Row], record: str, key: str, factor: float = 1) -> dict[int, list[float]]:
    """Return a curve of several runs: at each step their values."""
    values = defaultdict(list)
    for row in rows:
        for entry in row[record]:
            values[entry["step"]].append(factor * entry[key])
    return dict(sorted(values.items()))


def predictions(
    folders: dict[str, Path], domain: str, scenes: int, path: Path
) -> list[list[float]]:
    """Draw what two runs, {name: folder}, predict in scenes of a domain at equal distances, and
    which of them is right: blue the first, orange the second, black neither.

    Returns the share of labelled pixels that each has right, for each scene.
    """
    networks = {name: network_of(folder) for name, folder in folders.items()}
    dataset = next(iter(networks.values())).open(domain)
    space = dataset.label_space
    rows, shares = [], []
    for number in range(scenes):
        index = (2 * number + 1) * len(dataset) // (2 * scenes)
        sample = dataset[index]
        label = sample["label"]
        both = [network.predict(sample, space) for network in networks.values()]
        shares.append([float((own == label)[label != VOID].float().mean()) for own in both])
        blank = torch.full((3, *label.shape), 255, dtype=torch.uint8)
        pictures = [colourise(own, space) for own in both]
        name = f"scene {index}\n" + "\n".join(f"{100 * share:.0f} %" for share in shares[-1])
        rows.append((name, [*pictures, difference(blank, label, *both)]))
    titles = [*networks, "which is right"]
    path.parent.mkdir(parents=True, exist_ok=True)
    # A few colours and the steps between them: a palette holds them in a third of the bytes.
    sheet(rows, titles, cell=(320, 240)).quantize(128).save(path, optimize=True)
    return shares


def network_of(folder: Path) -> Network:
    """Open the network of a run's folder."""
    file = folder / "results.json"
    return open_network(file, read_results(file))
