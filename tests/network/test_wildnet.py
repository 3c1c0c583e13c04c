"""WildNet: three passes with other styles, one contrast, and a dictionary of photographs."""

import copy

import pytest
import torch
import torch.nn.functional as F

from benchmarks.content_extension import formula
from loss.upsampled import upsampled_relative_entropy
from network.build import build_method
from network.dictionary import Dictionary
from network.methods import wildnet
from network.methods.wildnet import StyleNorm
from tests.test_distributed import in_processes
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


def test_a_feature_takes_the_noted_style():
    norm, x = StyleNorm(3), 5 + 2 * torch.randn(2, 3, 6, 7, dtype=torch.float64)
    other = torch.randn(2, 3, 4, 9, dtype=torch.float64).requires_grad_()
    assert norm(x) is x
    norm.mode = "note"
    assert norm(other) is other and not norm.style[0].requires_grad
    norm.mode = "give"
    x = x.requires_grad_()
    found = norm(x)
    torch.testing.assert_close(found.mean((2, 3)), other.mean((2, 3)))
    variance = x.var((2, 3))
    shrunk = (variance / (variance + 1e-5)).sqrt()
    deviation = (other.var((2, 3)) + 1e-5).sqrt() * shrunk
    torch.testing.assert_close(found.std((2, 3)), deviation)
    # Gradients go through the statistics: a shift or a scale of x changes nothing.
    upstream = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), x)
    assert gradient.sum((2, 3)).abs().max() < 1e-12


def test_relative_entropy():
    half, quarter = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    logits = [x.double().view(1, 2, 1, 1).expand(1, 2, 3, 3) for x in (half, quarter)]
    found = upsampled_relative_entropy(*logits, (5, 7), True) / 2
    assert found == pytest.approx(0.07192, abs=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_relative_entropy_of_upsampled_logits(monkeypatch, aligned):
    monkeypatch.setattr("utils.chunks.ELEMENTS", {"cpu": 100, "cuda": 1})
    logits = [torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    found = upsampled_relative_entropy(*logits, (9, 13), aligned)
    options = {"size": (9, 13), "mode": "bilinear", "align_corners": aligned}
    p, q = (F.interpolate(x, **options).log_softmax(1) for x in logits)
    expected = (p.exp() * (p - q)).sum() / (2 * 9 * 13)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(loss, logits) for loss in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_oldest_entries_are_replaced():
    dictionary = Dictionary(5, 2)
    before = dictionary.entries.clone()
    assert torch.allclose(before.norm(dim=1), torch.ones(5))
    rows = F.normalize(torch.randn(11, 2), dim=1)
    dictionary.add(rows[:3])
    assert torch.equal(dictionary.entries, torch.cat([rows[:3], before[3:]]))
    dictionary.add(rows[3:7])
    assert torch.equal(dictionary.entries, rows[[5, 6, 2, 3, 4]]) and dictionary.next == 2
    other = Dictionary(5, 2)
    other.load_state_dict(dictionary.state_dict())
    assert other.next == 2
    other.add(rows[:7])  # more than it holds
    assert sorted(map(tuple, other.entries.tolist())) == sorted(map(tuple, rows[2:7].tolist()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_nearest(monkeypatch, dtype):
    monkeypatch.setattr("utils.chunks.ELEMENTS", {"cpu": 90, "cuda": 1})
    dictionary = Dictionary(40, 6, dtype)
    rows = F.normalize(torch.randn(9, 6), dim=1)
    products = rows.to(dtype) @ dictionary.entries.T
    expected = [dictionary.entries[int(row.argmax())].float() for row in products]
    assert torch.equal(dictionary.nearest(rows), torch.stack(expected))


def added(rows, rank, world_size):
    torch.manual_seed(0)
    dictionary = Dictionary(8, 2)
    dictionary.add(rows.chunk(world_size)[rank])
    return dictionary.state_dict()


def test_processes_fill_one_dictionary(tmp_path):
    rows = F.normalize(torch.randn(6, 2), dim=1)
    assert torch.equal(in_processes(2, tmp_path, added, rows)["entries"],
                       added(rows, 0, 1)["entries"])  # fmt: skip


def restyled(x, styles, noted):
    """AdaIN by hand: with the first of the styles, which it takes away, and noting its own."""
    mean, std = x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
    noted.append((mean.detach(), std.detach()))
    if not styles:
        return x
    other_mean, other = styles.pop(0)
    return (x - mean) / std * other + other_mean


def features_by_hand(trunk, images, styles=()):
    """The features of a ResNet of basic blocks with AdaIN at three depths, and its styles there."""
    styles, noted = list(styles), []
    conv, _, relu, pool = trunk.layer0
    x = pool(restyled(conv(images), styles, noted).relu())
    found = {0: x}
    for i in range(1, 5):
        *blocks, last = getattr(trunk, f"layer{i}")
        for block in blocks:
            x = block(x)
        if i <= 2:
            out = last.bn2(last.conv2(last.bn1(last.conv1(x)).relu()))
            identity = x if last.downsample is None else last.downsample(x)
            x = restyled(out + identity, styles, noted).relu()
        else:
            x = last(x)
        found[i] = x
    return found, noted


def divergence(a, b, size):
    options = {"size": size, "mode": "bilinear", "align_corners": True}
    p, q = (F.interpolate(x, **options).log_softmax(1) for x in (a, b))
    return (p.exp() * (p - q)).sum() / p.numel()


def test_a_step_by_hand(settings, batch):
    """Losses, gradients, running statistics (the order of the passes) and the dictionary."""
    cfg = settings(METHOD="wildnet", DECODER__AUX_DROPOUT=0, STYLISED__WEIGHT=0.7, **SPACE)
    method = build_method(cfg)[0].double().train()
    other = copy.deepcopy(method)
    images, wild, labels = batch["image"].double(), batch["wild"]["image"].double(), batch["label"]
    losses = method(batch | {"image": images, "wild": {"image": wild}})

    decoder, size = other.decoder, (64, 80)
    plain, _ = features_by_hand(other.trunk, images)
    with torch.no_grad():
        photographs, styles = features_by_hand(other.trunk, wild)
    moved, _ = features_by_hand(other.trunk, images, styles)
    source, stylised = decoder(plain, size), decoder(moved, size)
    small = labels[:, ::16, ::16]
    assert source.auxiliary.shape[-2:] == small.shape[1:]

    def entropies(output):
        options = {"size": size, "mode": "bilinear", "align_corners": True}
        large = F.interpolate(output.small, **options)
        return [F.cross_entropy(large, labels, ignore_index=255),
                0.4 * F.cross_entropy(output.auxiliary, small, ignore_index=255)]  # fmt: skip

    def embedded(embedding, side):
        pixels = F.interpolate(embedding, (side, side), mode="nearest").permute(0, 2, 3, 1)
        return F.normalize(other.projector(pixels).flatten(1, 2), dim=-1)

    s, t = embedded(source.embedding, 16), embedded(stylised.embedding, 16)
    entries = other.dictionary.entries
    nearest = entries[(t.detach() @ entries.T).argmax(-1)]
    rows, columns = torch.arange(16) * 64 // 16, torch.arange(16) * 80 // 16
    content = formula(s, t, labels[:, rows[:, None], columns].flatten(1), nearest, 0.07)
    pairs = [(source.small, stylised.small, size),
             (source.auxiliary, stylised.auxiliary, small.shape[1:])]  # fmt: skip
    both = [divergence(*pair) for pair in pairs]
    ce, aux = entropies(source)
    stylised_ce, stylised_aux = entropies(stylised)
    expected = {"ce": ce, "aux": aux, "content": 0.1 * content}
    expected |= {"stylised_ce": 0.7 * stylised_ce, "stylised_aux": 0.7 * stylised_aux}
    expected |= {"consistency": 10 * (both[0] + 0.4 * both[1])}
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        kept = embedded(decoder(photographs, size).embedding, 4).flatten(0, 1)

    sum(losses.values()).backward()
    sum(expected.values()).backward()
    for own, by_hand in zip(method.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, by_hand.grad, rtol=1e-5, atol=1e-7)
    assert torch.equal(method.dictionary.entries, entries), "its own batch is not searched"
    method.after_step(0)
    torch.testing.assert_close(method.dictionary.entries[:32], kept)
    assert torch.equal(method.dictionary.entries[32:], entries[32:]) and not method.take_kept()
    state = {k: v for k, v in method.state_dict().items() if not k.startswith("dictionary")}
    torch.testing.assert_close(state, {k: v for k, v in other.state_dict().items() if k in state})
    assert all(norm.mode == "" and norm.style is None for norm in method.norms)


def test_the_stem_has_no_norm_or_that_of_imagenet(settings):
    images = torch.randn(2, 3, 64, 64)
    bare, kept = (
        build_method(settings(METHOD="wildnet", STEM_NORM=norm, **SPACE))[0]
        for norm in ("none", "batch")
    )
    plain, _ = build_method(settings(METHOD="baseline", **SPACE))
    names = {name for name in plain.trunk.state_dict()}
    assert set(kept.trunk.state_dict()) == names
    assert (
        names - set(bare.trunk.state_dict())
        == {n for n in names if n.startswith("layer0.1.")}
        != set()
    )
    kept.trunk.load_state_dict(plain.trunk.state_dict())
    kept.decoder.load_state_dict(plain.decoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(kept.eval()(images), plain.eval()(images))


@pytest.mark.parametrize(("changes", "message"), [
    ({"DATASET__WILD": ""}, "set DATASET.WILD to a folder .* or to the source itself, gtav:train"),
    ({"TRUNK__RECOMPUTE": "off,off,on,off"}, "passes its trunk in three ways"),
])  # fmt: skip
def test_what_it_needs(settings, changes, message):
    cfg = settings(METHOD="wildnet", **(SPACE | changes))
    with pytest.raises(UserError, match=message):
        wildnet.WildNet.streams(cfg)
        build_method(cfg)
