"""Losses at weights one gradient step ahead, within one forward and one backward pass.

`g = ∇L(θ)` is taken in the forward pass, averaged over the processes, and is a constant from then
on. Another loss L' is computed at `θ' = θ − α g`, whose derivative in θ is 1: its gradient is
`∇L'(θ')`, of first order as in the published code of MLDG and PinTheMem. The inner loss is handed
on as a number whose gradient is g. One backward pass of the sum gives `g + ∇L'(θ')`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils.autograd import differentiable_once
from utils.processes import average_over_processes

T = TypeVar("T")


def gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a scalar's gradient in each parameter, mean over processes; its graph is freed.

    `.grad` is not touched. A parameter that the loss does not depend on has a gradient of 0.
    """
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    average_over_processes(found)
    return dict(zip(parameters, found, strict=True))


def with_gradient(
    value: Tensor, parameters: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> Tensor:
    """Return a scalar whose gradient in each parameter is what is `given`, whatever made it."""
    return _WithGradient.apply(
        value.detach(), [given[name] for name in parameters], *parameters.values()
    )


def at(
    module: nn.Module, parameters: Mapping[str, Tensor], function: Callable[..., T], *arguments: Any
) -> T:
    """Return `function(*arguments)`, a method of `module` or of what holds its parts, computed with
    other `parameters` (by name), which gradients pass through to.

    Buffers, such as running statistics, are copies that are thrown away.
    """
    caller = _Caller(module, function)
    state = {f"module.{name}": value for name, value in parameters.items()}
    state |= {f"module.{name}": buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(caller, state, arguments)


class _Caller(nn.Module):
    """Calls a function that uses a module, so that the module's tensors can be exchanged."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *arguments: Any) -> Any:
        return self.function(*arguments)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, given: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*given)
        return value.clone()

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream.to(each) * each for each in ctx.saved_tensors)
