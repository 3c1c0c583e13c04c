"""WildNet (Lee et al., CVPR 2022): features restyled by photographs of anything, without labels.

Beside each source image comes a photograph. The source passes the network a second time, and at
three depths of the trunk it takes the style that the photograph has there. It is learned by the
same labels, its predictions are pulled to those of the source, and a contrast borrows content from
the photographs (loss/content_extension.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from datasets.photographs import Stream
from loss.content_extension import TEMPERATURE, content_extension
from loss.upsampled import upsampled_relative_entropy
from network.blocks import TRUNKS, early_norms
from network.decoders.decoder import LogitOutput
from network.dictionary import Dictionary
from network.methods.method import Method
from network.regions.statistics import downsample_labels, moments, widened
from transforms import WildTransform
from utils.errors import UserError
from utils.settings import Setting

EPSILON = 1e-5  # added to variances, as published


class StyleNorm(nn.Module):
    """AdaIN: gives a feature another one's means and deviations. It notes those of a feature, gives
    a feature those that it noted, or does nothing, as `mode` says ("note", "give", "")."""

    def __init__(self, channels: int):
        super().__init__()
        self.mode = ""
        self.style: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape: `(x − μ) / σ · σ' + μ'`, with `σ = sqrt(unbiased
        variance + 1e-5)`. Gradients also go through μ and σ, and not into the other style."""
        if not self.mode:
            return x
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(widened(x.dtype))
            variance, mean = moments(wide)
            deviation = (variance + EPSILON).sqrt()
            if self.mode == "note":
                self.style = mean.detach(), deviation.detach()
                return x
            assert self.style is not None
            (other_mean, other), (mean, deviation) = (
                (each[..., None, None] for each in pair) for pair in (self.style, (mean, deviation))
            )
            return ((wide - mean) / deviation * other + other_mean).to(x.dtype)


class WildNet(Method):
    """Source, photographs and the restyled source in three passes, each with batch norms of its
    own, in the published order."""

    settings: dict[str, Any] = {
        "DATASET": {
            "WILD": Setting(
                "",
                "images of anything without labels, whose styles are taken: a folder (ImageNet), "
                "or NAME:SPLIT of a dataset, also the source's own, whose labels are not opened",
            ),
        },
        "STEM_NORM": Setting(
            "none",
            "norm behind the first convolution (published: none; ImageNet's batch norm is dropped)",
            choices=("none", "batch"),
        ),
        "STYLISED": {"WEIGHT": Setting(1.0, "of the restyled source's cross entropies")},
        "CONSISTENCY": {
            "WEIGHT": Setting(10.0, "of the relative entropy of both predictions, per class"),
        },
        "CONTENT": {
            "WEIGHT": Setting(0.1, "of the content extension loss; 0: no dictionary either"),
            "SIDE": Setting(
                64,
                "side of the square of pixels of an image that are contrasted; a quarter of that "
                "of a photograph is kept",
                minimum=4,
            ),
            "DICTIONARY": Setting(393_216, "pixels of photographs that are kept", minimum=1),
            "STORAGE": Setting(
                "float32", "precision of what is kept", choices=("float32", "bfloat16")
            ),
        },
    }
    needs = "embed"
    unchanged = ("dictionary",)
    trunks = TRUNKS
    small = {"DATASET.WILD": "cityscapes:train", "CONTENT.DICTIONARY": 600, "CONTENT.SIDE": 16}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.cfg = cfg
        # A tuple: the norms are modules of the trunk.
        self.norms = tuple(early_norms(self.trunk, StyleNorm, cfg.STEM_NORM == "batch"))
        if cfg.CONTENT.WEIGHT:
            width = self.decoder.classifier.in_channels
            self.projector = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width)
            )
            for module in self.projector:
                if isinstance(module, nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
                    nn.init.zeros_(module.bias)
            dtype = getattr(torch, cfg.CONTENT.STORAGE)
            self.dictionary = Dictionary(cfg.CONTENT.DICTIONARY, width, dtype, filled=pretrained)

    @classmethod
    def check_choices(cls, cfg: EasyDict) -> None:
        """Raise UserError also for layers that are computed again."""
        super().check_choices(cfg)
        if any(cfg.TRUNK.RECOMPUTE):
            raise UserError(
                "--method wildnet passes its trunk in three ways, and layers that are computed "
                "again would do so in the last one; set TRUNK.RECOMPUTE to off,off,off,off"
            )

    @classmethod
    def streams(cls, cfg: EasyDict) -> dict[str, Stream]:
        """Return the photographs, which cover a crop; UserError where none are named."""
        if not cfg.DATASET.WILD:
            raise UserError(
                "--method wildnet takes styles of images without labels: set DATASET.WILD to a "
                "folder of photographs (published: ImageNet's train), or to the source itself, "
                f"{cfg.DATASET.SOURCE[0]}:train"
            )
        where, on_gpu = cfg.TRANSFORM.PHOTOMETRIC_ON, cfg.DEVICE != "cpu"
        on_gpu &= torch.cuda.is_available()
        transform = WildTransform(cfg, where == "device" or (where == "auto" and on_gpu))
        return {"wild": Stream(cfg.DATASET.WILD, transform)}

    def remarks(self, epoch: int) -> list[str]:
        """Also how large the dictionary is, and where the stem keeps its norm."""
        said = super().remarks(epoch)
        if self.cfg.CONTENT.WEIGHT:
            size = self.dictionary.entries.nbytes / 1e6
            said.append(f"WildNet's dictionary takes {size:.0f} MB, in each checkpoint too")
        if self.cfg.TRUNK.NAME.startswith("mobilenet"):
            said.append("STEM_NORM has no effect: MobileNetV2 keeps the norms of its layer 0")
        return said

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CE and auxiliary CE of the source and of its restyled copy, consistency and
        content extension, weighted."""
        images, labels, size = batch["image"], batch["label"], batch["image"].shape[-2:]
        features = self.features(images)
        with torch.no_grad(), self._styles("note"):
            wild = self.features(batch["wild"]["image"])
        with self._styles("give"):
            restyled = self.features(images)
        source, other = self.decoder(features, size), self.decoder(restyled, size)
        losses = self.decoder.losses(source, labels)
        for name, value in self.decoder.losses(other, labels).items():
            losses[f"stylised_{name}"] = self.cfg.STYLISED.WEIGHT * value
        losses["consistency"] = self.cfg.CONSISTENCY.WEIGHT * self._consistency(source, other)
        if self.cfg.CONTENT.WEIGHT:
            content = self._content(source.embedding, other.embedding, labels)
            losses["content"] = self.cfg.CONTENT.WEIGHT * content
            with torch.no_grad():
                embedding = self.decoder(wild, size).embedding
                self.keep(self._embed(embedding, self.cfg.CONTENT.SIDE // 4).flatten(0, 1))
        return losses

    @contextmanager
    def _styles(self, mode: str) -> Iterator[None]:
        for norm in self.norms:
            norm.mode = mode
        try:
            yield
        finally:
            for norm in self.norms:
                norm.mode = ""
                if mode == "give":
                    norm.style = None

    def _consistency(self, source: LogitOutput, other: LogitOutput) -> Tensor:
        """Return `KL(source‖restyled)` of the upsampled and, weighted as in cross entropy, of the
        auxiliary logits, a mean over pixels and classes. Gradients go into both."""
        aligned = self.decoder.align_corners
        total = upsampled_relative_entropy(source.small, other.small, source.size, aligned)
        if source.auxiliary is not None:
            size = source.auxiliary.shape[-2:]
            pair = source.auxiliary, other.auxiliary
            auxiliary = upsampled_relative_entropy(*pair, size, aligned)
            total = total + self.decoder.aux_weight * auxiliary
        return total / self.num_classes

    def _embed(self, embedding: Tensor, side: int) -> Tensor:
        """Return projected embeddings `[B, side², D]` of unit length of `[B, D, h, w]`."""
        small = F.interpolate(embedding, (side, side), mode="nearest")
        pixels = small.flatten(2).transpose(1, 2)
        projected = self.projector(pixels)
        return F.normalize(projected.to(widened(projected.dtype)), dim=-1)

    def _content(self, source: Tensor, restyled: Tensor, labels: Tensor) -> Tensor:
        """Return the content extension loss of two embeddings `[B, D, h, w]`."""
        side = self.cfg.CONTENT.SIDE
        s, t = self._embed(source, side), self._embed(restyled, side)
        small = downsample_labels(labels, (side, side)).flatten(1)
        with torch.autocast(s.device.type, enabled=False):
            nearest = self.dictionary.nearest(t.detach().flatten(0, 1)).view_as(t)
            return content_extension(s, t, small, nearest, TEMPERATURE)

    def after_step(self, step: int) -> None:
        """Keep the photographs' pixels of all passes and processes."""
        super().after_step(step)
        if wild := self.take_kept():
            self.dictionary.add(torch.cat(wild))
