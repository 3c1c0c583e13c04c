"""Checkpoint files: whole ones at every moment, the one before a damaged one, full disks."""

import errno
import io
import json
import os
import resource
import shutil
from collections import namedtuple

import pytest
import torch

from network.build import resolve
from tests.engine.processes import Training, load, small_disk
from utils.engine import saving
from utils.engine.saving import Checkpoints, link, newest_checkpoint, write_atomically
from utils.engine.selection import Best
from utils.errors import UserError

OPTIONS = ["--method", "baseline", "--exp", "one", "VALID.EVERY", 0, "LOG.CHECKPOINT_EVERY", 1]


def state(step, size=1000):
    keys = ("settings", "samples", "optimizer", "best", "running_means", "log_position")
    return dict.fromkeys(keys) | {"step": step, "method": {"w": torch.full((size,), float(step))}}


def step_of(path):
    return load(path)["step"]


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with checkpoints of step 1 (previous) and 2 (last)."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1))
    checkpoints.save(state(2))
    return checkpoints


def test_last_previous_and_best(checkpoints, tmp_path):
    checkpoints.keep_best()
    checkpoints.save(state(3))
    names = {path.name: step_of(path) for path in tmp_path.iterdir()}
    assert names == {"last.pth": 3, "previous.pth": 2, "best.pth": 2}


def test_there_is_a_whole_one_at_every_moment(checkpoints, tmp_path, monkeypatch):
    """Looked at before and after each change of a name in the folder."""
    seen = []

    def watched(change):
        def act(*names):
            seen.append(newest_checkpoint(tmp_path)[1]["step"])
            change(*names)
            seen.append(newest_checkpoint(tmp_path)[1]["step"])

        return act

    for name in ("replace", "link", "fsync"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    checkpoints.save(state(3))
    assert len(seen) >= 8 and sorted(seen) == seen and set(seen) == {2, 3}


def test_a_file_system_without_links(checkpoints, tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    checkpoints.save(state(3))
    checkpoints.keep_best()
    names = {path.name: step_of(path) for path in tmp_path.iterdir()}
    assert names == {"last.pth": 3, "previous.pth": 2, "best.pth": 3}


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    # The numbers of the tensor lie bare in the file.
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 2.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip_a_bit, empty])
def test_a_damaged_newest_one(checkpoints, tmp_path, damage):
    damage(tmp_path / "last.pth")
    path, found, warning = newest_checkpoint(tmp_path)
    assert (path.name, found["step"]) == ("previous.pth", 1)
    assert "last.pth is damaged" in warning and "previous.pth, step 1" in warning
    # What is saved next replaces the damaged one, and the sound one stays until then.
    Checkpoints(tmp_path, path).save(state(5))
    assert (step_of(tmp_path / "last.pth"), step_of(tmp_path / "previous.pth")) == (5, 1)


def test_all_damaged(checkpoints, tmp_path):
    for path in tmp_path.iterdir():
        cut(path)
    with pytest.raises(UserError, match="last.pth is damaged.*previous.pth is damaged.*no other"):
        newest_checkpoint(tmp_path)


def test_a_run_continues_from_the_one_before(run, tmp_path, capsys):
    run(*OPTIONS, "TRAIN.MAX_ITER", 4)
    whole = load(tmp_path / "logs/one/last.pth")
    cut(tmp_path / "logs/one/last.pth")
    run(*OPTIONS, "TRAIN.MAX_ITER", 4, "--resume")
    printed = capsys.readouterr().err
    assert "last.pth is damaged" in printed and "continuing from" in printed and "step 3" in printed
    again = load(tmp_path / "logs/one/last.pth")
    assert all(torch.equal(v, again["method"][k]) for k, v in whole["method"].items())


def test_no_complete_state(tmp_path):
    torch.save({"settings": {}, "method": {}}, tmp_path / "last.pth")
    with pytest.raises(UserError, match="last.pth cannot be continued from: it holds no best"):
        newest_checkpoint(tmp_path)


def test_no_room(checkpoints, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 4e6, 4e6))
    checkpoints.save(state(3, size=700_000))
    with pytest.raises(UserError, match=r"no room for a checkpoint of 5 MB .*\(4 MB free\)"):
        checkpoints.save(state(4, size=1_100_000))
    assert (step_of(tmp_path / "last.pth"), step_of(tmp_path / "previous.pth")) == (3, 2)


@pytest.mark.parametrize("size", [10**6, 30], ids=["in mid-file", "in the last bytes"])
def test_a_disk_that_turns_out_full(checkpoints, tmp_path, size):
    """A limit of the process on the size of files stands in: the same error by another number."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    saved = len(before["last.pth"])
    limit = 10**5 if size > 1000 else saved - 10
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        with pytest.raises(UserError, match="cannot write .*last.pth: file too large; make room"):
            checkpoints.save(state(3, size=max(size, 1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Broken(Exception):
    pass


def test_what_breaks_off_a_write_is_what_is_raised(checkpoints, tmp_path, monkeypatch):
    """A second Ctrl-C, a data loading process that is killed: torch.save raises its own error."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    number = iter(range(9))

    class Breaking(io.FileIO):
        def write(self, data):
            if next(number) == 3:
                raise Broken
            return super().write(data)

    monkeypatch.setattr(saving, "open", lambda path, mode: Breaking(path, mode), raising=False)
    with pytest.raises(Broken):
        checkpoints.save(state(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_small_disk(miniature, tmp_path):
    """A real one, on which a first checkpoint finds room and one more does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = [*OPTIONS, "TRAIN.MAX_ITER", 6, "LOG.DIR", disk]
    training = Training(tmp_path, miniature, *options, prepare=small_disk)
    code = training.wait()
    if code == [small_disk.REFUSED]:
        pytest.skip("this process may not mount a file system")
    assert code == [2], training.output()
    printed = training.output()
    assert "no room for a checkpoint" in printed or "cannot write" in printed
    assert "Traceback" not in printed
    assert step_of(tmp_path / "kept" / "last.pth") >= 1


def test_a_link_replaces_at_one_stroke(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    link(tmp_path / "a", tmp_path / "b")
    write_atomically(tmp_path / "a", b"new", "")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "new", "b": "a"}


@pytest.mark.parametrize("chosen, domain, oracle, said", [
    ([], "gtav", False, "best.pth is chosen by mIoU on gtav"),
    (["VALID.BEST_ON", "bdd100k"], "bdd100k", True, "for testing alone: the choice is an oracle"),
])  # fmt: skip
def test_best(run, tmp_path, capsys, chosen, domain, oracle, said):
    options = [*OPTIONS, "TRAIN.MAX_ITER", 4, "VALID.EVERY", 1, *chosen]
    run(*options, "--val_dataset", "bdd100k", "gtav")
    assert said in capsys.readouterr().err
    folder = tmp_path / "logs/one"
    record = json.loads((folder / "results.json").read_text())["best"]
    assert (record["domain"], record["oracle"]) == (domain, oracle)
    scores = [json.loads(line) for line in (folder / "metrics.jsonl").open() if "mIoU" in line]
    best = max(scores, key=lambda record: record[f"mIoU/{domain}"])
    assert record["step"] == best["step"] == step_of(folder / "best.pth")
    assert record["mIoU"] == best[f"mIoU/{domain}"]


def test_best_of_several_sources_is_by_the_mean_over_them(run, tmp_path, capsys):
    options = [*OPTIONS, "TRAIN.MAX_ITER", 4, "VALID.EVERY", 1, "--dataset", "gtav", "synthia"]
    run(*options, "--val_dataset", "bdd100k", "synthia", "gtav")
    output = capsys.readouterr()
    assert "best.pth is chosen by the mean of mIoU on gtav + synthia" in output.err
    assert "synthia (source)" in output.out and "gtav (source)" in output.out
    folder = tmp_path / "logs/one"
    results = json.loads((folder / "results.json").read_text())
    assert results["unseen"] == ["bdd100k"]
    scores = {
        r["step"]: (r["mIoU/gtav"] + r["mIoU/synthia"]) / 2
        for r in map(json.loads, (folder / "metrics.jsonl").open())
        if "mIoU/gtav" in r
    }
    record = results["best"]
    assert record["step"] == max(scores, key=scores.get) == step_of(folder / "best.pth")
    assert record["mIoU"] == pytest.approx(scores[record["step"]], abs=1e-12)
    assert record["images"] == 6


def test_without_a_domain_to_choose_by(run, tmp_path, capsys):
    run(*OPTIONS, "TRAIN.MAX_ITER", 1, "--val_dataset", "bdd100k", "gtav:train")
    assert "no best.pth: no validation split of the source is evaluated" in capsys.readouterr().err
    assert not (tmp_path / "logs/one/best.pth").exists()
    with pytest.raises(UserError, match="VALID.BEST_ON is mapillary, which is not among"):
        run("--exp", "two", "VALID.BEST_ON", "mapillary")


def test_the_best_is_never_chosen_by_a_test_split_unasked():
    settings = {"DATASET.SOURCE": "camvid", "DATASET.VALIDATION": "camvid:test,idd_lite"}
    assert Best(resolve(settings)).domain == ""
    asked = Best(resolve(settings | {"VALID.BEST_ON": "camvid:test"}))
    assert (asked.domain, asked.oracle) == ("camvid:test", True)
