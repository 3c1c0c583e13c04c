"""The contract of a trunk: five layers with one interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from utils.errors import UserError
from utils.network_file import digest


class Adapter(nn.Module):
    """What tuning (network/tuning) adds to a trunk; where it is not `active` it does nothing."""

    active = True
    is_a_change_of_weights = False

    def merge(self) -> None:
        """Become part of the weights; UserError for one that cannot. Default: cannot."""
        raise UserError(f"what {type(self).__name__} adds to a trunk is no change of its weights")


class Trunk(nn.Module):
    """Five layers of a backbone; `channels[i]` and `strides[i]` describe what layer i returns.

    Sides of an image have to be multiples of `multiple`; `Method` pads images in evaluation.
    Where `recompute[i]` is set, the activations inside layer i are not kept for the backward pass
    but computed again there: less memory, one more forward pass of that layer, the same result.
    """

    multiple = 1
    exported_from = 32  # pixels a side; no smaller images in exported files
    tunings: tuple[str, ...] = ("full", "frozen")  # values of TRUNK.TUNING that it takes
    remarks: Sequence[str] = ()  # what the log is to say of its weights
    converted: frozenset[str] = frozenset()  # names of parameters that a file has otherwise
    block_widths: Sequence[int] = ()  # of the blocks in layers 1–4 that an adapter acts behind
    keeps_weights = False  # whether tuning leaves the pretrained weights as they are

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
        self.adapter: nn.Module | None = None
        # Of weights that are kept: parameters that a file has as they are.
        self.in_file: list[nn.Parameter] = []
        self._file_hash: tuple[list[str], str] = ([], "")

    @property
    def has_batch_norm(self) -> bool:
        """Whether what a layer returns depends on the other images of a training batch."""
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    @property
    def can_be_neutral(self) -> bool:
        """Whether it can serve beside itself as the pretrained network; batch norms would have to
        be in two modes at once."""
        return self.keeps_weights and not self.has_batch_norm

    @property
    def first_trained(self) -> int:
        """The first layer in which something is trained; 5 if nothing is."""
        if self.adapter is not None:
            return 1
        layers = (getattr(self, f"layer{i}") for i in range(5))
        return next(
            (i for i, own in enumerate(layers) if any(p.requires_grad for p in own.parameters())), 5
        )

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
            x = features[i] = self._run(i, x)
        return features

    def _run(self, i: int, *inputs: Tensor | None) -> Tensor:
        """Run layer i, with the adapter behind its blocks, if there is one."""
        run = layer = getattr(self, f"layer{i}")
        if i > 0 and self.adapter is not None and self.adapter.active:
            run = partial(layer, after_block=self.adapt)
        if self.recompute[i] and self.training and torch.is_grad_enabled():
            contexts = partial(_recomputation, layer)
            return checkpoint(run, *inputs, use_reentrant=False, context_fn=contexts)
        return run(*inputs)

    def adapt(self, number: int, x: Tensor) -> Tensor:
        """Let the adapter act behind block `number`, of what that returned."""
        raise NotImplementedError

    def adapters(self) -> list[Adapter]:
        """Return what tuning added."""
        return [module for module in self.modules() if isinstance(module, Adapter)]

    def train(self, mode: bool = True) -> "Trunk":
        """Switch to training; of weights that are kept, only what tuning added."""
        super().train(mode)
        if self.keeps_weights:
            for layer in self.children():
                layer.train(False)
            for adapter in self.adapters():
                adapter.train(mode)
        return self

    @contextmanager
    def untuned(self) -> Iterator[None]:
        """Be the pretrained network, of weights that are kept; modes and gradients stay."""
        adapters = self.adapters()
        for adapter in adapters:
            adapter.active = False
        try:
            yield
        finally:
            for adapter in adapters:
                adapter.active = True

    def file_hash(self, names: list[str]) -> str:
        """Return the SHA-256 of frozen parameters; it is computed once."""
        if self._file_hash[0] != names:
            own = dict(self.named_parameters())
            weights = {name: own[name].detach().cpu() for name in names}
            self._file_hash = (names, digest(weights, {}))
        return self._file_hash[1]

    @property
    def mergeable(self) -> bool:
        """Whether all that tuning added, if anything, is a change of weights."""
        return all(adapter.is_a_change_of_weights for adapter in self.adapters())

    def merge(self) -> None:
        """Make what tuning added part of the weights, so that the trunk has no overhead.

        UserError for an adapter that is no change of weights.
        """
        for adapter in self.adapters():
            adapter.merge()


def _recomputation(layer: nn.Module) -> tuple:
    """Contexts of the two forward passes of a recomputed layer."""
    return nullcontext(), _recomputing(layer)


@contextmanager
def _recomputing(layer: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch twice in their running statistics, and others, which
    have an attribute `recomputing`, from noting it twice."""
    noting = [m for m in layer.modules() if hasattr(m, "recomputing")]
    for module in noting:
        module.recomputing = True
    try:
        with statistics_at_rest(layer):
            yield
    finally:
        for module in noting:
            module.recomputing = False


@contextmanager
def statistics_at_rest(*modules: nn.Module) -> Iterator[None]:
    """Let batch norms in training leave their running statistics as they are."""
    found = chain.from_iterable(module.modules() for module in modules)
    norms = [norm for norm in found if isinstance(norm, _BatchNorm) and norm.training]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    # Copies take what is counted; with a momentum of 0, infinite activations would become NaN.
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
