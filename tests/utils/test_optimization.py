"""How a batch is split, the two learning rates and their decay."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn
from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2GRN
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from network.build import build_method
from network.methods import method_class
from utils.engine.optimization import (
    BatchPlan,
    build_optimizer,
    clip_gradients,
    decay_at,
    plan_batch,
    rates_at,
    refuse_passes,
    refuse_single_images,
    restore_optimizer,
    set_rates,
    without_decay,
)
from utils.engine.runtime import Runtime
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


@pytest.mark.parametrize(
    "batch, most, processes, expected",
    [
        (8, 4, 2, (4, 1)),
        (8, 4, 1, (4, 2)),
        (8, 4, 8, (1, 1)),
        (9, 3, 1, (3, 3)),
        (9, 4, 1, (3, 3)),
        (6, 4, 1, (3, 2)),
        (7, 4, 1, (1, 7)),
    ],
)
def test_the_effective_batch_is_kept(batch, most, processes, expected):
    plan = plan_batch(batch, most, processes)
    assert plan == expected
    assert plan.images * plan.passes * processes == batch


def test_an_impossible_split_names_what_works():
    with pytest.raises(UserError, match="8 cannot be split over 3 processes; start 1, 2, 4, 8,"):
        plan_batch(8, 4, 3)


@pytest.mark.parametrize(
    "batch, most, processes, domains, expected",
    [
        (24, 12, 2, 3, (12, 1)),
        (24, 12, 1, 3, (12, 2)),
        (24, 8, 2, 3, (6, 2)),
        (16, 4, 1, 2, (4, 4)),
        (6, 4, 1, 3, (3, 2)),
        (8, 3, 2, 2, (2, 2)),
    ],
)
def test_every_pass_has_equal_parts_of_the_sources(batch, most, processes, domains, expected):
    plan = plan_batch(batch, most, processes, domains)
    assert plan == expected
    assert plan.images % domains == 0 and plan.images * plan.passes * processes == batch


@pytest.mark.parametrize(
    "batch, most, processes, domains, message",
    [
        (8, 4, 1, 3, "8 holds no equal parts of 3 source domains; set a multiple of 3 such as 9,"),
        (
            12,
            6,
            4,
            2,
            "12 cannot be split over 4 processes with equal parts of 2 .* start 1, 2, 3, 6",
        ),
        (12, 2, 1, 3, "BATCH_PER_PROCESS 2 has no room for an image of each of 3 source domains"),
    ],
)
def test_unequal_parts_are_refused(batch, most, processes, domains, message):
    with pytest.raises(UserError, match=message):
        plan_batch(batch, most, processes, domains)


def test_rates_of_encoder_and_decoder_decay_polynomially(settings):
    cfg = settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19", TRAIN__MAX_ITER=100)
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    rates = {}
    for step in (0, 50, 99):
        set_rates(optimizer, rates_at(step, cfg), decay_at(step, cfg))
        rates[step] = {g["name"]: g["lr"] for g in optimizer.param_groups}
    assert rates[0] == {"trunk": 0.005, "decoder": 0.01}
    assert rates[50]["trunk"] == pytest.approx(0.005 * 0.5**0.9)
    assert rates[99]["decoder"] == pytest.approx(0.01 * 0.01**0.9)
    trunk = {id(p) for p in method.trunk.parameters()}
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == trunk
    assert all(g["weight_decay"] == 5e-4 for g in optimizer.param_groups)
    assert isinstance(optimizer, torch.optim.SGD)


def test_rates_rise_from_a_millionth_and_fall_to_nothing(settings):
    """The recipe of MiT: `base · (1 − t/T) · (1 − (1 − t/1500)(1 − 1e-6))`, exactly."""
    cfg = settings(METHOD="baseline", TRUNK__NAME="mit_mini", TRAIN__MAX_ITER=40000, **SPACE)
    optimizer = build_optimizer(build_method(cfg)[0], cfg)
    for step in (0, 1, 749, 1499, 1500, 1501, 20000, 39999):
        set_rates(optimizer, rates_at(step, cfg), decay_at(step, cfg))
        factor = 1 - Fraction(step, 40000)
        if step < 1500:
            factor *= 1 - (1 - Fraction(step, 1500)) * (1 - Fraction(1, 10**6))
        for group in optimizer.param_groups:
            base = Fraction(6, 10**5) if group["name"] == "trunk" else Fraction(6, 10**4)
            assert group["lr"] == pytest.approx(float(base * factor), rel=1e-9)


def test_the_exponential_schedule_has_a_span_of_its_own(settings):
    """`0.01 · exp(−9 t / 120000)`, whatever MAX_ITER: a tenth after 30 463 steps."""
    changes = {"TRAIN__SCHEDULE": "exp", "TRAIN__LR_ENCODER": 0.01, "TRAIN__MAX_ITER": 30463}
    cfg = settings(METHOD="baseline", **changes)
    for step in (0, 1, 15000, 30462):
        rates = rates_at(step, cfg)
        assert set(rates) == {"trunk", "decoder", "other"}
        expected = 0.01 * math.exp(-9 * step / 120_000)
        assert list(rates.values()) == pytest.approx([expected] * 3, rel=1e-12)
    assert rates["trunk"] == pytest.approx(0.00102, rel=3e-3)


def test_weight_decay_goes_to_its_end_by_half_a_cosine(settings):
    """SoMA's, against what torch's cosine makes of a rate; what is spared stays at 0."""
    ends = {"TRAIN__WEIGHT_DECAY": 0.05, "TRAIN__WEIGHT_DECAY_END": 1e-5, "TRAIN__MAX_ITER": 100}
    cfg = settings(
        METHOD="baseline", TRUNK__NAME="mit_mini", TRAIN__OPTIMIZER="sgd", **ends, **SPACE
    )
    optimizer = build_optimizer(build_method(cfg)[0], cfg)
    rate = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.05)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(rate, 100, 1e-5)
    for step in range(100):
        set_rates(optimizer, rates_at(step, cfg), decay_at(step, cfg))
        decays = {g["spared"]: g["weight_decay"] for g in optimizer.param_groups}
        assert decays == {True: 0, False: pytest.approx(cosine.get_last_lr()[0], rel=1e-9)}
        rate.step()
        cosine.step()
    assert (decay_at(0, cfg), decay_at(100, cfg)) == (0.05, 1e-5)


def test_weight_decay_stays_without_an_end(settings):
    cfg = settings(METHOD="baseline", TRAIN__MAX_ITER=100)
    assert {decay_at(step, cfg) for step in range(100)} == {5e-4}
    cfg = settings(METHOD="baseline", TRAIN__WEIGHT_DECAY_END=-0.5)
    with pytest.raises(UserError, match="END is -0.5; set 0 or more, or -1 for a decay that stays"):
        decay_at(0, cfg)


def test_a_step_of_several_passes_is_refused_where_it_is_another_algorithm(settings):
    cfg = settings(METHOD="mldg", DATASET__SOURCE=["gtav", "synthia"], **SPACE)
    plan = plan_batch(8, 4, 1, 2)
    message = "TRAIN.BATCH_SIZE 8 makes 2 passes of 4 images; set TRAIN.BATCH_PER_PROCESS to 8, "
    with pytest.raises(UserError, match=f"--method mldg .* {message}.* MLDG.EACH_PASS on"):
        refuse_passes(plan, method_class("mldg"), cfg)
    refuse_passes(plan_batch(8, 8, 1, 2), method_class("mldg"), cfg)
    cfg.MLDG.EACH_PASS = True
    refuse_passes(plan, method_class("mldg"), cfg)
    refuse_passes(plan, method_class("baseline"), settings(METHOD="baseline"))


@pytest.mark.parametrize(("method", "decoder", "images", "refused"), [
    ("baseline", "deeplabv3plus", 1, "cannot train on one; .* into passes of 2 or more"),
    ("mldg", "deeplabv3plus", 3, "cannot train on one of each source; .* passes of 4 or more"),
    ("baseline", "daformer", 1, ""), ("mldg", "daformer", 2, ""), ("mldg", "deeplabv3plus", 4, ""),
])  # fmt: skip
def test_images_that_are_seen_at_once(settings, method, decoder, images, refused):
    cfg = settings(METHOD=method, DECODER__NAME=decoder, DATASET__SOURCE=["gtav", "synthia"])
    arguments = BatchPlan(images, 1), method_class(method), cfg
    several = [Runtime(torch.device(kind), 0, 2, "float32") for kind in ("cpu", "cuda")]
    if refused:
        with pytest.raises(UserError, match=refused):
            refuse_single_images(*arguments, several[0])
    else:
        refuse_single_images(*arguments, several[0])
    refuse_single_images(*arguments, several[1])  # synchronised there


def test_the_recipe_of_mit_spares_its_layer_norms_alone(settings):
    """Biases and the decoder's batch norms decay; settings and a decoder's recipe win over it."""
    cfg = settings(METHOD="baseline", TRUNK__NAME="mit_mini", DECODER__NAME="daformer", **SPACE)
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    assert isinstance(optimizer, torch.optim.AdamW)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    norms = [m for m in method.modules() if isinstance(m, nn.LayerNorm)]
    spared = {id(p) for norm in norms for p in norm.parameters()}
    assert len(norms) == 19
    for name, parameter in method.named_parameters():
        assert decays[id(parameter)] == (0 if id(parameter) in spared else 0.01), name
    cfg = settings(TRUNK__NAME="mit_mini", DECODER__NAME="mask2former", TRAIN__WARMUP=7)
    assert (cfg.TRAIN.LR_ENCODER, cfg.TRAIN.WARMUP, cfg.TRAIN.POLY_POWER) == (1e-5, 7, 1)


def test_momentum_is_restored_into_another_memory_layout(settings):
    """A run may be continued with another CHANNELS_LAST."""
    cfg = settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    other, _ = build_method(cfg, {"method": method.state_dict()})
    other.to(memory_format=torch.channels_last)
    optimizers = [build_optimizer(m, cfg) for m in (method, other)]
    gradients = [torch.randn_like(p) for p in method.parameters()]

    def step(m, optimizer):
        for parameter, gradient in zip(m.parameters(), gradients, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()

    step(method, optimizers[0])
    other.load_state_dict(method.state_dict())
    restore_optimizer(optimizers[1], optimizers[0].state_dict())
    for m, optimizer in zip((method, other), optimizers, strict=True):
        step(m, optimizer)
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), parameter)


def test_a_decoders_own_recipe_and_what_it_spares_from_decay(settings):
    """AdamW as Mask2Former trains: a tenth of the rate for the trunk, no decay of norms and
    embeddings. Its rates and all else stay settings."""
    cfg = settings(METHOD="srha", DECODER__NAME="mask2former", DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    assert isinstance(optimizer, torch.optim.AdamW) and cfg.TRAIN.CLIP_NORM == 0.01
    rates = {(g["name"], g["lr"]) for g in optimizer.param_groups}
    assert rates == {("trunk", 1e-5), ("decoder", 1e-4)}
    spared = {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]}
    trained = [(n, p) for n, p in method.named_parameters() if p.requires_grad]
    names = {name for name, parameter in trained if id(parameter) in spared}
    for part in ("queries_features", "queries_embedder", "level_embed"):
        assert f"decoder.transformer.{part}.weight" in names
    assert any(name.startswith("trunk") and "bn1.weight" in name for name in names)
    assert any(name.endswith("layernorm.bias") for name in names)
    assert not any("mask_predictor" in name or "conv1" in name for name in names)
    assert "decoder.pixel_decoder.level_embed" not in names, "no embedding layer, as published"
    total = sum(len(group["params"]) for group in optimizer.param_groups)
    assert total == len(trained)

    sgd = {"TRAIN__OPTIMIZER": "sgd", "TRAIN__NO_DECAY": "", "TRAIN__CLIP_NORM": 0}
    sgd |= {"TRAIN__LR_ENCODER": 5e-5, "TRAIN__WEIGHT_DECAY": 5e-4}
    published = settings(
        METHOD="srha", DECODER__NAME="mask2former", DATASET__LABEL_SPACE="cityscapes19", **sgd
    )
    optimizer = build_optimizer(method, published)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (5e-5, 5e-4), (1e-4, 5e-4),
    ]  # fmt: skip


@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_biases_may_be_spared(settings, decay):
    cfg = settings(
        METHOD="baseline",
        DATASET__LABEL_SPACE="cityscapes19",
        TRAIN__NO_DECAY="biases",
        TRAIN__WEIGHT_DECAY=decay,
    )
    method, _ = build_method(cfg)
    groups = build_optimizer(method, cfg).param_groups
    assert [g["weight_decay"] for g in groups] == [decay, 0, decay, 0]
    biases = {id(p) for n, p in method.named_parameters() if n.endswith("bias")}
    assert {id(p) for g in groups[1::2] for p in g["params"]} == biases
    assert sum(len(g["params"]) for g in groups) == len(list(method.parameters()))


def test_adamw_leaves_out_a_step_on_the_devices_word(settings):
    cfg = settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19", TRAIN__OPTIMIZER="adamw")
    method, _ = build_method(cfg)
    optimizer = build_optimizer(method, cfg)
    before = [p.detach().clone() for p in method.parameters()]
    for word in (1.0, 0.0):
        optimizer.found_inf = torch.tensor(word)
        for parameter in method.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        kept = [torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True)]
        assert all(kept) if word else not any(kept)
    assert all(state["step"] == 1 for state in optimizer.state.values())


def test_the_state_of_another_optimizer_is_refused(settings):
    cfg = settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    state = build_optimizer(method, cfg).state_dict()
    cfg.TRAIN.OPTIMIZER = "adamw"
    with pytest.raises(UserError, match="another one than TRAIN.OPTIMIZER"):
        restore_optimizer(build_optimizer(method, cfg), state)


def test_clipping_scales_all_gradients_to_a_norm(settings):
    method, _ = build_method(settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19"))
    gradients = [torch.randn_like(p) for p in method.parameters()]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    for limit in (0.0, 0.01):
        for parameter, gradient in zip(method.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        clip_gradients(method, limit)
        scale = limit / norm if limit else 1.0
        for parameter, gradient in zip(method.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient * scale, rtol=1e-4, atol=1e-9)


class FrozenBN(nn.Module):
    """A norm of no known class."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(4)) for _ in range(2))


class NormedLinear(nn.Module):
    """No norm, whatever its name."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))


class Backbone(nn.Sequential):
    """Names what should not decay, as timm's networks do, some of which it may not have."""

    def __init__(self):
        super().__init__(nn.Linear(4, 4))
        self.position, self.other = (nn.Parameter(torch.ones(9, 4)) for _ in range(2))

    def no_weight_decay(self):
        return {"position", "0.weight", "class_token"}


@pytest.mark.parametrize(
    "kinds, module, spared",
    [
        *(("norms", module, "all") for module in (
            nn.BatchNorm2d(4), nn.LayerNorm((4, 3, 3)), nn.GroupNorm(2, 4), nn.RMSNorm(4),
            nn.InstanceNorm2d(4, affine=True), LlamaRMSNorm(4), ConvNextV2GRN(4), FrozenBN(),
        )),
        *(("norms", module, "") for module in (
            nn.Linear(4, 1), nn.Conv2d(4, 4, 1, groups=4), nn.Embedding(1, 4), NormedLinear(),
        )),
        ("embeddings", nn.Embedding(1, 4), "all"),
        ("embeddings", FrozenBN(), ""),
        ("biases", NormedLinear(), "bias"),
        ("biases", Backbone(), "position 0.weight 0.bias"),
        ("", Backbone(), ""),
    ],
)  # fmt: skip
def test_what_decay_spares_of_any_library(kinds, module, spared):
    names = {id(p): name for name, p in module.named_parameters()}
    found = without_decay(nn.ModuleList([module]), kinds.split())
    assert {names[i] for i in found} == set(names.values() if spared == "all" else spared.split())
