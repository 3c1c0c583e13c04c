"""`python -m datasets.pseudo_target.report SOURCE PSEUDO DOMAIN …`: is a pseudo-target wide enough?

Compares the styles of a source, of its pseudo-target (a folder) and of unseen domains (NAME[:SPLIT]
or a folder), as the first layers of a trunk see them, and lays images and prompts side by side. No
label is opened. Writes one HTML page and the figures as JSON. TRUNK.NAME and TRUNK.WEIGHTS choose
the trunk. Needs matplotlib and scikit-learn (requirements-extra.txt).
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from datasets.commands import parse_words
from datasets.files import read_header, read_image
from datasets.photographs import images_of
from datasets.pseudo_target import NOTE, PROMPTS, names_of
from datasets.pseudo_target.measures import Looks, evenness, frechet, nearest, shift, spread
from datasets.pseudo_target.prompts import Prompt, own_prompts
from network.build import resolve
from network.tuning import plain_trunk
from transforms import normalise
from utils.draw.plane import Layout
from utils.draw.plotting import COLOURS, load_matplotlib
from utils.draw.scatter import PanelRow, PointGroup, scatter_picture
from utils.engine.folder import require_writable
from utils.engine.runtime import Runtime, open_runtime
from utils.engine.saving import write_atomically
from utils.errors import UserError, run_script
from utils.report import page as html
from utils.report.gallery import fitted
from utils.styles import STYLE_LAYERS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TALLEST = 512  # pixels; images are brought to the height of the lowest, at most this
LEAST = 4  # images of each domain
LIMITS = (
    "Styles are means and deviations of channels: two domains of one style can differ in layout, "
    "objects and camera, which no figure here sees.",
    "A pseudo-target that is nearer to an unseen domain is no proof that training on it helps; "
    "noise of any kind is wide, too.",
    "Fréchet distances from few images are too large, all by about as much at one number of "
    "images. Compare them with the one between two halves of the source; they are not comparable "
    "with published FIDs, which are of Inception features and ten thousands of images.",
    "Whether what a prompt asks for is seen in an image, and whether an image still fits its "
    "label, is for the eye: look at the images below.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at images of each domain; write the figures and the page."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.pseudo_target.report",
        usage="%(prog)s SOURCE PSEUDO DOMAIN … [--out FILE] [KEY VALUE …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=200, help="of each domain, evenly spread")
    parser.add_argument("--show", type=int, default=8, help="images in the gallery")
    parser.add_argument("--out", type=Path, default=Path("pseudo_target.html"))
    options, words, overrides = parse_words(parser, arguments)
    if len(words) < 2 or not Path(words[1]).is_dir():
        raise UserError("name the source, the folder of its pseudo-target, and unseen domains")
    if options.images < LEAST or options.show < 1:
        raise UserError(f"--images is {LEAST} or more, --show 1 or more")
    load_matplotlib()
    require_writable(options.out)
    cfg = resolve(overrides)
    domains = {}
    for number, word in enumerate(words):
        plain = number < 2 or Path(word).is_dir() or ":" in word
        paths, title = images_of(word if plain else f"{word}:val", cfg)
        if len(paths) < LEAST:
            raise UserError(f"{title} has {len(paths)} images; {LEAST} or more are compared")
        domains["pseudo-target" if number == 1 else title] = paths
    if len(domains) < len(words):
        raise UserError("a domain is named twice")
    prompts, choices = prompts_of(Path(words[1])), choices_of(Path(words[1]))
    number = min(options.images, *map(len, domains.values()))
    trunk = plain_trunk(cfg)
    # None is enlarged: it would be blurred, which is a style.
    height = min(TALLEST, *(read_header(paths[0]).height for paths in domains.values()))
    with open_runtime(cfg) as runtime:
        trunk.to(runtime.device, memory_format=runtime.memory_format).eval()
        looks = {
            title: look(trunk, evenly(paths, number), height, runtime, title)
            for title, paths in domains.items()
        }
    figures = compare(looks) | {
        "trunk": cfg.TRUNK.NAME,
        "weights": cfg.TRUNK.WEIGHTS,
        "images": number,
        "height": height,
    }
    source, pseudo = list(domains.values())[:2]
    if prompts:
        figures["prompts"] = prompt_counts(prompts, choices)
    title = f"A pseudo-target of {next(iter(domains))}"
    lead = (
        f"{number} images of each domain, {height} pixels high, as {cfg.TRUNK.NAME} with weights "
        f"{cfg.TRUNK.WEIGHTS} sees them."
    )
    sections = {
        "How wide it is": width_section(figures, looks),
        "Whose style is nearest": nearest_section(figures),
        "Fréchet distance": frechet_section(figures),
        "Images": gallery(source, pseudo, Path(words[1]), prompts, options.show),
        "Limits": "".join(f"<p>{escape(line)}</p>" for line in LIMITS),
    }
    if prompts:
        sections["Prompts"] = prompt_section(figures["prompts"])
    after = "Nothing else was changed"
    content = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    write_atomically(options.out.with_suffix(".json"), content.encode(), after)
    write_atomically(options.out, html.page(title, lead, sections).encode(), after)
    print(f"wrote {options.out} and {options.out.with_suffix('.json')}")


def evenly(items: Sequence[Any], number: int) -> list[Any]:
    """Return at most `number` items, evenly spread."""
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]


@torch.no_grad()
def look(
    trunk: torch.nn.Module, paths: list[Path], height: int, runtime: Runtime, title: str
) -> Looks:
    """Return styles and features of images, brought to one height with their aspect."""
    styles: dict[int, list] = {i: [] for i in STYLE_LAYERS}
    features = []
    for path in tqdm(paths, desc=title, unit="image", leave=False, disable=None):
        image = read_image(path, upright=True)
        size = (height, max(1, round(height * image.shape[2] / image.shape[1])))
        small = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
        pixels = normalise(small.clamp(0, 255).byte()).to(runtime.device)
        found = trunk(pixels.contiguous(memory_format=runtime.memory_format))
        for i in STYLE_LAYERS:
            styles[i].append(style(found[i]))
        features.append(found[4].float().mean((2, 3))[0])
    arrays = {i: torch.stack(own).double().cpu().numpy() for i, own in styles.items()}
    return Looks(arrays, torch.stack(features).double().cpu().numpy())


def compare(looks: dict[str, Looks]) -> dict[str, Any]:
    """Return all figures; the unit of a dimension is the source's deviation in it."""
    (source, own), (pseudo, drawn), *others = looks.items()
    found: dict[str, Any] = {"source": source, "spread": {}, "shift": {}, "nearest": {}}
    for i in STYLE_LAYERS:
        unit = own.styles[i].std(0) + 1e-12
        key = f"layer {i}"
        found["spread"][key] = {t: spread(each.styles[i], unit) for t, each in looks.items()}
        found["shift"][key] = {
            t: shift(each.styles[i], own.styles[i], unit) for t, each in looks.items()
        }
        found["nearest"][key] = {}
        for title, each in others:
            distances = [nearest(each.styles[i], x.styles[i], unit) for x in (own, drawn)]
            found["nearest"][key][title] = {
                "nearer to the pseudo-target": float((distances[1] < distances[0]).mean()),
                "distance to the source": float(distances[0].mean()),
                "distance to the pseudo-target": float(distances[1].mean()),
            }
    half = len(own.features) // 2
    found["frechet"] = {
        "images": half,
        "dimensions": own.features.shape[1],
        "two halves of the source": frechet(own.features[::2][:half], own.features[1::2][:half]),
        pseudo: {source: frechet(drawn.part(half).features, own.part(half).features)},
    }
    for title, each in others:
        found["frechet"][title] = {
            name: frechet(each.part(half).features, x.part(half).features)
            for name, x in ((source, own), (pseudo, drawn))
        }
    return found


def width_section(figures: dict[str, Any], looks: dict[str, Looks]) -> str:
    """Tables of spread and shift, and the plane of styles."""
    layers = list(figures["spread"])
    header = ["", *(f"spread, {key}" for key in layers), *(f"shift, {key}" for key in layers)]
    rows = [
        [title, *(f"{figures[k][key][title]:.2f}" for k in ("spread", "shift") for key in layers)]
        for title in looks
    ]
    text = "Spread: deviation of styles within a domain. Shift: distance of a domain's mean style "
    text += "from the source's. Both are per channel, and 1 is the deviation of the source."
    figure = style_plane(looks)
    return html.plain_table(header, rows) + html.note([text]) + html.matrix("styles", figure)


def style_plane(looks: dict[str, Looks]) -> "Figure":
    """Draw the styles of all domains in the plane of their principal components."""
    rows = []
    for i in STYLE_LAYERS:
        first = next(iter(looks.values())).styles[i]
        unit = first.std(0) + 1e-12
        points = [each.styles[i] / unit for each in looks.values()]
        plane = Layout("pca", np.concatenate(points), None)
        placed = plane.split([len(own) for own in points])
        groups = [
            PointGroup(title, own, COLOURS[n % len(COLOURS)], "o" if n < 2 else "^")
            for n, (title, own) in enumerate(zip(looks, placed, strict=True))
        ]
        # Source and pseudo-target alone, and with the unseen domains.
        panels = {"source and pseudo-target": groups[:2], "and unseen domains": groups}
        rows.append(PanelRow(panels, plane.axes, plane.numbers))
    names = " (above) and ".join(f"layer {i}" for i in STYLE_LAYERS)
    return scatter_picture(rows, f"Styles of images, {names} (below)")


def nearest_section(figures: dict[str, Any]) -> str:
    """Table of the share of images whose nearest style lies in the pseudo-target."""
    pseudo, distance = "the pseudo-target", "distance to"
    header = ["", "layer", f"nearer to {pseudo}", f"{distance} the source", f"{distance} {pseudo}"]
    rows = [
        [title, key, f"{100 * first:.0f} %", f"{second:.2f}", f"{third:.2f}"]
        for key, domains in figures["nearest"].items()
        for title, own in domains.items()
        for first, second, third in [own.values()]
    ]
    text = (
        "Share of an unseen domain's images whose nearest style is one of the pseudo-target and "
        "not of the source; both offer equally many, so 50 % means that neither is nearer. "
        "Distances are those to the nearest style, per channel, in deviations of the source."
    )
    return html.plain_table(header, rows) + html.note([text])


def frechet_section(figures: dict[str, Any]) -> str:
    """Table of Fréchet distances to the source and to the pseudo-target."""
    own = figures["frechet"]
    source, names = figures["source"], [figures["source"], "pseudo-target"]
    rows = [
        [title, *(f"{value[n]:.3g}" if n in value else "" for n in names)]
        for title, value in own.items()
        if isinstance(value, dict)
    ]
    text = (
        f"Of the means of layer 4 ({own['dimensions']} channels) over {own['images']} images of "
        f"each; between two halves of {source}: {own['two halves of the source']:.3g}."
    )
    return html.plain_table(["", *(f"to {name}" for name in names)], rows) + html.note([text])


def prompts_of(folder: Path) -> dict[str, Prompt]:
    """Return the prompts of a pseudo-target by file; none where it was drawn without."""
    path = folder / PROMPTS
    return {p.file: p for p in own_prompts(path, None, 0)} if path.is_file() else {}


def choices_of(folder: Path) -> dict[str, list[str]]:
    """Return what prompts were drawn from, by kind, as the note of a pseudo-target says."""
    path = folder / NOTE
    if not path.is_file():
        return {}
    try:
        choices = json.loads(path.read_text()).get("choices", {})
        return {kind: [str(text) for text in texts] for kind, texts in choices.items()}
    except (ValueError, OSError, AttributeError, TypeError):
        raise UserError(f"{path} is damaged") from None


def prompt_counts(
    prompts: dict[str, Prompt], choices: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    """Return how often each block was drawn, of those that could be, and how even that is."""
    found = {}
    for kind in ("location", "traffic", "condition", "rare"):
        counts = Counter(p.blocks[kind] for p in prompts.values() if kind in p.blocks)
        if counts:
            every = dict(counts.most_common()) | {c: counts[c] for c in choices.get(kind, ())}
            found[kind] = {"counts": every, "evenness": evenness(every, len(every))}
    return found


def prompt_section(counts: dict[str, Any]) -> str:
    """Tables of how often each block was drawn."""
    parts = []
    for kind, own in counts.items():
        rows = [[text or "(none)", str(n)] for text, n in own["counts"].items()]
        title = f"{kind}: {len(rows)} choices, evenness {own['evenness']:.3f}"
        parts.append(html.folded(title, html.plain_table([kind, "images"], rows)))
    text = "Evenness is the entropy as a share of that of equally frequent ones: 1 is even."
    return html.note([text]) + "".join(parts)


def gallery(
    source: list[Path], pseudo: list[Path], folder: Path, prompts: dict[str, Prompt], show: int
) -> str:
    """Pictures of source and pseudo-target side by side, paired by name, with their prompts."""
    originals = dict(zip(names_of(source), source, strict=True))
    drawn = {path.relative_to(folder).as_posix(): path for path in pseudo}
    pairs = [name for name in drawn if name in originals]
    if not pairs:
        return html.note(["No file of the pseudo-target has the name of one of the source"])
    parts = []
    for name in evenly(pairs, show):
        pictures = "".join(
            f"<figure>{html.picture(title, fitted(read_image(path), True), True)}"
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for title, path in (
                (f"source, {name}", originals[name]),
                ("pseudo-target", drawn[name]),
            )
        )
        text = f"<p>{escape(prompts[name].prompt)}</p>" if name in prompts else ""
        parts.append(f"<div class='scene pair'>{text}<div class='row'>{pictures}</div></div>")
    return "".join(parts)


if __name__ == "__main__":
    run_script(main)
