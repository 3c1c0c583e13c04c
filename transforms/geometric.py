"""Scale, pad, crop and flip of image and label together.

The crop's window of the source is cut out first and resized alone, so that every crop costs the
same. The window has whole source pixels: it is up to half a source pixel away from where resizing
the whole image would put it. With a box or short edges it is sampled where resizing the whole
would.
Random numbers come from torch's global generator.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from torch.nn.functional import grid_sample
from torchvision.transforms import InterpolationMode

from utils.errors import UserError
from utils.labels import VOID

# What a crop must show: a point (x, y) in label pixels, a class (its train id), or nothing.
Aim = tuple[float, float] | int | None

REDRAWS = 10  # of DAFormer, of positions and of whole placements; the last one is not checked


def resize_image(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return uint8 [3, H, W] at `size` (h, w), by bicubic interpolation with antialiasing."""
    return F.resize(image, list(size), InterpolationMode.BICUBIC, antialias=True)


def resize_label(label: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return a label [H, W] at `size` (h, w): each pixel takes the one that holds its centre."""
    # In whole numbers: F.resize rounds some centres to the neighbour, and takes twice as long.
    sides = zip(label.shape, size, strict=True)
    rows, columns = (Span(old, new, new, 0).nearest for old, new in sides)
    return torch.from_numpy(label.numpy().take(rows, 0).take(columns, 1))


def uniform(low: float, high: float) -> float:
    """Draw a number from [low, high)."""
    return torch.empty(1).uniform_(low, high).item()


def fitted_size(size: Sequence[int], box: Sequence[int]) -> tuple[int, int]:
    """Return at which size (h, w) an image of `size` fits into a box with its aspect.

    The long side of the image lies along the long side of the box, as in mmcv.
    """
    factor = min(max(box) / max(size), min(box) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def short_edge_size(size: Sequence[int], edge: int) -> tuple[int, int]:
    """Return at which size (h, w) the short side of an image of `size` is `edge`, its aspect kept,
    as in mmseg."""
    height, width = (int(side * edge / min(size) + 0.5) for side in size)
    return height, width


def covering_size(size: Sequence[int], crop: Sequence[int]) -> tuple[int, int]:
    """Return the least size (h, w) at which an image of `size` covers a crop (h, w), its aspect
    kept."""
    factor = max(side / own for side, own in zip(crop, size, strict=True))
    height, width = (max(side, round(own * factor)) for side, own in zip(crop, size, strict=True))
    return height, width


class Span(NamedTuple):
    """One side of a sample: `old` pixels, scaled to `new`; the crop shows `size` from `start` on.

    `start` counts scaled pixels and is negative where padding comes first.
    """

    old: int
    new: int
    size: int
    start: int

    @property
    def shown(self) -> tuple[int, int]:
        """The scaled pixels [first, last) that the crop shows; the rest of it is padding."""
        return max(0, self.start), min(self.new, self.start + self.size)

    @property
    def window(self) -> tuple[int, int]:
        """The old pixels [first, last), at least one, that become the pixels shown."""
        first, last = (round(end * self.old / self.new) for end in self.shown)
        first = min(first, self.old - 1)
        return first, max(last, first + 1)

    @property
    def nearest(self) -> np.ndarray:
        """The old pixel that holds the centre of each pixel shown."""
        return (2 * np.arange(*self.shown) + 1) * self.old // (2 * self.new)

    @property
    def centres(self) -> torch.Tensor:
        """Where the centre of each pixel shown lies, float64 in old pixels, 0 being the centre of
        the first; not beyond the centres at the edges."""
        centres = (torch.arange(*self.shown, dtype=torch.float64) + 0.5) * self.old / self.new - 0.5
        return centres.clamp_(0, self.old - 1)


class Placement(NamedTuple):
    """What a crop shows of a sample, and whether mirrored.

    `exact`: pixels are those that resizing the whole image gives, bilinearly without antialiasing.
    """

    rows: Span
    columns: Span
    flip: bool
    exact: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is not padding."""
        (top, bottom), (left, right) = self.rows.shown, self.columns.shown
        return bottom - top, right - left


class RandomGeometry:
    """Resize by a random factor, pad to the size of the crop, cut it out, mirror it.

    The factor is uniform in `scale`. Padding is even on both sides, black and void. Every position
    of the crop (height, width) is equally likely, or with a centroid every one that contains it.
    It is mirrored left and right with probability `flip`.

    `box` (pixels; zeros: none): the factor is counted from the size that fits into it, and images
    are interpolated bilinearly without antialiasing, as by OpenCV, in place of bicubically with it.
    `short_edges` (pixels; a zero: none): the short side becomes one of them, each equally likely,
    in place of the factor and the box; interpolation is as with a box.
    `max_class_share`: a position is drawn again, up to ten times, until two classes are there and
    the larger has less than this share of the pixels that are not void (1: any position will do).
    `covering`: the factor is counted from the least size that covers the crop.
    A class as aim: all is drawn again, up to ten times, until more than `class_pixels` pixels of
    the crop are of that class.
    """

    def __init__(
        self,
        scale: Sequence[float],
        crop_size: Sequence[int],
        flip: float,
        box: Sequence[int] = (0, 0),
        max_class_share: float = 1.0,
        class_pixels: int = 0,
        section: str = "TRANSFORM",
        covering: bool = False,
        short_edges: Sequence[int] = (0,),
    ):
        """`section` is that of the settings SCALE, BOX and SHORT_EDGES, for errors."""
        if scale[0] > scale[1]:
            raise UserError(f"{section}.SCALE runs from low to high, not {list(scale)}")
        if any(box) and not all(box):
            raise UserError(f"{section}.BOX has two sides, or 0,0 for none: not {list(box)}")
        if any(short_edges) and not all(short_edges):
            raise UserError(
                f"{section}.SHORT_EDGES has sides of a pixel or more, or is 0 for none: not "
                f"{list(short_edges)}"
            )
        if any(short_edges) and any(box):
            raise UserError(f"{section}.SHORT_EDGES takes the place of BOX; set one of them to 0")
        self.scale, self.crop_size, self.flip, self.box = scale, crop_size, flip, box
        self.max_class_share, self.class_pixels = max_class_share, class_pixels
        self.covering, self.short_edges = covering, short_edges

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, aim: Aim = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return image uint8 [3, h, w] and label [h, w] of the crop's size.

        `image` is uint8 [3, H, W], `label` [H, W] of train ids. An aim (x, y) is in label pixels, 0
        being the centre of the first.
        """
        place = self.draw(label.shape, aim, label)
        return show_image(image, place), show_label(label, place)

    def draw(
        self, size: Sequence[int], aim: Aim = None, label: torch.Tensor | None = None
    ) -> Placement:
        """Draw what is shown of a sample of `size` (height, width).

        Classes are looked for in `label`; without one no position is drawn again.
        """
        if aim is None or isinstance(aim, tuple):
            return self._draw_once(size, aim, label)
        for _ in range(REDRAWS):
            place = self._draw_once(size, None, label)
            if (show_label(label, place) == aim).sum() > self.class_pixels:
                return place
        return self._draw_once(size, None, label)

    def _draw_once(
        self, size: Sequence[int], point: tuple[float, float] | None, label: torch.Tensor | None
    ) -> Placement:
        height, width = self._draw_size(size)
        exact = any(self.box) or any(self.short_edges)
        x, y = point or (None, None)
        for left in range(REDRAWS, -1, -1):
            columns = _draw_span(size[1], width, self.crop_size[1], x)
            rows = _draw_span(size[0], height, self.crop_size[0], y)
            place = Placement(rows, columns, flip=False, exact=exact)
            if not left or self._is_varied(label, place):
                break
        return place._replace(flip=uniform(0, 1) < self.flip)

    def _draw_size(self, size: Sequence[int]) -> tuple[int, int]:
        if any(self.short_edges):
            chosen = int(torch.randint(len(self.short_edges), (1,)))
            return short_edge_size(size, self.short_edges[chosen])
        factor = uniform(*self.scale)
        fitted = fitted_size(size, self.box) if any(self.box) else size
        fitted = covering_size(size, self.crop_size) if self.covering else fitted
        height, width = (max(1, round(side * factor)) for side in fitted)
        return height, width

    def _is_varied(self, label: torch.Tensor | None, place: Placement) -> bool:
        if label is None or self.max_class_share >= 1:
            return True
        counts = np.bincount(show_label(label, place).numpy().ravel(), minlength=VOID + 1)[:VOID]
        return bool((counts > 0).sum() > 1 and counts.max() < self.max_class_share * counts.sum())


def _draw_span(old: int, new: int, size: int, point: float | None) -> Span:
    before = max(0, size - new) // 2
    first, last = 0, max(0, new - size)
    if point is not None:
        pixel = math.floor((point + 0.5) * new / old) + before
        first, last = max(first, pixel - size + 1), min(last, pixel)
    return Span(old, new, size, int(torch.randint(first, last + 1, (1,))) - before)


def show_image(image: torch.Tensor, place: Placement) -> torch.Tensor:
    """Return what a placement shows of an image uint8 [3, H, W], on black."""
    if place.exact:
        return _on_canvas(_interpolate(image, place), place, 0)
    window = image[:, slice(*place.rows.window), slice(*place.columns.window)]
    return _on_canvas(resize_image(window, place.size), place, 0)


def show_label(label: torch.Tensor, place: Placement) -> torch.Tensor:
    """Return what a placement shows of a label [H, W], on void."""
    if place.exact:
        shown = label.numpy().take(place.rows.nearest, 0).take(place.columns.nearest, 1)
        return _on_canvas(torch.from_numpy(shown)[None], place, VOID)[0]
    window = label[slice(*place.rows.window), slice(*place.columns.window)]
    return _on_canvas(resize_label(window, place.size)[None], place, VOID)[0]


def _interpolate(image: torch.Tensor, place: Placement) -> torch.Tensor:
    """Return the pixels of uint8 [3, H, W] that a placement shows, bilinearly from the whole."""
    rows, columns = place.rows.centres, place.columns.centres
    (top, bottom), (left, right) = ((int(at[0]), int(at[-1]) + 2) for at in (rows, columns))
    window = image[:, top:bottom, left:right].float()
    height, width = window.shape[1:]
    # From -1 to 1 between the window's outer edges.
    down, across = (2 * rows - 2 * top + 1) / height - 1, (2 * columns - 2 * left + 1) / width - 1
    grid = torch.stack(torch.meshgrid(across.float(), down.float(), indexing="xy"), dim=-1)
    pixels = grid_sample(window[None], grid[None], padding_mode="border", align_corners=False)[0]
    return pixels.add_(0.5).to(torch.uint8)


def _on_canvas(shown: torch.Tensor, place: Placement, fill: int) -> torch.Tensor:
    """Return what is shown [C, h, w] at the crop's size, mirrored or not."""
    sides = (place.columns, place.rows)
    if place.size != (place.rows.size, place.columns.size):
        left, top = (side.shown[0] - side.start for side in sides)
        right, bottom = (side.start + side.size - side.shown[1] for side in sides)
        shown = F.pad(shown, [left, top, right, bottom], fill=fill)
    return shown.flip(-1) if place.flip else shown
