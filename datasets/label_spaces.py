"""Label spaces, each a list of classes, and the tables that lead from one to another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.labels import VOID


@dataclass(frozen=True)
class LabelSpace:
    """Named classes; a class's train id is its position.

    colours  RGB of each class, 0–255
    merges   {finer label space: {class: the classes there that it joins}}
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = field(compare=False)
    merges: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        """UserError for fewer than 2 classes and for more than a label file can number."""
        if not 2 <= len(self.classes) <= VOID:
            raise UserError(
                f"the label space {self.name} has {len(self.classes)} classes; it takes 2 to {VOID}"
            )

    def __len__(self) -> int:
        return len(self.classes)

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain values, which checkpoints hold; `restored` takes them."""
        return asdict(self)

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> "LabelSpace":
        """Return a label space from what `plain` returned, also after JSON."""
        colours = tuple(tuple(colour) for colour in plain["colours"])
        return cls(plain["name"], tuple(plain["classes"]), colours, plain["merges"])


def of_palette(
    name: str, palette: Mapping[str, tuple[int, int, int]], merges: Mapping | None = None
) -> LabelSpace:
    """Return the label space of classes with their colours."""
    return LabelSpace(name, tuple(palette), tuple(palette.values()), merges or {})


# Names, order and colours of the Cityscapes evaluation.
CITYSCAPES19 = of_palette(
    "cityscapes19",
    {
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "building": (70, 70, 70),
        "wall": (102, 102, 156),
        "fence": (190, 153, 153),
        "pole": (153, 153, 153),
        "traffic light": (250, 170, 30),
        "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "terrain": (152, 251, 152),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "rider": (255, 0, 0),
        "car": (0, 0, 142),
        "truck": (0, 0, 70),
        "bus": (0, 60, 100),
        "train": (0, 80, 100),
        "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    },
)

# Label file of Cityscapes ("ids") → train id.
CITYSCAPES_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9},
    **{23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}


def cityscapes_ids(space: LabelSpace) -> np.ndarray | None:
    """Return uint8[256] from train ids to the ids of Cityscapes' label files, void to 0
    ("unlabeled"); None for a label space whose classes have no such ids."""
    if space != CITYSCAPES19:
        return None
    table = np.zeros(256, dtype=np.uint8)
    table[list(CITYSCAPES_IDS.values())] = list(CITYSCAPES_IDS)
    return table


def lookup_table(mapping: dict[int, int]) -> np.ndarray:
    """Return uint8[256] that takes each key to its value and every other number to VOID."""
    table = np.full(256, VOID, dtype=np.uint8)
    table[list(mapping)] = list(mapping.values())
    return table


def identity(space: LabelSpace) -> dict[int, int]:
    """Return the mapping of label files that hold the train ids of `space` already."""
    return {train_id: train_id for train_id in range(len(space))}


def coarsening(fine: LabelSpace, coarse: LabelSpace) -> np.ndarray | None:
    """Return uint8[256] from train ids of `fine` to those of `coarse`; VOID stays VOID.

    The same space twice gives the identity; None where no table leads from one to the other.
    """
    if fine == coarse:
        return lookup_table(identity(fine))
    if fine.name == coarse.name:
        raise UserError(
            f"two label spaces are called {fine.name}: {', '.join(fine.classes)}; and "
            f"{', '.join(coarse.classes)}"
        )
    groups = coarse.merges.get(fine.name)
    if groups is None:
        return None
    index = fine.classes.index
    return lookup_table({index(n): coarse.classes.index(g) for g in groups for n in groups[g]})
