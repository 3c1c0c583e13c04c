"""The HTML of a report: one page that holds everything it shows, for a screen of any width."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from datasets.label_spaces import LabelSpace
from utils.compare.paper_table import ResultTable, grid
from utils.draw.plotting import svg
from utils.report.gallery import BOTH_WRONG, Colour, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 0 16px 64px; color: #222; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 24px 0 4px; }
h2 { font-size: 1.25rem; margin: 40px 0 8px; padding-top: 8px; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 24px 0 6px; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 16px; overflow-x: auto;
  background: #fffffff2; padding: 10px 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
nav a { color: #0b5394; text-decoration: none; }
p, figcaption, .note { color: #555; font-size: .875rem; margin: 4px 0 10px; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid #e5e5e5;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 7em; }
thead th { border-bottom: 2px solid #999; font-weight: 600; vertical-align: bottom; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 16px; }
.charts img { width: 100%; height: auto; display: block; }
details { border: 1px solid #ddd; border-radius: 6px; margin: 8px 0; padding: 0 12px; }
summary { cursor: pointer; padding: 10px 0; font-weight: 600; }
details > :last-child { margin-bottom: 12px; }
.matrix { min-width: 860px; width: 100%; max-width: 1100px; display: block; }
.scene { margin: 0 0 28px; }
.scene .row { display: grid; gap: 6px; grid-template-columns: repeat(5, 1fr); }
.scene figure { margin: 0; }
.scene img { width: 100%; display: block; image-rendering: auto; cursor: zoom-in; }
.scene figcaption { margin: 2px 0 0; line-height: 1.3; overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: .8125rem; margin: 6px 0 14px; }
.key i { display: inline-block; width: 13px; height: 13px; margin-right: 5px;
  border: 1px solid #0003; vertical-align: -2px; }
dialog { border: 0; padding: 0; max-width: 100vw; max-height: 100vh; background: #000; }
dialog img { display: block; width: min(100vw, 177vh); max-height: 92vh; object-fit: contain;
  image-rendering: auto; }
dialog p { color: #ddd; padding: 4px 10px; margin: 0; }
dialog::backdrop { background: #000d; }
@media (max-width: 760px) {
  .scene .row { grid-template-columns: repeat(2, 1fr); }
  .scene figure:first-child { grid-column: 1 / -1; }
}
@media print { nav { display: none; } details { border: 0; } }
"""
SCRIPT = """
const box = document.querySelector('dialog');
document.querySelectorAll('.scene img').forEach(image => image.addEventListener('click', () => {
  box.querySelector('img').src = image.src;
  box.querySelector('p').textContent = image.alt;
  box.showModal();
}));
box.addEventListener('click', () => box.close());
"""


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
    return _table(header, [[f"<td>{cell}</td>" for cell in row] for row in rows]) + note(
        table.notes
    )


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
    return _table(map(escape, ["class", *table.names]), rows)


def settings_table(names: Sequence[str], differing: dict[str, list[str]]) -> str:
    """Return a table of settings {key: value of each row}."""
    if not differing:
        return "<p>The runs differ in nothing but their seeds.</p>"
    rows = [
        [f"<td>{escape(key)}</td>", *(f"<td class='text'>{escape(value)}</td>" for value in values)]
        for key, values in differing.items()
    ]
    return _table(map(escape, ["setting", *names]), rows, kind="text")


def charts(figures: "dict[str, Figure]") -> str:
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


def gallery(scenes: Sequence[Scene], pair: Sequence[str]) -> str:
    """Return scenes, each with its pictures in a row."""
    first, second = pair
    parts = []
    for scene in scenes:
        figures = "".join(
            f"<figure>{picture(f'{scene.name}: {title}', image, title == 'image')}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for title, image in scene.pictures.items()
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
    colours = dict(zip(space.classes, space.colours, strict=True))
    return key(colours | {"void": (0, 0, 0)})


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
