"""From a classification network of convolutions to a trunk: its weights, its output stride."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from network.trunks.trunk import Trunk
from utils.errors import UserError
from utils.files import read_weights
from utils.network_file import SAFETENSORS, read_safetensors

HUB_FILE = "model.safetensors"  # in a folder of the hub


def load_backbone(
    model: nn.Module,
    name: str,
    weights: str,
    named: Mapping[str, Callable[[], Mapping[str, Tensor]]],
) -> None:
    """Fill a classification network with `weights`: "none", one of the `named`, or a path.

    UserError if there are no such weights, or if they do not fit all but the classifier.
    """
    if weights != "none":
        load_state(model, name, weights, weights_of(name, weights, named))


def load_state(model: nn.Module, name: str, weights: str, state: Mapping[str, Tensor]) -> None:
    """Fill a classification network with the state that `weights` names, but for the classifier;
    UserError if it does not fit."""
    own = model.state_dict()
    head = {key for key in own if key.startswith(("fc.", "classifier."))}
    missing = own.keys() - head - state.keys()
    unknown = state.keys() - own.keys() - {"fc.weight", "fc.bias"}
    shapes = [k for k in own if k in state and k not in head and own[k].shape != state[k].shape]
    refuse_misfit(weights, name, missing, unknown, shapes)
    trunk_state = {k: v.to(own[k].dtype) for k, v in state.items() if k in own and k not in head}
    model.load_state_dict(trunk_state, strict=False)


def refuse_misfit(
    weights: str,
    name: str,
    missing: Collection[str],
    unknown: Collection[str],
    shapes: Collection[str],
) -> None:
    """Raise UserError if any key of `weights` is missing, unknown or has another shape."""
    problems = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    report = [f"{what}: {', '.join(sorted(k)[:3])}" for what, k in problems.items() if k]
    if report:
        raise UserError(f"the weights {weights} do not fit {name} ({'; '.join(report)})")


def no_such_weights(name: str, weights: str, named: Iterable[str]) -> UserError:
    """Return the error for weights that are no file and none of the `named` ones."""
    return UserError(
        f"no weights file {weights}, and {name} has none of that name; set TRUNK.WEIGHTS to "
        f"{', '.join([*named, 'none'])}, or the path of a state dict"
    )


def weights_of(
    name: str, weights: str, named: Mapping[str, Callable[[], Mapping[str, Tensor]]]
) -> Mapping[str, Tensor]:
    """Return the weights of one of the `named`, of a file of torch or safetensors, or of a folder
    of the hub; UserError if there are none."""
    if weights in named:
        return named[weights]()
    path = Path(weights)
    if path.is_dir():
        path = path / HUB_FILE
        if not path.is_file():
            raise UserError(f"the folder {weights} holds no {HUB_FILE}, as those of the hub do")
    if not path.is_file():
        raise no_such_weights(name, weights, named)
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)[0]
    state = read_weights(path)
    return state.get("state_dict", state)


def convolutional_trunk(
    layers: list[nn.Module],
    channels: Sequence[int],
    output_stride: int,
    recompute: Sequence[bool],
    dilate_all: bool,
) -> Trunk:
    """Return the trunk of five layers, with dilation in place of strides beyond `output_stride`.

    With `dilate_all`, every convolution of a layer that loses its stride is dilated (ResNets as
    published), otherwise only the one that had it.
    """
    strides = limit_stride(layers, output_stride, dilate_all)
    return Trunk(layers, channels, strides, (False, *recompute))


def limit_stride(layers: list[nn.Module], output_stride: int, dilate_all: bool) -> list[int]:
    """Replace strides by dilation where a layer would exceed `output_stride`; return all strides.

    Each removed factor of two doubles the dilation of the layer (2, then 4 at output stride 8).
    UserError for a convolution of an even size, whose output would shrink, and for a stride that is
    not a convolution's (pooling).
    """
    stride, dilation, strides = 1, 1, []
    for layer in layers:
        factor = _stride_of(layer)
        if stride * factor <= output_stride:
            stride *= factor
        else:
            dilation *= factor
            for conv in [m for m in layer.modules() if isinstance(m, nn.Conv2d)]:
                strided = conv.stride != (1, 1)
                conv.stride = (1, 1)
                if strided or dilate_all:
                    _dilate(conv, dilation)
            if _stride_of(layer) != 1:
                raise UserError(
                    f"a layer of stride {factor} has it from more than convolutions, whose strides "
                    "alone can become dilation; choose a larger TRUNK.OUTPUT_STRIDE"
                )
        strides.append(stride)
    return strides


def _dilate(conv: nn.Conv2d, dilation: int) -> None:
    """Dilate a convolution, except along sides of 1, so that it keeps the size of its input."""
    if any(side % 2 == 0 for side in conv.kernel_size):
        raise UserError(
            f"a convolution of {conv.kernel_size[0]}×{conv.kernel_size[1]} cannot be dilated; "
            "choose a larger TRUNK.OUTPUT_STRIDE"
        )
    conv.dilation = tuple(dilation if side > 1 else 1 for side in conv.kernel_size)
    conv.padding = tuple(dilation * (side // 2) for side in conv.kernel_size)


@torch.no_grad()
def _stride_of(layer: nn.Module) -> int:
    """Measure a layer's stride on a 64-pixel input of zeros, without touching batch statistics."""
    # In every backbone here the first convolution of a layer takes all the channels that enter it.
    first = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
    training = layer.training
    layer.eval()
    size = layer(torch.zeros(1, first.in_channels, 64, 64)).shape[-1]
    layer.train(training)
    return 64 // size
