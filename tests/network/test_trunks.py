"""Trunks: strides, channels, dilation, hooks, and weights."""

import pytest
import torch
import torchvision
from torch import nn

from network.trunks.torchvision import TRUNKS, build_trunk
from utils.errors import UserError


@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_channels_and_strides_are_what_the_layers_return(name, output_stride):
    trunk = build_trunk(name, output_stride, "none").eval()
    with torch.no_grad():
        features = trunk(torch.randn(1, 3, 64, 96))
    assert list(features) == [0, 1, 2, 3, 4]
    for i, feature in features.items():
        stride = trunk.strides[i]
        assert feature.shape == (1, trunk.channels[i], 64 // stride, 96 // stride)
    assert trunk.strides[4] == output_stride
    assert all(stride <= output_stride for stride in trunk.strides)


def dilations(layer):
    return [m.dilation[0] for m in layer.modules() if isinstance(m, nn.Conv2d) and m.groups >= 1
            and m.kernel_size == (3, 3)]  # fmt: skip


def test_resnet_dilates_every_3x3_of_layer_4_at_stride_16():
    trunk = build_trunk("resnet50", 16, "none")
    assert dilations(trunk.layer4) == [2, 2, 2] and dilations(trunk.layer3) == [1] * 6
    trunk = build_trunk("resnet50", 8, "none")
    assert dilations(trunk.layer4) == [4, 4, 4] and dilations(trunk.layer3) == [2] * 6


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x1_0"])
def test_mobile_networks_dilate_only_the_convolution_that_lost_its_stride(name):
    trunk = build_trunk(name, 16, "none")
    found = dilations(trunk.layer3)
    assert found.count(2) == (1 if name == "mobilenet_v2" else 2)
    assert set(found) == {1, 2}


@pytest.mark.parametrize("name, model", [
    ("resnet50", torchvision.models.resnet50),
    ("mobilenet_v2", torchvision.models.mobilenet_v2),
    ("shufflenet_v2_x0_5", torchvision.models.shufflenet_v2_x0_5),
])  # fmt: skip
def test_weights_of_a_file_give_torchvisions_features(tmp_path, name, model):
    network = model().eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    trunk = build_trunk(name, 32, str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = trunk(image)[4].mean((2, 3))
        head = network.classifier if name == "mobilenet_v2" else network.fc
        torch.testing.assert_close(head(pooled), network(image))


def test_the_shipped_weights_load():
    random, shipped = (
        build_trunk("resnet_mini", 16, "none"),
        build_trunk("resnet_mini", 16, "objects"),
    )
    assert not torch.equal(random.layer0[0].weight, shipped.layer0[0].weight)
    assert shipped.layer0[0].weight.dtype == torch.float32


def test_after_acts_on_what_enters_the_next_layer():
    trunk = build_trunk("resnet_mini", 16, "none").eval()
    image = torch.randn(2, 3, 64, 64)
    plain = trunk(image)
    hooked = trunk(image, after={0: lambda x: x * 2, 2: lambda x: x + 1})
    torch.testing.assert_close(hooked[0], plain[0])
    torch.testing.assert_close(hooked[1], trunk.layer1(plain[0] * 2))
    torch.testing.assert_close(hooked[3], trunk.layer3(hooked[2] + 1))
    partial = trunk(plain[0], start=1, stop=3, after={0: lambda x: x * 2, 2: lambda x: x + 1})
    assert list(partial) == [1, 2, 3]
    torch.testing.assert_close(partial[3], hooked[3])


@pytest.mark.parametrize("options, message", [
    (("resnet5", 16, "none"), "unknown trunk 'resnet5'; did you mean resnet50?"),
    (("resnet18", 16, "nowhere.pth"), "no weights file nowhere.pth"),
    (("resnet18", 16, "objects"), "made for resnet_mini, not for resnet18"),
    (("resnet_mini", 16, "imagenet"), "no ImageNet weights for resnet_mini"),
])  # fmt: skip
def test_errors(options, message):
    with pytest.raises(UserError, match=message):
        build_trunk(*options)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    with pytest.raises(UserError, match="do not fit resnet50 .*missing: layer1.0.bn3.bias"):
        build_trunk("resnet50", 16, str(tmp_path / "r18.pth"))


def test_offline_download_says_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match="cannot download the ImageNet weights of resnet18 .*path"):
        build_trunk("resnet18", 16, "imagenet")
