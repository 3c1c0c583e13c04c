"""Convolutions that decoders are made of."""

from torch import nn


def conv_norm(
    inside: int, outside: int, kernel: int, dilation: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution that keeps the size of its input, batch norm and ReLU."""
    conv = nn.Conv2d(
        inside,
        outside,
        kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    return [conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
