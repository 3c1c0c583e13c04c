"""The optimal partition of numbers into clusters: k-means in one dimension, exactly.

Lloyd's algorithm depends on where it starts; here every partition is compared. Clusters of sorted
numbers are intervals. The best end of the cluster before grows with the end of a cluster, so that
each row of the table is filled by halving (Grønlund et al., 2017), a level at a time.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def lowest_cluster(values: np.ndarray, number: int) -> float:
    """Return the largest value of the lowest of `number` clusters of `values` [n].

    The clusters are those whose squared distances to their means have the least sum, in float64. Of
    fewer distinct values than clusters, each is a cluster.
    """
    distinct, weights = np.unique(np.asarray(values, dtype=np.float64).ravel(), return_counts=True)
    if number >= len(distinct):
        return float(distinct[0])
    # Sums of squares about the mean: with an offset they would cancel.
    shifted = distinct - np.average(distinct, weights=weights)
    sums = [np.concatenate([[0.0], np.cumsum(weights * shifted**power)]) for power in range(3)]

    def cost(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The squared distances in a cluster of the distinct values begin … end − 1."""
        n, first, second = (total[end] - total[begin] for total in sums)
        return np.maximum(second - first**2 / np.maximum(n, 1), 0)

    ends = np.arange(len(distinct) + 1)
    # best[i]: of the first i values in so many clusters; came[i]: how many are not in the last.
    best, came = cost(np.zeros_like(ends), ends), []
    for _ in range(number - 1):
        best, before = _one_more(best, cost)
        came.append(before)
    end = len(distinct)
    for before in reversed(came):
        end = before[end]
    return float(distinct[max(end, 1) - 1])


def _one_more(best: np.ndarray, cost: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Return best values with one cluster more, and where its last one begins, for each end."""
    n = len(best)
    found, begin = np.empty(n), np.zeros(n, dtype=np.int64)
    # Each entry of the middle lies between those of the ends on both sides, which are known.
    spans = np.array([[0, n - 1, 0, n - 1]])
    while len(spans):
        low, high, first, last = spans.T
        middle = (low + high) // 2
        last = np.minimum(last, middle)
        sizes = last - first + 1
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        owner = np.repeat(np.arange(len(spans)), sizes)
        candidates = np.arange(sizes.sum()) - starts[owner] + first[owner]
        totals = best[candidates] + cost(candidates, middle[owner])
        least = np.minimum.reduceat(totals, starts)
        # The first of equals.
        places = np.flatnonzero(totals == least[owner])
        chosen = places[np.unique(owner[places], return_index=True)[1]]
        found[middle], begin[middle] = least, candidates[chosen]
        left = np.stack([low, middle - 1, first, begin[middle]], axis=1)[low < middle]
        right = np.stack([middle + 1, high, begin[middle], spans[:, 3]], axis=1)[middle < high]
        spans = np.concatenate([left, right])
    return found, begin


def above_lowest_cluster(values: Tensor, number: int, bins: int = 256) -> Tensor:
    """Return bool: which of rows of `values` `[n, m]` lie above the lowest of `number` clusters.

    Values are counted in equal bins from a row's least to its largest; the clusters are the optimal
    ones of the bins. All is computed on the device, which nothing waits for. Of a row of one value
    none lies above.
    """
    values = values.double()
    least, largest = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    spread = (largest - least).clamp_min(torch.finfo(values.dtype).tiny)
    place = ((values - least) / spread * (bins - 1)).round()
    # A step whose numbers are not finite ends for its losses, not for a place that is none.
    place = place.nan_to_num(0).clamp(0, bins - 1).long()
    count = torch.zeros(values.shape[0], bins, dtype=values.dtype, device=values.device)
    count.scatter_add_(1, place, torch.ones_like(values))
    position = torch.arange(bins, dtype=values.dtype, device=values.device)
    position = position - (count * position).sum(1, keepdim=True) / values.shape[1]
    sums = [F.pad((count * position**power).cumsum(1), (1, 0)) for power in range(3)]
    # cost[i, j]: squared distances in a cluster of the bins i … j − 1.
    n, first, second = (total[:, None] - total[:, :, None] for total in sums)
    cost = (second - first**2 / n.clamp_min(1)).clamp_min(0)
    backwards = torch.ones(bins + 1, bins + 1, dtype=torch.bool, device=values.device).tril(-1)
    cost.masked_fill_(backwards, torch.inf)
    best, came = cost[:, 0], []
    for _ in range(number - 1):
        best, before = (best[:, :, None] + cost).min(1)
        came.append(before)
    end = torch.full((values.shape[0], 1), bins, device=values.device)
    for before in reversed(came):
        end = before.gather(1, end)
    # An empty lowest cluster, of fewer values than clusters, has the first bin.
    return place >= end.clamp_min(1)
