"""What the finished runs of a study say: rows, a table, and a chart of each swept setting."""

import csv
import io
from pathlib import Path
from typing import Any

from studies.study_file import Cell, Study, run_name, shown
from utils.compare.paper_table import Groups, domain_table, markdown
from utils.compare.runs import read_results, refuse_incomparable
from utils.draw.charts import dot_chart, line_chart
from utils.draw.plotting import svg
from utils.engine.saving import write_atomically

UNSEEN, BASELINE = "mean of unseen", "baseline"
Finished = list[tuple[Cell, int, Path, dict[str, Any]]]


def write_results(study: Study, seeds: list[int], runs: Path, out: Path) -> None:
    """Write rows.csv, table.md and charts of the finished runs below `runs`; nothing without
    any.

    Rows whose numbers cannot be compared (other classes) are in tables of their own.
    """
    finished: Finished = []
    for cell in study.cells:
        for seed in seeds:
            path = runs / run_name(cell.settings, seed) / "results.json"
            if path.is_file():
                finished.append((cell, seed, path, read_results(path)))
    if not finished:
        return
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "rows.csv", rows(study, finished))
    kinds: dict[str, Finished] = {}
    for own in finished:
        kinds.setdefault(_kind(own[3]), []).append(own)
    lines = [f"# {study.title}", "", study.about, ""]
    for number, (kind, members) in enumerate(kinds.items()):
        refuse_incomparable([(path, results) for _, _, path, results in members])
        if len(kinds) > 1:
            lines += [f"## {kind}", ""]
        groups = groups_of(members)
        baseline = BASELINE if BASELINE in groups else None
        table = domain_table(groups, baseline=baseline)
        lines += [markdown(table), ""]
        for name, chart in charts(study, members).items():
            file = f"{name}{number + 1 if len(kinds) > 1 else ''}.svg"
            _write(out / file, chart)
            lines += [f"![{study.title}]({file})", ""]
    steps = sorted({results["step"] for *_, results in finished})
    lines.append(f"Steps: {', '.join(map(str, steps))}; seeds: {', '.join(map(str, seeds))}.")
    _write(out / "table.md", "\n".join(lines) + "\n")


def rows(study: Study, finished: Finished) -> str:
    """Return a line of CSV for each finished run: cell, seed, experiment and mIoU by domain."""
    domains = list(dict.fromkeys(d for *_, results in finished for d in results["domains"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["variant", *study.grid, "seed", "run", "step", "classes", *domains, UNSEEN]
    writer.writerow(header)
    for cell, seed, path, results in finished:
        scores = [results["domains"].get(d, {}).get("means", {}).get("mIoU") for d in domains]
        point = [shown(cell.point[key]) for key in study.grid]
        run = [seed, path.parent.name, results["step"], _kind(results)]
        writer.writerow([cell.variant, *point, *run, *scores, results.get("mean_unseen")])
    return out.getvalue()


def groups_of(finished: Finished) -> Groups:
    """Return the rows of a table: cells with their runs."""
    groups: Groups = {}
    keys = varying(finished)
    for cell, _, path, results in finished:
        groups.setdefault(cell.named(keys) or "as the recipe", []).append((path, results))
    return groups


def varying(finished: Finished) -> list[str]:
    """Return the swept settings of which runs have more than one value."""
    points = [cell.point for cell, *_ in finished]
    return [key for key in points[0] if any(point[key] != points[0][key] for point in points)]


def charts(study: Study, finished: Finished) -> dict[str, str]:
    """Return {name: SVG}: curves over each swept number, or dots if what differs is no number."""
    drawn, keys = {}, varying(finished)
    for key in keys:
        values = [cell.point[key] for cell, *_ in finished]
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            drawn[key.lower().replace(".", "_")] = _swept(study, finished, key)
    if not drawn and len({cell.named(keys) for cell, *_ in finished}) > 1:
        drawn["variants"] = _variants(study, finished)
    return drawn


def _swept(study: Study, finished: Finished, key: str) -> str:
    """Draw the mean of unseen domains over a number, a line for each combination of what else
    differs; each domain too where there is one combination."""
    lines: dict[str, dict[float, list[float]]] = {}
    values = sorted({cell.point[key] for cell, *_ in finished})
    others = sorted({_apart(cell, key) for cell, *_ in finished})
    for value in values:
        for other in others:
            runs = [
                results
                for cell, *_, results in finished
                if cell.point[key] == value and _apart(cell, key) == other
            ]
            columns = {other or UNSEEN: [_mean(run) for run in runs]}
            if len(others) == 1:
                for domain in dict.fromkeys(d for run in runs for d in run["unseen"]):
                    own = [run["domains"][domain] for run in runs]
                    columns[own[0]["title"]] = [result["means"]["mIoU"] for result in own]
            for name, scores in columns.items():
                if scores:
                    points = lines.setdefault(name, {})
                    points[float(value)] = [100 * score for score in scores]
    logarithmic = values[0] > 0 and values[-1] >= 16 * values[0]
    y_label = "mIoU, %" if len(others) == 1 else f"mIoU, {UNSEEN} domains, %"
    return svg(line_chart(study.title, key, y_label, lines, UNSEEN, logarithmic))


def _variants(study: Study, finished: Finished) -> str:
    """Draw a row for each cell: the mean of unseen domains, and the source where it was judged."""
    table: dict[str, dict[str, list[float]]] = {}
    for cell, _, _, results in finished:
        row = table.setdefault(cell.named(varying(finished)), {})
        row.setdefault(UNSEEN, []).append(100 * _mean(results))
        for domain, result in results["domains"].items():
            if domain not in results["unseen"]:
                name = f"{result['title']} (source)"
                row.setdefault(name, []).append(100 * result["means"]["mIoU"])
    return svg(dot_chart(study.title, "mIoU, %", table))


def _apart(cell: Cell, key: str) -> str:
    """Name what else than a swept setting tells cells apart."""
    return cell.named([other for other in cell.point if other != key])


def _mean(results: dict[str, Any]) -> float:
    return results["mean_unseen"]


def _kind(results: dict[str, Any]) -> str:
    """Name the classes that a run was judged in."""
    return ", ".join(sorted({r["label_space"] for r in results["domains"].values()}))


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), "The runs are kept")
