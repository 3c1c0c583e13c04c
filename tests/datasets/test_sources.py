"""Several sources: what a batch holds, whoever draws it, and what a sample depends on."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets import build_dataset
from datasets.sampling.centroids import ClassCentroids
from datasets.sampling.samplers import ClassUniformSampler, EqualParts, ProportionalParts
from datasets.sampling.source import common_label_space, open_source
from network.methods.mldg import MLDG, split_sources
from transforms import TrainTransform
from utils.errors import UserError

SIZES = (40, 7, 12)
CENTROIDS = [
    ClassCentroids(np.arange(n) % 7, np.full(n, float(c)), np.arange(n, dtype=np.float32))
    for c, n in enumerate([30, 3, 0])
]


def samplers(*place, sizes=SIZES):
    return [
        ClassUniformSampler(size, 0.5, CENTROIDS, 1, *(place or (0, 1, 0)), domain)
        for domain, size in enumerate(sizes)
    ]


def equal(rank=0, world_size=1, start=0, sizes=SIZES):
    return EqualParts(samplers(rank, world_size, start // len(sizes), sizes=sizes))


def proportional(rank=0, world_size=1, start=0, sizes=SIZES):
    return ProportionalParts(samplers(sizes=sizes), 1, rank, world_size, start)


def domain_of(key):
    return int(np.searchsorted(np.cumsum(SIZES), key[1], side="right"))


def test_equal_parts_take_sources_in_turn_each_with_epochs_of_its_own():
    keys = list(islice(equal(), 3 * 40))
    assert [domain_of(key) for key in keys] == [0, 1, 2] * 40
    assert [position for position, _, _ in keys] == list(range(120))
    for domain, size in enumerate(SIZES):
        own = keys[domain::3]
        alone = list(islice(samplers()[domain], 40))
        offset = sum(SIZES[:domain])
        assert [(index - offset, c) for _, index, c in own] == [(i, c) for _, i, c in alone]
        # Class-uniform in each: int(N · 0.5 / 3), and the rest in turn, for both classes there.
        drawn = [c[0] for _, _, c in own[:size] if c is not None]
        share, left = divmod(int(size / 2), 3)
        assert sorted(drawn) == [0.0] * (share + (left > 0)) + [1.0] * (share + (left > 1))


def test_sources_of_one_size_are_not_drawn_in_one_order():
    keys = list(islice(equal(sizes=(40, 40)), 80))
    assert [i for _, i, _ in keys[::2]] != [i - 40 for _, i, _ in keys[1::2]]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_step_has_the_same_samples_for_any_number_of_processes(world_size):
    """And each process has equal parts of it, also where domains and processes are both even."""
    sizes, step = (40, 7), 8
    alone = list(islice(equal(sizes=sizes), 5 * step))
    shares = [
        list(islice(equal(rank, world_size, sizes=sizes), 5 * step // world_size))
        for rank in range(world_size)
    ]
    each = step // world_size
    for number in range(5):
        parts = [share[number * each : (number + 1) * each] for share in shares]
        assert sorted(k for p in parts for k in p) == sorted(alone[number * step :][:step])
        for part in parts:
            assert sum(index < 40 for _, index, _ in part) == each // 2


@pytest.mark.parametrize("order, start", [(equal, 48), (proportional, 47)])
def test_start_continues(order, start):
    alone = list(islice(order(), 150))
    assert list(islice(order(start=start), 100)) == alone[start : start + 100]


def test_proportional_parts_are_one_epoch_of_each_source_in_random_order():
    keys = list(islice(proportional(), 2 * sum(SIZES)))
    assert [position for position, _, _ in keys] == list(range(2 * sum(SIZES)))
    for epoch in range(2):
        part = keys[epoch * sum(SIZES) :][: sum(SIZES)]
        for domain in range(3):
            offset = sum(SIZES[:domain])
            own = sorted((i - offset, c or ()) for _, i, c in part if domain_of((0, i)) == domain)
            expected = sorted((i, c or ()) for _, i, c in samplers()[domain].epoch(epoch))
            assert own == expected
    first = [domain_of(key) for key in keys[: sum(SIZES)]]
    assert first != sorted(first) and 0 in first[-20:] and 1 in first[:30]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_out_the_proportional_order(world_size):
    alone = list(islice(proportional(), 90))
    shares = [
        list(islice(proportional(rank, world_size), 90 // world_size)) for rank in range(world_size)
    ]
    assert [key for keys in zip(*shares, strict=True) for key in keys] == alone


@pytest.fixture
def opened(settings, miniature, tmp_path):
    """Return `opened(start=0, more, **overrides)` → (cfg, sources, sampler) of two sources."""

    def start(start=0, more=None, **overrides):
        cfg = settings(
            **{"DATASET__SOURCE": ["gtav", "synthia"], "DATASET__ROOT": str(miniature)} | overrides,
            DATASET__CACHE_DIR=str(tmp_path / "cache"), TRANSFORM__CROP_SIZE=[48, 64], WORKERS=0,
        )  # fmt: skip
        return cfg, *open_source(cfg, "cpu", start, **(more or {}))

    return start


@pytest.mark.parametrize("mixing", ["equal", "proportional"])
def test_a_sample_is_that_of_its_dataset_and_knows_its_domain(opened, mixing):
    cfg, sources, sampler = opened(DATASET__MIXING=mixing)
    keys = list(islice(sampler, 20))
    seen = set()
    for position, index, centroid in keys:
        sample = sources[position, index, centroid]
        domain = sample["domain"]
        own = index - (len(sources.datasets[0]) if domain else 0)
        options = {"transform": TrainTransform(cfg), "seed": cfg.SEED}
        dataset = build_dataset(cfg.DATASET.SOURCE[domain], "train", cfg, **options)
        expected = dataset[position, own, centroid]
        assert torch.equal(sample["image"], expected["image"])
        assert torch.equal(sample["label"], expected["label"])
        assert sample["index"] == index
        assert sources.files({"source": torch.tensor([index])}) == [dataset.image_paths[own]]
        seen.add(domain)
    assert seen == {0, 1} and len(sources) == 12
    assert sources.describe().startswith("GTAV (6 images) + SYNTHIA")


def test_one_source_is_what_it_was(opened):
    """Order and augmentation of a single source depend on nothing that several bring along."""
    cfg, sources, sampler = opened(DATASET__SOURCE=["gtav"])
    dataset = sources.datasets[0]
    own = ClassUniformSampler(6, 0.5, sampler.samplers[0].centroids, cfg.SEED)
    keys = list(islice(sampler, 15))
    assert keys == list(islice(own, 15))
    assert torch.equal(sources[keys[9]]["image"], dataset[keys[9]]["image"])
    proportional = opened(DATASET__SOURCE=["gtav"], DATASET__MIXING="proportional")[2]
    assert sorted(k[1] for k in islice(proportional, 6)) == sorted(k[1] for k in keys[:6])


def test_what_was_drawn_has_to_be_equal_parts(opened):
    with pytest.raises(UserError, match="7 samples were drawn so far, which are no equal parts"):
        opened(start=7)


def test_there_has_to_be_a_source(opened):
    with pytest.raises(UserError, match="DATASET.SOURCE names no dataset to train on"):
        opened(DATASET__SOURCE=[])


def test_label_spaces_agree_or_one_is_named(settings):
    both = {"DATASET__SOURCE": ["idd_lite", "gtav"]}
    with pytest.raises(UserError, match="IDD-Lite is annotated in idd_lite7 and GTAV in cityscap"):
        common_label_space(settings(**both))
    assert common_label_space(settings(DATASET__LABEL_SPACE="idd_lite7", **both)).name
    cfg = settings(DATASET__SOURCE=["gtav", "synthia", "idd"])
    assert common_label_space(cfg).name == "cityscapes19"


@pytest.mark.parametrize("kind", ["first", "test", "none"])
def test_some_images_have_strong_colours(opened, kind):
    """As MLDG says it of sources and steps; also in a run that is continued with another batch."""
    changes = {"METHOD": "mldg", "MLDG__STRONG_COLOURS": kind, "TRAIN__BATCH_SIZE": 4}
    changes |= {"TRANSFORM__JITTER_PROBABILITY": 0, "TRANSFORM__BLUR_PROBABILITY": 0}
    batches = {}
    for where, workers in (("device", 0), ("worker", 2)):
        cfg, *_ = opened(TRANSFORM__PHOTOMETRIC_ON=where, **changes)
        more = {"colours": MLDG.colours(cfg), "step": 3}
        _, sources, sampler = opened(8, more, TRANSFORM__PHOTOMETRIC_ON=where, **changes)
        loader = DataLoader(sources, 4, sampler=sampler, num_workers=workers)
        batches[where] = list(islice(loader, 12))
    found = set()
    for step, (batch, whole) in enumerate(zip(*batches.values(), strict=True), start=3):
        _, tested = split_sources(cfg.SEED, step, 2)
        strong = [{"first": d == 0, "test": d in tested, "none": False}[kind]
                  for d in batch["domain"].tolist()]  # fmt: skip
        assert (batch["photometric"][:, 0] >= 0).tolist() == strong
        finished = sources.finish(batch)["image"]
        assert torch.equal(finished, whole["image"])
        found |= {(d, s) for d, s in zip(batch["domain"].tolist(), strong, strict=True)}
    either = {(d, s) for d in (0, 1) for s in (True, False)}
    assert found == {"first": {(0, True), (1, False)}, "test": either,
                     "none": {(0, False), (1, False)}}[kind]  # fmt: skip


def test_strong_colours_are_stronger(opened):
    cfg, *_ = opened(METHOD="mldg")
    jitter = TrainTransform(cfg, colours=MLDG.colours(cfg)).photometric
    assert jitter.jitter_probability == 1 and jitter.blur_probability == 1
    assert tuple(jitter.jitter.brightness) == pytest.approx((0.2, 1.8))
    assert tuple(jitter.jitter.hue) == pytest.approx((-0.3, 0.3))
    cfg.MLDG.JITTER = [0.1, 0.1, 0.1, 0.6]
    with pytest.raises(UserError, match="MLDG.JITTER has hue 0.6; it goes from 0 to 0.5"):
        TrainTransform(cfg, colours=MLDG.colours(cfg))


def test_a_source_twice(opened):
    with pytest.raises(UserError, match="DATASET.SOURCE names gtav twice"):
        opened(DATASET__SOURCE=["gtav", "gtav"])
    twice = {"DATASET__SOURCE": ["gtav", "gtav"], "DATASET__SAMPLING": "random"}
    _, sources, sampler = opened(more={"repeats": True}, **twice)
    keys = list(islice(sampler, 24))
    samples = [sources[key] for key in keys]
    assert [s["domain"] for s in samples] == [0, 1] * 12
    halves = [[k[1] % 6 for k in keys[d::2]] for d in (0, 1)]
    assert all(sorted(half[:6]) == list(range(6)) for half in halves) and halves[0] != halves[1]
    same = [(a, b) for a in samples[::2] for b in samples[1::2] if a["index"] == b["index"] - 6]
    assert same and not any(torch.equal(a["image"], b["image"]) for a, b in same)
