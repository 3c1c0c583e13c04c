"""PinTheMem's memory: what is read, what is written, and what stays."""

import math

import pytest
import torch
import torch.nn.functional as F

from loss.upsampled import upsampled_losses
from network.build import build_method
from network.memory import ClassMemory, class_shares, diversity
from utils.errors import UserError
from utils.export import __main__ as export_script
from utils.settings import flatten

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


def memory(classes=4, channels=6, noise="never"):
    made = ClassMemory(classes, channels, 0.8, noise).double()
    made.fill(F.normalize(torch.randn(classes, channels, dtype=torch.float64), dim=1))
    return made


def test_it_begins_as_published():
    made = ClassMemory(19, 256, 0.8, "never")
    trained = sum(p.numel() for p in made.parameters())
    convolutions = 512 * 256 + 256 * 256
    assert trained == convolutions + 2 * 2 * 256 + 256 * 19 + 19
    assert abs(made.output[0].weight.detach().std() / math.sqrt(2 / 512) - 1) < 0.02
    assert torch.all(made.writer[1].bias == 1e-4) and torch.all(made.classifier.bias == 0)
    assert abs(made.classifier.weight.detach().std() / 1e-4 - 1) < 0.05
    assert not made.filled and not made.vectors.any()
    other = ClassMemory(19, 256, 0.8, "never")
    made.fill(torch.ones(19, 256))
    other.load_state_dict(made.state_dict())
    assert other.filled and other.vectors.all()


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (9, 13), (17, 25), (33, 49)])
def test_shares_are_one_hot_labels_resized(size):
    labels = torch.randint(0, 4, (2, 33, 49))
    labels[labels == 3] = 255
    found = class_shares(labels, size, 3)
    hot = torch.stack([(labels == k).double() for k in range(3)], dim=1)
    expected = F.interpolate(hot, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(-1, 3))


def test_at_their_own_size_shares_are_the_labels():
    labels = torch.randint(0, 3, (2, 5, 4))
    expected = F.one_hot(labels, 3).double().flatten(0, 2)
    torch.testing.assert_close(class_shares(labels, (5, 4), 3), expected)


def test_diversity_of_rows():
    rows = torch.eye(5, dtype=torch.float64)
    assert diversity(rows) == 0 == diversity(torch.stack([rows[0], -rows[0]]))
    assert diversity(rows[:1].expand(5, 5)) == pytest.approx(1)
    assert diversity(rows[:1]) == 0


def test_the_vectors_of_a_zero_classifier_say_nothing():
    made = memory()
    torch.nn.init.zeros_(made.classifier.weight)
    found = F.cross_entropy(made.classifier(made.vectors), torch.arange(4))
    assert float(found.detach()) == pytest.approx(math.log(4))


def test_a_single_place_is_written_and_an_absent_class_stays():
    made = memory().eval()
    before = made.vectors.clone()
    feature = torch.randn(1, 6, 1, 1, dtype=torch.float64)
    e = F.normalize(torch.relu(feature + made.writer(feature)).flatten(), dim=0)
    found = made.moved(made.sums(feature, torch.full((1, 1, 1), 2)))
    torch.testing.assert_close(found[2], F.normalize(0.8 * before[2] + 0.2 * e, dim=0))
    others = [0, 1, 3]
    torch.testing.assert_close(found[others], before[others])
    torch.testing.assert_close(made.vectors, before)


def test_void_changes_nothing_and_costs_nothing_with_gradients():
    made = memory().train()
    feature = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.full((2, 9, 9), 255)
    made(feature)
    read = made.take()
    found = made.moved(made.sums(read.feature, labels))
    torch.testing.assert_close(found, made.vectors)
    loss = upsampled_losses(read.scores, labels, align_corners=True)[0] + found.sum() * 0
    loss.backward()
    assert loss == 0 and feature.grad is not None and not feature.grad.any()
    assert all(p.grad is not None and torch.isfinite(p.grad).all()
               for p in made.writer.parameters())  # fmt: skip


def test_a_class_that_was_never_seen_is_none():
    made = memory()
    made.vectors[1] = 0
    feature = torch.randn(1, 6, 2, 2, dtype=torch.float64)
    made.train()(feature)
    assert not made.take().scores[:, 1].any()
    kept = made.moved(made.sums(feature, torch.zeros(1, 2, 2, dtype=torch.long))).detach()
    assert not kept[1].any() and kept[0].norm() == pytest.approx(1)


def test_reading_a_vector_itself():
    made = memory().train()
    vectors = made.vectors
    made(3 * vectors[2].view(1, 6, 1, 1).expand(1, 6, 2, 2))
    loss, _ = upsampled_losses(made.take().scores, torch.full((1, 4, 4), 2), align_corners=True)
    expected = -1 + torch.logsumexp(vectors[2] @ vectors.T, 0)
    torch.testing.assert_close(loss, expected)


def test_what_is_read_by_loops():
    made = memory().train()
    feature = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    found = made(feature)
    joined = torch.zeros(2, 12, 2, 3, dtype=torch.float64)
    for b in range(2):
        for y in range(2):
            for x in range(3):
                query = feature[b, :, y, x] / feature[b, :, y, x].norm()
                shares = (made.vectors @ query).softmax(0)
                joined[b, :, y, x] = torch.cat([query, shares @ made.vectors])
    made.output[1].reset_running_stats()
    torch.testing.assert_close(found, made.output(joined))


@pytest.mark.parametrize(("noise", "training", "evaluation"), [
    ("always", True, True), ("training", True, False), ("never", False, False),
])  # fmt: skip
def test_noise(noise, training, evaluation):
    made, feature = memory(noise=noise), torch.randn(2, 6, 8, 8, dtype=torch.float64)
    feature[1] = feature[0]
    silent = memory(noise="never")
    silent.load_state_dict(made.state_dict())
    made.train()
    assert torch.equal(made(feature), made(feature)) != training
    made.eval(), silent.eval()
    silent.load_state_dict(made.state_dict())
    with torch.no_grad():
        found = made(feature)
        # Predictions repeat, whatever was drawn elsewhere and beside which images.
        assert torch.equal(found, made(feature)) and torch.equal(found[0], found[1])
        torch.testing.assert_close(found[:1], made(feature[:1]))
        assert torch.equal(found, silent(feature)) != evaluation


def test_what_writes_has_a_gradient_and_what_is_written_none(settings):
    """Of the loss one step ahead, as to the memory that it reads."""
    cfg = settings(METHOD="pinmem", DATASET__SOURCE=["gtav", "synthia"], **SPACE)
    method = build_method(cfg)[0].double().train()
    method.memory.fill(F.normalize(torch.randn_like(method.memory.vectors), dim=1))
    half = {"image": torch.randn(2, 3, 64, 64).double(), "label": torch.randint(0, 19, (2, 64, 64))}
    seen = []
    moved = method.memory.moved
    method.memory.moved = lambda sums: seen.append(moved(sums)) or seen[-1]
    method.test_losses(half, half)
    (vectors,) = seen
    reached = torch.autograd.grad(vectors.square().sum() + vectors.sum(), list(method.parameters()),
                                  allow_unused=True)  # fmt: skip
    names = {n for (n, _), g in zip(method.named_parameters(), reached, strict=True)
             if g is not None}  # fmt: skip
    assert names == {f"decoder.context.writer.{n}" for n in ("0.weight", "1.weight", "1.bias")}
    assert method.memory.reading is None


def test_an_empty_memory_is_none(settings):
    """As --init leaves it where classes are others: the survey fills it."""
    cfg = settings(METHOD="pinmem", DATASET__SOURCE=["gtav", "synthia"], **SPACE)
    method = build_method(cfg)[0]
    assert method.survey_due(0, 5) is not None
    method.load_state_dict(method.state_dict())
    assert method.survey_due(0, 5) is not None
    method.memory.fill(torch.ones_like(method.memory.vectors))
    assert method.survey_due(0, 5) is None
    other = build_method(cfg, {"method": method.state_dict()})[0]
    assert other.survey_due(0, 5) is None


def test_what_an_export_is_told_in_its_error_helps(settings, tmp_path, monkeypatch):
    """The network plays its exported file: tracing takes long."""
    cfg = settings(METHOD="pinmem", DATASET__SOURCE=["gtav", "synthia"], MEMORY__GUMBEL="always",
                   **SPACE)  # fmt: skip
    method, _ = build_method(cfg)
    method.memory.fill(F.normalize(torch.randn_like(method.memory.vectors), dim=1))
    checkpoint = tmp_path / "last.pth"
    torch.save({"settings": flatten(cfg), "step": 7, "method": method.state_dict()}, checkpoint)
    notes = []
    traced = lambda network: (network.method.exported_from, network)[1]  # noqa: E731
    monkeypatch.setattr(export_script, "export_program", traced)
    played = (lambda network, own: notes.append((own, network)) or b"file",
              lambda content: notes[-1][1])  # fmt: skip
    monkeypatch.setitem(export_script.DEPLOYED, ".pt2", played)
    words = ["export", str(checkpoint), "--out", str(tmp_path / "network.pt2")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(UserError, match="give MEMORY.GUMBEL training"):
        export_script.main()
    monkeypatch.setattr("sys.argv", [*words, "MEMORY.GUMBEL", "training"])
    export_script.main()
    assert notes[-1][0]["settings"]["MEMORY.GUMBEL"] == "training"
    assert (tmp_path / "network.pt2").read_bytes() == b"file"


def test_a_memory_that_is_always_drawn_is_not_exported(settings):
    cfg = settings(METHOD="pinmem", DATASET__SOURCE=["gtav", "synthia"], **SPACE)
    assert build_method(cfg)[0].exported_from == 32
    cfg.MEMORY.GUMBEL = "always"
    with pytest.raises(UserError, match="MEMORY.GUMBEL always draws .*; give MEMORY.GUMBEL train"):
        build_method(cfg)[0].exported_from  # noqa: B018
