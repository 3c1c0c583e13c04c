"""The decoder: the auxiliary loss, weights of pixels, its parts."""

import pytest
import torch

from loss.cross_entropy import cross_entropy
from network.decoders.deeplabv3plus import DeepLabV3Plus
from network.regions.statistics import downsample_labels
from network.trunks import build_trunk


@pytest.fixture
def parts(settings):
    cfg = settings(DECODER__AUX_DROPOUT=0.0)
    trunk = build_trunk("resnet_mini", 16, "none")
    return trunk, DeepLabV3Plus(trunk, 7, cfg)


def test_what_is_there_in_training_only(parts):
    trunk, decoder = parts
    features = trunk(torch.randn(2, 3, 97, 131))
    output = decoder(features, (97, 131))
    assert output.auxiliary.shape[2:] == features[3].shape[2:]
    assert torch.equal(output.embedding, decoder.embed(features))
    assert output.embedding.shape == (2, 16, *features[1].shape[2:])
    output = decoder.eval()(features, (97, 131))
    assert output.auxiliary is None and output.embedding is None


def test_the_context_acts_on_deep_features_before_they_meet_shallow_ones(parts):
    trunk, decoder = parts
    features = trunk(torch.randn(2, 3, 64, 64))
    plain = decoder.eval().embed(features)
    keys = decoder.state_dict().keys()
    assert not [key for key in keys if key.startswith("context")]
    decoder.context = torch.nn.Threshold(1e9, 0.0)
    seen = []
    decoder.context.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    changed = decoder.embed(features)
    (deep,) = seen
    assert torch.equal(deep, decoder.bot_aspp(decoder.aspp(features[4])))
    assert decoder.state_dict().keys() == keys and not torch.equal(changed, plain)
    low_level = decoder.bot_fine(features[1])
    joined = torch.cat([low_level, low_level.new_zeros(2, 16, *low_level.shape[2:])], 1)
    assert torch.equal(changed, decoder.final1(joined))


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
