"""Surveys: the same for any number of processes, and begun anew by a run that was cut off."""

import os
import signal

import pytest
import torch

from datasets.sampling.passes import SourcePass
from datasets.sampling.source import open_source
from network.build import build_method
from network.methods import method_class
from tests.engine.processes import load, records, same
from tests.test_distributed import in_processes
from utils.engine.runtime import Runtime
from utils.engine.surveys import run_survey
from utils.errors import Stopped, UserError

SURVEYS = {"isw": "sensitive.", "shade": "styles", "pinmem": "decoder.context."}
NAMED = {"isw": "sensitive/layer 0", "shade": "styles/distance", "pinmem": "memory/classes"}
OPTIONS = ["TRAIN.MAX_ITER", 8, "LOG.EVERY", 4, "LOG.CHECKPOINT_EVERY", 100, "VALID.EVERY", 0]
OPTIONS += ["ISW.START_EPOCH", 3]


def options_of(method):
    return OPTIONS if method == "isw" else OPTIONS[:-2]


def test_what_a_pass_sees():
    keys = SourcePass(whole=True, rounds=3, images=4).keys([10, 3], (1, 2))
    assert [place for _, place, _ in keys] == list(range(3 * 7))
    rounds = [[index for number, _, index in keys if number == r] for r in range(3)]
    for indices in rounds:
        assert len(set(indices)) == 7
        assert sum(index < 10 for index in indices) == 4
        assert indices[4:] == [10, 11, 12], "all of a small source"
    assert len({tuple(r) for r in rounds}) == 3
    assert keys == SourcePass(whole=True, rounds=3, images=4).keys([10, 3], (1, 2))
    assert keys != SourcePass(whole=True, rounds=3, images=4).keys([10, 3], (1, 3))
    assert SourcePass(whole=False).keys([2, 2], (1, 2)) == [(0, i, i) for i in range(4)]


def surveyed(cfg, device_colours, rank, world_size):
    """What a method's buffers hold after a survey."""
    torch.manual_seed(0)
    method, _ = build_method(cfg)
    source, _ = open_source(cfg, "cuda" if device_colours else "cpu")
    runtime = Runtime(torch.device("cpu"), rank, world_size, "float32")
    due = method.survey_due(0, 1)
    paused = []
    found = run_survey(method, due, source, cfg, runtime, 0, lambda: paused.append(1))
    state = method.state_dict()
    prefix = SURVEYS[cfg.METHOD]
    return {k: v for k, v in state.items() if k.startswith(prefix)}, found.lines, len(paused)


def all_surveyed(cfgs, rank, world_size):
    return [surveyed(cfg, False, rank, world_size) for cfg in cfgs]


def test_three_processes_find_what_one_does(settings, miniature, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfgs = []
    # Twelve crops, twenty images, and two for three processes.
    isw = {"ISW__START_EPOCH": 0, "ISW__IMAGES": 5}
    none = isw | {"ISW__IMAGES": 1, "ISW__TRIALS": 1}
    for name, changes in (("shade", {}), ("pinmem", {}), ("isw", isw), ("isw", none)):
        cfgs.append(
            settings(
                METHOD=name, DATASET__ROOT=str(miniature), DATASET__LABEL_SPACE="cityscapes19",
                DATASET__SOURCE=["gtav", "synthia"], TRANSFORM__CROP_SIZE=[64, 64],
                TRAIN__BATCH_PER_PROCESS=3, WORKERS=0, **changes,
            )
        )  # fmt: skip
    shared = in_processes(3, tmp_path, all_surveyed, cfgs)
    for cfg, (found, lines, paused) in zip(cfgs, shared, strict=True):
        alone, others, _ = surveyed(cfg, False, 0, 1)
        assert alone.keys() == found.keys() and lines == others
        few = cfg.METHOD == "isw" and cfg.ISW.IMAGES == 1  # a process has none: no common pause
        assert (paused == 0) == few
        on_device, _, _ = surveyed(cfg, True, 0, 1)
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(on_device[key], value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SURVEYS)
def test_a_run_that_is_stopped_in_a_survey_begins_it_anew(run, tmp_path, monkeypatch, name):
    """ISW's is before the fourth step, others' before the first."""
    images = 4 if method_class(name).splits_sources else 2
    options = ["--method", name, *options_of(name), "TRAIN.BATCH_PER_PROCESS", images]
    run(*options, "--exp", "whole")
    survey = method_class(name).survey

    def interrupted(method, batches, number):
        def asked_to_stop():
            for batch in batches:
                os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return survey(method, asked_to_stop(), number)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped and saved"):
        patch.setattr(method_class(name), "survey", interrupted)
        patch.setattr("utils.engine.surveys.PAUSE_EVERY", 1)
        run(*options, "--exp", "cut")
    logs = tmp_path / "logs"
    assert load(logs / "cut/last.pth")["step"] == (3 if name == "isw" else 0)
    run(*options, "--exp", "cut", "--resume")
    states = [
        load(logs / name / "last.pth", "settings", "log_position") for name in ("whole", "cut")
    ]
    assert same(*states)
    assert records(logs / "whole") == records(logs / "cut")
    found = sum(NAMED[name] in record for record in records(logs / "cut"))
    assert found == (2 if name == "shade" else 1)


def test_a_set_of_fewer_images_than_bases_leaves_nothing_behind(run, tmp_path):
    options = ["--method", "shade", *options_of("shade"), "--exp", "few", "TRAIN.MAX_ITER", 1]
    with pytest.raises(UserError, match="SHADE.BASES is 7, .* set it to 6 or less"):
        run(*options, "SHADE.BASES", 7)
    run(*options, "SHADE.BASES", 6)
    assert load(tmp_path / "logs/few/last.pth")["step"] == 1


def test_a_survey_that_finds_nothing_says_so_and_training_goes_on(run, tmp_path, capfd):
    run("--method", "isw", *options_of("isw"), "--exp", "nothing", "ISW.JITTER", "0,0,0,0",
        "TRANSFORM.BLUR_PROBABILITY", 0)  # fmt: skip
    assert "ISW finds no pair of channels that colours move" in capfd.readouterr().err
    last = records(tmp_path / "logs/nothing")[-2:]
    assert any(record.get("loss/whitening") == 0 for record in last)
