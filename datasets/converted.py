"""Reading the trees that `python -m datasets.convert` writes.

Such a root holds `{split}/images/{key}.png` (or .jpg), `{split}/train_ids/{key}.png` (8-bit grey
levels that are train ids, 255 void) and `converted.json`. That file says how the tree was made and
which files make up a split; a split that it does not list is not there, whatever lies in the
folders. No release has files where these are, so neither can be taken for the other.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.files import Listing
from datasets.label_spaces import LabelSpace, lookup_table
from utils.errors import UserError
from utils.labels import VOID

if TYPE_CHECKING:
    from datasets.dataset import SegmentationDataset

STAMP = "converted.json"
FORMAT = 1


def folders(root: Path, split: str) -> tuple[Path, Path]:
    """Return where a converted split has its images and its labels."""
    return root / split / "images", root / split / "train_ids"


def read_stamp(root: Path) -> dict[str, Any] | None:
    """Return the content of converted.json, or None; UserError for one that cannot be used."""
    path = root / STAMP
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    try:
        content = json.loads(text)
        sound = content["format"] == FORMAT and {*content} >= {"size", "label_map", "train_ids"}
        for splits in content["datasets"].values():
            for entry in splits.values():
                sound &= {*entry} >= {"split_rule", "resized"} and isinstance(entry["files"], dict)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise UserError(
            f"{path} is damaged or of another version of this program; delete {root} and convert "
            "again"
        )
    return content


def write_stamp(root: Path, content: dict[str, Any]) -> None:
    """Write converted.json in one step; UserError if that is not possible."""
    temporary = root / f"{STAMP}.part"
    text = json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False)
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, root / STAMP)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {root / STAMP}: {error.strerror}") from None


@dataclass(frozen=True)
class Conversion:
    """A converted tree of a dataset: takes the place of the dataset's class where files are read.

    Attributes that the class has as well mean the same. `label_map` names the table that made the
    train ids, `size` the rule that images were resized by, `entries` are the splits as they stand
    in converted.json.
    """

    name: str
    title: str
    splits: tuple[str, ...]
    label_space: LabelSpace
    label_map: str
    label_maps: dict[str, dict[int, int]]
    published_counts: dict[str, int]
    file_numbers: frozenset[int]
    size: str
    entries: dict[str, dict[str, Any]]
    label_bits: int = 8

    def listing(self, root: Path, split: str) -> Listing:
        """Return images and labels of a split; UserError for one that is not (all) converted."""
        if split not in self.entries:
            raise UserError(
                f"{root} is a converted tree without {split}, or it was interrupted; "
                f"python -m datasets.convert {self.name}:{split} makes or completes it"
            )
        entry = self.entries[split]
        images, labels = folders(root, split)
        there = {str(path) for folder in (images, labels) for path in folder.rglob("*")}
        found = Listing({}, {}, f"{entry['split_rule']}, converted{self.resizing(split)}", names={})
        absent = []
        for name, file in entry["files"].items():
            key = file.rpartition(".")[0]
            image, label = images / file, labels / f"{key}.png"
            if str(image) in there:
                found.images[key] = image
                found.names[key] = name
            else:
                absent.append(str(image))
            if str(label) in there:
                found.labels[key] = label
        return found._replace(absent=tuple(absent))

    def resizing(self, split: str) -> str:
        """Say how images of a split were resized; empty where none was."""
        return f", resized ({self.size})" if self.entries[split]["resized"] else ""


def find_conversion(
    dataset: type["SegmentationDataset"], root: Path, label_map: str | None = None
) -> Conversion | None:
    """Return what a root was converted to, or None for a release.

    UserError for a tree of another dataset, for other train ids than the program's, and for another
    label map than `label_map`, if that is given.
    """
    stamp = read_stamp(root)
    if stamp is None:
        return None
    if dataset.name not in stamp["datasets"]:
        held = ", ".join(stamp["datasets"]) or "nothing complete"
        raise UserError(
            f"{root} is a converted tree and holds {held}; python -m datasets.convert "
            f"{dataset.name} makes or completes it"
        )
    entries, made_with = stamp["datasets"][dataset.name], stamp["label_map"]
    if label_map not in (None, made_with):
        raise UserError(
            f"{root} was converted with label map {made_with}, which cannot be turned into "
            f"{label_map}; take the release, or convert it with {label_map} to another folder"
        )
    maps = dataset.known_label_maps().get(made_with)
    if maps is None or stamp["train_ids"] != numbers_to_train_ids(dataset, made_with):
        raise UserError(
            f"{root} was converted with another table of train ids; delete it and convert again"
        )
    return Conversion(
        name=dataset.name,
        title=dataset.title,
        splits=tuple(split for split in dataset.splits if split in entries),
        label_space=dataset.label_space,
        label_map=made_with,
        label_maps=from_train_ids(dataset, made_with),
        published_counts=dataset.published_counts,
        file_numbers=frozenset({*stamp["train_ids"].values(), VOID}),
        size=stamp["size"],
        entries=entries,
    )


def numbers_to_train_ids(dataset: type["SegmentationDataset"], label_map: str) -> dict[str, int]:
    """Return the table to the dataset's own label space as it stands in converted.json."""
    table = dataset.known_label_maps()[label_map][dataset.label_space.name]
    return {str(number): table[number] for number in sorted(table)}


def from_train_ids(
    dataset: type["SegmentationDataset"], label_map: str
) -> dict[str, dict[int, int]]:
    """Return tables that make of train ids what those of the dataset make of the release's numbers.

    UserError if numbers that are one class in the dataset's own label space are not in another one.
    """
    maps = dataset.known_label_maps()[label_map]
    train_ids = lookup_table(maps[dataset.label_space.name]).tolist()
    tables: dict[str, dict[int, int]] = {}
    for space, mapping in maps.items():
        tables[space] = {}
        for train_id, target in zip(train_ids, lookup_table(mapping).tolist(), strict=True):
            if tables[space].setdefault(train_id, target) != target:
                raise UserError(
                    f"{dataset.title} cannot be converted: labels that are {train_id} in "
                    f"{dataset.label_space.name} are of several classes in {space}"
                )
    return tables
