"""Results of a checkpoint on its domains: a table and pictures to read, JSON and CSV to keep."""

import csv
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from easydict import EasyDict

from datasets import UNLABELLED, is_seen, parse_domain
from utils.draw.confusion import confusion_picture
from utils.draw.plotting import can_draw, save_figure
from utils.engine.saving import write_atomically
from utils.evaluate.evaluation import describe_protocol
from utils.revision import revision
from utils.settings import flatten


def gather(domains: dict[str, dict[str, Any]], cfg: EasyDict, step: int) -> dict[str, Any]:
    """Join per-domain results (`evaluate`) with what they depend on, as plain values.

    `mean_unseen` is the mean mIoU of the domains that were not trained on, in whole or in part,
    with labels or without, and that `of_one_space` leaves.
    """
    trained = [*cfg.DATASET.SOURCE, *_unlabelled(flatten(cfg))]
    unseen = [d for d in domains if not is_seen(d, trained)]
    compared = of_one_space({d: domains[d] for d in unseen}, cfg.DATASET.LABEL_SPACE)
    scores = [domains[d]["means"]["mIoU"] for d in compared]
    scores = [score for score in scores if score is not None]
    return {
        "experiment": cfg.EXPERIMENT,
        "method": cfg.METHOD,
        "step": step,
        "protocol": describe_protocol(cfg),
        "unseen": unseen,
        "mean_unseen": float(np.mean(scores)) if scores else None,
        "domains": domains,
        "settings": flatten(cfg),
        "versions": {
            "code": revision(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    }


def seen_as(domain: str, results: Mapping[str, Any]) -> str:
    """Return what a run was trained on a domain as: "source", "target" (without labels), or "" for
    an unseen one."""
    if domain in results["unseen"]:
        return ""
    settings = results["settings"]
    source = is_seen(domain, settings.get("DATASET.SOURCE", []))
    target = is_seen(domain, _unlabelled(settings))
    return "target" if target and not source else "source"


def _unlabelled(settings: Mapping[str, Any]) -> list[str]:
    """Return the datasets whose images were trained on without labels."""
    named = [settings.get(f"DATASET.{key}") for key in UNLABELLED]
    return [parse_domain(domain)[0] for domain in named if domain]


def of_one_space(domains: dict[str, dict[str, Any]], own: str) -> list[str]:
    """Return the domains whose mIoUs have a mean, since means over different classes do not mix.

    Those evaluated in `own`, the network's label space; if none is, all if they share a space, else
    none.
    """
    chosen = [d for d, result in domains.items() if result["label_space"] == own]
    shared = len({result["label_space"] for result in domains.values()}) == 1
    return chosen or (list(domains) if shared else [])


def domain_scalars(domains: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Return what a validation logs: means and IoU per class by domain; absent classes are None."""
    scalars = {
        f"{name}/{domain}": mean
        for domain, result in domains.items()
        for name, mean in result["means"].items()
    }
    return scalars | {
        f"IoU_{domain}/{label}": value
        for domain, result in domains.items()
        for label, value in result["iou"].items()
    }


def percent(value: float | None, digits: int = 2) -> str:
    """Show a fraction in percent; a dash where it is undefined."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def results_text(results: dict[str, Any]) -> str:
    """Return the results as text: a row per domain, then IoU per class for each label space."""
    domains = results["domains"]
    extra = sorted({name for d in domains.values() for name in d["means"]} - {"mIoU"})
    header = ["domain", "images", "mIoU", *extra, "pixel acc", "fw IoU"]
    rows = []
    for name, result in domains.items():
        seen = seen_as(name, results)
        mark = f" ({seen})" if seen else ""
        means = [percent(result["means"].get(m)) for m in ["mIoU", *extra]]
        scores = [percent(result["pixel_accuracy"]), percent(result["fw_iou"])]
        rows.append([name + mark, str(result["images"]), *means, *scores])
    if len(results["unseen"]) > 1:
        mean = percent(results["mean_unseen"])
        rows.append(["mean of unseen", "", mean] + [""] * (len(header) - 3))
    text = text_columns([header, *rows])
    for space in dict.fromkeys(d["label_space"] for d in domains.values()):
        evaluated = {n: d for n, d in domains.items() if d["label_space"] == space}
        classes = next(iter(evaluated.values()))["iou"]
        body = [[c, *(percent(d["iou"][c]) for d in evaluated.values())] for c in classes]
        text += "\n\n" + text_columns([[f"IoU ({space})", *evaluated], *body])
    return text + f"\n\nprotocol {results['protocol']}; - = class absent"


def text_columns(rows: list[list[str]]) -> str:
    """Lay out rows of text in columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def write(results: dict[str, Any], folder: Path) -> None:
    """Write `results.txt` (the table), `results.csv` (long form) and, where matplotlib is, for each
    domain a picture of its confusion matrix, `confusion_NAME.png`.

    `results.json` holds everything and comes last, at one stroke: where it is, a run is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.txt").write_text(results_text(results) + "\n")
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "measure", "class", "value"])
        for domain, result in results["domains"].items():
            for name, value in result["means"].items():
                writer.writerow([domain, name, "", value])
            for name in ("pixel_accuracy", "fw_iou"):
                writer.writerow([domain, name, "", result[name]])
            for name in ("iou", "precision", "recall"):
                for label, value in result[name].items():
                    writer.writerow([domain, name, label, value])
    drawn = results["domains"] if can_draw("pictures of the confusion matrices") else {}
    for domain, result in drawn.items():
        miou, accuracy = percent(result["means"]["mIoU"]), percent(result["pixel_accuracy"])
        title = f"{results['experiment'] or results['method']} on {result['title']}: "
        title += f"mIoU {miou} %, pixel accuracy {accuracy} %"
        figure = confusion_picture(np.array(result["confusion"]), result["iou"], title)
        save_figure(figure, folder / f"confusion_{domain.replace(':', '_')}.png")
    content = (json.dumps(results, indent=1) + "\n").encode()
    write_atomically(folder / "results.json", content, "The other files of the results are there")
