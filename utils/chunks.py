"""Work on a large tensor in parts: what is computed in between never exists as a whole."""

from collections.abc import Iterator

import torch

# Elements of a part. On a CPU, 1 MiB in float32, so that a few copies stay in its cache; on
# a GPU, enough for the launches not to matter.
ELEMENTS = {"cpu": 2**18, "cuda": 2**25}


def chunks(number: int, width: int, device: torch.device) -> Iterator[slice]:
    """Yield slices that cover `number` rows of `width` elements each."""
    size = max(1, ELEMENTS.get(device.type, ELEMENTS["cuda"]) // max(width, 1))
    for start in range(0, number, size):
        yield slice(start, start + size)
