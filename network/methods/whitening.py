"""RobustNet (Choi et al., CVPR 2021): instance norms, and channels that a loss makes uncorrelated.

IW whitens all pairs of channels of the three normed layers (network/blocks.py), IRW all but for a
margin, ISW those pairs alone whose covariance a change of colours moves.
"""

from collections.abc import Iterator
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from datasets.sampling.passes import SourcePass
from loss.whitening import covariance, pairs, whitening_loss
from network.blocks import TRUNKS, InstanceNorm, early_norms
from network.clusters import lowest_cluster
from network.methods.baseline import Baseline
from network.methods.method import Findings
from transforms.normalisation import normalise
from transforms.photometric import Photometric
from utils.processes import sum_over_processes
from utils.settings import Setting


class WhitenedNorm(InstanceNorm):
    """Instance norm without scale and shift; while `watched`, it keeps the `covariance`
    `[B, C, C]` of what it last returned."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.watched = False
        self.recomputing = False
        self.covariance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape."""
        x = super().forward(x)
        if self.watched:
            found = covariance(x)  # also when it is recomputed, for the backward pass
            if not self.recomputing:
                self.covariance = found
        return x


class Whitening(Baseline):
    """What IW, IRW and ISW share: the baseline's losses, and the mean of three whitening losses."""

    settings: dict[str, Any] = {
        "WHITENING": {"WEIGHT": Setting(0.6, "weight of the whitening loss")},
    }
    trunks = TRUNKS

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        # A tuple: the norms are modules of the trunk.
        self.norms = tuple(early_norms(self.trunk, WhitenedNorm))
        self.channels = [norm.num_features for norm in self.norms]
        self.weight = cfg.WHITENING.WEIGHT

    @property
    def whitens(self) -> bool:
        """Whether training steps have a whitening loss by now."""
        return True

    def masks(self) -> list[Tensor]:
        """Return which pairs count in each layer, bool `[C, C]`. Default: all."""
        device = next(self.trunk.parameters()).device
        return [pairs(channels, device) for channels in self.channels]

    def margins(self) -> list[float]:
        """Return what each layer's sum may have for nothing. Default: 0."""
        return [0.0] * len(self.norms)

    def train(self, mode: bool = True) -> "Whitening":
        """Switch to training or evaluation, where no covariance is needed."""
        super().train(mode)
        self._watch(mode and self.whitens)
        return self

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the baseline's losses and, while the method whitens, `whitening`, weighted."""
        losses = super().training_losses(batch)
        if self.whitens:
            layers = zip(self._take_covariances(), self.masks(), self.margins(), strict=True)
            terms = torch.stack([whitening_loss(*layer) for layer in layers])
            losses["whitening"] = self.weight * terms.mean()
        return losses

    def _watch(self, watched: bool) -> None:
        for norm in self.norms:
            norm.watched = watched

    def _take_covariances(self) -> list[Tensor]:
        """Return the covariances; the norms keep none, and with them no graph."""
        found = [norm.covariance for norm in self.norms]
        for norm in self.norms:
            norm.covariance = None
        return found


class IW(Whitening):
    """Instance whitening: all pairs of channels."""

    defaults = {"WHITENING.WEIGHT": 0.8}


class IRW(Whitening):
    """Instance-relaxed whitening: a sum of a 64th of the number of pairs costs nothing."""

    settings = Whitening.settings | {
        "IRW": {
            "RELAXATION": Setting(
                64, "the margin is the number of pairs, divided by this (Cityscapes: 32)", minimum=1
            )
        }
    }

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.relaxation = cfg.IRW.RELAXATION

    def margins(self) -> list[float]:
        """Return `N // RELAXATION` of each layer's N pairs."""
        return [float(c * (c - 1) // 2 // self.relaxation) for c in self.channels]


class SensitivePairs(nn.Module):
    """Which pairs of channels ISW whitens: a mask bool `[C, C]` of each layer, once they are found.

    `found` is known without asking the device.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        self.found = False
        self.register_buffer("is_found", torch.tensor(False))
        for i, number in enumerate(channels):
            self.register_buffer(f"layer{i}", torch.zeros(number, number, dtype=torch.bool))

    def masks(self) -> list[Tensor]:
        """Return the mask of each layer."""
        return [mask for name, mask in self.named_buffers() if name != "is_found"]

    def fill(self, masks: list[Tensor]) -> None:
        """Take the masks of the layers."""
        for own, mask in zip(self.masks(), masks, strict=True):
            own.copy_(mask)
        self.is_found.fill_(True)
        self.found = True

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.found = bool(self.is_found)


class ISW(Whitening):
    """Instance-selective whitening: only the pairs of channels that colours move.

    After START_EPOCH epochs, in which nothing is whitened, each of TRIALS sees IMAGES whole images
    and their copies in other colours. A pair is sensitive if the variance of its covariance over
    the two, mean over images, is above the lowest of CLUSTERS clusters, in all trials and sources.
    The clusters are those of the whole matrix, its zeros on and below the diagonal among them, as
    published.
    """

    settings = Whitening.settings | {
        "ISW": {
            "START_EPOCH": Setting(
                6, "epochs before pairs are sought and whitened (images / BATCH_SIZE steps each)"
            ),
            "TRIALS": Setting(10, "a pair is whitened if all trials find it", minimum=1),
            "IMAGES": Setting(500, "images of each source in a trial", minimum=1),
            "CLUSTERS": Setting(
                3,
                "clusters of variances; all but the lowest are sensitive (published: 3 for "
                "ResNets, 20 for MobileNetV2, 2 for ShuffleNetV2 and for Cityscapes)",
                minimum=2,
            ),
            "JITTER": Setting(
                [0.8, 0.8, 0.8, 0.3], "brightness, contrast, saturation, hue of the copies"
            ),
        }
    }
    small = {"ISW.START_EPOCH": 1, "ISW.TRIALS": 2, "ISW.IMAGES": 3, "ISW.CLUSTERS": 2}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.options, self.steps = cfg.ISW, cfg.TRAIN.MAX_ITER
        self.sources = len(cfg.DATASET.SOURCE)
        self.sensitive = SensitivePairs(self.channels)
        colours = cfg.TRANSFORM
        self.colours = Photometric(
            cfg.ISW.JITTER, 1.0, colours.BLUR_SIGMA, colours.BLUR_PROBABILITY, "ISW.JITTER"
        )

    @property
    def whitens(self) -> bool:
        """From when on pairs are found."""
        return self.sensitive.found

    def masks(self) -> list[Tensor]:
        """Return the sensitive pairs."""
        return self.sensitive.masks()

    def remarks(self, epoch: int) -> list[str]:
        """Also that the training ends before pairs are sought."""
        said, start = super().remarks(epoch), self.options.START_EPOCH * epoch
        if start >= self.steps and not self.sensitive.found:
            said.append(
                f"ISW.START_EPOCH is step {start}, and TRAIN.MAX_ITER is {self.steps}: nothing is "
                "whitened"
            )
        return said

    def survey_due(self, step: int, epoch: int) -> SourcePass | None:
        """Once, after START_EPOCH epochs."""
        if self.sensitive.found or step < self.options.START_EPOCH * epoch:
            return None
        return SourcePass(whole=True, rounds=self.options.TRIALS, images=self.options.IMAGES)

    def survey(self, batches: Iterator[dict[str, Any]], number: int) -> Findings:
        """Find the sensitive pairs."""
        shape = (self.options.TRIALS, self.sources)
        device = next(self.trunk.parameters()).device
        sums = [
            torch.zeros(*shape, c, c, dtype=torch.float64, device=device) for c in self.channels
        ]
        count = torch.zeros(shape, dtype=torch.float64, device=device)
        self._watch(True)
        for batch in batches:
            place = int(batch["round"]), int(batch["domain"])
            for total, covariances in zip(sums, self._pair(batch["image"][0]), strict=True):
                # The unbiased variance of two.
                total[place] += (covariances[0] - covariances[1]).double().square() / 2
            count[place] += 1
        self._watch(False)
        for total in (*sums, count):
            sum_over_processes(total)
        variances = [total / count[..., None, None] for total in sums]
        self.sensitive.fill([sensitive(v.flatten(0, 1), self.options.CLUSTERS) for v in variances])
        return self._findings()

    def _pair(self, image: Tensor) -> list[Tensor]:
        """Return the covariances `[2, C, C]` of an image, uint8 `[3, H, W]`, and its copy."""
        copy = normalise(self.colours.apply(image, self.colours.draw()))
        self.trunk(torch.stack([normalise(image), copy]), stop=2)
        return self._take_covariances()

    def _findings(self) -> Findings:
        found = self.sensitive.masks()
        numbers = [int(mask.sum()) for mask in found]
        parts = [
            f"{n} of {c * (c - 1) // 2} in layer {i}"
            for i, (n, c) in enumerate(zip(numbers, self.channels, strict=True))
        ]
        lines = [f"ISW whitens these pairs of channels from now on: {', '.join(parts)}"]
        if not any(numbers):
            lines = [
                "ISW finds no pair of channels that colours move, in all trials: nothing is "
                "whitened (more ISW.CLUSTERS or fewer ISW.TRIALS find more)"
            ]
        return Findings(
            lines,
            {f"sensitive/layer {i}": float(number) for i, number in enumerate(numbers)},
            {
                f"sensitive pairs, layer {i}": (mask | mask.T).expand(3, -1, -1).byte() * 255
                for i, mask in enumerate(found)
            },
        )


def sensitive(variances: Tensor, clusters: int) -> Tensor:
    """Return bool `[C, C]`: pairs above the lowest cluster of each of variances `[n, C, C]`.

    Entries on and below the diagonal are 0 there, and are clustered too.
    """
    upper = pairs(variances.shape[-1], variances.device)
    found = upper.clone()
    for own in variances * upper:
        found &= own > lowest_cluster(own.cpu().numpy(), clusters)
    return found
