"""The one place that imports matplotlib: no screen, one palette, files equal byte by byte."""

import io
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito (2008), told apart by the colour-blind; wine of Paul Tol's is in the place of their
# yellow, which is too pale for lines on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
YELLOW, INK, GREY, LINE = "#f0e442", "#222222", "#666666", "#dddddd"
MARKERS = "os^DvP"
WIDTH, LETTERS = 5.2, 76  # of a chart: inches, and letters of normal size in a line
STYLE = Path(__file__).with_name("charts.mplstyle")
# Dates and versions of programs would make two equal pictures differ.
METADATA = {
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}


def load_matplotlib() -> None:
    """Import matplotlib and set its style; UserError with the pip line where it is missing."""
    matplotlib = import_extra("charts", "matplotlib")
    matplotlib.rcParams.update(matplotlib.rc_params_from_file(STYLE, use_default_template=False))


@cache
def can_draw(pictures: str) -> bool:
    """Say whether there is matplotlib; if not, one line on stderr, once, names the `pictures` that
    are left out."""
    try:
        load_matplotlib()
    except UserError as error:
        print(f"without {pictures}: {error}", file=sys.stderr)
        return False
    return True


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, of our style; UserError without matplotlib."""
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure((width, height))


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure in the format of the path's suffix: .svg, .pdf or .png; UserError for others.

    The folder is made. Two equal figures give equal files.
    """
    if path.suffix not in METADATA:
        raise UserError(f"{path}: a picture ends in {', '.join(METADATA)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=METADATA[path.suffix])


def svg(figure: "Figure") -> str:
    """Return a figure as an SVG element, without the XML declaration, to stand in HTML."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=METADATA[".svg"])
    text = out.getvalue()
    return text[text.index("<svg") :]


def wrapped(text: str, letters: int) -> str:
    """Return text in lines of at most `letters` letters, never read as a formula."""
    return textwrap.fill(text, letters, break_long_words=False).replace("$", r"\$")


def row_style(number: int) -> tuple[str, str]:
    """Return colour and marker of row or line `number`, the same in all of a report.

    Rows after the seventh have darker shades of the same colours.
    """
    shade = 0.6 ** (number // len(COLOURS))
    red, green, blue = bytes.fromhex(COLOURS[number % len(COLOURS)][1:])
    colour = f"#{round(shade * red):02x}{round(shade * green):02x}{round(shade * blue):02x}"
    return colour, MARKERS[number % len(MARKERS)]


def legend_below(figure: "Figure", handles: dict[str, object]) -> None:
    """Name handles below all axes, where they hide no data; nothing for one without a name."""
    if not any(handles):
        return
    names = [wrapped(name, LETTERS - 6) for name in handles]
    lengths = [8 + max(map(len, name.split("\n"))) for name in names]
    fits = sum(lengths) <= 1.1 * LETTERS
    columns = len(names) if fits else max(1, LETTERS // max(lengths))
    figure.legend(handles.values(), names, loc="outside lower center", ncols=columns)
