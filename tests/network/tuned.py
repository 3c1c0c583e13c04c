"""Small networks with a tuned trunk, for tests."""

import torch

from benchmarks.networks import small
from network.build import resolve

SPACE = {"DATASET.LABEL_SPACE": "cityscapes19"}


def tuned_settings(trunk, tuning, method="baseline", decoder="plain", **more):
    """Settings of a small network; none of what is added is nothing at the start."""
    given = {"TRUNK.NAME": trunk, "TRUNK.TUNING": tuning, "METHOD": method}
    given |= {"DECODER.NAME": decoder} | SPACE
    return resolve(small(given) | given | more)


def moved(trunk):
    """Move all that is trained, as steps would."""
    with torch.no_grad():
        for parameter in trunk.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return trunk
