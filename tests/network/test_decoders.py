"""Every decoder of the registry keeps the contract of network/decoders/decoder.py.

A new decoder is tested by its line in the registry; small sizes of it stand in conftest.py.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from loss.consistency import jensen_shannon
from loss.cross_entropy import cross_entropy
from network.decoders import DECODERS, decoder_class
from network.decoders.decoder import LogitDecoder
from network.trunks import build_trunk
from tests.network.toy_trunks import PatchTrunk

K = 7
SIZES = [(64, 64), (97, 131), (33, 40)]


@pytest.fixture
def trunk():
    return build_trunk("resnet_mini", 16, "none")


@pytest.fixture(params=DECODERS)
def make(request, settings):
    """Return `make(trunk)` → a small decoder of the registry."""
    cfg = settings(DECODER__NAME=request.param)
    return lambda trunk: decoder_class(request.param)(trunk, K, cfg)


def labels_of(size, batch=2):
    labels = torch.randint(0, K, (batch, *(side // 8 + 1 for side in size)))
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]]
    labels[:, :8, :8] = 255
    return labels.contiguous()


def seeded(function, *arguments):
    """Call with dropout and points of its own, equal each time."""
    torch.manual_seed(1)
    return function(*arguments)


@pytest.mark.parametrize("size", SIZES)
def test_logits_have_the_images_size(make, trunk, size):
    decoder = make(trunk)
    features = trunk(torch.randn(2, 3, *size))
    for training in (True, False):
        logits = decoder.train(training)(features, size).logits
        assert logits.shape == (2, K, *size) and logits.isfinite().all()


@pytest.mark.parametrize("name", ["resnet_mini", "patches16"])
def test_the_stride_of_logits_is_said(make, name):
    trunk = PatchTrunk(16, (False,) * 4) if name == "patches16" else build_trunk(name, 8, "none")
    decoder, size = make(trunk).eval(), (64, 96)
    output = decoder(trunk(torch.randn(1, 3, *size)), size)
    if isinstance(decoder, LogitDecoder):
        assert output.small.shape[2:] == tuple(side // decoder.stride for side in size)


@torch.no_grad()
def test_an_image_alone_is_evaluated_as_in_a_batch(make, trunk):
    decoder = make(trunk).eval()
    features = trunk.eval()(torch.randn(3, 3, 64, 80))
    together = decoder(features, (64, 80)).logits
    for number in range(3):
        own = {i: feature[number : number + 1] for i, feature in features.items()}
        alone = decoder(own, (64, 80)).logits
        torch.testing.assert_close(alone[0], together[number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("void", [False, True])
def test_losses_reach_every_parameter_and_all_that_is_read(make, trunk, void):
    decoder, size = make(trunk), (97, 131)
    features = trunk(torch.randn(4, 3, *size))
    for feature in features.values():
        feature.retain_grad()
    labels = labels_of(size, 4)
    labels = torch.full_like(labels, 255) if void else labels
    losses, divergence = decoder.paired_losses(decoder(features, size), labels)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values()) and divergence > 0
    (sum(losses.values()) + divergence).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert features[1].grad.abs().sum() > 0 and features[4].grad.abs().sum() > 0


def test_paired_losses_are_losses_and_divergence(make, trunk):
    """Also with weights of pixels; the divergence is that of the upsampled logits."""
    trunk, decoder, size = trunk.double(), make(trunk).double(), (37, 53)
    features = trunk(torch.randn(4, 3, *size).double())
    labels, weight = labels_of(size, 4), torch.rand(4, *size).double()
    output = seeded(decoder, features, size)
    losses, divergence = seeded(decoder.paired_losses, output, labels, weight)
    torch.testing.assert_close(losses, seeded(decoder.losses, output, labels, weight))
    torch.testing.assert_close(divergence, decoder.divergence(output))
    torch.testing.assert_close(divergence, jensen_shannon(*output.logits.chunk(2)))
    unweighted = seeded(decoder.losses, output, labels)
    ones = seeded(decoder.losses, output, labels, torch.ones_like(weight))
    assert losses.keys() == unweighted.keys() == ones.keys()
    assert any(losses[name] != unweighted[name] for name in losses)
    same = {i: torch.cat([feature[:2], feature[:2]]) for i, feature in features.items()}
    assert decoder.eval().divergence(decoder(same, size)) < 1e-12


def test_compiled_and_exported_it_is_the_same(make, trunk):
    decoder, size = make(trunk).eval(), (64, 96)
    features = {i: f.detach() for i, f in trunk.eval()(torch.randn(2, 3, *size)).items()}
    other = {i: f.detach() for i, f in trunk(torch.randn(2, 3, *size)).items()}

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = decoder

        def forward(self, features):
            return self.decoder(features, size).logits

    with torch.no_grad():
        expected = decoder(other, size).logits
        exported = torch.export.export(Logits(), (features,), strict=False).module()
        torch.testing.assert_close(exported(other), expected, rtol=1e-4, atol=1e-5)
        keys = decoder.state_dict().keys()
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        decoder.compile(backend="aot_eager")
        assert decoder.state_dict().keys() == keys
        torch.testing.assert_close(decoder(other, size).logits, expected, rtol=1e-4, atol=1e-5)
        assert not torch._dynamo.utils.counters["graph_break"]


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(make, trunk, tmp_path):
    decoder, features = make(trunk).eval(), trunk.eval()(torch.randn(1, 3, 64, 64))
    torch.save(decoder.state_dict(), tmp_path / "decoder.pth")
    other = make(trunk).eval()
    assert not torch.equal(other(features, (64, 64)).logits, decoder(features, (64, 64)).logits)
    other.load_state_dict(torch.load(tmp_path / "decoder.pth"))
    assert torch.equal(other(features, (64, 64)).logits, decoder(features, (64, 64)).logits)


def test_layers_of_one_stride_are_resized_to_the_wanted_ones(make):
    trunk = PatchTrunk(16, (False,) * 4)
    decoder, size = make(trunk), (64, 96)
    features = trunk(torch.randn(2, 3, *size))
    resized = decoder.pyramid(features)
    assert resized.keys() == features.keys()
    for layer, feature in resized.items():
        stride = decoder.wanted_strides.get(layer, 16)
        assert feature.shape[2:] == (64 // stride, 96 // stride)
        if stride == 16:
            assert torch.equal(feature, features[layer])
        flat = torch.ones_like(features[layer])
        torch.testing.assert_close(
            decoder.pyramid(features | {layer: flat})[layer], torch.ones_like(feature)
        )
    assert decoder(features, size).logits.shape == (2, K, *size)
    sum(decoder.losses(decoder(features, size), labels_of(size)).values()).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["resnet_mini", "shufflenet_v2_x0_5"])
def test_layers_of_several_strides_stay_as_they_are(make, name, output_stride):
    trunk = build_trunk(name, output_stride, "none")
    features = trunk(torch.randn(1, 3, 70, 50))
    decoder = make(trunk).eval()
    assert decoder.pyramid(features) is features
    assert decoder(features, (70, 50)).logits.shape == (1, K, 70, 50)


class Plain(LogitDecoder):
    """What a new decoder takes at least."""

    def __init__(self, trunk, align_corners):
        super().__init__(trunk)
        self.align_corners = align_corners
        self.projection = nn.Identity()
        self.classifier = nn.Conv2d(trunk.channels[4], K, 1)

    def embed(self, features):
        return self.projection(features[4])


@pytest.mark.parametrize("align_corners", [False, True])
def test_losses_and_logits_agree_on_how_logits_are_upsampled(trunk, align_corners):
    decoder, size = Plain(trunk, align_corners).double(), (50, 66)
    features = trunk.double()(torch.randn(4, 3, *size).double())
    output, labels = decoder(features, size), labels_of(size, 4)
    expected = F.interpolate(
        decoder.classifier(features[4]), size, mode="bilinear", align_corners=align_corners
    )
    torch.testing.assert_close(output.logits, expected)
    losses, divergence = decoder.paired_losses(output, labels)
    assert set(losses) == {"ce"}
    torch.testing.assert_close(losses["ce"], cross_entropy(expected, labels))
    torch.testing.assert_close(divergence, jensen_shannon(*expected.chunk(2)))
