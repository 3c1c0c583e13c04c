"""The confusion matrix of a domain and every measure read off it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from utils.labels import VOID

CHUNK = 2**21  # pixels that are counted at once: an image of 2048×1024


class ConfusionMatrix:
    """Counts `[K, K + 1]` int64 on a device; rows are ground truth, columns predictions.

    `table`, uint8[256], takes predictions to the classes that are counted, if they are others. The
    last column counts predictions that it maps to void: they are no class, and wrong.
    """

    def __init__(self, num_classes: int, device: torch.device, table: Tensor | None = None):
        self.counts = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64, device=device)
        self.table = None if table is None else table.to(device).long()

    def update(self, prediction: Tensor, labels: Tensor) -> None:
        """Add predictions (0 … K − 1, or keys of the table) and labels, any integers of one shape;
        void labels (255) are not counted."""
        rows, columns = self.counts.shape
        chunks = (x.flatten().split(CHUNK) for x in (prediction, labels))
        for predicted, label in zip(*chunks, strict=True):
            predicted, label = predicted.long(), label.long()
            if self.table is not None:
                predicted = self.table[predicted]
            # Void goes to an extra cell: cutting it out would synchronise with a GPU.
            cell = label * columns + predicted.clamp(max=rows)
            cell = torch.where(label != VOID, cell, rows * columns)
            counts = torch.bincount(cell, minlength=rows * columns + 1)
            self.counts += counts[:-1].view(rows, columns)


def measures(counts: np.ndarray) -> dict[str, np.ndarray | float]:
    """Read measures off a confusion matrix `[K, K]` or `[K, K + 1]` (rows ground truth), as
    fractions; a last column counts predictions of no class.

    `iou`, `precision`, `recall` `[K]` float64, NaN where they are undefined: an IoU where a class
    occurs neither in labels nor in predictions ("absent", which is not 0), a precision of a class
    never predicted, a recall of a class without pixels. `pixel_accuracy` and the frequency-weighted
    IoU `fw_iou` are NaN for an empty matrix.
    """
    counts = counts.astype(np.float64)
    true_positive = np.diag(counts)
    labelled, predicted = counts.sum(1), counts.sum(0)[: len(counts)]
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = true_positive / (labelled + predicted - true_positive)
        total = counts.sum()
        return {
            "iou": iou,
            "precision": true_positive / predicted,
            "recall": true_positive / labelled,
            "pixel_accuracy": float(true_positive.sum() / total),
            "fw_iou": float(np.nansum(labelled * iou) / total) if total else float("nan"),
        }


def mean_iou(iou: np.ndarray, classes: Sequence[int] | None = None) -> float:
    """Mean IoU over `classes` (default all), absent ones left out; NaN if all are absent."""
    chosen = iou if classes is None else iou[list(classes)]
    present = chosen[~np.isnan(chosen)]
    return float(present.mean()) if len(present) else float("nan")
