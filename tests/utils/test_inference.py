"""Scales, flips and sliding windows against slow, obvious forms."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from network import inference
from network.inference import (
    predict,
    predict_with_confidence,
    resized_bands,
    slide,
    window_starts,
)
from utils.errors import UserError
from utils.evaluate.evaluation import describe_protocol, sliding_windows

ROOT = Path(__file__).parents[2]


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
    strips = list(slide(network, images, 6, 4))
    assert [strip.shape[2] for strip in strips] == [4, 6]
    torch.testing.assert_close(torch.cat(strips, 2), expected)
    (whole,) = slide(network, images, 20, 20)
    assert torch.equal(whole, network(images))


# (height, width) of logits and of the label: up, down, mixed, portrait, odd, one side kept.
SIZES = [
    ((37, 53), (101, 67)),
    ((101, 67), (37, 53)),
    ((50, 20), (33, 47)),
    ((32, 64), (64, 128)),
    ((33, 20), (33, 47)),
    ((20, 33), (47, 33)),
    ((257, 12), (1001, 9)),
    ((6, 7), (1, 1)),
    ((1, 1), (9, 4)),
]


@pytest.mark.parametrize("size, new_size", SIZES)
@pytest.mark.parametrize("band", [200, 3000, 10**6])
def test_bands_are_what_resizing_the_whole_gives(monkeypatch, size, new_size, band):
    monkeypatch.setattr(inference, "BAND", band)
    logits = torch.randn(2, 5, *size)
    whole = F.interpolate(logits, new_size, mode="bilinear", align_corners=False)
    for strips in ([logits], logits.split(3, dim=2)):
        rows, bands = zip(*resized_bands(iter(strips), size[0], new_size), strict=True)
        assert [row for part in rows for row in range(part.start, part.stop)] == [
            *range(new_size[0])
        ]
        joined = torch.cat(bands, dim=2)
        # Rounding of the position between two rows, which grows with their number.
        torch.testing.assert_close(joined, whole, rtol=0, atol=1e-6 + 3e-7 * size[0])
        assert torch.equal(joined.argmax(1), whole.argmax(1))
    assert len(bands) > 1 or band > 200 or new_size[0] < 10


@pytest.mark.parametrize("sliding", [(0, 0), (16, 11)])
def test_a_prediction_does_not_depend_on_the_bands(monkeypatch, sliding):
    images = torch.randn(2, 3, 29, 41)
    options = {"scales": (0.5, 1.0, 1.7), "flip": True, "sliding": sliding}
    whole = predict(network, images, (57, 33), **options)
    monkeypatch.setattr(inference, "BAND", 500)
    assert torch.equal(predict(network, images, (57, 33), **options), whole)


MEASURE = """
import torch
from network.inference import predict
torch.set_num_threads(1)
weight = torch.linspace(-1, 1, 64)[None, :, None, None]
network = lambda images: images[:, :1] * weight
images = torch.randn(1, 3, 512, 1024)
def peak():
    with open("/proc/self/status") as status:
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / (4 * 64 * 512 * 1024)
start = peak()
with torch.no_grad():
    for versions in (1, 2, 6):
        predict(network, images, (500, 1000), [1.0] * versions)
        print(peak() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_peak_memory_does_not_grow_with_the_versions():
    """In multiples of the logits: they themselves, and one sum of probabilities for all versions.

    A resized copy of all logits, or a softmax of them, would be one more each.
    """
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    one, two, six = map(float, done.stdout.split())
    assert 0.9 < one < 1.6
    assert two < 2.5
    assert six < two + 0.5


def test_a_strip_of_windows_holds_no_more_than_its_rows():
    images = torch.randn(1, 3, 64, 16)
    strips = list(slide(network, images, 16, 8))
    assert [strip.shape[2] for strip in strips] == [8, 8, 8, 8, 8, 8, 16]
    assert all(s.untyped_storage().nbytes() <= 4 * 3 * 16 * 16 for s in strips)


def test_one_version_is_the_plain_argmax():
    images = torch.randn(2, 3, 10, 13)
    assert torch.equal(predict(network, images, (10, 13)), network(images).argmax(1))
    larger = F.interpolate(network(images), (20, 26), mode="bilinear").argmax(1)
    assert torch.equal(predict(network, images, (20, 26)), larger)


def test_probabilities_of_scales_and_mirror_images_are_averaged():
    images = torch.randn(1, 3, 12, 16)
    total = torch.zeros(1, 3, 12, 16)
    for size in ((6, 8), (12, 16), (24, 32)):
        scaled = F.interpolate(images, size, mode="bilinear") if size != (12, 16) else images
        for mirrored in (False, True):
            view = scaled.flip(3) if mirrored else scaled
            logits = network(view)
            logits = logits.flip(3) if mirrored else logits
            total += F.interpolate(logits, (12, 16), mode="bilinear").softmax(1)
    predicted = predict(network, images, (12, 16), scales=(0.5, 1.0, 2.0), flip=True)
    assert torch.equal(predicted, total.argmax(1))


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


@pytest.mark.parametrize("scales, flip", [((1.0,), False), ((0.5, 1.0), True)])
def test_confidence_is_the_mean_probability_of_the_class_that_is_predicted(
    monkeypatch, scales, flip
):
    monkeypatch.setattr(inference, "BAND", 500)
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
    assert (labels == classes).float().mean() > 0.999
    torch.testing.assert_close(confidence.double(), expected, rtol=0, atol=1e-5)
