"""The reader that all datasets share: file list + label table → samples."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from datasets.files import Colours, Listing, read_header, read_image, read_label
from datasets.label_spaces import CITYSCAPES19, LabelSpace, coarsening, lookup_table
from datasets.lists import left_out
from transforms.geometric import Aim
from utils.errors import UserError, unknown_name
from utils.labels import VOID
from utils.seeding import stable_seed
from utils.settings import Setting


def root(title: str, folder: str) -> Setting:
    """Declare the root of a dataset, which `SegmentationDataset.find_root` looks for."""
    return Setting("", f"root of {title}; empty: ROOT/{folder}, else the environment variable")


class SegmentationDataset(torch.utils.data.Dataset):
    """Images and labels of one split of one dataset.

    A dataset is a subclass that fills in the class attributes and `listing`. Attributes of an
    instance:

    image_paths     path of each image, sorted by key
    label_paths     path of each label, in the same order
    split_rule      what decided which images are in the split, in words
    label_map       name of the label map
    label_table     uint8 [256], number in a label file → train id
    label_space     classes of the labels as they are read
    means           {name: train ids to average}; the first is the mIoU
    """

    # What users type, and what they read.
    name: ClassVar[str]
    title: ClassVar[str]
    # The root: its setting below DATASET, also an environment variable; its folder below ROOT.
    root_setting: ClassVar[str]
    folder: ClassVar[str]
    # All settings of the dataset, the root among them; a tree like `config.SETTINGS`.
    settings: ClassVar[dict[str, Any]]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    # The classes it is annotated in.
    label_space: LabelSpace = CITYSCAPES19
    # {label space: {number in the file: train id}}; other numbers are void. `label_space` needs
    # one; others have one where coarsening train ids would be wrong.
    label_maps: dict[str, dict[int, int]]
    # The name of `label_maps`, and further ones to choose from.
    default_label_map: ClassVar[str] = "default"
    other_label_maps: ClassVar[dict[str, dict[str, dict[int, int]]]] = {}
    # {name: train ids of `label_space`}; without an "mIoU", that is the mean of all classes.
    class_means: ClassVar[dict[str, tuple[int, ...]]] = {}
    # What datasets/check expects: images per split, numbers in label files, bits per channel.
    published_counts: ClassVar[dict[str, int]] = {}
    file_numbers: ClassVar[frozenset[int]] = frozenset(range(256))
    label_bits: ClassVar[int] = 8
    # Of label files that hold colours: the number of a colour is its position.
    colours: ClassVar[Colours | None] = None

    @classmethod
    def listing(cls, root: Path, split: str) -> Listing:
        """Return images and labels of a split; UserError says which path was looked for."""
        raise NotImplementedError

    @classmethod
    def read_numbers(cls, path: Path) -> torch.Tensor:
        """Read the numbers of a label file, uint8 [H, W]; UserError for one that cannot be read."""
        return read_label(path, cls.colours)

    @classmethod
    def label_text(cls, number: int) -> str:
        """Say what a number of `read_numbers` is in the file."""
        if cls.colours is None:
            return str(number)
        return str(cls.colours[number]) if number < len(cls.colours) else "colours it does not list"

    @classmethod
    def find_root(cls, cfg: Any) -> Path:
        """Return the root: its setting, else DATASET.ROOT, else the environment variable."""
        key = cls.root_setting
        if cfg.DATASET[key]:
            return Path(cfg.DATASET[key])
        if cfg.DATASET.ROOT:
            return Path(cfg.DATASET.ROOT) / cls.folder
        if os.environ.get(key):
            return Path(os.environ[key])
        raise UserError(
            f"where is {cls.title}? Set DATASET.{key} or the environment variable {key} to its "
            f"root, or DATASET.ROOT to the folder that holds {cls.folder}"
        )

    @classmethod
    def root_advice(cls) -> str:
        """Say how a user gives another root."""
        key = cls.root_setting
        return f"DATASET.{key}, the environment variable {key}, or DATASET.ROOT changes it"

    @classmethod
    def files(cls, root: Path, split: str) -> Listing:
        """Return `listing` without the images that a list leaves out; UserError if none is left."""
        found = left_out(root, split, cls.listing(root, split))
        if not (found.images or found.absent):
            raise UserError(f"{found.rule} leave no image")
        return found

    @classmethod
    def options(cls, cfg: Any) -> dict[str, Any]:
        """Return the constructor's arguments that settings decide, beside the root."""
        return {}

    def __init__(
        self,
        root: Path | str,
        split: str,
        label_space: LabelSpace | None = None,
        transform: Callable | None = None,
        seed: int = 0,
        domain: int = 0,
        stream: str = "source",
        label_map: str | None = None,
    ):
        """List the files of a split.

        `transform(image, label, aim) → {"image", "label", …}` gets train ids, and pads with
        void. It draws from torch's global generator, which is seeded from (`seed`, position, index,
        `stream`) for each sample. Samples carry `domain`. `label_map` names one of the dataset's
        label maps. UserError for an unknown split or label map, missing files, a label space
        without a table, or a table that leads outside it.
        """
        if split not in self.splits:
            raise unknown_name(f"split of {self.title}", split, self.splits)
        self.root, self.split = Path(root), split
        self.label_map = label_map or self.default_label_map
        known_maps = {self.default_label_map: self.label_maps, **self.other_label_maps}
        if self.label_map not in known_maps:
            raise unknown_name(f"label map of {self.title}", self.label_map, known_maps)
        self.label_maps = known_maps[self.label_map]
        try:
            listing = self.files(self.root, split)
            pairs = listing.pairs()
        except UserError as error:
            raise UserError(
                f"{self.title} {split}: {error} (its root is {root}; {self.root_advice()})"
            ) from None
        spare = sorted(listing.labels.keys() - listing.images.keys())
        if spare and os.environ.get("RANK", "0") == "0":
            print(
                f"warning: {self.title} {split} leaves out {len(spare)} labels without an image, "
                f"such as {listing.labels[spare[0]]}; is the archive of images unpacked whole?",
                file=sys.stderr,
            )
        self.image_paths = [image for image, _ in pairs]
        self.label_paths = [label for _, label in pairs]
        self.split_rule = listing.rule
        native, self.label_space = self.label_space, label_space or self.label_space
        self.label_table = self._label_table(native)
        self.means = {"mIoU": tuple(range(len(self.label_space)))}
        if self.label_space == native:
            self.means |= self.class_means
        self.transform, self.seed, self.domain, self.stream = transform, seed, domain, stream

    def _label_table(self, native: LabelSpace) -> np.ndarray:
        """Return uint8[256] from numbers in label files to train ids of `self.label_space`."""
        if self.label_space.name in self.label_maps:
            return self._checked_table(self.label_space)
        coarser = coarsening(native, self.label_space)
        if coarser is None:
            raise UserError(
                f"{self.title} has labels in {native.name}, and no table leads from there to "
                f"{self.label_space.name}"
            )
        return coarser[self._checked_table(native)]

    def _checked_table(self, space: LabelSpace) -> np.ndarray:
        table = self.label_maps[space.name]
        for number, train_id in table.items():
            if number not in range(256) or train_id not in (*range(len(space)), VOID):
                raise UserError(
                    f"the label map of {self.title} takes the number {number} to the train id "
                    f"{train_id}; numbers in label files go from 0 to 255, and {space.name} has "
                    f"the train ids 0 to {len(space) - 1}"
                )
        return lookup_table(table)

    def __len__(self) -> int:
        return len(self.image_paths)

    def relative_list(self) -> list[str]:
        """Return the image paths below the root, with forward slashes."""
        return [path.relative_to(self.root).as_posix() for path in self.image_paths]

    def __getitem__(self, key: int | tuple[int, int, Aim]) -> dict[str, Any]:
        """Read a sample; `key` is an index, or (position, index, aim).

        Returns the transform's result with `index` and `domain`. Without a transform that is
        `image` (uint8 [3, H, W]) and `label` (uint8 [H, W] of train ids). UserError for an
        unreadable file and for an image and label of different size.
        """
        position, index, aim = key if isinstance(key, tuple) else (0, key, None)
        image = read_image(self.image_paths[index])
        numbers = self.read_numbers(self.label_paths[index])
        label = torch.from_numpy(self.label_table.take(numbers.numpy()))
        if image.shape[1:] != label.shape:
            raise self.size_error(index, *image.shape[1:], *label.shape)
        sample = {"image": image, "label": label}
        if self.transform is not None:
            # Seeds the CPU generator alone: torch.manual_seed would reseed CUDA as well.
            with torch.random.fork_rng(devices=[]):
                seed = stable_seed(self.seed, position, index, self.stream)
                torch.default_generator.manual_seed(seed)
                sample = self.transform(image, label, aim)
        return sample | {"index": index, "domain": self.domain}

    def size_error(
        self, index: int, height: int, width: int, label_height: int, label_width: int
    ) -> UserError:
        """Return the error for an image and a label that differ in size."""
        path = self.image_paths[index]
        cause = ""
        if (orientation := read_header(path).orientation) != 1:
            cause = (
                f"; the photograph is to be turned, say its EXIF data (orientation {orientation}), "
                "and labels have to be of the pixels as stored: turn the photograph itself "
                "(`mogrify -auto-orient`), or the label back"
            )
        return UserError(
            f"image and label differ in size: {path} is {width}×{height}, "
            f"{self.label_paths[index]} is {label_width}×{label_height} pixels{cause}"
        )
