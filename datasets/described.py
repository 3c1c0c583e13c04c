"""Datasets that a JSON file describes, without Python; docs/datasets.md has an example."""

import copyreg
import glob
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from datasets.dataset import SegmentationDataset
from datasets.files import IMAGES, Listing, is_hidden
from datasets.label_spaces import LabelSpace, identity
from datasets.lists import find_named, read_lines
from utils.errors import UserError, unknown_name
from utils.labels import VOID
from utils.recipes import read_object

REQUIRED = {"name": str, "classes": (list, str), "splits": dict}
OPTIONAL = {"title": str, "root": str, "folder": str, "label_space": str, "void": (list, int, dict)}
OPTIONAL |= {"to": dict, "from": dict}
NAME = re.compile(r"\w[\w-]*")


class _Described(type):
    """The class of classes that files describe: they travel to other processes by attributes."""


class DescribedDataset(SegmentationDataset, metaclass=_Described):
    """What all datasets described by a file share; a subclass of it is one of them."""

    settings: ClassVar[dict[str, Any]] = {}
    file: ClassVar[str]
    base: ClassVar[Path]
    patterns: ClassVar[dict[str, dict[str, str]]]

    @classmethod
    def find_root(cls, cfg: Any) -> Path:
        """Return `folder` below DATASET.ROOT if it is there, else the root in the file."""
        moved = Path(cfg.DATASET.ROOT) / cls.folder
        return moved if cfg.DATASET.ROOT and moved.is_dir() else cls.base

    @classmethod
    def root_advice(cls) -> str:
        return f'it is DATASET.ROOT/{cls.folder} where that is, and "root" in {cls.file} changes it'

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        own = cls.patterns[split]
        every = Listing(
            _matching(root, own["images"]),
            lambda: _matching(root, own["labels"]),
            f"the list file {own['list']}" if "list" in own else Path(cls.file).name,
        )
        if "list" not in own:
            return every
        path = root / own["list"]
        return every.without(
            every.images.keys() - set(find_named(read_lines(path), every.images, path))
        )


def _make(attributes: dict[str, Any]) -> type[DescribedDataset]:
    return _Described("Described", (DescribedDataset,), dict(attributes))


def _attributes(dataset: type[DescribedDataset]) -> tuple:
    if dataset is DescribedDataset:
        return "DescribedDataset"
    names = (*("file", "base", "patterns", "name", "title", "folder", "splits"),
             *("label_space", "label_maps", "file_numbers", "colours"))  # fmt: skip
    return _make, ({name: getattr(dataset, name) for name in names},)


copyreg.pickle(_Described, _attributes)


def describe(path: Path, spaces: Mapping[str, LabelSpace]) -> type[DescribedDataset]:
    """Return the dataset that a file describes; `spaces` are the label spaces that it can name.

    UserError, with the file and the place in it, for what is no such description.
    """
    try:
        return _make(_read(path, spaces))
    except UserError as error:
        told = str(error)
        raise UserError(told if told.startswith(str(path)) else f"{path}: {told}") from None


def _read(path: Path, spaces: Mapping[str, LabelSpace]) -> dict[str, Any]:
    content = read_object(path)
    _check(content, "the description", REQUIRED, OPTIONAL)
    name = content["name"]
    if not NAME.fullmatch(name):
        raise UserError(f'"name" is {name!r}; it has letters, digits, - and _ alone')
    folder = content.get("folder", name)
    if not NAME.fullmatch(folder):
        raise UserError(f'"folder" is {folder!r}; it has letters, digits, - and _ alone')
    classes, colours = content["classes"], None
    if isinstance(classes, str):
        if classes not in spaces:
            raise unknown_name("label space", classes, spaces)
        space, marks = spaces[classes], [[i] for i in range(len(spaces[classes]))]
    else:
        space, marks = _classes(content, spaces)
    void = _marks(content.get("void", []), '"void"')
    every = [mark for own in (*marks, void) for mark in own]
    if len(set(every)) < len(every):
        twice = next(mark for mark in every if every.count(mark) > 1)
        raise UserError(f"the label {twice} stands twice; it is of one class, or void")
    if len({type(mark) for mark in every}) > 1:
        raise UserError('labels are numbers, or {"rgb": …} in all classes and "void"')
    if isinstance(every[0], tuple):
        colours = tuple(every)
        if len(colours) > VOID:
            raise UserError(f"{len(colours)} colours; a dataset has {VOID} at most")
        marks = [[colours.index(mark) for mark in own] for own in marks]
        every = list(range(len(colours)))
    splits = content["splits"]
    if not splits:
        raise UserError('"splits" is empty')
    for split, own in splits.items():
        where = f'"splits", {split!r}'
        if not NAME.fullmatch(split) or not isinstance(own, dict):
            raise UserError(f"{where}: a split is a word with an object of images and labels")
        _check(own, where, {"images": str, "labels": str}, {"list": str})
        for kind, text in own.items():
            if not text or text.startswith("/") or ".." in PurePosixPath(text).parts:
                raise UserError(f"{where}, {kind!r} is {text!r}; it lies below the root")
    return {
        "file": str(path),
        "base": path.resolve().parent / content.get("root", "."),
        "patterns": splits,
        "name": name,
        "title": content.get("title", name),
        "folder": folder,
        "splits": tuple(splits),
        "label_space": space,
        "label_maps": {space.name: _numbered(marks, identity(space))}
        | _mapped(content.get("to", {}), space, marks, spaces),
        "file_numbers": frozenset(every if colours else {*every, VOID}),
        "colours": colours,
    }


def _classes(
    content: dict[str, Any], spaces: Mapping[str, LabelSpace]
) -> tuple[LabelSpace, list[list]]:
    """Return the label space of "classes", and the labels of each class."""
    palette, marks = {}, []
    for number, own in enumerate(content["classes"]):
        where = f'"classes", number {number}'
        if not isinstance(own, dict):
            raise UserError(f"{where}: a class is an object with name, colour and labels")
        _check(own, where, {"name": str}, {"colour": list, "labels": (list, int, dict)})
        marks.append(_marks(own.get("labels", number), f'{where}, "labels"'))
        colour = own.get("colour") or next((m for m in marks[-1] if isinstance(m, tuple)), None)
        if own["name"] in palette:
            raise UserError(f"{where}: the name {own['name']!r} stands twice")
        if colour is None:
            raise UserError(f'{where} has no "colour", by which pictures show it')
        palette[own["name"]] = _colour(colour, where)
    name = content.get("label_space", content["name"])
    merges = {}
    for fine, groups in content.get("from", {}).items():
        other = _space(fine, spaces, '"from"')
        merges[fine] = {
            own: _known([names] if isinstance(names, str) else names, other.classes, other.name)
            for own, names in zip(
                _known(groups, palette, '"classes"'), groups.values(), strict=True
            )
        }
    return LabelSpace(name, tuple(palette), tuple(palette.values()), merges), marks


def _mapped(
    maps: dict[str, Any], space: LabelSpace, marks: list[list[int]], spaces: Mapping
) -> dict[str, dict[int, int]]:
    """Return {label space: {number in a label file: train id there}} of "to"."""
    found = {}
    for coarse, own in maps.items():
        other = _space(coarse, spaces, '"to"')
        _known(own, space.classes, '"classes"')
        _known(own.values(), other.classes, other.name)
        ids = {space.classes.index(a): other.classes.index(b) for a, b in own.items()}
        found[coarse] = _numbered(marks, ids)
    return found


def _numbered(marks: list[list[int]], ids: Mapping[int, int]) -> dict[int, int]:
    return {mark: ids[i] for i, own in enumerate(marks) if i in ids for mark in own}


def _space(name: str, spaces: Mapping[str, LabelSpace], where: str) -> LabelSpace:
    if name not in spaces:
        raise unknown_name(f"label space in {where}", name, spaces)
    return spaces[name]


def _known(names: Iterable[Any], known: Iterable[str], where: str) -> tuple[str, ...]:
    names = tuple(names)
    for name in names:
        if name not in known:
            raise unknown_name(f"class of {where}", str(name), known)
    return names


def _check(content: dict, where: str, required: dict, optional: dict) -> None:
    """Raise UserError for keys that are missing, of another type or unknown."""
    for key, kind in (required | optional).items():
        if key not in content and key in required:
            raise UserError(f'{where} has no "{key}"')
        if key in content and not isinstance(content[key], kind):
            raise UserError(f'{where}: "{key}" is {content[key]!r}, of the wrong type')
    unknown = [key for key in content if key not in required | optional]
    if unknown:
        raise UserError(f"{where}: {unknown_name('key', unknown[0], required | optional)}")


def _marks(labels: Any, where: str) -> list:
    """Return the numbers or colours, tuples (r, g, b), of "labels" or "void"."""
    marks = []
    for mark in labels if isinstance(labels, list) else [labels]:
        if isinstance(mark, dict) and mark.keys() == {"rgb"}:
            marks.append(_colour(mark["rgb"], where))
        elif isinstance(mark, int) and not isinstance(mark, bool) and 0 <= mark <= 255:
            marks.append(mark)
        else:
            raise UserError(
                f'{where} holds {mark!r}; a label is a number from 0 to 255 or {{"rgb": [r, g, b]}}'
            )
    return marks


def _colour(colour: Any, where: str) -> tuple[int, int, int]:
    if not (
        isinstance(colour, (list, tuple))
        and len(colour) == 3
        and all(isinstance(c, int) and 0 <= c <= 255 for c in colour)
    ):
        raise UserError(f"{where}: a colour is [red, green, blue] from 0 to 255, not {colour!r}")
    return tuple(colour)


def _matching(root: Path, pattern: str) -> dict[str, Path]:
    """Return {what wildcards stand for: path} of the pictures that a folder or pattern means.

    The wildcards of a folder's pictures stand for the path below it without ending.
    """
    if (root / pattern).is_dir():
        pattern = f"{pattern.rstrip('/')}/**/*"
    if not glob.has_magic(pattern):
        raise UserError(f"there is no folder {root / pattern}")
    # Endings are no part of a key: a photograph's is another one than its label's.
    folder, _, name = pattern.rpartition("/")
    stem = name.rpartition(".")[0] or name
    expression = re.compile(_expression(f"{folder}/{stem}" if folder else stem))
    found: dict[str, Path] = {}
    for relative in sorted(glob.glob(pattern, root_dir=root, recursive=True)):
        path = PurePosixPath(relative)
        if path.suffix.lower() not in IMAGES or is_hidden(path):
            continue
        match = expression.fullmatch(str(path.with_suffix("")))
        key = "/".join(match.groups()) if match else str(path.with_suffix(""))
        if key in found:
            raise UserError(f"{found[key]} and {root / path} would be one image; remove one")
        found[key] = root / path
    if not found:
        raise UserError(f"no pictures ({', '.join(IMAGES)}) match {root / pattern}")
    return found


def _expression(pattern: str) -> str:
    """Return the regular expression of a glob pattern, a group for each wildcard."""
    parts = re.split(r"(\*\*/|\*+|\?|\[[^\]]*\])", pattern)
    groups = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}
    return "".join(
        re.escape(part) if i % 2 == 0 else groups.get(part) or f"({part.replace('[!', '[^')})"
        for i, part in enumerate(parts)
    )
