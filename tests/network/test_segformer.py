"""MiT trunks: against transformers' own forward pass, with weights of every layout there is."""

import re
import sys

import pytest
import torch
import transformers
from torch import nn

from network.build import resolve
from network.trunks import TRUNKS, build_trunk
from utils.errors import UserError
from utils.registry import find

WIDTHS = (16, 32, 40, 64)
CONFIG = transformers.SegformerConfig(
    depths=(1,) * 4, hidden_sizes=WIDTHS, num_attention_heads=(1, 2, 5, 8), num_labels=3
)
# transformers' names and those that the hub's files have, in order.
OLDER = (
    (r"segformer\.stages\.(\d)\.patch_embeddings", r"segformer.encoder.patch_embeddings.\1"),
    (r"segformer\.stages\.(\d)\.blocks", r"segformer.encoder.block.\1"),
    (r"segformer\.stages\.(\d)\.layer_norm", r"segformer.encoder.layer_norm.\1"),
    (r"sequence_reduction\.sequence_reduction", "self.sr"),
    (r"attention\.sequence_reduction\.layer_norm", "attention.self.layer_norm"),
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc", "mlp.dense"),
    (r"layernorm_before", "layer_norm_1"),
    (r"layernorm_after", "layer_norm_2"),
)


@pytest.fixture
def network():
    """transformers' classifier with random weights, norms too, and the release's epsilons."""
    network = transformers.SegformerForImageClassification(CONFIG).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    for name, module in network.segformer.named_modules():
        if re.search(r"layernorm_|stages\.\d\.layer_norm", name):
            module.eps = 1e-6
    return network


def published(network):
    """The weights under the names of SegFormer's release."""
    found = {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    for i, stage in enumerate(network.segformer.stages, start=1):
        embedding, (block,) = stage.patch_embeddings, stage.blocks
        attention = block.attention
        parts = {
            f"patch_embed{i}.proj": embedding.proj,
            f"patch_embed{i}.norm": embedding.layer_norm,
            f"norm{i}": stage.layer_norm,
            f"block{i}.0.norm1": block.layernorm_before,
            f"block{i}.0.norm2": block.layernorm_after,
            f"block{i}.0.attn.q": attention.q_proj,
            f"block{i}.0.attn.proj": attention.o_proj,
            f"block{i}.0.mlp.fc1": block.mlp.fc1,
            f"block{i}.0.mlp.dwconv.dwconv": block.mlp.dwconv.dwconv,
            f"block{i}.0.mlp.fc2": block.mlp.fc2,
        }
        if i < 4:
            parts[f"block{i}.0.attn.sr"] = attention.sequence_reduction.sequence_reduction
            parts[f"block{i}.0.attn.norm"] = attention.sequence_reduction.layer_norm
        for name, module in parts.items():
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for kind in ("weight", "bias"):
            both = [getattr(x, kind).detach() for x in (attention.k_proj, attention.v_proj)]
            found[f"block{i}.0.attn.kv.{kind}"] = torch.cat(both)
    return found


def older(network):
    """The weights under the names of the hub's files."""
    found = {}
    for key, value in network.state_dict().items():
        for pattern, name in OLDER:
            key = re.sub(pattern, name, key)
        found[key] = value
    return found


def write(layout, network, path):
    """Write weights in one of the layouts; return the path to give."""
    if layout == "release":
        torch.save(published(network), path / "mit.pth")
    elif layout == "older file":
        torch.save({"state_dict": older(network)}, path / "mit.pth")
    elif layout == "older folder":
        CONFIG.save_pretrained(path)
        torch.save(older(network), path / "pytorch_model.bin")
    else:
        network.save_pretrained(path)
    files = {"file": path / "model.safetensors", "release": path / "mit.pth"}
    files["older file"] = path / "mit.pth"
    return files.get(layout, path)


@pytest.mark.parametrize("layout", ["release", "file", "folder", "older file", "older folder"])
@torch.no_grad()
def test_features_are_those_of_transformers(network, tmp_path, capfd, layout):
    """In float64, at odd sizes."""
    trunk = build_trunk("mit_mini", 32, str(write(layout, network, tmp_path))).double().eval()
    assert "LOAD REPORT" not in capfd.readouterr().err
    images = torch.randn(2, 3, 33, 65).double()
    reference = network.segformer.double()
    features = trunk(images)
    assert [tuple(f.shape[2:]) for f in features.values()] == [
        (9, 17), (9, 17), (5, 9), (3, 5), (2, 3)
    ]  # fmt: skip
    tokens = reference.stages[0].patch_embeddings(images)[0]
    torch.testing.assert_close(features[0].flatten(2).transpose(1, 2), tokens)
    stages = reference(images, output_hidden_states=True).hidden_states
    for own, expected in zip(list(features.values())[1:], stages, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


def changed(network, key, value=None):
    weights = published(network)
    del weights[key]
    return weights if value is None else weights | value


@pytest.mark.parametrize("make, message", [
    (lambda n: changed(n, "norm3.bias"), r"do not fit mit_mini \(missing: stages.2.layer_norm.b"),
    (lambda n: changed(n, "norm3.bias", {"norm3.bias": torch.zeros(7)}),
     r"do not fit mit_mini \(of another shape: stages.2.layer_norm.bias\)"),
    (lambda n: published(n) | {"decode_head.weight": torch.zeros(3)},
     r"do not fit mit_mini \(unknown: decode_head.weight\)"),
    (lambda n: {"layer0.0.weight": torch.zeros(3)}, "do not fit .*missing.*unknown: layer0.0.w"),
    (lambda n: {"epoch": 3}, "mit_mini"),
])  # fmt: skip
def test_other_weights_are_refused(network, tmp_path, make, message):
    torch.save(make(network), tmp_path / "mit.pth")
    with pytest.raises(UserError, match=message):
        build_trunk("mit_mini", 32, str(tmp_path / "mit.pth"))


@pytest.mark.parametrize("weights, message", [
    ("nowhere", "no weights file nowhere, and mit_mini has none of that name; set .* to none, or"),
    ("imagenet", "no weights file imagenet, and mit_mini has none of that name"),
    ("empty", "cannot read the weights .*empty of mit_mini .*no file named model.safetensors"),
    ("damaged.safetensors", "damaged.safetensors is damaged or no safetensors file"),
])  # fmt: skip
def test_weights_that_cannot_be_had(tmp_path, monkeypatch, weights, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(b"12345678")
    with pytest.raises(UserError, match=message):
        build_trunk("mit_mini", 32, weights)


def test_offline_the_hub_says_how_to_go_on(monkeypatch):
    def offline(origin, **options):
        raise OSError(f"{origin} cannot be reached\nand more")

    monkeypatch.setattr(transformers.SegformerModel, "from_pretrained", offline)
    message = (
        r"cannot get the ImageNet weights nvidia/mit-b0 \(nvidia/mit-b0 cannot be reached\). "
        r"Without a network: .*huggingface.co/nvidia/mit-b0 .*TRUNK.WEIGHTS .* SegFormer's mit_b0.p"
    )
    with pytest.raises(UserError, match=message):
        build_trunk("mit_b0", 32, "imagenet")


def test_drop_path_grows_linearly_over_the_blocks():
    trunk = build_trunk("mit_b0", 32, "none")
    blocks = [m for m in trunk.modules() if type(m).__name__ == "SegformerLayer"]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.1 * i / 7 for i in range(8)])


def test_weights_are_drawn_as_in_the_release():
    trunk = build_trunk("mit_b0", 32, "none")
    block = trunk.layer4.blocks[0]
    assert block.mlp.dwconv.dwconv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    expected = (2 / (49 * 32)) ** 0.5
    assert trunk.layer0.patch_embeddings.proj.weight.std().item() == pytest.approx(
        expected, rel=0.1
    )
    assert all((m.weight == 1).all() for m in trunk.modules() if isinstance(m, nn.LayerNorm))
    assert not trunk.has_batch_norm


def test_the_one_output_stride_is_the_default():
    assert resolve({"TRUNK.NAME": "mit_b5"}).TRUNK.OUTPUT_STRIDE == 32
    with pytest.raises(UserError, match="mit_mini has output stride 32 only, and TRUNK.OUTPUT_STR"):
        build_trunk("mit_mini", 16, "none")


def test_images_that_are_too_small_are_refused():
    trunk = build_trunk("mit_mini", 32, "none")
    trunk(torch.randn(1, 3, 29, 29))
    with pytest.raises(UserError, match="need images of 29 pixels a side or more; .* 28×64"):
        trunk(torch.randn(1, 3, 28, 64))


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "network.trunks.segformer", raising=False)
    with pytest.raises(UserError, match="MiT trunks need transformers: pip install -r require"):
        find("trunk", "mit_b0", TRUNKS)
