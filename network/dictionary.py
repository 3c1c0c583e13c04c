"""A first-in, first-out dictionary of pixels, in which the nearest is looked up (WildNet)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.chunks import chunks
from utils.processes import gathered


class Dictionary(nn.Module):
    """`entries` `[Q, D]` of unit length, random ones until they are replaced; the next that is
    replaced, `next`, is known without asking the device."""

    def __init__(
        self,
        size: int,
        channels: int,
        dtype: torch.dtype = torch.float32,
        filled: bool = True,
    ):
        """Not `filled`, its entries are left to a checkpoint."""
        super().__init__()
        if filled:
            entries = F.normalize(torch.randn(size, channels), dim=1).to(dtype)
        else:
            entries = torch.zeros(size, channels, dtype=dtype)
        self.register_buffer("entries", entries)
        self.register_buffer("place", torch.tensor(0))
        self.next = 0

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Return the entry `[n, D]` with the largest product with each of `rows` `[n, D]`."""
        found = torch.empty(len(rows), dtype=torch.long, device=rows.device)
        for part in chunks(len(rows), len(self.entries), rows.device):
            found[part] = (rows[part].to(self.entries.dtype) @ self.entries.T).argmax(1)
        return self.entries[found].to(rows.dtype)

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Replace the oldest entries by `rows` `[n, D]` of every process, in their order."""
        size = len(self.entries)
        rows = gathered(rows)[-size:]
        places = (self.next + torch.arange(len(rows), device=rows.device)) % size
        self.entries.index_copy_(0, places, rows.to(self.entries.dtype))
        self.next = (self.next + len(rows)) % size
        self.place.fill_(self.next)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.next = int(self.place)
