"""What is trained of a trunk: the contract, everything, and nothing."""

from typing import Any

from easydict import EasyDict

from network.trunks.trunk import Trunk
from utils.errors import UserError


class Tuning:
    """One way to train a trunk; `apply` makes a pretrained trunk one that is tuned.

    It declares its settings in `settings`, a tree as in `config.py`, and in `defaults` where its
    recipe differs from the defaults of shared settings and of the trunk's ({dotted key: value}).
    """

    settings: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    small: dict[str, Any] = {}  # settings ({dotted key: value}) of a network for tests
    keeps_weights = True  # whether the pretrained weights stay as they are

    @classmethod
    def apply(cls, trunk: Trunk, cfg: EasyDict, fresh: bool) -> None:
        """Freeze what is not trained and add what is. Without `fresh` nothing is computed from the
        weights, because a checkpoint will fill in what was. UserError for a trunk that is not made
        for it."""
        if cfg.TRUNK.TUNING not in trunk.tunings:
            raise UserError(
                f"--tuning {cfg.TRUNK.TUNING} does not work with --trunk {cfg.TRUNK.NAME}; choose "
                f"{' or '.join(trunk.tunings)}, or a vision transformer or ConvNeXt"
            )
        trunk.keeps_weights = cls.keeps_weights
        if cls.keeps_weights:
            trunk.requires_grad_(False)


class Full(Tuning):
    """All weights are trained."""

    keeps_weights = False


class Frozen(Tuning):
    """No weight is trained."""
