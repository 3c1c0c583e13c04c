"""The baseline: cross entropy on the source, nothing else."""

from typing import Any

from torch import Tensor

from network.methods.method import Method


class Baseline(Method):
    """Cross entropy (and that of the auxiliary head) on labelled source images."""

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the decoder's losses."""
        images, labels = batch["image"], batch["label"]
        output = self.decoder(self.features(images), images.shape[-2:])
        return self.decoder.losses(output, labels)
