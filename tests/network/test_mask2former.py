"""The decoder: transformers' own modules, posterior, consistency, edges, what is refused."""

import importlib
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
)

from loss.consistency import jensen_shannon
from loss.mask_classification import QueryPrediction
from network.build import build_method
from network.decoders import mask2former
from network.decoders.mask2former import FLOOR, layers_config
from network.inference import predict
from utils.engine.optimization import build_optimizer, clip_gradients
from utils.errors import UserError

SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}
VOID = 255


@pytest.fixture
def make(settings):
    """Return `make(**overrides)` → settings, a method with this decoder."""

    def build(**overrides):
        cfg = settings(DECODER__NAME="mask2former", **{"METHOD": "baseline"} | SPACE | overrides)
        return cfg, build_method(cfg)[0]

    return build


def test_trained_weights_load_into_transformers_own_modules(make, batch):
    cfg, method = make()
    method.train()
    optimizer = build_optimizer(method, cfg)
    for _ in range(2):
        sum(method(batch).values()).backward()
        clip_gradients(method, cfg.TRAIN.CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
    method.eval()
    config = layers_config(cfg)
    pixel_decoder = Mask2FormerPixelDecoder(config, method.trunk.channels[1:5]).eval()
    transformer = Mask2FormerTransformerModule(config.feature_size, config).eval()
    pixel_decoder.load_state_dict(method.decoder.pixel_decoder.state_dict())
    transformer.load_state_dict(method.decoder.transformer.state_dict())
    with torch.no_grad():
        features = method.trunk(batch["image"])
        ours = method.decoder(features, (64, 80)).layers
        pixels = pixel_decoder([features[i] for i in (1, 2, 3, 4)])
        theirs = transformer(pixels.multi_scale_features, pixels.mask_features)
    assert len(ours) == cfg.DECODER.LAYERS + 1
    for own, masks in zip(ours, theirs.masks_queries_logits, strict=True):
        assert torch.equal(own.masks, masks)
    states = theirs.intermediate_hidden_states
    for own, state in zip(ours, states, strict=True):
        expected = method.decoder.class_predictor(state.transpose(0, 1))
        assert torch.equal(own.classes, expected)


def test_training_mode_changes_no_output(make, batch):
    """Attention layers of the pixel decoder stay in evaluation mode, which spares waiting."""
    _, method = make()
    features = method.eval().trunk(batch["image"])
    modes = [method.decoder.train(mode)(features, (64, 80)).layers for mode in (True, False)]
    for trained, evaluated in zip(*modes, strict=True):
        assert torch.equal(trained.masks, evaluated.masks)
        assert torch.equal(trained.classes, evaluated.classes)


@pytest.mark.parametrize("trunk", ["resnet_mini", "shufflenet_v2_x0_5", "mobilenet_v2"])
def test_three_levels_join_in_on_the_way_down(make, trunk):
    _, method = make(TRUNK__NAME=trunk)
    pixel_decoder = method.decoder.pixel_decoder
    inside = [conv[0].in_channels for conv in pixel_decoder.lateral_convolutions]
    assert inside == [method.trunk.channels[i] for i in (3, 2, 1)]
    images = torch.randn(1, 3, 64, 96)
    features = method.eval().trunk(images)
    masks = method.decoder(features, (64, 96)).layers[-1].masks
    assert masks.shape[2:] == features[1].shape[2:]


def test_everything_is_initialised_from_the_seed(make):
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(make()[1].decoder.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    expected = {
        "pixel_decoder.level_embed": 1,
        "pixel_decoder.mask_projection.weight": 32**-0.5,
        "pixel_decoder.layer_1.0.weight": (9 * 32) ** -0.5,
        "pixel_decoder.encoder.layers.0.fc1.weight": 32**-0.5,
        "pixel_decoder.encoder.layers.0.self_attn.value_proj.weight": 32**-0.5,
        "transformer.queries_features.weight": 1,
        "transformer.decoder.layers.0.self_attn.q_proj.weight": (2 * 32) ** -0.5,
        "transformer.decoder.layers.0.cross_attn.in_proj_weight": (2 * 32) ** -0.5,
        "transformer.decoder.layers.0.fc1.weight": 32**-0.5,
        "transformer.decoder.mask_predictor.mask_embedder.0.0.weight": (3 * 32) ** -0.5,
        "class_predictor.weight": (3 * 32) ** -0.5,
    }
    for name, deviation in expected.items():
        assert weights[0][name].std() == pytest.approx(deviation, rel=0.25), name


def test_heads_of_deformable_attention_look_in_directions_of_their_own(make):
    """4 heads, 3 levels, 4 points: right, down, left, up, each a pixel further than the last."""
    _, method = make()
    attention = method.decoder.pixel_decoder.encoder.layers[0].self_attn
    offsets = attention.sampling_offsets.bias.detach().view(4, 3, 4, 2)
    for head, direction in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        for point in range(4):
            expected = torch.tensor(direction) * (point + 1.0)
            torch.testing.assert_close(
                offsets[head, :, point], expected.expand(3, 2), atol=1e-5, rtol=0
            )


def reference_posterior(output):
    classes, masks = output.layers[-1]
    chances = classes.double().softmax(2)
    resized = F.interpolate(masks.double(), output.size, mode="bilinear", align_corners=False)
    scores = sum(
        chances[:, query, :-1, None, None] * resized[:, query, None].sigmoid()
        for query in range(masks.shape[1])
    )
    return scores, (scores + FLOOR) / (scores + FLOOR).sum(1, keepdim=True)


@pytest.mark.parametrize("queries", [1, 5, 100])
@pytest.mark.parametrize("size", [(64, 80), (97, 131), (20, 30)])
def test_the_softmax_of_the_logits_is_the_posterior(make, monkeypatch, queries, size):
    """Without a gradient, masks are resized a few queries at a time."""
    monkeypatch.setattr(mask2former, "QUERIES_AT_ONCE", queries)
    _, method = make()
    features = method.eval().trunk(torch.randn(2, 3, *size))
    with torch.no_grad():
        few = method.decoder(features, size)
        assert few.logits.shape == (2, 19, *size)
    every = method.decoder(features, size)
    for output in (few, every):
        scores, posterior = reference_posterior(output)
        torch.testing.assert_close(output.scores.double(), scores, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(output.logits.softmax(1).double(), posterior, rtol=1e-5, atol=0)
        assert torch.equal(output.logits.argmax(1), output.scores.argmax(1))


def test_a_pixel_that_no_query_claims_has_a_uniform_posterior(make):
    _, method = make()
    output = method.eval().decoder(method.trunk(torch.randn(1, 3, 64, 64)), (64, 64))
    classes, masks = output.layers[-1]
    masks = torch.full_like(masks, -200.0).requires_grad_()
    empty = mask2former.MaskOutput([QueryPrediction(classes, masks)], (64, 64))
    torch.testing.assert_close(empty.logits.softmax(1), torch.full((1, 19, 64, 64), 1 / 19))
    (gradient,) = torch.autograd.grad(empty.logits.max(), masks)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("compared", ["posterior", "scores"])
def test_consistency_of_two_streams(make, batch, compared):
    _, method = make(DECODER__CONSISTENCY=compared)
    output = method.double().decoder(method.trunk(batch["image"].double()), (64, 80))
    assert set(method.decoder.losses(output, batch["label"])) == {"class", "mask", "dice"}
    found = method.decoder.divergence(output)
    scores, posterior = reference_posterior(output)
    logits = scores if compared == "scores" else posterior.log()
    torch.testing.assert_close(found, jensen_shannon(*logits.chunk(2)), rtol=1e-6, atol=0)
    assert found > 0


def labels_of(kind):
    labels = torch.full((2, 64, 80), VOID)
    if kind == "one class":
        labels[:] = 4
    elif kind == "one pixel":
        labels[:] = 4
        labels[:, 30, 41] = 7
    elif kind == "one image is void":
        labels[0, 20:] = 2
    return labels


@pytest.mark.parametrize("name", ["baseline", "srha"])
@pytest.mark.parametrize("kind", ["void", "one class", "one pixel", "one image is void"])
@pytest.mark.parametrize("targets", ["present", "all"])
def test_edge_cases_train_every_parameter(make, batch, name, kind, targets):
    _, method = make(METHOD=name, DECODER__TARGETS=targets, DECODER__QUERIES=20)
    losses = method.train()(batch | {"label": labels_of(kind)})
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key


def test_scales_mirror_images_windows_and_batches(make):
    _, method = make()
    method.eval()
    images = torch.randn(2, 3, 64, 96)
    options = {"scales": (0.5, 1.0), "flip": True, "sliding": (48, 32)}
    with torch.no_grad():
        together = predict(method, images, (50, 70), **options)
        apart = [predict(method, image[None], (50, 70), **options) for image in images]
        whole = predict(method, images, (64, 96))
        one_window = predict(method, images, (64, 96), sliding=(96, 96))
        assert torch.equal(whole, method(images).argmax(1))
    assert (together == torch.cat(apart)).float().mean() > 0.999
    assert torch.equal(whole, one_window)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"DECODER__CHANNELS": 48}, "DECODER.CHANNELS 48 is no multiple of 32"),
        ({"DECODER__HEADS": 5}, "DECODER.CHANNELS 32 is no multiple of HEADS 5"),
        ({"DECODER__TARGETS": "some"}, "expected one of present, all"),
        (
            {"DECODER__LOW_LEVEL_CHANNELS": 8},
            "LOW_LEVEL_CHANNELS belongs to --decoder deeplabv3plus",
        ),
    ],
)
def test_what_does_not_go_is_named(make, overrides, message):
    with pytest.raises(UserError, match=message):
        make(**overrides)


def test_without_transformers_the_pip_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pip install -r requirements-extra.txt"):
        importlib.reload(mask2former)


def test_nothing_else_imports_transformers():
    """The one file, so that all else runs without the package."""
    root = importlib.import_module("config").__file__.rpartition("/")[0]
    command = (
        "import sys; import train, valid, network.methods.srha, network.decoders.deeplabv3plus; "
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], cwd=root).returncode == 0
