"""train.py and valid.py end to end on a miniature benchmark of a few images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import datasets
import network
import train
import valid
from network.decoders.deeplabv3plus import DeepLabV3Plus
from tests.datasets.trees import orchard_tree
from utils.compare import __main__ as compare
from utils.errors import UserError
from utils.export.__main__ import export

ROOT = Path(__file__).parent.parent
NETWORK = (
    "--trunk resnet_mini TRUNK.WEIGHTS objects DECODER.CHANNELS 16 DECODER.LOW_LEVEL_CHANNELS 8 "
    "DECODER.AUX_CHANNELS 16 TRANSFORM.CROP_SIZE 64,96 TRAIN.BATCH_SIZE 4 WORKERS 0 "
    "VALID.PROTOCOL native"
).split()


@pytest.fixture
def run(miniature, tmp_path, monkeypatch):
    """Return `run(main, *arguments)`, which runs a script in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)

    def start(main, *arguments):
        line = [str(a) for a in arguments]
        if main is train.main:
            source = [] if "--dataset" in line else ["--dataset", "gtav"]
            line += [*NETWORK, *source, "DATASET.ROOT", str(miniature)]
        monkeypatch.setattr(sys, "argv", ["script", *line])
        main()

    return start


def test_train_validate_compare(run, tmp_path, capsys):
    domains = ["gtav", "synthia", "cityscapes", "bdd100k", "mapillary"]
    for method in ("baseline", "srha"):
        run(train.main, "--method", method, "--exp", method, "--val_dataset", *domains,
            "TRAIN.MAX_ITER", 3, "LOG.EVERY", 2, "TRAIN.BATCH_PER_PROCESS", 2)  # fmt: skip
    folder = tmp_path / "logs" / "srha"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = {"ce", "aux", "global", "regional", "local", "consistency", "total"}
    assert {f"loss/{n}" for n in names} < lines[0].keys()
    assert lines[0]["loss/total"] == pytest.approx(
        sum(v for k, v in lines[0].items() if k.startswith("loss/") and k != "loss/total")
    )
    assert [line["step"] for line in lines[:2]] == [2, 3]
    assert any(p.name.startswith("events.out.tfevents") for p in folder.iterdir())
    results = json.loads((folder / "results.json").read_text())
    assert list(results["domains"]) == domains
    assert results["unseen"] == domains[1:]
    assert results["domains"]["synthia"]["means"].keys() == {"mIoU", "mIoU16", "mIoU13"}
    assert len(results["domains"]["mapillary"]["sizes"]) > 1
    assert "cityscapes,mIoU,," in (folder / "results.csv").read_text()

    # A checkpoint knows its network: no setting is given again.
    run(valid.main, "--snapshot", folder / "last.pth", "--val_dataset", "cityscapes")
    again = json.loads((folder / "valid" / "results.json").read_text())
    assert again["domains"]["cityscapes"] == results["domains"]["cityscapes"]
    assert again["checkpoint_sha256"]

    assert again["protocol"] == "native"

    run(valid.main, "--snapshot", folder / "last.pth", "--val_dataset", "bdd100k", "--flip",
        "--scales", 0.5, 1.0, "--sliding", 128, 96, "--out", "augmented")  # fmt: skip
    augmented = json.loads((tmp_path / "augmented" / "results.json").read_text())
    assert augmented["protocol"] == "native, windows of 128 with stride 96, scales 0.5 1, flip"
    pixels = [sum(map(sum, r["domains"]["bdd100k"]["confusion"])) for r in (augmented, results)]
    assert pixels[0] == pixels[1]
    assert augmented["domains"]["bdd100k"]["iou"] != results["domains"]["bdd100k"]["iou"]

    capsys.readouterr()
    picture = tmp_path / "predictions.png"
    run(compare.main, "logs/baseline", "logs/srha", "--picture", picture, "--out", "table.md")
    table = capsys.readouterr().out
    assert "| baseline |" in table and "| srha |" in table and "GTAV (source)" in table
    score = 100 * results["domains"]["bdd100k"]["means"]["mIoU"]
    assert f"| {score:.1f} |" in (tmp_path / "table.md").read_text().replace("**", "")
    assert picture.stat().st_size > 10000


class Cut(Exception):
    pass


def test_a_run_cut_off_in_its_last_validation_is_evaluated_on_resuming(run, tmp_path, monkeypatch):
    options = ["--val_dataset", "gtav", "TRAIN.MAX_ITER", 2, "--exp", "cut"]

    def stop(*arguments):
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(train, "evaluate", stop)
        run(train.main, *options)
    assert not (tmp_path / "logs/cut/results.json").exists()
    run(train.main, *options, "--resume")
    assert json.loads((tmp_path / "logs/cut/results.json").read_text())["step"] == 2


def test_resuming_takes_changed_rates(run, tmp_path, monkeypatch, capsys):
    """And what the network remarks is logged."""
    monkeypatch.setattr(DeepLabV3Plus, "remarks", ("a remark",))
    options = ["--val_dataset", "gtav", "--exp", "rates"]
    run(train.main, *options, "TRAIN.MAX_ITER", 1)
    assert "\na remark\n" in capsys.readouterr().err
    run(train.main, *options, "TRAIN.MAX_ITER", 2, "TRAIN.LR_DECODER", 0.3, "--resume")
    state = torch.load(tmp_path / "logs/rates/last.pth", weights_only=True)
    rates = {g["name"]: g["lr"] for g in state["optimizer"]["param_groups"]}
    assert rates == {name: rate * 0.5**0.9 for name, rate in (("trunk", 0.005), ("decoder", 0.3))}
    assert state["samples"] == 8


def test_an_experiment_is_never_overwritten(run, tmp_path):
    folder = tmp_path / "logs" / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="mine exists; it holds no checkpoint to continue from"):
        run(train.main, "--exp", "mine")
    assert (folder / "notes.txt").read_text() == "keep"


def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "TRAIN.MAX_ITR", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: unknown setting TRAIN.MAX_ITR; did you mean TRAIN.MAX_ITER?"
    )
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_dataset_of_a_file_in_every_command(run, tmp_path, capsys, monkeypatch):
    """It is trained on and resumed; checkpoint and export know its classes without the file."""
    monkeypatch.setattr(datasets, "DESCRIBED", {})
    file, _ = orchard_tree(tmp_path / "my orchard")
    small = ["--method", "baseline", "TRANSFORM.CROP_SIZE", "32,32", "TRAIN.BATCH_SIZE", 2]
    run(train.main, "--dataset", file, "--val_dataset", file, "cityscapes", *small,
        "TRAIN.MAX_ITER", 2)  # fmt: skip
    folder = tmp_path / "logs" / "orchard_resnet_mini_baseline"
    for line in (["--dataset", file], ["--dataset", "orchard", "DATASET.FILES", file]):
        run(train.main, *line, *small, "--resume", "TRAIN.MAX_ITER", 3)
    results = json.loads((folder / "results.json").read_text())
    assert list(results["domains"]) == ["orchard", "cityscapes"]
    assert results["unseen"] == ["cityscapes"] and results["best"]["domain"] == "orchard"
    assert [*results["domains"]["cityscapes"]["iou"]] == ["grass", "path", "tree", "fruit", "sky"]

    export(folder / "last.pth", tmp_path / "net.safetensors")
    datasets.DESCRIBED.clear()
    file.rename(tmp_path / "orchard.json")
    assert network.load(tmp_path / "net.safetensors").classes[2] == "tree"
    for snapshot in (folder / "last.pth", tmp_path / "net.safetensors"):
        run(valid.main, "--snapshot", snapshot, "--val_dataset", "cityscapes", "--out", "again")
        again = json.loads((tmp_path / "again" / "results.json").read_text())
        assert again["domains"]["cityscapes"] == results["domains"]["cityscapes"]
    with pytest.raises(UserError, match="unknown dataset 'orchard'.*is named by its JSON file"):
        run(valid.main, "--snapshot", folder)
    # Other classes under the same name are other ones.
    file = tmp_path / "orchard.json"
    file.write_text(file.read_text().replace("fruit", "fruits"))
    with pytest.raises(UserError, match="two label spaces are called orchard: .*fruit, .*fruits,"):
        run(valid.main, "--snapshot", folder, "--val_dataset", file)
