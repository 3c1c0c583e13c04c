"""Exported networks in onnxruntime and torch.export against the network they come from."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks.networks import small
from network.build import build_method, resolve
from network.methods import Method, method_class
from network.regions.rearrangement import eliminate_style
from tests.networks import STEPS, some_tuned
from transforms import normalise
from utils.errors import UserError
from utils.export import __main__ as export_script
from utils.export import deployment
from utils.export.__main__ import export
from utils.settings import flatten

SIZES = [(1, 64, 96), (3, 51, 33), (2, 130, 40), (1, 32, 32)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small SRHA method and {ending: its exported file}."""
    torch.manual_seed(0)
    names = {"METHOD": "srha", "DATASET.LABEL_SPACE": "cityscapes19"}
    cfg = resolve(small(names) | names)
    method, _ = build_method(cfg)
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    folder = tmp_path_factory.mktemp("export")
    state = {"settings": flatten(cfg), "step": 7, "method": method.state_dict()}
    torch.save(state, folder / "last.pth")
    files = {ending: folder / f"network{ending}" for ending in (".onnx", ".pt2")}
    for path in files.values():
        export(folder / "last.pth", path, 18 if path.suffix == ".onnx" else None)
    return method.eval(), files, folder / "last.pth"


@pytest.fixture(scope="module")
def run(exported):
    """Return `run(ending, images uint8)` → logits of the exported file, by other programs."""
    _, files, _ = exported
    session = onnxruntime.InferenceSession(str(files[".onnx"]))
    program = torch.export.load(files[".pt2"]).module()
    return {".onnx": lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0]),
            ".pt2": program}  # fmt: skip


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("batch, height, width", SIZES)
@torch.no_grad()
def test_logits_and_labels(exported, run, ending, batch, height, width):
    """Normalisation and style elimination are inside: the reference has them spelled out."""
    method, _, _ = exported
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406),
                                                         (0.229, 0.224, 0.225)))  # fmt: skip
    stem = eliminate_style(method.trunk((images / 255 - mean) / std, stop=0)[0])
    features = method.trunk(stem, start=1)
    expected = method.decoder(features, (height, width)).logits
    found = run[ending](images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found.argmax(1) == expected.argmax(1)).float().mean() >= 0.999
    without = method.decoder(method.trunk(normalise(images)), (height, width)).logits
    assert (found - without).abs().max() > 0.01


def test_what_the_files_hold(exported):
    method, files, checkpoint = exported
    model = onnx.load(files[".onnx"])
    onnx.checker.check_model(model)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(notes["settings"])["METHOD"] == "srha" and notes["step"] == "7"
    assert json.loads(notes["classes"])[13] == "car"
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    shapes = [
        [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in (image, logits)
    ]
    assert shapes == [["batch", n, "height", "width"] for n in (3, 19)]
    assert model.opset_import[0].version == 18
    # The network alone: no teacher, no auxiliary head, no running counters.
    parts = [method.trunk, method.decoder.aspp, method.decoder.bot_aspp, method.decoder.bot_fine,
             method.decoder.final1, method.decoder.classifier]  # fmt: skip
    wanted = sum(p.numel() for part in parts for p in part.parameters())
    held = sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)
    # Running means and variances more, scales and shifts folded into convolutions less.
    assert 0.9 * wanted < held < 1.1 * wanted
    extra = {"notes.json": ""}
    torch.export.load(files[".pt2"], extra_files=extra)
    assert json.loads(extra["notes.json"])["classes"][0] == "road"
    assert files[".pt2"].stat().st_size < checkpoint.stat().st_size


def test_an_opset_that_torch_cannot_write():
    class Doubled(torch.nn.Module):
        def forward(self, image):
            return torch.nn.functional.interpolate(image.float(), scale_factor=2.0, mode="bilinear")

    program = torch.export.export(Doubled(), (torch.zeros(1, 3, 8, 8, dtype=torch.uint8),))
    with pytest.raises(UserError, match="--opset 9: torch cannot write this network in it"):
        deployment.onnx_bytes(program, {}, 9)


@pytest.mark.parametrize("change", [lambda x: x + 1e-3 * x.abs().max(), lambda x: x * float("nan")])
def test_a_network_that_differs_is_not_written(exported, tmp_path, monkeypatch, change):
    """Played by the network itself, changed: tracing one more takes long."""
    method, _, checkpoint = exported
    monkeypatch.setattr(export_script, "export_program", lambda network: network)

    def changed(content):
        return lambda image: change(method.predict(normalise(image)))

    monkeypatch.setitem(export_script.DEPLOYED, ".pt2", (lambda *_: b"", changed))
    with pytest.raises(UserError, match="is not the one of the checkpoint .256×128: logits"):
        export(checkpoint, tmp_path / "network.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_packages(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = f"need {package}: pip install -r requirements-extra.txt"
    with pytest.raises(UserError, match=message):
        if package == "onnxruntime":
            deployment.onnx_runner(b"")
        else:
            deployment.onnx_bytes(None, {})


def is_the_baseline(method, cfg):
    """Whether a method's inference is the baseline's with other weights."""
    if type(method).predict is not Method.predict or method.after:
        return False
    other, _ = build_method(cfg)
    parts = [dict(m.named_modules()) for m in (method, other)]
    kinds = [
        {n: type(m) for n, m in own.items() if n.split(".")[0] in method.inference_parts}
        for own in parts
    ]
    return kinds[0] == kinds[1]


@pytest.mark.parametrize("name", [*(m for m in STEPS if m != "srha"), "hrda", "pinmem"])
def test_every_method_is_exported(settings, name):
    """With a trunk whose channels are shuffled, and with a transformer, too; SRHA is above."""
    trunks = {"baseline": "shufflenet_v2_x0_5", "spc": "mit_mini"}
    # With the smallest decoder: tracing takes its time.
    own = {"TRUNK__NAME": trunks[name], "DECODER__NAME": "linear"} if name in trunks else {}
    if method_class(name).defaults.get("FEATURE_DISTANCE.WEIGHT"):
        own |= {"FEATURE_DISTANCE__CLASSES": [2, 3]}
    if name == "san_saw":
        own |= {"SAN__REGION": "kmeans"}
    if "RETROSPECTION" in method_class(name).settings:
        own |= {"RETROSPECTION__CLASSES": [2, 3]}
    space = {"DATASET__LABEL_SPACE": "idd_lite7"}
    cfg = settings(METHOD=name, **space, **own)
    method, _ = build_method(cfg)
    network = deployment.Deployed(method)
    if name != "baseline" and is_the_baseline(method, settings(METHOD="baseline", **space)):
        return  # exported as such
    if any(cfg.get("HRDA", {}).get("DETAIL", [])):
        with pytest.raises(UserError, match="sees details .HRDA.DETAIL. is not exported"):
            deployment.export_program(network)
        return
    program = deployment.export_program(network)
    content = deployment.program_bytes(program, {})
    found = list(deployment.agreements(network, deployment.program_runner(content)))
    assert [own.size for own in found] == list(deployment.CHECK_SIZES)
    deployment.refuse_disagreement(found)


@pytest.mark.parametrize(("name", "decoder", "trunk", "tuning"), some_tuned(
    ("dacs", "plain", "dinov2_mini", "soma"),
    pytest.param("srha", "plain", "dinov3_mini", "frozen", marks=pytest.mark.whole),
))  # fmt: skip
def test_foundation_models_are_exported(settings, name, decoder, trunk, tuning):
    if decoder == "mask2former" or "HRDA.DETAIL" in method_class(name).defaults:
        decoder, name = "plain", "baseline"  # others are refused
    network = {"TRUNK__NAME": trunk, "TRUNK__TUNING": tuning, "DECODER__NAME": decoder}
    method, _ = build_method(settings(METHOD=name, DATASET__LABEL_SPACE="cityscapes19", **network))
    if method.trunk.mergeable:
        method.trunk.merge()
    network = deployment.Deployed(method)
    content = deployment.program_bytes(deployment.export_program(network), {})
    found = list(deployment.agreements(network, deployment.program_runner(content)))
    deployment.refuse_disagreement(found)


def test_mask2former_is_not_traced(settings):
    space = {"DATASET__LABEL_SPACE": "idd_lite7"}
    method, _ = build_method(settings(METHOD="baseline", DECODER__NAME="mask2former", **space))
    with pytest.raises(UserError, match="Mask2Former is not traced for images of any size; export"):
        deployment.export_program(deployment.Deployed(method))
