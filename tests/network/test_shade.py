"""SHADE: hallucinated styles, retrospection, and the choice of bases."""

import pytest
import torch

from network.build import build_method
from network.methods.shade import EPSILON, farthest_points
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


@pytest.fixture
def shade(settings):
    return build_method(settings(METHOD="shade", **SPACE))[0].double()


def test_a_feature_gets_the_mixed_style(shade):
    shade.styles.bases.uniform_(0.5, 1.5)
    x = 3 + 2 * torch.randn(2, shade.styles.bases.shape[2], 8, 10, dtype=torch.float64)
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.25, 0.5]])
    found = shade.hallucinate(x, weights)
    for b in range(2):
        mean, std = (weights[b].double() @ shade.styles.bases[:, part] for part in (0, 1))
        torch.testing.assert_close(found[b].mean((1, 2)), mean)
        torch.testing.assert_close(found[b].std((1, 2)), std)
        by_hand = (x[b] - x[b].mean((1, 2), keepdim=True)) / (
            x[b].std((1, 2), keepdim=True) + EPSILON
        )
        torch.testing.assert_close(found[b], by_hand * std[:, None, None] + mean[:, None, None])


def test_styles_have_no_gradient_and_are_drawn(shade):
    shade.styles.bases.uniform_(0.5, 1.5)
    x = torch.randn(2, shade.styles.bases.shape[2], 8, 10, dtype=torch.float64, requires_grad=True)
    first, second = shade.hallucinate(x), shade.hallucinate(x)
    assert not torch.equal(first, second)
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.25, 0.5]])
    upstream = torch.randn_like(x)
    (shade.hallucinate(x, weights) * upstream).sum().backward()
    std = torch.einsum("bm,mc->bc", weights.double(), shade.styles.bases[:, 1])
    scale = std / (x.detach().std((2, 3)) + EPSILON)
    torch.testing.assert_close(x.grad, upstream * scale[..., None, None])


def test_a_map_of_one_place_has_no_deviation(shade):
    x = torch.randn(2, shade.styles.bases.shape[2], 1, 1, dtype=torch.float64)
    assert shade.hallucinate(x).abs().max() < 1e-9, "the mean of a basis"


def test_retrospection_by_loops(shade, batch):
    features, reference = torch.randn(4, 5, 2, 2).double(), torch.randn(2, 5, 2, 2).double()
    labels = torch.full((2, 8, 8), 3)
    labels[0, :4, :4] = 12
    labels[1, 4:, 4:] = 7
    labels[1, 4:6, 4:6] = 0  # three quarters are left: enough
    labels[1, :4, 4:] = 6
    labels[1, :2, 4:7] = 255  # less than three quarters are left
    cells = [(0, 0, 0), (1, 1, 1)]
    expected = sum(
        (features[stream * 2 + b, c, i, j] - reference[b, c, i, j]) ** 2 / 5
        for stream in range(2) for b, i, j in cells for c in range(5)
    ) / 4  # fmt: skip
    assert shade._distance(features, reference, labels).item() == pytest.approx(expected.item())
    leaf = features.clone().requires_grad_()
    nothing = shade._distance(leaf, reference, torch.full_like(labels, 255))
    nothing.backward()
    assert nothing.item() == 0 and not leaf.grad.any()


def test_the_losses_of_a_step(shade, batch):
    """Both streams are supervised; with the image's own style there is nothing to make consistent
    but rounding."""
    batch["image"] = batch["image"].double()
    losses = shade.train()(batch)
    assert losses.keys() == {"ce", "aux", "consistency", "retrospection"}
    assert losses["consistency"] > 0
    shade.hallucinate = lambda x: x
    shade.decoder.eval()
    assert shade(batch)["consistency"].abs() < 1e-12


def test_the_reference_stays_what_it_was(shade, batch):
    before = {k: v.clone() for k, v in shade.reference.state_dict().items()}
    assert not any(p.requires_grad for p in shade.reference.parameters())
    shade.train()(batch | {"image": batch["image"].double()})
    after = shade.reference.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any("running" in name for name in before), "batch statistics, as released"


def test_farthest_points():
    points = torch.tensor([[0.0, 0], [10, 0], [10, 1], [0, 4], [1, 0], [6, 30]])
    indices, distance = farthest_points(points, 4)
    # The farthest from the mean; then each the farthest from all before.
    assert indices.tolist() == [5, 0, 2, 3]
    assert distance == pytest.approx(4.0)


@torch.no_grad()
def test_bases_are_styles_of_images(shade):
    images = torch.randn(5, 3, 32, 40).double() * torch.arange(1, 6).double().view(5, 1, 1, 1)
    batches = [{"image": images[p], "place": torch.tensor(p)} for p in ([3, 0], [1, 4], [2])]
    shade.eval()
    shade.survey(iter(batches), 5)
    feature = shade.trunk(images, stop=0)[0]
    styles = torch.stack([feature.mean((2, 3)), (feature.var((2, 3)) + EPSILON).sqrt()], 1)
    chosen = farthest_points(styles.flatten(1), 3)[0]
    torch.testing.assert_close(shade.styles.bases, styles[chosen])
    assert torch.equal(shade.bases()["layer 0"], shade.styles.bases.flatten(1))
    with pytest.raises(UserError, match="SHADE.BASES is 3, and the sources have 2 images"):
        shade.survey(iter(batches[:1]), 2)


def test_when_bases_are_chosen(settings):
    cfg = settings(METHOD="shade", SHADE__EVERY=3, TRAIN__MAX_ITER=60, **SPACE)
    method, _ = build_method(cfg)
    due = [step for step in range(60) if method.survey_due(step, 5)]
    assert due == [0, 15, 30, 45]  # not 57 and later
    assert not method.survey_due(0, 5).whole


@pytest.mark.parametrize("classes", [[19], [40, 3]])
def test_classes_that_the_label_space_lacks(settings, classes):
    message = f"RETROSPECTION.CLASSES holds {classes[0]}, and the label space has train ids 0 to 18"
    with pytest.raises(UserError, match=message):
        build_method(settings(METHOD="shade", RETROSPECTION__CLASSES=classes, **SPACE))
