"""Matching and losses against transformers' (no void), and against dense masks and all
permutations (with void and weights), in float64."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from loss.mask_classification import MaskClassificationLoss, QueryPrediction

VOID = 255
WEIGHTS = (2.0, 5.0, 3.0)
POINTS = 48


def same_points(number, points, two, **options):
    """In place of random points: as many fixed ones for each mask."""
    generator = torch.Generator().manual_seed(points)
    fixed = torch.empty(points, two, dtype=torch.float64).uniform_(generator=generator)
    return fixed.expand(number, points, two).clone()


def criterion(**options):
    made = MaskClassificationLoss(WEIGHTS, 0.1, POINTS, **options)
    made.draw = same_points
    return made


def layers(number=3, images=2, queries=6, classes=4, size=(5, 7)):
    """Predictions of decoder layers, leaves of the graph."""
    made = [
        (torch.randn(images, queries, classes + 1), 3 * torch.randn(images, queries, *size))
        for _ in range(number)
    ]
    return [QueryPrediction(*(x.double().requires_grad_() for x in pair)) for pair in made]


def labels_without_void(classes=4):
    labels = torch.randint(0, classes, (2, 4, 3)).repeat_interleave(4, 1).repeat_interleave(5, 2)
    labels[1][labels[1] == 2] = 0
    return labels


@pytest.mark.parametrize("targets", ["present", "all"])
def test_losses_and_gradients_are_those_of_transformers(monkeypatch, targets):
    predicted, labels = layers(), labels_without_void()
    losses = criterion(every_class=targets == "all")(predicted, labels)
    leaves = [x for prediction in predicted for x in prediction]
    gradients = torch.autograd.grad(sum(losses.values()), leaves)

    names = dict(zip(("class_weight", "mask_weight", "dice_weight"), WEIGHTS, strict=True))
    config = Mask2FormerConfig(num_labels=4, train_num_points=POINTS, **names)
    theirs = Mask2FormerLoss(config, names).double()
    classes = [torch.arange(4) if targets == "all" else label.unique() for label in labels]
    masks = [
        (label == present[:, None, None]).double()
        for label, present in zip(labels, classes, strict=True)
    ]
    outputs = [
        {"masks_queries_logits": p.masks, "class_queries_logits": p.classes} for p in predicted
    ]
    monkeypatch.setattr(torch, "rand", same_points)
    found = theirs(
        mask_labels=masks, class_labels=classes, auxiliary_predictions=outputs[:-1], **outputs[-1]
    )
    keys = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}
    for name, weight in zip(keys, WEIGHTS, strict=True):
        expected = sum(value for key, value in found.items() if key.startswith(keys[name]))
        torch.testing.assert_close(losses[name], weight * expected, rtol=1e-6, atol=0)
    total = sum(
        weight * value
        for name, weight in zip(keys, WEIGHTS, strict=True)
        for key, value in found.items()
        if key.startswith(keys[name])
    )
    others = torch.autograd.grad(total, leaves)
    torch.testing.assert_close(gradients, others, rtol=1e-5, atol=1e-9)


def at_points(image, points, padding="zeros"):
    """Bilinear values `[P]` of one image `[h, w]`."""
    grid = 2 * points[None, None] - 1
    return F.grid_sample(
        image[None, None].double(), grid, padding_mode=padding, align_corners=False
    ).flatten()


def compared(mask, label, target, weight, points, ignore_void):
    """Binary cross entropy and dice of one predicted mask and one class, at given points."""
    void = (label == VOID) & ignore_void
    counted = at_points(weight * ~void, points, "border")
    inside = at_points(weight * (label == target), points)
    logits = at_points(mask, points)
    chance = logits.sigmoid()
    entropy = -(inside * chance.log() + (counted - inside) * (1 - chance).log()).sum()
    dice = 1 - (2 * (chance * inside).sum() + 1) / ((chance * counted).sum() + inside.sum() + 1)
    return entropy, dice, counted.sum()


def best_assignment(classes, masks, label, ignore_void):
    """Try all: {query: class} of an image's predictions `[Q, K + 1]` and `[Q, h, w]`."""
    present = [k for k in label.unique().tolist() if k != VOID]
    ones = torch.ones(label.shape, dtype=torch.float64)
    points = same_points(1, POINTS, 2)[0]
    cost = {}
    for query, mask in enumerate(masks):
        for target in present:
            entropy, dice, counted = compared(mask, label, target, ones, points, ignore_void)
            chance = classes[query].softmax(0)[target]
            total = WEIGHTS[1] * entropy / counted.clamp(min=1) + WEIGHTS[2] * dice
            cost[query, target] = (total - WEIGHTS[0] * chance).item()
    tried = permutations(range(len(masks)), len(present))
    best = min(tried, key=lambda queries: sum(map(cost.get, zip(queries, present, strict=True))))
    return dict(zip(best, present, strict=True))


def chosen_points(mask, label, ignore_void):
    points = same_points(1, 3 * POINTS, 2)[0]
    certainty = at_points(mask, points).abs()
    if ignore_void:
        x, y = (points * torch.tensor(label.shape).flip(0)).long().unbind(1)
        certainty[label[y, x] == VOID] = torch.inf
    chosen = points[certainty.argsort()[: 3 * POINTS // 4]]
    return torch.cat([chosen, same_points(1, POINTS // 4, 2)[0]])


def reference(predicted, labels, weight, ignore_void):
    """Losses by loops: dense masks, all assignments tried."""
    total = {"class": 0, "mask": 0, "dice": 0}
    number = sum(len(set(label.unique().tolist()) - {VOID}) for label in labels)
    for classes, masks in predicted:
        entropies, importances = [], []
        for image, label in enumerate(labels):
            own = best_assignment(classes[image], masks[image], label, ignore_void)
            pixels = torch.ones(label.shape).double() if weight is None else weight[image]
            for query, mask in enumerate(masks[image]):
                target = own.get(query, classes.shape[2] - 1)
                factor = pixels[label == target].mean() if query in own else pixels.mean()
                importances.append(1.0 if query in own else 0.1)
                entropy = F.cross_entropy(classes[image, query][None], torch.tensor([target]))
                entropies.append(importances[-1] * factor * entropy)
                if query not in own:
                    continue
                points = chosen_points(mask, label, ignore_void)
                entropy, dice, counted = compared(mask, label, target, pixels, points, ignore_void)
                points = POINTS if weight is not None else counted.clamp(min=1)
                total["mask"] += entropy / points / number
                total["dice"] += dice / number
        total["class"] += sum(entropies) / sum(importances)
    return {n: w * total[n] for n, w in zip(total, WEIGHTS, strict=True)}


@pytest.mark.parametrize("ignore_void", [True, False])
@pytest.mark.parametrize("weighs", [False, True])
def test_void_and_weights_against_dense_masks(ignore_void, weighs):
    predicted = layers(number=2, queries=5, classes=3)
    labels = labels_without_void(classes=3)
    labels[0, 3:11, 2:9] = VOID
    labels[1, :, 7:] = VOID
    weight = torch.rand(labels.shape, dtype=torch.float64) if weighs else None
    losses = criterion(void_is_background=not ignore_void)(predicted, labels, weight)
    expected = reference(predicted, labels, weight, ignore_void)
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


def test_weights_of_one_change_nothing_and_of_zero_leave_nothing():
    predicted, labels = layers(), labels_without_void()
    plain, one, zero = (
        criterion()(predicted, labels, weight)
        for weight in (None, torch.ones(labels.shape), torch.zeros(labels.shape))
    )
    for name in plain:
        torch.testing.assert_close(one[name], plain[name])
        assert zero[name] == 0


@pytest.mark.parametrize("void_is_background", [False, True])
def test_masks_learn_nothing_from_void(void_is_background):
    """Masks as large as the label, so that a pixel of one is a pixel of the other."""
    predicted = layers(size=(16, 16))
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 4:] = 1
    labels[:, :, 8:] = VOID
    losses = criterion(void_is_background=void_is_background)(predicted, labels)
    gradients = torch.autograd.grad(losses["mask"] + losses["dice"], [p.masks for p in predicted])
    for gradient in gradients:
        # A point counts by its share of the pixels around it: the first column of void is near.
        assert (gradient[..., 9:] != 0).any() == void_is_background
        assert (gradient[..., :8] != 0).any()


EDGES = {
    "void": [VOID, VOID, VOID],
    "one class": [3, 3, 3],
    "one pixel": [1, VOID, 2],
    "one pixel in void": [VOID, VOID, 2],
    "void beside a street": [VOID, VOID, VOID],
}


def edge_labels(name):
    background, right, pixel = EDGES[name]
    labels = torch.full((2, 20, 24), background)
    labels[:, :, 12:] = right
    labels[:, 7, 5] = pixel
    if name == "void beside a street":
        labels[1] = torch.arange(24) // 6
    return labels


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("every_class", [False, True])
@pytest.mark.parametrize("void_is_background", [False, True])
def test_edge_cases_are_finite(name, every_class, void_is_background):
    made = MaskClassificationLoss(WEIGHTS, 0.1, POINTS, every_class, void_is_background)
    predicted = layers()
    losses = made(predicted, edge_labels(name))
    leaves = [x for prediction in predicted for x in prediction]
    gradients = torch.autograd.grad(sum(losses.values()), leaves)
    assert all(x.isfinite().all() for x in (*losses.values(), *gradients))
    assert losses["class"] > 0
    if name == "void" and not every_class:
        assert losses["mask"] == losses["dice"] == 0


def test_a_class_of_one_pixel_is_a_target():
    made = criterion()
    predicted = layers()
    labels = edge_labels("one pixel")
    present = torch.tensor([[0.0, 1, 1, 0]] * 2)
    matches = made.match(predicted, labels, present)
    assert matches.counts == [4, 4, 4]
    assert [sorted(pair.tolist()) for pair in matches.target.split(2)] == [[1, 2]] * 6
    assert matches.layer.tolist() == sorted(matches.layer.tolist())


def test_more_classes_than_queries():
    predicted = layers(queries=2, classes=6)
    labels = (torch.arange(24) // 4).expand(2, 20, 24)
    losses = criterion()(predicted, labels)
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_costs_that_are_not_finite_are_matched_last():
    predicted = layers(number=1, images=1, queries=3)
    with torch.no_grad():
        predicted[0].masks[0, 1] = torch.nan
    labels = labels_without_void()[:1, :4, :5]
    assert len(labels.unique()) == 1
    matches = criterion().match(predicted, labels, F.one_hot(labels[:, 0, 0], 4).double())
    assert matches.query.tolist() != [1]
