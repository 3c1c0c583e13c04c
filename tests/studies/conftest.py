"""A study file, and its runs with a fake in place of train.py."""

import json
import sys

import pytest

from studies import __main__ as study_script
from tests.studies.fake_runs import ROOT

# Stands for train.py: notes that it was called, and writes results that depend on its settings.
TRAINER = """
import os, sys, time
from pathlib import Path
from tests.utils.results_of_runs import run_result, write_results
words = sys.argv[1:]
own = dict(zip(words[2::2], words[3::2]))
with open("calls.txt", "a") as calls:
    print(own["EXPERIMENT"], os.environ["OMP_NUM_THREADS"], *words, file=calls)
time.sleep(float(os.environ.get("SLOW", 0)))
if own["SEED"] == os.environ.get("FAIL"):
    sys.exit("a failure")
alpha = float(own.get("SRM.CONCENTRATION", 2**-6))
base = 0.2 if own["METHOD"] == "baseline" else 0.3 + alpha / 10
domains = own.get("DATASET.VALIDATION", "gtav,cityscapes,idd").split(",")
scores = dict.fromkeys(domains, base) | {"gtav": 0.5, "cityscapes": base + int(own["SEED"]) / 100}
results = run_result(scores, own["METHOD"], int(own["SEED"]))
for result in results["domains"].values():
    result["label_space"] = own.get("DATASET.LABEL_SPACE", "cityscapes19")
results["mean_unseen"] = base + int(own["SEED"]) / 200
if "DATASET.TARGET" in own:
    results["settings"]["DATASET.TARGET"] = own["DATASET.TARGET"]
    results["unseen"].remove("cityscapes")
write_results(Path(own["LOG.DIR"]) / own["EXPERIMENT"], results)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return `study(name, **parts)`, which writes a study file where train.py is a fake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "train.py").write_text(TRAINER)

    def write(name="study", **parts):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(parts))
        return str(path)

    return write


@pytest.fixture
def run(monkeypatch, capsys):
    """Return `run(*arguments)` → (stdout, stderr) of studies."""

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        capsys.readouterr()
        study_script.main()
        return capsys.readouterr()

    return start
