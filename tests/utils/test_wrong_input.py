"""compare, report and export answer what they cannot use with one line, and lose nothing."""

import json
import os
import resource
import sys
from contextlib import contextmanager

import pytest
import torch

from network import load
from tests.utils.results_of_runs import run_result, write_results
from utils.compare import __main__ as compare
from utils.compare.networks import open_network
from utils.errors import UserError, run_script
from utils.export import __main__ as export
from utils.report import __main__ as report

COMMANDS = {"compare": compare, "report": report, "export": export}


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    """Return `answer(command, *arguments)` → the one line on stderr of a command that exits 2."""
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "good", run_result({"cityscapes": 0.5}))

    def start(command, *arguments):
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            run_script(COMMANDS[command].main)
        assert exit_.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return start


def changed(**changes):
    return json.dumps(run_result({"cityscapes": 0.5}) | changes)


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe", b"[1]", changed().encode()[:-9], changed(domains=[]).encode(),
    changed(domains={}).encode(), changed(domains={"cityscapes": {"title": "a"}}).encode(),
    changed(settings={}).encode(), changed(step="x").encode(), changed(unseen=None).encode(),
])  # fmt: skip
def test_results_that_are_none(answer, tmp_path, command, content):
    (tmp_path / "bad.json").write_bytes(content)
    assert "bad.json" in answer(command, "good", "bad.json")


def test_matrices_and_records_that_are_none(answer, tmp_path):
    line = answer("report", "good", "--no-gallery")
    assert "the confusion matrices of srha on CITYSCAPES are none" in line
    odd = '{"step": [1], "loss/ce": 2}\n{"step": 1, "loss/ce": "x"}\n{"step": 2, "loss/ce": 1}\n'
    (tmp_path / "good/metrics.jsonl").write_text(odd)
    records = report._metrics(tmp_path / "good/results.json")
    assert report._curve([records], "loss/ce", 1) == {2: [1]}


@pytest.mark.parametrize("out", ["folder", "file/x", "/proc/x", 300 * "x", "pipe"])
@pytest.mark.parametrize("command", COMMANDS)
def test_places_that_cannot_be_written_to_are_named_before_the_work(
    answer, tmp_path, monkeypatch, command, out
):
    for module, work in ((compare, "group_runs"), (report, "group_runs"), (export, "open_run")):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("worked"))
    (tmp_path / "file").touch()
    for number, flag in enumerate(("--out", "--picture") if command == "compare" else ("--out",)):
        path = out + (".onnx", ".png")[number]
        if out == "pipe":
            os.mkfifo(path)
        elif out == "folder":
            (tmp_path / path).mkdir()
        assert path in answer(command, "good", flag, path)


def test_other_endings_of_pictures_are_refused(answer):
    for name in ("page.svg", "page", "page."):
        assert "a picture ends in .png" in answer("compare", "good", "--picture", name)


def test_long_paths(answer):
    for command in ("compare", "report"):
        assert "xxx: file name too long" in answer(command, 300 * "x")


@contextmanager
def no_room(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_what_was_there(answer, tmp_path):
    (tmp_path / "table.md").write_text("old")
    with no_room(10):
        line = answer("compare", "good", "--out", "table.md")
    assert line.endswith("file too large; make room. The table is printed above")
    assert (tmp_path / "table.md").read_text() == "old" and not list(tmp_path.glob("*.part"))


def test_settings_of_another_version_are_left_out_on_request(saved, answer, tmp_path):
    _, method, folder = saved("srha")
    state = torch.load(folder / "last.pth")
    state["settings"]["GONE.KEY"] = 3
    torch.save(state, folder / "last.pth")
    own = {"METHOD": "srha"} | {k: v for k, v in state["settings"].items() if k != "GONE.KEY"}
    results = run_result({"cityscapes": 0.5}, settings=own, step=0)
    file = write_results(folder / "valid", results) / "results.json"
    given = {"UNKNOWN_SETTINGS": "ignore"}
    for start in (
        lambda **how: load(folder, "cpu", **{k.lower(): v for k, v in how.items()}),
        lambda **how: export.export(folder, tmp_path / "network.safetensors", settings=how),
        lambda **how: open_network(file, results, how),
    ):
        with pytest.raises(UserError, match="GONE.KEY .*give UNKNOWN_SETTINGS ignore"):
            start()
        start(**given)
    # What was left out is no longer there.
    assert load(tmp_path / "network.safetensors", "cpu").settings.METHOD == "srha"
    line = answer("export", folder, "--out", "x.safetensors", "DECODER.CHANNELS", 5)
    assert (
        "DECODER.CHANNELS has no effect here; UNKNOWN_SETTINGS, TRUNK.WEIGHTS, MEMORY.GUMBEL have"
        in line
    )
