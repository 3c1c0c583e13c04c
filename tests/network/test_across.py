"""Alignment with a neutral network of another architecture, against obvious forms in float64."""

import pytest
import torch
import torch.nn.functional as F

from network.build import build_method
from network.regions.across import Projected, Related, resized, similarity
from network.regions.alignment import TERMS, align
from network.regions.statistics import find_regions
from utils.errors import UserError

K = 5


@pytest.fixture
def example():
    """Two streams of three images with 4 channels, neutral features with 7, labels."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, 24, 30, dtype=torch.float64, generator=generator)
    teacher = torch.randn(3, 7, 24, 30, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, K + 1, (3, 4, 5), generator=generator)
    labels = torch.where(labels == K, 255, labels).repeat_interleave(6, 1).repeat_interleave(6, 2)
    return student, teacher, labels


def cosine(a, b):
    return F.cosine_similarity(a, b, dim=0)


@pytest.mark.parametrize("void_is_region", [True, False])
def test_relations(example, void_is_region):
    student, teacher, labels = example
    regions = find_regions(labels, (24, 30), K, void_is_region)
    terms = Related()(1, student, teacher, regions, TERMS)
    expected = [0.0, 0.0, 0.0]
    for s in range(2):
        stream = student[3 * s : 3 * s + 3]
        for i in range(3):
            for j in range(3):
                gap = cosine(stream[i].mean((1, 2)), stream[j].mean((1, 2)))
                gap = gap - cosine(teacher[i].mean((1, 2)), teacher[j].mean((1, 2)))
                expected[0] += gap**2 / (2 * 9)
            masks = [labels[i] == v for v in labels[i].unique() if void_is_region or v != 255]
            counted = sum(mask.sum() for mask in masks)
            for a in masks:
                for b in masks:
                    own, other = (
                        cosine(x[i][:, a].mean(1), x[i][:, b].mean(1)) for x in (stream, teacher)
                    )
                    share = (a.sum() / counted) * (b.sum() / counted)
                    expected[1] += share * (own - other) ** 2 / (2 * 3)
            grids = []
            for x in (stream[i], teacher[i]):
                # 24 / 12 = 2 and 30 // 12 = 2 pixels a cell.
                cells = x.unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4)).flatten(1)
                unit = cells / cells.norm(dim=0)
                grids.append(unit.T @ unit)
            expected[2] += (grids[0] - grids[1]).square().mean() / (2 * 3)
    torch.testing.assert_close(torch.stack([*terms.values()]), torch.stack(expected))


def test_relations_of_a_turned_and_scaled_feature_are_the_same(example):
    """What another architecture may differ in, and what projection would have to learn."""
    _, teacher, labels = example
    turn, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))
    turned = 30 * torch.einsum("oc,bchw->bohw", turn, teacher)
    regions = find_regions(labels, (24, 30), K)
    terms = Related()(1, torch.cat([turned, teacher]), teacher, regions, TERMS)
    assert max(terms.values()) < 1e-12


@pytest.mark.parametrize("name", TERMS)
def test_gradients_of_relations(example, name):
    student, teacher, labels = example
    small = find_regions(labels, (4, 5), K)
    student = student[:, :, ::6, ::6].clone().requires_grad_()

    def term(x):
        (value,) = Related()(1, x, teacher[:, :, ::6, ::6], small, [name]).values()
        return value

    assert torch.autograd.gradcheck(term, student, fast_mode=True)


def test_absent_regions_and_zero_features_have_finite_gradients():
    x = torch.zeros(2, 3, 8, 8, requires_grad=True)
    regions = find_regions(torch.full((2, 8, 8), 255), (8, 8), K, void_is_region=False)
    sum(Related()(1, x, torch.randn(2, 5, 8, 8), regions, TERMS).values()).backward()
    assert torch.isfinite(x.grad).all()
    assert similarity(torch.zeros(2, 3)).abs().max() == 0


@pytest.mark.parametrize("size", [(12, 15), (24, 30), (40, 50)])
def test_projection_is_alignment_of_the_projected_feature_at_the_students_size(example, size):
    student, _, labels = example
    teacher = torch.randn(3, 7, *size)
    student = student.float()
    regions = find_regions(labels, (24, 30), K)
    projected = Projected([0, 0, 4], [0, 0, 7], [2])
    terms = projected(2, student, teacher, regions, TERMS)
    weight = projected.layers["2"].weight[:, :, 0, 0]
    moved = torch.einsum("oc,bchw->bohw", weight, student)
    expected = align(moved, resized(teacher, (24, 30)), regions)
    torch.testing.assert_close(terms, expected)
    constant = resized(torch.full((1, 2, *size), 3.0), (24, 30))
    torch.testing.assert_close(constant, torch.full((1, 2, 24, 30), 3.0))


@pytest.fixture
def build(settings):
    def make(**overrides):
        options = {"METHOD": "srha", "DATASET__LABEL_SPACE": "cityscapes19",
                   "TEACHER__TRUNK": "shufflenet_v2_x0_5"}  # fmt: skip
        return build_method(settings(**options | overrides))[0].train()

    return make


@pytest.mark.parametrize("across", ["projection", "relation"])
@pytest.mark.parametrize("trunk", ["resnet_mini", "mobilenet_v2"])
def test_a_step_with_another_neutral_network(build, batch, across, trunk):
    method = build(ALIGN__ACROSS=across, TRUNK__NAME=trunk)
    frozen = {k: v.clone() for k, v in method.state_dict().items() if k.startswith("teacher")}
    losses = method(batch)
    assert {"global", "regional", "local"} <= set(losses)
    for name in ("global", "regional", "local"):
        assert losses[name] > 0 and torch.isfinite(losses[name])
    sum(losses.values()).backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    state = method.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in frozen.items())
    learned = {k.split(".")[1] for k in state if k.startswith("alignment.")}
    assert learned == ({"across"} if across == "projection" else set())
    assert len(method.parameter_groups()["other"]) == (4 if across == "projection" else 0)


def test_only_aligned_layers_are_projected(build, batch):
    weights = {f"ALIGN__{t}": [0, 0.6, 0, 0] for t in ("GLOBAL", "REGIONAL", "LOCAL")}
    method = build(**weights)
    assert [k for k in method.state_dict() if k.startswith("alignment.")] == [
        "alignment.across.layers.2.weight"
    ]
    sum(method(batch).values()).backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]


def test_the_same_trunk_by_name_is_the_published_path(build):
    assert build(TEACHER__TRUNK="resnet_mini").alignment.across is None
    assert build(TEACHER__TRUNK="resnet_mini").teacher_stem is None


def test_relations_have_no_scale(build):
    with pytest.raises(UserError, match="ALIGN.RELATIVE has no use with ALIGN.ACROSS relation"):
        build(ALIGN__ACROSS="relation", ALIGN__RELATIVE=True)


def test_bfloat16(build, batch):
    for across in ("projection", "relation"):
        method = build(ALIGN__ACROSS=across)
        with torch.autocast("cpu", torch.bfloat16):
            losses = method(batch)
        assert all(value.dtype == torch.float32 for value in losses.values())
