"""Every trunk of the registry keeps the contract of network/trunks/trunk.py; its weights."""

import copy
from functools import lru_cache

import pytest
import torch
import torchvision
from torch import nn

from benchmarks.networks import FAMILIES
from network.trunks import TRUNKS, build_trunk
from network.trunks.backbone import limit_stride
from network.trunks.trunk import statistics_at_rest
from network.trunks.vit import VisionTransformer
from tests.network import toy_trunks
from tests.networks import output_stride
from utils.errors import UserError

# Sizes of a family share its code, but for the blocks of large ResNets. With a trunk of no paper
# whose layers have one stride.
NAMES = [*FAMILIES, "resnet50", "patches16"]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, builder in toy_trunks.REGISTRY.items():
        monkeypatch.setitem(TRUNKS, name, builder)


@lru_cache
def random_trunk(name):
    return build_trunk(name, output_stride(name), "none")


@pytest.fixture(params=NAMES)
def trunk(request, toys):
    """A trunk of the registry at its default output stride with random weights, of its own."""
    return copy.deepcopy(random_trunk(request.param))


def images_for(trunk, batch=2, height=64, width=64):
    """Random images of at least this size that the trunk takes."""
    return torch.randn(batch, 3, *(-(-side // trunk.multiple) * trunk.multiple
                                   for side in (height, width)))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        (name, stride)
        for name in TRUNKS
        for stride in (8, 16, 32)
        if name in NAMES or stride == output_stride(name)
    ]
    + [("patches16", stride) for stride in (8, 16, 32)],
)
def test_channels_and_strides_are_what_the_layers_return(name, stride):
    """Of shapes alone: nothing is computed."""
    try:
        with torch.device("meta"):
            trunk = build_trunk(name, stride, "none").eval()
        trunk.to("meta")  # some libraries say themselves where a parameter is
    except UserError as error:
        assert stride != output_stride(name)
        assert f"TRUNK.OUTPUT_STRIDE is {stride}; set it to {output_stride(name)}" in str(error)
        return
    images = images_for(trunk, 1, 64, 96).to("meta")
    with torch.no_grad():
        features = trunk(images)
    assert list(features) == [0, 1, 2, 3, 4]
    for i, feature in features.items():
        size = tuple(side // trunk.strides[i] for side in images.shape[2:])
        assert feature.shape == (1, trunk.channels[i], *size)
    # Either layers keep to the output stride or all have that of a patch.
    assert trunk.strides[4] == stride or trunk.strides == [trunk.multiple] * 5


@torch.no_grad()
def test_after_acts_on_what_enters_the_next_layer(trunk):
    trunk = trunk.eval()
    image = images_for(trunk)
    after = {0: lambda x: x * 2, 2: lambda x: x + 1}
    plain, hooked = trunk(image), trunk(image, after=after)
    assert torch.equal(hooked[0], plain[0])
    torch.testing.assert_close(hooked[1], trunk(plain[0] * 2, start=1, stop=1)[1])
    assert not torch.equal(hooked[3], trunk(image, after={0: after[0]})[3])
    if not isinstance(trunk, VisionTransformer):  # of which something passes layers beside the map
        torch.testing.assert_close(hooked[3], trunk.layer3(hooked[2] + 1))
    partial = trunk(plain[0], start=1, stop=3, after=after)
    assert list(partial) == [1, 2, 3]
    torch.testing.assert_close(partial[3], hooked[3])


def test_images_need_a_multiple_and_batch_norms_are_told(trunk):
    norms = [m for m in trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert trunk.has_batch_norm == bool(norms)
    with torch.no_grad():
        assert trunk(images_for(trunk, 2, 33, 47))[4].shape[1] == trunk.channels[4]


def test_recomputed_layers_change_nothing(trunk):
    """Neither features nor gradients, and running statistics and counters see a batch once."""
    other = copy.deepcopy(trunk)
    other.recompute = (False, True, True, True, True)
    images = images_for(trunk)
    for each in (trunk, other):
        torch.manual_seed(1)  # of drop-path
        features = each.train()(images)
        sum(feature.square().mean() for feature in features.values()).backward()
    for own, again in zip(trunk.parameters(), other.parameters(), strict=True):
        assert torch.equal(own.grad, again.grad)
    state = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trunk.state_dict().items())


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_statistics_at_rest(kind):
    """Also where a module is named twice, and where an activation is infinite."""
    norm = kind(3).train()
    norm(torch.randn(2, 3, 4, 4))
    before, buffers = copy.deepcopy(norm.state_dict()), dict(norm.named_buffers())
    images = torch.randn(2, 3, 4, 4)
    with statistics_at_rest(norm, nn.Sequential(norm)):
        own = norm(images)
        norm(images * torch.inf)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    assert all(value is buffers[key] for key, value in norm.named_buffers())
    assert torch.equal(own, norm(images)) and norm.num_batches_tracked == 2


def test_keys_are_those_of_layers_and_the_same_at_every_stride(trunk, request):
    state = trunk.state_dict()
    assert {key.split(".")[0] for key in state} == {f"layer{i}" for i in range(5)}
    name = request.node.callspec.params["trunk"]
    stride = {16: 8}.get(output_stride(name), 32) if trunk.multiple == 1 else trunk.strides[4]
    other = build_trunk(name, stride, "none", (True,) * 4)
    other.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def kept_bytes(trunk, images):
    """Bytes of distinct tensors that a forward pass keeps for the backward pass."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = trunk(images)
    del features
    return sum(kept.values())


def test_recomputed_layers_keep_less():
    images = torch.randn(2, 3, 64, 64)
    plain, recomputed = (build_trunk("resnet18", 16, "none", (on,) * 4) for on in (False, True))
    weights = sum(p.numel() * 4 for p in plain.parameters())
    before, after = (kept_bytes(trunk.train(), images) for trunk in (plain, recomputed))
    assert after < before - weights / 2


def dilations(layer, kernel=3):
    convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
    return [conv.dilation[0] for conv in convolutions if conv.kernel_size == (kernel, kernel)]


def test_resnet_dilates_every_3x3_of_layer_4_at_stride_16():
    with torch.device("meta"):
        trunk = build_trunk("resnet50", 16, "none")
        other = build_trunk("resnet50", 8, "none")
    assert dilations(trunk.layer4) == [2, 2, 2] and dilations(trunk.layer3) == [1] * 6
    assert dilations(other.layer4) == [4, 4, 4] and dilations(other.layer3) == [2] * 6


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x1_0"])
def test_mobile_networks_dilate_only_the_convolution_that_lost_its_stride(name):
    trunk = build_trunk(name, 16, "none")
    found = dilations(trunk.layer3)
    assert found.count(2) == (1 if name == "mobilenet_v2" else 2)
    assert set(found) == {1, 2}


def inverted_residual(inside, outside, kernel, stride):
    """EfficientNet's block: 1×1, depthwise of some size, 1×1."""
    wide = 2 * inside
    return nn.Sequential(
        nn.Conv2d(inside, wide, 1),
        nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide),
        nn.Conv2d(wide, outside, 1),
    )


@pytest.mark.parametrize("dilate_all", [False, True])
@torch.no_grad()
def test_kernels_of_every_odd_size_are_dilated(dilate_all):
    """A layer without its stride sees the same input at every other place."""
    layers = [nn.Conv2d(3, 4, 3, 2, 1), inverted_residual(4, 6, 5, 2)]
    layers.append(nn.Sequential(inverted_residual(6, 8, 5, 2), inverted_residual(8, 8, 7, 1)))
    strided = copy.deepcopy(layers[2][0])
    assert limit_stride(layers, 4, dilate_all) == [2, 4, 4]
    assert dilations(layers[1], 5) == [1] and dilations(layers[2], 5) == [2]
    assert dilations(layers[2], 7) == [2 if dilate_all else 1]
    x = torch.randn(1, 6, 24, 32)
    assert layers[2](x).shape == (1, 8, 24, 32)
    # What lies between the places of the strided kernel is 0 here, and no bias fills it.
    strided[0].bias.zero_(), layers[2][0][0].bias.zero_()
    coarse = torch.zeros_like(x)
    coarse[:, :, ::2, ::2] = x[:, :, ::2, ::2]
    strided[1].stride = (1, 1)
    torch.testing.assert_close(
        layers[2][0](coarse)[:, :, ::2, ::2], strided(coarse[:, :, ::2, ::2])
    )


def test_kernels_of_an_even_size_are_refused():
    layers = [nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 2, 2)]
    with pytest.raises(UserError, match="2×2 cannot be dilated; choose a larger TRUNK.OUTPUT_ST"):
        limit_stride(layers, 4, False)
    assert limit_stride([nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 8, 2, 2)], 8, False) == [4, 8]


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1)])
def test_strides_of_pooling_are_refused(pool):
    """They would stay, and `strides` would be wrong."""
    layers = [nn.Conv2d(3, 4, 4, 4), nn.Sequential(nn.Conv2d(4, 8, 3, 1, 1), pool)]
    with pytest.raises(UserError, match="stride 2 has it from more than convolutions.*OUT"):
        limit_stride(copy.deepcopy(layers), 4, True)
    assert limit_stride(layers, 8, True) == [4, 8]


OF_TORCHVISION = [name for name in FAMILIES if hasattr(torchvision.models, name)]


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_weights_of_a_file_give_torchvisions_features(tmp_path, name):
    network = getattr(torchvision.models, name)().eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    trunk = build_trunk(name, 32, str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = trunk(image)[4].mean((2, 3))
        head = network.fc if hasattr(network, "fc") else network.classifier
        torch.testing.assert_close(head(pooled), network(image))


def test_the_shipped_weights_load():
    random, shipped = (build_trunk("resnet_mini", 16, weights) for weights in ("none", "objects"))
    assert not torch.equal(random.layer0[0].weight, shipped.layer0[0].weight)
    assert shipped.layer0[0].weight.dtype == torch.float32


@pytest.mark.parametrize("options, message", [
    (("resnet5", 16, "none"), "unknown trunk 'resnet5'; did you mean resnet50?"),
    (("resnet18", 16, "nowhere.pth"), "no weights file nowhere.pth"),
    (("resnet18", 16, "objects"), "resnet18 has none of that name; set .* to imagenet, none, or"),
    (("resnet_mini", 16, "imagenet"), "resnet_mini has none of that name; set .* to objects, none"),
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
