"""What the finished runs of a study say: rows, tables, and charts of what was swept and learnt."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from network.build import declared
from studies.costs import NOTES, cost_columns
from studies.study_file import Condition, Study, run_name, shown
from utils.compare.paper_table import (
    Groups,
    ResultTable,
    class_table,
    domain_table,
    domain_titles,
    latex,
    markdown,
)
from utils.compare.runs import plain_name, read_results, refuse_incomparable
from utils.draw.charts import MIOU, dot_chart, line_chart
from utils.draw.plotting import can_draw, save_figure
from utils.engine.log import read_records
from utils.engine.saving import write_atomically
from utils.evaluate.results import of_one_space, seen_as
from utils.report import page as html
from utils.settings import walk

UNSEEN, BASELINE = "mean of unseen", "baseline"
Lines = dict[str, dict[Any, list[float]]]  # {line or row: {place on it: a value of each run}}


class FinishedRun(NamedTuple):
    """A run of a condition: `file` is its results.json, `results` that file's content."""

    condition: Condition
    seed: int
    file: Path
    results: dict[str, Any]

    def classes(self) -> str:
        """Name the classes that it was evaluated in."""
        return ", ".join(sorted({r["label_space"] for r in self.results["domains"].values()}))

    def scores(self, unseen: bool) -> dict[str, float]:
        """Return {title: mIoU in %} of the unseen domains and their mean, or of the others."""
        titles = domain_titles([self.results])
        scores = {UNSEEN: self.results["mean_unseen"]} if unseen else {}
        for domain, result in self.results["domains"].items():
            if (domain in self.results["unseen"]) == unseen:
                scores[titles[domain]] = result["means"]["mIoU"]
        return {name: 100 * score for name, score in scores.items() if score is not None}

    def among(self, seen: set[str], mean_over: Sequence[str]) -> "FinishedRun":
        """Return it with the mean over its unseen domains without those that others have seen: of
        one label space, or those that `mean_over` names."""
        own = [d for d in self.results["unseen"] if d not in seen]
        if own == self.results["unseen"] and not mean_over:
            return self
        kept = {d: self.results["domains"][d] for d in own}
        space = self.results["settings"].get("DATASET.LABEL_SPACE", "")
        compared = [d for d in kept if d in mean_over] if mean_over else of_one_space(kept, space)
        scores = [kept[d]["means"]["mIoU"] for d in compared]
        known = [score for score in scores if score is not None]
        mean = sum(known) / len(known) if known else None
        return self._replace(results=self.results | {"mean_unseen": mean})


def write_results(study: Study, seeds: list[int], runs: Path, out: Path) -> None:
    """Write rows.csv, charts, and the tables as table.md, classes.md, table.tex and table.html, of
    the finished runs below `runs`; nothing without any.

    Rows whose numbers cannot be compared (other classes) are in tables of their own.
    """
    finished = [
        FinishedRun(condition, seed, file, read_results(file))
        for condition in study.conditions
        for seed in seeds
        if (file := runs / run_name(condition.settings, seed) / "results.json").is_file()
    ]
    if not finished:
        return
    # Where some learn a domain without its labels, means are over the others for all.
    seen = {d for run in finished for d in run.results["domains"] if d not in run.results["unseen"]}
    finished = [run.among(seen, study.mean) for run in finished]
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "rows.csv", csv_rows(study, finished))
    several = len({run.classes() for run in finished}) > 1
    tables: dict[str, list[FinishedRun]] = {}
    for run in finished:
        places = [run.condition.point[axis] for axis in study.tables]
        tables.setdefault(", ".join([*places, *[run.classes()] * several]), []).append(run)
    page, classes, fragments = [f"# {study.title}", study.about], [f"# {study.title}: classes"], []
    sections: dict[str, str] = {}
    for number, (heading, members) in enumerate(tables.items(), start=1):
        table, by_class = study_tables(study, members)
        page += [f"## {heading}"] if heading else []
        page.append(markdown(table))
        classes += [markdown(own) for own in by_class.values()]
        fragments.append("\n".join([*[f"% {heading}"] * bool(heading), latex(table)]))
        charts = study_charts(study, members) if can_draw("charts") else {}
        for name, figure in charts.items():
            file = f"{name}{number if len(tables) > 1 else ''}.svg"
            save_figure(figure, out / file)
            page.append(f"![{study.title}]({file})")
        folded = (html.folded(title, html.shaded_table(own)) for title, own in by_class.items())
        body = html.results_table(table) + html.charts_html(charts) + "".join(folded)
        sections[heading or "Results"] = body
    made = made_by(finished, seeds)
    page += [made, "[IoU of each class](classes.md)"]
    _write(out / "classes.md", "\n\n".join(classes) + "\n")
    _write(out / "table.md", "\n\n".join(filter(None, page)) + "\n")
    _write(out / "table.tex", "\n\n".join([f"% {made}", *fragments]) + "\n")
    _write(out / "table.html", html.page(study.title, f"{study.about} {made}".strip(), sections))


def study_tables(
    study: Study, members: list[FinishedRun]
) -> tuple[ResultTable, dict[str, ResultTable]]:
    """Return the table of runs by domain, and {title: table by class} of each domain that all were
    evaluated on. UserError for runs that cannot be compared."""
    refuse_incomparable([(run.file, run.results) for run in members])
    groups = groups_of(members)
    baseline = BASELINE if BASELINE in groups else None
    table = domain_table(groups, baseline=baseline, mean_over=study.mean)
    if study.costs:
        columns, notes = cost_columns(groups), [*table.notes, *NOTES]
        table = table._replace(columns=[*table.columns, *columns], notes=notes)
    by_class = {
        title: class_table(groups, domain, baseline=baseline)
        for domain, title in domain_titles([run.results for run in members]).items()
        if all(domain in run.results["domains"] for run in members)
    }
    return table, by_class


def made_by(finished: list[FinishedRun], seeds: list[int]) -> str:
    """Say of which steps, seeds, code and version of torch runs are."""
    steps = ", ".join(map(str, sorted({run.results["step"] for run in finished})))
    said = [f"Steps: {steps}; seeds: {', '.join(map(str, seeds))}"]
    versions = [run.results.get("versions", {}) for run in finished]
    for name in ("code", "torch"):
        found = sorted({own[name] for own in versions if name in own})
        said += [f"{name}: {', '.join(found)}"] * bool(found)
    return "; ".join(said) + "."


def csv_rows(study: Study, finished: list[FinishedRun]) -> str:
    """Return a line of CSV for each run: condition, seed, experiment, code and mIoU by domain."""
    domains = list(dict.fromkeys(d for run in finished for d in run.results["domains"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    about = ["variant", *study.axes, "seed", "run", "code", "step", "classes"]
    writer.writerow([*about, *domains, UNSEEN])
    for run in finished:
        evaluated, point = run.results["domains"], run.condition.point
        scores = [evaluated[d]["means"]["mIoU"] if d in evaluated else None for d in domains]
        about = [run.condition.variant, *map(shown, point.values()), run.seed]
        code = run.results.get("versions", {}).get("code", "")
        about += [run.file.parent.name, code, run.results["step"], run.classes()]
        writer.writerow([*about, *scores, run.results["mean_unseen"]])
    return out.getvalue()


def groups_of(finished: list[FinishedRun]) -> Groups:
    """Return the rows of a table: conditions with their runs."""
    axes, groups = varying(finished), {}
    for run in finished:
        name = run.condition.named(axes) or "as the recipe"
        groups.setdefault(name, []).append((run.file, run.results))
    return groups


def varying(finished: list[FinishedRun]) -> list[str]:
    """Return the axes of the grid on which the runs have more than one value."""
    points = [run.condition.point for run in finished]
    return [axis for axis in points[0] if any(p[axis] != points[0][axis] for p in points)]


def study_charts(study: Study, finished: list[FinishedRun]) -> dict[str, Any]:
    """Return {name: figure}: curves over each swept number, or dots if what differs is no number;
    and the learning curves of runs that were evaluated while training."""
    drawn, axes = {}, varying(finished)
    for axis in axes:
        if all(type(run.condition.point[axis]) in (int, float) for run in finished):
            drawn[axis.lower().replace(".", "_")] = _swept(study, finished, axis)
    rows: Lines = {}
    for run in finished:
        titles = domain_titles([run.results])
        marks = {titles[d]: seen_as(d, run.results) for d in run.results["domains"]}
        scores = {f"{t} ({marks[t]})": score for t, score in run.scores(unseen=False).items()}
        if UNSEEN in run.scores(unseen=True):
            scores = {UNSEEN: run.scores(unseen=True)[UNSEEN]} | scores
        _add(rows, run.condition.named(axes), scores)
    if not drawn and len(rows) > 1:
        drawn["variants"] = dot_chart(study.title, MIOU, rows)
    for unseen, domains in ((True, "unseen"), (False, "source")):
        lines = _learnt(study, finished, unseen)
        if any(len(line) > 1 for line in lines.values()):
            title = f"{study.title}: mean of {domains} domains over training"
            drawn[f"learning_{domains}"] = line_chart(title, "training step", MIOU, lines)
    return drawn


def _swept(study: Study, finished: list[FinishedRun], axis: str) -> Any:
    """Draw the mean of unseen domains over a number, a line for each combination of what else
    differs; each domain too where there is one combination."""
    others = [other for other in varying(finished) if other != axis]
    several = len({run.condition.named(others) for run in finished}) > 1
    lines: Lines = {}
    for run in finished:
        for domain, score in run.scores(unseen=True).items():
            if domain == UNSEEN or not several:
                name = run.condition.named(others) if several else domain
                _add(lines, name, {float(run.condition.point[axis]): score})
    values = [run.condition.point[axis] for run in finished]
    logarithmic = min(values) > 0 and max(values) >= 16 * min(values)
    y_label = f"{MIOU}, {UNSEEN}" if several else MIOU
    meaning = dict(walk(declared(finished[0].results["settings"])[0]))[axis].meaning
    x_label = f"{meaning.partition(';')[0]} ({axis})"
    return line_chart(study.title, x_label, y_label, lines, UNSEEN, logarithmic)


def _learnt(study: Study, finished: list[FinishedRun], unseen: bool) -> Lines:
    """Return {row: {step: mIoU in % of each run}}, the mean over unseen domains or over sources."""
    lines: Lines = {}
    for run in finished:
        name, log = run.condition.named(varying(finished)), run.file.with_name("metrics.jsonl")
        if not log.is_file() or (study.curves and name not in study.curves):
            continue
        for record in read_records(log):
            evaluated = {plain_name(k[5:]): v for k, v in record.items() if k.startswith("mIoU/")}
            asked = [d for d in evaluated if (d in run.results["unseen"]) == unseen]
            results = {d: run.results["domains"][d] for d in asked if d in run.results["domains"]}
            space = run.results["settings"].get("DATASET.LABEL_SPACE", "")
            compared = of_one_space(results, space)
            if unseen and study.mean:
                compared = [d for d in results if d in study.mean]
            own = [evaluated[d] for d in compared]
            if own and None not in own:
                _add(lines, name, {record["step"]: 100 * sum(own) / len(own)})
    return lines


def _add(lines: Lines, name: str, scores: dict[Any, float]) -> None:
    for place, score in scores.items():
        lines.setdefault(name, {}).setdefault(place, []).append(score)


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode(), "The runs are kept")
