"""The decoder: shapes at odd sizes, the auxiliary loss, weights of pixels."""

import pytest
import torch

from loss.cross_entropy import cross_entropy
from network.decoders.deeplabv3plus import DeepLabV3Plus
from network.regions.statistics import downsample_labels
from network.trunks.torchvision import build_trunk


@pytest.fixture
def parts(settings):
    cfg = settings(DECODER__AUX_DROPOUT=0.0)
    trunk = build_trunk("resnet_mini", 16, "none")
    return trunk, DeepLabV3Plus(trunk, 7, cfg)


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_shapes(parts, size):
    trunk, decoder = parts
    features = trunk(torch.randn(2, 3, *size))
    output = decoder(features, size)
    assert output.logits.shape == (2, 7, *size)
    assert output.auxiliary.shape[2:] == features[3].shape[2:]
    assert decoder.eval()(features, size).auxiliary is None
    embedding = decoder.embed(features)
    assert embedding.shape == (2, 16, *features[1].shape[2:])


def test_losses_are_weighted_and_at_the_heads_own_resolution(parts):
    trunk, decoder = parts
    features = trunk(torch.randn(2, 3, 64, 64))
    output = decoder(features, (64, 64))
    labels = torch.randint(0, 7, (2, 64, 64))
    losses = decoder.losses(output, labels)
    assert set(losses) == {"ce", "aux"}
    small = downsample_labels(labels, output.auxiliary.shape[2:])
    torch.testing.assert_close(losses["aux"], 0.4 * cross_entropy(output.auxiliary, small))
    weighted = decoder.losses(output, labels, torch.zeros(2, 64, 64))
    assert weighted["ce"] == 0 and weighted["aux"] == 0


def test_dilation_rates_keep_the_field_of_view(settings):
    for output_stride, expected in ((8, 12), (16, 6), (32, 3)):
        trunk = build_trunk("resnet_mini", output_stride, "none")
        decoder = DeepLabV3Plus(trunk, 7, settings())
        assert decoder.aspp.features[1][0].dilation == (expected, expected)


def test_no_auxiliary_head_at_weight_zero(settings):
    trunk = build_trunk("resnet_mini", 16, "none")
    decoder = DeepLabV3Plus(trunk, 7, settings(DECODER__AUX_WEIGHT=0.0))
    output = decoder(trunk(torch.randn(2, 3, 64, 64)), (64, 64))
    assert output.auxiliary is None
    assert set(decoder.losses(output, torch.zeros(2, 64, 64, dtype=torch.long))) == {"ce"}
