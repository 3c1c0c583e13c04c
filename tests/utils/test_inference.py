"""Scales, flips and sliding windows against slow, obvious forms."""

import pytest
import torch
import torch.nn.functional as F

from network import inference
from network.inference import predict, predict_with_confidence, slide, window_starts
from utils.errors import UserError
from utils.evaluate.evaluation import describe_protocol, sliding_windows


def network(images):
    """Three logits that depend on where a pixel lies in the window that the network sees."""
    height, width = images.shape[2:]
    ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(-1, 2, width)
    return images * 2 + torch.stack([ramp, ramp.square(), 1 - ramp])


def test_windows_cover_a_side_and_end_at_its_edge():
    assert list(window_starts(13, 6, 4)) == [0, 4, 7]
    assert list(window_starts(10, 6, 4)) == [0, 4]
    assert list(window_starts(6, 6, 4)) == [0]
    assert list(window_starts(5, 6, 4)) == [0]
    assert list(window_starts(1024, 512, 341)) == [0, 341, 512]


def test_overlapping_windows_are_averaged():
    images = torch.randn(2, 3, 10, 13)
    expected = torch.zeros(2, 3, 10, 13)
    for y in range(10):
        for x in range(13):
            seen = [
                network(images[:, :, top : top + 6, left : left + 6])[:, :, y - top, x - left]
                for top in (0, 4)
                for left in (0, 4, 7)
                if top <= y < top + 6 and left <= x < left + 6
            ]
            expected[:, :, y, x] = sum(seen) / len(seen)
    torch.testing.assert_close(slide(network, images, 6, 4), expected)
    assert torch.equal(slide(network, images, 20, 20), network(images))


def test_one_version_is_the_plain_argmax():
    images = torch.randn(2, 3, 10, 13)
    assert torch.equal(predict(network, images, (10, 13)), network(images).argmax(1))
    for size in ((20, 26), (7, 33)):
        resized = F.interpolate(network(images), size, mode="bilinear").argmax(1)
        found = predict(network, images, size)
        assert found.dtype == torch.uint8 and torch.equal(found, resized)


def test_probabilities_of_scales_mirror_images_and_windows_are_averaged():
    images = torch.randn(1, 3, 12, 16)
    total = torch.zeros(1, 3, 30, 20)
    for size in ((6, 8), (12, 16), (24, 32)):
        scaled = F.interpolate(images, size, mode="bilinear") if size != (12, 16) else images
        for mirrored in (False, True):
            view = scaled.flip(3) if mirrored else scaled
            logits = slide(network, view, 8, 5)
            logits = logits.flip(3) if mirrored else logits
            total += F.interpolate(logits, (30, 20), mode="bilinear").softmax(1)
    options = {"scales": (0.5, 1.0, 2.0), "flip": True, "sliding": (8, 5)}
    assert torch.equal(predict(network, images, (30, 20), **options), total.argmax(1))


def test_results_say_how_they_were_made(settings):
    plain = settings(VALID__PROTOCOL="native")
    assert describe_protocol(plain) == "native" and sliding_windows(plain) == (0, 0)
    openseg = settings(VALID__PROTOCOL="openseg")
    assert describe_protocol(openseg) == "openseg, windows of 512 with stride 341"
    augmented = settings(VALID__SCALES="0.5,1,2", VALID__FLIP="on", VALID__SLIDING="64,32")
    text = "native, windows of 64 with stride 32, scales 0.5 1 2, flip"
    assert describe_protocol(augmented) == text
    with pytest.raises(UserError, match="windows of 64 pixels need a stride between 1 and 64"):
        sliding_windows(settings(VALID__SLIDING="64,65"))
    with pytest.raises(UserError, match="VALID.SLIDING is 1 1: windows have 16 pixels or more"):
        sliding_windows(settings(VALID__SLIDING="1,1"))


@pytest.mark.parametrize("scales, flip", [((1.0,), False), ((0.5, 1.0), True)])
def test_confidence_is_the_mean_probability_of_the_class_that_is_predicted(scales, flip):
    images = torch.randn(2, 3, 24, 30)
    probabilities = []
    for scale in scales:
        for mirrored in [False, True][: 1 + flip]:
            view = inference.resize(images, inference.scaled_size((24, 30), scale))
            logits = network(view.flip(3) if mirrored else view).double()
            own = inference.resize(logits, (36, 45)).softmax(1)
            probabilities.append(own.flip(3) if mirrored else own)
    expected, classes = torch.stack(probabilities).mean(0).max(1)
    labels, confidence = predict_with_confidence(network, images, (36, 45), scales, flip)
    assert torch.equal(labels, predict(network, images, (36, 45), scales, flip))
    assert labels.dtype == torch.uint8 and confidence.dtype == torch.float32
    assert (labels == classes).float().mean() > 0.999
    torch.testing.assert_close(confidence.double(), expected, rtol=0, atol=1e-5)
