"""Vision transformers: transformers' own, to the last digits; files of Meta and of the hub."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from network.trunks import build_trunk
from network.trunks.dino import resized_kernel
from utils.errors import UserError

SIZE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 16}
MODELS = {
    "dinov2_mini": lambda: Dinov2Model(Dinov2Config(**SIZE, image_size=64)),
    "dinov2_reg_mini": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SIZE, image_size=64)
    ),
    "dinov3_mini": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**SIZE, intermediate_size=128, num_register_tokens=4)
    ),
}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    """transformers' network, none of whose parts is next to nothing."""
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def file(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return tmp_path


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (112, 160), (48, 96)])
def test_features_are_those_of_transformers(name, model, file, size, monkeypatch):
    """Before the final norm, after the last block of each layer, at sizes of their own."""
    # transformers interpolates positions, which are float32 numbers here, in float32.
    monkeypatch.setattr(
        F, "interpolate", lambda x, *a, own=F.interpolate, **k: own(x.double(), *a, **k)
    )
    trunk = build_trunk(name, 16, str(file)).double().train()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    states = model.double()(images, output_hidden_states=True).hidden_states
    features = trunk(images)
    for i in range(1, 5):
        patches = states[i][:, trunk.prefix :].unflatten(1, features[i].shape[-2:])
        torch.testing.assert_close(features[i], patches.permute(0, 3, 1, 2), rtol=0, atol=1e-9)
    assert features[0].shape == features[4].shape


def of_meta(state):
    """Rename to the keys of Meta's releases, by hand."""
    found = {}
    for key, value in state.items():
        key = key.removeprefix("model.").removeprefix("encoder.").removeprefix("embeddings.")
        key = key.replace("patch_embeddings.projection", "patch_embed.proj")
        key = key.replace("patch_embeddings", "patch_embed.proj")
        key = key.replace("position_embeddings", "pos_embed").replace("layer.", "blocks.")
        key = key.replace("attention.o_proj", "attn.proj").replace("layernorm", "norm")
        key = key.replace("up_proj", "fc1").replace("down_proj", "fc2")
        key = key.replace("layer_scale", "ls").replace("lambda1", "gamma")
        found[key] = value
    for block in range(4):
        for kind in ("weight", "bias"):
            stem = f"blocks.{block}.attention"
            parts = [found.pop(f"{stem}.{n}_proj.{kind}", None) for n in "qkv"]
            # Meta's DINOv3 has biases of keys, too, and masks them.
            parts = [torch.full_like(parts[0], 7.0) if p is None else p for p in parts]
            found[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return found


@torch.no_grad()
def test_files_of_meta_and_of_the_hub_give_the_same(name, model, file, tmp_path):
    state = of_meta(model.state_dict())
    if name == "dinov3_mini":
        state["storage_tokens"] = state.pop("register_tokens")
        state["rope_embed.periods"] = torch.ones(4)
        for block in range(4):
            state[f"blocks.{block}.attn.qkv.bias_mask"] = torch.zeros(96)
    torch.save(state, tmp_path / "meta.pth")
    older = {
        key.replace("attention.o_proj", "attention.output.dense")
        .replace("attention.q_proj", "attention.attention.query")
        .replace("attention.k_proj", "attention.attention.key")
        .replace("attention.v_proj", "attention.attention.value")
        .removeprefix("model."): value.half()
        for key, value in model.state_dict().items()
    }
    save_file(older, tmp_path / "older.safetensors")
    images = torch.randn(1, 3, 48, 80)
    hub, meta, half = (
        build_trunk(name, 16, str(tmp_path / file)).eval()(images)[4]
        for file in ("", "meta.pth", "older.safetensors")
    )
    assert torch.equal(hub, meta)
    torch.testing.assert_close(half, hub, rtol=0.05, atol=0.1)


def test_keys_of_dinov3_have_no_bias():
    trunk = build_trunk("dinov3_mini", 16, "none")
    trunk(torch.randn(1, 3, 32, 48))[4].sum().backward()
    bias = trunk.layer2[0].attn.qkv.bias.grad.unflatten(0, (3, -1))
    assert bias[0].any() and not bias[1].any() and bias[2].any()


def test_layers_end_where_the_published_ones_do():
    with torch.device("meta"):
        trunks = [build_trunk(name, 16, "none") for name in ("dinov2_l", "dinov3_s")]
    ends = [[list(dict(t.get_submodule(f"layer{i}").named_children()))[-1] for i in range(1, 5)]
            for t in trunks]  # fmt: skip
    assert ends == [["7", "11", "15", "23"], ["3", "5", "7", "11"]]
    spared = trunks[0].no_weight_decay()
    assert {"layer1.cls_token", "layer1.pos_embed", "layer4.23.ls2.gamma"} <= spared
    assert not {"layer4.23.attn.qkv.weight", "layer0.proj.weight"} & spared


@torch.no_grad()
def test_kernels_are_resized_as_published_or_exactly(tmp_path):
    kernel = torch.randn(8, 3, 14, 14)
    published = resized_kernel(kernel, 16, "published")
    expected = F.interpolate(kernel, (16, 16), mode="bicubic", align_corners=False)
    assert torch.equal(published, expected)
    patch = torch.randn(5, 3, 14, 14)
    enlarged = F.interpolate(patch, (16, 16), mode="bicubic", align_corners=False)
    exact = resized_kernel(kernel, 16, "exact")
    torch.testing.assert_close(
        F.conv2d(enlarged, exact), F.conv2d(patch, kernel), rtol=1e-3, atol=1e-3
    )
    model = Dinov2Model(Dinov2Config(**SIZE | {"patch_size": 14}, image_size=56))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    trunk = build_trunk("dinov2_mini", 16, str(tmp_path))
    assert "14×14 pixels became 16×16 (TRUNK.PATCH_RESIZE published)" in trunk.remarks[0]
    assert trunk.converted == {"layer0.proj.weight"} and trunk.multiple == 16
    kept = build_trunk("dinov2_mini", 16, str(tmp_path), patch=14)
    assert not kept.remarks and kept.strides == [14] * 5
    own = model.embeddings.patch_embeddings.projection.weight
    assert torch.equal(kept.layer0.proj.weight, own)


@pytest.mark.parametrize(("trunk", "change", "message"), [
    ("dinov2_mini", {"pos_embed": torch.zeros(1, 10, 32)}, "9 positions, and dinov2_mini has 16"),
    ("dinov2_mini", {"extra": torch.zeros(1)}, "do not fit dinov2_mini .unknown: layer1.extra"),
    ("dinov2_mini", {"blocks.1.attn.q.weight": torch.zeros(32, 32)}, "unknown: layer2.1.attn.q.w"),
    ("dinov2_mini", {"blocks.x.norm1.weight": torch.zeros(3)}, "unknown: layer1.blocks.x.norm1"),
    ("dinov3_mini", {}, "do not fit dinov3_mini .missing: layer1.register_tokens"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, trunk, change, message):
    state = of_meta(MODELS["dinov2_mini"]().state_dict()) | change
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(UserError, match=message):
        build_trunk(trunk, 16, str(tmp_path / "file.pth"))


def test_what_is_missing_says_where_it_is(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="given out on request: fill in the form at https://ai.m"):
        build_trunk("dinov3_l", 16, "imagenet")
    with pytest.raises(UserError, match="no weights file nowhere.*set TRUNK.WEIGHTS to meta, none"):
        build_trunk("dinov2_l", 16, "nowhere")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match="cannot download .*dinov2_vits14_reg4_pretrain.pth elsew"):
        build_trunk("dinov2_reg_s", 16, "meta")


def test_a_folder_without_a_file(tmp_path):
    with pytest.raises(UserError, match="holds no model.safetensors"):
        build_trunk("dinov2_s", 16, str(tmp_path))


def test_it_is_entered_where_tokens_are_made():
    trunk = build_trunk("dinov2_mini", 16, "none")
    with pytest.raises(UserError, match="entered at layer 0 or 1, not 2"):
        trunk(torch.randn(1, 32, 4, 4), start=2)
