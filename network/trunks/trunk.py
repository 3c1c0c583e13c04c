"""The contract of a trunk: five layers with one interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Trunk(nn.Module):
    """Five layers of a backbone; `channels[i]` and `strides[i]` describe what layer i returns.

    Sides of an image have to be multiples of `multiple`; `Method` pads images in evaluation.
    Where `recompute[i]` is set, the activations inside layer i are not kept for the backward pass
    but computed again there: less memory, one more forward pass of that layer, the same result.
    """

    multiple = 1
    exported_from = 32  # pixels a side; no smaller images in exported files

    def __init__(
        self,
        layers: list[nn.Module],
        channels: Sequence[int],
        strides: Sequence[int],
        recompute: Sequence[bool] = (False,) * 5,
    ):
        super().__init__()
        self.recompute = tuple(recompute)
        for i, layer in enumerate(layers):
            self.add_module(f"layer{i}", layer)
        self.channels = list(channels)
        self.strides = list(strides)

    @property
    def has_batch_norm(self) -> bool:
        """Whether what a layer returns depends on the other images of a training batch."""
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters that TRAIN.NO_DECAY spares if it names any kind, such as
        position embeddings and scales. Default: none."""
        return set()

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        stop: int = 4,
        after: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[int, Tensor]:
        """Run layers `start` to `stop`; return {i: f_i} with f_i `[B, channels[i], h_i, w_i]`.

        `x` is an image batch `[B, 3, H, W]` or, with `start` > 0, the feature f_{start−1}.
        `after[i]` acts on what enters layer i + 1; the recorded f_i is the value before it.
        """
        after = after or {}
        features: dict[int, Tensor] = {}
        for i in range(start, stop + 1):
            if i - 1 in after:
                x = after[i - 1](x)
            layer = getattr(self, f"layer{i}")
            if self.recompute[i] and self.training and torch.is_grad_enabled():
                contexts = partial(_recomputation, layer)
                x = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
            else:
                x = layer(x)
            features[i] = x
        return features


def _recomputation(layer: nn.Module) -> tuple:
    """Contexts of the two forward passes of a recomputed layer."""
    return nullcontext(), _statistics_at_rest(layer)


@contextmanager
def _statistics_at_rest(layer: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch twice in their running statistics, and others, which
    have an attribute `recomputing`, from noting it twice."""
    norms = [m for m in layer.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    noting = [m for m in layer.modules() if hasattr(m, "recomputing")]
    for norm in norms:
        norm.momentum = 0.0
    for module in noting:
        module.recomputing = True
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
        for module in noting:
            module.recomputing = False
