"""SPC, Style Projected Clustering for domain generalised semantic segmentation (CVPR 2023).

The style of a feature is projected to a mixture of style bases, of which each source domain has
one, in training and in inference: an unseen style becomes one that the network knows. Pixels are
classified by the nearest of semantic bases, one of each class and domain, instead of weights.
"""

from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from network.methods.method import Method
from network.regions.statistics import downsample_labels, from_rows, wide_rows
from utils.labels import VOID
from utils.processes import sum_over_processes
from utils.settings import Setting

# Layers behind which styles are projected.
PROJECTED = (0, 1)


class SPC(Method):
    """Style projection after layers 0 and 1, semantic clustering in place of the classifier.

    With several sources there is a basis for each; with one there are SPC.BASES, and a sample
    belongs to the nearest.
    """

    settings = {
        "SPC": {
            "BASES": Setting(
                10, "style bases, and semantic bases of each class, with a single source", minimum=1
            ),
            "DISTANCE": Setting(
                "mean",
                "squared distance of styles over channels; mean as in the author's code, sum as "
                "printed in the poster",
                choices=("mean", "sum"),
            ),
            "STYLE_MOMENTUM": Setting(0.9, "what style bases keep in a step", minimum=0, maximum=1),
            "SEMANTIC_MOMENTUM": Setting(
                0.999, "what semantic bases keep in a step", minimum=0, maximum=1
            ),
            "EMBEDDING": Setting(256, "width of the embedding that is clustered", minimum=1),
            "TEMPERATURE": Setting(0.1, "of the discrimination loss", minimum=1e-3),
            "CE_WEIGHT": Setting(1.0, "weight of the cross entropy (weights are unpublished)"),
            "VARIANCE_WEIGHT": Setting(1.0, "weight of the pull to the own basis; 0: off"),
            "DISCRIMINATION_WEIGHT": Setting(
                1.0, "weight of the contrast between the bases of classes; 0: off"
            ),
        },
    }
    # SPC has no auxiliary head.
    defaults = {"DECODER.AUX_WEIGHT": 0.0}
    inference_parts = ("trunk", "decoder", "styles")
    needs = "embed"
    # The direction of a mean of embeddings is no mean of directions.
    mixes_batch = {"SPC.DISCRIMINATION_WEIGHT": 0.0}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        options, sources = cfg.SPC, len(cfg.DATASET.SOURCE)
        self.assigned = sources <= 1
        number = options.BASES if self.assigned else sources
        self.styles = nn.ModuleDict(
            {
                f"layer{i}": StyleProjection(
                    self.trunk.channels[i], number, options.DISTANCE, options.STYLE_MOMENTUM
                )
                for i in PROJECTED
            }
        )
        self.after = {i: self.styles[f"layer{i}"] for i in PROJECTED}
        width = options.EMBEDDING
        self.decoder.projection = UnitEmbedding(self.decoder.classifier.in_channels, width)
        self.decoder.classifier = SemanticClustering(
            num_classes, number, width, options.SEMANTIC_MOMENTUM
        )
        self.temperature = options.TEMPERATURE
        self.ce_weight = options.CE_WEIGHT
        self.weights = {
            "variance": options.VARIANCE_WEIGHT,
            "discrimination": options.DISCRIMINATION_WEIGHT,
        }

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CE on the scores, L_var and L_dis, weighted, and note what moves the bases."""
        images, labels = batch["image"], batch["label"]
        domain = None if self.assigned else batch["domain"]
        features = self.features(images)
        for i in PROJECTED:
            self.styles[f"layer{i}"].observe(features[i], domain)
        output = self.decoder(features, images.shape[-2:])
        losses = self.decoder.losses(output, labels)
        losses["ce"] = self.ce_weight * losses["ce"]
        clustering = self.decoder.classifier
        terms = clustering.losses(output.embedding, labels, domain, self.temperature)
        return losses | {
            name: weight * term
            for (name, weight), term in zip(self.weights.items(), terms, strict=True)
            if weight
        }

    def after_step(self, step: int) -> None:
        """Move all bases towards the means of what all passes of all processes held of them."""
        super().after_step(step)
        sets = [*self.styles.values(), self.decoder.classifier]
        sums = sum_over_processes(torch.cat([each.pending.flatten() for each in sets]))
        parts = sums.split([each.pending.numel() for each in sets])
        for each, part in zip(sets, parts, strict=True):
            each.update(part.view_as(each.pending))

    def bases(self) -> dict[str, Tensor]:
        """Return the style bases `[M, 2 C]` by layer and the semantic ones `[K, M, D]`."""
        styles = {f"layer {i}": self.styles[f"layer{i}"].bases.flatten(1) for i in PROJECTED}
        return styles | {"embedding": self.decoder.classifier.bases}


class _Bases(nn.Module):
    """Bases `[…, S]`, and the sums of samples that move each of them in the next update.

    `pending` `[N + 1, S + 1]` holds a row for each of N bases and one for what belongs to none
    (void); its last column counts. It is empty between steps and in no checkpoint.
    """

    def __init__(self, bases: Tensor, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("bases", bases)
        size = bases.shape[-1]
        pending = torch.zeros(bases.numel() // size + 1, size + 1)
        self.register_buffer("pending", pending, persistent=False)

    @torch.no_grad()
    def note(self, slot: Tensor, samples: Tensor) -> None:
        """Add samples `[n, S]` to the bases that `slot` `[n]` numbers."""
        self.pending[:, :-1].index_add_(0, slot, samples.detach().to(self.pending))
        self.pending[:, -1].index_add_(0, slot, torch.ones_like(slot, dtype=self.pending.dtype))

    @torch.no_grad()
    def update(self, sums: Tensor) -> None:
        """Move bases to `momentum · p + (1 − momentum) · mean` by `sums`, like `pending`.

        A basis without a sample keeps its value.
        """
        flat = self.bases.view(-1, self.bases.shape[-1])
        count = sums[:-1, -1:]
        target = self.target(sums[:-1, :-1] / count.clamp_min(1))
        moved = self.target(torch.lerp(target, flat, self.momentum))
        flat.copy_(torch.where(count > 0, moved, flat))
        self.pending.zero_()

    def target(self, points: Tensor) -> Tensor:
        """Bring points `[N, S]` to where bases live. Default: they live everywhere."""
        return points


class StyleProjection(_Bases):
    """Give each image a mixture of the style bases, by how near its own style is to each.

    The style of an image is the mean `μ` and `σ = sqrt(var + 1e-6)` of each channel (biased
    variance), without a gradient. `bases` `[M, 2 C]` holds `p^μ`, then `p^σ`.
    """

    def __init__(self, channels: int, number: int, distance: str, momentum: float):
        """`distance` is "mean" or "sum": of the squared differences, over the channels."""
        mean = nn.init.trunc_normal_(torch.empty(number, channels), std=0.02)
        super().__init__(torch.cat([mean, torch.ones_like(mean)], dim=1), momentum)
        self.scale = 1 / channels if distance == "mean" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Project features `[B, C, h, w]`; same shape and dtype.

        `λ = softmax_m(1 / (1 + d_m))`, `F' = σ' (F − μ) / σ + μ'` with `μ' = Σ λ_m p_m^μ` and
        `σ' = Σ λ_m p_m^σ`.
        """
        style = styles(x)
        weights = (1 / (1 + self.distances(style))).softmax(1)
        # Autocast would round the mixture of styles to bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            mixed = weights @ self.bases
        (mean, std), (new_mean, new_std) = (
            each[..., None, None].chunk(2, dim=1) for each in (style, mixed)
        )
        scale = new_std / std
        return torch.addcmul(new_mean - mean * scale, x, scale).to(x.dtype)

    @torch.no_grad()
    def observe(self, x: Tensor, domain: Tensor | None) -> None:
        """Note the styles of features `[B, C, h, w]` before the projection, for the bases of their
        `domain` `[B]`, or for the nearest ones."""
        style = styles(x)
        self.note(self.distances(style).argmin(1) if domain is None else domain, style)

    @torch.no_grad()
    def distances(self, style: Tensor) -> Tensor:
        """Return `d_m` `[B, M]` of styles `[B, 2 C]`: of squared differences of mean and deviation,
        the mean or sum over channels."""
        return self.scale * (style[:, None] - self.bases).square().sum(-1)


@torch.no_grad()
def styles(x: Tensor) -> Tensor:
    """Return the styles `[B, 2 C]` of features `[B, C, h, w]`: channel means, then deviations."""
    wide = x.float() if x.dtype.itemsize < 4 else x
    variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors `[…, D]` to unit length.

    One shorter than 1e-6, such as the mean over nothing, has no direction and stays as it is; its
    gradient would otherwise be as large as it is short.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 1e-6, length, 1.0)


class UnitEmbedding(nn.Module):
    """1×1 convolution, ReLU, 1×1 convolution; each pixel then L2 norm, layer norm and L2 norm."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inside, inside, 1), nn.ReLU(inplace=True), nn.Conv2d(inside, outside, 1)
        )
        self.norm = nn.LayerNorm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inside, h, w]` to unit vectors `[B, outside, h, w]`, in float32 at least."""
        x = self.layers(x)
        rows = unit(self.norm(unit(wide_rows(x))))
        return from_rows(rows, x.shape)


class SemanticClustering(_Bases):
    """Unit semantic bases `[K, M, D]`; a pixel's score of a class is by the nearest of its M."""

    def __init__(self, num_classes: int, number: int, width: int, momentum: float):
        bases = nn.init.trunc_normal_(torch.empty(num_classes, number, width), std=0.02)
        super().__init__(unit(bases), momentum)
        self.norm = nn.LayerNorm(num_classes)

    def forward(self, embedding: Tensor) -> Tensor:
        """Score unit embeddings `[B, D, h, w]`: `max_m e · p[c, m]`, layer norm over the classes,
        `[B, K, h, w]`."""
        scores = self.norm(self.similarities(wide_rows(embedding)).amax(2))
        batch, _, height, width = embedding.shape
        return from_rows(scores, (batch, scores.shape[1], height, width))

    def similarities(self, rows: Tensor) -> Tensor:
        """Return `e · p[c, m]` `[n, K, M]` of rows `[n, D]`, in their precision."""
        with torch.autocast(rows.device.type, enabled=False):
            return (rows @ self.bases.flatten(0, 1).T).view(-1, *self.bases.shape[:2])

    def losses(
        self, embedding: Tensor, labels: Tensor, domain: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return L_var and L_dis of embeddings `[B, D, h, w]` and labels `[B, H, W]`, and note the
        embeddings for the update.

        Pixels belong to the bases of their class and their `domain` `[B]`, or to the nearest basis
        of their class. Both losses are `1/(K M)` of a sum over the bases that have pixels:
        `L_var` of the mean of `(1 − e · p[c, m])²` over these pixels, `L_dis` of the contrast of
        their mean direction (`discrimination`). 0, with a gradient, without any.
        """
        rows = wide_rows(embedding)
        classes, number, _ = self.bases.shape
        similarities = self.similarities(rows)
        slot = self.slots(similarities.detach(), labels, embedding.shape[-2:], domain)
        total = classes * number
        own = similarities.flatten(1).gather(1, slot.clamp_max(total - 1)[:, None])[:, 0]
        # The last row collects void.
        count = rows.new_zeros(total + 1).index_add(0, slot, torch.ones_like(own))[:total]
        deviation = rows.new_zeros(total + 1).index_add(0, slot, (1 - own).square())[:total]
        variance = (deviation / count.clamp_min(1)).sum() / total
        sums = rows.new_zeros(total + 1, rows.shape[1]).index_add(0, slot, rows)[:total]
        terms = self.discrimination(unit(sums), temperature)
        self.note(slot, rows)
        return variance, torch.where(count > 0, terms, 0).sum() / total

    def discrimination(self, means: Tensor, temperature: float) -> Tensor:
        """Return the contrast `[K M]` of each class mean `ē`, unit vectors `[K M, D]`.

        Cross entropy of the positive `mean_m ē · p[c, m] / τ` against all bases of other classes.
        """
        classes, number, _ = self.bases.shape
        logits = self.similarities(means) / temperature
        own = torch.arange(classes, device=means.device).repeat_interleave(number)
        is_own = own[:, None] == torch.arange(classes, device=means.device)
        positive = (logits * is_own[..., None]).sum((1, 2)) / number
        negatives = logits.masked_fill(is_own[..., None], -torch.inf).flatten(1)
        return torch.cat([positive[:, None], negatives], dim=1).logsumexp(1) - positive

    @torch.no_grad()
    def slots(
        self,
        similarities: Tensor,
        labels: Tensor,
        size: tuple[int, int],
        domain: Tensor | None,
    ) -> Tensor:
        """Number the basis `c · M + m` of each pixel, `[n]`; void gets K · M."""
        classes, number, _ = self.bases.shape
        small = downsample_labels(labels, size)
        label = small.reshape(-1)
        void = label == VOID
        label = label.masked_fill(void, 0)
        if domain is None:
            of_class = similarities.gather(1, label[:, None, None].expand(-1, 1, number))
            nearest = of_class[:, 0].argmax(1)
        else:
            nearest = domain[:, None, None].expand_as(small).reshape(-1)
        return (label * number + nearest).masked_fill(void, classes * number)

    def target(self, points: Tensor) -> Tensor:
        """Bases are unit vectors."""
        return unit(points)
