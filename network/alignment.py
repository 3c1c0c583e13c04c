"""The hierarchical alignment losses: student features against those of a frozen neutral network.

SRHA's hierarchical alignment constraint (HAC), SRMA's multi-level alignment (MLA).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from network.region_statistics import Regions, find_regions, from_rows, region_sums, to_rows


class Terms(NamedTuple):
    """The three alignment terms of one layer, unweighted scalars."""

    global_: Tensor
    regional: Tensor
    local: Tensor


def align(
    student: Tensor,
    teacher: Tensor,
    regions: Regions,
    wanted: tuple[bool, bool, bool] = (True, True, True),
) -> Terms:
    """Compare student features `[S * B, C, h, w]` of S streams with a teacher's `[B, C, h, w]`.

    - global: `MSE(GAP(f), GAP(g))`
    - regional: `(mean_region(f) − mean_region(g))² · pixels / (h w)`, mean over all present
      (stream, image, region) triples and channels; 0 (with a gradient) without any region
    - local: `MSE(f, g)` over all elements

    Terms not `wanted` are 0 and cost nothing. Float32 at least; the gradient flows into the
    student.
    """
    return Terms(*_Align.apply(student, teacher, regions, wanted))


class _Align(torch.autograd.Function):
    """All terms from one look at the difference of the features, and their gradients likewise.

    Means over an image and over its regions are sums of the same rows, so one `index_add` gives
    both; their gradients are constant over a region, so one gather from a small table gives both.
    Neither the difference nor repeated teacher features are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx, student, teacher, regions, wanted):
        by_image, by_region, by_pixel = wanted
        streams, pixels = len(student) // len(teacher), teacher[0, 0].numel()
        sums, square = [], 0
        for stream in student.chunk(streams):
            rows = to_rows(_difference(stream, teacher))
            if by_image or by_region:
                sums.append(region_sums(rows, regions))
            if by_pixel:
                square = square + torch.linalg.vector_norm(rows).square()
        ctx.save_for_backward(student, teacher)
        ctx.regions, ctx.by_pixel, ctx.tables = regions, by_pixel, {}
        zero = rows.new_zeros(())
        terms = [zero, zero, zero]
        if by_image:
            gap = torch.stack(sums).sum(2, keepdim=True) / pixels
            terms[0] = gap.square().mean()
            ctx.tables[0] = gap * (2 / gap.numel() / pixels)
        if by_region:
            count = regions.count.to(rows.dtype)[..., None]
            triples = (regions.present.sum() * streams * rows.shape[1]).clamp_min(1)
            mean = torch.stack(sums) / count.clamp_min(1)
            # An absent region has no pixels, and so no share.
            terms[1] = (mean.square() * count).sum() / (pixels * triples)
            ctx.tables[1] = mean * (count > 0) * (2 / (pixels * triples))
        if by_pixel:
            terms[2] = square / student.numel()
        return tuple(terms)

    @staticmethod
    def backward(ctx, *upstream):
        student, teacher = ctx.saved_tensors
        streams, regions = len(student) // len(teacher), ctx.regions
        gradient = torch.empty_like(student)
        table = sum(upstream[i] * own for i, own in ctx.tables.items())
        if ctx.tables:
            table = table.expand(streams, *regions.count.shape, -1).flatten(1, 2)
        halves = zip(student.chunk(streams), gradient.chunk(streams), strict=True)
        for number, (stream, out) in enumerate(halves):
            rows = None
            if ctx.by_pixel:
                rows = to_rows(_difference(stream, teacher)).mul_(upstream[2] * 2 / student.numel())
            if ctx.tables:
                constant = table[number].index_select(0, regions.slot)
                rows = constant if rows is None else rows.add_(constant)
            out.copy_(from_rows(rows, out.shape))
        return gradient, None, None, None


def _difference(stream: Tensor, teacher: Tensor) -> Tensor:
    """`f − g`, in float32 at least: squares of bfloat16 differences lose the small ones."""
    wide = torch.promote_types(stream.dtype, torch.float32)
    return stream.to(wide) - teacher


class HierarchicalAlignment(nn.Module):
    """Global, regional and local alignment on layers 1–4, each with its own four weights.

    With `relative`, a layer's terms are divided by the mean square of its teacher feature. A term
    of weight 0 is not computed; `last_layer` is the last layer that any term looks at (0 if
    there is none), so that the teacher computes nothing beyond it.
    """

    def __init__(
        self,
        num_classes: int,
        global_weights: Sequence[float],
        regional_weights: Sequence[float],
        local_weights: Sequence[float],
        void_is_region: bool = True,
        relative: bool = False,
    ):
        super().__init__()
        # What compares features of another architecture (network/across.py); default: `align`.
        self.across: nn.Module | None = None
        self.num_classes = num_classes
        self.void_is_region = void_is_region
        self.relative = relative
        self.weights = {
            "global": tuple(global_weights),
            "regional": tuple(regional_weights),
            "local": tuple(local_weights),
        }
        used = {i + 1 for weights in self.weights.values() for i, w in enumerate(weights) if w}
        self.layers = sorted(used)
        self.last_layer = max(used, default=0)

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted sum over layers of each term that is switched on, by name.

        `student[i]` `[S * B, C, h, w]` holds S streams of the B images of `teacher[i]`
        `[B, C, h, w]` (of any size and channels where `across` compares them); `labels`
        `[B, H, W]`.
        """
        losses: dict[str, Tensor] = {}
        regions: dict[tuple[int, ...], Regions] = {}
        for layer in self.layers:
            weights = {name: values[layer - 1] for name, values in self.weights.items()}
            size = tuple(student[layer].shape[-2:])
            if size not in regions:
                regions[size] = find_regions(labels, size, self.num_classes, self.void_is_region)
            wanted = tuple(bool(weight) for weight in weights.values())
            target = teacher[layer].detach()
            if self.across is None:
                terms = align(student[layer], target, regions[size], wanted)
            else:
                terms = self.across(layer, student[layer], target, regions[size], wanted)
            scale = 1.0
            if self.relative:
                energy = torch.linalg.vector_norm(target, dtype=terms.local.dtype).square()
                scale = target.numel() / energy.clamp_min(1e-12)
            for (name, weight), value in zip(weights.items(), terms, strict=True):
                if weight:
                    losses[name] = losses.get(name, 0) + weight * scale * value
        return losses
