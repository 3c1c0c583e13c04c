"""SAN-SAW (Peng et al., CVPR 2022): classes are normalised to a common centre, and channels that
mean them are whitened, behind layers 1 and 2.

What is released trains SAN without regions and without SAW; both are settings here. The paper's
network is DeepLabV2 at output stride 8.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from loss.upsampled import upsampled_losses
from loss.whitening import covariance, pairs, whitening_loss
from network.clusters import above_lowest_cluster
from network.methods.method import Method, refuse_unknown_classes
from network.regions.statistics import downsample_labels, widened
from utils.errors import UserError
from utils.labels import VOID
from utils.settings import Setting

LAYERS = (1, 2)
CLUSTERS = 5
EPSILON = 1e-5  # of instance norm


class SemanticNorm(nn.Module):
    """SAN: instance norms of a feature that is weighted by what it says of single classes.

    `y = ReLU(Σ_i IN(x · w_i))` over the classes i that are normalised, with
    `w_i = p_i a_i r_i`: the class's probability, an attention, and its region.
    """

    def __init__(self, channels: int, num_classes: int, classes: list[int], region: str):
        super().__init__()
        self.region = region
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        # One for each class: mean and largest channel of the weighted feature, and the probability.
        self.attention = nn.Conv2d(
            3 * len(classes), len(classes), 7, padding=3, groups=len(classes), bias=False
        )
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same shape."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(widened(x.dtype))
            mean, largest = wide.mean(1, keepdim=True), wide.amax(1, keepdim=True)
        chosen = self.classifier(x.detach()).to(wide).softmax(1).index_select(1, self.classes)
        # Of x · p, since p is not negative.
        seen = torch.stack([chosen * mean, chosen * largest, chosen], dim=2).flatten(1, 2)
        weights = chosen * self.attention(seen.to(x.dtype)).to(wide).sigmoid()
        if self.region == "kmeans":
            weights = weights * self._regions(weights * mean)
        return self.normalise(x, weights)

    @torch.no_grad()
    def _regions(self, heat: Tensor) -> Tensor:
        """Return where the heat `[B, c, h, w]` of a class is above its lowest cluster, of those of
        the batch in training, of each image in evaluation."""
        if not self.training:
            return above_lowest_cluster(heat.flatten(0, 1).flatten(1), CLUSTERS).view_as(heat)
        by_class = heat.transpose(0, 1)
        above = above_lowest_cluster(by_class.flatten(1), CLUSTERS)
        return above.view(by_class.shape).transpose(0, 1)

    def normalise(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return `ReLU(Σ_i IN(x · w_i))` of x `[B, C, h, w]` and weights `[B, c, h, w]`; the
        weighted features are not made."""
        with torch.autocast(x.device.type, enabled=False):
            rows = x.to(widened(x.dtype)).flatten(2)
            w = weights.to(rows).flatten(2)
            places = rows.shape[2]
            mean = torch.einsum("bcn,bin->bic", rows, w) / places
            square = torch.einsum("bcn,bin->bic", rows.square(), w.square()) / places
            scale = ((square - mean.square()).clamp_min(0) + EPSILON).rsqrt()
            total = torch.einsum("bin,bic->bcn", w, scale) * rows
            total = total - (mean * scale).sum(1)[..., None]
            bias = len(self.classes) * self.bias[:, None]
            return F.relu(self.weight[:, None] * total + bias).view_as(x).to(x.dtype)

    def targets(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return what the labels `[B, H, W]` would have made of x: regions of the classes."""
        small = downsample_labels(labels, x.shape[-2:])
        return self.normalise(x, (small[:, None] == self.classes[:, None, None]).to(x.dtype))

    def whitening(self, y: Tensor) -> Tensor:
        """Return SAW's loss of what was returned: groups of the channels that mean single classes,
        the g-th of each, are to be uncorrelated."""
        importance = self.classifier.weight.detach().abs().flatten(1)
        importance = importance.index_select(0, self.classes)
        number = len(self.classes)
        groups = importance.shape[1] // number
        ordered, channels = importance.sort(dim=1, descending=True)
        scale, channels = (each[:, :groups].T.flatten() for each in (ordered.sigmoid(), channels))
        z = y.index_select(1, channels) * scale[:, None, None].to(y.dtype)
        found = covariance(z.unflatten(1, (groups, number)).flatten(0, 1))
        margin = number * (number - 1) // 2 // 2
        # Its mean over images and groups, summed over groups.
        return groups * whitening_loss(found, pairs(number, y.device), margin)


class SANSAW(Method):
    """Cross entropies that weigh rare classes more, of the network and of SAN's classifiers, and
    what SAN and SAW ask of the features."""

    settings: dict[str, Any] = {
        "SAN": {
            "CLASSES": Setting(
                [0, 10, 2, 1, 8], "train ids of the classes that are normalised (the largest)",
                least=1,
            ),
            "REGION": Setting(
                "none",
                "where a class is: everywhere, as released, or where its heat is above the lowest "
                "of five clusters, as meant",
                choices=("none", "kmeans"),
            ),
            "WEIGHT": Setting(0.1, "weight of the distance to what labels would make of features"),
            "CLASSIFIER_WEIGHT": Setting(0.1, "weight of the classifiers' cross entropies"),
        },
        "SAW": {"WEIGHT": Setting(0.0, "weight of the whitening (released: none; meant: 0.1)")},
    }  # fmt: skip
    defaults = {"DECODER.AUX_WEIGHT": 0.0}
    inference_parts = ("trunk", "decoder", "semantic")
    needs = "embed"
    # Clusters are those of a pass; so are shares of classes, as all counts.
    mixes_batch = {"SAN.REGION": "none"}
    small = {"SAN.CLASSES": [0, 2, 3]}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.options, self.whitening_weight = cfg.SAN, cfg.SAW.WEIGHT
        classes = list(cfg.SAN.CLASSES)
        refuse_unknown_classes("SAN.CLASSES", classes, num_classes, "largest classes")
        least = min(self.trunk.channels[i] for i in LAYERS)
        if cfg.SAW.WEIGHT and len(classes) > least:
            raise UserError(
                f"SAN.CLASSES names {len(classes)} classes, and SAW has a channel for each in "
                f"layers of {least} channels; name fewer, or set SAW.WEIGHT to 0"
            )
        self.semantic = nn.ModuleDict(
            {
                f"layer{i}": SemanticNorm(
                    self.trunk.channels[i], num_classes, classes, cfg.SAN.REGION
                )
                for i in LAYERS
            }
        )
        self.after = {i: self.semantic[f"layer{i}"] for i in LAYERS}

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CE of the network, `classifiers`, `semantic` and `whitening`, weighted."""
        images, labels = batch["image"], batch["label"]
        weight = rarity(labels, self.num_classes)
        features, seen = self._features(images)
        output = self.decoder(features, images.shape[-2:])
        own = self.decoder.losses(output, labels, weight.pixels)
        losses = {name: value * weight.scale for name, value in own.items()}
        terms: dict[str, list[Tensor]] = {"classifiers": [], "semantic": [], "whitening": []}
        for i, (x, y) in seen.items():
            norm, aligned = self.semantic[f"layer{i}"], self.decoder.align_corners
            logits = norm.classifier(x.detach())
            entropy, _ = upsampled_losses(logits, labels, weight.pixels, aligned)
            terms["classifiers"].append(entropy * weight.scale)
            pair = (each.to(widened(each.dtype)) for each in (y, norm.targets(x, labels)))
            terms["semantic"].append(F.smooth_l1_loss(*pair))
            if self.whitening_weight:
                terms["whitening"].append(norm.whitening(y))
        weights = (self.options.CLASSIFIER_WEIGHT, self.options.WEIGHT, self.whitening_weight)
        for (name, values), own in zip(terms.items(), weights, strict=True):
            if values:
                losses[name] = own * torch.stack(values).sum()
        return losses

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups; the norms learn at the trunk's rate, as published."""
        groups = super().parameter_groups()
        return groups | {"trunk": groups["trunk"] + groups["other"], "other": []}

    def _features(self, images: Tensor) -> tuple[dict[int, Tensor], dict[int, Any]]:
        """Return the trunk's features, and what each norm got and returned."""
        seen: dict[int, Any] = {}

        def noted(i: int, x: Tensor) -> Tensor:
            y = self.after[i](x)
            seen[i] = x, y
            return y

        after = self.after | {i: partial(noted, i) for i in LAYERS}
        return self.trunk(images, after=after), seen


class Rarity(NamedTuple):
    """`pixels` `[B, H, W]`: one minus the share that a pixel's class has of all pixels, 0 of void;
    `scale` turns means over all pixels into means that these weigh."""

    pixels: Tensor
    scale: Tensor


def rarity(labels: Tensor, num_classes: int) -> Rarity:
    """Return how much the pixels of labels `[B, H, W]` count. Of a single class all count 0."""
    slots = labels.masked_fill(labels == VOID, num_classes)
    count = torch.zeros(num_classes + 1, device=labels.device)
    count.scatter_add_(0, slots.flatten(), torch.ones_like(slots, dtype=count.dtype).flatten())
    weights = 1 - count / labels.numel()
    weights[num_classes:] = 0  # a single place would be copied from the host, which waits
    pixels = weights[slots]
    total = pixels.sum()
    return Rarity(pixels, torch.where(total > 0, labels.numel() / total, 0))
