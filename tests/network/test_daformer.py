"""The heads of DAFormer, HRDA's attention and DeepLabV2 against plain forms, in float64."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from network.decoders.daformer import AttentionHead, DAFormer
from network.decoders.deeplabv2 import DeepLabV2

STRIDES = [4, 4, 8, 16, 32]
SMALL = SimpleNamespace(channels=[3, 3, 4, 5, 6], strides=STRIDES)
MIT = SimpleNamespace(channels=[64, 64, 128, 320, 512], strides=STRIDES)
RESNET = SimpleNamespace(channels=[64, 256, 512, 1024, 2048], strides=[4, 4, 8, 8, 8])
K = 5


def shift(x, rows, columns):
    """`out[i, j] = x[i + rows, j + columns]`, 0 outside."""
    out, (height, width) = torch.zeros_like(x), x.shape[-2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i + rows < height and 0 <= j + columns < width:
                out[..., i, j] = x[..., i + rows, j + columns]
    return out


def convolve(x, conv):
    """A 1×1 or 3×3 convolution that keeps the size, as a sum over shifted inputs."""
    reach, rate = conv.kernel_size[0] // 2, conv.dilation[0]
    total = 0
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            weight = conv.weight[:, :, row + reach, column + reach]
            moved = shift(x, row * rate, column * rate)
            if conv.groups > 1:
                total = total + weight[:, 0, None, None] * moved
            else:
                total = total + torch.einsum("oi,bihw->bohw", weight, moved)
    return total if conv.bias is None else total + conv.bias[:, None, None]


def normalise(x, norm):
    """Batch norm by the batch's own statistics, then ReLU."""
    mean = x.mean((0, 2, 3), keepdim=True)
    deviation = ((x - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    scale, offset = (p[:, None, None] for p in (norm.weight, norm.bias))
    return ((x - mean) / deviation * scale + offset).clamp_min(0)


def upsample(x, size):
    """Bilinear: cells are areas, their centres at halves, edges are repeated."""
    for axis, length in zip((2, 3), size, strict=True):
        inside, parts = x.shape[axis], []
        for i in range(length):
            place = min(max((i + 0.5) * inside / length - 0.5, 0), inside - 1)
            low = int(place)
            high = min(low + 1, inside - 1)
            pair = (x.select(axis, low), x.select(axis, high))
            parts.append(pair[0] * (1 - (place - low)) + pair[1] * (place - low))
        x = torch.stack(parts, dim=axis)
    return x


def joined(head, features):
    size = features[1].shape[-2:]
    parts = []
    for i, layer in enumerate(head.layers, start=1):
        weight = layer.weight[:, :, 0, 0]
        linear = torch.einsum("oi,bihw->bohw", weight, features[i]) + layer.bias[:, None, None]
        parts.append(upsample(linear, size))
    return torch.cat(parts, dim=1)


def daformer(head, features):
    x, fusion = joined(head, features), head.fusion
    branches = []
    for branch in fusion.branches:
        y = x
        for conv, norm in zip(branch[::3], branch[1::3], strict=True):
            y = normalise(convolve(y, conv), norm)
        branches.append(y)
    assert [b[0].dilation[0] for b in fusion.branches] == [1, 6, 12, 18]
    assert [b[0].groups for b in fusion.branches] == [1, 32, 32, 32]
    y = normalise(convolve(torch.cat(branches, dim=1), fusion.bottleneck[0]), fusion.bottleneck[1])
    return convolve(y, head.classifier)


def attention(head, features):
    conv, norm, _ = head.fusion
    return convolve(normalise(convolve(joined(head, features), conv), norm), head.classifier)


def deeplabv2(head, features):
    first, second = head.classifier.branches
    assert (first.dilation, second.dilation) == ((6, 6), (12, 12))
    return convolve(features[4], first) + convolve(features[4], second)


@pytest.fixture
def make(settings):
    """Return `make(name, trunk)` → a head at its published widths, or at `width`."""

    def make(name, trunk, classes, width=256):
        if name == "attention":
            return AttentionHead(trunk, classes, width, 0.0 if width < 256 else 0.1)
        if name == "deeplabv2":
            return DeepLabV2(trunk, classes, settings(DECODER__NAME=name))
        cfg = settings(
            DECODER__NAME=name,
            DECODER__CHANNELS=width,
            DECODER__DROPOUT=0.0 if width < 256 else 0.1,
        )
        return DAFormer(trunk, classes, cfg)

    return make


@pytest.mark.parametrize(("name", "plain"), [
    ("daformer", daformer), ("attention", attention), ("deeplabv2", deeplabv2),
])  # fmt: skip
@torch.no_grad()
def test_heads_against_plain_forms(make, name, plain):
    head = make(name, SMALL, K, width=8).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    sizes = [(9, 17), (9, 17), (5, 9), (3, 5), (2, 3)]
    features = {
        i: torch.randn(2, c, *sizes[i], dtype=torch.float64) for i, c in enumerate(SMALL.channels)
    }
    expected = plain(head, features)
    if name == "attention":
        torch.testing.assert_close(head(features), expected, rtol=1e-10, atol=1e-10)
        return
    output = head(features, (33, 65))
    torch.testing.assert_close(output.small, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.logits, upsample(expected, (33, 65)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "trunk", "expected"), [
    ("daformer", MIT, 3_712_275), ("attention", MIT, 530_707), ("deeplabv2", RESNET, 700_454),
])  # fmt: skip
def test_they_have_the_published_numbers_of_parameters(make, name, trunk, expected):
    head = make(name, trunk, 19)
    assert sum(p.numel() for p in head.parameters()) == expected
    final = head.classifier.branches if name == "deeplabv2" else [head.classifier]
    for conv in final:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05) and not conv.bias.any()
    if name != "deeplabv2":
        assert head.dropout.p == 0.1
        for module in head.fusion.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] ** 2
                deviation = (2 / fan_out) ** 0.5
                assert module.weight.std().item() == pytest.approx(deviation, rel=0.05)


def test_deeplabv2_warns_of_other_output_strides(make):
    assert make("deeplabv2", RESNET, K).remarks == ()
    at_32 = SimpleNamespace(channels=MIT.channels, strides=STRIDES)
    (remark,) = make("deeplabv2", at_32, K).remarks
    assert remark.startswith("warning: deeplabv2 belongs to output stride 8, and this is 32 (TRUN")
    patches = SimpleNamespace(channels=[8] * 5, strides=[16] * 5)
    assert make("deeplabv2", patches, K).remarks == ()
