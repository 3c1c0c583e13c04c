"""Each alignment term against a direct transcription of its equation, in float64."""

import itertools
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from network.regions.alignment import TERMS, HierarchicalAlignment, align
from network.regions.statistics import find_regions, region_means

K = 5


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, 6, 7, dtype=torch.float64, generator=generator)
    teacher = torch.randn(3, 4, 6, 7, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, K + 1, (3, 6, 7), generator=generator)
    labels[1] = 2
    return student, teacher, torch.where(labels == K, 255, labels)


def terms_of(example, void_is_region=True):
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K, void_is_region)
    return align(student.flatten(0, 1), teacher, regions)


def test_global_term(example):
    student, teacher, _ = example
    terms = [
        (student[s, b, c].mean() - teacher[b, c].mean()) ** 2
        for s in range(2)
        for b in range(3)
        for c in range(4)
    ]
    torch.testing.assert_close(terms_of(example)["global"], sum(terms) / len(terms))


def test_local_term(example):
    student, teacher, _ = example
    repeated = torch.cat([teacher, teacher])
    expected = torch.nn.functional.mse_loss(student.flatten(0, 1), repeated)
    torch.testing.assert_close(terms_of(example)["local"], expected)


@pytest.mark.parametrize("void_is_region", [True, False])
def test_regional_term(example, void_is_region):
    student, teacher, labels = example
    terms = []
    for s in range(2):
        for b in range(3):
            for value in labels[b].unique():
                if value == 255 and not void_is_region:
                    continue
                mask = labels[b] == value
                share = mask.sum() / mask.numel()
                for c in range(4):
                    gap = student[s, b, c][mask].mean() - teacher[b, c][mask].mean()
                    terms.append(gap**2 * share)
    value = terms_of(example, void_is_region)["regional"]
    torch.testing.assert_close(value, sum(terms) / len(terms))


def test_regional_term_without_any_region_is_zero_with_a_gradient():
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    regions = find_regions(torch.full((1, 4, 4), 255), (4, 4), K, void_is_region=False)
    value = align(student, torch.randn(1, 3, 4, 4), regions, ["regional"])["regional"]
    value.backward()
    assert value == 0 and torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("void_is_region", [True, False])
@pytest.mark.parametrize("wanted", [c for n in (1, 2, 3) for c in itertools.combinations(TERMS, n)])
def test_gradients(example, wanted, void_is_region):
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K, void_is_region)

    student = student.flatten(0, 1).requires_grad_()

    def terms(x):
        return tuple(align(x, teacher, regions, wanted).values())

    assert torch.autograd.gradcheck(terms, student, fast_mode=True)
    every = align(student, teacher, regions)
    expected = {term: every[term] for term in wanted}
    torch.testing.assert_close(align(student, teacher, regions, wanted), expected)


def test_the_regional_gradient_has_all_digits(example):
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K)
    student = student[0].requires_grad_()
    share = regions.count[..., None].double() / (6 * 7)
    gap = region_means(student, regions) - region_means(teacher, regions)
    triples = int(regions.present.sum()) * student.shape[1]
    expected = torch.autograd.grad((gap.square() * share).sum() / triples, student)
    found = torch.autograd.grad(align(student, teacher, regions, ["regional"])["regional"], student)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_bfloat16_and_layouts(example, layout):
    student, teacher, labels = (t.float() if t.is_floating_point() else t for t in example)
    regions = find_regions(labels, (6, 7), K)
    student, teacher = student.flatten(0, 1).bfloat16(), teacher.bfloat16()
    exact = student.double().requires_grad_()
    expected = align(exact, teacher.double(), regions)
    sum(expected.values()).backward()
    if layout == "channels_last":
        student, teacher = (x.to(memory_format=torch.channels_last) for x in (student, teacher))
    elif layout == "strided":
        student = torch.stack([student, student], dim=-1)[..., 0]
    student.requires_grad_()
    terms = align(student, teacher, regions)
    sum(terms.values()).backward()
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term.double(), expected[name], rtol=1e-5, atol=1e-7)
    assert student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-2, atol=1e-5)


def test_bfloat16_is_widened_without_copies(example, monkeypatch):
    """None that the code makes; a GPU makes none below it either, if autocast does not: its rule
    for `addcmul`, which CPUs have not, is to copy."""
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K)
    layout = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    student, teacher = student.flatten(0, 1).to(**layout).requires_grad_(), teacher.to(**layout)
    copies, widened_by, addcmul = Counter(), [], torch.addcmul

    class CountCopies(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket.__name__
            if name in ("_to_copy", "copy_") and args[0].numel() >= teacher.numel():
                copies[name] += 1
            return function(*args, **(kwargs or {}))

    def noted(own, other, factor, **options):
        widened_by.append((torch.is_autocast_enabled("cpu"), own.dtype, other.dtype))
        return addcmul(own, other, factor, **options)

    monkeypatch.setattr(torch, "addcmul", noted)
    with CountCopies():
        with torch.autocast("cpu", torch.bfloat16):
            terms = align(student, teacher, regions)
        assert set(widened_by) == {(False, torch.bfloat16, torch.bfloat16)}
        torch.autograd.grad(sum(terms.values()), student)
        assert not copies
        student.float()
    assert copies == {"_to_copy": 1}


@pytest.mark.parametrize("wanted", [TERMS, ("global", "regional"), ("local",)])
def test_teachers_of_other_dtypes(example, wanted):
    student, teacher, labels = example
    regions = find_regions(labels, (6, 7), K)
    student = student.flatten(0, 1)
    dtypes = (torch.bfloat16, torch.float32, torch.float64)
    for own, other in itertools.permutations(dtypes, 2):
        near = student.to(own).requires_grad_()
        terms = align(near, teacher.to(other), regions, wanted)
        (gradient,) = torch.autograd.grad(sum(terms.values()), near)
        exact = near.detach().double().requires_grad_()
        expected = align(exact, teacher.to(other).double(), regions, wanted)
        (other_gradient,) = torch.autograd.grad(sum(expected.values()), exact)
        for name, term in terms.items():
            torch.testing.assert_close(term.double(), expected[name], rtol=1e-5, atol=1e-7)
        assert gradient.dtype == own
        torch.testing.assert_close(gradient.double(), other_gradient, rtol=1e-2, atol=1e-5)


def test_layers_are_weighted_and_switched(example):
    _, _, labels = example
    generator = torch.Generator().manual_seed(1)
    sizes = {1: (4, 6, 7), 2: (8, 3, 4), 3: (8, 3, 4), 4: (16, 2, 2)}

    def draw(n):
        return {
            i: torch.randn(n, *s, dtype=torch.float64, generator=generator)
            for i, s in sizes.items()
        }

    student, teacher = draw(6), draw(3)
    weights = ([0.4, 0, 0.8, 0], [0, 0.6, 0, 0], [0, 0, 0, 0])
    alignment = HierarchicalAlignment(K, *weights)
    assert alignment.last_layer == 3
    losses = alignment(student, teacher, labels)
    assert set(losses) == {"global", "regional"}
    regions = {i: find_regions(labels, shape[1:], K) for i, shape in sizes.items()}
    terms = {i: align(student[i], teacher[i], regions[i]) for i in sizes}
    torch.testing.assert_close(
        losses["global"], 0.4 * terms[1]["global"] + 0.8 * terms[3]["global"]
    )
    torch.testing.assert_close(losses["regional"], 0.6 * terms[2]["regional"])
    assert HierarchicalAlignment(K, [0] * 4, [0] * 4, [0] * 4).last_layer == 0


def test_relative_terms_do_not_depend_on_the_scale_of_features(example):
    student, teacher, labels = example
    student = student.flatten(0, 1)
    weights = [[1.0, 0, 0, 0]] * 3
    plain = HierarchicalAlignment(K, *weights)
    relative = HierarchicalAlignment(K, *weights, relative=True)
    losses = relative({1: student}, {1: teacher}, labels)
    for scale in (1e-3, 50.0):
        scaled = relative({1: scale * student}, {1: scale * teacher}, labels)
        for name, value in losses.items():
            torch.testing.assert_close(scaled[name], value)
    energy = teacher.square().mean()
    for name, value in plain({1: student}, {1: teacher}, labels).items():
        torch.testing.assert_close(losses[name], value / energy)


def test_normalised_features_have_directions_alone():
    """Their sizes at a place, and what all channels share, do not count."""
    generator = torch.Generator().manual_seed(4)
    student, teacher = (
        torch.randn(2, 6, 4, 5, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    labels = torch.randint(0, K, (2, 8, 10), generator=generator)
    alignment = HierarchicalAlignment(K, [0] * 4, [0] * 4, [0, 0, 0, 1], normalised=True)
    found = alignment({4: student}, {4: teacher}, labels)["local"]
    scaled = student * torch.rand(2, 1, 4, 5, generator=generator).add(1) + 3
    torch.testing.assert_close(alignment({4: scaled}, {4: teacher}, labels)["local"], found,
                               rtol=1e-4, atol=0)  # fmt: skip
    total = 0.0
    for image, row, column in itertools.product(range(2), range(4), range(5)):
        pair = []
        for feature in (student, teacher):
            own = feature[image, :, row, column]
            pair.append((own - own.mean()) / (own.var(correction=0) + 1e-5).sqrt())
        total += float((pair[0] - pair[1]).square().sum())
    assert float(found) == pytest.approx(total / student.numel(), rel=1e-12)
