"""SHADE (Zhao et al., ECCV 2022): style hallucination with dual consistency.

Each image's low-level feature comes in its own style and in a mixture of bases, styles of source
images that lie far apart (SHM). Both predictions are supervised and pulled together (SC), and on
countable things both features are kept near those of the ImageNet network (RC).
"""

from collections.abc import Iterator
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from datasets.sampling.passes import SourcePass
from network.methods.method import Findings, Method, refuse_unknown_classes
from network.neutral import NeutralTrunk, UntunedTrunk
from network.regions.cells import PURITY, THINGS, cells_of
from network.regions.rearrangement import dirichlet
from network.regions.statistics import moments, pure_cells, widened
from network.tuning import plain_trunk
from utils.errors import UserError
from utils.processes import sum_over_processes
from utils.settings import Setting

EPSILON = 1e-7


class SHADE(Method):
    """Two streams, whose styles differ, of one batch."""

    settings = {
        "SHADE": {
            "BASES": Setting(64, "styles that others are mixed of", minimum=1),
            "CONCENTRATION": Setting(
                1 / 64, "α of the Dirichlet weights that mix them", minimum=1e-4
            ),
            "EVERY": Setting(
                3, "epochs between choices of bases (images / BATCH_SIZE steps each)", minimum=1
            ),
            "UNTIL": Setting(0.95, "share of the training after which bases stay", maximum=1),
        },
        "CONSISTENCY": {
            "WEIGHT": Setting(10.0, "weight of the JS divergence between the streams", minimum=0),
        },
        "RETROSPECTION": {
            "WEIGHT": Setting(1.0, "weight of the distance to ImageNet's features; 0: off"),
            "CLASSES": Setting(list(THINGS), "train ids at whose cells it is taken", least=1),
            "PURITY": Setting(PURITY, "share of a cell that its class has", maximum=1),
            "BATCH_STATISTICS": Setting(
                True, "the ImageNet network's batch norm uses batch statistics (as released)"
            ),
        },
    }
    mixes_batch = {"RETROSPECTION.BATCH_STATISTICS": False}
    small = {"SHADE.BASES": 3, "SHADE.EVERY": 4}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.cfg = cfg
        self.styles = StyleBases(cfg.SHADE.BASES, self.trunk.channels[0])
        self.reference = self._reference(cfg, pretrained) if cfg.RETROSPECTION.WEIGHT else None

    def _reference(self, cfg: EasyDict, pretrained: bool) -> NeutralTrunk | UntunedTrunk:
        classes = cfg.RETROSPECTION.CLASSES
        refuse_unknown_classes(
            "RETROSPECTION.CLASSES", classes, self.num_classes, "countable things"
        )
        if self.trunk.can_be_neutral:
            return UntunedTrunk(self.trunk, 0, 4)
        trunk = plain_trunk(cfg, pretrained=pretrained)
        return NeutralTrunk(trunk, 0, 4, cfg.RETROSPECTION.BATCH_STATISTICS)

    def remarks(self, epoch: int) -> list[str]:
        """Also that the network which features are kept near is not pretrained."""
        said = super().remarks(epoch)
        if self.reference is not None and self.cfg.TRUNK.WEIGHTS == "none":
            said.append("RETROSPECTION: features are kept near those of random TRUNK.WEIGHTS")
        return said

    def without_effect(self) -> list[str]:
        """Return settings that are about batch norms which this network lacks."""
        idle = super().without_effect()
        if self.reference is not None and not self.reference.trunk.has_batch_norm:
            idle.append("RETROSPECTION.BATCH_STATISTICS")
        return idle

    def bases(self) -> dict[str, Tensor]:
        """Return the style bases of layer 0."""
        return {"layer 0": self.styles.bases.flatten(1)}

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CE and auxiliary CE of both streams, consistency and retrospection, weighted."""
        images, labels = batch["image"], batch["label"]
        original = self.trunk(images, stop=0)[0]
        streams = torch.cat([original, self.hallucinate(original)])
        if 0 in self.after:
            streams = self.after[0](streams)
        later = {i: act for i, act in self.after.items() if i > 0}
        features = self.trunk(streams, start=1, after=later)
        output = self.decoder(features, images.shape[-2:])
        losses, divergence = self.decoder.paired_losses(output, torch.cat([labels, labels]))
        losses["consistency"] = self.cfg.CONSISTENCY.WEIGHT * divergence
        if self.reference is not None:
            with torch.no_grad():
                reference = self.reference(images)[4]
            distance = self._distance(features[4], reference, labels)
            losses["retrospection"] = self.cfg.RETROSPECTION.WEIGHT * distance
        return losses

    def hallucinate(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Give features `[B, C, h, w]` of layer 0 mixtures of the bases for styles, one each.

        `x̃ = (x − μ) / (σ + 1e-7) · σ̃ + μ̃`, with the unbiased σ and no gradient through μ and σ;
        `(μ̃, σ̃)` is the sum of the bases with `weights` `[B, M]`, by default ~ Dirichlet(α, …, α).
        """
        bases = self.styles.bases
        if weights is None:
            everyone = torch.ones(len(x), len(bases), dtype=torch.bool, device=x.device)
            weights = dirichlet(self.cfg.SHADE.CONCENTRATION, everyone)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            variance, mean = moments(x.to(widened(x.dtype)))
            mixed = torch.einsum("bm,msc->sbc", weights.to(bases), bases)
            scale = mixed[1] / (variance.sqrt() + EPSILON)
            shift, scale, mean = (each[..., None, None] for each in (mixed[0], scale, mean))
        # Centred first: of a channel that is all but constant, the scale is large.
        return torch.addcmul(shift, x - mean, scale).to(x.dtype)

    def _distance(self, features: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of `(f − g)²` over channels and cells of things, of both streams."""
        options = self.cfg.RETROSPECTION
        cells = pure_cells(labels, features.shape[-2:], self.num_classes, options.PURITY)
        counted = cells_of(cells, options.CLASSES).repeat(2, 1, 1)
        wide = widened(features.dtype)
        difference = features.to(wide) - reference.to(wide).repeat(2, 1, 1, 1)
        squares = difference.square().mean(1)
        return (squares * counted).sum() / counted.sum().clamp_min(1)

    def survey_due(self, step: int, epoch: int) -> SourcePass | None:
        """Every EVERY epochs, all source images, in crops."""
        options = self.cfg.SHADE
        ends = step >= options.UNTIL * self.cfg.TRAIN.MAX_ITER
        return None if ends or step % (options.EVERY * epoch) else SourcePass(whole=False)

    def survey(self, batches: Iterator[dict[str, Any]], number: int) -> Findings:
        """Choose bases among the styles of `number` images, so that they lie far apart.

        UserError for fewer images than bases.
        """
        bases = len(self.styles.bases)
        if number < bases:
            raise UserError(
                f"SHADE.BASES is {bases}, and the sources have {number} images to choose them "
                f"from; set it to {number} or less"
            )
        styles = self.styles.bases.new_zeros(number, *self.styles.bases.shape[1:])
        for batch in batches:
            feature = self.trunk(batch["image"], stop=0)[0]
            variance, mean = moments(feature)
            own = torch.stack([mean, (variance + EPSILON).sqrt()], dim=1)
            styles.index_copy_(0, batch["place"].to(styles.device), own)
        # Each image's is in one process, and 0 in the others.
        sum_over_processes(styles)
        chosen, distance = farthest_points(styles.flatten(1), bases)
        self.styles.bases.copy_(styles[chosen])
        line = f"SHADE mixes {bases} of {number} styles, {distance:.3g} apart or more"
        return Findings([line], {"styles/distance": distance}, {})


class StyleBases(nn.Module):
    """`bases` `[M, 2, C]`: means and deviations; 0 and 1 until they are chosen."""

    def __init__(self, number: int, channels: int):
        super().__init__()
        bases = torch.zeros(number, 2, channels)
        bases[:, 1] = 1.0
        self.register_buffer("bases", bases)


def farthest_points(points: Tensor, number: int) -> tuple[Tensor, float]:
    """Choose `number` of points `[n, D]`, each the farthest from those that are chosen.

    The first is the farthest from the mean of all. Returns their indices, and the distance of the
    last to the nearest other.
    """
    indices = torch.zeros(number, dtype=torch.long, device=points.device)
    nearest = (points - points.mean(0)).square().sum(1)
    for i in range(number):
        indices[i] = nearest.argmax()
        gap = nearest[indices[i]]
        distances = (points - points[indices[i]]).square().sum(1)
        nearest = distances if i == 0 else torch.minimum(nearest, distances)
    return indices, float(gap.sqrt())
