"""A run that was stopped and continued ends as one that was not: bit by bit, records too."""

import json
import signal
from itertools import cycle

import pytest

import train
from network.methods import method_class
from network.methods.method import Method
from tests.engine.processes import Training, load, records, same, wait_for
from tests.networks import COVERING, some_tuned, transformer_file
from utils.errors import Stopped, UserError

# Six images and batch 4: every stop but one in three is inside an epoch.
OPTIONS = ["TRAIN.MAX_ITER", 8, "LOG.EVERY", 4, "LOG.CHECKPOINT_EVERY", 100, "VALID.EVERY", 4]


def ends_as(folder, other):
    """Compare checkpoints, best checkpoints, records and results of two runs."""
    for name in ("last.pth", "best.pth"):
        states = [load(run / name, "settings", "log_position") for run in (folder, other)]
        assert same(*states), name
    metrics = [records(run) for run in (folder, other)]
    assert metrics[0] == metrics[1]
    assert [sum(key in r for r in metrics[0]) for key in ("loss/total", "mIoU/gtav")] == [2, 2]
    results = [json.loads((run / "results.json").read_text()) for run in (folder, other)]
    assert results[0]["domains"] == results[1]["domains"]


@pytest.fixture(scope="module")
def wholes():
    """The folders of `undisturbed` by its arguments."""
    return {}


@pytest.fixture
def undisturbed(run, tmp_path, wholes):
    """Return `undisturbed(method, …)`, the folder of a run that nothing happens to."""

    def start(*arguments):
        if arguments not in wholes:
            run("--method", *arguments, "--exp", "whole", *OPTIONS)
            wholes[arguments] = tmp_path / "logs" / "whole"
        return wholes[arguments]

    return start


@pytest.fixture
def stopped_ends_as_whole(run, tmp_path, signal_after):
    """Return `compare(*arguments)`: a run that nothing happens to, and one that is stopped after
    step 4 and continued, end alike."""

    def compare(*arguments):
        run(*arguments, "--exp", "whole")
        signal_after(4, signal.SIGTERM)
        with pytest.raises(Stopped):
            run(*arguments, "--exp", "halves")
        run(*arguments, "--exp", "halves", "--resume")
        ends_as(tmp_path / "logs/halves", tmp_path / "logs/whole")

    return compare


# Data loading processes before the stop and after it.
WORKERS = [(2, 2), (0, 2), (0, 0), (2, 0)]


@pytest.mark.parametrize(
    ("method", "decoder", "before", "after"),
    [(*pair, *workers) for pair, workers in zip(COVERING, cycle(WORKERS))],
)
def test_stopped_in_mid_epoch(
    run, tmp_path, signal_after, undisturbed, method, decoder, before, after
):
    whole = undisturbed(method, "--decoder", decoder)
    # Steps 5 to 7 are in the checkpoint as a part of the log entry of step 8.
    signal_after(4, signal.SIGTERM)
    halves = ["--method", method, "--decoder", decoder, "--exp", "halves", *OPTIONS]
    with pytest.raises(Stopped):
        run(*halves, "WORKERS", before)
    assert load(tmp_path / "logs/halves/last.pth")["step"] == 7
    run(*halves, "WORKERS", after, "--resume")
    ends_as(tmp_path / "logs/halves", whole)


@pytest.mark.parametrize(("method", "decoder", "trunk", "tuning"), some_tuned(
    ("srha", "plain", "dinov2_mini", "soma"), ("dacs", "plain", "dinov2_mini", "lora"),
    ("baseline", "mask2former", "convnext_mini", "rein"),
))  # fmt: skip
def test_stopped_with_a_tuned_trunk(
    tmp_path, stopped_ends_as_whole, method, decoder, trunk, tuning
):
    """Also where checkpoints leave weights to a file."""
    options = ["--method", method, "--trunk", trunk, "--tuning", tuning, "--decoder", decoder]
    options += [*OPTIONS, *AVERAGE]
    if trunk == "dinov2_mini":
        options += ["TRUNK.WEIGHTS", transformer_file(tmp_path / "vit.pth")]
    if method in ("hrda", "mic"):
        options += ["HRDA.DETAIL", "32,32"]
    stopped_ends_as_whole(*options)
    if tuning == "full":
        return
    state = load(tmp_path / "logs/whole/last.pth")
    stored = [k for k in state["method"] if k.startswith("trunk.layer4") and "low_rank" not in k]
    assert bool(state["frozen"]) == (trunk == "dinov2_mini") == (not stored)
    average = state["average"]
    assert not [key for key in average if key.startswith("trunk.") and "low_rank" not in key
                and "adapter" not in key]  # fmt: skip


# To a step sources are nothing, parts of its batch, or what a stream comes beside.
@pytest.mark.parametrize(("method", "mixing", "workers"), [
    ("baseline", "proportional", 2), ("spc", "equal", 0), ("dacs", "proportional", 0),
])  # fmt: skip
def test_stopped_with_several_sources(run, stopped_ends_as_whole, method, mixing, workers):
    options = ["--method", method, *OPTIONS, "--dataset", "gtav", "synthia"]
    options += ["DATASET.MIXING", mixing]
    options += ["--val_dataset", "gtav", "synthia", "WORKERS", workers]
    stopped_ends_as_whole(*options)
    with pytest.raises(UserError, match="DATASET.SOURCE gtav synthia, and --resume cannot"):
        run(*options, "--exp", "halves", "--resume", "--dataset", "gtav", "idd")


def test_stopped_in_validation(run, tmp_path, monkeypatch, undisturbed):
    whole = undisturbed("baseline")
    evaluate = train.evaluate

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGUSR1)
        return evaluate(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(train, "evaluate", interrupted)
        run("--method", "baseline", "--exp", "halves", *OPTIONS)
    assert load(tmp_path / "logs/halves/last.pth")["step"] == 4
    run("--method", "baseline", "--exp", "halves", *OPTIONS, "--resume")
    ends_as(tmp_path / "logs/halves", whole)


AVERAGE = ["TRAIN.EMA", 0.5, "TRAIN.EMA_START", 2]


def test_stopped_with_an_average(run, tmp_path, signal_after, undisturbed):
    whole, plain = tmp_path / "logs/averaged", undisturbed("baseline")
    run("--method", "baseline", "--exp", "averaged", *OPTIONS, *AVERAGE)
    signal_after(4, signal.SIGTERM)
    with pytest.raises(Stopped):
        run("--method", "baseline", "--exp", "halves", *OPTIONS, *AVERAGE)
    run("--method", "baseline", "--exp", "halves", *OPTIONS, "--resume")
    ends_as(tmp_path / "logs/halves", whole)
    # Training does not notice it.
    states = [load(folder / "last.pth") for folder in (whole, plain)]
    assert states[0]["average"] and not states[1]["average"]
    for key in ("method", "optimizer", "running_means"):
        assert same(*(state[key] for state in states)), key


class Killed(Exception):
    pass


def kill_in_step_5(method, step):
    if step == 5:
        raise Killed


def test_killed_after_a_checkpoint(run, tmp_path, monkeypatch, undisturbed):
    """What was recorded after the checkpoint is recorded again, once."""
    whole = undisturbed("baseline")

    options = ["--method", "baseline", "--exp", "halves", *OPTIONS, "LOG.EVERY", 1]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Method, "after_step", kill_in_step_5)
        run(*options)
    metrics = tmp_path / "logs/halves/metrics.jsonl"
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == 5, "after the checkpoint"
    run(*options, "--resume")
    logged = [r["step"] for r in records(metrics.parent) if "loss/total" in r]
    assert logged == [1, 2, 3, 4, 5, 6, 7, 8]
    weights = [load(path / "last.pth")["method"] for path in (whole, metrics.parent)]
    assert same(*weights)


# Whatever processes do together: DistributedDataParallel's means, those of several graphs,
# gradients inside a step, a survey.
@pytest.mark.parametrize(("method", "number"), [("baseline", 3), ("sepico", 2), ("pinmem", 2)])
def test_several_processes(miniature, tmp_path, method, number):
    """Also of more than two, whose sums depend on their order."""
    options = ["--method", method, "--dataset", "gtav", "synthia", *OPTIONS]
    # The decoder normalises over the images that it sees at once: two of each source, or one.
    images = 4 if method_class(method).splits_sources else 2
    options += ["TRAIN.BATCH_SIZE", images * number, "LOG.CHECKPOINT_EVERY", 1]
    options += ["WORKERS", 2 if number == 2 else 0, *AVERAGE]
    options += ["TRAIN.MAX_ITER", 6, "VALID.EVERY", 3, "LOG.EVERY", 3]
    whole = Training(tmp_path, miniature, *options, "--exp", "whole", world_size=number)
    assert whole.wait() == [0] * number, whole.output()
    halves = [*options, "--exp", "halves", "--resume", "auto"]
    first = Training(tmp_path, miniature, *halves, world_size=number)
    wait_for(tmp_path / "logs/halves/last.pth", first)
    # One of them alone: they have to agree.
    first.processes[1].terminate()
    codes = first.wait()
    assert codes == [75] * number, first.output()
    assert load(tmp_path / "logs/halves/last.pth")["step"] < 6
    second = Training(tmp_path, miniature, *halves, world_size=number)
    assert second.wait() == [0] * number, second.output()
    logs = tmp_path / "logs"
    for name in ("last.pth", "best.pth"):
        runs = logs / "whole", logs / "halves"
        assert same(*(load(run / name, "settings", "log_position") for run in runs))
    assert records(runs[0]) == records(runs[1])


def test_another_number_of_processes_keeps_the_order_of_samples(run, miniature, tmp_path):
    # In float32 the sums of two processes round differently: close, not equal.
    options = ["--method", "baseline", "DECODER.AUX_DROPOUT", 0, *OPTIONS]
    run(*options, "--exp", "one", "TRAIN.MAX_ITER", 2)
    state = load(tmp_path / "logs/one/last.pth")
    assert (state["step"], state["samples"]) == (2, 8)
    two = Training(
        tmp_path, miniature, *options, "--exp", "one", "TRAIN.MAX_ITER", 3, "--resume",
        world_size=2,
    )  # fmt: skip
    assert two.wait() == [0, 0], two.output()
    assert load(tmp_path / "logs/one/last.pth")["samples"] == 12


def test_auto_starts_and_continues(run, tmp_path):
    options = ["--method", "baseline", "--exp", "auto", "--resume", "auto"]
    folder = tmp_path / "logs/auto"
    folder.mkdir(parents=True)
    # What a start leaves that ended before its first checkpoint.
    (folder / "settings.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    run(*options, "TRAIN.MAX_ITER", 1, "LOG.EVERY", 1)
    assert (folder / "metrics.jsonl").read_text().count('"step": 1,') == 2
    run(*options, "TRAIN.MAX_ITER", 2, "LOG.EVERY", 1)
    assert load(folder / "last.pth")["step"] == 2


def test_auto_never_overwrites_what_is_not_its_own(run, tmp_path):
    folder = tmp_path / "logs/auto"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="auto exists; it holds no checkpoint"):
        run("--exp", "auto", "--resume", "auto")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_checkpoint_of_another_network(run, tmp_path):
    run("--method", "baseline", "--exp", "one", "TRAIN.MAX_ITER", 1)
    before = (tmp_path / "logs/one/last.pth").read_bytes()
    others = {"--trunk": "resnet18", "--method": "srha", "--decoder": "mask2former"}
    for flag, value in others.items():
        with pytest.raises(UserError, match=f"cannot continue it with {value}; --init starts"):
            run("--exp", "one", "--resume", "TRAIN.MAX_ITER", 2, flag, value)
    assert (tmp_path / "logs/one/last.pth").read_bytes() == before


def test_the_optimizer_of_another_kind(run):
    options = ["--method", "baseline", "--exp", "one"]
    run(*options, "TRAIN.MAX_ITER", 1)
    with pytest.raises(UserError, match="another one than TRAIN.OPTIMIZER"):
        run(*options, "TRAIN.MAX_ITER", 2, "--resume", "TRAIN.OPTIMIZER", "adamw")


def test_other_parameters_than_the_optimizers(run):
    options = ["--method", "srha", "--exp", "one", "TRAIN.MAX_ITER", 2]
    options += [w for part in ("GLOBAL", "REGIONAL", "LOCAL") for w in (f"ALIGN.{part}", "0,0,0,0")]
    run(*options)
    with pytest.raises(UserError, match="parameters in its groups, these settings train"):
        run(*options, "--resume", "STEM_FROZEN", "off")
