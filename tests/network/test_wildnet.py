"""WildNet: three passes with other styles, one contrast, and a dictionary of photographs."""

import pytest
import torch
import torch.nn.functional as F

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


def test_a_step_by_hand(settings, batch, monkeypatch):
    """Three passes of an independently written network with hooks in place of norms."""
    cfg = settings(METHOD="wildnet", DECODER__AUX_DROPOUT=0, **SPACE)
    method = build_method(cfg)[0].double().train()
    images, wild = batch["image"].double(), batch["wild"]["image"].double()
    order = []
    run = wildnet.content_extension
    monkeypatch.setattr(wildnet, "content_extension",
                        lambda *given: order.append(given) or run(*given))  # fmt: skip
    before = method.dictionary.entries.clone()
    torch.nn.init.normal_(method.trunk.layer0[0].weight, std=0.2)
    means = []
    hook = method.trunk.layer1[0].bn1.register_forward_hook(
        lambda module, given, out: means.append(module.running_mean.clone())
    )
    losses = method(batch | {"image": images, "wild": {"image": wild}})
    assert len(means) == 3, "source, photographs, restyled source"
    assert set(losses) == {"ce", "aux", "stylised_ce", "stylised_aux", "consistency", "content"}
    ((s, t, labels, nearest, _),) = order
    assert s.shape == t.shape == nearest.shape == (2, 16 * 16, 16) and labels.shape == (2, 256)
    assert torch.allclose(s.norm(dim=-1), s.new_ones(()))
    assert torch.equal(method.dictionary.entries, before), "its own batch is not searched"
    sum(losses.values()).backward()
    method.after_step(0)
    hook.remove()
    assert not torch.equal(method.dictionary.entries[:32], before[:32])
    assert torch.equal(method.dictionary.entries[32:], before[32:]) and not method.take_kept()
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
