"""Tables as papers have them: methods by domains, or by classes, over several seeds.

The best of a column is bold; nothing is where two show the same best value. What was trained on a
domain does not compete there.
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import parse_domain
from utils.draw.spread import deviation, deviation_text, mean, mean_text, paired_differences
from utils.errors import UserError, unknown_name
from utils.evaluate.results import of_one_space, seen_as, text_columns

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


class ResultCell(NamedTuple):
    """Values {seed: per cent} of one row in one column; of how many `runs`; what the row was
    trained on the column's domain as, see `seen_as`."""

    values: dict[int, float]
    runs: int
    seen: str = ""

    @property
    def mean(self) -> float:
        """The mean over seeds, rounded as it is shown."""
        return round(mean(self.values.values()), 1)


class ResultColumn(NamedTuple):
    """A title and the cells below it, scores in per cent; `gain` is a column of differences, with
    signs, `cost` one of other numbers, of which none is best."""

    title: str
    cells: list[ResultCell]
    gain: bool = False
    cost: bool = False
    digits: int = 1

    def best(self) -> set[int]:
        """Return the row that is best among those that compete, if two or more do and one is."""
        rows = [i for i, cell in enumerate(self.cells) if cell.values and not cell.seen]
        if self.gain or self.cost or len(rows) < 2:
            return set()
        highest = max(self.cells[row].mean for row in rows)
        best = {row for row in rows if self.cells[row].mean == highest}
        return best if len(best) == 1 else set()


class ResultTable(NamedTuple):
    """Row names under `corner`, columns, the number of runs of each row, and what to know.

    `wide` tables have many narrow columns: they show means without deviations, and LaTeX turns
    their titles.
    """

    corner: str
    names: list[str]
    columns: list[ResultColumn]
    seeds: list[int]
    notes: list[str]
    wide: bool = False


def domain_table(
    groups: Groups,
    measure: str = "mIoU",
    baseline: str | None = None,
    mean_over: Sequence[str] = (),
) -> ResultTable:
    """Return the table of one measure: a row per group, a column per domain, the mean over unseen.

    The mean is over the domains that every run was evaluated on and none was trained on, and that
    `of_one_space` leaves; or over those of them that `mean_over` names, whatever their classes.
    `baseline` names a row; a further column shows what each row gains over it, paired by seed.
    UserError for a measure or row that is not there.
    """
    results = [run for runs in groups.values() for _, run in runs]
    titles = domain_titles(results)
    known = {name for run in results for d in run["domains"].values() for name in _means(d)}
    if measure not in known:
        raise unknown_name("measure", measure, known)

    def score(run: dict[str, Any], domain: str) -> float | None:
        return _means(run["domains"].get(domain, {})).get(measure)

    unseen = [
        d for d in titles if all(d in r["unseen"] and score(r, d) is not None for r in results)
    ]
    first = results[0]
    if mean_over:
        unseen = [d for d in unseen if d in mean_over]
    else:
        unseen = of_one_space(
            {d: first["domains"][d] for d in unseen},
            first["settings"].get("DATASET.LABEL_SPACE", ""),
        )
    columns = []
    for domain, title in titles.items():
        column = _column(groups, title, lambda run, d=domain: score(run, d), domain)
        cells = [cell for cell in column.cells if cell.values]
        # Of all rows that have a value.
        seen = {cell.seen for cell in cells}
        if len(seen) == 1 and (mark := seen.pop()):
            column = column._replace(title=f"{title} ({mark})")
        # A mean that only one domain has, like mIoU13, leaves the others empty.
        columns += [column] * bool(cells)
    columns.append(
        _column(groups, "mean of unseen", lambda run: _mean([score(run, d) for d in unseen]))
    )
    notes = ["mean ± sample standard deviation over seeds"] * (len(results) > len(groups))
    if unseen:
        spaces = {first["domains"][d]["label_space"] for d in unseen}
        mixed = ", which count different classes" * (len(spaces) > 1)
        notes.append(f"mean of unseen: {', '.join(titles[d] for d in unseen)}{mixed}")
    return _table(groups, f"{measure}, %", columns, baseline, notes)


def class_table(
    groups: Groups, domain: str, measure: str = "iou", baseline: str | None = None
) -> ResultTable:
    """Return the table of one domain: a row per group, a column per class, and the domain's mIoU
    (of another measure, the mean over the classes that have it).

    `measure` is iou, precision or recall; `baseline` as in `domain_table`. UserError for a domain
    that a run was not evaluated on.
    """
    results = [run for runs in groups.values() for _, run in runs]
    titles = domain_titles(results)
    if domain not in titles:
        raise unknown_name("evaluated domain", domain, titles)
    if measure not in CLASS_MEASURES:
        raise unknown_name("measure of classes", measure, CLASS_MEASURES)
    for name, runs in groups.items():
        missing = [path for path, run in runs if domain not in run["domains"]]
        if missing:
            raise UserError(f"{missing[0]} ({name}) was not evaluated on {domain}")

    def scores(run: dict[str, Any]) -> dict[str, float | None]:
        return run["domains"][domain][measure]

    def over_classes(run: dict[str, Any]) -> float | None:
        if measure == "iou":
            # Over the classes that the domain counts, as in all tables.
            return _means(run["domains"][domain])["mIoU"]
        return _mean([value for value in scores(run).values() if value is not None])

    columns = [
        _column(groups, name, lambda run, n=name: scores(run)[n], domain)
        for name in scores(results[0])
    ]
    title = "mIoU" if measure == "iou" else "mean"
    columns.append(_column(groups, title, over_classes, domain))
    corner = f"{titles[domain]}, {'IoU' if measure == 'iou' else measure}, %"
    notes = ["mean over seeds"] * (len(results) > len(groups))
    return _table(groups, corner, columns, baseline, notes, wide=True)


def domain_titles(results: list[dict[str, Any]]) -> dict[str, str]:
    """Return {domain: title} of all that any run was evaluated on; splits that share a title get
    their name behind it."""
    titles = {d: result["title"] for run in results for d, result in run["domains"].items()}
    shown = list(titles.values())
    return {
        domain: f"{title} {parse_domain(domain)[1]}" if shown.count(title) > 1 else title
        for domain, title in titles.items()
    }


def _column(
    groups: Groups, title: str, value: Callable[[dict], float | None], domain: str = ""
) -> ResultColumn:
    """Return the column of a fraction of each run, marked where rows were trained on `domain`."""
    cells = []
    for runs in groups.values():
        values = {run["settings"]["SEED"]: value(run) for _, run in runs}
        values = {seed: 100 * own for seed, own in values.items() if own is not None}
        evaluated = [run for _, run in runs if domain in run["domains"]]
        seen = [seen_as(domain, run) for run in evaluated]
        cells.append(ResultCell(values, len(runs), max(seen, default="")))
    return ResultColumn(title, cells)


def _means(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the measures of a domain that are one number."""
    whole = {name: result[name] for name in ("pixel_accuracy", "fw_iou") if name in result}
    return result.get("means", {}) | whole


def _mean(scores: list[float | None]) -> float | None:
    return mean(scores) if scores and None not in scores else None


def _table(
    groups: Groups,
    corner: str,
    columns: list[ResultColumn],
    baseline: str | None,
    notes: list[str],
    wide: bool = False,
) -> ResultTable:
    """Return a table whose last column is the mean, with each row's gain over `baseline`."""
    names = list(groups)
    if baseline is not None:
        columns = [*columns, _gains(names, columns[-1], baseline)]
        notes = [*notes, "gains are paired by seed"]
    protocols = sorted({run["protocol"] for runs in groups.values() for _, run in runs})
    notes = [f"protocol {'; '.join(protocols)}", *notes]
    seeds = [len(runs) for runs in groups.values()]
    return ResultTable(corner, names, columns, seeds, notes, wide)


def _gains(names: list[str], means: ResultColumn, baseline: str) -> ResultColumn:
    """Return the differences to a row over the seeds that both have."""
    if baseline not in names:
        raise unknown_name("row", baseline, names)
    reference = means.cells[names.index(baseline)].values
    cells = [
        ResultCell({} if name == baseline else paired_differences(own.values, reference), own.runs)
        for name, own in zip(names, means.cells, strict=True)
    ]
    return ResultColumn(f"gain over {baseline}", cells, gain=True)


def cell_text(table: ResultTable, row: int, column: ResultColumn, bold: str = "{}") -> str:
    """Return a cell as text: mean ± deviation, and how many runs it is of if it is not of all.

    `bold` is the form of the best mean of a column.
    """
    cell = column.cells[row]
    if not cell.values:
        return ABSENT
    values = cell.values.values()
    text = mean_text(values, column.digits, difference=column.gain)
    if row in column.best():
        text = bold.format(text)
    if not table.wide:
        text += deviation_text(values, column.digits)
    if len(values) < cell.runs:
        text += f" (of {len(values)})"
    if cell.seen and not column.title.endswith(f"({cell.seen})") and not table.wide:
        text += f" ({cell.seen})"
    return text


def grid(table: ResultTable, bold: str = "{}") -> list[list[str]]:
    """Return header and rows as text, with a last column for the number of seeds."""
    header = [table.corner, *(column.title for column in table.columns), "seeds"]
    return [header] + [
        [name, *(cell_text(table, row, column, bold) for column in table.columns), str(seeds)]
        for row, (name, seeds) in enumerate(zip(table.names, table.seeds, strict=True))
    ]


def text(table: ResultTable) -> str:
    """Return a table of single runs in columns of text, for a terminal."""
    return text_columns([cells[:-1] for cells in grid(table)]) + "\n\n" + "; ".join(table.notes)


def markdown(table: ResultTable) -> str:
    """Return a table in Markdown."""
    header, *rows = (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in grid(table, "**{}**")
    )
    rule = "|---" * (len(table.columns) + 2) + "|"
    return "\n".join([header, rule, *rows]) + "\n\n" + "; ".join(table.notes)


def latex(table: ResultTable) -> str:
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


def comma_separated(table: ResultTable) -> str:
    """Return a table as CSV: for each column a mean and a deviation, in per cent, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    titles = [title for c in table.columns for title in (c.title, f"{c.title}, deviation")]
    writer.writerow([table.corner, *titles, "seeds"])
    for row, (name, seeds) in enumerate(zip(table.names, table.seeds, strict=True)):
        cells = []
        for column in table.columns:
            values = column.cells[row].values.values()
            width = deviation(values)
            cells.append(f"{mean(values):.4f}" if values else "")
            cells.append("" if width is None else f"{width:.4f}")
        writer.writerow([name, *cells, seeds])
    return out.getvalue().rstrip("\n")


FORMATS = {"markdown": markdown, "latex": latex, "csv": comma_separated}
