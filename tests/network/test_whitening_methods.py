"""IW, IRW and ISW: what they whiten, and how ISW finds the pairs that colours move."""

import copy

import pytest
import torch

from network.build import build_method
from network.methods import whitening
from network.methods.whitening import sensitive

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


@pytest.fixture
def build(settings):
    """Return `build(name, **settings)`, a method in float64."""
    return lambda name, **changes: build_method(settings(METHOD=name, **SPACE, **changes))[
        0
    ].double()


@pytest.fixture
def images(batch):
    return batch | {"image": batch["image"].double()}


def normed_maps(method, batch):
    """What the three norms return in a training step, and its losses."""
    maps = []
    hooks = [n.register_forward_hook(lambda *given: maps.append(given[2])) for n in method.norms]
    losses = method.train()(batch)
    for hook in hooks:
        hook.remove()
    return maps, losses


def slow_sums(x, counts):
    """`Σ_{i<j} |Σ_b,ij|` of each image, over pairs that count, by loops."""
    places = x[0, 0].numel()
    for image in x.flatten(2).detach():
        total = 0.0
        for i in range(len(image)):
            for j in range(i + 1, len(image)):
                total += abs(image[i] @ image[j]).item() / (places - 1) if counts(i, j) else 0.0
        yield total


def test_the_loss_of_iw_and_irw_by_loops(build, images):
    for name, weight, divisor in (("iw", 0.8, None), ("irw", 0.6, 16)):
        changes = {"IRW__RELAXATION": divisor} if divisor else {}
        method = build(name, **changes)
        maps, losses = normed_maps(method, images)
        terms = []
        for x in maps:
            number = x.shape[1] * (x.shape[1] - 1) // 2
            margin = number // divisor if divisor else 0
            sums = slow_sums(x, lambda i, j: True)
            terms.append(sum(max(0.0, s - margin) / number for s in sums) / len(x))
        expected = weight * sum(terms) / 3
        assert losses["whitening"].item() == pytest.approx(expected, rel=1e-9)
        assert expected > 0


def test_margins_at_the_published_widths(build):
    method = build("irw", TRUNK__NAME="resnet18")
    method.channels = [64, 256, 512]
    assert method.margins() == [31, 510, 2044]


@pytest.mark.parametrize("recompute", ["off", "on"])
@pytest.mark.parametrize("name", ["iw", "irw", "isw"])
def test_norms_have_no_parameter_and_keep_nothing(build, images, name, recompute):
    method = build(name, TRUNK__RECOMPUTE=",".join([recompute] * 4))
    if name == "isw":
        method.sensitive.fill([torch.ones(c, c).triu(1).bool() for c in method.channels])
    assert not any(list(norm.parameters()) for norm in method.norms)
    assert not any(list(norm.buffers()) for norm in method.norms)
    sum(method.train()(images).values()).backward()
    copy.deepcopy(method)  # no norm holds on to a graph
    assert all(norm.covariance is None for norm in method.norms)
    with torch.no_grad():
        method.eval()(images["image"])
    assert all(norm.covariance is None for norm in method.norms)


def test_isw_whitens_what_it_found_and_nothing_before(build, images):
    method = build("isw")
    assert "whitening" not in method.train()(images)
    masks = [torch.rand(c, c) < 0.1 for c in method.channels]
    masks = [mask.triu(1) for mask in masks]
    method.sensitive.fill(masks)
    maps, losses = normed_maps(method, images)
    terms = []
    for x, mask in zip(maps, masks, strict=True):
        sums = slow_sums(x, lambda i, j, mask=mask: bool(mask[i, j]))
        terms.append(sum(sums) / len(x) / int(mask.sum()))
    assert losses["whitening"].item() == pytest.approx(0.6 * sum(terms) / 3, rel=1e-9)


def test_a_loaded_network_knows_that_pairs_are_found(build, images):
    method, other = build("isw"), build("isw")
    method.sensitive.fill([torch.ones(c, c).triu(1).bool() for c in method.channels])
    assert other.survey_due(100, 1) is not None
    other.load_state_dict(method.state_dict())
    assert other.survey_due(100, 1) is None
    assert "whitening" in other.train()(images)


def test_when_pairs_are_sought(build):
    method = build("isw", ISW__START_EPOCH=6)
    assert [method.survey_due(step, 4) is not None for step in (0, 23, 24, 25)] == [0, 0, 1, 1]
    due = method.survey_due(24, 4)
    assert due.whole and (due.rounds, due.images) == (2, 3)


def test_a_training_that_ends_before_is_said(build):
    method = build("isw", ISW__START_EPOCH=6, TRAIN__MAX_ITER=24)
    assert method.remarks(3) == []
    found = build("isw", ISW__START_EPOCH=6, TRAIN__MAX_ITER=24)
    found.sensitive.fill(found.masks())
    assert found.remarks(4) == []
    (remark,) = method.remarks(4)
    assert remark == "ISW.START_EPOCH is step 24, and TRAIN.MAX_ITER is 24: nothing is whitened"


def test_sensitive_pairs_of_two_trials_are_those_of_both():
    first, second = torch.zeros(3, 3).double(), torch.zeros(3, 3).double()
    # With the zeros, the lowest of two clusters ends at 1.
    first[0, 1], first[0, 2], first[1, 2] = 1.0, 2.0, 3.2
    second[0, 1], second[0, 2], second[1, 2] = 2.0, 1.0, 3.2
    assert sensitive(first[None], 2).nonzero().tolist() == [[0, 2], [1, 2]]
    assert sensitive(torch.stack([first, second]), 2).nonzero().tolist() == [[1, 2]]
    # What is not above the diagonal is taken for 0.
    assert torch.equal(sensitive((first + first.T)[None], 2), sensitive(first[None], 2))
    assert not sensitive(torch.zeros(2, 3, 3), 2).any()


@torch.no_grad()
def test_a_survey_by_loops(build, monkeypatch):
    """Variances of pairs, clusters of each trial and source, and the pairs that all find."""
    method = build("isw", ISW__TRIALS=2, DATASET__SOURCE=["gtav", "idd"]).eval()
    monkeypatch.setattr(whitening, "normalise", lambda image: image.double() / 255)
    changed = []

    def darker(self, image, drawn):
        changed.append((image.double() * 0.5).round())
        return changed[-1].byte()

    monkeypatch.setattr(whitening.Photometric, "apply", darker)
    batches = [
        {"image": torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8),
         "round": torch.tensor([r]), "domain": torch.tensor([d])}
        for r in range(2) for d in range(2) for _ in range(2)
    ]  # fmt: skip
    found = method.survey(iter(batches), len(batches))

    maps = []
    for norm in method.norms:
        norm.register_forward_hook(lambda *given: maps.append(given[2]))
    variances = {}
    for b, other in zip(batches, changed, strict=True):
        pair = torch.stack([b["image"][0].double(), other]) / 255
        maps.clear()
        method.trunk(pair, stop=2)
        for i, x in enumerate(maps):
            rows = x.flatten(2)
            own, copied = (row @ row.T / (row.shape[1] - 1) for row in rows)
            key = i, int(b["round"]), int(b["domain"])
            variances.setdefault(key, []).append(torch.stack([own, copied]).var(0).triu(1))
    for i, mask in enumerate(method.sensitive.masks()):
        expected = torch.ones_like(mask)
        for r in range(2):
            for d in range(2):
                mean = torch.stack(variances[i, r, d]).mean(0)
                expected &= sensitive(mean[None], 2)
        assert torch.equal(mask, expected)
        assert 0 < mask.sum() < mask.numel() / 2
        assert found.figures[f"sensitive/layer {i}"] == mask.sum()
        picture = found.pictures[f"sensitive pairs, layer {i}"]
        assert picture.dtype == torch.uint8 and picture.shape == (3, *mask.shape)
        assert torch.equal(picture[0] > 0, mask | mask.T)
    assert "ISW whitens these pairs" in found.lines[0]
