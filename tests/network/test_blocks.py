"""Norms inside a trunk: where they stand, what they leave as it was; IBN-Net."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.blocks import LAYERS, TRUNKS, InstanceNorm, early_norms
from network.build import build_method
from network.methods.ibn import SplitNorm
from network.trunks import build_trunk
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
SMALL = ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "resnet_mini"]
# By the published code: channels of the three norms.
CHANNELS = {
    "resnet18": [64, 64, 128],
    "resnet50": [64, 256, 512],
    "mobilenet_v2": [16, 32, 64],
    "shufflenet_v2_x1_0": [24, 116, 232],
    "resnet_mini": [24, 24, 48],
}


@pytest.mark.parametrize("name", CHANNELS)
def test_norms_have_the_channels_of_the_published_places(name):
    seen = []
    with torch.device("meta"):
        early_norms(build_trunk(name, 16, "none"), lambda n: seen.append(n) or nn.Identity())
    assert seen == CHANNELS[name]


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_norms_that_do_nothing_leave_everything_as_it_was(name):
    """In evaluation, in place of a stem norm that does what its batch norm did."""
    trunk = build_trunk(name, 16, "none").eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    changed, names = copy.deepcopy(trunk), set(trunk.state_dict())
    stem = nn.Identity()
    if name != "mobilenet_v2":
        stem = next(m for m in trunk.layer0.modules() if isinstance(m, nn.BatchNorm2d))
    replaced = iter([stem, nn.Identity(), nn.Identity()])
    early_norms(changed.eval(), lambda _: next(replaced))
    image = torch.randn(2, 3, 64, 80)
    for own, other in zip(trunk(image).values(), changed(image).values(), strict=True):
        assert torch.equal(own, other)
    assert set(changed.state_dict()) == names


@pytest.mark.parametrize("name", SMALL)
def test_layers_end_in_what_the_norm_returns(name):
    """A ResNet's has a ReLU behind it; what the decoder takes as f_1 is past both."""
    trunk = build_trunk(name, 16, "none")
    norms = early_norms(trunk, lambda n: nn.InstanceNorm2d(n))
    returned = {}
    for i, norm in enumerate(norms):
        norm.register_forward_hook(lambda _, x, y, i=i: returned.update({i: y}))
    features = trunk(torch.randn(2, 3, 64, 80))
    for i in LAYERS:
        mean = returned[i].mean((2, 3))
        assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-5)
        activated = F.relu(returned[i]) if name.startswith("resnet") else returned[i]
        assert torch.equal(features[i], activated)
    # Gradients reach what is in front of the norm, and the map itself is not changed in place.
    features[2].sum().backward()
    assert all(p.grad is not None for p in trunk.layer1.parameters())


def test_the_stem_keeps_scale_and_shift_and_the_ends_start_anew(settings):
    cfg = settings(METHOD="ibn", TRUNK__WEIGHTS="objects", **SPACE)
    trunk = build_method(cfg)[0].trunk
    plain = build_trunk("resnet_mini", 16, "objects")
    stem = trunk.layer0[1]
    assert isinstance(stem, nn.InstanceNorm2d) and not plain.layer0[1].weight.eq(1).all()
    assert torch.equal(stem.weight, plain.layer0[1].weight)
    assert torch.equal(stem.bias, plain.layer0[1].bias)
    for i in LAYERS:
        norm = getattr(trunk, f"layer{i}")[-1].norm
        assert norm.weight.eq(1).all() and norm.bias.eq(0).all()
    own, before = set(trunk.state_dict()), set(plain.state_dict())
    statistics = {f"layer0.1.{name}" for name in ("running_mean", "running_var")}
    assert before - own == statistics | {"layer0.1.num_batches_tracked"}
    assert own - before == {
        f"layer{i}.0.norm.{name}" for i in LAYERS for name in ("weight", "bias")
    }


def test_instance_norms_remove_contrast_and_brightness_of_an_image(settings):
    """A network that sees an image only past the stem's instance norm."""
    cfg = settings(METHOD="ibn", **SPACE)
    method = build_method(cfg)[0].double().eval()
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        stem = method.trunk.layer0[0](image)
        # Of the stem's own maps: each channel stretched and moved.
        scale, shift = 1 + torch.rand(1, 24, 1, 1).double(), torch.randn(1, 24, 1, 1).double()
        first, second = (method.trunk.layer0[1](x) for x in (stem, stem * scale + shift))
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_kind_a_splits_the_first_norm_of_every_block(settings):
    options = {"METHOD": "ibn", "TRUNK__NAME": "resnet18", **SPACE}
    torch.manual_seed(0)
    trunk = build_method(settings(IBN__KIND="a", **options))[0].trunk
    plain = build_trunk("resnet18", 16, "none")
    for i in (1, 2, 3):
        for block in getattr(trunk, f"layer{i}"):
            x = torch.randn(2, block.bn1.half * 2, 4, 5)
            out = block.bn1.eval()(x)
            mean = out[:, : block.bn1.half].mean((2, 3))
            assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-5)
            assert torch.allclose(out[:, block.bn1.half :], x[:, block.bn1.half :], atol=1e-4)
    for i in (0, 4):
        keys = [set(getattr(t, f"layer{i}").state_dict()) for t in (trunk, plain)]
        assert keys[0] == keys[1]
    assert "layer1.0.bn1.IN.weight" in trunk.state_dict()
    assert "layer3.1.bn1.BN.running_var" in trunk.state_dict()


def test_kind_a_takes_over_a_trained_norm():
    norm = nn.BatchNorm2d(5)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        value.data.uniform_(0.5, 2)
    split, x = SplitNorm(norm).eval(), torch.randn(3, 5, 6, 7)
    torch.testing.assert_close(split(x)[:, 2:], norm.eval()(x)[:, 2:])
    own = F.instance_norm(x[:, :2], weight=norm.weight[:2], bias=norm.bias[:2])
    torch.testing.assert_close(split(x)[:, :2], own)


def test_trunks_that_do_not_go(settings):
    with pytest.raises(UserError, match="IBN.KIND a is made for ResNets, not for mobilenet_v2"):
        build_method(settings(METHOD="ibn", TRUNK__NAME="mobilenet_v2", IBN__KIND="a", **SPACE))
    with pytest.raises(UserError, match="ibn does not work with --trunk mit_mini; choose resnet18"):
        build_method(settings(METHOD="ibn", TRUNK__NAME="mit_mini", **SPACE))
    assert set(CHANNELS) | set(SMALL) < set(TRUNKS)


@pytest.mark.parametrize("name", ["ibn", "iw"])
def test_images_of_a_few_pixels(settings, name):
    """Their maps have one place."""
    method = build_method(settings(METHOD=name, **SPACE))[0]
    images, labels = torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    losses = method.train()({"image": images, "label": labels, "step": 0})
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    with torch.no_grad():
        assert method.eval()(images[:, :, :1, :1]).isfinite().all()
    norm = InstanceNorm(3, affine=True)
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias))


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5"])
def test_whitening_trains_every_parameter_of_other_trunks(settings, batch, name):
    """The published ShuffleNetV2 stops at the first block with a norm."""
    method = build_method(settings(METHOD="iw", TRUNK__NAME=name, **SPACE))[0].train()
    losses = method(batch)
    sum(losses.values()).backward()
    assert losses["whitening"] > 0 and all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in method.parameters())
