"""What a domain is: one `Street`, one `Look` or several conditions, and its numbers of images."""

from dataclasses import dataclass

from .looks import Look, Region
from .materials import BICYCLE, BUS, CAR, MOTORCYCLE, PERSON, RIDER, TRAIN, TRUCK
from .plan import Street


@dataclass(frozen=True)
class Domain:
    """A domain's streets and look, and how many images it has.

    `conditions` are (name, look) of a domain that is seen in several; `look` is then the first.
    """

    street: Street
    look: Look
    train: int
    val: int
    conditions: tuple[tuple[str, Look], ...] = ()

    def condition(self, index: int) -> tuple[str, Look]:
        """The condition's name ("" if there is but one) and the look of sample `index`."""
        if not self.conditions:
            return "", self.look
        count = len(self.conditions)
        # Shifted by one from round to round: the classes that a scene features go by index, too.
        return self.conditions[(index + index // count) % count]


def things(region: Region) -> dict[int, Region]:
    """The same region for all people and vehicles."""
    labels = (PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE)
    return dict.fromkeys(labels, region)
