import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.decoders.decoder import LogitDecoder
from network.self_training.boxes import Box, draw_box, window_spans
from network.self_training.mixing import paste
from network.self_training.teacher import EMATeacher
from network.self_training.views import MultiScale, SingleScale, fuse
from network.trunks import build_trunk
from tests.network.toy_trunks import PatchTrunk
from utils.errors import UserError

K = 5


class Linear(LogitDecoder):
    """A classifier of layer 1."""

    def __init__(self, trunk):
        super().__init__(trunk)
        self.projection, self.classifier = nn.Identity(), nn.Conv2d(trunk.channels[1], K, 1)

    def embed(self, features):
        return features[1]


class Attention(nn.Module):
    def __init__(self, trunk):
        super().__init__()
        self.conv = nn.Conv2d(trunk.channels[2], K, 1)

    def forward(self, features):
        return F.interpolate(self.conv(features[2]), features[1].shape[-2:], mode="bilinear")


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, features):
        return torch.full_like(features[1][:, :1], self.value)


@pytest.fixture
def parts():
    """In evaluation mode: no image knows of another."""
    trunk = build_trunk("resnet_mini", 16, "none")
    parts = {"trunk": trunk, "decoder": Linear(trunk), "attention": Attention(trunk)}
    return nn.ModuleDict(parts).double().eval()


@pytest.fixture
def batch():
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    labels = torch.randint(0, K, (2, 64, 96))
    labels[0, :9] = 255
    return images, labels, torch.rand(2, 64, 96, dtype=torch.float64)


def logits_of(parts, images, part="decoder"):
    features = parts["trunk"](images)
    if part == "attention":
        return parts[part](features)
    return parts[part](features, images.shape[-2:]).small


def enlarge(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def fused_plainly(parts, images, attention, detail):
    """`detail` `[B, K, h, w]` at stride 4; attention 0 where it is to be left out."""
    context = logits_of(parts, enlarge(images, [side // 2 for side in images.shape[-2:]]))
    size = detail.shape[-2:]
    return enlarge((1 - attention) * context, size) + enlarge(attention, size) * detail


def context_attention(parts, images):
    half = enlarge(images, [side // 2 for side in images.shape[-2:]])
    return 1 / (1 + torch.exp(-logits_of(parts, half, "attention")))


def weighted_entropy(logits, labels, weight):
    """Σ w CE over all pixels, by their number."""
    total = 0
    logs = enlarge(logits, labels.shape[-2:]).log_softmax(1)
    for c in range(K):
        total = total - (logs[:, c] * weight * (labels == c)).sum()
    return total / labels.numel()


def test_a_box_of_details_and_both_losses(parts, batch):
    images, labels, weight = batch
    view = MultiScale((32, 48), stride=4)
    boxes = set()
    for seed in range(3):
        torch.manual_seed(seed)
        seen = view.train(parts, images)
        top, left, height, width = seen.box
        boxes.add(seen.box)
        assert (height, width) == (32, 48) and top % 8 == left % 8 == 0
        own = logits_of(parts, images[:, :, top : top + 32, left : left + 48])
        attention = context_attention(parts, images)
        detail = torch.zeros(2, K, 16, 24, dtype=torch.float64)
        masked = torch.zeros_like(attention)
        for i in range(16):
            for j in range(24):
                if top <= 4 * i < top + 32 and left <= 4 * j < left + 48:
                    detail[:, :, i, j] = own[:, :, i - top // 4, j - left // 4]
        for i in range(8):
            for j in range(12):
                if top <= 8 * i < top + 32 and left <= 8 * j < left + 48:
                    masked[:, :, i, j] = attention[:, :, i, j]
        expected = fused_plainly(parts, images, masked, detail)
        torch.testing.assert_close(seen.decoded.small, expected)
        assert seen.images.shape[-2:] == (32, 48) and seen.features[1].shape[-2:] == (8, 12)

        losses = view.losses(parts, seen, labels, weight)
        cropped = [x[:, top : top + 32, left : left + 48] for x in (labels, weight)]
        plain = {
            "ce": 0.9 * weighted_entropy(expected, labels, weight),
            "detail_ce": 0.1 * weighted_entropy(own, *cropped),
        }
        torch.testing.assert_close(losses, plain)
        parameters = list(parts.parameters())
        gradients = [
            torch.autograd.grad(sum(x.values()), parameters, allow_unused=True)
            for x in (losses, plain)
        ]
        torch.testing.assert_close(*gradients)
    assert len(boxes) > 1


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (24, 90)])
def test_details_in_windows(parts, size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    height, width = (-(-side // 8) * 8 for side in size)
    padded = torch.zeros(2, 3, height, width, dtype=torch.float64)
    padded[:, :, : size[0], : size[1]] = images
    found = {}
    tall = min(32, height)
    for top in sorted({*range(0, height - tall + 1, tall // 2), height - tall}):
        for left in sorted({*range(0, width - 48 + 1, 24), width - 48}):
            own = logits_of(parts, padded[:, :, top : top + tall, left : left + 48])
            for i in range(own.shape[2]):
                for j in range(own.shape[3]):
                    found.setdefault((top // 4 + i, left // 4 + j), []).append(own[:, :, i, j])
    detail = torch.zeros(2, K, height // 4, width // 4, dtype=torch.float64)
    for (i, j), several in found.items():
        detail[:, :, i, j] = sum(several) / len(several)
    expected = fused_plainly(parts, padded, context_attention(parts, padded), detail)
    expected = enlarge(expected, (height, width))[:, :, : size[0], : size[1]]
    logits = MultiScale((32, 48), stride=4).predict(parts, images)
    torch.testing.assert_close(logits, expected)


@torch.no_grad()
def test_attention_to_details_alone_and_to_none(parts, batch):
    images = batch[0]
    whole = MultiScale((64, 96), stride=4)
    parts["attention"] = Constant(1e3)
    seen = whole.train(parts, images)
    assert seen.box == (0, 0, 64, 96)
    torch.testing.assert_close(seen.decoded.small, logits_of(parts, images), rtol=0, atol=0)
    alone = SingleScale().predict(parts, images)
    torch.testing.assert_close(whole.predict(parts, images), alone, rtol=0, atol=1e-15)
    parts["attention"] = Constant(-1e3)
    context = enlarge(logits_of(parts, enlarge(images, (32, 48))), (16, 24))
    torch.testing.assert_close(whole.train(parts, images).decoded.small, context)


@pytest.mark.parametrize("view", [SingleScale(), MultiScale((32, 48), stride=4)])
def test_no_confidence_and_a_mask_of_everything(parts, batch, view):
    images, labels, _ = batch
    parts.train()
    seen = view.train(parts, images)
    losses = view.losses(parts, seen, labels, torch.zeros(2, 64, 96, dtype=torch.float64))
    gradients = torch.autograd.grad(
        sum(losses.values()), list(parts.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(loss == 0 for loss in losses.values())
    # Deep layers have no part in what these toys compute.
    used = [gradient for gradient in gradients if gradient is not None]
    assert len(used) > 5 and not any(gradient.any() for gradient in used)
    # The loss of a mix that is all source is the source's, whatever q is.
    everything = torch.ones(2, 64, 96, dtype=torch.bool)
    q = torch.full((2, 64, 96), 0.3, dtype=torch.float64)
    mixed = paste(everything, labels, torch.zeros_like(labels)), paste(everything, 1.0, q)
    assert view.losses(parts, seen, *mixed) == view.losses(parts, seen, labels, torch.ones_like(q))


@torch.no_grad()
def test_single_scale_pads_to_the_multiple():
    trunk = PatchTrunk(16, (False,) * 4)
    parts = nn.ModuleDict({"trunk": trunk, "decoder": Linear(trunk)})
    images = torch.randn(2, 3, 40, 33)
    expected = SingleScale().predict(parts, F.pad(images, (0, 15, 0, 8)))
    assert torch.equal(SingleScale().predict(parts, images), expected[:, :, :40, :33])
    view = MultiScale((32, 32), stride=16, multiple=16)
    parts["attention"] = Constant(0.0)
    assert view.predict(parts, images).shape == (2, K, 40, 33)


@torch.no_grad()
@pytest.mark.parametrize("view", [SingleScale(), MultiScale((32, 48), stride=4)])
def test_teacher_without_memory_predicts_as_the_student(parts, batch, view):
    teacher = EMATeacher(parts)
    for parameter in parts.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    teacher.update(parts, 5, alpha=0.0)
    own = view.predict(parts.train(), batch[0])
    assert torch.equal(view.predict(teacher.parts, batch[0]), own)


def test_put_and_crop_are_inverse():
    box = Box(2, 3, 4, 5)
    x = torch.randn(2, 3, 4, 5)
    whole = box.put(x, (7, 9))
    assert torch.equal(box.crop(whole), x)
    assert whole.shape == (2, 3, 7, 9) and whole.count_nonzero() == x.numel()
    assert torch.equal(box.put(box.crop(whole), (7, 9)), whole)
    assert Box(16, 24, 32, 48).divided(8) == (2, 3, 4, 6)


def test_boxes_of_the_published_sizes():
    offsets = torch.tensor([draw_box((512, 512), (1024, 1024), 8)[:2] for _ in range(1500)])
    assert sorted(set(offsets.flatten().tolist())) == list(range(0, 505, 8))
    assert (offsets[:, 0] != offsets[:, 1]).any()
    assert draw_box((512, 512), (256, 516), 8) == (0, 0, 256, 512)
    starts = [
        window_spans(*sides, "cpu")[:, 0].tolist() for sides in ((512, 1024), (32, 40), (48, 48))
    ]
    assert starts == [[0, 256, 512], [0, 8], [0]]


def test_fusion_is_wide_under_autocast(parts, batch):
    parts.float()
    images = batch[0].float()
    view = MultiScale((32, 48), stride=4)
    with torch.autocast("cpu", torch.bfloat16):
        assert logits_of(parts, images).dtype == torch.bfloat16
        assert view.train(parts, images).decoded.small.dtype == torch.float32
        assert view.predict(parts, images).dtype == torch.float32
    low = torch.zeros(1, K, 2, 2, dtype=torch.bfloat16)
    assert fuse(low, torch.zeros(1, 1, 2, 2), enlarge(low, (4, 4))).dtype == torch.float32


def test_sizes_that_do_not_fit(parts):
    with pytest.raises(UserError, match="HRDA.DETAIL 30,48 is no multiple of 8.* is 32,48"):
        MultiScale((30, 48), stride=4)
    with pytest.raises(UserError, match="CROP_SIZE 65,96 is no multiple of 8.* is 72,96"):
        MultiScale((32, 48), stride=4).train(parts, torch.zeros(1, 3, 65, 96).double())
