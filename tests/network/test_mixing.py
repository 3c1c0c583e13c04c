import math

import pytest
import torch
import torch.nn.functional as F

from network.self_training.mixing import (
    class_mask,
    hide_blocks,
    paste,
    pixel_weights,
    pseudo_labels,
)

K = 6


def labels_of(batch=3, size=(7, 9)):
    labels = torch.randint(0, 4, (batch, *size))
    labels[0, :2] = 255
    labels[1, labels[1] == 2] = 5
    return labels


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.968])
def test_share_of_confident_pixels(threshold):
    logits = 3 * torch.randn(2, K, 5, 7, dtype=torch.float64)
    confident = 0
    found = pseudo_labels(logits, threshold)
    for b in range(2):
        for i in range(5):
            for j in range(7):
                powers = [math.exp(x) for x in logits[b, :, i, j].tolist()]
                confident += max(powers) / sum(powers) >= threshold
                assert found.label[b, i, j] == powers.index(max(powers))
    torch.testing.assert_close(found.share, torch.tensor(confident / 70, dtype=torch.float64))
    assert pseudo_labels(logits.bfloat16(), threshold).share.dtype == torch.float32


@pytest.mark.parametrize("border", [(0, 0, 0, 0), (2, 3, 0, 1), (0, 0, 4, 0), (9, 9, 0, 0)])
def test_border(border):
    top, bottom, left, right = border
    share = torch.tensor(0.4, dtype=torch.float64)
    weight = pixel_weights(share, (2, 8, 6), border)
    for i in range(8):
        for j in range(6):
            inside = top <= i < 8 - bottom and left <= j < 6 - right
            assert (weight[:, i, j] == (share if inside else 0)).all()


@pytest.mark.parametrize("own_classes", [False, True])
def test_class_mask_for_given_keys(own_classes):
    labels = labels_of()
    sizes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mask = class_mask(labels, K, own_classes)
        torch.manual_seed(seed)
        keys = torch.rand(3, K + 1)
        for b, label in enumerate(labels):
            present = set((label if own_classes else labels).flatten().tolist())
            order = sorted(present, key=lambda c: keys[b, K if c == 255 else c].item())  # noqa: B023
            chosen = order[: math.ceil(len(present) / 2)]
            sizes.add((len(present), len(chosen)))
            for i in range(7):
                for j in range(9):
                    assert mask[b, i, j] == (label[i, j].item() in chosen)
    assert sizes == ({(5, 3), (4, 2)} if own_classes else {(6, 3)})


def test_mixed_image_label_and_weight():
    labels, pseudo = labels_of(), torch.randint(0, K, (3, 7, 9))
    source, target = torch.randn(3, 3, 7, 9), torch.randn(3, 3, 7, 9)
    weight = torch.rand(3, 7, 9, dtype=torch.float64)
    mask = class_mask(labels, K)
    mixed = [paste(mask, *pair) for pair in ((source, target), (labels, pseudo), (1.0, weight))]
    for b in range(3):
        for i in range(7):
            for j in range(9):
                pixel = b, ..., i, j
                expected = (source, labels, torch.ones(3, 7, 9)) if mask[b, i, j] else (
                    target, pseudo, weight)  # fmt: skip
                assert all(
                    torch.equal(own[pixel].double(), other[pixel].double())
                    for own, other in zip(mixed, expected, strict=True)
                )
    assert [x.dtype for x in mixed] == [torch.float32, torch.int64, torch.float64]
    everything = torch.ones_like(mask)
    assert paste(everything, source, target).equal(source)
    assert paste(~everything, labels, pseudo).equal(pseudo)


@pytest.mark.parametrize(
    ("size", "block", "grid"),
    [((13, 22), 4, (3, 6)), ((5, 7), 2, (2, 4)), ((9, 9), 64, (1, 1)), ((33, 47), 7, (5, 7))],
)
def test_blocks_of_odd_sizes(size, block, grid):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.manual_seed(3)
    hidden = hide_blocks(images, block, 0.7)
    torch.manual_seed(3)
    kept = torch.rand(2, *grid) >= 0.7
    expected = images.clone()
    for b in range(2):
        for i in range(size[0]):
            for j in range(size[1]):
                if not kept[b, i * grid[0] // size[0], j * grid[1] // size[1]]:
                    expected[b, :, i, j] = 0
    torch.testing.assert_close(hidden, expected, rtol=0, atol=0)
    enlarged = F.interpolate(kept[:, None].double(), size, mode="nearest")
    torch.testing.assert_close(hidden, images * enlarged, rtol=0, atol=0)
    assert hide_blocks(images, block, 0.0).equal(images)
    assert not hide_blocks(images, block, 1.0).any()


def test_share_of_hidden_blocks():
    images = torch.ones(8, 1, 64, 64)
    assert 0.25 < hide_blocks(images, 2, 0.7).mean() < 0.35
