"""Options of precision, layout, memory and compilation against eager float32."""

import copy

import pytest
import torch

from network.build import build_method
from network.decoders import decoder_class
from network.methods import Method, method_class, self_training
from network.self_training.mixing import PseudoLabels
from tests.networks import COVERING, losses_of

# What is compiled takes seconds: with what acts behind layers, heads of another kind, what modules
# note between calls, modes, and exchanged weights.
COMPILED = [(name, "deeplabv3plus") for name in ("srha", "spc", "iw", "wildnet", "mldg")]
STREAMS = ("target", "wild")
SPACE = {"DATASET__LABEL_SPACE": "cityscapes19"}


def step(method, batch, **autocast):
    """Return losses and gradients of a training step with random numbers of its own."""
    method.train()
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16, **({"enabled": False} | autocast)):
        losses = losses_of(method, batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return {n: v.detach() for n, v in losses.items()}, gradients


def pair(settings, name, decoder, **changes):
    """Two methods of equal weights, the second with changed settings."""
    network = {"METHOD": name, "DECODER__NAME": decoder} | SPACE
    network |= decoder_class(decoder).without_dropout
    plain, _ = build_method(settings(**network))
    changed, _ = build_method(settings(**network, **changes))
    changed.load_state_dict(copy.deepcopy(plain.state_dict()))
    return plain, changed


# Those with choices of their own refuse it.
PLAIN = Method.check_choices.__func__
RECOMPUTING = [(m, d) for m, d in COVERING if method_class(m).check_choices.__func__ is PLAIN]


@pytest.mark.parametrize(("name", "decoder"), RECOMPUTING)
def test_recomputed_layers_change_nothing(settings, batch, name, decoder):
    plain, recomputed = pair(settings, name, decoder, TRUNK__RECOMPUTE="on,on,on,on")
    (losses, gradients), (again, others) = step(plain, batch), step(recomputed, batch)
    for expected, found in ((losses, again), (gradients, others)):
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    state = recomputed.state_dict()
    # Running statistics and their counters see the batch once.
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(("name", "decoder"), COVERING)
def test_channels_last_changes_rounding_only(settings, batch, name, decoder):
    plain, last = (method.double() for method in pair(settings, name, decoder))
    last = last.to(memory_format=torch.channels_last)
    inputs = {"image": batch["image"]} | {name: batch[name]["image"] for name in STREAMS}
    inputs = {name: images.double() for name, images in inputs.items()}
    batch |= inputs | {name: {"image": inputs[name]} for name in STREAMS}
    inputs = {n: x.contiguous(memory_format=torch.channels_last) for n, x in inputs.items()}
    other = inputs | {name: {"image": inputs[name]} for name in STREAMS}
    (losses, gradients), (again, others) = step(plain, batch), step(last, batch | other)
    for key in losses:
        assert torch.allclose(losses[key], again[key], rtol=1e-9)
    for key in gradients:
        scale = gradients[key].abs().max()
        assert torch.allclose(gradients[key], others[key], rtol=1e-6, atol=1e-8 * scale + 1e-12)


@pytest.mark.parametrize(("name", "decoder"), COVERING)
def test_bfloat16_stays_near_float32(settings, batch, monkeypatch, name, decoder):
    plain, half = pair(settings, name, decoder)
    # Four images, with a colour for each class. The batch norm of pooled features, all but equal
    # ones, would blow up rounding; it takes its running statistics.
    for method in (plain, half):
        for name, module in method.named_modules():
            if name.endswith("img_conv.1"):
                module.train = lambda mode=True, own=module: own
                module.training = False
    labels = torch.cat([batch["label"], batch["label"].flip(1)])
    images = torch.randn(256, 3)[labels].permute(0, 3, 1, 2) + 0.3 * torch.randn(4, 3, 64, 80)
    batch |= {"image": images.contiguous(), "label": labels, "domain": torch.arange(4) // 2}
    # Given pseudo-labels: of random networks the best two classes of a pixel are all but equal.
    batch |= {name: {"image": images.flip(0).contiguous()} for name in STREAMS}
    found = PseudoLabels(labels.flip(0), torch.tensor(0.5))
    monkeypatch.setattr(self_training, "pseudo_labels", lambda logits, threshold: found)
    (losses, gradients), (again, others) = step(plain, batch), step(half, batch, enabled=True)
    for key in losses:
        assert again[key].dtype == torch.float32
        assert torch.allclose(losses[key], again[key], rtol=0.05, atol=1e-3), key
    flat = [torch.cat([g.flatten() for g in each.values()]) for each in (gradients, others)]
    # Batch norms over a few noisy pixels blow up the rounding of eight bits.
    assert torch.cosine_similarity(*flat, dim=0) > 0.9
    assert all(g.dtype == torch.float32 for g in others.values())


@pytest.mark.parametrize(("name", "decoder"), COMPILED)
def test_compiled_network_gives_the_same(settings, batch, name, decoder):
    """With one decoder: test_decoders.py compiles each."""
    plain, compiled = pair(settings, name, decoder)
    # Traced and differentiated ahead of time like the default, without its C++ compiler, which
    # takes a minute; benchmarks/train_step.py runs that.
    torch._dynamo.reset()  # after eight networks the same code would stay as it is
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled.compile_network(backend="aot_eager")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    (losses, gradients), (again, others) = step(plain, batch), step(compiled, batch)
    assert counters["frames"]["ok"] and not counters["graph_break"]
    for key in losses:
        assert torch.allclose(losses[key], again[key], rtol=1e-4), key
    flat = [torch.cat([g.flatten() for g in each.values()]) for each in (gradients, others)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.9999
