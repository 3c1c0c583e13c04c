"""Tables as papers have them: methods by domains, or by classes, over several seeds.

The best of a column is bold, by the value that is shown, so equal ones all are. What was trained on
a domain does not compete there.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets import parse_domain
from utils.errors import UserError, unknown_name
from utils.evaluate.results import align

Groups = dict[str, list[tuple[Path, dict[str, Any]]]]

CLASS_MEASURES = ("iou", "precision", "recall")
ABSENT = "-"
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    **{character: f"${character}$" for character in "<>|"},
}


class Cell(NamedTuple):
    """Values of one group in one column, in per cent, one for each of its runs that has one."""

    values: list[float]
    runs: int = 1
    source: bool = False

    @property
    def mean(self) -> float:
        """The mean over runs, rounded as it is shown."""
        return round(float(np.mean(self.values)), 1) + 0.0  # no minus before zero

    @property
    def deviation(self) -> float:
        """The sample standard deviation over runs (of two or more)."""
        return float(np.std(self.values, ddof=1))


class Column(NamedTuple):
    """A title and the cells below it; `gain` is a column of differences, with signs."""

    title: str
    cells: list[Cell]
    gain: bool = False

    def best(self) -> set[int]:
        """Return the rows that are best among those that compete, if two or more do."""
        rows = [i for i, cell in enumerate(self.cells) if cell.values and not cell.source]
        if self.gain or len(rows) < 2:
            return set()
        highest = max(self.cells[row].mean for row in rows)
        return {row for row in rows if self.cells[row].mean == highest}


class Table(NamedTuple):
    """Row names under `corner`, columns, the number of runs of each row, and what to know.

    `wide` tables have many narrow columns: they show means without deviations, and LaTeX turns
    their titles.
    """

    corner: str
    names: list[str]
    columns: list[Column]
    seeds: list[int]
    notes: list[str]
    wide: bool = False


def domain_table(groups: Groups, measure: str = "mIoU", baseline: str | None = None) -> Table:
    """Return the table of one measure: a row per group, a column per domain, the mean over unseen.

    The mean is over the domains that every run was judged on and none was trained on. `baseline`
    names a row whose mean is subtracted in a further column. UserError for a measure or row that is
    not there.
    """
    results = [run for runs in groups.values() for _, run in runs]
    titles = domain_titles(results)
    known = {name for run in results for d in run["domains"].values() for name in _means(d)}
    if measure not in known:
        raise unknown_name("measure", measure, known)

    def column(title: str, value: Callable[[dict], float | None], domain: str = "") -> Column:
        cells = []
        for runs in groups.values():
            judged = [run for _, run in runs if domain in run["domains"]]
            source = any(domain not in run["unseen"] for run in judged)
            cells.append(_cell([value(run) for _, run in runs], source))
        judged_cells = [cell for cell in cells if cell.values]
        if judged_cells and all(cell.source for cell in judged_cells):
            title += " (source)"
        return Column(title, cells)

    def score(run: dict[str, Any], domain: str) -> float | None:
        return _means(run["domains"].get(domain, {})).get(measure)

    def mean(run: dict[str, Any]) -> float | None:
        scores = [score(run, domain) for domain in unseen]
        return float(np.mean(scores)) if scores and None not in scores else None

    unseen = [
        d for d in titles if all(d in r["unseen"] and score(r, d) is not None for r in results)
    ]
    columns = [
        column(title, lambda run, d=d: score(run, d), domain=d) for d, title in titles.items()
    ]
    # A mean that only one domain has, like mIoU13, leaves the others empty.
    columns = [c for c in columns if any(cell.values for cell in c.cells)]
    columns.append(column("mean of unseen", mean))
    columns += _gains(list(groups), columns[-1], baseline)
    notes = _notes(groups, "mean ± sample standard deviation over seeds")
    if unseen:
        notes.append("mean of unseen: " + ", ".join(titles[d] for d in unseen))
    return Table(f"{measure}, %", list(groups), columns, _runs(groups), notes)


def class_table(
    groups: Groups, domain: str, measure: str = "iou", baseline: str | None = None
) -> Table:
    """Return the table of one domain: a row per group, a column per class, and the mean over them.

    `measure` is iou, precision or recall; `baseline` as in `domain_table`. UserError for a domain
    that a run was not judged on.
    """
    results = [run for runs in groups.values() for _, run in runs]
    titles = domain_titles(results)
    if domain not in titles:
        raise unknown_name("judged domain", domain, titles)
    if measure not in CLASS_MEASURES:
        raise unknown_name("measure of classes", measure, CLASS_MEASURES)
    for name, runs in groups.items():
        missing = [path for path, run in runs if domain not in run["domains"]]
        if missing:
            raise UserError(f"{missing[0]} ({name}) was not judged on {domain}")

    def column(title: str, value: Callable[[dict], float | None]) -> Column:
        return Column(title, [
            _cell(
                [value(run["domains"][domain]) for _, run in runs],
                all(domain not in run["unseen"] for _, run in runs),
            )
            for runs in groups.values()
        ])  # fmt: skip

    def mean(result: dict[str, Any]) -> float | None:
        defined = [value for value in result[measure].values() if value is not None]
        return float(np.mean(defined)) if defined else None

    classes = results[0]["domains"][domain][measure]
    columns = [column(name, lambda result, n=name: result[measure][n]) for name in classes]
    columns.append(column("mIoU" if measure == "iou" else "mean", mean))
    columns += _gains(list(groups), columns[-1], baseline)
    corner = f"{titles[domain]}, {'IoU' if measure == 'iou' else measure}, %"
    notes = _notes(groups, "mean over seeds")
    return Table(corner, list(groups), columns, _runs(groups), notes, wide=True)


def domain_titles(results: list[dict[str, Any]]) -> dict[str, str]:
    """Return {domain: title} of all that any run was judged on; splits that share a title get
    their name behind it."""
    titles = {d: result["title"] for run in results for d, result in run["domains"].items()}
    shown = list(titles.values())
    return {
        domain: f"{title} {parse_domain(domain)[1]}" if shown.count(title) > 1 else title
        for domain, title in titles.items()
    }


def _means(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the measures of a domain that are one number."""
    whole = {name: result[name] for name in ("pixel_accuracy", "fw_iou") if name in result}
    return result.get("means", {}) | whole


def _cell(values: list[float | None], source: bool) -> Cell:
    return Cell([100 * value for value in values if value is not None], len(values), source)


def _gains(names: list[str], means: Column, baseline: str | None) -> list[Column]:
    if baseline is None:
        return []
    if baseline not in names:
        raise unknown_name("row", baseline, names)
    reference = means.cells[names.index(baseline)]
    cells = []
    for name, cell in zip(names, means.cells, strict=True):
        both = cell.values and reference.values and name != baseline
        # The difference of the means as they are shown: a reader can check it.
        cells.append(Cell([cell.mean - reference.mean] if both else []))
    return [Column(f"gain over {baseline}", cells, gain=True)]


def _runs(groups: Groups) -> list[int]:
    return [len(runs) for runs in groups.values()]


def _notes(groups: Groups, seeds: str) -> list[str]:
    protocols = {run["protocol"] for runs in groups.values() for _, run in runs}
    notes = [f"protocol {'; '.join(sorted(protocols))}"]
    return notes + [seeds] * (max(_runs(groups)) > 1)


def show(table: Table, row: int, column: Column, bold: str = "{}") -> str:
    """Return a cell as text: mean ± deviation, and how many runs it is of if it is not of all.

    `bold` is the form of the best mean of a column.
    """
    cell = column.cells[row]
    if not cell.values:
        return ABSENT
    text = f"{cell.mean:+.1f}".replace("-", "−") if column.gain else f"{cell.mean:.1f}"
    if row in column.best():
        text = bold.format(text)
    if len(cell.values) > 1 and not table.wide:
        text += f" ± {cell.deviation:.1f}"
    if len(cell.values) < cell.runs:
        text += f" (of {len(cell.values)})"
    if cell.source and not column.title.endswith("(source)") and not table.wide:
        text += " (source)"
    return text


def grid(table: Table, bold: str = "{}") -> list[list[str]]:
    """Return header and rows as text, with a last column for the number of seeds."""
    header = [table.corner, *(column.title for column in table.columns), "seeds"]
    return [header] + [
        [name, *(show(table, row, column, bold) for column in table.columns), str(seeds)]
        for row, (name, seeds) in enumerate(zip(table.names, table.seeds, strict=True))
    ]


def text(table: Table) -> str:
    """Return a table of single runs in columns of text, for a terminal."""
    return align([cells[:-1] for cells in grid(table)]) + "\n\n" + "; ".join(table.notes)


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    header, *rows = (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in grid(table, "**{}**")
    )
    rule = "|---" * (len(table.columns) + 2) + "|"
    return "\n".join([header, rule, *rows]) + "\n\n" + "; ".join(table.notes)


def latex(table: Table) -> str:
    """Return a table as a LaTeX fragment for booktabs; what is needed is said in its comments."""
    # Private-use characters stand for the command, which must not be escaped.
    header, *rows = grid(table, "\ue000{}\ue001")
    marks = str.maketrans(LATEX | {"\ue000": r"\textbf{", "\ue001": "}"})
    header, *rows = ([cell.translate(marks) for cell in cells] for cells in (header, *rows))
    packages = "booktabs"
    if table.wide:
        packages += ", graphicx"
        header[1:] = [rf"\rotatebox{{90}}{{{title}}}" for title in header[1:]]
    lines = [
        f"% Needs the packages {packages}.",
        *(f"% {note}" for note in table.notes),
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) + 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(cells) + r" \\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def comma_separated(table: Table) -> str:
    """Return a table as CSV: for each column a mean and a deviation, in per cent, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    titles = [title for c in table.columns for title in (c.title, f"{c.title}, deviation")]
    writer.writerow([table.corner, *titles, "seeds"])
    for row, (name, seeds) in enumerate(zip(table.names, table.seeds, strict=True)):
        cells = []
        for column in table.columns:
            cell = column.cells[row]
            cells.append(f"{np.mean(cell.values):.4f}" if cell.values else "")
            cells.append(f"{cell.deviation:.4f}" if len(cell.values) > 1 else "")
        writer.writerow([name, *cells, seeds])
    return out.getvalue().rstrip("\n")


FORMATS = {"markdown": markdown, "latex": latex, "csv": comma_separated}
