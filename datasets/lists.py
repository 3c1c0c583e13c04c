"""Splits of trees without folders for them: list files, and a rule where there is none.

A list file lies in the root of a dataset or in its folder `split_data`, and is called
`{split}.txt` or, as in RobustNet's repository, `{dataset}_split_{split}.txt`. It has one image per
line: a name with or without folders and ending (`images/00007.png`, `00007`). Readers skip the rest
of a line after a space or comma, empty lines, and lines that begin with #. A list goes before every
other rule and is taken as it stands.

`leave_out_{split}.txt` in the root leaves images out of a split of any dataset. A line is the path
of an image, or as much of its end as tells it from others.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from datasets.files import IMAGES, Listing, visible_files
from utils.errors import UserError


def listed(root: Path, dataset: str, split: str, images: Path, labels: Path) -> Listing | None:
    """Return what the list file of a split chooses below the folders `images` and `labels`, or None
    where there is no list file."""
    for folder in (root, root / "split_data"):
        for name in (f"{split}.txt", f"{dataset}_split_{split}.txt"):
            if (folder / name).is_file():
                return choose(read_list(folder / name), images, labels, f"the list file {name}")
    return None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list file without blanks at their ends, empty lines and those that
    begin with #; UserError for none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list file {path}: {error}") from None
    lines = [line.strip(" ,\t") for line in lines]
    lines = [line for line in lines if line and line[0] != "#"]
    if not lines:
        raise UserError(f"the list file {path} names no image")
    return lines


def read_list(path: Path) -> list[str]:
    """Return the image names of a list file without folders and endings; UserError if none."""
    words = [line.replace(",", " ").split()[0] for line in read_lines(path)]
    names = [PurePosixPath(word.replace("\\", "/")).stem for word in words]
    repeated = len(names) - len(set(names))
    if repeated:
        raise UserError(f"the list file {path} names {repeated} images more than once")
    return names


def find_named(lines: Sequence[str], images: Mapping[str, Path], origin: Path) -> list[str]:
    """Return the keys of the images that the lines of the list file `origin` name.

    A line is the end of an image's path, with or without the ending of the file. UserError for one
    that is the end of none or of several, and for an image that is named twice.
    """
    by_stem: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for key, path in images.items():
        by_stem[path.stem].append((key, path.with_suffix("").parts))
    found: dict[str, str] = {}
    for line in lines:
        name = PurePosixPath(line.replace("\\", "/"))
        parts = (name.with_suffix("") if name.suffix.lower() in IMAGES else name).parts
        keys = [key for key, own in by_stem[parts[-1]] if own[-len(parts) :] == parts]
        if len(keys) != 1 or keys[0] in found:
            what = "an image twice" if len(keys) == 1 else f"{len(keys)} images"
            raise UserError(f"the list file {origin} names {what}: {line}")
        found[keys[0]] = line
    return list(found)


def all_png(folder: Path) -> dict[str, Path]:
    """Return {name without ending: path} of the PNG files in `folder` and in its folders."""
    found: dict[str, Path] = {}
    for path in visible_files(folder, "*.[pP][nN][gG]", "*/*.[pP][nN][gG]"):
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path} have one name; remove one of them")
        found[path.stem] = path
    if not found:
        raise UserError(f"no files *.png in {folder}")
    return found


def choose(names: Iterable[str], images: Path, labels: Path, rule: str) -> Listing:
    """Return the listing of the images called `names` below the folders `images` and `labels`."""
    names, every = list(names), all_png(images)

    def own_labels() -> dict[str, Path]:
        found = all_png(labels)
        return {name: found[name] for name in names if name in found}

    return Listing(
        {name: every[name] for name in names if name in every},
        own_labels,
        rule,
        tuple(f"{images / name}.png" for name in names if name not in every),
    )


def seeded_part(names: Iterable[str], train: int, val: int, split: str, seed: int) -> list[str]:
    """Return the names in `split` when names are parted in the proportion `train` : `val`.

    The rule depends on the names alone: they are put in the order of the SHA-256 of
    "{seed}/{name}", and the first ⌊n · val / (train + val) + ½⌋ are the validation part.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    cut = int(len(order) * val / (train + val) + 0.5)
    return sorted(order[:cut] if split == "val" else order[cut:])


def left_out(root: Path, split: str, found: Listing) -> Listing:
    """Return a listing without the images that `leave_out_{split}.txt` names, if that is there."""
    path = root / f"leave_out_{split}.txt"
    if not path.exists():
        return found
    names = set(find_named(read_lines(path), found.images, path))
    return found.without(names, f", without the {len(names)} images of {path.name}")
