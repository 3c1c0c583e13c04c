"""The losses of mask classification (Mask2Former, arXiv 2112.01527, sections 3.2 and 3.3).

Queries predict a class and a mask each. In every image each class that is a target is matched with
one query by the Hungarian algorithm; matched queries learn class and mask, the others to be no
object. Masks are compared at sampled points only.

A point lies between four pixels of the label. Where none of them is void, its losses are those of
`transformers`' Mask2FormerLoss; a void one takes its share of the point with it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from utils.labels import VOID

# Of three times as many random points, the least certain make up three quarters of those that a
# mask is compared at; the rest is random (Mask2Former, section 3.3, after PointRend).
OVERSAMPLING, UNCERTAIN_SHARE = 3, 0.75


class QueryPrediction(NamedTuple):
    """What a decoder layer predicts: `classes` `[B, Q, K + 1]` logits, the last of no object, and
    `masks` `[B, Q, h, w]` logits."""

    classes: Tensor
    masks: Tensor


class Matches(NamedTuple):
    """Matched pairs, int64 `[R]` each on the device, ordered by layer; `counts` of each layer."""

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor
    counts: list[int]


class MaskClassificationLoss:
    """Matching and losses of all decoder layers at once; the host waits for the device once."""

    def __init__(
        self,
        weights: Sequence[float],
        no_object_weight: float,
        points: int,
        every_class: bool = False,
        void_is_background: bool = False,
    ):
        """`weights` of class, mask and dice, in the losses and in the costs of matching; a query
        that is no object counts `no_object_weight` in the class loss; masks are compared at
        `points`. With `every_class`, absent classes are targets with empty masks. Void pixels take
        part in no mask loss, or are background.
        """
        self.class_weight, self.mask_weight, self.dice_weight = weights
        self.no_object_weight = no_object_weight
        self.points = points
        self.every_class = every_class
        self.void_is_background = void_is_background
        self.draw = torch.rand

    def __call__(
        self, layers: Sequence[QueryPrediction], labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted losses `class`, `mask` and `dice`, summed over decoder layers.

        `labels` `[B, H, W]` int64, 255 = void. Mask losses are sums over matched masks divided by
        the number of targets, a mean over processes; the class loss is a weighted mean over
        queries. `weight` `[B, H, W]` weighs pixels: in mask losses the points, whose mean is then
        taken over all of them; in the class loss a query counts by the mean weight of the pixels
        of its class, one that is no object by that of the image.
        """
        layers = [QueryPrediction(_wide(classes), _wide(masks)) for classes, masks in layers]
        with torch.autocast(labels.device.type, enabled=False):
            return self._losses(layers, labels, weight)

    def _losses(
        self, layers: Sequence[QueryPrediction], labels: Tensor, weight: Tensor | None
    ) -> dict[str, Tensor]:
        sizes = _class_sizes(labels, layers[0].classes.shape[2] - 1)
        present = torch.ones_like(sizes) if self.every_class else (sizes > 0).to(sizes)
        matches = self.match(layers, labels, present)
        number = number_of_targets(present)
        mask, dice = self.mask_losses(layers, labels, matches, weight)
        return {
            "class": self.class_weight * self.class_loss(layers, labels, matches, sizes, weight),
            "mask": self.mask_weight * mask / number,
            "dice": self.dice_weight * dice / number,
        }

    @torch.no_grad()
    def match(self, layers: Sequence[QueryPrediction], labels: Tensor, present: Tensor) -> Matches:
        """Match each target `present` `[B, K]` with a query, in every layer and image.

        The cost of a pair is what it would add to the losses, with the probability of the class in
        place of its logarithm (Mask2Former follows DETR).
        """
        costs = torch.stack(self.costs(layers, labels))
        # The one place where the host waits: the assignment is found on the CPU.
        on_host = torch.cat([costs.flatten(), present.flatten().to(costs)]).cpu().numpy()
        costs = on_host[: costs.numel()].reshape(costs.shape)
        present = on_host[costs.size :].reshape(present.shape) > 0
        # What is not finite is matched last; the losses are not finite then and void the step.
        largest = np.finfo(np.float32).max
        costs = np.nan_to_num(costs, nan=largest, posinf=largest, neginf=largest)
        found, counts = [], []
        for layer, images in enumerate(costs):
            for image, cost in enumerate(images):
                targets = np.flatnonzero(present[image])
                query, column = linear_sum_assignment(cost[:, targets])
                pairs = np.full((4, len(query)), layer)
                pairs[1:] = np.full_like(query, image), query, targets[column]
                found.append(pairs)
            counts.append(sum(pairs.shape[1] for pairs in found[-len(images) :]))
        pairs = torch.from_numpy(np.concatenate(found, axis=1))
        if labels.device.type == "cuda":
            pairs = pairs.pin_memory()
        return Matches(*pairs.to(labels.device, non_blocking=True).unbind(), counts)

    def costs(self, layers: Sequence[QueryPrediction], labels: Tensor) -> list[Tensor]:
        """Return the costs `[B, Q, K]` of each layer, all at the same points of an image."""
        images, classes = len(labels), layers[0].classes.shape[2] - 1
        points = self._random(layers[0].masks, images, self.points)
        inside = points.new_zeros(images, self.points, classes + 1)
        counted = points.new_zeros(images, self.points)
        every = torch.arange(images, device=labels.device)
        for name, _, inner, counts in self._pixels_around(points, labels, every):
            inside.scatter_add_(2, name.clamp(max=classes)[..., None], inner[..., None])
            counted += counts
        inside = inside[..., :-1]
        outside = counted[..., None] - inside
        number = counted.sum(1)[:, None, None].clamp_min(1)
        found = []
        for prediction in layers:
            logits = _sample(prediction.masks, points)
            probabilities = logits.sigmoid()
            mask = F.softplus(-logits) @ inside + F.softplus(logits) @ outside
            sizes = probabilities @ counted[..., None] + inside.sum(1)[:, None]
            dice = 1 - (2 * probabilities @ inside + 1) / (sizes + 1)
            cost = self.mask_weight * mask / number + self.dice_weight * dice
            probability = prediction.classes.softmax(2)[..., :-1]
            found.append(cost - self.class_weight * probability)
        return found

    def class_loss(
        self,
        layers: Sequence[QueryPrediction],
        labels: Tensor,
        matches: Matches,
        sizes: Tensor,
        weight: Tensor | None,
    ) -> Tensor:
        """Sum over layers of the weighted mean cross entropy of the queries' classes."""
        logits = torch.stack([prediction.classes for prediction in layers])
        no_object = logits.shape[3] - 1
        where = matches.layer, matches.image, matches.query
        targets = labels.new_full(logits.shape[:3], no_object)
        targets[where] = matches.target
        importance = torch.full_like(targets, self.no_object_weight, dtype=logits.dtype)
        importance[where] = 1
        rows = logits.flatten(0, 2)
        losses = F.cross_entropy(rows, targets.flatten(), reduction="none").view(targets.shape)
        losses = losses * importance
        if weight is not None:
            image, region = _mean_weights(labels, weight.to(logits), sizes)
            factor = image[None, :, None].expand_as(losses).clone()
            factor[where] = region[matches.image, matches.target]
            losses = losses * factor
        return (losses.sum((1, 2)) / importance.sum((1, 2))).sum()

    def mask_losses(
        self,
        layers: Sequence[QueryPrediction],
        labels: Tensor,
        matches: Matches,
        weight: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return binary cross entropy and dice loss, sums over all matched masks."""
        if not len(matches.query):
            nothing = sum(0 * prediction.masks.sum() for prediction in layers)
            return nothing, nothing
        queries = layers[0].masks.shape[1]
        rows = (matches.image * queries + matches.query).split(matches.counts)
        masks = torch.cat(
            [p.masks.flatten(0, 1).index_select(0, r) for p, r in zip(layers, rows, strict=True)]
        )[:, None]
        with torch.no_grad():
            points = self._uncertain_points(masks, labels, matches.image)
            inside = torch.zeros_like(points[..., 0])
            counted = torch.zeros_like(inside)
            for name, pixel, inner, counts in self._pixels_around(points, labels, matches.image):
                factor = 1 if weight is None else weight.flatten()[pixel]
                inside += factor * inner * (name == matches.target[:, None])
                counted += factor * counts
            number = counted.sum(1).clamp_min(1) if weight is None else self.points
        logits = _sample(masks, points)[:, 0]
        # −[t log σ(x) + (v − t) log(1 − σ(x))], where t of what a point counts, v, is in the mask.
        cross_entropy = (counted * F.softplus(logits) - inside * logits).sum(1) / number
        probabilities = logits.sigmoid()
        sizes = (probabilities * counted).sum(1) + inside.sum(1)
        dice = 1 - (2 * (probabilities * inside).sum(1) + 1) / (sizes + 1)
        return cross_entropy.sum(), dice.sum()

    def _random(self, like: Tensor, number: int, points: int) -> Tensor:
        return self.draw(number, points, 2, dtype=like.dtype, device=like.device)

    def _uncertain_points(self, masks: Tensor, labels: Tensor, image: Tensor) -> Tensor:
        """Draw points `[R, P, 2]` for masks `[R, 1, h, w]`, most where a mask is least certain.

        Void counts as certain there, or the points of a crop with much padding would lie on it.
        """
        points = self._random(masks, len(masks), OVERSAMPLING * self.points)
        certainty = _sample(masks, points)[:, 0].abs()
        if not self.void_is_background:
            height, width = labels.shape[1:]
            column = (points[..., 0] * width).long().clamp(max=width - 1)
            row = (points[..., 1] * height).long().clamp(max=height - 1)
            name = labels.flatten()[(image[:, None] * height + row) * width + column]
            certainty = certainty.masked_fill(name == VOID, torch.inf)
        number = int(UNCERTAIN_SHARE * self.points)
        chosen = certainty.topk(number, largest=False, sorted=False).indices
        chosen = points.gather(1, chosen[..., None].expand(-1, -1, 2))
        rest = self._random(masks, len(masks), self.points - number)
        return torch.cat([chosen, rest], dim=1)

    def _pixels_around(
        self, points: Tensor, labels: Tensor, image: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield the four pixels that points `[R, P, 2]` of images `[R]` lie between, `[R, P]` each:
        label, index into all pixels, share of the point, and share that counts (void does not).

        Beyond the edge is background: the share is 0 there, the share that counts is not.
        """
        height, width = labels.shape[1:]
        x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row, column = y.floor() + down, x.floor() + right
            share = (1 - (y - row).abs()) * (1 - (x - column).abs())
            within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            row, column = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            pixel = (image[:, None] * height + row) * width + column
            name = labels.flatten()[pixel]
            counts = share if self.void_is_background else share * (name != VOID)
            yield name, pixel, share * within, counts


def number_of_targets(present: Tensor) -> Tensor:
    """Return the number of targets `present` `[B, K]`, its mean over processes, at least 1."""
    number = present.sum()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(number)
        number = number / dist.get_world_size()
    return number.clamp_min(1)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


def _sample(masks: Tensor, points: Tensor) -> Tensor:
    """Values `[R, C, P]` of masks `[R, C, h, w]` at points (x, y) `[R, P, 2]` in [0, 1]²."""
    return F.grid_sample(masks, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def _class_sizes(labels: Tensor, classes: int) -> Tensor:
    """Count the pixels `[B, K]` (float32) of each class in labels `[B, H, W]`."""
    names = labels.flatten(1).clamp(max=classes)
    counts = torch.zeros(len(labels), classes + 1, device=labels.device)
    return counts.scatter_add_(1, names, torch.ones_like(names, dtype=counts.dtype))[:, :-1]


def _mean_weights(labels: Tensor, weight: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean weight `[B]` of the pixels of an image, and `[B, K]` of each class (of an
    absent one: that of the image)."""
    image = weight.mean((1, 2))
    names = labels.flatten(1).clamp(max=sizes.shape[1])
    sums = weight.new_zeros(len(labels), sizes.shape[1] + 1)
    sums = sums.scatter_add_(1, names, weight.flatten(1))[:, :-1]
    return image, torch.where(sizes > 0, sums / sizes.clamp_min(1), image[:, None])
