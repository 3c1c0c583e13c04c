"""MLDG (Li et al., AAAI 2018) in the setting of PinTheMem: a step that also helps other sources.

In each step some sources are trained on, and the loss of the others is taken with the weights that
a plain step on these would give (network/two_step.py).
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor

from network.methods.baseline import Baseline
from network.two_step import at, gradients, with_gradient
from transforms import Colours
from utils.errors import UserError
from utils.seeding import stable_seed
from utils.settings import Setting

# Images and labels of some sources of a batch.
Half = dict[str, Tensor]


class MLDG(Baseline):
    """`L_train(θ) + L_test(θ − α ∇L_train(θ))`, whose gradients are of first order."""

    settings: dict[str, Any] = {
        "MLDG": {
            "INNER_RATE": Setting(
                0.25, "rate of the step within a step, as a share of the step's learning rates"
            ),
            "FIRST_RATE": Setting(0.001, "that rate in step 0 (as released)"),
            "STRONG_COLOURS": Setting(
                "first",
                "images with MLDG.JITTER in place of TRANSFORM.JITTER: those of the first source "
                "(as released), those that a step is tested on (as meant), or none",
                choices=("first", "test", "none"),
            ),
            "JITTER": Setting(
                [0.8, 0.8, 0.8, 0.3], "brightness, contrast, saturation, hue of strong colours"
            ),
            "EACH_PASS": Setting(
                False,
                "take a step within the step in each pass of an accumulated batch, on its images "
                "alone (another algorithm)",
            ),
        }
    }
    least_sources = 2
    splits_sources = True
    mixes_batch = True

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.options, self.seed = cfg.MLDG, cfg.SEED
        self.sources = len(cfg.DATASET.SOURCE)

    @classmethod
    def check_choices(cls, cfg: EasyDict) -> None:
        """Raise UserError also for layers that are computed again."""
        super().check_choices(cfg)
        if any(cfg.TRUNK.RECOMPUTE):
            # The backward pass would find the weights of the step's begin in place of the moved.
            raise UserError(
                f"--method {cfg.METHOD} exchanges weights within a step, and layers that are "
                "computed again would get the wrong ones; set TRUNK.RECOMPUTE to off,off,off,off"
            )

    @classmethod
    def one_pass(cls, cfg: EasyDict) -> str:
        """Return what allows several passes: each has a step within the step of its own."""
        return "" if cfg.MLDG.EACH_PASS else "MLDG.EACH_PASS"

    @classmethod
    def colours(cls, cfg: EasyDict) -> Colours | None:
        """Return which images have strong colours."""
        options = cfg.MLDG
        if options.STRONG_COLOURS == "none":
            return None
        applies = _is_first
        if options.STRONG_COLOURS == "test":
            applies = partial(_is_tested, cfg.SEED, len(cfg.DATASET.SOURCE))
        return Colours(options.JITTER, "MLDG.JITTER", applies)

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return `train`, the sum of the losses of the sources that are trained on, whose gradient
        is already known, and the others' losses one step ahead."""
        trained, tested = self._halves(batch)
        parameters = {name: p for name, p in self.named_parameters() if p.requires_grad}
        inner = self.train_losses(trained)
        loss = torch.stack(list(inner.values())).sum()
        for name, value in inner.items():
            self.record(f"train/{name}", value)
        found = gradients(loss, parameters)
        rates = self._rates(batch["step"], batch["rate"])
        ahead = {
            name: torch.sub(p, found[name], alpha=rates.get(name.split(".")[0], rates["other"]))
            for name, p in parameters.items()
        }
        outer = at(self, ahead, self.test_losses, tested, trained)
        losses = {"train": with_gradient(loss, parameters, found)}
        return losses | {f"test_{name}": value for name, value in outer.items()}

    def train_losses(self, trained: Half) -> dict[str, Tensor]:
        """Return the losses of the sources that are trained on."""
        return super().training_losses(trained)

    def test_losses(self, tested: Half, trained: Half) -> dict[str, Tensor]:
        """Return the losses of the other sources, with weights one step ahead."""
        return super().training_losses(tested)

    def _rates(self, step: int, rates: dict[str, float]) -> dict[str, float]:
        """Return the rates of the inner step by part of the network."""
        if step == 0:
            return dict.fromkeys(rates, self.options.FIRST_RATE)
        return {name: self.options.INNER_RATE * rate for name, rate in rates.items()}

    def _halves(self, batch: dict[str, Any]) -> tuple[Half, Half]:
        """Return the images and labels of the sources to train on, and of the others."""
        # By source, without asking the device how many each has: equal parts.
        order = batch["domain"].argsort(stable=True).view(self.sources, -1)
        halves = []
        for sources in split_sources(self.seed, batch["step"], self.sources):
            chosen = torch.cat([order[source] for source in sources])
            half = {name: batch[name].index_select(0, chosen) for name in ("image", "label")}
            halves.append(half)
        return halves[0], halves[1]


def split_sources(seed: int, step: int, number: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the sources that a step trains on, 1 to `number` − 1 of them, and of
    those that it is tested on, the same in all processes."""
    generator = np.random.default_rng(stable_seed("sources", seed, step))
    trained = generator.permutation(number)[: generator.integers(1, number)]
    return sorted(trained.tolist()), [i for i in range(number) if i not in trained]


def _is_first(step: int, source: int) -> bool:
    return source == 0


def _is_tested(seed: int, number: int, step: int, source: int) -> bool:
    return source in split_sources(seed, step, number)[1]
