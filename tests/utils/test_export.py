"""The inference network as a file of its own, and loading parts of a checkpoint."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from network import load
from network.build import build_method, initialise, resolve
from network.checkpoint import load_checkpoint
from network.kept import stored_weights
from tests.engine.processes import same
from tests.networks import transformer_file
from utils import network_file
from utils.errors import UserError
from utils.export.__main__ import export
from utils.settings import flatten


@pytest.fixture
def checkpoint(settings, tmp_path):
    """Return the path of a small SRHA checkpoint and the method that is in it."""
    cfg = settings(METHOD="srha", DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    path = tmp_path / "last.pth"
    state = {"settings": flatten(cfg), "step": 7, "method": method.state_dict()}
    torch.save(state, path)
    return path, method.eval()


def test_an_exported_network_predicts_the_same(checkpoint, tmp_path, batch):
    path, method = checkpoint
    size = export(path, tmp_path / "network.safetensors")
    assert size == (tmp_path / "network.safetensors").stat().st_size < path.stat().st_size
    state = load_checkpoint(tmp_path / "network.safetensors")
    assert state["step"] == 7 and state["settings"] == load_checkpoint(path)["settings"]
    assert {key.split(".")[0] for key in state["method"]} == {"trunk", "decoder"}
    again, _ = build_method(resolve(state["settings"]), state)
    with torch.no_grad():
        assert torch.equal(again.eval()(batch["image"]), method(batch["image"]))


@pytest.mark.parametrize("tuning", ["frozen", "lora", "soma", "rein"])
def test_a_tuned_network_is_exported_whole(settings, tmp_path, batch, tuning):
    """Changes of weights are merged, and nothing is asked of the frozen file."""
    network = {"TRUNK__NAME": "dinov2_mini", "TRUNK__TUNING": tuning, "DECODER__NAME": "plain"}
    network["TRUNK__WEIGHTS"] = str(transformer_file(tmp_path / "vit.pth"))
    cfg = settings(METHOD="srha", DATASET__LABEL_SPACE="cityscapes19", **network)
    method, _ = build_method(cfg)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn_like(parameter)
    state = {"settings": flatten(cfg), "step": 7, "label_space": None}
    torch.save(state | stored_weights(method, cfg), tmp_path / "last.pth")
    export(tmp_path / "last.pth", tmp_path / "network.safetensors")
    (tmp_path / "vit.pth").rename(tmp_path / "moved.pth")
    with pytest.raises(UserError, match="leaves frozen weights to the file .*vit.pth"):
        export(tmp_path / "last.pth", tmp_path / "again.safetensors")
    where = str(tmp_path / "moved.pth")
    export(tmp_path / "last.pth", tmp_path / "again.safetensors", None, {"TRUNK.WEIGHTS": where})
    network = load(tmp_path / "last.pth", "cpu", weights=where)
    assert torch.equal(network.method.decoder.classifier.weight, method.decoder.classifier.weight)
    (tmp_path / "moved.pth").unlink()
    state = load_checkpoint(tmp_path / "network.safetensors")
    again, _ = build_method(resolve(state["settings"]), state)
    kept = tuning if tuning in ("frozen", "rein") else "full"
    assert state["settings"]["TRUNK.TUNING"] == kept
    assert bool(again.trunk.adapters()) == (tuning == "rein")
    with torch.no_grad():
        found, expected = again.eval()(batch["image"]), method.eval()(batch["image"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_other_tools_read_it(checkpoint, tmp_path):
    path, method = checkpoint
    export(path, tmp_path / "network.safetensors")
    weights = load_file(tmp_path / "network.safetensors")
    assert torch.equal(weights["decoder.classifier.weight"], method.decoder.classifier.weight)


def test_files_that_are_none(checkpoint, tmp_path, monkeypatch):
    path, _ = checkpoint
    with pytest.raises(UserError, match="has to end in .safetensors"):
        export(path, tmp_path / "network.pth")
    (tmp_path / "text.safetensors").write_text("no network")
    with pytest.raises(UserError, match="text.safetensors is damaged or no safetensors file"):
        load_checkpoint(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="other.safetensors holds no settings"):
        load_checkpoint(tmp_path / "other.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match="pip install -r requirements-extra.txt"):
        network_file.read_network(tmp_path / "other.safetensors")


def test_parts_are_loaded_by_name(checkpoint, settings):
    path, trained = checkpoint

    def start(*parts, classifier="copy", init=path, **more):
        options = {"METHOD": "srha", "DATASET__LABEL_SPACE": "idd_lite7", "INIT": str(init)}
        options |= {"INIT_CLASSIFIER": classifier} | more
        cfg = settings(**options, **({"INIT_PARTS": list(parts)} if parts else {}))
        torch.manual_seed(1)
        method, _ = build_method(cfg)
        before = {k: v.clone() for k, v in method.decoder.state_dict().items()}
        before["left out"] = initialise(method, cfg)
        return method, before

    # Another number of classes.
    with pytest.raises(UserError, match="--init .*4 of another shape: decoder.classifier.bias"):
        start()
    method, before = start(classifier="new", init=path.parent)  # a folder means its last.pth
    left_out = before.pop("left out")
    assert len(left_out) == 4 and "decoder.classifier.bias" in left_out
    for name, weight in method.decoder.state_dict().items():
        old = before if f"decoder.{name}" in left_out else trained.decoder.state_dict()
        assert torch.equal(weight, old[name])
    with pytest.raises(UserError, match="of another shape"):
        start(classifier="new", DECODER__CHANNELS=12)
    method, before = start("trunk")
    assert not before.pop("left out")
    assert same(method.trunk.state_dict(), trained.trunk.state_dict())
    assert same(method.decoder.state_dict(), before)
    with pytest.raises(UserError, match="INIT_PARTS names head, which is no part.*teacher"):
        start("trunk", "head")
    state = torch.load(path, weights_only=True)
    del state["method"]["trunk.layer0.0.weight"]
    torch.save(state, path)
    with pytest.raises(UserError, match="1 missing: trunk.layer0.0.weight.*INIT_PARTS"):
        start("trunk")


def test_settings_are_text(checkpoint, tmp_path):
    path, _ = checkpoint
    export(path, tmp_path / "network.safetensors")
    header = (tmp_path / "network.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["settings"])["METHOD"] == "srha" and metadata["step"] == "7"
