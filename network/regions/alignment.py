"""The hierarchical alignment losses: student features against those of a frozen neutral network.

SRHA's hierarchical alignment constraint (HAC), SRMA's multi-level alignment (MLA).
"""

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.regions.statistics import (
    Regions,
    add_to_regions,
    divisor,
    find_regions,
    from_rows,
    parts_of,
    region_sums,
    sums_by_product,
    to_rows,
    widened,
)
from utils.autograd import differentiable_once
from utils.chunks import chunks

TERMS = ("global", "regional", "local")


def align(
    student: Tensor, teacher: Tensor, regions: Regions, wanted: Collection[str] = TERMS
) -> dict[str, Tensor]:
    """Compare student features `[S * B, C, h, w]` of S streams with a teacher's `[B, C, h, w]`.

    Returns the `wanted` terms by name, unweighted scalars; the others cost nothing:

    - global: `MSE(GAP(f), GAP(g))`
    - regional: `(mean_region(f) − mean_region(g))² · pixels / (h w)`, mean over all present
      (stream, image, region) triples and channels; 0 (with a gradient) without any region
    - local: `MSE(f, g)` over all elements

    Float32 at least; the gradient flows into the student and cannot be differentiated again.
    """
    # Autocast would widen what `addcmul` takes by copies.
    with torch.autocast(student.device.type, enabled=False):
        values = _Align.apply(student, teacher, regions, wanted)
    return {term: value for term, value in zip(TERMS, values, strict=True) if term in wanted}


class _Align(torch.autograd.Function):
    """All terms from one look at the difference of the features, and their gradients likewise.

    Means over an image and over its regions are sums of the same rows, so one addition gives
    both; their gradients are constant over a region, so one gather from a small table gives both.
    The teacher's features are not repeated for the streams, and the difference is taken part by
    part (in float32 at least: squares of bfloat16 differences lose the small ones) and never kept.
    It is taken as `f + g · (−1)` with a −1 of that width and one dimension (without one it would
    not count in type promotion): so a GPU widens both on the way, and needs no copies of them.
    """

    @staticmethod
    def forward(ctx, student, teacher, regions, wanted):
        by_image, by_region, by_pixel = (term in wanted for term in TERMS)
        rows, target = to_rows(student), to_rows(teacher)
        streams, pixels = len(rows) // len(target), teacher[0, 0].numel()
        wide, summed = widened(student.dtype), by_image or by_region
        shape = streams, regions.count.numel(), rows.shape[1]
        # Where differences are at hand, they are added, else what they are of.
        of_differences = by_pixel and not sums_by_product(regions, [rows, target])
        sums = rows.new_zeros(shape, dtype=wide)
        if summed and not of_differences:
            *own, aims = region_sums(regions, [*rows.chunk(streams), target])
            sums = torch.stack(own) - aims
        square = rows.new_zeros((), dtype=wide)
        minus = square.new_full((1,), -1)
        for part in chunks(*target.shape, target.device) if by_pixel else ():
            for stream, own in zip(rows.chunk(streams), sums, strict=True):
                value = torch.addcmul(stream[part], target[part], minus).to(wide)
                square += torch.linalg.vector_norm(value).square()
                if summed and of_differences:
                    add_to_regions(own, value, regions, part)
        sums = sums.view(streams, *regions.count.shape, -1)
        ctx.save_for_backward(student, teacher)
        ctx.regions, ctx.by_pixel, ctx.tables = regions, by_pixel, {}
        image_term = region_term = pixel_term = torch.zeros_like(square)
        if by_image:
            gap = sums.sum(2, keepdim=True) / pixels
            image_term = gap.square().mean()
            ctx.tables[0] = gap * (2 / gap.numel() / pixels)
        if by_region:
            triples = (regions.present.sum() * streams * rows.shape[1]).clamp_min(1).to(wide)
            mean = sums / divisor(regions, wide)
            # An absent region has no pixels, and so no share.
            present = regions.present[..., None]
            region_term = (mean.square() * regions.count[..., None]).sum() / (pixels * triples)
            ctx.tables[1] = mean * present * (2 / (pixels * triples))
        if by_pixel:
            pixel_term = square / student.numel()
        return image_term, region_term, pixel_term

    @staticmethod
    @differentiable_once
    def backward(ctx, *upstream):
        student, teacher = ctx.saved_tensors
        rows, target, regions = to_rows(student), to_rows(teacher), ctx.regions
        streams, wide = len(rows) // len(target), widened(student.dtype)
        table = sum(upstream[i] * own for i, own in ctx.tables.items())
        if ctx.tables:
            table = table.expand(streams, *regions.count.shape, -1).flatten(1, 2)
        slope = upstream[2] * (2 / student.numel())
        gradient, minus = torch.empty_like(rows), slope.new_full((1,), -1)
        for part in parts_of(target, ctx.by_pixel):
            slot = regions.slot[part]
            halves = zip(rows.chunk(streams), gradient.chunk(streams), strict=True)
            for number, (stream, out) in enumerate(halves):
                out = out[part]
                own = out if out.dtype == wide else torch.empty_like(out, dtype=wide)
                if ctx.by_pixel:
                    torch.addcmul(stream[part], target[part], minus, out=own)
                if not ctx.tables:
                    torch.mul(own, slope, out=out)
                elif ctx.by_pixel:
                    # Product, sum and rounding to the gradient's dtype in one pass.
                    torch.addcmul(table[number].index_select(0, slot), own, slope, out=out)
                else:
                    torch.index_select(table[number], 0, slot, out=own)
                    if own is not out:
                        out.copy_(own)
        return from_rows(gradient, student.shape), None, None, None


class HierarchicalAlignment(nn.Module):
    """Global, regional and local alignment on layers 1–4, each with its own four weights.

    With `relative`, a layer's terms are divided by the mean square of its teacher feature. A term
    of weight 0 is not computed; `last_layer` is the last layer that any term looks at (0 if
    there is none), so that the teacher computes nothing beyond it. `majority` as in `find_regions`.
    With `normalised`, features are compared by their directions, see `over_channels`.
    """

    def __init__(
        self,
        num_classes: int,
        global_weights: Sequence[float],
        regional_weights: Sequence[float],
        local_weights: Sequence[float],
        void_is_region: bool = True,
        relative: bool = False,
        majority: bool = False,
        normalised: bool = False,
    ):
        super().__init__()
        # What compares features of another architecture (across.py); default: `align`.
        self.across: nn.Module | None = None
        self.num_classes = num_classes
        self.void_is_region = void_is_region
        self.relative = relative
        self.majority = majority
        self.normalised = normalised
        given = (global_weights, regional_weights, local_weights)
        self.weights = dict(zip(TERMS, map(tuple, given), strict=True))
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
            weights = {term: values[layer - 1] for term, values in self.weights.items()}
            size = tuple(student[layer].shape[-2:])
            if size not in regions:
                regions[size] = find_regions(
                    labels, size, self.num_classes, self.void_is_region, self.majority
                )
            wanted = [term for term, weight in weights.items() if weight]
            own, target = student[layer], teacher[layer].detach()
            if self.normalised:
                own, target = over_channels(own), over_channels(target)
            if self.across is None:
                terms = align(own, target, regions[size], wanted)
            else:
                terms = self.across(layer, own, target, regions[size], wanted)
            scale = 1.0
            if self.relative:
                wide = widened(target.dtype)
                energy = torch.linalg.vector_norm(target, dtype=wide).square()
                scale = target.numel() / energy.clamp_min(1e-12)
            for term, value in terms.items():
                losses[term] = losses.get(term, 0) + weights[term] * scale * value
        return losses


def over_channels(features: Tensor) -> Tensor:
    """Normalise features `[B, C, h, w]` over the channels of each place, as the final norm of a
    transformer does, without its scale and shift; float32 at least."""
    wide = features.to(widened(features.dtype)).permute(0, 2, 3, 1)
    return F.layer_norm(wide, wide.shape[-1:]).permute(0, 3, 1, 2)
