"""PinTheMem (Kim et al., CVPR 2022): MLDG with a memory of one vector for each class.

What a step trains on is written into the memory one step ahead; what it is tested on reads that.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor

from datasets.sampling.passes import SourcePass
from loss.upsampled import upsampled_losses
from network.memory import ClassMemory, diversity, means_of
from network.methods.method import Findings
from network.methods.mldg import MLDG, Half
from utils.errors import UserError
from utils.processes import share_statistics, sum_over_processes
from utils.settings import Setting


class PinTheMem(MLDG):
    """The memory stands between ASPP and the rest of DeepLabV3+, in training and inference."""

    settings = MLDG.settings | {
        "MEMORY": {
            "MOMENTUM": Setting(0.8, "what a class's vector keeps in a step", maximum=1),
            "GUMBEL": Setting(
                "always",
                "when the classes that a place recalls are drawn by Gumbel noise; always, as "
                "released, also in evaluation",
                choices=("always", "training", "never"),
            ),
            "READ_WEIGHT": Setting(0.02, "weight of the cross entropy of a place's similarities"),
            "DIVERSITY_WEIGHT": Setting(0.4, "weight of the classes' similarity to one another"),
            "CLASSES_WEIGHT": Setting(0.2, "weight of the cross entropy of the classes' vectors"),
            "FIRST_IMAGES": Setting(
                2975,
                "images of each source that the first memory is made of, in each round; 0: all",
            ),
            "FIRST_ROUNDS": Setting(2, "how often they are chosen", minimum=1),
        }
    }
    needs = "deep"
    inference_settings = ("MEMORY.GUMBEL",)
    small = {"MEMORY.GUMBEL": "training", "MEMORY.FIRST_IMAGES": 3}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.memory_options = options = cfg.MEMORY
        channels = self.decoder.deep_channels
        self.decoder.context = ClassMemory(num_classes, channels, options.MOMENTUM, options.GUMBEL)

    @property
    def memory(self) -> ClassMemory:
        """The memory, a part of the decoder."""
        return self.decoder.context

    @property
    def exported_from(self) -> int:
        """The trunk's. UserError for predictions that are drawn."""
        if self.memory.noise == "always":
            raise UserError(
                "MEMORY.GUMBEL always draws what the memory recalls in evaluation too, and an "
                "exported file cannot; give MEMORY.GUMBEL training"
            )
        return super().exported_from

    def train_losses(self, trained: Half) -> dict[str, Tensor]:
        """Return CE, auxiliary CE, that of reading, and what the memory would be worth with the
        half written."""
        losses = super().train_losses(trained)
        read = self.memory.take()
        losses |= self._reading(read.scores, trained["label"])
        memory = self.memory.moved(self.memory.sums(read.feature, trained["label"]))
        classes, options = torch.arange(len(memory), device=memory.device), self.memory_options
        with torch.autocast(memory.device.type, enabled=False):
            named = F.cross_entropy(self.memory.classifier(memory), classes)
            similar = diversity(memory)
        losses["diversity"] = options.DIVERSITY_WEIGHT * similar
        losses["classes"] = options.CLASSES_WEIGHT * named
        self.keep(trained)
        return losses

    def test_losses(self, tested: Half, trained: Half) -> dict[str, Tensor]:
        """Return CE, auxiliary CE and that of reading, from a memory that the other half was
        written into. A gradient reaches what writes, and no feature that is written."""
        with torch.no_grad():
            feature = self._deep(trained["image"])
        self.memory.reading = self.memory.moved(self.memory.sums(feature, trained["label"]))
        try:
            losses = super().test_losses(tested, trained)
        finally:
            self.memory.reading = None
        return losses | self._reading(self.memory.take().scores, tested["label"])

    def _reading(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        options = self.memory_options
        entropy, _ = upsampled_losses(scores, labels, align_corners=True)
        return {"read": options.READ_WEIGHT * entropy}

    def _deep(self, images: Tensor) -> Tensor:
        """Return the feature that reads and is written, `[B, D, h, w]`."""
        return self.decoder.deep(self.decoder.pyramid(self.features(images)))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Write what the step trained on into the memory, with the new weights and the running
        statistics of batch norms, those of the main process where they are not synchronised."""
        super().after_step(step)
        share_statistics(self)
        trained = self.take_kept()
        mode = self.training
        self.eval()
        sums = [self.memory.sums(self._deep(h["image"]), h["label"]) for h in trained]
        if sums:
            self.memory.fill(self.memory.moved(torch.stack(sums).sum(0)))
        self.train(mode)

    def survey_due(self, step: int, epoch: int) -> SourcePass | None:
        """Before the first step."""
        options = self.memory_options
        if self.memory.filled:
            return None
        return SourcePass(whole=False, rounds=options.FIRST_ROUNDS, images=options.FIRST_IMAGES)

    def survey(self, batches: Iterator[dict[str, Any]], number: int) -> Findings:
        """Make the first memory: means of the classes' features, before anything writes."""
        shape = self.num_classes, self.decoder.deep_channels + 1
        total = self.memory.vectors.new_zeros(shape, dtype=torch.float64)
        for batch in batches:
            total += self.memory.sums(self._deep(batch["image"]), batch["label"], written=False)
        means, present = means_of(sum_over_processes(total))
        memory = F.normalize(means, dim=1)
        self.memory.fill(memory)
        known, similar = int(present.sum()), float(diversity(memory))
        line = f"the memory begins with {known} of {self.num_classes} classes"
        return Findings([line], {"memory/classes": float(known), "memory/similarity": similar}, {})
