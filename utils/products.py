"""Products of matrices that no setting of precision may round."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def whole_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in float32, whatever PRECISION and MATMUL_PRECISION say: autocast
    would round what is multiplied to bfloat16, TF32 to ten bits."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
