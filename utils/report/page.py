"""The HTML of a report: one page that holds everything it shows, for a screen of any width."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from datasets.label_spaces import LabelSpace
from utils.compare.paper_table import ResultTable, grid
from utils.draw.pictures import Colour, class_colours
from utils.draw.plotting import row_style, svg
from utils.report.gallery import BOTH_WRONG, Disagreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE, SCRIPT = (Path(__file__).with_suffix(suffix).read_text() for suffix in (".css", ".js"))


def page(title: str, lead: str, sections: dict[str, str]) -> str:
    """Return the whole page of named sections, whose bodies are HTML."""
    links = "".join(f"<a href='#{anchor(name)}'>{escape(name)}</a>" for name in sections)
    bodies = "\n".join(
        f"<section id='{anchor(name)}'><h2>{escape(name)}</h2>\n{body}\n</section>"
        for name, body in sections.items()
    )
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<link rel='icon' href='data:,'>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n<nav>{links}</nav>\n{bodies}\n"
        f"<dialog><img alt=''><p></p></dialog>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def anchor(name: str) -> str:
    """Return the name of a section as an id."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def results_table(table: ResultTable) -> str:
    """Return a table of results; the best of a column is bold."""
    header, *rows = ([_bold(cell) for cell in cells] for cells in grid(table, "\ue000{}\ue001"))
    marked = [[swatch(number) + row[0], *row[1:]] for number, row in enumerate(rows)]
    cells = [[f"<td>{cell}</td>" for cell in row] for row in marked]
    return _table(header, cells) + note(table.notes)


def shaded_table(table: ResultTable) -> str:
    """Return a table of one domain with a row for each class, shaded by value."""
    rows = []
    for column in table.columns:
        best = column.best()
        cells = [f"<td>{escape(column.title)}</td>"]
        for row, cell in enumerate(column.cells):
            if not cell.values:
                cells.append("<td>-</td>")
                continue
            text = f"<b>{cell.mean:.1f}</b>" if row in best and cell.mean else f"{cell.mean:.1f}"
            shade = min(1.0, max(0.0, cell.mean / 100)) * 0.55
            cells.append(f"<td style='background:rgba(8,62,130,{shade:.2f})'>{text}</td>")
        rows.append(cells)
    return _table(["class", *row_names(table.names)], rows)


def settings_table(names: Sequence[str], differing: dict[str, list[str]]) -> str:
    """Return a table of settings {key: value of each row}."""
    if not differing:
        return "<p>The runs differ in nothing but their seeds.</p>"
    rows = [
        [f"<td>{escape(key)}</td>", *(f"<td class='text'>{escape(value)}</td>" for value in values)]
        for key, values in differing.items()
    ]
    return _table(["setting", *row_names(names)], rows, kind="text")


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts and numbers; the first column names the rows."""
    cells = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
    return _table(map(escape, header), cells)


def row_names(names: Sequence[str]) -> list[str]:
    """Return the names of all rows, each with its colour."""
    return [swatch(number) + escape(name) for number, name in enumerate(names)]


def swatch(number: int) -> str:
    """Show the colour that row `number` has in all charts."""
    return f"<i class='row' style='background:{row_style(number)[0]}'></i>"


def charts_html(figures: "dict[str, Figure]") -> str:
    """Return named charts side by side where there is room."""
    shown = "".join(f"<div>{chart(name, figure)}</div>" for name, figure in figures.items())
    return f"<div class='charts'>{shown}</div>"


def matrix(name: str, figure: "Figure") -> str:
    """Return a large chart, which can be scrolled on small screens."""
    return f"<div class='scroll'>{chart(name, figure, 'matrix')}</div>"


def chart(name: str, figure: "Figure", kind: str = "chart") -> str:
    """Return a figure as an SVG file inside the page: ids of two files do not meet."""
    return _image(name, "svg+xml", svg(figure).encode(), kind)


def folded(title: str, body: str, opened: bool = False) -> str:
    """Return a part that opens when it is clicked."""
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>{body}</details>"


def gallery(scenes: Sequence[Disagreement], colours: dict[str, Colour]) -> str:
    """Return scenes, each with its pictures in a row, of two rows with their colours."""
    first, second = colours
    parts = []
    for scene in scenes:
        figures = "".join(
            f"<figure>{picture(f'{scene.name}: {title}', image, photograph=number == 0)}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for number, (title, image) in enumerate(scene.pictures)
        )
        text = (
            f"{scene.name}: they disagree on {100 * scene.disagreement:.1f} % of the pixels; "
            f"{first} alone is right on {100 * scene.first_right:.1f} %, {second} alone on "
            f"{100 * scene.second_right:.1f} %"
        )
        parts.append(
            f"<div class='scene'><p>{escape(text)}</p><div class='row'>{figures}</div></div>"
        )
    return "".join(parts)


def difference_key(colours: dict[str, Colour]) -> str:
    """Explain the colours of difference maps, {row: colour of where it alone is right}."""
    kinds = {f"only {name} is right": colour for name, colour in colours.items()}
    return key(kinds | {"they differ, both are wrong": BOTH_WRONG})


def class_key(space: LabelSpace) -> str:
    """Explain the colours of classes."""
    return key(class_colours(space))


def key(colours: dict[str, Colour]) -> str:
    """Return names with their colours."""
    items = "".join(
        f"<span><i style='background:rgb{colour}'></i>{escape(name)}</span>"
        for name, colour in colours.items()
    )
    return f"<div class='key'>{items}</div>"


def picture(name: str, image: Image.Image, photograph: bool) -> str:
    """Return a picture as part of the page: JPEG of photographs, PNG of maps of few colours."""
    file = io.BytesIO()
    if photograph:
        image.save(file, "JPEG", quality=85)
    else:
        if len(image.getcolors(1 << 20) or ()) in range(1, 257):
            image = image.quantize(256, dither=Image.Dither.NONE)
        image.save(file, "PNG", optimize=True)
    return _image(name, "jpeg" if photograph else "png", file.getvalue())


def note(lines: Sequence[str]) -> str:
    """Return what to know about a table."""
    return f"<p>{escape('; '.join(lines))}</p>"


def _image(name: str, form: str, content: bytes, kind: str = "picture") -> str:
    data = base64.b64encode(content).decode()
    return (
        f"<img class='{kind}' loading='lazy' alt='{escape(name, quote=True)}' "
        f"src='data:image/{form};base64,{data}'>"
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "number") -> str:
    head = "".join(f"<th class='{kind}'>{cell}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead>{body}</table></div>"


def _bold(cell: str) -> str:
    return escape(cell).replace("\ue000", "<b>").replace("\ue001", "</b>")
