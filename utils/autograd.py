"""Gradients that are written by hand."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def differentiable_once(backward: Callable) -> Callable:
    """Let the backward pass of an `autograd.Function` refuse to be differentiated itself.

    A gradient written by hand is a constant to autograd, so that a second derivative would lack
    its share without a word. `torch.autograd.function.once_differentiable` does not see that where
    the incoming gradient is a constant, as it is for a loss. RuntimeError under `create_graph`.
    """

    @wraps(backward)
    def checked(ctx: Any, *upstream: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"the gradient of {type(ctx).__name__.removesuffix('Backward')} is written by hand "
                "and has no derivative: differentiate it without create_graph"
            )
        return backward(ctx, *upstream)

    return checked
