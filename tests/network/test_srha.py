"""SRHA: what stays frozen, what each switch does, and what inference costs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from network.build import build_method, load_network
from network.regions.rearrangement import eliminate_style
from utils.engine.optimization import build_optimizer
from utils.errors import UserError


@pytest.fixture
def build(settings):
    def make(**overrides):
        overrides = {"METHOD": "srha", "DATASET__LABEL_SPACE": "cityscapes19"} | overrides
        return build_method(settings(**overrides))[0].train()

    return make


def frozen_state(method):
    parts = ("trunk.layer0.", "teacher.", "teacher_stem.")
    return {k: v.clone() for k, v in method.state_dict().items() if k.startswith(parts)}


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_layer_0_and_teacher_are_bit_identical_after_training(
    build, settings, batch, batch_statistics
):
    method = build(TEACHER__BATCH_STATISTICS=batch_statistics)
    before = frozen_state(method)
    optimizer = build_optimizer(method, settings(TRAIN__WEIGHT_DECAY=0.1))
    student = method.trunk.layer1[0].conv1.weight.clone()
    for _ in range(3):
        method.train()
        sum(method(batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = frozen_state(method)
    assert before.keys() == after.keys() and len(before) > 20
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not torch.equal(student, method.trunk.layer1[0].conv1.weight)


def test_the_teacher_starts_as_the_student(build):
    method = build(TRUNK__WEIGHTS="objects")
    for name, value in method.teacher.trunk.named_parameters():
        assert torch.equal(value, method.trunk.get_parameter(name))


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_teacher_normalises_by_what_it_sees_or_by_pretraining(build, batch_statistics):
    method = build(TRUNK__WEIGHTS="objects", TEACHER__BATCH_STATISTICS=batch_statistics)
    x = eliminate_style(torch.randn(4, 24, 16, 20))
    with torch.no_grad():
        seen = method.teacher(x)
        method.trunk.train(batch_statistics)
        expected = method.trunk(x, start=1)
    for i in range(1, 5):
        torch.testing.assert_close(seen[i], expected[i])


ALIGNMENT_OFF = {f"ALIGN__{term}": [0.0] * 4 for term in ("GLOBAL", "REGIONAL", "LOCAL")}


@pytest.mark.parametrize(
    "overrides, names",
    [
        ({}, {"ce", "aux", "global", "regional", "local", "consistency"}),
        ({"CONSISTENCY__WEIGHT": 0.0}, {"ce", "aux", "global", "regional", "local"}),
        ({"SRM__ENABLED": False}, {"ce", "aux", "global", "regional", "local"}),
        ({"ALIGN__LOCAL": [0.0] * 4}, {"ce", "aux", "global", "regional", "consistency"}),
        (ALIGNMENT_OFF, {"ce", "aux", "consistency"}),
        (ALIGNMENT_OFF | {"SRM__ENABLED": False}, {"ce", "aux"}),
        ({"DECODER__AUX_WEIGHT": 0.0}, {"ce", "global", "regional", "local", "consistency"}),
    ],
)
def test_switches(build, batch, overrides, names):
    method = build(**overrides)
    losses = method(batch)
    assert set(losses) == names
    assert (method.teacher is None) == (not names & {"global", "regional", "local"})
    sum(losses.values()).backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    "overrides",
    [
        {"STEM_FROZEN": False},
        {"STYLE_ELIMINATION": False},
        {"STYLE_SHARE": 0.5},
        {"SRM__AFTER_ELIMINATION": True},
        {"TEACHER__STREAMS": "original"},
        {"TEACHER__STREAMS": "original", "STEM_FROZEN": False},
        {"TEACHER__WEIGHTS": "objects"},
        {"SRM__SCOPE": "batch"},
        {"SRM__VOID_IS_REGION": False},
        {"SRM__MIN_PLACES": 20},
        {"ALIGN__NORMALISED": True},
        {"SRM__LABELS": "majority"},
        {"SRM__OF": "image"},
        {"SRM__OF": "image", "STEM_FROZEN": False},
        {"SRM__CONCENTRATION": 1.0},
        {"ALIGN__GLOBAL": [0.4, 0, 0, 0], "ALIGN__REGIONAL": [0.0] * 4, "ALIGN__LOCAL": [0.0] * 4},
    ],
)
def test_every_switch_changes_the_loss(build, batch, overrides):
    plain = build()
    changed = build(**overrides)
    changed.load_state_dict(plain.state_dict(), strict=False)
    totals = []
    for method in (plain, changed):
        torch.manual_seed(5)
        totals.append(sum(method(batch).values()).item())
    assert all(torch.isfinite(torch.tensor(totals)))
    assert abs(totals[0] - totals[1]) > 1e-4


def test_a_trained_layer_0_gets_gradients_and_the_teacher_keeps_its_own(build, batch):
    method = build(STEM_FROZEN=False)
    sum(method(batch).values()).backward()
    assert method.trunk.layer0[0].weight.grad.abs().sum() > 0
    assert method.teacher_stem[0].weight.grad is None
    assert any(k.startswith("teacher_stem.") for k in method.state_dict())


def test_a_network_that_training_starts_from_does_not_replace_the_neutral_layer_0(build):
    method = build(INIT="checkpoint.pth", TRUNK__WEIGHTS="objects")
    neutral = method.teacher_stem[0].weight.clone()
    other = build(METHOD="baseline", TRUNK__WEIGHTS="none")
    load_network(method, other.state_dict())
    assert torch.equal(method.trunk.layer0[0].weight, other.trunk.layer0[0].weight)
    assert torch.equal(method.teacher_stem[0].weight, neutral)


def test_the_teacher_computes_nothing_beyond_the_last_aligned_layer(build, batch):
    weights = {f"ALIGN__{t}": [0.4, 0.6, 0, 0] for t in ("GLOBAL", "REGIONAL", "LOCAL")}
    method = build(**weights)
    assert not any(k.startswith("teacher.trunk.layer3") for k in method.state_dict())
    assert list(method.teacher(torch.randn(1, 24, 16, 16))) == [1, 2]


def test_inference_is_the_baseline_but_for_the_normalisation(build):
    srha, baseline = build().eval(), build(METHOD="baseline").eval()
    own = {k: v.shape for k, v in srha.state_dict().items() if not k.startswith("teacher.")}
    assert own == {k: v.shape for k, v in baseline.state_dict().items()}
    images = torch.randn(1, 3, 64, 80)
    counts = []
    for method in (srha, baseline):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            method(images)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    baseline.load_state_dict({k: v for k, v in srha.state_dict().items() if k in own})
    with torch.no_grad():
        features = baseline.trunk(images, after={0: eliminate_style})
        expected = baseline.decoder(features, images.shape[2:]).logits
        torch.testing.assert_close(srha(images), expected)


def test_void_only_crops_give_finite_losses(build, batch):
    for void_is_region in (True, False):
        method = build(SRM__VOID_IS_REGION=void_is_region)
        losses = method(batch | {"label": torch.full((2, 64, 80), 255)})
        sum(losses.values()).backward()
        assert losses["ce"] == 0
        assert all(torch.isfinite(v) for v in losses.values())
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in gradients)


def test_bfloat16_autocast_keeps_losses_in_float32(build, batch):
    method = build()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(batch)
    assert all(v.dtype == torch.float32 for v in losses.values())
    exact = method(batch)
    for name in ("global", "regional", "local", "ce"):
        torch.testing.assert_close(losses[name], exact[name], rtol=0.15, atol=0.02)


def test_restyled_images_pass_layer_0(build, batch):
    """The stream behind the original is that of the restyled image, for the teacher, too."""
    method = build(SRM__OF="image", STYLE_ELIMINATION=False, STEM_FROZEN=False)
    seen, entered = [], []
    method.trunk.layer0.register_forward_hook(lambda module, given, x: seen.append((given[0], x)))
    method.teacher.register_forward_hook(lambda module, given, x: entered.append(given[0]))
    method(batch)
    assert torch.equal(seen[0][0][:2], batch["image"]) and len(seen[0][0]) == 4
    restyled = seen[0][0][2:]
    assert not torch.equal(restyled, batch["image"])
    # The teacher's own layer 0 sees the same two streams.
    assert torch.equal(entered[0], method.teacher_stem(seen[0][0]))


def test_half_of_the_style_is_eliminated_in_training_and_inference(build, batch):
    method = build(STYLE_SHARE=0.5)
    entered = []
    method.trunk.layer1.register_forward_pre_hook(lambda module, given: entered.append(given[0]))
    feature = method.trunk(batch["image"], stop=0)[0]
    method(batch)
    method.eval()(batch["image"])
    for own in (entered[0][:2], entered[-1]):
        torch.testing.assert_close(own.mean((2, 3)), feature.mean((2, 3)) / 2)
        torch.testing.assert_close(own.std((2, 3)), feature.std((2, 3)).sqrt())


@pytest.mark.parametrize("after", [False, True])
def test_the_restyled_stream_is_normalised_unless_srm_comes_last(build, batch, after):
    method = build(SRM__AFTER_ELIMINATION=after)
    entered, taught = [], []
    method.trunk.layer1.register_forward_pre_hook(lambda module, given: entered.append(given[0]))
    method.teacher.register_forward_pre_hook(lambda module, given: taught.append(given[0]))
    method(batch)
    original, restyled = entered[0].chunk(2)
    assert torch.equal(taught[0], entered[0])
    zeros = torch.zeros_like(original[:, :, 0, 0])
    torch.testing.assert_close(original.mean((2, 3)), zeros, atol=1e-5, rtol=0)
    assert (restyled.mean((2, 3)).abs().max() > 0.1) == after


def test_settings_of_style_elimination_need_it(build):
    for own in ({"STYLE_SHARE": 0.5}, {"STYLE_REFERENCE": 3}, {"SRM__AFTER_ELIMINATION": True}):
        key = next(iter(own)).replace("__", ".")
        with pytest.raises(UserError, match=rf"{key} is about STYLE_ELIMINATION, which is off"):
            build(STYLE_ELIMINATION=False, **own)
    with pytest.raises(UserError, match=r"SRM.AFTER_ELIMINATION .* SRM.OF image restyles images"):
        build(SRM__AFTER_ELIMINATION=True, SRM__OF="image")


def test_a_style_of_reference_is_measured_and_given_to_all(build, run_survey_of):
    method = build(STYLE_REFERENCE=3)
    assert (method.survey_due(0, 5).images, method.survey_due(1, 5)) == (3, None)
    images = [torch.randn(2, 3, 64, 80) * 2 + 1, torch.randn(1, 3, 64, 80)]
    run_survey_of(method, images)
    features = [method.trunk(x, stop=0)[0] for x in images]
    std, mean = zip(*(torch.std_mean(f, dim=(2, 3)) for f in features), strict=True)
    elimination = method.elimination
    torch.testing.assert_close(elimination.mean, torch.cat(mean).mean(0))
    torch.testing.assert_close(elimination.std, torch.cat(std).mean(0))
    given = elimination(features[0])
    expected = elimination.mean.expand(2, -1)
    torch.testing.assert_close(given.mean((2, 3)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given.std((2, 3)), elimination.std.expand(2, -1))
    assert "elimination" in method.inference_parts
    assert method.eval()(images[0]).isfinite().all()


@pytest.fixture
def run_survey_of():
    def run(method, images):
        with torch.no_grad():
            method.eval()
            return method.survey(iter([{"image": x} for x in images]), sum(map(len, images)))

    return run


def test_alignment_ends_before_what_is_not_trained(build, batch):
    """No teacher where nothing of the trunk is trained; layers below the first tuned block have
    none."""
    network = {"TRUNK__NAME": "dinov2_mini", "DECODER__NAME": "plain"}
    method = build(TRUNK__TUNING="frozen", **network)
    assert method.teacher is None and set(method(batch)) == {"ce", "consistency"}
    weights = {"ALIGN__GLOBAL": [1.0, 1, 1, 1]}
    method = build(TRUNK__TUNING="lora", TUNING__FROM_BLOCK=2, **network, **weights)
    assert method.alignment.layers == [3, 4]
    assert "ALIGN: nothing is trained up to layers 1-2, which are left out" in method.remarks(1)
    assert build(TRUNK__TUNING="rein", **network, **weights).alignment.layers == [1, 2, 3, 4]


def test_a_teacher_of_another_family(build, batch):
    """It has its own output stride, and crops are multiples of what it needs."""
    teacher = {"TEACHER__TRUNK": "convnext_mini", "TEACHER__WEIGHTS": "none"}
    student = {"TRUNK__NAME": "dinov2_mini", "DECODER__NAME": "plain"}
    method = build(**student, **teacher, TRANSFORM__CROP_SIZE=[64, 96])
    crops = {"image": torch.randn(2, 3, 64, 96), "label": batch["label"].repeat(1, 1, 2)[..., :96]}
    assert method(batch | crops)["local"].isfinite()
    with pytest.raises(UserError, match="CROP_SIZE 64,80 is no multiple of 32, which TEACHER.TRU"):
        build(**student, **teacher, TRANSFORM__CROP_SIZE=[64, 80])


def test_what_it_takes_for_granted_on_transformers(settings):
    cfg = settings(METHOD="srha", TRUNK__NAME="dinov2_mini", DECODER__NAME="plain")
    assert not cfg.STYLE_ELIMINATION and cfg.ALIGN.LOCAL == [0, 0, 0, 0.1]
    cfg = settings(METHOD="srha", TRUNK__NAME="convnext_mini", DECODER__NAME="plain")
    assert cfg.STYLE_ELIMINATION and cfg.ALIGN.LOCAL == [0.4, 0.6, 0.8, 1.0]
