"""What benchmarks leave behind."""

import json
import sys

from benchmarks.reporting import save


def test_figures_have_their_command_without_places(tmp_path, monkeypatch):
    words = ["--trunk", "resnet18", "--data", "/some/where/data", "--forms", "without SRM"]
    monkeypatch.setattr(sys, "argv", ["/here/benchmarks/train_step.py", *words])
    save(tmp_path, "other_name", {"measured": [1]})
    found = json.loads((tmp_path / "other_name.json").read_text())
    line = "python -m benchmarks.train_step --trunk resnet18 --data data --forms 'without SRM'"
    assert found["command"] == line and found["measured"] == [1]
