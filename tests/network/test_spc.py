"""SPC: every formula against a loop in float64, and how its bases move, also over processes."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from network.build import build_method
from network.checkpoint import load_checkpoint
from network.methods.spc import SemanticClustering, StyleProjection, UnitEmbedding, unit
from tests.test_distributed import in_processes
from utils.engine.optimization import build_optimizer
from utils.export.__main__ import export
from utils.settings import flatten

SOURCES = ["gtav", "synthia", "idd"]


@pytest.fixture
def build(settings):
    def make(**overrides):
        overrides = {"METHOD": "spc", "DATASET__LABEL_SPACE": "cityscapes19"} | overrides
        return build_method(settings(SPC__EMBEDDING=12, **overrides))[0].train()

    return make


def style_loop(image):
    """Mean and deviation of each channel of one image `[C, h, w]`."""
    values = []
    for channel in image.double():
        mean = sum(channel.flatten().tolist()) / channel.numel()
        variance = sum((v - mean) ** 2 for v in channel.flatten().tolist()) / channel.numel()
        values.append((mean, (variance + 1e-6) ** 0.5))
    return torch.tensor(values, dtype=torch.float64).T  # [2, C]


def distances_loop(image, bases, distance):
    """`d_m` of one image to bases `[M, 2, C]`."""
    mean, std = style_loop(image)
    found = []
    for base_mean, base_std in bases:
        squares = (mean - base_mean) ** 2 + (std - base_std) ** 2
        found.append(squares.mean() if distance == "mean" else squares.sum())
    return torch.stack(found)


def projection(distance="mean", channels=5, number=3):
    module = StyleProjection(channels, number, distance, 0.9).double()
    module.bases.copy_(torch.rand_like(module.bases) + 0.5)
    return module


@pytest.mark.parametrize("distance", ["mean", "sum"])
def test_projection(distance):
    module = projection(distance)
    bases = module.bases.view(3, 2, 5)
    x = (3 * torch.randn(4, 5, 6, 7).double() + 1).requires_grad_()
    projected = module(x)
    for image, result in zip(x, projected, strict=True):
        weights = torch.exp(1 / (1 + distances_loop(image.detach(), bases, distance)))
        weights = weights / weights.sum()
        new_mean, new_std = sum(w * base for w, base in zip(weights, bases, strict=True))
        mean, std = style_loop(image.detach())
        for c in range(5):
            expected = new_std[c] * (image[c] - mean[c]) / std[c] + new_mean[c]
            torch.testing.assert_close(result[c], expected, rtol=1e-12, atol=1e-12)
    # Styles are detached: the gradient is that of the affine map alone.
    projected.sum().backward()
    slope = (projected - projected.mean((2, 3), keepdim=True)) / (x - x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(x.grad, slope.detach(), rtol=1e-9, atol=1e-9)


def test_projection_of_a_constant_channel_and_in_bfloat16():
    module = projection().float()
    x = torch.randn(2, 5, 6, 7)
    x[:, 2] = 4.0
    projected = module(x)
    assert torch.isfinite(projected).all()
    half = module(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), projected, rtol=0.05, atol=0.05)


def test_bases_start_as_published(build):
    method = build(DATASET__SOURCE=SOURCES)
    for i in (0, 1):
        bases = method.styles[f"layer{i}"].bases
        mean, std = bases.chunk(2, dim=1)
        assert bases.shape == (3, 2 * method.trunk.channels[i])
        assert (std == 1).all() and 0 < mean.abs().mean() < 0.05
    bases = method.decoder.classifier.bases
    assert bases.shape == (19, 3, 12)
    torch.testing.assert_close(bases.norm(dim=-1), torch.ones(19, 3))
    assert build(DATASET__SOURCE=["gtav"]).decoder.classifier.bases.shape == (19, 10, 12)
    assert build(SPC__BASES=4).decoder.classifier.bases.shape == (19, 4, 12)


def test_embedding_and_scores():
    embedding = UnitEmbedding(6, 4).double()
    embedding.norm.weight.data.uniform_(0.5, 2)
    embedding.norm.bias.data.uniform_(-1, 1)
    clustering = SemanticClustering(3, 2, 4, 0.999).double()
    clustering.norm.weight.data.uniform_(0.5, 2)
    x = torch.randn(2, 6, 3, 5).double()
    e = embedding(x)
    scores = clustering(e)
    first, _, second = embedding.layers
    for b, i, j in [(0, 0, 0), (1, 2, 4), (0, 1, 3)]:
        hidden = (first.weight[:, :, 0, 0] @ x[b, :, i, j] + first.bias).clamp_min(0)
        v = second.weight[:, :, 0, 0] @ hidden + second.bias
        v = v / v.square().sum().sqrt()
        v = (v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt()
        v = v * embedding.norm.weight + embedding.norm.bias
        v = v / v.square().sum().sqrt()
        torch.testing.assert_close(e[b, :, i, j], v, rtol=1e-12, atol=1e-12)
        best = torch.stack([max(v @ clustering.bases[c, m] for m in range(2)) for c in range(3)])
        s = (best - best.mean()) / (best.var(correction=0) + 1e-5).sqrt()
        s = s * clustering.norm.weight + clustering.norm.bias
        torch.testing.assert_close(scores[b, :, i, j], s, rtol=1e-12, atol=1e-12)


def test_a_vector_without_a_direction_gets_no_huge_gradient():
    v = torch.zeros(2, 3, requires_grad=True)
    unit(v).sum().backward()
    assert (v.grad.abs() <= 1).all()
    torch.testing.assert_close(unit(torch.tensor([3e-5, 4e-5])), torch.tensor([0.6, 0.8]))


def pixels_by_slot(clustering, embedding, labels, domain):
    """{(class, basis): [embeddings]}, by domain or by the nearest basis of the class."""
    found = {}
    number = clustering.bases.shape[1]
    for b, h, w in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        c = labels[b, h, w].item()
        if c == 255:
            continue
        e = embedding[b, :, h, w]
        if domain is None:
            m = max(range(number), key=lambda m: (e @ clustering.bases[c, m]).item())
        else:
            m = domain[b].item()
        found.setdefault((c, m), []).append(e)
    return found


def loss_loop(clustering, found, temperature):
    """L_var and L_dis from the pixels of each basis."""
    classes, number, _ = clustering.bases.shape
    variance = discrimination = 0
    for (c, m), own in found.items():
        variance += sum((1 - e @ clustering.bases[c, m]) ** 2 for e in own) / len(own)
        mean = sum(own) / len(own)
        mean = mean / mean.square().sum().sqrt()
        positive = sum(mean @ clustering.bases[c, k] for k in range(number)) / number
        logits = [positive] + [
            mean @ clustering.bases[other, k]
            for other in range(classes)
            if other != c
            for k in range(number)
        ]
        logits = torch.stack(logits) / temperature
        discrimination += F.cross_entropy(logits[None], torch.tensor([0]))
    total = classes * number
    return variance / total, discrimination / total


@pytest.fixture
def clustered():
    """A module of 4 classes and 3 bases, unit embeddings, labels with void and an absent class."""
    clustering = SemanticClustering(4, 3, 6, 0.999).double()
    embedding = F.normalize(torch.randn(4, 6, 5, 4).double(), dim=1).requires_grad_()
    labels = torch.tensor([0, 1, 3, 255])[torch.randint(0, 4, (4, 5, 4))]
    return clustering, embedding, labels


@pytest.mark.parametrize("domain", [torch.tensor([0, 2, 0, 2]), None])
def test_losses(clustered, domain):
    clustering, embedding, labels = clustered
    found = pixels_by_slot(clustering, embedding, labels, domain)
    assert 5 < len(found) < 12
    expected = loss_loop(clustering, found, 0.1)
    # The labels are larger than the embedding by two, nearest pixels count.
    large = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    losses = clustering.losses(embedding, large, domain, 0.1)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(sum(x), embedding)[0] for x in (losses, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert not clustering.bases.requires_grad


@pytest.mark.parametrize("domain", [torch.tensor([0, 2, 0, 2]), None])
def test_semantic_bases_move_to_the_mean_directions(clustered, domain):
    clustering, embedding, labels = clustered
    before = clustering.bases.clone()
    found = pixels_by_slot(clustering, embedding.detach(), labels, domain)
    clustering.losses(embedding, labels, domain, 0.1)
    clustering.update(clustering.pending)
    for c in range(4):
        for m in range(3):
            expected = before[c, m]
            if (c, m) in found:
                mean = sum(found[c, m]) / len(found[c, m])
                expected = 0.999 * expected + 0.001 * mean / mean.norm()
                expected = expected / expected.norm()
            torch.testing.assert_close(clustering.bases[c, m], expected, rtol=1e-13, atol=1e-13)
    absent = torch.equal(clustering.bases[2], before[2])
    assert absent and not torch.equal(clustering.bases[0], before[0])
    assert (clustering.pending == 0).all()


@pytest.mark.parametrize("domain", [torch.tensor([2, 0, 2, 2]), None])
def test_style_bases_move_to_the_mean_styles(domain):
    module = projection()
    before = module.bases.clone().view(3, 2, 5)
    x = torch.randn(4, 5, 6, 7).double()
    module.observe(x, domain)
    module.update(module.pending)
    owner = domain
    if domain is None:
        owner = torch.tensor([distances_loop(i, before, "mean").argmin() for i in x])
    for m in range(3):
        own = [style_loop(image) for image, o in zip(x, owner, strict=True) if o == m]
        expected = 0.9 * before[m] + 0.1 * sum(own) / len(own) if own else before[m]
        torch.testing.assert_close(module.bases[m].view(2, 5), expected, rtol=1e-13, atol=1e-13)


def test_unit_length_is_kept(clustered):
    clustering = clustered[0].float()
    domain = torch.tensor([0, 2, 1, 1])
    for _ in range(300):
        embedding = F.normalize(torch.randn(4, 6, 5, 4), dim=1)
        clustering.losses(embedding, clustered[2], domain, 0.1)
        clustering.update(clustering.pending)
    torch.testing.assert_close(clustering.bases.norm(dim=-1), torch.ones(4, 3), rtol=0, atol=1e-6)


def domain_batch(domains):
    generator = torch.Generator().manual_seed(1)
    number = len(domains)
    images = torch.randn(number, 3, 64, 64, generator=generator).double()
    images += torch.tensor(domains).view(-1, 1, 1, 1)
    labels = torch.randint(0, 5, (number, 8, 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :8] = 255
    return {"image": images, "label": labels, "domain": torch.tensor(domains), "step": 0}


def bases_after_a_step(cfg, shares, passes, rank, world_size):
    """Return all bases of all processes after one step on a batch of which each process has its
    share of the images, in passes. Batch norms use their running statistics."""
    torch.manual_seed(0)
    method, _ = build_method(cfg)
    method.double().train()
    for module in method.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    whole = domain_batch([0, 1, 0, 1, 0, 0])
    for part in torch.tensor(shares[rank]).chunk(passes):
        method({k: v[part] if torch.is_tensor(v) else v for k, v in whole.items()})
    method.after_step(0)
    bases = torch.cat([v.flatten() for v in method.bases().values()])
    every = [torch.empty_like(bases) for _ in range(world_size)]
    if world_size > 1:
        dist.all_gather(every, bases)
    else:
        every = [bases]
    return torch.stack(every)


@pytest.mark.parametrize("sources", [SOURCES, ["gtav"]])
def test_processes_and_passes_move_bases_as_one_would(settings, tmp_path, sources):
    """Two processes; the second has only images of domain 0, and no image is of domain 2."""
    cfg = settings(METHOD="spc", SPC__EMBEDDING=12, DATASET__LABEL_SPACE="cityscapes19",
                   DATASET__SOURCE=sources, SPC__BASES=3)  # fmt: skip
    alone = bases_after_a_step(cfg, [[0, 1, 2, 3, 4, 5]], 1, 0, 1)[0]
    torch.manual_seed(0)
    method = build_method(cfg)[0].double().eval()
    before = torch.cat([v.flatten() for v in method.bases().values()])
    assert (alone - before).abs().max() > 1e-3
    passes = bases_after_a_step(cfg, [[0, 1, 2, 3, 4, 5]], 3, 0, 1)[0]
    shares = [[0, 1, 2, 3], [4, 5]]
    both = in_processes(2, tmp_path, bases_after_a_step, cfg, shares, 1)
    assert torch.equal(both[0], both[1])
    for other in (passes, both[0]):
        torch.testing.assert_close(other, alone, rtol=1e-11, atol=1e-13)

    # By hand: the style bases after layer 0.
    features = method.features(domain_batch([0, 1, 0, 1, 0, 0])["image"])[0]
    own, moved = method.styles["layer0"].bases, both[0]
    expected = own.clone()
    owner = [0, 1, 0, 1, 0, 0]
    if len(sources) == 1:
        first = own.view(3, 2, -1)
        owner = [distances_loop(i, first, "mean").argmin().item() for i in features]
    for m in range(3):
        members = [style_loop(f).flatten() for f, o in zip(features, owner, strict=True) if o == m]
        if members:
            expected[m] = 0.9 * own[m] + 0.1 * torch.stack(members).mean(0)
    torch.testing.assert_close(moved[: own.numel()].view_as(own), expected, rtol=1e-10, atol=1e-12)
    if len(sources) > 1:
        assert torch.equal(moved[: own.numel()].view_as(own)[2], own[2]), "no sample, no change"


def test_the_low_level_feature_is_the_one_before_the_projection(build):
    method = build(DATASET__SOURCE=SOURCES).eval()
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        f0 = method.trunk.layer0(images)
        f1 = method.trunk.layer1(method.styles["layer0"](f0))
        deep = method.trunk(method.styles["layer1"](f1), start=2)
        expected = method.decoder({1: f1, 3: deep[3], 4: deep[4]}, images.shape[-2:]).logits
        torch.testing.assert_close(method(images), expected)


def test_losses_by_name_weights_and_no_auxiliary_head(build, batch):
    method = build(DATASET__SOURCE=SOURCES)
    plain = method(batch)
    assert set(plain) == {"ce", "variance", "discrimination"}
    assert not hasattr(method.decoder, "dsn")
    weights = {"SPC__CE_WEIGHT": 2.0, "SPC__VARIANCE_WEIGHT": 0.5, "SPC__DISCRIMINATION_WEIGHT": 0}
    other = build(DATASET__SOURCE=SOURCES, **weights)
    other.load_state_dict(method.state_dict())
    weighted = other(batch)
    assert set(weighted) == {"ce", "variance"}
    torch.testing.assert_close(weighted["ce"], 2 * plain["ce"])
    torch.testing.assert_close(weighted["variance"], 0.5 * plain["variance"])
    assert "aux" in build(DECODER__AUX_WEIGHT=0.4)(batch)


@pytest.mark.parametrize("sources", [SOURCES, ["gtav"]])
def test_a_crop_without_labels(build, batch, sources):
    method = build(DATASET__SOURCE=sources)
    before = method.decoder.classifier.bases.clone()
    losses = method(batch | {"label": torch.full((2, 64, 80), 255)})
    sum(losses.values()).backward()
    method.after_step(0)
    assert all(value == 0 for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    assert torch.equal(method.decoder.classifier.bases, before)


def test_inference_moves_nothing(build):
    method = build().eval()
    before = copy.deepcopy(method.state_dict())
    method(torch.randn(2, 3, 64, 80))
    method.after_step(0)
    after = method.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not any("pending" in key for key in after)


def test_training_learns_and_the_export_holds_all_bases(build, settings, batch, tmp_path):
    options = {"METHOD": "spc", "DATASET__LABEL_SPACE": "cityscapes19", "SPC__EMBEDDING": 12}
    cfg = settings(DATASET__SOURCE=["gtav", "synthia"], **options)
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    totals = []
    for step in range(25):
        method.train()
        losses = method(batch)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step)
        totals.append(losses["ce"].item())
    assert totals[-1] < 0.8 * totals[0]
    state = {"settings": flatten(cfg), "step": 25, "method": method.state_dict()}
    torch.save(state, tmp_path / "last.pth")
    export(tmp_path / "last.pth", tmp_path / "network.safetensors")
    exported = load_checkpoint(tmp_path / "network.safetensors")
    loaded, _ = build_method(cfg, exported)
    images = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), method.eval()(images))
