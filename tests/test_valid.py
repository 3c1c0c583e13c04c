"""valid.py on several checkpoints of random weights: what is refused, written and printed."""

import json
import sys

import pytest
import torch

import valid
from network.checkpoint import file_hash
from network.decoders import DECODERS
from utils.compare import __main__ as compare
from utils.errors import UserError


@pytest.fixture
def run_valid(monkeypatch, capsys):
    """Return `evaluate(*arguments)` → what valid.py prints on stdout and on stderr."""

    def start(*arguments, main=valid.main):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        capsys.readouterr()
        main()
        return capsys.readouterr()

    return start


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.draws
def test_one_checkpoint_is_evaluated_beside_itself(checkpoint, run_valid):
    path = checkpoint("logs/run/last.pth")
    out, progress = run_valid("--snapshot", path)
    folder = path.parent / "valid"
    assert out.startswith("domain ") and out.endswith(f"written to {folder}\n")
    assert (folder / "results.txt").read_text().rstrip() in out
    assert "checkpoint 1 of 1" in progress and "cityscapes: mIoU" in progress
    written = results(folder)
    assert written["checkpoint"] == "last.pth" and written["step"] == 7
    assert written["checkpoint_sha256"] == file_hash(path)
    assert "chosen_by" not in written
    for name in ("gtav", "cityscapes"):
        assert (folder / f"confusion_{name}.png").stat().st_size > 10000


def test_several_checkpoints_get_a_folder_each_and_one_table(checkpoint, run_valid, tmp_path):
    runs = tmp_path / "logs"
    paths = [checkpoint(f"logs/{name}/last.pth", seed) for seed, name in enumerate("ab")]
    paths += [checkpoint("logs/b/best.pth", 3)]
    out, progress = run_valid("--snapshot", runs / "a", *paths[1:])
    folders = [runs / "a" / "valid", runs / "b" / "valid_last", runs / "b" / "valid_best"]
    rows = out.splitlines()[2:5]
    for path, folder, row in zip(paths, folders, rows, strict=True):
        written = results(folder)
        assert written["checkpoint_sha256"] == file_hash(path)
        scores = [r["means"]["mIoU"] for r in written["domains"].values()]
        assert row.split() == [str(path), *(f"{100 * s:.1f}" for s in [*scores, scores[1]])]
    assert written["chosen_by"] == {"domain": "gtav", "oracle": False}
    assert "checkpoint 3 of 3" in progress
    alone, _ = run_valid("--snapshot", paths[1], "--out", "alone")
    assert results(tmp_path / "alone")["domains"] == results(folders[1])["domains"]

    table, _ = run_valid(*folders[:2], main=compare.main)
    assert "| baseline |" in table and table.splitlines()[2].endswith("| 2 |")


def test_out_holds_a_folder_for_each_of_several(checkpoint, run_valid, tmp_path):
    paths = [checkpoint(f"logs/{where}/run/last.pth", seed) for seed, where in enumerate("abc")]
    paths.append(checkpoint("logs/a/run/early.pth", 3))
    run_valid("--snapshot", *paths, "--out", "evaluated", "--val_dataset", "cityscapes",
          "VALID.SCALES", 0.25)  # fmt: skip
    names = ["run_last", "run_last_2", "run_last_3", "run_early"]
    assert sorted(p.name for p in (tmp_path / "evaluated").iterdir()) == sorted(names)
    for name, path in zip(names, paths, strict=True):
        assert results(tmp_path / "evaluated" / name)["checkpoint_sha256"] == file_hash(path)


def test_settings_that_belong_to_each_checkpoint_are_its_own(checkpoint, run_valid, tmp_path):
    """Another trunk width, and bfloat16: as if each were evaluated alone."""
    checkpoint("logs/wide/last.pth", **{"DECODER.CHANNELS": 24})
    checkpoint("logs/half/last.pth", **{"PRECISION": "bfloat16"})
    run_valid("--snapshot", "logs/wide", "logs/half", "--val_dataset", "cityscapes")
    for name in ("wide", "half"):
        together = results(tmp_path / "logs" / name / "valid")
        run_valid("--snapshot", f"logs/{name}", "--val_dataset", "cityscapes", "--out", "alone")
        assert results(tmp_path / "alone")["domains"] == together["domains"]


def damaged(path, checkpoint):
    target = checkpoint(path)
    target.write_bytes(target.read_bytes()[:1000])


def misfit(path, checkpoint):
    target = checkpoint(path)
    state = torch.load(target)
    state["settings"]["DECODER.CHANNELS"] = 8
    torch.save(state, target)


@pytest.mark.parametrize("spoil, message", [
    (lambda path, checkpoint: None, "no checkpoint logs/bad/last.pth"),
    (damaged, "logs/bad/last.pth is damaged"),
    (misfit, "logs/bad/last.pth: the checkpoint does not fit the network"),
    (lambda path, c: c(path, **{"VALID.PROTOCOL": "robustnet"}),
     "logs/good/last.pth would be evaluated with the protocol 'native' and logs/bad/last.pth with"),
    (lambda path, c: c(path, **{"DATASET.VALIDATION": []}), "no domain to evaluate on"),
    (lambda path, c: c(path, **{"DATASET.VALIDATION": ["gtav:val", "acdc"]}), "ACDC"),
    (lambda path, c: c(path, **{"DATASET.MAPILLARY_LABEL_MAP": "openseg",
                                "DATASET.VALIDATION": ["mapillary"]}),
     "would be evaluated on mapillary with other labels or files"),
])  # fmt: skip
def test_all_checkpoints_are_checked_before_any_is_evaluated(
    checkpoint, run_valid, monkeypatch, spoil, message
):
    checkpoint("logs/good/last.pth", **{"DATASET.VALIDATION": ["cityscapes", "mapillary"]})
    spoil("logs/bad/last.pth", checkpoint)
    monkeypatch.setattr(
        valid, "evaluate", lambda *_: pytest.fail("evaluated before all were checked")
    )
    with pytest.raises(UserError, match=message):
        run_valid("--snapshot", "logs/good/last.pth", "logs/bad/last.pth")


def test_a_checkpoint_given_twice_is_refused(checkpoint, run_valid):
    checkpoint("logs/run/last.pth")
    with pytest.raises(UserError, match="names .*logs/run/last.pth twice"):
        run_valid("--snapshot", "logs/run", "logs/run/last.pth")


def test_an_oracle_is_marked(checkpoint, run_valid, tmp_path):
    checkpoint("logs/run/best.pth", **{"VALID.BEST_ON": "cityscapes"})
    run_valid("--snapshot", "logs/run/best.pth", "--val_dataset", "bdd100k", "--out", "evaluated")
    choice = {"domain": "cityscapes", "oracle": True}
    assert results(tmp_path / "evaluated")["chosen_by"] == choice


def test_the_picture_finds_the_checkpoint_of_results(checkpoint, run_valid, tmp_path):
    checkpoint("logs/run/first.pth")
    run_valid(
        "--snapshot", "logs/run/first.pth", "--sliding", 128, 96, "--val_dataset", "cityscapes"
    )
    run_valid("logs/run/valid", "--picture", "page.png", main=compare.main)
    assert (tmp_path / "page.png").stat().st_size > 10000
    file = tmp_path / "logs/run/valid/results.json"
    file.write_text(file.read_text().replace('"step": ', '"step": 1'))
    with pytest.raises(UserError, match="first.pth is of step .* now, and .* of step 1"):
        run_valid("logs/run/valid", "--picture", "page.png", main=compare.main)
    with pytest.raises(UserError, match="page.svg: a picture ends in .png"):
        run_valid("logs/run/valid", "--picture", "page.svg", main=compare.main)
    (tmp_path / "logs/run/first.pth").unlink()
    with pytest.raises(
        UserError, match="pictures need the checkpoint of logs/run/valid/results.json"
    ):
        run_valid("logs/run/valid", "--picture", "page.png", main=compare.main)


@pytest.mark.parametrize("decoder", DECODERS)
def test_windows_scales_and_batches_with_every_decoder(checkpoint, run_valid, tmp_path, decoder):
    """One image at a time or two, the same confusion but for pixels that rounding decides."""
    checkpoint("logs/one/last.pth", **{"DECODER.NAME": decoder})
    options = ["--snapshot", "logs/one", "--sliding", 64, 48, "--scales", 0.25, 0.5, "--flip"]
    for number in (1, 2):
        run_valid(*options, "--out", f"out{number}", "VALID.BATCH_SIZE", number)
    one, two = (results(tmp_path / f"out{n}")["domains"] for n in (1, 2))
    assert one.keys() == two.keys() == {"gtav", "cityscapes"}
    for domain in one:
        assert one[domain]["means"]["mIoU"] == pytest.approx(two[domain]["means"]["mIoU"], abs=1e-3)
