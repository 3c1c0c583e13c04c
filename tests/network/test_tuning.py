"""Every tuning with the mini transformer and the mini ConvNeXt, and every method with them."""

import copy

import pytest
import torch
from easydict import EasyDict

from benchmarks.networks import MINIS, tuned_networks
from network.build import build_method, resolve
from network.neutral import UntunedTrunk
from network.trunks import build_trunk
from network.tuning import tuning_class
from network.tuning.low_rank import LowRank, MinorComponents, minor
from network.tuning.rein import Refinement, Refinements
from tests.network.tuned import moved, tuned_settings
from tests.networks import losses_of
from utils.errors import UserError

ADDED = ("lora", "soma", "rein")


def trunk_of(trunk, tuning, **options):
    found = build_trunk(trunk, 16 if "dino" in trunk else 32, "none")
    defaults = {k.partition(".")[2]: v for k, v in tuning_class(tuning).small.items()}
    tree = tuning_class(tuning).settings.get("TUNING", {})
    chosen = {key: setting.default for key, setting in tree.items()} | defaults | options
    cfg = EasyDict(TRUNK={"NAME": trunk, "TUNING": tuning}, TUNING=chosen)
    tuning_class(tuning).apply(found, cfg, fresh=True)
    return found.train()


@pytest.mark.parametrize(("tuning", "trained"), [
    ("rein", 2_990_081), ("soma", 4_866_048), ("frozen", 0), ("full", 304_549_888),
])  # fmt: skip
def test_what_is_trained_of_vit_l(tuning, trained):
    """Rein with the queries of Mask2Former, 256 wide, as in the papers."""
    with torch.device("meta"):
        trunk = build_trunk("dinov2_l", 16, "none")
        tree = tuning_class(tuning).settings.get("TUNING", {})
        options = {key: setting.default for key, setting in tree.items()}
        cfg = EasyDict(TRUNK={"NAME": "dinov2_l", "TUNING": tuning}, TUNING=options)
        tuning_class(tuning).apply(trunk, cfg, fresh=False)
        if tuning == "rein":
            trunk.adapter.add_queries(256)
    assert sum(p.numel() for p in trunk.parameters() if p.requires_grad) == trained


@torch.no_grad()
@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("tuning", ADDED)
def test_untuned_is_the_pretrained_network(name, tuning):
    """At the start tuned is untuned bit for bit (Rein's factor is not 0); modes stay."""
    torch.manual_seed(1)
    plain = build_trunk(name, 16 if "dino" in name else 32, "none")
    torch.manual_seed(1)
    trunk = trunk_of(name, tuning)
    images = torch.randn(1, 3, 64, 96)
    expected = plain.eval()(images)
    if tuning != "rein":
        assert all(torch.equal(own, expected[i]) for i, own in trunk(images).items())
    trunk = moved(trunk)
    assert not torch.equal(trunk(images)[4], expected[4])
    modes = [module.training for module in trunk.modules()]
    with trunk.untuned():
        assert all(torch.equal(own, expected[i]) for i, own in trunk(images).items())
    assert [module.training for module in trunk.modules()] == modes
    assert not torch.equal(trunk(images)[4], expected[4])


@torch.no_grad()
@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("tuning", ["lora", "soma"])
def test_merged_is_tuned(name, tuning):
    trunk = moved(trunk_of(name, tuning)).double()
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    expected, copied = trunk(images), copy.deepcopy(trunk)
    keys = build_trunk(name, trunk.strides[4], "none").state_dict().keys()
    copied.merge()
    assert copied.state_dict().keys() == keys and not copied.adapters()
    for i, own in copied(images).items():
        torch.testing.assert_close(own, expected[i], rtol=0, atol=1e-12)
    # The copy's hooks were its own.
    assert all(torch.equal(own, expected[i]) for i, own in trunk(images).items())


def test_rein_cannot_be_merged():
    with pytest.raises(UserError, match="is no change of its weights"):
        trunk_of("dinov2_mini", "rein").merge()


@torch.no_grad()
@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (24, 24)])
def test_minor_components_are_those_of_the_decomposition(shape):
    weight = torch.randn(shape)
    a, b = minor(weight, 3)
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    expected = left[:, -3:] * values[-3:] @ right[-3:]
    torch.testing.assert_close((b @ a).double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(a.norm(dim=1), b.norm(dim=0), rtol=1e-4, atol=1e-6)


def test_queries_keys_and_values_are_changed_each_by_itself():
    trunk = trunk_of("dinov2_mini", "soma", FROM_BLOCK=2)
    layers = {name: m for name, m in trunk.named_modules() if isinstance(m, MinorComponents)}
    assert {name.split(".")[1] for name in layers} == {"2", "3"} and len(layers) == 8
    own = layers["layer3.2.attn.qkv.low_rank"]
    assert own.a.shape == (3, 2, 32) and own.b.shape == (3, 32, 2)
    weight = trunk.layer3[0].attn.qkv.weight
    for part, a, b in zip(weight.chunk(3), own.a_start, own.b_start, strict=True):
        left, values, right = torch.linalg.svd(part.detach().double(), full_matrices=False)
        expected = left[:, -2:] * values[-2:] @ right[-2:]
        torch.testing.assert_close((b @ a).double(), expected, rtol=0, atol=1e-6)
    trained = {name for name, p in trunk.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.{own}" for name in layers for own in ("a", "b", "bias")}


def test_a_change_by_hand():
    linear = torch.nn.Linear(6, 4).double()
    own = LowRank(linear, 2, 0.5)
    own.b.data.normal_()
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = x @ (linear.weight + 0.5 * own.b[0] @ own.a[0]).T + linear.bias
    torch.testing.assert_close(linear(x), expected, rtol=0, atol=1e-14)


def test_targets_and_blocks_are_chosen():
    trunk = trunk_of("convnext_mini", "lora", TARGETS=["fc2"], FROM_BLOCK=3)
    tuned = [name for name, m in trunk.named_modules() if isinstance(m, LowRank)]
    assert tuned == ["layer3.3.block.5.low_rank", "layer4.4.block.5.low_rank"]
    with pytest.raises(UserError, match="TUNING.RANK 40 is more than a matrix of 32×32 has"):
        trunk_of("dinov2_mini", "lora", RANK=40)
    with pytest.raises(UserError, match="FROM_BLOCK 9 .* leave nothing of this trunk's 4 blocks"):
        trunk_of("dinov2_mini", "lora", FROM_BLOCK=9)


@torch.no_grad()
def test_rein_by_loops():
    rein = moved(Refinement(6, 2, 5, 3)).double()
    features = torch.randn(2, 4, 6, dtype=torch.float64)
    tokens = rein.token_a[1] @ rein.token_b[1]
    found = rein(1, features)
    for image in range(2):
        for place in range(4):
            f = features[image, place]
            shares = torch.softmax(torch.stack([f @ t / 6**0.5 for t in tokens]), 0)
            pairs = zip(shares[1:], tokens[1:], strict=True)
            delta = sum(share * rein.to_feature(token) for share, token in pairs)
            expected = f + rein.scale * rein.to_delta(delta + f)
            torch.testing.assert_close(found[image, place], expected, rtol=0, atol=1e-13)


@torch.no_grad()
def test_queries_by_loops():
    """Of every token the maximum, mean and last over blocks, channel by channel."""
    rein = moved(Refinements([4, 4, 6], 3, 2)).double()
    rein.add_queries(5)
    rein.double()
    found = torch.zeros(3, 5, dtype=torch.float64)
    for group, projection in zip(rein.groups, rein.projections, strict=True):
        for token in range(3):
            own = [projection(t[token]) for t in group.tokens()]
            row = []
            for channel in range(5):
                values = [o[channel] for o in own]
                row += [max(values), sum(values) / len(values), values[-1]]
            found[token] += rein.join(torch.stack(row))
    torch.testing.assert_close(rein.queries(), found, rtol=0, atol=1e-13)


def test_reins_range():
    rein = Refinement(1024, 1, 100, 16)
    assert 0.0815 < float(
        rein.token_a.detach().abs().max()
    ) <= 0.0819 and rein.scale.item() == pytest.approx(0.001)


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_blocks_before_the_first_tuned_one_hold_nothing(tuning):
    options = {"FROM_BLOCK": 3} if tuning == "lora" else {}
    trunk, kept = trunk_of("dinov2_mini", tuning, **options), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        trunk(torch.randn(1, 3, 64, 64), stop=3)
    assert not kept
    features = trunk(torch.randn(1, 3, 64, 64))
    needs = [feature.requires_grad for feature in features.values()]
    assert needs == [False] * 4 + [tuning == "lora"]
    assert trunk.first_trained == (5 if tuning == "frozen" else 4)


@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("tuning", ADDED)
def test_recomputed_layers_change_nothing(name, tuning):
    trunk = moved(trunk_of(name, tuning))
    other = copy.deepcopy(trunk)
    other.recompute = (False, True, True, True, True)
    images = torch.randn(2, 3, 64, 64)
    for each in (trunk, other):
        sum(f.square().mean() for f in each(images).values() if f.requires_grad).backward()
    for (key, own), again in zip(trunk.named_parameters(), other.parameters(), strict=True):
        assert (own.grad is None) == (again.grad is None), key
        assert own.grad is None or torch.equal(own.grad, again.grad), key


@pytest.mark.parametrize("tuning", ["lora", "soma", "rein"])
def test_bfloat16_stays_near_float32(tuning):
    """Changes that cancel at the start still do."""
    trunk = trunk_of("dinov2_mini", tuning)
    images = torch.randn(1, 3, 64, 96)
    seen = []
    trunk.layer4[0].mlp.fc1.register_forward_hook(lambda module, given, x: seen.append(x.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        tuned = trunk(images)[4]
        assert seen == [torch.bfloat16]
        with trunk.untuned():
            untuned = trunk(images)[4]
    assert tuned.dtype == torch.float32
    assert tuning == "rein" or torch.equal(tuned, untuned)
    torch.testing.assert_close(tuned, trunk(images)[4], rtol=0.1, atol=0.05)


@pytest.mark.parametrize("tuning", ADDED)
def test_other_trunks_are_refused(tuning):
    with pytest.raises(UserError, match=f"--tuning {tuning} does not work with --trunk resnet_min"):
        build_method(tuned_settings("resnet_mini", tuning))
    message = "TUNING.TOKENS belongs to --tuning rein; this is"
    with pytest.raises(UserError, match=message):
        resolve({"TUNING.TOKENS": 3})


def test_a_frozen_resnet_keeps_its_statistics(batch):
    method, _ = build_method(tuned_settings("resnet_mini", "frozen"))
    method.train()
    norms = [m for m in method.trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    sum(losses_of(method, batch).values()).backward()
    assert all(torch.equal(n.running_mean, b) for n, b in zip(norms, before, strict=True))
    assert not method.parameter_groups()["trunk"] and method.decoder.training
    assert "0 of the trunk's" in method.remarks(1)[0]


def test_tokens_and_queries_are_as_many():
    message = "TUNING.TOKENS 12 make the queries, so DECODER.QUERIES 5 has to be the same"
    cfg = tuned_settings("dinov2_mini", "rein", decoder="mask2former", **{"DECODER.QUERIES": 5})
    with pytest.raises(UserError, match=message):
        build_method(cfg)


def wide_batch(batch):
    """The batch with images that every trunk and two scales take."""
    size, crops = (64, 128), {"image": torch.randn(2, 3, 64, 128)}
    label = torch.randint(0, 5, (2, 8, 16)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    streams = {name: {"image": torch.randn(2, 3, *size)} for name in ("target", "wild")}
    return batch | crops | {"label": label} | streams


@pytest.mark.parametrize(("name", "decoder", "trunk", "tuning"), tuned_networks())
def test_every_method_with_every_tuning(batch, name, decoder, trunk, tuning):
    """A step trains all that it says, and is saved and loaded."""
    more = {"HRDA.DETAIL": [32, 64]} if name in ("hrda", "mic") else {}
    cfg = tuned_settings(trunk, tuning, name, decoder, **more)
    method, _ = build_method(cfg)
    method.train()
    losses = losses_of(method, wide_batch(batch))
    assert all(torch.isfinite(v) and v.ndim == 0 for v in losses.values())
    sum(losses.values()).backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert not [n for n, p in trained.items() if p.grad is None]
    kept = [p for p in method.trunk.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in kept) and bool(kept) == (tuning != "full" or name == "srha")
    again, _ = build_method(cfg, {"method": method.state_dict()})
    images = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        logits = method.eval()(images)
        assert logits.shape == (1, 19, 50, 70) and torch.equal(again.eval()(images), logits)


@pytest.mark.parametrize(("name", "part"), [
    ("srha", "teacher"), ("shade", "reference"), ("daformer", "reference"),
])  # fmt: skip
@pytest.mark.parametrize("trunk", MINIS)
def test_the_untuned_trunk_is_its_own_teacher(batch, name, part, trunk):
    """No weight is there twice; what is compared with it is 0 at the start."""
    method, _ = build_method(tuned_settings(trunk, "soma", name))
    own = getattr(method, part)
    assert isinstance(own, UntunedTrunk) and not list(own.parameters()) and not own.state_dict()
    parts = {"trunk", "decoder", "teacher", "styles"}
    numbers = sum(p.numel() for p in dict.fromkeys(method.parameters()))
    assert numbers - sum(p.numel() for p in method.decoder.parameters()) * (
        2 if name == "daformer" else 1
    ) < 1.3 * sum(p.numel() for p in method.trunk.parameters())
    assert {key.split(".")[0] for key in method.state_dict()} <= parts
    if name == "srha":
        method.rearrangement = None
    elif name == "shade":
        method.hallucinate = lambda x: x
    losses = losses_of(method.train(), wide_batch(batch))
    compared = {"srha": "local", "shade": "retrospection", "daformer": "feature_distance"}[name]
    assert losses[compared] == 0 and losses[compared].requires_grad
