"""ConvNeXt: DINOv3's is transformers' to the last digits, ImageNet's is torchvision's."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import convnext_tiny
from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

from network.trunks import build_trunk
from network.trunks.convnext import SIZES
from utils.errors import UserError


@pytest.fixture
def model():
    depths, widths, _ = SIZES["mini"]
    model = DINOv3ConvNextModel(
        DINOv3ConvNextConfig(hidden_sizes=list(widths), depths=list(depths))
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def of_meta(state):
    """Rename to the keys of Meta's release, by hand."""
    found = {}
    for key, value in state.items():
        key = key.removeprefix("model.").replace(".layers.", ".")
        if ".downsample_layers." in key:
            _, stage, _, number, kind = key.split(".")
            key = f"downsample_layers.{stage}.{number}.{kind}"
        key = key.replace("depthwise_conv", "dwconv").replace("pointwise_conv", "pwconv")
        found[key.replace(".layer_norm", ".norm").replace("layer_norm", "norm")] = value
    return found


@torch.no_grad()
@pytest.mark.parametrize("layout", ["hub", "meta"])
def test_dinov3_is_that_of_transformers(model, tmp_path, layout):
    if layout == "hub":
        save_file(model.state_dict(), tmp_path / "model.safetensors")
    else:
        torch.save(of_meta(model.state_dict()), tmp_path / "meta.pth")
    file = tmp_path if layout == "hub" else tmp_path / "meta.pth"
    trunk = build_trunk("dinov3_convnext_mini", 32, str(file)).double().train()
    images = torch.randn(2, 3, 96, 160, dtype=torch.float64)
    states = model.double()(images, output_hidden_states=True).hidden_states
    for i, feature in trunk(images).items():
        if i > 0:
            torch.testing.assert_close(feature, states[i], rtol=0, atol=1e-9)


@torch.no_grad()
def test_imagenets_is_that_of_torchvision(tmp_path):
    network = convnext_tiny().eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    trunk = build_trunk("convnext_tiny", 32, str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    pooled = trunk(image)[4].mean((2, 3), keepdim=True)
    torch.testing.assert_close(network.classifier(pooled), network(image))
    assert "layer4.17.layer_scale" in trunk.no_weight_decay()


def test_errors(tmp_path):
    with pytest.raises(UserError, match="given out on request"):
        build_trunk("dinov3_convnext_t", 32, "imagenet")
    with pytest.raises(UserError, match="output stride 32 only, and TRUNK.OUTPUT_STRIDE is 16"):
        build_trunk("convnext_tiny", 16, "none")
    strange = {"head.weight": 2, "stages.0.0.foo.weight": 2, "x": 2}
    torch.save({key: torch.zeros(n) for key, n in strange.items()}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="do not fit dinov3_convnext_mini"):
        build_trunk("dinov3_convnext_mini", 32, str(tmp_path / "x.pth"))
