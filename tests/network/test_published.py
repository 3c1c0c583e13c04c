"""Checkpoints with the key names of the published code load, and predict alike."""

import numpy as np
import pytest
import torch

import train
import valid
from network.build import build_method, load_network
from network.checkpoint import load_checkpoint
from network.published import is_published, rename_weights
from network.trunks import TRUNKS
from utils.errors import UserError

# What published files hold besides the layers, per trunk: name → shape of the first convolution.
PUBLISHED_KEYS = {
    "resnet50": {
        "module.layer0.0.weight": (64, 3, 7, 7),
        "module.layer0.1.running_mean": (64,),
        "module.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "module.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "module.aspp.features.0.0.weight": (256, 2048, 1, 1),
        "module.aspp.features.3.1.bias": (256,),
        "module.aspp.img_conv.0.weight": (256, 2048, 1, 1),
        "module.bot_fine.0.weight": (48, 256, 1, 1),
        "module.bot_aspp.0.weight": (256, 1280, 1, 1),
        "module.final1.0.weight": (256, 304, 3, 3),
        "module.final1.4.weight": (256,),
        "module.final2.0.weight": (19, 256, 1, 1),
        "module.final2.0.bias": (19,),
        "module.dsn.0.weight": (512, 1024, 3, 3),
        "module.dsn.0.bias": (512,),
        "module.dsn.4.weight": (19, 512, 1, 1),
    },
    "resnet101": {"module.layer3.22.conv2.weight": (256, 256, 3, 3)},
    "mobilenet_v2": {
        "module.layer0.0.0.weight": (32, 3, 3, 3),
        "module.layer0.1.conv.0.0.weight": (32, 1, 3, 3),
        "module.layer1.0.conv.0.0.weight": (96, 16, 1, 1),
        "module.layer3.6.conv.2.weight": (320, 960, 1, 1),
        "module.layer4.0.0.weight": (1280, 320, 1, 1),
        "module.bot_fine.0.weight": (48, 32, 1, 1),
        "module.dsn.0.weight": (512, 320, 3, 3),
    },
    "shufflenet_v2_x1_0": {
        "module.layer0.0.0.weight": (24, 3, 3, 3),
        "module.layer1.0.branch1.0.weight": (24, 1, 3, 3),
        "module.layer3.0.branch2.3.weight": (232, 1, 3, 3),
        "module.layer4.0.weight": (1024, 464, 1, 1),
        "module.dsn.0.weight": (512, 464, 3, 3),
    },
}
FULL = {
    "DECODER__CHANNELS": 256,
    "DECODER__LOW_LEVEL_CHANNELS": 48,
    "DECODER__AUX_CHANNELS": 512,
    "DATASET__LABEL_SPACE": "cityscapes19",
}


def as_published(method):
    """Name the network of a method as the published code does, inside DDP and a state_dict."""
    weights = {}
    for key, value in method.state_dict().items():
        part, _, rest = key.partition(".")
        if part in ("trunk", "decoder"):
            rest = rest.replace("classifier.", "final2.0.").replace(
                ".norm.", ".instance_norm_layer."
            )
            weights["module." + rest] = value
    return {"state_dict": weights, "epoch": 3, "mean_iu": np.float64(0.4)}


@pytest.mark.parametrize("trunk", PUBLISHED_KEYS)
def test_names_and_shapes(settings, trunk):
    with torch.device("meta"):
        method, _ = build_method(settings(METHOD="baseline", TRUNK__NAME=trunk, **FULL))
    published = as_published(method)["state_dict"]
    for key, shape in PUBLISHED_KEYS[trunk].items():
        assert published[key].shape == shape


# RobustNet's, by method and trunk: name → channels of what its norms add or leave out.
NORMS = {
    ("ibn", "resnet50"): {
        "layer0.1.weight": 64, "layer1.2.instance_norm_layer.weight": 256,
        "layer2.3.instance_norm_layer.bias": 512, "layer0.1.running_mean": 0,
    },
    ("ibn", "mobilenet_v2"): {
        "layer0.1.instance_norm_layer.weight": 16, "layer1.4.instance_norm_layer.weight": 32,
        "layer2.3.instance_norm_layer.weight": 64, "layer0.0.1.running_mean": 32,
    },
    ("ibn", "shufflenet_v2_x1_0"): {
        "layer0.0.1.weight": 24, "layer1.3.instance_norm_layer.weight": 116,
        "layer2.7.instance_norm_layer.bias": 232, "layer0.0.1.running_mean": 0,
    },
    ("isw", "resnet50"): {
        "layer0.1.weight": 0, "layer1.2.instance_norm_layer.weight": 0, "layer1.2.bn3.bias": 256,
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "trunk"), NORMS)
def test_names_of_norms(settings, name, trunk):
    with torch.device("meta"):
        method, _ = build_method(settings(METHOD=name, TRUNK__NAME=trunk, **FULL))
    published = as_published(method)["state_dict"]
    for key, channels in NORMS[name, trunk].items():
        found = published.get(f"module.{key}", torch.empty(0))
        assert len(found) == channels, key


@pytest.mark.parametrize("trunk", ["resnet_mini", "mobilenet_v2", "shufflenet_v2_x1_0"])
@pytest.mark.parametrize("name", ["baseline", "srha", "ibn", "isw"])
def test_a_round_trip_gives_the_same_logits(settings, tmp_path, trunk, name):
    cfg = settings(METHOD=name, TRUNK__NAME=trunk, DATASET__LABEL_SPACE="cityscapes19")
    method, _ = build_method(cfg)
    torch.save(as_published(method), tmp_path / "published.pth")
    state = load_checkpoint(tmp_path / "published.pth")
    loaded, _ = build_method(cfg, state)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), method.eval()(images))
    started, _ = build_method(cfg)
    load_network(started, state["method"])
    with torch.no_grad():
        assert torch.equal(started.eval()(images), method(images))


def test_our_own_checkpoints_are_not_taken_for_published_ones(settings):
    method, _ = build_method(settings(METHOD="baseline", DATASET__LABEL_SPACE="cityscapes19"))
    assert not is_published({"settings": {}, "method": method.state_dict()})
    assert is_published(as_published(method))
    assert is_published(as_published(method)["state_dict"])
    assert set(rename_weights(as_published(method))) == set(method.state_dict())
    assert set(TRUNKS) > set(PUBLISHED_KEYS)


def test_a_file_of_another_network_names_keys_and_shapes(settings, tmp_path):
    options = {"METHOD": "baseline", "DATASET__LABEL_SPACE": "cityscapes19"}
    method, _ = build_method(settings(TRUNK__NAME="resnet18", **options))
    state = {"method": rename_weights(as_published(method)), "published": True}
    with pytest.raises(
        UserError,
        match=r"missing: trunk.layer1.* decoder.aspp.features.0.0.weight \[16, 512, 1, 1\]",
    ):
        build_method(settings(TRUNK__NAME="resnet50", **options), state)


def test_scripts_take_a_published_file(settings, miniature, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    method, _ = build_method(settings(METHOD="srha", DATASET__LABEL_SPACE="cityscapes19"))
    torch.save(as_published(method), "published.pth")
    network = ["--method", "srha", "--trunk", "resnet_mini", "TRUNK.WEIGHTS", "objects"]
    network += ["DECODER.CHANNELS", "16", "DECODER.LOW_LEVEL_CHANNELS", "8", "DECODER.AUX_CHANNELS"]
    network += [
        "16",
        "DATASET.ROOT",
        str(miniature),
        "WORKERS",
        "0",
        "VALID.PROTOCOL",
        "native",
        "--val_dataset",
        "bdd100k",
    ]
    monkeypatch.setattr("sys.argv", ["valid.py", "--snapshot", "published.pth", *network])
    valid.main()
    assert "bdd100k" in capsys.readouterr().out
    options = ["--dataset", "gtav", "--init", "published.pth", "--exp", "x", "TRAIN.MAX_ITER", "1"]
    options += ["TRAIN.LR_ENCODER", "0", "TRAIN.LR_DECODER", "0", "TRANSFORM.CROP_SIZE", "64,64"]
    monkeypatch.setattr("sys.argv", ["train.py", *options, *network])
    train.main()
    trained = load_checkpoint(tmp_path / "logs/x/last.pth")["method"]
    weight = "decoder.classifier.weight"
    assert torch.equal(trained[weight], method.state_dict()[weight])
