"""Progress, records, pictures and options that reach the loop."""

import json

import pytest
import torch

from network.methods.method import Method
from tests.engine.processes import load, records, same
from utils.engine.progress import Progress
from utils.engine.runtime import Runtime

OPTIONS = ["--method", "baseline", "TRAIN.MAX_ITER", 4, "LOG.EVERY", 2, "VALID.EVERY", 0]


def test_records_redraw_every_plot(run, tmp_path):
    run(*OPTIONS, "--exp", "one", "VALID.EVERY", 2)
    lines = [json.loads(x) for x in (tmp_path / "logs/one/metrics.jsonl").open()]
    steps = [line for line in lines if "loss/total" in line]
    assert [line["step"] for line in steps] == [2, 4]
    wanted = {"loss/ce", "loss/aux", "rate/trunk", "rate/decoder", "speed/images_per_second"}
    assert all(wanted <= line.keys() for line in steps)
    assert all(0 <= line["speed/data_wait"] <= 1 for line in steps)
    assert all(line["speed/memory_gib"] > 0.01 for line in steps)
    evaluated = [line for line in lines if "mIoU/gtav" in line]
    assert [line["step"] for line in evaluated] == [2, 4]
    classes = [line for line in evaluated[0] if line.startswith("IoU_gtav/")]
    assert len(classes) == 19 and "IoU_gtav/traffic light" in classes


def test_speed_does_not_count_what_was_evaluated_before(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("utils.engine.progress.time.perf_counter", lambda: float(next(clock)))
    runtime = Runtime(torch.device("cpu"), 0, 1, "float32")
    with Progress("run", 10, 0, 4, runtime) as progress:  # begins at 0 s
        speeds = []
        for _ in range(2):
            with progress.pause():  # 1 to 2 s, 4 to 5 s
                pass
            progress.update()
            speeds.append(progress.measure()["speed/images_per_second"])  # at 3 s, at 6 s
    assert speeds == [4 / 2, 4 / 2]


def test_a_log_file_gets_a_line_for_each_entry(run, capsys):
    run(*OPTIONS, "--exp", "one")
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("one: step")]
    assert [line.split(",")[0] for line in lines] == ["one: step 2 of 4", "one: step 4 of 4"]
    for figure in ("loss", "rate", "images/s", "data wait", "memory", "left"):
        assert figure in lines[0]
    assert "\r" not in shown


def test_pictures_of_training_and_of_each_domain(run, tmp_path, monkeypatch):
    pictures = {}
    monkeypatch.setattr(
        "utils.engine.log.ExperimentLog.picture",
        lambda self, step, name, picture: pictures.__setitem__((step, name), picture),
    )
    options = ["--val_dataset", "gtav", "mapillary", "VALID.EVERY", 2]
    run(*OPTIONS, *options, "--exp", "one", "LOG.PICTURES_EVERY", 2)
    names = {"training crop", "gtav/prediction", "mapillary/prediction"}
    assert set(pictures) == {(s, n) for s in (2, 4) for n in names}
    for picture in pictures.values():
        assert picture.dtype == torch.uint8 and picture.shape[0] == 3
        assert picture.shape[2] <= 3 * 512 + 8


def test_gradients_are_clipped(run, tmp_path, monkeypatch):
    norms = []

    step = torch.optim.SGD.step

    def seen(optimizer, *arguments):
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", seen)
    run(*OPTIONS, "TRAIN.MAX_ITER", 2, "--exp", "free")
    free, norms[:] = list(norms), []
    run(*OPTIONS, "TRAIN.MAX_ITER", 2, "--exp", "clipped", "TRAIN.CLIP_NORM", 0.5)
    assert min(free) > 0.5
    assert norms == pytest.approx([0.5] * 2, rel=1e-4)


def test_deterministic_runs_are_equal_to_the_last_bit(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Method,
        "after_step",
        lambda method, step: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    options = ["--method", "srha", "TRAIN.MAX_ITER", 3, "VALID.EVERY", 0, "DETERMINISTIC", "on"]
    for name in ("one", "two"):
        run(*options, "--exp", name)
    assert seen == [True] * 6
    logs = [tmp_path / "logs" / name for name in ("one", "two")]
    assert same(*(load(run / "last.pth", "settings", "log_position") for run in logs))
    assert records(logs[0]) == records(logs[1])
    run(*OPTIONS, "TRAIN.MAX_ITER", 1, "--exp", "three")
    assert not seen[-1]


def test_compiled_when_asked(run, monkeypatch):
    compiled = []
    monkeypatch.setattr(Method, "compile_network", lambda method: compiled.append(method))
    run(*OPTIONS, "TRAIN.MAX_ITER", 1, "--exp", "plain")
    assert not compiled
    run(*OPTIONS, "TRAIN.MAX_ITER", 1, "--exp", "compiled", "COMPILE", "on")
    assert len(compiled) == 1
