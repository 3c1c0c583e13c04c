"""Checkpoints that leave frozen weights to the file they came from."""

import copy

import pytest
import torch

from benchmarks.networks import fits
from network.build import build_method, initialise
from network.kept import stored_weights
from network.methods import METHODS, method_class
from tests.network.tuned import moved, tuned_settings
from tests.networks import transformer_file
from utils.errors import UserError

ADDED = ("lora", "soma", "rein")


@pytest.fixture
def file(tmp_path):
    return transformer_file(tmp_path / "vit.pth")


@pytest.mark.parametrize("tuning", ["frozen", *ADDED])
def test_checkpoints_leave_frozen_weights_to_the_file(file, tmp_path, batch, tuning):
    cfg = tuned_settings("dinov2_mini", tuning, "dacs", **{"TRUNK.WEIGHTS": str(file)})
    method, _ = build_method(cfg)
    moved(method)
    state = stored_weights(method, cfg) | {"settings": {}, "step": 1}
    stored = state["method"]
    frozen = {n for n, p in method.trunk.named_parameters() if not p.requires_grad}
    # The kernel, which the file has at another size, is in the checkpoint.
    here = {k.removeprefix("trunk.") for k in stored if k.startswith("trunk.")}
    assert here & frozen == {"layer0.proj.weight"}
    assert len([k for k in stored if k.startswith("teacher.parts.trunk.layer1")]) == len(
        [k for k in stored if k.startswith("trunk.layer1")]
    )
    again, _ = build_method(cfg, state)
    for key, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert stored_weights(again, cfg)["method"].keys() == stored.keys()
    images = torch.randn(1, 3, 48, 64)
    assert torch.equal(again.eval()(images), method.eval()(images))

    weights = torch.load(file)
    weights["blocks.1.mlp.fc1.bias"][3] += 1
    torch.save(weights, tmp_path / "other.pth")
    other = copy.deepcopy(cfg)
    other.TRUNK.WEIGHTS = str(tmp_path / "other.pth")
    message = (
        "leaves frozen weights to the file .*vit.pth .SHA-256 .*, and TRUNK.WEIGHTS .*other.pt"
    )
    with pytest.raises(UserError, match=message):
        build_method(other, state)
    other.TRUNK.WEIGHTS = "nowhere"
    with pytest.raises(UserError, match="vit.pth .* give its path as TRUNK.WEIGHTS .no weights fi"):
        build_method(other, state)


@pytest.mark.parametrize("name", [m for m in METHODS if method_class(m).trunks] + ["baseline"])
def test_norms_that_a_method_puts_into_a_frozen_trunk_are_stored(batch, name):
    """They are not in the file, whatever their names are."""
    given = {"TRUNK.WEIGHTS": "objects"}
    decoder = "deeplabv3plus" if fits(name, "deeplabv3plus") else "deeplabv2"
    cfg = tuned_settings("resnet_mini", "frozen", name, decoder, **given)
    method, _ = build_method(cfg)
    moved(method)
    state = stored_weights(method, cfg)
    trained = {key for key, p in method.named_parameters() if p.requires_grad}
    assert trained <= state["method"].keys() and state["frozen"]["names"]
    again, _ = build_method(cfg, state)
    for key, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_runs_start_from_checkpoints_that_leave_weights_out(file, tmp_path):
    cfg = tuned_settings("dinov2_mini", "lora", **{"TRUNK.WEIGHTS": str(file)})
    method, _ = build_method(cfg)
    moved(method)
    torch.save(stored_weights(method, cfg) | {"settings": {}, "step": 1}, tmp_path / "last.pth")
    cfg.INIT = str(tmp_path / "last.pth")
    torch.manual_seed(9)
    new, _ = build_method(cfg)
    initialise(new, cfg)
    for key, value in method.state_dict().items():
        assert torch.equal(value, new.state_dict()[key]), key
    assert stored_weights(new, cfg)["frozen"]
    # A whole checkpoint with other weights than the file's is stored whole from then on.
    whole = {k: v + 0.1 if v.is_floating_point() else v for k, v in method.state_dict().items()}
    torch.save({"settings": {}, "step": 1, "method": whole}, tmp_path / "whole.pth")
    cfg.INIT = str(tmp_path / "whole.pth")
    initialise(new, cfg)
    assert stored_weights(new, cfg)["frozen"] is None
    assert any("frozen weights are those of INIT" in remark for remark in new.remarks(1))
    # A linear probe's weights, then all of them are trained.
    probe = tuned_settings("dinov2_mini", "frozen", **{"TRUNK.WEIGHTS": str(file)})
    frozen, _ = build_method(probe)
    torch.save(stored_weights(frozen, probe) | {"settings": {}, "step": 1}, tmp_path / "probe.pth")
    full = tuned_settings("dinov2_mini", "full", **{"TRUNK.WEIGHTS": str(file)})
    full.INIT = str(tmp_path / "probe.pth")
    whole, _ = build_method(full)
    moved(whole)
    initialise(whole, full)
    for key, value in frozen.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    # The decoder alone asks for no file.
    cfg.INIT, cfg.TRUNK.WEIGHTS = str(tmp_path / "last.pth"), "none"
    random, _ = build_method(cfg)
    cfg.INIT_PARTS = ["decoder"]
    initialise(random, cfg)
    cfg.INIT_PARTS = ["trunk", "decoder"]
    with pytest.raises(UserError, match="--init .*last.pth: the checkpoint leaves frozen weights"):
        initialise(random, cfg)
    resnet = tuned_settings("resnet_mini", "full", **{"TRUNK.WEIGHTS": "objects"})
    resnet.INIT = cfg.INIT
    other, _ = build_method(resnet)
    with pytest.raises(UserError, match="--trunk resnet_mini has no layer0.proj"):
        initialise(other, resnet)
