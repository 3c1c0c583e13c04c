"""Pictures of what a network makes of styles and classes, for any checkpoint and method.

    python -m utils.styles gtav cityscapes bdd100k --snapshot logs/my_run/last.pth [--out DIR]
        [--images 40] [--pixels 8] [--layout tsne] [--format pdf] [KEY VALUE …]

styles: the style (mean and deviation of every channel) of each image, as layers 0 and 1 return
it, and where the method acts on it, as the next layer sees it. regions, of methods that rearrange
styles (SRHA): the style of each region before and after. embeddings, of decoders with a pixel
embedding: pixels by class, of sources and of unseen domains. Stars are the method's bases. Layouts
are principal components or t-SNE. Needs matplotlib and scikit-learn (requirements-extra.txt).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets import dataset_class, parse_domain
from datasets.commands import parse_words
from datasets.dataset import SegmentationDataset
from datasets.label_spaces import LabelSpace
from network.build import build_method, open_run
from network.methods import Method
from network.regions.statistics import downsample_labels, find_regions, region_statistics
from utils.draw.plane import LAYOUTS, Layout
from utils.draw.plotting import COLOURS, METADATA, YELLOW, load_matplotlib, save_figure
from utils.draw.scatter import PanelRow, PointGroup, scatter_picture
from utils.engine.folder import require_writable
from utils.engine.runtime import Runtime, open_runtime
from utils.errors import run_script
from utils.evaluate.evaluation import open_domain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE_LAYERS = (0, 1)


class DomainLook(NamedTuple):
    """What was found in a domain (see `look`), whether it is a source of the network, and whether
    it is `labelled` in the network's classes."""

    title: str
    source: bool
    labelled: bool
    found: dict[str, Any]


def main() -> None:
    """Look at images of each domain, draw the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.styles", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--snapshot", type=Path, required=True, help="a checkpoint, or a folder for its last.pth"
    )
    parser.add_argument("--images", type=int, default=40, help="of each domain, evenly spread")
    parser.add_argument("--pixels", type=int, default=4, help="of each class in an image")
    parser.add_argument("--layout", choices=LAYOUTS, default="pca")
    parser.add_argument("--out", type=Path, help="default: styles, beside the checkpoint")
    formats = [suffix[1:] for suffix in METADATA]
    parser.add_argument("--format", choices=formats, default="png", help="default: png")
    options, names, overrides = parse_words(parser, None)
    load_matplotlib()  # now, and not after a pass over the images
    folder = options.snapshot if options.snapshot.is_dir() else options.snapshot.parent
    out = options.out or folder / "styles"
    require_writable(out / f"styles.{options.format}")
    cfg, state = open_run(options.snapshot, overrides)
    method, space = build_method(cfg, state)
    domains = {name: open_domain(name, cfg, space) for name in names}
    for domain in domains.values():
        if domain.label_space != space:
            print(
                f"{domain.title} is evaluated in {domain.label_space.name}, and the network knows "
                f"{space.name}: it is in the picture of styles only"
            )
    with open_runtime(cfg) as runtime:
        method.to(runtime.device, memory_format=runtime.memory_format).eval()
        looks = []
        for name, domain in domains.items():
            labelled = domain.label_space == space
            found = look(method, domain, runtime, options.images, options.pixels, labelled)
            source = parse_domain(name)[0] in cfg.DATASET.SOURCE
            looks.append(DomainLook(domain.title, source, labelled, found))
    trained = " + ".join(dataset_class(name).title for name in cfg.DATASET.SOURCE)
    title = f"{cfg.METHOD} trained on {trained}"
    figures = style_figures(method, looks, space, options.layout, title)
    for name, figure in figures.items():
        path = out / f"{name}.{options.format}"
        save_figure(figure, path)
        print(f"picture: {path}")


@torch.no_grad()
def look(
    method: Method,
    domain: SegmentationDataset,
    runtime: Runtime,
    images: int,
    pixels: int,
    labelled: bool = True,
) -> dict[str, Any]:
    """Return what is drawn of a domain, as arrays; nothing by class unless it is `labelled` in the
    network's classes.

    "layer i": styles `[n, 2, 2 C]` of n images before and after the method's hook, or `[n, 1, 2 C]`
    without one. "regions": (styles `[n, 2, 2 C]` before and after rearrangement, classes `[n]`) and
    "embedding": (`[n, D]`, classes `[n]`), where the method has them. Randomness is seeded.
    """
    number = min(images, len(domain))
    found: dict[str, list] = {}
    torch.manual_seed(0)
    for index in (i * len(domain) // number for i in range(number)):
        sample = domain[index]
        image = sample["image"][None].to(runtime.device, memory_format=runtime.memory_format)
        label = sample["label"][None].long().to(runtime.device)
        features = method.features(image)
        for i in STYLE_LAYERS:
            views = [features[i]]
            if i in method.after:
                views.append(method.after[i](features[i]))
            found.setdefault(f"layer {i}", []).append(torch.stack([style(v) for v in views]))
        if labelled and method.rearrangement is not None:
            found.setdefault("regions", []).append(regions(method, features[0], label))
        if labelled and hasattr(method.decoder, "embed"):
            embedding = method.decoder.embed(features)
            found.setdefault("embedding", []).append(some_pixels(embedding, label, pixels))
    return {
        name: np.stack([e.cpu().numpy() for e in each])
        if torch.is_tensor(each[0])
        else tuple(torch.cat(parts).cpu().numpy() for parts in zip(*each, strict=True))
        for name, each in found.items()
    }


def style(feature: Tensor) -> Tensor:
    """Return mean and deviation `[2 C]` of the channels of one feature `[1, C, h, w]`."""
    std, mean = torch.std_mean(feature[0].float(), dim=(1, 2), correction=0)
    return torch.cat([mean, std])


def regions(method: Method, feature: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return styles `[R, 2, 2 C]` of the regions of an image before and after rearrangement, and
    their classes `[R]` (K for void)."""
    found = find_regions(label, feature.shape[-2:], method.num_classes)
    views = [region_statistics(f, found) for f in (feature, method.rearrangement(feature, label))]
    styles = torch.stack([torch.cat([v.mean, v.std], dim=-1)[0] for v in views], dim=1)
    present = found.present[0]
    return styles[present], present.nonzero()[:, 0]


def some_pixels(embedding: Tensor, label: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return embeddings `[n, D]` and classes `[n]` of at most `number` random pixels of each class
    of one image."""
    small = downsample_labels(label, embedding.shape[-2:]).flatten()
    chosen = [
        places[torch.randperm(len(places), device=places.device)[:number]]
        for c in small.unique().tolist()
        if c != 255
        for places in [(small == c).nonzero()[:, 0]]
    ]
    places = torch.cat([*chosen, small.new_empty(0)])
    return embedding[0].float().flatten(1).T[places], small[places]


def style_figures(
    method: Method, looks: Sequence[DomainLook], space: LabelSpace, layout: str, title: str
) -> "dict[str, Figure]":
    """Return the pictures by name; their titles say what is shown, and `title`."""
    bases = {key: value.detach().float().cpu().numpy() for key, value in method.bases().items()}
    labelled = [own for own in looks if own.labelled]
    kinds = labelled[0].found if labelled else {}
    rows = [style_row(i, looks, bases.get(f"layer {i}"), layout) for i in STYLE_LAYERS]
    note = "a point is the mean and deviation of every channel of one image"
    figures = {"styles": scatter_picture(rows, f"Styles of images, {title}", note)}
    if "regions" in kinds:
        chosen = [own for own in labelled if own.source] or labelled
        row = region_row([own.found["regions"] for own in chosen], space, layout)
        shown = " and ".join(own.title for own in chosen)
        note = "a point is the mean and deviation of every channel of layer 0 in one region"
        figures["regions"] = scatter_picture([row], f"Styles of regions of {shown}, {title}", note)
    if "embedding" in kinds:
        row = embedding_row(labelled, space, bases.get("embedding"), layout)
        note = "a point is the embedding of one pixel"
        note += ", a star a semantic basis" if "embedding" in bases else ""
        figures["embeddings"] = scatter_picture([row], f"Embeddings of pixels, {title}", note)
    return figures


def style_row(
    layer: int, looks: Sequence[DomainLook], bases: np.ndarray | None, layout: str
) -> PanelRow:
    """Return the panels of one layer: before the method acts on the style, and after."""
    styles = [own.found[f"layer {layer}"] for own in looks]
    views, width = styles[0].shape[1:]
    plane = Layout(layout, np.concatenate([s.reshape(-1, width) for s in styles]), bases)
    points = plane.split([len(s) * views for s in styles])
    panels = {}
    titles = (f"as layer {layer} returns them", f"as layer {layer + 1} sees them")
    for view, title in enumerate(titles[:views]):
        groups = panels[title] = []
        for number, (own, placed) in enumerate(zip(looks, points, strict=True)):
            kind, marker = ("source", "o") if own.source else ("unseen", "^")
            colour = COLOURS[number % len(COLOURS)]
            placed = placed.reshape(-1, views, 2)[:, view]
            groups.append(PointGroup(f"{own.title} ({kind})", placed, colour, marker))
        if bases is not None:
            groups.append(PointGroup("style basis", plane.bases, YELLOW, "*"))
    return PanelRow(panels, plane.axes, plane.numbers)


def region_row(
    found: list[tuple[np.ndarray, np.ndarray]], space: LabelSpace, layout: str
) -> PanelRow:
    """Return the panels of regional styles before and after rearrangement."""
    styles, classes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    plane = Layout(layout, styles.reshape(-1, styles.shape[-1]), None)
    before, after = plane.points.reshape(-1, 2, 2).swapaxes(0, 1)
    panels = {
        "before rearrangement": by_class(before, classes, space),
        "after rearrangement": by_class(after, classes, space),
    }
    return PanelRow(panels, plane.axes, plane.numbers)


def embedding_row(
    looks: Sequence[DomainLook], space: LabelSpace, bases: np.ndarray | None, layout: str
) -> PanelRow:
    """Return the panels of pixel embeddings: of sources, and of unseen domains."""
    found: dict[str, list] = {}
    for title, source in (("source domains", True), ("unseen domains", False)):
        own = [look.found["embedding"] for look in looks if look.source == source]
        if own:
            found[title] = [np.concatenate(parts) for parts in zip(*own, strict=True)]
    flat = None if bases is None else bases.reshape(-1, bases.shape[-1])
    plane = Layout(layout, np.concatenate([points for points, _ in found.values()]), flat)
    stars = []
    if bases is not None:
        owners = np.repeat(np.arange(len(bases)), bases.shape[1])
        stars = by_class(plane.bases, owners, space, "*")
    parts = plane.split([len(points) for points, _ in found.values()])
    panels = {
        title: by_class(points, classes, space) + stars
        for (title, (_, classes)), points in zip(found.items(), parts, strict=True)
    }
    return PanelRow(panels, plane.axes, plane.numbers)


def by_class(
    points: np.ndarray, classes: np.ndarray, space: LabelSpace, marker: str = "o"
) -> list[PointGroup]:
    """Return a group for each class that occurs, in the label space's colours; K is void."""
    names, colours = (*space.classes, "void"), (*space.colours, (0, 0, 0))
    return [
        PointGroup(names[c], points[classes == c], colours[c], marker) for c in np.unique(classes)
    ]


if __name__ == "__main__":
    run_script(main)
