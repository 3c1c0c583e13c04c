"""Faults of one image and its label, and labels that changed places."""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.dataset import SegmentationDataset
from datasets.files import read_header, read_image
from datasets.label_spaces import lookup_table
from utils.errors import UserError

# Agreement of label and image, see `agreement`. Measured on the miniature benchmark: labels have
# 0.07 to 0.35 on their own image, on another one at most 0.08. Of 2308 real ones (CamVid,
# IDD-Lite) 2 % are below 0.08.
DOUBTFUL, CONVINCING = 0.08, 0.12
OUT_OF_STEP = 0.04  # median agreement below which images and labels of a split are out of step
FEWEST = 5  # labels that make a median meaningful
MOST_COMPARED = 400  # labels in doubt that are compared with each other
LONGEST_SIDE = 512  # pixels; larger pictures are thinned out before outlines are compared


class Fault(NamedTuple):
    """Something wrong with a file: the kind in a word or two, the path, and a sentence."""

    kind: str
    file: str
    text: str


class PairReport(NamedTuple):
    """The findings in one image and its label."""

    faults: list[Fault]
    size: tuple[int, int] | None = None  # (width, height) of the image; None: cannot be read
    counts: np.ndarray | None = None  # pixels of each number in the label file, int64 [256]
    single: bool = False  # whether all pixels of the label have one train id
    agreement: float | None = None  # how well the label's outlines fit the image: `agreement`
    digest: str = ""  # hash of the label's pixels
    orientation: int = 1  # of the image, in its EXIF data


def inspect_image(path: Path) -> tuple[list[Fault], tuple[int, int] | None]:
    """Read an image without a label; return its faults and its size (w, h); raises nothing."""
    faults: list[Fault] = []
    pixels = _read(path, read_image, faults)
    return faults, None if pixels is None else pixels.shape[:0:-1]


def inspect_pair(dataset: type[SegmentationDataset], pair: tuple[Path, Path]) -> PairReport:
    """Read an image and its label and report all their faults; raises nothing."""
    image, label = pair
    faults: list[Fault] = []
    pixels = _read(image, read_image, faults)
    size = None if pixels is None else pixels.shape[:0:-1]
    if problem := _encoding_problem(dataset, label):
        return PairReport([*faults, problem], size)
    numbers = _read(label, dataset.read_numbers, faults)
    if numbers is None:
        return PairReport(faults, size)
    counts = np.bincount(numbers.ravel(), minlength=256)
    strays = [n for n in np.flatnonzero(counts).tolist() if n not in dataset.file_numbers]
    if strays:
        shown = ", ".join(f"{dataset.label_text(n)} ({counts[n]} pixels)" for n in strays[:5])
        more = f" and {len(strays) - 5} more" if len(strays) > 5 else ""
        text = f"holds labels that {dataset.title} does not have: {shown}{more}"
        faults.append(Fault("stray id", str(label), text))
    table = lookup_table(dataset.label_maps[dataset.label_space.name])
    train_ids = np.unique(table[np.flatnonzero(counts)])
    score, orientation = None, 1 if size is None else read_header(image).orientation
    turned = None if orientation == 1 else read_image(image, upright=True).numpy()
    if size is not None and size != numbers.shape[::-1]:
        of_image, of_label = (f"{w}×{h}" for w, h in (size, numbers.shape[::-1]))
        text = f"is {of_label} pixels, its image {image} is {of_image}"
        if turned is not None and turned.shape[1:] == numbers.shape:
            text += f" as stored; it is of the image turned as EXIF orientation {orientation} says"
        faults.append(Fault("size", str(label), text))
    elif size is not None:
        score = agreement(pixels, numbers)
        if turned is not None and turned.shape[1:] == numbers.shape and score is not None:
            if (of_turned := agreement(turned, numbers)) > max(score, DOUBTFUL):
                text = (
                    f"fits its image {image} turned as EXIF orientation {orientation} says "
                    f"({of_turned:.2f}), not as stored ({score:.2f}); pixels are taken as stored"
                )
                faults.append(Fault("turned", str(label), text))
    digest = hashlib.sha256(numbers.tobytes()).hexdigest()
    single = len(train_ids) == 1
    return PairReport(faults, size, counts, single, score, digest, orientation)


def _read(
    path: Path, reader: Callable[[Path], torch.Tensor], faults: list[Fault]
) -> np.ndarray | None:
    """Return what `reader` reads, or None and a fault more."""
    try:
        if not path.exists():
            faults.append(Fault("missing", str(path), "is a link to nothing or was removed"))
        elif path.stat().st_size == 0:
            faults.append(Fault("empty file", str(path), "has 0 bytes"))
        else:
            return reader(path).numpy()
    # A check goes on whatever it meets; the decoders' own errors are UserErrors already.
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        text = text.removeprefix("label ").replace(f"cannot read {path}: ", "cannot be read: ")
        faults.append(Fault("unreadable", str(path), text.removeprefix(f"{path} ")))
    return None


def _encoding_problem(dataset: type[SegmentationDataset], label: Path) -> Fault | None:
    """Return the fault of a label PNG that is sound, but not in the release's encoding."""
    try:
        with label.open("rb") as file:
            header = file.read(26)
    except OSError:
        return None  # reading it will say what is wrong
    if len(header) < 26 or header[12:16] != b"IHDR":
        return None
    bits = header[24]
    if dataset.label_bits == 16 and bits != 16:
        text = (
            f"has {bits} bits per channel; {dataset.title}'s labels have 16, with the class in the "
            "first channel, and programs that cannot write that lose the classes"
        )
        return Fault("8-bit label", str(label), text)
    return None


def agreement(image: np.ndarray, label: np.ndarray) -> float | None:
    """Return how much better a label's outlines fit edges of its image than mirrored ones do.

    `image` is uint8 [3, H, W], `label` [H, W]. The value is a difference of mean ranks of the grey
    gradient, -1 to 1. A label of another image has about 0: its outlines lie at the usual heights
    but not on edges. None for a label with hardly any outline.
    """
    outline = _outline(label)
    return None if outline is None else _fit(_gradient_ranks(image), outline)


def _outline(label: np.ndarray) -> np.ndarray | None:
    """Return where neighbours of a thinned-out label differ, bool; None if hardly anywhere."""
    label = label[_thinned(label.shape)]
    outline = _spread(label[:, 1:] != label[:, :-1], label[1:] != label[:-1], np.logical_or)
    sparse = outline.sum() < 2 * max(label.shape) or label.size < 1000
    return None if sparse else outline


def _gradient_ranks(image: np.ndarray) -> np.ndarray:
    """Return the rank of each pixel's grey gradient in a thinned-out image, 0 to 1, float32."""
    grey = image[(slice(None), *_thinned(image.shape[1:]))].astype(np.float32).mean(0)
    gradient = _spread(np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0)), np.add)
    ranks = np.empty(gradient.size, np.float32)
    ranks[np.argsort(gradient, axis=None)] = np.linspace(0, 1, gradient.size, dtype=np.float32)
    return ranks.reshape(gradient.shape)


def _fit(ranks: np.ndarray, outline: np.ndarray) -> float:
    return float(ranks[outline].mean() - ranks[outline[:, ::-1]].mean())


def _thinned(shape: tuple[int, int]) -> tuple[slice, slice]:
    step = max(1, max(shape) // LONGEST_SIDE)
    return slice(None, None, step), slice(None, None, step)


def _spread(across: np.ndarray, down: np.ndarray, join: np.ufunc) -> np.ndarray:
    """Join differences of neighbours [H, W - 1] and [H - 1, W] into a map [H, W] of both ends."""
    result = np.zeros((across.shape[0], down.shape[1]), across.dtype)
    for ends, values in ((result.T, across.T), (result, down)):
        for part in (ends[1:], ends[:-1]):
            join(part, values, out=part)
    return result


def find_swapped(
    dataset: type[SegmentationDataset], pairs: list[tuple[Path, Path]], reports: list[PairReport]
) -> tuple[list[Fault], list[str]]:
    """Return labels that belong to another image, as faults, and labels in doubt, as paths.

    Looks only at labels that do not fit their own image. Two that fit each other's image were
    swapped. One that equals the label of another image is a copy. A low median means that images
    and labels are out of step: then each label in doubt is a fault.
    """
    scores = {i: r.agreement for i, r in enumerate(reports) if r.agreement is not None}
    doubtful = [i for i, score in scores.items() if score < DOUBTFUL]
    if len(scores) >= FEWEST and np.median(list(scores.values())) < OUT_OF_STEP:
        text = f"does not fit its image, like {len(doubtful)} of {len(scores)}: out of step?"
        return [Fault("swapped label", str(pairs[i][1]), text) for i in doubtful], []
    partners = _swapped_with(dataset, pairs, doubtful[:MOST_COMPARED])
    copies: dict[str, list[int]] = defaultdict(list)
    for i, report in enumerate(reports):
        if not report.single:
            copies[report.digest].append(i)
    faults, in_doubt = [], []
    for i in doubtful:
        name = str(pairs[i][1])
        twins = [j for j in copies[reports[i].digest] if j != i]
        if twins:
            end = f"and equals {pairs[twins[0]][1]}"
        elif i in partners:
            end = f"but the image of {pairs[partners[i]][1]}"
        else:
            in_doubt.append(name)
            continue
        faults.append(Fault("swapped label", name, f"does not fit its image, {end}"))
    return faults, in_doubt


def _swapped_with(
    dataset: type[SegmentationDataset], pairs: list[tuple[Path, Path]], doubtful: list[int]
) -> dict[int, int]:
    """Return {i: j} where the label of i fits the image of j convincingly, and the other way."""
    ranks = {i: _gradient_ranks(read_image(pairs[i][0]).numpy()) for i in doubtful}
    outlines = {i: _outline(dataset.read_numbers(pairs[i][1]).numpy()) for i in doubtful}

    def fits(i: int, j: int) -> bool:
        return ranks[i].shape == outlines[j].shape and _fit(ranks[i], outlines[j]) > CONVINCING

    found = {}
    for i, j in combinations(doubtful, 2):
        if fits(i, j) and fits(j, i):
            found |= {i: j, j: i}
    return found
