"""Per-region mean and standard deviation of a feature map, and restyling: the one hot operation.

A region is the set of pixels of one image that carry one label value. Pixels are handled as rows
`[B * h * w, C]`; each row carries the number of its (image, region) slot, so that sums over all
regions are one `index_add` whose cost does not depend on the number of classes (in alignment, of
halves on GPUs, a product: `sums_by_product`), and a per-region table is read back by one row
gather. Nothing here synchronises with the host.

Variances are taken relative to one pixel of the region itself: `E[v²] − E[v]²` on raw features
loses all digits when a mean is large against its deviation, whereas `v = x − x_reference` is of the
order of the deviation, and exactly zero where a region is constant or has a single pixel.

On CPUs, whose memory is the bottleneck, rows are handled in parts that stay in the cache: features
are read once for the statistics, once more for restyling, and written once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from utils.chunks import chunks
from utils.labels import VOID
from utils.products import whole_products

# Added to a standard deviation before it divides (published SRHA code).
EPSILON = 1e-7


class Regions(NamedTuple):
    """The regions of a batch of label maps at one feature size.

    `slot` `[B * h * w]` int64 numbers the (image, region) pair of each pixel, `count` `[B, R]`
    float32 holds pixels per region with R = classes + 1 (void comes last; its count is 0 where void
    is no region), `size` is (h, w).
    """

    slot: Tensor
    count: Tensor
    size: tuple[int, int]

    @property
    def present(self) -> Tensor:
        """`[B, R]` bool: which regions an image has."""
        return self.count > 0

    def one_hot(self, dtype: torch.dtype) -> Tensor:
        """Return `[B, R, h * w]`: 1 where a pixel is of a region, else 0."""
        batch, number = self.count.shape
        first = number * torch.arange(batch, device=self.slot.device)
        region = self.slot.view(batch, 1, -1) - first[:, None, None]
        member = torch.zeros(batch, number, region.shape[-1], dtype=dtype, device=region.device)
        return member.scatter_(1, region, 1)


def downsample_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-downsample labels `[B, H, W]` to `[B, h, w]`, as `interpolate(mode="nearest")`."""
    (height, width), (h, w) = labels.shape[-2:], size
    if (height, width) == (h, w):
        return labels
    rows = torch.arange(h, device=labels.device) * height // h
    columns = torch.arange(w, device=labels.device) * width // w
    return labels[:, rows[:, None], columns]


def pure_cells(labels: Tensor, size: Sequence[int], num_classes: int, purity: float) -> Tensor:
    """Return the class of each cell of a feature of `size` (h, w): `[B, h, w]` int64.

    `labels` `[B, H, W]` int64, 255 = void, are divided into h × w cells, of H/h × W/w pixels each
    where that is whole. A cell has the class of `purity` of its pixels at least, void being a class
    of its own, else 255.
    """
    (batch, *shape), (height, width) = labels.shape, size
    rows, columns = (
        torch.arange(side, device=labels.device) * cells // side
        for side, cells in zip(shape, size, strict=True)
    )
    image = torch.arange(batch, device=labels.device)[:, None, None]
    cell = (image * height + rows[:, None]) * width + columns
    slot = cell * (num_classes + 1) + torch.where(labels == VOID, num_classes, labels)
    count = torch.zeros(batch * height * width * (num_classes + 1), device=labels.device)
    count.index_add_(0, slot.flatten(), torch.ones_like(slot, dtype=count.dtype).flatten())
    count = count.view(batch, height, width, num_classes + 1)
    largest, label = count.max(-1)
    pure = (largest >= purity * count.sum(-1).clamp_min(1)) & (label != num_classes)
    return torch.where(pure, label, VOID)


def find_regions(
    labels: Tensor,
    size: tuple[int, int],
    num_classes: int,
    void_is_region: bool = True,
    majority: bool = False,
) -> Regions:
    """Number the regions of labels `[B, H, W]` int64 (0 … num_classes − 1, 255 void) at `size`.

    A place has the label of the pixel that nearest downsampling takes or, with `majority`, the one
    that most of its pixels have.
    """
    batch, regions = labels.shape[0], num_classes + 1
    small = downsample_labels(labels, size)
    if majority and small is not labels:
        small = pure_cells(labels, size, num_classes, purity=0)
    small = small.reshape(batch, -1)
    region = torch.where(small == VOID, num_classes, small)
    image = torch.arange(batch, device=labels.device)[:, None]
    slot = (image * regions + region).reshape(-1)
    ones = torch.ones_like(slot, dtype=torch.float32)
    count = ones.new_zeros(batch * regions).index_add(0, slot, ones).view(batch, regions)
    if not void_is_region:
        count = torch.cat([count[:, :-1], torch.zeros_like(count[:, -1:])], dim=1)
    return Regions(slot, count, size)


def to_rows(features: Tensor) -> Tensor:
    """Turn `[B, C, h, w]` into rows `[B * h * w, C]`: a view of features that are channels-last."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def widened(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics of features of `dtype` are taken in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unbiased variances (0 of a map of one place) and means `[B, C]` of the channels of
    each image's feature `[B, C, h, w]`."""
    return torch.var_mean(x, dim=(2, 3), correction=min(x[0, 0].numel() - 1, 1))


def wide_rows(features: Tensor) -> Tensor:
    """Turn `[B, C, h, w]` into rows `[B * h * w, C]` in float32 at least."""
    return to_rows(features).to(widened(features.dtype))


def from_rows(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """View rows `[B * h * w, C]` as features of `shape` `[B, C, h, w]`."""
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def add_to_regions(sums: Tensor, rows: Tensor, regions: Regions, part: slice) -> None:
    """Add rows `[n, C]`, the `part` of all pixels, to the `sums` `[B * R, C]` of their regions."""
    sums.index_add_(0, regions.slot[part], rows)


def sums_by_product(regions: Regions, features: Sequence[Tensor]) -> bool:
    """Say whether sums over regions are a product with the one-hot labels.

    On GPUs, of halves: tensor cores add their products with 0 and 1, which are exact, in float32,
    where a scatter adds number by number. Not where the labels would take more memory than the
    features, nor of float32, where the scatter is faster (`benchmarks.on_gpu` has both).
    """
    dtypes, rows = {rows.dtype for rows in features}, features[0]
    halves = dtypes in ({torch.bfloat16}, {torch.float16})
    return rows.is_cuda and halves and regions.count.shape[1] <= rows.shape[1]


def region_sums(regions: Regions, features: Sequence[Tensor]) -> list[Tensor]:
    """Return the sums `[B * R, C]` over each region of each feature, given as rows
    `[B * h * w, C]`, in the dtype of the first or float32 at least; no gradient."""
    dtype = features[0].dtype
    wide = widened(dtype)
    if sums_by_product(regions, features):
        member = regions.one_hot(dtype)
        # A GPU alone takes halves and returns float32.
        out = {} if dtype == wide else {"out_dtype": wide}
        with whole_products(member.device):
            images = [rows.unflatten(0, (len(member), -1)) for rows in features]
            return [torch.bmm(member, own, **out).flatten(0, 1) for own in images]
    found = []
    for rows in features:
        sums = rows.new_zeros(regions.count.numel(), rows.shape[1], dtype=wide)
        for part in parts_of(rows):
            add_to_regions(sums, rows[part].to(wide), regions, part)
        found.append(sums)
    return found


def parts_of(rows: Tensor, copied: bool = False) -> Iterator[slice]:
    """Yield slices of rows `[N, C]`: parts, if wider or other copies of them (`copied`) exist in
    between, else one of all rows, which takes an eighth less time than parts."""
    if copied or rows.dtype != widened(rows.dtype):
        return chunks(*rows.shape, rows.device)
    return iter([slice(None)])


def region_means(features: Tensor, regions: Regions) -> Tensor:
    """Mean of features `[B, C, h, w]` over each region: `[B, R, C]`, 0 where a region is absent.

    Float32 at least; differentiable in the features.
    """
    rows = wide_rows(features)
    batch, number = regions.count.shape
    sums = rows.new_zeros(batch * number, rows.shape[1]).index_add(0, regions.slot, rows)
    means = sums.view(batch, number, -1) / divisor(regions, rows.dtype)
    return means.masked_fill(~regions.present[..., None], 0)


def first_pixels(regions: Regions) -> Tensor:
    """Return the row of each region's first pixel, `[B * R]` int64; 0 where a region is absent."""
    slot = regions.slot
    position = torch.arange(len(slot), device=slot.device)
    first = torch.full((regions.count.numel(),), len(slot), device=slot.device)
    return first.scatter_reduce(0, slot, position, "amin").remainder(len(slot))


class RegionStatistics(NamedTuple):
    """Mean and standard deviation `[B, R, C]`, and the pixel they were taken relative to.

    `std` is biased and has EPSILON added; both are 0 for absent regions. `reference` `[B, R, C]` is
    the first pixel of each region.
    """

    mean: Tensor
    std: Tensor
    reference: Tensor


@torch.no_grad()
def region_statistics(features: Tensor, regions: Regions) -> RegionStatistics:
    """Statistics of features `[B, C, h, w]` over each region (SRM, step 2 of the paper).

    Float32 at least, whatever the dtype of the features; no gradient.
    """
    rows, wide = to_rows(features), widened(features.dtype)
    batch, number = regions.count.shape
    # The value of a region that is absent is masked below.
    reference = rows[first_pixels(regions)].to(wide)
    sums, squares = torch.zeros_like(reference), torch.zeros_like(reference)
    for part in chunks(*rows.shape, rows.device):
        slot = regions.slot[part]
        # `index_select` takes a quarter of the time of indexing with brackets on CPUs.
        centred = reference.index_select(0, slot)
        torch.sub(rows[part], centred, out=centred)
        add_to_regions(sums, centred, regions, part)
        add_to_regions(squares, centred.square_(), regions, part)

    shape, pixels = (batch, number, -1), divisor(regions, wide)
    offset, reference = sums.view(shape) / pixels, reference.view(shape)
    variance = squares.view(shape) / pixels - offset.square()
    present = regions.present[..., None]
    mean = (reference + offset).masked_fill(~present, 0)
    std = (variance.clamp_min(0).sqrt() + EPSILON).masked_fill(~present, 0)
    return RegionStatistics(mean, std, reference)


@torch.no_grad()
def restyle(
    features: Tensor, regions: Regions, statistics: RegionStatistics, mean: Tensor, std: Tensor
) -> Tensor:
    """Give each region of features `[B, C, h, w]` the style `mean`, `std` `[B, R, C]` (AdaIN).

    `F̃ = std · (F − μ) / σ + mean` inside each present region; pixels of absent regions (void where
    void is no region) stay as they are. Returns `[B, C, h, w]` in the dtype of the features,
    channels-last.
    """
    present = regions.present[..., None]
    reference = statistics.reference
    scale = torch.where(present, std / statistics.std.clamp_min(EPSILON), 1.0)
    shift = torch.where(present, mean - (statistics.mean - reference) * scale, reference)
    tables = [table.flatten(0, 1) for table in (reference, scale, shift)]
    rows = to_rows(features)
    restyled = torch.empty_like(rows)
    for part in chunks(*rows.shape, rows.device):
        centred, scales, shifts = (table.index_select(0, regions.slot[part]) for table in tables)
        torch.sub(rows[part], centred, out=centred)
        restyled[part] = shifts.addcmul_(centred, scales)
    return from_rows(restyled, features.shape)


def divisor(regions: Regions, dtype: torch.dtype) -> Tensor:
    """Return pixels per region `[B, R, 1]`, at least 1: an absent region divides 0 by 1."""
    return regions.count.clamp_min(1)[..., None].to(dtype)
